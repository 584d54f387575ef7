/* cpu_kernels.h - the inner loops, one table per instruction-set class.
 *
 * Every function is pure over its arguments.  The arithmetic of one output element is the
 * same whatever the tile it is computed in: that is what makes the backend `exact`. */
#ifndef BACKEND_CPU_CPU_KERNELS_H
#define BACKEND_CPU_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_fetch.h"
#include "backend/cpu/cpu_pack.h"

enum { MATMUL_SCRATCH_FLOATS = 8 * 512 + 64 * 96 * 16 }; /* see cpu_floats.h */

/* out[r, j] = x[r] . w[j] + bias[j] + add[r, j] for j in [row0, row1) and all r.
 *
 * x[r] . w[j], with weights as f32, is sixteen sums: column c belongs to lane c % 16, every lane
 * begins at 0 and goes on in ascending order with fma(x, w, lane), and columns behind the end, up
 * to whole lanes, count as zeros in x and w.  Then lanes l and l + 8 are added, of these 8 sums l
 * and l + 4, l and l + 2, and the last two.  Then comes the bias, then `add`.  Every instruction
 * set gives the same bits. */
typedef struct matmul_args {
    const void *w; /* [.., cols] packed */
    dtype type;    /* of w; read by matmul_rows alone */
    size_t w_row_bytes;
    uint32_t cols;
    uint32_t x_rows;
    const float *x;    /* [x_rows, cols] */
    const float *bias; /* or NULL */
    const float *add;  /* [x_rows, out_cols] or NULL; may be `out` */
    float *out;        /* [x_rows, out_cols] */
    size_t out_cols;
    float *scratch; /* [MATMUL_SCRATCH_FLOATS], 64-byte aligned; NULL: slower with many rows */
} matmul_args;

typedef void matmul_fn(const matmul_args *a, uint32_t row0, uint32_t row1);
typedef void norm_fn(const float *x, const float *gain, float *y, uint32_t cols, float eps);
typedef void act_fn(const op_act *f, const float *x, const float *up, float *y, uint32_t cols);

/* For every row r < rows and lane j < PACK_ROWS:  acc[r][j] goes on, block by block, with
 *
 *   exact:  n = sum of code * (255 * hi + lo)                          int32, exact
 *           acc = fma(n, scale[j] * x.scale, acc);  acc = fma(-offset[j], x.sum, acc)
 *   fast:   n = sum of code * hi
 *           acc = fma(n, scale[j] * x.scale_hi, acc);  acc = fma(-offset[j], x.sum_hi, acc)
 *
 * n as f32, rounded once; with subs 2 first over columns 0..15 and sum[0], then 16..31 and sum[1];
 * with subs 1 over all of them and sum[2].  Every instruction set gives the same bits. */
typedef struct dots_args {
    const pack_panel *panel;
    uint32_t blocks;
    const act_block *x; /* row r begins at x + r * row_blocks */
    size_t row_blocks;
    uint32_t rows;
    bool fast;
    float *acc; /* [rows][PACK_ROWS], 64-byte aligned */
} dots_args;

/* dots() of four panels at once, whose loads of activations are shared: the same bits. */
typedef struct dots_quad_args {
    const pack_panel *panel; /* [4] of one format */
    uint32_t blocks;
    const act_block *x;
    size_t row_blocks;
    uint32_t rows;
    bool fast;
    float *acc; /* of panel p: at acc + p * acc_stride * PACK_ROWS */
    size_t acc_stride;
} dots_quad_args;

/* expand() and dots() from zeros in one, over the whole width, for a few rows in mode exact: the
 * same bits. */
enum { PACKED_X_ROWS = 16 };

typedef struct packed_dots_args {
    const pack_format *format;
    const uint8_t *groups; /* [count] groups of group_bytes */
    size_t group_bytes;
    uint32_t count;
    uint32_t blocks;
    const act_block *x;
    size_t row_blocks;
    uint32_t rows; /* 1..PACKED_X_ROWS */
    float *acc;    /* [count][rows][PACK_ROWS], 64-byte aligned */
} packed_dots_args;

/* Attention of some queries to the positions of one span (cpu_attention.c); a query is one head of
 * one row.  An element of a result goes through the positions or dimensions in ascending order,
 * one fused multiply-add after the other, whatever else is computed beside it. */
enum {
    ATTN_SPAN = 128,  /* positions whose scores meet in the softmax */
    ATTN_PIECE = 64,  /* whose keys or values are f32 at a time */
    ATTN_LANES = 16,  /* what rows of values and ranges of keys are rounded to: a block */
    ATTN_QUERIES = 6, /* that a kernel takes at once */
};

/* scores[i][t] = q[i] . key t, for i < queries and t in [begin, end) */
typedef struct attn_score {
    uint32_t queries; /* 1..ATTN_QUERIES */
    uint32_t dim;
    uint32_t begin, end; /* of a piece; multiples of ATTN_LANES */
    const float *q;      /* [queries, dim] */
    const float *keys;   /* [ATTN_PIECE / ATTN_LANES, dim, ATTN_LANES], 64-byte aligned */
    float *scores;       /* [queries, ATTN_SPAN] from the piece on */
    cpu_ahead ahead;     /* memory to ask for meanwhile */
} attn_score;

/* Of one query after some of its positions. */
typedef struct attn_state {
    float max; /* of the scores */
    float sum; /* of exp(score - max) */
} attn_state;

