/* cuda_memory.h - memory of a GPU: few large arenas, each one allocation.
 *
 * After loading there are no new ones but those of adapters, between steps.
 *
 * Owner and thread: those of the device.  All is freed before the device is closed. */
#ifndef BACKEND_CUDA_CUDA_MEMORY_H
#define BACKEND_CUDA_CUDA_MEMORY_H

#include <stddef.h>

#include "backend/cuda/cuda_device.h"
#include "base/error.h"

enum { CUDA_ALIGN_BYTES = 256 };

typedef struct cuda_arena {
    cuda_device *dev; /* borrowed */
    const char *name; /* for messages: "weights"; borrowed, static */
    cu_ptr base;      /* 256-byte aligned */
    size_t bytes;
    size_t taken_bytes;
} cuda_arena;

/* ERR_NOMEM with what was asked for, what is free and what the card has.  bytes == 0: an arena that
 * has nothing to give. */
NODISCARD status cuda_arena_open(cuda_arena *out, cuda_device *dev, const char *name, size_t bytes,
                                 error *err);
void cuda_arena_close(cuda_arena *a); /* harmless when zeroed */

/* `bytes` from a 256-byte boundary on; ERR_LIMIT when the arena has less. */
NODISCARD status cuda_arena_take(cuda_arena *a, size_t bytes, cu_ptr *out, error *err);

/* What cuda_arena_take() of `bytes` uses up: for whoever plans the size of an arena. */
size_t cuda_arena_cost(size_t bytes);

double cuda_mib(uint64_t bytes); /* for messages */

/* Forget what was taken; the memory stays. */
void cuda_arena_reset(cuda_arena *a);

#endif
