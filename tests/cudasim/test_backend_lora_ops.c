/* test_backend_lora_ops.c - adapters on the software GPU below the engine's tables: matrices of
 * every type, products of which only some can be adapted, sums, rows that are taken, and the
 * weights of every family of models. */
#include <stdlib.h>
#include <string.h>

#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

/* --- small programs -------------------- */

enum { COLS = 96, OUT = 40, SLOTS_MAX = 4 };

typedef struct adapter {
    lora_pair pairs[SLOTS_MAX];
} adapter;

/* For the weights of a program; the slot `left_out` is none of the adapter's. */
static void fill_adapter(adapter *a, lab *l, dtype type, uint32_t rank, uint32_t left_out) {
    for (uint32_t i = 0; i < l->p->ops_count; i++) {
        const op *o = &l->p->ops[i];
        if (o->lora_slot == LORA_SLOT_NONE || o->lora_slot == left_out) continue;
        CHECK(o->lora_slot < SLOTS_MAX);
        a->pairs[o->lora_slot] =
            (lora_pair){.a = krig_weight(&l->weights, &l->random, type, rank, o->w.cols),
                        .b = krig_weight(&l->weights, &l->random, type, o->w.rows, rank),
                        .scale = 2.0f / (float)rank};
    }
}

static value_id product(lab *l, value_id x, dtype type, uint32_t rows, const char *name,
                        bool bias) {
    weight w = krig_weight(&l->weights, &l->random, type, rows, l->p->values[x].cols);
    w.name = str_of(name);
    return pg_matmul(l->p, x, w, bias ? krig_vector(&l->weights, &l->random, rows) : NULL);
}

/* Three products side by side of which one cannot be adapted, gates, a sum with what was before,
 * and a norm behind it that nobody may make of a result that is not whole. */
static value_id layer(lab *l, dtype type) {
    program *p = l->p;
    value_id x = lab_input(l, COLS), n = krig_norm_rms(p, x, NULL);
    value_id a = product(l, n, type, COLS, "a", true), b = product(l, n, type, COLS, "b", false);
    value_id c = product(l, n, type, COLS, "", false);
    value_id y = pg_add(p, krig_silu_mul(p, a, b), c);
    x = pg_add(p, x, product(l, y, type, COLS, "d", true));
    n = krig_norm_rms(p, x, NULL);
    return pg_add(p, x, product(l, n, type, COLS, "e", false));
}

typedef struct mixes {
    lora_mix of[3];
} mixes;

static void make_mixes(mixes *m, const adapter *one, const adapter *two) {
    *m = (mixes){{{.count = 1}, {.count = 2}, {.count = LORA_PER_ROW_MAX}}};
    for (int i = 0; i < 3; i++)
        for (uint32_t u = 0; u < m->of[i].count; u++) {
            m->of[i].uses[u].pairs = u % 2 == 0 ? one->pairs : two->pairs;
            m->of[i].uses[u].scale = 0.5f + 0.125f * (float)u;
        }
}

/* Results of the rows first .. end - 1, on the heap. */
static float *step_of(lab *l, const lab_machine *m, const krig_batch *all, uint32_t first,
                      uint32_t end) {
    const size_t cols = krig_cols(l->p);
    l->in.rows = l->in.taken_rows = end - first;
    for (uint32_t r = first; r < end; r++) {
        l->in.tokens[r - first] = all->tokens[r];
        l->in.loras[r - first] = all->loras[r];
        l->in.taken[r - first] = r - first;
    }
    const float *got = lab_step(l, m);
    float *out = calloc((end - first) * cols, sizeof *out);
    if (got != NULL) memcpy(out, got, (end - first) * cols * sizeof *out);
    return out;
}

/* All rows at once, and each alone. */
static void check_rows(lab *l, const adapter *one, const adapter *two, double nmse_max,
                       const char *what) {
    lab_machine cuda, ref;
    const krig_batch all = l->in;
    const size_t cols = krig_cols(l->p);
    if (!lab_open(l, &backend_cuda, &cuda)) return;
    CHECK(lab_open(l, &backend_ref, &ref));
    CHECK_EQ(backend_cuda.adapter_add(cuda.b, one->pairs, NULL), OK);
    CHECK_EQ(backend_cuda.adapter_add(cuda.b, two->pairs, NULL), OK);
    float *got = step_of(l, &cuda, &all, 0, all.rows);
    float *want = step_of(l, &ref, &all, 0, all.rows);
    const double nmse = krig_nmse(got, want, all.rows * cols);
    if (!(nmse <= nmse_max)) (void)fprintf(stderr, "%s: nmse %g\n", what, nmse);
    CHECK(nmse <= nmse_max);
    for (uint32_t r = 0; r < all.rows; r++) {
        float *alone = step_of(l, &cuda, &all, r, r + 1);
        CHECK(memcmp(alone, got + r * cols, cols * sizeof *alone) == 0);
        free(alone);
    }
    backend_cuda.adapter_drop(cuda.b, one->pairs);
    l->in = all;
    lab_close(&cuda); /* the other one goes with it */
    lab_close(&ref);
    free(got);
    free(want);
}

