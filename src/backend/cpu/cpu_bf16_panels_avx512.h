/* cpu_bf16_panels_avx512.h - numbers as bf16, panels of them, and the softmax between products of
 * them (cpu_bf16.h): what comes before and between the products of either unit.  Where the compiler
 * may use AVX512-BF16 its conversions round, for which denormals are zeros as in its products; else
 * integers do. */
#ifndef BACKEND_CPU_CPU_BF16_PANELS_AVX512_H
#define BACKEND_CPU_CPU_BF16_PANELS_AVX512_H
#if defined(__AVX512F__)

#include <immintrin.h>
#include <math.h>

#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_math_avx512.h"
#include "backend/cpu/cpu_transpose_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    PAIR = 2 * PACK_ROWS, /* elements of a pair of columns of a group */
    PAIRS = 2 * PAIR,
    STEP = BF16_COLS * PACK_ROWS,
    /* Sixteen rows side by side are more than the processor follows by itself: a core of a Zen 5
     * made panels of 64 rows of 2048 F16, 4 MiB of them in turn, in 30 us each without, in 11 to
     * 18 us with 128 to 512. */
    AHEAD_BYTES = 256
};

/* --- rounding -------------------- */

/* 32 bf16: those of `low`, then those of `high`. */
#if defined(__AVX512BF16__)
INLINE __m512i bf16_of(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/* A number of each, side by side. */
INLINE __m512i pair_of(__m512 even, __m512 odd) {
    static const uint16_t turns[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(turns), bf16_of(even, odd));
}
#else
/* Nearest bf16 in the high half of every lane, ties to even, and something below it; a NaN stays
 * one. */
INLINE __m512i bf16_high(__m512 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(_mm512_add_epi32(bits, bias), nan, _mm512_set1_epi32(0x7FC00000));
}

INLINE __m512i bf16_of(__m512 low, __m512 high) {
    /* the high halves of 32 lanes of two vectors */
    static const uint16_t odds[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                      23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                      45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(bf16_high(low), _mm512_loadu_si512(odds), bf16_high(high));
}

INLINE __m512i pair_of(__m512 even, __m512 odd) {
    const __mmask32 highs = 0xAAAAAAAA;
    return _mm512_mask_mov_epi16(_mm512_srli_epi32(bf16_high(even), 16), highs, bf16_high(odd));
}
#endif

INLINE void round_row(const float *x, uint16_t *out, uint32_t cols) {
    uint32_t c = 0;
    for (; c + 32 <= cols; c += 32)
        _mm512_storeu_si512(out + c, bf16_of(_mm512_loadu_ps(x + c), _mm512_loadu_ps(x + c + 16)));
    if (c == cols) return;
    const __m512i last = bf16_of(_mm512_loadu_ps(x + c), _mm512_setzero_ps());
    _mm256_storeu_si256((__m256i *)(out + c), _mm512_castsi512_si256(last));
}

/* --- panels of codes -------------------- */

/* Columns k and k + 1 of 16 rows, side by side for each row. */
INLINE void store_pair(__m512 even, __m512 odd, uint16_t *out) {
    _mm512_storeu_si512(out, pair_of(even, odd));
}

/* Byte i of every lane as scale * code - offset. */
INLINE __m512 weight_of(__m512i codes, int i, __m512 scale, __m512 offset) {
    const __m512i code =
        _mm512_and_si512(_mm512_srli_epi32(codes, (unsigned)(8 * i)), _mm512_set1_epi32(255));
    return _mm512_fmsub_ps(scale, _mm512_cvtepi32_ps(code), offset);
}

INLINE void panel_of_codes(const pack_panel *p, uint32_t blocks, uint16_t *panel) {
    const uint8_t *codes = p->codes;
    for (uint32_t b = 0; b < blocks; b++) {
        for (uint32_t v = 0; v < PACK_VECTORS; v++, codes += 64, panel += PAIRS) {
            const size_t at = ((size_t)b * p->subs + v * p->subs / PACK_VECTORS) * PACK_ROWS;
            const __m512 scale = _mm512_loadu_ps(p->scales + at);
            const __m512 offset = _mm512_loadu_ps(p->offsets + at);
            const __m512i c = _mm512_loadu_si512(codes);
            store_pair(weight_of(c, 0, scale, offset), weight_of(c, 1, scale, offset), panel);
            store_pair(weight_of(c, 2, scale, offset), weight_of(c, 3, scale, offset),
                       panel + PAIR);
        }
    }
}

/* --- panels of rows -------------------- */

INLINE size_t elem_bytes(dtype type) { return type == DTYPE_F32 ? 4 : 2; }

/* Sixteen elements, F32 or F16. */
INLINE __m512 lanes_of(dtype type, const char *row) {
    if (type == DTYPE_F32) return _mm512_loadu_ps(row);
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)row));
}

