/* cpu_packs_neon.c - packed weights with the dot products of ARMv8.2: `sdot` adds, in each of four
 * lanes, four products of signed bytes to an int32.
 *
 * Codes up to 127 are signed bytes as they are.  Wider ones lose 128 on the way in, and the sum
 * gets 128 times the sum of the digits back. */
#include "backend/cpu/cpu_kernels.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <sys/auxv.h>

#include "backend/cpu/cpu_packs_neon.h"

enum {
    TILE_ROWS_MAX = 4,  /* rows of activations that share a load of codes */
    QUARTER_VECTORS = 4 /* u-vectors that a register of digits is for */
};

/* What is constant in one compiled tile. */
typedef struct tile_shape {
    int rows; /* 1 .. TILE_ROWS_MAX */
    int subs; /* 1 or 2 */
    bool wide, fast;
} tile_shape;

/* Sums of one row of activations. */
typedef struct row_sums {
    int32x4_t hi[QUADS], lo[QUADS];
} row_sums;

/* acc += codes times the four digits of x that belong to vector v. */
INLINE int32x4_t dot_of(int32x4_t acc, int8x16_t codes, int8x16_t x, int v) {
    switch (v) {
    case 0:
        return vdotq_laneq_s32(acc, codes, x, 0);
    case 1:
        return vdotq_laneq_s32(acc, codes, x, 1);
    case 2:
        return vdotq_laneq_s32(acc, codes, x, 2);
    default:
        return vdotq_laneq_s32(acc, codes, x, 3);
    }
}

INLINE int8x16_t codes_at(const uint8_t *codes, bool wide) {
    uint8x16_t c = vld1q_u8(codes);
    return vreinterpretq_s8_u8(wide ? veorq_u8(c, vdupq_n_u8(128)) : c);
}

/* Columns 16 * half .. of a block, all rows of the tile. */
INLINE void dot_half(const tile_shape s, const uint8_t *codes, const act_block *const *x, int half,
                     row_sums *n) {
    int8x16_t hi[TILE_ROWS_MAX], lo[TILE_ROWS_MAX];
    for (int r = 0; r < s.rows; r++) {
        hi[r] = vld1q_s8(x[r]->hi + (size_t)half * 16);
        if (!s.fast) lo[r] = vld1q_s8(x[r]->lo + (size_t)half * 16);
    }
    codes += (size_t)half * (PACK_BLOCK_CODES / 2);
#pragma GCC unroll 4
    for (int v = 0; v < QUARTER_VECTORS; v++) {
        for (int q = 0; q < QUADS; q++) {
            const int8x16_t c = codes_at(codes + (size_t)(v * QUADS + q) * QUAD_BYTES, s.wide);
            for (int r = 0; r < s.rows; r++) {
                n[r].hi[q] = dot_of(n[r].hi[q], c, hi[r], v);
                if (!s.fast) n[r].lo[q] = dot_of(n[r].lo[q], c, lo[r], v);
            }
        }
    }
}

/* What the codes' missing 128 amount to in sub-block sub, or in all (2). */
INLINE int32_t missing(const act_block *x, int sub, bool fast) {
    const int32_t *hi = x->count_hi, *lo = x->count_lo;
    const int32_t high = sub == 2 ? hi[0] + hi[1] : hi[sub];
    const int32_t low = sub == 2 ? lo[0] + lo[1] : lo[sub];
    return 128 * (fast ? high : 255 * high + low);
}

