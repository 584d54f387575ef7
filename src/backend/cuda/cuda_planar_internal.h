/* cuda_planar_internal.h - the parts of cuda_planar: GGUF blocks to planes, and other types to GGUF
 * blocks of the types that have a form. */
#ifndef BACKEND_CUDA_PLANAR_INTERNAL_H
#define BACKEND_CUDA_PLANAR_INTERNAL_H

#include "backend/cuda/cuda_planar.h"

/* The stored type whose bits a quantized form permutes; for the others the type of its elements. */
dtype cuda_planar_type(ck_form form);

/* --- cuda_planar_bits.c: one block, number `index` of what stands for planes -------- */

typedef void cuda_bits_put(const uint8_t *block, uint8_t *const planes[CK_PLANES_MAX],
                           uint64_t index);
typedef void cuda_bits_get(uint8_t *block, const uint8_t *const planes[CK_PLANES_MAX],
                           uint64_t index);

typedef struct cuda_bits {
    cuda_bits_put *put;
    cuda_bits_get *get;
} cuda_bits;

/* Of a quantized form. */
cuda_bits cuda_bits_of(ck_form form);

/* --- cuda_planar_convert.c: types without a form of their own -------------------- */

enum { CUDA_CONVERT_BLOCKS_MAX = 8, CUDA_CONVERT_BYTES_MAX = CUDA_CONVERT_BLOCKS_MAX * 34 };

/* A block of `from` as blocks of the type of its form, which is Q8_0 or Q6_K; returns how many. */
uint32_t cuda_convert_block(dtype from, const uint8_t *block, uint8_t out[CUDA_CONVERT_BYTES_MAX]);

/* Is an element of w beyond f16: would it round to infinity there, or is it no number?  Of packed
 * matrices: could one be, by the scales. */
bool cuda_convert_needs_f32(const weight *w);
/* Are all scales of a matrix of MXFP4 numbers of f16?  Else cuda_convert_block() rounds
 * elements. */
bool cuda_convert_mxfp4_is_exact(const weight *w);

#endif
