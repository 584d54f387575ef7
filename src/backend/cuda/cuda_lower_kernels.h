/* cuda_lower_kernels.h - which kernels a product has: tables by the form of its weights. */
#ifndef BACKEND_CUDA_LOWER_KERNELS_H
#define BACKEND_CUDA_LOWER_KERNELS_H

#include "backend/cuda/cuda_lower.h"

typedef struct product_kernels {
    cuda_kernel_id one, many;
    uint32_t many_rows; /* to a block */
    uint32_t w_rows;    /* of `one` and `many`; 0: CK_GEMV_BLOCK_ROWS */
} product_kernels;

/* With more rows than a few, of the same bits. */
typedef struct skinny_kernels {
    uint32_t w_rows; /* to a block; 0: there are none */
    cuda_kernel_id one, together, pairs, experts;
} skinny_kernels;

/* With the rows of prompts. */
typedef struct prompt_kernels {
    bool there;
    cuda_kernel_id one, together, experts;
} prompt_kernels;

/* Of `count` products that share a launch. */
product_kernels lower_product_kernels(const lowering *w, uint32_t op_idx, uint32_t count);
/* Of each pair of a row and an expert on its own. */
product_kernels lower_experts_kernels(const lowering *w, uint32_t op_idx);
skinny_kernels lower_skinny_kernels(const lowering *w, uint32_t op_idx);
/* Where mode `fast` is on.  Of F32 there are none, of BF16 on some code paths. */
prompt_kernels lower_prompt_kernels(const lowering *w, uint32_t op_idx);

#endif
