/* queue.c - streams: which operation runs when.
 *
 * Each stream is a list of operations that run in order; a wait stands for a marker that a record
 * in another stream sets.  A record is always queued before any wait for it, so following waits to
 * the stream they wait for comes to an end.
 *   eager     an operation runs when it is given
 *   deferred  it runs when a synchronising call, or a wait of something that does, asks for it
 *   random    after each call, a few operations of any streams that can go on */
#include "cudasim/driver/sim_internal.h"

#include <stdlib.h>
#include <string.h>

enum { STIR_STEPS_MAX = 4 };

/* --- markers -------------------- */

sim_marker *marker_new(sim_stream *stream) {
    sim_marker *m = sim_new(sizeof *m);
    m->refs = 1;
    m->stream = stream;
    return m;
}

sim_marker *marker_ref(sim_marker *marker) {
    marker->refs++;
    return marker;
}

void marker_unref(sim_marker *marker) {
    if (marker != NULL && --marker->refs == 0) free(marker);
}

/* --- operations -------------------- */

sim_op *op_new(sim_op_kind kind) {
    sim_op *op = sim_new(sizeof *op);
    op->kind = kind;
    return op;
}

sim_op *op_marker(sim_op_kind kind, sim_marker *marker) {
    sim_op *op = op_new(kind);
    op->marker = marker_ref(marker);
    return op;
}

static void *copy_of(const void *bytes, size_t count) {
    void *copy = sim_new(count);
    memcpy(copy, bytes, count);
    return copy;
}

sim_op *op_clone(const sim_op *op) {
    sim_op *clone = copy_of(op, sizeof *op);
    clone->next = NULL;
    if (op->kind == OP_KERNEL)
        clone->kernel.args = copy_of(op->kernel.args, op->kernel.kernel->args_bytes);
    if (op->kind == OP_COPY && op->copy.staged != NULL)
        clone->copy.staged = copy_of(op->copy.staged, op->copy.bytes);
    return clone;
}

void op_free(sim_op *op) {
    if (op->kind == OP_KERNEL) free(op->kernel.args);
    if (op->kind == OP_COPY) free(op->copy.staged);
    if (op->kind == OP_RECORD || op->kind == OP_WAIT) marker_unref(op->marker);
    free(op);
}

void op_list_add(sim_op_list *list, sim_op *op) {
    if (list->tail == NULL) list->tail = &list->head;
    *list->tail = op;
    list->tail = &op->next;
    list->count++;
}

sim_op *op_list_take(sim_op_list *list) {
    sim_op *op = list->head;
    if (op == NULL) return NULL;
    list->head = op->next;
    if (list->head == NULL) list->tail = NULL;
    list->count--;
    op->next = NULL;
    return op;
}

void op_list_clear(sim_op_list *list) {
    for (sim_op *op; (op = op_list_take(list)) != NULL;) op_free(op);
}

/* --- streams -------------------- */

sim_stream *queue_open(sim_device *device, bool blocking) {
    sim_stream *s = sim_new(sizeof *s);
    s->device = device;
    s->blocking = blocking;
    s->next = sim.streams;
    sim.streams = s;
    return s;
}

void queue_destroy(sim_stream *stream) {
    stream->destroyed = true;
    stream->handle = NULL;
}

bool queue_is_empty(const sim_stream *stream) { return stream->queue.head == NULL; }

void queue_reap(void) {
    for (sim_stream **at = &sim.streams; *at != NULL;) {
        sim_stream *s = *at;
        if (!s->destroyed || !queue_is_empty(s)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        free(s);
    }
}

/* What the device's streams hold never runs; whoever waits for it need not. */
void queue_discard(const sim_device *device) {
    for (sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s->device != device) continue;
        for (sim_op *op; (op = op_list_take(&s->queue)) != NULL; op_free(op)) {
            if (op->kind != OP_RECORD) continue;
            op->marker->done = true;
            op->marker->stream = NULL;
        }
    }
}

/* --- running -------------------- */

static bool is_blocked(const sim_stream *stream) {
    const sim_op *op = stream->queue.head;
    return op->kind == OP_WAIT && !op->marker->done;
}

static void run_next(sim_stream *stream) {
    sim_op *op = op_list_take(&stream->queue);
    op_run(stream->device, op);
    op_free(op);
}

/* Runs one operation that this stream needs next, in whichever stream that is. */
static void advance(sim_stream *stream) {
    while (is_blocked(stream)) stream = stream->queue.head->marker->stream;
    run_next(stream);
}

void queue_drain(sim_stream *stream) {
    while (!queue_is_empty(stream)) advance(stream);
}

void queue_drain_device(const sim_device *device) {
    for (sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s->device == device) queue_drain(s);
    }
}

void queue_reach(sim_marker *marker) {
    while (!marker->done) advance(marker->stream);
}

static sim_stream *random_runnable(void) {
    sim_stream *chosen = NULL;
    uint64_t seen = 0;
    for (sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (queue_is_empty(s) || is_blocked(s)) continue;
        if (sim_random() % ++seen == 0) chosen = s;
    }
    return chosen;
}

/* Often nothing: work that is put off is what finds missing waits. */
void queue_stir(void) {
    if ((sim_random() >> 63) != 0) return;
    for (uint64_t steps = sim_random() % STIR_STEPS_MAX; steps > 0; steps--) {
        sim_stream *s = random_runnable();
        if (s == NULL) return;
        run_next(s);
    }
}

/* --- giving -------------------- */

/* The next operation of `later` waits for all that `earlier` holds now. */
static void join(sim_stream *later, sim_stream *earlier) {
    sim_marker *m = marker_new(earlier);
    op_list_add(&earlier->queue, op_marker(OP_RECORD, m));
    op_list_add(&later->queue, op_marker(OP_WAIT, m));
    marker_unref(m);
}

/* CUDA driver API, stream synchronization behavior: the default stream and blocking streams wait
 * for each other. */
static void join_implicit(sim_stream *stream) {
    sim_stream *zero = stream->device->default_stream;
    if (stream != zero) {
        if (stream->blocking && zero != NULL && !queue_is_empty(zero)) join(stream, zero);
        return;
    }
    for (sim_stream *s = sim.streams; s != NULL; s = s->next) {
        if (s != zero && s->device == stream->device && s->blocking && !queue_is_empty(s))
            join(zero, s);
    }
}

void queue_push(sim_stream *stream, sim_op *op) {
    join_implicit(stream);
    op_list_add(&stream->queue, op);
}

void queue_settle(sim_stream *stream) {
    if (sim.topology->streams == SIM_EAGER) queue_drain(stream);
}

cu_result queue_submit(sim_stream *stream, sim_op *op) {
    if (stream->capture != NULL) return capture_add(stream, op);
    queue_push(stream, op);
    queue_settle(stream);
    return CU_SUCCESS;
}
