/* engine.c - see engine.h. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "engine/plan_internal.h"
#include "engine/read_ahead.h"

struct engine {
    const model *m; /* borrowed */
    engine_options opt;
    mem_plan plan;
    kv_layout layout;
    program *program;
    const backend_ops *ops; /* of opt, or the one that splits */
    backend *backend;
    kv_pool *kv;
    kv_tier *tier; /* NULL: there is none */
    void *blocks;  /* the backend's; [plan.kv_blocks] of kv_block_bytes(); NULL when these are 0 */
    float *states; /* the backend's; [seats, program->state_floats]; NULL when these are 0 */
    const float *hidden;             /* of the last step; the backend's */
    const int32_t *best;             /* the same */
    const sample_logprobs *logprobs; /* the same */
    uint32_t micro_batches;          /* the same */
    const error *fault;              /* of the last step; the backend's or load_error; NULL: none */
    uint32_t begun;                  /* steps that were and have not ended */
    uint32_t head_rows;              /* of the step that was begun last */
    bool draws_later;                /* it waits for engine_draw() */
    bool loaded;                     /* by engine_load(); on a device the first step does it, too */
    error load_error;
    int32_t *tokens;                   /* [rows_max] */
    uint32_t *pos;                     /* [rows_max] */
    uint32_t *seats;                   /* [rows_max] */
    bool *prompt;                      /* [rows_max] */
    uint32_t *taken;                   /* [rows_max] */
    uint32_t *head;                    /* [rows_max] */
    bool *head_best;                   /* [rows_max] */
    const sample_order **head_samples; /* [rows_max] */
    batch_run *runs;                   /* [rows_max] */
    const lora_mix **loras;            /* [rows_max]; NULL without adapters */
    uint64_t *seat_steps;              /* [seats] the last step in which the seat had rows */
    uint32_t *seat_tokens;             /* [seats] tokens that the seat's states have seen */
    uint64_t steps;
    uint32_t *lora_ops; /* [program->lora_slots] ops; NULL without adapters */
};

/* --- life cycle -------------------- */

static status open_rows(engine *e, error *err) {
    size_t n = e->opt.rows_max, seats = e->opt.seats;
    bool adapters = e->program->max.lora_rank > 0;
    e->tokens = mem_try_calloc(n, sizeof *e->tokens);
    e->pos = mem_try_calloc(n, sizeof *e->pos);
    e->seats = mem_try_calloc(n, sizeof *e->seats);
    e->prompt = mem_try_calloc(n, sizeof *e->prompt);
    e->taken = mem_try_calloc(n, sizeof *e->taken);
    e->head = mem_try_calloc(n, sizeof *e->head);
    e->head_best = mem_try_calloc(n, sizeof *e->head_best);
    e->head_samples = mem_try_calloc(n, sizeof *e->head_samples);
    e->runs = mem_try_calloc(n, sizeof *e->runs);
    if (adapters) e->loras = mem_try_calloc(n, sizeof *e->loras);
    e->seat_steps = mem_try_calloc(seats, sizeof *e->seat_steps);
    e->seat_tokens = mem_try_calloc(seats, sizeof *e->seat_tokens);
    if (e->tokens == NULL || e->pos == NULL || e->seats == NULL || e->prompt == NULL ||
        e->taken == NULL || e->head == NULL || e->head_best == NULL || e->head_samples == NULL ||
        e->runs == NULL || (adapters && e->loras == NULL) || e->seat_steps == NULL ||
        e->seat_tokens == NULL)
        return error_set(err, ERR_NOMEM, "engine: no memory for %zu rows and %zu seats", n, seats);
    return OK;
}

static status open_lora_slots(engine *e, error *err) {
    const program *p = e->program;
    if (p->lora_slots == 0) return OK;
    e->lora_ops = mem_try_calloc(p->lora_slots, sizeof *e->lora_ops);
    if (e->lora_ops == NULL)
        return error_set(err, ERR_NOMEM, "engine: no memory for %u adapter slots", p->lora_slots);
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].lora_slot != LORA_SLOT_NONE) e->lora_ops[p->ops[i].lora_slot] = i;
    return OK;
}

