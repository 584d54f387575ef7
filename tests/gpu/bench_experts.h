/* bench_experts.h - the measuring of experts of prompts, a part of bench_kernels(). */
#ifndef TESTS_GPU_BENCH_EXPERTS_H
#define TESTS_GPU_BENCH_EXPERTS_H

#include "gpu/bench.h"

/* A few large experts and many small ones, with weights of every form; and sorting their pairs. */
NODISCARD status bench_experts(bench *b, error *err);

#endif
