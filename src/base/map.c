/* map.c - see map.h. */
#include "base/map.h"

#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

static unsigned char hash_key[crypto_shorthash_KEYBYTES];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void draw_hash_key(void) { crypto_shorthash_keygen(hash_key); }

static uint64_t hash(str key) {
    uint64_t h = 0;
    unsigned char out[crypto_shorthash_BYTES];
    (void)crypto_shorthash(out, (const unsigned char *)key.p, key.n, hash_key);
    memcpy(&h, out, sizeof h);
    return h;
}

status map_init(map *m, uint32_t count_max, error *err) {
    (void)pthread_once(&hash_key_once, draw_hash_key);
    if (count_max > UINT32_MAX / 4)
        return error_set(err, ERR_LIMIT, "map: %u keys, at most %u", count_max, UINT32_MAX / 4);
    uint32_t cap = 16;
    while (cap < count_max * 2) cap *= 2;
    map_entry *entries = mem_try_calloc(cap, sizeof *entries);
    if (entries == NULL) return error_set(err, ERR_NOMEM, "map: no memory for %u keys", count_max);
    *m = (map){.entries = entries, .cap = cap};
    return OK;
}

void map_deinit(map *m) {
    mem_free(m->entries);
    *m = (map){0};
}

/* The entry that holds the key, or the free one where it would go. */
static map_entry *find(const map *m, str key) {
    uint32_t i = (uint32_t)hash(key) & (m->cap - 1);
    while (m->entries[i].used && !str_eq(m->entries[i].key, key)) i = (i + 1) & (m->cap - 1);
    return &m->entries[i];
}

bool map_add(map *m, str key, uint32_t value) {
    map_entry *e = find(m, key);
    if (e->used) return false;
    ASSERT(m->count < m->cap / 2 + 1);
    *e = (map_entry){.key = key, .value = value, .used = true};
    m->count++;
    return true;
}

bool map_get(const map *m, str key, uint32_t *value) {
    if (m->cap == 0) return false;
    const map_entry *e = find(m, key);
    if (e->used && value != NULL) *value = e->value;
    return e->used;
}
