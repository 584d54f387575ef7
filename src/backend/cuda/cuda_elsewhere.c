/* cuda_elsewhere.c - experts that the CPU computes: the first layers' of a model that has too many
 * for the memory of its GPUs.
 *
 *   compute  .. router  k_route | rows, choice down | a call of the host | sums up | next op ..
 *   driver's thread                                   experts of a layer,
 *                                                     with the threads of the CPU's pool
 *
 * The call stands in the stream as kernels do, and in graphs as a node, so nobody waits in between
 * but the GPU, and a step may be queued behind another.  All layers, and all steps, go through the
 * same pinned memory, for in a stream they come one after the other; what the host has to know of a
 * step it finds by counting those that it has done.
 *
 * The gate: a GPU that is lost says so before a call of its driver has returned, or even begun.  So
 * calls come in through a gate that is shut when the backend is closed, and whoever is inside is
 * waited for.  After a fault the gate itself is left behind: a driver might still knock. */
#include <stdatomic.h>
#include <string.h>

#include "backend/cuda/cuda_device_internal.h"
#include "backend/cuda/cuda_lower.h"
#include "backend/host_experts.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/os.h"

enum gate_state { GATE_OPEN, GATE_BUSY, GATE_SHUT };

typedef struct cuda_elsewhere_gate {
    _Atomic int state;                  /* gate_state; all below is behind it */
    cuda_elsewhere *e;                  /* borrowed */
    struct cuda_elsewhere_gate *before; /* left behind */
    uint32_t count;
    cuda_elsewhere_layer layers[]; /* [count] */
} cuda_elsewhere_gate;

/* --- planning -------------------- */

/* The most columns that operand `which` of a HOST has; 2: its result. */
static uint32_t most_cols(const program *p, uint32_t which) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_HOST) continue;
        most = num_max_u32(most, p->values[which < 2 ? o->in[which] : o->out].cols);
    }
    return most;
}

static uint64_t pinned_bytes_of(const program *device, uint32_t which) {
    return (uint64_t)device->max.rows * most_cols(device, which) * sizeof(float);
}

uint64_t cuda_elsewhere_pinned_bytes(const program *device) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < CUDA_ELSEWHERE_BLOCKS; i++) bytes += pinned_bytes_of(device, i);
    return bytes;
}

/* --- life cycle -------------------- */

status cuda_elsewhere_split(cuda_elsewhere *e, const program *p, uint32_t layers, error *err) {
    const uint32_t most = program_expert_layers(p);
    if (layers > most)
        return error_set(err, ERR_INVALID,
                         "cuda: experts of %u layers on the CPU, the model has %u layers of them",
                         layers, most);
    return program_split_experts(&e->device, &e->host, p, layers, err);
}

static void fill_layers(cuda_elsewhere_gate *g, const program *device, uint32_t first) {
    for (uint32_t i = 0; i < device->ops_count; i++) {
        const op *o = &device->ops[i];
        if (o->kind != OP_HOST) continue;
        g->layers[g->count] = (cuda_elsewhere_layer){
            .gate = g, .layer = first + g->count, .cols = device->values[o->out].cols};
        g->count++;
    }
    g->layers[g->count - 1].is_last = true;
}

static status open_gate(backend *b, uint32_t first, error *err) {
    const uint32_t count = program_host_layers(b->p);
    cuda_elsewhere_gate *g = mem_try_calloc(1, sizeof *g + count * sizeof g->layers[0]);
    if (g == NULL)
        return error_set(err, ERR_NOMEM, "cuda: no memory for %u layers of experts", count);
    g->e = &b->elsewhere;
    fill_layers(g, b->p, first);
    b->elsewhere.gate = g;
    return OK;
}

static status open_steps(backend *b, error *err) {
    const uint32_t rows = b->p->max.rows;
    for (uint32_t i = 0; i < CUDA_STEPS_MAX; i++) {
        cuda_elsewhere_step *s = &b->elsewhere.steps[i];
        s->prompt = mem_try_calloc(rows, sizeof *s->prompt);
        if (s->prompt == NULL)
            return error_set(err, ERR_NOMEM, "cuda: no memory for steps of %u rows", rows);
    }
    return OK;
}

