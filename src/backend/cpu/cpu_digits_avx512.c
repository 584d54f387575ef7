/* cpu_digits_avx512.c - activations as digits of base 255 (act_block), half a block to a register.
 * The bits of cpu_packs_scalar.c: what is done to one number there is done to 16 here. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/cpu_packs_avx512.h"

static const float LARGEST = 32512; /* 255 * 127 + 127 */

/* Below this counts as 0: LARGEST / max must not overflow. */
static const float SMALLEST = 0x1p-100f;

/* The largest magnitude; NaNs are passed over, since max returns its second operand for them. */
INLINE float largest(__m512 a, __m512 b) {
    const __m512 zero = _mm512_setzero_ps();
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_abs_ps(b), _mm512_max_ps(_mm512_abs_ps(a), zero)));
}

/* Rounded to nearest, ties to even; a NaN becomes the lowest. */
INLINE __m512i to_integers(__m512 x, float inverse) {
    const __m512 limit = _mm512_set1_ps(LARGEST), lowest = _mm512_set1_ps(-LARGEST);
    const __m512 v = _mm512_mul_ps(x, _mm512_set1_ps(inverse));
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lowest), limit));
}

/* q / 255 to the nearest: 255 is odd, so that no quotient is nearer than 1/510 to a tie, far more
 * than the product is off. */
INLINE __m512i high_digits(__m512i q) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(1.0f / 255)));
}
INLINE __m512i low_digits(__m512i q, __m512i hi) {
    return _mm512_add_epi32(_mm512_sub_epi32(q, _mm512_slli_epi32(hi, 8)), hi);
}

/* Columns 0..15 and 16..31, one to a byte. */
INLINE __m256i to_bytes(__m512i first, __m512i second) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm512_cvtepi32_epi8(first)),
                                   _mm512_cvtepi32_epi8(second), 1);
}

/* The four sums of 16 bytes each: of hi 0..15, hi 16..31, lo 0..15, lo 16..31. */
INLINE __m128i count(__m256i hi, __m256i lo) {
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(hi), lo, 1);
    __m512i n = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), both);
    n = _mm512_add_epi32(n, _mm512_shuffle_epi32(n, _MM_PERM_BADC));
    n = _mm512_add_epi32(n, _mm512_shuffle_epi32(n, _MM_PERM_CDAB));
    const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castsi512_si128(_mm512_permutexvar_epi32(lanes, n));
}

static void digits_of_block(const float *x, act_block *out) {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + PACK_BLOCK / 2);
    float max = largest(a, b);
    if (max < SMALLEST) max = 0;
    const float inverse = max > 0 ? LARGEST / max : 0, scale = max / LARGEST;
    const __m512i qa = to_integers(a, inverse), qb = to_integers(b, inverse);
    const __m512i hi_a = high_digits(qa), hi_b = high_digits(qb);
    const __m256i hi = to_bytes(hi_a, hi_b);
    const __m256i lo = to_bytes(low_digits(qa, hi_a), low_digits(qb, hi_b));
    int32_t n[4];
    _mm_storeu_si128((__m128i *)n, count(hi, lo));
    *out = (act_block){.scale = scale,
                       .scale_hi = 255.0f * scale,
                       .count_hi = {n[0], n[1]},
                       .count_lo = {n[2], n[3]}};
    _mm256_storeu_si256((__m256i *)out->hi, hi);
    _mm256_storeu_si256((__m256i *)out->lo, lo);
    const int32_t hi3[3] = {n[0], n[1], n[0] + n[1]}, lo3[3] = {n[2], n[3], n[2] + n[3]};
    for (uint32_t i = 0; i < 3; i++) {
        out->sum[i] = (float)(255 * hi3[i] + lo3[i]) * scale;
        out->sum_hi[i] = (float)hi3[i] * out->scale_hi;
    }
}

void cpu_digits_avx512(const float *x, act_block *out, uint32_t cols) {
    for (uint32_t b = 0; b < cols / PACK_BLOCK; b++)
        digits_of_block(x + (size_t)b * PACK_BLOCK, out + b);
}

#endif
