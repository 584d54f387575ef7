/* test_backend_elsewhere.c - the routed experts of some layers on the CPU, all else on the software
 * GPU. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "cudasim/host_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

enum { TOKENS = 12, SEATS = 5 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 2, CPU_ISA_AUTO};
static const rig_engine on_cpu = {"cpu", &backend_cpu, 2, CPU_ISA_AUTO};

static engine_options options(uint32_t host_experts) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F32, 64);
    opt.rows_max = opt.taken_rows_max = 2 * TOKENS;
    opt.host_experts = host_experts;
    return opt;
}

/* --- memory -------------------- */

/* The device gets what it has beside the experts, the host copies of these. */
TEST(elsewhere_takes_what_it_planned_of_either_memory) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    model *m = rig_open_oracle("mixtral", "Q8_0");
    mem_plan all, plan;
    engine *e = NULL;
    double last = 0;
    backend_report report;
    engine_options opt = options(0);
    CHECK_EQ(engine_plan(m, &opt, &all, NULL), OK);
    CHECK(all.host_experts == 0 && all.host_experts_bytes == 0);
    opt.host_experts = 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.on_device && plan.host_experts == 1 && plan.cuts.count == 0);
    CHECK_EQ(plan.device_layers, m->hparams.layers);
    CHECK_EQ(plan.kv_bytes, all.kv_bytes);
    CHECK(plan.device_weights_bytes < all.device_weights_bytes);
    CHECK(plan.device_bytes < all.device_bytes && plan.pinned_bytes > all.pinned_bytes);
    CHECK(plan.repacked_bytes > 0 && plan.host_experts_bytes > plan.repacked_bytes);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(host.memory(0).asked_now, plan.device_bytes);
    CHECK_EQ(engine_load(e, &(backend_progress){rig_tell_share, &last}, NULL), OK);
    CHECK(last == 1);
    CHECK(engine_runs_ahead(e));
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    CHECK_EQ(host.memory(0).asked_peak, plan.device_bytes);
    engine_report(e, &report);
    CHECK(strncmp(report.what, "cuda sm_75 + cpu ", 17) == 0);
    CHECK_HAS(report.what, " experts");
    engine_close(e);
    opt.host_experts = UINT32_MAX; /* all */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.host_experts, m->hparams.layers);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* What the CPU computes from as it is stored is in memory when loading has ended, be it experts or
 * whole layers; all that loading tells of is one way from nothing to the end. */
TEST(elsewhere_reads_ahead_what_has_no_copy) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    model *m = rig_open_oracle("mixtral", "f32");
    for (uint32_t whole = 0; m != NULL && whole < 2; whole++) {
        engine *e = NULL;
        double last = 0;
        engine_options opt = options(whole == 0 ? 1 : 0);
        opt.device_layers = whole;
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK(engine_mem_plan(e)->repacked_bytes == 0);
        rig_experts_forget(m, 0);
        CHECK(rig_experts_missing(m, 0) > 0);
        CHECK_EQ(engine_load(e, &(backend_progress){rig_tell_share, &last}, NULL), OK);
        CHECK(last == 1);
        CHECK_EQ(rig_experts_missing(m, 0), 0);
        engine_close(e);
    }
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(elsewhere_wants_all_layers_on_devices) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    model *m = rig_open_oracle("mixtral", "Q8_0");
    mem_plan plan;
    error err = {0};
    engine_options opt = options(1);
    opt.device_layers = 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "experts of 1 layers on the CPU, and 1 of 2 layers on GPUs");
    model_close(m);
}

/* --- the numbers -------------------- */