/* --- the host's tier of the KV cache -------------------- */

static void save_blocks(void *ctx, const kv_move *moves, uint32_t count) {
    const engine *e = ctx;
    e->ops->kv_save(e->backend, moves, count);
}

static void load_blocks(void *ctx, const kv_move *moves, uint32_t count) {
    const engine *e = ctx;
    e->ops->kv_load(e->backend, moves, count);
}

/* Without it preemption costs more, and nothing else: no reason not to open.  Whatever the driver's
 * reason is, a GPU that is lost fails with the next thing that it is asked for. */
static status open_tier(engine *e, error *err) {
    mem_plan *p = &e->plan;
    error why = {0};
    if (p->kv_host_blocks == 0) return OK;
    const size_t block_bytes = kv_block_bytes(&e->layout);
    if (e->ops->kv_host(e->backend, block_bytes, p->kv_host_blocks, &why) != OK) {
        log_warn("engine",
                 "%s: sequences that are preempted will be computed again (--kv-host-bytes)",
                 why.msg);
        plan_drop_kv_host(p);
        return OK;
    }
    const kv_tier_options opt = {.blocks_max = p->kv_host_blocks,
                                 .seat_blocks_max = kv_seat_blocks_max(e->kv),
                                 .block_bytes = block_bytes,
                                 .mover = {e, save_blocks, load_blocks}};
    return kv_tier_create(&e->tier, &opt, err);
}

static status open_parts(engine *e, error *err) {
    const engine_options *opt = &e->opt;
    const backend_options bopt = plan_backend_options(e->m, opt, &e->plan);
    e->ops = plan_backend(e->m, opt);
    TRY(e->ops->open(&e->backend, e->program, &bopt, err));
    TRY(kv_pool_create(&e->kv, e->plan.kv_blocks, opt->seats, kv_blocks_for(e->plan.ctx_max), err));
    TRY(e->ops->memory(e->backend, (size_t)e->plan.kv_bytes, (size_t)e->plan.state_bytes,
                       &e->blocks, &e->states, err));
    TRY(open_tier(e, err));
    TRY(open_rows(e, err));
    return open_lora_slots(e, err);
}

/* *plan is what was tried, also when it could not be opened; all zero when there is no plan. */
static status open_planned(engine **out, const model *m, const engine_options *opt, mem_plan *plan,
                           error *err) {
    *plan = (mem_plan){0};
    engine *e = mem_try_calloc(1, sizeof *e);
    if (e == NULL) return error_set(err, ERR_NOMEM, "engine: no memory");
    e->m = m;
    status st = plan_down(m, opt, &e->opt, &e->plan, &e->program, err);
    if (st != OK) {
        mem_free(e);
        return st;
    }
    *plan = e->plan;
    e->layout = plan_kv_layout(m, e->opt.kv_type);
    st = open_parts(e, err);
    if (st != OK) {
        engine_close(e);
        return st;
    }
    *out = e;
    return OK;
}

/* Of devices whose plan could not be opened: the weights, three quarters of what can shrink, and
 * what is left to adapters.  Returns what all of them may take together. */
static uint64_t lower_limits(engine_options *opt, const mem_plan *tried) {
    uint64_t all = 0;
    for (uint32_t d = 0; d < tried->devices_count; d++) {
        const mem_device *of = &tried->devices[d];
        const uint64_t rest = of->bytes - of->weights_bytes;
        const uint64_t most =
            num_max_u64(of->weights_bytes + rest - rest / 4, 1) + opt->adapter_bytes;
        opt->devices_bytes_max[of->index] = most;
        all += most;
    }
    return all;
}

/* Between plan and allocation another program may take memory of the device, or its driver may need
 * more than was left to it: then everything is given back, and there is a new plan, of what is free
 * by now and of less than was asked for in vain.  *err is why; the last attempt's when all fail. */
