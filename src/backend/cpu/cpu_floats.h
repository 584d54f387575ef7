/* cpu_floats.h - products with weights that are f32, or become f32: how they are cut.
 *
 * The arithmetic of one element is fixed (cpu_kernels.h, matmul_args); what is chosen here is only
 * the order in which elements take their turns, so that operands come from the nearest cache:
 *
 *   few activation rows   the weights are read once, where they lie, converted in registers
 *   many                  a panel of FLOAT_PANEL_ROWS x FLOAT_COLS weights becomes f32 in the first
 *                         cache; FLOAT_X_ROWS activation rows, whose FLOAT_COLS columns stay in the
 *                         second, are multiplied with it; then comes the next panel
 *
 *   scratch:  | panel | lanes [weight rows / 8][x rows][8][16], between panels of one row |
 */
#ifndef BACKEND_CPU_CPU_FLOATS_H
#define BACKEND_CPU_CPU_FLOATS_H

#include "backend/cpu/cpu_fetch.h"
#include "backend/cpu/cpu_kernels.h"

enum {
    FLOAT_LANES = 16,
    FLOAT_COLS = 512, /* of a panel; whole blocks of every type */
    FLOAT_PANEL_ROWS = 8,
    FLOAT_PANEL = FLOAT_PANEL_ROWS * FLOAT_COLS, /* 16 KB: half of the smallest first cache */
    FLOAT_X_ROWS = 96,                           /* a multiple of every tile */
    FLOAT_RUN_ROWS = 64,                         /* weight rows whose lanes are kept */
    FLOAT_AHEAD = 2048,                          /* bytes of a row */
};

_Static_assert(FLOAT_PANEL + FLOAT_RUN_ROWS * FLOAT_X_ROWS * FLOAT_LANES == MATMUL_SCRATCH_FLOATS,
               "the scratch is a panel and the lanes");

/* A panel against some activation rows. */
typedef struct float_panel {
    const float *w; /* [FLOAT_PANEL_ROWS, FLOAT_COLS]; zeros behind `cols` to whole lanes */
    const float *x; /* [x_rows, x_stride] */
    size_t x_stride;
    uint32_t x_rows;
    uint32_t cols;
    uint32_t rows;     /* weight rows that are real, the others are zero */
    bool first, last;  /* panel of its rows */
    float *lanes;      /* [x_rows][FLOAT_PANEL_ROWS][FLOAT_LANES]; unused when first and last */
    const float *bias; /* [rows] or NULL */
    const float *add;  /* [x_rows, out_cols] or NULL */
    float *out;        /* [x_rows, out_cols] */
    size_t out_cols;
} float_panel;

/* out [cols] = columns col0 .. col0 + cols - 1 of a row; zeros follow to whole lanes. */
typedef void float_fill(const void *row, uint32_t col0, uint32_t cols, float *out);

/* What an instruction set brings. */
typedef struct float_kernels {
    void (*panel)(const float_panel *p);
    void (*dequant)(dtype t, const void *row, float *out, uint32_t elems);
    uint32_t direct_rows_max; /* activation rows up to which `direct` is the faster way */
} float_kernels;

/* All rows by way of panels; without `fill` weights of args.type. */
void cpu_floats_panels(const float_kernels *k, float_fill *fill, const matmul_args *a,
                       uint32_t row0, uint32_t row1);

/* `direct` for few rows, or where there is no scratch; else panels. */
void cpu_floats_multiply(const float_kernels *k, matmul_fn *direct, float_fill *fill,
                         const matmul_args *a, uint32_t row0, uint32_t row1);

/* cpu_floats_scalar.c: need no scratch */
matmul_fn cpu_floats_scalar_f32, cpu_floats_scalar_f16, cpu_floats_scalar_bf16;
matmul_fn cpu_floats_scalar_rows;

/* Weight rows are read once for every share of the activation rows, from memory for the first.  So
 * that memory is never idle, each share asks for its part of what comes next. */
typedef struct float_share {
    uint32_t number, count;
} float_share;

/* To be called at each cache line of `rows` weight rows, here at byte `at`.  One share alone asks
 * for what it will read FLOAT_AHEAD bytes later, several for the lines of the rows that follow.  It
 * is but a hint, and may lie behind the weights. */
static inline void cpu_floats_fetch(const char *const *w, uint32_t rows, size_t at,
                                    size_t row_bytes, float_share s) {
    size_t to = at + rows * row_bytes;
    if (s.count == 1) {
        to = at + FLOAT_AHEAD;
        if (to >= row_bytes) to += (rows - 1) * row_bytes;
    } else if (at / CPU_LINE_BYTES % s.count != s.number) {
        return;
    }
    for (uint32_t k = 0; k < rows; k++) __builtin_prefetch(w[k] + to);
}

/* Element [r, j] of the result. */
static inline float cpu_floats_finish(float v, const float *bias, const float *add) {
    if (bias != NULL) v += *bias;
    if (add != NULL) v = *add + v;
    return v;
}

#endif
