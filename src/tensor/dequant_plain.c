/* dequant_plain.c - types that store each element as one number. */
#include "tensor/dequant_internal.h"

void dequant_f32(const uint8_t *row, float *out, uint32_t elems) {
    memcpy(out, row, (size_t)elems * sizeof *out);
}

void dequant_f16(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i++) out[i] = dequant_half(row + (size_t)i * 2);
}

void dequant_bf16(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i++)
        out[i] = convert_bf16_to_f32(dequant_u16(row + (size_t)i * 2));
}

/* Numbers that f32 does not hold exactly are rounded to nearest, ties to even. */
#define DEFINE_PLAIN(name, type)                                \
    void name(const uint8_t *row, float *out, uint32_t elems) { \
        for (uint32_t i = 0; i < elems; i++) {                  \
            type v;                                             \
            memcpy(&v, row + (size_t)i * sizeof v, sizeof v);   \
            out[i] = (float)v;                                  \
        }                                                       \
    }
DEFINE_PLAIN(dequant_f64, double)
DEFINE_PLAIN(dequant_i8, int8_t)
DEFINE_PLAIN(dequant_i16, int16_t)
DEFINE_PLAIN(dequant_i32, int32_t)
DEFINE_PLAIN(dequant_i64, int64_t)
