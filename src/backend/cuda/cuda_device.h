/* cuda_device.h - one opened GPU: its context, streams and kernels, and the launching of them.
 *
 * Owner: the engine; one thread at a time, which has called cuda_device_enter() unless it is the
 * one that opened.  The first failure of a launch or copy is kept and every later call returns it:
 * a step queues all its work without looking and asks cuda_sync() at its end. */
#ifndef BACKEND_CUDA_CUDA_DEVICE_H
#define BACKEND_CUDA_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/cu_driver.h"
#include "backend/cuda/cuda_image.h"
#include "base/error.h"

/* CUDA_k_norm and so on, from cuda/kernels.def. */
typedef enum cuda_kernel_id {
#define X(file, name, args, threads) CUDA_##name,
#include "kernels.def"
#undef X
    CUDA_KERNEL_COUNT
} cuda_kernel_id;

const char *cuda_kernel_name(cuda_kernel_id id); /* "k_norm" */

typedef struct cuda_kernel {
    cu_function function;        /* NULL: the code path of this device has no such kernel */
    uint32_t threads_max;        /* its launch bound */
    uint32_t args_bytes;         /* of its argument struct */
    uint32_t shared_bytes;       /* static */
    uint32_t shared_dynamic_max; /* what a launch may ask for so far */
    uint32_t registers;
    uint32_t local_bytes; /* per thread: what did not fit into registers */
} cuda_kernel;

enum { CUDA_MODULES_MAX = 64 };

/* Where a launch is in a chain of them (cuda_chain). */
typedef enum cuda_chain_place {
    CUDA_CHAIN_NONE,
    CUDA_CHAIN_FIRST,
    CUDA_CHAIN_NEXT
} cuda_chain_place;

typedef struct cuda_device {
    const cu_driver *driver; /* borrowed, outlives us */
    cu_device handle;
    cu_context context;
    cu_stream compute; /* of high priority; all kernels */
    cu_stream upload, download;
    cu_event order; /* of cuda_after() */

    int ordinal;
    char name[96];
    int cc; /* 75: compute capability 7.5 */
    uint32_t sm_count;
    uint32_t shared_block_max; /* bytes a block may have, static and dynamic together */
    uint64_t memory_bytes;
    uint64_t context_bytes; /* taken when all was open, other processes included */
    uint64_t modules_bytes; /* of them by streams and kernels, measured */
    cuda_image image;
    uint32_t spilled_count; /* kernels with local memory */

    uint32_t modules_count;
    cu_module modules[CUDA_MODULES_MAX];
    cuda_kernel kernels[CUDA_KERNEL_COUNT];

    bool overlaps;           /* kernels of a chain may start early (cuda_device_overlap), ... */
    bool overlaps_in_graphs; /* ... those that are recorded, too */
    cuda_chain_place chain;
    bool frozen;             /* allocating asserts */
    bool check_each_launch;  /* for finding bugs: cuda_launch() waits, so the kernel is known */
    const char *last_launch; /* name of the kernel queued last; NULL: none */
    cu_result fault;         /* code of the first failure; 0: none */
    error failure;           /* its message */
} cuda_device;

/* Opens GPU `ordinal` of an initialised driver with kernels from `images`, and makes it current on
 * this thread; *out is zeroed on failure.  Errors: ERR_NOT_FOUND (no such GPU, a kernel is not
 * there), ERR_UNSUPPORTED (no code for that card), ERR_NOMEM, ERR_DEVICE; what a JIT compiler
 * complains about is in the message. */
NODISCARD status cuda_device_open(cuda_device *out, const cu_driver *driver, int ordinal,
                                  const cuda_images *images, error *err);
/* Everything that was allocated on it must be freed before.  Harmless when zeroed. */
void cuda_device_close(cuda_device *dev);

/* Makes the GPU current on the calling thread. */
NODISCARD status cuda_device_enter(cuda_device *dev, error *err);

/* From now on an allocation in this layer is a bug, unless thawed for it: it asserts.  Closing
 * thaws. */
void cuda_device_freeze(cuda_device *dev);
/* Between steps, for what comes and goes while an engine runs; returns what it was. */
bool cuda_device_thaw(cuda_device *dev);

NODISCARD status cuda_device_memory(cuda_device *dev, uint64_t *free_bytes, uint64_t *total_bytes,
                                    error *err);

/* Let launches of `id` ask for up to `bytes` of dynamic shared memory: needed for more than 48 KB,
 * and only before a graph is captured.  ERR_UNSUPPORTED with the card's limit. */
NODISCARD status cuda_kernel_allow_shared(cuda_device *dev, cuda_kernel_id id, uint32_t bytes,
                                          error *err);

/* Blocks of that shape that one SM holds at the same time. */
NODISCARD status cuda_kernel_occupancy(cuda_device *dev, cuda_kernel_id id, uint32_t threads,
                                       uint32_t shared_bytes, uint32_t *blocks, error *err);

/* Queue a kernel on `compute`.  args: its struct of abi.h, copied before this returns.  Grids > 0.
 * shared_bytes, dynamic, beyond 48 KB are allowed on the first launch that asks for them. */
status cuda_launch(cuda_device *dev, cuda_kernel_id id, uint32_t grid_x, uint32_t grid_y,
                   uint32_t threads, uint32_t shared_bytes, const void *args, size_t args_bytes);

/* Kernels that overlap, by programmatic dependent launch (cuda/ck.h has the rules): a kernel starts
 * while the one ahead of it ends, and prefetches its weights.  Only where the code that was loaded
 * can wait for it, which is that of compute capability 9.0 and later, and the driver can launch so.
 * Not `wanted`: never.  Logs once what it came to. */
void cuda_device_overlap(cuda_device *dev, bool wanted);
/* From here on until it is off again each launch but the first may start early, and nothing else is
 * queued on `compute` without a cuda_chain_anew() behind it.  recording: into a graph. */
void cuda_chain(cuda_device *dev, bool on, bool recording);
/* The driver makes no graph with such launches, or none at all: they are recorded plain from now
 * on. */
void cuda_overlap_unrecorded(cuda_device *dev, cu_result code, const char *call);
/* Something else was queued: the next launch waits for all of it, as a first one. */
void cuda_chain_anew(cuda_device *dev);

/* Queue copies and fills on a stream of the device; host memory is pinned and stays until the
 * stream got there.  bytes == 0 is fine. */
status cuda_copy_in(cuda_device *dev, cu_stream stream, cu_ptr dst, const void *src, size_t bytes);
status cuda_copy_out(cuda_device *dev, cu_stream stream, void *dst, cu_ptr src, size_t bytes);
status cuda_copy(cuda_device *dev, cu_stream stream, cu_ptr dst, cu_ptr src, size_t bytes);
status cuda_fill(cuda_device *dev, cu_stream stream, cu_ptr dst, uint8_t value, size_t bytes);

/* What queued on `stream` from now on waits for what is on `first` now. */
status cuda_after(cuda_device *dev, cu_stream stream, cu_stream first);

/* Wait for all work on `compute`; the first failure since opening, if there was one. */
NODISCARD status cuda_sync(cuda_device *dev, error *err);
/* The same for any stream of the device. */
NODISCARD status cuda_sync_stream(cuda_device *dev, cu_stream stream, error *err);

/* Note the result of a driver call that was made directly: graphs, events.  Returns its status. */
status cuda_note(cuda_device *dev, cu_result code, const char *call);

/* Is the GPU lost for this process? */
bool cuda_device_is_lost(const cuda_device *dev);

#endif