/* out[i][c] += sum over t in [begin, end) of p[i][t] * values[t][c] */
typedef struct attn_mix {
    uint32_t queries;    /* 1..ATTN_QUERIES */
    uint32_t cols;       /* a multiple of ATTN_LANES */
    uint32_t stride;     /* from one row of values or of out to the next */
    uint32_t begin, end; /* of a piece */
    const float *p;      /* [queries, ATTN_SPAN] from the piece on */
    const float *values; /* [ATTN_PIECE, stride] from the first column on, 64-byte aligned */
    float *out;          /* [queries, stride] from the first column on */
    cpu_ahead ahead;     /* memory to ask for meanwhile */
} attn_mix;

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
    matmul_fn *matmul_rows; /* weights of any type, as f32 a panel at a time; needs the scratch */
    /* Blocks first .. first + count - 1 of a packed group, as a panel; whole superblocks. */
    void (*expand)(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                   const pack_panel *out);
    void (*dots)(const dots_args *a);
    void (*dots_quad)(const dots_quad_args *a);     /* NULL: four calls of dots() are as good */
    void (*dots_packed)(const packed_dots_args *a); /* NULL: panels are as good */
    /* x [cols] as blocks; cols a multiple of PACK_BLOCK */
    void (*digits)(const float *x, act_block *out, uint32_t cols);
    /* tensor/convert.h's dequant_row(): the same bits, faster */
    void (*dequant)(dtype t, const void *row, float *out, uint32_t elems);
    /* tensor/formula.h's norms, times gain [cols] unless that is NULL; y may be x */
    norm_fn *norm_rms;
    norm_fn *norm_layer;
    /* y = f(x) * up, or f(x) where up is NULL; y may be x or up.  Relative error of f about
     * 1e-6 where the result is a normal float. */
    act_fn *act;
    /* KV_BLOCK_TOKENS rows [dim] of the cache, F32 or F16, one behind the other:
     * keys[d * ATTN_LANES + t] = row t, element d */
    void (*turn_keys)(dtype type, const void *rows, uint32_t dim, float *keys);
    /* values[t * cols + c] = row t, element c; the rows are `stride` elements apart, cols is dim
     * rounded up to whole ATTN_LANES, and what is behind dim becomes 0 */
    void (*widen_values)(dtype type, const void *rows, uint32_t stride, uint32_t dim,
                         float *values);
    /* n elements in groups of 32 with a scale each (kv_q8.h), as f32: exact */
    void (*widen_q8)(const int8_t *codes, const uint16_t *scales, uint32_t n, float *out);
    /* the same of 4 bits (kv_q4.h), as they are stored: turned */
    void (*widen_q4)(const uint8_t *codes, const uint16_t *scales, uint32_t n, float *out);
    void (*score)(const attn_score *a);
    /* s[t] = exp(s[t] - max) for t in [begin, end) after state->max took their maximum in, and
     * their sum went into state->sum; when the maximum grew, out [cols] shrinks with it.  The rest
     * of the ATTN_LANES of s[begin] and s[end - 1] may be overwritten. */
    void (*soften)(float *s, uint32_t begin, uint32_t end, attn_state *state, float *out,
                   uint32_t cols);
    void (*mix)(const attn_mix *a);
    /* to f16, to nearest, ties to even */
    void (*narrow)(const float *x, uint16_t *half, uint32_t n);
    /* y[] += sum over t < n of p[t] * v[t][], in this order; the rows [dim] of v are `stride`
     * elements apart */
    void (*mix_f32)(const float *p, const void *v, uint32_t stride, uint32_t dim, uint32_t n,
                    float *y);
    /* One row of one column of the selective scan: h = exp(dt * a) * h + b * dx; returns c . h.
     * All are [states]. */
    float (*scan)(float *h, const float *a, const float *b, const float *c, float dt, float dx,
                  uint32_t states);
    void (*wkv)(const wkv_args *a);
    const bf16_kernels *bf16; /* for prompts in mode `fast` (cpu_bf16.h), or NULL */
} cpu_kernels;

extern const cpu_kernels cpu_kernels_scalar;
act_fn cpu_act_scalar; /* cpu_act_scalar.c */
#if defined(__x86_64__)
extern const cpu_kernels cpu_kernels_avx2; /* needs AVX2, FMA, F16C */
act_fn cpu_act_avx2;                       /* cpu_act_avx2.c */
/* cpu_attention_avx2.c */
void cpu_turn_keys_avx2(dtype type, const void *rows, uint32_t dim, float *keys);
/* cpu_dequant_avx2.c */
void cpu_dequant_avx2(dtype t, const void *row, float *out, uint32_t elems);
#endif

/* What an instruction set adds to the table of a lesser one. */
typedef void kernels_overlay(cpu_kernels *k);
kernels_overlay cpu_packs_scalar; /* cpu_packs_scalar.c: expand, dots, digits */
#if defined(__x86_64__)
kernels_overlay cpu_packs_avx2;       /* cpu_packs_avx2.c */
kernels_overlay cpu_packs_avx512;     /* cpu_packs_avx512.c: needs F, BW, DQ, VL, VNNI */
kernels_overlay cpu_floats_avx2;      /* cpu_floats_avx2.c: products with float weights */
kernels_overlay cpu_floats_avx512;    /* cpu_floats_avx512.c: needs F, BW, DQ, VL */
kernels_overlay cpu_attention_avx2;   /* cpu_attention_avx2.c: scores, softmax, mixes */
kernels_overlay cpu_attention_avx512; /* cpu_attention_avx512.c */
#elif defined(__aarch64__)
kernels_overlay cpu_packs_neon; /* cpu_packs_neon.c: needs dotprod */
#endif

/* The best table this machine runs, not above `cap`.  ERR_INVALID when the cap is an
 * instruction set of another architecture. */
NODISCARD status cpu_kernels_choose(cpu_isa cap, const cpu_kernels **out, error *err);

#endif
