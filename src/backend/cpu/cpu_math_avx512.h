/* cpu_math_avx512.h - functions of sixteen floats, for the files built with AVX-512 only. */
#ifndef BACKEND_CPU_CPU_MATH_AVX512_H
#define BACKEND_CPU_CPU_MATH_AVX512_H
#if defined(__AVX512F__)

#include <immintrin.h>

/* exp8() of cpu_math_avx2.h for x <= 0, or 0 where that cuts off. */
static inline __attribute__((always_inline)) __m512 exp16(__m512 x) {
    const __m512 least = _mm512_set1_ps(-87.3f);
    __mmask16 live = _mm512_cmp_ps_mask(x, least, _CMP_GE_OQ);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(live, p, n);
}

#endif
#endif