static status open_with_less(engine **out, const model *m, const engine_options *opt,
                             mem_plan *tried, error *err) {
    enum { TRIES = 3 };
    engine_options within = *opt;
    error before = *err;
    status st = before.code;
    for (int i = 0; i < TRIES && st == ERR_NOMEM && tried->on_device; i++) {
        before = *err;
        const uint64_t limit = lower_limits(&within, tried);
        log_warn("engine", "%s: planned anew with %.1f MiB of %s at most", before.msg,
                 (double)limit / (1024.0 * 1024.0), tried->device);
        st = open_planned(out, m, &within, tried, err);
    }
    if (st == OK || tried->on_device) return st;
    const error last = *err;
    return error_set(err, st, "%.300s; planned anew: %.400s", before.msg, last.msg);
}

/* Where there are several: who has which layers. */
static void log_devices(const engine *e) {
    const mem_plan *p = &e->plan;
    uint32_t first = e->m->hparams.layers - p->device_layers;
    if (p->host_experts > 0)
        log_info("engine",
                 "experts of %u of %u layers on the host, computed by the CPU: %.1f MiB; all else "
                 "on %s: %.1f MiB",
                 p->host_experts, plan_expert_layers(e->m),
                 (double)p->host_experts_bytes / (1024.0 * 1024.0), p->device,
                 (double)p->device_bytes / (1024.0 * 1024.0));
    if (p->devices_count > 1 && first > 0)
        log_info("engine", "layers 0 to %u on the host", first - 1);
    for (uint32_t d = 0; p->devices_count > 1 && d < p->devices_count; d++) {
        const mem_device *of = &p->devices[d];
        log_info("engine", "layers %u to %u on %s: %.1f MiB, %.1f MiB of them weights", first,
                 first + of->layers - 1, of->place, (double)of->bytes / (1024.0 * 1024.0),
                 (double)of->weights_bytes / (1024.0 * 1024.0));
        first += of->layers;
    }
    if (p->on_device && p->devices_count < e->opt.devices_min)
        log_warn("engine", "%u GPUs were asked for, and %u used: there are no more layers for them",
                 e->opt.devices_min, p->devices_count);
}

status engine_open(engine **out, const model *m, const engine_options *opt, error *err) {
    ASSERT(opt->seats > 0 && opt->rows_max > 0 && opt->taken_rows_max <= opt->rows_max &&
           opt->hidden_rows_max <= opt->rows_max);
    mem_plan plan;
    error why = {0};
    engine *e = NULL;
    status st = open_planned(&e, m, opt, &plan, &why);
    if (st == ERR_NOMEM && plan.on_device) st = open_with_less(&e, m, opt, &plan, &why);
    if (st != OK) return error_set(err, st, "%s", why.msg);
    plan_log_cuts(&e->plan);
    if (opt->host_experts > 0 && plan.on_device && plan.host_experts == 0)
        log_warn("engine", "experts were to be computed by the CPU (--cpu-moe-layers): %s",
                 plan_expert_layers(m) == 0 ? "the model has none" : "whole layers are");
    log_devices(e);
    *out = e;
    return OK;
}

status engine_plan(const model *m, const engine_options *opt, mem_plan *out, error *err) {
    program *p = NULL;
    engine_options got;
    TRY(plan_down(m, opt, &got, out, &p, err));
    program_destroy(p);
    return OK;
}

void engine_close(engine *e) {
    if (e == NULL) return;
    if (e->backend != NULL) e->ops->close(e->backend);
    program_destroy(e->program);
    kv_pool_destroy(e->kv);
    kv_tier_destroy(e->tier);
    mem_free(e->tokens);
    mem_free(e->pos);
    mem_free(e->seats);
    mem_free(e->prompt);
    mem_free(e->taken);
    mem_free(e->head);
    mem_free(e->head_best);
    mem_free(e->head_samples);
    mem_free(e->runs);
    mem_free(e->loras);
    mem_free(e->seat_steps);
    mem_free(e->seat_tokens);
    mem_free(e->lora_ops);
    mem_free(e);
}

