/* test_worker_samples.c - which rows a worker has drawn by a step that can draw, and which its own
 * sampler looks at: a step here draws DRAWN, and its logits make the sampler take HOST. */
#include <stdlib.h>

#include "test.h"
#include "worker/engine_worker.h"

static const float SAID = -0.75f;
enum { VOCAB = 2048, CTX = 256, SEATS = 2, PROMPT = 100, TOKENS = 3, DRAWN = 7, HOST = 9 };

typedef struct device {
    float logits[SEATS][VOCAB];
    int32_t tokens[SEATS];
    sample_logprobs said[SEATS];
    uint32_t orders, changes; /* of all steps, and the most of one row */
    bool says;                /* the last step had a row that wants log-probabilities */
} device;

static const float *step_device(void *ctx, const engine_row *rows, uint32_t count) {
    device *d = ctx;
    uint32_t seat = 0;
    d->says = false;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i].sample == NULL) {
            seat += rows[i].wants_logits;
            continue;
        }
        const uint32_t wanted = rows[i].sample->rule.logprobs;
        d->says |= wanted > 0;
        d->said[seat++].top_count = wanted > 0 ? wanted - 1 : 99;
        CHECK(!rows[i].wants_logits && !rows[i].wants_best && !rows[i].wants_hidden);
        d->orders++;
        if (rows[i].sample->rule.changes_count > d->changes)
            d->changes = rows[i].sample->rule.changes_count;
    }
    return d->logits[0];
}

static const int32_t *tokens_of_device(void *ctx) { return ((device *)ctx)->tokens; }

static const sample_logprobs *said_by_device(void *ctx) {
    const device *d = ctx;
    return d->says ? d->said : NULL;
}

static void send_request(wire_link *link, uint64_t id, const gen_sampling *sampling) {
    int32_t ids[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++) ids[i] = 1900 + i;
    gen_request q = {.id = id,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = 100,
                     .ids = {ids, PROMPT},
                     .sampling = *sampling};
    buf out;
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_request(&out, &q);
    CHECK(link_flush(link->down, &out));
    buf_deinit(&out);
}

/* What the device says of a token that was drawn, and no other is said to have. */
static void check_said(const gen_event *e) {
    const bool said = e->tokens.logprobs.count > 0 && wire_i32_at(e->tokens.ids, 0) == DRAWN;
    if (!said) return;
    CHECK(wire_f32_at(e->tokens.logprobs, 0) == SAID);
    CHECK_EQ(e->tokens.top_ids.count, e->tokens.top);
    for (uint32_t i = 0; i < e->tokens.top; i++) {
        CHECK_EQ(wire_i32_at(e->tokens.top_ids, i), (int32_t)(100 + i));
        CHECK(wire_f32_at(e->tokens.top_logprobs, i) == SAID - (float)i);
    }
}

/* Tokens that came of one request or of two, by id; and alternatives of them. */
static void count_tokens(wire_link *link, uint32_t *drawn, uint32_t *host, uint32_t *top) {
    buf in;
    buf_init(&in, WIRE_FRAME_BYTES_MAX);
    for (;;) {
        bool got = false;
        wire_type type;
        str body;
        CHECK_EQ(link_recv(link->up, &in, &got, NULL), OK);
        if (!got) break;
        CHECK_EQ(wire_open(buf_view(&in), &type, &body, NULL), OK);
        for (bool more = type == WIRE_EVENTS; more;) {
            gen_event e;
            CHECK_EQ(wire_get_event(&body, &e, &more, NULL), OK);
            if (!more || e.kind != GEN_TOKENS) continue;
            check_said(&e);
            *top += e.tokens.top_ids.count;
            for (uint32_t i = 0; i < e.tokens.ids.count; i++) {
                *drawn += wire_i32_at(e.tokens.ids, i) == DRAWN;
                *host += wire_i32_at(e.tokens.ids, i) == HOST;
            }
        }
    }
    buf_deinit(&in);
}

