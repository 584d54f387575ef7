/* test_cpu_attention.c - attention of the cpu backend over several spans of positions.
 *
 * Method: the tokens of a sequence are fed in chunks of several sizes, alone and beside another
 * sequence, to every instruction-set class with several numbers of threads.  All of them must come
 * near the reference, and those of one class must agree in every bit.  The cache is full of NaN
 * where nobody has written, so that a look at what a row must not see is noticed.  Short sequences
 * and odd head sizes are in tests/kernels/test_cpu_attention.c. */
#include <math.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_kernels.h"
#include "tensor/convert.h"
#include "test.h"

/* backend.h: f32 arithmetic against double; both round the same keys and values to f16. */
static const double attn_nmse_max = 1e-11;
/* The same: prompts in mode fast in bf16. */
static const double attn_fast_nmse_max = 3e-5;

enum { SEATS = 2, TOKENS_MAX = 300, TABLE_ROWS = 61, OTHER_ROWS = 5 };

typedef struct attn_case {
    const char *what;
    op_attention op;
    dtype type;
    bool v_in_k;
    uint32_t tokens;
} attn_case;

/* Which tokens were given.  Mixed: stretches of several lengths, not those of blocks or tiles. */
typedef enum attn_prompts { PROMPTS_NONE, PROMPTS_ALL, PROMPTS_MIXED } attn_prompts;

static bool attn_is_prompt(attn_prompts prompts, uint32_t pos) {
    if (prompts == PROMPTS_MIXED) return pos % 90 < 37 || pos % 11 == 3;
    return prompts == PROMPTS_ALL;
}

/* --- programs and batches ---------------------------------------------------------- */

static float attn_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) / 0x1p31f;
}

static kv_layout layout_of_case(const attn_case *c) {
    return (kv_layout){.type = c->type,
                       .layers = 1,
                       .kv_heads = c->op.kv_heads,
                       .key_dim = c->op.key_dim,
                       .value_dim = c->op.value_dim,
                       .v_in_k = c->v_in_k};
}

/* A program and the tables that it reads. */
typedef struct attn_program {
    program *p;
    float *tables[3];
    uint32_t cols; /* of the result */
} attn_program;

static value_id input(attn_program *a, int i, uint32_t cols) {
    uint64_t state = (uint64_t)i + cols;
    float *t = malloc((size_t)TABLE_ROWS * cols * sizeof *t);
    for (size_t k = 0; k < (size_t)TABLE_ROWS * cols; k++) t[k] = attn_random(&state) * 1.7f;
    a->tables[i] = t;
    return pg_embed(a->p, (weight){.type = DTYPE_F32, .rows = TABLE_ROWS, .cols = cols, .data = t});
}

static void attn_program_init(attn_program *a, const attn_case *c) {
    const program_limits max = {.rows = TOKENS_MAX + OTHER_ROWS,
                                .taken = TOKENS_MAX + OTHER_ROWS,
                                .head = 1,
                                .ctx = TOKENS_MAX};
    const op_attention *o = &c->op;
    CHECK_EQ(program_create(&a->p, &max, NULL), OK);
    const uint32_t k_dim = c->v_in_k ? o->value_dim : o->key_dim;
    const uint32_t v_dim = c->v_in_k ? o->key_dim - o->value_dim : o->value_dim;
    value_id q = input(a, 0, o->heads * o->key_dim);
    value_id k = input(a, 1, o->kv_heads * k_dim), v = input(a, 2, o->kv_heads * v_dim);
    pg_kv_write(a->p, k, v);
    value_id y = pg_take_rows(a->p, pg_attention(a->p, q, *o));
    CHECK_EQ(program_finish(a->p, y, VALUE_NONE, NULL), OK);
    a->cols = o->heads * o->value_dim;
}

static void attn_program_deinit(attn_program *a) {
    program_destroy(a->p);
    for (int i = 0; i < 3; i++) free(a->tables[i]);
}

