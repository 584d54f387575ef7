/* dequant_internal.h - one reader per stored type; tensor/convert.c has the table of them.
 *
 * Each turns `elems` packed elements, whole blocks without alignment, into out [elems] f32.
 * The order of the float operations is part of the format: results are the same bits as ggml's
 * reference.  Numbers are little-endian.  Pure functions, any thread.
 * Source of all layouts: the block structs of ggml-common.h, in words at each function. */
#ifndef TENSOR_DEQUANT_INTERNAL_H
#define TENSOR_DEQUANT_INTERNAL_H

#include <stdint.h>
#include <string.h>

#include "tensor/convert.h"

typedef void dequant_fn(const uint8_t *row, float *out, uint32_t elems);

/* dequant_plain.c: one number per element */
dequant_fn dequant_f32, dequant_f16, dequant_bf16, dequant_f64;
dequant_fn dequant_i8, dequant_i16, dequant_i32, dequant_i64;
/* dequant_legacy.c: 32 elements with one scale */
dequant_fn dequant_q4_0, dequant_q4_1, dequant_q5_0, dequant_q5_1, dequant_q8_0, dequant_q8_1;
/* dequant_k.c: 256 elements, scales of their parts quantized as well */
dequant_fn dequant_q2_k, dequant_q3_k, dequant_q4_k, dequant_q5_k, dequant_q6_k, dequant_q8_k;
/* dequant_iq.c: groups looked up in a codebook, or levels of unequal steps */
dequant_fn dequant_iq1_s, dequant_iq1_m, dequant_iq2_xxs, dequant_iq2_xs, dequant_iq2_s;
dequant_fn dequant_iq3_xxs, dequant_iq3_s, dequant_iq4_nl, dequant_iq4_xs;
/* dequant_few.c: one or two bits, and three values in 1.6 bits */
dequant_fn dequant_q1_0, dequant_q2_0, dequant_tq1_0, dequant_tq2_0;
/* dequant_fp4.c: four-bit floats with eight-bit scales */
dequant_fn dequant_mxfp4, dequant_nvfp4;

static inline uint16_t dequant_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t dequant_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* A stored f16. */
static inline float dequant_half(const uint8_t *p) { return convert_f16_to_f32(dequant_u16(p)); }

#endif
