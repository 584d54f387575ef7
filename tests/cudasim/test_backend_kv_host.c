/* test_backend_kv_host.c - blocks of the KV cache that go to the host's memory and come back.
 *
 * Streams run "deferred" and "random", too: there a copy that nobody waits for comes too late, and
 * finds what others have written meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/os.h"
#include "cudasim/host_rig.h"
#include "engine/engine_rig.h"
#include "sched/sched.h"

enum { TOKENS = 20, CTX = 32, MORE = 4 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 2, CPU_ISA_AUTO};

static const char *const machines[] = {
    "t4", "{\"gpus\":[{}],\"streams\":\"deferred\"}",
    "{\"gpus\":[{\"preset\":\"h100\"}],\"streams\":\"random\",\"seed\":3}"};
enum { MACHINES = sizeof machines / sizeof machines[0] };

/* Seats for some sequences, and blocks for one. */
static engine_options tight_options(dtype kv_type) {
    engine_options opt = rig_options(&on_cuda, kv_type, CTX);
    opt.seats = 4;
    opt.rows_max = opt.taken_rows_max = TOKENS;
    opt.kv_host_bytes = 1 << 20;
    return opt;
}

/* As many blocks as one sequence has. */
static void limit_kv(const model *m, engine_options *opt) {
    mem_plan plan;
    CHECK_EQ(engine_plan(m, opt, &plan, NULL), OK);
    opt->kv_bytes_max = plan.kv_bytes / plan.kv_blocks * kv_blocks_for(CTX);
}

/* --- the bits -------------------- */

/* A sequence of which one half is computed, and its blocks are saved; another one takes them at
 * once; the first one comes back to other blocks and goes on.  Logits of what it has then. */
static float *logits_of_moved(engine *e, const int32_t *ids, const int32_t *others) {
    kv_pool *kv = engine_kv(e);
    kv_tier *tier = engine_kv_tier(e);
    float *logits = calloc((size_t)(TOKENS + MORE) * engine_logits_cols(e), sizeof *logits);
    rig_sequence s = {.ids = ids, .count = TOKENS, .seat = 0, .logits = logits};
    rig_sequence o = {.ids = others, .count = TOKENS + MORE, .seat = 1};
    rig_advance(e, &s, 1, TOKENS / 2);
    rig_advance(e, &s, 1, TOKENS - TOKENS / 2);
    host.mark();
    for (int round = 0; round < 2; round++) {
        const uint32_t saved = kv_tier_save(tier, kv, s.seat);
        CHECK(saved != KV_TIER_NONE);
        kv_seat_clear(kv, s.seat);
        o.done = 0;
        rig_advance(e, &o, 1, 7);
        rig_advance(e, &o, 1, TOKENS - 7);
        kv_seat_clear(kv, o.seat);
        s.seat = 2 - s.seat;
        CHECK_EQ(kv_seat_grow(kv, s.seat, s.done, NULL), OK);
        kv_tier_load(tier, saved, kv, s.seat, 0);
        s.count++;
        rig_advance(e, &s, 1, 1);
    }
    s.count = TOKENS + MORE;
    rig_advance(e, &s, 1, MORE);
    CHECK_EQ(kv_tier_blocks_free(tier), kv_tier_blocks_max(tier));
    CHECK_EQ(engine_check(e, NULL), OK);
    CHECK_EQ(host.allocs_since_mark(), 0);
    return logits;
}

static void check_moved(const model *m, engine_options opt, const char *what) {
    int32_t ids[TOKENS + MORE], others[TOKENS + MORE];
    engine *e = NULL;
    rig_fill_ids(ids, TOKENS + MORE, m->hparams.vocab, 1);
    rig_fill_ids(others, TOKENS + MORE, m->hparams.vocab, 2);
    float *want = rig_all_logits(m, &opt, ids, TOKENS + MORE, TOKENS);
    limit_kv(m, &opt);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK(engine_kv_tier(e) != NULL);
    float *got = logits_of_moved(e, ids, others);
    const size_t n = (size_t)(TOKENS + MORE) * m->hparams.vocab;
    const bool same = want != NULL && memcmp(got, want, n * sizeof *got) == 0;
    if (!same) (void)fprintf(stderr, "%s: other bits\n", what);
    CHECK(same);
    engine_close(e);
    free(got);
    free(want);
    CHECK_EQ(host.leaks(), 0);
    CHECK_EQ(host.default_stream_uses(), 0);
}

