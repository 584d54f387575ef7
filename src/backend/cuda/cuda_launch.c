/* cuda_launch.c - work for an opened GPU: kernels, copies, and waiting; see cuda_device.h.
 *
 * Nothing here looks at the GPU: a call only queues, so what comes back is about the call itself or
 * about work that failed earlier.  That is why the first failure is kept, and why its message names
 * the kernel that was queued last. */
#include <stdio.h>

#include "backend/cuda/cuda_device_internal.h"
#include "base/assert.h"

enum { GRID_Y_MAX = 65535 };

/* --- failures -------------------------------------------------------------- */

status cuda_note(cuda_device *dev, cu_result code, const char *call) {
    if (dev->fault != CU_SUCCESS) return dev->failure.code;
    if (code == CU_SUCCESS) return OK;
    dev->fault = code;
    if (dev->last_launch == NULL || !cu_is_sticky(code))
        return cuda_check(dev, code, call, &dev->failure);
    char what[160]; /* it may be about work that was queued before */
    (void)snprintf(what, sizeof what, "%s (after %s)", call, dev->last_launch);
    return cuda_check(dev, code, what, &dev->failure);
}

status cuda_try(cuda_device *dev, cu_result code, const char *call, error *err) {
    (void)cuda_note(dev, code, call);
    return cuda_noted(dev, err);
}

status cuda_noted(const cuda_device *dev, error *err) {
    if (dev->fault == CU_SUCCESS) return OK;
    if (err != NULL) *err = dev->failure;
    return dev->failure.code;
}

/* --- kernels --------------------------------------------------------------- */

static bool shared_fits(const cuda_device *dev, const cuda_kernel *k, uint32_t bytes) {
    return k->shared_bytes <= dev->shared_block_max &&
           bytes <= dev->shared_block_max - k->shared_bytes;
}

status cuda_kernel_allow_shared(cuda_device *dev, cuda_kernel_id id, uint32_t bytes, error *err) {
    ASSERT(id < CUDA_KERNEL_COUNT);
    cuda_kernel *k = &dev->kernels[id];
    if (bytes <= k->shared_dynamic_max) return OK;
    if (!shared_fits(dev, k, bytes))
        return error_set(err, ERR_UNSUPPORTED,
                         "cuda: %s needs %u + %u bytes of shared memory, GPU %d '%s' has %u",
                         cuda_kernel_name(id), k->shared_bytes, bytes, dev->ordinal, dev->name,
                         dev->shared_block_max);
    TRY(cuda_check(dev,
                   dev->driver->function_set(k->function, CU_FUNC_MAX_DYNAMIC_SHARED, (int)bytes),
                   cuda_kernel_name(id), err));
    k->shared_dynamic_max = bytes;
    return OK;
}

status cuda_kernel_occupancy(cuda_device *dev, cuda_kernel_id id, uint32_t threads,
                             uint32_t shared_bytes, uint32_t *blocks, error *err) {
    ASSERT(id < CUDA_KERNEL_COUNT);
    int count = 0;
    TRY(cuda_check(
        dev, dev->driver->occupancy(&count, dev->kernels[id].function, (int)threads, shared_bytes),
        cuda_kernel_name(id), err));
    *blocks = count > 0 ? (uint32_t)count : 0;
    return OK;
}

static cu_result launch(const cuda_device *dev, const cuda_kernel *k, const cu_launch_config *c,
                        void **params) {
    return dev->driver->launch(k->function, c->grid_x, c->grid_y, c->grid_z, c->block_x, c->block_y,
                               c->block_z, c->shared_bytes, c->stream, params, NULL);
}

static cu_result launch_early(const cuda_device *dev, const cuda_kernel *k, cu_launch_config c,
                              void **params) {
    const cu_launch_attribute early = {.id = CU_LAUNCH_PROGRAMMATIC_SERIALIZATION,
                                       .value = {.number = 1}};
    c.attributes = &early;
    c.attributes_count = 1;
    return dev->driver->launch_ex(&c, k->function, params, NULL);
}

/* The launch of a chain, or any other one.  A driver that launches, but not early, is not
 * asked again. */
