/* cpu_dots_avx512.h - products of codes and activations, as the files of the dots share them. */
#ifndef BACKEND_CPU_CPU_DOTS_AVX512_H
#define BACKEND_CPU_CPU_DOTS_AVX512_H
#if defined(__AVX512VNNI__)

#include <immintrin.h>
#include <string.h>

#include "backend/cpu/cpu_packs_avx512.h"

enum { DIGITS = 4 /* activations to a lane */ };

/* What is constant in one compiled loop. */
typedef struct shape {
    bool fast;
    uint32_t subs;
} shape;

/* The weights of a block, or of half of one where there are two scales. */
typedef struct part {
    __m512i codes[PACK_VECTORS]; /* PACK_VECTORS / subs */
    __m512 scale, offset;
} part;

/* Four activations, in every lane. */
INLINE __m512i everywhere(const int8_t *digits, uint32_t v) {
    int32_t four;
    memcpy(&four, digits + (size_t)v * DIGITS, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Integer sums of the two digits. */
typedef struct sums {
    __m512i hi, lo;
} sums;

INLINE sums sums_zero(void) { return (sums){_mm512_setzero_si512(), _mm512_setzero_si512()}; }

INLINE __m512 sums_float(sums n, bool fast) {
    if (fast) return _mm512_cvtepi32_ps(n.hi);
    const __m512i hi256 = _mm512_add_epi32(_mm512_slli_epi32(n.hi, 8), n.lo);
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(hi256, n.hi));
}

/* acc + what part s of a block brings, whose products have the sums n. */
INLINE __m512 settle(__m512 acc, const part *w, const act_block *x, sums n, shape f, uint32_t s) {
    const __m512 scale = _mm512_set1_ps(f.fast ? x->scale_hi : x->scale);
    const float *x_sums = f.fast ? x->sum_hi : x->sum;
    const __m512 x_sum = _mm512_set1_ps(x_sums[f.subs == 1 ? 2 : s]);
    acc = _mm512_fmadd_ps(sums_float(n, f.fast), _mm512_mul_ps(w->scale, scale), acc);
    return _mm512_fnmadd_ps(w->offset, x_sum, acc);
}

#endif
#endif
