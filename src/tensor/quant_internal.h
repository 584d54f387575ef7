/* quant_internal.h - what the quantizers share; for quant*.c only.
 *
 * A block is brought to a common size first: divided by a power of two so that its largest
 * magnitude lies in [1, 2), and its importances by their mean.  Squares and sums of them then
 * neither overflow nor vanish, whatever the input. */
#ifndef TENSOR_QUANT_INTERNAL_H
#define TENSOR_QUANT_INTERNAL_H

#include <stdint.h>

#include "tensor/convert.h"
#include "tensor/quant_lanes.h"

enum { QUANT_BLOCK_MAX = 256 };

typedef struct quant_block {
    uint32_t n;               /* a multiple of 16 */
    float unit;               /* a power of two: input = x * unit */
    float amax;               /* largest |x|: in [1, 2), or 0, or less for subnormal input */
    float x[QUANT_BLOCK_MAX]; /* [n] */
    float w[QUANT_BLOCK_MAX]; /* [n] importance, mean 1, never 0 */
} quant_block;

/* importance [n] or NULL. */
void quant_block_load(quant_block *b, const float *in, const float *importance, uint32_t n);

/* Store `scale` (for x) as f16 (for the input), and answer what a reader will multiply x with:
 * f16 has 11 bits, and none beyond 65504, where it stops. */
float quant_put_scale(uint8_t *at, float scale, float unit);

/* One row of a type: in [elems], importance [elems] or NULL. */
typedef void (*quant_fn)(const float *in, const float *importance, uint8_t *row, uint32_t elems);

void quant_q4_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q4_1(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q5_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q5_1(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q8_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q2_k(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q3_k(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q4_k(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q5_k(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q6_k(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_iq4_nl(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_iq4_xs(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_tq1_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_tq2_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q1_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_q2_0(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_mxfp4(const float *in, const float *importance, uint8_t *row, uint32_t elems);
void quant_nvfp4(const float *in, const float *importance, uint8_t *row, uint32_t elems);

/* The part of `importance` that belongs to in[i]; NULL stays NULL. */
static inline const float *quant_importance_at(const float *importance, uint32_t i) {
    return importance != NULL ? importance + i : NULL;
}

#endif
