/* piece_table.c - see piece_table.h. */
#include "text/piece_table.h"

#include <string.h>

#include "base/alloc.h"
#include "base/os.h"

/* 64 x 64 to 128 bits, both halves together: every bit of `a` reaches every bit of the result. */
static uint64_t fold_multiply(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* All of 0 to 8 bytes in one number, without a loop: two overlapping halves, or for 1 to 3 bytes
 * the first, the middle and the last. */
static uint64_t load(const char *p, size_t n) {
    const unsigned char *u = (const unsigned char *)p;
    uint64_t v = 0;
    uint32_t low = 0, high = 0;
    if (n >= 8) {
        memcpy(&v, p, 8);
    } else if (n >= 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        v = (uint64_t)high << 32 | low;
    } else if (n > 0) {
        v = (uint64_t)u[0] << 16 | (uint64_t)u[n / 2] << 8 | u[n - 1];
    }
    return v;
}

/* Keyed multiply-and-fold over 8 bytes at a time.  The length tells "a" from "a\0". */
static uint64_t hash(const piece_table *t, str s) {
    uint64_t h = t->keys[1] ^ s.n;
    for (; s.n > 8; s = str_skip(s, 8)) h = fold_multiply(h ^ load(s.p, 8), t->keys[0]);
    h = fold_multiply(h ^ load(s.p, s.n), t->keys[0]);
    return fold_multiply(h, t->keys[1]);
}

status piece_table_init(piece_table *t, const str *pieces, uint32_t count, error *err) {
    *t = (piece_table){.pieces = pieces, .mask = 15};
    while (t->mask < UINT32_MAX / 2 && t->mask < (uint64_t)count * 2) t->mask = t->mask * 2 + 1;
    t->slots = mem_try_alloc(((size_t)t->mask + 1) * sizeof *t->slots);
    if (t->slots == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u pieces", count);
    for (size_t i = 0; i <= t->mask; i++) t->slots[i] = (piece_slot){.id = TOK_ID_NONE};
    os_random(t->keys, sizeof t->keys);
    t->keys[0] |= 1;
    t->keys[1] |= 1;
    return OK;
}

void piece_table_deinit(piece_table *t) {
    mem_free(t->slots);
    *t = (piece_table){0};
}

/* The slot of `text`, or the free one where it would go. */
static piece_slot *find_slot(const piece_table *t, str text, uint32_t *tag) {
    uint64_t h = hash(t, text);
    *tag = (uint32_t)(h >> 32);
    for (uint32_t i = (uint32_t)h & t->mask;; i = (i + 1) & t->mask) {
        piece_slot *slot = &t->slots[i];
        if (slot->id == TOK_ID_NONE) return slot;
        if (slot->tag == *tag && str_eq(t->pieces[slot->id], text)) return slot;
    }
}

void piece_table_add(piece_table *t, int32_t id) {
    uint32_t tag = 0;
    piece_slot *slot = find_slot(t, t->pieces[id], &tag);
    if (slot->id == TOK_ID_NONE) *slot = (piece_slot){.tag = tag, .id = id};
}

int32_t piece_table_find(const piece_table *t, str text) {
    uint32_t tag = 0;
    return find_slot(t, text, &tag)->id;
}