static void check_layer(dtype type, dtype a, dtype b, uint32_t rows, double nmse_max) {
    lab *l = lab_begin(rows, 64);
    adapter one = {0}, two = {0};
    mixes m;
    lab_finish(l, layer(l, type));
    CHECK_EQ(l->p->lora_slots, SLOTS_MAX);
    fill_adapter(&one, l, a, RIG_LORA_RANK, 99);
    fill_adapter(&two, l, b, 5, 1);
    make_mixes(&m, &one, &two);
    l->in.use_loras = true;
    for (uint32_t r = 0; r < rows; r++) l->in.loras[r] = r / 2 % 4 < 3 ? &m.of[r / 2 % 4] : NULL;
    check_rows(l, &one, &two, nmse_max, dtype_name(type));
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_adapters_of_every_type_on_weights_of_every_type) {
    HOST_MACHINE("t4");
    check_layer(DTYPE_F32, DTYPE_F32, DTYPE_F16, 17, 1e-10);
    check_layer(DTYPE_F16, DTYPE_F16, DTYPE_BF16, 9, 1e-10);
    check_layer(DTYPE_BF16, DTYPE_BF16, DTYPE_F32, 8, 1e-10);
    check_layer(DTYPE_Q8_0, DTYPE_F16, DTYPE_F32, 17, 1e-3);
    check_layer(DTYPE_Q4_0, DTYPE_BF16, DTYPE_F16, 1, 1e-3);
}

/* A row among the taken ones has the adapter of its row in the batch, so has one of the head. */
TEST(cuda_adapters_of_taken_and_head_rows) {
    enum { ROWS = 13 };
    HOST_MACHINE("t4");
    lab *l = lab_begin(ROWS, 64);
    adapter one = {0}, two = {0};
    mixes m;
    lab_machine at[2];
    step_result got[2];
    value_id hidden = product(l, pg_take_rows(l->p, lab_input(l, COLS)), DTYPE_F32, COLS, "h", 0);
    value_id logits = product(l, pg_take_rows(l->p, hidden), DTYPE_Q8_0, OUT, "l", true);
    CHECK_EQ(program_finish(l->p, hidden, logits, NULL), OK);
    fill_adapter(&one, l, DTYPE_F16, 8, 99);
    fill_adapter(&two, l, DTYPE_F32, 3, 99);
    make_mixes(&m, &one, &two);
    l->in.use_loras = true;
    l->in.taken_rows = l->in.head_rows = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        l->in.loras[r] = r % 4 > 0 ? &m.of[r % 3] : NULL;
        if (r % 3 == 1) continue;
        if (r % 2 == 0) l->in.head[l->in.head_rows++] = l->in.taken_rows;
        l->in.taken[l->in.taken_rows++] = r;
    }
    for (int i = 0; i < 2; i++) {
        const backend_ops *ops = i == 0 ? &backend_cuda : &backend_ref;
        CHECK(lab_open(l, ops, &at[i]));
        if (ops->adapter_add != NULL) {
            CHECK_EQ(ops->adapter_add(at[i].b, one.pairs, NULL), OK);
            CHECK_EQ(ops->adapter_add(at[i].b, two.pairs, NULL), OK);
        }
        got[i] = krig_step_both(&(krig_machine){.ops = ops}, at[i].b, &l->in);
        CHECK(got[i].fault == NULL);
    }
    CHECK(krig_nmse(got[0].hidden, got[1].hidden, (size_t)l->in.taken_rows * COLS) <= 1e-12);
    CHECK(krig_nmse(got[0].logits, got[1].logits, (size_t)l->in.head_rows * OUT) <= 1e-6);
    for (int i = 0; i < 2; i++) lab_close(&at[i]);
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}

/* --- families of models -------------------- */

enum { TOKENS = 12, PROMPT = 5 };

/* One adapter of all weights, of the parts of fused ones, too. */
typedef struct whole_adapter {
    krig_weights weights;
    lora_pair *pairs; /* owned; [slots] */
} whole_adapter;

