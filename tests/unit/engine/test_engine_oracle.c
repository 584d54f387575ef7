/* test_engine_oracle.c - logits of a trained model in many types against recorded ones.
 *
 * Reference data: oracle/public/stories260k; its README says how the numbers were made.
 * NMSE = sum((a - b)^2) / sum(b^2) over the whole file. */
#include "engine/engine_rig.h"
#include "golden_paths.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

/* README of the reference data, "an engine computing in f32". */
static const double f32_nmse_max = 1e-9;
/* Of the recorder's own error, whose activations are rounded to 8 bits; ours to 16, which leaves
 * hardly any.  Per prompt, and over the 309 tokens of a text. */
static const double block_nmse_share = 0.01;
static const double block_nll_share = 0.01;

enum { FLOATS_MAX = 40 * 512 };

typedef struct golden {
    const char *file, *ids, *logits; /* relative to oracle/public */
    uint32_t first_row;              /* the recorded rows begin here */
} golden;

/* The logits of `g` on one engine; compared with the recorded. */
static void check_engine(const model *m, const rig_engine *e, const golden *g, const int32_t *ids,
                         uint32_t count, double nmse_max) {
    static float want[FLOATS_MAX];
    char path[256];
    engine_options opt = rig_options(e, DTYPE_F32, count);
    (void)snprintf(path, sizeof path, "oracle/public/%s", g->logits);
    size_t floats = rig_read_file(path, want, sizeof want), vocab = m->hparams.vocab;
    CHECK_EQ(floats, (count - g->first_row) * vocab);
    float *got = rig_all_logits(m, &opt, ids, count, RIG_TOKENS_MAX);
    double nmse = rig_nmse(got + g->first_row * vocab, want, floats);
    if (nmse > nmse_max)
        (void)fprintf(stderr, "%s on %s: nmse %g, at most %g\n", g->logits, e->name, nmse,
                      nmse_max);
    CHECK(nmse <= nmse_max);
    free(got);
}

static void check_golden(const golden *g, double ref_nmse_max, double cpu_nmse_max) {
    int32_t ids[RIG_TOKENS_MAX];
    char path[256];
    model *m = NULL;
    error err = {0};
    (void)snprintf(path, sizeof path, "oracle/public/%s", g->ids);
    size_t count = rig_read_file(path, ids, sizeof ids);
    CHECK(count > 0);
    (void)snprintf(path, sizeof path, "oracle/public/%s", g->file);
    CHECK_EQ(model_open(&m, shared_path(path), &err), OK);
    if (m == NULL) {
        (void)fprintf(stderr, "%s: %s\n", g->file, err.msg);
        return;
    }
    for (int i = 0; i < RIG_ENGINES; i++)
        check_engine(m, &rig_engines[i], g, ids, (uint32_t)count,
                     i == 0 ? ref_nmse_max : cpu_nmse_max);
    model_close(m);
}

TEST(engine_stories_f32_matches_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/stories260k/index.json");
    CHECK(index != NULL);
    golden p0 = {"stories260k/gguf/stories260K-F32.gguf", "stories260k/ids/p0.i32",
                 "stories260k/logits/F32.p0.f32", 0};
    golden p9 = {"stories260k/gguf/stories260K-F32.gguf", "stories260k/ids/p9.i32",
                 "stories260k/logits/F32.p9.f32", 0};
    check_golden(&p0, f32_nmse_max, f32_nmse_max);
    check_golden(&p9, f32_nmse_max, f32_nmse_max);
}

static golden stories(const char *type, char *file, char *logits, size_t bytes) {
    (void)snprintf(file, bytes, "stories260k/gguf/stories260K-%s.gguf", type);
    (void)snprintf(logits, bytes, "stories260k/logits/%s.p0.deq.f32", type);
    return (golden){file, "stories260k/ids/p0.i32", logits, 0};
}

TEST(engine_stories_half_precision_matches_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/stories260k/index.json");
    static const char *const types[] = {"F16", "BF16"};
    CHECK(index != NULL);
    for (int i = 0; i < 2; i++) {
        char file[128], logits[128];
        golden g = stories(types[i], file, logits, sizeof file);
        /* the recorder widened the weights and multiplied in f32, as we do */
        check_golden(&g, f32_nmse_max, f32_nmse_max);
    }
}

