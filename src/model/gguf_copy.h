/* gguf_copy.h - a GGUF file again, keys and tensors as they are; parts of a split one joined.
 *
 * A split model is files NAME-00001-of-00003.gguf and so on, each with "split.no" (from 0),
 * "split.count" and "split.tensors.count" (of all together); keys of the model are in the first.
 * Source: the GGUF specification, "Sharding" in file names; the keys of gguf-split. */
#ifndef MODEL_GGUF_COPY_H
#define MODEL_GGUF_COPY_H

#include <stdint.h>

#include "base/error.h"

enum { GGUF_PARTS_MAX = 1024 };

typedef struct gguf_copied {
    uint32_t parts;
    uint32_t tensors;
    uint64_t bytes; /* of the tensors */
} gguf_copied;

/* Writes the model at `path`, any of its parts, into fd (borrowed); everything is checked before
 * the first byte.  ERR_FORMAT: a file that is none, parts that do not belong together, a tensor
 * twice.  *out is untouched on failure. */
NODISCARD status gguf_copy(const char *path, int fd, gguf_copied *out, error *err);

#endif
