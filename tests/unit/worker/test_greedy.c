/* test_greedy.c - tokens that steps find themselves: the whole loop on a small model, once with an
 * engine that may be asked for the best, once with one that gives logits only.  Whatever requests
 * want besides, all get the same tokens of both. */
#include "engine/engine_rig.h"
#include "test.h"
#include "worker/engine_worker.h"

enum { CTX = 64, PROMPT = 5, TOKENS = 12, ASKED = 9 };

typedef struct greedy_run {
    engine *e;
    wire_link link;
    engine_worker *w;
    uint64_t best_rows, logits_rows; /* that steps were asked for */
    int32_t ids[ASKED][TOKENS];
    uint32_t counts[ASKED], finished;
} greedy_run;

static const float *greedy_step(void *ctx, const engine_row *rows, uint32_t count) {
    greedy_run *g = ctx;
    for (uint32_t i = 0; i < count; i++) {
        g->best_rows += rows[i].wants_best;
        g->logits_rows += rows[i].wants_logits;
    }
    return engine_step(g->e, rows, count);
}

static const int32_t *greedy_best(void *ctx) { return engine_best(((greedy_run *)ctx)->e); }

/* --- the requests -------------------- */

/* The first six are greedy, all but 0 and 1 with something for which the sampler sees the logits;
 * that of 3 ends half way. */
enum { GREEDY = 6, BEST_ROWS = 2 * TOKENS + TOKENS / 2 };

static gen_sampling sampling_of(uint32_t i) {
    static const int32_t ids[] = {3};
    static const float none[] = {0};
    gen_sampling s = gen_sampling_default();
    s.tokens_max = TOKENS;
    s.ignore_eos = true;
    s.temperature = i == 1 || i == 8 ? 1.0f : 0.0f;
    s.top_k = i == 1 ? 1 : 0;
    s.logprobs = i == 2;
    s.tokens_min = i == 3 ? TOKENS / 2 : 0;
    if (i == 4) s.bias_ids = (wire_array){ids, 1};
    if (i == 4) s.biases = (wire_array){none, 1};
    if (i == 5) s.frequency_penalty = 1e-30f;
    if (i == 6) s.repetition_penalty = 1.5f;
    if (i == 7) s.presence_penalty = 4;
    return s;
}

static void ask(greedy_run *g, uint32_t i) {
    static const int32_t prompt[PROMPT] = {5, 6, 7, 8, 9};
    gen_request q = {.id = i + 1,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = 100,
                     .ids = {prompt, PROMPT},
                     .sampling = sampling_of(i)};
    buf out;
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_request(&out, &q);
    CHECK(link_flush(g->link.down, &out));
    buf_deinit(&out);
}

/* --- the answers -------------------- */

static void take_event(greedy_run *g, const gen_event *e) {
    const uint64_t at = e->id - 1;
    CHECK(e->kind != GEN_ERROR && at < ASKED);
    g->finished += e->kind == GEN_FINISH;
    if (e->kind != GEN_TOKENS || at >= ASKED) return;
    for (uint32_t i = 0; i < e->tokens.ids.count && g->counts[at] < TOKENS; i++)
        g->ids[at][g->counts[at]++] = wire_i32_at(e->tokens.ids, i);
    CHECK_EQ(e->tokens.logprobs.count, at == 2 ? e->tokens.ids.count : 0);
}

static void look_for_tokens(greedy_run *g) {
    buf in;
    buf_init(&in, WIRE_FRAME_BYTES_MAX);
    for (;;) {
        bool got = false;
        wire_type type;
        str body;
        CHECK_EQ(link_recv(g->link.up, &in, &got, NULL), OK);
        if (!got) break;
        CHECK_EQ(wire_open(buf_view(&in), &type, &body, NULL), OK);
        for (bool more = type == WIRE_EVENTS; more;) {
            gen_event e;
            CHECK_EQ(wire_get_event(&body, &e, &more, NULL), OK);
            if (more) take_event(g, &e);
        }
    }
    buf_deinit(&in);
}

/* All requests through a worker of their own, on a fresh engine. */
static void run_greedy(greedy_run *g, const model *m, const rig_engine *on, bool finds_best) {
    enum { TURNS_MAX = 200 };
    const engine_options opt = rig_options(on, DTYPE_F32, CTX);
    *g = (greedy_run){0};
    CHECK_EQ(link_open(&g->link, 1 << 16, 1 << 16, NULL), OK);
    CHECK_EQ(engine_open(&g->e, m, &opt, NULL), OK);
    engine_worker_options o = {
        .sched = {.seats = opt.seats,
                  .rows_max = 16,
                  .queue_max = ASKED,
                  .ctx_max = CTX,
                  .vocab = engine_vocab(g->e)},
        .stepper = {.ctx = g, .step = greedy_step, .best = finds_best ? greedy_best : NULL},
        .kv = engine_kv(g->e),
        .link = &g->link};
    CHECK_EQ(engine_worker_create(&g->w, &o, NULL), OK);
    for (uint32_t i = 0; i < ASKED; i++) ask(g, i);
    for (int turn = 0; turn < TURNS_MAX && g->finished < ASKED; turn++) {
        (void)engine_worker_tick(g->w);
        look_for_tokens(g);
    }
    CHECK_EQ(g->finished, ASKED);
    engine_worker_destroy(g->w);
    engine_close(g->e);
    link_close(&g->link);
}

TEST(greedy_tokens_are_the_same_with_and_without_logits) {
    static greedy_run with, without;
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    for (int on = 0; on < RIG_ENGINES; on += 4) { /* the reference, and the best of the CPU */
        run_greedy(&with, m, &rig_engines[on], true);
        run_greedy(&without, m, &rig_engines[on], false);
        for (uint32_t i = 0; i < ASKED; i++) {
            CHECK_EQ(with.counts[i], TOKENS);
            CHECK(memcmp(with.ids[i], without.ids[i], sizeof with.ids[i]) == 0);
            const bool same = memcmp(with.ids[i], with.ids[0], sizeof with.ids[0]) == 0;
            CHECK(same || i >= GREEDY);
        }
        CHECK_EQ(with.best_rows, BEST_ROWS);
        CHECK_EQ(with.logits_rows, ASKED * TOKENS - BEST_ROWS);
        CHECK_EQ(without.best_rows, 0);
        CHECK_EQ(without.logits_rows, ASKED * TOKENS);
    }
    model_close(m);
}
