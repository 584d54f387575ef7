/* test_engine_worker.c - engine_worker.h: what becomes of a step that fails, and of profiles.  All
 * else of the loop is simulated (tests/sim). */
#include "worker/engine_worker.h"

#include "base/log.h"
#include "base/os.h"
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

/* --- profiles -------------------- */

/* A device whose only task takes as many nanoseconds as it has made steps. */
typedef struct measured {
    device d; /* first: it is a device */
    bool on;
    bool lacks_memory;
    uint32_t switches;
    program p;
    backend_task task;
} measured;

static const float *step_measured(void *ctx, const engine_row *rows, uint32_t count) {
    measured *m = ctx;
    m->task.ns++;
    return step_device(&m->d, rows, count);
}

static status profile_measured(void *ctx, bool on, error *err) {
    measured *m = ctx;
    m->switches++;
    if (on && m->lacks_memory) return error_set(err, ERR_NOMEM, "no memory for events");
    m->on = on;
    return OK;
}

static uint32_t profiled_by_measured(void *ctx, backend_profile out[BACKEND_PARTS_MAX]) {
    measured *m = ctx;
    CHECK(m->on);
    out[0] = (backend_profile){
        .where = "device", .p = &m->p, .tasks = &m->task, .count = 1, .ns = 10 * m->task.ns};
    return 1;
}

typedef struct profile_rig {
    measured m;
    wire_link link;
    kv_pool *kv;
    engine_worker *w;
    _Atomic uint64_t now_ns;
} profile_rig;

static void open_profile_rig(profile_rig *r, bool measures) {
    static const int32_t eog[] = {2};
    memset(r, 0, sizeof *r);
    r->m.d.good = 1000;
    r->m.task = (backend_task){.name = "k_all", .ran = true};
    r->now_ns = 1;
    os_clock_set(&r->now_ns);
    CHECK_EQ(link_open(&r->link, 1 << 16, 1 << 20, NULL), OK);
    CHECK_EQ(kv_pool_create(&r->kv, 8, SEATS, CTX / KV_BLOCK_TOKENS, NULL), OK);
    engine_worker_options o = {.sched = {.seats = SEATS,
                                         .rows_max = 16,
                                         .queue_max = 8,
                                         .ctx_max = CTX,
                                         .vocab = VOCAB,
                                         .eog_ids = eog,
                                         .eog_count = 1},
                               .stepper = {.ctx = &r->m, .step = step_measured},
                               .kv = r->kv,
                               .link = &r->link};
    if (measures) o.stepper.profile = profile_measured;
    if (measures) o.stepper.profiled = profiled_by_measured;
    for (uint32_t i = 0; i < SEATS; i++) r->m.d.logits[i][7] = 30.0F;
    log_set_level(LOG_WARN);
    CHECK_EQ(engine_worker_create(&r->w, &o, NULL), OK);
}

static void close_profile_rig(profile_rig *r) {
    engine_worker_destroy(r->w);
    CHECK(!r->m.on); /* off again, whatever came between */
    kv_pool_destroy(r->kv);
    link_close(&r->link);
    log_set_level(LOG_INFO);
    os_clock_set(NULL);
}

static void send_order(profile_rig *r, uint32_t id, uint32_t steps) {
    buf out;
    buf_init(&out, 4096);
    wire_put_profile(&out, &(profile_order){.id = id, .steps = steps, .ms_max = 1000});
    CHECK(link_flush(r->link.down, &out));
    buf_deinit(&out);
}

/* The next report that came up, if there is one; it points into `in`. */
static bool next_report(profile_rig *r, buf *in, profile_report *out) {
    for (;;) {
        bool got = false;
        wire_type type;
        str body;
        CHECK_EQ(link_recv(r->link.up, in, &got, NULL), OK);
        if (!got) return false;
        CHECK_EQ(wire_open(buf_view(in), &type, &body, NULL), OK);
        if (type != WIRE_PROFILE_REPORT) continue;
        CHECK_EQ(wire_get_profile_report(body, out, NULL), OK);
        return true;
    }
}

TEST(engine_worker_measures_as_many_steps_as_were_asked_for) {
    static profile_rig r;
    profile_report report;
    profile_entry e;
    buf in;
    buf_init(&in, WIRE_FRAME_BYTES_MAX);
    open_profile_rig(&r, true);
    send_order(&r, 5, 4); /* one of the prompt, three of the answer */
    send_request(&r.link, 1);
    for (int i = 0; i < 4; i++) (void)engine_worker_tick(r.w);
    CHECK(r.m.on && !next_report(&r, &in, &report));
    (void)engine_worker_tick(r.w);
    CHECK(!r.m.on && r.m.switches == 2);
    CHECK(next_report(&r, &in, &report));
    CHECK(report.id == 5 && report.code == OK);
    CHECK(report.prompt.steps == 1 && report.prompt.rows == 4 && report.prompt.ns == 10);
    CHECK(report.decode.steps == 3 && report.decode.rows == 1 && report.decode.ns == 30);
    CHECK(wire_profile_entry_next(&report.decode.entries, &e));
    CHECK(e.ns == 3 && e.tasks == 1 && str_eq(e.name, S("k_all")));
    CHECK(!wire_profile_entry_next(&report.decode.entries, &e));
    close_profile_rig(&r);
    buf_deinit(&in);
}

TEST(engine_worker_reports_in_time_what_there_is_and_one_at_a_time) {
    static profile_rig r;
    profile_report report;
    buf in;
    buf_init(&in, WIRE_FRAME_BYTES_MAX);
    open_profile_rig(&r, true);
    send_order(&r, 1, 4);
    send_order(&r, 2, 4);
    (void)engine_worker_tick(r.w);
    CHECK(next_report(&r, &in, &report));
    CHECK(report.id == 2 && report.code == ERR_BUSY);
    r.now_ns = 999000000;
    (void)engine_worker_tick(r.w);
    CHECK(!next_report(&r, &in, &report));
    r.now_ns = 1100000000; /* nobody asked the model for anything */
    (void)engine_worker_tick(r.w);
    CHECK(next_report(&r, &in, &report));
    CHECK(report.id == 1 && report.code == OK);
    CHECK(report.prompt.steps == 0 && report.decode.steps == 0);
    send_order(&r, 3, 4);
    (void)engine_worker_tick(r.w);
    CHECK(r.m.on);
    close_profile_rig(&r); /* while it is on */
    buf_deinit(&in);
}

TEST(engine_worker_says_why_it_cannot_measure) {
    static profile_rig r;
    profile_report report;
    buf in;
    buf_init(&in, WIRE_FRAME_BYTES_MAX);
    for (int measures = 0; measures < 2; measures++) {
        open_profile_rig(&r, measures == 1);
        r.m.lacks_memory = true;
        send_order(&r, 1, 4);
        (void)engine_worker_tick(r.w);
        CHECK(next_report(&r, &in, &report));
        CHECK_EQ(report.code, measures == 1 ? ERR_NOMEM : ERR_UNSUPPORTED);
        send_request(&r.link, 1);
        (void)engine_worker_tick(r.w);
        CHECK(!engine_worker_is_broken(r.w));
        close_profile_rig(&r);
    }
    buf_deinit(&in);
}
