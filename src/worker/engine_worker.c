/* engine_worker.c - see engine_worker.h. */
#include "worker/engine_worker.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "obs/metrics.h"
#include "worker/engine_profile.h"
#include "worker/turn.h"

enum {
    OUT_BYTES = SCHED_STEP_VECTOR_BYTES + (512 << 10),
    SEAT_EVENT_BYTES = 512, /* what a step has to say of one sequence, besides a vector */
};

struct engine_worker {
    engine_worker_options opt;
    sched *sched;
    sampler *sampler; /* NULL: nothing is generated */
    turn turns[2];
    turn *now;              /* the step that ends next, ... */
    turn *next;             /* ... and the one behind it */
    sample_result *results; /* [seats] */
    turn_drawer drawer;
    buf in;  /* the frame being read */
    buf out; /* frames not yet in the ring */
    metrics metrics;
    uint32_t head_width; /* floats of a row of logits: tokens, or labels */
    uint64_t steps;
    uint64_t ahead_steps;   /* that were begun before the one before them had ended */
    uint64_t micro_batches; /* of steps that were cut */
    uint64_t ended_ns;      /* the last step */
    uint64_t greedy_rows;   /* that wanted the best */
    uint64_t sampled_rows;  /* that had a sample order */
    uint64_t host_rows;     /* whose logits the sampler got */
    uint64_t status_at_ns;
    engine_profile profile;
    bool draining;
    _Atomic bool broken; /* set once, by the engine thread; nothing else is read after it */
};

/* --- life cycle -------------------- */

static status take_memory(engine_worker *w, error *err) {
    const sched_options *o = &w->opt.sched;
    const bool draws = w->opt.stepper.samples && !o->no_generate;
    for (uint32_t i = 0; i < 2; i++) TRY(turn_init(&w->turns[i], o, draws, err));
    w->now = &w->turns[0];
    w->next = &w->turns[1];
    w->results = mem_try_calloc(o->seats, sizeof *w->results);
    w->drawer.banned = mem_try_calloc(o->eog_count + WIRE_STOP_IDS_MAX, sizeof *w->drawer.banned);
    /* a step's frame never has to find memory */
    const void *out = buf_reserve(&w->out, OUT_BYTES + (size_t)o->seats * SEAT_EVENT_BYTES);
    if (w->results == NULL || w->drawer.banned == NULL || out == NULL)
        return error_set(err, ERR_NOMEM, "engine worker: no memory for %u seats", o->seats);
    return OK;
}

status engine_worker_create(engine_worker **out, const engine_worker_options *opt, error *err) {
    const stepper *s = &opt->stepper;
    ASSERT(!s->samples || (s->best != NULL && s->logprobs != NULL));
    ASSERT(!s->samples || s->begin == NULL || s->draw != NULL);
    engine_worker *w = mem_try_calloc(1, sizeof *w);
    if (w == NULL) return error_set(err, ERR_NOMEM, "engine worker: no memory");
    w->opt = *opt;
    w->opt.sched.finds_best = opt->stepper.best != NULL;
    w->head_width = opt->sched.no_generate ? opt->sched.rank_labels : opt->sched.vocab;
    buf_init(&w->in, WIRE_FRAME_BYTES_MAX);
    buf_init(&w->out, WIRE_FRAME_BYTES_MAX);
    metrics_init(&w->metrics);
    status st = take_memory(w, err);
    if (st == OK) st = sched_create(&w->sched, &w->opt.sched, opt->kv, &w->out, err);
    if (st == OK && !opt->sched.no_generate)
        st = sampler_create(&w->sampler, opt->sched.vocab, err);
    if (st != OK) {
        engine_worker_destroy(w);
        return st;
    }
    w->drawer.sched = w->sched;
    w->drawer.sampler = w->sampler;
    *out = w;
    return OK;
}

