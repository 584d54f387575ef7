/* sched.c - messages in, plans carried out.  See sched.h. */
#include "sched/sched.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "sched/sched_internal.h"

/* --- life cycle -------------------- */

/* The request is gone: so are its uses of adapters, and what is saved of it. */
static void request_end(sched *s, sched_request *r) {
    for (uint32_t i = 0; i < r->choices; i++) sched_drop_saved(s, &r->seqs[i]);
    if (s->opt.loras != NULL) lora_table_give(s->opt.loras, &r->mix);
    request_destroy(r);
}

status sched_create(sched **out, const sched_options *opt, kv_pool *kv, buf *events, error *err) {
    ASSERT(opt->seats > 0 && opt->rows_max >= opt->seats && opt->ctx_max > 1);
    sched *s = mem_try_calloc(1, sizeof *s);
    if (s == NULL) return error_set(err, ERR_NOMEM, "sched: no memory");
    s->opt = *opt;
    s->kv = kv;
    s->events = events;
    s->running = mem_try_calloc(opt->seats, sizeof(seq *));
    s->seat_taken = mem_try_calloc(opt->seats, sizeof *s->seat_taken);
    uint32_t vector_len = num_max_u32(opt->embed_dims, opt->rank_labels);
    s->vector = mem_try_calloc(vector_len, sizeof *s->vector);
    status st = idmap_init(&s->requests, opt->queue_max + opt->seats, err);
    if (s->running == NULL || s->seat_taken == NULL || s->vector == NULL)
        st = error_set(err, ERR_NOMEM, "sched: no memory for %u seats", opt->seats);
    if (st != OK) {
        sched_destroy(s);
        return st;
    }
    *out = s;
    return OK;
}

void sched_destroy(sched *s) {
    if (s == NULL) return;
    uint32_t at = 0;
    for (sched_request *r;
         s->requests.entries != NULL && (r = idmap_next(&s->requests, &at)) != NULL;)
        request_end(s, r);
    idmap_deinit(&s->requests);
    mem_free(s->running);
    mem_free(s->seat_taken);
    mem_free(s->vector);
    mem_free(s);
}

void sched_claim(sched *s) { thread_owner_claim(&s->owner); }

/* --- events -------------------- */

void sched_emit(sched *s, const gen_event *e) { wire_events_add(s->events, e); }

__attribute__((format(printf, 7, 8))) static void emit_error(sched *s, uint64_t id, status code,
                                                             gen_fault fault, uint64_t have,
                                                             uint64_t limit, const char *fmt, ...) {
    error text;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text.msg, sizeof text.msg, fmt, ap);
    va_end(ap);
    gen_event e = {.id = id, .kind = GEN_ERROR};
    e.error.code = code;
    e.error.fault = fault;
    e.error.have = have;
    e.error.limit = limit;
    e.error.message = str_of(text.msg);
    sched_emit(s, &e);
}

static uint32_t elapsed_us(uint64_t from_ns, uint64_t to_ns) {
    if (from_ns == 0 || to_ns <= from_ns) return 0;
    return (uint32_t)num_min_u64((to_ns - from_ns) / 1000, UINT32_MAX);
}

static void emit_usage(sched *s, const sched_request *r, uint64_t now_ns) {
    gen_event e = {.id = r->id, .kind = GEN_USAGE};
    uint64_t first_row_ns = r->first_row_ns != 0 ? r->first_row_ns : now_ns;
    e.usage = (gen_usage){
        .prompt_tokens = r->prompt_count,
        .completion_tokens = r->output_tokens,
        .cached_tokens = r->cached_tokens,
        .queue_us = elapsed_us(r->accepted_ns, first_row_ns),
        .prompt_us = elapsed_us(r->first_row_ns, r->first_token_ns),
        .decode_us = elapsed_us(r->first_token_ns, r->last_token_ns),
    };
    sched_emit(s, &e);
}

void sched_emit_paused(sched *s, const seq *q, gen_pause why) {
    gen_event e = {.id = q->request->id, .choice = q->choice, .kind = GEN_PAUSED, .paused = why};
    sched_emit(s, &e);
}

