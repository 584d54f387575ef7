/* safetensors_internal.h - what the parts of the SafeTensors reader share, for safetensors*.c. */
#ifndef STORE_SAFETENSORS_INTERNAL_H
#define STORE_SAFETENSORS_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "store/blob.h"
#include "store/safetensors.h"
#include "json/stream.h"

/* A key and value of some "__metadata__". */
typedef struct safetensors_pair {
    str key;
    str value;
    uint32_t shard;
} safetensors_pair;

typedef struct safetensors_shard {
    blob *file;       /* owned */
    const char *path; /* whole, in `text`; of bytes in memory: their name */
} safetensors_shard;

struct safetensors {
    safetensors_shard *shards; /* owned; [shards_count] */
    uint32_t shards_count;
    uint64_t file_bytes;
    safetensor *tensors; /* owned; [count], by shard and place */
    uint32_t count;
    map index;               /* name -> tensor */
    safetensors_pair *pairs; /* owned; [pairs_count] */
    uint32_t pairs_count;
    map pair_index; /* key -> pair of the first shard that has it */
    arena text;     /* paths, and what is escaped in the files */
};

/* The text of the KEY or STRING just read, at most bytes_max long; `what` is for messages.  Where
 * there are no escapes it points into the document, else into `text`. */
NODISCARD status safetensors_text(const json_stream *in, const char *what, size_t bytes_max,
                                  arena *text, str *out, error *err);

/* A key or name that may stand in a message: not empty, without control characters. */
NODISCARD status safetensors_name(const json_stream *in, const char *what, size_t bytes_max,
                                  arena *text, str *out, error *err);

/* --- safetensors_header.c ------------------------------------------------------- */

/* Appends the tensors (buf of safetensor, by place) and the metadata (buf of safetensors_pair) of
 * one file, whose `name` is for messages.  A name may appear twice: that is looked for where names
 * are indexed. */
NODISCARD status safetensors_read_header(str file, const char *name, uint32_t shard, arena *text,
                                         buf *tensors, buf *pairs, error *err);

/* --- safetensors_index.c -------------------------------------------------------- */

/* model.safetensors.index.json. */
typedef struct safetensors_where {
    str name;
    uint32_t shard;
} safetensors_where;

typedef struct safetensors_index_file {
    arena text;
    map shard_index; /* file name -> shard */
    buf shards;      /* of str: file names, none of which leads out of the directory */
    buf where;       /* of safetensors_where */
    map where_index; /* tensor name -> where */
} safetensors_index_file;

/* Fills *f also on failure; the document is borrowed and must outlive it. */
NODISCARD status safetensors_index_read(safetensors_index_file *f, str document, const char *name,
                                        error *err);
void safetensors_index_free(safetensors_index_file *f);

#endif
