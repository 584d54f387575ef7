/* cpu_digits_avx2.c - activations as two digits of base 255, with AVX2. */
#include "backend/cpu/cpu_packs_avx2.h"

#if defined(__x86_64__)

#include "backend/cpu/cpu_math_avx2.h"

enum { LARGEST = 32512, QUARTERS = PACK_BLOCK / LANES }; /* 255 * 127 + 127 */

/* x * inverse to the nearest integer, ties to even; a NaN becomes the lowest. */
INLINE __m256i to_integers(__m256 x, __m256 inverse) {
    const __m256 largest = _mm256_set1_ps((float)LARGEST);
    const __m256 lowest = _mm256_set1_ps(-(float)LARGEST);
    __m256 v =
        _mm256_max_ps(_mm256_mul_ps(x, inverse), lowest); /* the second of an unordered pair */
    return _mm256_cvtps_epi32(_mm256_min_ps(v, largest));
}

/* q / 255 to the nearest.  The remainder is at most 127 / 255 = 0.498, further from a half than
 * the error of the float product. */
INLINE __m256i high_digit(__m256i q) {
    __m256 steps = _mm256_mul_ps(_mm256_cvtepi32_ps(q), _mm256_set1_ps(1.0f / 255));
    return _mm256_cvtps_epi32(steps);
}

INLINE __m256i low_digit(__m256i q, __m256i high) {
    __m256i high_part = _mm256_sub_epi32(_mm256_slli_epi32(high, 8), high);
    return _mm256_sub_epi32(q, high_part);
}

/* Four registers of int32 as one of int8, in order. */
INLINE __m256i to_bytes(const __m256i v[QUARTERS]) {
    __m256i low = _mm256_packs_epi32(v[0], v[1]), high = _mm256_packs_epi32(v[2], v[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packs works in halves */
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}

/* Sums of four bytes each. */
INLINE __m256i sum_fours(__m256i bytes) {
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE void count(__m256i hi, __m256i lo, act_block *out) {
    __m256i s = _mm256_hadd_epi32(sum_fours(hi), sum_fours(lo));
    s = _mm256_hadd_epi32(s, s); /* [0] hi, [1] lo of 16 columns */
    __m128i first = _mm256_castsi256_si128(s), second = _mm256_extracti128_si256(s, 1);
    _mm_storel_epi64((__m128i *)out->count_hi, _mm_unpacklo_epi32(first, second));
    __m128i low = _mm_unpacklo_epi32(_mm_srli_si128(first, 4), _mm_srli_si128(second, 4));
    _mm_storel_epi64((__m128i *)out->count_lo, low);
}

INLINE void scale_counts(float scale, act_block *out) {
    const int32_t *hi = out->count_hi, *lo = out->count_lo;
    const int32_t count_hi[3] = {hi[0], hi[1], hi[0] + hi[1]};
    const int32_t count_lo[3] = {lo[0], lo[1], lo[0] + lo[1]};
    out->scale = scale;
    out->scale_hi = 255.0f * scale;
    for (int i = 0; i < 3; i++) {
        out->sum[i] = (float)(255 * count_hi[i] + count_lo[i]) * scale;
        out->sum_hi[i] = (float)count_hi[i] * out->scale_hi;
    }
}

static void digits_of_block(const float *x, act_block *out) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 v[QUARTERS], largest = _mm256_setzero_ps();
    for (int i = 0; i < QUARTERS; i++) {
        v[i] = _mm256_loadu_ps(x + (size_t)i * LANES);
        largest = _mm256_max_ps(_mm256_andnot_ps(sign, v[i]), largest); /* passes a NaN over */
    }
    float max = max_lanes(largest);
    if (max < 0x1p-100f) max = 0; /* 32512 / max must not overflow */
    const __m256 inverse = _mm256_set1_ps(max > 0 ? (float)LARGEST / max : 0);
    __m256i high[QUARTERS], low[QUARTERS];
    for (int i = 0; i < QUARTERS; i++) {
        const __m256i q = to_integers(v[i], inverse);
        high[i] = high_digit(q);
        low[i] = low_digit(q, high[i]);
    }
    const __m256i hi = to_bytes(high), lo = to_bytes(low);
    _mm256_storeu_si256((__m256i *)out->hi, hi);
    _mm256_storeu_si256((__m256i *)out->lo, lo);
    count(hi, lo, out);
    scale_counts(max / (float)LARGEST, out);
    out->unused_hi = out->unused_lo[0] = out->unused_lo[1] = out->unused_lo[2] = 0;
}

void cpu_digits_avx2(const float *x, act_block *out, uint32_t cols) {
    for (uint32_t b = 0; b < cols / PACK_BLOCK; b++)
        digits_of_block(x + (size_t)b * PACK_BLOCK, out + b);
}
#else
typedef int cpu_digits_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
