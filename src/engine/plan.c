/* plan.c - how much memory an engine needs, and whether there is as much: see plan_internal.h. */
#include "engine/plan_internal.h"

#include "base/num.h"
#include "base/os.h"
#include "engine/forward.h"

/* Of the memory that is free, the KV cache gets at most this much.  A device's is ours alone, and
 * what its driver needs has been left out before. */
static const double kv_memory_share = 0.8, kv_device_share = 0.95;

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

uint32_t plan_lora_rank(const engine_options *opt) {
    return opt->backend->no_adapters ? 0 : opt->lora_rank_max;
}

static program_limits limits_of(const engine_options *opt, const mem_plan *plan) {
    return (program_limits){.rows = opt->rows_max,
                            .taken = num_max_u32(opt->hidden_rows_max, opt->taken_rows_max),
                            .head = opt->taken_rows_max,
                            .ctx = plan->ctx_max,
                            .ctx_asked = num_max_u32(plan->ctx_max, opt->ctx_asked),
                            .lora_rank = plan_lora_rank(opt),
                            .seats = opt->seats};
}

backend_options plan_backend_options(const engine_options *opt) {
    return (backend_options){.threads = opt->threads,
                             .isa_cap = opt->isa_cap,
                             .fast = opt->fast,
                             .device = opt->device,
                             .device_bytes_max = opt->device_bytes_max};
}

/* --- what there is -------------------- */

typedef struct planning {
    const model *m;
    const engine_options *opt;
    const program *p;
    backend_memory memory;
    mem_plan *plan;
    plan_shortage *lack;
} planning;

/* What a plan may use, and what is left of it for the KV cache and the states. */
static uint64_t memory_available(const planning *g) {
    return g->memory.on_device ? g->memory.available : os_memory_available();
}

static uint64_t memory_left(const planning *g) {
    const mem_plan *plan = g->plan;
    const uint64_t available = memory_available(g);
    const uint64_t needed =
        plan->weights_bytes + plan->repacked_bytes + plan->workspace_bytes + plan->state_bytes;
    return available > needed ? available - needed : 0;
}

static mem_shortage shortage(const planning *g, const char *what, uint64_t needed_bytes,
                             uint64_t available_bytes) {
    mem_shortage s = {
        .what = what, .needed_bytes = needed_bytes, .available_bytes = available_bytes};
    str_copy_c(s.where, sizeof s.where,
               g->memory.on_device ? str_of(g->memory.device) : S("host memory"));
    return s;
}

/* --- what is needed -------------------- */

/* Copies are touched when they are made: what does not fit would be found out by being killed. */
static status check_copies(const planning *g, error *err) {
    const uint64_t available = os_memory_available();
    if (g->plan->repacked_bytes <= available) return OK;
    return error_set(
        err, ERR_NOMEM,
        "engine: the weights, repacked, need %llu bytes, %llu are free: take a smaller "
        "model or type",
        (unsigned long long)g->plan->repacked_bytes, (unsigned long long)available);
}

/* Weights and workspace are taken from the device at once.  Of the two only the workspace can be
 * made smaller. */
static status check_device(const planning *g, error *err) {
    const mem_plan *plan = g->plan;
    const uint64_t needed = plan->weights_bytes + plan->workspace_bytes;
    if (needed <= g->memory.available) return OK;
    if (plan->weights_bytes < g->memory.available)
        g->lack->why = shortage(g, "weights and steps", needed, g->memory.available);
    return error_set(err, ERR_NOMEM,
                     "engine: the weights need %llu bytes and the steps %llu, %llu may be taken of "
                     "%s: take a smaller model or type, fewer --step-tokens-max, or --gpu off",
                     (unsigned long long)plan->weights_bytes,
                     (unsigned long long)plan->workspace_bytes,
                     (unsigned long long)g->memory.available, g->memory.device);
}

/* Pinned memory is there at once, and stays. */
static status check_pinned(const planning *g, error *err) {
    const uint64_t available = os_memory_available();
    if (g->memory.pinned <= available) return OK;
    g->lack->why = shortage(g, "pinned memory", g->memory.pinned, available);
    str_copy_c(g->lack->why.where, sizeof g->lack->why.where, S("host memory"));
    return error_set(
        err, ERR_NOMEM,
        "engine: steps need %llu bytes of pinned memory, %llu are free: lower --ctx or "
        "--step-tokens-max",
        (unsigned long long)g->memory.pinned, (unsigned long long)available);
}

/* On a device a smaller workspace makes room for them. */
static status plan_states(const planning *g, error *err) {
    const program *p = g->p;
    const uint32_t seats = g->opt->seats;
    const uint64_t available = g->memory.on_device ? memory_left(g) : memory_available(g);
    uint64_t bytes = 0;
    const bool countable =
        num_mul_u64(&bytes, p->state_floats, sizeof(float)) && num_mul_u64(&bytes, bytes, seats);
    if (countable && bytes <= available) {
        g->plan->state_bytes = bytes;
        return OK;
    }
    if (countable && g->memory.on_device)
        g->lack->why = shortage(g, "states of sequences", bytes, available);
    return error_set(err, ERR_NOMEM,
                     "engine: the states of %u sequences need %llu floats each, %llu bytes "
                     "are free: run fewer sequences at a time",
                     seats, (unsigned long long)p->state_floats, (unsigned long long)available);
}

