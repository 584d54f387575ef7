/* quant.c - see quant.h: the types without blocks, and which function writes which type. */
#include "tensor/quant.h"

#include <float.h>
#include <math.h>

#include "base/assert.h"
#include "tensor/quant_internal.h"

static void quant_f32(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    (void)importance;
    memcpy(row, in, (size_t)elems * sizeof *in);
}

static void put_u16(uint8_t *at, uint16_t v) { memcpy(at, &v, sizeof v); }

static void quant_f16(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    (void)importance;
    for (uint32_t i = 0; i < elems; i++) put_u16(row + (size_t)i * 2, convert_f32_to_f16(in[i]));
}

static void quant_bf16(const float *in, const float *importance, uint8_t *row, uint32_t elems) {
    (void)importance;
    for (uint32_t i = 0; i < elems; i++) put_u16(row + (size_t)i * 2, convert_f32_to_bf16(in[i]));
}

static const quant_fn writers[DTYPE_ID_END] = {
    [DTYPE_F32] = quant_f32,     [DTYPE_F16] = quant_f16,       [DTYPE_BF16] = quant_bf16,
    [DTYPE_Q4_0] = quant_q4_0,   [DTYPE_Q4_1] = quant_q4_1,     [DTYPE_Q5_0] = quant_q5_0,
    [DTYPE_Q5_1] = quant_q5_1,   [DTYPE_Q8_0] = quant_q8_0,     [DTYPE_Q2_K] = quant_q2_k,
    [DTYPE_Q3_K] = quant_q3_k,   [DTYPE_Q4_K] = quant_q4_k,     [DTYPE_Q5_K] = quant_q5_k,
    [DTYPE_Q6_K] = quant_q6_k,   [DTYPE_IQ4_NL] = quant_iq4_nl, [DTYPE_IQ4_XS] = quant_iq4_xs,
    [DTYPE_TQ1_0] = quant_tq1_0, [DTYPE_TQ2_0] = quant_tq2_0,   [DTYPE_MXFP4] = quant_mxfp4,
    [DTYPE_NVFP4] = quant_nvfp4, [DTYPE_Q1_0] = quant_q1_0,     [DTYPE_Q2_0] = quant_q2_0,
};

bool quant_is_writable(dtype t) {
    return (uint32_t)t < DTYPE_ID_END && writers[(uint32_t)t] != NULL;
}

float quant_largest(dtype t) {
    const float f16_end = 65520.0f; /* halfway between the largest f16 and the next power of two */
    const float bf16_end = 0x1.ffp127f; /* likewise */
    if (t == DTYPE_F16) return nextafterf(f16_end, 0.0f);
    return t == DTYPE_BF16 ? nextafterf(bf16_end, 0.0f) : FLT_MAX;
}

void quant_row(dtype t, const float *in, const float *importance, void *row, uint32_t elems) {
    ASSERT(quant_is_writable(t) && elems % dtype_get((uint32_t)t)->block_elems == 0);
    writers[(uint32_t)t](in, importance, row, elems);
}
