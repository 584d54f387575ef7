/* api_memory.c - allocation, pinned memory, copies and fills.
 *
 * A copy from pageable memory has read its source when it returns, one to pageable memory has
 * written its destination; with pinned memory both happen when the stream gets there (CUDA driver
 * API, API synchronization behavior). */
#include "cudasim/driver/sim_internal.h"

#include <string.h>

/* --- allocation -------------------- */

#define UNLESS_CAPTURING(work)                         \
    do {                                               \
        cu_result unsafe = capture_unsafe();           \
        return unsafe != CU_SUCCESS ? unsafe : (work); \
    } while (0)

static cu_result mem_alloc(sim_device *device, cu_ptr *out, size_t bytes) {
    UNLESS_CAPTURING(memory_take(device, bytes, out));
}

cu_result cuMemAlloc_v2(cu_ptr *out, size_t bytes) {
    SIM_IN_CONTEXT(cuMemAlloc_v2, mem_alloc(device, out, bytes));
}

static cu_result mem_free(sim_device *device, cu_ptr ptr) {
    UNLESS_CAPTURING(memory_give(device, ptr));
}

cu_result cuMemFree_v2(cu_ptr ptr) { SIM_IN_CONTEXT(cuMemFree_v2, mem_free(device, ptr)); }

static cu_result mem_info(const sim_device *device, size_t *free_bytes, size_t *total_bytes) {
    if (free_bytes == NULL || total_bytes == NULL) return CU_INVALID_VALUE;
    *total_bytes = device->gpu->memory_bytes;
    *free_bytes = device->gpu->memory_bytes - memory_used(device);
    return CU_SUCCESS;
}

cu_result cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    SIM_IN_CONTEXT(cuMemGetInfo_v2, mem_info(device, free_bytes, total_bytes));
}

static cu_result host_alloc(void **out, size_t bytes) {
    UNLESS_CAPTURING(memory_host_take(bytes, out));
}

cu_result cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags; /* portable, mapped and write-combined memory are alike here */
    SIM_IN_CONTEXT(cuMemHostAlloc, host_alloc(out, bytes));
}

static cu_result host_free(const void *ptr) { UNLESS_CAPTURING(memory_host_give(ptr)); }

cu_result cuMemFreeHost(void *ptr) { SIM_IN_CONTEXT(cuMemFreeHost, host_free(ptr)); }

static cu_result host_register(void *ptr, size_t bytes) {
    UNLESS_CAPTURING(memory_register(ptr, bytes));
}

cu_result cuMemHostRegister_v2(void *ptr, size_t bytes, unsigned flags) {
    (void)flags;
    SIM_IN_CONTEXT(cuMemHostRegister_v2, host_register(ptr, bytes));
}

static cu_result host_unregister(const void *ptr) { UNLESS_CAPTURING(memory_unregister(ptr)); }

cu_result cuMemHostUnregister(void *ptr) {
    SIM_IN_CONTEXT(cuMemHostUnregister, host_unregister(ptr));
}

/* --- copies -------------------- */

static void *address(cu_ptr ptr) { return (void *)(uintptr_t)ptr; }

static cu_result submit_copy(sim_stream *stream, const sim_copy_op *copy) {
    sim_op *op = op_new(OP_COPY);
    op->copy = *copy;
    return queue_submit(stream, op);
}

/* What the stream will do later must not see what the host writes from now on.  A stream that runs
 * at once needs no copy of the bytes. */
static void *stage(const sim_stream *stream, const void *src, size_t bytes) {
    if (sim.topology->streams == SIM_EAGER && stream->capture == NULL) return NULL;
    void *staged = sim_new(bytes);
    memcpy(staged, src, bytes);
    return staged;
}

static cu_result to_device(sim_device *device, cu_ptr dst, const void *src, size_t bytes,
                           cu_stream handle) {
    cu_result result;
    sim_stream *stream = stream_find(device, handle, &result);
    if (stream == NULL) return result;
    if (bytes == 0) return CU_SUCCESS;
    if (!memory_is_device(address(dst), bytes, NULL) || src == NULL ||
        memory_touches_device(src, bytes))
        return CU_INVALID_VALUE;
    sim_copy_op copy = {
        .dst = address(dst), .src = src, .bytes = bytes, .to = PLACE_DEVICE, .from = PLACE_PINNED};
    if (!memory_is_pinned(src, bytes)) {
        result = capture_pageable(stream);
        if (result != CU_SUCCESS) return result;
        copy.from = PLACE_PAGEABLE;
        copy.staged = stage(stream, src, bytes);
    }
    return submit_copy(stream, &copy);
}

cu_result cuMemcpyHtoDAsync_v2(cu_ptr dst, const void *src, size_t bytes, cu_stream stream) {
    SIM_IN_CONTEXT(cuMemcpyHtoDAsync_v2, to_device(device, dst, src, bytes, stream));
}