static uint64_t kv_bytes_limit(const planning *g) {
    const engine_options *opt = g->opt;
    uint64_t left = memory_left(g);
    if (g->memory.on_device) { /* taken when the engine opens, touched or not */
        const uint64_t share = (uint64_t)((double)left * kv_device_share);
        return opt->kv_bytes_max != 0 ? num_min_u64(opt->kv_bytes_max, left) : share;
    }
    if (opt->kv_bytes_max != 0) return opt->kv_bytes_max;
    left -= num_min_u64(left, opt->spoken_for_bytes);
    return (uint64_t)((double)left * kv_memory_share);
}

/* One sequence has to fit, and as many of the others as do. */
static status plan_kv(const planning *g, error *err) {
    mem_plan *plan = g->plan;
    const kv_layout layout = plan_kv_layout(g->m, g->opt->kv_type);
    const uint64_t block_bytes = kv_block_bytes(&layout);
    /* without keys and values a block costs its bookkeeping only, but contexts may be long */
    const uint64_t cost = block_bytes > 0 ? block_bytes : KV_BLOCK_COST_BYTES;
    const uint64_t seat_blocks = kv_blocks_for(plan->ctx_max);
    const uint64_t wanted = num_min_u64(seat_blocks * plan->seats, UINT32_MAX);
    const uint64_t affordable = kv_bytes_limit(g) / cost;
    const uint64_t blocks = num_min_u64(wanted, affordable);
    if (blocks < seat_blocks) {
        const char *help = g->memory.on_device
                               ? "lower --ctx, take a smaller model or type, or --gpu off"
                               : "lower --ctx, or raise --kv-bytes-max or memory";
        g->lack->why =
            shortage(g, "the KV cache of one sequence", seat_blocks * cost, affordable * cost);
        g->lack->ctx_fits = (uint32_t)blocks * KV_BLOCK_TOKENS;
        return error_set(err, ERR_NOMEM,
                         "kv: one sequence of %u tokens needs %llu bytes, %llu may be used: %s",
                         plan->ctx_max, (unsigned long long)(seat_blocks * cost),
                         (unsigned long long)(affordable * cost), help);
    }
    plan->kv_blocks = (uint32_t)blocks;
    plan->kv_bytes = blocks * block_bytes;
    plan->kv_cut = blocks < wanted;
    if (plan->kv_cut)
        plan->cuts.list[plan->cuts.count++] =
            (mem_cut){.name = "kv_tokens",
                      .from = wanted * KV_BLOCK_TOKENS,
                      .to = blocks * KV_BLOCK_TOKENS,
                      .why = shortage(g, "the KV cache", wanted * cost, affordable * cost)};
    return OK;
}

/* --- the whole -------------------- */

static void plan_device(const planning *g) {
    mem_plan *plan = g->plan;
    plan->on_device = true;
    plan->pinned_bytes = g->memory.pinned;
    plan->device_bytes =
        plan->weights_bytes + plan->workspace_bytes + plan->state_bytes + plan->kv_bytes;
    str_copy_c(plan->device, sizeof plan->device, str_of(g->memory.device));
}

static status plan_memory(planning *g, error *err) {
    const backend_options bopt = plan_backend_options(g->opt);
    const backend_memory *memory = &g->memory;
    mem_plan *plan = g->plan;
    TRY(g->opt->backend->plan(g->p, &bopt, &g->memory, err));
    plan->workspace_bytes = memory->workspace;
    plan->repacked_bytes = memory->repacked;
    plan->weights_bytes -= num_min_u64(plan->weights_bytes, memory->replaced);
    if (memory->on_device) plan->weights_bytes = memory->weights;
    TRY(memory->on_device ? check_device(g, err) : check_copies(g, err));
    TRY(check_pinned(g, err));
    TRY(plan_states(g, err));
    TRY(plan_kv(g, err));
    if (memory->on_device) plan_device(g);
    return OK;
}

status plan_once(const model *m, const engine_options *opt, mem_plan *plan, program **p,
                 plan_shortage *lack, error *err) {
    program *recorded = NULL;
    *plan = (mem_plan){
        .weights_bytes = m->weight_bytes, .seats = opt->seats, .rows_max = opt->rows_max};
    *lack = (plan_shortage){.ctx_fits = UINT32_MAX};
    TRY(plan_context(m, opt, plan, err));
    const program_limits limits = limits_of(opt, plan);
    TRY(forward_record(&recorded, m, &limits, err));
    planning g = {.m = m, .opt = opt, .p = recorded, .plan = plan, .lack = lack};
    status st = plan_memory(&g, err);
    if (st != OK) {
        program_destroy(recorded);
        return st;
    }
    *p = recorded;
    return OK;
}
