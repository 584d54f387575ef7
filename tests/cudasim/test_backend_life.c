/* test_backend_life.c - opening, failing and closing backend_cuda: what was planned is what is
 * allocated, nothing is allocated later, nothing stays behind, and faults are told. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda_profile.h"
#include "base/alloc.h"
#include "base/log.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

static engine_options small_options(void) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, 64);
    opt.rows_max = 16;
    opt.taken_rows_max = 8;
    return opt;
}

static void step_some(engine *e, uint32_t count) {
    engine_row rows[16];
    kv_seat_clear(engine_kv(e), 3);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 3, count, NULL), OK);
    for (uint32_t i = 0; i < count; i++)
        rows[i] =
            (engine_row){.token = (int32_t)i, .pos = i, .seat = 3, .wants_logits = i + 1 == count};
    (void)engine_step(e, rows, count);
}

static bool tell_nobody(void *ctx, uint64_t done, uint64_t total) {
    (void)ctx, (void)done, (void)total;
    return true;
}

/* --- memory -------------------- */

TEST(cuda_takes_exactly_what_it_planned) {
    static const char *const specs[] = {"synth:tiny:f32", "synth:tiny:q8_0", "synth:small:q4_k_m",
                                        "synth:tiny:q5_1"};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        model *m = rig_open_model(specs[i]);
        engine *e = NULL;
        mem_plan plan;
        const engine_options opt = small_options();
        CHECK(host_machine("t4"));
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(host.memory(0).asked_now, 0);
        CHECK(plan.on_device && plan.kv_bytes > 0 && plan.weights_bytes > 0);
        CHECK_STR(plan.device, "Tesla T4");
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(host.memory(0).asked_now, plan.device_bytes);
        CHECK_EQ(engine_mem_plan(e)->device_bytes, plan.device_bytes);
        CHECK_EQ(engine_load(e, &(backend_progress){tell_nobody, NULL}, NULL), OK);
        CHECK_EQ(host.memory(0).asked_now, plan.device_bytes);
        host.mark();
        step_some(e, 9);
        step_some(e, 1);
        CHECK(engine_fault(e) == NULL);
        CHECK_EQ(host.allocs_since_mark(), 0);
        CHECK_EQ(host.memory(0).asked_peak, plan.device_bytes);
        engine_close(e);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
        CHECK_EQ(host.default_stream_uses(), 0);
    }
}

TEST(cuda_shares_tied_embeddings) {
    HOST_MACHINE("t4");
    uint64_t bytes[2];
    for (int tied = 0; tied < 2; tied++) {
        lab *l = lab_begin(2, 16);
        weight table = krig_weight(&l->weights, &l->random, DTYPE_Q8_0, RIG_ROWS_MAX, 64);
        weight other = krig_weight(&l->weights, &l->random, DTYPE_Q8_0, RIG_ROWS_MAX, 64);
        value_id hidden = pg_take_rows(l->p, pg_embed(l->p, table));
        value_id logits = pg_matmul(l->p, pg_take_rows(l->p, hidden), tied ? table : other, NULL);
        CHECK_EQ(program_finish(l->p, hidden, logits, NULL), OK);
        backend_memory memory;
        const backend_options opt = {.threads = 1};
        CHECK_EQ(backend_cuda.plan(l->p, &opt, &memory, NULL), OK);
        bytes[tied] = memory.weights;
        lab_free(l);
    }
    CHECK_EQ(bytes[0], 2 * bytes[1]);
}

TEST(cuda_plan_stays_below_a_limit_of_ours) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(!plan.kv_cut);
    const uint64_t fixed = plan.weights_bytes + plan.workspace_bytes;
    opt.device_bytes_max = fixed + plan.kv_bytes / 2;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.kv_cut && plan.device_bytes <= opt.device_bytes_max);
    opt.device_bytes_max = fixed - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "may be taken of Tesla T4");
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- memory that is not there when it is taken -------------------- */

enum { NEVER = 12 }; /* more calls of any kind than an engine makes to open */

/* Call `at` of a kind fails, and `more` after it; how the engine opens then. */
static status open_failing(engine **e, const model *m, const char *call, uint64_t at, uint64_t more,
                           error *err) {
    const engine_options opt = small_options();
    CHECK(host_machine("t4"));
    for (uint64_t i = 0; i <= more; i++) host.fault_add(call, NULL, at + i, CU_OUT_OF_MEMORY);
    return engine_open(e, m, &opt, err);
}