/* Token by token and in chunks, with the experts of one layer moved and with all. */
static void check_model(const char *name, const char *type, double nmse_max) {
    int32_t ids[TOKENS];
    model *m = rig_open_oracle(name, type);
    if (m == NULL) return;
    const size_t count = TOKENS * (size_t)m->hparams.vocab;
    const engine_options ref = rig_options(&rig_engines[0], DTYPE_F32, 64);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *want = rig_all_logits(m, &ref, ids, TOKENS, TOKENS);
    for (uint32_t layers = 1; layers <= 2; layers++) {
        const engine_options opt = options(layers == 1 ? 1 : UINT32_MAX);
        float *whole = rig_all_logits(m, &opt, ids, TOKENS, TOKENS);
        float *single = rig_all_logits(m, &opt, ids, TOKENS, 1);
        const double nmse = want != NULL && whole != NULL ? rig_nmse(whole, want, count) : 1;
        if (!(nmse <= nmse_max))
            (void)fprintf(stderr, "%s %s, %u: nmse %g\n", name, type, layers, nmse);
        CHECK(nmse <= nmse_max);
        CHECK(whole != NULL && single != NULL && memcmp(whole, single, count * sizeof *whole) == 0);
        free(whole);
        free(single);
    }
    CHECK(host.calls("cuLaunchHostFunc") > 0);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(elsewhere_every_shape_of_experts_is_near_the_reference) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    check_model("mixtral", "f32", 1e-9);
    check_model("gpt-oss", "f32", 1e-9);
#ifndef __SANITIZE_THREAD__
    check_model("qwen3moe", "f32", 1e-9);
    check_model("qwen2moe", "f32", 1e-9);
    check_model("deepseek2", "f32", 1e-9);
    check_model("gpt-oss", "MXFP4", 1e-3);
    check_model("mixtral", "Q8_0", 1e-3);
#endif
}

/* Logits [SEATS, TOKENS, vocab] of some sequences at a time, one token of each to a step. */
static float *crowd(const model *m, const engine_options *opt, uint32_t together) {
    const size_t each = (size_t)TOKENS * m->hparams.vocab;
    int32_t ids[SEATS][TOKENS];
    rig_sequence list[SEATS];
    engine *e = NULL;
    float *logits = calloc(SEATS * each, sizeof *logits);
    for (uint32_t s = 0; s < SEATS; s++) {
        rig_fill_ids(ids[s], TOKENS, m->hparams.vocab, s);
        list[s] =
            (rig_sequence){.ids = ids[s], .count = TOKENS, .seat = s, .logits = logits + s * each};
    }
    CHECK_EQ(engine_open(&e, m, opt, NULL), OK);
    for (uint32_t s = 0; e != NULL && s < SEATS; s += together)
        for (uint32_t i = 0; i < TOKENS; i++) rig_advance(e, list + s, together, 1);
    engine_close(e);
    return logits;
}

/* Kernels may start early (H100), but neither a step's first one nor the one behind the call of the
 * host. */
static void check_early(void) {
    const uint64_t early = host.early_launches(NULL);
    if (early > 0) CHECK_EQ(host.launches(NULL) - early, 2 * SEATS * TOKENS);
}

/* A graph for up to 8 rows plays for 5, and the call of the host is a node of it.  Streams that run
 * when they are waited for find copies that come too early. */
TEST(elsewhere_gives_each_sequence_its_bits_in_a_crowd_and_in_graphs) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    static const char *const machines[] = {
        "t4", "{\"gpus\":[{\"preset\":\"h100\"}],\"streams\":\"deferred\",\"seed\":7}",
        "{\"gpus\":[{\"preset\":\"t4\"}],\"streams\":\"random\",\"seed\":11}"};
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        HOST_MACHINE(machines[i]);
        model *m = rig_open_oracle("mixtral", "Q8_0");
        if (m == NULL) return;
        const size_t bytes = (size_t)SEATS * TOKENS * m->hparams.vocab * sizeof(float);
        engine_options opt = options(1);
        opt.no_graphs = true;
        float *alone = crowd(m, &opt, 1);
        CHECK_EQ(host.calls("cuGraphLaunch"), 0);
        check_early();
        opt.no_graphs = false;
        float *together = crowd(m, &opt, SEATS);
        CHECK(host.calls("cuGraphLaunch") > 0);
        CHECK(memcmp(alone, together, bytes) == 0);
        free(alone);
        free(together);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* In mode fast the rows of prompts are rounded on either side, generated ones are as ever. */
