/* arena.h - request-lifetime memory: bump allocation under a byte limit, one free.
 *
 * Owner: whoever holds the struct, one thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/str.h"

typedef struct arena_chunk arena_chunk;

typedef struct arena {
    arena_chunk *chunks; /* owned, newest first */
    size_t bytes;        /* handed out or reserved so far */
    size_t bytes_max;
} arena;

void arena_init(arena *a, size_t bytes_max);
void arena_deinit(arena *a);

/* 16-byte aligned, zeroed; NULL at the limit or without memory. */
void *arena_take(arena *a, size_t bytes);

/* A terminated copy; {NULL, 0} at the limit or without memory. */
str arena_dup(arena *a, str s);

#endif