/* --- the end of a sequence -------------------- */

/* What the step that was begun ahead makes of it is not wanted any more. */
static void leave_step(const sched *s, const seq *q) {
    for (uint32_t i = 0; s->ahead != NULL && i < s->ahead->items_count; i++)
        if (s->ahead->items[i].seq == q) s->ahead->items[i].seq = NULL;
}

void sched_finish(sched *s, seq *q, gen_finish reason, uint64_t now_ns) {
    sched_request *r = q->request;
    leave_step(s, q);
    if (q->state == SEQ_STATE_WAITING)
        sched_queue_remove(s, q);
    else
        sched_seat_leave(s, q);
    sched_drop_saved(s, q);
    seq_set_state(q, SEQ_STATE_DONE);
    gen_event e = {.id = r->id, .choice = q->choice, .kind = GEN_FINISH};
    e.finish.reason = reason;
    sched_emit(s, &e);
    if (--r->live > 0) return;
    emit_usage(s, r, now_ns);
    if (request_never_ran(r)) s->waiting_requests--;
    (void)idmap_remove(&s->requests, r->id);
    request_end(s, r);
}

/* --- messages -------------------- */

static void queue_push_back(sched *s, seq *q) {
    seq **at = &s->waiting;
    while (*at != NULL) at = &(*at)->next;
    q->next = NULL;
    *at = q;
    s->waiting_count++;
}

static bool ids_are_valid(sched *s, const gen_request *g, wire_array ids, const char *what) {
    for (uint32_t i = 0; i < ids.count; i++) {
        int32_t id = wire_i32_at(ids, i);
        if (id >= 0 && (uint32_t)id < s->opt.vocab) continue;
        emit_error(s, g->id, ERR_INVALID, GEN_FAULT_PROMPT, (uint64_t)(uint32_t)id, s->opt.vocab,
                   "%s: token %u is %d, the vocabulary has %u", what, i, id, s->opt.vocab);
        return false;
    }
    return true;
}

/* Values of the result; 0 for one that generates. */
static uint32_t vector_len_of(const sched *s, const gen_request *g) {
    if (g->kind == GEN_KIND_GENERATE) return 0;
    return g->kind == GEN_KIND_EMBED ? s->opt.embed_dims : s->opt.rank_labels;
}

/* Can the model do that at all? */
static bool kind_is_offered(sched *s, const gen_request *g) {
    static const char *const does_not[GEN_KIND_END] = {
        [GEN_KIND_GENERATE] = "generate text: it is an encoder, for embeddings or scores",
        [GEN_KIND_EMBED] = "make embeddings here",
        [GEN_KIND_RANK] = "score texts: it has no classification head",
    };
    bool offered = g->kind == GEN_KIND_GENERATE ? !s->opt.no_generate : vector_len_of(s, g) > 0;
    if (!offered)
        emit_error(s, g->id, ERR_UNSUPPORTED, GEN_FAULT_KIND, 0, 0, "the model does not %s",
                   does_not[g->kind]);
    return offered;
}

/* Does the prompt leave room for what is wanted? */
static bool prompt_fits(sched *s, const gen_request *g) {
    if (g->kind != GEN_KIND_GENERATE) {
        if (g->ids.count <= s->opt.embed_tokens_max) return true;
        emit_error(s, g->id, ERR_LIMIT, GEN_FAULT_INPUT_LENGTH, g->ids.count,
                   s->opt.embed_tokens_max, "the input has %u tokens, at most %u are computed",
                   g->ids.count, s->opt.embed_tokens_max);
        return false;
    }
    if (g->ids.count < s->opt.ctx_max) return true;
    emit_error(s, g->id, ERR_LIMIT, GEN_FAULT_CONTEXT_LENGTH, g->ids.count, s->opt.ctx_max,
               "the prompt has %u tokens, the context holds %u and needs room for one more",
               g->ids.count, s->opt.ctx_max);
    return false;
}

