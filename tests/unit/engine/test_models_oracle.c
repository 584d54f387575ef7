/* test_models_oracle.c - one tiny random model of every family against recorded numbers.
 *
 * Reference data: oracle/public/models, one folder per model; its README says how the numbers were
 * made and how near an engine must come.  Every model runs on the reference and on the cpu backend,
 * whole and in chunks, and goes on greedily from its short prompt. */
#include "engine/engine_rig.h"
#include "golden_paths.h"

#include <stdlib.h>

/* README of the reference data, "an engine computing in f32", and "with an F16 KV cache". */
static const double f32_nmse_max = 1e-9;
static const double f16_kv_nmse_max = 1e-5;
/* Packed types on the cpu backend: activations are rounded to 16 bits. */
static const double rounded_nmse_max = 1e-7;

enum { VOCAB = 512, PROMPT_MAX = 130, LATE_ROW = 98, GREEDY = 32 };

enum { REF = 0, SCALAR = 2, BEST = 4 }; /* of rig_engines: the last two with 2 threads */

static const char *const decoders[] = {
    "command-r",
    "deepseek",
    "deepseek2",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "gpt-oss",
    "gpt2",
    "granite",
    "llama-attn-bias",
    "llama-headdim",
    "llama-mha",
    "llama-rope-linear",
    "llama3-gqa-ropefreqs",
    "mamba",
    "mixtral",
    "mpt",
    "olmo2",
    "phi3-longrope",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "stablelm",
    "starcoder2",
};
enum { DECODERS = sizeof decoders / sizeof *decoders };

/* --- files -------------------- */

static const char *path_in(const char *dir, const char *file) {
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    (void)snprintf(path, sizeof paths[0], "oracle/public/models/%s/%s", dir, file);
    return path;
}

static model *open_model(const char *dir, const char *file) {
    model *m = NULL;
    error err = {0};
    const char *path = shared_path(path_in(dir, file));
    status st = path != NULL ? model_open(&m, path, &err) : ERR_NOT_FOUND;
    if (st != OK) (void)fprintf(stderr, "%s/%s: %s\n", dir, file, err.msg);
    CHECK_EQ(st, OK);
    return m;
}

/* `name` is "p24" or so. */
static uint32_t read_ids(const char *dir, const char *name, int32_t *ids) {
    char file[64];
    (void)snprintf(file, sizeof file, "%s.ids.i32", name);
    size_t count = rig_read_file(path_in(dir, file), ids, PROMPT_MAX * sizeof *ids);
    CHECK(count > 0);
    return (uint32_t)count;
}

/* --- comparisons -------------------- */

/* One way to compute the logits of a prompt, and what they are compared with. */
typedef struct run {
    const char *dir;
    const char *prompt; /* "p24" */
    const char *logits; /* file of the last rows of the prompt */
    const char *argmax; /* file for every position, or NULL */
    const rig_engine *engine;
    dtype kv_type;
    uint32_t ctx_max; /* 0: the model's */
    uint32_t chunk;   /* rows per step */
    double nmse_max;
} run;

