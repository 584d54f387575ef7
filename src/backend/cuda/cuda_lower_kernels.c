/* cuda_lower_kernels.c - see cuda_lower_kernels.h. */
#include "backend/cuda/cuda_lower_kernels.h"

/* --- with a few rows -------------------- */

/* There are kernels for that where there are those for prompts: not for BF16 on some code paths. */
bool lower_in_halves(const lowering *w, uint32_t op_idx) {
    const ck_form form = cuda_weight_of(w->l, op_idx)->form;
    if (w->prompts.on == NULL || (form != CK_FORM_F16 && form != CK_FORM_BF16)) return false;
    const cuda_kernel_id kernel = form == CK_FORM_F16 ? CUDA_k_gemv_f16_m8 : CUDA_k_gemv_bf16_m8;
    return w->prompts.on->kernels[kernel].function != NULL;
}

static product_kernels kernels_of(ck_form form) {
    static const product_kernels all[CK_FORM_COUNT] = {
        [CK_FORM_F32] = {CUDA_k_gemv_f32_n1, CUDA_k_gemv_f32_n4, 4, 0},
        [CK_FORM_F16] = {CUDA_k_gemv_f16_n1, CUDA_k_gemv_f16_n4, 4, 0},
        [CK_FORM_BF16] = {CUDA_k_gemv_bf16_n1, CUDA_k_gemv_bf16_n4, 4, 0},
        [CK_FORM_Q8_0] = {CUDA_k_gemv_q8_0_n1, CUDA_k_gemv_q8_0_n4, 4, 0},
        [CK_FORM_Q4_0] = {CUDA_k_gemv_q4_0_n1, CUDA_k_gemv_q4_0_n4, 4, 0},
        [CK_FORM_Q4_K] = {CUDA_k_gemv_q4_k_n1, CUDA_k_gemv_q4_k_n4, 4, 0},
        [CK_FORM_Q5_K] = {CUDA_k_gemv_q5_k_n1, CUDA_k_gemv_q5_k_n4, 4, 0},
        [CK_FORM_Q6_K] = {CUDA_k_gemv_q6_k_n1, CUDA_k_gemv_q6_k_n4, 4, 0}};
    return all[form];
}

