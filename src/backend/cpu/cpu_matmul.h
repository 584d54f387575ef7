/* cpu_matmul.h - products with weights of any type.
 *
 * Types with a kernel of their own are multiplied as they are stored.  All others go in place
 * through a panel: some weight rows are turned into f32, multiplied with every activation row,
 * and forgotten.  An element is one f32 dot of one whole row either way, so its bits do not
 * depend on the panel, the number of activation rows or who computes it. */
#ifndef BACKEND_CPU_CPU_MATMUL_H
#define BACKEND_CPU_CPU_MATMUL_H

#include "backend/cpu/cpu_kernels.h"

backend_path cpu_matmul_path(dtype t);

/* What one worker's panel needs for any weight of the program; 0 when all are native. */
size_t cpu_panel_floats(const program *p);

/* As matmul_fn does; `panel` has cpu_panel_floats(). */
void cpu_matmul(const cpu_kernels *k, dtype t, const matmul_args *a, uint32_t row0, uint32_t row1,
                float *panel);

#endif
