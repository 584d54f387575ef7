/* test_sim.c - random schedules: whatever arrives, stalls, is canceled or preempted, every
 * request gets the tokens or the vector it gets alone, exactly once, and nothing is left behind.
 *
 * Goal: promise P4 and the accounting of seats, blocks, credits and events.  Method: a
 * seed draws a configuration and a story of arrivals, cancels, slow reads and credits; the
 * real worker loop runs it against the fake engine of sim.h; after every turn the
 * scheduler's invariants are checked.  SIM_SEEDS=100000 in the environment runs longer. */
#include "sim/sim.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/num.h"
#include "base/os.h"
#include "engine/draw_by_sorting.h"
#include "tensor/best.h"
#include "test.h"

/* --- the fake engine -------------------- */

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15ull;
    return h ^ h >> 29;
}

void sim_logits(const int32_t *ids, uint32_t count, float *logits) {
    uint64_t h = 42;
    for (uint32_t i = 0; i < count; i++) h = mix(h, (uint32_t)ids[i]);
    for (uint32_t v = 0; v < SIM_VOCAB; v++)
        logits[v] = (float)(mix(h, v) >> 40) / (float)(1 << 22) - 2.0f;
    logits[SIM_EOG] -= 2.0f; /* ends are rarer than words */
}

void sim_state(const int32_t *ids, uint32_t count, uint32_t pos, uint32_t n, float *out) {
    uint64_t h = mix(7, pos);
    for (uint32_t i = 0; i < count; i++) h = mix(h, (uint32_t)ids[i]);
    for (uint32_t v = 0; v < n; v++) out[v] = (float)(mix(h, v) >> 40) / (float)(1 << 24);
}

static int32_t *token_at(const sim_engine *e, uint32_t seat, uint32_t pos) {
    if (e->family == SIM_STATES) return &e->states[(size_t)seat * e->ctx_max + pos];
    uint32_t stride = kv_seat_blocks_max(e->kv);
    uint32_t block = kv_tables(e->kv)[(size_t)seat * stride + pos / KV_BLOCK_TOKENS];
    return &e->tokens[block * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS];
}

/* Could an engine of the family compute this row, after the one before it? */
static bool row_is_in_order(const sim_engine *e, const engine_row *row, const engine_row *before,
                            bool last) {
    bool first = before == NULL || before->seat != row->seat;
    if (!first && row->pos != before->pos + 1) return false;
    if (e->family == SIM_STATES) return row->pos == 0 || row->pos == e->seen[row->seat];
    if (e->family != SIM_ENCODER) return true;
    return (!first || row->pos == 0) && (!last || row->pos + 1 == kv_seat_tokens(e->kv, row->seat));
}

/* Its own, or what the step before makes. */
static int32_t token_of(sim_engine *e, const engine_row *row) {
    if (row->token >= 0) return row->token;
    const sim_made *before = &e->made[(e->begun + 1) % 2];
    const uint32_t at = (uint32_t)~row->token;
    e->ahead_rows++;
    if (e->begun == e->ended || at >= before->count || before->best[at] < 0) {
        e->wrong_order = true;
        return 0;
    }
    return before->best[at];
}

float sim_said(int32_t id, uint32_t count) {
    return (float)(mix(mix(3, (uint32_t)id), count) >> 40) / -(float)(1 << 24);
}

enum { SIM_PENDING = -2 }; /* a token that is not drawn yet */

/* What nobody may read: another token is the likeliest there. */
static void forget(float *logits) {
    for (uint32_t v = 0; v < SIM_VOCAB; v++) logits[v] = -logits[v];
}

static void forget_state(float *hidden) {
    for (uint32_t v = 0; v < SIM_DIMS; v++) hidden[v] = NAN;
}

/* Head row h draws by its order, of which the logits are at hand. */
static void draw_row(sim_engine *e, sim_made *made, uint32_t h, const sample_order *o) {
    float *logits = made->logits + (size_t)h * SIM_VOCAB;
    made->best[h] = o->rule.wanted != 0 ? draw_by_sorting(logits, SIM_VOCAB, o) : -1;
    e->void_rows += o->rule.wanted == 0;
    made->said[h] = (sample_logprobs){.drawn = NAN};
    if (o->rule.logprobs != 0) made->said[h].drawn = sim_said(made->best[h], made->counts[h]);
    forget(logits);
}

