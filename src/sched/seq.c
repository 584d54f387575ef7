/* seq.c - see seq.h. */
#include "sched/seq.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

enum { OUTPUT_CAP_FIRST = 256 };

const char *seq_state_name(seq_state state) {
    static const char *const names[] = {
#define SEQ_STATE_NAME(name) #name,
        SEQ_STATES(SEQ_STATE_NAME)
#undef SEQ_STATE_NAME
    };
    return (unsigned)state < SEQ_STATE_COUNT ? names[state] : "?";
}

void seq_set_state(seq *s, seq_state to) {
    static const uint8_t arrows[SEQ_STATE_COUNT] = {
        [SEQ_STATE_WAITING] = 1 << SEQ_STATE_PREFILL | 1 << SEQ_STATE_DECODE | 1 << SEQ_STATE_DONE,
        [SEQ_STATE_PREFILL] = 1 << SEQ_STATE_DECODE | 1 << SEQ_STATE_WAITING | 1 << SEQ_STATE_DONE,
        [SEQ_STATE_DECODE] = 1 << SEQ_STATE_WAITING | 1 << SEQ_STATE_DONE,
        [SEQ_STATE_DONE] = 0,
    };
    ASSERT(arrows[s->state] & 1 << to);
    s->state = to;
}

static void take_sampling(sched_request *r, const gen_sampling *g) {
    r->sampling = (sample_params){
        .temperature = g->temperature,
        .top_p = g->top_p,
        .min_p = g->min_p,
        .repetition_penalty = g->repetition_penalty,
        .presence_penalty = g->presence_penalty,
        .frequency_penalty = g->frequency_penalty,
        .top_k = g->top_k,
        .penalty_tokens = g->penalty_tokens,
        .seed = g->seed,
        .biases = r->biases,
        .biases_count = g->biases.count,
        .logprobs = g->logprobs,
        .top_logprobs = g->top_logprobs,
    };
    for (uint32_t i = 0; i < g->biases.count; i++)
        r->biases[i] = (sample_bias){wire_i32_at(g->bias_ids, i), wire_f32_at(g->biases, i)};
    for (uint32_t i = 0; i < g->stop_ids.count; i++) r->stop_ids[i] = wire_i32_at(g->stop_ids, i);
    r->stop_ids_count = g->stop_ids.count;
}

/* The list as a mask; without one all tokens are allowed. */
static status take_allowed(sched_request *r, wire_array ids, uint32_t vocab, error *err) {
    if (ids.count == 0) return OK;
    r->allowed = mem_try_calloc(sample_mask_words(vocab), sizeof *r->allowed);
    if (r->allowed == NULL)
        return error_set(err, ERR_NOMEM, "request: no memory for a mask of %u tokens", vocab);
    for (uint32_t i = 0; i < ids.count; i++) {
        const uint32_t id = (uint32_t)wire_i32_at(ids, i);
        ASSERT(id < vocab);
        r->allowed[id / 32] |= 1u << id % 32;
    }
    r->sampling.allowed = r->allowed;
    return OK;
}

static status take_prompt(sched_request *r, const gen_request *g, error *err) {
    r->prompt = mem_try_alloc(r->prompt_count * sizeof *r->prompt);
    if (r->prompt == NULL)
        return error_set(err, ERR_NOMEM, "request: no memory for %u tokens", r->prompt_count);
    memcpy(r->prompt, g->ids.p, r->prompt_count * sizeof *r->prompt);
    for (uint32_t i = 0; i < r->choices; i++)
        r->seqs[i] = (seq){.request = r,
                           .choice = (uint16_t)i,
                           .seat = SEAT_NONE,
                           .count = r->prompt_count,
                           .saved = KV_TIER_NONE};
    return OK;
}

bool seq_pools(const seq *s, uint32_t pos) {
    switch (s->request->pooling) {
    case GEN_POOLING_FIRST:
        return pos == 0;
    case GEN_POOLING_LAST:
        return pos + 1 == s->count;
    default:
        return true;
    }
}

