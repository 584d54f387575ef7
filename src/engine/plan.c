/* plan.c - how much memory an engine needs, and whether there is as much: see plan_internal.h. */
#include "engine/plan_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "engine/forward.h"

/* Of the memory that is free, the KV cache gets at most this much; of a device's
 * PLAN_KV_DEVICE_FRACTION, which is ours alone: what its driver needs has been left out before. */
static const double kv_memory_share = 0.8;

kv_layout plan_kv_layout(const model *m, dtype kv_type) {
    const model_hparams *h = &m->hparams;
    switch (h->mixer) {
    case MODEL_MIXER_ATTENTION:
        return (kv_layout){.type = kv_type,
                           .layers = h->layers,
                           .kv_heads = h->kv_heads,
                           .key_dim = h->head_dim,
                           .value_dim = h->value_dim};
    case MODEL_MIXER_LATENT: /* one latent and one rotary key for all heads */
        return (kv_layout){.type = kv_type,
                           .layers = h->layers,
                           .kv_heads = 1,
                           .key_dim = h->kv_rank + h->head_dim - h->nope_dim,
                           .value_dim = h->kv_rank,
                           .v_in_k = true};
    case MODEL_MIXER_MAMBA:
    case MODEL_MIXER_RWKV6:
        break;
    }
    return (kv_layout){.type = kv_type};
}

bool plan_has_kv_groups(const model *m) {
    const kv_layout layout = plan_kv_layout(m, DTYPE_Q8_0);
    return kv_layout_has_groups(&layout);
}

static status check_kv_type(const model *m, const engine_options *opt, error *err) {
    const kv_layout l = plan_kv_layout(m, opt->kv_type);
    if (!kv_type_has_codes(opt->kv_type) || plan_has_kv_groups(m)) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "kv: a cache of %s wants heads of a multiple of %d elements, keys have %u "
                     "and values %u: take f16",
                     dtype_name(opt->kv_type), KV_GROUP, l.key_dim, l.value_dim);
}

static status plan_context(const model *m, const engine_options *opt, mem_plan *plan, error *err) {
    const model_tensor *positions = &m->position_embd;
    plan->ctx_max = opt->ctx_max != 0 ? opt->ctx_max : m->hparams.ctx_train;
    if (m->hparams.is_encoder) plan->ctx_max = num_min_u32(plan->ctx_max, opt->rows_max);
    if (model_has(positions) && plan->ctx_max > positions->rows)
        return error_set(err, ERR_LIMIT,
                         "engine: a context of %u tokens, the model has learned %u positions: "
                         "lower --ctx",
                         plan->ctx_max, positions->rows);
    return OK;
}

static program_limits limits_of(const engine_options *opt, const mem_plan *plan) {
    return (program_limits){.rows = opt->rows_max,
                            .taken = num_max_u32(opt->hidden_rows_max, opt->taken_rows_max),
                            .head = opt->taken_rows_max,
                            .ctx = plan->ctx_max,
                            .ctx_asked = num_max_u32(plan->ctx_max, opt->ctx_asked),
                            .lora_rank = opt->lora_rank_max,
                            .seats = opt->seats};
}

/* --- what there is, and what is needed of it -------------------- */

/* A memory that layers live in, with what they need of it: the host's, a device's, or both and
 * those of further devices. */
typedef struct place {
    bool is_device;
    char name[64];
    uint32_t layers;
    uint64_t available;
    uint64_t weights, repacked, workspace;
    uint64_t state; /* of a sequence */
    uint64_t block; /* of the KV cache; 0: there is none */
} place;

typedef struct planning {
    const model *m;
    const engine_options *opt;
    const program *p;
    backend_memory parts[BACKEND_PARTS_MAX];
    place places[BACKEND_PARTS_MAX]; /* of the parts */
    uint32_t count;
    mem_plan *plan;
    plan_known *known;
    plan_shortage *lack;
} planning;

/* Several devices may have one name. */
static void name_place(place *p, const planning *g, const backend_memory *part) {
    const bool several = g->plan->devices_count > 1;
    char device[49];
    str_copy_c(device, sizeof device, str_of(part->device));
    if (!part->on_device)
        str_copy_c(p->name, sizeof p->name, S("host memory"));
    else if (several)
        (void)snprintf(p->name, sizeof p->name, "GPU %d '%s'", part->ordinal, device);
    else
        str_copy_c(p->name, sizeof p->name, str_of(part->device));
}

