/* dequant_iq.c - the IQ types: blocks of 256 whose elements are looked up.
 *
 * Below four bits, groups of eight (or twice four) magnitudes are one index into a codebook
 * (tensor/iq_grids.h), with the signs beside it.  Where only seven signs are stored, the eighth
 * makes the number of negative elements even. */
#include "tensor/dequant_internal.h"
#include "tensor/iq_grids.h"

enum {
    BLOCK = 256,
    PARTS = BLOCK / 32, /* parts of 32 elements: 4 groups of 8 */
    IQ1_S_BYTES = 2 + 32 + 16,
    IQ1_M_BYTES = 32 + 16 + 8,
    IQ2_XXS_BYTES = 2 + 64,
    IQ2_XS_BYTES = 2 + 64 + 8,
    IQ2_S_BYTES = 2 + 32 + 32 + 8 + 8,
    IQ3_XXS_BYTES = 2 + 64 + 32,
    IQ3_S_BYTES = 2 + 64 + 8 + 32 + 4,
    IQ4_NL_BLOCK = 32,
    IQ4_NL_BYTES = 2 + 16,
    IQ4_XS_BYTES = 2 + 2 + 4 + 128,
};

/* The seven stored signs and the one that follows from them. */
static uint32_t even_signs(uint32_t seven) {
    seven &= 127u;
    return seven | ((uint32_t)__builtin_popcount(seven) & 1u) << 7;
}

/* `count` magnitudes, at most 8, times the scale; bit k of `signs` set: element k is negative. */
static inline void put_signed(const int8_t *restrict magnitudes, uint32_t signs, float scale,
                              uint32_t count, float *restrict out) {
    static const uint32_t bit_of[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t flip = (signs & bit_of[k]) != 0 ? 0x80000000u : 0;
        out[k] = convert_bits_f32(convert_f32_bits(scale * (float)magnitudes[k]) ^ flip);
    }
}

/* A four-bit scale of the IQ2 types. */
static float iq2_scale(float d, uint32_t nibble) { return d * (0.5f + (float)nibble) * 0.25f; }

/* --- two bits ---------------------------------------------------------------
 * IQ2_XXS.  scale factor; per part 8 bytes: four indices, then from the lowest bit four times
 * seven signs and a four-bit scale */
void dequant_iq2_xxs(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ2_XXS_BYTES) {
        const float d = dequant_half(row);
        for (size_t part = 0; part < PARTS; part++) {
            const uint8_t *idx = row + 2 + part * 8;
            const uint32_t rest = dequant_u32(idx + 4);
            const float scale = iq2_scale(d, rest >> 28);
            for (uint32_t l = 0; l < 4; l++, out += 8)
                put_signed(g->iq2_xxs[idx[l]], even_signs(rest >> 7 * l), scale, 8, out);
        }
    }
}

/* scale factor; 32 numbers of nine index bits below seven signs; 8 bytes of scales, each of two
 * groups, low nibble first */
void dequant_iq2_xs(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ2_XS_BYTES) {
        const float d = dequant_half(row);
        for (size_t group = 0; group < BLOCK / 8; group++, out += 8) {
            const uint32_t packed = dequant_u16(row + 2 + group * 2);
            const uint32_t nibble = row[66 + group / 4] >> (group % 4 / 2 * 4) & 15u;
            put_signed(g->iq2_xs[packed & 511u], even_signs(packed >> 9), iq2_scale(d, nibble), 8,
                       out);
        }
    }
}

/* scale factor; 32 low index bytes; 32 bytes of signs; 8 bytes with the upper two index bits of
 * four groups; 8 bytes of scales as in IQ2_XS */
void dequant_iq2_s(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ2_S_BYTES) {
        const float d = dequant_half(row);
        for (size_t group = 0; group < BLOCK / 8; group++, out += 8) {
            const uint32_t high = row[66 + group / 4] >> (group % 4 * 2) & 3u;
            const uint32_t nibble = row[74 + group / 4] >> (group % 4 / 2 * 4) & 15u;
            put_signed(g->iq2_s[row[2 + group] | high << 8], row[34 + group], iq2_scale(d, nibble),
                       8, out);
        }
    }
}

/* --- three bits -------------------------------------------------------------
 * IQ3_XXS.  scale factor; 64 indices of four elements; per part 4 bytes of signs and scale as in
 * IQ2_XXS */
void dequant_iq3_xxs(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ3_XXS_BYTES) {
        const float d = dequant_half(row);
        const uint8_t *idx = row + 2;
        for (size_t part = 0; part < PARTS; part++) {
            const uint32_t rest = dequant_u32(row + 66 + part * 4);
            const float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
            for (uint32_t l = 0; l < 4; l++, idx += 2, out += 8) {
                const uint32_t signs = even_signs(rest >> 7 * l);
                put_signed(g->iq3_xxs[idx[0]], signs, scale, 4, out);
                put_signed(g->iq3_xxs[idx[1]], signs >> 4, scale, 4, out + 4);
            }
        }
    }
}