TEST(kv_host_brings_back_the_bits_of_every_type) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the crowd below moves more");
#endif
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_0};
    for (size_t i = 0; i < MACHINES; i++) {
        HOST_MACHINE(machines[i]);
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++) {
            const bool groups = kv_type_has_codes(types[k]); /* and so wider heads */
            model *m = rig_open_model(groups ? "synth:small:q8_0" : "synth:tiny:q8_0");
            check_moved(m, tight_options(types[k]), dtype_name(types[k]));
            model_close(m);
        }
    }
}

TEST(kv_host_brings_back_the_bits_of_every_part) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the crowd below moves more");
#endif
    HOST_MACHINE("{\"gpus\":[{},{}],\"streams\":\"deferred\"}");
    model *m = rig_open_model("synth:deep:q8_0");
    engine_options opt = tight_options(DTYPE_F16);
    opt.devices_count = opt.devices_min = 2;
    opt.devices[0] = "0";
    opt.devices[1] = "1";
    check_moved(m, opt, "two GPUs");
    opt.device_layers = 3;
    check_moved(m, opt, "CPU and two GPUs");
    opt.devices_count = opt.devices_min = 0;
    check_moved(m, opt, "CPU and GPU");
    model_close(m);
}

/* A sequence's blocks are neighbours in an engine that is new. */
TEST(kv_host_moves_neighbours_in_one_copy) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    int32_t ids[TOKENS + MORE];
    const engine_options opt = tight_options(DTYPE_F16);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    kv_pool *kv = engine_kv(e);
    const uint64_t block = engine_mem_plan(e)->kv_bytes / engine_mem_plan(e)->kv_blocks;
    rig_sequence s = {.ids = ids, .count = TOKENS, .seat = 0};
    rig_fill_ids(ids, TOKENS + MORE, m->hparams.vocab, 1);
    rig_advance(e, &s, 1, TOKENS);
    const uint64_t out = host.calls("cuMemcpyDtoHAsync_v2"),
                   in = host.calls("cuMemcpyHtoDAsync_v2"),
                   waits = host.calls("cuStreamSynchronize");
    const sim_copied_bytes before = host.copied();
    const uint32_t saved = kv_tier_save(engine_kv_tier(e), kv, 0);
    kv_seat_clear(kv, 0);
    CHECK_EQ(kv_seat_grow(kv, 1, TOKENS, NULL), OK);
    kv_tier_load(engine_kv_tier(e), saved, kv, 1, 0);
    CHECK_EQ(host.calls("cuMemcpyDtoHAsync_v2") - out, 1);
    CHECK_EQ(host.calls("cuMemcpyHtoDAsync_v2") - in, 1);
    CHECK_EQ(host.calls("cuStreamSynchronize"), waits); /* the host goes on */
    CHECK_EQ(host.copied().out - before.out, kv_blocks_for(TOKENS) * block);
    CHECK_EQ(host.copied().in - before.in, kv_blocks_for(TOKENS) * block);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- the plan -------------------- */