#define HALVES_OF(kind, form) \
    { CUDA_k_##kind##_##form##_m8, CUDA_k_##kind##_##form##_m8, CK_HALVES_X, CK_HALVES_ROWS }
static product_kernels kernels_in_halves(ck_form form, bool together) {
    static const product_kernels f16[] = {HALVES_OF(gemv, f16), HALVES_OF(gemvs, f16)},
                                 bf16[] = {HALVES_OF(gemv, bf16), HALVES_OF(gemvs, bf16)};
    return form == CK_FORM_F16 ? f16[together] : bf16[together];
}

static product_kernels kernels_of_pairs(ck_form form) {
    static const product_kernels all[CK_FORM_COUNT] = {
        [CK_FORM_Q8_0] = {CUDA_k_gemv_q8_0_p1, CUDA_k_gemv_q8_0_p2, 2, 0},
        [CK_FORM_Q4_0] = {CUDA_k_gemv_q4_0_p1, CUDA_k_gemv_q4_0_p2, 2, 0},
        [CK_FORM_Q4_K] = {CUDA_k_gemv_q4_k_p1, CUDA_k_gemv_q4_k_p2, 2, 0},
        [CK_FORM_Q5_K] = {CUDA_k_gemv_q5_k_p1, CUDA_k_gemv_q5_k_p2, 2, 0},
        [CK_FORM_Q6_K] = {CUDA_k_gemv_q6_k_p1, CUDA_k_gemv_q6_k_p2, 2, 0}};
    return all[form];
}

static product_kernels kernels_together(ck_form form) {
    static const product_kernels all[CK_FORM_COUNT] = {
        [CK_FORM_F32] = {CUDA_k_gemvs_f32_n1, CUDA_k_gemvs_f32_n4, 4, 0},
        [CK_FORM_F16] = {CUDA_k_gemvs_f16_n1, CUDA_k_gemvs_f16_n4, 4, 0},
        [CK_FORM_BF16] = {CUDA_k_gemvs_bf16_n1, CUDA_k_gemvs_bf16_n4, 4, 0},
        [CK_FORM_Q8_0] = {CUDA_k_gemvs_q8_0_n1, CUDA_k_gemvs_q8_0_n4, 4, 0},
        [CK_FORM_Q4_0] = {CUDA_k_gemvs_q4_0_n1, CUDA_k_gemvs_q4_0_n4, 4, 0},
        [CK_FORM_Q4_K] = {CUDA_k_gemvs_q4_k_n1, CUDA_k_gemvs_q4_k_n4, 4, 0},
        [CK_FORM_Q5_K] = {CUDA_k_gemvs_q5_k_n1, CUDA_k_gemvs_q5_k_n4, 4, 0},
        [CK_FORM_Q6_K] = {CUDA_k_gemvs_q6_k_n1, CUDA_k_gemvs_q6_k_n4, 4, 0}};
    return all[form];
}

product_kernels lower_product_kernels(const lowering *w, uint32_t op_idx, uint32_t count) {
    const ck_form form = cuda_weight_of(w->l, op_idx)->form;
    if (lower_in_halves(w, op_idx)) return kernels_in_halves(form, count > 1);
    if (count > 1) return kernels_together(form);
    return cuda_in_pairs(w->l, op_idx) ? kernels_of_pairs(form) : kernels_of(form);
}

product_kernels lower_experts_kernels(const lowering *w, uint32_t op_idx) {
    static const cuda_kernel_id kernels[CK_FORM_COUNT] = {
        [CK_FORM_F32] = CUDA_k_experts_f32,   [CK_FORM_F16] = CUDA_k_experts_f16,
        [CK_FORM_BF16] = CUDA_k_experts_bf16, [CK_FORM_Q8_0] = CUDA_k_experts_q8_0,
        [CK_FORM_Q4_0] = CUDA_k_experts_q4_0, [CK_FORM_Q4_K] = CUDA_k_experts_q4_k,
        [CK_FORM_Q5_K] = CUDA_k_experts_q5_k, [CK_FORM_Q6_K] = CUDA_k_experts_q6_k};
    const ck_form form = cuda_weight_of(w->l, op_idx)->form;
    if (!lower_in_halves(w, op_idx))
        return (product_kernels){.one = kernels[form], .many = kernels[form]};
    const cuda_kernel_id k = form == CK_FORM_F16 ? CUDA_k_experts_f16_m1 : CUDA_k_experts_bf16_m1;
    return (product_kernels){.one = k, .many = k, .w_rows = CK_HALVES_ROWS};
}

/* --- with more -------------------- */

#define SKINNY_OF(form, rows)                                                               \
    {                                                                                       \
        rows, CUDA_k_gemv_##form##_n16, CUDA_k_gemvs_##form##_n16, CUDA_k_gemv_##form##_p8, \
            CUDA_k_experts_##form##_n16                                                     \
    }
static skinny_kernels skinny_kernels_of(ck_form form) {
    static const skinny_kernels all[CK_FORM_COUNT] = {
        [CK_FORM_Q8_0] = SKINNY_OF(q8_0, CK_SKINNY_ROWS_Q8_0),
        [CK_FORM_Q4_0] = SKINNY_OF(q4_0, CK_SKINNY_ROWS),
        [CK_FORM_Q4_K] = SKINNY_OF(q4_k, CK_SKINNY_ROWS),
        [CK_FORM_Q5_K] = SKINNY_OF(q5_k, CK_SKINNY_ROWS),
        [CK_FORM_Q6_K] = SKINNY_OF(q6_k, CK_SKINNY_ROWS)};
    return all[form];
}

/* Of more rows than a block of k_gemv_FORM_m8 has. */
static skinny_kernels crowd_in_halves(ck_form form) {
    static const skinny_kernels f16 = {CK_HALVES_CROWD_ROWS, CUDA_k_gemv_f16_m32,
                                       CUDA_k_gemvs_f16_m32, 0, CUDA_k_experts_f16_m8},
                                bf16 = {CK_HALVES_CROWD_ROWS, CUDA_k_gemv_bf16_m32,
                                        CUDA_k_gemvs_bf16_m32, 0, CUDA_k_experts_bf16_m8};
    return form == CK_FORM_F16 ? f16 : bf16;
}

skinny_kernels lower_skinny_kernels(const lowering *w, uint32_t op_idx) {
    const ck_form form = cuda_weight_of(w->l, op_idx)->form;
    return lower_in_halves(w, op_idx) ? crowd_in_halves(form) : skinny_kernels_of(form);
}

/* --- with those of prompts -------------------- */

prompt_kernels lower_prompt_kernels(const lowering *w, uint32_t op_idx) {
    static const prompt_kernels all[CK_FORM_COUNT] = {
        [CK_FORM_F16] = {true, CUDA_k_gemm_f16, CUDA_k_gemms_f16, CUDA_k_gemm_experts_f16},
        [CK_FORM_BF16] = {true, CUDA_k_gemm_bf16, CUDA_k_gemms_bf16, CUDA_k_gemm_experts_bf16},
        [CK_FORM_Q8_0] = {true, CUDA_k_gemm_q8_0, CUDA_k_gemms_q8_0, CUDA_k_gemm_experts_q8_0},
        [CK_FORM_Q4_0] = {true, CUDA_k_gemm_q4_0, CUDA_k_gemms_q4_0, CUDA_k_gemm_experts_q4_0},
        [CK_FORM_Q4_K] = {true, CUDA_k_gemm_q4_k, CUDA_k_gemms_q4_k, CUDA_k_gemm_experts_q4_k},
        [CK_FORM_Q5_K] = {true, CUDA_k_gemm_q5_k, CUDA_k_gemms_q5_k, CUDA_k_gemm_experts_q5_k},
        [CK_FORM_Q6_K] = {true, CUDA_k_gemm_q6_k, CUDA_k_gemms_q6_k, CUDA_k_gemm_experts_q6_k}};
    prompt_kernels k = all[cuda_weight_of(w->l, op_idx)->form];
    k.there = k.there && w->prompts.on->kernels[k.one].function != NULL;
    return k;
}
