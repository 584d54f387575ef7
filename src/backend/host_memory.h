/* host_memory.h - KV blocks and states of backends that compute on the host: zeroed pages.
 *
 * Where other layers of the same blocks are on a GPU, blocks that move to the host's memory are
 * copied here as well: their numbers are given to others on both sides.
 *
 * Owner: the backend instance it is part of. */
#ifndef BACKEND_HOST_MEMORY_H
#define BACKEND_HOST_MEMORY_H

#include <stddef.h>

#include "backend/batch.h"
#include "base/error.h"

typedef struct host_memory {
    void *kv;      /* owned pages [kv_bytes], or NULL */
    float *states; /* owned pages [state_bytes], or NULL */
    void *copies;  /* owned pages [copies_bytes] of blocks, or NULL */
    size_t kv_bytes, state_bytes, copies_bytes;
    size_t block_bytes; /* of a copy */
} host_memory;

/* Either may be 0 bytes.  What was taken before a failure is freed by host_memory_close(), too. */
NODISCARD status host_memory_open(host_memory *m, size_t kv_bytes, size_t state_bytes, error *err);
/* Copies of blocks, as backend_ops.kv_host and the two behind it say. */
NODISCARD status host_memory_copies(host_memory *m, size_t block_bytes, uint32_t blocks,
                                    error *err);
void host_memory_save(host_memory *m, const kv_move *moves, uint32_t count);
void host_memory_load(host_memory *m, const kv_move *moves, uint32_t count);
/* Harmless when all is zero. */
void host_memory_close(host_memory *m);

#endif
