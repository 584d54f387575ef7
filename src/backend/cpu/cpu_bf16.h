/* cpu_bf16.h - products of prompt rows in bf16, mode `fast` only: on tiles (Intel AMX) or in
 * vectors (AVX512-BF16).
 *
 * A run of weight rows, or a piece of keys or values (cpu_attention_bf16.c), becomes a panel of
 * bf16 once per step, whatever its type; the activations of prompt rows are rounded to bf16 where
 * their digits are made; sums are f32 over the whole width, so there is no scale to apply behind
 * them.  Every prompt row goes this way however few there are, so that its bits do not depend on
 * the others.
 *
 *   panel of a group of PACK_ROWS weight rows:  [cols / 2][16 rows][2] bf16
 *
 * The order in which a unit sums is its own (Intel SDM, TDPBF16PS, VDPBF16PS), and denormals count
 * as zeros in it; another machine may give other bits.  Owner: the cpu backend. */
#ifndef BACKEND_CPU_CPU_BF16_H
#define BACKEND_CPU_CPU_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cpu/cpu_pack.h"
#include "backend/program.h"

enum {
    BF16_COLS = 32,      /* columns at a time: widths are multiples */
    BF16_ROWS = 32,      /* activation rows at a time */
    BF16_GROUPS = 4,     /* groups of weight rows at most */
    BF16_POSITIONS = 64, /* of attention, whose weights are made together: whole BF16_COLS */
};

typedef struct bf16_args {
    const uint16_t *panel; /* [groups] panels one behind the other */
    uint32_t groups;       /* 1..BF16_GROUPS */
    uint32_t cols;         /* a multiple of BF16_COLS */
    const uint16_t *x;     /* [rows] bf16, row r at x + r * x_stride */
    size_t x_stride;       /* elements */
    uint32_t rows;         /* 1..BF16_ROWS */
    float *out;            /* [rows][groups * PACK_ROWS], row r at out + r * out_stride */
    size_t out_stride;     /* elements */
    bool add;              /* to what is there, once the sums are whole; else in its place */
} bf16_args;

/* PACK_ROWS rows of values, of which those in [begin, end) count and the others become zeros. */
typedef struct bf16_values {
    dtype type; /* F32 or F16 */
    const void *rows;
    size_t stride; /* elements from one row to the next */
    uint32_t begin, end;
    uint32_t groups;     /* of PACK_ROWS columns */
    uint16_t *panel;     /* of the first group: [PACK_ROWS / 2 pairs of rows][16 columns][2] */
    size_t group_stride; /* elements from there to the next group's */
} bf16_values;

/* Positions begin .. end - 1. */
typedef struct bf16_range {
    uint32_t begin, end;
} bf16_range;

/* The part of a softmax that some queries have in BF16_POSITIONS positions: their scores become
 * weights, exp(score - max). */
typedef struct bf16_softmax {
    uint32_t rows;
    const float *scores;    /* [rows, BF16_POSITIONS] */
    const bf16_range *seen; /* [rows] positions that count; the others may hold anything */
    float *max;             /* [rows] of all scores that count so far; it grows, and sums shrink */
    float *sums;            /* row r at sums + r * stride: [cols] of values, then [PACK_ROWS] parts
                               of the sum of all weights so far, as they were rounded */
    size_t stride;          /* elements */
    uint32_t cols;          /* a multiple of PACK_ROWS */
    uint16_t *weights;      /* [rows, BF16_POSITIONS] bf16, 0 where a position does not count */
} bf16_softmax;

typedef struct bf16_kernels {
    /* Is this faster than integers, too, so that packed weights should go this way? */
    bool takes_packed;
    /* nearest bf16, ties to even */
    void (*round)(const float *x, uint16_t *out, uint32_t cols);
    /* `blocks` blocks of packed weights to a panel */
    void (*from_codes)(const pack_panel *p, uint32_t blocks, uint16_t *panel);
    /* [count, cols] F32, F16 or BF16 to a panel; rows count .. PACK_ROWS - 1 of it become zeros */
    void (*from_rows)(dtype type, const void *rows, uint32_t count, uint32_t cols, uint16_t *panel);
    /* The values of a block, a part of the panels that probabilities are multiplied with; are all
     * of them finite? */
    bool (*from_values)(const bf16_values *v);
    /* Scores to weights. */
    void (*soften)(const bf16_softmax *a);
    /* out = x . panel^T */
    void (*multiply)(const bf16_args *a);
} bf16_kernels;

/* Is the small product right on which a unit is tried before it is used? */
bool cpu_bf16_is_right(const bf16_kernels *k);
/* Does the path take products with this weight?  k NULL: there is none. */
bool cpu_bf16_takes(const bf16_kernels *k, const weight *w);

#if defined(__x86_64__)
/* On a machine that has AVX-512 (cpu_packs_avx512).  NULL: it has no such unit, or the system does
 * not allow it, or it computes wrongly. */
const bf16_kernels *cpu_bf16_find_avx512(void);
const bf16_kernels *cpu_bf16_find_amx(void);

extern const bf16_kernels cpu_bf16_avx512, cpu_bf16_amx;

/* What both have in common (cpu_bf16_panels_avx512.c). */
void cpu_bf16_round(const float *x, uint16_t *out, uint32_t cols);
void cpu_bf16_from_codes(const pack_panel *p, uint32_t blocks, uint16_t *panel);
void cpu_bf16_from_rows(dtype type, const void *rows, uint32_t count, uint32_t cols,
                        uint16_t *panel);
bool cpu_bf16_from_values(const bf16_values *v);
void cpu_bf16_soften(const bf16_softmax *a);
#endif

#endif