void engine_worker_destroy(engine_worker *w) {
    if (w == NULL) return;
    engine_profile_cancel(&w->profile, &w->opt.stepper);
    sched_destroy(w->sched);
    sampler_destroy(w->sampler);
    for (uint32_t i = 0; i < 2; i++) turn_deinit(&w->turns[i]);
    mem_free(w->results);
    mem_free(w->drawer.banned);
    buf_deinit(&w->in);
    buf_deinit(&w->out);
    mem_free(w);
}

/* --- inbox -------------------- */

/* Those that were loaded before the loop began: above, nobody knows more than their numbers. */
static void tell_adapters(engine_worker *w) {
    const lora_table *t = w->opt.sched.loras;
    lora_report r;
    for (uint32_t i = 0; t != NULL && lora_table_get(t, i, &r); i++)
        wire_put_adapter_state(&w->out, &(adapter_state){.adapter = i,
                                                         .loaded = true,
                                                         .rank = r.rank,
                                                         .weights = r.weights,
                                                         .bytes = r.bytes});
}

/* Load or unload, and say what became of it. */
static void take_adapter(engine_worker *w, const adapter_order *o) {
    error err = {0};
    lora_report report = {0};
    char path[WIRE_PATH_BYTES_MAX + 1];
    str_copy_c(path, sizeof path, o->path);
    lora_table *t = w->opt.sched.loras;
    status st = OK;
    if (t == NULL)
        st = error_set(&err, ERR_UNSUPPORTED, "lora: this server was started without adapters");
    else if (o->load)
        st = lora_table_load(t, o->adapter, path, &report, &err);
    else
        st = lora_table_unload(t, o->adapter, &err);
    adapter_state s = {.adapter = o->adapter,
                       .loaded = o->load && st == OK,
                       .code = st,
                       .rank = report.rank,
                       .weights = report.weights,
                       .bytes = report.bytes,
                       .message = st == OK ? (str){0} : str_of(err.msg)};
    wire_put_adapter_state(&w->out, &s);
}

static void settle(engine_worker *w);

static status take_profile(engine_worker *w, str body, error *err) {
    profile_order order;
    TRY(wire_get_profile(body, &order, err));
    settle(w);
    engine_profile_begin(&w->profile, &w->opt.stepper, &order, os_now_ns(), &w->out);
    return OK;
}

static status take_message(engine_worker *w, wire_type type, str body, error *err) {
    gen_request r;
    gen_cancel cancel;
    gen_credit credit;
    switch (type) {
    case WIRE_REQUEST:
        TRY(wire_get_request(body, &r, err));
        sched_submit(w->sched, &r, os_now_ns());
        return OK;
    case WIRE_CANCEL:
        TRY(wire_get_cancel(body, &cancel, err));
        sched_cancel(w->sched, cancel.id, cancel.choice, os_now_ns());
        return OK;
    case WIRE_CREDIT:
        TRY(wire_get_credit(body, &credit, err));
        sched_credit(w->sched, credit.id, credit.tokens);
        return OK;
    case WIRE_DRAIN:
        w->draining = true;
        sched_drain(w->sched, os_now_ns());
        return OK;
    default:
        return error_set(err, ERR_FORMAT, "wire: message type %d comes from below", type);
    }
}

/* Everything that is in the inbox, while answers fit above.  True if there was anything. */
static bool drain_inbox(engine_worker *w) {
    bool any = false, got = true;
    while (got && link_flush(w->opt.link->up, &w->out)) {
        error err = {0};
        status st = link_recv(w->opt.link->down, &w->in, &got, &err);
        if (st == OK && !got) break;
        any = true;
        wire_type type = WIRE_TYPE_END;
        str body = {0};
        if (st == OK) st = wire_open(buf_view(&w->in), &type, &body, &err);
        if (st == OK && type == WIRE_ADAPTER) { /* its answer is a frame of its own */
            adapter_order order;
            st = wire_get_adapter(body, &order, &err);
            if (st == OK) take_adapter(w, &order);
            continue;
        }
        if (st == OK && type == WIRE_PROFILE) { /* likewise */
            st = take_profile(w, body, &err);
            if (st == OK) continue;
        }
        size_t frame = wire_events_begin(&w->out);
        if (st == OK) st = take_message(w, type, body, &err);
        wire_events_end(&w->out, frame);
        if (st != OK) LOG_EVERY(1000, LOG_ERROR, "engine", "bad message: %s", err.msg);
    }
    return any;
}