/* One backend with its cache, and how far its sequences are. */
typedef struct attn_machine {
    const backend_ops *ops;
    backend *b;
    kv_view kv;
    uint32_t table[SEATS * (TOKENS_MAX / KV_BLOCK_TOKENS + 1)];
    uint32_t done[SEATS];
    attn_prompts prompts;
} attn_machine;

static void attn_machine_init(attn_machine *m, const attn_program *a, const attn_case *c,
                              const backend_ops *ops, backend_options opt) {
    *m = (attn_machine){.ops = ops, .kv = {.layout = layout_of_case(c)}};
    const uint32_t stride = TOKENS_MAX / KV_BLOCK_TOKENS + 1, blocks = SEATS * stride;
    for (uint32_t i = 0; i < blocks; i++) m->table[i] = i * 5 % blocks; /* in no order */
    m->kv.table_stride = stride;
    m->kv.tables = m->table;
    const size_t bytes = blocks * kv_block_bytes(&m->kv.layout);
    m->kv.blocks = malloc(bytes);
    memset(m->kv.blocks, 0xFF, bytes); /* NaN, be it f16 or f32 */
    CHECK_EQ(ops->open(&m->b, a->p, &opt, NULL), OK);
}

static void attn_machine_deinit(attn_machine *m) {
    m->ops->close(m->b);
    free(m->kv.blocks);
}

/* The next so many tokens of each seat; out [rows of seat 0, cols]. */
static void attn_step(attn_machine *m, const attn_program *a, const uint32_t rows[SEATS],
                      float *out) {
    static int32_t tokens[TOKENS_MAX + OTHER_ROWS];
    static uint32_t pos[TOKENS_MAX + OTHER_ROWS], seats[TOKENS_MAX + OTHER_ROWS];
    static uint32_t taken[TOKENS_MAX + OTHER_ROWS];
    static bool prompt[TOKENS_MAX + OTHER_ROWS];
    batch_run runs[SEATS];
    batch in = {
        .tokens = tokens, .pos = pos, .seats = seats, .taken = taken, .runs = runs, .kv = m->kv};
    uint32_t first = 0; /* row of seat 0 */
    for (uint32_t s = SEATS; s-- > 0;) {
        if (rows[s] == 0) continue;
        runs[in.runs_count++] = (batch_run){in.rows, rows[s], s, m->done[s]};
        if (s == 0) first = in.rows;
        for (uint32_t i = 0; i < rows[s]; i++) {
            const uint32_t r = in.rows++, at = m->done[s]++;
            tokens[r] = (int32_t)((at * 7 + s * 3 + at * at) % TABLE_ROWS);
            pos[r] = at;
            seats[r] = s;
            taken[r] = r;
            prompt[r] = attn_is_prompt(m->prompts, at);
        }
    }
    in.taken_rows = in.rows;
    if (m->prompts != PROMPTS_NONE) in.prompt = prompt;
    const float *y = m->ops->step(m->b, &in).hidden;
    memcpy(out, y + (size_t)first * a->cols, (size_t)rows[0] * a->cols * sizeof *out);
}

/* How a sequence is cut: chunks of these sizes, again and again; 0: all at once. */
typedef struct attn_cut {
    uint32_t chunks[4];
    uint32_t other; /* rows of the other sequence beside each chunk */
    attn_prompts prompts;
} attn_cut;

/* All rows of the sequence [tokens, cols]; the caller frees. */
static float *attn_run(const attn_program *a, const attn_case *c, const backend_ops *ops,
                       backend_options opt, const attn_cut *cut) {
    attn_machine m;
    float *out = malloc((size_t)c->tokens * a->cols * sizeof *out);
    attn_machine_init(&m, a, c, ops, opt);
    m.prompts = cut->prompts;
    for (int i = 0; m.done[0] < c->tokens; i++) {
        uint32_t rows[SEATS] = {cut->chunks[i % 4], cut->other};
        const uint32_t left = c->tokens - m.done[0];
        if (rows[0] == 0 || rows[0] > left) rows[0] = left;
        if (m.done[1] + rows[1] > c->tokens) rows[1] = 0;
        attn_step(&m, a, rows, out + (size_t)m.done[0] * a->cols);
    }
    attn_machine_deinit(&m);
    return out;
}