/* Each allocation of the card in turn fails: all is given back, and there is a smaller plan. */
TEST(cuda_open_goes_down_a_rung_when_memory_is_gone) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    mem_plan full;
    const engine_options opt = small_options();
    log_set_level(LOG_ERROR);
    CHECK_EQ(engine_plan(m, &opt, &full, NULL), OK);
    for (uint64_t at = 1; at <= 3; at++) { /* weights, workspace, kv cache */
        engine *e = NULL;
        CHECK_EQ(open_failing(&e, m, "cuMemAlloc_v2", at, 0, NULL), OK);
        if (e == NULL) continue;
        const mem_plan *plan = engine_mem_plan(e);
        CHECK(plan->device_bytes < full.device_bytes && plan->kv_cut);
        CHECK_EQ(host.memory(0).asked_now, plan->device_bytes);
        CHECK_EQ(host.calls("cuMemAlloc_v2"), at + 3);
        step_some(e, 5);
        CHECK(engine_fault(e) == NULL);
        engine_close(e);
        CHECK_EQ(host.leaks(), 0);
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

/* It fails again and again: a bounded number of attempts, an error with numbers, nothing left. */
TEST(cuda_open_without_memory_leaves_nothing) {
    static const char *const calls[] = {"cuMemAlloc_v2", "cuMemHostAlloc",
                                        "cuDevicePrimaryCtxRetain", "cuStreamCreateWithPriority"};
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    log_set_level(LOG_ERROR);
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        bool opened = false;
        uint64_t refused = 0;
        for (uint64_t at = 1; at < NEVER && !opened; at++) {
            engine *e = NULL;
            error err = {0};
            const status st = open_failing(&e, m, calls[c], at, 2 * NEVER, &err);
            opened = st == OK;
            CHECK(opened == (e != NULL));
            if (!opened) {
                refused++;
                CHECK_EQ(st, ERR_NOMEM);
                CHECK(err.msg[0] != '\0');
            }
            engine_close(e);
            CHECK_EQ(host.leaks(), 0);
        }
        CHECK(opened && refused > 0);
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

/* A single call of any kind that fails ends in an engine or in an error; there is no third way. */
TEST(cuda_open_survives_each_call_that_fails_once) {
    static const char *const calls[] = {"cuMemHostAlloc", "cuDevicePrimaryCtxRetain",
                                        "cuStreamCreateWithPriority", "cuModuleLoadData"};
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    log_set_level(LOG_ERROR);
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (uint64_t at = 1; at < NEVER; at++) {
            engine *e = NULL;
            error err = {0};
            const status st = open_failing(&e, m, calls[c], at, 0, &err);
            CHECK(st == OK || st == ERR_NOMEM);
            CHECK((st == OK) == (e != NULL));
            engine_close(e);
            CHECK_EQ(host.leaks(), 0);
        }
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

TEST(cuda_open_without_host_memory_leaves_nothing) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    const engine_options opt = small_options();
    status st = ERR_NOMEM;
    for (int64_t after = 0; after < 200 && st != OK; after++) {
        if (after == 2 || after == 3) continue; /* a program that cannot grow aborts by design */
        mem_fail_after(after);
        st = engine_open(&e, m, &opt, NULL);
        mem_fail_after(-1);
        if (st != OK) CHECK_EQ(st, ERR_NOMEM);
        if (st != OK) CHECK_EQ(host.leaks(), 0);
    }
    CHECK_EQ(st, OK);
    engine_close(e);
    model_close(m);
}

TEST(cuda_model_that_does_not_fit_is_told_in_numbers) {
    HOST_MACHINE("{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":340,\"context_mib\":300}]}");
    model *m = rig_open_model("synth:small:f32");
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK); /* 40 MiB less the reserve are enough */
    CHECK(host_machine("{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":334,\"context_mib\":300}]}"));
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "the weights need");
    model_close(m);
}

/* --- the ladder -------------------- */

static model *small_of_long_context(void) {
    model *m = rig_open_model("synth:small:q8_0"); /* 1 KiB of a token */
    m->hparams.ctx_train = 65536;
    return m;
}