/* What head row h is to be: a token now or later, or logits. */
static void make_head(sim_engine *e, sim_made *made, const engine_row *row) {
    const uint32_t h = made->count++;
    float *logits = made->logits + (size_t)h * SIM_VOCAB;
    made->counts[h] = row->pos + 1;
    made->orders[h] = row->draws_later ? row->sample : NULL;
    if (made->best == NULL) return;
    made->best[h] = row->wants_best ? best_of(logits, SIM_VOCAB) : -1;
    if (row->wants_best) forget(logits);
    if (row->draws_later) made->best[h] = SIM_PENDING;
    if (row->sample != NULL && !row->draws_later) draw_row(e, made, h, row->sample);
    made->draws_later |= row->draws_later;
}

void sim_draw(void *ctx) {
    sim_engine *e = ctx;
    sim_made *made = &e->made[(e->begun + 1) % 2];
    if (!made->draws_later || e->begun - e->ended != 1) e->wrong_order = true;
    for (uint32_t h = 0; h < made->count; h++) {
        if (made->orders[h] == NULL) continue;
        draw_row(e, made, h, made->orders[h]);
        e->late_rows++;
    }
    made->draws_later = false;
}

/* Rows are read, and computed, in the order in which steps are begun. */
void sim_begin(void *ctx, const engine_row *rows, uint32_t count) {
    sim_engine *e = ctx;
    int32_t ids[4096];
    const bool encoder = e->family == SIM_ENCODER;
    sim_made *made = &e->made[e->begun % 2];
    float *hidden = made->hidden;
    if (e->begun - e->ended > 1 || e->made[(e->begun + 1) % 2].draws_later) e->wrong_order = true;
    made->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool last = i + 1 == count || rows[i + 1].seat != rows[i].seat;
        if (!row_is_in_order(e, &rows[i], i > 0 ? &rows[i - 1] : NULL, last)) e->wrong_order = true;
        *token_at(e, rows[i].seat, rows[i].pos) = token_of(e, &rows[i]);
        e->seen[rows[i].seat] = rows[i].pos + 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        const bool token = rows[i].wants_best || rows[i].sample != NULL;
        if (!rows[i].wants_logits && !token && !rows[i].wants_hidden) continue;
        uint32_t n = encoder ? kv_seat_tokens(e->kv, rows[i].seat) : rows[i].pos + 1;
        for (uint32_t t = 0; t < n; t++) ids[t] = *token_at(e, rows[i].seat, t);
        sim_state(ids, n, rows[i].pos, SIM_DIMS, hidden);
        hidden += SIM_DIMS;
        if (!rows[i].wants_logits && !token) continue;
        if (rows[i].wants_logits && e->begun > e->ended) e->wrong_order = true;
        e->best_rows += rows[i].wants_best;
        if (encoder) {
            sim_state(ids, n, rows[i].pos, SIM_LABELS, made->logits + made->count++ * SIM_LABELS);
            continue;
        }
        sim_logits(ids, n, made->logits + (size_t)made->count * SIM_VOCAB);
        make_head(e, made, &rows[i]);
        if (token) forget_state(hidden - SIM_DIMS);
    }
    e->steps++;
    e->begun++;
}

const float *sim_end(void *ctx) {
    sim_engine *e = ctx;
    if (e->ended == e->begun || e->made[e->ended % 2].draws_later) e->wrong_order = true;
    return e->made[e->ended++ % 2].logits;
}

const float *sim_step(void *ctx, const engine_row *rows, uint32_t count) {
    sim_begin(ctx, rows, count);
    return sim_end(ctx);
}

static const sim_made *ended_last(const sim_engine *e) { return &e->made[(e->ended + 1) % 2]; }
const float *sim_hidden(void *ctx) { return ended_last(ctx)->hidden; }
const int32_t *sim_best(void *ctx) { return ended_last(ctx)->best; }
const sample_logprobs *sim_logprobs(void *ctx) { return ended_last(ctx)->said; }

enum { BLOCK_BYTES = KV_BLOCK_TOKENS * sizeof(int32_t) };

void sim_save(void *ctx, const kv_move *moves, uint32_t count) {
    sim_engine *e = ctx;
    for (uint32_t i = 0; i < count; i++)
        memcpy(e->copies + moves[i].host_block * KV_BLOCK_TOKENS,
               e->tokens + moves[i].block * KV_BLOCK_TOKENS, BLOCK_BYTES);
    e->saved_blocks += count;
}

void sim_load(void *ctx, const kv_move *moves, uint32_t count) {
    sim_engine *e = ctx;
    for (uint32_t i = 0; i < count; i++) {
        int32_t *copy = e->copies + moves[i].host_block * KV_BLOCK_TOKENS;
        memcpy(e->tokens + moves[i].block * KV_BLOCK_TOKENS, copy, BLOCK_BYTES);
        memset(copy, 0xff, BLOCK_BYTES); /* it is nobody's now */
    }
    e->loaded_blocks += count;
}

