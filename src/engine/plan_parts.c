/* plan_parts.c - the places that compute a model's layers, and what each of them needs of its
 * memory: the host alone, a device alone, or some layers on the host and on one device or more.
 *
 * Layers are weighed before they are given away: each as a program of its own says what its weights
 * take of a device, share.c gives every device a run of layers, and the backend says what steps
 * need there.  Workspaces depend a little on runs, and runs on workspaces: a few rounds agree. */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "engine/plan_internal.h"

enum { ROUNDS = 4 };

/* --- which places -------------------- */

/* Layers that the host computes all the same. */
static uint32_t host_layers(const model *m, const engine_options *opt) {
    const uint32_t all = m->hparams.layers;
    const bool can = opt->backend->split != NULL && opt->device_layers != 0;
    return can && opt->device_layers < all ? all - opt->device_layers : 0;
}

static uint32_t layers_on_devices(const model *m, const engine_options *opt) {
    return m->hparams.layers - host_layers(m, opt);
}

plan_known plan_known_of(const engine_options *opt) {
    plan_known known = {.usable = num_max_u32(opt->devices_count, 1)};
    for (uint32_t i = 0; i < known.usable; i++) known.order[i] = i;
    return known;
}

void plan_known_deinit(plan_known *known) {
    mem_free(known->layer_bytes);
    mem_free(known->bare_bytes);
    mem_free(known->share_bytes);
}

uint32_t plan_devices_used(const model *m, const engine_options *opt) {
    if (opt->backend->split == NULL) return 1;
    return num_min_u32(num_max_u32(opt->devices_min, 1), layers_on_devices(m, opt));
}

static bool is_split(const model *m, const engine_options *opt) {
    return host_layers(m, opt) > 0 || plan_devices_used(m, opt) > 1;
}

const backend_ops *plan_backend(const model *m, const engine_options *opt) {
    return is_split(m, opt) ? opt->backend->split : opt->backend;
}

/* Adapters of a model in several places are in each, as far as it has their layers: how much that
 * is nobody knows yet, and all of it is the most. */
static uint64_t beside_adapters(const engine_options *opt, uint64_t available) {
    return available - num_min_u64(available, opt->adapter_bytes);
}

uint64_t plan_available(const engine_options *opt, const backend_memory *part) {
    return beside_adapters(opt, part->available);
}

/* --- experts on the host -------------------- */

static bool has_experts(const model *m, uint32_t layer) {
    return model_has(&m->layers[layer].router.w);
}

uint32_t plan_expert_layers(const model *m) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->hparams.layers; i++) count += has_experts(m, i);
    return count;
}

/* Without a device they are there anyway. */
uint32_t plan_host_experts(const model *m, const engine_options *opt) {
    if (opt->backend->plan_parts == NULL || opt->backend->split == NULL) return 0;
    return num_min_u32(opt->host_experts, plan_expert_layers(m));
}

/* --- options of a backend -------------------- */

/* What is f32 to the last tensor was asked to be exact: there `fast` has nothing to round. */
static bool is_f32(const model *m) {
    const gguf *g = model_gguf(m);
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++)
        if (gguf_tensor_get(g, i)->type != DTYPE_F32) return false;
    return true;
}

static const char *device_id(const engine_options *opt, uint32_t d) {
    return opt->devices_count > 0 ? opt->devices[d] : opt->device;
}

static uint64_t device_limit(const engine_options *opt, uint32_t d) {
    const uint64_t own = opt->devices_bytes_max[d];
    return own != 0 ? own : opt->device_bytes_max;
}

/* Of all layers in one place. */
static backend_options options_of(const model *m, const engine_options *opt) {
    return (backend_options){.threads = opt->threads,
                             .isa_cap = opt->isa_cap,
                             .fast = opt->fast && !is_f32(m),
                             .kv_type = opt->kv_type,
                             .device = device_id(opt, 0),
                             .device_bytes_max = device_limit(opt, 0),
                             .no_graphs = opt->no_graphs,
                             .no_pdl = opt->no_pdl,
                             .host_experts = plan_host_experts(m, opt),
                             .adapter_bytes = opt->adapter_bytes,
                             .no_peers = opt->no_peers,
                             .no_micro_batches = opt->no_micro_batches,
                             .micro_rows = opt->micro_rows};
}