static engine_options lowerable_options(void) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, 0);
    opt.seats = opt.taken_rows_max = 2;
    opt.rows_min = 128;
    opt.ctx_min = 2048;
    return opt;
}

/* A limit between what two plans need takes the rung between them. */
TEST(cuda_ladder_lowers_the_rows_of_a_step) {
    static const char *const cuts[] = {"", "step_tokens 512 -> 256, ", "step_tokens 512 -> 128, "};
    HOST_MACHINE("t4");
    model *m = small_of_long_context();
    log_set_level(LOG_ERROR);
    for (uint32_t i = 0; i < 3; i++) {
        engine_options opt = lowerable_options();
        mem_plan plan;
        char text[MEM_CUTS_TEXT_BYTES];
        opt.ctx_max = 4096;
        opt.rows_max = 512 >> i;
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(plan.cuts.count, 0);
        opt.rows_max = 512;
        /* one sequence of 4 MiB, and the share that is left alone */
        opt.device_bytes_max = plan.weights_bytes + plan.workspace_bytes + (4 << 20) * 100 / 95 + 1;
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(plan.rows_max, 512 >> i);
        mem_cuts_text(&plan.cuts, text);
        CHECK(strncmp(text, cuts[i], strlen(cuts[i])) == 0);
        CHECK(plan.kv_cut && plan.device_bytes <= opt.device_bytes_max);
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

/* A machine on whose card such a plan has just room, less `less` MiB. */
static bool card_for(const model *m, uint32_t ctx, uint32_t rows, uint32_t less) {
    enum { MIB = 1 << 20, CONTEXT_MIB = 8, RESERVE_MIB = 32 };
    engine_options opt = lowerable_options();
    mem_plan plan;
    char card[128];
    opt.ctx_max = ctx;
    opt.rows_max = rows;
    CHECK(host_machine("t4"));
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    /* 95 of 100 parts for the cache, which is 1 KiB a token */
    const uint64_t bytes =
        plan.weights_bytes + plan.workspace_bytes + (uint64_t)ctx * 1024 * 100 / 95;
    const uint32_t mib = (uint32_t)(bytes / MIB) + 1 - less + CONTEXT_MIB + RESERVE_MIB;
    (void)snprintf(card, sizeof card,
                   "{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":%u,\"context_mib\":%d}]}", mib,
                   CONTEXT_MIB);
    return host_machine(card);
}

/* Logits [5, vocab] one by one, the caller frees. */
static float *logits_of(engine *e) {
    static const int32_t ids[] = {1, 5, 9, 13, 17};
    rig_sequence s = {.ids = ids, .count = 5, .seat = 1};
    s.logits = calloc(5 * (size_t)engine_vocab(e), sizeof *s.logits);
    while (s.done < s.count) rig_advance(e, &s, 1, 1);
    return s.logits;
}

/* Cards that are smaller and smaller: what is cut, and that it computes the same. */
TEST(cuda_ladder_on_cards_of_every_size) {
    static const struct {
        uint32_t ctx, rows;
    } cards[] = {{65536, 512}, {32768, 512}, {16384, 512}, {8192, 512},
                 {8192, 256},  {4096, 512},  {4096, 128},  {2048, 128}};
    HOST_MACHINE("t4");
    model *m = small_of_long_context();
    const engine_options opt = lowerable_options();
    float *want = NULL;
    log_set_level(LOG_ERROR);
    for (size_t i = 0; i < sizeof cards / sizeof cards[0]; i++) {
        engine *e = NULL;
        CHECK(card_for(m, cards[i].ctx, cards[i].rows, 0));
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        if (e == NULL) continue;
        const mem_plan *plan = engine_mem_plan(e);
        CHECK_EQ(plan->ctx_max, cards[i].ctx);
        CHECK_EQ(plan->rows_max, cards[i].rows);
        CHECK_EQ(host.memory(0).asked_now, plan->device_bytes);
        float *got = logits_of(e);
        CHECK(want == NULL || memcmp(got, want, 5 * engine_vocab(e) * sizeof *got) == 0);
        free(want);
        want = got;
        engine_close(e);
        CHECK_EQ(host.leaks(), 0);
    }
    free(want);
    log_set_level(LOG_INFO);
    model_close(m);
}

TEST(cuda_ladder_ends_in_an_error_with_numbers) {
    HOST_MACHINE("t4");
    model *m = small_of_long_context();
    const engine_options opt = lowerable_options();
    engine *e = NULL;
    error err = {0};
    CHECK(card_for(m, 2048, 128, 2));
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "bytes");
    CHECK_HAS(err.msg, "that is after step_tokens 512 -> 128, ctx 65536 -> 2048");
    CHECK_EQ(host.leaks(), 0);
    model_close(m);
}

TEST(cuda_ladder_keeps_what_was_asked_for) {
    HOST_MACHINE("{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":100,\"context_mib\":8}]}");
    model *m = small_of_long_context();
    engine_options opt = lowerable_options();
    mem_plan plan;
    error err = {0};
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.ctx_max == 32768 && plan.rows_max == 512);
    CHECK_STR(plan.cuts.list[0].name, "ctx");
    CHECK_EQ(plan.cuts.count, 2); /* two sequences of that length have no room, either */
    opt.ctx_max = 65536;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "kv: one sequence of 65536 tokens needs 67108864 bytes");
    CHECK_HAS(err.msg, "after step_tokens 512 -> 128");
    model_close(m);
}

