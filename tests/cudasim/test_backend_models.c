/* test_backend_models.c - whole models on backend_cuda through the engine: the numbers, and that a
 * row's bits depend neither on its neighbours nor on how the GPU's streams are served. */
#include <stdlib.h>
#include <string.h>

#include "cudasim/host_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

enum { TOKENS = 24, VOCAB_MAX = 1024 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

/* --- models -------------------- */

static engine_options options_on(const rig_engine *e, dtype kv_type) {
    engine_options opt = rig_options(e, kv_type, 64);
    opt.rows_max = opt.taken_rows_max = 2 * TOKENS;
    return opt;
}

/* --- the numbers -------------------- */

/* Logits, or of an encoder the hidden states, on cuda and on ref. */
static void check_numbers(const model *m, const char *name, dtype kv_type, double nmse_max) {
    int32_t ids[TOKENS];
    const engine_options cuda = options_on(&on_cuda, kv_type);
    const engine_options ref = options_on(&rig_engines[0], kv_type);
    const bool encoder = m->hparams.is_encoder;
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    float *got = (encoder ? rig_all_hidden : rig_all_logits)(m, &cuda, ids, TOKENS, TOKENS);
    float *want = (encoder ? rig_all_hidden : rig_all_logits)(m, &ref, ids, TOKENS, TOKENS);
    const size_t cols = encoder ? m->hparams.n_embd : m->hparams.vocab;
    const double nmse = got != NULL ? rig_nmse(got, want, TOKENS * cols) : 0;
    if (!(nmse <= nmse_max))
        (void)fprintf(stderr, "%s, %s KV: nmse %g, at most %g\n", name, dtype_name(kv_type), nmse,
                      nmse_max);
    CHECK(nmse <= nmse_max);
    free(got);
    free(want);
    CHECK_EQ(host.leaks(), 0);
}

/* Races are found by the tests of ops, which have every kernel, in a tenth of the time. */
#ifdef __SANITIZE_THREAD__
#define SKIP_UNDER_TSAN SKIP("ThreadSanitizer is slow, and the tests of ops have every kernel")
#else
#define SKIP_UNDER_TSAN (void)0
#endif

TEST(cuda_model_of_every_form_is_near_the_reference) {
    static const struct {
        const char *path;
        double nmse_max;
    } cases[] = {
        {"synth:tiny:f32", 1e-10},    {"synth:tiny:f16", 1e-10}, {"synth:tiny:bf16", 1e-10},
        {"synth:tiny:q8_0", 1e-3},    {"synth:tiny:q4_0", 1e-3}, {"synth:small:q4_k_m", 1e-3},
        {"synth:small:q5_k_m", 1e-3}, {"synth:tiny:q5_1", 1e-6},
    };
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model *m = rig_open_model(cases[i].path);
        if (m == NULL) continue;
        check_numbers(m, cases[i].path, i % 2 == 0 ? DTYPE_F32 : DTYPE_F16, cases[i].nmse_max);
        model_close(m);
    }
}

/* A number next to the border of two codes may fall on the other side of it. */
TEST(cuda_model_with_a_cache_of_8_bits_is_near_the_reference) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:small:f32");
    if (m != NULL) check_numbers(m, "small", DTYPE_Q8_0, 1e-6);
    model_close(m);
}

TEST(cuda_model_of_every_family_is_near_the_reference) {
    SKIP_UNDER_TSAN;
    static const char *const families[] = {
        "bert",     "command-r", "deepseek", "deepseek2",       "falcon",   "gemma",
        "gemma2",   "gemma3",    "glm4",     "gpt-oss",         "gpt2",     "granite",
        "mamba",    "mixtral",   "mpt",      "llama-attn-bias", "olmo2",    "phi3-longrope",
        "qwen2",    "qwen2moe",  "qwen3",    "qwen3moe",        "stablelm", "starcoder2",
        "llama-mha"};
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        model *m = rig_open_oracle(families[i], "f32");
        if (m == NULL) continue;
        check_numbers(m, families[i], DTYPE_F32, 1e-9);
        model_close(m);
    }
}

/* --- the bits -------------------- */

/* Chunks of every size, the first alone, the others beside a second sequence. */
static void check_bits(const model *m, const char *name) {
    static const uint32_t chunks[] = {TOKENS, 5, 1};
    int32_t ids[TOKENS], other[TOKENS];
    engine_options opt = options_on(&on_cuda, DTYPE_F16);
    engine *e = NULL;
    const size_t count = (size_t)TOKENS * m->hparams.vocab;
    float *want = calloc(count, sizeof *want), *got = calloc(count, sizeof *got);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    for (uint32_t i = 0; i < TOKENS; i++) other[i] = ids[TOKENS - 1 - i];
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    for (uint32_t i = 0; e != NULL && i < 3; i++) {
        rig_sequence list[] = {{.ids = ids, .count = TOKENS, .seat = 5, .logits = got},
                               {.ids = other, .count = TOKENS, .seat = 2}};
        while (list[0].done < TOKENS) rig_advance(e, list, i == 0 ? 1 : 2, chunks[i]);
        kv_seat_clear(engine_kv(e), 5);
        kv_seat_clear(engine_kv(e), 2);
        if (i == 0) memcpy(want, got, count * sizeof *got);
        const bool same = memcmp(got, want, count * sizeof *got) == 0;
        if (!same) (void)fprintf(stderr, "%s: chunks of %u differ\n", name, chunks[i]);
        CHECK(same);
    }
    engine_close(e);
    free(want);
    free(got);
}

TEST(cuda_rows_do_not_depend_on_the_batch) {
    static const char *const paths[] = {"synth:tiny:f32", "synth:tiny:q8_0", "synth:small:q4_k_m"};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < 3; i++) {
        model *m = rig_open_model(paths[i]);
        if (m != NULL) check_bits(m, paths[i]);
        model_close(m);
    }
}

TEST(cuda_rows_of_families_do_not_depend_on_the_batch) {
    SKIP_UNDER_TSAN;
    static const char *const families[] = {"mamba", "deepseek2", "gpt-oss", "gemma3"};
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    for (size_t i = 0; i < 4; i++) {
        model *m = rig_open_oracle(families[i], "f32");
        if (m != NULL) check_bits(m, families[i]);
        model_close(m);
    }
}

TEST(cuda_streams_may_be_late_or_in_any_order) {
    static const char *const machines[] = {
        "t4", "{\"streams\":\"deferred\"}", "{\"streams\":\"random\",\"seed\":3}",
        "{\"gpus\":[{\"preset\":\"h100\"}],\"threads\":\"shuffled\",\"seed\":7}"};
    float *want = NULL;
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q4_0");
    if (m == NULL) return;
    int32_t ids[TOKENS];
    const engine_options opt = options_on(&on_cuda, DTYPE_F16);
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    for (size_t i = 0; i < 4; i++) {
        CHECK(host_machine(machines[i]));
        float *got = rig_all_logits(m, &opt, ids, TOKENS, 7);
        if (want == NULL) want = got;
        CHECK(got != NULL &&
              memcmp(got, want, (size_t)TOKENS * m->hparams.vocab * sizeof *got) == 0);
        if (got != want) free(got);
        CHECK_EQ(host.leaks(), 0);
    }
    free(want);
    model_close(m);
}