/* --- what must hold ---------------------------------------------------------------- */

static double attn_nmse(const float *a, const float *b, size_t n) {
    double wrong = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        wrong += d * d;
        all += (double)b[i] * (double)b[i];
    }
    return wrong / all; /* NaN where there is one */
}

/* Classes that this CPU may not have come out as the best one that it has. */
static const cpu_isa attn_classes[] = {
    CPU_ISA_SCALAR,
#if defined(__x86_64__)
    CPU_ISA_AVX2,
    CPU_ISA_AVX512,
#else
    CPU_ISA_AUTO,
#endif
};
enum { CLASSES = sizeof attn_classes / sizeof attn_classes[0] };

static const attn_cut whole = {{0}, 0, PROMPTS_NONE};

/* What one class must give. */
typedef struct attn_wanted {
    const float *near;  /* of the reference */
    const float *first; /* of this class, or NULL before the first run */
    double nmse_max;
} attn_wanted;

static void check_result(const attn_case *c, backend_options opt, const attn_wanted *want,
                         const float *got, size_t n) {
    const double nmse = attn_nmse(got, want->near, n);
    const bool near = nmse <= want->nmse_max;
    const bool same = want->first == NULL || memcmp(got, want->first, n * sizeof *got) == 0;
    if (!near || !same)
        (void)fprintf(stderr, "%s, class %d, %u threads: nmse %g, same bits %d\n", c->what,
                      (int)opt.isa_cap, opt.threads, nmse, same);
    CHECK(near);
    CHECK(same);
}

/* Near the reference, and the same bits however it is cut and whoever computes it. */
static void check_class(const attn_program *a, const attn_case *c, cpu_isa isa, bool fast,
                        const float *near) {
    static const attn_cut cuts[] = {{.other = 0},
                                    {.other = OTHER_ROWS},
                                    {.chunks = {1, 1, 1, 1}, .other = 1},
                                    {.chunks = {7, 130, 1, 30}},
                                    {.chunks = {97, 16, 3, 64}, .other = 3}};
    static const uint32_t threads[] = {1, 2, 5};
    float *first = NULL;
    for (size_t i = 0; i < (c->op.causal ? 15 : 6); i++) {
        const size_t cut = i / 3, t = i % 3;
        if (cut > 1 && t != (cut + 1) % 3) continue; /* small steps: one number of threads each */
        const backend_options opt = {.threads = threads[t], .isa_cap = isa, .fast = fast};
        const attn_wanted want = {near, first, fast ? attn_fast_nmse_max : attn_nmse_max};
        attn_cut how = cuts[cut];
        how.prompts = fast ? PROMPTS_ALL : PROMPTS_NONE;
        float *got = attn_run(a, c, &backend_cpu, opt, &how);
        check_result(c, opt, &want, got, (size_t)c->tokens * a->cols);
        if (first != NULL)
            free(got);
        else
            first = got;
    }
    free(first);
}

static void check_case(const attn_case *c) {
    attn_program a;
    attn_program_init(&a, c);
    float *want = attn_run(&a, c, &backend_ref, (backend_options){.threads = 1}, &whole);
    for (size_t i = 0; i < CLASSES; i++) check_class(&a, c, attn_classes[i], false, want);
    free(want);
    attn_program_deinit(&a);
}

/* --- cases -------------------------------------------------------------------------- */

