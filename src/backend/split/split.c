/* split.c - a program in two places: its first layers on the CPU, the others on a GPU.
 *
 *   batch -> [ cpu: embed, layers 0 .. n - 1 ] -- rows -> [ cuda: layers n .., head ] -> result
 *
 * For models that are larger than the GPU's memory.  The embeddings stay on the host, where a row
 * of them costs nothing; the head, which every token reads whole, is the GPU's.  Each part is an
 * instance of its own backend with a program of its own (program_cut), its own blocks of the KV
 * cache under the same numbers, and its own states.  Owner: the engine; calls from one thread at a
 * time. */
#include <stdio.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/str.h"

typedef enum part_id { FRONT, BACK, PART_COUNT } part_id;

static const backend_ops *const kinds[PART_COUNT] = {&backend_cpu, &backend_cuda};

/* The parts borrow from the whole program. */
typedef struct parts {
    program *of[PART_COUNT]; /* owned */
    uint32_t layers[PART_COUNT];
} parts;

typedef struct instance {
    backend *b; /* owned */
    void *kv;
    float *states;
} instance;

struct backend {
    const program *p; /* borrowed */
    parts parts;
    instance of[PART_COUNT];
    uint32_t *all_rows; /* owned; 0, 1, 2 ... [p->max.rows]: the rows that the front gives on */
};

/* --- the parts -------------------- */

static void parts_deinit(parts *s) {
    for (int i = 0; i < PART_COUNT; i++) program_destroy(s->of[i]);
    *s = (parts){0};
}

static status parts_init(parts *s, const program *p, uint32_t host_layers, error *err) {
    const uint32_t all = program_layers(p);
    *s = (parts){0};
    if (host_layers == 0 || host_layers >= all)
        return error_set(err, ERR_UNSUPPORTED,
                         "split: %u layers of %u on the host, want 1 to %u, and others on the GPU",
                         host_layers, all, all - 1);
    s->layers[FRONT] = host_layers;
    s->layers[BACK] = all - host_layers;
    return program_cut(&s->of[FRONT], &s->of[BACK], p, host_layers, err);
}

/* --- planning -------------------- */

static status plan_parts(const parts *s, const backend_options *opt, backend_memory *out,
                         error *err) {
    backend_memory host;
    TRY(kinds[FRONT]->plan(s->of[FRONT], opt, &host, err));
    TRY(kinds[BACK]->plan(s->of[BACK], opt, out, err));
    const uint64_t stored = program_stored_bytes(s->of[FRONT]);
    ASSERT(host.replaced <= stored);
    out->host_layers = s->layers[FRONT];
    out->host_weights = stored - host.replaced;
    out->host_workspace = host.workspace;
    out->host_repacked = host.repacked;
    out->host_states = s->of[FRONT]->state_floats * sizeof(float);
    return OK;
}

static status split_plan(const program *p, const backend_options *opt, backend_memory *out,
                         error *err) {
    parts s;
    TRY(parts_init(&s, p, opt->host_layers, err));
    const status st = plan_parts(&s, opt, out, err);
    parts_deinit(&s);
    return st;
}

/* --- life cycle -------------------- */

static void split_close(backend *b) {
    if (b == NULL) return;
    for (int i = 0; i < PART_COUNT; i++) kinds[i]->close(b->of[i].b);
    parts_deinit(&b->parts);
    mem_free(b->all_rows);
    mem_free(b);
}

static status open_parts(backend *b, const backend_options *opt, error *err) {
    const uint32_t rows = b->p->max.rows;
    TRY(parts_init(&b->parts, b->p, opt->host_layers, err));
    for (int i = 0; i < PART_COUNT; i++) TRY(kinds[i]->open(&b->of[i].b, b->parts.of[i], opt, err));
    b->all_rows = mem_try_calloc(rows, sizeof *b->all_rows);
    if (b->all_rows == NULL) return error_set(err, ERR_NOMEM, "split: no memory for %u rows", rows);
    for (uint32_t r = 0; r < rows; r++) b->all_rows[r] = r;
    return OK;
}

static status split_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "split: no memory");
    b->p = p;
    const status st = open_parts(b, opt, err);
    if (st != OK) {
        split_close(b);
        return st;
    }
    *out = b;
    return OK;
}

/* A block has as many bytes for each layer, a sequence's state what the parts' programs say. */
static size_t part_of_kv(const backend *b, int part, size_t kv_bytes) {
    const size_t layers = b->parts.layers[FRONT] + b->parts.layers[BACK];
    ASSERT(kv_bytes % layers == 0);
    return kv_bytes / layers * b->parts.layers[part];
}

static size_t part_of_states(const backend *b, int part, size_t state_bytes) {
    const size_t floats = b->p->state_floats;
    return floats == 0 ? 0 : state_bytes / floats * b->parts.of[part]->state_floats;
}

