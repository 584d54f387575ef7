/* quant_k_scale.c - the super-blocks whose groups have a scale only: Q3_K, Q6_K.
 *
 * Source of the layouts: the GGUF specification's K-quants, block structs of ggml-common.h. */
#include "tensor/quant_super.h"

enum {
    GROUP = 16,
    GROUPS = SUPER / GROUP,
    Q3_HIGH = SUPER / 8,
    Q3_CODES = SUPER / 4,
    Q3_LEVELS = 12,
    Q3_K_BYTES = Q3_HIGH + Q3_CODES + Q3_LEVELS + SCALE_BYTES,
    Q6_LOW = SUPER / 2,
    Q6_HIGH = SUPER / 4,
    Q6_K_BYTES = Q6_LOW + Q6_HIGH + GROUPS + SCALE_BYTES,
};

static inline lanes snap_3(lanes v) { return lanes_round(lanes_clamp(v, -4, 3)); }
static inline lanes snap_6(lanes v) { return lanes_round(lanes_clamp(v, -32, 31)); }

/* 16 levels, -32 .. 31 stored with 32 added, in 12 bytes: level g has its low four bits in byte
 * g % 8 (levels 8 and up in the upper half) and its top two in byte 8 + g % 4. */
static void put_q3_levels(const super_scale *s, uint8_t *at) {
    memset(at, 0, Q3_LEVELS);
    for (size_t g = 0; g < GROUPS; g++) {
        const uint32_t level = (uint32_t)(s->level[g] + 32);
        at[g % 8] |= (uint8_t)((level & 15u) << (g / 8 * 4));
        at[8 + g % 4] |= (uint8_t)((level >> 4) << (g / 4 * 2));
    }
}

/* Codes with 4 added: two bits as in Q2_K; the third is bit i / 32 of byte i % 32. */
static void put_q3_codes(const float *q, uint8_t *high, uint8_t *low) {
    memset(high, 0, Q3_HIGH + Q3_CODES);
    for (uint32_t i = 0; i < SUPER; i++) {
        const uint32_t code = (uint32_t)(q[i] + 4);
        high[i % 32] |= (uint8_t)((code >> 2) << (i / 32));
        low[i / 128 * 32 + i % 32] |= (uint8_t)((code & 3u) << (i % 128 / 32 * 2));
    }
}

/* third bits, codes, levels, d */
void quant_q3_k(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 2.0f, .step = 0.2f, .count = 15, .both_signs = true};
    quant_block b;
    float wanted[GROUPS], q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += Q3_K_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        for (size_t g = 0; g < GROUPS; g++)
            wanted[g] = fit_scale(b.x + g * GROUP, b.w + g * GROUP, GROUP, starts, 3, snap_3);
        uint8_t *levels = row + Q3_HIGH + Q3_CODES;
        const super_scale s =
            super_scale_fit(&b, GROUP, wanted, 31, 1, 3, levels + Q3_LEVELS, snap_3);
        super_scale_codes(&b, GROUP, &s, q, snap_3);
        put_q3_codes(q, row, row + Q3_HIGH);
        put_q3_levels(&s, levels);
    }
}

/* Codes with 32 added.  128 elements share 64 bytes of low halves, byte l those of elements l
 * and l + 64, and 32 bytes of upper two bits, byte l those of l, l + 32, l + 64, l + 96. */
static void put_q6_codes(const float *q, uint8_t *low, uint8_t *high) {
    for (uint32_t part = 0; part < SUPER; part += 128, low += 64, high += 32) {
        memset(high, 0, 32);
        for (uint32_t l = 0; l < 64; l++) {
            const uint32_t a = (uint32_t)(q[part + l] + 32), b = (uint32_t)(q[part + l + 64] + 32);
            low[l] = (uint8_t)((a & 15u) | (b & 15u) << 4);
            high[l % 32] |= (uint8_t)((a >> 4 | b >> 4 << 4) << (l / 32 * 2));
        }
    }
}

/* low halves, upper bits, levels (a signed byte each), d */
void quant_q6_k(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const scale_starts starts = {.first = 30.0f, .step = 0.35f, .count = 9, .both_signs = true};
    quant_block b;
    float wanted[GROUPS], q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += Q6_K_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        for (size_t g = 0; g < GROUPS; g++)
            wanted[g] = fit_scale(b.x + g * GROUP, b.w + g * GROUP, GROUP, starts, 2, snap_6);
        uint8_t *levels = row + Q6_LOW + Q6_HIGH;
        const super_scale s =
            super_scale_fit(&b, GROUP, wanted, 127, 1, 2, levels + GROUPS, snap_6);
        super_scale_codes(&b, GROUP, &s, q, snap_6);
        put_q6_codes(q, row, row + Q6_LOW);
        for (size_t g = 0; g < GROUPS; g++) levels[g] = (uint8_t)(int8_t)s.level[g];
    }
}
