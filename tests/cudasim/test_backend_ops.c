/* test_backend_ops.c - every kind of op on backend_cuda against backend_ref, through plan, load and
 * step: what the lowering makes of it is what is tested, the kernels have tests of their own. */
#include <math.h>
#include <string.h>

#include "cudasim/backend_rig.h"

static const double float_nmse = 1e-12;     /* f32 sums of what ref sums in double */
static const double exp_nmse = 1e-11;       /* functions of a few ulp */
static const double quantized_nmse = 1e-4;  /* backend.h */
static const double half_cache_nmse = 1e-9; /* a cache of f16 has the same numbers on both */

/* --- rows -------------------- */

TEST(cuda_embed_reads_tables_of_every_form) {
    static const dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,  DTYPE_Q4_0,
                                  DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_XS};
    LAB_MACHINE("t4");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        lab *l = lab_begin(5, 16);
        weight table = krig_weight(&l->weights, &l->random, types[i], RIG_ROWS_MAX, 256);
        /* what is stored as f16 is rounded to it */
        lab_end(l, pg_embed(l->p, table), types[i] == DTYPE_IQ4_XS ? 1e-6 : 0);
    }
}

TEST(cuda_embed_adds_positions) {
    LAB_MACHINE("t4");
    lab *l = lab_begin(7, 16);
    weight pos = krig_table(&l->weights, &l->random, 16, 48);
    lab_end(l, pg_add(l->p, lab_input(l, 48), pg_embed_pos(l->p, pos)), float_nmse);
}

TEST(cuda_norms) {
    LAB_MACHINE("t4");
    static const struct {
        norm_kind kind;
        uint32_t cols, group, gain_len;
        bool bias;
    } cases[] = {{NORM_RMS, 96, 96, 96, false},   {NORM_LAYER, 96, 96, 96, true},
                 {NORM_RMS, 96, 32, 32, false},   {NORM_RMS, 96, 32, 96, true},
                 {NORM_LAYER, 33, 11, 33, false}, {NORM_RMS, 12288, 12288, 12288, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        lab *l = lab_begin(3, 16);
        const float *gain = krig_vector(&l->weights, &l->random, cases[i].gain_len);
        const float *bias =
            cases[i].bias ? krig_vector(&l->weights, &l->random, cases[i].gain_len) : NULL;
        op_norm norm = {.kind = cases[i].kind,
                        .group = cases[i].group,
                        .eps = 1e-5f,
                        .gain = gain,
                        .bias = bias,
                        .gain_len = cases[i].gain_len};
        lab_end(l, pg_norm(l->p, lab_input(l, cases[i].cols), norm), float_nmse);
    }
}

TEST(cuda_acts) {
    LAB_MACHINE("t4");
    for (act_kind kind = ACT_SILU; kind < ACT_SWIGLU_CLAMPED; kind++) {
        lab *l = lab_begin(3, 16);
        op_act act = {.kind = kind, .a = -0.5f, .b = 0.75f};
        lab_end(l, pg_act(l->p, lab_input(l, 300), act), exp_nmse);
    }
    for (act_kind kind = ACT_SILU; kind <= ACT_SWIGLU_CLAMPED; kind++) {
        lab *l = lab_begin(3, 16);
        op_act act = {.kind = kind, .a = 1.7f, .b = 0.75f};
        value_id gate = lab_input(l, 300), up = lab_input(l, 300);
        lab_end(l, pg_act_mul(l->p, gate, up, act), exp_nmse);
    }
}

TEST(cuda_sums_and_products_of_elements) {
    LAB_MACHINE("t4");
    lab *l = lab_begin(6, 16);
    const float *row = krig_vector(&l->weights, &l->random, 70);
    value_id x = lab_input(l, 70), y = lab_input(l, 70), s = lab_input(l, 1);
    x = pg_add(l->p, x, y);
    x = pg_mul(l->p, x, y);
    x = pg_add_row(l->p, x, row);
    x = pg_mul_row(l->p, x, row);
    lab_end(l, pg_mul_col(l->p, x, s), float_nmse);
}

/* --- products -------------------- */

TEST(cuda_products_with_every_type_of_weight) {
    LAB_MACHINE("t4");
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        const dtype_info *info = dtype_get(id);
        if (info == NULL || info->is_integer) continue;
        for (uint32_t rows = 1; rows <= 5; rows += 4) {
            lab *l = lab_begin(rows, 16);
            weight w = krig_weight(&l->weights, &l->random, (dtype)id, 19, 512);
            const float *bias = krig_vector(&l->weights, &l->random, 19);
            const bool exact = info->block_elems == 1;
            lab_end(l, pg_matmul(l->p, lab_input(l, 512), w, bias), exact ? 1e-6 : quantized_nmse);
        }
    }
}