static attn_case case_of(uint32_t heads, uint32_t kv_heads, uint32_t dim, dtype type) {
    return (attn_case){.what = "heads and sizes",
                       .op = {.heads = heads,
                              .kv_heads = kv_heads,
                              .key_dim = dim,
                              .value_dim = dim,
                              .scale = 1.0f / sqrtf((float)dim),
                              .causal = true},
                       .type = type,
                       .tokens = 290};
}

TEST(cpu_attention_over_spans_of_every_group_size) {
    static const uint32_t shapes[][3] = {
        {5, 5, 80}, {4, 2, 20}, {12, 4, 16}, {8, 1, 64}, {13, 1, 12}};
    for (size_t i = 0; i < 5; i++) {
        const uint32_t *s = shapes[i];
        attn_case c = case_of(s[0], s[1], s[2], i % 2 ? DTYPE_F32 : DTYPE_F16);
        check_case(&c);
    }
}

/* More heads read one KV head than a tile has queries. */
TEST(cpu_attention_over_spans_of_heads_that_fill_tiles) {
    attn_case c = case_of(131, 1, 4, DTYPE_F16);
    c.tokens = 140;
    check_case(&c);
    c = case_of(33, 1, 260, DTYPE_F32); /* long heads have smaller tiles */
    c.tokens = 40;
    check_case(&c);
}

TEST(cpu_attention_over_spans_of_keys_unlike_values) {
    static const uint32_t dims[][2] = {{100, 36}, {24, 96}, {17, 33}};
    for (size_t i = 0; i < 3; i++) {
        attn_case c = case_of(4, 2, dims[i][0], i % 2 ? DTYPE_F32 : DTYPE_F16);
        c.what = "keys unlike values";
        c.op.value_dim = dims[i][1];
        check_case(&c);
    }
}

/* The latent of DeepSeek: one KV head, and values that are the first part of the keys. */
TEST(cpu_attention_over_spans_of_latents) {
    for (int type = DTYPE_F32; type <= DTYPE_F16; type++) {
        attn_case c = case_of(3, 1, 576, (dtype)type);
        c.what = "latents";
        c.op.value_dim = 512;
        c.v_in_k = true;
        c.tokens = 140;
        check_case(&c);
    }
}

/* Both sides read the same codes and scales. */
static void check_codes(dtype type, const char *what) {
    static const uint32_t shapes[][4] = {
        {5, 5, 96, 96}, {4, 2, 32, 32}, {8, 1, 64, 128}, {13, 1, 128, 32}, {3, 1, 576, 512}};
    for (size_t i = 0; i < 5; i++) {
        const uint32_t *s = shapes[i];
        attn_case c = case_of(s[0], s[1], s[2], type);
        c.what = what;
        c.op.value_dim = s[3];
        c.v_in_k = i == 4;
        c.tokens = 140; /* two spans */
        if (i == 1) c.op.window = 100;
        check_case(&c);
    }
}

TEST(cpu_attention_over_spans_of_8_bits) { check_codes(DTYPE_Q8_0, "8 bits"); }
TEST(cpu_attention_over_spans_of_4_bits) { check_codes(DTYPE_Q4_0, "4 bits"); }

TEST(cpu_attention_over_spans_within_windows) {
    static const uint32_t windows[] = {1, 17, 100, 128, 131};
    for (size_t i = 0; i < 5; i++) {
        attn_case c = case_of(4, 2, 16, i % 2 ? DTYPE_F32 : DTYPE_F16);
        c.what = "window";
        c.op.window = windows[i];
        check_case(&c);
        c.op.causal = false;
        check_case(&c);
    }
}

TEST(cpu_attention_over_spans_that_looks_ahead) {
    attn_case c = case_of(6, 2, 32, DTYPE_F16);
    c.what = "not causal";
    c.op.causal = false;
    check_case(&c);
    c.op.kv_heads = 6;
    c.type = DTYPE_F32;
    check_case(&c);
}

