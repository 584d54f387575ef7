/* alloc.h - the only door to the heap.
 *
 * mem_alloc() and mem_calloc() abort on exhaustion: use them for small, start-up
 * sized things.  The mem_try_*() forms may return NULL: use them for anything whose
 * size comes from a file, a request or the configuration.
 * Between mem_freeze() and mem_thaw() the calling thread may not allocate: the
 * engine step runs frozen, so a stray malloc is found by the first test run.
 * mem_fail_after() is fault injection for tests; it counts mem_try_*() calls. */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *mem_calloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *mem_try_alloc(size_t bytes) __attribute__((malloc));
void *mem_try_calloc(size_t count, size_t bytes) __attribute__((malloc));
/* `align` is a power of two; freed by mem_free(). */
void *mem_try_alloc_aligned(size_t align, size_t bytes) __attribute__((malloc));
void *mem_try_realloc(void *p, size_t bytes);
void mem_free(void *p);

void mem_freeze(const char *phase);
void mem_thaw(void);

/* The calling thread's mem_try_*() calls succeed `count` times, then every one fails.
 * A negative count switches injection off (the default). */
void mem_fail_after(int64_t count);

#endif
