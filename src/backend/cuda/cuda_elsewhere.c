/* cuda_elsewhere.c - experts that the CPU computes: the first layers' of a model that has too many
 * for the GPU's memory.
 *
 *   compute  .. router  k_route | rows, choice down | a call of the host | sums up | next op ..
 *   driver's thread                                   experts of a layer,
 *                                                     with the threads of the CPU's pool
 *
 * The call stands in the stream as kernels do, and in graphs as a node, so nobody waits in between
 * but the GPU.  All layers go through the same pinned memory, for they come one after the other.
 * Nothing is called once the GPU has failed; steps are not queued ahead (engine.c). */
#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda_device_internal.h"
#include "backend/cuda/cuda_lower.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/os.h"

/* What computes them. */
static const backend_ops *const cpu = &backend_cpu;

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

status cuda_elsewhere_plan(const program *host, const backend_options *opt, backend_memory *out,
                           error *err) {
    TRY(cpu->plan(host, opt, out, err));
    out->stored = program_stored_bytes(host);
    ASSERT(out->replaced <= out->stored);
    return OK;
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

static status open_layers(backend *b, error *err) {
    cuda_elsewhere *e = &b->elsewhere;
    e->count = program_expert_layers(e->host);
    e->layers = mem_try_calloc(e->count, sizeof *e->layers);
    if (e->layers == NULL)
        return error_set(err, ERR_NOMEM, "cuda: no memory for %u layers of experts", e->count);
    for (uint32_t i = 0; i < e->count; i++)
        e->layers[i] = (cuda_elsewhere_layer){.b = b, .layer = i};
    return OK;
}

status cuda_elsewhere_open(backend *b, const backend_options *opt, error *err) {
    cuda_elsewhere *e = &b->elsewhere;
    if (e->host == NULL) return OK;
    TRY(open_layers(b, err));
    for (uint32_t i = 0; i < CUDA_ELSEWHERE_BLOCKS; i++)
        TRY(cuda_pinned_open(&e->pinned[i], &b->dev, (size_t)pinned_bytes_of(e->device, i), err));
    return cpu->open(&e->cpu, e->host, opt, err);
}

/* A GPU that was lost while the host computes says so before the call has returned. */
static void wait_for_call(const cuda_elsewhere *e) {
    while (atomic_load(&e->running)) os_sleep_ms(1);
}

void cuda_elsewhere_close(backend *b) {
    cuda_elsewhere *e = &b->elsewhere;
    wait_for_call(e);
    cpu->close(e->cpu);
    for (uint32_t i = 0; i < CUDA_ELSEWHERE_BLOCKS; i++) cuda_pinned_close(&e->pinned[i]);
    program_destroy(e->host);
    program_destroy(e->device);
    mem_free(e->layers);
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
        .layer = before};
    const cuda_launch_entry e = {
        .kernel = CUDA_KERNEL_COUNT, .many = CUDA_KERNEL_COUNT, .rows = ROWS_ALL};
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- a step -------------------- */

void cuda_elsewhere_begin(backend *b, const batch *in) { b->elsewhere.in = *in; }

/* On a thread of the driver's, in the order of the stream. */
static void compute(void *ctx) {
    cuda_elsewhere_layer *l = ctx;
    cuda_elsewhere *e = &l->b->elsewhere;
    atomic_store(&e->running, true);
    const uint64_t began_ns = os_now_ns();
    batch in = e->in;
    in.input = e->pinned[0].host;
    in.routed = e->pinned[1].host;
    const float *sums = cpu->step_layer(e->cpu, l->layer, &in);
    memcpy(e->pinned[2].host, sums, (size_t)in.rows * l->cols * sizeof *sums);
    l->ns = os_now_ns() - began_ns;
    atomic_store(&e->running, false);
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
    e->layers[a->layer].cols = a->cols[2];
    (void)cuda_copy_out(dev, dev->compute, e->pinned[0].host, a->at[0], bytes[0]);
    (void)cuda_copy_out(dev, dev->compute, e->pinned[1].host, a->at[1], bytes[1]);
    (void)call(dev, &e->layers[a->layer]);
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
    if (b->elsewhere.cpu == NULL) return OK;
    return cpu->load(b->elsewhere.cpu, progress != NULL ? &shared : NULL, err);
}

/* --- reports -------------------- */

void cuda_elsewhere_report(const backend *b, backend_report *out) {
    backend_report of;
    if (b->elsewhere.cpu == NULL) return;
    cpu->report(b->elsewhere.cpu, &of);
    if (str_eq(str_of(of.numerics), S("fast"))) out->numerics = of.numerics;
    out->tasks += of.tasks;
    out->ops_fused += of.ops_fused;
    out->ops_unfused += of.ops_unfused;
    const size_t n = strlen(out->what);
    (void)snprintf(out->what + n, sizeof out->what - n, " + %s experts", of.what);
}

status cuda_elsewhere_profile(backend *b, bool on, error *err) {
    return b->elsewhere.cpu == NULL ? OK : cpu->profile(b->elsewhere.cpu, on, err);
}

/* What the CPU needs is in its own profile: here the launches have what is left, the ways. */
void cuda_elsewhere_settle(backend *b) {
    cuda_profile *f = &b->profile;
    for (uint32_t i = 0; i < b->lowered.count; i++) {
        const cuda_launch_entry *entry = &b->lowered.launches[i];
        if (entry->kernel != CUDA_KERNEL_COUNT || !f->tasks[i].ran) continue;
        const cuda_elsewhere_args *a = (const void *)(b->lowered.args + entry->args_at);
        const uint64_t ns = b->elsewhere.layers[a->layer].ns;
        f->tasks[i].ns -= num_min_u64(f->tasks[i].ns, ns);
        f->ns -= num_min_u64(f->ns, ns);
    }
}

uint32_t cuda_elsewhere_profiled(const backend *b, backend_profile *out) {
    if (b->elsewhere.cpu == NULL) return 0;
    return cpu->profiled(b->elsewhere.cpu, out);
}