/* Sixteen pairs of columns of a row. */
INLINE __m512i pairs_of(dtype type, const char *row) {
    if (type == DTYPE_BF16) return _mm512_loadu_si512(row);
    const __m512 low = lanes_of(type, row), high = lanes_of(type, row + 16 * elem_bytes(type));
    return bf16_of(low, high);
}

INLINE void panel_of_type(dtype type, const char *rows, uint32_t count, uint32_t cols,
                          uint16_t *panel) {
    const size_t elem = elem_bytes(type), row = cols * elem;
    for (uint32_t c = 0; c < cols; c += BF16_COLS, panel += STEP) {
        __m512i v[PACK_ROWS];
        for (uint32_t r = 0; r < count; r++)
            _mm_prefetch(rows + r * row + c * elem + AHEAD_BYTES, _MM_HINT_T0);
        for (uint32_t r = 0; r < PACK_ROWS; r++)
            v[r] = r < count ? pairs_of(type, rows + r * row + c * elem) : _mm512_setzero_si512();
        transpose(v);
        for (size_t i = 0; i < PACK_ROWS; i++) _mm512_storeu_si512(panel + i * PAIR, v[i]);
    }
}

INLINE void panel_of_rows(dtype type, const void *rows, uint32_t count, uint32_t cols,
                          uint16_t *panel) {
    if (type == DTYPE_BF16)
        panel_of_type(DTYPE_BF16, rows, count, cols, panel);
    else if (type == DTYPE_F32)
        panel_of_type(DTYPE_F32, rows, count, cols, panel);
    else
        panel_of_type(DTYPE_F16, rows, count, cols, panel);
}

/* --- attention: values -------------------- */

/* Rows t and t + 1, column by column: nothing to transpose, for a pair is of rows. */
INLINE bool panel_of_values_in(dtype type, const bf16_values *v) {
    const __m512i infinity = _mm512_set1_epi16(0x7F80);
    const size_t elem = elem_bytes(type);
    __mmask32 infinite = 0;
    for (uint32_t t = 0; t < PACK_ROWS; t += 2) {
        const char *row = (const char *)v->rows + t * v->stride * elem;
        const bool first = t >= v->begin && t < v->end,
                   second = t + 1 >= v->begin && t + 1 < v->end;
        uint16_t *out = v->panel + (size_t)(t / 2) * PAIR;
        for (uint32_t g = 0; g < v->groups; g++, out += v->group_stride) {
            const char *at = row + (size_t)g * PACK_ROWS * elem;
            const __m512 even = first ? lanes_of(type, at) : _mm512_setzero_ps();
            const __m512 odd = second ? lanes_of(type, at + v->stride * elem) : _mm512_setzero_ps();
            const __m512i pair = pair_of(even, odd);
            infinite |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(pair, infinity), infinity);
            _mm512_storeu_si512(out, pair);
        }
    }
    return infinite == 0;
}

INLINE bool panel_of_values(const bf16_values *v) {
    return v->type == DTYPE_F32 ? panel_of_values_in(DTYPE_F32, v)
                                : panel_of_values_in(DTYPE_F16, v);
}

/* --- attention: softmax -------------------- */

/* exp(x) of x <= 0 where that is no denormal, else 0: 2^(n + r) with a polynomial of r in
 * [-1/2, 1/2] whose relative error is at most 8e-5, a 50th of what rounding to bf16 then adds.
 * (Coefficients: Remez.) */
