/* bench.h - the measuring of kernels on a card: what a case is, how it is timed, what is said.
 *
 * A case launches the same kernel several times in a row between two events, on another copy of its
 * data each time, so that a copy is out of the L2 cache again when its turn comes.  The figure is
 * the median over `repeats` of such groups, a group before them not counted.  One thread. */
#ifndef TESTS_GPU_BENCH_H
#define TESTS_GPU_BENCH_H

#include "backend/cuda/cuda_memory.h"
#include "gpu/card.h"

enum { BENCH_REPEATS_MAX = 1000 };

typedef struct bench {
    card *card;
    uint32_t scale;   /* sizes are divided by it: 1 on a card, more to try the procedure */
    uint32_t repeats; /* 1 .. BENCH_REPEATS_MAX */
    const char *only; /* a part of the names wanted, NULL: all */
    uint64_t l2_bytes;
    uint64_t fills; /* so far: each has a seed of its own */
    cu_event from, to;
    cuda_arena arena; /* of the running case */
} bench;

NODISCARD status bench_open(bench *b, error *err); /* of a filled card, scale, repeats, only */
void bench_close(bench *b);

/* --- data -------------------- */

/* How random words are made into numbers: (random & keep[i % 4]) | set[i % 4]. */
typedef struct bench_bits {
    uint32_t keep[4], set[4];
} bench_bits;
extern const bench_bits bench_any, bench_f32, bench_f16; /* f32, f16: +-[0.5, 1) */

/* `bytes` of the case's arena, as they are. */
NODISCARD status bench_reserve(bench *b, size_t bytes, uint64_t *out, error *err);
/* The same, filled; bytes: a multiple of 4. */
NODISCARD status bench_take(bench *b, size_t bytes, const bench_bits *bits, uint64_t *out,
                            error *err);
/* What is in `bytes` at `at` now becomes random. */
void bench_fill(bench *b, uint64_t at, size_t bytes, const bench_bits *bits);
/* A buffer with these bytes. */
NODISCARD status bench_put(bench *b, const void *from, size_t bytes, uint64_t *out, error *err);
/* A buffer of NaN, for results; and whether kernels have left none of them: ERR_INTERNAL. */
NODISCARD status bench_take_out(bench *b, size_t floats, uint64_t *out, error *err);
NODISCARD status bench_check_out(bench *b, const char *name, uint64_t at, size_t floats,
                                 error *err);

/* --- cases -------------------- */

typedef struct bench_case {
    char name[64];      /* "gemv q4_k [4096, 4096] x 1" */
    const char *kernel; /* "k_gemv_q4_k_n1" */
    uint64_t bytes;     /* that have to move for one launch */
    uint64_t ops;       /* multiplications and additions of one launch; 0: none to tell of */
    uint32_t launches;  /* of a group */
    void *work;         /* of `launch` */
    void (*launch)(bench *b, void *work, uint32_t i); /* queues the i-th of a group */
    bool chain; /* of launches of kernels alone: measured a second time, each starting while the one
                   ahead of it ends, where the card can (cuda_device_overlap) */
} bench_case;

bool bench_wants(const bench *b, const char *name);

/* Copies of `bytes` that are more than four times the L2 cache together, 64 at most. */
uint32_t bench_copies(const bench *b, uint64_t bytes);
/* Launches of a group that goes through that many copies. */
uint32_t bench_launches(const bench *b, uint32_t copies);

/* Measures, and writes one line of JSON to stdout; for a chain another one, "NAME, early". */
NODISCARD status bench_run(bench *b, const bench_case *c, error *err);
/* Lines for a figure that is none of a case, in microseconds, and for a case that cannot be. */
void bench_say_us(const char *name, double us);
void bench_say_why(const char *name, const char *why);

/* All of bench_kernels.c, in order. */
NODISCARD status bench_kernels(bench *b, error *err);
/* A part of it: bench_prompt.c. */
NODISCARD status bench_prompt_attention(bench *b, error *err);

#endif
