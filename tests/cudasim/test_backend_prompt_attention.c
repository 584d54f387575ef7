/* test_backend_prompt_attention.c - mode `fast` of backend_cuda: attention of the rows of prompts
 * has kernels of its own.  Which rows these touch, by how much, that neither company nor chunks
 * change anything, and what is launched. */
#include <math.h>
#include <string.h>

#include "cudasim/backend_rig.h"

static const double FAST_NMSE_MAX = 1e-6; /* backend.h */

enum { SEATS = 3, CTX = 640, COLS_MAX = 1024, PARTS_MAX = 3 };

typedef struct lab_case {
    kv_layout layout;
    uint32_t heads, window;
} lab_case;

#define KV_LAYOUT(t, h, k, v) \
    { .type = DTYPE_##t, .layers = 1, .kv_heads = (h), .key_dim = (k), .value_dim = (v) }

#define LATENTS(t, k, v)                                                                 \
    {                                                                                    \
        .type = DTYPE_##t, .layers = 1, .kv_heads = 1, .key_dim = (k), .value_dim = (v), \
        .v_in_k = true                                                                   \
    }

/* Neighbouring rows of one sequence. */
typedef struct part {
    uint32_t seat, pos0, rows;
    bool prompt;
} part;

static bool is_prompt[RIG_ROWS_MAX];

static lab *make_lab(const lab_case *c, bool fast) {
    const kv_layout *y = &c->layout;
    lab *l = lab_begin(0, CTX);
    l->fast = fast;
    lab_kv(l, *y, SEATS, CTX);
    const uint32_t in_k = y->v_in_k ? y->key_dim - y->value_dim : 0; /* behind the value */
    const value_id q = lab_input(l, c->heads * y->key_dim),
                   k = lab_input(l, y->kv_heads * (y->key_dim - in_k)),
                   v = lab_input(l, y->v_in_k ? in_k : y->kv_heads * y->value_dim);
    pg_kv_write(l->p, k, v);
    const op_attention attn = {.heads = c->heads,
                               .kv_heads = y->kv_heads,
                               .key_dim = y->key_dim,
                               .value_dim = y->value_dim,
                               .scale = 1.0f / sqrtf((float)y->key_dim),
                               .window = c->window,
                               .causal = true};
    lab_finish(l, pg_attention(l->p, q, attn));
    l->in.prompt = is_prompt;
    return l;
}

static uint32_t cols_of(const lab_case *c) { return c->heads * c->layout.value_dim; }

/* A step of these parts, whose rows of prompts come last; its rows, until the next. */
static const float *step(lab *l, const lab_machine *m, const part *parts, uint32_t count) {
    l->in.rows = l->in.taken_rows = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t first = l->in.rows;
        lab_run(l, parts[i].seat, parts[i].pos0, parts[i].rows);
        for (uint32_t r = first; r < l->in.rows; r++) is_prompt[r] = parts[i].prompt;
    }
    return lab_step(l, m);
}

/* Rows 0 .. tokens - 1 of a seat, as a prompt in steps of up to `chunk` rows; out [tokens, cols]
 * may be NULL. */
static void fill(lab *l, const lab_machine *m, uint32_t seat, uint32_t tokens, uint32_t chunk,
                 float *out) {
    const uint32_t cols = krig_cols(l->p);
    for (uint32_t at = 0; at < tokens; at += chunk) {
        const uint32_t rows = tokens - at < chunk ? tokens - at : chunk;
        const float *got = step(l, m, &(part){seat, at, rows, true}, 1);
        if (out != NULL && got != NULL)
            memcpy(out + (size_t)at * cols, got, (size_t)rows * cols * sizeof *got);
    }
}

/* --- who is rounded -------------------- */

enum { PROMPT = 40, BESIDE = 21, ROWS = PROMPT + 2 + BESIDE };

static bool has_kernel_of(const lab_case *c) {
    const kv_layout *l = &c->layout;
    return l->type != DTYPE_F32 && l->key_dim % 16 == 0 && l->value_dim % 16 == 0 &&
           l->key_dim <= 576 && l->value_dim <= 512;
}

/* A prompt; then two rows that were generated, the second of another sequence's, and the beginning
 * of a third one beside them. */