backend_options plan_backend_options(const model *m, const engine_options *opt,
                                     const mem_plan *plan) {
    backend_options b = options_of(m, opt);
    if (!is_split(m, opt)) return b;
    b.host_layers = host_layers(m, opt);
    b.shares_count = plan->devices_count;
    for (uint32_t i = 0; i < plan->devices_count; i++) {
        const mem_device *d = &plan->devices[i];
        b.shares[i] = (backend_share){.device = device_id(opt, d->index),
                                      .layers = d->layers,
                                      .available = d->available,
                                      .bytes_max = device_limit(opt, d->index)};
    }
    return b;
}

/* --- several devices -------------------- */

typedef struct weighing {
    const model *m;
    const engine_options *opt;
    const program *p;
    mem_plan *plan;
    plan_known *known;
    share_task task;
} weighing;

/* Are its experts the host's? */
static bool is_moved(const weighing *w, uint32_t layer) {
    uint32_t before = 0;
    for (uint32_t i = 0; i < layer; i++) before += has_experts(w->m, i);
    return has_experts(w->m, layer) && before < plan_host_experts(w->m, w->opt);
}

/* What a device needs of a program of one layer; bare: without its experts. */
static status plan_program(const weighing *w, const program *p, bool bare,
                           const backend_options *bopt, backend_memory *out, error *err) {
    backend_memory parts[BACKEND_PARTS_MAX];
    uint32_t count = 0;
    if (!bare) return w->opt->backend->plan(p, bopt, out, err);
    TRY(w->opt->backend->plan_parts(p, bopt, parts, &count, err));
    *out = parts[count - 1];
    return OK;
}

/* A layer alone on the options' device d. */
static status plan_layer(const weighing *w, uint32_t layer, uint32_t d, bool bare,
                         backend_memory *out, error *err) {
    program *part = NULL;
    backend_options bopt = options_of(w->m, w->opt);
    bopt.device = device_id(w->opt, d);
    bopt.device_bytes_max = device_limit(w->opt, d);
    bopt.device_available = w->known->available[d];
    bopt.host_experts = bare;
    TRY(program_cut(&part, w->p, layer, layer + 1, err));
    const status st = plan_program(w, part, bare, &bopt, out, err);
    if (!num_mul_u64(&out->states, part->state_floats, sizeof(float))) out->states = UINT64_MAX;
    program_destroy(part);
    return st;
}

/* Weights, and all sequences' states; what cannot be counted is too much for any device: the plan
 * will say it. */
static uint64_t fixed_bytes(const weighing *w, const backend_memory *layer) {
    uint64_t states = 0, sum = 0;
    const bool countable = num_mul_u64(&states, layer->states, w->opt->seats) &&
                           num_add_u64(&sum, layer->weights, states);
    return countable ? sum : UINT64_MAX;
}

/* To ask takes a context on the device. */
static status ask_device(const weighing *w, uint32_t d, error *err) {
    backend_memory memory;
    if (w->known->available[d] != 0) return OK;
    TRY(plan_layer(w, w->m->hparams.layers - 1, d, false, &memory, err));
    w->known->available[d] = num_max_u64(memory.available, 1);
    return OK;
}

static status ask_devices(const weighing *w, error *err) {
    for (uint32_t i = 0; i < w->task.count; i++) TRY(ask_device(w, w->known->order[i], err));
    return OK;
}

/* All layers, with their experts or without, to *bytes if nobody has yet. */
static status weigh(const weighing *w, bool bare, uint64_t **bytes, error *err) {
    const uint32_t layers = w->m->hparams.layers;
    if (*bytes != NULL) return OK;
    uint64_t *each = mem_try_calloc(layers, sizeof *each);
    if (each == NULL)
        return error_set(err, ERR_NOMEM, "engine: no memory to weigh %u layers", layers);
    status st = OK;
    for (uint32_t i = 0; st == OK && i < layers; i++) {
        backend_memory memory = {0};
        st = plan_layer(w, i, w->known->order[0], bare && has_experts(w->m, i), &memory, err);
        each[i] = fixed_bytes(w, &memory);
    }
    if (st == OK)
        *bytes = each;
    else
        mem_free(each);
    return st;
}

