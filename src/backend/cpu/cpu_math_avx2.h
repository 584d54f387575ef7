/* cpu_math_avx2.h - sums and functions of eight floats, for the files built with AVX2 only. */
#ifndef BACKEND_CPU_CPU_MATH_AVX2_H
#define BACKEND_CPU_CPU_MATH_AVX2_H
#if defined(__AVX2__)

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };

INLINE float sum_lanes(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float max_lanes(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* exp(x): x = n ln 2 + r, degree-6 polynomial on |r| <= ln 2 / 2, relative error < 2e-7.
 * Coefficients: Taylor terms 1/k!, whose first omitted one is below 2^-25 there. */
INLINE __m256 exp8(__m256 x) {
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.3f)), _mm256_set1_ps(88.7f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    /* 2^n in two halves: n may be 128 or below -126 */
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
    __m256i rest = _mm256_sub_epi32(i, half), bias = _mm256_set1_epi32(127);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(p,
                         _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

/* x / (1 + exp(-slope x)) */
INLINE __m256 silu8(__m256 x, __m256 slope_x) {
    __m256 e = exp8(_mm256_sub_ps(_mm256_setzero_ps(), slope_x));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

/* tanh(x).  Below 1: Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))) down to
 * 11, which is 4e-10 off at most.  Above: 1 - 2 / (exp(2 |x|) + 1). */
INLINE __m256 tanh8(__m256 x) {
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    __m256 magnitude = _mm256_andnot_ps(sign, x);
    __m256 z = _mm256_min_ps(_mm256_mul_ps(x, x), one);
    /* numerator and denominator of the convergent: Horner in z */
    __m256 n = _mm256_fmadd_ps(z, _mm256_set1_ps(21.0f), _mm256_set1_ps(1260.0f));
    n = _mm256_fmadd_ps(n, z, _mm256_set1_ps(10395.0f));
    __m256 d = _mm256_add_ps(z, _mm256_set1_ps(210.0f));
    d = _mm256_fmadd_ps(d, z, _mm256_set1_ps(4725.0f));
    d = _mm256_fmadd_ps(d, z, _mm256_set1_ps(10395.0f));
    __m256 small = _mm256_mul_ps(magnitude, _mm256_div_ps(n, d));
    __m256 e = exp8(_mm256_add_ps(magnitude, magnitude));
    __m256 large = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
    __m256 y = _mm256_blendv_ps(large, small, _mm256_cmp_ps(magnitude, one, _CMP_LT_OQ));
    return _mm256_or_ps(y, _mm256_and_ps(sign, x));
}

#endif
#endif