TEST(elsewhere_rounds_prompts_in_mode_fast_only) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    int32_t ids[TOKENS];
    model *m = rig_open_oracle("mixtral", "Q8_0");
    if (m == NULL) return;
    const size_t count = TOKENS * (size_t)m->hparams.vocab;
    engine_options opt = options(UINT32_MAX);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *exact = rig_all_logits(m, &opt, ids, TOKENS, TOKENS);
    opt.fast = true;
    float *fast = rig_all_logits(m, &opt, ids, TOKENS, TOKENS);
    float *chunks = rig_all_logits(m, &opt, ids, TOKENS, 5);
    CHECK(memcmp(fast, exact, count * sizeof *fast) != 0);
    CHECK(memcmp(fast, chunks, count * sizeof *fast) == 0);
    CHECK(rig_nmse(fast, exact, count) < 1e-3);
    free(exact);
    free(fast);
    free(chunks);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- steps ahead -------------------- */

/* A prompt's logits, with a token of another sequence computed behind it, or queued there. */
static float *prompt_before_token(const model *m, const engine_options *opt, bool ahead) {
    const size_t each = m->hparams.vocab;
    engine_row rows[TOKENS] = {0}, next = {.token = 9, .seat = 1, .wants_best = true};
    engine *e = NULL;
    float *logits = calloc(TOKENS * each, sizeof *logits);
    for (uint32_t i = 0; i < TOKENS; i++)
        rows[i] = (engine_row){
            .token = (int32_t)(7 * i + 3), .pos = i, .prompt = true, .wants_logits = true};
    CHECK_EQ(engine_open(&e, m, opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, TOKENS, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 1, 1, NULL), OK);
    if (ahead) {
        engine_begin(e, rows, TOKENS);
        engine_begin(e, &next, 1);
    }
    const float *got = ahead ? engine_end(e) : engine_step(e, rows, TOKENS);
    if (got != NULL) memcpy(logits, got, TOKENS * each * sizeof *logits);
    if (ahead) (void)engine_end(e);
    CHECK(got != NULL && engine_fault(e) == NULL);
    engine_close(e);
    return logits;
}

/* How many rows a step has, and which are of prompts, is another step's soon. */
TEST(elsewhere_keeps_what_it_knows_of_a_step_while_the_next_one_is_queued) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("{\"gpus\":[{\"preset\":\"t4\"}],\"streams\":\"deferred\",\"seed\":7}");
    model *m = rig_open_oracle("mixtral", "Q8_0");
    if (m == NULL) return;
    const size_t bytes = TOKENS * (size_t)m->hparams.vocab * sizeof(float);
    engine_options opt = options(UINT32_MAX);
    float *exact = prompt_before_token(m, &opt, false);
    opt.fast = true;
    float *want = prompt_before_token(m, &opt, false);
    float *got = prompt_before_token(m, &opt, true);
    CHECK(memcmp(exact, want, bytes) != 0);
    CHECK(memcmp(want, got, bytes) == 0);
    free(exact);
    free(want);
    free(got);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- several devices -------------------- */

/* Used are as many as there are, or where memory is short. */
static engine_options on_devices(engine_options opt, uint32_t least) {
    opt.devices_count = 2;
    opt.devices_min = least;
    opt.devices[0] = "0";
    opt.devices[1] = "1";
    return opt;
}

/* One after the other and in micro-batches, in which the host is called by both at a time. */
TEST(elsewhere_gives_two_devices_the_bits_of_one) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    int32_t ids[TOKENS];
#ifdef __SANITIZE_THREAD__
    const uint32_t first = 3;
#else
    const uint32_t first = 0;