/* Each alone, then all at once. */
TEST(cpu_attention_over_spans_softcap_sinks_and_slopes) {
    static const float sinks[4] = {0.5f, -3.0f, 9.0f, -INFINITY};
    static const float slopes[4] = {0.5f, 0.01f, 0.0625f, 0.0f};
    static const int sets[] = {1, 2, 4, 8 | 6, 15};
    for (size_t i = 0; i < 5; i++) {
        attn_case c = case_of(4, 2, 24, i % 2 ? DTYPE_F32 : DTYPE_F16);
        c.what = "softcap, sinks, slopes";
        if (sets[i] & 1) c.op.softcap = 1.5f;
        if (sets[i] & 2) c.op.sinks = sinks;
        if (sets[i] & 4) c.op.slopes = slopes;
        if (sets[i] & 8) c.op.window = 150;
        check_case(&c);
    }
}

/* Most weights vanish, and the maximum moves from span to span. */
TEST(cpu_attention_over_spans_of_large_scores) {
    attn_case c = case_of(4, 2, 16, DTYPE_F32);
    c.what = "large scores";
    c.op.scale = 2;
    check_case(&c);
}

/* --- mode fast ---------------------------------------------------------------------- */

#if defined(__x86_64__)
static const cpu_isa fast_classes[] = {CPU_ISA_AVX512, CPU_ISA_AMX};

/* NULL: the class has none of its own here. */
static const bf16_kernels *unit_of(cpu_isa isa) {
    const cpu_kernels *k = NULL, *less = NULL;
    CHECK_EQ(cpu_kernels_choose(isa, &k, NULL), OK);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AVX512, &less, NULL), OK);
    return isa == CPU_ISA_AVX512 || k->bf16 != less->bf16 ? k->bf16 : NULL;
}

static bool has_unit(void) {
    return unit_of(CPU_ISA_AVX512) != NULL || unit_of(CPU_ISA_AMX) != NULL;
}

static float *run_fast(const attn_program *a, const attn_case *c, cpu_isa isa, attn_cut cut) {
    const backend_options opt = {.threads = 2, .isa_cap = isa, .fast = true};
    return attn_run(a, c, &backend_cpu, opt, &cut);
}

/* A row is computed as if all were like it, whatever the mode of those beside it. */
static void check_mixed(const attn_program *a, const attn_case *c, cpu_isa isa) {
    const size_t row = a->cols * sizeof(float);
    float *fast = run_fast(a, c, isa, (attn_cut){.prompts = PROMPTS_ALL});
    float *exact = run_fast(a, c, isa, (attn_cut){.prompts = PROMPTS_NONE});
    float *whole_mix = run_fast(a, c, isa, (attn_cut){.prompts = PROMPTS_MIXED});
    float *cut_mix = run_fast(
        a, c, isa, (attn_cut){.chunks = {33, 5, 80, 1}, .other = 3, .prompts = PROMPTS_MIXED});
    uint32_t wrong = 0, same = 0;
    for (uint32_t i = 0; i < c->tokens; i++) {
        const size_t at = (size_t)i * a->cols;
        const float *want = attn_is_prompt(PROMPTS_MIXED, i) ? fast : exact;
        wrong += memcmp(whole_mix + at, want + at, row) != 0;
        wrong += memcmp(cut_mix + at, want + at, row) != 0;
        same += memcmp(fast + at, exact + at, row) == 0;
    }
    CHECK_EQ(wrong, 0);
    CHECK(same < c->tokens / 10); /* the mode does something */
    free(fast);
    free(exact);
    free(whole_mix);
    free(cut_mix);
}

static void check_fast(const attn_case *c) {
    attn_program a;
    attn_program_init(&a, c);
    float *want = attn_run(&a, c, &backend_ref, (backend_options){.threads = 1}, &whole);
    for (size_t i = 0; i < 2; i++) {
        if (unit_of(fast_classes[i]) == NULL) continue;
        check_class(&a, c, fast_classes[i], true, want);
        if (c->op.causal) check_mixed(&a, c, fast_classes[i]);
    }
    free(want);
    attn_program_deinit(&a);
}