/* False, with an ERROR event, when the request cannot be taken. */
static bool may_enter(sched *s, const gen_request *g) {
    if (s->failure.code != OK) {
        emit_error(s, g->id, s->failure.code, GEN_FAULT_NONE, 0, 0, "%s", s->failure.msg);
    } else if (s->draining) {
        emit_error(s, g->id, ERR_BUSY, GEN_FAULT_DRAINING, 0, 0, "the server is stopping");
    } else if (g->prompt != GEN_PROMPT_IDS || g->ids.count == 0) {
        emit_error(s, g->id, ERR_INVALID, GEN_FAULT_PROMPT, 0, 1, "prompt: has no tokens");
    } else if (s->waiting_requests >= s->opt.queue_max ||
               s->requests.count >= s->requests.count_max) {
        emit_error(s, g->id, ERR_BUSY, GEN_FAULT_QUEUE_FULL, s->waiting_requests, s->opt.queue_max,
                   "%u requests are waiting, at most %u may", s->waiting_requests,
                   s->opt.queue_max);
    } else if (idmap_get(&s->requests, g->id) != NULL) {
        emit_error(s, g->id, ERR_INTERNAL, GEN_FAULT_NONE, 0, 0, "request id %" PRIu64 " is in use",
                   g->id);
    } else {
        return kind_is_offered(s, g) && prompt_fits(s, g) &&
               ids_are_valid(s, g, g->ids, "prompt") &&
               ids_are_valid(s, g, g->sampling.allowed_ids, "allowed_token_ids");
    }
    return false;
}

/* Hold the adapters that the request names; false, with an ERROR event, when one is not loaded. */
static bool take_adapters(sched *s, const gen_request *g, lora_mix *mix) {
    for (uint32_t i = 0; i < g->adapters.count; i++) {
        uint32_t adapter = (uint32_t)wire_i32_at(g->adapters, i);
        float scale = wire_f32_at(g->adapter_scales, i);
        if (s->opt.loras != NULL && lora_table_use(s->opt.loras, adapter, scale, mix)) continue;
        emit_error(s, g->id, ERR_NOT_FOUND, GEN_FAULT_ADAPTER, adapter, 0,
                   "adapter %u is not loaded", adapter);
        return false;
    }
    return true;
}

/* Prompt rows that are to be computed before a newcomer's first, at the measured pace. */
static uint32_t eta_ms(const sched *s) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < s->running_count; i++)
        rows += s->running[i]->count - s->running[i]->computed;
    for (const seq *q = s->waiting; q != NULL; q = q->next) rows += q->count - q->computed;
    return (uint32_t)num_min_u64(rows * s->row_ns / 1000000u, UINT32_MAX);
}

void sched_submit(sched *s, const gen_request *g, uint64_t now_ns) {
    ASSERT(thread_is_owner(&s->owner));
    if (!may_enter(s, g)) return;
    sched_request *r = NULL;
    error err = {0};
    if (request_create(&r, g, s->opt.ctx_max, s->opt.vocab, vector_len_of(s, g), &err) != OK) {
        emit_error(s, g->id, ERR_NOMEM, GEN_FAULT_NONE, 0, 0, "%s", err.msg);
        return;
    }
    if (!take_adapters(s, g, &r->mix)) {
        request_end(s, r);
        return;
    }
    if (r->pooling == GEN_POOLING_MODEL) r->pooling = s->opt.pooling;
    if (r->kind == GEN_KIND_RANK) r->pooling = GEN_POOLING_FIRST; /* what the head is trained on */
    gen_event e = {.id = r->id, .kind = GEN_ACCEPTED};
    e.accepted.prompt_tokens = r->prompt_count;
    e.accepted.queue_position = s->waiting_count;
    e.accepted.eta_ms = eta_ms(s);
    r->accepted_ns = now_ns;
    idmap_add(&s->requests, r->id, r);
    s->waiting_requests++;
    for (uint32_t i = 0; i < r->choices; i++) queue_push_back(s, &r->seqs[i]);
    sched_emit(s, &e);
}

