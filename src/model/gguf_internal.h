/* gguf_internal.h - the parts of the GGUF reader, for gguf*.c only. */
#ifndef MODEL_GGUF_INTERNAL_H
#define MODEL_GGUF_INTERNAL_H

#include "base/arena.h"
#include "base/map.h"
#include "model/gguf.h"

struct gguf {
    str file;            /* borrowed from the blob; empty in a description made in memory */
    uint64_t file_bytes; /* of the blob, or of all tensors together */
    arena own;           /* what a description made in memory has that is in no file */
    uint32_t version;
    uint32_t alignment;
    uint64_t data_offset; /* where tensor data begins; a multiple of alignment */
    bool has_data;
    uint32_t kv_count;
    gguf_value *kv; /* owned */
    map kv_index;   /* key -> index */
    uint32_t tensors_count;
    gguf_tensor *tensors; /* owned */
    map tensor_index;     /* name -> index */
};

/* What is still unread.  Every read checks `left` first. */
typedef struct gguf_cursor {
    const unsigned char *p;
    uint64_t left;
} gguf_cursor;

/* `what` names the thing being read in "gguf: file ends inside WHAT". */
NODISCARD status gguf_read_u32(gguf_cursor *c, const char *what, uint32_t *out, error *err);
NODISCARD status gguf_read_u64(gguf_cursor *c, const char *what, uint64_t *out, error *err);
NODISCARD status gguf_read_str(gguf_cursor *c, const char *what, str *out, error *err);

/* Keys and tensor names: 1 .. bytes_max bytes of UTF-8 without control characters. */
NODISCARD status gguf_read_name(gguf_cursor *c, const char *what, size_t bytes_max, str *out,
                                error *err);

/* Is `name` one that gguf_read_name() would return? */
NODISCARD status gguf_check_name(str name, const char *what, size_t bytes_max, error *err);

/* Bytes of one element; 0 for strings and arrays, which say it themselves. */
uint32_t gguf_type_bytes(gguf_type t);

/* The scalar of type t at p. */
void gguf_decode(gguf_type t, const unsigned char *p, gguf_value *out);

/* Reads g->kv_count key-values into g->kv and g->kv_index. */
NODISCARD status gguf_read_kvs(gguf *g, gguf_cursor *c, error *err);

/* g->kv_index of what is in g->kv; ERR_FORMAT when a key is there twice. */
NODISCARD status gguf_index_kvs(gguf *g, error *err);

/* g->alignment from the key-values. */
NODISCARD status gguf_read_alignment(gguf *g, error *err);

/* Fills elems and bytes from dims and the type, all of which come from a file. */
NODISCARD status gguf_size_tensor(gguf_tensor *t, error *err);

/* g->tensor_index of what is in g->tensors; ERR_FORMAT when a name is there twice. */
NODISCARD status gguf_index_tensors(gguf *g, error *err);

/* Reads g->tensors_count descriptions into g->tensors and g->tensor_index. */
NODISCARD status gguf_read_tensors(gguf *g, gguf_cursor *c, error *err);

/* Offsets against alignment, file size and each other; fills offset and data. */
NODISCARD status gguf_place_tensors(gguf *g, error *err);

#endif