/* The recorder's "nmse_vs_deq" of a type's logits; 0 when it is not in the index. */
static double recorded_nmse(const char *index_path, const char *type) {
    json_error_t err;
    double found = 0;
    size_t i = 0;
    json_t *root = json_load_file(index_path, 0, &err), *entry = NULL;
    char file[64];
    (void)snprintf(file, sizeof file, "logits/%s.p0.oracle.f32", type);
    json_t *list = json_object_get(root, "logits");
    json_array_foreach(list, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "file"));
        if (name != NULL && strcmp(name, file) == 0)
            found = json_number_value(json_object_get(entry, "nmse_vs_deq"));
    }
    json_decref(root);
    return found;
}

TEST(engine_stories_block_types_match_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/stories260k/index.json");
    static const char *const types[] = {"Q8_0", "Q4_0"};
    char index_path[1024]; /* `index` lives in a buffer that is used again */
    (void)snprintf(index_path, sizeof index_path, "%s", index);
    for (int i = 0; i < 2; i++) {
        char file[128], logits[128];
        double recorded = recorded_nmse(index_path, types[i]);
        CHECK(recorded > 0);
        golden g = stories(types[i], file, logits, sizeof file);
        /* the reference multiplies in double: as near as with float weights */
        check_golden(&g, f32_nmse_max, recorded * block_nmse_share);
    }
}

/* Another type, whose oracle is rounded less. */
TEST(engine_stories_in_a_type_with_minima_matches_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/stories260k/index.json");
    char file[128], logits[128];
    CHECK(index != NULL);
    golden g = stories("Q5_1", file, logits, sizeof file);
    check_golden(&g, f32_nmse_max, 1e-7);
}

/* Mean squared difference of two lists. */
static double mse_of(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum / (double)count;
}

/* -log p(ids[i + 1] | ids[0..i]) from the logits [count, vocab]. */
static void fill_nll(const float *logits, const int32_t *ids, size_t count, size_t vocab,
                     float *nll) {
    for (size_t i = 0; i + 1 < count; i++, logits += vocab) {
        double total = 0;
        for (size_t v = 0; v < vocab; v++) total += exp((double)logits[v]);
        nll[i] = (float)(log(total) - (double)logits[ids[i + 1]]);
    }
}

TEST(engine_stories_block_types_read_a_text_as_well_as_the_oracle) {
    SHARED_OR_SKIP(text, "oracle/public/stories260k/ppl/text.ids.i32");
    static const char *const types[] = {"Q8_0", "Q4_0"};
    static float deq[RIG_TOKENS_MAX], recorded[RIG_TOKENS_MAX], nll[RIG_TOKENS_MAX];
    int32_t ids[RIG_TOKENS_MAX];
    CHECK(text != NULL);
    size_t count = rig_read_file("oracle/public/stories260k/ppl/text.ids.i32", ids, sizeof ids);
    for (int i = 0; i < 2 && count > 1; i++) {
        char path[128];
        model *m = NULL;
        (void)snprintf(path, sizeof path, "oracle/public/stories260k/ppl/%s.deq.nll.f32", types[i]);
        CHECK_EQ(rig_read_file(path, deq, sizeof deq), count - 1);
        (void)snprintf(path, sizeof path, "oracle/public/stories260k/ppl/%s.oracle.nll.f32",
                       types[i]);
        CHECK_EQ(rig_read_file(path, recorded, sizeof recorded), count - 1);
        double bound = mse_of(recorded, deq, count - 1) * block_nll_share;
        (void)snprintf(path, sizeof path, "oracle/public/stories260k/gguf/stories260K-%s.gguf",
                       types[i]);
        CHECK_EQ(model_open(&m, shared_path(path), NULL), OK);
        if (m == NULL) return;
        for (int k = 0; k < RIG_ENGINES; k += 2) {
            engine_options opt = rig_options(&rig_engines[k], DTYPE_F32, (uint32_t)count);
            float *logits = rig_all_logits(m, &opt, ids, (uint32_t)count, RIG_TOKENS_MAX);
            fill_nll(logits, ids, count, m->hparams.vocab, nll);
            CHECK(mse_of(nll, deq, count - 1) <= (k == 0 ? f32_nmse_max : bound));
            free(logits);
        }
        model_close(m);
    }
}