/* --- status -------------------- */

static void fill_tier_metrics(metrics *m, const kv_tier *t) {
    if (t == NULL) return;
    const kv_tier_counters c = kv_tier_counters_get(t);
    metrics_set(m, METRIC_KV_SAVED_BYTES_TOTAL, c.saved_bytes);
    metrics_set(m, METRIC_KV_LOADED_BYTES_TOTAL, c.loaded_bytes);
    metrics_set(m, METRIC_KV_HOST_BLOCKS, kv_tier_blocks_max(t));
    metrics_set(m, METRIC_KV_HOST_BLOCKS_USED, kv_tier_blocks_max(t) - kv_tier_blocks_free(t));
}

static void fill_metrics(engine_worker *w) {
    sched_counters c = sched_counters_get(w->sched);
    metrics *m = &w->metrics;
    metrics_set(m, METRIC_PREFILL_ROWS_TOTAL, c.prefill_rows);
    metrics_set(m, METRIC_DECODE_ROWS_TOTAL, c.decode_rows);
    metrics_set(m, METRIC_STEP_ROWS_TOTAL, c.prefill_rows + c.decode_rows);
    metrics_set(m, METRIC_GREEDY_ROWS_TOTAL, w->greedy_rows);
    metrics_set(m, METRIC_SAMPLED_ROWS_TOTAL, w->sampled_rows);
    metrics_set(m, METRIC_HOST_SAMPLED_ROWS_TOTAL, w->host_rows);
    metrics_set(m, METRIC_STEPS_TOTAL, w->steps);
    metrics_set(m, METRIC_AHEAD_STEPS_TOTAL, w->ahead_steps);
    metrics_set(m, METRIC_MICRO_BATCHES_TOTAL, w->micro_batches);
    metrics_set(m, METRIC_PREEMPTIONS_TOTAL, c.preemptions);
    metrics_set(m, METRIC_PREEMPTIONS_SAVED_TOTAL, c.preemptions_saved);
    metrics_set(m, METRIC_CANCELLED_TOTAL, c.canceled);
    metrics_set(m, METRIC_SEQUENCES_RUNNING, c.running);
    metrics_set(m, METRIC_SEQUENCES_WAITING, c.waiting);
    metrics_set(m, METRIC_SEQUENCES_PARKED, c.parked);
    metrics_set(m, METRIC_KV_BLOCKS, kv_blocks_max(w->opt.kv));
    metrics_set(m, METRIC_KV_BLOCKS_USED, kv_blocks_max(w->opt.kv) - kv_blocks_free(w->opt.kv));
    fill_tier_metrics(m, w->opt.sched.tier);
    metrics_set(m, METRIC_FUSED_OPS, w->opt.report.ops_fused);
    metrics_set(m, METRIC_UNFUSED_OPS, w->opt.report.ops_unfused);
    metrics_set(m, METRIC_HEARTBEAT_TIMESTAMP_SECONDS, os_wall_ms() * 1000000u);
}

static void send_status(engine_worker *w) {
    uint64_t now_ns = os_now_ns();
    if (now_ns < w->status_at_ns) return;
    if (!link_flush(w->opt.link->up, &w->out)) return; /* never pile heartbeats up */
    w->status_at_ns = now_ns + (uint64_t)ENGINE_STATUS_MS * 1000000u;
    fill_metrics(w);
    engine_status s = {
        .steps = w->steps,
        .running = (uint32_t)metrics_get(&w->metrics, METRIC_SEQUENCES_RUNNING),
        .waiting = (uint32_t)metrics_get(&w->metrics, METRIC_SEQUENCES_WAITING),
        .values = {metrics_engine_view(&w->metrics), METRICS_ENGINE_CELLS},
    };
    wire_put_status(&w->out, &s);
    (void)link_flush(w->opt.link->up, &w->out);
}