INLINE __m512 weights_of(__m512 x) {
    x = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    const __mmask16 live = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(0.0551716691f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.242611122f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693260985f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999928074f));
    return _mm512_maskz_scalef_ps(live, p, n);
}

/* Sixteen parts of a sum, and 32 weights more. */
INLINE __m512 add_weights(__m512 sum, __m512i weights) {
#if defined(__AVX512BF16__)
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi16(0x3F80));
#else
    const __m512i high = _mm512_and_si512(weights, _mm512_set1_epi32((int)0xFFFF0000));
    const __m512 odd = _mm512_castsi512_ps(high);
    const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(weights, 16));
    return _mm512_add_ps(sum, _mm512_add_ps(even, odd));
#endif
}

/* The lanes of the sixteen positions from t on that are in the range. */
INLINE __mmask16 lanes_within(uint32_t t, bf16_range seen) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_add_epi32(lane, _mm512_set1_epi32((int)t));
    return _mm512_cmpge_epu32_mask(at, _mm512_set1_epi32((int)seen.begin)) &
           _mm512_cmplt_epu32_mask(at, _mm512_set1_epi32((int)seen.end));
}

/* The maximum of row r becomes the largest lane of `top`, and its sums shrink by as much. */
__attribute__((noinline)) static void raise_max(const bf16_softmax *a, uint32_t r, __m512 top) {
    float *sums = a->sums + r * a->stride;
    const float max = _mm512_reduce_max_ps(top);
    const __m512 factor = exp16(_mm512_set1_ps(a->max[r] - max));
    a->max[r] = max;
    for (uint32_t c = 0; c < a->cols + PACK_ROWS; c += 16)
        _mm512_storeu_ps(sums + c, _mm512_mul_ps(_mm512_loadu_ps(sums + c), factor));
}

enum { PIECE_VECTORS = BF16_POSITIONS / 16 };

INLINE void soften_row(const bf16_softmax *a, uint32_t r, const __mmask16 *within) {
    const float *scores = a->scores + (size_t)r * BF16_POSITIONS;
    uint16_t *weights = a->weights + (size_t)r * BF16_POSITIONS;
    float *sum_at = a->sums + r * a->stride + a->cols;
    const __m512 unseen = _mm512_set1_ps(-INFINITY);
    __m512 s[PIECE_VECTORS], top = unseen;
    for (int i = 0; i < PIECE_VECTORS; i++) {
        s[i] = _mm512_mask_loadu_ps(unseen, within[i], scores + (size_t)i * 16);
        top = _mm512_max_ps(top, s[i]);
    }
    if (_mm512_cmp_ps_mask(top, _mm512_set1_ps(a->max[r]), _CMP_GT_OQ) != 0) raise_max(a, r, top);
    const __m512 max = _mm512_set1_ps(a->max[r]);
    __m512 sum = _mm512_loadu_ps(sum_at);
    for (int i = 0; i < PIECE_VECTORS; i += 2) {
        const __m512i w =
            bf16_of(weights_of(_mm512_sub_ps(s[i], max)), weights_of(_mm512_sub_ps(s[i + 1], max)));
        _mm512_storeu_si512(weights + (size_t)i * 16, w);
        sum = add_weights(sum, w);
    }
    _mm512_storeu_ps(sum_at, sum);
}

INLINE void soften_rows(const bf16_softmax *a) {
    static const __mmask16 whole[PIECE_VECTORS] = {0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF};
    for (uint32_t r = 0; r < a->rows; r++) {
        const bf16_range seen = a->seen[r];
        if (seen.begin == 0 && seen.end == BF16_POSITIONS) {
            soften_row(a, r, whole);
            continue;
        }
        __mmask16 within[PIECE_VECTORS];
        for (uint32_t i = 0; i < PIECE_VECTORS; i++) within[i] = lanes_within(i * 16, seen);
        soften_row(a, r, within);
    }
}

#undef INLINE
#endif
#endif
