/* sampler.c - see sampler.h. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "engine/candidates.h"
#include "engine/philox.h"
#include "tensor/best.h"

/* Stages that limit what is kept look at distances, which are measured when the first of them
 * asks; stages that change logits begin anew with what is kept. */
struct sampler {
    uint32_t vocab;
    const uint32_t *allowed; /* borrowed, of the call; NULL: all tokens are */
    float *logits;           /* [vocab] of the stages so far; -inf where they keep nothing */
    float temperature;       /* divides them */
    uint32_t *distances;     /* [vocab] when measured */
    candidates among;        /* the same */
    bool is_measured;
    bool is_limited;        /* by a stage since then: what is far is not kept either */
    uint64_t kept;          /* weight of the candidates that are */
    sample_change *changes; /* [vocab] scratch */
    uint32_t *change_of;    /* [vocab] 1 + a token's change; all zero between calls */
};

sample_params sample_params_default(void) {
    return (sample_params){.temperature = 1.0f,
                           .top_p = 1.0f,
                           .repetition_penalty = 1.0f,
                           .penalty_tokens = UINT32_MAX};
}

status sampler_create(sampler **out, uint32_t vocab, error *err) {
    if (vocab > SAMPLE_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "sampler: a vocabulary of %u tokens, at most %d", vocab,
                         SAMPLE_VOCAB_MAX);
    sampler *s = mem_try_calloc(1, sizeof *s);
    if (s == NULL) return error_set(err, ERR_NOMEM, "sampler: no memory");
    s->vocab = vocab;
    s->logits = mem_try_calloc(vocab, sizeof *s->logits);
    s->distances = mem_try_calloc(vocab, sizeof *s->distances);
    s->changes = mem_try_calloc(vocab, sizeof *s->changes);
    s->change_of = mem_try_calloc(vocab, sizeof *s->change_of);
    if (s->logits == NULL || s->distances == NULL || s->changes == NULL || s->change_of == NULL) {
        sampler_destroy(s);
        return error_set(err, ERR_NOMEM, "sampler: no memory for %u candidates", vocab);
    }
    *out = s;
    return OK;
}

void sampler_destroy(sampler *s) {
    if (s == NULL) return;
    mem_free(s->logits);
    mem_free(s->distances);
    mem_free(s->changes);
    mem_free(s->change_of);
    mem_free(s);
}

/* --- bias, penalties, bans -------------------- */

bool sample_is_without_penalties(const sample_params *p) {
    return p->repetition_penalty == 1.0f && p->presence_penalty == 0.0f &&
           p->frequency_penalty == 0.0f;
}

/* The token's change, made at need. */
static sample_change *change_of(sampler *s, int32_t id, uint32_t *count) {
    uint32_t *at = &s->change_of[id];
    if (*at == 0) {
        s->changes[*count] = (sample_change){.id = (uint32_t)id};
        *at = ++*count;
    }
    return &s->changes[*at - 1];
}

/* While the history is counted, `minus` says how often a token is in the output. */
static void count_history(sampler *s, const sample_params *p, sample_history h, uint32_t *count) {
    const uint32_t from = h.count - num_min_u32(h.count, p->penalty_tokens);
    const bool repetition = p->repetition_penalty != 1.0f;
    for (uint32_t i = repetition ? from : num_max_u32(from, h.prompt_count); i < h.count; i++) {
        sample_change *c = change_of(s, h.ids[i], count);
        if (repetition) c->flags |= SAMPLE_REPEATED;
        if (i >= h.prompt_count) c->minus++;
    }
    for (uint32_t i = 0; i < *count; i++) {
        sample_change *c = &s->changes[i];
        if (c->minus > 0) c->minus = c->minus * p->frequency_penalty + p->presence_penalty;
    }
}

/* One change for each token that has any, into s->changes; how many. */
static uint32_t find_changes(sampler *s, const sample_params *p, sample_history h,
                             const int32_t *banned, uint32_t banned_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->biases_count; i++) {
        const int32_t id = p->biases[i].id;
        if (id >= 0 && (uint32_t)id < s->vocab) change_of(s, id, &count)->bias += p->biases[i].bias;
    }
    if (!sample_is_without_penalties(p)) count_history(s, p, h, &count);
    for (uint32_t i = 0; i < banned_count; i++)
        change_of(s, banned[i], &count)->flags |= SAMPLE_BANNED;
    for (uint32_t i = 0; i < count; i++) s->change_of[s->changes[i].id] = 0;
    return count;
}

static void apply_changes(sampler *s, uint32_t count, float repetition) {
    for (uint32_t i = 0; i < count; i++) {
        const sample_change *c = &s->changes[i];
        s->logits[c->id] =
            sample_changed(s->logits[c->id], c->bias, c->minus, c->flags, repetition);
    }
}

/* --- the rule -------------------- */