/* --- stepping -------------------- */

static void sample(engine_worker *w, const plan_item *it, const float *logits, sample_result *out) {
    uint32_t banned = sched_banned(w->sched, it, w->drawer.banned);
    sampler_pick(w->sampler, logits, &it->seq->request->sampling, sched_history(it),
                 it->seq->choice, w->drawer.banned, banned, out);
}

/* What a step made, from the next row's on: all stand in row order. */
typedef struct made {
    const float *logits;
    const int32_t *best;             /* NULL: no row wants a token */
    const sample_logprobs *logprobs; /* NULL: of no row they are wanted from the step */
    const float *hidden;             /* NULL: no row wants it */
    sample_result *token;            /* of the next sequence that gets one */
} made;

static bool wants_logprobs(const engine_row *row) {
    return row->sample != NULL && row->sample->rule.logprobs != 0;
}

/* What a row made goes where it is wanted: logits are sampled, or are scores; hidden states go into
 * vectors.  A row whose sequence has ended made a token. */
static void collect_row(engine_worker *w, const plan_item *it, const engine_row *row, made *m) {
    const bool token = row->wants_best || row->sample != NULL, head = token || row->wants_logits;
    const bool ranks = !token && row->wants_logits && it->seq->request->kind == GEN_KIND_RANK;
    ASSERT(!token || m->best != NULL);
    if (row->wants_hidden)
        seq_vector_add(it->seq, m->hidden);
    else if (token)
        *m->token++ = sample_result_of(*m->best, wants_logprobs(row) ? m->logprobs : NULL);
    else if (ranks)
        seq_vector_add(it->seq, m->logits);
    else if (row->wants_logits)
        sample(w, it, m->logits, m->token++);
    w->greedy_rows += it->seq != NULL && row->wants_best;
    w->sampled_rows += it->seq != NULL && row->sample != NULL;
    w->host_rows += row->wants_logits && !ranks;
    if (head) m->logits += w->head_width;
    if (head && m->best != NULL) m->best++;
    if (head && m->logprobs != NULL) m->logprobs++;
    if (m->hidden != NULL && (head || row->wants_hidden)) m->hidden += w->opt.sched.embed_dims;
}

static void collect(engine_worker *w, const turn *t, const float *logits) {
    const stepper *st = &w->opt.stepper;
    made m = {.logits = logits,
              .best = st->best != NULL ? st->best(st->ctx) : NULL,
              .logprobs = st->logprobs != NULL ? st->logprobs(st->ctx) : NULL,
              .hidden = st->hidden != NULL ? st->hidden(st->ctx) : NULL,
              .token = w->results};
    const engine_row *row = t->rows;
    mem_freeze("collect");
    for (uint32_t i = 0; i < t->plan->items_count; i++)
        for (uint32_t k = 0; k < t->plan->items[i].rows; k++)
            collect_row(w, &t->plan->items[i], row++, &m);
    mem_thaw();
}

/* The device is gone, and with it everything that was computed: say so, here and above. */
static void fail(engine_worker *w, const error *fault) {
    log_error("engine", "step %" PRIu64 " of %u rows failed: %s", w->steps, w->now->plan->rows,
              fault->msg);
    sched_fail(w->sched, w->now->plan, fault);
    w->now->begun = w->next->begun = false;
    w->broken = true;
}

/* ahead: of another one that has not ended. */
static void begin(engine_worker *w, turn *t, bool ahead) {
    const stepper *st = &w->opt.stepper;
    if (ahead)
        turn_order_ahead(t, &w->drawer);
    else
        turn_order(t, &w->drawer);
    t->begun_ns = os_now_ns();
    t->begun = st->begin != NULL && !w->profile.on;
    if (t->begun) st->begin(st->ctx, t->rows, t->plan->rows);
}