void sched_cancel(sched *s, uint64_t id, uint16_t choice, uint64_t now_ns) {
    ASSERT(thread_is_owner(&s->owner));
    sched_request *r = idmap_get(&s->requests, id);
    if (r == NULL) return; /* it finished while the message was on its way */
    uint32_t choices = r->choices, live = r->live; /* the last sched_finish() frees r */
    for (uint32_t i = 0; i < choices && live > 0; i++) {
        seq *q = &r->seqs[i];
        if ((choice != GEN_CHOICE_ALL && choice != i) || q->state == SEQ_STATE_DONE) continue;
        s->counters.canceled++;
        live--;
        sched_finish(s, q, GEN_FINISH_CANCELED, now_ns);
    }
}

void sched_credit(sched *s, uint64_t id, uint32_t tokens) {
    ASSERT(thread_is_owner(&s->owner));
    sched_request *r = idmap_get(&s->requests, id);
    if (r == NULL) return;
    r->credits = num_min_u32(r->credits + tokens, WIRE_CREDITS_MAX);
}

void sched_drain(sched *s, uint64_t now_ns) {
    s->draining = true;
    for (;;) {
        uint32_t at = 0;
        const sched_request *r = idmap_next(&s->requests, &at);
        if (r == NULL) return;
        sched_cancel(s, r->id, GEN_CHOICE_ALL, now_ns);
    }
}

/* --- carrying a plan out -------------------- */

/* The whole request ends with an error and leaves the plan. */
static void fail_request(sched *s, step_plan *plan, sched_request *r, const error *why) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < plan->items_count; i++) {
        if (plan->items[i].seq == NULL || plan->items[i].seq->request == r)
            plan->rows -= plan->items[i].rows;
        else
            plan->items[kept++] = plan->items[i];
    }
    plan->items_count = kept;
    kept = 0;
    for (uint32_t i = 0; i < plan->admits_count; i++)
        if (plan->admits[i].seq->request != r) plan->admits[kept++] = plan->admits[i];
    plan->admits_count = kept;
    for (uint32_t i = 0; i < r->choices; i++) {
        seq *q = &r->seqs[i];
        if (q->state == SEQ_STATE_WAITING)
            sched_queue_remove(s, q);
        else if (q->state != SEQ_STATE_DONE)
            sched_seat_leave(s, q);
    }
    emit_error(s, r->id, why->code, GEN_FAULT_NONE, 0, 0, "%s", why->msg);
    if (request_never_ran(r)) s->waiting_requests--;
    (void)idmap_remove(&s->requests, r->id);
    request_end(s, r);
}

void sched_fail(sched *s, step_plan *plan, const error *why) {
    ASSERT(thread_is_owner(&s->owner) && why->code != OK);
    s->failure = *why;
    s->ahead = NULL;
    for (;;) {
        uint32_t at = 0;
        sched_request *r = idmap_next(&s->requests, &at);
        if (r == NULL) return;
        fail_request(s, plan, r, why);
    }
}

/* Will the sampler do nothing but take the largest of the next logits? */
static bool takes_best(const sched *s, const seq *q) {
    const sched_request *r = q->request;
    return s->opt.finds_best && seq_output_count(q) >= r->tokens_min &&
           sample_is_best(&r->sampling);
}

engine_row sched_row_of(const sched *s, const plan_item *it, uint32_t k) {
    const seq *q = it->seq;
    const sched_request *r = q->request;
    uint32_t pos = it->from + k;
    bool pools = seq_is_vector(q) && seq_pools(q, pos);
    bool sampled = it->wants_logits && k + 1 == it->rows;
    bool best = sampled && takes_best(s, q);
    return (engine_row){.token = q->ids[pos],
                        .pos = pos,
                        .seat = q->seat,
                        .wants_logits = (sampled && !best) || (pools && r->kind == GEN_KIND_RANK),
                        .wants_best = best,
                        .wants_hidden = pools && r->kind == GEN_KIND_EMBED,
                        .prompt = pos<r->prompt_count, .lora = r->mix.count> 0 ? &r->mix : NULL};
}

