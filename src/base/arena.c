/* arena.c - see arena.h. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/num.h"

enum { CHUNK_BYTES = 4096, ALIGN_BYTES = 16 };

struct arena_chunk {
    arena_chunk *next;
    size_t used;
    size_t cap;
    _Alignas(16) char bytes[];
};

void arena_init(arena *a, size_t bytes_max) { *a = (arena){.bytes_max = bytes_max}; }

void arena_deinit(arena *a) {
    for (arena_chunk *c = a->chunks; c != NULL;) {
        arena_chunk *next = c->next;
        mem_free(c);
        c = next;
    }
    *a = (arena){0};
}

void *arena_take(arena *a, size_t bytes) {
    size_t need = 0;
    if (!num_add_size(&need, bytes, ALIGN_BYTES - 1)) return NULL;
    need &= ~(size_t)(ALIGN_BYTES - 1);
    arena_chunk *c = a->chunks;
    if (c == NULL || c->cap - c->used < need) {
        size_t left = a->bytes_max - num_min_size(a->bytes, a->bytes_max);
        if (need > left) return NULL;
        size_t cap = need > CHUNK_BYTES ? need : num_min_size(CHUNK_BYTES, left);
        c = mem_try_alloc(sizeof *c + cap);
        if (c == NULL) return NULL;
        *c = (arena_chunk){.next = a->chunks, .cap = cap};
        a->chunks = c;
        a->bytes += cap;
    }
    void *p = c->bytes + c->used;
    c->used += need;
    return memset(p, 0, need);
}

str arena_dup(arena *a, str s) {
    size_t need = 0;
    if (!num_add_size(&need, s.n, 1)) return (str){0};
    char *p = arena_take(a, need);
    if (p == NULL) return (str){0};
    if (s.n != 0) memcpy(p, s.p, s.n);
    return (str){p, s.n};
}
