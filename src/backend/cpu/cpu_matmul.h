/* cpu_matmul.h - products with weights of any type.
 *
 * Packed weights go through panels of their codes (cpu_pack.h), or straight to the products of a
 * few exact rows where a kernel can; float weights are multiplied as they are stored; all others go
 * in place through f32: pieces of weight rows are turned into f32, multiplied with every activation
 * row, and forgotten.  How an element is summed depends on the weight and on the row's own mode
 * alone: not on the panel, the number of activation rows or who computes it. */
#ifndef BACKEND_CPU_CPU_MATMUL_H
#define BACKEND_CPU_CPU_MATMUL_H

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_repack.h"

enum { PANEL_ROWS = 32 }; /* weight rows in f32 at a time */

backend_path cpu_matmul_path(dtype t);

/* A panel for rows of so many columns. */
size_t cpu_panel_floats(uint32_t cols);
/* What cpu_matmul() needs for this weight. */
size_t cpu_matmul_scratch_floats(const weight *w);

/* Rows row0 .. row0 + count - 1 of w as f32. */
void cpu_weight_rows(const cpu_kernels *k, const weight *w, uint32_t row0, uint32_t count,
                     float *out);

/* out[r, j] = x[r] . w[row0 + j] + bias[j] + add[r, j] for j < rows: bias, add and out begin with
 * what belongs to row0.  What `a` says of the weight is filled here.  `scratch` may be NULL for
 * F32, F16 and BF16, which are then slower with many rows. */
void cpu_matmul(const cpu_kernels *k, const weight *w, matmul_args a, uint32_t row0, uint32_t rows,
                float *scratch);

/* The same with packed weights. */
typedef struct packed_args {
    const pack_matrix *w;
    const act_block *x; /* [x_rows, row_blocks] */
    size_t row_blocks;
    uint32_t x_rows;
    const bool *fast;  /* [x_rows] digits hi only; NULL: none */
    const float *bias; /* as in matmul_args */
    const float *add;
    float *out;
    size_t out_cols;
} packed_args;

/* What cpu_matmul_packed() needs for so many activation rows. */
size_t cpu_packed_floats(uint32_t x_rows);

/* row0 is a multiple of PACK_ROWS. */
void cpu_matmul_packed(const cpu_kernels *k, const packed_args *a, uint32_t row0, uint32_t rows,
                       float *scratch);

#endif
