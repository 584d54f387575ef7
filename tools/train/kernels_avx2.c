/* kernels_avx2.c - the inner loops for AVX2 with FMA: tiles of 6 x 16 in 12 registers. */
#include "train/kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#define KERNEL_NAME "avx2"
enum { KERNEL_MR = 6, KERNEL_NR = 16 };

static void gemm_tile(uint32_t k, const float *a, size_t a_row, size_t a_col, const float *b,
                      float *c, size_t ldc, bool add) {
    __m256 acc[KERNEL_MR][2];
    for (int i = 0; i < KERNEL_MR; i++) {
        acc[i][0] = add ? _mm256_loadu_ps(c + (size_t)i * ldc) : _mm256_setzero_ps();
        acc[i][1] = add ? _mm256_loadu_ps(c + (size_t)i * ldc + 8) : _mm256_setzero_ps();
    }
    for (; k > 0; k--, a += a_col, b += KERNEL_NR) {
        const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
        for (int i = 0; i < KERNEL_MR; i++) {
            const __m256 x = _mm256_set1_ps(a[(size_t)i * a_row]);
            acc[i][0] = _mm256_fmadd_ps(x, b0, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(x, b1, acc[i][1]);
        }
    }
    for (int i = 0; i < KERNEL_MR; i++) {
        _mm256_storeu_ps(c + (size_t)i * ldc, acc[i][0]);
        _mm256_storeu_ps(c + (size_t)i * ldc + 8, acc[i][1]);
    }
}

#include "train/kernels_body.h"

const kernels *kernels_avx2(void) { return &table; }
#else
const kernels *kernels_avx2(void) { return NULL; }
#endif
