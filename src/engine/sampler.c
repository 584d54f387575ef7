/* sampler.c - see sampler.h.
 *
 * The candidates live in one array.  Sorting 100,000 of them for every token would cost
 * more than the rest together, so they are sorted only as far as a stage looks: `sorted`
 * counts how many at the front are in final order. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "engine/philox.h"
#include "tensor/best.h"

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct sampler {
    uint32_t vocab;
    uint32_t count;  /* candidates left */
    uint32_t sorted; /* of them in order at the front */
    candidate *list; /* [vocab] */
    uint32_t *seen;  /* [vocab] scratch counts, all zero between calls */
    uint32_t *made;  /* [vocab] the same for the output alone */
};

sample_params sample_params_default(void) {
    return (sample_params){.temperature = 1.0f,
                           .top_p = 1.0f,
                           .repetition_penalty = 1.0f,
                           .penalty_tokens = UINT32_MAX};
}

status sampler_create(sampler **out, uint32_t vocab, error *err) {
    sampler *s = mem_try_calloc(1, sizeof *s);
    if (s == NULL) return error_set(err, ERR_NOMEM, "sampler: no memory");
    s->vocab = vocab;
    s->list = mem_try_calloc(vocab, sizeof *s->list);
    s->seen = mem_try_calloc(vocab, sizeof *s->seen);
    s->made = mem_try_calloc(vocab, sizeof *s->made);
    if (s->list == NULL || s->seen == NULL || s->made == NULL) {
        sampler_destroy(s);
        return error_set(err, ERR_NOMEM, "sampler: no memory for %u candidates", vocab);
    }
    *out = s;
    return OK;
}

void sampler_destroy(sampler *s) {
    if (s == NULL) return;
    mem_free(s->list);
    mem_free(s->seen);
    mem_free(s->made);
    mem_free(s);
}

/* --- order -------------------- */

static bool before(candidate a, candidate b) { return best_before(a.logit, a.id, b.logit, b.id); }

static void swap(candidate *a, candidate *b) {
    candidate t = *a;
    *a = *b;
    *b = t;
}

/* Restore the heap (worst on top) below i in list[0..n). */
static void sift(candidate *list, uint32_t n, uint32_t i) {
    for (;;) {
        uint32_t worst = i, left = 2 * i + 1;
        if (left < n && before(list[worst], list[left])) worst = left;
        if (left + 1 < n && before(list[worst], list[left + 1])) worst = left + 1;
        if (worst == i) return;
        swap(&list[i], &list[worst]);
        i = worst;
    }
}

/* Bring the best k of list[0..n) to the front, in order: a heap of the k best so far
 * throws out its worst.  O(n + n log k) at worst, about n when the order is random. */
static void select_best(candidate *list, uint32_t n, uint32_t k) {
    if (k == 0) return;
    for (uint32_t i = k / 2; i > 0; i--) sift(list, k, i - 1);
    for (uint32_t i = k; i < n; i++) {
        if (!before(list[i], list[0])) continue;
        swap(&list[i], &list[0]);
        sift(list, k, 0);
    }
    for (uint32_t end = k; end > 1; end--) {
        swap(&list[0], &list[end - 1]);
        sift(list, end - 1, 0);
    }
}

/* At least k candidates (or all) in order at the front. */
static void sort_to(sampler *s, uint32_t k) {
    k = num_min_u32(k, s->count);
    if (k <= s->sorted) return;
    select_best(s->list + s->sorted, s->count - s->sorted, k - s->sorted);
    s->sorted = k;
}

static float best_logit(const sampler *s) {
    if (s->sorted > 0) return s->list[0].logit;
    float best = -INFINITY;
    for (uint32_t i = 0; i < s->count; i++) best = fmaxf(best, s->list[i].logit);
    return best;
}

/* --- stages -------------------- */