/* --- one story -------------------- */

typedef enum fate { FATE_UNSENT, FATE_SENT, FATE_ACCEPTED, FATE_ENDED, FATE_REFUSED } fate;

typedef struct sim_choice {
    int32_t *want; /* tokens it gets alone */
    uint32_t want_count;
    gen_finish want_finish;
    uint32_t got;
    bool finished;
    bool canceled;
} sim_choice;

typedef struct sim_request {
    fate fate;
    gen_request r;
    int32_t *prompt;
    int32_t allowed[SIM_VOCAB];
    uint32_t granted;     /* credits sent so far, the first included */
    uint32_t outstanding; /* tokens received and not credited */
    uint32_t received;
    float vector[SIM_DIMS]; /* EMBED, RANK: what it gets alone */
    bool got_vector;
    bool preempted;
    sim_choice choices[SIM_CHOICES_MAX];
} sim_request;

typedef struct sim {
    sim_random random;
    uint64_t seed;
    _Atomic uint64_t clock_ns;
    sched_options opt;
    sim_engine engine;
    wire_link link;
    engine_worker *worker;
    sampler *sampler;
    buf in, out;
    sim_request requests[SIM_REQUESTS_MAX];
    uint32_t requests_count;
    uint32_t preemptions;
    uint32_t hard_vectors; /* that came after a preemption */
    bool draws;            /* steps draw tokens */
    bool greedy;           /* all requests are, and nothing else */
    bool hurried;          /* long answers to clients that read at once, few rows and few blocks */
} sim;

static const int32_t eog_ids[] = {SIM_EOG};

/* What the request yields with the machine to itself. */
static void run_alone(sim *s, const sim_request *q, uint32_t choice, sim_choice *out) {
    const gen_sampling *g = &q->r.sampling;
    uint32_t prompt = q->r.ids.count, count = prompt;
    int32_t *ids = mem_alloc((s->opt.ctx_max + 1) * sizeof *ids);
    float logits[SIM_VOCAB];
    uint32_t mask[SIM_VOCAB / 32 + 1] = {0};
    memcpy(ids, q->prompt, prompt * sizeof *ids);
    sample_params p = sample_params_default();
    p.temperature = g->temperature;
    p.top_k = g->top_k;
    p.repetition_penalty = g->repetition_penalty;
    p.presence_penalty = g->presence_penalty;
    p.frequency_penalty = g->frequency_penalty;
    p.penalty_tokens = g->penalty_tokens;
    p.allowed = g->allowed_ids.count > 0 ? mask : NULL;
    for (uint32_t i = 0; i < g->allowed_ids.count; i++)
        mask[q->allowed[i] / 32] |= 1u << q->allowed[i] % 32;
    p.seed = g->seed;
    for (;;) {
        sample_result t;
        sim_logits(ids, count, logits);
        sampler_pick(s->sampler, logits, &p, (sample_history){ids, count, prompt}, choice, eog_ids,
                     count - prompt < g->tokens_min ? 1 : 0, &t);
        out->want_finish = GEN_FINISH_EOS;
        if (t.id == SIM_EOG && !g->ignore_eos) break;
        ids[count++] = t.id;
        out->want_finish = GEN_FINISH_LENGTH;
        if (count - prompt >= g->tokens_max) break;
        out->want_finish = GEN_FINISH_CONTEXT;
        if (count >= s->opt.ctx_max) break;
    }
    out->want_count = count - prompt;
    memmove(ids, ids + prompt, out->want_count * sizeof *ids);
    out->want = ids;
}

static gen_pooling pooling_of(const sim *s, const sim_request *q) {
    if (q->r.kind == GEN_KIND_RANK) return GEN_POOLING_FIRST;
    return q->r.pooling == GEN_POOLING_MODEL ? s->opt.pooling : q->r.pooling;
}

/* The same for a vector. */
static void pool_alone(const sim *s, sim_request *q) {
    double sum[SIM_DIMS] = {0};
    gen_pooling pooling = pooling_of(s, q);
    uint32_t count = q->r.ids.count, n = q->r.kind == GEN_KIND_RANK ? SIM_LABELS : SIM_DIMS;
    for (uint32_t pos = 0; pos < count; pos++) {
        float state[SIM_DIMS];
        sim_state(q->prompt, s->opt.whole_prompts ? count : pos + 1, pos, n, state);
        bool pools =
            pooling == GEN_POOLING_MEAN || pos == (pooling == GEN_POOLING_FIRST ? 0 : count - 1);
        for (uint32_t i = 0; i < n && pools; i++) sum[i] += (double)state[i];
    }
    double share = pooling == GEN_POOLING_MEAN ? 1.0 / count : 1.0;
    for (uint32_t i = 0; i < n; i++) q->vector[i] = (float)(sum[i] * share);
    q->choices[0].want_finish = GEN_FINISH_VECTOR;
}