static void make_whole(whole_adapter *a, const engine *e, uint64_t seed) {
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    krig_random random = {seed};
    *a = (whole_adapter){.pairs = calloc(engine_lora_slots(e), sizeof *a->pairs)};
    for (uint32_t i = 0; i < engine_lora_slots(e); i++) {
        const lora_slot s = engine_lora_slot(e, i);
        const uint32_t rank = 2 + (i + (uint32_t)seed) % 7;
        a->pairs[i] =
            (lora_pair){.a = krig_weight(&a->weights, &random, types[i % 3], rank, s.cols),
                        .b = krig_weight(&a->weights, &random, types[(i + seed) % 3], s.rows, rank),
                        .scale = 0.3f};
    }
}

static void free_whole(whole_adapter *a) {
    krig_weights_deinit(&a->weights);
    free(a->pairs);
}

/* Two sequences of which one has an adapter, the other two of them; of an encoder in one step.
 * Logits, or hidden states, of all rows in the order of the steps; the caller frees. */
static float *run_two(const model *m, const rig_engine *on, size_t *floats) {
    const bool encoder = m->hparams.is_encoder;
    engine_options opt = rig_options(on, DTYPE_F32, 64);
    engine *e = NULL;
    error err = {0};
    whole_adapter a[2];
    opt.rows_max = opt.taken_rows_max = opt.hidden_rows_max = 2 * TOKENS;
    opt.lora_rank_max = 8;
    if (engine_open(&e, m, &opt, &err) != OK) {
        (void)fprintf(stderr, "%s: %s\n", on->name, err.msg);
        CHECK(false);
        return NULL;
    }
    for (uint32_t i = 0; i < 2; i++) {
        make_whole(&a[i], e, i + 1);
        CHECK_EQ(engine_adapter_add(e, a[i].pairs, &err), OK);
    }
    const lora_mix mix[2] = {{.count = 1, .uses = {{a[0].pairs, 1.0f}}},
                             {.count = 2, .uses = {{a[1].pairs, 0.5f}, {a[0].pairs, -0.75f}}}};
    const size_t cols = encoder ? engine_hidden_cols(e) : engine_logits_cols(e);
    float *out = calloc(2 * TOKENS * cols, sizeof *out);
    *floats = 0;
    for (uint32_t at = 0, n = 0; at < TOKENS; at += n) {
        engine_row rows[2 * TOKENS];
        uint32_t count = 0;
        n = encoder ? TOKENS : at == 0 ? PROMPT : 1;
        for (uint32_t s = 0; s < 2; s++) {
            CHECK_EQ(kv_seat_grow(engine_kv(e), s, at + n, NULL), OK);
            for (uint32_t i = at; i < at + n; i++)
                rows[count++] = (engine_row){.token = (int32_t)((i * 31 + s * 7 + 5) % 200),
                                             .pos = i,
                                             .seat = s,
                                             .wants_logits = !encoder,
                                             .wants_hidden = encoder,
                                             .lora = &mix[s]};
        }
        const float *logits = engine_step(e, rows, count);
        const float *got = encoder ? engine_hidden(e) : logits;
        CHECK(engine_fault(e) == NULL && got != NULL);
        if (got == NULL) break;
        memcpy(out + *floats, got, count * cols * sizeof *out);
        *floats += count * cols;
    }
    for (uint32_t i = 0; i < 2; i++) {
        engine_adapter_drop(e, a[i].pairs);
        free_whole(&a[i]);
    }
    engine_close(e);
    return out;
}

static void check_family(const char *name) {
    char path[256];
    model *m = NULL;
    size_t n = 0;
    (void)snprintf(path, sizeof path, "oracle/public/models/%s/model-f32.gguf", name);
    CHECK_EQ(model_open(&m, shared_path(path), NULL), OK);
    if (m == NULL) return;
    float *got = run_two(m, &on_cuda, &n), *want = run_two(m, &rig_engines[0], &n);
    const double nmse = got != NULL && want != NULL ? rig_nmse(got, want, n) : 1;
    if (!(nmse <= 1e-9)) (void)fprintf(stderr, "%s: nmse %g\n", name, nmse);
    CHECK(nmse <= 1e-9);
    free(got);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_adapters_of_every_family_are_near_the_reference) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the tests of ops have every kernel");
#endif
    static const char *const families[] = {"bert",    "command-r", "deepseek2",     "falcon",
                                           "gemma3",  "gpt-oss",   "llama-mha",     "mamba",
                                           "mixtral", "olmo2",     "phi3-longrope", "qwen2moe",
                                           "qwen3",   "stablelm",  "starcoder2"};
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) check_family(families[i]);
}
