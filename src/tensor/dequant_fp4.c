/* dequant_fp4.c - four-bit floats (one sign, two exponent, one mantissa bit) with eight-bit
 * float scales.
 *
 * The elements are looked up as twice their value, which is an integer; the scales are halved
 * in return.
 * Source: OCP Microscaling Formats 1.0 (E2M1, E8M0) for MXFP4; NVFP4 has UE4M3 scales. */
#include "tensor/dequant_internal.h"
#include "tensor/iq_grids.h"

enum {
    MXFP4_BLOCK = 32,
    MXFP4_BYTES = 1 + MXFP4_BLOCK / 2,
    NVFP4_BLOCK = 64,
    NVFP4_PART = 16,
    NVFP4_SCALES = NVFP4_BLOCK / NVFP4_PART,
    NVFP4_BYTES = NVFP4_SCALES + NVFP4_BLOCK / 2,
};

/* Half of an unsigned float of four exponent bits (bias 7) and three mantissa bits.  The top bit
 * is not part of it; 127, not a number in the standard, is 0. */
static float ue4m3_half(uint8_t b) {
    const uint32_t exponent = b >> 3 & 15u, mantissa = b & 7u;
    if (b == 127) return 0.0f;
    if (exponent == 0) return (float)mantissa * 0x1p-10f;
    return convert_bits_f32((exponent + 119) << 23 | mantissa << 20);
}

/* `count` / 2 bytes: low halves are the first half of the elements, high halves the second. */
static void put_e2m1(const uint8_t *restrict q, float scale, uint32_t count, float *restrict out) {
    const uint32_t half = count / 2;
    for (uint32_t k = 0; k < half; k++) {
        out[k] = (float)e2m1_levels[q[k] & 15] * scale;
        out[k + half] = (float)e2m1_levels[q[k] >> 4] * scale;
    }
}

/* scale, 16 bytes of nibbles */
void dequant_mxfp4(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += MXFP4_BLOCK, row += MXFP4_BYTES, out += MXFP4_BLOCK)
        put_e2m1(row + 1, convert_e8m0_half(row[0]), MXFP4_BLOCK, out);
}

/* 4 scales, then for each 8 bytes of nibbles */
void dequant_nvfp4(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += NVFP4_BLOCK, row += NVFP4_BYTES) {
        for (size_t part = 0; part < NVFP4_SCALES; part++, out += NVFP4_PART)
            put_e2m1(row + NVFP4_SCALES + part * NVFP4_PART / 2, ue4m3_half(row[part]), NVFP4_PART,
                     out);
    }
}