/* Why it will be refused; GEN_FAULT_NONE: it will not, unless the queue is full. */
static gen_fault fault_of(const sim *s, const sim_request *q) {
    bool encoder = s->opt.no_generate;
    if (q->r.kind == GEN_KIND_GENERATE && encoder) return GEN_FAULT_KIND;
    if (q->r.kind == GEN_KIND_RANK && !encoder) return GEN_FAULT_KIND;
    if (q->r.kind == GEN_KIND_GENERATE)
        return q->r.ids.count >= s->opt.ctx_max ? GEN_FAULT_CONTEXT_LENGTH : GEN_FAULT_NONE;
    return q->r.ids.count > s->opt.embed_tokens_max ? GEN_FAULT_INPUT_LENGTH : GEN_FAULT_NONE;
}

static gen_kind draw_kind(sim *s) {
    sim_random *r = &s->random;
    if (sim_chance(r, 2)) return (gen_kind)sim_range(r, 0, GEN_KIND_END - 1); /* offered or not */
    if (!s->opt.no_generate) return sim_chance(r, 60) ? GEN_KIND_GENERATE : GEN_KIND_EMBED;
    return sim_chance(r, 50) ? GEN_KIND_RANK : GEN_KIND_EMBED;
}

/* Some tokens, in any order; ends are among them or not. */
static void draw_allowed(sim *s, sim_request *q) {
    const uint32_t count = sim_range(&s->random, 1, SIM_VOCAB);
    for (uint32_t i = 0; i < count; i++)
        q->allowed[i] = (int32_t)sim_range(&s->random, 0, SIM_VOCAB - 1);
    q->r.sampling.allowed_ids = (wire_array){q->allowed, count};
}

static void draw_request(sim *s, sim_request *q, uint64_t id) {
    sim_random *r = &s->random;
    gen_kind kind = draw_kind(s);
    bool vector = kind != GEN_KIND_GENERATE;
    /* a vector is preempted while its prompt is computed, so that had better take a while */
    bool is_short = sim_chance(r, vector ? 10 : s->hurried ? 90 : 60);
    uint32_t prompt = sim_chance(r, 5) ? s->opt.ctx_max + sim_range(r, 0, 3)
                                       : sim_range(r, 1, s->opt.ctx_max - 1);
    if (is_short) prompt = num_min_u32(prompt, sim_range(r, 1, 24));
    q->prompt = mem_alloc(prompt * sizeof *q->prompt);
    for (uint32_t i = 0; i < prompt; i++) q->prompt[i] = (int32_t)sim_range(r, 3, SIM_VOCAB - 1);
    q->r = (gen_request){.id = id,
                         .kind = kind,
                         .pooling = (gen_pooling)sim_range(r, 0, GEN_POOLING_END - 1),
                         .prompt = GEN_PROMPT_IDS,
                         .choices = vector ? 1 : (uint16_t)sim_range(r, 1, SIM_CHOICES_MAX),
                         .credits = s->hurried ? 300 : sim_range(r, 1, 12),
                         .ids = {q->prompt, prompt},
                         .sampling = gen_sampling_default()};
    gen_sampling *g = &q->r.sampling;
    g->seed = sim_next(r);
    g->temperature = sim_chance(r, 40) ? 0.0f : 1.0f;
    g->top_k = sim_chance(r, 50) ? 5 : 0;
    g->repetition_penalty = sim_chance(r, 30) ? 1.2f : 1.0f;
    g->presence_penalty = sim_chance(r, 15) ? 0.9f : 0.0f;
    g->frequency_penalty = sim_chance(r, 15) ? 0.4f : 0.0f;
    if (sim_chance(r, 30)) g->penalty_tokens = sim_range(r, 0, 30);
    g->tokens_max = sim_chance(r, s->hurried ? 80 : 20) ? UINT32_MAX : sim_range(r, 1, 40);
    g->tokens_min = sim_chance(r, 20) ? 3 : 0;
    g->ignore_eos = s->hurried || sim_chance(r, 20);
    g->logprobs = sim_chance(r, 20);
    if (sim_chance(r, 15)) draw_allowed(s, q);
    if (s->greedy) {
        g->allowed_ids.count = 0;
        g->temperature = 0;
        g->repetition_penalty = 1;
        g->presence_penalty = g->frequency_penalty = 0;
        g->logprobs = false;
    }
    q->granted = q->r.credits;
    if (fault_of(s, q) != GEN_FAULT_NONE) return;
    if (vector) pool_alone(s, q);
    for (uint32_t c = 0; c < q->r.choices && !vector; c++) run_alone(s, q, c, &q->choices[c]);
}

