/* cpu_fetch.h - memory that is asked for before it is read. */
#ifndef BACKEND_CPU_CPU_FETCH_H
#define BACKEND_CPU_CPU_FETCH_H

#include <stddef.h>
#include <stdint.h>

enum {
    CPU_LINE_BYTES = 64,   /* of the caches */
    CPU_AHEAD_BYTES = 8192 /* of a stream, docs/speed.md */
};

/* Asks for what lies CPU_AHEAD_BYTES behind `bytes` bytes at `in`; behind the end of the weights it
 * is nothing but a hint.  (Inline, since gcc takes a function that only asks for one that does
 * nothing, and drops its calls.) */
static inline __attribute__((always_inline)) void cpu_fetch_ahead(const uint8_t *in, size_t bytes) {
    for (size_t i = 0; i < bytes; i += CPU_LINE_BYTES) __builtin_prefetch(in + CPU_AHEAD_BYTES + i);
}

#endif