TEST(kv_host_is_planned_as_asked_for) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:small:q8_0");
    mem_plan none, plan;
    error err = {0};
    engine_options opt = tight_options(DTYPE_F16);
    opt.kv_host_bytes = 0;
    CHECK_EQ(engine_plan(m, &opt, &none, NULL), OK);
    CHECK(none.kv_host_blocks == 0 && none.pinned_bytes > 0);
    const uint64_t block = none.kv_bytes / none.kv_blocks;
    opt.kv_host_bytes = 7 * block + block - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_host_blocks, 7);
    CHECK_EQ(plan.pinned_bytes - none.pinned_bytes, 7 * block);
    CHECK_EQ(plan.device_bytes, none.device_bytes);
    opt.device_layers = 1; /* of 2: a half is the host's */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_host_bytes, 7 * block);
    CHECK_EQ(plan.kv_host_pinned_bytes, 7 * block / 2);
    opt.device_layers = 0;
    opt.kv_host_bytes = ENGINE_KV_HOST_AUTO; /* never more than there is on the device */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_host_blocks, plan.kv_blocks);
    opt.kv_host_bytes = (uint64_t)1 << 44;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "--kv-host-bytes are 17592186044416, ");
    opt.seats = 1; /* who would it give its blocks to? */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_host_blocks, 0);
    opt.seats = 3;
    opt.backend = backend_find("cpu");
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_host_blocks, 0);
    model_close(m);
}

/* The driver's last pinned memory but one is the tier's: without it all goes on. */
TEST(kv_host_that_the_driver_refuses_is_done_without) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options opt = tight_options(DTYPE_F16);
    engine *e = NULL;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    const uint64_t pinned = host.calls("cuMemHostAlloc");
    const mem_plan with = *engine_mem_plan(e);
    engine_close(e);
    CHECK(host_machine("t4"));
    host.fault_add("cuMemHostAlloc", NULL, pinned, CU_OUT_OF_MEMORY);
    log_set_level(LOG_ERROR);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    log_set_level(LOG_INFO);
    CHECK(engine_kv_tier(e) == NULL);
    CHECK_EQ(engine_mem_plan(e)->kv_host_blocks, 0);
    CHECK_EQ(engine_mem_plan(e)->pinned_bytes, with.pinned_bytes - with.kv_host_bytes);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A copy that fails is the next step's fault. */
TEST(kv_host_copy_that_fails_is_a_fault_of_the_step) {
    static const char *const calls[] = {"cuMemcpyDtoHAsync_v2", "cuMemcpyHtoDAsync_v2"};
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options opt = tight_options(DTYPE_F16);
    for (int i = 0; i < 2; i++) {
        engine *e = NULL;
        error err = {0};
        CHECK(host_machine("t4"));
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(engine_warm_up(e, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(e), 1, 20, NULL), OK);
        host.fault_add(calls[i], NULL, 1, CU_ECC_UNCORRECTABLE);
        const uint32_t saved = kv_tier_save(engine_kv_tier(e), engine_kv(e), 1);
        kv_tier_load(engine_kv_tier(e), saved, engine_kv(e), 1, 0);
        CHECK_EQ(engine_check(e, NULL), OK);
        CHECK_EQ(engine_warm_up(e, &err), ERR_DEVICE);
        CHECK_HAS(err.msg, calls[i]);
        engine_close(e);
    }
    model_close(m);
}

/* --- many sequences and few blocks -------------------- */

enum { REQUESTS = 4, PROMPT = 12, ROWS = 16, CROWD_CTX = 48 };
#ifdef __SANITIZE_THREAD__
enum { ANSWER = 6, CROWD_MACHINES_FROM = MACHINES - 1 }; /* some fifty times slower */
#else
enum { ANSWER = 22, CROWD_MACHINES_FROM = 1 };
#endif

typedef struct crowd {
    sched_counters counters;
    kv_tier_counters moved;
    int32_t tokens[REQUESTS][ANSWER];
    uint32_t got[REQUESTS];
} crowd;

static void submit_all(sched *s, uint32_t vocab) {
    for (uint32_t i = 0; i < REQUESTS; i++) {
        int32_t ids[TOKENS + MORE];
        rig_fill_ids(ids, TOKENS + MORE, vocab, i);
        gen_request q = {.id = i + 1,
                         .prompt = GEN_PROMPT_IDS,
                         .choices = 1,
                         .credits = 1000,
                         .ids = {ids, PROMPT + i},
                         .sampling = gen_sampling_default()};
        q.sampling.temperature = 0;
        q.sampling.ignore_eos = true;
        q.sampling.tokens_max = ANSWER;
        sched_submit(s, &q, os_now_ns());
    }
}