TEST(cpu_attention_of_prompts_in_fast_of_every_group_size) {
    static const uint32_t shapes[][4] = {
        {5, 5, 96, 96}, {8, 1, 64, 64}, {4, 2, 32, 16}, {13, 1, 64, 80}, {40, 1, 288, 32}};
    if (!has_unit()) SKIP("this CPU has no unit for bf16");
    for (size_t i = 0; i < 5; i++) {
        const uint32_t *s = shapes[i];
        attn_case c = case_of(s[0], s[1], s[2], i % 2 ? DTYPE_F32 : DTYPE_F16);
        c.what = "fast, heads and sizes";
        c.op.value_dim = s[3];
        if (i == 4) c.tokens = 140;
        check_fast(&c);
    }
}

TEST(cpu_attention_of_prompts_in_fast_of_codes_and_latents) {
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_0};
    if (!has_unit()) SKIP("this CPU has no unit for bf16");
    attn_case c;
    for (int i = 2; i < 4; i++) {
        c = case_of(4, 2, 64, types[i]);
        c.what = i == 2 ? "fast, 8 bits" : "fast, 4 bits";
        c.op.value_dim = 96;
        check_fast(&c);
    }
    for (int i = 0; i < 4; i++) {
        c = case_of(3, 1, 576, types[i]);
        c.what = "fast, latents";
        c.op.value_dim = 512;
        c.v_in_k = true;
        c.tokens = 140;
        check_fast(&c);
    }
}

TEST(cpu_attention_of_prompts_in_fast_within_windows) {
    static const uint32_t windows[] = {1, 17, 100, 128, 131};
    if (!has_unit()) SKIP("this CPU has no unit for bf16");
    for (size_t i = 0; i < 5; i++) {
        attn_case c = case_of(4, 2, 32, i % 2 ? DTYPE_F32 : DTYPE_F16);
        c.what = "fast, window";
        c.op.window = windows[i];
        check_fast(&c);
        c.op.causal = false;
        check_fast(&c);
    }
}

TEST(cpu_attention_of_prompts_in_fast_softcap_sinks_and_slopes) {
    static const float sinks[4] = {0.5f, -3.0f, 9.0f, -INFINITY};
    static const float slopes[4] = {0.5f, 0.01f, 0.0625f, 0.0f};
    static const int sets[] = {1, 2, 4, 8 | 6, 15};
    if (!has_unit()) SKIP("this CPU has no unit for bf16");
    for (size_t i = 0; i < 5; i++) {
        attn_case c = case_of(4, 2, 32, i % 2 ? DTYPE_F32 : DTYPE_F16);
        c.what = "fast, softcap, sinks, slopes";
        if (sets[i] & 1) c.op.softcap = 1.5f;
        if (sets[i] & 2) c.op.sinks = sinks;
        if (sets[i] & 4) c.op.slopes = slopes;
        if (sets[i] & 8) c.op.window = 150;
        check_fast(&c);
    }
}

