/* test_exact.c - the same answer alone or in a crowd, to the bit, for whole models.
 *
 * Logits of a prompt must not depend on how it was cut into chunks, on the number of
 * threads, or on the sequences that were computed beside it: for every weight type, both
 * KV types, the reference and every instruction-set class; and for every way of mixing tokens and
 * channels, with the tiny models of the reference data. */
#include "engine/engine_rig.h"
#include "golden_paths.h"

#include <stdlib.h>

/* Races do not hide in the later chunks and models, and ThreadSanitizer is slow. */
#ifdef __SANITIZE_THREAD__
enum { PROMPT = 40, CROWD = 7, CROWD_TOKENS = 40, EVERY = 3 };
#else
enum { PROMPT = 100, CROWD = 7, CROWD_TOKENS = 40, EVERY = 1 };
#endif

static const char *const specs[] = {"synth:tiny:f32",  "synth:tiny:f16",  "synth:tiny:bf16",
                                    "synth:tiny:q8_0", "synth:tiny:q4_0", "synth:tiny:q4_k_m"};
enum { SPECS = 6 };

/* Experts, sliding windows, latent attention with experts, attention sinks with experts in another
 * type, states; learned positions. */
static const char *const families[] = {
    "mixtral/model-f32.gguf", "gemma2/model-f32.gguf",           "deepseek2/model-f32.gguf",
    "mamba/model-f32.gguf",   "deepseek2/quant/model-Q8_0.gguf", "gpt-oss/quant/model-MXFP4.gguf",
    "gpt2/model-f32.gguf"};
enum { FAMILIES = sizeof families / sizeof *families };

static model *open_family(const char *file) {
    char path[256];
    model *m = NULL;
    error err = {0};
    (void)snprintf(path, sizeof path, "oracle/public/models/%s", file);
    status st = model_open(&m, shared_path(path), &err);
    if (st != OK) (void)fprintf(stderr, "%s: %s\n", file, err.msg);
    CHECK_EQ(st, OK);
    return m;
}

static void fill_prompt(int32_t *ids, uint32_t count, uint32_t vocab, uint32_t seed) {
    uint64_t state = seed;
    for (uint32_t i = 0; i < count; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        ids[i] = (int32_t)((state >> 33) % vocab);
    }
}

static bool same(const float *a, const float *b, size_t count) {
    return a != NULL && b != NULL && memcmp(a, b, count * sizeof *a) == 0;
}

/* Chunks of 1, 17 and everything: the logits of the first, after checking the others. */
static float *check_chunks(const model *m, const engine_options *opt, const char *what) {
    static const uint32_t chunks[] = {512, 17, 1};
    int32_t ids[PROMPT];
    float *want = NULL;
    size_t count = (size_t)PROMPT * m->hparams.vocab;
    fill_prompt(ids, PROMPT, m->hparams.vocab, 1);
    for (int i = 0; i < 3; i++) {
        float *got = rig_all_logits(m, opt, ids, PROMPT, chunks[i]);
        if (want == NULL) {
            want = got;
            continue;
        }
        if (!same(got, want, count))
            (void)fprintf(stderr, "%s: chunks of %u differ\n", what, chunks[i]);
        CHECK(same(got, want, count));
        free(got);
    }
    return want;
}

static void check_model(const model *m, const char *spec, dtype kv_type) {
    float *of_class = NULL; /* what 1 thread of the class computed */
    size_t count = (size_t)PROMPT * m->hparams.vocab;
    for (int i = 0; i < RIG_ENGINES; i++) {
        char what[96];
        engine_options opt = rig_options(&rig_engines[i], kv_type, 128);
        (void)snprintf(what, sizeof what, "%s, %s KV, %s", spec, dtype_name(kv_type),
                       rig_engines[i].name);
        float *got = check_chunks(m, &opt, what);
        if (i > 0 && i % 2 == 0) {
            if (!same(got, of_class, count)) (void)fprintf(stderr, "%s: threads differ\n", what);
            CHECK(same(got, of_class, count));
        }
        free(of_class);
        of_class = got;
    }
    free(of_class);
}

TEST(exact_chunks_and_threads_do_not_change_a_bit) {
    for (int i = 0; i < SPECS; i += EVERY) {
        model *m = NULL;
        error err = {0};
        CHECK_EQ(model_open(&m, specs[i], &err), OK);
        if (m == NULL) continue;
        check_model(m, specs[i], DTYPE_F32);
        check_model(m, specs[i], DTYPE_F16);
        model_close(m);
    }
}

/* In mode `fast`, too, a row of a prompt is computed by itself: in bf16 where the CPU has it. */
TEST(exact_chunks_and_threads_do_not_change_a_bit_of_fast_prompts) {
    for (int i = 1; i < SPECS; i += EVERY) {
        model *m = NULL;
        float *logits[2];
        CHECK_EQ(model_open(&m, specs[i], NULL), OK);
        if (m == NULL) continue;
        for (int t = 0; t < 2; t++) {
            engine_options opt = rig_options(&rig_engines[RIG_ENGINES - 2 + t], DTYPE_F16, 128);
            opt.fast = true;
            logits[t] = check_chunks(m, &opt, specs[i]);
        }
        CHECK(same(logits[0], logits[1], (size_t)PROMPT * m->hparams.vocab));
        free(logits[0]);
        free(logits[1]);
        model_close(m);
    }
}