static cu_result launch_next(cuda_device *dev, const cuda_kernel *k, const cu_launch_config *c,
                             const void *args) {
    void *params[] = {(void *)(uintptr_t)args}; /* the driver reads it only */
    const bool early = dev->chain == CUDA_CHAIN_NEXT;
    if (dev->chain == CUDA_CHAIN_FIRST) dev->chain = CUDA_CHAIN_NEXT;
    const cu_result code = early ? launch_early(dev, k, *c, params) : launch(dev, k, c, params);
    if (!early || (code != CU_NOT_SUPPORTED && code != CU_INVALID_VALUE)) return code;
    const cu_result plain = launch(dev, k, c, params);
    if (plain == CU_SUCCESS) cuda_overlap_refused(dev, code);
    return plain;
}

status cuda_launch(cuda_device *dev, cuda_kernel_id id, uint32_t grid_x, uint32_t grid_y,
                   uint32_t threads, uint32_t shared_bytes, const void *args, size_t args_bytes) {
    ASSERT(id < CUDA_KERNEL_COUNT);
    const cuda_kernel *k = &dev->kernels[id];
    ASSERT(k->function != NULL && args_bytes == k->args_bytes);
    ASSERT(threads > 0 && threads <= k->threads_max);
    ASSERT(grid_x > 0 && grid_x <= INT32_MAX && grid_y > 0 && grid_y <= GRID_Y_MAX);
    if (dev->fault != CU_SUCCESS) return dev->failure.code;
    if (shared_bytes > k->shared_dynamic_max &&
        cuda_kernel_allow_shared(dev, id, shared_bytes, &dev->failure) != OK) {
        dev->fault = CU_LAUNCH_OUT_OF_RESOURCES;
        return dev->failure.code;
    }
    const char *name = cuda_kernel_name(id);
    const cu_launch_config c = {.grid_x = grid_x,
                                .grid_y = grid_y,
                                .grid_z = 1,
                                .block_x = threads,
                                .block_y = 1,
                                .block_z = 1,
                                .shared_bytes = shared_bytes,
                                .stream = dev->compute};
    status st = cuda_note(dev, launch_next(dev, k, &c, args), name);
    dev->last_launch = name;
    if (st == OK && dev->check_each_launch)
        st = cuda_note(dev, dev->driver->stream_sync(dev->compute), name);
    return st;
}

/* --- copies ---------------------------------------------------------------- */

status cuda_copy_in(cuda_device *dev, cu_stream stream, cu_ptr dst, const void *src, size_t bytes) {
    if (dev->fault != CU_SUCCESS || bytes == 0) return cuda_noted(dev, NULL);
    return cuda_note(dev, dev->driver->copy_to_device(dst, src, bytes, stream),
                     "cuMemcpyHtoDAsync_v2");
}

status cuda_copy_out(cuda_device *dev, cu_stream stream, void *dst, cu_ptr src, size_t bytes) {
    if (dev->fault != CU_SUCCESS || bytes == 0) return cuda_noted(dev, NULL);
    return cuda_note(dev, dev->driver->copy_to_host(dst, src, bytes, stream),
                     "cuMemcpyDtoHAsync_v2");
}

status cuda_copy(cuda_device *dev, cu_stream stream, cu_ptr dst, cu_ptr src, size_t bytes) {
    if (dev->fault != CU_SUCCESS || bytes == 0) return cuda_noted(dev, NULL);
    return cuda_note(dev, dev->driver->copy_on_device(dst, src, bytes, stream),
                     "cuMemcpyDtoDAsync_v2");
}

status cuda_fill(cuda_device *dev, cu_stream stream, cu_ptr dst, uint8_t value, size_t bytes) {
    if (dev->fault != CU_SUCCESS || bytes == 0) return cuda_noted(dev, NULL);
    return cuda_note(dev, dev->driver->fill_bytes(dst, value, bytes, stream), "cuMemsetD8Async");
}

/* --- order ----------------------------------------------------------------- */

/* The event may be used again at once: a wait is for what was recorded when it was queued. */
status cuda_after(cuda_device *dev, cu_stream stream, cu_stream first) {
    if (dev->fault != CU_SUCCESS) return dev->failure.code;
    TRY(cuda_note(dev, dev->driver->event_record(dev->order, first), "cuEventRecord"));
    return cuda_note(dev, dev->driver->stream_wait(stream, dev->order, 0), "cuStreamWaitEvent");
}

status cuda_sync_stream(cuda_device *dev, cu_stream stream, error *err) {
    cu_result code = dev->driver->stream_sync(stream);
    return cuda_try(dev, code, "cuStreamSynchronize", err);
}

status cuda_sync(cuda_device *dev, error *err) { return cuda_sync_stream(dev, dev->compute, err); }