static void run_all(const lab_case *c, bool fast, const backend_ops *ops, float *out) {
    static const part beside[] = {
        {0, PROMPT, 1, false}, {1, PROMPT, 1, false}, {2, 0, BESIDE, true}};
    const uint32_t cols = cols_of(c);
    backend_report report;
    lab_machine m;
    lab *l = make_lab(c, fast);
    if (lab_open(l, ops, &m)) {
        fill(l, &m, 1, PROMPT, PROMPT, NULL);
        fill(l, &m, 0, PROMPT, PROMPT, out);
        const float *got = step(l, &m, beside, 3);
        if (got != NULL)
            memcpy(out + (size_t)PROMPT * cols, got, (size_t)(2 + BESIDE) * cols * sizeof *out);
        ops->report(m.b, &report);
        const bool rounds = fast && ops == &backend_cuda && has_kernel_of(c);
        CHECK_STR(report.numerics, rounds ? "fast" : "exact");
        lab_close(&m);
    }
    lab_free(l);
}

static void check_rounding(const lab_case *c, bool has_kernel) {
    CHECK_EQ(has_kernel_of(c), has_kernel);
    static float ref[ROWS * COLS_MAX], exact[ROWS * COLS_MAX], fast[ROWS * COLS_MAX];
    const size_t cols = cols_of(c), prompt = PROMPT * cols, generated = 2 * cols,
                 beside = BESIDE * cols;
    CHECK(cols <= COLS_MAX);
    run_all(c, false, &backend_ref, ref);
    run_all(c, false, &backend_cuda, exact);
    run_all(c, true, &backend_cuda, fast);
    CHECK(memcmp(fast + prompt, exact + prompt, generated * sizeof *fast) == 0);
    CHECK_EQ(memcmp(fast, exact, prompt * sizeof *fast) == 0, !has_kernel);
    CHECK_EQ(memcmp(fast + prompt + generated, exact + prompt + generated, beside * sizeof *fast) ==
                 0,
             !has_kernel);
    const double nmse = krig_nmse(fast, ref, prompt + generated + beside);
    if (nmse > FAST_NMSE_MAX)
        (void)fprintf(stderr, "%s, %u and %u: nmse %g\n", dtype_name(c->layout.type),
                      c->layout.key_dim, c->layout.value_dim, nmse);
    CHECK(nmse <= FAST_NMSE_MAX);
}

static const lab_case cases[] = {
    {KV_LAYOUT(F16, 2, 64, 64), 8, 0},   {KV_LAYOUT(Q8_0, 1, 96, 64), 7, 0},
    {KV_LAYOUT(F16, 1, 16, 112), 3, 12}, {KV_LAYOUT(F16, 1, 256, 256), 2, 0},
    {KV_LAYOUT(Q4_0, 2, 96, 64), 4, 20}, {LATENTS(F16, 576, 512), 2, 0},
    {LATENTS(Q8_0, 576, 512), 1, 0}};
enum { CASES = sizeof cases / sizeof cases[0] };

TEST(cuda_fast_attention_rounds_prompts_only_and_within_bounds) {
    static const char *const machines[] = {"t4", "h100"};
    for (size_t k = 0; k < 2; k++) {
        HOST_MACHINE(machines[k]);
        for (size_t i = 0; i < CASES; i++) check_rounding(&cases[i], true);
    }
    CHECK_EQ(host.leaks(), 0);
}

/* A cache of F32, and heads that tensor cores do not take. */
TEST(cuda_fast_attention_without_a_kernel_is_exact) {
    static const lab_case others[] = {{KV_LAYOUT(F16, 2, 24, 32), 4, 0},
                                      {KV_LAYOUT(F16, 1, 16, 528), 1, 0}};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < 2; i++) check_rounding(&others[i], false);
    const lab_case in_f32 = {KV_LAYOUT(F32, 2, 64, 64), 4, 0};
    check_rounding(&in_f32, false);
}

/* --- the same bits -------------------- */

TEST(cuda_fast_attention_does_not_depend_on_chunks) {
    static const uint32_t chunks[] = {1, 7, 16, 33};
    static float whole[RIG_ROWS_MAX * COLS_MAX], cut[RIG_ROWS_MAX * COLS_MAX];
    HOST_MACHINE("t4");
    for (size_t i = 0; i < CASES; i++) {
        lab_machine m;
        lab *l = make_lab(&cases[i], true);
        const size_t bytes = (size_t)RIG_ROWS_MAX * cols_of(&cases[i]) * sizeof(float);
        if (lab_open(l, &backend_cuda, &m)) {
            fill(l, &m, 0, RIG_ROWS_MAX, RIG_ROWS_MAX, whole);
            for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
                memset(cut, 0, bytes);
                fill(l, &m, 0, RIG_ROWS_MAX, chunks[k], cut);
                CHECK(memcmp(whole, cut, bytes) == 0);
            }
            lab_close(&m);
        }
        lab_free(l);
    }
}

