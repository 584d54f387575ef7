/* cpu_kernels.h - the inner loops, one table per instruction-set class.
 *
 * Every function is pure over its arguments.  The arithmetic of one output element is the
 * same whatever the tile it is computed in: that is what makes the backend `exact`.
 *
 * Activations for block-quantized weights are int16 in blocks of 32 with an f32 scale:
 * x ~ scale * q, scale = max|x| / 32767, q rounded to nearest, ties to even.  The sum of a
 * block, at most 32 * 128 * 32767, is exact in int32. */
#ifndef BACKEND_CPU_CPU_KERNELS_H
#define BACKEND_CPU_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

enum { ACT_BLOCK = 32 };

/* out[r, j] = x[r] . w[j] + bias[j] + add[r, j] for j in [row0, row1) and all r. */
typedef struct matmul_args {
    const void *w; /* [.., cols] packed */
    size_t w_row_bytes;
    uint32_t cols;
    uint32_t x_rows;
    const float *x;    /* [x_rows, cols]; for float weights */
    const int16_t *xq; /* [x_rows, cols]; for block weights */
    const float *xs;   /* [x_rows, cols / ACT_BLOCK] scales of xq */
    const float *bias; /* or NULL */
    const float *add;  /* [x_rows, out_cols] or NULL; may be `out` */
    float *out;        /* [x_rows, out_cols] */
    size_t out_cols;
} matmul_args;

typedef void matmul_fn(const matmul_args *a, uint32_t row0, uint32_t row1);
typedef void norm_fn(const float *x, const float *gain, float *y, uint32_t cols, float eps);
typedef void act_fn(const op_act *f, const float *x, const float *up, float *y, uint32_t cols);

/* One row of one head of the WKV recurrence (program.h, pg_wkv). */
typedef struct wkv_args {
    uint32_t dim;
    const float *r, *k, *v, *decay, *first; /* [dim] */
    float *state;                           /* [dim of k, dim of v] */
    float *out;                             /* [dim] */
} wkv_args;

typedef struct cpu_kernels {
    const char *isa;
    matmul_fn *matmul_f32;
    matmul_fn *matmul_f16;
    matmul_fn *matmul_bf16;
    matmul_fn *matmul_q8_0;
    matmul_fn *matmul_q4_0;
    /* tensor/convert.h's dequant_row(): the same bits, faster */
    void (*dequant)(dtype t, const void *row, float *out, uint32_t elems);
    /* q [cols] and scales [cols / ACT_BLOCK] of x [cols]; cols a multiple of ACT_BLOCK */
    void (*quantize)(const float *x, int16_t *q, float *scales, uint32_t cols);
    /* tensor/formula.h's norms, times gain [cols] unless that is NULL; y may be x */
    norm_fn *norm_rms;
    norm_fn *norm_layer;
    /* y = f(x) * up, or f(x) where up is NULL; y may be x or up.  Relative error of f about
     * 1e-6 where the result is a normal float. */
    act_fn *act;
    /* scores[t] = q . k[t] * scale for the first n rows of one block */
    void (*scores_f32)(const float *q, const void *k, uint32_t dim, uint32_t n, float scale,
                       float *scores);
    void (*scores_f16)(const float *q, const void *k, uint32_t dim, uint32_t n, float scale,
                       float *scores);
    /* s[i] = exp(s[i] - max s); returns the sum.  Up to 7 floats behind s[n] are overwritten. */
    float (*softmax)(float *s, uint32_t n);
    /* y[] += sum over t < n of p[t] * v[t][], in this order; the rows [dim] of v are `stride`
     * elements apart */
    void (*mix_f32)(const float *p, const void *v, uint32_t stride, uint32_t dim, uint32_t n,
                    float *y);
    void (*mix_f16)(const float *p, const void *v, uint32_t stride, uint32_t dim, uint32_t n,
                    float *y);
    /* One row of one column of the selective scan: h = exp(dt * a) * h + b * dx; returns c . h.
     * All are [states]. */
    float (*scan)(float *h, const float *a, const float *b, const float *c, float dt, float dx,
                  uint32_t states);
    void (*wkv)(const wkv_args *a);
} cpu_kernels;

extern const cpu_kernels cpu_kernels_scalar;
act_fn cpu_act_scalar; /* cpu_act_scalar.c */
#if defined(__x86_64__)
extern const cpu_kernels cpu_kernels_avx2; /* needs AVX2, FMA, F16C */
act_fn cpu_act_avx2;                       /* cpu_act_avx2.c */
/* cpu_dequant_avx2.c */
void cpu_dequant_avx2(dtype t, const void *row, float *out, uint32_t elems);
#endif

/* The best table this machine runs, not above `cap`.  ERR_INVALID when the cap is an
 * instruction set of another architecture. */
NODISCARD status cpu_kernels_choose(cpu_isa cap, const cpu_kernels **out, error *err);

#endif
