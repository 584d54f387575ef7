/* convert.c - see convert.h. */
#include "tensor/convert.h"

#include "base/assert.h"
#include "tensor/dequant_internal.h"

static dequant_fn *const readers[DTYPE_ID_END] = {
    [DTYPE_F32] = dequant_f32,         [DTYPE_F16] = dequant_f16,
    [DTYPE_BF16] = dequant_bf16,       [DTYPE_F64] = dequant_f64,
    [DTYPE_I8] = dequant_i8,           [DTYPE_I16] = dequant_i16,
    [DTYPE_I32] = dequant_i32,         [DTYPE_I64] = dequant_i64,
    [DTYPE_Q4_0] = dequant_q4_0,       [DTYPE_Q4_1] = dequant_q4_1,
    [DTYPE_Q5_0] = dequant_q5_0,       [DTYPE_Q5_1] = dequant_q5_1,
    [DTYPE_Q8_0] = dequant_q8_0,       [DTYPE_Q8_1] = dequant_q8_1,
    [DTYPE_Q2_K] = dequant_q2_k,       [DTYPE_Q3_K] = dequant_q3_k,
    [DTYPE_Q4_K] = dequant_q4_k,       [DTYPE_Q5_K] = dequant_q5_k,
    [DTYPE_Q6_K] = dequant_q6_k,       [DTYPE_Q8_K] = dequant_q8_k,
    [DTYPE_IQ1_S] = dequant_iq1_s,     [DTYPE_IQ1_M] = dequant_iq1_m,
    [DTYPE_IQ2_XXS] = dequant_iq2_xxs, [DTYPE_IQ2_XS] = dequant_iq2_xs,
    [DTYPE_IQ2_S] = dequant_iq2_s,     [DTYPE_IQ3_XXS] = dequant_iq3_xxs,
    [DTYPE_IQ3_S] = dequant_iq3_s,     [DTYPE_IQ4_NL] = dequant_iq4_nl,
    [DTYPE_IQ4_XS] = dequant_iq4_xs,   [DTYPE_Q1_0] = dequant_q1_0,
    [DTYPE_Q2_0] = dequant_q2_0,       [DTYPE_TQ1_0] = dequant_tq1_0,
    [DTYPE_TQ2_0] = dequant_tq2_0,     [DTYPE_MXFP4] = dequant_mxfp4,
    [DTYPE_NVFP4] = dequant_nvfp4,
};

void dequant_row(dtype t, const void *row, float *out, uint32_t elems) {
    const dtype_info *info = dtype_get((uint32_t)t);
    ASSERT(info != NULL && elems % info->block_elems == 0);
    readers[t](row, out, elems);
}
