/* api_stream.c - streams and events. */
#include "cudasim/driver/sim_internal.h"

#include <stdlib.h>

/* Handles that stand for default streams without a stream of that name: per process and thread. */
#define STREAM_LEGACY     ((uintptr_t)1)
#define STREAM_PER_THREAD ((uintptr_t)2)

/* --- streams -------------------- */

static sim_stream *default_stream(sim_device *device, cu_result *result) {
    sim.default_stream_uses++;
    *result = capture_implicit(device);
    return *result == CU_SUCCESS ? device->default_stream : NULL;
}

sim_stream *stream_find(sim_device *device, cu_stream handle, cu_result *result) {
    uintptr_t number = (uintptr_t)handle;
    if (number == 0 || number == STREAM_LEGACY || number == STREAM_PER_THREAD)
        return default_stream(device, result);
    sim_stream *s = sim_handle_get(SIM_STREAM, handle);
    bool is_ours = s != NULL && s->device == device;
    *result = is_ours ? CU_SUCCESS : CU_INVALID_HANDLE;
    return is_ours ? s : NULL;
}

static cu_result stream_create(sim_device *device, cu_stream *out, unsigned flags) {
    if (out == NULL || flags > CU_STREAM_NON_BLOCKING_FLAG) return CU_INVALID_VALUE;
    sim_stream *s = queue_open(device, flags == 0);
    s->handle = sim_handle_new(SIM_STREAM, s);
    *out = s->handle;
    return CU_SUCCESS;
}

/* Priorities outside of the device's range are clamped, not refused. */
cu_result cuStreamCreateWithPriority(cu_stream *out, unsigned flags, int priority) {
    (void)priority;
    SIM_IN_CONTEXT(cuStreamCreateWithPriority, stream_create(device, out, flags));
}

/* A branch that goes takes its capture's sense with it; an origin the whole capture. */
static void leave_capture(sim_stream *s) {
    if (s->capture == NULL) return;
    if (s->capture->origin == s) {
        capture_drop(s);
        return;
    }
    s->capture->broken = true;
    s->capture = NULL;
}

static void stream_close(sim_stream *s) {
    leave_capture(s);
    sim_handle_drop(s->handle);
    queue_destroy(s);
}

static cu_result stream_destroy(const sim_device *device, cu_stream handle) {
    sim_stream *s = sim_handle_get(SIM_STREAM, handle);
    if (s == NULL || s->device != device) return CU_INVALID_HANDLE;
    stream_close(s);
    return CU_SUCCESS;
}

cu_result cuStreamDestroy_v2(cu_stream stream) {
    SIM_IN_CONTEXT(cuStreamDestroy_v2, stream_destroy(device, stream));
}

static cu_result stream_sync(sim_device *device, cu_stream handle) {
    cu_result result;
    sim_stream *s = stream_find(device, handle, &result);
    if (s == NULL) return result;
    result = capture_unsafe_on(s);
    if (result != CU_SUCCESS) return result;
    queue_drain(s);
    return sim_status(device);
}

cu_result cuStreamSynchronize(cu_stream stream) {
    SIM_IN_CONTEXT(cuStreamSynchronize, stream_sync(device, stream));
}

/* The answer is of before; the work that was pending runs after it. */
static cu_result stream_query(sim_device *device, cu_stream handle) {
    cu_result result;
    sim_stream *s = stream_find(device, handle, &result);
    if (s == NULL) return result;
    result = capture_unsafe_on(s);
    if (result != CU_SUCCESS) return result;
    if (queue_is_empty(s)) return sim_status(device);
    if (sim.topology->streams != SIM_RANDOM) queue_drain(s);
    return CU_NOT_READY;
}

cu_result cuStreamQuery(cu_stream stream) {
    SIM_IN_CONTEXT(cuStreamQuery, stream_query(device, stream));
}

static cu_result stream_wait(sim_device *device, cu_stream handle, cu_event event_handle,
                             unsigned flags) {
    cu_result result;
    const sim_event *event = sim_handle_get(SIM_EVENT, event_handle);
    if (flags != 0) return CU_INVALID_VALUE;
    if (event == NULL) return CU_INVALID_HANDLE;
    sim_stream *s = stream_find(device, handle, &result);
    if (s == NULL) return result;
    if (s->capture != NULL || event->capture_id != 0) return capture_wait(s, event);
    if (event->last == NULL || event->last->done) return CU_SUCCESS;
    queue_push(s, op_marker(OP_WAIT, event->last));
    queue_settle(s);
    return CU_SUCCESS;
}

cu_result cuStreamWaitEvent(cu_stream stream, cu_event event, unsigned flags) {
    SIM_IN_CONTEXT(cuStreamWaitEvent, stream_wait(device, stream, event, flags));
}

/* --- events -------------------- */

static cu_result event_create(sim_device *device, cu_event *out, unsigned flags) {
    unsigned known = CU_EVENT_BLOCKING_SYNC_FLAG | CU_EVENT_DISABLE_TIMING_FLAG;
    if (out == NULL || (flags & ~known) != 0) return CU_INVALID_VALUE;
    sim_event *e = sim_new(sizeof *e);
    e->device = device;
    e->timing = (flags & CU_EVENT_DISABLE_TIMING_FLAG) == 0;
    e->handle = sim_handle_new(SIM_EVENT, e);
    *out = e->handle;
    return CU_SUCCESS;
}

