/* test_backend_gpus.c - one model on several software GPUs, with and without ways between them.
 *
 * The kernels are those of one GPU, and so is every row's order of sums: whatever the cuts, and
 * however rows get across them, the bits are those of one GPU. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cudasim/host_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

enum { TOKENS = 6, GPUS_MAX = 4 /* of most tests */ };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 2, CPU_ISA_AUTO};

/* Each GPU has one. */
#define WAY_TO_ALL     "\"p2p\":[[0,1],[0,2],[0,3],[1,2],[1,3],[2,3]]"
#define FOUR           "\"gpus\":[{},{},{},{}]"
#define WITHOUT_WAYS   "{" FOUR "}"
#define WITH_WAYS      "{" FOUR "," WAY_TO_ALL "}"
#define WITH_WRONG     "{" FOUR "," WAY_TO_ALL ",\"p2p_corrupts\":true}"
#define WITH_FIRST_WAY "{" FOUR ",\"p2p\":[[0,1]]}"

/* The first `count` GPUs, all of which are used. */
static engine_options options_of(uint32_t count) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F32, 64);
    opt.rows_max = opt.taken_rows_max = 2 * TOKENS;
    opt.devices_count = opt.devices_min = count;
    memcpy(opt.devices, host_gpu_numbers, sizeof host_gpu_numbers);
    return opt;
}

typedef float *(*rig_run)(const model *m, const engine_options *opt, const int32_t *ids,
                          uint32_t count, uint32_t chunk);

/* Bits of `opt`, token by token and in chunks, held against those of one GPU. */
static void check_bits(const model *m, const char *what, const engine_options *opt) {
    int32_t ids[TOKENS];
    const bool encoder = m->hparams.is_encoder;
    const size_t count = TOKENS * (size_t)(encoder ? m->hparams.n_embd : m->hparams.vocab);
    const rig_run run = encoder ? rig_all_hidden : rig_all_logits;
    engine_options one = *opt;
    one.devices_count = one.devices_min = 1;
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *want = run(m, &one, ids, TOKENS, TOKENS);
    for (uint32_t chunk = encoder ? TOKENS : 1; chunk <= TOKENS; chunk += TOKENS - 1) {
        float *got = run(m, opt, ids, TOKENS, chunk);
        const bool same = got != NULL && want != NULL && memcmp(got, want, count * 4) == 0;
        if (!same) (void)fprintf(stderr, "%s, chunks of %u: other bits\n", what, chunk);
        CHECK(same);
        free(got);
    }
    free(want);
    CHECK_EQ(host.leaks(), 0);
}

static uint64_t peer_copies(void) { return host.calls("cuMemcpyPeerAsync"); }

/* --- the numbers -------------------- */

TEST(gpus_give_the_bits_of_one) {
    HOST_MACHINE(WITHOUT_WAYS);
    model *m = rig_open_model("synth:deep:q4_k_m");
    for (uint32_t count = 2; count <= GPUS_MAX; count += 2) {
        const engine_options opt = options_of(count);
        check_bits(m, "without ways", &opt);
    }
    CHECK_EQ(peer_copies(), 0);
    CHECK(host.calls("cuGraphLaunch") > 0);
    model_close(m);
}

/* A layer on each. */
TEST(gpus_may_be_eight) {
    HOST_MACHINE("{\"gpus\":[{},{},{},{},{},{},{},{}],\"p2p\":[[0,1],[2,3],[4,5],[6,7]]}");
    model *m = rig_open_model("synth:deep:q8_0");
    mem_plan plan;
    const engine_options opt = options_of(8);
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.devices_count, 8);
    for (uint32_t i = 0; i < 8; i++) CHECK_EQ(plan.devices[i].layers, 1);
    check_bits(m, "eight", &opt);
    CHECK_EQ(peer_copies(), 4 * (2 * 3 + TOKENS + 1));
    model_close(m);
}

