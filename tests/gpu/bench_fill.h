/* bench_fill.h - the argument of bench_fill.cu. */
#ifndef TESTS_GPU_BENCH_FILL_H
#define TESTS_GPU_BENCH_FILL_H
#include <stdint.h>

/* Word i becomes (random & keep[i % 4]) | set[i % 4].  Any grid (x): blocks take turns. */
typedef struct k_bench_fill_args {
    uint64_t out; /* u32 [words], 16-aligned */
    uint64_t words, seed;
    uint32_t keep[4], set[4];
} k_bench_fill_args;

#endif