cu_result cuEventCreate(cu_event *out, unsigned flags) {
    SIM_IN_CONTEXT(cuEventCreate, event_create(device, out, flags));
}

static void event_free(sim_event *e) {
    sim_handle_drop(e->handle);
    marker_unref(e->last);
    free(e);
}

static sim_event *event_find(const sim_device *device, cu_event handle) {
    sim_event *e = sim_handle_get(SIM_EVENT, handle);
    return e != NULL && e->device == device ? e : NULL;
}

static cu_result event_destroy(const sim_device *device, cu_event handle) {
    sim_event *e = event_find(device, handle);
    if (e == NULL) return CU_INVALID_HANDLE;
    event_free(e);
    return CU_SUCCESS;
}

cu_result cuEventDestroy_v2(cu_event event) {
    SIM_IN_CONTEXT(cuEventDestroy_v2, event_destroy(device, event));
}

static cu_result event_record(sim_device *device, cu_event handle, cu_stream stream_handle) {
    cu_result result;
    sim_event *e = event_find(device, handle);
    if (e == NULL) return CU_INVALID_HANDLE;
    sim_stream *s = stream_find(device, stream_handle, &result);
    if (s == NULL) return result;
    if (s->capture != NULL) return capture_record(s, e);
    marker_unref(e->last);
    e->capture_id = 0;
    e->last = marker_new(s);
    queue_push(s, op_marker(OP_RECORD, e->last));
    queue_settle(s);
    return CU_SUCCESS;
}

cu_result cuEventRecord(cu_event event, cu_stream stream) {
    SIM_IN_CONTEXT(cuEventRecord, event_record(device, event, stream));
}

static cu_result event_check(const sim_device *device, cu_event handle, sim_event **out) {
    *out = event_find(device, handle);
    if (*out == NULL) return CU_INVALID_HANDLE;
    cu_result result = capture_event_check(*out);
    return result != CU_SUCCESS ? result : capture_unsafe();
}

static cu_result event_query(const sim_device *device, cu_event handle) {
    sim_event *e;
    cu_result result = event_check(device, handle, &e);
    if (result != CU_SUCCESS) return result;
    if (e->last == NULL || e->last->done) return sim_status(device);
    if (sim.topology->streams != SIM_RANDOM) queue_reach(e->last);
    return CU_NOT_READY;
}

cu_result cuEventQuery(cu_event event) { SIM_IN_CONTEXT(cuEventQuery, event_query(device, event)); }

static cu_result event_sync(const sim_device *device, cu_event handle) {
    sim_event *e;
    cu_result result = event_check(device, handle, &e);
    if (result != CU_SUCCESS) return result;
    if (e->last != NULL) queue_reach(e->last);
    return sim_status(device);
}

cu_result cuEventSynchronize(cu_event event) {
    SIM_IN_CONTEXT(cuEventSynchronize, event_sync(device, event));
}

static cu_result event_elapsed(const sim_device *device, float *ms, cu_event from_handle,
                               cu_event to_handle) {
    const sim_event *from = event_find(device, from_handle), *to = event_find(device, to_handle);
    if (ms == NULL) return CU_INVALID_VALUE;
    if (from == NULL || to == NULL || !from->timing || !to->timing) return CU_INVALID_HANDLE;
    if (from->last == NULL || to->last == NULL) return CU_INVALID_HANDLE;
    if (!from->last->done || !to->last->done) return CU_NOT_READY;
    *ms = (float)((double)to->last->at_ns - (double)from->last->at_ns) * 1e-6f;
    return CU_SUCCESS;
}

cu_result cuEventElapsedTime(float *ms, cu_event from, cu_event to) {
    SIM_IN_CONTEXT(cuEventElapsedTime, event_elapsed(device, ms, from, to));
}

/* --- functions of the host -------------------- */

static cu_result launch_host(sim_device *device, cu_stream handle, cu_host_fn fn, void *ctx) {
    cu_result result;
    sim_stream *s = stream_find(device, handle, &result);
    if (fn == NULL) return CU_INVALID_VALUE;
    if (s == NULL) return result;
    sim_op *op = op_new(OP_CALL);
    op->call = (sim_call_op){.fn = fn, .ctx = ctx};
    return queue_submit(s, op);
}

cu_result cuLaunchHostFunc(cu_stream stream, cu_host_fn fn, void *ctx) {
    SIM_IN_CONTEXT(cuLaunchHostFunc, launch_host(device, stream, fn, ctx));
}

/* --- the end of a context -------------------- */

static uint64_t events_release(const sim_device *device) {
    uint64_t count = 0;
    sim_event *e;
    for (uint32_t at = 0; (e = sim_handle_next(SIM_EVENT, &at)) != NULL;) {
        if (e->device != device) continue;
        event_free(e);
        count++;
    }
    return count;
}

uint64_t streams_release(sim_device *device) {
    uint64_t count = events_release(device);
    sim_stream *s;
    for (uint32_t at = 0; (s = sim_handle_next(SIM_STREAM, &at)) != NULL;) {
        if (s->device != device) continue;
        stream_close(s);
        count++;
    }
    if (device->default_stream != NULL) queue_destroy(device->default_stream);
    device->default_stream = NULL;
    queue_discard(device);
    queue_reap();
    return count;
}