void seq_vector_add(seq *s, const float *values) {
    for (uint32_t i = 0; i < s->request->vector_len; i++) s->vector[i] += (double)values[i];
}

static status take_vector(seq *s, error *err) {
    uint32_t len = s->request->vector_len;
    if (len == 0 || s->vector != NULL) return OK;
    s->vector = mem_try_calloc(len, sizeof *s->vector);
    return s->vector != NULL
               ? OK
               : error_set(err, ERR_NOMEM, "sequence: no memory for a vector of %u values", len);
}

status seq_take_prompt(seq *s, error *err) {
    const sched_request *r = s->request;
    TRY(take_vector(s, err));
    if (s->ids != NULL) return OK;
    uint32_t room = r->ctx_max > r->prompt_count ? r->ctx_max - r->prompt_count : 0;
    uint32_t output = num_min_u32(num_min_u32(r->tokens_max, room), OUTPUT_CAP_FIRST);
    uint32_t cap = r->prompt_count + output + 1;
    s->ids = mem_try_alloc(cap * sizeof *s->ids);
    if (s->ids == NULL) return error_set(err, ERR_NOMEM, "sequence: no memory for %u tokens", cap);
    memcpy(s->ids, r->prompt, r->prompt_count * sizeof *s->ids);
    s->cap = cap;
    return OK;
}

status request_create(sched_request **out, const gen_request *g, uint32_t ctx_max, uint32_t vocab,
                      uint32_t vector_len, error *err) {
    ASSERT(g->ids.count > 0 && g->choices > 0);
    sched_request *r = mem_try_calloc(1, sizeof *r + g->choices * sizeof r->seqs[0]);
    if (r == NULL) return error_set(err, ERR_NOMEM, "request: no memory");
    r->id = g->id;
    r->kind = g->kind;
    r->pooling = g->pooling;
    r->vector_len = vector_len;
    r->prompt_count = g->ids.count;
    r->ctx_max = ctx_max;
    r->tokens_max = g->sampling.tokens_max;
    r->tokens_min = g->sampling.tokens_min;
    r->ignore_eos = g->sampling.ignore_eos;
    r->credits = g->credits;
    r->choices = r->live = g->choices;
    r->stop_ids = mem_try_calloc(g->sampling.stop_ids.count, sizeof *r->stop_ids);
    r->biases = mem_try_calloc(g->sampling.biases.count, sizeof *r->biases);
    status st = OK;
    if (r->stop_ids == NULL || r->biases == NULL)
        st = error_set(err, ERR_NOMEM, "request: no memory for its options");
    if (st == OK) take_sampling(r, &g->sampling);
    if (st == OK) st = take_allowed(r, g->sampling.allowed_ids, vocab, err);
    if (st == OK) st = take_prompt(r, g, err);
    if (st != OK) {
        request_destroy(r);
        return st;
    }
    *out = r;
    return OK;
}

void request_destroy(sched_request *r) {
    if (r == NULL) return;
    for (uint32_t i = 0; i < r->choices; i++) {
        mem_free(r->seqs[i].ids);
        mem_free(r->seqs[i].vector);
    }
    mem_free(r->prompt);
    mem_free(r->stop_ids);
    mem_free(r->biases);
    mem_free(r->allowed);
    mem_free(r);
}

status seq_reserve(seq *s, error *err) {
    if (s->count < s->cap) return OK;
    uint32_t cap = s->cap + s->cap / 2;
    int32_t *ids = mem_try_realloc(s->ids, cap * sizeof *ids);
    if (ids == NULL) return error_set(err, ERR_NOMEM, "sequence: no memory for %u tokens", cap);
    s->ids = ids;
    s->cap = cap;
    return OK;
}

void seq_append(seq *s, int32_t id) {
    ASSERT(s->count < s->cap);
    s->ids[s->count++] = id;
}