/* A value that is not finite is nothing to the rows that do not see it. */
TEST(cpu_attention_of_prompts_in_fast_does_not_see_infinities_ahead) {
    enum { FIRST = 57, TOKEN = 49 /* of this position, and of none before */ };
    attn_program a;
    attn_case c = case_of(4, 2, 32, DTYPE_F16);
    if (!has_unit()) SKIP("this CPU has no unit for bf16");
    c.op.window = 50; /* and behind those that see no more of it */
    c.tokens = 117;
    attn_program_init(&a, &c);
    a.tables[2][(size_t)TOKEN * 64 + 5] = INFINITY;
    a.tables[2][(size_t)TOKEN * 64 + 40] = NAN;
    for (size_t i = 0; i < 2; i++) {
        if (unit_of(fast_classes[i]) == NULL) continue;
        float *all = run_fast(&a, &c, fast_classes[i], (attn_cut){.prompts = PROMPTS_ALL});
        float *each = run_fast(&a, &c, fast_classes[i],
                               (attn_cut){.chunks = {1, 1, 1, 1}, .prompts = PROMPTS_ALL});
        uint32_t wrong = 0;
        for (uint32_t r = 0; r < c.tokens; r++) {
            bool finite = true;
            for (uint32_t k = 0; k < a.cols; k++) finite &= isfinite(all[r * a.cols + k]) != 0;
            wrong += finite != (r < FIRST || r >= FIRST + 1 + 50);
        }
        CHECK_EQ(wrong, 0);
        CHECK(memcmp(all, each, (size_t)c.tokens * a.cols * sizeof *all) == 0);
        free(all);
        free(each);
    }
    attn_program_deinit(&a);
}

/* What the unit does not take is computed as ever. */
TEST(cpu_attention_of_prompts_in_fast_of_other_sizes_is_exact) {
    static const uint32_t dims[][2] = {{24, 32}, {32, 24}};
    for (size_t i = 0; i < 2; i++) {
        attn_program a;
        attn_case c = case_of(4, 2, dims[i][0], DTYPE_F16);
        c.op.value_dim = dims[i][1];
        attn_program_init(&a, &c);
        float *fast = run_fast(&a, &c, CPU_ISA_AUTO, (attn_cut){.prompts = PROMPTS_ALL});
        float *exact = run_fast(&a, &c, CPU_ISA_AUTO, whole);
        CHECK(memcmp(fast, exact, (size_t)c.tokens * a.cols * sizeof *fast) == 0);
        free(fast);
        free(exact);
        attn_program_deinit(&a);
    }
}
#endif

/* --- classes ------------------------------------------------------------------------ */

#if defined(__x86_64__)
/* Not promised by backend.h, but true of attention and worth keeping. */
TEST(cpu_attention_has_the_same_bits_with_wider_vectors) {
    attn_case c = case_of(8, 2, 40, DTYPE_F16);
    c.op.window = 200;
    attn_program a;
    attn_program_init(&a, &c);
    float *narrow = attn_run(&a, &c, &backend_cpu,
                             (backend_options){.threads = 1, .isa_cap = CPU_ISA_AVX2}, &whole);
    float *wide = attn_run(&a, &c, &backend_cpu,
                           (backend_options){.threads = 1, .isa_cap = CPU_ISA_AVX512}, &whole);
    CHECK(memcmp(narrow, wide, (size_t)c.tokens * a.cols * sizeof *wide) == 0);
    free(narrow);
    free(wide);
    attn_program_deinit(&a);
}
#endif

/* What is written to the cache: every class rounds as tensor/convert.h does. */
TEST(cpu_kernels_narrow_as_convert_does) {
    enum { COUNT = 4099 }; /* not whole vectors */
    static float x[COUNT];
    static uint16_t half[COUNT];
    uint64_t state = 3;
    for (uint32_t i = 0; i < COUNT; i++) {
        x[i] = ldexpf(attn_random(&state), (int)(i % 48) - 28);
        if (i % 3 == 0) x[i] = convert_f16_to_f32((uint16_t)(i * 15)) * (1 + 0x1p-11f); /* ties */
        if (isnan(x[i])) x[i] = i % 2 ? INFINITY : -0.0f;
    }
    for (size_t i = 0; i < CLASSES; i++) {
        const cpu_kernels *k = NULL;
        CHECK_EQ(cpu_kernels_choose(attn_classes[i], &k, NULL), OK);
        k->narrow(x, half, COUNT);
        for (uint32_t j = 0; j < COUNT; j++) CHECK_EQ(half[j], convert_f32_to_f16(x[j]));
    }
}