static uint64_t top_p_of(const sample_params *p) {
    if (p->top_p >= 1.0f) return SAMPLE_TOP_P_ALL;
    return (uint64_t)((double)fmaxf(p->top_p, 0) * 0x1p64);
}

static uint32_t min_p_of(const sample_params *p) {
    return p->min_p <= 0.0f ? SAMPLE_FAR : sample_units(fmaxf(-logf(p->min_p), 0));
}

static sample_rule rule_of(const sample_params *p, uint64_t random, uint32_t changes_count) {
    return (sample_rule){.random = random,
                         .top_p = top_p_of(p),
                         .top_k = p->top_k == 0 ? UINT32_MAX : p->top_k,
                         .min_p = min_p_of(p),
                         .temperature = p->temperature,
                         .repetition = p->repetition_penalty,
                         .changes_count = changes_count,
                         .wanted = 1,
                         .logprobs = p->logprobs ? 1u + p->top_logprobs : 0};
}

bool sampler_order(sampler *s, const sample_params *p, sample_history history, uint32_t choice,
                   const int32_t *banned, uint32_t banned_count, sample_room room,
                   sample_order *out) {
    const uint32_t count = find_changes(s, p, history, banned, banned_count);
    if (count > num_min_u32(room.count, SAMPLE_CHANGES_MAX)) return false;
    if (count > 0) memcpy(room.changes, s->changes, count * sizeof *room.changes);
    *out = (sample_order){.rule = rule_of(p, philox_u64(p->seed, choice, history.count), count),
                          .changes = room.changes,
                          .allowed = p->allowed};
    return true;
}

sample_result sample_result_of(int32_t id, const sample_logprobs *logprobs) {
    sample_result r = {.id = id};
    if (logprobs == NULL) return r;
    ASSERT(logprobs->top_count <= SAMPLE_TOP_MAX);
    r.logprob = logprobs->drawn;
    r.top_count = logprobs->top_count;
    for (uint32_t i = 0; i < r.top_count; i++) {
        r.top_ids[i] = (int32_t)logprobs->top_ids[i];
        r.top_logprobs[i] = logprobs->top[i];
    }
    return r;
}

/* --- stages -------------------- */

static void reset(sampler *s, const float *logits, const uint32_t *allowed) {
    memcpy(s->logits, logits, s->vocab * sizeof *logits);
    s->allowed = allowed;
    s->temperature = 1;
    s->is_measured = s->is_limited = false;
}

static bool is_allowed(const sampler *s, uint32_t id) {
    return s->allowed == NULL || sample_is_in(s->allowed[id / 32], id);
}

/* Of those that are allowed the one that stands first; -1: none is. */
static int32_t best_allowed(const sampler *s) {
    if (s->allowed == NULL) return best_of(s->logits, s->vocab);
    int32_t best = -1;
    for (int32_t i = 0; (uint32_t)i < s->vocab; i++) {
        if (!is_allowed(s, (uint32_t)i)) continue;
        if (best < 0 || best_before(s->logits[i], i, s->logits[best], best)) best = i;
    }
    return best;
}

/* The one that stands first is all that is left. */
static void keep_best(sampler *s) {
    const int32_t best = best_allowed(s);
    const uint32_t id = best < 0 ? 0 : (uint32_t)best;
    for (uint32_t i = 0; i < s->vocab; i++) s->distances[i] = i == id ? 0 : SAMPLE_FAR;
    candidates_init(&s->among, s->distances, s->vocab);
    s->kept = s->among.weight;
    s->is_measured = s->is_limited = true;
}

static void measure(sampler *s) {
    if (s->is_measured) return;
    const int32_t best = best_allowed(s);
    const float largest = best < 0 ? NAN : s->logits[best];
    if (s->temperature == 0 || !isfinite(largest)) {
        keep_best(s);
        return;
    }
    for (uint32_t i = 0; i < s->vocab; i++)
        s->distances[i] =
            is_allowed(s, i) ? sample_distance(largest, s->logits[i], s->temperature) : SAMPLE_FAR;
    candidates_init(&s->among, s->distances, s->vocab);
    s->kept = s->among.weight;
    s->is_measured = true;
    s->is_limited = false;
}

/* Logits are about to change: what limits have left out stays out. */
static void begin_anew(sampler *s) {
    if (s->is_measured && s->is_limited) {
        const uint64_t last = candidates_at_weight(&s->among, s->kept).place;
        for (uint32_t i = 0; i < s->vocab; i++)
            if (sample_place(s->distances[i], i) > last) s->logits[i] = -INFINITY;
    }
    s->is_measured = false;
}

static void limit(sampler *s, uint64_t kept) {
    s->kept = num_min_u64(s->kept, kept);
    s->is_limited = true;
}

static void stage_top_k(sampler *s, const sample_rule *r) {
    measure(s);
    if (r->top_k == 1)
        keep_best(s);
    else if (r->top_k < s->among.count)
        limit(s, candidates_at_count(&s->among, r->top_k).weight);
}