TEST(exact_chunks_do_not_change_a_bit_of_any_family) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    for (int i = 0; i < FAMILIES; i += EVERY) {
        model *m = open_family(families[i]);
        if (m == NULL) continue;
        check_model(m, families[i], DTYPE_F32);
        model_close(m);
    }
}

/* Eight sequences of different lengths and starts, all in every step; the first
 * one must have the bits it has alone. */
static void check_crowd(const model *m, const engine_options *opt, const char *what) {
    static int32_t ids[CROWD + 1][CROWD_TOKENS];
    rig_sequence list[CROWD + 1];
    size_t vocab = m->hparams.vocab;
    engine *e = NULL;
    CHECK_EQ(engine_open(&e, m, opt, NULL), OK);
    if (e == NULL) return;
    for (uint32_t i = 0; i <= CROWD; i++) {
        fill_prompt(ids[i], CROWD_TOKENS, m->hparams.vocab, i + 1);
        list[i] = (rig_sequence){
            .ids = ids[i], .count = CROWD_TOKENS - 3 * i, .seat = (i * 3 + 5) % (CROWD + 1)};
        list[i].logits = calloc(list[i].count * vocab, sizeof(float));
    }
    for (uint32_t step = 0; list[0].done < list[0].count; step++) /* the crowd grows and ends */
        rig_advance(e, list, 1 + (step * 3) % (CROWD + 1), 1 + step % 5);
    engine_close(e);
    float *alone = rig_all_logits(m, opt, ids[0], CROWD_TOKENS, 13);
    if (!same(list[0].logits, alone, CROWD_TOKENS * vocab))
        (void)fprintf(stderr, "%s: alone and among others differ\n", what);
    CHECK(same(list[0].logits, alone, CROWD_TOKENS * vocab));
    free(alone);
    for (uint32_t i = 0; i <= CROWD; i++) free(list[i].logits);
}

TEST(exact_a_crowd_does_not_change_a_bit) {
    for (int i = 0; i < SPECS; i += EVERY) {
        model *m = NULL;
        CHECK_EQ(model_open(&m, specs[i], NULL), OK);
        if (m == NULL) continue;
        for (int k = 0; k < RIG_ENGINES; k++) {
            engine_options f32 = rig_options(&rig_engines[k], DTYPE_F32, 64);
            engine_options f16 = rig_options(&rig_engines[k], DTYPE_F16, 64);
            check_crowd(m, &f32, rig_engines[k].name);
            check_crowd(m, &f16, rig_engines[k].name);
        }
        model_close(m);
    }
}

TEST(exact_a_crowd_does_not_change_a_bit_of_any_family) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    for (int i = 0; i < FAMILIES; i += EVERY) {
        model *m = open_family(families[i]);
        if (m == NULL) continue;
        for (int k = 0; k < RIG_ENGINES; k += 2) {
            engine_options opt = rig_options(&rig_engines[k], DTYPE_F16, 64);
            check_crowd(m, &opt, families[i]);
        }
        model_close(m);
    }
}

/* A cut sequence goes on as if the dropped tokens had never been. */
TEST(exact_truncated_sequences_go_on_unchanged) {
    enum { LENGTH = 100 }; /* in all builds: what is cut and shared has a place in it */
    static int32_t ids[LENGTH], wrong_turn[LENGTH];
    model *m = NULL;
    engine *e = NULL;
    engine_options opt = rig_options(&rig_engines[4], DTYPE_F16, 128);
    CHECK_EQ(model_open(&m, "synth:tiny:q4_0", NULL), OK);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    if (e == NULL) return;
    fill_prompt(ids, LENGTH, m->hparams.vocab, 1);
    fill_prompt(wrong_turn, LENGTH, m->hparams.vocab, 9);
    memcpy(wrong_turn, ids, 37 * sizeof ids[0]);
    size_t count = (size_t)LENGTH * m->hparams.vocab;
    float *want = rig_all_logits(m, &opt, ids, LENGTH, 512);
    rig_sequence s = {.ids = wrong_turn, .count = LENGTH, .seat = 2};
    s.logits = calloc(count, sizeof *s.logits);
    while (s.done < 60) rig_advance(e, &s, 1, 20);
    kv_seat_truncate(engine_kv(e), 2, 37);
    s.ids = ids;
    s.done = 37;
    while (s.done < LENGTH) rig_advance(e, &s, 1, 20);
    CHECK(same(s.logits, want, count));
    /* a second seat that shares the first two blocks */
    rig_sequence t = {.ids = ids, .count = LENGTH, .seat = 6, .done = 32};
    t.logits = calloc(count, sizeof *t.logits);
    kv_seat_share(engine_kv(e), 2, 6, 2);
    while (t.done < LENGTH) rig_advance(e, &t, 1, 33);
    size_t skip = (size_t)32 * m->hparams.vocab;
    CHECK(same(t.logits + skip, want + skip, count - skip));
    free(want);
    free(s.logits);
    free(t.logits);
    engine_close(e);
    model_close(m);
}