/* Weights are the same on every device. */
static status weigh_layers(const weighing *w, error *err) {
    plan_known *k = w->known;
    const uint32_t layers = w->m->hparams.layers;
    TRY(weigh(w, false, &k->layer_bytes, err));
    if (plan_host_experts(w->m, w->opt) > 0) TRY(weigh(w, true, &k->bare_bytes, err));
    if (k->share_bytes == NULL) k->share_bytes = mem_try_calloc(layers, sizeof *k->share_bytes);
    if (k->share_bytes == NULL)
        return error_set(err, ERR_NOMEM, "engine: no memory to weigh %u layers", layers);
    for (uint32_t i = 0; i < layers; i++)
        k->share_bytes[i] = is_moved(w, i) ? k->bare_bytes[i] : k->layer_bytes[i];
    return OK;
}

static void describe_task(weighing *w) {
    const engine_options *opt = w->opt;
    const kv_layout layout = plan_kv_layout(w->m, opt->kv_type);
    const uint64_t seat_blocks = kv_blocks_for(w->plan->ctx_max),
                   block_bytes = kv_block_bytes(&layout);
    share_task *t = &w->task;
    t->layers = layers_on_devices(w->m, opt);
    t->count = plan_devices_used(w->m, opt);
    t->kv_layer_bytes = layout.layers > 0 ? kv_layer_bytes(&layout) : 0;
    t->kv_fraction = opt->kv_bytes_max != 0 ? 1 : PLAN_KV_DEVICE_FRACTION;
    t->blocks_max = seat_blocks * opt->seats;
    if (opt->kv_bytes_max != 0 && block_bytes > 0)
        t->blocks_max = num_min_u64(t->blocks_max, opt->kv_bytes_max / block_bytes);
    t->blocks_min = num_min_u64(seat_blocks, t->blocks_max);
}

static void note_shares(const weighing *w) {
    w->plan->devices_count = w->task.count;
    for (uint32_t i = 0; i < w->task.count; i++) {
        const uint32_t d = w->known->order[i];
        w->plan->devices[i] = (mem_device){
            .index = d, .layers = w->task.devices[i].layers, .available = w->known->available[d]};
    }
}

/* Did a device turn out to need more for its steps than was thought? */
static bool learn_workspaces(weighing *w, const backend_memory *devices) {
    bool more = false;
    for (uint32_t d = 0; d < w->task.count; d++) {
        share_device *known = &w->task.devices[d];
        more = more || devices[d].workspace > known->workspace;
        known->workspace = num_max_u64(known->workspace, devices[d].workspace);
    }
    return more;
}

static status plan_shared(weighing *w, backend_memory parts[BACKEND_PARTS_MAX], uint32_t *count,
                          error *err) {
    describe_task(w);
    TRY(ask_devices(w, err));
    TRY(weigh_layers(w, err));
    w->task.layer_bytes = w->known->share_bytes + (w->m->hparams.layers - w->task.layers);
    for (uint32_t i = 0; i < w->task.count; i++)
        w->task.devices[i].available =
            beside_adapters(w->opt, w->known->available[w->known->order[i]]);
    bool more = true;
    for (int round = 0; more && round < ROUNDS; round++) {
        share_layers(&w->task);
        note_shares(w);
        const backend_options bopt = plan_backend_options(w->m, w->opt, w->plan);
        TRY(w->opt->backend->split->plan_parts(w->p, &bopt, parts, count, err));
        more = learn_workspaces(w, parts + (*count - w->task.count));
    }
    return OK;
}

/* --- devices that were not named -------------------- */

static uint32_t smallest_layer(const weighing *w) {
    const uint64_t *bytes = w->known->share_bytes;
    uint32_t least = 0;
    for (uint32_t i = 1; i < w->m->hparams.layers; i++)
        if (bytes[i] < bytes[least]) least = i;
    return least;
}

/* Of a device with this layer alone, one sequence's blocks included. */
static uint64_t bytes_of_least(const weighing *w, const backend_memory *layer) {
    const share_task *t = &w->task;
    const double kv = (double)t->blocks_min * (double)t->kv_layer_bytes / t->kv_fraction;
    uint64_t sum = 0;
    const bool countable =
        kv < 1e18 && num_add_u64(&sum, fixed_bytes(w, layer), layer->workspace + (uint64_t)kv);
    return countable ? sum : UINT64_MAX;
}