static void stage_top_p(sampler *s, const sample_rule *r) {
    if (r->top_p == SAMPLE_TOP_P_ALL) return;
    measure(s);
    const uint64_t need = sample_top_p_need(r->top_p, s->kept);
    limit(s, candidates_at_weight(&s->among, need).weight);
}

static void stage_min_p(sampler *s, const sample_rule *r) {
    if (r->min_p == SAMPLE_FAR) return;
    measure(s);
    limit(s, candidates_weight_within(&s->among, r->min_p));
}

static void run_stage(sampler *s, const sample_rule *r, sample_stage stage) {
    switch (stage) {
    case SAMPLE_PENALTIES:
        begin_anew(s);
        apply_changes(s, r->changes_count, r->repetition);
        break;
    case SAMPLE_TEMPERATURE:
        begin_anew(s);
        s->temperature *= r->temperature;
        break;
    case SAMPLE_TOP_K:
        stage_top_k(s, r);
        break;
    case SAMPLE_TOP_P:
        stage_top_p(s, r);
        break;
    case SAMPLE_MIN_P:
        stage_min_p(s, r);
        break;
    }
}

/* --- log-probabilities -------------------- */

/* logits[id] goes into the list of the best so far, if it is one. */
static void add_top(sample_result *out, const float *logits, int32_t id, uint32_t most) {
    uint32_t at = out->top_count;
    while (at > 0 &&
           best_before(logits[id], id, logits[out->top_ids[at - 1]], out->top_ids[at - 1]))
        at--;
    if (at == most) return;
    if (out->top_count < most) out->top_count++;
    for (uint32_t i = out->top_count - 1; i > at; i--) out->top_ids[i] = out->top_ids[i - 1];
    out->top_ids[at] = id;
}

/* best: the largest logit.  In this order nothing is lost of large ones. */
static float logprob_of(float logit, double best, double log_total) {
    return (float)(((double)logit - best) - log_total);
}

/* Under the untouched logits; fills the top list. */
static void fill_logprobs(const sampler *s, const float *logits, const sample_params *p,
                          sample_result *out) {
    const double best = (double)logits[best_of(logits, s->vocab)];
    double total = 0;
    for (uint32_t i = 0; i < s->vocab; i++) total += exp((double)logits[i] - best);
    const double log_total = log(total);
    out->logprob = logprob_of(logits[out->id], best, log_total);
    for (uint32_t i = 0; i < s->vocab && p->top_logprobs > 0; i++)
        add_top(out, logits, (int32_t)i, p->top_logprobs);
    for (uint32_t i = 0; i < out->top_count; i++)
        out->top_logprobs[i] = logprob_of(logits[out->top_ids[i]], best, log_total);
}

/* --- the whole -------------------- */

bool sample_is_best(const sample_params *p) {
    const bool one = p->temperature == 0.0f || p->top_k == 1;
    return one && p->biases_count == 0 && p->allowed == NULL && sample_is_without_penalties(p) &&
           !p->logprobs;
}

void sampler_pick(sampler *s, const float *logits, const sample_params *p, sample_history history,
                  uint32_t choice, const int32_t *banned, uint32_t banned_count,
                  sample_result *out) {
    static const sample_stage chain[] = {SAMPLE_PENALTIES, SAMPLE_TEMPERATURE, SAMPLE_TOP_K,
                                         SAMPLE_TOP_P, SAMPLE_MIN_P};
    const uint64_t random = philox_u64(p->seed, choice, history.count);
    const sample_rule r = rule_of(p, random, find_changes(s, p, history, banned, banned_count));
    reset(s, logits, p->allowed);
    for (size_t i = 0; i < sizeof chain / sizeof chain[0]; i++) run_stage(s, &r, chain[i]);
    const uint64_t need = sample_drawn_need(r.random, s->kept);
    const uint64_t place = candidates_at_weight(&s->among, need).place;
    out->id = (int32_t)(place % SAMPLE_VOCAB_MAX);
    out->top_count = 0;
    out->logprob = 0;
    if (p->logprobs) fill_logprobs(s, logits, p, out);
}

void sampler_distribution(sampler *s, const float *logits, const sample_params *p,
                          sample_history history, const sample_stage *stages, uint32_t count,
                          float *probs) {
    const sample_rule r = rule_of(p, 0, find_changes(s, p, history, NULL, 0));
    reset(s, logits, p->allowed);
    for (uint32_t i = 0; i < count; i++) run_stage(s, &r, stages[i]);
    measure(s);
    const uint64_t last = candidates_at_weight(&s->among, s->kept).place;
    for (uint32_t i = 0; i < s->vocab; i++) {
        const bool kept = sample_place(s->distances[i], i) <= last;
        const uint64_t weight = kept ? sample_weight(s->distances[i]) : 0;
        probs[i] = (float)((double)weight / (double)s->kept);
    }
}
