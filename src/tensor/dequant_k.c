/* dequant_k.c - the K types: blocks of 256 elements in parts of 16 or 32.
 *
 * A part has a small integer scale (and minimum); the block has f16 factors for those.  Where
 * bits of an element live apart, planes of 128 or 64 elements share bytes: byte k of a plane
 * holds one element of each of its quarters or halves. */
#include "tensor/dequant_internal.h"

enum {
    BLOCK = 256,
    PART = 32,
    PAIR = 2 * PART, /* parts that share bytes */
    Q2_K_BYTES = 16 + 64 + 4,
    Q3_K_BYTES = 32 + 64 + 12 + 2,
    Q4_K_BYTES = 4 + 12 + 128,
    Q5_K_BYTES = 4 + 12 + 32 + 128,
    Q6_K_BYTES = 128 + 64 + 16 + 2,
    Q8_K_BYTES = 4 + 256 + 32,
};

/* 16 bytes of scales: low nibble the scale, high nibble the minimum of 16 elements; 64 bytes of
 * two-bit quants, planes of 128: bits 2j of byte k are element 32 j + k; then the factors of
 * scales and minima.  q * (factor * scale) - factor * minimum */
void dequant_q2_k(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q2_K_BYTES) {
        const float d = dequant_half(row + 80), dmin = dequant_half(row + 82);
        for (size_t part = 0; part < 16; part++, out += 16) {
            const uint8_t *q = row + 16 + part / 8 * PART + part % 2 * 16;
            const uint32_t shift = part % 8 / 2 * 2;
            const float scale = d * (float)(row[part] & 15), min = dmin * (float)(row[part] >> 4);
            for (uint32_t k = 0; k < 16; k++) out[k] = scale * (float)(q[k] >> shift & 3) - min;
        }
    }
}

/* The 16 six-bit scales of a Q3_K block, plus 32: 8 bytes hold the low nibbles of 0..7 and
 * 8..15, 4 bytes the upper two bits, those of scale s in byte s % 4. */
static int32_t q3_k_scale(const uint8_t *packed, uint32_t s) {
    const uint32_t low = s < 8 ? packed[s] & 15u : packed[s - 8] >> 4;
    const uint32_t high = packed[8 + s % 4] >> (s / 4 * 2) & 3u;
    return (int32_t)(low | high << 4) - 32;
}

/* 32 bytes of third bits: bit j of byte k is element 32 j + k, and a clear bit takes 4 away; 64
 * bytes of two-bit quants as in Q2_K; 12 bytes of scales; their factor.  q * (factor * scale) */
void dequant_q3_k(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q3_K_BYTES) {
        const float d = dequant_half(row + 108);
        for (size_t part = 0; part < 16; part++, out += 16) {
            const uint8_t *high = row + part % 2 * 16;
            const uint8_t *q = row + 32 + part / 8 * PART + part % 2 * 16;
            const uint32_t shift = part % 8 / 2 * 2, bit = part / 2;
            const float scale = d * (float)q3_k_scale(row + 96, part);
            for (uint32_t k = 0; k < 16; k++) {
                int32_t v = (q[k] >> shift & 3) + (high[k] >> bit & 1) * 4 - 4;
                out[k] = scale * (float)v;
            }
        }
    }
}

typedef struct part_scale {
    float scale;
    float min;
} part_scale;

/* Six-bit scale and minimum of part p (0..7) of a Q4_K or Q5_K block, times their factors.  Of
 * the 12 bytes, 0..3 and 4..7 hold scales and minima 0..3 in their low six bits; 8..11 hold the
 * low nibbles of scales and minima 4..7, whose upper bits are on top of bytes 0..7. */
static part_scale k4_scale(const uint8_t *block, uint32_t p) {
    const uint8_t *packed = block + 4;
    const float d = dequant_half(block), dmin = dequant_half(block + 2);
    uint32_t scale = packed[p] & 63u, min = packed[p + 4] & 63u;
    if (p >= 4) {
        scale = (packed[p + 4] & 15u) | (packed[p - 4] >> 6) << 4;
        min = packed[p + 4] >> 4 | (packed[p] >> 6) << 4;
    }
    return (part_scale){d * (float)scale, dmin * (float)min};
}

/* factors of scales and minima, 12 bytes of scales and minima, 128 bytes of nibbles in planes of
 * 64: low half element k, high half element k + 32.  q * (factor * scale) - factor * minimum */
void dequant_q4_k(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_K_BYTES) {
        for (size_t pair = 0; pair < 4; pair++, out += PAIR) {
            const uint8_t *q = row + 16 + pair * PART;
            const part_scale a = k4_scale(row, pair * 2), b = k4_scale(row, pair * 2 + 1);
            for (uint32_t k = 0; k < PART; k++) out[k] = a.scale * (float)(q[k] & 15) - a.min;
            for (uint32_t k = 0; k < PART; k++)
                out[k + PART] = b.scale * (float)(q[k] >> 4) - b.min;
        }
    }
}

/* as Q4_K, with 32 bytes of fifth bits before the nibbles: bit p of byte k is element 32 p + k */
void dequant_q5_k(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q5_K_BYTES) {
        const uint8_t *high = row + 16;
        for (size_t pair = 0; pair < 4; pair++, out += PAIR) {
            const uint8_t *q = row + 48 + pair * PART;
            const uint32_t bit = pair * 2;
            const part_scale a = k4_scale(row, bit), b = k4_scale(row, bit + 1);
            for (uint32_t k = 0; k < PART; k++) {
                int32_t v = (q[k] & 15) + (high[k] >> bit & 1) * 16;
                out[k] = a.scale * (float)v - a.min;
            }
            for (uint32_t k = 0; k < PART; k++) {
                int32_t v = (q[k] >> 4) + (high[k] >> (bit + 1) & 1) * 16;
                out[k + PART] = b.scale * (float)v - b.min;
            }
        }
    }
}

/* 128 bytes of low nibbles and 64 of upper bit pairs, planes of 128: quarter j of a plane has its
 * nibbles in bytes 0..31 (j even) or 32..63, in their low halves (j < 2) or high ones, and its
 * pairs in bits 2j; 16 int8 scales of 16 elements; their factor.  (q - 32) * (factor * scale) */
void dequant_q6_k(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q6_K_BYTES) {
        const float d = dequant_half(row + 208);
        for (size_t part = 0; part < 16; part++, out += 16) {
            const size_t plane = part / 8, quarter = part % 8 / 2, half = part % 2 * 16;
            const uint8_t *low = row + plane * 64 + quarter % 2 * PART + half;
            const uint8_t *high = row + 128 + plane * PART + half;
            const float scale = d * (float)(int8_t)row[192 + part];
            for (uint32_t k = 0; k < 16; k++) {
                int32_t v =
                    (low[k] >> (quarter / 2 * 4) & 15) + (high[k] >> (quarter * 2) & 3) * 16;
                out[k] = scale * (float)(v - 32);
            }
        }
    }
}

/* f32 scale, 256 int8, 16 sums of 16 quants (an aid for dot products, not part of the value) */
void dequant_q8_k(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q8_K_BYTES, out += BLOCK) {
        const float scale = convert_bits_f32(dequant_u32(row));
        const int8_t *q = (const int8_t *)(row + 4);
        for (uint32_t k = 0; k < BLOCK; k++) out[k] = scale * (float)q[k];
    }
}