TEST(gpus_with_ways_between_them_give_the_bits_of_one) {
    static const char *const streams[] = {"eager", "deferred", "random"};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        char machine[256];
        (void)snprintf(machine, sizeof machine,
                       "{" FOUR "," WAY_TO_ALL ",\"streams\":\"%s\",\"seed\":5}", streams[i]);
        HOST_MACHINE(machine);
        model *m = rig_open_model("synth:deep:q8_0");
        const engine_options opt = options_of(3);
        check_bits(m, streams[i], &opt);
        /* two engines with two ways each: three tests, and as many steps as there are chunks */
        CHECK_EQ(peer_copies(), 2 * 2 * 3 + 2 * (TOKENS + 1));
        model_close(m);
    }
}

TEST(gpus_in_mode_fast_give_the_bits_of_one) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:q4_0");
    int32_t ids[TOKENS];
    engine_options opt = options_of(2), one = options_of(1);
    opt.fast = one.fast = true;
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *want = rig_all_logits(m, &one, ids, TOKENS, 5);
    float *got = rig_all_logits(m, &opt, ids, TOKENS, 5);
    CHECK(memcmp(got, want, TOKENS * (size_t)m->hparams.vocab * sizeof *got) == 0);
    free(got);
    free(want);
    model_close(m);
}

/* Attention with windows, experts, latent keys, states: whose bytes are wherever their layer is. */
TEST(gpus_of_every_family_give_the_bits_of_one) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the tests of ops have every kernel");
#endif
    static const char *const families[] = {"bert",  "deepseek", "deepseek2", "gemma3", "gpt-oss",
                                           "mamba", "mixtral",  "qwen3moe",  "falcon"};
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE(WITH_WAYS);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        model *m = rig_open_oracle(families[i], "f32");
        if (m == NULL) continue;
        const uint32_t layers = m->hparams.layers;
        const engine_options opt = options_of(layers < GPUS_MAX ? layers : GPUS_MAX);
        check_bits(m, families[i], &opt);
        model_close(m);
    }
}

/* Every layer of a model with states has its own, on the GPU that computes it. */
TEST(gpus_keep_states_where_their_layers_are) {
    HOST_MACHINE(WITHOUT_WAYS);
    SHARED_OR_SKIP(path, "oracle/public/models/mamba/model-f32.gguf");
    model *m = rig_open_model(path);
    mem_plan plan;
    engine *e = NULL;
    const engine_options opt = options_of(2);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    plan = *engine_mem_plan(e);
    CHECK(plan.state_bytes > 0 && plan.devices_count == 2);
    for (int i = 0; i < 2; i++) CHECK_EQ(host.memory((uint32_t)i).asked_now, plan.devices[i].bytes);
    engine_close(e);
    model_close(m);
}

/* The CPU first, and what is behind it on two GPUs. */
TEST(gpus_behind_the_cpu_are_near_the_reference) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:f32");
    int32_t ids[TOKENS];
    mem_plan plan;
    engine_options opt = options_of(2), ref = rig_options(&rig_engines[0], DTYPE_F32, 64);
    opt.device_layers = 5;
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.device_layers == 5 && plan.devices_count == 2);
    CHECK_EQ(plan.devices[0].layers + plan.devices[1].layers, 5);
    float *want = rig_all_logits(m, &ref, ids, TOKENS, TOKENS);
    for (uint32_t chunk = 1; chunk <= TOKENS; chunk += TOKENS - 1) {
        float *got = rig_all_logits(m, &opt, ids, TOKENS, chunk);
        CHECK(rig_nmse(got, want, TOKENS * (size_t)m->hparams.vocab) <= 1e-9);
        free(got);
    }
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(gpus_find_and_draw_tokens_on_the_last_one) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    const engine_options opt = options_of(3);
    rig_check_best(m, &opt);
    engine *e = NULL;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK(engine_can_sample(e));
    engine_row row = {.token = 1, .wants_best = true};
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 1, NULL), OK);
    const uint64_t before = host.copied().out;
    (void)engine_step(e, &row, 1);
    CHECK(engine_fault(e) == NULL && engine_best(e) != NULL);
    CHECK_EQ(host.copied().out - before, 4 + 4 + 8); /* no rows: each has its error, and one id */
    engine_close(e);
    model_close(m);
}