/* A line of the log where there is none. */
static bool has_room(const weighing *w, uint32_t layer, uint32_t d) {
    backend_memory memory = {0};
    error why = {0};
    if (plan_layer(w, layer, d, is_moved(w, layer), &memory, &why) != OK) {
        log_warn("engine", "a further GPU is not used: %s", why.msg);
        return false;
    }
    const uint64_t needed = bytes_of_least(w, &memory);
    w->known->available[d] = num_max_u64(memory.available, 1);
    if (needed <= plan_available(w->opt, &memory)) return true;
    log_info("engine",
             "GPU %d '%s' is not used: one layer needs %.1f MiB there with its share of steps and "
             "of the KV cache, %.1f MiB may be taken",
             memory.ordinal, memory.device, (double)needed / (1024.0 * 1024.0),
             (double)plan_available(w->opt, &memory) / (1024.0 * 1024.0));
    return false;
}

/* Behind those that have more, and among equals behind those that came before. */
static void add_by_room(plan_known *known, uint32_t first, uint32_t d) {
    uint32_t at = known->usable++;
    while (at > first && known->available[known->order[at - 1]] < known->available[d]) {
        known->order[at] = known->order[at - 1];
        at--;
    }
    known->order[at] = d;
}

status plan_parts_order(const model *m, const engine_options *opt, const program *p, mem_plan *plan,
                        plan_known *known, error *err) {
    weighing w = {.m = m, .opt = opt, .p = p, .plan = plan, .known = known};
    const uint32_t first = num_max_u32(opt->devices_min, 1);
    describe_task(&w);
    TRY(ask_devices(&w, err));
    TRY(weigh_layers(&w, err));
    const uint32_t layer = smallest_layer(&w);
    known->usable = first;
    for (uint32_t d = first; d < opt->devices_count; d++)
        if (has_room(&w, layer, d)) add_by_room(known, first, d);
    return OK;
}

/* --- the parts -------------------- */

/* All layers in one place. */
static status plan_whole(const model *m, const engine_options *opt, const program *p,
                         backend_memory *out, error *err) {
    const backend_options bopt = options_of(m, opt);
    TRY(opt->backend->plan(p, &bopt, out, err));
    out->layers = m->hparams.layers;
    out->stored = m->weight_bytes;
    if (!num_mul_u64(&out->states, p->state_floats, sizeof(float))) out->states = UINT64_MAX;
    return OK;
}

/* Layers are a device's, the experts of some of them the host's. */
static status plan_moved(const model *m, const engine_options *opt, const program *p,
                         backend_memory parts[BACKEND_PARTS_MAX], uint32_t *count, error *err) {
    const backend_options bopt = options_of(m, opt);
    return opt->backend->plan_parts(p, &bopt, parts, count, err);
}

status plan_parts(const model *m, const engine_options *opt, const program *p, mem_plan *plan,
                  plan_known *known, backend_memory parts[BACKEND_PARTS_MAX], uint32_t *count,
                  error *err) {
    const bool moved = plan_host_experts(m, opt) > 0;
    *count = 1;
    if (moved && host_layers(m, opt) > 0)
        return error_set(err, ERR_INVALID,
                         "engine: experts of %u layers on the CPU, and %u of %u layers on GPUs: "
                         "experts can be moved where GPUs have all of them",
                         plan_host_experts(m, opt), layers_on_devices(m, opt), m->hparams.layers);
    if (!is_split(m, opt))
        return moved ? plan_moved(m, opt, p, parts, count, err)
                     : plan_whole(m, opt, p, &parts[0], err);
    if (plan_devices_used(m, opt) > 1) {
        weighing w = {.m = m, .opt = opt, .p = p, .plan = plan, .known = known};
        return plan_shared(&w, parts, count, err);
    }
    plan->devices_count = 1;
    plan->devices[0].layers = layers_on_devices(m, opt);
    const backend_options bopt = plan_backend_options(m, opt, plan);
    return opt->backend->split->plan_parts(p, &bopt, parts, count, err);
}