/* acc = fma(n, scale * x.scale, acc); acc = fma(-offset, x.sum, acc), for all lanes of a row. */
INLINE void settle(const tile_shape s, const float *scales, const float *offsets, int sub,
                   const act_block *x, const row_sums *n, float *acc) {
    const int sum = s.subs == 2 ? sub : 2;
    const float32x4_t x_scale = vdupq_n_f32(s.fast ? x->scale_hi : x->scale);
    const float32x4_t x_sum = vdupq_n_f32(s.fast ? x->sum_hi[sum] : x->sum[sum]);
    for (int q = 0; q < QUADS; q++) {
        const size_t at = (size_t)q * QUAD_ROWS;
        int32x4_t total = s.fast ? n->hi[q] : vmlaq_n_s32(n->lo[q], n->hi[q], 255);
        if (s.wide) total = vaddq_s32(total, vdupq_n_s32(missing(x, sum, s.fast)));
        const float32x4_t scale = vmulq_f32(vld1q_f32(scales + at), x_scale);
        float32x4_t y = vfmaq_f32(vld1q_f32(acc + at), vcvtq_f32_s32(total), scale);
        vst1q_f32(acc + at, vfmsq_f32(y, vld1q_f32(offsets + at), x_sum));
    }
}

/* All blocks of the panel with s.rows rows from `row` on. */
INLINE void tile(const dots_args *a, uint32_t row, const tile_shape s) {
    const uint8_t *codes = a->panel->codes;
    const float *scales = a->panel->scales, *offsets = a->panel->offsets;
    float *acc = a->acc + (size_t)row * PACK_ROWS;
    for (uint32_t b = 0; b < a->blocks; b++, codes += PACK_BLOCK_CODES) {
        const act_block *x[TILE_ROWS_MAX];
        for (int r = 0; r < s.rows; r++) x[r] = a->x + (row + (size_t)r) * a->row_blocks + b;
        for (int sub = 0; sub < s.subs; sub++) {
            row_sums n[TILE_ROWS_MAX];
            for (int r = 0; r < s.rows; r++)
                for (int q = 0; q < QUADS; q++) n[r].hi[q] = n[r].lo[q] = vdupq_n_s32(0);
            dot_half(s, codes, x, sub, n);
            if (s.subs == 1) dot_half(s, codes, x, 1, n);
            for (int r = 0; r < s.rows; r++)
                settle(s, scales, offsets, sub, x[r], &n[r], acc + (size_t)r * PACK_ROWS);
            scales += PACK_ROWS, offsets += PACK_ROWS;
        }
    }
}

/* All rows: tiles of s.rows as long as they fit, then single ones. */
INLINE void in_tiles(const dots_args *a, tile_shape s) {
    const tile_shape one = {1, s.subs, s.wide, s.fast};
    const uint32_t most = (uint32_t)s.rows;
    uint32_t row = 0;
    for (; row + most <= a->rows; row += most) tile(a, row, s);
    for (; row < a->rows; row++) tile(a, row, one);
}

/* Sixteen registers of sums, eight for codes and digits: 4 rows of one digit, 2 of two. */
static void dots_narrow(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 1, false, true});
    else
        in_tiles(a, (tile_shape){2, 1, false, false});
}

static void dots_wide(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 1, true, true});
    else
        in_tiles(a, (tile_shape){2, 1, true, false});
}

static void halves_narrow(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 2, false, true});
    else
        in_tiles(a, (tile_shape){2, 2, false, false});
}

static void halves_wide(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 2, true, true});
    else
        in_tiles(a, (tile_shape){2, 2, true, false});
}

static void dots(const dots_args *a) {
    const bool wide = a->panel->code_max == 0 || a->panel->code_max > 127;
    if (a->panel->subs == 2)
        wide ? halves_wide(a) : halves_narrow(a);
    else
        wide ? dots_wide(a) : dots_narrow(a);
}

void cpu_packs_neon(cpu_kernels *k) {
    const unsigned long has_dot_products = 1UL << 20; /* HWCAP_ASIMDDP of asm/hwcap.h */
    k->expand = cpu_expand_neon;
    k->digits = cpu_digits_neon;
    if ((getauxval(AT_HWCAP) & has_dot_products) != 0) k->dots = dots;
}
#else
typedef int cpu_packs_neon_is_for_arm_only; /* a translation unit holds a declaration */
#endif
