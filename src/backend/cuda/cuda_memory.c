/* cuda_memory.c - see cuda_memory.h. */
#include "backend/cuda/cuda_memory.h"

#include "backend/cuda/cuda_device_internal.h"
#include "base/assert.h"
#include "base/num.h"

double cuda_mib(uint64_t bytes) { return (double)bytes / (1024.0 * 1024.0); }

static status out_of_memory(cuda_device *dev, const char *name, size_t bytes, error *err) {
    uint64_t free_bytes = 0, total_bytes = 0;
    TRY(cuda_device_memory(dev, &free_bytes, &total_bytes, err));
    return error_set(err, ERR_NOMEM,
                     "cuda: arena %s: %.1f MiB asked for, %.1f of %.1f MiB free on GPU %d '%s'",
                     name, cuda_mib(bytes), cuda_mib(free_bytes), cuda_mib(total_bytes),
                     dev->ordinal, dev->name);
}

status cuda_arena_open(cuda_arena *out, cuda_device *dev, const char *name, size_t bytes,
                       error *err) {
    ASSERT(!dev->frozen);
    cuda_arena a = {.dev = dev, .name = name, .bytes = bytes};
    if (bytes > 0) {
        cu_result code = dev->driver->mem_alloc(&a.base, bytes);
        if (code == CU_OUT_OF_MEMORY) return out_of_memory(dev, name, bytes, err);
        TRY(cuda_check(dev, code, "cuMemAlloc_v2", err));
    }
    ASSERT(a.base % CUDA_ALIGN_BYTES == 0);
    *out = a;
    return OK;
}

void cuda_arena_close(cuda_arena *a) {
    if (a->base != 0) (void)a->dev->driver->mem_free(a->base);
    *a = (cuda_arena){.dev = NULL};
}

size_t cuda_arena_cost(size_t bytes) {
    ASSERT(bytes <= SIZE_MAX - CUDA_ALIGN_BYTES);
    return num_align_size(bytes, CUDA_ALIGN_BYTES);
}

status cuda_arena_take(cuda_arena *a, size_t bytes, cu_ptr *out, error *err) {
    size_t left = a->bytes - a->taken_bytes;
    if (bytes > left)
        return error_set(err, ERR_LIMIT, "cuda: arena %s: %zu of %zu bytes taken, %zu asked for",
                         a->name, a->taken_bytes, a->bytes, bytes);
    *out = a->base + a->taken_bytes;
    a->taken_bytes += num_min_size(cuda_arena_cost(bytes), left); /* the last one may end early */
    return OK;
}

void cuda_arena_reset(cuda_arena *a) { a->taken_bytes = 0; }
