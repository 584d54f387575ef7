/* test_engine_worker.c - engine_worker.h: what becomes of a step that fails.  All else of the loop
 * is simulated (tests/sim). */
#include "worker/engine_worker.h"

#include "base/log.h"
#include "test.h"

enum { VOCAB = 16, CTX = 64, SEATS = 2 };

/* A device that computes `good` steps, and no more. */
typedef struct device {
    uint32_t good;
    error fault;
    float logits[SEATS][VOCAB];
} device;

static const float *step_device(void *ctx, const engine_row *rows, uint32_t count) {
    device *d = ctx;
    (void)rows, (void)count;
    if (d->good > 0) {
        d->good--;
        return d->logits[0];
    }
    (void)error_set(&d->fault, ERR_DEVICE, "cuda: k_norm: CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    return NULL;
}

static const error *fault_of_device(void *ctx) {
    const device *d = ctx;
    return d->fault.code == OK ? NULL : &d->fault;
}

/* How many events of a kind are in the ring; the last error's code and words. */
typedef struct seen {
    uint32_t accepted, tokens, errors;
    error last;
} seen;

static void look(wire_link *link, seen *out) {
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
            if (!more) break;
            out->accepted += e.kind == GEN_ACCEPTED;
            out->tokens += e.kind == GEN_TOKENS;
            if (e.kind != GEN_ERROR) continue;
            out->errors++;
            (void)error_set(&out->last, e.error.code, "%.*s", STR(e.error.message));
        }
    }
    buf_deinit(&in);
}

static void send_request(wire_link *link, uint64_t id) {
    static const int32_t ids[4] = {5, 6, 7, 8};
    gen_request q = {.id = id,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = 100,
                     .ids = {ids, 4},
                     .sampling = gen_sampling_default()};
    buf out;
    buf_init(&out, WIRE_FRAME_BYTES_MAX);
    wire_put_request(&out, &q);
    CHECK(link_flush(link->down, &out));
    buf_deinit(&out);
}

TEST(engine_worker_answers_with_the_fault_of_a_step) {
    static const int32_t eog[] = {2};
    device d = {.good = 2};
    wire_link link = {0};
    kv_pool *kv = NULL;
    engine_worker *w = NULL;
    seen events = {0};
    CHECK_EQ(link_open(&link, 1 << 16, 1 << 16, NULL), OK);
    CHECK_EQ(kv_pool_create(&kv, 8, SEATS, CTX / KV_BLOCK_TOKENS, NULL), OK);
    engine_worker_options o = {
        .sched = {.seats = SEATS,
                  .rows_max = 16,
                  .queue_max = 8,
                  .ctx_max = CTX,
                  .vocab = VOCAB,
                  .eog_ids = eog,
                  .eog_count = 1},
        .stepper = {.ctx = &d, .step = step_device, .fault = fault_of_device},
        .kv = kv,
        .link = &link};
    for (uint32_t i = 0; i < SEATS; i++) d.logits[i][7] = 30.0f;
    CHECK_EQ(engine_worker_create(&w, &o, NULL), OK);
    send_request(&link, 1);
    send_request(&link, 2);
    for (int i = 0; i < 2; i++) (void)engine_worker_tick(w);
    look(&link, &events);
    CHECK(events.accepted == 2 && events.tokens > 0 && events.errors == 0);
    CHECK(!engine_worker_is_broken(w));
    log_set_level(LOG_OFF);
    (void)engine_worker_tick(w);
    log_set_level(LOG_INFO);
    CHECK(engine_worker_is_broken(w));
    look(&link, &events);
    CHECK_EQ(events.errors, 2);
    CHECK_EQ(events.last.code, ERR_DEVICE);
    CHECK_STR(events.last.msg, d.fault.msg);
    send_request(&link, 3); /* refused at once, and nothing is stepped any more */
    for (int i = 0; i < 3; i++) (void)engine_worker_tick(w);
    look(&link, &events);
    CHECK_EQ(events.errors, 3);
    CHECK_EQ(events.accepted, 2);
    CHECK(sched_is_idle(engine_worker_sched(w)));
    CHECK_EQ(kv_blocks_free(kv), 8);
    engine_worker_destroy(w);
    kv_pool_destroy(kv);
    link_close(&link);
}