/* --- stepping -------------------- */

static batch empty_batch(const engine *e) {
    return (batch){.tokens = e->tokens,
                   .pos = e->pos,
                   .seats = e->seats,
                   .prompt = e->prompt,
                   .runs = e->runs,
                   .taken = e->taken,
                   .head = e->head,
                   .kv = {.layout = e->layout,
                          .blocks = e->blocks,
                          .tables = kv_tables(e->kv),
                          .table_stride = kv_seat_blocks_max(e->kv)},
                   .states = e->states};
}

static void begin_run(engine *e, batch *b, const engine_row *row) {
    ASSERT(e->runs != NULL && e->seat_steps[row->seat] != e->steps); /* no seat twice */
    /* states are those after the seat's last row, and nowhere else */
    ASSERT(e->states == NULL || row->pos == 0 || row->pos == e->seat_tokens[row->seat]);
    e->seat_steps[row->seat] = e->steps;
    e->runs[b->runs_count++] =
        (batch_run){.row0 = b->rows, .rows = 1, .seat = row->seat, .pos0 = row->pos};
}

static void add_to_run(engine *e, batch *b, const engine_row *row) {
    batch_run *last = b->runs_count > 0 ? &e->runs[b->runs_count - 1] : NULL;
    if (last == NULL || last->seat != row->seat) {
        begin_run(e, b, row);
    } else {
        ASSERT(row->pos == last->pos0 + last->rows);
        last->rows++;
    }
}

/* Row r of the batch comes back as whatever is wanted of it. */
static void take_row(engine *e, batch *b, uint32_t r, const engine_row *row) {
    const bool token = row->wants_best || row->sample != NULL, head = token || row->wants_logits;
    ASSERT(!token || (!row->wants_logits && !row->wants_hidden));
    ASSERT(row->sample == NULL || (e->ops->samples && !row->wants_best));
    if (row->wants_best) b->best = e->head_best;
    if (row->sample != NULL) b->samples = e->head_samples;
    ASSERT(!row->draws_later || (row->sample != NULL && e->begun > 0));
    b->draws_later |= row->draws_later;
    if (head) {
        e->head_best[b->head_rows] = row->wants_best;
        e->head_samples[b->head_rows] = row->sample;
        e->head[b->head_rows++] = b->taken_rows;
    }
    if (head || row->wants_hidden) e->taken[b->taken_rows++] = r;
}

/* A token of the vocabulary, or one that the step before makes. */
static bool token_is_valid(const engine *e, int32_t token) {
    if (token < 0) return e->begun == 2 && (uint32_t)~token < e->head_rows;
    return (uint32_t)token < e->m->hparams.vocab;
}

static void add_row(engine *e, batch *b, const engine_row *row) {
    ASSERT(token_is_valid(e, row->token));
    ASSERT(row->seat < e->opt.seats && row->pos < kv_seat_tokens(e->kv, row->seat));
    ASSERT(row->lora == NULL || e->loras != NULL);
    ASSERT(row->prompt || b->rows == 0 || !e->prompt[b->rows - 1]);
    add_to_run(e, b, row);
    uint32_t r = b->rows++;
    e->tokens[r] = row->token;
    e->pos[r] = row->pos;
    e->seats[r] = row->seat;
    e->prompt[r] = row->prompt;
    if (e->loras != NULL) e->loras[r] = row->lora;
    if (row->lora != NULL) b->loras = e->loras;
    take_row(e, b, r, row);
}

static void end_runs(engine *e, const batch *b) {
    for (uint32_t i = 0; i < b->runs_count; i++) {
        const batch_run *run = &b->runs[i];
        uint32_t tokens = run->pos0 + run->rows;
        bool whole = run->pos0 == 0 && tokens == kv_seat_tokens(e->kv, run->seat);
        ASSERT(!e->m->hparams.is_encoder || whole);
        e->seat_tokens[run->seat] = tokens;
    }
}