static void find_place(const planning *g, const backend_memory *part, place *out) {
    kv_layout layout = plan_kv_layout(g->m, g->opt->kv_type);
    if (layout.layers > 0) layout.layers = part->layers;
    *out =
        (place){.is_device = part->on_device,
                .layers = part->layers,
                .available = part->on_device ? plan_available(g->opt, part) : os_memory_available(),
                .weights = part->weights,
                .repacked = part->repacked,
                .workspace = part->workspace,
                .state = part->states,
                .block = kv_block_bytes(&layout)};
    if (!part->on_device) out->weights = part->stored - num_min_u64(part->stored, part->replaced);
    name_place(out, g, part);
}

/* What is left for the KV cache. */
static uint64_t memory_left(const planning *g, const place *p) {
    const uint64_t needed = p->weights + p->repacked + p->workspace + p->state * g->opt->seats;
    return p->available > needed ? p->available - needed : 0;
}

typedef struct beside {
    char text[64];
} beside;

/* What of a device's memory is not the plan's, for messages; "" when all of it is. */
static beside beside_adapters(const planning *g, const place *p) {
    const uint64_t bytes = p->is_device ? g->opt->adapter_bytes : 0;
    beside b = {.text = ""};
    if (bytes > 0)
        (void)snprintf(b.text, sizeof b.text, " beside %" PRIu64 " bytes for adapters of --lora",
                       bytes);
    return b;
}

static void lacks(const planning *g, const place *p, const char *what, uint64_t needed_bytes,
                  uint64_t available_bytes) {
    g->lack->why = (mem_shortage){
        .what = what, .needed_bytes = needed_bytes, .available_bytes = available_bytes};
    (void)snprintf(g->lack->why.where, sizeof g->lack->why.where, "%s%s", p->name,
                   beside_adapters(g, p).text);
    g->lack->of_device = p->is_device;
    g->lack->can_shrink = true;
}

/* --- does it fit? -------------------- */

/* Copies are touched when they are made: what does not fit would be found out by being killed. */
static status check_copies(const place *p, error *err) {
    if (p->repacked <= p->available) return OK;
    return error_set(
        err, ERR_NOMEM,
        "engine: the weights, repacked, need %llu bytes, %llu are free: take a smaller "
        "model or type",
        (unsigned long long)p->repacked, (unsigned long long)p->available);
}

/* Weights and workspace are taken from the device at once.  Of the two only the workspace can be
 * made smaller. */
static status check_device(const planning *g, const place *p, error *err) {
    const uint64_t needed = p->weights + p->workspace;
    if (needed <= p->available) return OK;
    lacks(g, p, "weights and steps", needed, p->available);
    g->lack->can_shrink = p->weights < p->available;
    return error_set(err, ERR_NOMEM,
                     "engine: the weights need %llu bytes and the steps %llu, %llu may be taken of "
                     "%s%s: take a smaller model or type, fewer --step-tokens-max, %sor --gpu off",
                     (unsigned long long)p->weights, (unsigned long long)p->workspace,
                     (unsigned long long)p->available, p->name, beside_adapters(g, p).text,
                     g->opt->host_experts > 0 ? "more --cpu-moe-layers, " : "");
}

static uint64_t pinned_bytes(const planning *g) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->count; i++) bytes += g->parts[i].pinned;
    return bytes;
}

static uint64_t host_copies(const planning *g) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->count; i++)
        if (!g->places[i].is_device) bytes += g->places[i].repacked;
    return bytes;
}

/* Pinned memory is there at once, and stays; so do copies. */
static status check_pinned(const planning *g, error *err) {
    const place host = {.name = "host memory"};
    const uint64_t free_bytes = os_memory_available(), copies = host_copies(g);
    const uint64_t available = free_bytes - num_min_u64(free_bytes, copies);
    const uint64_t pinned = pinned_bytes(g);
    if (pinned <= available) return OK;
    lacks(g, &host, "pinned memory", pinned, available);
    return error_set(err, ERR_NOMEM,
                     "engine: steps need %llu bytes of pinned memory, %llu are free beside %llu of "
                     "repacked weights: lower --ctx or --step-tokens-max",
                     (unsigned long long)pinned, (unsigned long long)available,
                     (unsigned long long)copies);
}