status cuda_elsewhere_open(backend *b, const backend_options *opt, error *err) {
    cuda_elsewhere *e = &b->elsewhere;
    if (program_host_layers(b->p) == 0) return OK;
    ASSERT((e->host == NULL) == (opt->experts != NULL));
    TRY(open_gate(b, opt->experts_first, err));
    TRY(open_steps(b, err));
    for (uint32_t i = 0; i < CUDA_ELSEWHERE_BLOCKS; i++)
        TRY(cuda_pinned_open(&e->pinned[i], &b->dev, (size_t)pinned_bytes_of(b->p, i), err));
    if (e->host != NULL) TRY(host_experts_open(&e->own, e->host, opt, err));
    e->experts = e->own != NULL ? e->own : opt->experts;
    return OK;
}

/* Where they can be found, by whoever looks for memory that nobody has. */
static _Atomic(cuda_elsewhere_gate *) left_behind;

static void leave_behind(cuda_elsewhere_gate *g) {
    g->before = atomic_load(&left_behind);
    while (!atomic_compare_exchange_weak(&left_behind, &g->before, g)) continue;
}

/* From now on nothing of the backend is touched. */
static void shut_gate(cuda_elsewhere_gate *g, bool lost) {
    int state = GATE_OPEN;
    while (!atomic_compare_exchange_strong(&g->state, &state, GATE_SHUT)) {
        os_sleep_ms(1);
        state = GATE_OPEN;
    }
    if (lost)
        leave_behind(g);
    else
        mem_free(g);
}

void cuda_elsewhere_close(backend *b) {
    cuda_elsewhere *e = &b->elsewhere;
    if (e->gate != NULL) shut_gate(e->gate, b->dev.fault != CU_SUCCESS);
    host_experts_close(e->own);
    for (uint32_t i = 0; i < CUDA_ELSEWHERE_BLOCKS; i++) cuda_pinned_close(&e->pinned[i]);
    for (uint32_t i = 0; i < CUDA_STEPS_MAX; i++) mem_free(e->steps[i].prompt);
    program_destroy(e->host);
    program_destroy(e->device);
}

/* --- launches -------------------- */