/* Weights that nobody has waited for go to the device before the heap is frozen: packing them takes
 * memory. */
static bool is_loaded(engine *e) {
    if (!e->plan.on_device || e->loaded) return true;
    if (e->fault != NULL) return false;
    e->loaded = e->ops->load(e->backend, NULL, &e->load_error) == OK;
    if (!e->loaded) e->fault = &e->load_error;
    return e->loaded;
}

static batch batch_of(engine *e, const engine_row *rows, uint32_t count) {
    ASSERT(count > 0 && count <= e->opt.rows_max && e->fault == NULL);
    e->steps++;
    batch b = empty_batch(e);
    for (uint32_t i = 0; i < count; i++) add_row(e, &b, &rows[i]);
    end_runs(e, &b);
    ASSERT(b.taken_rows <= e->program->max.taken && b.head_rows <= e->program->max.head);
    e->head_rows = b.head_rows;
    e->draws_later = b.draws_later;
    return b;
}

static const float *take_result(engine *e, step_result result) {
    e->hidden = result.hidden;
    e->best = result.best;
    e->logprobs = result.logprobs;
    e->micro_batches = result.micro_batches;
    e->fault = result.fault;
    return result.logits;
}

const float *engine_step(engine *e, const engine_row *rows, uint32_t count) {
    ASSERT(e->begun == 0);
    if (!is_loaded(e)) return NULL;
    mem_freeze("step");
    const batch b = batch_of(e, rows, count);
    const float *logits = take_result(e, e->ops->step(e->backend, &b));
    mem_thaw();
    return logits;
}

bool engine_runs_ahead(const engine *e) { return e->ops->begin != NULL && !e->opt.no_ahead; }

void engine_begin(engine *e, const engine_row *rows, uint32_t count) {
    ASSERT(engine_runs_ahead(e) && e->begun < 2 && !e->draws_later);
    e->begun++;
    if (!is_loaded(e)) return;
    mem_freeze("step");
    const batch b = batch_of(e, rows, count);
    e->ops->begin(e->backend, &b);
    mem_thaw();
}

void engine_draw(engine *e) {
    if (e->fault != NULL) return; /* as with engine_end() */
    ASSERT(e->begun > 0 && e->draws_later);
    mem_freeze("draw");
    e->ops->draw(e->backend, e->head_samples);
    mem_thaw();
    e->draws_later = false;
}

const float *engine_end(engine *e) {
    ASSERT(e->begun > 0 && (e->begun > 1 || !e->draws_later));
    e->begun--;
    if (e->fault != NULL) return NULL; /* it could not be loaded, and was not begun */
    mem_freeze("step");
    const float *logits = take_result(e, e->ops->end(e->backend));
    mem_thaw();
    return logits;
}

const error *engine_fault(const engine *e) { return e->fault; }

status engine_check(const engine *e, error *err) {
    return e->fault == NULL ? OK : error_set(err, e->fault->code, "%s", e->fault->msg);
}

const float *engine_hidden(const engine *e) { return e->hidden; }
const int32_t *engine_best(const engine *e) { return e->best; }
const sample_logprobs *engine_logprobs(const engine *e) { return e->logprobs; }
uint32_t engine_micro_batches(const engine *e) { return e->micro_batches; }

/* --- adapters -------------------- */

status engine_adapter_add(engine *e, const lora_pair *pairs, error *err) {
    if (e->ops->adapter_add == NULL) return OK;
    return e->ops->adapter_add(e->backend, pairs, err);
}

void engine_adapter_drop(engine *e, const lora_pair *pairs) {
    if (e->ops->adapter_drop != NULL) e->ops->adapter_drop(e->backend, pairs);
}

/* --- introspection -------------------- */

uint32_t engine_lora_slots(const engine *e) { return e->program->lora_slots; }

lora_slot engine_lora_slot(const engine *e, uint32_t slot) {
    ASSERT(slot < e->program->lora_slots);
    const weight *w = &e->program->ops[e->lora_ops[slot]].w;
    return (lora_slot){.tensor = w->name, .row0 = w->row0, .rows = w->rows, .cols = w->cols};
}

