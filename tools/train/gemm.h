/* gemm.h - matrix products in f32, blocked for the caches.
 *
 *   C [m, n] = A [m, k] B [k, n]      or, with `add`,      C += A B
 *
 * A and B are views with a stride for each dimension, so a transposed matrix is the same memory
 * with its strides exchanged.  Each element of C is one chain of fused multiply-adds in the order
 * of k: how a product is cut into blocks and tasks does not change a bit of it.
 * Source: Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication". */
#ifndef TRAIN_GEMM_H
#define TRAIN_GEMM_H

#include <stdbool.h>

#include "train/kernels.h"
#include "train/pool.h"

typedef struct matrix {
    const float *p;
    size_t row, col; /* elements from one row, one column to the next */
} matrix;

static inline matrix matrix_of(const float *p, size_t cols) { return (matrix){p, cols, 1}; }
static inline matrix matrix_transposed(const float *p, size_t cols) { return (matrix){p, 1, cols}; }

typedef struct gemm {
    uint32_t m, n, k;
    matrix a, b;
    float *c; /* row-major */
    size_t ldc;
    bool add; /* to what C holds */
} gemm;

/* Scratch that one product at a time needs. */
size_t gemm_scratch_bytes(void);

/* By the calling thread alone. */
void gemm_here(const kernels *kern, const gemm *g, void *scratch);
/* By all threads of the pool, whose scratch is at least gemm_scratch_bytes(). */
void gemm_shared(const kernels *kern, const gemm *g, pool *p);

#endif
