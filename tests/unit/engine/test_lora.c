/* test_lora.c - adapters on whole models: recorded logits, both file formats, mixes, exactness.
 *
 * Reference data: oracle/public/models/llama-mha/lora, whose README entry says how near an engine
 * must come.  The same adapter is then written again as a PEFT directory, in Hugging Face's order
 * of rows, and has to give the same bits. */
#include "engine/lora.h"

#include <stdlib.h>

#include "engine/engine_rig.h"
#include "golden_paths.h"
#include "model/adapter.h"
#include "model/adapter_rig.h"
#include "model/hf_dir.h"

/* README: "LoRA golden (F16 adapters)".  Ours keeps activations in f32, so it comes nearer. */
static const double lora_nmse_max = 1e-6;

#define MHA      "oracle/public/models/llama-mha/"
#define MHA_LORA MHA "lora/lora-r8-all.gguf"

enum { MHA_VOCAB = 512, IDS_MAX = 192, RANK_MAX = 16, NEXT = 32 };

typedef struct lab {
    model *m;
    engine *e;
    lora_table *t;
    float logits[IDS_MAX * MHA_VOCAB]; /* of the last run */
} lab;

static lab *lab_open(const char *path, const rig_engine *on) {
    lab *l = calloc(1, sizeof *l);
    engine_options opt = rig_options(on, DTYPE_F32, 0);
    error err = {0};
    opt.lora_rank_max = RANK_MAX;
    opt.rows_max = opt.taken_rows_max = IDS_MAX;
    CHECK(l != NULL);
    status st = model_open(&l->m, path, &err);
    if (st == OK) st = engine_open(&l->e, l->m, &opt, &err);
    if (st == OK) st = lora_table_create(&l->t, l->e, 4, &err);
    CHECK_STR(err.msg, "");
    CHECK_EQ(st, OK);
    return l;
}

static void lab_close(lab *l) {
    lora_table_destroy(l->t);
    engine_close(l->e);
    model_close(l->m);
    free(l);
}

