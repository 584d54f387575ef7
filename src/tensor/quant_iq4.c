/* quant_iq4.c - four bits that stand for 16 unevenly spaced values: IQ4_NL, IQ4_XS.
 *
 * Source of layouts and values: block structs and value table of ggml-common.h. */
#include "tensor/quant_super.h"

enum {
    BLOCK = 32,
    GROUPS = SUPER / BLOCK,
    VALUES = 16,
    IQ4_NL_BYTES = SCALE_BYTES + BLOCK / 2,
    HIGH_BYTES = 2,
    LOW_BYTES = GROUPS / 2,
    IQ4_XS_BYTES = SCALE_BYTES + HIGH_BYTES + LOW_BYTES + SUPER / 2,
};

static const float values[VALUES] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

/* Halfway between value k and the next one. */
static inline float border(uint32_t k) { return (values[k] + values[k + 1]) * 0.5f; }

/* Every border that is passed adds the distance to the next value. */
static inline lanes snap_iq4(lanes v) {
    lanes out = lanes_all(values[0]);
    for (uint32_t k = 0; k + 1 < VALUES; k++) {
        const lane_masks passed = v > lanes_all(border(k));
        out += (lanes)((lane_masks)lanes_all(values[k + 1] - values[k]) & passed);
    }
    return out;
}

static uint32_t index_of(float value) {
    uint32_t k = 0;
    while (k + 1 < VALUES && values[k] < value) k++;
    return k;
}

/* q [32] values; byte k has element k below and k + 16 above. */
static void put_indexes(const float *q, uint8_t *at) {
    for (uint32_t k = 0; k < BLOCK / 2; k++)
        at[k] = (uint8_t)(index_of(q[k]) | index_of(q[k + 16]) << 4);
}

static const scale_starts starts = {.first = 84.0f, .step = 9.0f, .count = 7, .both_signs = true};

/* d, indexes */
void quant_iq4_nl(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    quant_block b;
    float q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ4_NL_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), BLOCK);
        float scale = fit_scale(b.x, b.w, BLOCK, starts, 4, snap_iq4);
        scale = quant_put_scale(row, scale, b.unit);
        fit_scale_codes(b.x, BLOCK, scale, q, snap_iq4);
        put_indexes(q, row + SCALE_BYTES);
    }
}

/* Levels -32 .. 31 with 32 added: the upper two bits of all in a 16-bit word, the low four of
 * groups 2k and 2k + 1 in byte k. */
static void put_levels(const super_scale *s, uint8_t *high, uint8_t *low) {
    uint32_t upper = 0;
    for (size_t g = 0; g < GROUPS; g += 2) {
        const uint32_t a = (uint32_t)(s->level[g] + 32), c = (uint32_t)(s->level[g + 1] + 32);
        low[g / 2] = (uint8_t)((a & 15u) | (c & 15u) << 4);
        upper |= (a >> 4 | c >> 4 << 2) << (2 * g);
    }
    const uint16_t word = (uint16_t)upper;
    memcpy(high, &word, sizeof word);
}

/* d, levels, indexes */
void quant_iq4_xs(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    quant_block b;
    float wanted[GROUPS], q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += IQ4_XS_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        for (size_t g = 0; g < GROUPS; g++)
            wanted[g] = fit_scale(b.x + g * BLOCK, b.w + g * BLOCK, BLOCK, starts, 3, snap_iq4);
        const super_scale s = super_scale_fit(&b, BLOCK, wanted, 31, 1, 3, row, snap_iq4);
        super_scale_codes(&b, BLOCK, &s, q, snap_iq4);
        put_levels(&s, row + SCALE_BYTES, row + SCALE_BYTES + HIGH_BYTES);
        uint8_t *codes = row + SCALE_BYTES + HIGH_BYTES + LOW_BYTES;
        for (size_t g = 0; g < GROUPS; g++) put_indexes(q + g * BLOCK, codes + g * BLOCK / 2);
    }
}
