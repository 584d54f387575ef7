/* pair_table.c - see pair_table.h. */
#include "text/pair_table.h"

#include "base/alloc.h"
#include "base/os.h"
#include "text/tok_vocab.h"

status pair_table_init(pair_table *t, uint32_t count, error *err) {
    *t = (pair_table){.mask = 15};
    while (t->mask < UINT32_MAX / 2 && t->mask < (uint64_t)count * 2) t->mask = t->mask * 2 + 1;
    t->slots = mem_try_alloc(((size_t)t->mask + 1) * sizeof *t->slots);
    if (t->slots == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u merges", count);
    for (size_t i = 0; i <= t->mask; i++) t->slots[i] = (pair_slot){.left = TOK_ID_NONE};
    os_random(&t->key, sizeof t->key);
    t->key |= 1;
    return OK;
}

void pair_table_deinit(pair_table *t) {
    mem_free(t->slots);
    *t = (pair_table){0};
}

/* The slot of the pair, or the free one where it would go.  The high bits of a product depend on
 * all bits of the factors: Knuth volume 3, section 6.4. */
static pair_slot *find_slot(const pair_table *t, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t h = (pair ^ pair >> 29) * t->key;
    for (uint32_t i = (uint32_t)(h >> 32) & t->mask;; i = (i + 1) & t->mask) {
        pair_slot *slot = &t->slots[i];
        if (slot->left == TOK_ID_NONE || (slot->left == left && slot->right == right)) return slot;
    }
}

void pair_table_add(pair_table *t, pair_slot merge) {
    pair_slot *slot = find_slot(t, merge.left, merge.right);
    if (slot->left == TOK_ID_NONE) *slot = merge;
}

const pair_slot *pair_table_find(const pair_table *t, int32_t left, int32_t right) {
    const pair_slot *slot = find_slot(t, left, right);
    return slot->left == TOK_ID_NONE ? NULL : slot;
}