/* --- ways -------------------- */

/* Where bytes arrive wrong that is seen once, and nothing goes there any more. */
TEST(gpus_do_not_use_a_way_that_corrupts) {
    HOST_MACHINE(WITH_WRONG);
    model *m = rig_open_model("synth:deep:q8_0");
    const engine_options opt = options_of(3);
    log_set_level(LOG_OFF);
    check_bits(m, "with ways that corrupt", &opt);
    log_set_level(LOG_INFO);
    CHECK_EQ(peer_copies(), 2 * 2); /* engines and ways */
    model_close(m);
}

TEST(gpus_use_the_ways_that_there_are) {
    HOST_MACHINE(WITH_FIRST_WAY);
    model *m = rig_open_model("synth:deep:q8_0");
    const engine_options opt = options_of(3);
    check_bits(m, "with one way of two", &opt);
    CHECK_EQ(peer_copies(), 2 * 3 + TOKENS + 1);
    model_close(m);
}

TEST(gpus_use_no_way_when_told_so) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    engine_options opt = options_of(3);
    opt.no_peers = true;
    check_bits(m, "without ways that there are", &opt);
    CHECK_EQ(peer_copies(), 0);
    CHECK_EQ(host.calls("cuCtxEnablePeerAccess"), 0);
    model_close(m);
}

TEST(gpus_do_without_a_way_that_the_driver_refuses) {
    static const char *const calls[] = {"cuDeviceCanAccessPeer", "cuCtxEnablePeerAccess",
                                        "cuMemcpyPeerAsync"};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        HOST_MACHINE(WITH_WAYS);
        model *m = rig_open_model("synth:deep:q8_0");
        engine *e = NULL;
        const engine_options opt = options_of(2);
        engine_row row = {.token = 1, .wants_logits = true};
        log_set_level(LOG_OFF);
        host.fault_add(calls[i], NULL, 1, CU_NOT_SUPPORTED);
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 1, NULL), OK);
        const uint64_t before = peer_copies();
        CHECK(engine_step(e, &row, 1) != NULL);
        CHECK_EQ(peer_copies(), before);
        engine_close(e);
        model_close(m);
        log_set_level(LOG_INFO);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* Rows that go straight do not come to the host. */
TEST(gpus_with_a_way_spare_the_host) {
    uint64_t out[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        HOST_MACHINE(i == 0 ? WITHOUT_WAYS : WITH_WAYS);
        model *m = rig_open_model("synth:deep:q8_0");
        engine *e = NULL;
        const engine_options opt = options_of(2);
        engine_row row = {.token = 1, .wants_best = true};
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(engine_warm_up(e, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 1, NULL), OK);
        const uint64_t before = host.copied().out;
        (void)engine_step(e, &row, 1);
        out[i] = host.copied().out - before;
        CHECK_EQ(out[0] - out[i], i * m->hparams.n_embd * sizeof(float));
        engine_close(e);
        model_close(m);
    }
}

/* --- memory -------------------- */

TEST(gpus_take_what_was_planned_of_each) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    engine *e = NULL;
    backend_report report;
    const engine_options opt = options_of(4);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    const mem_plan *plan = engine_mem_plan(e);
    CHECK_EQ(plan->devices_count, 4);
    uint32_t layers = 0;
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(host.memory(i).asked_now, plan->devices[i].bytes);
        layers += plan->devices[i].layers;
        CHECK_EQ(plan->devices[i].layers, 2); /* as many are free on each */
    }
    CHECK_EQ(layers, 8);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    for (uint32_t i = 0; i < 4; i++) CHECK_EQ(host.memory(i).asked_peak, plan->devices[i].bytes);
    engine_report(e, &report);
    CHECK_STR(report.what, "cuda sm_75 x4");
    CHECK_STR(plan->device, "Tesla T4 x4");
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