/* Queue the step behind the one that is computed, if it is known. */
static void run_ahead(engine_worker *w) {
    turn *t = w->next;
    if (!w->now->begun || w->profile.on || !turn_makes_tokens(w->now)) return;
    if (!turn_next_can_draw(w->now)) return;
    if (!sched_follow(w->sched, w->now->plan, os_now_ns(), t->plan, t->rows)) return;
    begin(w, t, true);
    w->ahead_steps++;
}

/* Wait for the step, and give what it made to the sequences. */
static void finish(engine_worker *w) {
    const stepper *st = &w->opt.stepper;
    turn *t = w->now;
    const float *logits = t->begun ? st->end(st->ctx) : st->step(st->ctx, t->rows, t->plan->rows);
    const error *fault = st->fault != NULL ? st->fault(st->ctx) : NULL;
    w->steps++;
    if (fault != NULL) {
        fail(w, fault);
        return;
    }
    collect(w, t, logits);
    if (st->micro_batches != NULL) w->micro_batches += st->micro_batches(st->ctx);
    const uint64_t start_ns = num_max_u64(t->begun_ns, w->ended_ns), end_ns = os_now_ns();
    w->ended_ns = end_ns;
    t->begun = false;
    metrics_observe_ns(&w->metrics, METRIC_STEP_SECONDS, end_ns - start_ns);
    sched_apply(w->sched, t->plan, w->results, end_ns, end_ns - start_ns);
    if (w->profile.on) engine_profile_step(&w->profile, st, t->plan->rows, turn_has_prompt(t));
    if (!w->next->begun) return;
    w->now = w->next;
    w->next = t;
    if (!w->now->draws_later) return;
    turn_keep_promise(w->now, &w->drawer);
    st->draw(st->ctx);
}

/* A step that is ahead ends, and none is begun behind it. */
static void settle(engine_worker *w) {
    if (!w->now->begun) return;
    const size_t frame = wire_events_begin(&w->out);
    finish(w);
    wire_events_end(&w->out, frame);
}

/* Plan and compute one step, or end the one that is ahead; false when nothing can run. */
static bool step(engine_worker *w) {
    const bool ahead = w->now->begun;
    const step_plan *plan = w->now->plan;
    if (!ahead) sched_plan(w->sched, os_now_ns(), w->now->plan);
    if (!ahead && plan->rows == 0 && plan->preempts_count == 0) return false;
    size_t frame = wire_events_begin(&w->out);
    if (!ahead) sched_commit(w->sched, w->now->plan, os_now_ns(), w->now->rows);
    if (!ahead && plan->rows > 0) begin(w, w->now, false);
    if (plan->rows > 0) {
        run_ahead(w);
        finish(w);
    }
    wire_events_end(&w->out, frame);
    (void)link_flush(w->opt.link->up, &w->out);
    return true;
}

bool engine_worker_tick(engine_worker *w) {
    bool did = drain_inbox(w);
    send_status(w);
    engine_profile_look(&w->profile, &w->opt.stepper, os_now_ns(), &w->out);
    if (!link_flush(w->opt.link->up, &w->out)) return did;
    return step(w) || did;
}

void engine_worker_run(engine_worker *w) {
    sched_claim(w->sched);
    tell_adapters(w);
    while (!w->draining) {
        if (engine_worker_tick(w)) continue;
        /* A room signal only matters while frames are stuck; a message always does. */
        int fds[] = {ring_fd(w->opt.link->down), ring_room_fd(w->opt.link->up)};
        os_wait(fds, 2, ENGINE_STATUS_MS);
        os_event_clear(fds[0]);
        os_event_clear(fds[1]);
    }
    settle(w);
}

bool engine_worker_is_broken(const engine_worker *w) { return w->broken; }

const sched *engine_worker_sched(const engine_worker *w) { return w->sched; }
