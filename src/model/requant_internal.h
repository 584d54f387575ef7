/* requant_internal.h - the two halves of requantizing: what becomes of each tensor, and the
 * threads that do it.  For requant*.c only. */
#ifndef MODEL_REQUANT_INTERNAL_H
#define MODEL_REQUANT_INTERNAL_H

#include "model/gguf.h"
#include "model/gguf_write.h"
#include "model/imatrix.h"
#include "model/requant.h"

/* What becomes of one tensor. */
typedef struct requant_tensor {
    const gguf_tensor *from;
    dtype type;              /* from->type: copied */
    const float *importance; /* NULL or the first matrix's [cols] */
    uint64_t stride;         /* from one matrix's importance to the next one's; 0: shared */
} requant_tensor;

/* Bytes of a whole number of blocks. */
static inline uint64_t requant_bytes(dtype t, uint64_t elems) {
    const dtype_info *info = dtype_get((uint32_t)t);
    return elems / info->block_elems * info->block_bytes;
}

typedef struct requant_crew requant_crew;

NODISCARD status requant_crew_create(requant_crew **out, uint32_t threads, error *err);
void requant_crew_destroy(requant_crew *c);

/* Called between two waves of work with the input bytes done since the last call; a failure
 * ends the work. */
typedef status (*requant_pulse)(void *ctx, uint64_t bytes, error *err);

/* Converts one tensor into `sink`. */
NODISCARD status requant_crew_run(requant_crew *c, const requant_tensor *t, gguf_sink *sink,
                                  requant_pulse pulse, void *ctx, error *err);

#endif
