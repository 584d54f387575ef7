/* test_backend_split.c - the first layers on the CPU, the others on the software GPU. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cudasim/host_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

enum { TOKENS = 12 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 2, CPU_ISA_AUTO};

static engine_options split_options(uint32_t device_layers) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F32, 64);
    opt.rows_max = opt.taken_rows_max = 2 * TOKENS;
    opt.device_layers = device_layers;
    return opt;
}

/* --- memory -------------------- */

TEST(split_takes_what_it_planned_of_either_memory) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:small:q8_0");
    mem_plan all, plan;
    engine *e = NULL;
    double last = 0;
    backend_report report;
    engine_options opt = split_options(0);
    CHECK_EQ(engine_plan(m, &opt, &all, NULL), OK);
    CHECK_EQ(all.device_layers, 2);
    opt.device_layers = 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.on_device && plan.device_layers == 1 && plan.cuts.count == 0);
    CHECK_EQ(plan.kv_bytes, all.kv_bytes);
    CHECK(plan.device_weights_bytes < all.device_weights_bytes);
    CHECK(plan.device_bytes < all.device_bytes - all.kv_bytes / 2);
    CHECK(plan.untouched_bytes >= plan.kv_bytes / 2 && all.untouched_bytes == 0);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(host.memory(0).asked_now, plan.device_bytes);
    CHECK_EQ(engine_load(e, &(backend_progress){rig_tell_share, &last}, NULL), OK);
    CHECK(last == 1);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    CHECK_EQ(host.memory(0).asked_peak, plan.device_bytes);
    engine_report(e, &report);
    CHECK(strncmp(report.what, "cuda sm_75 + cpu ", 17) == 0);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(split_keeps_keys_and_values_in_8_bits_in_either_memory) {
    HOST_MACHINE("t4");
    int32_t ids[TOKENS];
    model *m = rig_open_model("synth:small:f32");
    engine_options opt = split_options(1);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *want = rig_all_logits(m, &opt, ids, TOKENS, TOKENS);
    opt.kv_type = DTYPE_Q8_0;
    float *got = rig_all_logits(m, &opt, ids, TOKENS, 5);
    const double nmse = rig_nmse(got, want, TOKENS * (size_t)m->hparams.vocab);
    CHECK(nmse > 0 && nmse < 1e-4);
    free(got);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(split_asked_for_all_layers_is_none) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:f32");
    mem_plan plan, all;
    engine_options opt = split_options(0);
    CHECK_EQ(engine_plan(m, &opt, &all, NULL), OK);
    opt.device_layers = 99;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.device_layers == 2 && plan.device_bytes == all.device_bytes);
    model_close(m);
}

/* --- the numbers -------------------- */

/* Token by token and in chunks, so that caches and states of both parts are used. */
static void check_split(const model *m, const char *name, uint32_t device_layers) {
    int32_t ids[TOKENS];
    const bool encoder = m->hparams.is_encoder;
    const size_t count = TOKENS * (size_t)(encoder ? m->hparams.n_embd : m->hparams.vocab);
    const engine_options split = split_options(device_layers);
    engine_options ref = rig_options(&rig_engines[0], DTYPE_F32, 64);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *want = (encoder ? rig_all_hidden : rig_all_logits)(m, &ref, ids, TOKENS, TOKENS);
    for (uint32_t chunk = encoder ? TOKENS : 1; chunk <= TOKENS; chunk += 11) {
        float *got = (encoder ? rig_all_hidden : rig_all_logits)(m, &split, ids, TOKENS, chunk);
        const double nmse = got != NULL && want != NULL ? rig_nmse(got, want, count) : 1;
        if (!(nmse <= 1e-9))
            (void)fprintf(stderr, "%s, %u layers on the GPU, chunks of %u: nmse %g\n", name,
                          device_layers, chunk, nmse);
        CHECK(nmse <= 1e-9);
        free(got);
    }
    free(want);
    CHECK_EQ(host.leaks(), 0);
}

TEST(split_computes_as_the_reference) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:f32");
    check_split(m, "tiny", 1);
    model_close(m);
}

/* One value crosses between the layers of every family: attention, experts, latent keys, states. */
TEST(split_of_every_family_is_near_the_reference) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the tests of ops have every kernel");
#endif
    static const char *const families[] = {"bert",    "command-r", "deepseek2", "falcon",
                                           "gemma3",  "gpt-oss",   "gpt2",      "mamba",
                                           "mixtral", "olmo2",     "qwen3moe",  "phi3-longrope"};
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        model *m = rig_open_oracle(families[i], "f32");
        if (m == NULL) continue;
        CHECK(m->hparams.layers > 1);
        check_split(m, families[i], m->hparams.layers - 1);
        model_close(m);
    }
}

/* --- when memory is short -------------------- */

/* A limit on the device that leaves room for one layer and not for two. */
static engine_options limited(const model *m) {
    engine_options opt = split_options(1);
    mem_plan plan;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    opt.device_layers = 0;
    opt.device_bytes_max = plan.device_bytes * 100 / 95 + 1;
    return opt;
}

TEST(split_is_the_last_rung_of_the_ladder) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:small:q8_0");
    mem_plan plan;
    error err = {0};
    char text[MEM_CUTS_TEXT_BYTES];
    engine_options opt = limited(m);
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "bytes");
    opt.may_split = true;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    mem_cuts_text(&plan.cuts, text);
    CHECK_STR(text, "gpu_layers 2 -> 1");
    CHECK(plan.device_bytes <= opt.device_bytes_max);
    CHECK_STR(plan.cuts.list[0].why.where, "Tesla T4");
    opt.device_bytes_max = 1 << 16; /* not even one */
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "after gpu_layers 2 -> 1");
    model_close(m);
}

TEST(split_of_a_ladder_computes) {
    HOST_MACHINE("t4");
    int32_t ids[TOKENS];
    model *m = rig_open_model("synth:small:q8_0");
    engine_options opt = limited(m);
    opt.may_split = true;
    log_set_level(LOG_ERROR);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *got = rig_all_logits(m, &opt, ids, TOKENS, 5);
    opt = split_options(1);
    float *want = rig_all_logits(m, &opt, ids, TOKENS, TOKENS);
    log_set_level(LOG_INFO);
    CHECK(got != NULL && want != NULL);
    /* exact numerics: no bit depends on the chunks */
    CHECK(memcmp(got, want, TOKENS * (size_t)m->hparams.vocab * sizeof *got) == 0);
    free(got);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- faults -------------------- */

TEST(split_tells_of_a_fault_of_its_device) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:f32");
    engine *e = NULL;
    const engine_options opt = split_options(1);
    engine_row row = {.token = 1, .wants_logits = true};
    log_set_level(LOG_OFF);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 2, NULL), OK);
    CHECK(engine_step(e, &row, 1) != NULL && engine_fault(e) == NULL);
    host.fault_add(NULL, "k_attention_f32_n2", 1, CU_ILLEGAL_ADDRESS);
    row.pos = 1;
    CHECK(engine_step(e, &row, 1) == NULL);
    CHECK(engine_fault(e) != NULL);
    engine_close(e);
    log_set_level(LOG_INFO);
    model_close(m);
}