static cu_result to_host(sim_device *device, void *dst, cu_ptr src, size_t bytes,
                         cu_stream handle) {
    cu_result result;
    sim_stream *stream = stream_find(device, handle, &result);
    if (stream == NULL) return result;
    if (bytes == 0) return CU_SUCCESS;
    if (!memory_is_device(address(src), bytes, NULL) || dst == NULL ||
        memory_touches_device(dst, bytes))
        return CU_INVALID_VALUE;
    bool is_pinned = memory_is_pinned(dst, bytes);
    if (!is_pinned) {
        result = capture_pageable(stream);
        if (result != CU_SUCCESS) return result;
    }
    result = submit_copy(stream, &(sim_copy_op){.dst = dst,
                                                .src = address(src),
                                                .bytes = bytes,
                                                .to = is_pinned ? PLACE_PINNED : PLACE_PAGEABLE,
                                                .from = PLACE_DEVICE});
    if (is_pinned || result != CU_SUCCESS) return result;
    queue_drain(stream);
    return sim_status(device);
}

cu_result cuMemcpyDtoHAsync_v2(void *dst, cu_ptr src, size_t bytes, cu_stream stream) {
    SIM_IN_CONTEXT(cuMemcpyDtoHAsync_v2, to_host(device, dst, src, bytes, stream));
}

static cu_result on_device(sim_device *device, cu_ptr dst, cu_ptr src, size_t bytes,
                           cu_stream handle) {
    cu_result result;
    sim_stream *stream = stream_find(device, handle, &result);
    if (stream == NULL) return result;
    if (bytes == 0) return CU_SUCCESS;
    if (!memory_is_device(address(dst), bytes, NULL) ||
        !memory_is_device(address(src), bytes, NULL))
        return CU_INVALID_VALUE;
    return submit_copy(stream, &(sim_copy_op){.dst = address(dst),
                                              .src = address(src),
                                              .bytes = bytes,
                                              .to = PLACE_DEVICE,
                                              .from = PLACE_DEVICE});
}

cu_result cuMemcpyDtoDAsync_v2(cu_ptr dst, cu_ptr src, size_t bytes, cu_stream stream) {
    SIM_IN_CONTEXT(cuMemcpyDtoDAsync_v2, on_device(device, dst, src, bytes, stream));
}

/* Works without peer access too: the driver goes through host memory then. */
static cu_result copy_peer(sim_device *device, cu_ptr dst, cu_context dst_ctx, cu_ptr src,
                           cu_context src_ctx, size_t bytes, cu_stream stream) {
    sim_device *to = sim_handle_get(SIM_CONTEXT, dst_ctx), *to_owner = NULL;
    sim_device *from = sim_handle_get(SIM_CONTEXT, src_ctx), *from_owner = NULL;
    if (to == NULL || from == NULL) return CU_INVALID_CONTEXT;
    if (bytes > 0 && (!memory_is_device(address(dst), bytes, &to_owner) || to_owner != to ||
                      !memory_is_device(address(src), bytes, &from_owner) || from_owner != from))
        return CU_INVALID_VALUE;
    if (sim_status(to) != CU_SUCCESS) return sim_status(to);
    if (sim_status(from) != CU_SUCCESS) return sim_status(from);
    return on_device(device, dst, src, bytes, stream);
}

cu_result cuMemcpyPeerAsync(cu_ptr dst, cu_context dst_ctx, cu_ptr src, cu_context src_ctx,
                            size_t bytes, cu_stream stream) {
    SIM_IN_CONTEXT(cuMemcpyPeerAsync, copy_peer(device, dst, dst_ctx, src, src_ctx, bytes, stream));
}

/* --- fills -------------------- */

static cu_result fill(sim_device *device, const sim_fill_op *what, cu_stream handle) {
    cu_result result;
    sim_stream *stream = stream_find(device, handle, &result);
    if (stream == NULL) return result;
    if (what->count == 0) return CU_SUCCESS;
    if (what->count > SIZE_MAX / what->unit || (uintptr_t)what->dst % what->unit != 0 ||
        !memory_is_device(what->dst, what->count * what->unit, NULL))
        return CU_INVALID_VALUE;
    sim_op *op = op_new(OP_FILL);
    op->fill = *what;
    return queue_submit(stream, op);
}

cu_result cuMemsetD8Async(cu_ptr dst, unsigned char value, size_t bytes, cu_stream stream) {
    sim_fill_op what = {.dst = address(dst), .count = bytes, .value = value, .unit = 1};
    SIM_IN_CONTEXT(cuMemsetD8Async, fill(device, &what, stream));
}

cu_result cuMemsetD32Async(cu_ptr dst, unsigned value, size_t words, cu_stream stream) {
    sim_fill_op what = {.dst = address(dst), .count = words, .value = value, .unit = 4};
    SIM_IN_CONTEXT(cuMemsetD32Async, fill(device, &what, stream));
}