static void reset(sampler *s, const float *logits) {
    for (uint32_t i = 0; i < s->vocab; i++) s->list[i] = (candidate){logits[i], (int32_t)i};
    s->count = s->vocab;
    s->sorted = 0;
}

static float penalized(float logit, const sample_params *p, uint32_t seen, uint32_t made) {
    if (seen > 0) {
        if (logit > 0)
            logit /= p->repetition_penalty;
        else
            logit *= p->repetition_penalty;
    }
    if (made > 0) logit -= (float)made * p->frequency_penalty + p->presence_penalty;
    return logit;
}

/* Do penalties leave every logit as it is, whatever the history? */
static bool is_without_penalties(const sample_params *p) {
    return p->repetition_penalty == 1.0f && p->presence_penalty == 0.0f &&
           p->frequency_penalty == 0.0f;
}

/* Runs first, while list[id] is still the candidate of that id. */
static void stage_penalties(sampler *s, const sample_params *p, sample_history h) {
    ASSERT(s->count == s->vocab && s->sorted == 0);
    for (uint32_t i = 0; i < p->biases_count; i++) {
        int32_t id = p->biases[i].id;
        if (id >= 0 && (uint32_t)id < s->vocab) s->list[id].logit += p->biases[i].bias;
    }
    if (is_without_penalties(p)) return;
    uint32_t from = h.count - num_min_u32(h.count, p->penalty_tokens);
    for (uint32_t i = from; i < h.count; i++) {
        s->seen[h.ids[i]]++;
        if (i >= h.prompt_count) s->made[h.ids[i]]++;
    }
    for (uint32_t i = from; i < h.count; i++) { /* each id once, and the counts go back to 0 */
        int32_t id = h.ids[i];
        if (s->seen[id] == 0) continue;
        s->list[id].logit = penalized(s->list[id].logit, p, s->seen[id], s->made[id]);
        s->seen[id] = s->made[id] = 0;
    }
}

static void stage_temperature(sampler *s, const sample_params *p) {
    /* so small that the best logit would become infinite: greedy too */
    if (p->temperature == 0.0f || isinf(best_logit(s) / p->temperature)) {
        sort_to(s, 1);
        s->count = 1;
        return;
    }
    if (p->temperature == 1.0f) return;
    for (uint32_t i = 0; i < s->count; i++) s->list[i].logit /= p->temperature;
}

static void stage_top_k(sampler *s, const sample_params *p) {
    if (p->top_k == 0 || p->top_k >= s->count) return;
    sort_to(s, p->top_k);
    s->count = p->top_k;
}

/* The shortest run of best candidates whose probabilities reach top_p. */
static void stage_top_p(sampler *s, const sample_params *p) {
    enum { SORT_STEP = 128 };
    if (p->top_p >= 1.0f) return;
    float best = best_logit(s);
    double total = 0, reached = 0;
    for (uint32_t i = 0; i < s->count; i++) total += exp((double)s->list[i].logit - (double)best);
    for (uint32_t i = 0; i < s->count; i++) {
        if (i >= s->sorted) sort_to(s, i + SORT_STEP + i);
        reached += exp((double)s->list[i].logit - (double)best) / total;
        if (reached >= (double)p->top_p) {
            s->count = i + 1;
            s->sorted = num_min_u32(s->sorted, s->count);
            return;
        }
    }
}

/* Candidates at least min_p times as likely as the best one. */
static void stage_min_p(sampler *s, const sample_params *p) {
    if (p->min_p <= 0.0f) return;
    float floor = best_logit(s) + logf(p->min_p);
    uint32_t kept = 0, kept_sorted = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!(s->list[i].logit >= floor)) continue;
        if (i < s->sorted) kept_sorted++;
        s->list[kept++] = s->list[i];
    }
    if (kept == 0) { /* only rounding of the floor can do this: the best one always stays */
        sort_to(s, 1);
        kept = 1;
        kept_sorted = 1;
    }
    s->count = kept;
    s->sorted = kept_sorted;
}

