/* idmap.c - see idmap.h. */
#include "base/idmap.h"

#include "base/alloc.h"
#include "base/assert.h"

status idmap_init(idmap *m, uint32_t count_max, error *err) {
    uint32_t cap = 16;
    ASSERT(count_max < UINT32_MAX / 4);
    while (cap < count_max * 2) cap *= 2;
    idmap_entry *entries = mem_try_calloc(cap, sizeof *entries);
    if (entries == NULL) return error_set(err, ERR_NOMEM, "idmap: no memory for %u ids", count_max);
    *m = (idmap){.entries = entries, .mask = cap - 1, .count_max = count_max};
    return OK;
}

void idmap_deinit(idmap *m) {
    mem_free(m->entries);
    *m = (idmap){0};
}

/* Fibonacci hashing: the high bits of a product with 2^64 / golden ratio. */
static uint32_t home(const idmap *m, uint64_t id) {
    return (uint32_t)((id * 0x9E3779B97F4A7C15ull) >> 32) & m->mask;
}

static uint32_t find(const idmap *m, uint64_t id) {
    uint32_t i = home(m, id);
    while (m->entries[i].value != NULL && m->entries[i].id != id) i = (i + 1) & m->mask;
    return i;
}

void *idmap_get(const idmap *m, uint64_t id) { return m->entries[find(m, id)].value; }

void idmap_add(idmap *m, uint64_t id, void *value) {
    uint32_t i = find(m, id);
    ASSERT(value != NULL && m->entries[i].value == NULL && m->count < m->count_max);
    m->entries[i] = (idmap_entry){id, value};
    m->count++;
}

void *idmap_remove(idmap *m, uint64_t id) {
    uint32_t hole = find(m, id);
    void *value = m->entries[hole].value;
    if (value == NULL) return NULL;
    m->count--;
    for (uint32_t i = (hole + 1) & m->mask; m->entries[i].value != NULL; i = (i + 1) & m->mask) {
        /* an entry may move into the hole unless its home lies after the hole */
        uint32_t distance_home = (i - home(m, m->entries[i].id)) & m->mask;
        uint32_t distance_hole = (i - hole) & m->mask;
        if (distance_home < distance_hole) continue;
        m->entries[hole] = m->entries[i];
        hole = i;
    }
    m->entries[hole] = (idmap_entry){0};
    return value;
}

void *idmap_next(const idmap *m, uint32_t *at) {
    while (*at <= m->mask) {
        void *value = m->entries[(*at)++].value;
        if (value != NULL) return value;
    }
    return NULL;
}
