/* dequant_legacy.c - blocks of 32 elements with one f16 scale, some with an f16 offset.
 *
 * Nibbles stand in the order that suits 16-byte vectors: byte k holds element k in its low
 * half and element k + 16 in its high half. */
#include "tensor/dequant_internal.h"

enum {
    BLOCK = 32,
    HALF = BLOCK / 2,
    Q4_0_BYTES = 2 + HALF,
    Q4_1_BYTES = 4 + HALF,
    Q5_0_BYTES = 2 + 4 + HALF,
    Q5_1_BYTES = 4 + 4 + HALF,
    Q8_0_BYTES = 2 + BLOCK,
    Q8_1_BYTES = 4 + BLOCK,
};

/* scale, 16 bytes of nibbles: (nibble - 8) * scale */
void dequant_q4_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_0_BYTES, out += BLOCK) {
        const float scale = dequant_half(row);
        const uint8_t *q = row + 2;
        for (uint32_t k = 0; k < HALF; k++) out[k] = (float)((q[k] & 15) - 8) * scale;
        for (uint32_t k = 0; k < HALF; k++) out[k + HALF] = (float)((q[k] >> 4) - 8) * scale;
    }
}

/* scale, minimum, 16 bytes of nibbles: nibble * scale + minimum */
void dequant_q4_1(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_1_BYTES, out += BLOCK) {
        const float scale = dequant_half(row), min = dequant_half(row + 2);
        const uint8_t *q = row + 4;
        for (uint32_t k = 0; k < HALF; k++) out[k] = (float)(q[k] & 15) * scale + min;
        for (uint32_t k = 0; k < HALF; k++) out[k + HALF] = (float)(q[k] >> 4) * scale + min;
    }
}

/* Element k of a five-bit block: its nibble, and bit k of `high` as the fifth bit. */
static void join_five_bits(const uint8_t *nibbles, uint32_t high, int32_t *q) {
    for (uint32_t k = 0; k < HALF; k++) {
        q[k] = (int32_t)((nibbles[k] & 15u) | (high >> k & 1u) << 4);
        q[k + HALF] = (int32_t)(nibbles[k] >> 4 | (high >> (k + HALF) & 1u) << 4);
    }
}

/* scale, 32 fifth bits, 16 bytes of nibbles: (q - 16) * scale */
void dequant_q5_0(const uint8_t *row, float *out, uint32_t elems) {
    int32_t q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q5_0_BYTES, out += BLOCK) {
        const float scale = dequant_half(row);
        join_five_bits(row + 6, dequant_u32(row + 2), q);
        for (uint32_t k = 0; k < BLOCK; k++) out[k] = (float)(q[k] - 16) * scale;
    }
}

/* scale, minimum, 32 fifth bits, 16 bytes of nibbles: q * scale + minimum */
void dequant_q5_1(const uint8_t *row, float *out, uint32_t elems) {
    int32_t q[BLOCK];
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q5_1_BYTES, out += BLOCK) {
        const float scale = dequant_half(row), min = dequant_half(row + 2);
        join_five_bits(row + 8, dequant_u32(row + 4), q);
        for (uint32_t k = 0; k < BLOCK; k++) out[k] = (float)q[k] * scale + min;
    }
}

/* scale, 32 int8 */
void dequant_q8_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q8_0_BYTES, out += BLOCK) {
        const float scale = dequant_half(row);
        const int8_t *q = (const int8_t *)(row + 2);
        for (uint32_t k = 0; k < BLOCK; k++) out[k] = (float)q[k] * scale;
    }
}

/* scale, scale * sum of the quants (an aid for dot products, not part of the value), 32 int8 */
void dequant_q8_1(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q8_1_BYTES, out += BLOCK) {
        const float scale = dequant_half(row);
        const int8_t *q = (const int8_t *)(row + 4);
        for (uint32_t k = 0; k < BLOCK; k++) out[k] = (float)q[k] * scale;
    }
}
