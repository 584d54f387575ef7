/* convert.h - elements of stored types to f32, one row at a time.
 *
 * Every type of the table can be read: exactly, as far as f32 has the value.  Writing a single
 * number rounds to nearest, ties to even; rows are written by tensor/quant.h.  Pure functions,
 * any thread.
 * Source: IEEE 754-2008 binary16; block layouts from the GGUF specification. */
#ifndef TENSOR_CONVERT_H
#define TENSOR_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

static inline uint32_t convert_f32_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float convert_bits_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float convert_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact in f32 */
        float f = (float)mantissa * 0x1p-24f;
        return convert_bits_f32(convert_f32_bits(f) | sign);
    }
    if (exponent == 31) return convert_bits_f32(sign | 0x7f800000u | mantissa << 13);
    return convert_bits_f32(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t convert_f32_to_f16(float f) {
    uint32_t u = convert_f32_bits(f);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u); /* a quiet NaN */
    /* 65520 and above round to infinity */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 the spacing is 2^-24.  Adding 0.5, whose own spacing is 2^-24,
         * makes the adder round there, ties to even. */
        float shifted = convert_bits_f32(magnitude) + 0.5f;
        return (uint16_t)(sign | (convert_f32_bits(shifted) - convert_f32_bits(0.5f)));
    }
    uint32_t odd = (magnitude >> 13) & 1u;
    uint32_t rounded = magnitude + 0xfffu + odd - (112u << 23);
    return (uint16_t)(sign | (uint16_t)(rounded >> 13));
}

static inline float convert_bf16_to_f32(uint16_t b) { return convert_bits_f32((uint32_t)b << 16); }

static inline uint16_t convert_f32_to_bf16(float f) {
    uint32_t u = convert_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u); /* a quiet NaN */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* 2^(e - 128), half of what the E8M0 scale e of an MXFP4 block says.  The two smallest are
 * subnormal f32; 255, not a number in the standard, goes on as the next power, as ggml has it. */
static inline float convert_e8m0_half(uint8_t e) {
    return convert_bits_f32(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* row: `elems` packed elements, no alignment needed; out [elems] f32.  elems is a
 * multiple of the block (asserted). */
void dequant_row(dtype t, const void *row, float *out, uint32_t elems);

#endif