/* Something between two ops that changes no bit, and keeps them from becoming one launch. */
static value_id between(lab *l, value_id v, bool apart) {
    if (!apart) return v;
    float *ones = krig_memory(&l->weights, 256 * sizeof *ones);
    for (uint32_t i = 0; i < 256; i++) ones[i] = 1;
    return pg_mul_row(l->p, v, ones);
}

/* Norms, codes, residual sums: what one layer of a transformer has them do. */
static value_id layer_like(lab *l, value_id x, dtype type, bool post_norm, bool apart) {
    const float *gain = krig_vector(&l->weights, &l->random, 256);
    value_id n = between(l, krig_norm_rms(l->p, x, gain), apart);
    weight w[3];
    for (int i = 0; i < 3; i++) w[i] = krig_weight(&l->weights, &l->random, type, 256, 256);
    value_id gate = between(l, pg_matmul(l->p, n, w[0], NULL), apart);
    value_id up = pg_matmul(l->p, n, w[1], gain);
    value_id y = between(l, krig_silu_mul(l->p, gate, up), apart);
    y = between(l, pg_matmul(l->p, y, w[2], gain), apart);
    if (post_norm) y = between(l, krig_norm_rms(l->p, y, gain), apart);
    return between(l, pg_add(l->p, x, y), apart);
}

/* Two layers and a norm; what they give goes to out [rows, 256].  Returns launches. */
static uint64_t run_layers(dtype type, bool post_norm, bool apart, uint32_t rows, float *out) {
    lab *l = lab_begin(rows, 16);
    lab_machine cuda;
    backend_report report = {0};
    uint64_t launches = host.launches(NULL);
    value_id x = lab_input(l, 256);
    x = layer_like(l, x, type, post_norm, apart);
    x = layer_like(l, x, type, post_norm, apart);
    lab_finish(l, krig_norm_rms(l->p, x, NULL));
    if (lab_open(l, &backend_cuda, &cuda)) {
        const float *got = lab_step(l, &cuda);
        if (got != NULL) memcpy(out, got, (size_t)rows * 256 * sizeof *out);
        backend_cuda.report(cuda.b, &report);
        CHECK_EQ(report.ops_fused + report.ops_unfused, l->p->ops_count);
        lab_close(&cuda);
    }
    lab_free(l);
    return host.launches(NULL) - launches;
}

TEST(cuda_fuses_without_a_trace) {
    enum { ROWS = 5 };
    static const dtype types[] = {DTYPE_F32, DTYPE_Q8_0, DTYPE_Q4_K};
    static float fused[ROWS * 256], apart[ROWS * 256];
    LAB_MACHINE("t4");
    for (size_t i = 0; i < 6; i++) {
        const dtype type = types[i / 2];
        const bool post_norm = i % 2 == 1;
        const uint64_t few = run_layers(type, post_norm, false, ROWS, fused);
        const uint64_t many = run_layers(type, post_norm, true, ROWS, apart);
        CHECK(memcmp(fused, apart, sizeof fused) == 0);
        /* identities; sums with norms or products, gate with up; norms and gates with codes */
        const uint32_t codes = type == DTYPE_F32 ? 0 : 4;
        CHECK_EQ(many - few, (post_norm ? 12 : 10) + 4 + codes);
    }
}

/* Two norms of one value before either is read: there is one place for codes. */
TEST(cuda_keeps_codes_apart) {
    LAB_MACHINE("t4");
    lab *l = lab_begin(4, 16);
    value_id x = lab_input(l, 256);
    const float *g1 = krig_vector(&l->weights, &l->random, 256);
    const float *g2 = krig_vector(&l->weights, &l->random, 256);
    weight w[4];
    for (int i = 0; i < 4; i++) w[i] = krig_weight(&l->weights, &l->random, DTYPE_Q8_0, 256, 256);
    value_id a = krig_norm_rms(l->p, x, g1), b = krig_norm_rms(l->p, x, g2);
    value_id ya = pg_matmul(l->p, a, w[0], NULL), yb = pg_matmul(l->p, b, w[1], NULL);
    value_id yc = pg_matmul(l->p, a, w[2], NULL), sum = pg_add(l->p, a, yc);
    sum = pg_add(l->p, pg_add(l->p, ya, yb), sum);
    lab_end(l, pg_add(l->p, x, pg_matmul(l->p, sum, w[3], NULL)), quantized_nmse);
}

