/* bench_tokens.h - the measuring of what makes tokens of logits, a part of bench_kernels(). */
#ifndef TESTS_GPU_BENCH_TOKENS_H
#define TESTS_GPU_BENCH_TOKENS_H

#include "gpu/bench.h"

/* The largest of each row, and log-probabilities with the most alternatives: of one row, and of
 * four. */
NODISCARD status bench_tokens(bench *b, error *err);

#endif