status lower_host(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    uint32_t before = 0;
    for (uint32_t i = 0; i < op_idx; i++) before += w->p->ops[i].kind == OP_HOST;
    const cuda_elsewhere_args a = {
        .at = {lower_value(w, o->in[0]), lower_value(w, o->in[1]), lower_value(w, o->out)},
        .cols = {w->p->values[o->in[0]].cols, w->p->values[o->in[1]].cols,
                 w->p->values[o->out].cols},
        .idx = before};
    const cuda_launch_entry e = {
        .kernel = CUDA_KERNEL_COUNT, .many = CUDA_KERNEL_COUNT, .rows = ROWS_ALL};
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- a step -------------------- */

/* The step that had this place has ended. */
void cuda_elsewhere_begin(backend *b, const batch *in) {
    cuda_elsewhere_step *s = &b->elsewhere.steps[b->steps_begun % CUDA_STEPS_MAX];
    if (b->elsewhere.gate == NULL) return;
    s->rows = in->rows;
    for (uint32_t r = 0; r < in->rows; r++) s->prompt[r] = in->prompt != NULL && in->prompt[r];
}

static void compute_layer(cuda_elsewhere *e, cuda_elsewhere_layer *l) {
    const uint64_t began_ns = os_now_ns();
    const cuda_elsewhere_step *s = &e->steps[e->steps_done % CUDA_STEPS_MAX];
    const batch in = {.rows = s->rows,
                      .prompt = s->prompt,
                      .input = e->pinned[0].host,
                      .routed = e->pinned[1].host};
    host_experts_sums(e->experts, l->layer, &in, e->pinned[2].host, (size_t)s->rows * l->cols);
    if (l->is_last) e->steps_done++;
    l->ns = os_now_ns() - began_ns;
}

/* On a thread of the driver's, in the order of the stream. */
static void compute(void *ctx) {
    cuda_elsewhere_layer *l = ctx;
    cuda_elsewhere_gate *g = l->gate;
    int state = GATE_OPEN;
    if (!atomic_compare_exchange_strong(&g->state, &state, GATE_BUSY)) return;
    compute_layer(g->e, l);
    atomic_store(&g->state, GATE_OPEN);
}

static status call(cuda_device *dev, cuda_elsewhere_layer *l) {
    if (dev->fault != CU_SUCCESS) return dev->failure.code;
    return cuda_note(dev, dev->driver->launch_host(dev->compute, compute, l), "cuLaunchHostFunc");
}

/* In a graph n is the most rows: what stands in the others is read by nobody. */
void cuda_elsewhere_queue(backend *b, const cuda_launch_entry *entry, uint32_t n) {
    const cuda_elsewhere_args *a = (const void *)(b->lowered.args + entry->args_at);
    cuda_elsewhere *e = &b->elsewhere;
    cuda_device *dev = &b->dev;
    size_t bytes[CUDA_ELSEWHERE_BLOCKS];
    for (uint32_t i = 0; i < CUDA_ELSEWHERE_BLOCKS; i++)
        bytes[i] = (size_t)n * a->cols[i] * sizeof(float);
    (void)cuda_copy_out(dev, dev->compute, e->pinned[0].host, a->at[0], bytes[0]);
    (void)cuda_copy_out(dev, dev->compute, e->pinned[1].host, a->at[1], bytes[1]);
    (void)call(dev, &e->gate->layers[a->idx]);
    (void)cuda_copy_in(dev, dev->compute, a->at[2], e->pinned[2].host, bytes[2]);
    cuda_chain_anew(dev);
}

/* --- loading -------------------- */

typedef struct load_share {
    const backend_progress *progress;
    uint64_t all;
} load_share;

static bool tell_share(void *ctx, uint64_t done, uint64_t total) {
    const load_share *s = ctx;
    (void)total;
    return s->progress->tell(s->progress->ctx, done, s->all);
}

uint64_t cuda_elsewhere_load_bytes(const backend *b) {
    return b->elsewhere.host != NULL ? program_stored_bytes(b->elsewhere.host) : 0;
}

status cuda_elsewhere_load(backend *b, const backend_progress *progress, uint64_t all, error *err) {
    load_share s = {.progress = progress, .all = all};
    const backend_progress shared = {tell_share, &s};
    if (b->elsewhere.own == NULL) return OK;
    return host_experts_load(b->elsewhere.own, progress != NULL ? &shared : NULL, err);
}

/* --- reports -------------------- */

void cuda_elsewhere_report(const backend *b, backend_report *out) {
    if (b->elsewhere.own != NULL) host_experts_report(b->elsewhere.own, out);
}

status cuda_elsewhere_profile(backend *b, bool on, error *err) {
    return b->elsewhere.own == NULL ? OK : host_experts_profile(b->elsewhere.own, on, err);
}

/* What the CPU needs is in its own profile: here the launches have what is left, the ways. */
void cuda_elsewhere_settle(backend *b) {
    cuda_profile *f = &b->profile;
    for (uint32_t i = 0; i < b->lowered.count; i++) {
        const cuda_launch_entry *entry = &b->lowered.launches[i];
        if (entry->kernel != CUDA_KERNEL_COUNT || !f->tasks[i].ran) continue;
        const cuda_elsewhere_args *a = (const void *)(b->lowered.args + entry->args_at);
        const uint64_t ns = b->elsewhere.gate->layers[a->idx].ns;
        f->tasks[i].ns -= num_min_u64(f->tasks[i].ns, ns);
        f->ns -= num_min_u64(f->ns, ns);
    }
}

uint32_t cuda_elsewhere_profiled(const backend *b, backend_profile *out) {
    return b->elsewhere.own == NULL ? 0 : host_experts_profiled(b->elsewhere.own, out);
}
