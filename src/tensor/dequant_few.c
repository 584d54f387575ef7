/* dequant_few.c - elements of one or two bits, and ternary ones packed five to a byte. */
#include "tensor/dequant_internal.h"

enum {
    Q1_0_BLOCK = 128,
    Q1_0_BYTES = 2 + Q1_0_BLOCK / 8,
    Q2_0_BLOCK = 64,
    Q2_0_BYTES = 2 + Q2_0_BLOCK / 4,
    TQ_BLOCK = 256,
    TQ1_0_BYTES = 48 + 4 + 2,
    TQ2_0_BYTES = 64 + 2,
};

/* scale, 128 bits in order, lowest first: a set bit is +scale, a clear one -scale */
void dequant_q1_0(const uint8_t *restrict row, float *restrict out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += Q1_0_BLOCK, row += Q1_0_BYTES, out += Q1_0_BLOCK) {
        const float scale = dequant_half(row);
        const uint8_t *bits = row + 2;
        for (uint32_t k = 0; k < Q1_0_BLOCK; k++)
            out[k] = (bits[k / 8] >> (k % 8) & 1) != 0 ? scale : -scale;
    }
}

/* scale, 64 pairs of bits in order, lowest first: (pair - 1) * scale, so -1 .. 2 */
void dequant_q2_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += Q2_0_BLOCK, row += Q2_0_BYTES, out += Q2_0_BLOCK) {
        const float scale = dequant_half(row);
        const uint8_t *pairs = row + 2;
        for (uint32_t k = 0; k < Q2_0_BLOCK; k++)
            out[k] = (float)((pairs[k / 4] >> (k % 4 * 2) & 3) - 1) * scale;
    }
}

/* `digits` ternary digits of each of `count` bytes: first the highest digit of every byte, then
 * the next.  A byte is a fraction of 256 in base 3: multiplying by 3 pushes a digit over the
 * edge, and multiplying modulo 256 drops those that came before. */
static float *put_trits(const uint8_t *restrict bytes, uint32_t count, uint32_t digits, float scale,
                        float *restrict out) {
    uint32_t power = 1;
    for (uint32_t n = 0; n < digits; n++, power *= 3, out += count) {
        for (uint32_t k = 0; k < count; k++) {
            int32_t trit = (int32_t)((bytes[k] * power & 255u) * 3u >> 8);
            out[k] = (float)(trit - 1) * scale;
        }
    }
    return out;
}

/* 48 bytes of five digits (in groups of 32 and 16), 4 bytes of four digits, scale:
 * (digit - 1) * scale */
void dequant_tq1_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += TQ_BLOCK, row += TQ1_0_BYTES) {
        const float scale = dequant_half(row + 52);
        out = put_trits(row, 32, 5, scale, out);
        out = put_trits(row + 32, 16, 5, scale, out);
        out = put_trits(row + 48, 4, 4, scale, out);
    }
}

/* 64 bytes of two-bit quants in planes of 128: bits 2j of byte k are element 32 j + k; scale:
 * (q - 1) * scale */
void dequant_tq2_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += TQ_BLOCK, row += TQ2_0_BYTES) {
        const float scale = dequant_half(row + 64);
        for (size_t part = 0; part < 8; part++, out += 32) {
            const uint8_t *q = row + part / 4 * 32;
            const uint32_t shift = part % 4 * 2;
            for (uint32_t k = 0; k < 32; k++) out[k] = (float)((q[k] >> shift & 3) - 1) * scale;
        }
    }
}
