/* packed.h - weight matrices as quantization tools other than ggml's store them.
 *
 * GPTQ, AWQ and compressed-tensors checkpoints keep the quanta, the scales and the zero points of
 * one matrix in separate tensors, and two of them store the matrix transposed.  A packed_matrix
 * names these tensors in place; packed_rows() makes f32 rows of them, each element with exactly
 * the formula of its method.  Immutable; any thread may read; the bytes are borrowed.
 *
 *   n = rows (outputs), k = cols (inputs), g = group of inputs with one scale
 *   method          data                       scales              zeros
 *   GPTQ            i32 [k / 8, n], 8 x 4 bit  f16 [k / g, n]      i32 [k / g, n / 8], 4 bit
 *                   of consecutive inputs                          stored minus 1 (v1 format)
 *   AWQ             i32 [k, n / 8], 8 x 4 bit  f16 [k / g, n]      i32 [k / g, n / 8]
 *                   outputs in order 0 2 4 6 1 3 5 7
 *   INT4            i32 [n, k / 8], 8 x 4 bit  [n, k / g]          i32 [n / 8, k / g] or none
 *                   of consecutive inputs, offset by 8
 *   INT8            i8  [n, k]                 [n, 1], or 1 number none
 *   FP8             e4m3 [n, k]                [n, 1], 1 number, or
 *                                              [n / bn, k / bk] blocks
 *   w = scale * (q - zero), without zeros 8 of the 4-bit methods and 0 of INT8; FP8: scale * value.
 *   scales are F32, F16 or BF16.  Divisions above round up; bytes may lie at any address.
 * Sources: AutoGPTQ and AutoAWQ checkpoint formats; the compressed-tensors format pages. */
#ifndef TENSOR_PACKED_H
#define TENSOR_PACKED_H

#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "tensor/dtype.h"

typedef enum packed_kind {
    PACKED_GPTQ,
    PACKED_AWQ,
    PACKED_INT4,
    PACKED_INT8,
    PACKED_FP8,
} packed_kind;

typedef struct packed_matrix {
    packed_kind kind;
    uint32_t rows; /* n */
    uint32_t cols; /* k */
    const void *data;
    const void *scales;
    dtype scale_type;
    uint32_t group;       /* inputs per scale; cols: one per row.  FP8 blocks: bk */
    uint32_t row_group;   /* rows per scale: 1; rows: one number for all; FP8 blocks: bn */
    const void *zeros;    /* or NULL: symmetric */
    const int32_t *g_idx; /* 4 bit: [k] group of each input (act-order), or NULL: k / group */
    uint32_t zero_offset; /* GPTQ: added to the stored zero, modulo 16: 1 in v1 files, 0 in v2 */
} packed_matrix;

/* Bytes of each tensor; 0 where the matrix has none. */
typedef struct packed_sizes {
    uint64_t data;
    uint64_t scales;
    uint64_t zeros;
    uint64_t g_idx;
} packed_sizes;

/* What the shape asks for; rows, cols, group and row_group are not 0. */
packed_sizes packed_sizes_of(const packed_matrix *m);

/* Is a matrix whose numbers come from a file safe to read?  Shape, types, the sizes of its tensors
 * and every group of g_idx; `name` is for messages. */
NODISCARD status packed_check(const packed_matrix *m, str name, const packed_sizes *have,
                              error *err);

/* "GPTQ int4", "FP8" ... */
const char *packed_name(const packed_matrix *m);

/* Rows row0 .. row0 + count - 1 as f32, [count, cols], of a matrix that passed packed_check().
 * Eight rows that begin at a multiple of eight are read at the cost of one where the matrix is
 * stored transposed; the values do not depend on how rows are asked for. */
void packed_rows(const packed_matrix *m, uint32_t row0, uint32_t count, float *out);

/* Bytes of data, scales, zeros and g_idx together. */
uint64_t packed_bytes(const packed_matrix *m);

#endif
