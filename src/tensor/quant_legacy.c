/* quant_legacy.c - the types of 32 elements with one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
 *
 * Layout, for all: scale (f16), for the _1 types the smallest value (f16), for the Q5 types a
 * 32-bit word with the fifth bits, then the low four bits: byte k has element k below and
 * element k + 16 above.  Q8_0 has bytes.  Source: the GGUF specification. */
#include "tensor/quant_fit.h"

enum {
    BLOCK = 32,
    SCALE_BYTES = 2,
    SCALES_BYTES = 2 * SCALE_BYTES,
    HIGH_BYTES = 4,
    Q4_0_BYTES = SCALE_BYTES + BLOCK / 2,
    Q4_1_BYTES = 2 * SCALE_BYTES + BLOCK / 2,
    Q5_0_BYTES = SCALE_BYTES + HIGH_BYTES + BLOCK / 2,
    Q5_1_BYTES = 2 * SCALE_BYTES + HIGH_BYTES + BLOCK / 2,
    Q8_0_BYTES = SCALE_BYTES + BLOCK,
};

static inline lanes snap_4(lanes v) { return lanes_round(lanes_clamp(v, -8, 7)); }
static inline lanes snap_5(lanes v) { return lanes_round(lanes_clamp(v, -16, 15)); }
static inline lanes snap_8(lanes v) { return lanes_round(lanes_clamp(v, -127, 127)); }

/* codes [32], 0 .. 15 after `bias` */
static void put_low_bits(const float *codes, float bias, uint8_t *at) {
    for (uint32_t k = 0; k < BLOCK / 2; k++) {
        const uint32_t low = (uint32_t)(codes[k] + bias), high = (uint32_t)(codes[k + 16] + bias);
        at[k] = (uint8_t)((low & 15u) | high << 4);
    }
}

static void put_high_bits(const float *codes, float bias, uint8_t *at) {
    uint32_t bits = 0;
    for (uint32_t k = 0; k < BLOCK; k++) bits |= ((uint32_t)(codes[k] + bias) >> 4) << k;
    memcpy(at, &bits, sizeof bits);
}

void quant_q4_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 5.5f, .step = 0.25f, .count = 15, .both_signs = true};
    quant_block b;
    float q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), BLOCK);
        float scale = fit_scale(b.x, b.w, BLOCK, starts, 4, snap_4);
        scale = quant_put_scale(row, scale, b.unit);
        fit_scale_codes(b.x, BLOCK, scale, q, snap_4);
        put_low_bits(q, 8, row + SCALE_BYTES);
    }
}

void quant_q5_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 13.0f, .step = 0.25f, .count = 16, .both_signs = true};
    quant_block b;
    float q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q5_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), BLOCK);
        float scale = fit_scale(b.x, b.w, BLOCK, starts, 4, snap_5);
        scale = quant_put_scale(row, scale, b.unit);
        fit_scale_codes(b.x, BLOCK, scale, q, snap_5);
        put_high_bits(q, 16, row + SCALE_BYTES);
        put_low_bits(q, 16, row + SCALE_BYTES + HIGH_BYTES);
    }
}

static affine put_affine(const quant_block *b, affine a, uint8_t *at) {
    a.scale = quant_put_scale(at, a.scale, b->unit);
    a.min = -quant_put_scale(at + SCALE_BYTES, -a.min, b->unit);
    return a;
}

void quant_q4_1(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const affine_starts starts = {.first = -0.5f, .step = 0.3f, .count = 5};
    quant_block b;
    float q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_1_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), BLOCK);
        affine a = put_affine(&b, fit_affine(b.x, b.w, BLOCK, 15, false, starts, 4), row);
        fit_affine_codes(b.x, BLOCK, 15, a, q);
        put_low_bits(q, 0, row + SCALES_BYTES);
    }
}

void quant_q5_1(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const affine_starts starts = {.first = -0.5f, .step = 0.3f, .count = 5};
    quant_block b;
    float q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q5_1_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), BLOCK);
        affine a = put_affine(&b, fit_affine(b.x, b.w, BLOCK, 31, false, starts, 4), row);
        fit_affine_codes(b.x, BLOCK, 31, a, q);
        put_high_bits(q, 0, row + SCALES_BYTES);
        put_low_bits(q, 0, row + SCALES_BYTES + HIGH_BYTES);
    }
}

/* -128 is left out: kernels take the absolute value of a code as a signed byte. */
void quant_q8_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 127.0f, .step = 0.16f, .count = 3};
    quant_block b;
    float q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q8_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), BLOCK);
        float scale = fit_scale(b.x, b.w, BLOCK, starts, 1, snap_8);
        scale = quant_put_scale(row, scale, b.unit);
        fit_scale_codes(b.x, BLOCK, scale, q, snap_8);
        int8_t *codes = (int8_t *)(row + SCALE_BYTES);
        for (uint32_t k = 0; k < BLOCK; k++) codes[k] = (int8_t)q[k];
    }
}
