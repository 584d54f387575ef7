/* cpu_floats_scalar.c - products with weights that become f32, in plain C.
 *
 * A piece of one weight row becomes f32 and goes through the lanes of up to ROWS activation rows.
 * Processors of the baseline may have no fused multiply-add; then it is made of doubles, in a way
 * that compilers can vectorize. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_floats.h"
#include "base/assert.h"
#include "base/num.h"
#include "tensor/convert.h"

enum { ROWS = 32 };

/* fmaf(x, w, sum) */
static inline float fused(float x, float w, float sum) {
#if defined(__FP_FAST_FMAF)
    return fmaf(x, w, sum);
#else
    /* The product is exact.  The sum of two doubles is `rounded` + `lost`, exactly (Knuth); where
     * something is lost, `rounded` becomes the odd one of the two doubles around the true sum,
     * which rounds to the same f32 as the sum itself (Boldo and Melquiond, 2008). */
    const double product = (double)x * (double)w, start = (double)sum;
    const double rounded = product + start, part = rounded - product;
    const double lost = (product - (rounded - part)) + (start - part);
    int64_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    const int64_t inexact = (lost > 0) | (lost < 0); /* false for what is no number */
    const int64_t towards_zero = (lost > 0) != (rounded > 0);
    bits += inexact & ~bits & 1 ? 1 - 2 * towards_zero : 0;
    double odd;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
#endif
}

static float sum_of(const float *lane) {
    float eight[8];
    for (uint32_t l = 0; l < 8; l++) eight[l] = lane[l] + lane[l + 8];
    return ((eight[0] + eight[4]) + (eight[2] + eight[6])) +
           ((eight[1] + eight[5]) + (eight[3] + eight[7]));
}

/* Columns of a row into the lanes; [cols] of both, and w goes on with zeros to whole lanes. */
static void go_on(const float *restrict x, const float *restrict w, uint32_t cols,
                  float *restrict lane) {
    const uint32_t rest = cols % FLOAT_LANES, whole = cols - rest;
    for (uint32_t c = 0; c < whole; c += FLOAT_LANES)
        for (uint32_t l = 0; l < FLOAT_LANES; l++) lane[l] = fused(x[c + l], w[c + l], lane[l]);
    for (uint32_t l = 0; l < rest; l++) lane[l] = fused(x[whole + l], w[whole + l], lane[l]);
    for (uint32_t l = rest; rest != 0 && l < FLOAT_LANES; l++) lane[l] += 0.0f; /* -0 becomes 0 */
}

/* Weight row j with activation rows r .. r + n - 1. */
static void multiply_row(const matmul_args *a, dtype t, uint32_t j, uint32_t r, uint32_t n) {
    float w[FLOAT_COLS], lanes[ROWS][FLOAT_LANES] = {{0}};
    for (uint32_t col0 = 0; col0 < a->cols; col0 += FLOAT_COLS) {
        const uint32_t cols = num_min_u32(FLOAT_COLS, a->cols - col0);
        uint64_t skip = 0;
        bool whole = dtype_row_bytes(t, col0, &skip);
        ASSERT(whole);
        dequant_row(t, (const char *)a->w + j * a->w_row_bytes + skip, w, cols);
        for (uint32_t i = 0; i < n; i++)
            go_on(a->x + (r + (size_t)i) * a->cols + col0, w, cols, lanes[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        const size_t at = (r + (size_t)i) * a->out_cols + j;
        a->out[at] = cpu_floats_finish(sum_of(lanes[i]), a->bias != NULL ? a->bias + j : NULL,
                                       a->add != NULL ? a->add + at : NULL);
    }
}

static void multiply(const matmul_args *a, dtype t, uint32_t row0, uint32_t row1) {
    for (uint32_t r = 0; r < a->x_rows; r += ROWS)
        for (uint32_t j = row0; j < row1; j++)
            multiply_row(a, t, j, r, num_min_u32(ROWS, a->x_rows - r));
}

void cpu_floats_scalar_f32(const matmul_args *a, uint32_t row0, uint32_t row1) {
    multiply(a, DTYPE_F32, row0, row1);
}
void cpu_floats_scalar_f16(const matmul_args *a, uint32_t row0, uint32_t row1) {
    multiply(a, DTYPE_F16, row0, row1);
}
void cpu_floats_scalar_bf16(const matmul_args *a, uint32_t row0, uint32_t row1) {
    multiply(a, DTYPE_BF16, row0, row1);
}
void cpu_floats_scalar_rows(const matmul_args *a, uint32_t row0, uint32_t row1) {
    multiply(a, a->type, row0, row1);
}
