/* kernels_plain.c - the inner loops for any machine.  fmaf() is what makes them give the bits of
 * the others; where the machine has no such instruction it is slow. */
#include <math.h>

#include "train/kernels.h"

#define KERNEL_NAME "plain"
enum { KERNEL_MR = 4, KERNEL_NR = 4 };

static void gemm_tile(uint32_t k, const float *a, size_t a_row, size_t a_col, const float *b,
                      float *c, size_t ldc, bool add) {
    for (uint32_t i = 0; i < KERNEL_MR; i++)
        for (uint32_t j = 0; j < KERNEL_NR; j++) {
            float sum = add ? c[i * ldc + j] : 0;
            for (uint32_t p = 0; p < k; p++)
                sum = fmaf(a[i * a_row + p * a_col], b[p * KERNEL_NR + j], sum);
            c[i * ldc + j] = sum;
        }
}

#include "train/kernels_body.h"

const kernels *kernels_plain(void) { return &table; }
