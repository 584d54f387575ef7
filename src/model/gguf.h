/* gguf.h - a GGUF file's key-values and tensors, read in place.
 *
 * Everything in the file is taken as hostile: counts, lengths, offsets and types are
 * checked against the file and the limits below before they are used, and an error
 * names the key or tensor and the two numbers that disagree.  Views point into the blob,
 * which is borrowed and must outlive the gguf.  Memory is proportional to the number of
 * keys and tensors, time to the header's size.  Immutable once open: any thread may read.
 * Source: the GGUF specification, versions 2 and 3, little-endian. */
#ifndef MODEL_GGUF_H
#define MODEL_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "store/blob.h"
#include "tensor/dtype.h"
#include "tensor/packed.h"

/* Reaching one of these is an error that says so. */
enum {
    GGUF_KV_MAX = 65536,
    GGUF_TENSORS_MAX = 65536,
    GGUF_KEY_BYTES_MAX = 65535,
    GGUF_NAME_BYTES_MAX = 64,
    GGUF_DIMS_MAX = 4,
    GGUF_ALIGNMENT_DEFAULT = 32,
    GGUF_ALIGNMENT_MAX = 1 << 20,
};

typedef struct gguf gguf;

/* X(name, id, bytes); 0 bytes where the size is in the file */
#define GGUF_TYPES(X) \
    X(U8, 0, 1)       \
    X(I8, 1, 1)       \
    X(U16, 2, 2)      \
    X(I16, 3, 2)      \
    X(U32, 4, 4)      \
    X(I32, 5, 4)      \
    X(F32, 6, 4)      \
    X(BOOL, 7, 1)     \
    X(STRING, 8, 0)   \
    X(ARRAY, 9, 0)    \
    X(U64, 10, 8)     \
    X(I64, 11, 8)     \
    X(F64, 12, 8)

typedef enum gguf_type {
#define GGUF_TYPE_ENUM(name, id, bytes) GGUF_TYPE_##name = (id),
    GGUF_TYPES(GGUF_TYPE_ENUM)
#undef GGUF_TYPE_ENUM
} gguf_type;

/* "u32", "string" and so on; "?" for a number that is no type. */
const char *gguf_type_name(gguf_type t);

/* An array as it lies in the file: no alignment.  Use the accessors. */
typedef struct gguf_array {
    gguf_type type; /* of the elements; never ARRAY */
    uint64_t count;
    const void *data; /* borrowed from the blob */
    uint64_t bytes;
} gguf_array;

typedef struct gguf_value {
    str key;
    gguf_type type;
    union {
        uint64_t u64; /* U8 U16 U32 U64 */
        int64_t i64;  /* I8 I16 I32 I64 */
        double f64;   /* F32 F64 */
        bool boolean;
        str string;
        gguf_array array;
    } as;
} gguf_value;

/* One matrix of a tensor whose matrices lie apart. */
typedef struct gguf_part {
    const void *data;
    const packed_matrix *packed; /* instead of data, or NULL */
} gguf_part;

typedef struct gguf_tensor {
    str name;
    dtype type; /* of packed rows: what they become when they are written to a file */
    uint32_t dims_count;
    uint64_t dims[GGUF_DIMS_MAX]; /* innermost first, as in the file; 1 beyond dims_count */
    uint64_t elems;
    uint64_t bytes;
    uint64_t offset;  /* from the start of the file; 0 where there is no GGUF file */
    const void *data; /* borrowed from the blob; NULL after gguf_open_header() without data */
    /* Only in a description that gguf_make.h put together from other files: */
    const packed_matrix *packed; /* instead of data */
    const gguf_part *parts;      /* [dims[2]] instead of data */
    uint32_t halves_heads; /* not 0: rows of so many heads whose rotary pairs are halves, where GGUF
                              has them adjacent; gguf_make_write() reorders them */
} gguf_tensor;

/* --- lifecycle --------------------------------------------------------------- */
NODISCARD status gguf_open(gguf **out, const blob *b, error *err);

/* The same of one file of a split model, which others refuse. */
NODISCARD status gguf_open_part(gguf **out, const blob *b, error *err);

/* The same, but a file that ends exactly where its tensor data should begin opens too,
 * with data == NULL in every tensor: enough to look at, not to compute with. */
NODISCARD status gguf_open_header(gguf **out, const blob *b, error *err);

/* Harmless on NULL. */
void gguf_close(gguf *g);

/* --- content ----------------------------------------------------------------- */
uint32_t gguf_version(const gguf *g);
uint32_t gguf_alignment(const gguf *g);
uint64_t gguf_file_bytes(const gguf *g);
bool gguf_has_data(const gguf *g);

uint32_t gguf_tensor_count(const gguf *g);
const gguf_tensor *gguf_tensor_get(const gguf *g, uint32_t idx); /* idx < count */
const gguf_tensor *gguf_tensor_find(const gguf *g, str name);    /* NULL when absent */
uint32_t gguf_tensor_index(const gguf *g, const gguf_tensor *t); /* of one of g's tensors */

uint32_t gguf_kv_count(const gguf *g);
const gguf_value *gguf_kv_get(const gguf *g, uint32_t idx); /* idx < count */
const gguf_value *gguf_kv_find(const gguf *g, str key);     /* NULL when absent */

/* --- checked getters ---------------------------------------------------------
 * ERR_NOT_FOUND when the key is absent, ERR_FORMAT naming key and both types when it
 * holds something else; *out is untouched then. */
/* Any integer type that holds 0 .. 2^32 - 1. */
NODISCARD status gguf_get_u32(const gguf *g, str key, uint32_t *out, error *err);
/* F32, or F64 rounded. */
NODISCARD status gguf_get_f32(const gguf *g, str key, float *out, error *err);
NODISCARD status gguf_get_str(const gguf *g, str key, str *out, error *err);
NODISCARD status gguf_get_bool(const gguf *g, str key, bool *out, error *err);
/* An array whose elements are of `type`. */
NODISCARD status gguf_get_array(const gguf *g, str key, gguf_type type, gguf_array *out,
                                error *err);

/* The same with a value for the absent key. */
NODISCARD status gguf_get_u32_or(const gguf *g, str key, uint32_t fallback, uint32_t *out,
                                 error *err);
NODISCARD status gguf_get_f32_or(const gguf *g, str key, float fallback, float *out, error *err);
NODISCARD status gguf_get_bool_or(const gguf *g, str key, bool fallback, bool *out, error *err);

/* --- arrays ------------------------------------------------------------------ */
/* Element i (< count) of an array of that type. */
float gguf_array_f32(const gguf_array *a, uint64_t i);
int32_t gguf_array_i32(const gguf_array *a, uint64_t i);
/* Element i (< count) of an array of any scalar type, as a value without a key. */
gguf_value gguf_array_get(const gguf_array *a, uint64_t i);

/* Strings come one after the other:
 *     gguf_strings it = gguf_strings_of(&a);
 *     for (str s; gguf_strings_next(&it, &s);) ...  */
typedef struct gguf_strings {
    const unsigned char *p;
    uint64_t left;
} gguf_strings;

gguf_strings gguf_strings_of(const gguf_array *a);
bool gguf_strings_next(gguf_strings *it, str *out);

#endif