/* Batches bring the front's addresses, which stand for both. */
static status split_memory(backend *b, size_t kv_bytes, size_t state_bytes, void **kv,
                           float **states, error *err) {
    for (int i = 0; i < PART_COUNT; i++)
        TRY(kinds[i]->memory(b->of[i].b, part_of_kv(b, i, kv_bytes),
                             part_of_states(b, i, state_bytes), &b->of[i].kv, &b->of[i].states,
                             err));
    *kv = b->of[FRONT].kv;
    *states = b->of[FRONT].states;
    return OK;
}

/* --- loading -------------------- */

enum { LAYER_STEPS = 1000 }; /* of progress */

/* Parts tell of bytes, each of its own; together they are as far as their layers are. */
typedef struct load_share {
    const backend_progress *progress;
    uint32_t before, layers, all;
} load_share;

static bool tell_share(void *ctx, uint64_t done, uint64_t total) {
    const load_share *s = ctx;
    const double part = total > 0 ? (double)done / (double)total : 1;
    return s->progress->tell(s->progress->ctx,
                             (uint64_t)((s->before + part * s->layers) * LAYER_STEPS),
                             (uint64_t)s->all * LAYER_STEPS);
}

static status split_load(backend *b, const backend_progress *progress, error *err) {
    const uint32_t *layers = b->parts.layers;
    load_share s = {.progress = progress, .all = layers[FRONT] + layers[BACK]};
    const backend_progress shared = {tell_share, &s};
    for (int i = 0; i < PART_COUNT; i++) {
        s.layers = layers[i];
        TRY(kinds[i]->load(b->of[i].b, progress != NULL ? &shared : NULL, err));
        s.before += layers[i];
    }
    return OK;
}

/* --- adapters: both parts have the slots of the whole program -------------------- */

static status split_adapter_add(backend *b, const lora_pair *pairs, error *err) {
    for (int i = 0; i < PART_COUNT; i++) {
        const status st =
            kinds[i]->adapter_add != NULL ? kinds[i]->adapter_add(b->of[i].b, pairs, err) : OK;
        if (st == OK) continue;
        while (--i >= 0)
            if (kinds[i]->adapter_drop != NULL) kinds[i]->adapter_drop(b->of[i].b, pairs);
        return st;
    }
    return OK;
}

static void split_adapter_drop(backend *b, const lora_pair *pairs) {
    for (int i = 0; i < PART_COUNT; i++)
        if (kinds[i]->adapter_drop != NULL) kinds[i]->adapter_drop(b->of[i].b, pairs);
}

/* --- the step -------------------- */

static batch batch_of(const backend *b, int part, const batch *in) {
    batch of = *in;
    of.kv.blocks = b->of[part].kv;
    of.states = b->of[part].states;
    if (of.kv.layout.layers > 0) of.kv.layout.layers = b->parts.layers[part];
    return of;
}

static step_result split_step(backend *b, const batch *in) {
    batch front = batch_of(b, FRONT, in), back = batch_of(b, BACK, in);
    front.taken = b->all_rows;
    front.taken_rows = in->rows;
    front.head_rows = 0;
    front.best = NULL;
    front.samples = NULL;
    const step_result half = kinds[FRONT]->step(b->of[FRONT].b, &front);
    if (half.fault != NULL) return half;
    back.input = half.hidden;
    return kinds[BACK]->step(b->of[BACK].b, &back);
}

static void split_report(const backend *b, backend_report *out) {
    backend_report host;
    kinds[FRONT]->report(b->of[FRONT].b, &host);
    kinds[BACK]->report(b->of[BACK].b, out);
    if (str_eq(str_of(host.numerics), S("fast"))) out->numerics = host.numerics;
    out->tasks += host.tasks;
    out->ops_fused += host.ops_fused;
    out->ops_unfused += host.ops_unfused;
    const size_t n = str_of(out->what).n;
    (void)snprintf(out->what + n, sizeof out->what - n, " + %.14s", host.what);
}

/* --- profiles -------------------- */

static status split_profile(backend *b, bool on, error *err) {
    for (int i = 0; i < PART_COUNT; i++) TRY(kinds[i]->profile(b->of[i].b, on, err));
    return OK;
}

static uint32_t split_profiled(const backend *b, backend_profile out[BACKEND_PARTS_MAX]) {
    _Static_assert(BACKEND_PARTS_MAX >= (int)PART_COUNT, "each has one");
    for (int i = 0; i < PART_COUNT; i++) (void)kinds[i]->profiled(b->of[i].b, &out[i]);
    return PART_COUNT;
}

/* --- what weights become -------------------- */

static backend_path split_path(dtype t) { return backend_cuda.path(t); }

const backend_ops backend_split = {
    .name = "cuda + cpu",
    .samples = true,
    .path = split_path,
    .packed_path = BACKEND_PATH_CONVERTED,
    .plan = split_plan,
    .open = split_open,
    .memory = split_memory,
    .load = split_load,
    .adapter_add = split_adapter_add,
    .adapter_drop = split_adapter_drop,
    .step = split_step,
    .report = split_report,
    .profile = split_profile,
    .profiled = split_profiled,
    .close = split_close,
};