static int32_t best_of(const float *logits) {
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void check_argmax(const run *r, const float *logits, uint32_t count) {
    int32_t want[PROMPT_MAX];
    CHECK_EQ(rig_read_file(path_in(r->dir, r->argmax), want, sizeof want), count);
    for (uint32_t i = 0; i < count; i++) {
        int32_t got = best_of(logits + (size_t)i * VOCAB);
        if (got != want[i])
            (void)fprintf(stderr, "%s/%s on %s: at %u token %d is best, want %d\n", r->dir,
                          r->argmax, r->engine->name, i, got, want[i]);
        CHECK(got == want[i]);
    }
}

static void check_run(const model *m, const run *r) {
    static float want[PROMPT_MAX * VOCAB];
    int32_t ids[PROMPT_MAX];
    engine_options opt = rig_options(r->engine, r->kv_type, r->ctx_max);
    uint32_t count = read_ids(r->dir, r->prompt, ids);
    size_t floats = rig_read_file(path_in(r->dir, r->logits), want, sizeof want);
    CHECK(floats > 0 && floats <= (size_t)count * VOCAB);
    CHECK_EQ(m->hparams.vocab, VOCAB);
    float *got = rig_all_logits(m, &opt, ids, count, r->chunk);
    if (got == NULL) return;
    double nmse = rig_nmse(got + (size_t)count * VOCAB - floats, want, floats);
    if (!(nmse <= r->nmse_max))
        (void)fprintf(stderr, "%s/%s on %s, %s KV, chunks of %u: nmse %g, at most %g\n", r->dir,
                      r->logits, r->engine->name, dtype_name(r->kv_type), r->chunk, nmse,
                      r->nmse_max);
    CHECK(nmse <= r->nmse_max);
    if (r->argmax != NULL) check_argmax(r, got, count);
    free(got);
}

static void check_greedy(const model *m, const char *dir, const char *file) {
    static float logits[PROMPT_MAX * VOCAB];
    int32_t ids[PROMPT_MAX + GREEDY], want[GREEDY];
    engine *e = NULL;
    engine_options opt = rig_options(&rig_engines[BEST], DTYPE_F32, 0);
    CHECK_EQ(rig_read_file(path_in(dir, file), want, sizeof want), GREEDY);
    rig_sequence s = {.ids = ids, .count = read_ids(dir, "p24", ids), .seat = 5, .logits = logits};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    if (e == NULL) return;
    for (int i = 0; i < GREEDY; i++) {
        rig_advance(e, &s, 1, s.count);
        ids[s.count] = best_of(logits + (size_t)(s.count - 1) * VOCAB);
        if (ids[s.count] != want[i])
            (void)fprintf(stderr, "%s/%s: token %d is %d, want %d\n", dir, file, i, ids[s.count],
                          want[i]);
        CHECK(ids[s.count] == want[i]);
        if (ids[s.count++] != want[i]) break;
    }
    engine_close(e);
}

/* --- the models as they are -------------------- */

static void check_decoder(const char *dir) {
    const rig_engine *ref = &rig_engines[REF], *best = &rig_engines[BEST];
    const run runs[] = {
        {dir, "p24", "p24.logits.f32", "p24.argmax.i32", ref, DTYPE_F32, 0, 24, f32_nmse_max},
        {dir, "p130", "p130.logits.f32", "p130.argmax.i32", ref, DTYPE_F32, 0, 48, f32_nmse_max},
        {dir, "p24", "p24.logits.f32", NULL, &rig_engines[SCALAR], DTYPE_F32, 0, 7, f32_nmse_max},
        {dir, "p24", "p24.logits.f32", NULL, best, DTYPE_F32, 0, 1, f32_nmse_max},
        {dir, "p130", "p130.logits.f32", "p130.argmax.i32", best, DTYPE_F32, 0, 130, f32_nmse_max},
        {dir, "p130", "p130.logits.f32", NULL, best, DTYPE_F32, 0, 17, f32_nmse_max},
        {dir, "p130", "p130.logits.f32", NULL, best, DTYPE_F16, 0, 130, f16_kv_nmse_max},
    };
    model *m = open_model(dir, "model-f32.gguf");
    if (m == NULL) return;
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) check_run(m, &runs[i]);
    check_greedy(m, dir, "p24.greedy.i32");
    model_close(m);
}

TEST(models_of_every_family_match_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    for (int i = 0; i < DECODERS; i++) check_decoder(decoders[i]);
}

/* A context that is no longer than the original one gets the short factors. */
TEST(models_longrope_factors_follow_the_context) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    const run r = {"phi3-longrope",
                   "p24",
                   "p24.nctx128.logits.f32",
                   NULL,
                   &rig_engines[BEST],
                   DTYPE_F32,
                   128,
                   24,
                   f32_nmse_max};
    CHECK(index != NULL);
    model *m = open_model(r.dir, "model-f32.gguf");
    if (m == NULL) return;
    check_run(m, &r);
    model_close(m);
}

/* --- quantized files --------------------
 *
 * Golden logits of the weights read exactly, computed in f32. */

static void check_quantized(const char *dir, const char *type, double cpu_nmse_max) {
    char file[64], early[64], late[64], greedy[64];
    (void)snprintf(file, sizeof file, "quant/model-%s.gguf", type);
    (void)snprintf(early, sizeof early, "quant/%s.p24.deq.logits.f32", type);
    (void)snprintf(late, sizeof late, "quant/%s.p130.deq.logits.f32", type);
    (void)snprintf(greedy, sizeof greedy, "quant/%s.p24.deq.greedy.i32", type);
    model *m = open_model(dir, file);
    if (m == NULL) return;
    for (int i = REF; i <= BEST; i += 2) {
        const rig_engine *e = &rig_engines[i];
        double nmse_max = i == REF ? f32_nmse_max : cpu_nmse_max;
        run r = {dir, "p24", early, NULL, e, DTYPE_F32, 0, 24, nmse_max};
        check_run(m, &r);
        r.prompt = "p130";
        r.logits = late;
        r.chunk = 100;
        if (i != SCALAR) check_run(m, &r);
    }
    check_greedy(m, dir, greedy);
    model_close(m);
}

