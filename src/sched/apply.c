/* apply.c - what a step made: tokens are appended and sent, vectors finished.  See sched.h. */
#include "base/assert.h"
#include "base/num.h"
#include "sched/sched_internal.h"

/* In a step that follows another, the last one is not known until that is applied. */
sample_history sched_history(const plan_item *it) {
    return (sample_history){.ids = it->seq->ids,
                            .count = it->from + it->rows,
                            .prompt_count = it->seq->request->prompt_count};
}

uint32_t sched_banned(const sched *s, const plan_item *it, int32_t *out) {
    const sched_request *r = it->seq->request;
    uint32_t n = 0;
    if (it->from + it->rows >= r->prompt_count + r->tokens_min) return 0;
    for (uint32_t i = 0; i < s->opt.eog_count; i++) out[n++] = s->opt.eog_ids[i];
    for (uint32_t i = 0; i < r->stop_ids_count; i++)
        if (r->stop_ids[i] >= 0 && (uint32_t)r->stop_ids[i] < s->opt.vocab)
            out[n++] = r->stop_ids[i];
    return n;
}

static bool is_in(const int32_t *ids, uint32_t count, int32_t id) {
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

static void emit_token(sched *s, const seq *q, const sample_result *t) {
    gen_event e = {.id = q->request->id, .choice = q->choice, .kind = GEN_TOKENS};
    e.tokens.ids = (wire_array){&t->id, 1};
    if (q->request->sampling.logprobs) {
        e.tokens.logprobs = (wire_array){&t->logprob, 1};
        e.tokens.top = (uint8_t)t->top_count;
        e.tokens.top_ids = (wire_array){t->top_ids, t->top_count};
        e.tokens.top_logprobs = (wire_array){t->top_logprobs, t->top_count};
    }
    sched_emit(s, &e);
}

static void park(sched *s, const seq *q, uint64_t now_ns) {
    q->request->parked_at_ns = now_ns;
    sched_emit_paused(s, q, GEN_PAUSE_CREDITS);
}

/* One sampled token: it ends the choice, or is appended and sent. */
static void take_token(sched *s, seq *q, const sample_result *t, uint64_t now_ns) {
    sched_request *r = q->request;
    if (!r->ignore_eos && is_in(s->opt.eog_ids, s->opt.eog_count, t->id)) {
        sched_finish(s, q, GEN_FINISH_EOS, now_ns);
        return;
    }
    if (is_in(r->stop_ids, r->stop_ids_count, t->id)) {
        sched_finish(s, q, GEN_FINISH_STOP_TOKEN, now_ns);
        return;
    }
    seq_append(q, t->id);
    r->output_tokens++;
    r->credits--;
    if (r->first_token_ns == 0) r->first_token_ns = now_ns;
    r->last_token_ns = now_ns;
    emit_token(s, q, t);
    if (seq_output_count(q) >= r->tokens_max)
        sched_finish(s, q, GEN_FINISH_LENGTH, now_ns);
    else if (q->count >= s->opt.ctx_max)
        sched_finish(s, q, GEN_FINISH_CONTEXT, now_ns);
    else if (r->credits == 0)
        park(s, q, now_ns);
}

/* All rows of the prompt are in the vector. */
static void finish_vector(sched *s, seq *q, uint64_t now_ns) {
    sched_request *r = q->request;
    double share = r->pooling == GEN_POOLING_MEAN ? 1.0 / q->count : 1.0;
    for (uint32_t i = 0; i < r->vector_len; i++) s->vector[i] = (float)(q->vector[i] * share);
    gen_event e = {.id = r->id, .choice = q->choice, .kind = GEN_VECTOR};
    e.vector = (wire_array){s->vector, r->vector_len};
    sched_emit(s, &e);
    r->first_token_ns = r->last_token_ns = now_ns;
    sched_finish(s, q, GEN_FINISH_VECTOR, now_ns);
}

static void emit_progress(sched *s, const seq *q) {
    gen_event e = {.id = q->request->id, .choice = q->choice, .kind = GEN_PROGRESS};
    e.progress.done = q->computed;
    e.progress.total = q->count;
    sched_emit(s, &e);
}

/* Rows of chunks in a step: of prompts, and such that were generated and are computed again. */
typedef struct chunk_rows {
    uint32_t prompt, again;
} chunk_rows;

/* The pace of the kind of chunks that the step has, smoothed; a step with both, or with few of
 * their rows, says little about either. */
static void learn_pace(sched *s, chunk_rows chunks, uint32_t rows, uint64_t step_ns) {
    enum { ROWS_TELLING = 16 };
    if (chunks.prompt > 0 && chunks.again > 0) return;
    if (num_max_u32(chunks.prompt, chunks.again) < ROWS_TELLING) return;
    uint64_t *pace = chunks.again > 0 ? &s->again_ns : &s->row_ns, row_ns = step_ns / rows;
    *pace = *pace == 0 ? row_ns : (*pace * 3 + row_ns) / 4;
    if (*pace == 0) *pace = 1;
}

void sched_apply(sched *s, const step_plan *plan, const sample_result *results, uint64_t now_ns,
                 uint64_t step_ns) {
    ASSERT(thread_is_owner(&s->owner));
    uint32_t sampled = 0, unwanted = 0;
    chunk_rows chunks = {0, 0};
    if (s->ahead == plan) s->ahead = NULL;
    for (uint32_t i = 0; i < plan->items_count; i++) {
        const plan_item *it = &plan->items[i];
        seq *q = it->seq;
        if (q == NULL) {
            sampled += it->wants_logits;
            unwanted += it->rows;
            continue;
        }
        if (q->state == SEQ_STATE_PREFILL)
            *(seq_is_generated(q, it->from) ? &chunks.again : &chunks.prompt) += it->rows;
        q->computed = it->from + it->rows;
        if (seq_is_vector(q) && q->computed == q->count) {
            finish_vector(s, q, now_ns);
            continue;
        }
        if (!it->wants_logits) {
            emit_progress(s, q);
            continue;
        }
        if (q->state == SEQ_STATE_PREFILL) seq_set_state(q, SEQ_STATE_DECODE);
        take_token(s, q, &results[sampled++], now_ns);
    }
    const uint32_t prefill_rows = chunks.prompt + chunks.again;
    s->counters.prefill_rows += prefill_rows;
    s->counters.decode_rows += plan->rows - prefill_rows - unwanted;
    learn_pace(s, chunks, plan->rows, step_ns);
    XASSERT(sched_validate(s));
}
