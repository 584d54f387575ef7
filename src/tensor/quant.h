/* quant.h - f32 rows to the block types of GGUF, with or without an importance matrix.
 *
 * A quantizer looks for the scales and codes with the least (weighted) squared error; how hard it
 * looks is its own business, that the result dequantizes as the format says is the promise.
 * Importance: one non-negative weight per column, how much an error there matters (the mean
 * square of the activations that meet the column).  Pure functions, any thread.
 * Round trip error: docs/quantize.md, measured by tests/unit/tensor/test_quant.c. */
#ifndef TENSOR_QUANT_H
#define TENSOR_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

/* Can quant_row() write this type? */
bool quant_is_writable(dtype t);

/* The largest number that does not round to infinity as an element of this type. */
float quant_largest(dtype t);

/* in [elems] f32, finite; row: dtype_row_bytes(t, elems) bytes; elems a multiple of the block and
 * the type writable (asserted).  importance [elems] or NULL. */
void quant_row(dtype t, const float *in, const float *importance, void *row, uint32_t elems);

#endif
