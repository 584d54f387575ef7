/* safetensors.h - the tensors of SafeTensors files, read in place.
 *
 * One file, or a directory with model.safetensors, or one with model.safetensors.index.json and
 * the shards it names.  Everything in the files is taken as hostile: header length, JSON, shapes,
 * types and offsets are checked against the file and the limits below; an error names the file,
 * the tensor and the two numbers that disagree.  Views point into the mapped files, which the set
 * owns.  Immutable once open: any thread may read.
 * As in the reference, data has no holes, no overlaps and nothing behind it, a header begins with
 * '{', and what else a tensor's entry holds is not looked at.  What an index says is in a shard
 * has to be there; what is there besides is left out, with a warning.
 * Source: the SafeTensors format page of Hugging Face: u64 header bytes (little-endian), JSON
 * header {"NAME": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}}, data. */
#ifndef STORE_SAFETENSORS_H
#define STORE_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum {
    SAFETENSORS_HEADER_BYTES_MAX = 100000000, /* the reference's own limit */
    SAFETENSORS_TENSORS_MAX = 1 << 20,
    SAFETENSORS_SHARDS_MAX = 4096,
    SAFETENSORS_DIMS_MAX = 8,
    SAFETENSORS_NAME_BYTES_MAX = 1024,
    SAFETENSORS_PATH_BYTES_MAX = 4096,
};

/* X(name, bits) */
#define SAFETENSORS_TYPES(X) \
    X(BOOL, 8)               \
    X(U8, 8)                 \
    X(I8, 8)                 \
    X(F8_E4M3, 8)            \
    X(F8_E5M2, 8)            \
    X(I16, 16)               \
    X(U16, 16)               \
    X(F16, 16)               \
    X(BF16, 16)              \
    X(I32, 32)               \
    X(U32, 32)               \
    X(F32, 32)               \
    X(F64, 64)               \
    X(I64, 64)               \
    X(U64, 64)

typedef enum safetensors_type {
#define SAFETENSORS_TYPE_ENUM(name, bits) SAFETENSORS_##name,
    SAFETENSORS_TYPES(SAFETENSORS_TYPE_ENUM)
#undef SAFETENSORS_TYPE_ENUM
} safetensors_type;

const char *safetensors_type_name(safetensors_type t);

typedef struct safetensor {
    str name;
    safetensors_type type;
    uint32_t dims_count;
    uint64_t dims[SAFETENSORS_DIMS_MAX]; /* outermost first, as in the file */
    uint64_t elems;
    uint64_t bytes;
    const void *data; /* borrowed; any alignment */
    uint32_t shard;
} safetensor;

typedef struct safetensors safetensors;

/* A .safetensors file or a directory; model.safetensors comes before the index.  ERR_NOT_FOUND
 * when there is no such path or a directory has neither file. */
NODISCARD status safetensors_open(safetensors **out, const char *path, error *err);
/* One file in memory; the bytes are borrowed, at any address.  `name` is for messages. */
NODISCARD status safetensors_open_bytes(safetensors **out, str bytes, const char *name, error *err);
/* Harmless on NULL. */
void safetensors_close(safetensors *s);

uint32_t safetensors_count(const safetensors *s);
const safetensor *safetensors_get(const safetensors *s, uint32_t idx); /* idx < count, by place */
const safetensor *safetensors_find(const safetensors *s, str name);    /* NULL when absent */
uint32_t safetensors_index(const safetensors *s, const safetensor *t); /* of one of s's */
/* "__metadata__" of the first file that has the key; empty when none has. */
str safetensors_metadata(const safetensors *s, str key);
uint64_t safetensors_file_bytes(const safetensors *s); /* of all shards */
uint32_t safetensors_shards(const safetensors *s);
/* Borrowed; shard < shards. */
const char *safetensors_shard_path(const safetensors *s, uint32_t shard);

#endif
