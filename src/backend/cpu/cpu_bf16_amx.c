/* cpu_bf16_amx.c - cpu_bf16.h with AMX-BF16.  Built with its flags only; chosen at run time.
 *
 * Four accumulator tiles hold 2 x 16 activation rows by 2 groups of weight rows; a turn takes 32
 * columns: two tiles of activations (16 rows x 64 bytes, as they lie), two of the panel (16 pairs
 * of columns x 16 rows), four products.  Fewer rows have lower tiles, not wasted ones.
 * (Intel SDM vol. 1, ch. 18) */
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/cpu_bf16.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    PAIRS_BYTES = PACK_ROWS * 2 * 2, /* one pair of columns of a group */
    TILE_PAIRS = 16,
    PAIR_LANES = 2 * PACK_ROWS /* of two groups */
};

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
INLINE void multiply_low(const bf16_args *a, const uint16_t *w, bool both, float *out,
                         size_t stride) {
    const size_t group = (size_t)a->cols * PACK_ROWS, out_bytes = stride * sizeof *out;
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
INLINE void multiply_high(const bf16_args *a, const uint16_t *w, bool both, float *out,
                          size_t stride) {
    const size_t group = (size_t)a->cols * PACK_ROWS, out_bytes = stride * sizeof *out;
    const uint16_t *x1 = a->x + 16 * a->x_stride;
    float *out1 = out + 16 * stride;
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

static void add_sums(const float (*sums)[PAIR_LANES], const bf16_args *a, bool both, float *to) {
    for (uint32_t r = 0; r < a->rows; r++, to += a->out_stride)
        for (uint32_t j = 0; j < (both ? PAIR_LANES : PACK_ROWS); j += PACK_ROWS)
            _mm512_storeu_ps(to + j,
                             _mm512_add_ps(_mm512_loadu_ps(to + j), _mm512_loadu_ps(sums[r] + j)));
}

static void multiply(const bf16_args *a) {
    float sums[BF16_ROWS][PAIR_LANES]; /* of two groups, on their way to what is there */
    const size_t group = (size_t)a->cols * PACK_ROWS;
    configure(a->rows < 16 ? a->rows : 16, a->rows > 16 ? a->rows - 16 : 0);
    for (uint32_t g = 0; g < a->groups; g += 2) {
        const uint16_t *w = a->panel + g * group;
        const bool both = g + 1 < a->groups;
        float *to = a->out + (size_t)g * PACK_ROWS, *out = a->add ? sums[0] : to;
        const size_t stride = a->add ? sizeof sums[0] / sizeof sums[0][0] : a->out_stride;
        if (a->rows > 16)
            multiply_high(a, w, both, out, stride);
        else
            multiply_low(a, w, both, out, stride);
        if (a->add) add_sums(sums, a, both, to);
    }
    _tile_release();
}

#if defined(GANTRY_TILES_IN_SOFTWARE)
#define cpu_bf16_amx cpu_bf16_model
#endif
const bf16_kernels cpu_bf16_amx = {.takes_packed = true,
                                   .round = cpu_bf16_round,
                                   .from_codes = cpu_bf16_from_codes,
                                   .from_rows = cpu_bf16_from_rows,
                                   .from_values = cpu_bf16_from_values,
                                   .soften = cpu_bf16_soften,
                                   .multiply = multiply};
#undef cpu_bf16_amx
#endif