/* Both requests at once. */
static void check_requests(const gen_sampling *a, const gen_sampling *b, uint32_t drawn,
                           uint32_t host, uint32_t changes) {
    device *d = calloc(1, sizeof *d);
    wire_link link = {0};
    kv_pool *kv = NULL;
    engine_worker *w = NULL;
    uint32_t got_drawn = 0, got_host = 0, got_top = 0;
    CHECK_EQ(link_open(&link, 1 << 16, 1 << 16, NULL), OK);
    CHECK_EQ(kv_pool_create(&kv, 40, SEATS, CTX / KV_BLOCK_TOKENS, NULL), OK);
    engine_worker_options o = {.sched = {.seats = SEATS,
                                         .rows_max = 2 * PROMPT,
                                         .queue_max = 8,
                                         .ctx_max = CTX,
                                         .vocab = VOCAB},
                               .stepper = {.ctx = d,
                                           .step = step_device,
                                           .best = tokens_of_device,
                                           .samples = true,
                                           .logprobs = said_by_device},
                               .kv = kv,
                               .link = &link};
    for (uint32_t i = 0; i < SEATS; i++) {
        d->tokens[i] = DRAWN;
        d->logits[i][HOST] = 1000;
        d->said[i].drawn = SAID;
        for (uint32_t k = 0; k < SAMPLE_TOP_MAX; k++) {
            d->said[i].top_ids[k] = 100 + k;
            d->said[i].top[k] = SAID - (float)k;
        }
    }
    CHECK_EQ(engine_worker_create(&w, &o, NULL), OK);
    send_request(&link, 1, a);
    send_request(&link, 2, b);
    for (int i = 0; i < 3 * TOKENS; i++) (void)engine_worker_tick(w);
    count_tokens(&link, &got_drawn, &got_host, &got_top);
    CHECK_EQ(got_top, TOKENS * (a->top_logprobs + b->top_logprobs));
    CHECK_EQ(got_drawn, drawn);
    CHECK_EQ(got_host, host);
    CHECK_EQ(d->orders, drawn);
    CHECK_EQ(d->changes, changes);
    CHECK(sched_is_idle(engine_worker_sched(w)));
    engine_worker_destroy(w);
    kv_pool_destroy(kv);
    link_close(&link);
    free(d);
}

static gen_sampling sampled(void) {
    gen_sampling s = gen_sampling_default();
    s.tokens_max = TOKENS;
    s.ignore_eos = true;
    s.temperature = 0.8f;
    return s;
}

TEST(worker_lets_steps_draw_what_they_can) {
    gen_sampling plain = sampled(), logprobs = sampled(), more = sampled(), penalty = sampled();
    logprobs.logprobs = true;
    more.logprobs = true;
    more.top_logprobs = SAMPLE_TOP_MAX;
    penalty.repetition_penalty = 1.1f;
    check_requests(&plain, &plain, 2 * TOKENS, 0, 0);
    check_requests(&plain, &logprobs, 2 * TOKENS, 0, 0);
    check_requests(&more, &logprobs, 2 * TOKENS, 0, 0);
    check_requests(&plain, &more, 2 * TOKENS, 0, 0);
    /* each token of the prompt, and the one that was drawn */
    check_requests(&penalty, &plain, 2 * TOKENS, 0, PROMPT + 1);
}

TEST(worker_samples_rows_of_too_many_changes_itself) {
    static int32_t ids[WIRE_BIASES_MAX];
    static float biases[WIRE_BIASES_MAX];
    gen_sampling most = sampled(), more = sampled();
    for (int32_t i = 0; i < WIRE_BIASES_MAX; i++) ids[i] = 20 + i;
    most.bias_ids = (wire_array){ids, WIRE_BIASES_MAX};
    most.biases = (wire_array){biases, WIRE_BIASES_MAX};
    more = most;
    more.repetition_penalty = 1.1f;
    check_requests(&most, &more, TOKENS, TOKENS, SAMPLE_CHANGES_MAX);
    most.logprobs = more.logprobs = true;
    most.top_logprobs = 4;
    more.top_logprobs = 2; /* which the host finds */
    check_requests(&more, &most, TOKENS, TOKENS, SAMPLE_CHANGES_MAX);
}