#define MIB(gpu, more) "{\"memory_mib\":" #gpu ",\"context_mib\":8" more "}"

TEST(gpus_get_layers_by_what_is_free_on_them) {
    HOST_MACHINE("{\"gpus\":[" MIB(64, "") "," MIB(256, ",\"preset\":\"a10\"") "]}");
    model *m = rig_open_model("synth:deep:f32");
    mem_plan plan;
    engine *e = NULL;
    backend_report report;
    engine_options opt = options_of(2);
    opt.seats = 1;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    plan = *engine_mem_plan(e);
    CHECK_EQ(plan.cuts.count, 0);
    CHECK(plan.devices[0].layers == 1 && plan.devices[1].layers == 7);
    CHECK_STR(plan.device, "Tesla T4, NVIDIA A10");
    engine_report(e, &report);
    CHECK_STR(report.what, "cuda sm_75 + sm_86");
    engine_close(e);
    model_close(m);
}

/* Cards with room for some layers and not for all. */
static engine_options limited(const model *m, uint32_t layers, uint32_t count) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F32, 64);
    mem_plan plan;
    opt.rows_max = opt.taken_rows_max = 2 * TOKENS;
    opt.seats = 1;
    opt.device_layers = layers;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    opt = options_of(count);
    opt.seats = opt.devices_min = 1;
    opt.device_bytes_max = plan.device_bytes * 100 / 95 + 1;
    return opt;
}

static void check_cuts(const model *m, const engine_options *opt, const char *want) {
    mem_plan plan;
    char text[MEM_CUTS_TEXT_BYTES];
    error err = {0};
    CHECK_EQ(engine_plan(m, opt, &plan, &err), OK);
    CHECK_STR(err.msg, "");
    mem_cuts_text(&plan.cuts, text);
    CHECK_STR(text, want);
    for (uint32_t i = 0; i < plan.devices_count; i++)
        CHECK(plan.devices[i].bytes <= opt->device_bytes_max);
}

TEST(gpus_are_taken_as_few_as_are_needed) {
    HOST_MACHINE(WITHOUT_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    engine_options opt = limited(m, 0, 4);
    check_cuts(m, &opt, "");
    opt = limited(m, 5, 4);
    check_cuts(m, &opt, "gpus 1 -> 2");
    opt = limited(m, 3, 4);
    check_cuts(m, &opt, "gpus 1 -> 3");
    opt = limited(m, 3, 2);
    opt.may_split = true;
    check_cuts(m, &opt, "gpus 1 -> 2, gpu_layers 8 -> 6");
    mem_plan plan;
    error err = {0};
    opt.may_split = false;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "may be taken of GPU ");
    CHECK_HAS(err.msg, "after gpus 1 -> 2");
    model_close(m);
}

/* The first is asked by the plan that is too large, and by those of several; then the second. */
static void refuse_context(uint64_t at, int result) {
    host.fault_add("cuDevicePrimaryCtxRetain", NULL, at, result);
}