#endif
    for (uint32_t i = first; i < 4; i++) {
        HOST_MACHINE(i < 2 ? "{\"gpus\":[{\"preset\":\"t4\"},{}],\"streams\":\"random\",\"seed\":3}"
                           : "{\"gpus\":[{},{}],\"p2p\":[[0,1]]}");
        model *m = rig_open_oracle("mixtral", i < 2 ? "Q8_0" : "f32");
        if (m == NULL) return;
        const size_t bytes = TOKENS * (size_t)m->hparams.vocab * sizeof(float);
        const engine_options one = options(1 + i % 2);
        engine_options two = on_devices(one, 2);
        mem_plan plan;
        CHECK_EQ(engine_plan(m, &two, &plan, NULL), OK);
        CHECK(plan.devices_count == 2 && plan.host_experts == 1 + i % 2);
        rig_fill_ids(ids, TOKENS, m->hparams.vocab, i);
        float *want = rig_all_logits(m, &one, ids, TOKENS, TOKENS);
        float *in_turn = rig_all_logits(m, &two, ids, TOKENS, 5);
        const uint64_t calls = host.calls("cuLaunchHostFunc");
        two.micro_rows = 2;
        float *micro = rig_all_logits(m, &two, ids, TOKENS, TOKENS);
        CHECK(memcmp(want, in_turn, bytes) == 0);
        CHECK(memcmp(want, micro, bytes) == 0);
        CHECK_EQ(host.calls("cuLaunchHostFunc") - calls, 4 * (1 + i % 2)); /* micro-batches */
        free(want);
        free(in_turn);
        free(micro);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* One pool of threads, one plan and one part of the profile for the experts of both. */
TEST(elsewhere_is_one_place_for_two_devices) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4,t4");
    model *m = rig_open_oracle("mixtral", "Q8_0");
    if (m == NULL) return;
    const engine_options one = options(UINT32_MAX), opt = on_devices(one, 2);
    mem_plan alone, plan;
    engine *e = NULL;
    double last = 0;
    backend_report report;
    backend_profile parts[BACKEND_PARTS_MAX];
    CHECK_EQ(engine_plan(m, &one, &alone, NULL), OK);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    plan = *engine_mem_plan(e);
    CHECK_EQ(plan.host_experts_bytes, alone.host_experts_bytes);
    CHECK_EQ(plan.repacked_bytes, alone.repacked_bytes);
    CHECK_EQ(host.memory(0).asked_now + host.memory(1).asked_now, plan.device_bytes);
    CHECK_EQ(engine_load(e, &(backend_progress){rig_tell_share, &last}, NULL), OK);
    CHECK(last == 1);
    CHECK_EQ(engine_profile_switch(e, true, NULL), OK);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    CHECK_EQ(engine_profiled(e, parts), 3);
    CHECK_STR(parts[1].where, "cuda sm_75 (2 of 2)");
    CHECK(strncmp(parts[2].where, "cpu ", 4) == 0 && parts[2].ns > 0);
    engine_report(e, &report);
    CHECK(strncmp(report.what, "cuda sm_75 x2 + cpu ", 20) == 0);
    CHECK_HAS(report.what, " experts");
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A GPU is lost, and the other one has micro-batches on their way. */
TEST(elsewhere_tells_of_a_fault_of_one_of_two_devices) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    model *m = rig_open_oracle("mixtral", "f32");
    if (m == NULL) return;
    log_set_level(LOG_OFF);
    for (int lost = 0; lost < 2; lost++) {
        HOST_MACHINE("t4,t4");
        engine_options opt = on_devices(options(UINT32_MAX), 2);
        engine_row rows[TOKENS] = {0};
        engine *e = NULL;
        error err = {0};
        opt.micro_rows = 2;
        for (uint32_t i = 0; i < TOKENS; i++)
            rows[i] = (engine_row){.token = 1, .pos = i, .prompt = true, .wants_logits = true};
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(engine_warm_up(e, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(e), 0, TOKENS, NULL), OK);
        host.lose_gpu(lost);
        CHECK(engine_step(e, rows, TOKENS) == NULL);
        CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
        CHECK_HAS(err.msg, lost == 0 ? "GPU 0" : "GPU 1");
        engine_close(e);
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

/* --- profiles -------------------- */

/* The ways there and back are tasks of the GPU, the experts those of the CPU: each op of each part
 * in one. */
TEST(elsewhere_is_profiled_in_two_parts) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    model *m = rig_open_oracle("mixtral", "Q8_0");
    if (m == NULL) return;
    engine *e = NULL;
    const engine_options opt = options(1);
    backend_profile parts[BACKEND_PARTS_MAX];
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    CHECK_EQ(engine_profile_switch(e, true, NULL), OK);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    CHECK_EQ(engine_profiled(e, parts), 2);
    CHECK_STR(parts[0].where, "cuda sm_75");
    CHECK(strncmp(parts[1].where, "cpu ", 4) == 0);
    CHECK(parts[0].ns > 0 && parts[1].ns > 0);
    uint32_t ways = 0, experts = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < parts[0].count; i++)
        ways += parts[0].tasks[i].ran && strcmp(parts[0].tasks[i].name, "to the CPU and back") == 0;
    for (uint32_t i = 0; i < parts[1].count; i++) {
        if (strcmp(parts[1].tasks[i].name, "EXPERTS") != 0) continue;
        experts++;
        bytes += parts[1].tasks[i].work.weight_bytes;
    }
    CHECK_EQ(ways, 1);
    CHECK_EQ(experts, 3); /* gate, up, down */
    CHECK(bytes > 0);
    for (uint32_t p = 0; p < 2; p++) {
        uint32_t ops = 0;
        for (uint32_t i = 0; i < parts[p].count; i++)
            ops += parts[p].tasks[i].ran ? parts[p].tasks[i].ops_count : 0;
        CHECK_EQ(ops, parts[p].p->ops_count);
    }
    CHECK_EQ(engine_profile_switch(e, false, NULL), OK);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- when memory is short -------------------- */

/* Of a device that has room for all but the experts of so many layers, and one sequence's cache. */
static engine_options limited(const model *m, uint32_t layers) {
    engine_options opt = options(layers);
    mem_plan plan;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    opt.kv_bytes_max = plan.kv_bytes / opt.seats;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    opt.host_experts = 0;
    opt.device_bytes_max = plan.device_bytes;
    return opt;
}

TEST(elsewhere_is_a_rung_before_layers) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    int32_t ids[TOKENS];
    char text[MEM_CUTS_TEXT_BYTES];
    model *m = rig_open_oracle("mixtral", "f32");
    if (m == NULL) return;
    const uint32_t all = m->hparams.layers;
    engine_options opt = limited(m, all - 1);
    const engine_options asked = options(all - 1);
    mem_plan plan;
    error err = {0};
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    opt.may_split = true;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    CHECK(plan.host_experts == 0 && plan.device_layers < all);
    opt.may_move_experts = true;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    mem_cuts_text(&plan.cuts, text);
    char want_text[64];
    (void)snprintf(want_text, sizeof want_text, "gpu_experts %u -> 1, kv", all);
    CHECK_HAS(text, want_text);
    CHECK_EQ(plan.host_experts, all - 1);
    CHECK_EQ(plan.device_layers, all);
    CHECK(plan.device_bytes <= opt.device_bytes_max);
    log_set_level(LOG_ERROR);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *got = rig_all_logits(m, &opt, ids, TOKENS, 5);
    float *want = rig_all_logits(m, &asked, ids, TOKENS, TOKENS);
    log_set_level(LOG_INFO);
    CHECK(got != NULL && want != NULL &&
          memcmp(got, want, TOKENS * (size_t)m->hparams.vocab * sizeof *got) == 0);
    opt.device_bytes_max = 1 << 16; /* nothing helps */
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK(strstr(err.msg, "gpu_experts") == NULL);
    free(got);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A second device before experts that leave the first, and these before whole layers. */
TEST(elsewhere_is_a_rung_behind_further_devices) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4,t4");
    char text[MEM_CUTS_TEXT_BYTES];
    model *m = rig_open_oracle("mixtral", "f32");
    if (m == NULL) return;
    mem_plan plan;
    error err = {0};
    engine_options opt = on_devices(options(UINT32_MAX), 2);
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    opt = on_devices(options(0), 1);
    opt.device_bytes_max = num_max_u64(plan.devices[0].bytes, plan.devices[1].bytes);
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    opt.may_move_experts = opt.may_split = true;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    mem_cuts_text(&plan.cuts, text);
    CHECK_HAS(text, "gpus 1 -> 2");
    CHECK_HAS(text, "gpu_experts 2 -> 0");
    CHECK_EQ(plan.device_layers, m->hparams.layers);
    opt.device_bytes_max *= 64;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    CHECK(plan.cuts.count == 0 && plan.devices_count == 1);
    model_close(m);
}