static void draw_options(sim *s) {
    sim_random *r = &s->random;
    uint32_t seats = sim_range(r, 1, 8);
    s->opt = (sched_options){.seats = seats,
                             .rows_max = seats + sim_range(r, 0, s->hurried ? 1 : 60),
                             .step_ms_target = sim_chance(r, 50) ? 5 : 0,
                             .queue_max = sim_range(r, 1, 12),
                             .park_ms_max = sim_range(r, 0, 20),
                             .ctx_max = sim_range(r, 20, 200),
                             .vocab = SIM_VOCAB,
                             .eog_ids = eog_ids,
                             .eog_count = 1};
    sched_options *o = &s->opt;
    s->engine.family = sim_chance(r, 20)   ? SIM_ENCODER
                       : sim_chance(r, 25) ? SIM_STATES
                                           : SIM_DECODER;
    o->no_generate = o->whole_prompts = s->engine.family == SIM_ENCODER;
    o->no_sharing = s->engine.family != SIM_DECODER;
    o->embed_dims = SIM_DIMS;
    o->rank_labels = o->no_generate ? SIM_LABELS : 0;
    o->embed_tokens_max = o->whole_prompts ? num_min_u32(o->rows_max, o->ctx_max) : o->ctx_max;
    o->pooling = (gen_pooling)sim_range(r, GEN_POOLING_MEAN, GEN_POOLING_LAST);
}

/* Of half of those that can have one; some hold a sequence or less, others as good as all. */
static void open_tier(sim *s, uint32_t seat_blocks) {
    const uint32_t blocks = sim_range(&s->random, 1, seat_blocks * 4);
    if (s->engine.family != SIM_DECODER || sim_chance(&s->random, 50)) return;
    const kv_tier_options o = {.blocks_max = blocks,
                               .seat_blocks_max = seat_blocks,
                               .block_bytes = BLOCK_BYTES,
                               .mover = {&s->engine, sim_save, sim_load}};
    CHECK_EQ(kv_tier_create(&s->engine.tier, &o, NULL), OK);
    s->engine.copies = mem_calloc((size_t)blocks * KV_BLOCK_TOKENS, sizeof(int32_t));
    s->opt.tier = s->engine.tier;
}

static void open_sim(sim *s) {
    error err = {0};
    s->hurried = sim_chance(&s->random, 40);
    draw_options(s);
    uint32_t least = kv_blocks_for(s->opt.ctx_max);
    uint32_t blocks = sim_range(&s->random, least, s->hurried ? least + 2 : least * 3);
    /* a ring that holds a few step frames only: back-pressure is ordinary life here */
    CHECK_EQ(link_open(&s->link, 1 << 16, sim_range(&s->random, 3000, 20000), &err), OK);
    CHECK_EQ(kv_pool_create(&s->engine.kv, blocks, s->opt.seats, least, &err), OK);
    s->engine.tokens = mem_calloc((size_t)blocks * KV_BLOCK_TOKENS, sizeof(int32_t));
    s->engine.ctx_max = s->opt.ctx_max;
    s->engine.states = mem_calloc((size_t)s->opt.seats * s->opt.ctx_max, sizeof(int32_t));
    s->engine.seen = mem_calloc(s->opt.seats, sizeof(uint32_t));
    const bool finds_best = sim_chance(&s->random, 70), ahead = sim_chance(&s->random, 80);
    s->draws = finds_best && sim_chance(&s->random, 60);
    s->greedy = sim_chance(&s->random, s->draws ? 20 : 50);
    for (int i = 0; i < 2; i++) {
        sim_made *m = &s->engine.made[i];
        m->logits = mem_calloc((size_t)s->opt.rows_max * SIM_VOCAB, sizeof(float));
        m->hidden = mem_calloc((size_t)s->opt.rows_max * SIM_DIMS, sizeof(float));
        if (finds_best) m->best = mem_calloc(s->opt.rows_max, sizeof(int32_t));
        m->said = mem_calloc(s->opt.rows_max, sizeof *m->said);
        m->orders = mem_calloc(s->opt.rows_max, sizeof *m->orders);
        m->counts = mem_calloc(s->opt.rows_max, sizeof *m->counts);
    }
    CHECK_EQ(sampler_create(&s->sampler, SIM_VOCAB, &err), OK);
    open_tier(s, least);
    engine_worker_options o = {.sched = s->opt,
                               .stepper = {.ctx = &s->engine,
                                           .step = sim_step,
                                           .begin = ahead ? sim_begin : NULL,
                                           .end = ahead ? sim_end : NULL,
                                           .draw = ahead ? sim_draw : NULL,
                                           .hidden = sim_hidden,
                                           .best = finds_best ? sim_best : NULL,
                                           .samples = s->draws,
                                           .logprobs = s->draws ? sim_logprobs : NULL},
                               .kv = s->engine.kv,
                               .link = &s->link};
    CHECK_EQ(engine_worker_create(&s->worker, &o, &err), OK);
    buf_init(&s->in, WIRE_FRAME_BYTES_MAX);
    buf_init(&s->out, WIRE_FRAME_BYTES_MAX);
    s->requests_count = sim_range(&s->random, 1, SIM_REQUESTS_MAX);
    for (uint32_t i = 0; i < s->requests_count; i++) draw_request(s, &s->requests[i], i + 1);
}

