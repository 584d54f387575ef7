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

/* Memory that a kernel asks for on its way, some lines every CPU_FETCH_STEP steps of its inner
 * loop: all at once they would wait for each other, and memory would rest while it computes. */
enum { CPU_FETCH_STEP = 8 };

typedef struct cpu_ahead {
    const char *const *block; /* the one that goes on */
    uint32_t block_lines;     /* of each */
    uint32_t line;            /* of the block, the next one */
    uint32_t lines;           /* left, of all blocks */
    uint32_t some;            /* at a time */
} cpu_ahead;

/* For a kernel that makes so many steps in all. */
static inline cpu_ahead cpu_ahead_for(cpu_ahead a, size_t steps) {
    const size_t times = steps / CPU_FETCH_STEP;
    a.some = times == 0 ? a.lines : (uint32_t)((a.lines + times - 1) / times);
    return a;
}

static inline __attribute__((always_inline)) void cpu_ahead_fetch(cpu_ahead *a) {
    for (uint32_t i = 0; i < a->some && a->lines > 0; i++, a->lines--) {
        __builtin_prefetch(*a->block + (size_t)a->line * CPU_LINE_BYTES);
        if (++a->line < a->block_lines) continue;
        a->line = 0;
        a->block++;
    }
}

#endif
