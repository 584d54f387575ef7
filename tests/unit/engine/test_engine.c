/* test_engine.c - engine.h: the plan is the allocation, and its limits are errors. */
#include "base/alloc.h"
#include "base/os.h"
#include "engine/engine_rig.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static model *tiny(void) {
    model *m = NULL;
    error err = {0};
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", &err), OK);
    return m;
}

static uint64_t block_bytes(const model *m, dtype kv_type) {
    const model_hparams *h = &m->hparams;
    kv_layout layout = {kv_type, h->layers, h->kv_heads, h->head_dim};
    return kv_block_bytes(&layout);
}

static engine_options small_options(void) {
    engine_options opt = rig_options(&rig_engines[3], DTYPE_F16, 100);
    opt.rows_max = 32;
    opt.taken_rows_max = 8;
    return opt;
}

TEST(engine_opens_exactly_what_it_planned) {
    for (int i = 0; i < RIG_ENGINES; i++) {
        model *m = tiny();
        engine *e = NULL;
        mem_plan plan;
        engine_options opt = small_options();
        opt.backend = rig_engines[i].backend;
        opt.threads = rig_engines[i].threads;
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        const mem_plan *opened = engine_mem_plan(e);
        CHECK_EQ(opened->kv_bytes, plan.kv_bytes);
        CHECK_EQ(opened->kv_blocks, plan.kv_blocks);
        CHECK_EQ(opened->workspace_bytes, plan.workspace_bytes);
        CHECK_EQ(opened->weights_bytes, m->weight_bytes);
        CHECK(opened->ctx_max == 100 && opened->seats == 8 && !opened->kv_cut);
        CHECK_EQ(plan.kv_blocks, 8 * 7); /* 100 tokens: 7 blocks */
        CHECK_EQ(plan.kv_bytes, plan.kv_blocks * block_bytes(m, DTYPE_F16));
        CHECK_EQ(kv_blocks_max(engine_kv(e)), plan.kv_blocks);
        CHECK_EQ(kv_seat_blocks_max(engine_kv(e)), 7);
        CHECK_EQ(engine_vocab(e), m->hparams.vocab);
        engine_close(e);
        model_close(m);
    }
    engine_close(NULL);
}

TEST(engine_context_defaults_to_the_models) {
    model *m = tiny();
    mem_plan plan;
    engine_options opt = small_options();
    opt.ctx_max = 0;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.ctx_max, m->hparams.ctx_train);
    model_close(m);
}

TEST(engine_kv_limit_cuts_the_plan) {
    model *m = tiny();
    mem_plan plan;
    engine_options opt = small_options();
    uint64_t block = block_bytes(m, DTYPE_F16);
    opt.kv_bytes_max = 20 * block + block - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_blocks, 20);
    CHECK(plan.kv_bytes <= opt.kv_bytes_max);
    CHECK(plan.kv_cut);
    opt.kv_bytes_max = 7 * block;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_blocks, 7);
    opt.kv_bytes_max = 56 * block;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(!plan.kv_cut && plan.kv_blocks == 56);
    model_close(m);
}

TEST(engine_kv_that_holds_no_sequence_is_an_error) {
    model *m = tiny();
    engine *e = NULL;
    mem_plan plan;
    error err = {0};
    char need[32], have[32];
    engine_options opt = small_options();
    uint64_t block = block_bytes(m, DTYPE_F16);
    opt.kv_bytes_max = 7 * block - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    (void)snprintf(need, sizeof need, "%llu", (unsigned long long)(7 * block));
    (void)snprintf(have, sizeof have, "%llu", (unsigned long long)(6 * block));
    CHECK_HAS(err.msg, need);
    CHECK_HAS(err.msg, have);
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
    CHECK(e == NULL);
    model_close(m);
}

