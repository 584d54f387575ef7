/* cpu_dots_avx2.h - the products of codes with rows of digits, eight weight rows to a register.
 * Codes are those of a panel, or unpacked on the way: a panel's blocks are planes of bytes.
 *
 * Narrow codes (up to 63) stay bytes.  vpmaddubsw adds two products of a u8 code and an s8 digit to
 * an int16, which is exact as long as the sums stay below 2^15: 8 of them for codes up to 15, 4 up
 * to 31, 2 up to 63 (8 * 2 * 15 * 127 = 30480 and so on).  Then one vpmaddwd carries the pairs
 * over to int32, times 255 for the high digits on the way.
 *
 * Wide codes would overflow at the first addition.  They become int16, even columns and odd ones,
 * and so do the activations, 255 * hi + lo: then vpmaddwd is exact, and both digits cost as much
 * as one. */
#ifndef BACKEND_CPU_CPU_DOTS_AVX2_H
#define BACKEND_CPU_CPU_DOTS_AVX2_H
#if defined(__AVX2__)

#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_unpack_avx2.h"

enum {
    TILE_ROWS_MAX = 4, /* rows of activations that share a load of codes */
    HALVES = PACK_ROWS / LANES
};

/* What is constant in one compiled tile. */
typedef struct tile_shape {
    int rows; /* 1 .. TILE_ROWS_MAX */
    int subs; /* 1 or 2 */
    int span; /* vectors whose products are added in int16; 0: wide codes */
    bool fast;
    plane_set set; /* of the codes */
} tile_shape;

/* The codes of a block. */
typedef struct block_codes {
    const uint8_t *planes;
    __m256i table; /* of nibbles that are looked up */
} block_codes;

INLINE __m256i four_everywhere(const void *bytes) {
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return _mm256_set1_epi32(four);
}

/* This sum is made now: a tree of sums, which compilers prefer, would need more registers than
 * there are. */
INLINE __m256i now(__m256i sum) {
    __asm__("" : "+x"(sum));
    return sum;
}

/* acc = fma(n, scale * x.scale, acc); acc = fma(-offset, x.sum, acc), for both halves of a row. */
INLINE void settle(const tile_shape s, row_floats scale, row_floats offset, int sub,
                   const act_block *x, const __m256i n[HALVES], float *acc) {
    const int sum = s.subs == 2 ? sub : 2;
    __m256 x_scale = _mm256_set1_ps(s.fast ? x->scale_hi : x->scale);
    __m256 x_sum = _mm256_set1_ps(s.fast ? x->sum_hi[sum] : x->sum[sum]);
    for (int h = 0; h < HALVES; h++) {
        const size_t at = (size_t)h * LANES;
        __m256 y = _mm256_loadu_ps(acc + at);
        y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(n[h]), _mm256_mul_ps(scale.half[h], x_scale), y);
        y = _mm256_fnmadd_ps(offset.half[h], x_sum, y);
        _mm256_storeu_ps(acc + at, y);
    }
}

/* --- narrow codes -------------------- */

/* n += the products with vectors v .. v + span - 1. */
INLINE void narrow_span(const tile_shape s, block_codes codes, const act_block *const *x, int v,
                        __m256i n[][HALVES]) {
    const __m256i one = _mm256_set1_epi16(1), base = _mm256_set1_epi16(255);
    __m256i high[TILE_ROWS_MAX][HALVES], low[TILE_ROWS_MAX][HALVES];
    for (int r = 0; r < s.rows; r++)
        for (int h = 0; h < HALVES; h++) high[r][h] = low[r][h] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int i = 0; i < s.span; i++) {
        __m256i c[HALVES];
        for (int h = 0; h < HALVES; h++) c[h] = code_of(s.set, codes.planes, codes.table, v + i, h);
        for (int r = 0; r < s.rows; r++) {
            __m256i d = four_everywhere(x[r]->hi + (size_t)(v + i) * 4);
            for (int h = 0; h < HALVES; h++) {
                __m256i p = _mm256_maddubs_epi16(c[h], d);
                high[r][h] = now(_mm256_add_epi16(high[r][h], p));
            }
            if (s.fast) continue;
            d = four_everywhere(x[r]->lo + (size_t)(v + i) * 4);
            for (int h = 0; h < HALVES; h++) {
                __m256i p = _mm256_maddubs_epi16(c[h], d);
                low[r][h] = now(_mm256_add_epi16(low[r][h], p));
            }
        }
    }
    for (int r = 0; r < s.rows; r++) {
        for (int h = 0; h < HALVES; h++) {
            __m256i sum = _mm256_madd_epi16(high[r][h], s.fast ? one : base);
            if (!s.fast) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low[r][h], one));
            n[r][h] = _mm256_add_epi32(n[r][h], sum);
        }
    }
}