TEST(models_in_quantized_files_match_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    check_quantized("llama-mha", "Q4_K_M", rounded_nmse_max);
    check_quantized("llama-mha", "Q6_K", rounded_nmse_max);
    check_quantized("llama-mha", "Q8_0", rounded_nmse_max);
    check_quantized("llama-mha", "Q4_0", rounded_nmse_max);
    check_quantized("deepseek2", "Q8_0", rounded_nmse_max);
    check_quantized("mixtral", "Q8_0", rounded_nmse_max);
    check_quantized("gpt-oss", "MXFP4", rounded_nmse_max);
}

/* --- hidden states -------------------- */

enum { EMBD_MAX = 256 };

/* The pooled states of a prompt: the floats of `out`. */
static size_t pool(const char *how, const float *hidden, uint32_t count, uint32_t n_embd,
                   float *out) {
    if (strcmp(how, "none") == 0) {
        memcpy(out, hidden, (size_t)count * n_embd * sizeof *out);
        return (size_t)count * n_embd;
    }
    for (uint32_t c = 0; c < n_embd; c++) {
        double sum = 0;
        for (uint32_t r = 0; r < count; r++) sum += (double)hidden[(size_t)r * n_embd + c];
        out[c] = (float)(sum / count);
    }
    if (strcmp(how, "cls") == 0) memcpy(out, hidden, n_embd * sizeof *out);
    if (strcmp(how, "last") == 0)
        memcpy(out, hidden + (size_t)(count - 1) * n_embd, n_embd * sizeof *out);
    return n_embd;
}

static void check_embeddings(const model *m, const char *dir, const char *prompt,
                             const rig_engine *on, uint32_t chunk) {
    static const char *const pools[] = {"none", "mean", "cls", "last"};
    static float want[PROMPT_MAX * EMBD_MAX], got[PROMPT_MAX * EMBD_MAX];
    int32_t ids[PROMPT_MAX];
    char file[64];
    uint32_t count = read_ids(dir, prompt, ids), n_embd = m->hparams.n_embd, compared = 0;
    CHECK(n_embd <= EMBD_MAX);
    engine_options opt = rig_options(on, DTYPE_F32, 0);
    float *hidden = rig_all_hidden(m, &opt, ids, count, chunk);
    for (int i = 0; i < 4 && hidden != NULL; i++) {
        (void)snprintf(file, sizeof file, "%s.emb.%s.f32", prompt, pools[i]);
        size_t floats = rig_read_file(path_in(dir, file), want, sizeof want);
        if (floats == 0) continue;
        compared++;
        CHECK_EQ(pool(pools[i], hidden, count, n_embd, got), floats);
        double nmse = rig_nmse(got, want, floats);
        if (!(nmse <= f32_nmse_max))
            (void)fprintf(stderr, "%s/%s on %s: nmse %g\n", dir, file, on->name, nmse);
        CHECK(nmse <= f32_nmse_max);
    }
    CHECK(compared >= 2);
    free(hidden);
}

TEST(models_hidden_states_match_the_oracle) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    model *bert = open_model("bert", "model-f32.gguf");
    model *llama = open_model("llama-mha", "model-f32.gguf");
    for (int i = REF; i <= BEST && bert != NULL; i += 2) {
        check_embeddings(bert, "bert", "p24", &rig_engines[i], PROMPT_MAX);
        check_embeddings(bert, "bert", "p130", &rig_engines[i], PROMPT_MAX);
        check_embeddings(bert, "bert", "puni", &rig_engines[i], PROMPT_MAX);
    }
    for (int i = REF; i <= BEST && llama != NULL; i += 2) {
        check_embeddings(llama, "llama-mha", "p24", &rig_engines[i], PROMPT_MAX);
        check_embeddings(llama, "llama-mha", "p130", &rig_engines[i], 33);
    }
    model_close(bert);
    model_close(llama);
}
