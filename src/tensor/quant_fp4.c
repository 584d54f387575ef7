/* quant_fp4.c - four-bit floats with an eight-bit float scale: MXFP4, NVFP4.
 *
 * A code is a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6.  All scales around the one that fits
 * the largest element are tried.
 * Source: OCP Microscaling Formats 1.0 (E2M1, E8M0); NVFP4's scales are UE4M3. */
#include "tensor/quant_fit.h"

enum {
    VALUES = 8,
    MX_BLOCK = 32,
    MXFP4_BYTES = 1 + MX_BLOCK / 2,
    NV_BLOCK = 64,
    NV_GROUP = 16,
    NV_GROUPS = NV_BLOCK / NV_GROUP,
    NVFP4_BYTES = NV_GROUPS + NV_BLOCK / 2,
    E8M0_BIAS = 127,
    E8M0_MAX = 254,  /* 255 is no number */
    UE4M3_MAX = 126, /* likewise 127 */
};

static const float values[VALUES] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};

/* Magnitudes first: every border that is passed adds the distance to the next value. */
static inline lanes snap_e2m1(lanes v) {
    const lane_masks sign = (lane_masks)v & (lane_masks)lanes_all(-0.0f);
    const lanes magnitude = (lanes)((lane_masks)v ^ sign);
    lanes out = {0};
    for (uint32_t k = 0; k + 1 < VALUES; k++) {
        const lane_masks passed = magnitude > lanes_all((values[k] + values[k + 1]) * 0.5f);
        out += (lanes)((lane_masks)lanes_all(values[k + 1] - values[k]) & passed);
    }
    return (lanes)((lane_masks)out | sign);
}

static uint32_t code_of(float value) {
    uint32_t k = 0;
    while (k + 1 < VALUES && values[k] < fabsf(value)) k++;
    return value < 0.0f ? k | 8u : k;
}

/* q [n] values; byte k has element k below and k + n / 2 above. */
static void put_codes(const float *q, uint32_t n, uint8_t *at) {
    for (uint32_t k = 0; k < n / 2; k++)
        at[k] = (uint8_t)(code_of(q[k]) | code_of(q[k + n / 2]) << 4);
}

static float e8m0(uint32_t e) { return ldexpf(1.0f, (int)e - E8M0_BIAS); }

/* Exponent bits with bias 7 over three bits of mantissa; the lowest exponent is subnormal. */
static float ue4m3(uint32_t e) {
    const uint32_t exponent = e >> 3, mantissa = e & 7u;
    return exponent == 0 ? (float)mantissa * 0x1p-9f
                         : ldexpf((float)(8 + mantissa), (int)exponent - 10);
}

typedef float (*scale_of)(uint32_t code);

/* The code first .. last of the scale with the least error; ties go to the first. */
QUANT_EXPAND uint32_t best_scale(const float *x, const float *w, uint32_t n, float unit,
                                 uint32_t first, uint32_t last, scale_of of) {
    uint32_t best = first;
    float least = INFINITY;
    for (uint32_t e = first; e <= last; e++) {
        const float error = fit_scale_error(x, w, n, of(e) / unit, snap_e2m1);
        if (!(error < least)) continue;
        least = error;
        best = e;
    }
    return best;
}

static uint32_t clamp_code(int code, int max) {
    return (uint32_t)(code < 0 ? 0 : code > max ? max : code);
}

/* scale, codes */
void quant_mxfp4(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    quant_block b;
    float q[MX_BLOCK];
    for (uint32_t i = 0; i < elems; i += MX_BLOCK, row += MXFP4_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), MX_BLOCK);
        /* 1 .. 2 in units of the block is 4 .. 8 with a quarter of it: just past the largest */
        const int fit = E8M0_BIAS - 2 + ilogbf(b.unit);
        const uint32_t first = clamp_code(fit - 2, E8M0_MAX), last = clamp_code(fit + 1, E8M0_MAX);
        const uint32_t e = best_scale(b.x, b.w, MX_BLOCK, b.unit, first, last, e8m0);
        row[0] = (uint8_t)(b.amax > 0.0f ? e : 0);
        fit_scale_codes(b.x, MX_BLOCK, e8m0(row[0]) / b.unit, q, snap_e2m1);
        put_codes(q, MX_BLOCK, row + 1);
    }
}

/* The code of the smallest scale that is not below `wanted`. */
static uint32_t ue4m3_above(float wanted) {
    uint32_t lo = 0, hi = UE4M3_MAX;
    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;
        if (ue4m3(mid) < wanted)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Four scales, then the codes of each group.  The scale's step is an eighth of a power of two:
 * from a quarter above the one that fits the largest element down to half of it. */
void quant_nvfp4(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    enum { BELOW = 9, ABOVE = 4 };
    quant_block b;
    float q[NV_GROUP];
    for (uint32_t i = 0; i < elems; i += NV_BLOCK, row += NVFP4_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), NV_BLOCK);
        for (size_t g = 0; g < NV_GROUPS; g++) {
            const float *x = b.x + g * NV_GROUP, *w = b.w + g * NV_GROUP;
            float amax = 0.0f;
            for (uint32_t k = 0; k < NV_GROUP; k++) amax = fmaxf(amax, fabsf(x[k]));
            const int fit = (int)ue4m3_above(amax * b.unit / 6.0f);
            const uint32_t first = clamp_code(fit - BELOW, UE4M3_MAX);
            const uint32_t last = clamp_code(fit + ABOVE, UE4M3_MAX);
            const uint32_t e = best_scale(x, w, NV_GROUP, b.unit, first, last, ue4m3);
            row[g] = (uint8_t)e;
            fit_scale_codes(x, NV_GROUP, ue4m3(e) / b.unit, q, snap_e2m1);
            put_codes(q, NV_GROUP, row + NV_GROUPS + g * NV_GROUP / 2);
        }
    }
}