/* On a device a smaller workspace makes room for them. */
static status check_states(const planning *g, const place *p, error *err) {
    const uint32_t seats = g->opt->seats;
    const uint64_t taken = p->is_device ? p->weights + p->repacked + p->workspace : 0;
    const uint64_t available = p->available - num_min_u64(p->available, taken);
    uint64_t bytes = 0;
    const bool countable = num_mul_u64(&bytes, p->state, seats);
    if (countable && bytes <= available) return OK;
    if (countable && p->is_device) lacks(g, p, "states of sequences", bytes, available);
    return error_set(err, ERR_NOMEM,
                     "engine: the states of %u sequences need %llu bytes each, %llu bytes "
                     "are free%s: run fewer sequences at a time",
                     seats, (unsigned long long)p->state, (unsigned long long)available,
                     beside_adapters(g, p).text);
}

static status check_place(const planning *g, const place *p, error *err) {
    TRY(p->is_device ? check_device(g, p, err) : check_copies(p, err));
    return check_states(g, p, err);
}

/* --- the KV cache -------------------- */

/* Without keys and values a block costs its bookkeeping only, but contexts may be long. */
static uint64_t block_cost(const place *p) { return p->block > 0 ? p->block : KV_BLOCK_COST_BYTES; }

/* Blocks that this place has room for.  A device's are taken when the engine opens, touched or
 * not; on a host a limit that was asked for is the asker's to know. */
static uint64_t blocks_of(const planning *g, const place *p) {
    const engine_options *opt = g->opt;
    uint64_t left = memory_left(g, p);
    if (p->is_device) {
        const uint64_t share = (uint64_t)((double)left * PLAN_KV_DEVICE_FRACTION);
        return (opt->kv_bytes_max != 0 ? left : share) / block_cost(p);
    }
    if (opt->kv_bytes_max != 0) return UINT64_MAX;
    left -= num_min_u64(left, opt->spoken_for_bytes);
    return (uint64_t)((double)left * kv_memory_share) / block_cost(p);
}

/* The blocks that there may be, and what allows no more of them. */
typedef struct kv_limit {
    uint64_t blocks;
    const place *scarce; /* the place that has no room; NULL: it is the option */
    uint64_t cost;       /* of a block there, or in all places */
    uint64_t bytes;      /* that there may be of them */
} kv_limit;

/* Of two places that are as short it is a device, which can be given fewer layers. */
static kv_limit limit_of_kv(const planning *g) {
    kv_limit l = {.blocks = UINT64_MAX, .scarce = &g->places[g->count - 1]};
    const uint64_t asked = g->opt->kv_bytes_max;
    uint64_t all = 0;
    for (uint32_t i = g->count; i-- > 0;) {
        if (g->places[i].layers == 0) continue; /* experts alone have no cache */
        const uint64_t blocks = blocks_of(g, &g->places[i]);
        all += block_cost(&g->places[i]);
        if (blocks >= l.blocks) continue;
        l.blocks = blocks;
        l.scarce = &g->places[i];
    }
    ASSERT(all > 0); /* there is a place */
    if (asked != 0 && asked / all <= l.blocks)
        return (kv_limit){.blocks = asked / all, .cost = all, .bytes = asked};
    l.cost = block_cost(l.scarce);
    l.bytes = l.blocks * l.cost;
    return l;
}

static void lacks_kv(const planning *g, const kv_limit *l, const char *what, uint64_t blocks) {
    const place option = {.name = "--kv-bytes-max"};
    lacks(g, l->scarce != NULL ? l->scarce : &option, what, blocks * l->cost, l->bytes);
}

