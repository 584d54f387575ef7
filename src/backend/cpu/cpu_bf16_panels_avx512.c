/* cpu_bf16_panels_avx512.c - numbers as bf16, and panels of them (cpu_bf16.h): what comes before
 * the products of either unit. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/cpu_bf16.h"
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

/* Nearest bf16 in the high half of every lane, ties to even, and something below it; a NaN stays
 * one. */
INLINE __m512i bf16_high(__m512 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_mov_epi32(_mm512_add_epi32(bits, bias), nan, _mm512_set1_epi32(0x7FC00000));
}

INLINE __m512i bf16_low(__m512 v) { return _mm512_srli_epi32(bf16_high(v), 16); }

void cpu_bf16_round(const float *x, uint16_t *out, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c += 16) {
        const __m512i bits = bf16_low(_mm512_loadu_ps(x + c));
        _mm256_storeu_si256((__m256i *)(out + c), _mm512_cvtepi32_epi16(bits));
    }
}

/* --- panels of codes -------------------- */

/* Columns k and k + 1 of 16 rows, side by side for each row. */
INLINE __m512i pair_of(__m512 even, __m512 odd) {
    const __mmask32 highs = 0xAAAAAAAA;
    return _mm512_mask_mov_epi16(bf16_low(even), highs, bf16_high(odd));
}

INLINE void store_pair(__m512 even, __m512 odd, uint16_t *out) {
    _mm512_storeu_si512(out, pair_of(even, odd));
}

/* Byte i of every lane as scale * code - offset. */
INLINE __m512 weight_of(__m512i codes, int i, __m512 scale, __m512 offset) {
    const __m512i code =
        _mm512_and_si512(_mm512_srli_epi32(codes, (unsigned)(8 * i)), _mm512_set1_epi32(255));
    return _mm512_fmsub_ps(scale, _mm512_cvtepi32_ps(code), offset);
}

void cpu_bf16_from_codes(const pack_panel *p, uint32_t blocks, uint16_t *panel) {
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

/* The high halves of 32 lanes of two vectors. */
static const uint16_t odds[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                  33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

/* Sixteen pairs of columns of a row. */
INLINE __m512i pairs_of(dtype type, const char *row) {
    if (type == DTYPE_BF16) return _mm512_loadu_si512(row);
    const __m512 low = lanes_of(type, row), high = lanes_of(type, row + 16 * elem_bytes(type));
    const __m512i odd = _mm512_loadu_si512(odds);
    return _mm512_permutex2var_epi16(bf16_high(low), odd, bf16_high(high));
}

INLINE void panel_of(dtype type, const char *rows, uint32_t count, uint32_t cols, uint16_t *panel) {
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

void cpu_bf16_from_rows(dtype type, const void *rows, uint32_t count, uint32_t cols,
                        uint16_t *panel) {
    if (type == DTYPE_BF16)
        panel_of(DTYPE_BF16, rows, count, cols, panel);
    else if (type == DTYPE_F32)
        panel_of(DTYPE_F32, rows, count, cols, panel);
    else
        panel_of(DTYPE_F16, rows, count, cols, panel);
}

/* --- attention: values and probabilities -------------------- */

/* Rows t and t + 1, column by column: nothing to transpose, for a pair is of rows. */
INLINE bool panel_of_values(dtype type, const bf16_values *v) {
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

bool cpu_bf16_from_values(const bf16_values *v) {
    return v->type == DTYPE_F32 ? panel_of_values(DTYPE_F32, v) : panel_of_values(DTYPE_F16, v);
}

/* Lanes of the sixteen from t on that are in [begin, end). */
INLINE __mmask16 lanes_within(uint32_t t, uint32_t begin, uint32_t end) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_add_epi32(lane, _mm512_set1_epi32((int)t));
    return _mm512_cmpge_epu32_mask(at, _mm512_set1_epi32((int)begin)) &
           _mm512_cmplt_epu32_mask(at, _mm512_set1_epi32((int)end));
}

float cpu_bf16_weigh(const float *p, uint32_t begin, uint32_t end, uint32_t n, uint16_t *out) {
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t t = 0; t < n; t += 16) {
        const __m512 x = _mm512_maskz_loadu_ps(lanes_within(t, begin, end), p + t);
        const __m512i bits = bf16_low(x);
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
        _mm256_storeu_si256((__m256i *)(out + t), _mm512_cvtepi32_epi16(bits));
    }
    return _mm512_reduce_add_ps(sum);
}
#endif
