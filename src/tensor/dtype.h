/* dtype.h - the tensor element types, and the only place that knows their sizes.
 *
 * A type packs `block_elems` elements into `block_bytes` bytes; a row is a whole number
 * of blocks.  Every type can be read (tensor/convert.h) and, integers apart, multiplied with
 * (backend/backend.h).  Ids are the ones ggml writes into GGUF files; ids it has withdrawn (4, 5,
 * 31 to 33, 36 to 38) are unknown here too.
 * Source: the GGUF specification, "ggml_type", and the block structs of ggml-common.h. */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* X(name, id, block_elems, block_bytes, is_integer) */
#define DTYPES(X)                  \
    X(F32, 0, 1, 4, false)         \
    X(F16, 1, 1, 2, false)         \
    X(Q4_0, 2, 32, 18, false)      \
    X(Q4_1, 3, 32, 20, false)      \
    X(Q5_0, 6, 32, 22, false)      \
    X(Q5_1, 7, 32, 24, false)      \
    X(Q8_0, 8, 32, 34, false)      \
    X(Q8_1, 9, 32, 36, false)      \
    X(Q2_K, 10, 256, 84, false)    \
    X(Q3_K, 11, 256, 110, false)   \
    X(Q4_K, 12, 256, 144, false)   \
    X(Q5_K, 13, 256, 176, false)   \
    X(Q6_K, 14, 256, 210, false)   \
    X(Q8_K, 15, 256, 292, false)   \
    X(IQ2_XXS, 16, 256, 66, false) \
    X(IQ2_XS, 17, 256, 74, false)  \
    X(IQ3_XXS, 18, 256, 98, false) \
    X(IQ1_S, 19, 256, 50, false)   \
    X(IQ4_NL, 20, 32, 18, false)   \
    X(IQ3_S, 21, 256, 110, false)  \
    X(IQ2_S, 22, 256, 82, false)   \
    X(IQ4_XS, 23, 256, 136, false) \
    X(I8, 24, 1, 1, true)          \
    X(I16, 25, 1, 2, true)         \
    X(I32, 26, 1, 4, true)         \
    X(I64, 27, 1, 8, true)         \
    X(F64, 28, 1, 8, false)        \
    X(IQ1_M, 29, 256, 56, false)   \
    X(BF16, 30, 1, 2, false)       \
    X(TQ1_0, 34, 256, 54, false)   \
    X(TQ2_0, 35, 256, 66, false)   \
    X(MXFP4, 39, 32, 17, false)    \
    X(NVFP4, 40, 64, 36, false)    \
    X(Q1_0, 41, 128, 18, false)    \
    X(Q2_0, 42, 64, 18, false)

typedef enum dtype {
#define DTYPE_ENUM(name, id, elems, bytes, integer) DTYPE_##name = (id),
    DTYPES(DTYPE_ENUM)
#undef DTYPE_ENUM
} dtype;

enum { DTYPE_ID_END = 43 }; /* every id is below this */

typedef struct dtype_info {
    const char *name;
    uint32_t id;
    uint32_t block_elems;
    uint32_t block_bytes;
    bool is_integer; /* plain integers: data of some tensors, but no weights */
} dtype_info;

/* NULL for an id that is no type. */
const dtype_info *dtype_get(uint32_t id);

/* "Q4_0"; "?" for an id that is no type. */
const char *dtype_name(dtype t);

/* Bytes of `elems` elements; false when they are no whole number of blocks, on overflow
 * or for an unknown type. */
bool dtype_row_bytes(dtype t, uint64_t elems, uint64_t *bytes);

/* By the ggml name in any case ("Q4_K", "iq4_nl"). */
bool dtype_from_name(str name, dtype *out);

/* "F32, F16, Q4_0, ...": all of them by id, for messages that refuse a name. */
const char *dtype_names(void);

#endif