TEST(cuda_products_of_heads) {
    LAB_MACHINE("t4");
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_K};
    for (size_t i = 0; i < 8; i++) {
        lab *l = lab_begin(3, 16);
        bool transposed = i % 2 == 1;
        op_heads_matmul h = {.heads = 3,
                             .in_dim = transposed ? 8 : 256,
                             .tail_dim = 5,
                             .w_rows = 8,
                             .row0 = 2,
                             .row_stride = 10,
                             .out_dim = transposed ? 256 : 8,
                             .transposed = transposed};
        weight w = krig_weight(&l->weights, &l->random, types[i / 2], 30, 256);
        value_id x = lab_input(l, h.heads * (h.in_dim + h.tail_dim));
        lab_end(l, pg_heads_matmul(l->p, x, w, h), 1e-10);
    }
}

/* --- positions and attention -------------------- */

TEST(cuda_turns_pairs) {
    LAB_MACHINE("t4");
    for (int i = 0; i < 4; i++) {
        lab *l = lab_begin(6, 64);
        op_rope rope = krig_rope(&l->weights, 3, 24, 16, 10000.0);
        rope.first = i % 2 == 0 ? 0 : 8;
        rope.pairs = i < 2 ? ROPE_ADJACENT : ROPE_HALVES;
        rope.magnitude = i == 3 ? 1.25f : 1.0f;
        value_id x = pg_rope(l->p, lab_input(l, 72), rope);
        rope.magnitude = 1.0f; /* another table of the same frequencies */
        lab_end(l, pg_rope(l->p, x, rope), float_nmse);
    }
}

typedef struct attention_case {
    uint32_t heads, kv_heads, key_dim, value_dim, window;
    float softcap;
    bool sinks, slopes, whole, f16;
} attention_case;

static void check_attention(const attention_case *c) {
    lab *l = lab_begin(0, 64);
    kv_layout layout = {.type = c->f16 ? DTYPE_F16 : DTYPE_F32,
                        .layers = 2,
                        .kv_heads = c->kv_heads,
                        .key_dim = c->key_dim,
                        .value_dim = c->value_dim};
    lab_kv(l, layout, 3, 64);
    value_id q = lab_input(l, c->heads * c->key_dim), k = lab_input(l, c->kv_heads * c->key_dim),
             v = lab_input(l, c->kv_heads * c->value_dim);
    op_attention attn = {.heads = c->heads,
                         .kv_heads = c->kv_heads,
                         .key_dim = c->key_dim,
                         .value_dim = c->value_dim,
                         .scale = 1.0f / sqrtf((float)c->key_dim),
                         .softcap = c->softcap,
                         .window = c->window,
                         .causal = !c->whole};
    if (c->sinks) attn.sinks = krig_vector(&l->weights, &l->random, c->heads);
    if (c->slopes) attn.slopes = krig_vector(&l->weights, &l->random, c->heads);
    pg_layer(l->p, 1);
    pg_kv_write(l->p, k, v);
    lab_run(l, 2, 0, 37);
    lab_run(l, 0, 0, 5);
    lab_end(l, pg_attention(l->p, q, attn), c->f16 ? half_cache_nmse : 1e-10);
}

