/* cpu_digits_neon.c - activations as two digits of base 255, with NEON. */
#include "backend/cpu/cpu_packs_neon.h"

#if defined(__aarch64__)

#include <arm_neon.h>

enum { LARGEST = 32512, LANES = 4, EIGHTHS = PACK_BLOCK / LANES }; /* 255 * 127 + 127 */

/* The largest magnitude; a NaN is never the larger. */
static float max_magnitude(const float32x4_t v[EIGHTHS]) {
    float32x4_t max = vdupq_n_f32(0);
    for (int i = 0; i < EIGHTHS; i++) {
        float32x4_t magnitude = vabsq_f32(v[i]);
        max = vbslq_f32(vcgtq_f32(magnitude, max), magnitude, max);
    }
    return vmaxvq_f32(max);
}

/* x * inverse to the nearest integer, ties to even; a NaN becomes the lowest. */
INLINE int32x4_t to_integers(float32x4_t x, float inverse) {
    float32x4_t v = vmulq_n_f32(x, inverse);
    v = vmaxnmq_f32(v, vdupq_n_f32(-(float)LARGEST));
    return vcvtnq_s32_f32(vminq_f32(v, vdupq_n_f32((float)LARGEST)));
}

/* q / 255 to the nearest.  The remainder is at most 127 / 255 = 0.498, further from a half than
 * the error of the float product. */
INLINE int32x4_t high_digit(int32x4_t q) {
    return vcvtnq_s32_f32(vmulq_n_f32(vcvtq_f32_s32(q), 1.0f / 255));
}

INLINE int8x16_t to_bytes(const int32x4_t v[4]) {
    int16x8_t low = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]));
    int16x8_t high = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}

/* Columns 16 * half ..; v holds their four registers. */
static void digits_of_half(const float32x4_t v[4], float inverse, int half, act_block *out) {
    int32x4_t high[4], low[4];
    for (int i = 0; i < 4; i++) {
        const int32x4_t q = to_integers(v[i], inverse);
        high[i] = high_digit(q);
        low[i] = vmlsq_n_s32(q, high[i], 255);
    }
    const int8x16_t hi = to_bytes(high), lo = to_bytes(low);
    vst1q_s8(out->hi + (size_t)half * 16, hi);
    vst1q_s8(out->lo + (size_t)half * 16, lo);
    out->count_hi[half] = vaddlvq_s8(hi);
    out->count_lo[half] = vaddlvq_s8(lo);
}

static void scale_counts(float scale, act_block *out) {
    const int32_t *hi = out->count_hi, *lo = out->count_lo;
    const int32_t count_hi[3] = {hi[0], hi[1], hi[0] + hi[1]};
    const int32_t count_lo[3] = {lo[0], lo[1], lo[0] + lo[1]};
    out->scale = scale;
    out->scale_hi = 255.0f * scale;
    for (int i = 0; i < 3; i++) {
        out->sum[i] = (float)(255 * count_hi[i] + count_lo[i]) * scale;
        out->sum_hi[i] = (float)count_hi[i] * out->scale_hi;
    }
    out->unused_hi = out->unused_lo[0] = out->unused_lo[1] = out->unused_lo[2] = 0;
}

void cpu_digits_neon(const float *x, act_block *out, uint32_t cols) {
    for (uint32_t b = 0; b < cols / PACK_BLOCK; b++, x += PACK_BLOCK, out++) {
        float32x4_t v[EIGHTHS];
        for (int i = 0; i < EIGHTHS; i++) v[i] = vld1q_f32(x + (size_t)i * LANES);
        float max = max_magnitude(v);
        if (max < 0x1p-100f) max = 0; /* 32512 / max must not overflow */
        const float inverse = max > 0 ? (float)LARGEST / max : 0;
        digits_of_half(v, inverse, 0, out);
        digits_of_half(v + EIGHTHS / 2, inverse, 1, out);
        scale_counts(max / (float)LARGEST, out);
    }
}
#else
typedef int cpu_digits_neon_is_for_arm_only; /* a translation unit holds a declaration */
#endif