/* Too few were asked for: more, or else whole layers; unless neither may be. */
TEST(elsewhere_goes_on_from_what_was_asked_for) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    model *m = rig_open_oracle("mixtral", "f32");
    if (m == NULL) return;
    const uint32_t all = m->hparams.layers;
    char text[MEM_CUTS_TEXT_BYTES];
    engine_options opt = limited(m, all);
    mem_plan plan;
    error err = {0};
    opt.host_experts = 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "more --cpu-moe-layers");
    opt.may_move_experts = opt.may_split = true;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    mem_cuts_text(&plan.cuts, text);
    CHECK_HAS(text, "gpu_experts 1 -> 0");
    CHECK_EQ(plan.host_experts, all);
    opt = limited(m, 1);
    opt.host_experts = 1;
    opt.device_bytes_max--;
    opt.may_split = true;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    mem_cuts_text(&plan.cuts, text);
    CHECK_HAS(text, "gpu_layers 2 -> 1");
    CHECK(strstr(text, "gpu_experts") == NULL);
    CHECK_EQ(plan.host_experts, 0);
    model_close(m);
}

/* --- faults -------------------- */

/* Before the experts, behind them, of the call itself, and of a card that is gone. */
TEST(elsewhere_tells_of_a_fault_of_its_device) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    static const struct {
        const char *call, *kernel;
        cu_result result;
    } faults[] = {{NULL, "k_route", CU_ILLEGAL_ADDRESS},
                  {NULL, "k_embed", CU_LAUNCH_FAILED},
                  {"cuLaunchHostFunc", NULL, CU_LAUNCH_FAILED},
                  {"cuEventSynchronize", NULL, CU_ECC_UNCORRECTABLE},
                  {NULL, NULL, CU_UNKNOWN}};
    HOST_MACHINE("t4");
    model *m = rig_open_oracle("mixtral", "f32");
    if (m == NULL) return;
    log_set_level(LOG_OFF);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        engine *e = NULL;
        error err = {0};
        engine_options opt = options(1);
        opt.no_graphs = true;
        engine_row row = {.token = 1, .wants_logits = true};
        CHECK(host_machine("t4"));
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 2, NULL), OK);
        CHECK(engine_step(e, &row, 1) != NULL && engine_fault(e) == NULL);
        if (faults[i].call == NULL && faults[i].kernel == NULL)
            host.lose_gpu(0);
        else
            host.fault_add(faults[i].call, faults[i].kernel, 1, faults[i].result);
        row.pos = 1;
        CHECK(engine_step(e, &row, 1) == NULL);
        CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
        CHECK_HAS(err.msg, "GPU 0 'Tesla T4'");
        engine_close(e);
    }
    log_set_level(LOG_INFO);
    model_close(m);
}

/* --- beside adapters -------------------- */

/* The CPU alone and the GPU with all experts elsewhere agree but for what is rounded. */
TEST(elsewhere_agrees_with_the_cpu_alone) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    int32_t ids[TOKENS];
    model *m = rig_open_oracle("qwen3moe", "f32");
    if (m == NULL) return;
    const engine_options cpu = rig_options(&on_cpu, DTYPE_F32, 64), opt = options(UINT32_MAX);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 3);
    float *want = rig_all_logits(m, &cpu, ids, TOKENS, TOKENS);
    float *got = rig_all_logits(m, &opt, ids, TOKENS, 4);
    CHECK(rig_nmse(got, want, TOKENS * (size_t)m->hparams.vocab) < 1e-9);
    free(got);
    free(want);
    model_close(m);
}