/* Another program has it for itself, or a context has no room there. */
TEST(gpus_that_cannot_be_asked_are_not_used) {
    static const int results[] = {CU_DEVICE_UNAVAILABLE, CU_OUT_OF_MEMORY};
    HOST_MACHINE(WITHOUT_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    log_set_level(LOG_OFF);
    for (size_t i = 0; i < 2; i++) {
        mem_plan plan;
        error err = {0};
        engine_options opt = limited(m, 5, 3);
        refuse_context(3, results[i]);
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(plan.devices_count, 2);
        CHECK_STR(plan.devices[1].place, "GPU 2 'Tesla T4'");
        opt.devices_count = 2;
        refuse_context(3, results[i]);
        CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
        CHECK_HAS(err.msg, "of Tesla T4"); /* the first one is what is too small */
        opt.may_split = true;
        refuse_context(3, results[i]);
        check_cuts(m, &opt, "gpu_layers 8 -> 5");
        opt.devices_min = 2; /* named, it is an error */
        refuse_context(2, results[i]);
        CHECK(engine_plan(m, &opt, &plan, &err) != OK);
        CHECK_HAS(err.msg, "GPU 1 'Tesla T4' cannot be asked what is free");
    }
    log_set_level(LOG_INFO);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(gpus_of_a_ladder_compute) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    int32_t ids[TOKENS];
    engine_options opt = limited(m, 5, 2), one = options_of(1);
    mem_plan plan;
    opt.seats = one.seats;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.devices_count, 2);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    log_set_level(LOG_ERROR);
    float *got = rig_all_logits(m, &opt, ids, TOKENS, 5);
    float *want = rig_all_logits(m, &one, ids, TOKENS, TOKENS);
    log_set_level(LOG_INFO);
    CHECK(memcmp(got, want, TOKENS * (size_t)m->hparams.vocab * sizeof *got) == 0);
    free(got);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* Every allocation of opening fails once: then there is a new plan, and nothing is left over. */
TEST(gpus_that_cannot_be_opened_give_all_back) {
    HOST_MACHINE(WITH_WAYS);
    model *m = rig_open_model("synth:deep:q8_0");
    const engine_options opt = options_of(3);
    log_set_level(LOG_OFF);
    for (uint64_t at = 1; at <= 9; at++) {
        engine *e = NULL;
        host.fault_add("cuMemAlloc_v2", NULL, at, CU_OUT_OF_MEMORY);
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(engine_warm_up(e, NULL), OK);
        engine_close(e);
        CHECK_EQ(host.leaks(), 0);
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

/* --- faults -------------------- */

static engine *open_for_fault(const model *m) {
    engine *e = NULL;
    const engine_options opt = options_of(3);
    engine_row row = {.token = 1, .wants_logits = true};
    log_set_level(LOG_OFF);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 2, NULL), OK);
    CHECK(engine_step(e, &row, 1) != NULL && engine_fault(e) == NULL);
    return e;
}

static void check_fault(engine *e, const char *gpu) {
    const engine_row row = {.token = 1, .pos = 1, .wants_logits = true};
    CHECK(engine_step(e, &row, 1) == NULL);
    CHECK(engine_fault(e) != NULL);
    if (engine_fault(e) != NULL) CHECK_HAS(engine_fault(e)->msg, gpu);
    engine_close(e);
    log_set_level(LOG_INFO);
}

/* Three layers, three and two: the fourth attention of a step is the second GPU's. */
TEST(gpus_name_the_one_whose_kernel_failed) {
    static const char *const machines[] = {WITHOUT_WAYS, WITH_WAYS};
    for (size_t i = 0; i < 2; i++) {
        HOST_MACHINE(machines[i]);
        model *m = rig_open_model("synth:deep:q8_0");
        engine *e = open_for_fault(m);
        CHECK_EQ(engine_mem_plan(e)->devices[0].layers, 3);
        host.fault_add(NULL, "k_attention_f32_n2", 4, CU_ILLEGAL_ADDRESS);
        check_fault(e, "GPU 1 ");
        model_close(m);
    }
}

TEST(gpus_name_the_one_that_was_lost) {
    static const char *const machines[] = {WITHOUT_WAYS, WITH_WAYS};
    for (uint32_t i = 0; i < 6; i++) {
        char name[16];
        HOST_MACHINE(machines[i / 3]);
        model *m = rig_open_model("synth:deep:q8_0");
        engine *e = open_for_fault(m);
        host.lose_gpu(i % 3);
        (void)snprintf(name, sizeof name, "GPU %u ", i % 3);
        check_fault(e, name);
        model_close(m);
    }
}