/* --- loading -------------------- */

typedef struct told {
    uint64_t last, total;
    uint32_t calls, stop_at;
} told;

static bool tell(void *ctx, uint64_t done, uint64_t total) {
    told *t = ctx;
    CHECK(done >= t->last && done <= total);
    t->last = done;
    t->total = total;
    return ++t->calls != t->stop_at;
}

TEST(cuda_load_tells_how_far_it_is_and_stops) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    told t = {.stop_at = 3};
    error err = {0};
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_load(e, &(backend_progress){tell, &t}, &err), ERR_CANCELED);
    CHECK_HAS(err.msg, "stopped");
    t = (told){0};
    CHECK_EQ(engine_load(e, &(backend_progress){tell, &t}, &err), OK);
    CHECK(t.calls > 3 && t.last == t.total && t.total == engine_mem_plan(e)->weights_bytes);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- no GPU, no adapters -------------------- */

TEST(cuda_says_why_there_is_no_gpu) {
    HOST_MACHINE("{\"gpus\":[{\"preset\":\"k80\"}]}");
    model *m = rig_open_model("synth:tiny:q8_0");
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "cuda: no usable GPU: ");
    CHECK_HAS(err.msg, "compute capability 3.7");
    CHECK(host_machine("t4,t4"));
    opt.device = "1";
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    opt.device = "2";
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOT_FOUND);
    model_close(m);
}

/* Their middles are in the workspace; a model that is to have none takes what it took before. */
TEST(cuda_plans_for_adapters_only_where_they_may_come) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    mem_plan none, some;
    engine_options opt = small_options();
    backend_report without, with;
    CHECK_EQ(engine_plan(m, &opt, &none, NULL), OK);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    engine_report(e, &without);
    engine_close(e);
    opt.lora_rank_max = 16;
    CHECK_EQ(engine_plan(m, &opt, &some, NULL), OK);
    const uint64_t middles = (uint64_t)3 * opt.rows_max * LORA_PER_ROW_MAX * 16 * sizeof(float);
    CHECK(some.workspace_bytes > none.workspace_bytes);
    CHECK(some.workspace_bytes >= middles);
    CHECK(some.workspace_bytes <= none.workspace_bytes + middles + opt.rows_max * 256 + 4096);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK(engine_lora_slots(e) > 0);
    CHECK_EQ(engine_lora_rank_max(e), 16);
    CHECK_EQ(host.memory(0).asked_now, some.device_bytes);
    engine_report(e, &with);
    CHECK(with.ops_fused == without.ops_fused && with.ops_unfused == without.ops_unfused);
    engine_close(e);
    model_close(m);
}

