/* quant_k_affine.c - the super-blocks whose groups have a scale and a minimum: Q2_K, Q4_K, Q5_K.
 *
 * Source of the layouts: the GGUF specification's K-quants, block structs of ggml-common.h. */
#include "tensor/quant_super.h"

enum {
    Q2_GROUP = 16,
    Q2_LEVELS = SUPER / Q2_GROUP,
    Q2_CODES = SUPER / 4,
    Q2_K_BYTES = Q2_LEVELS + Q2_CODES + 2 * SCALE_BYTES,
    GROUP = 32,
    GROUPS = SUPER / GROUP,
    LEVEL_BYTES = 12,
    HIGH_BYTES = SUPER / 8,
    Q4_K_BYTES = 2 * SCALE_BYTES + LEVEL_BYTES + SUPER / 2,
    Q5_K_BYTES = 2 * SCALE_BYTES + LEVEL_BYTES + HIGH_BYTES + SUPER / 2,
};

/* 16 bytes of levels (low half the scale's), codes, d, dmin.  128 elements share 32 bytes of
 * codes: byte l has those of elements l, l + 32, l + 64, l + 96 from the low bits up. */
static void q2_k_block(const quant_block *b, uint8_t *row) {
    const affine_starts starts = {.first = -0.4f, .step = 0.2f, .count = 5};
    uint8_t *codes = row + Q2_LEVELS;
    affine wanted[Q2_LEVELS];
    float q[SUPER];
    for (size_t g = 0; g < Q2_LEVELS; g++)
        wanted[g] =
            fit_affine(b->x + g * Q2_GROUP, b->w + g * Q2_GROUP, Q2_GROUP, 3, true, starts, 4);
    const super_affine s =
        super_affine_fit(b, Q2_GROUP, 3, wanted, 15, 1, 4, row + Q2_LEVELS + Q2_CODES);
    super_affine_codes(b, Q2_GROUP, 3, &s, q);
    for (size_t g = 0; g < Q2_LEVELS; g++)
        row[g] = (uint8_t)((uint32_t)s.level[g] | (uint32_t)s.min_level[g] << 4);
    for (size_t half = 0; half < 2; half++) {
        const float *c = q + half * 128;
        for (uint32_t l = 0; l < 32; l++)
            codes[half * 32 + l] = (uint8_t)((uint32_t)c[l] | (uint32_t)c[l + 32] << 2 |
                                             (uint32_t)c[l + 64] << 4 | (uint32_t)c[l + 96] << 6);
    }
}

void quant_q2_k(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    quant_block b;
    for (uint32_t i = 0; i < elems; i += SUPER, row += Q2_K_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        q2_k_block(&b, row);
    }
}

/* Eight scale levels and eight min levels of six bits in 12 bytes: those of the first four
 * groups have a byte each, whose top two bits hold the top of the last four groups' levels;
 * the low four bits of these share the last four bytes. */
static void put_levels(const super_affine *s, uint8_t *at) {
    for (size_t g = 0; g < GROUPS / 2; g++) {
        const uint32_t scale = (uint32_t)s->level[g], min = (uint32_t)s->min_level[g];
        const uint32_t scale4 = (uint32_t)s->level[g + 4], min4 = (uint32_t)s->min_level[g + 4];
        at[g] = (uint8_t)(scale | scale4 >> 4 << 6);
        at[g + 4] = (uint8_t)(min | min4 >> 4 << 6);
        at[g + 8] = (uint8_t)((scale4 & 15u) | (min4 & 15u) << 4);
    }
}

/* 64 elements share 32 bytes: the first 32 are below. */
static void put_nibbles(const float *q, uint8_t *at) {
    for (uint32_t i = 0; i < SUPER; i += 64)
        for (uint32_t l = 0; l < 32; l++)
            *at++ = (uint8_t)(((uint32_t)q[i + l] & 15u) | ((uint32_t)q[i + l + 32] & 15u) << 4);
}

/* d, dmin, levels, codes */
void quant_q4_k(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const affine_starts starts = {.first = -0.5f, .step = 0.45f, .count = 4};
    quant_block b;
    affine wanted[GROUPS];
    float q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += Q4_K_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        for (size_t g = 0; g < GROUPS; g++)
            wanted[g] = fit_affine(b.x + g * GROUP, b.w + g * GROUP, GROUP, 15, true, starts, 3);
        const super_affine s = super_affine_fit(&b, GROUP, 15, wanted, 63, 1, 3, row);
        super_affine_codes(&b, GROUP, 15, &s, q);
        put_levels(&s, row + SCALES_BYTES);
        put_nibbles(q, row + SCALES_BYTES + LEVEL_BYTES);
    }
}

/* Bit g of byte l is the fifth bit of element l of group g. */
static void put_fifth_bits(const float *q, uint8_t *at) {
    for (uint32_t l = 0; l < GROUP; l++) {
        uint32_t bits = 0;
        for (size_t g = 0; g < GROUPS; g++) bits |= ((uint32_t)q[g * GROUP + l] >> 4) << g;
        at[l] = (uint8_t)bits;
    }
}

/* d, dmin, levels, fifth bits, codes */
void quant_q5_k(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    const affine_starts starts = {.first = -0.5f, .step = 0.45f, .count = 4};
    quant_block b;
    affine wanted[GROUPS];
    float q[SUPER];
    for (uint32_t i = 0; i < elems; i += SUPER, row += Q5_K_BYTES) {
        quant_block_load(&b, in + i, quant_importance_at(importance, i), SUPER);
        for (size_t g = 0; g < GROUPS; g++)
            wanted[g] = fit_affine(b.x + g * GROUP, b.w + g * GROUP, GROUP, 31, true, starts, 3);
        const super_affine s = super_affine_fit(&b, GROUP, 31, wanted, 63, 1, 3, row);
        super_affine_codes(&b, GROUP, 31, &s, q);
        put_levels(&s, row + SCALES_BYTES);
        put_fifth_bits(q, row + SCALES_BYTES + LEVEL_BYTES);
        put_nibbles(q, row + SCALES_BYTES + LEVEL_BYTES + HIGH_BYTES);
    }
}