TEST(engine_open_fails_cleanly) {
    model *m = tiny();
    engine *e = NULL;
    error err = {0};
    engine_options opt = small_options();
    opt.threads = 2;
    status st = ERR_NOMEM;
    for (int64_t after = 0; after < 100 && st != OK; after++) {
        if (after == 2 || after == 3) continue; /* a program that cannot grow aborts by design */
        mem_fail_after(after);
        st = engine_open(&e, m, &opt, &err);
        mem_fail_after(-1);
        if (st != OK) CHECK_EQ(st, ERR_NOMEM);
    }
    CHECK_EQ(st, OK);
    engine_close(e);
    for (int calls = 0; calls < 2; calls++) {
        e = NULL;
        os_fail_after(OS_CALL_MMAP, calls, ENOMEM);
        CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
        os_fail_after(OS_CALL_MMAP, -1, 0);
        CHECK(e == NULL);
    }
    os_fail_after(OS_CALL_THREAD, 0, EAGAIN);
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
    os_fail_after(OS_CALL_THREAD, -1, 0);
    model_close(m);
}

TEST(engine_returns_logits_of_the_rows_that_want_them) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    size_t vocab = m->hparams.vocab;
    int32_t ids[10] = {1, 5, 9, 13, 17, 21, 25, 29, 33, 37};
    engine_row rows[10];
    float *all = rig_all_logits(m, &opt, ids, 8, 8);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 8, NULL), OK);
    for (uint32_t i = 0; i < 8; i++) rows[i] = (engine_row){ids[i], i, 0, i == 2 || i == 7};
    const float *logits = engine_step(e, rows, 8);
    CHECK(memcmp(logits, all + 2 * vocab, vocab * sizeof *all) == 0);
    CHECK(memcmp(logits + vocab, all + 7 * vocab, vocab * sizeof *all) == 0);
    kv_seat_clear(engine_kv(e), 0);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 8, NULL), OK);
    for (uint32_t i = 0; i < 8; i++) rows[i].wants_logits = false;
    (void)engine_step(e, rows, 4); /* nobody wants any: only the cache is filled */
    for (uint32_t i = 4; i < 8; i++) rows[i].wants_logits = i == 7;
    logits = engine_step(e, rows + 4, 4);
    CHECK(memcmp(logits, all + 7 * vocab, vocab * sizeof *all) == 0);
    backend_report report;
    engine_report(e, &report);
    CHECK_HAS(report.what, "cpu ");
    CHECK(report.ops_fused > 0 && report.tasks > 0);
    free(all);
    engine_close(e);
    model_close(m);
}

/* --- our own mistakes die at once -------------------- */

/* Run it in a child; true when that was killed. */
static bool dies(void (*run)(engine *e), engine *e) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        run(e);
        _exit(0);
    }
    int wait_status = 0;
    (void)waitpid(pid, &wait_status, 0);
    return WIFSIGNALED(wait_status);
}

static void step_id_out_of_vocabulary(engine *e) {
    (void)engine_step(e, &(engine_row){(int32_t)engine_vocab(e), 0, 0, true}, 1);
}
static void step_negative_id(engine *e) { (void)engine_step(e, &(engine_row){-1, 0, 0, true}, 1); }
static void step_beyond_the_seat(engine *e) {
    (void)engine_step(e, &(engine_row){1, 16, 0, true}, 1);
}
static void step_well(engine *e) { (void)engine_step(e, &(engine_row){1, 0, 0, true}, 1); }

/* One thread: a child has only the thread that forked. */
TEST(engine_asserts_its_callers_promises) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 16, NULL), OK);
    CHECK(!dies(step_well, e));
    CHECK(dies(step_id_out_of_vocabulary, e));
    CHECK(dies(step_negative_id, e));
    CHECK(dies(step_beyond_the_seat, e));
    engine_close(e);
    model_close(m);
}

/* A backend whose step allocates must be found out by the frozen heap. */
static const float *greedy_step(backend *b, const batch *in) {
    (void)b;
    (void)in;
    return mem_try_alloc(4);
}

TEST(engine_step_runs_with_the_heap_frozen) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    backend_ops leaky = backend_cpu;
    leaky.step = greedy_step;
    opt.backend = &leaky;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 16, NULL), OK);
    CHECK(dies(step_well, e));
    engine_close(e);
    model_close(m);
}