TEST(cuda_attends) {
    LAB_MACHINE("t4");
    static const attention_case cases[] = {
        {4, 4, 16, 16, 0, 0, false, false, false, false},
        {8, 2, 64, 64, 0, 0, false, false, false, true},
        {4, 2, 80, 48, 0, 0, false, false, false, true},
        {4, 2, 32, 32, 9, 0, false, false, false, false},
        {4, 1, 32, 32, 0, 5, true, false, false, true},
        {4, 4, 20, 20, 0, 0, false, true, false, false},
        {4, 4, 32, 32, 0, 0, false, false, true, false},
        {4, 4, 32, 32, 7, 0, false, true, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_attention(&cases[i]);
}

/* A prompt in steps that no blocks share, of more than two splits; then steps of two rows each, of
 * sequences of one split and of several, that blocks do. */
TEST(cuda_attends_to_long_spans) {
    enum { PROMPT = 9 * RIG_ROWS_MAX - 20, SHORT = 40, STEPS = 3, COLS = 4 * 16 };
    LAB_MACHINE("t4");
    lab *l = lab_begin(0, 1024);
    lab_machine cuda, ref;
    kv_layout layout = {
        .type = DTYPE_F16, .layers = 1, .kv_heads = 2, .key_dim = 24, .value_dim = 16};
    lab_kv(l, layout, 2, 1024);
    value_id q = lab_input(l, 4 * 24), k = lab_input(l, 2 * 24), v = lab_input(l, 2 * 16);
    op_attention attn = {
        .heads = 4, .kv_heads = 2, .key_dim = 24, .value_dim = 16, .scale = 0.3f, .causal = true};
    pg_kv_write(l->p, k, v);
    lab_finish(l, pg_attention(l->p, q, attn));
    if (lab_open(l, &backend_cuda, &cuda) && lab_open(l, &backend_ref, &ref)) {
        uint32_t at[2] = {0, 0};
        while (at[0] < PROMPT + STEPS) {
            const bool is_prompt = at[0] < PROMPT;
            const uint32_t left = is_prompt ? PROMPT - at[0] : 1;
            const uint32_t rows = left < RIG_ROWS_MAX ? left : RIG_ROWS_MAX;
            l->in.rows = l->in.taken_rows = 0;
            lab_run(l, 1, at[0], at[1] == 0 && rows > SHORT ? rows - SHORT : rows);
            at[0] += l->in.rows;
            if (at[1] == 0 || !is_prompt) {
                const uint32_t more = at[1] == 0 ? SHORT : 1;
                lab_run(l, 0, at[1], more);
                at[1] += more;
            }
            const float *got = lab_step(l, &cuda), *want = lab_step(l, &ref);
            CHECK(got != NULL && want != NULL);
            if (got == NULL || want == NULL) break;
            CHECK(krig_nmse(got, want, (size_t)l->in.rows * COLS) <= half_cache_nmse);
        }
        CHECK_EQ(at[0], PROMPT + STEPS);
        lab_close(&ref);
    }
    lab_close(&cuda);
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_attends_to_latents) {
    LAB_MACHINE("t4");
    lab *l = lab_begin(0, 64);
    kv_layout layout = {.type = DTYPE_F32,
                        .layers = 1,
                        .kv_heads = 1,
                        .key_dim = 40,
                        .value_dim = 32,
                        .v_in_k = true};
    lab_kv(l, layout, 2, 64);
    value_id q = lab_input(l, 3 * 40), c = lab_input(l, 32), k = lab_input(l, 8);
    op_attention attn = {
        .heads = 3, .kv_heads = 1, .key_dim = 40, .value_dim = 32, .scale = 0.2f, .causal = true};
    pg_kv_write(l->p, c, k);
    lab_run(l, 1, 0, 20);
    lab_run(l, 0, 0, 3);
    lab_end(l, pg_attention(l->p, q, attn), 1e-10);
}

/* --- experts -------------------- */

static void check_experts(dtype type, route_kind kind, bool bias) {
    enum { EXPERTS = 8, USED = 3, COLS = 256, ROWS = 32 };
    lab *l = lab_begin(5, 16);
    weight *in = pg_weights(l->p, EXPERTS), *out = pg_weights(l->p, EXPERTS);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        in[e] = krig_weight(&l->weights, &l->random, type, COLS, COLS);
        out[e] = krig_weight(&l->weights, &l->random, type, ROWS, COLS);
    }
    op_route route = {.kind = kind,
                      .experts = EXPERTS,
                      .used = USED,
                      .normalize = kind == ROUTE_SIGMOID,
                      .scale = 1.5f,
                      .groups = kind == ROUTE_SIGMOID ? 4 : 1,
                      .groups_used = 2};
    if (bias) route.bias = krig_vector(&l->weights, &l->random, EXPERTS);
    op_experts a = {.w = in, .experts = EXPERTS, .used = USED, .shared_in = true}, b = a;
    if (bias) a.bias = krig_vector(&l->weights, &l->random, EXPERTS * COLS);
    b.w = out;
    b.shared_in = false;
    value_id x = lab_input(l, COLS), routed = pg_route(l->p, lab_input(l, EXPERTS), route);
    value_id y = pg_experts(l->p, pg_experts(l->p, x, routed, a), routed, b);
    lab_end(l, pg_experts_sum(l->p, y, routed, USED), type == DTYPE_F32 ? 1e-10 : quantized_nmse);
}

TEST(cuda_mixes_experts) {
    LAB_MACHINE("t4");
    check_experts(DTYPE_F32, ROUTE_SOFTMAX, false);
    check_experts(DTYPE_Q8_0, ROUTE_SIGMOID, true);
    check_experts(DTYPE_Q4_K, ROUTE_SOFTMAX_BEST, true);
    check_experts(DTYPE_MXFP4, ROUTE_SOFTMAX, false);
    check_experts(DTYPE_Q6_K, ROUTE_SOFTMAX, false);
}

/* --- states -------------------- */

typedef value_id state_fn(lab *l);

static value_id conv_like(lab *l) {
    const float *w = krig_vector(&l->weights, &l->random, 40 * 4);
    return pg_conv(l->p, lab_input(l, 40), w, krig_vector(&l->weights, &l->random, 40), 4);
}

/* A is negative and time steps are positive, as models have them: states decay. */
static value_id scan_like(lab *l) {
    enum { COLS = 40, STATES = 16 };
    float *a = krig_memory(&l->weights, COLS * STATES * sizeof *a);
    for (uint32_t i = 0; i < COLS * STATES; i++) a[i] = -0.1f - (float)(i % STATES) * 0.1f;
    value_id x = lab_input(l, COLS), in = lab_input(l, STATES), out = lab_input(l, STATES);
    value_id dt = pg_act(l->p, lab_input(l, COLS), (op_act){.kind = ACT_SOFTPLUS});
    return pg_scan(l->p, x, dt, in, out, a, krig_vector(&l->weights, &l->random, COLS), STATES);
}

static value_id shift_like(lab *l) { return pg_shift(l->p, lab_input(l, 40)); }

static value_id wkv_like(lab *l) {
    value_id in[4];
    for (int i = 0; i < 4; i++) in[i] = lab_input(l, 2 * 24);
    in[3] = pg_act(l->p, in[3], (op_act){.kind = ACT_EXP_NEG_EXP});
    return pg_wkv(l->p, in[0], in[1], in[2], in[3], krig_vector(&l->weights, &l->random, 2 * 24),
                  24);
}

/* Two sequences, one in the middle; then further rows of both, on the states that were left. */
static void check_state(state_fn *make) {
    lab *l = lab_begin(0, 64);
    lab_machine cuda, ref;
    l->seats = 3;
    lab_finish(l, make(l));
    const bool opened = lab_open(l, &backend_cuda, &cuda) && lab_open(l, &backend_ref, &ref);
    CHECK(opened);
    for (uint32_t step = 0; opened && step < 3; step++) {
        l->in.rows = l->in.taken_rows = 0;
        lab_run(l, 2, step * 9, 9);
        lab_run(l, 1, step, 1);
        const float *got = lab_step(l, &cuda), *want = lab_step(l, &ref);
        if (got != NULL) CHECK(krig_nmse(got, want, (size_t)10 * krig_cols(l->p)) <= exp_nmse);
    }
    lab_close(&cuda);
    lab_close(&ref);
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_states_live_on) {
    LAB_MACHINE("t4");
    check_state(conv_like);
    check_state(scan_like);
    check_state(shift_like);
    check_state(wkv_like);
}

/* --- rows that are wanted -------------------- */

TEST(cuda_takes_rows_twice) {
    LAB_MACHINE("t4");
    lab *l = lab_begin(9, 16);
    weight w = krig_weight(&l->weights, &l->random, DTYPE_Q8_0, 50, 64);
    value_id hidden = pg_take_rows(l->p, lab_input(l, 64));
    value_id logits = pg_matmul(l->p, pg_take_rows(l->p, hidden), w, NULL);
    CHECK_EQ(program_finish(l->p, hidden, logits, NULL), OK);
    static const uint32_t taken[] = {1, 4, 5, 8}, head[] = {0, 3};
    memcpy(l->in.taken, taken, sizeof taken);
    memcpy(l->in.head, head, sizeof head);
    l->in.taken_rows = 4;
    l->in.head_rows = 2;
    lab_machine cuda, ref;
    const bool opened = lab_open(l, &backend_cuda, &cuda) && lab_open(l, &backend_ref, &ref);
    CHECK(opened);
    const krig_machine machines[] = {{.ops = &backend_cuda}, {.ops = &backend_ref}};
    step_result got = krig_step_both(&machines[0], cuda.b, &l->in);
    step_result want = krig_step_both(&machines[1], ref.b, &l->in);
    CHECK(got.fault == NULL);
    CHECK(memcmp(got.hidden, want.hidden, (size_t)4 * 64 * sizeof(float)) == 0);
    CHECK(krig_nmse(got.logits, want.logits, (size_t)2 * 50) <= quantized_nmse);
    l->in.taken_rows = l->in.head_rows = 0; /* nobody wants anything: only caches are filled */
    got = krig_step_both(&machines[0], cuda.b, &l->in);
    CHECK(got.fault == NULL);
    lab_close(&cuda);
    lab_close(&ref);
    lab_free(l);
}