static status refuse_kv(const planning *g, const kv_limit *l, uint64_t seat_blocks, error *err) {
    const place *p = l->scarce;
    const unsigned long long needed = seat_blocks * l->cost, allowed = l->bytes;
    lacks_kv(g, l, "the KV cache of one sequence", seat_blocks);
    g->lack->ctx_fits = (uint32_t)l->blocks * KV_BLOCK_TOKENS;
    if (p == NULL)
        return error_set(err, ERR_NOMEM,
                         "kv: one sequence of %u tokens needs %llu bytes, %llu are allowed: raise "
                         "--kv-bytes-max, or lower --ctx",
                         g->plan->ctx_max, needed, allowed);
    return error_set(err, ERR_NOMEM,
                     "kv: one sequence of %u tokens needs %llu bytes, %llu may be used%s%s%s: %s",
                     g->plan->ctx_max, needed, allowed, p->is_device ? " of " : "",
                     p->is_device ? p->name : "", beside_adapters(g, p).text,
                     p->is_device ? "lower --ctx, take a smaller model or type, or --gpu off"
                                  : "lower --ctx, or free memory");
}

/* One sequence has to fit, and as many of the others as do. */
static status plan_kv(const planning *g, error *err) {
    mem_plan *plan = g->plan;
    const uint64_t seat_blocks = kv_blocks_for(plan->ctx_max);
    const uint64_t wanted = num_min_u64(seat_blocks * plan->seats, UINT32_MAX);
    const kv_limit limit = limit_of_kv(g);
    const uint64_t blocks = num_min_u64(wanted, limit.blocks);
    if (blocks < seat_blocks) return refuse_kv(g, &limit, seat_blocks, err);
    plan->kv_blocks = (uint32_t)blocks;
    plan->kv_cut = blocks < wanted;
    if (!plan->kv_cut) return OK;
    lacks_kv(g, &limit, "the KV cache", wanted);
    plan->cuts.list[plan->cuts.count++] = (mem_cut){.name = "kv_tokens",
                                                    .from = wanted * KV_BLOCK_TOKENS,
                                                    .to = blocks * KV_BLOCK_TOKENS,
                                                    .why = g->lack->why};
    return OK;
}

/* --- its tier in the host's memory -------------------- */

/* Is there somebody to give blocks away to, and something to copy?  Where there are states, they
 * would have to come along; texts of encoders are computed in one step. */
static bool may_have_kv_host(const planning *g, uint64_t block_bytes) {
    const engine_options *opt = g->opt;
    const bool on_device = g->places[g->count - 1].is_device;
    return on_device && opt->kv_host_bytes > 0 && opt->seats > 1 && block_bytes > 0 &&
           g->p->state_floats == 0 && !g->m->hparams.is_encoder &&
           plan_backend(g->m, opt)->kv_host != NULL;
}

/* Of the host's memory, beside what steps pin, what others have planned, and the layers of the CPU
 * with their part of the cache. */
static uint64_t kv_host_available(const planning *g) {
    const uint64_t available = os_memory_available();
    uint64_t taken = pinned_bytes(g) + g->opt->spoken_for_bytes;
    for (uint32_t i = 0; i < g->count; i++) {
        const place *p = &g->places[i];
        if (!p->is_device)
            taken += p->weights + p->repacked + p->workspace + p->state * g->opt->seats +
                     p->block * g->plan->kv_blocks;
    }
    return available - num_min_u64(available, taken);
}

static status plan_kv_host(const planning *g, error *err) {
    mem_plan *plan = g->plan;
    uint64_t block = 0, pinned = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        block += g->places[i].block;
        pinned += g->places[i].is_device ? g->places[i].block : 0;
    }
    if (!may_have_kv_host(g, block)) return OK;
    const uint64_t available = kv_host_available(g), asked = g->opt->kv_host_bytes;
    uint64_t bytes = asked;
    if (asked == ENGINE_KV_HOST_AUTO)
        bytes = num_min_u64(num_min_u64(available / 4, plan->kv_blocks * block),
                            ENGINE_KV_HOST_AUTO_MAX);
    else if (asked > available) /* which no smaller plan helps */
        return error_set(err, ERR_INVALID,
                         "kv: --kv-host-bytes are %llu, %llu bytes of the host's memory are free",
                         (unsigned long long)asked, (unsigned long long)available);
    plan->kv_host_blocks = (uint32_t)num_min_u64(bytes / block, KV_TIER_BLOCKS_MAX);
    plan->kv_host_bytes = plan->kv_host_blocks * block;
    plan->kv_host_pinned_bytes = plan->kv_host_blocks * pinned;
    plan->pinned_bytes += plan->kv_host_pinned_bytes;
    plan->untouched_bytes += plan->kv_host_bytes - plan->kv_host_pinned_bytes;
    return OK;
}

