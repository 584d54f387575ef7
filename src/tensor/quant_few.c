/* quant_few.c - one or two bits and a scale: TQ1_0, TQ2_0, Q1_0, Q2_0.
 *
 * Source of the layouts: block structs of ggml-common.h. */
#include "tensor/quant_super.h"

enum {
    TQ1_MAIN = 48,
    TQ1_REST = 4,
    TQ1_0_BYTES = TQ1_MAIN + TQ1_REST + SCALE_BYTES,
    TQ2_0_BYTES = SUPER / 4 + SCALE_BYTES,
    Q1_BLOCK = 128,
    Q1_0_BYTES = SCALE_BYTES + Q1_BLOCK / 8,
    Q2_BLOCK = 64,
    Q2_0_BYTES = SCALE_BYTES + Q2_BLOCK / 4,
};

static inline lanes snap_sign(lanes v) {
    return lanes_pick(v < lanes_all(0), lanes_all(-1), lanes_all(1));
}
static inline lanes snap_trit(lanes v) { return lanes_round(lanes_clamp(v, -1, 1)); }
static inline lanes snap_2(lanes v) { return lanes_round(lanes_clamp(v, -1, 2)); }

/* Codes -1, 0, 1 of a block; where the scale goes: at. */
static void fit_trits(const quant_block *b, uint8_t *at, float *q) {
    const scale_starts starts = {.first = 0.6f, .step = 0.2f, .count = 20};
    float scale = fit_scale(b->x, b->w, b->n, starts, 6, snap_trit);
    scale = quant_put_scale(at, scale, b->unit);
    fit_scale_codes(b->x, b->n, scale, q, snap_trit);
}

/* Base 3 digits of `count` trits, `stride` apart, first one most significant, as a fraction of
 * 3^5 in 1/256: rounded up, so that multiplying by 3 and taking the carry gives them back. */
static uint8_t pack_trits(const float *q, size_t stride, uint32_t count) {
    uint32_t number = 0;
    for (size_t k = 0; k < 5; k++)
        number = number * 3 + (k < count ? (uint32_t)(q[k * stride] + 1) : 0);
    return (uint8_t)((number * 256 + 242) / 243);
}

/* 32 bytes of five trits (32 elements apart), 16 of five (16 apart), 4 of four (4 apart), d */
void quant_tq1_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    quant_block b;
    float q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += TQ1_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        fit_trits(&b, row + TQ1_MAIN + TQ1_REST, q);
        for (uint32_t k = 0; k < 32; k++) row[k] = pack_trits(q + k, 32, 5);
        for (uint32_t k = 0; k < 16; k++) row[32 + k] = pack_trits(q + 160 + k, 16, 5);
        for (uint32_t k = 0; k < 4; k++) row[TQ1_MAIN + k] = pack_trits(q + 240 + k, 4, 4);
    }
}

/* Two bits each, packed as in Q2_K, then d */
void quant_tq2_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    quant_block b;
    float q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += TQ2_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        fit_trits(&b, row + SUPER / 4, q);
        memset(row, 0, SUPER / 4);
        for (uint32_t k = 0; k < SUPER; k++)
            row[k / 128 * 32 + k % 32] |= (uint8_t)((uint32_t)(q[k] + 1) << (k % 128 / 32 * 2));
    }
}

/* d, then a bit per element: set for d, clear for -d */
void quant_q1_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 1.0f, .count = 1};
    quant_block b;
    for (uint32_t i = 0; i < elems; i += Q1_BLOCK, row += Q1_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), Q1_BLOCK);
        (void)quant_put_scale(row, fit_scale(b.x, b.w, Q1_BLOCK, starts, 0, snap_sign), b.unit);
        memset(row + SCALE_BYTES, 0, Q1_BLOCK / 8);
        for (uint32_t k = 0; k < Q1_BLOCK; k++)
            row[SCALE_BYTES + k / 8] |= (uint8_t)((b.x[k] >= 0.0f) << (k % 8));
    }
}

/* d, then two bits per element: -1, 0, 1, 2 with 1 added */
void quant_q2_0(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 0.6f, .step = 0.2f, .count = 16, .both_signs = true};
    quant_block b;
    float q[Q2_BLOCK];
    for (uint32_t i = 0; i < elems; i += Q2_BLOCK, row += Q2_0_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), Q2_BLOCK);
        float scale = fit_scale(b.x, b.w, Q2_BLOCK, starts, 6, snap_2);
        scale = quant_put_scale(row, scale, b.unit);
        fit_scale_codes(b.x, Q2_BLOCK, scale, q, snap_2);
        memset(row + SCALE_BYTES, 0, Q2_BLOCK / 4);
        for (uint32_t k = 0; k < Q2_BLOCK; k++)
            row[SCALE_BYTES + k / 4] |= (uint8_t)((uint32_t)(q[k] + 1) << (k % 4 * 2));
    }
}
