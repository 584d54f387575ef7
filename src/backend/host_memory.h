/* host_memory.h - KV blocks and states of backends that compute on the host: zeroed pages.
 *
 * Owner: the backend instance it is part of. */
#ifndef BACKEND_HOST_MEMORY_H
#define BACKEND_HOST_MEMORY_H

#include <stddef.h>

#include "base/error.h"

typedef struct host_memory {
    void *kv;      /* owned pages [kv_bytes], or NULL */
    float *states; /* owned pages [state_bytes], or NULL */
    size_t kv_bytes, state_bytes;
} host_memory;

/* Either may be 0 bytes.  What was taken before a failure is freed by host_memory_close(), too. */
NODISCARD status host_memory_open(host_memory *m, size_t kv_bytes, size_t state_bytes, error *err);
/* Harmless when all is zero. */
void host_memory_close(host_memory *m);

#endif