/* The rows' best tokens, to whoever they are for. */
static void take_best(const engine *e, const step_plan *plan, sample_result *results, crowd *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->items_count; i++) {
        if (!plan->items[i].wants_logits) continue;
        const uint64_t who = plan->items[i].seq->request->id - 1;
        results[n].id = engine_best(e)[n];
        if (c->got[who] < ANSWER) c->tokens[who][c->got[who]++] = results[n].id;
        n++;
    }
}

/* All of them on such an engine, until the last one is done. */
static void run_crowd(const model *m, const engine_options *opt, crowd *c) {
    engine *e = NULL;
    sched *s = NULL;
    step_plan *plan = NULL;
    buf events;
    engine_row rows[ROWS];
    sample_result results[REQUESTS] = {0};
    const int32_t eog = 0;
    CHECK_EQ(engine_open(&e, m, opt, NULL), OK);
    const sched_options so = {.seats = REQUESTS,
                              .rows_max = ROWS,
                              .queue_max = REQUESTS,
                              .park_ms_max = 1000,
                              .ctx_max = CROWD_CTX,
                              .vocab = m->hparams.vocab,
                              .eog_ids = &eog,
                              .eog_count = 1,
                              .finds_best = true,
                              .tier = engine_kv_tier(e)};
    buf_init(&events, 1 << 20);
    CHECK_EQ(sched_create(&s, &so, engine_kv(e), &events, NULL), OK);
    CHECK_EQ(step_plan_create(&plan, &so, NULL), OK);
    submit_all(s, m->hparams.vocab);
    for (int turns = 0; turns < 2000 && !sched_is_idle(s); turns++) {
        sched_plan(s, os_now_ns(), plan);
        sched_commit(s, plan, os_now_ns(), rows);
        if (plan->rows > 0) (void)engine_step(e, rows, plan->rows);
        CHECK_EQ(engine_check(e, NULL), OK);
        take_best(e, plan, results, c);
        sched_apply(s, plan, results, os_now_ns(), 1000);
        CHECK(sched_validate(s));
    }
    CHECK(sched_is_idle(s));
    c->counters = sched_counters_get(s);
    if (engine_kv_tier(e) != NULL) c->moved = kv_tier_counters_get(engine_kv_tier(e));
    sched_destroy(s);
    step_plan_destroy(plan);
    buf_deinit(&events);
    engine_close(e);
    CHECK_EQ(host.leaks(), 0);
}

/* Four sequences of two or three blocks each, and five blocks: every one gets the tokens that it
 * gets with room for all, and no row is computed twice. */
TEST(kv_host_lets_a_crowd_go_on_with_few_blocks) {
    for (size_t i = CROWD_MACHINES_FROM; i < MACHINES; i++) {
        HOST_MACHINE(machines[i]);
        static crowd want, got;
        mem_plan plan;
        memset(&want, 0, sizeof want);
        memset(&got, 0, sizeof got);
        model *m = rig_open_model("synth:tiny:q8_0");
        engine_options opt = rig_options(&on_cuda, DTYPE_F16, CROWD_CTX);
        opt.seats = REQUESTS;
        opt.rows_max = ROWS;
        opt.taken_rows_max = REQUESTS;
        run_crowd(m, &opt, &want);
        CHECK_EQ(want.counters.preemptions, 0);
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        opt.kv_bytes_max = plan.kv_bytes / plan.kv_blocks * 5;
        opt.kv_host_bytes = 1 << 20;
        run_crowd(m, &opt, &got);
        CHECK(got.counters.preemptions > 0);
        CHECK_EQ(got.counters.preemptions_saved, got.counters.preemptions);
        CHECK_EQ(got.counters.prefill_rows, want.counters.prefill_rows);
        CHECK_EQ(got.counters.decode_rows, want.counters.decode_rows);
        CHECK(got.moved.saved_bytes > 0 && got.moved.loaded_bytes == got.moved.saved_bytes);
        CHECK(memcmp(got.tokens, want.tokens, sizeof got.tokens) == 0);
        CHECK_EQ(got.got[REQUESTS - 1], ANSWER);
        model_close(m);
    }
}
