/* kernels.h - the inner loops: one tile of a matrix product, and operations on whole rows.
 *
 * The same source (kernels_body.h) is compiled for AVX-512, for AVX2 and for any machine, and
 * kernels_best() picks at run time.  All of them give the same bits: an element of a product is
 * one chain of fused multiply-adds in the order of k, sums run over 16 lanes that are added up
 * in one fixed order, and nothing else is fused (-ffp-contract=off).  So neither the instruction
 * set nor the number of threads is visible in a trained model.
 *
 * Pure functions over the caller's memory, any thread.  Rows may have any length. */
#ifndef TRAIN_KERNELS_H
#define TRAIN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KERNELS_LANES = 16,
    KERNELS_MR_MAX = 8, /* largest tile of any instruction set */
    KERNELS_NR_MAX = 32,
};

typedef struct adamw_scalars {
    float beta1, beta2, eps;
    float rate;       /* learning rate over the first moment's bias correction */
    float root;       /* 1 / sqrt of the second moment's bias correction */
    float keep;       /* 1 - learning rate * weight decay; 1: none */
    float grad_scale; /* of clipping */
} adamw_scalars;

typedef struct kernels {
    const char *name;
    uint32_t mr, nr; /* the tile */

    /* c [mr, nr] = a b, or += with `add`; row stride ldc.  a [mr, k] is read where it lies, with
     * its strides; b is packed [k][nr]. */
    void (*gemm_tile)(uint32_t k, const float *a, size_t a_row, size_t a_col, const float *b,
                      float *c, size_t ldc, bool add);

    /* row = exp(scale * row - max), where max = max(scale * row); returns max and the sum. */
    void (*exp_row)(float *row, uint32_t n, float scale, float *max, float *sum);
    /* row = exp(scale * row - max) * factor, for a max that is known. */
    void (*exp_row_again)(float *row, uint32_t n, float scale, float max, float factor);
    /* Through softmax and its scale: dp = p * (dp - sum(p * dp)) * scale. */
    void (*softmax_grad_row)(const float *p, float *dp, uint32_t n, float scale);
    void (*scale_row)(float *row, uint32_t n, float factor);

    /* y = x * gain * inv, inv = 1 / sqrt(mean(x^2) + eps). */
    void (*rms_row)(const float *x, const float *gain, float *y, uint32_t n, float eps, float *inv);
    /* dx += what dy says about x. */
    void (*rms_grad_row)(const float *dy, const float *x, const float *gain, float inv, float *dx,
                         uint32_t n);
    /* sums += dy * x * inv: what a row says about the gain. */
    void (*rms_grad_gain)(const float *dy, const float *x, float inv, float *sums, uint32_t n);

    /* out = silu(gate) * up; gate and up become their gradients under that of out. */
    void (*swiglu_row)(const float *gate, const float *up, float *out, uint32_t n);
    void (*swiglu_grad_row)(float *gate, float *up, const float *dout, uint32_t n);

    float (*sum_squares)(const float *x, uint32_t n);
    void (*adamw_row)(float *param, const float *grad, float *m, float *v, uint32_t n,
                      const adamw_scalars *s);
} kernels;

/* The quickest that this machine runs. */
const kernels *kernels_best(void);
/* "avx512", "avx2", "plain"; NULL when this machine (or this build) has none of that name. */
const kernels *kernels_find(const char *name);

/* The tables of the three builds; NULL where the compiler had no such instructions. */
const kernels *kernels_avx512(void);
const kernels *kernels_avx2(void);
const kernels *kernels_plain(void);

#endif