static void close_sim(sim *s) {
    engine_worker_destroy(s->worker);
    sampler_destroy(s->sampler);
    link_close(&s->link);
    kv_pool_destroy(s->engine.kv);
    kv_tier_destroy(s->engine.tier);
    mem_free(s->engine.copies);
    mem_free(s->engine.tokens);
    mem_free(s->engine.states);
    mem_free(s->engine.seen);
    for (int i = 0; i < 2; i++) {
        mem_free(s->engine.made[i].logits);
        mem_free(s->engine.made[i].hidden);
        mem_free(s->engine.made[i].best);
        mem_free(s->engine.made[i].said);
        mem_free(s->engine.made[i].orders);
        mem_free(s->engine.made[i].counts);
    }
    for (uint32_t i = 0; i < s->requests_count; i++) {
        mem_free(s->requests[i].prompt);
        for (uint32_t c = 0; c < SIM_CHOICES_MAX; c++) mem_free(s->requests[i].choices[c].want);
    }
    buf_deinit(&s->in);
    buf_deinit(&s->out);
}

/* --- reading events -------------------- */

#define SIM_CHECK(s, cond)                                                      \
    do {                                                                        \
        if (!(cond)) {                                                          \
            test_failures++;                                                    \
            (void)fprintf(stderr, "%s:%d: seed %llu: %s\n", __FILE__, __LINE__, \
                          (unsigned long long)(s)->seed, #cond);                \
        }                                                                       \
    } while (0)

static void take_tokens(sim *s, sim_request *q, const gen_event *e) {
    sim_choice *c = &q->choices[e->choice];
    SIM_CHECK(s, q->fate == FATE_ACCEPTED && !c->finished);
    for (uint32_t i = 0; i < e->tokens.ids.count; i++) {
        const int32_t id = wire_i32_at(e->tokens.ids, i);
        SIM_CHECK(s, c->got < c->want_count && id == c->want[c->got]);
        if (s->draws && q->r.sampling.logprobs)
            SIM_CHECK(s,
                      wire_f32_at(e->tokens.logprobs, i) == sim_said(id, q->r.ids.count + c->got));
        c->got++;
        q->outstanding++;
        q->received++;
    }
    SIM_CHECK(s, q->received <= q->granted);
}

static void take_vector(sim *s, sim_request *q, const gen_event *e) {
    uint32_t n = q->r.kind == GEN_KIND_RANK ? SIM_LABELS : SIM_DIMS;
    SIM_CHECK(s, q->fate == FATE_ACCEPTED && q->r.kind != GEN_KIND_GENERATE && !q->got_vector);
    SIM_CHECK(s, e->vector.count == n);
    for (uint32_t i = 0; i < n && i < e->vector.count; i++)
        SIM_CHECK(s, wire_f32_at(e->vector, i) == q->vector[i]);
    q->got_vector = true;
    s->hard_vectors += q->preempted;
}

static void take_finish(sim *s, sim_request *q, const gen_event *e) {
    sim_choice *c = &q->choices[e->choice];
    SIM_CHECK(s, !c->finished);
    c->finished = true;
    if (e->finish.reason == GEN_FINISH_CANCELED) {
        SIM_CHECK(s, c->canceled);
        return;
    }
    SIM_CHECK(s, e->finish.reason == c->want_finish && c->got == c->want_count);
    SIM_CHECK(s, q->got_vector == (e->finish.reason == GEN_FINISH_VECTOR));
}

static void take_usage(sim *s, sim_request *q, const gen_event *e) {
    SIM_CHECK(s, q->fate == FATE_ACCEPTED);
    for (uint32_t c = 0; c < q->r.choices; c++) SIM_CHECK(s, q->choices[c].finished);
    SIM_CHECK(s, e->usage.prompt_tokens == q->r.ids.count);
    SIM_CHECK(s, e->usage.completion_tokens == q->received);
    q->fate = FATE_ENDED;
}

static void take_error(sim *s, sim_request *q, const gen_event *e) {
    SIM_CHECK(s, q->fate == FATE_SENT);
    SIM_CHECK(s, e->error.fault == GEN_FAULT_QUEUE_FULL ||
                     (e->error.fault == fault_of(s, q) && e->error.fault != GEN_FAULT_NONE));
    q->fate = FATE_REFUSED;
}

static void take_event(sim *s, const gen_event *e) {
    SIM_CHECK(s, e->id >= 1 && e->id <= s->requests_count);
    sim_request *q = &s->requests[e->id - 1];
    SIM_CHECK(s, e->choice < q->r.choices);
    switch (e->kind) {
    case GEN_ACCEPTED:
        SIM_CHECK(s, q->fate == FATE_SENT);
        q->fate = FATE_ACCEPTED;
        break;
    case GEN_TOKENS:
        take_tokens(s, q, e);
        break;
    case GEN_VECTOR:
        take_vector(s, q, e);
        break;
    case GEN_FINISH:
        take_finish(s, q, e);
        break;
    case GEN_USAGE:
        take_usage(s, q, e);
        break;
    case GEN_ERROR:
        take_error(s, q, e);
        break;
    case GEN_PAUSED:
        s->preemptions += e->paused == GEN_PAUSE_PREEMPTED;
        q->preempted = q->preempted || e->paused == GEN_PAUSE_PREEMPTED;
        break;
    case GEN_PROGRESS:
        SIM_CHECK(s, e->progress.done <= e->progress.total);
        break;
    default:
        SIM_CHECK(s, !"an event of this kind");
    }
}

static void read_events(sim *s) {
    error err = {0};
    for (;;) {
        bool got = false;
        wire_type type;
        str body;
        SIM_CHECK(s, link_recv(s->link.up, &s->in, &got, &err) == OK);
        if (!got) return;
        SIM_CHECK(s, wire_open(buf_view(&s->in), &type, &body, &err) == OK);
        if (type != WIRE_EVENTS) continue;
        for (bool more = true; more;) {
            gen_event e;
            SIM_CHECK(s, wire_get_event(&body, &e, &more, &err) == OK);
            if (more) take_event(s, &e);
        }
    }
}

/* --- acting -------------------- */

static bool is_live(const sim_request *q) {
    return q->fate == FATE_SENT || q->fate == FATE_ACCEPTED;
}

/* Send the next request, some credits back, now and then a cancel. */
static void act(sim *s) {
    sim_random *r = &s->random;
    for (uint32_t i = 0; i < s->requests_count; i++) {
        sim_request *q = &s->requests[i];
        if (q->fate == FATE_UNSENT && sim_chance(r, 15)) {
            wire_put_request(&s->out, &q->r);
            q->fate = FATE_SENT;
        } else if (is_live(q) && q->outstanding > 0 && sim_chance(r, 40)) {
            uint32_t n = sim_range(r, 1, q->outstanding);
            wire_put_credit(&s->out, &(gen_credit){.id = q->r.id, .tokens = n});
            q->outstanding -= n;
            q->granted += n;
        }
    }
    (void)link_flush(s->link.down, &s->out);
}

/* A cancel is carried out before the next step: with all earlier events read, one turn
 * later the choice has finished and has got nothing more. */
static void cancel_something(sim *s) {
    sim_request *q = &s->requests[sim_range(&s->random, 0, s->requests_count - 1)];
    if (!is_live(q) || !link_flush(s->link.down, &s->out)) return;
    uint16_t choice = sim_chance(&s->random, 50)
                          ? GEN_CHOICE_ALL
                          : (uint16_t)sim_range(&s->random, 0, q->r.choices - 1u);
    uint32_t got[SIM_CHOICES_MAX];
    read_events(s);
    (void)engine_worker_tick(s->worker); /* what was stuck in the worker comes out, too */
    read_events(s);
    if (!is_live(q)) return;
    for (uint32_t c = 0; c < q->r.choices; c++) {
        got[c] = q->choices[c].got;
        if (choice == GEN_CHOICE_ALL || choice == c) q->choices[c].canceled = true;
    }
    wire_put_cancel(&s->out, &(gen_cancel){.id = q->r.id, .choice = choice});
    SIM_CHECK(s, link_flush(s->link.down, &s->out));
    (void)engine_worker_tick(s->worker);
    read_events(s);
    for (uint32_t c = 0; c < q->r.choices; c++) {
        if (!q->choices[c].canceled) continue;
        SIM_CHECK(s, q->fate == FATE_REFUSED || q->choices[c].finished);
        SIM_CHECK(s, q->choices[c].got == got[c]);
    }
}

static bool all_ended(const sim *s) {
    for (uint32_t i = 0; i < s->requests_count; i++)
        if (s->requests[i].fate < FATE_ENDED) return false;
    return true;
}

/* What the stories went through. */
typedef struct sim_tally {
    uint64_t preemptions;
    uint64_t hard_vectors;
    uint64_t best_rows;
    uint64_t ahead_rows;
    uint64_t late_rows;
    uint64_t void_rows;
    uint64_t loaded_blocks;
    uint64_t dropped_blocks; /* of what was canceled, or shared again */
    uint64_t unsaved;        /* preemptions that found too little room in a tier */
} sim_tally;

/* Everything that was saved was loaded or dropped. */
static void tally_tier(const sim *s, sim_tally *tally) {
    const sim_engine *e = &s->engine;
    if (e->tier == NULL) return;
    const sched_counters c = sched_counters_get(engine_worker_sched(s->worker));
    SIM_CHECK(s, kv_tier_blocks_free(e->tier) == kv_tier_blocks_max(e->tier));
    SIM_CHECK(s, e->loaded_blocks <= e->saved_blocks);
    SIM_CHECK(s, c.preemptions_saved <= c.preemptions);
    SIM_CHECK(s, kv_tier_counters_get(e->tier).saved_bytes == e->saved_blocks * BLOCK_BYTES);
    SIM_CHECK(s, kv_tier_counters_get(e->tier).loaded_bytes == e->loaded_blocks * BLOCK_BYTES);
    tally->loaded_blocks += e->loaded_blocks;
    tally->dropped_blocks += e->saved_blocks - e->loaded_blocks;
    tally->unsaved += c.preemptions - c.preemptions_saved;
}

static void run_story(uint64_t seed, sim_tally *tally) {
    enum { TURNS_MAX = 200000 };
    static sim s;
    memset(&s, 0, sizeof s);
    s.seed = seed;
    s.random.state = seed * 0x9E3779B97F4A7C15ull + 1;
    atomic_store(&s.clock_ns, 1000000000u);
    os_clock_set(&s.clock_ns);
    open_sim(&s);
    uint32_t turns = 0;
    for (; turns < TURNS_MAX && !all_ended(&s); turns++) {
        act(&s);
        if (sim_chance(&s.random, 3)) cancel_something(&s);
        (void)engine_worker_tick(s.worker);
        atomic_fetch_add(&s.clock_ns, sim_range(&s.random, 1000, 3000000));
        SIM_CHECK(&s, sched_validate(engine_worker_sched(s.worker)));
        if (sim_chance(&s.random, 70)) read_events(&s);
    }
    SIM_CHECK(&s, all_ended(&s));
    SIM_CHECK(&s, sched_is_idle(engine_worker_sched(s.worker)));
    SIM_CHECK(&s, kv_blocks_free(s.engine.kv) == kv_blocks_max(s.engine.kv));
    SIM_CHECK(&s, !s.engine.wrong_order);
    tally->preemptions += s.preemptions;
    tally->hard_vectors += s.hard_vectors;
    tally->best_rows += s.engine.best_rows;
    tally->ahead_rows += s.engine.ahead_rows;
    tally->late_rows += s.engine.late_rows;
    tally->void_rows += s.engine.void_rows;
    tally_tier(&s, tally);
    close_sim(&s);
    os_clock_set(NULL);
}

TEST(simulated_schedules_give_every_request_what_it_gets_alone) {
    const char *wanted = getenv("SIM_SEEDS");
    uint32_t seeds = wanted != NULL ? (uint32_t)strtoul(wanted, NULL, 10) : 400;
    sim_tally t = {0};
    int before = test_failures;
    for (uint32_t seed = 1; seed <= seeds && test_failures == before; seed++) run_story(seed, &t);
    bool reached = t.preemptions > 0 && t.hard_vectors > 0 && t.best_rows > 0 && t.ahead_rows > 0 &&
                   t.late_rows > 1000 && t.void_rows > 0 && t.loaded_blocks > 0 &&
                   t.dropped_blocks > 0 && t.unsaved > 0;
    CHECK(reached || seeds < 100 || test_failures > before);
}