static void run_stage(sampler *s, const sample_params *p, sample_history h, sample_stage stage) {
    switch (stage) {
    case SAMPLE_PENALTIES:
        stage_penalties(s, p, h);
        break;
    case SAMPLE_TEMPERATURE:
        stage_temperature(s, p);
        break;
    case SAMPLE_TOP_K:
        stage_top_k(s, p);
        break;
    case SAMPLE_TOP_P:
        stage_top_p(s, p);
        break;
    case SAMPLE_MIN_P:
        stage_min_p(s, p);
        break;
    }
}

/* --- drawing -------------------- */

/* Walk the candidates until their weights pass u of the total. */
static int32_t draw(sampler *s, double u) {
    if (s->count == 1) return s->list[0].id;
    double best = (double)best_logit(s), total = 0, passed = 0;
    for (uint32_t i = 0; i < s->count; i++) total += exp((double)s->list[i].logit - best);
    int32_t last = s->list[0].id;
    for (uint32_t i = 0; i < s->count; i++) {
        double weight = exp((double)s->list[i].logit - best);
        if (weight <= 0) continue; /* a banned token has weight 0 and must not be last */
        passed += weight;
        last = s->list[i].id;
        if (passed > u * total) break;
    }
    return last;
}

/* Log-probabilities under the untouched logits; fills the top list. */
static void fill_logprobs(sampler *s, const float *logits, const sample_params *p,
                          sample_result *out) {
    reset(s, logits);
    double best = (double)best_logit(s), total = 0;
    for (uint32_t i = 0; i < s->vocab; i++) total += exp((double)logits[i] - best);
    double norm = best + log(total);
    out->logprob = (float)((double)logits[out->id] - norm);
    out->top_count = num_min_u32(p->top_logprobs, s->vocab);
    sort_to(s, out->top_count);
    for (uint32_t i = 0; i < out->top_count; i++) {
        out->top_ids[i] = s->list[i].id;
        out->top_logprobs[i] = (float)((double)s->list[i].logit - norm);
    }
}

/* Of temperatures other than 0 and 1 the chain divides first, which can make two logits equal: that
 * the larger one wins is then not certain. */
bool sample_is_best(const sample_params *p) {
    const bool one = p->temperature == 0.0f || (p->temperature == 1.0f && p->top_k == 1);
    return one && p->biases_count == 0 && is_without_penalties(p) && !p->logprobs;
}

void sampler_pick(sampler *s, const float *logits, const sample_params *p, sample_history history,
                  uint32_t choice, const int32_t *banned, uint32_t banned_count,
                  sample_result *out) {
    static const sample_stage chain[] = {SAMPLE_PENALTIES, SAMPLE_TEMPERATURE, SAMPLE_TOP_K,
                                         SAMPLE_TOP_P, SAMPLE_MIN_P};
    reset(s, logits);
    for (uint32_t i = 0; i < banned_count; i++) s->list[banned[i]].logit = -INFINITY;
    for (size_t i = 0; i < sizeof chain / sizeof chain[0]; i++) run_stage(s, p, history, chain[i]);
    out->id = draw(s, philox_uniform(p->seed, choice, history.count));
    out->top_count = 0;
    out->logprob = 0;
    if (p->logprobs) fill_logprobs(s, logits, p, out);
}

void sampler_distribution(sampler *s, const float *logits, const sample_params *p,
                          sample_history history, const sample_stage *stages, uint32_t count,
                          float *probs) {
    reset(s, logits);
    for (uint32_t i = 0; i < count; i++) run_stage(s, p, history, stages[i]);
    double best = (double)best_logit(s), total = 0;
    for (uint32_t i = 0; i < s->count; i++) total += exp((double)s->list[i].logit - best);
    memset(probs, 0, s->vocab * sizeof *probs);
    for (uint32_t i = 0; i < s->count; i++)
        probs[s->list[i].id] = (float)(exp((double)s->list[i].logit - best) / total);
}