static void lab_load(lab *l, uint32_t number, const char *path) {
    lora_report report = {0};
    error err = {0};
    CHECK_EQ(lora_table_load(l->t, number, path, &report, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK(report.rank > 0 && report.weights > 0 && report.bytes > 0);
}

/* One sequence of a step. */
typedef struct lane {
    const int32_t *ids;
    uint32_t count, seat;
    const lora_mix *mix;
} lane;

/* The next `chunk` tokens from `from` of each lane in one step; logits of lane `kept` are kept. */
static void lab_step(lab *l, const lane *lanes, uint32_t count, uint32_t from, uint32_t chunk,
                     uint32_t kept) {
    static engine_row rows[IDS_MAX];
    uint32_t n = 0, kept_row = 0, kept_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t end = from + chunk < lanes[i].count ? from + chunk : lanes[i].count;
        if (from >= end) continue;
        CHECK_EQ(kv_seat_grow(engine_kv(l->e), lanes[i].seat, end, NULL), OK);
        if (i == kept) kept_row = n, kept_count = end - from;
        for (uint32_t p = from; p < end; p++)
            rows[n++] = (engine_row){.token = lanes[i].ids[p],
                                     .pos = p,
                                     .seat = lanes[i].seat,
                                     .wants_logits = true,
                                     .lora = lanes[i].mix};
    }
    const float *logits = engine_step(l->e, rows, n);
    size_t vocab = engine_vocab(l->e);
    memcpy(l->logits + from * vocab, logits + kept_row * vocab,
           kept_count * vocab * sizeof *logits);
}

static void lab_run(lab *l, const lane *lanes, uint32_t count, uint32_t chunk, uint32_t kept) {
    for (uint32_t i = 0; i < count; i++) kv_seat_clear(engine_kv(l->e), lanes[i].seat);
    for (uint32_t at = 0; at < lanes[kept].count; at += chunk)
        lab_step(l, lanes, count, at, chunk, kept);
}

/* --- recorded logits -------------------- */

static uint32_t mha_ids(const char *prompt, int32_t *ids) {
    char file[128];
    (void)snprintf(file, sizeof file, MHA "%s.ids.i32", prompt);
    return (uint32_t)rig_read_file(file, ids, IDS_MAX * sizeof *ids);
}

static int32_t likeliest(const float *logits) {
    int32_t best = 0;
    for (int32_t i = 1; i < MHA_VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void check_recorded(lab *l, const lora_mix *mix, const char *prompt, const char *tag,
                           uint32_t chunk) {
    static float want[IDS_MAX * MHA_VOCAB];
    int32_t ids[IDS_MAX], next[NEXT];
    char file[160];
    uint32_t count = mha_ids(prompt, ids);
    lane one = {ids, count, 2, mix};
    (void)snprintf(file, sizeof file, MHA "lora/r8.%s.%s.logits.f32", tag, prompt);
    size_t floats = rig_read_file(file, want, sizeof want);
    CHECK(floats > 0 && floats <= (size_t)count * MHA_VOCAB);
    lab_run(l, &one, 1, chunk, 0);
    double nmse = rig_nmse(l->logits + (size_t)count * MHA_VOCAB - floats, want, floats);
    if (!(nmse < lora_nmse_max)) (void)fprintf(stderr, "%s: nmse %g\n", file, nmse);
    CHECK(nmse < lora_nmse_max);
    (void)snprintf(file, sizeof file, MHA "lora/r8.%s.%s.greedy.i32", tag, prompt);
    CHECK_EQ(rig_read_file(file, next, sizeof next), NEXT);
    for (int i = 0; i < NEXT; i++) {
        ids[one.count] = likeliest(l->logits + (size_t)(one.count - 1) * MHA_VOCAB);
        CHECK_EQ(ids[one.count], next[i]);
        one.count++;
        lab_step(l, &one, 1, one.count - 1, 1, 0);
    }
}

TEST(lora_matches_the_recorded_logits_and_tokens) {
    SHARED_OR_SKIP(path, MHA "model-f32.gguf");
    static const int engines[] = {0, 2, 4};
#ifdef __SANITIZE_THREAD__ /* is slow, and the last one has all the threads */
    const int first = 2;
#else
    const int first = 0;
#endif
    for (int i = first; i < 3; i++) {
        lab *l = lab_open(path, &rig_engines[engines[i]]);
        lab_load(l, 7, shared_path(MHA_LORA));
        for (int half = 0; half < 2; half++) {
            lora_mix mix = {0};
            CHECK(lora_table_use(l->t, 7, half ? 0.5f : 1.0f, &mix));
            check_recorded(l, &mix, "p24", half ? "s0.5" : "s1.0", 24);
            check_recorded(l, &mix, "p130", half ? "s0.5" : "s1.0", half ? 130 : 17);
            lora_table_give(l->t, &mix);
        }
        lab_close(l);
    }
}

/* --- PEFT -------------------- */

/* Row r of a head of `dim` rows in GGUF's order stands there in Hugging Face's. */
static uint32_t hf_row(uint32_t r, uint32_t dim) { return r % 2 * (dim / 2) + r / 2; }

static void to_hf_rows(float *rows, const float *from, uint32_t count, uint32_t cols,
                       uint32_t heads) {
    uint32_t dim = count / heads;
    for (uint32_t r = 0; r < count; r++)
        memcpy(rows + (size_t)(r - r % dim + hf_row(r % dim, dim)) * cols, from + (size_t)r * cols,
               cols * sizeof *rows);
}

static const struct {
    const char *gguf, *hf;
} modules[] = {
    {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"},
    {"ffn_gate", "mlp.gate_proj"},  {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
enum { MODULES = sizeof modules / sizeof *modules };

/* The pair of a tensor "blk.L.STEM.weight" as PEFT has it; `heads` 0: rows as they are. */
static void add_peft(rig_adapter *a, uint32_t layer, int module, const adapter_pair *p,
                     uint32_t heads) {
    char name[128];
    const char *form = "base_model.model.model.layers.%u.%s.lora_%c.weight";
    (void)snprintf(name, sizeof name, form, layer, modules[module].hf, 'A');
    (void)rig_matrix_add(a, name, p->a.rows, p->a.cols, p->a.data);
    (void)snprintf(name, sizeof name, form, layer, modules[module].hf, 'B');
    float *b = rig_matrix_add(a, name, p->b.rows, p->b.cols, p->b.data);
    if (heads > 0) to_hf_rows(b, p->b.data, p->b.rows, p->b.cols, heads);
}

static uint32_t turned_heads(const model *m, int module) {
    if (strcmp(m->hparams.arch, "llama") != 0 || module > 1) return 0;
    return module == 0 ? m->hparams.heads : m->hparams.kv_heads;
}

/* Write the adapter of a GGUF file again as PEFT. */
static void copy_as_peft(rig_adapter *out, const model *m, const char *path, const char *config) {
    adapter *a = NULL;
    error err = {0};
    CHECK_EQ(adapter_open(&a, m, path, &err), OK);
    CHECK_STR(err.msg, "");
    if (a == NULL) return;
    for (uint32_t i = 0; i < adapter_count(a); i++) {
        const adapter_pair *p = adapter_get(a, i);
        for (uint32_t k = 0; k < m->hparams.layers * MODULES; k++) {
            char name[64];
            (void)snprintf(name, sizeof name, "blk.%u.%s.weight", k / MODULES,
                           modules[k % MODULES].gguf);
            if (str_eq_c(p->tensor, name))
                add_peft(out, k / MODULES, (int)(k % MODULES), p,
                         turned_heads(m, (int)(k % MODULES)));
        }
    }
    CHECK_EQ(out->count, 2 * adapter_count(a));
    adapter_close(a);
    rig_write_peft(out, config);
}

/* Logits of the ids with that adapter alone; the caller frees. */
static float *logits_with(lab *l, const char *path, const int32_t *ids, uint32_t count) {
    lora_mix mix = {0};
    lane one = {ids, count, 1, &mix};
    size_t floats = (size_t)count * engine_vocab(l->e);
    float *out = calloc(floats, sizeof *out);
    lab_load(l, 1, path);
    CHECK(lora_table_use(l->t, 1, 1.0f, &mix));
    lab_run(l, &one, 1, count, 0);
    memcpy(out, l->logits, floats * sizeof *out);
    lora_table_give(l->t, &mix);
    CHECK_EQ(lora_table_unload(l->t, 1, NULL), OK);
    return out;
}

TEST(lora_of_peft_gives_the_bits_of_its_gguf) {
    SHARED_OR_SKIP(path, MHA "model-f32.gguf");
    static rig_adapter peft;
    int32_t ids[IDS_MAX];
    uint32_t count = mha_ids("p24", ids);
    lab *l = lab_open(path, &rig_engines[4]);
    copy_as_peft(&peft, l->m, shared_path(MHA_LORA),
                 "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16,\"bias\":\"none\"}");
    float *want = logits_with(l, shared_path(MHA_LORA), ids, count);
    float *got = logits_with(l, peft.path, ids, count);
    CHECK(memcmp(got, want, (size_t)count * MHA_VOCAB * sizeof *got) == 0);
    free(want);
    free(got);
    rig_adapter_drop(&peft);
    lab_close(l);
}

/* --- Hugging Face directories -------------------- */

/* A random adapter for every matrix of the model, as GGUF. */
static void make_random(rig_adapter *out, const model *m, bool dense) {
    uint32_t n = dense ? MODULES : 4;
    for (uint32_t k = 0; k < m->hparams.layers * n; k++) {
        const model_layer *layer = &m->layers[k / n];
        const model_tensor *of[MODULES] = {&layer->q.w,    &layer->k.w,  &layer->v.w,   &layer->o.w,
                                           &layer->gate.w, &layer->up.w, &layer->down.w};
        const model_tensor *t = of[k % n];
        char name[96];
        const char *form = "blk.%u.%s.weight.lora_%c";
        (void)snprintf(name, sizeof name, form, k / n, modules[k % n].gguf, 'a');
        rig_fill(rig_matrix_add(out, name, 3, t->cols, NULL), (size_t)3 * t->cols, 0.3f, k);
        (void)snprintf(name, sizeof name, form, k / n, modules[k % n].gguf, 'b');
        rig_fill(rig_matrix_add(out, name, t->rows, 3, NULL), (size_t)3 * t->rows, 0.3f, k + 99);
    }
    rig_write_gguf(out, m->hparams.arch, 6.0f);
}

/* The directory as a GGUF file; the caller unlinks. */
static void write_as_gguf(const char *dir, char path[RIG_PATH_BYTES]) {
    model *m = NULL;
    error err = {0};
    int fd = -1;
    (void)snprintf(path, RIG_PATH_BYTES, "/tmp/gantry-model-%d", (int)getpid());
    CHECK_EQ(model_open(&m, dir, &err), OK);
    CHECK_EQ(os_open_write(path, &fd, &err), OK);
    CHECK_EQ(hf_dir_write(m, dir, fd, &err), OK);
    CHECK_STR(err.msg, "");
    os_close(fd);
    model_close(m);
}

/* Both adapters on both forms of one model: four times the same logits. */
static void check_directory(const char *name, bool dense) {
    static rig_adapter file, peft;
    static const int32_t ids[] = {5, 17, 300, 44, 9, 210, 77, 400, 3, 501, 12, 12, 68, 250, 31, 8};
    enum { COUNT = sizeof ids / sizeof *ids };
    char dir[128], model_file[RIG_PATH_BYTES];
    (void)snprintf(dir, sizeof dir, "oracle/public/models/%s/hf-bf16", name);
    const char *path = shared_path(dir);
    CHECK(path != NULL);
    if (path == NULL) return;
    write_as_gguf(path, model_file);
    lab *of_dir = lab_open(path, &rig_engines[2]);
    lab *of_file = lab_open(model_file, &rig_engines[2]);
    make_random(&file, of_file->m, dense);
    copy_as_peft(&peft, of_file->m, file.path, "{\"r\":3,\"lora_alpha\":6}");
    float *got[] = {
        logits_with(of_file, file.path, ids, COUNT), logits_with(of_file, peft.path, ids, COUNT),
        logits_with(of_dir, file.path, ids, COUNT), logits_with(of_dir, peft.path, ids, COUNT)};
    size_t floats = (size_t)COUNT * engine_vocab(of_file->e);
    lane plain = {ids, COUNT, 1, NULL};
    lab_run(of_file, &plain, 1, COUNT, 0);
    double change = rig_nmse(got[0], of_file->logits, floats);
    CHECK(change > 1e-3); /* it does something */
    for (int i = 1; i < 4; i++) {
        double nmse = rig_nmse(got[i], got[0], floats);
        if (!(nmse < 1e-10)) (void)fprintf(stderr, "%s, form %d: nmse %g\n", name, i, nmse);
        CHECK(nmse < 1e-10);
    }
    for (int i = 0; i < 4; i++) free(got[i]);
    rig_adapter_drop(&file);
    rig_adapter_drop(&peft);
    lab_close(of_dir);
    lab_close(of_file);
    CHECK_EQ(unlink(model_file), 0);
}

TEST(lora_fits_a_directory_as_it_fits_its_gguf) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    check_directory("llama3-gqa-ropefreqs", true);
    check_directory("qwen2", true);
    check_directory("qwen3", true);
    check_directory("gemma", true);
    check_directory("mixtral", false);
}

/* --- mixes -------------------- */

/* Adapters of all seven kinds of matrices for a synthetic model. */
static void make_for(rig_adapter *out, const model *m, uint64_t seed) {
    make_random(out, m, true);
    for (uint32_t i = 0; i < out->count; i++)
        rig_fill(out->items[i].data, (size_t)out->items[i].rows * out->items[i].cols, 0.2f,
                 seed + i);
    CHECK_EQ(unlink(out->path), 0);
    rig_write_gguf(out, m->hparams.arch, 3.0f);
}

/* P4: eight sequences with different mixes in every step have the bits they have alone. */
static void check_crowd_of_mixes(const char *spec, const rig_engine *on) {
    static rig_adapter files[2];
    enum { LANES = 8, TOKENS = 20 };
    static int32_t ids[LANES][TOKENS];
    lora_mix mixes[LANES] = {0};
    lane lanes[LANES];
    lab *l = lab_open(spec, on);
    for (uint32_t i = 0; i < 2; i++) {
        make_for(&files[i], l->m, 1000 * (i + 1));
        lab_load(l, i, files[i].path);
    }
    for (uint32_t i = 0; i < LANES; i++) {
        for (uint32_t k = 0; k < TOKENS; k++) ids[i][k] = (int32_t)((i * 37 + k * 11) % 256);
        lanes[i] = (lane){ids[i], TOKENS - i, i, i % 4 == 3 ? NULL : &mixes[i]};
        if (i % 4 != 3) CHECK(lora_table_use(l->t, i % 2, 0.25f * (float)(i + 1), &mixes[i]));
        if (i % 4 == 2) CHECK(lora_table_use(l->t, 1, -0.5f, &mixes[i]));
    }
    size_t vocab = engine_vocab(l->e);
    float *alone = calloc((size_t)TOKENS * vocab, sizeof *alone);
    for (uint32_t i = 0; i < LANES; i++) {
        lab_run(l, &lanes[i], 1, TOKENS, 0);
        memcpy(alone, l->logits, lanes[i].count * vocab * sizeof *alone);
        lab_run(l, lanes, LANES, 7, i);
        bool same = memcmp(alone, l->logits, lanes[i].count * vocab * sizeof *alone) == 0;
        if (!same) (void)fprintf(stderr, "%s on %s: sequence %u differs\n", spec, on->name, i);
        CHECK(same);
    }
    free(alone);
    for (uint32_t i = 0; i < LANES; i++) lora_table_give(l->t, &mixes[i]);
    for (uint32_t i = 0; i < 2; i++) rig_adapter_drop(&files[i]);
    lab_close(l);
}

TEST(lora_sequences_have_the_bits_they_have_alone) {
    static const char *const specs[] = {"synth:tiny:f32", "synth:tiny:q8_0", "synth:tiny:q4_k_m"};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < RIG_ENGINES; k += 2) check_crowd_of_mixes(specs[i], &rig_engines[k]);
}

/* Two halves are a whole, and one less itself is nothing. */
TEST(lora_uses_of_one_sequence_add_up) {
    static rig_adapter file;
    static const int32_t ids[] = {1, 9, 33, 120, 7};
    enum { COUNT = sizeof ids / sizeof *ids };
    lab *l = lab_open("synth:tiny:f32", &rig_engines[4]);
    size_t floats = (size_t)COUNT * engine_vocab(l->e);
    lora_mix mix = {0};
    lane one = {ids, COUNT, 0, &mix}, plain = {ids, COUNT, 0, NULL};
    make_for(&file, l->m, 5);
    float *whole = logits_with(l, file.path, ids, COUNT);
    lab_load(l, 3, file.path);
    for (int i = 0; i < 8; i++) CHECK(lora_table_use(l->t, 3, 0.125f, &mix));
    CHECK(!lora_table_use(l->t, 3, 0.125f, &mix)); /* a ninth */
    lab_run(l, &one, 1, COUNT, 0);
    CHECK(rig_nmse(l->logits, whole, floats) < 1e-10);
    lora_table_give(l->t, &mix);
    CHECK(lora_table_use(l->t, 3, 1.0f, &mix) && lora_table_use(l->t, 3, -1.0f, &mix));
    lab_run(l, &plain, 1, COUNT, 0);
    memcpy(whole, l->logits, floats * sizeof *whole);
    lab_run(l, &one, 1, COUNT, 0);
    CHECK(rig_nmse(l->logits, whole, floats) < 1e-10);
    lora_table_give(l->t, &mix);
    free(whole);
    rig_adapter_drop(&file);
    lab_close(l);
}

/* --- the table -------------------- */

TEST(lora_leaves_when_its_last_use_is_given_back) {
    static rig_adapter file;
    static const int32_t ids[] = {1, 2, 3};
    lora_mix mix = {0}, late = {0};
    lane one = {ids, 3, 0, &mix};
    error err = {0};
    lab *l = lab_open("synth:tiny:f32", &rig_engines[4]);
    make_for(&file, l->m, 5);
    lab_load(l, 3, file.path);
    CHECK_EQ(lora_table_count(l->t), 1);
    CHECK(lora_table_use(l->t, 3, 1.0f, &mix));
    lab_run(l, &one, 1, 3, 0);
    float first = l->logits[5];
    CHECK_EQ(lora_table_unload(l->t, 3, &err), OK);
    CHECK_EQ(lora_table_count(l->t), 0);
    CHECK(!lora_table_use(l->t, 3, 1.0f, &late));
    CHECK_EQ(lora_table_unload(l->t, 3, &err), ERR_NOT_FOUND);
    lab_load(l, 3, file.path); /* its number is free, its place is not */
    lab_run(l, &one, 1, 3, 0);
    CHECK(l->logits[5] == first);
    lora_table_give(l->t, &mix);
    CHECK_EQ(mix.count, 0);
    CHECK_EQ(lora_table_count(l->t), 1);
    rig_adapter_drop(&file);
    lab_close(l);
}

static const char *load_refusal(lab *l, uint32_t number, const char *path) {
    static error err;
    lora_report report;
    err = (error){0};
    return lora_table_load(l->t, number, path, &report, &err) == OK ? "loaded" : err.msg;
}

/* One matrix with a rank of 3 between so many rows and columns. */
static const char *matrix_refusal(lab *l, const char *tensor, uint32_t rows, uint32_t cols,
                                  uint32_t rank) {
    static rig_adapter file;
    char name[96];
    (void)snprintf(name, sizeof name, "%s.lora_a", tensor);
    (void)rig_matrix_add(&file, name, rank, cols, NULL);
    (void)snprintf(name, sizeof name, "%s.lora_b", tensor);
    (void)rig_matrix_add(&file, name, rows, rank, NULL);
    rig_write_gguf(&file, l->m->hparams.arch, 1.0f);
    const char *said = load_refusal(l, 9, file.path);
    rig_adapter_drop(&file);
    return said;
}

TEST(lora_refuses_what_does_not_fit_by_name) {
    lab *l = lab_open("synth:tiny:f32", &rig_engines[4]);
    uint32_t n = l->m->hparams.n_embd, q = l->m->layers[0].q.w.rows;
    char rows[128], cols[128];
    (void)snprintf(rows, sizeof rows, "'blk.0.attn_q.weight' has %u rows in the adapter, %u in the",
                   q + 1, q);
    (void)snprintf(cols, sizeof cols, "'blk.0.attn_q.weight' has %u columns in the adapter, %u in",
                   n + 1, n);
    CHECK_HAS(matrix_refusal(l, "blk.0.attn_q.weight", q + 1, n, 3), rows);
    CHECK_HAS(matrix_refusal(l, "blk.0.attn_q.weight", q, n + 1, 3), cols);
    CHECK_HAS(matrix_refusal(l, "blk.0.attn_q.weight", q, n, RANK_MAX + 1),
              "rank 17, memory is planned for 16 (--lora-rank-max)");
    CHECK_HAS(matrix_refusal(l, "blk.99.attn_q.weight", q, n, 3),
              "'blk.99.attn_q.weight' is no matrix of this model that can be adapted");
    CHECK_HAS(matrix_refusal(l, "token_embd.weight", l->m->hparams.vocab, n, 3),
              "'token_embd.weight' is no matrix");
    CHECK_HAS(matrix_refusal(l, "blk.0.attn_norm.weight", 1, n, 1), "blk.0.attn_norm.weight");
    CHECK_STR(matrix_refusal(l, "blk.0.attn_q.weight", q, n, 3), "loaded");
    CHECK_EQ(lora_table_count(l->t), 1);
    lab_close(l);
}

TEST(lora_table_has_an_end_and_numbers_are_unique) {
    static rig_adapter file;
    lab *l = lab_open("synth:tiny:f32", &rig_engines[4]);
    make_for(&file, l->m, 5);
    for (uint32_t i = 0; i < 4; i++) lab_load(l, i, file.path);
    CHECK_HAS(load_refusal(l, 3, file.path), "adapter 3 is loaded already");
    CHECK_HAS(load_refusal(l, 4, file.path), "at most 4");
    CHECK_HAS(load_refusal(l, 5, "/nowhere/at.all"), "at most 4");
    CHECK_EQ(lora_table_unload(l->t, 2, NULL), OK);
    CHECK_HAS(load_refusal(l, 5, "/nowhere/at.all"), "/nowhere/at.all");
    lab_load(l, 4, file.path);
    rig_adapter_drop(&file);
    lab_close(l);
}