static void fill_rows(const sched *s, const step_plan *plan, engine_row *rows) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->items_count; i++)
        for (uint32_t k = 0; k < plan->items[i].rows; k++, n++) {
            rows[n] = sched_row_of(s, &plan->items[i], k);
            ASSERT(n == 0 || rows[n].prompt || !rows[n - 1].prompt); /* put_generated_first() */
        }
    ASSERT(n == plan->rows);
}

/* Memory for everything the plan will append or hold; a request that finds none fails whole. */
static void reserve_memory(sched *s, step_plan *plan) {
    for (uint32_t i = 0; i < plan->items_count;) {
        seq *q = plan->items[i].seq;
        error err = {0};
        status st = seq_take_prompt(q, &err);
        if (st == OK && plan->items[i].wants_logits) st = seq_reserve(q, &err);
        i++;
        if (st != OK) {
            fail_request(s, plan, q->request, &err);
            i = 0; /* the items have moved; what was reserved is not reserved twice */
        }
    }
}

void sched_commit(sched *s, step_plan *plan, uint64_t now_ns, engine_row *rows) {
    ASSERT(thread_is_owner(&s->owner) && s->ahead == NULL);
    for (uint32_t i = 0; i < plan->preempts_count; i++) sched_preempt(s, plan->preempts[i]);
    reserve_memory(s, plan);
    for (uint32_t i = 0; i < plan->admits_count; i++) sched_admit(s, &plan->admits[i], now_ns);
    for (uint32_t i = 0; i < plan->items_count; i++) {
        const plan_item *it = &plan->items[i];
        status st = kv_seat_grow(s->kv, it->seq->seat, it->from + it->rows, NULL);
        ASSERT(st == OK); /* the plan counted the blocks */
    }
    fill_rows(s, plan, rows);
}

/* --- introspection -------------------- */

bool sched_is_idle(const sched *s) { return s->requests.count == 0; }

sched_counters sched_counters_get(const sched *s) {
    sched_counters c = s->counters;
    c.running = s->running_count;
    c.waiting = s->waiting_count;
    c.parked = 0;
    for (uint32_t i = 0; i < s->running_count; i++)
        c.parked += s->running[i]->request->credits == 0;
    return c;
}

/* Tokens that it got room for and that are not known to be computed. */
static uint32_t rows_ahead(const sched *s, const seq *q) {
    for (uint32_t i = 0; s->ahead != NULL && i < s->ahead->items_count; i++)
        if (s->ahead->items[i].seq == q) return s->ahead->items[i].rows;
    return 0;
}

static bool running_is_valid(const sched *s) {
    uint64_t last = 0;
    for (uint32_t i = 0; i < s->running_count; i++) {
        const seq *q = s->running[i];
        if (!seq_is_running(q) || q->seat >= s->opt.seats || !s->seat_taken[q->seat]) return false;
        if (q->admitted <= last || q->computed > q->count) return false;
        if (kv_seat_tokens(s->kv, q->seat) != q->computed + rows_ahead(s, q)) return false;
        if (q->state == SEQ_STATE_DECODE && q->computed + 1 != q->count) return false;
        last = q->admitted;
    }
    return true;
}

/* Of a sequence that waits so much is computed as is saved. */
static bool waiting_is_valid(const sched *s) {
    uint32_t waiting = 0, saved = 0;
    for (const seq *q = s->waiting; q != NULL; q = q->next, waiting++) {
        if (q->state != SEQ_STATE_WAITING || q->seat != SEAT_NONE) return false;
        const uint32_t blocks = s->opt.tier != NULL ? kv_tier_blocks_of(s->opt.tier, q->saved) : 0;
        if (blocks != kv_blocks_for(q->computed)) return false;
        saved += blocks;
    }
    if (s->opt.tier != NULL &&
        saved + kv_tier_blocks_free(s->opt.tier) != kv_tier_blocks_max(s->opt.tier))
        return false;
    return waiting == s->waiting_count;
}

bool sched_validate(const sched *s) {
    uint32_t taken = 0;
    for (uint32_t i = 0; i < s->opt.seats; i++) taken += s->seat_taken[i];
    return taken == s->running_count && waiting_is_valid(s) && running_is_valid(s) &&
           kv_validate(s->kv);
}