/* scale factor; 64 low index bytes; 8 bytes with the ninth index bits of a part, in order; 32
 * bytes of signs; 4 bytes of scales, each of two parts: factor * (1 + 2 * nibble) */
void dequant_iq3_s(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ3_S_BYTES) {
        const float d = dequant_half(row);
        for (size_t group = 0; group < BLOCK / 8; group++, out += 8) {
            const size_t part = group / 4;
            const uint32_t high = (uint32_t)row[66 + part] >> (group % 4 * 2);
            const uint32_t nibble = row[106 + part / 2] >> (part % 2 * 4) & 15u;
            const uint8_t *idx = row + 2 + group * 2, signs = row[74 + group];
            const float scale = d * (float)(1 + 2 * nibble);
            put_signed(g->iq3_s[idx[0] | (high & 1u) << 8], signs, scale, 4, out);
            put_signed(g->iq3_s[idx[1] | (high & 2u) << 7], signs >> 4u, scale, 4, out + 4);
        }
    }
}

/* --- one bit ----------------------------------------------------------------
 * The codebook holds -1, 0 and 1; a whole group is shifted by an eighth, up or down. */
static inline void put_shifted(const int8_t *restrict group, bool down, float scale,
                               float *restrict out) {
    const float shift = down ? -0.125f : 0.125f;
    for (uint32_t k = 0; k < 8; k++) out[k] = scale * ((float)group[k] + shift);
}

/* A three-bit scale of the IQ1 types: odd numbers. */
static float iq1_scale(float d, uint32_t bits) { return d * (float)(2 * (bits & 7u) + 1); }

/* IQ1_S.  scale factor; 32 low index bytes; per part 16 bits: upper three index bits of four
 * groups, three bits of scale, and the shift (set: down) */
void dequant_iq1_s(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ1_S_BYTES) {
        const float d = dequant_half(row);
        for (size_t group = 0; group < BLOCK / 8; group++, out += 8) {
            const uint32_t more = dequant_u16(row + 34 + group / 4 * 2);
            const uint32_t idx = row[2 + group] | (more >> group % 4 * 3 & 7u) << 8;
            put_shifted(g->iq1[idx], more >> 15 != 0, iq1_scale(d, more >> 12), out);
        }
    }
}

/* The f16 scale factor of an IQ1_M block is spread over the top nibbles of its four numbers of
 * scales, lowest nibble first. */
static float iq1_m_factor(const uint8_t *scales) {
    uint32_t bits = 0;
    for (size_t n = 0; n < 4; n++) bits |= (uint32_t)(dequant_u16(scales + n * 2) >> 12) << n * 4;
    return convert_f16_to_f32((uint16_t)bits);
}

/* 32 low index bytes; 16 bytes with a nibble per group: upper three index bits and the shift; 4
 * numbers of 16 bits with the scales of 16 elements each, three bits each, below the factor */
void dequant_iq1_m(const uint8_t *row, float *out, uint32_t elems) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ1_M_BYTES) {
        const float d = iq1_m_factor(row + 48);
        for (size_t group = 0; group < BLOCK / 8; group++, out += 8) {
            const uint32_t nibble = row[32 + group / 2] >> (group % 2 * 4) & 15u;
            const size_t pair = group / 2; /* of groups, which share a scale */
            const uint32_t bits = (uint32_t)dequant_u16(row + 48 + pair / 4 * 2) >> pair % 4 * 3;
            put_shifted(g->iq1[row[group] | (nibble & 7u) << 8], nibble >> 3 != 0,
                        iq1_scale(d, bits), out);
        }
    }
}

/* --- four bits -------------------------------------------------------------- */
static void put_levels(const uint8_t *restrict q, float scale, float *restrict out) {
    for (uint32_t k = 0; k < 16; k++) {
        out[k] = scale * (float)iq4_levels[q[k] & 15];
        out[k + 16] = scale * (float)iq4_levels[q[k] >> 4];
    }
}

/* Blocks of 32: scale, 16 bytes of nibbles. */
void dequant_iq4_nl(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += IQ4_NL_BLOCK, row += IQ4_NL_BYTES, out += IQ4_NL_BLOCK)
        put_levels(row + 2, dequant_half(row), out);
}

/* scale factor; upper two bits of eight six-bit scales; 4 bytes with their low nibbles; per part
 * 16 bytes of nibbles.  level * (factor * (scale - 32)) */
void dequant_iq4_xs(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += IQ4_XS_BYTES) {
        const float d = dequant_half(row);
        const uint32_t high = dequant_u16(row + 2);
        for (size_t part = 0; part < PARTS; part++, out += 32) {
            const uint32_t low = row[4 + part / 2] >> (part % 2 * 4) & 15u;
            const int32_t scale = (int32_t)(low | (high >> part * 2 & 3u) << 4) - 32;
            put_levels(row + 8 + part * 16, d * (float)scale, out);
        }
    }
}
