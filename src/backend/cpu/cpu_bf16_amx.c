/* cpu_bf16_amx.c - cpu_bf16.h with AMX-BF16.  Built with its flags only; chosen at run time.
 *
 * Four accumulator tiles hold 2 x 16 activation rows by 2 groups of weight rows; a turn takes 32
 * columns: two tiles of activations (16 rows x 64 bytes, as they lie), two of the panel (16 pairs
 * of columns x 16 rows), four products.  Fewer rows have lower tiles, not wasted ones.
 * (Intel SDM vol. 1, ch. 18) */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/cpu_bf16.h"

#define INLINE static inline __attribute__((always_inline))

enum { PAIRS_BYTES = PACK_ROWS * 2 * 2, /* one pair of columns of a group */ TILE_PAIRS = 16 };

/* --- rounding -------------------- */

/* Nearest bf16 in the low half of every lane, ties to even; a NaN stays one. */
INLINE __m512i bf16_bits(__m512 v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    return _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC0));
}

static void round_row(const float *x, uint16_t *out, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c += 16) {
        const __m512i bits = bf16_bits(_mm512_loadu_ps(x + c));
        _mm256_storeu_si256((__m256i *)(out + c), _mm512_cvtepi32_epi16(bits));
    }
}

/* Columns k and k + 1 of 16 rows, side by side for each row. */
INLINE void store_pair(__m512 even, __m512 odd, uint16_t *out) {
    const __m512i high = _mm512_slli_epi32(bf16_bits(odd), 16);
    _mm512_storeu_si512(out, _mm512_or_si512(bf16_bits(even), high));
}

/* --- panels -------------------- */

/* Byte i of every lane as scale * code - offset. */
INLINE __m512 weight_of(__m512i codes, int i, __m512 scale, __m512 offset) {
    const __m512i code =
        _mm512_and_si512(_mm512_srli_epi32(codes, (unsigned)(8 * i)), _mm512_set1_epi32(255));
    return _mm512_fmsub_ps(scale, _mm512_cvtepi32_ps(code), offset);
}

static void from_codes(const pack_panel *p, uint32_t blocks, uint16_t *panel) {
    const uint8_t *codes = p->codes;
    for (uint32_t b = 0; b < blocks; b++) {
        for (uint32_t v = 0; v < PACK_VECTORS; v++, codes += 64, panel += 2 * PAIRS_BYTES / 2) {
            const size_t at = ((size_t)b * p->subs + v * p->subs / PACK_VECTORS) * PACK_ROWS;
            const __m512 scale = _mm512_loadu_ps(p->scales + at);
            const __m512 offset = _mm512_loadu_ps(p->offsets + at);
            const __m512i c = _mm512_loadu_si512(codes);
            store_pair(weight_of(c, 0, scale, offset), weight_of(c, 1, scale, offset), panel);
            store_pair(weight_of(c, 2, scale, offset), weight_of(c, 3, scale, offset),
                       panel + PAIRS_BYTES / 2);
        }
    }
}

static void from_rows(const float *rows, size_t stride, uint32_t cols, uint16_t *panel) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int)stride));
    for (uint32_t c = 0; c < cols; c += 2, panel += PAIRS_BYTES / 2)
        store_pair(_mm512_i32gather_ps(at, rows + c, 4), _mm512_i32gather_ps(at, rows + c + 1, 4),
                   panel);
}

/* --- products -------------------- */

/* Tiles 0..3 accumulate, 4 and 5 are activations, 6 and 7 weights. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static void configure(uint32_t upper, uint32_t lower) {
    tile_config c = {.palette = 1};
    const uint32_t rows[8] = {upper, upper, lower, lower, upper, lower, TILE_PAIRS, TILE_PAIRS};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = (uint8_t)rows[i];
    }
    if (lower == 0) /* a tile of no rows is no tile: these are not used */
        c.row_bytes[2] = c.row_bytes[3] = c.row_bytes[5] = 0;
    __asm__ volatile("" ::"r"(&c) : "memory"); /* gcc believes that 8 bytes of it are read */
    _tile_loadconfig(&c);
}

/* Up to 16 rows against two groups (`both`) or one. */
INLINE void multiply_low(const bf16_args *a, const uint16_t *w, bool both, float *out) {
    const size_t group = (size_t)a->cols * PACK_ROWS, out_bytes = (size_t)a->groups * PACK_ROWS * 4;
    _tile_zero(0);
    _tile_zero(1);
    for (uint32_t c = 0; c < a->cols; c += BF16_COLS) {
        _tile_loadd(4, a->x + c, a->x_stride * 2);
        _tile_loadd(6, w + (size_t)c * PACK_ROWS, PAIRS_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (!both) continue;
        _tile_loadd(7, w + group + (size_t)c * PACK_ROWS, PAIRS_BYTES);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, out, out_bytes);
    if (both) _tile_stored(1, out + PACK_ROWS, out_bytes);
}

/* 17 to 32 rows. */
INLINE void multiply_high(const bf16_args *a, const uint16_t *w, bool both, float *out) {
    const size_t group = (size_t)a->cols * PACK_ROWS, out_bytes = (size_t)a->groups * PACK_ROWS * 4;
    const uint16_t *x1 = a->x + 16 * a->x_stride;
    float *out1 = out + (size_t)16 * a->groups * PACK_ROWS;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t c = 0; c < a->cols; c += BF16_COLS) {
        _tile_loadd(4, a->x + c, a->x_stride * 2);
        _tile_loadd(5, x1 + c, a->x_stride * 2);
        _tile_loadd(6, w + (size_t)c * PACK_ROWS, PAIRS_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        if (!both) continue;
        _tile_loadd(7, w + group + (size_t)c * PACK_ROWS, PAIRS_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, out_bytes);
    _tile_stored(2, out1, out_bytes);
    if (!both) return;
    _tile_stored(1, out + PACK_ROWS, out_bytes);
    _tile_stored(3, out1 + PACK_ROWS, out_bytes);
}

static void multiply(const bf16_args *a) {
    const size_t group = (size_t)a->cols * PACK_ROWS;
    configure(a->rows < 16 ? a->rows : 16, a->rows > 16 ? a->rows - 16 : 0);
    for (uint32_t g = 0; g < a->groups; g += 2) {
        const uint16_t *w = a->panel + g * group;
        float *out = a->out + (size_t)g * PACK_ROWS;
        if (a->rows > 16)
            multiply_high(a, w, g + 1 < a->groups, out);
        else
            multiply_low(a, w, g + 1 < a->groups, out);
    }
    _tile_release();
}

#if defined(GANTRY_TILES_IN_SOFTWARE)
const bf16_kernels cpu_bf16_model = {round_row, from_codes, from_rows, multiply};
#else
const bf16_kernels cpu_bf16_amx = {round_row, from_codes, from_rows, multiply};
#endif
#endif