void plan_drop_kv_host(mem_plan *plan) {
    plan->pinned_bytes -= plan->kv_host_pinned_bytes;
    plan->untouched_bytes -= plan->kv_host_bytes - plan->kv_host_pinned_bytes;
    plan->kv_host_pinned_bytes = plan->kv_host_bytes = plan->kv_host_blocks = 0;
}

/* --- the whole -------------------- */

/* The host's part beside the layers of the device is experts. */
static void add_experts(mem_plan *plan, const planning *g) {
    const place *p = &g->places[0];
    if (p->is_device || p->layers > 0) return;
    plan->host_experts = plan_host_experts(g->m, g->opt);
    plan->host_experts_bytes = p->weights + p->repacked + p->workspace;
}

static void add_device(mem_plan *plan, const planning *g, uint32_t idx, uint64_t bytes) {
    const place *p = &g->places[idx];
    mem_device *d = &plan->devices[idx + plan->devices_count - g->count];
    plan->on_device = true;
    plan->device_weights_bytes += p->weights;
    plan->device_bytes += bytes;
    plan->device_layers += p->layers;
    plan->pinned_bytes += g->parts[idx].pinned;
    d->layers = p->layers;
    d->bytes = bytes;
    d->weights_bytes = p->weights;
    memcpy(d->place, p->name, sizeof d->place);
    memcpy(d->name, g->parts[idx].device, sizeof d->name);
}

/* Of what is the host's only weights and their copies are in memory from the beginning. */
static void add_up(const planning *g) {
    mem_plan *plan = g->plan;
    if (g->parts[g->count - 1].on_device) plan->devices_count = num_max_u32(plan->devices_count, 1);
    for (uint32_t i = 0; i < g->count; i++) {
        const place *p = &g->places[i];
        const uint64_t kv = plan->kv_blocks * p->block, states = p->state * plan->seats;
        plan->weights_bytes += p->weights;
        plan->repacked_bytes += p->repacked;
        plan->workspace_bytes += p->workspace;
        plan->kv_bytes += kv;
        plan->state_bytes += states;
        if (p->is_device)
            add_device(plan, g, i, p->weights + p->workspace + states + kv);
        else
            plan->untouched_bytes += kv + states + p->workspace;
    }
    add_experts(plan, g);
    mem_devices_text(plan, plan->device);
}

static status plan_memory(planning *g, error *err) {
    TRY(plan_parts(g->m, g->opt, g->p, g->plan, g->known, g->parts, &g->count, err));
    for (uint32_t i = 0; i < g->count; i++) find_place(g, &g->parts[i], &g->places[i]);
    for (uint32_t i = g->count; i-- > 0;) TRY(check_place(g, &g->places[i], err)); /* host last */
    TRY(check_pinned(g, err));
    TRY(plan_kv(g, err));
    TRY(plan_kv_host(g, err));
    add_up(g);
    return OK;
}

/* A plan of nothing but its context, and the program. */
static status begin_plan(const model *m, const engine_options *opt, mem_plan *plan, program **p,
                         error *err) {
    *plan = (mem_plan){.seats = opt->seats, .rows_max = opt->rows_max, .kv_type = opt->kv_type};
    TRY(check_kv_type(m, opt, err));
    TRY(plan_context(m, opt, plan, err));
    const program_limits limits = limits_of(opt, plan);
    return forward_record(p, m, &limits, err);
}

status plan_order(const model *m, const engine_options *opt, plan_known *known, error *err) {
    program *p = NULL;
    mem_plan plan;
    TRY(begin_plan(m, opt, &plan, &p, err));
    const status st = plan_parts_order(m, opt, p, &plan, known, err);
    program_destroy(p);
    return st;
}

status plan_once(const model *m, const engine_options *opt, plan_known *known, mem_plan *plan,
                 program **p, plan_shortage *lack, error *err) {
    program *recorded = NULL;
    *lack = (plan_shortage){.ctx_fits = UINT32_MAX};
    TRY(begin_plan(m, opt, plan, &recorded, err));
    planning g = {.m = m, .opt = opt, .p = recorded, .plan = plan, .known = known, .lack = lack};
    status st = plan_memory(&g, err);
    if (st != OK) {
        program_destroy(recorded);
        return st;
    }
    *p = recorded;
    return OK;
}
