/* cpu_matmul.h - products with weights of any type.
 *
 * Types with a kernel of their own are multiplied as they are stored.  All others, and packed
 * matrices, go in place through a panel: some weight rows are turned into f32, multiplied with
 * every activation row, and forgotten.  An element is one f32 dot of one whole row either way, so
 * its bits do not depend on the panel, the number of activation rows or who computes it. */
#ifndef BACKEND_CPU_CPU_MATMUL_H
#define BACKEND_CPU_CPU_MATMUL_H

#include "backend/cpu/cpu_kernels.h"

enum { PANEL_ROWS = 8 }; /* weight rows in f32 at a time */

backend_path cpu_matmul_path(dtype t);

/* A panel for rows of so many columns. */
size_t cpu_panel_floats(uint32_t cols);
/* What cpu_matmul() needs for this weight with or without int16 activations; 0 when native. */
size_t cpu_matmul_panel_floats(const weight *w, bool int16);

/* Rows row0 .. row0 + count - 1 of w as f32. */
void cpu_weight_rows(const cpu_kernels *k, const weight *w, uint32_t row0, uint32_t count,
                     float *out);

/* out[r, j] = x[r] . w[row0 + j] + bias[j] + add[r, j] for j < rows: bias, add and out begin with
 * what belongs to row0.  The w and cols of `a` are filled here; with a.xq NULL block weights are
 * multiplied by way of the panel. */
void cpu_matmul(const cpu_kernels *k, const weight *w, matmul_args a, uint32_t row0, uint32_t rows,
                float *panel);

#endif
