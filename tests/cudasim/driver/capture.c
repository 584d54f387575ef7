/* capture.c - a stream whose operations are recorded into a graph instead of being run.
 *
 * Other streams join by waiting for an event that was recorded in the capture, and must be waited
 * for before it ends.  A call that may not be made breaks the capture: it returns a code of its
 * own, all that follows in the capture returns 901, and so does its end (CUDA programming guide,
 * stream capture: prohibited and unhandled operations, invalidation). */
#include "cudasim/driver/sim_internal.h"

#include <stdlib.h>

enum { MODE_GLOBAL = 0, MODE_RELAXED = 2 };

static bool is_origin(const sim_stream *s) { return s->capture != NULL && s->capture->origin == s; }

static sim_capture *find_capture(uint64_t id) {
    for (const sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (is_origin(s) && s->capture->id == id) return s->capture;
    }
    return NULL;
}

static cu_result break_with(sim_capture *capture, cu_result result) {
    capture->broken = true;
    return result;
}

/* --- calls that are not for captures -------------------- */

static bool forbids(const sim_capture *c) {
    return c->mode == MODE_GLOBAL ||
           (c->mode == CU_CAPTURE_THREAD_LOCAL && pthread_equal(c->thread, pthread_self()) != 0);
}

cu_result capture_unsafe(void) {
    cu_result result = CU_SUCCESS;
    for (const sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (is_origin(s) && forbids(s->capture))
            result = break_with(s->capture, CU_STREAM_CAPTURE_UNSUPPORTED);
    }
    return result;
}

cu_result capture_unsafe_on(sim_stream *stream) {
    if (stream->capture != NULL) return break_with(stream->capture, CU_STREAM_CAPTURE_UNSUPPORTED);
    return capture_unsafe();
}

cu_result capture_pageable(sim_stream *stream) {
    if (stream->capture == NULL) return CU_SUCCESS;
    return break_with(stream->capture, CU_STREAM_CAPTURE_UNSUPPORTED);
}

cu_result capture_implicit(const sim_device *device) {
    cu_result result = CU_SUCCESS;
    for (const sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s->device == device && s->blocking && s->capture != NULL)
            result = break_with(s->capture, CU_STREAM_CAPTURE_IMPLICIT);
    }
    return result;
}

/* --- recording -------------------- */

cu_result capture_add(sim_stream *stream, sim_op *op) {
    sim_capture *c = stream->capture;
    if (c->broken) {
        op_free(op);
        return CU_STREAM_CAPTURE_INVALIDATED;
    }
    op_list_add(&c->nodes, op);
    stream->branch_nodes++;
    stream->unjoined = stream != c->origin;
    return CU_SUCCESS;
}

cu_result capture_record(sim_stream *stream, sim_event *event) {
    sim_capture *c = stream->capture;
    if (c->broken) return CU_STREAM_CAPTURE_INVALIDATED;
    marker_unref(event->last);
    event->last = NULL;
    event->capture_id = c->id;
    event->branch = stream;
    event->branch_nodes = stream->branch_nodes;
    return CU_SUCCESS;
}

/* The branch's work is waited for once somebody waits for an event behind all of it. */
static void join_branch(const sim_capture *c, const sim_event *event) {
    for (sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s == event->branch && s->capture == c && s->branch_nodes == event->branch_nodes)
            s->unjoined = false;
    }
}

static cu_result wait_in_capture(sim_stream *stream, const sim_event *event) {
    sim_capture *c = find_capture(event->capture_id);
    if (c == NULL) return SIM_CAPTURED_EVENT; /* of a capture that has ended */
    if (c->broken) return CU_STREAM_CAPTURE_INVALIDATED;
    if (stream->capture != NULL && stream->capture != c) {
        stream->capture->broken = true;
        return break_with(c, SIM_CAPTURE_MERGE);
    }
    if (stream == stream->device->default_stream)
        return break_with(c, CU_STREAM_CAPTURE_UNSUPPORTED);
    if (stream->capture == NULL) {
        stream->capture = c;
        stream->branch_nodes = 0;
        stream->unjoined = false;
        return CU_SUCCESS;
    }
    bool was_unjoined = event->branch != stream && event->branch->unjoined;
    join_branch(c, event);
    if (was_unjoined && stream != c->origin) stream->unjoined = true;
    return CU_SUCCESS;
}

cu_result capture_wait(sim_stream *stream, const sim_event *event) {
    if (event->capture_id != 0) return wait_in_capture(stream, event);
    if (event->last == NULL) return CU_SUCCESS;
    if (stream->capture->broken) return CU_STREAM_CAPTURE_INVALIDATED;
    return break_with(stream->capture, SIM_CAPTURE_ISOLATION);
}

cu_result capture_event_check(const sim_event *event) {
    if (event->capture_id == 0) return CU_SUCCESS;
    sim_capture *c = find_capture(event->capture_id);
    if (c != NULL) c->broken = true;
    return SIM_CAPTURED_EVENT;
}

/* --- begin and end -------------------- */

void capture_drop(sim_stream *stream) {
    sim_capture *c = stream->capture;
    if (c == NULL) return;
    for (sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s->capture != c) continue;
        s->capture = NULL;
        s->unjoined = false;
        s->branch_nodes = 0;
    }
    op_list_clear(&c->nodes);
    free(c);
}

cu_result capture_begin(sim_stream *stream, int mode) {
    if (mode < MODE_GLOBAL || mode > MODE_RELAXED) return CU_INVALID_VALUE;
    if (stream == stream->device->default_stream) return CU_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture != NULL) return SIM_ILLEGAL_STATE;
    sim_capture *c = sim_new(sizeof *c);
    c->id = ++sim.captures;
    c->origin = stream;
    c->thread = pthread_self();
    c->mode = mode;
    stream->capture = c;
    stream->branch_nodes = 0;
    return CU_SUCCESS;
}

static bool has_unjoined(const sim_capture *c) {
    for (const sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s->capture == c && s->unjoined) return true;
    }
    return false;
}

cu_result capture_end(sim_stream *stream, sim_op_list *nodes) {
    sim_capture *c = stream->capture;
    if (c == NULL) return SIM_ILLEGAL_STATE;
    if (c->origin != stream) return break_with(c, SIM_CAPTURE_UNMATCHED);
    if (c->mode != MODE_RELAXED && pthread_equal(c->thread, pthread_self()) == 0)
        return SIM_CAPTURE_WRONG_THREAD;
    cu_result result = CU_SUCCESS;
    if (c->broken)
        result = CU_STREAM_CAPTURE_INVALIDATED;
    else if (has_unjoined(c))
        result = SIM_CAPTURE_UNJOINED;
    if (result == CU_SUCCESS) {
        for (sim_op *op; (op = op_list_take(&c->nodes)) != NULL;) op_list_add(nodes, op);
    }
    capture_drop(stream);
    return result;
}