TEST(cuda_names_what_it_cannot_compute) {
    HOST_MACHINE("t4");
    lab *l = lab_begin(2, 16);
    op_attention attn = {.heads = 1, .kv_heads = 1, .key_dim = 2048, .value_dim = 16, .scale = 1};
    lab_finish(l, pg_attention(l->p, lab_input(l, 2048), attn));
    backend_memory memory;
    error err = {0};
    const backend_options opt = {.threads = 1};
    CHECK_EQ(backend_cuda.plan(l->p, &opt, &memory, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "ATTENTION of layer 0: 2048 elements of a key, at most 1024");
    lab_free(l);
}

/* --- what comes back -------------------- */

/* Bytes that a step of `count` rows, of which the last `head` are sampled, brings to the host. */
static uint64_t bytes_of_step(engine *e, uint32_t count, uint32_t head, bool best) {
    engine_row rows[16];
    kv_seat_clear(engine_kv(e), 3);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 3, count, NULL), OK);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = (engine_row){.token = (int32_t)i,
                               .pos = i,
                               .seat = 3,
                               .wants_logits = !best && i + head >= count,
                               .wants_best = best && i + head >= count};
    const uint64_t before = host.copied().out;
    (void)engine_step(e, rows, count);
    return host.copied().out - before;
}

/* Four bytes a row, and the word that says whether the step went well. */
TEST(cuda_step_for_the_best_brings_no_logits) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    const uint64_t row_bytes = 4u * (engine_logits_cols(e) + engine_hidden_cols(e));
    CHECK_EQ(bytes_of_step(e, 5, 0, false), 4);
    CHECK_EQ(bytes_of_step(e, 5, 1, false), 4 + row_bytes);
    CHECK_EQ(host.launches("k_argmax"), 0);
    CHECK_EQ(bytes_of_step(e, 5, 1, true), 4 + 4);
    CHECK_EQ(host.launches("k_argmax"), 1);
    CHECK_EQ(bytes_of_step(e, 8, 8, true), 4 + 8 * 4);
    CHECK_EQ(bytes_of_step(e, 8, 8, false), 4 + 8 * row_bytes);
    CHECK_EQ(host.launches("k_argmax"), 2);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_step_gives_each_row_what_it_wants) {
    static const char *const machines[] = {"t4", "{\"gpus\":[{\"preset\":\"h100\"}],"
                                                 "\"streams\":\"deferred\",\"seed\":7}"};
    for (int i = 0; i < 2; i++) {
        HOST_MACHINE(machines[i]);
        model *m = rig_open_model("synth:tiny:q8_0");
        const engine_options opt = rig_options(&on_cuda, DTYPE_F16, 64);
        rig_check_best(m, &opt);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* --- faults -------------------- */

TEST(cuda_fault_in_a_step_is_told_once_and_for_all) {
    HOST_MACHINE("t4");
    static const struct {
        const char *call, *kernel;
        int result;
    } faults[] = {{NULL, "k_attention_f16_n2", CU_ILLEGAL_ADDRESS},
                  {NULL, "k_norm", CU_LAUNCH_FAILED},
                  {"cuLaunchKernel", NULL, CU_LAUNCH_OUT_OF_RESOURCES},
                  {"cuMemcpyDtoHAsync_v2", NULL, CU_ECC_UNCORRECTABLE},
                  {"cuStreamSynchronize", NULL, CU_LAUNCH_TIMEOUT}};
    model *m = rig_open_model("synth:tiny:q8_0");
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        engine *e = NULL;
        error err = {0};
        const engine_options opt = small_options();
        CHECK(host_machine("t4"));
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        step_some(e, 4);
        CHECK(engine_fault(e) == NULL && engine_check(e, &err) == OK);
        host.fault_add(faults[i].call, faults[i].kernel, 1, faults[i].result);
        step_some(e, 4);
        CHECK(engine_fault(e) != NULL);
        CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
        CHECK_HAS(err.msg, "GPU 0 'Tesla T4'");
        CHECK_HAS(err.msg, "CUDA_ERROR_");
        if (faults[i].kernel != NULL) CHECK_HAS(err.msg, "k_");
        engine_close(e);
        /* a context that is broken gives nothing back: the process has to end */
        CHECK(cu_is_sticky(faults[i].result) || host.leaks() == 0);
    }
    model_close(m);
}

TEST(cuda_gpu_that_is_lost_is_an_error_and_closes) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    error err = {0};
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    step_some(e, 2);
    host.lose_gpu(0);
    step_some(e, 2);
    CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
    engine_close(e);
    model_close(m);
}