/* Long spans, which several blocks share: of rows that were generated, in any company, as without
 * mode fast; a run may have rows of both kinds. */
TEST(cuda_fast_attention_leaves_long_generated_rows_alone) {
    enum { LONG = 9 * RIG_ROWS_MAX, OWN = 3, MORE = 5 };
    static const lab_case c = {KV_LAYOUT(F16, 2, 32, 32), 4, 0};
    static const part steps[][PARTS_MAX] = {
        {{1, LONG, OWN, false}},
        {{1, LONG, OWN, false}, {0, 0, 30, true}},
        {{1, LONG, OWN, false}, {1, LONG + OWN, MORE, true}, {0, 30, 20, true}}};
    static float want[OWN * COLS_MAX];
    const size_t bytes = OWN * cols_of(&c) * sizeof(float);
    HOST_MACHINE("t4");
    for (int fast = 0; fast < 2; fast++) {
        lab_machine m;
        lab *l = make_lab(&c, fast != 0);
        if (lab_open(l, &backend_cuda, &m)) {
            fill(l, &m, 1, LONG, RIG_ROWS_MAX, NULL);
            for (uint32_t s = 0; s < 3; s++) {
                const float *got = step(l, &m, steps[s], s + 1);
                if (fast == 0 && s == 0) memcpy(want, got, bytes);
                CHECK(memcmp(got, want, bytes) == 0);
            }
            lab_close(&m);
        }
        lab_free(l);
    }
    CHECK_EQ(host.leaks(), 0);
}

/* --- launches -------------------- */

static const lab_case counted = {KV_LAYOUT(F16, 2, 64, 64), 8, 0};

TEST(cuda_fast_attention_is_launched_only_for_rows_that_there_are) {
    static const struct {
        part parts[2];
        uint32_t count;
        uint64_t attentions, prompts;
    } steps[] = {{{{0, 0, 20, true}}, 1, 0, 1},
                 {{{0, 20, 1, false}}, 1, 1, 0},
                 {{{0, 21, 1, false}, {1, 0, 1, true}}, 2, 1, 1},
                 {{{1, 1, 1, true}}, 1, 0, 1}};
    HOST_MACHINE("t4");
    lab_machine m;
    lab *l = make_lab(&counted, true);
    if (lab_open(l, &backend_cuda, &m)) {
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            const uint64_t attentions = host.launches("k_attention_f16_n4"),
                           prompts = host.launches("k_prompt_attention_f16_d64");
            (void)step(l, &m, steps[i].parts, steps[i].count);
            CHECK_EQ(host.launches("k_attention_f16_n4") - attentions, steps[i].attentions);
            CHECK_EQ(host.launches("k_prompt_attention_f16_d64") - prompts, steps[i].prompts);
        }
        lab_close(&m);
    }
    lab_free(l);
}

/* What bench --kernels holds against the rate of halves. */
TEST(cuda_fast_attention_is_told_as_computed_in_halves) {
    static const part steps[] = {{0, 0, 20, true}, {0, 20, 1, false}, {1, 0, 3, true}};
    static const char *const names[] = {"k_prompt_attention_f16_d64", "k_attention_f16_n4",
                                        "k_prompt_attention_f16_d64"};
    HOST_MACHINE("t4");
    lab_machine m;
    lab *l = make_lab(&counted, true);
    if (lab_open(l, &backend_cuda, &m)) {
        CHECK_EQ(backend_cuda.profile(m.b, true, NULL), OK);
        for (size_t i = 0; i < 3; i++) {
            backend_profile parts[BACKEND_PARTS_MAX];
            uint32_t found = 0;
            (void)step(l, &m, &steps[i], 1);
            CHECK_EQ(backend_cuda.profiled(m.b, parts), 1);
            for (uint32_t t = 0; t < parts[0].count; t++) {
                const backend_task *task = &parts[0].tasks[t];
                if (!task->ran || strcmp(task->name, names[i]) != 0) continue;
                CHECK_EQ(task->halves, steps[i].prompt);
                found++;
            }
            CHECK_EQ(found, 1);
        }
        lab_close(&m);
    }
    lab_free(l);
}
