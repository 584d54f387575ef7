/* kernels_avx512.c - the inner loops for AVX-512: tiles of 8 x 32 in 16 registers. */
#include "train/kernels.h"

#ifdef __AVX512F__
#include <immintrin.h>

#define KERNEL_NAME "avx512"
enum { KERNEL_MR = 8, KERNEL_NR = 32 };

static void gemm_tile(uint32_t k, const float *a, size_t a_row, size_t a_col, const float *b,
                      float *c, size_t ldc, bool add) {
    __m512 acc[KERNEL_MR][2]; /* in registers, as every loop over it is unrolled */
#pragma GCC unroll 8
    for (int i = 0; i < KERNEL_MR; i++) {
        acc[i][0] = add ? _mm512_loadu_ps(c + (size_t)i * ldc) : _mm512_setzero_ps();
        acc[i][1] = add ? _mm512_loadu_ps(c + (size_t)i * ldc + 16) : _mm512_setzero_ps();
    }
    for (; k > 0; k--, a += a_col, b += KERNEL_NR) {
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
#pragma GCC unroll 8
        for (int i = 0; i < KERNEL_MR; i++) {
            const __m512 x = _mm512_set1_ps(a[(size_t)i * a_row]);
            acc[i][0] = _mm512_fmadd_ps(x, b0, acc[i][0]);
            acc[i][1] = _mm512_fmadd_ps(x, b1, acc[i][1]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < KERNEL_MR; i++) {
        _mm512_storeu_ps(c + (size_t)i * ldc, acc[i][0]);
        _mm512_storeu_ps(c + (size_t)i * ldc + 16, acc[i][1]);
    }
}

#include "train/kernels_body.h"

const kernels *kernels_avx512(void) { return &table; }
#else
const kernels *kernels_avx512(void) { return NULL; }
#endif