/* The engine checks tokens; what gets past it is found out, not read from elsewhere. */
TEST(cuda_token_of_no_table_is_a_fault) {
    HOST_MACHINE("t4");
    lab *l = lab_begin(3, 16);
    lab_machine cuda;
    const krig_machine machine = {.ops = &backend_cuda};
    lab_finish(l, lab_input(l, 32));
    l->in.tokens[1] = RIG_ROWS_MAX;
    if (lab_open(l, &backend_cuda, &cuda)) {
        step_result result = krig_step_both(&machine, cuda.b, &l->in);
        CHECK(result.fault != NULL && result.fault->code == ERR_INTERNAL);
        if (result.fault != NULL) CHECK_HAS(result.fault->msg, "row 1 of a step has token 64");
        lab_close(&cuda);
    }
    lab_free(l);
}

/* --- profiles -------------------- */

static void step_logits(engine *e, uint32_t count, float *out) {
    engine_row rows[16];
    kv_seat_clear(engine_kv(e), 3);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 3, count, NULL), OK);
    for (uint32_t i = 0; i < count; i++)
        rows[i] =
            (engine_row){.token = (int32_t)i, .pos = i, .seat = 3, .wants_logits = i + 1 == count};
    const float *logits = engine_step(e, rows, count);
    CHECK(logits != NULL);
    if (logits != NULL) memcpy(out, logits, engine_logits_cols(e) * sizeof *out);
}

/* Every op in one launch, every launch between two events, and the same numbers as without. */
TEST(cuda_times_each_launch_when_it_is_told_to) {
    static float without[1024], with[1024];
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    backend_profile parts[BACKEND_PARTS_MAX], *part = parts;
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK(engine_logits_cols(e) <= 1024);
    for (uint32_t rows = 1; rows <= 9; rows += 8) {
        uint32_t seen[256] = {0}, ran = 0;
        uint64_t ns = 0;
        step_logits(e, rows, without);
        CHECK_EQ(engine_profile_switch(e, true, NULL), OK);
        const uint64_t before = host.calls("cuLaunchKernel");
        host.mark();
        step_logits(e, rows, with);
        CHECK_EQ(host.allocs_since_mark(), 0);
        CHECK_EQ(engine_profiled(e, parts), 1);
        for (uint32_t i = 0; i < part->count; i++) {
            const backend_task *t = &part->tasks[i];
            if (!t->ran) continue; /* of steps with more rows, or with fewer */
            ran++;
            ns += t->ns;
            for (uint32_t k = 0; k < t->ops_count; k++) seen[t->ops[k]]++;
            if (t->ops_count > 0) CHECK(t->ns > 0);
        }
        CHECK_EQ(ran, host.calls("cuLaunchKernel") - before);
        CHECK(ns > 0 && ns <= part->ns);
        for (uint32_t i = 0; i < part->p->ops_count; i++) CHECK_EQ(seen[i], 1);
        CHECK(memcmp(without, with, engine_logits_cols(e) * sizeof with[0]) == 0);
        CHECK_EQ(engine_profile_switch(e, false, NULL), OK);
    }
    CHECK_EQ(engine_profile_switch(e, true, NULL), OK);
    engine_close(e); /* while it is on */
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_limits_are_what_the_attributes_come_to) {
    HOST_MACHINE("t4");
    host_device(0);
    const backend_limit memory = cuda_limit_bytes(&host.dev);
    CHECK_EQ(memory.per_s / 1000000000, 320); /* 5001 MHz, 256 bits, twice */
    CHECK_STR(memory.name, "memory clock x bus");
    const uint64_t f32 = cuda_limit_ops(&host.dev, ROOF_FLOAT).per_s;
    CHECK_EQ(f32 / 1000000000, 8140); /* 40 SMs of 64 cores at 1590 MHz, 2 each */
    CHECK_EQ(cuda_limit_ops(&host.dev, ROOF_HALF).per_s, 8 * f32);
    CHECK_EQ(cuda_limit_ops(&host.dev, ROOF_INTEGER).per_s, 16 * f32);
    host.dev.cc = 120; /* nobody has looked it up */
    CHECK_EQ(cuda_limit_ops(&host.dev, ROOF_FLOAT).per_s, 0);
    host.dev.cc = 75;
    host_end();
}

TEST(cuda_events_that_cannot_be_made_leave_the_backend_as_it_was) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    engine *e = NULL;
    error err = {0};
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    host.fault_add("cuEventCreate", NULL, 7, CU_OUT_OF_MEMORY);
    CHECK_EQ(engine_profile_switch(e, true, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "cuEventCreate");
    step_some(e, 4);
    CHECK(engine_fault(e) == NULL);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}