/* --- wide codes -------------------- */

/* The activations of a block as int16: dword i of [0] holds columns 4i and 4i + 2, of [1] columns
 * 4i + 1 and 4i + 3. */
typedef struct wide_act {
    int16_t q[2][PACK_BLOCK / 2];
} wide_act;

INLINE void widen(const act_block *x, bool fast, wide_act *out) {
    __m256i hi = _mm256_loadu_si256((const __m256i *)x->hi);
    __m256i hi_even = _mm256_srai_epi16(_mm256_slli_epi16(hi, 8), 8);
    __m256i hi_odd = _mm256_srai_epi16(hi, 8);
    if (!fast) {
        const __m256i base = _mm256_set1_epi16(255);
        __m256i lo = _mm256_loadu_si256((const __m256i *)x->lo);
        __m256i lo_even = _mm256_srai_epi16(_mm256_slli_epi16(lo, 8), 8);
        hi_even = _mm256_add_epi16(_mm256_mullo_epi16(hi_even, base), lo_even);
        hi_odd = _mm256_add_epi16(_mm256_mullo_epi16(hi_odd, base), _mm256_srai_epi16(lo, 8));
    }
    _mm256_storeu_si256((__m256i *)out->q[0], hi_even);
    _mm256_storeu_si256((__m256i *)out->q[1], hi_odd);
}

/* n += the products with vector v. */
INLINE void wide_vector(const tile_shape s, block_codes codes, const wide_act *x, int v,
                        __m256i n[][HALVES]) {
    __m256i even[HALVES], odd[HALVES];
    for (int h = 0; h < HALVES; h++) {
        __m256i c = code_of(s.set, codes.planes, codes.table, v, h);
        even[h] = _mm256_and_si256(c, _mm256_set1_epi16(255));
        odd[h] = _mm256_srli_epi16(c, 8);
    }
    for (int r = 0; r < s.rows; r++) {
        __m256i q0 = four_everywhere(x[r].q[0] + (size_t)v * 2);
        __m256i q1 = four_everywhere(x[r].q[1] + (size_t)v * 2);
        for (int h = 0; h < HALVES; h++) {
            n[r][h] = now(_mm256_add_epi32(n[r][h], _mm256_madd_epi16(even[h], q0)));
            n[r][h] = now(_mm256_add_epi32(n[r][h], _mm256_madd_epi16(odd[h], q1)));
        }
    }
}

/* --- tiles -------------------- */

/* n = the sums of part `sub` of a block; the activations as `wide` where codes are. */
INLINE void multiply_part(const tile_shape s, block_codes codes, int sub, const act_block *const *x,
                          const wide_act *wide, __m256i n[][HALVES]) {
    const int vectors = PACK_VECTORS / s.subs, v0 = sub * vectors;
    for (int r = 0; r < s.rows; r++) n[r][0] = n[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int v = 0; v<vectors; v += s.span> 0 ? s.span : 1) {
        if (s.span > 0)
            narrow_span(s, codes, x, v0 + v, n);
        else
            wide_vector(s, codes, wide, v0 + v, n);
    }
}

INLINE row_floats floats_at(const float *p) {
    return (row_floats){{_mm256_loadu_ps(p), _mm256_loadu_ps(p + LANES)}};
}

/* All blocks of the panel with s.rows rows from `row` on. */
INLINE void tile(const dots_args *a, uint32_t row, const tile_shape s) {
    const uint32_t blocks = a->blocks;
    const float *scales = a->panel->scales, *offsets = a->panel->offsets;
    float *acc = a->acc + (size_t)row * PACK_ROWS;
    block_codes codes = {.planes = a->panel->codes, .table = _mm256_setzero_si256()};
    for (uint32_t b = 0; b < blocks; b++, codes.planes += PACK_BLOCK_CODES) {
        const act_block *x[TILE_ROWS_MAX];
        wide_act wide[TILE_ROWS_MAX];
        for (int r = 0; r < s.rows; r++) {
            x[r] = a->x + (row + (size_t)r) * a->row_blocks + b;
            if (s.span == 0) widen(x[r], s.fast, &wide[r]);
        }
        for (int sub = 0; sub < s.subs; sub++) {
            __m256i n[TILE_ROWS_MAX][HALVES];
            multiply_part(s, codes, sub, x, wide, n);
            for (int r = 0; r < s.rows; r++)
                settle(s, floats_at(scales), floats_at(offsets), sub, x[r], n[r],
                       acc + (size_t)r * PACK_ROWS);
            scales += PACK_ROWS, offsets += PACK_ROWS;
        }
    }
}

#endif
#endif
