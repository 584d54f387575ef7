/* cuda_stage.h - pinned host memory: a ring for uploading weights, and blocks that stay.
 *
 * The ring: take a slot, fill it, send it; the copy goes on while the next slot is filled.
 *
 *     slot 0 [in flight]  slot 1 [in flight]  slot 2 [being filled]  slot 3 [free]
 *
 * A slot comes back when the event behind its copy has passed, so taking waits only when all are in
 * flight.  Owner and thread: those of the device.  Copies run on the device's upload stream: drain,
 * or let `compute` wait with cuda_after(), before kernels read what was sent. */
#ifndef BACKEND_CUDA_CUDA_STAGE_H
#define BACKEND_CUDA_CUDA_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/cuda_device.h"
#include "base/error.h"

/* Pinned memory that stays: a step's descriptor and results.  Zeroed. */
typedef struct cuda_pinned {
    cuda_device *dev; /* borrowed */
    void *host;       /* owned */
    size_t bytes;
} cuda_pinned;

NODISCARD status cuda_pinned_open(cuda_pinned *out, cuda_device *dev, size_t bytes, error *err);
/* The same with anything in it: zeroing gigabytes takes a while. */
NODISCARD status cuda_pinned_open_unset(cuda_pinned *out, cuda_device *dev, size_t bytes,
                                        error *err);
void cuda_pinned_close(cuda_pinned *p); /* harmless when zeroed */

enum { CUDA_STAGE_SLOTS_MAX = 8 };

typedef struct cuda_stage {
    cuda_device *dev;   /* borrowed */
    cuda_pinned memory; /* [slots, slot_bytes] */
    size_t slot_bytes;
    uint32_t slots_count;
    uint32_t next_idx; /* the slot that is taken now, or next */
    bool taken;
    bool sent[CUDA_STAGE_SLOTS_MAX]; /* its event was recorded and not waited for */
    cu_event done[CUDA_STAGE_SLOTS_MAX];
    uint64_t sent_bytes; /* since opening */
} cuda_stage;

/* slots in 1..CUDA_STAGE_SLOTS_MAX */
NODISCARD status cuda_stage_open(cuda_stage *out, cuda_device *dev, size_t slot_bytes,
                                 uint32_t slots, error *err);
/* Waits for what is in flight.  Harmless when zeroed. */
void cuda_stage_close(cuda_stage *s);

/* The next slot, [slot_bytes], once its last copy is done.  One at a time. */
NODISCARD status cuda_stage_take(cuda_stage *s, void **out, error *err);
/* Copy the first `bytes` of the taken slot to dst, and give the slot back. */
NODISCARD status cuda_stage_send(cuda_stage *s, cu_ptr dst, size_t bytes, error *err);

/* The same in pieces: copy any number of parts of the taken slot, then give it back. */
NODISCARD status cuda_stage_copy(cuda_stage *s, cu_ptr dst, size_t offset, size_t bytes,
                                 error *err);
NODISCARD status cuda_stage_give(cuda_stage *s, error *err);

/* Wait until everything that was sent has arrived. */
NODISCARD status cuda_stage_drain(cuda_stage *s, error *err);

#endif