static uint32_t value_cols(const program *p, value_id v) {
    return v == VALUE_NONE ? 0 : p->values[v].cols;
}

const model *engine_model(const engine *e) { return e->m; }
uint32_t engine_lora_rank_max(const engine *e) { return e->program->max.lora_rank; }
kv_pool *engine_kv(engine *e) { return e->kv; }
kv_tier *engine_kv_tier(engine *e) { return e->tier; }
const mem_plan *engine_mem_plan(const engine *e) { return &e->plan; }
uint32_t engine_vocab(const engine *e) { return e->m->hparams.vocab; }
uint32_t engine_hidden_cols(const engine *e) { return value_cols(e->program, e->program->hidden); }
uint32_t engine_logits_cols(const engine *e) { return value_cols(e->program, e->program->logits); }
bool engine_can_sample(const engine *e) { return e->ops->samples; }
bool engine_is_encoder(const engine *e) { return e->m->hparams.is_encoder; }
bool engine_can_share(const engine *e) {
    return e->program->state_floats == 0 && !engine_is_encoder(e);
}
void engine_report(const engine *e, backend_report *out) { e->ops->report(e->backend, out); }

status engine_profile_switch(engine *e, bool on, error *err) {
    if (e->ops->profile == NULL)
        return error_set(err, ERR_UNSUPPORTED, "engine: backend %s does not measure its tasks",
                         e->ops->name);
    return e->ops->profile(e->backend, on, err);
}

uint32_t engine_profiled(const engine *e, backend_profile out[BACKEND_PARTS_MAX]) {
    return e->ops->profiled(e->backend, out);
}

/* --- before the first step -------------------- */

/* The programs that steps run, and where. */
static uint32_t places_of(const engine *e, backend_place out[BACKEND_PARTS_MAX]) {
    if (e->ops->places != NULL) return e->ops->places(e->backend, out);
    out[0] = (backend_place){.ops = e->ops, .p = e->program};
    return 1;
}

/* What the backend's loading tells of is all that is not read behind it. */
typedef struct loading {
    const backend_progress *progress;
    uint64_t bytes, total;
} loading;

static bool tell_loaded(void *ctx, uint64_t done, uint64_t total) {
    const loading *l = ctx;
    const double share = total > 0 ? (double)done / (double)total : 1;
    return l->progress->tell(l->progress->ctx, (uint64_t)(share * (double)l->bytes), l->total);
}

status engine_load(engine *e, const backend_progress *p, error *err) {
    backend_place places[BACKEND_PARTS_MAX];
    const uint32_t count = places_of(e, places);
    const uint64_t left = read_ahead_bytes(places, count);
    loading l = {.progress = p, .total = read_ahead_all_bytes(places, count)};
    ASSERT(left <= l.total);
    l.bytes = l.total - left;
    const bool loads_all = e->plan.on_device && left == 0;
    TRY(e->ops->load(e->backend, loads_all ? p : &(backend_progress){tell_loaded, &l}, err));
    e->loaded = true;
    if (loads_all) return OK;
    TRY(read_ahead(places, count, os_memory_available(), p, l.bytes, l.total, err));
    if (p->tell(p->ctx, l.total, l.total)) return OK;
    return error_set(err, ERR_CANCELED, "engine: stopped while loading the weights");
}

void engine_log_weights(const engine *e) {
    backend_place places[BACKEND_PARTS_MAX];
    backend_log_weights(places, places_of(e, places));
}

status engine_warm_up(engine *e, error *err) {
    engine_row row = {.wants_logits = e->opt.taken_rows_max > 0,
                      .wants_hidden = e->program->max.taken > 0};
    status st = kv_seat_grow(e->kv, 0, 1, err);
    if (st == OK) (void)engine_step(e, &row, 1);
    if (st == OK) st = engine_check(e, err);
    kv_seat_clear(e->kv, 0);
    return st;
}
