/* test_ref.c - the reference backend, op by op, against the formulas of program.h written once
 * more or numbers worked out by hand: ops on single rows, products, experts. */
#include <math.h>

#include "ref_rig.h"
#include "tensor/convert.h"
#include "test.h"

enum { ROWS = 3, COLS = 12 };

static weight table_of(const float *values, uint32_t rows, uint32_t cols) {
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = values};
}

/* Element c of row r of table `id`, COLS wide. */
static double x_of(uint32_t id, uint32_t r, uint32_t c) { return refrig_x(id, COLS, 0, r, c); }

/* --- rows in and out -------------------------------------------------------------- */

TEST(ref_embeds_tokens_and_positions) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS);
    const float *y = refrig_rows(p, pg_add(p, x, pg_embed_pos(p, refrig_table(1, 40, COLS))), ROWS);
    for (uint32_t i = 0; i < ROWS * COLS; i++)
        refrig_check(y[i], x_of(0, 0, i) + x_of(1, 0, i), "embed + embed_pos", i);
}

TEST(ref_embeds_from_quantized_tables) {
    /* one Q8_0 block a row: a scale of 0.5 and the quanta 0, 1, 2 ... */
    uint8_t stored[2][34] = {{0x00, 0x38}, {0x00, 0x38}};
    for (int i = 0; i < 32; i++) stored[1][2 + i] = (uint8_t)i;
    program *p = refrig_program();
    weight w = {.type = DTYPE_Q8_0, .rows = 2, .cols = 32, .data = stored};
    const float *y = refrig_rows(p, pg_embed(p, w), 2);
    for (uint32_t i = 0; i < 32; i++) CHECK(y[i] == 0 && y[32 + i] == 0.5f * (float)i);
}

/* The second take keeps rows of the first. */
TEST(ref_takes_rows_twice) {
    program *p = refrig_program();
    value_id hidden = pg_take_rows(p, refrig_input(p, 0, COLS));
    value_id logits = pg_act(p, pg_take_rows(p, hidden), (op_act){ACT_SCALE, 2, 0});
    CHECK_EQ(program_finish(p, hidden, logits, NULL), OK);
    refrig_batch b;
    refrig_batch_init(&b, p, (kv_layout){.type = DTYPE_F32});
    refrig_batch_run(&b, 0, 0, 0, 6);
    b.in.taken_rows = 3, b.taken[0] = 1, b.taken[1] = 4, b.taken[2] = 5;
    b.in.head_rows = 2, b.head[0] = 0, b.head[1] = 2;
    backend *ref = NULL;
    CHECK_EQ(
        backend_ref.open(&ref, p, &(backend_options){.threads = 1, .isa_cap = CPU_ISA_AUTO}, NULL),
        OK);
    step_result got = backend_ref.step(ref, &b.in);
    for (uint32_t c = 0; c < COLS; c++) {
        for (uint32_t i = 0; i < 3; i++)
            refrig_check(got.hidden[i * COLS + c], x_of(0, b.taken[i], c), "hidden", i);
        refrig_check(got.logits[c], 2 * x_of(0, 1, c), "logits", 0);
        refrig_check(got.logits[COLS + c], 2 * x_of(0, 5, c), "logits", 1);
    }
    backend_ref.close(ref);
    program_destroy(p);
}

/* --- norms ------------------------------------------------------------------------ */

/* Normalised element c of row r, from sums written the other way: variance = E[x^2] - E[x]^2. */
static double normalised(norm_kind kind, uint32_t group, uint32_t r, uint32_t c) {
    uint32_t first = c / group * group;
    double sum = 0, squares = 0;
    for (uint32_t i = first; i < first + group; i++) sum += x_of(0, r, i) / group;
    for (uint32_t i = first; i < first + group; i++) squares += pow(x_of(0, r, i), 2) / group;
    if (kind == NORM_RMS) return x_of(0, r, c) / sqrt(squares + 0.125);
    return (x_of(0, r, c) - sum) / sqrt(squares - sum * sum + 0.125);
}

static void check_norm(norm_kind kind, uint32_t group, uint32_t gain_len, bool has_bias) {
    program *p = refrig_program();
    const float *gain = gain_len > 0 ? refrig_vector(1) : NULL;
    const float *bias = has_bias ? refrig_vector(2) : NULL;
    op_norm norm = {kind, group, 0.125f, gain, bias, gain_len};
    const float *y = refrig_rows(p, pg_norm(p, refrig_input(p, 0, COLS), norm), ROWS);
    for (uint32_t i = 0; i < ROWS * COLS; i++) {
        uint32_t r = i / COLS, c = i % COLS, own = gain_len == COLS ? c : c % group;
        double want = normalised(kind, group, r, c) * (gain != NULL ? (double)gain[own] : 1);
        refrig_check(y[i], want + (bias != NULL ? (double)bias[own] : 0), "norm", i);
    }
}

TEST(ref_norms_rows_and_groups) {
    for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
        check_norm((norm_kind)kind, COLS, 0, false);
        check_norm((norm_kind)kind, COLS, COLS, true);
        check_norm((norm_kind)kind, 4, 4, false);
        check_norm((norm_kind)kind, 4, COLS, true);
        check_norm((norm_kind)kind, 3, 0, false);
    }
}

/* --- activations ------------------------------------------------------------------ */

/* To 8 digits at x = -2, -0.5, 0, 1, 3; a = 1.5, b = 2. */
static const struct {
    act_kind kind;
    double want[5];
} act_cases[] = {
    {ACT_SILU, {-0.23840584, -0.18877033, 0, 0.73105858, 2.85772238}},
    {ACT_GELU, {-0.04540231, -0.15428599, 0, 0.84119199, 2.99636261}},
    {ACT_GELU_ERF, {-0.04550026, -0.15426877, 0, 0.84134475, 2.99595031}},
    {ACT_RELU, {0, 0, 0, 1, 3}},
    {ACT_RELU_SQR, {0, 0, 0, 1, 9}},
    {ACT_SIGMOID, {0.11920292, 0.37754067, 0.5, 0.73105858, 0.95257413}},
    {ACT_TANH, {-0.96402758, -0.46211716, 0, 0.76159416, 0.99505475}},
    {ACT_SOFTPLUS, {0.12692801, 0.47407698, 0.69314718, 1.31326169, 3.04858735}},
    {ACT_EXP_NEG_EXP, {0.87342302, 0.54523921, 0.36787944, 0.06598804, 0}},
    {ACT_SCALE, {-3, -0.75, 0, 1.5, 4.5}},
    {ACT_CLAMP, {1.5, 1.5, 1.5, 1.5, 2}},
    {ACT_SOFTCAP, {-1.30509249, -0.48226911, 0, 0.87417442, 1.44604137}},
};

TEST(ref_activations_have_their_values) {
    static const float x[5] = {-2, -0.5f, 0, 1, 3};
    for (size_t i = 0; i < sizeof act_cases / sizeof act_cases[0]; i++) {
        program *p = refrig_program();
        op_act act = {act_cases[i].kind, 1.5f, 2};
        const float *y = refrig_rows(p, pg_act(p, pg_embed(p, table_of(x, 1, 5)), act), 1);
        for (uint32_t c = 0; c < 5; c++)
            refrig_check(y[c], act_cases[i].want[c], "act", (uint32_t)act_cases[i].kind);
    }
}

TEST(ref_softplus_neither_overflows_nor_vanishes) {
    static const float x[4] = {-80, -30, 80, 1000};
    program *p = refrig_program();
    const float *y = refrig_rows(
        p, pg_act(p, pg_embed(p, table_of(x, 1, 4)), (op_act){.kind = ACT_SOFTPLUS}), 1);
    CHECK(fabs((double)y[0] / exp(-80) - 1) < 1e-6 && fabs((double)y[1] / exp(-30) - 1) < 1e-6);
    CHECK(y[2] == 80 && y[3] == 1000);
}

TEST(ref_gates_multiply) {
    program *p = refrig_program();
    value_id gate = refrig_input(p, 0, COLS), up = refrig_input(p, 1, COLS);
    const float *y = refrig_rows(p, pg_act_mul(p, gate, up, (op_act){.kind = ACT_RELU}), ROWS);
    for (uint32_t i = 0; i < ROWS * COLS; i++)
        refrig_check(y[i], fmax(x_of(0, 0, i), 0) * x_of(1, 0, i), "relu gate", i);
}

/* gpt-oss: the gate is bounded above, the other factor on both sides. */
TEST(ref_clamped_swiglu) {
    static const float gate[4] = {1, 9, -9, 2}, up[4] = {0.5f, -8, 8, -1};
    const double limit = 7, a = 1.702;
    const double g[4] = {1, 7, -9, 2}, u[4] = {0.5, -7, 7, -1};
    program *p = refrig_program();
    value_id x = pg_embed(p, table_of(gate, 1, 4)), z = pg_embed(p, table_of(up, 1, 4));
    op_act act = {ACT_SWIGLU_CLAMPED, (float)a, (float)limit};
    const float *y = refrig_rows(p, pg_act_mul(p, x, z, act), 1);
    for (uint32_t c = 0; c < 4; c++)
        refrig_check(y[c], g[c] / (1 + exp(-a * g[c])) * (u[c] + 1), "clamped swiglu", c);
}

/* --- sums and products ------------------------------------------------------------ */

TEST(ref_adds_and_multiplies) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS), z = refrig_input(p, 1, COLS);
    const float *row = refrig_vector(2), *gain = refrig_vector(3);
    value_id v = pg_mul(p, pg_add(p, x, z), z);
    v = pg_mul_row(p, pg_add_row(p, v, row), gain);
    v = pg_mul_col(p, v, refrig_input(p, 4, 1));
    const float *y = refrig_rows(p, v, ROWS);
    for (uint32_t i = 0; i < ROWS * COLS; i++) {
        uint32_t c = i % COLS;
        double want = (x_of(0, 0, i) + x_of(1, 0, i)) * x_of(1, 0, i);
        want = (want + (double)row[c]) * (double)gain[c];
        refrig_check(y[i], want * refrig_x(4, 1, 0, i / COLS, 0), "sums and products", i);
    }
}

TEST(ref_operand_may_be_both_operands) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS);
    const float *y = refrig_rows(p, pg_mul(p, x, x), ROWS);
    for (uint32_t i = 0; i < ROWS * COLS; i++) refrig_check(y[i], pow(x_of(0, 0, i), 2), "x x", i);
}

/* --- products with weights -------------------------------------------------------- */

/* x of row r, COLS wide, times row j of table `id`. */
static double product(uint32_t r, uint32_t id, uint32_t j) {
    double sum = 0;
    for (uint32_t c = 0; c < COLS; c++) sum += x_of(0, r, c) * x_of(id, j, c);
    return sum;
}

TEST(ref_matmul_is_rows_times_rows) {
    enum { OUT = 5 };
    program *p = refrig_program();
    const float *bias = refrig_vector(2);
    value_id x = refrig_input(p, 0, COLS);
    const float *y = refrig_rows(p, pg_matmul(p, x, refrig_table(1, OUT, COLS), bias), ROWS);
    for (uint32_t i = 0; i < ROWS * OUT; i++)
        refrig_check(y[i], product(i / OUT, 1, i % OUT) + (double)bias[i % OUT], "matmul", i);
}

TEST(ref_matmul_reads_packed_rows) {
    enum { N = 4 };
    int8_t quanta[N * COLS];
    for (int i = 0; i < N * COLS; i++) quanta[i] = (int8_t)(i * 7 % 255 - 127);
    const float scales[N] = {0.5f, 0.25f, -2, 1};
    packed_matrix m = {.kind = PACKED_INT8,
                       .rows = N,
                       .cols = COLS,
                       .data = quanta,
                       .scales = scales,
                       .scale_type = DTYPE_F32,
                       .group = COLS,
                       .row_group = 1};
    weight w = {.type = DTYPE_F32, .rows = 2, .cols = COLS, .packed = &m, .row0 = 1};
    program *p = refrig_program();
    const float *y = refrig_rows(p, pg_matmul(p, refrig_input(p, 0, COLS), w, NULL), ROWS);
    for (uint32_t i = 0; i < ROWS * 2; i++) {
        uint32_t j = 1 + i % 2; /* rows 1 and 2 of the packed matrix */
        double sum = 0;
        for (uint32_t c = 0; c < COLS; c++)
            sum += x_of(0, i / 2, c) * (double)scales[j] * quanta[j * COLS + c];
        CHECK(fabs((double)y[i] - sum) < 1e-5 * (1 + fabs(sum)));
    }
}

/* Two adapters on one row, one on another, none on the third; the second slot is untouched. */
TEST(ref_matmul_adds_adapters_row_by_row) {
    enum { OUT = 5, RANK = 2 };
    program *p = refrig_program();
    weight w = refrig_table(1, OUT, COLS);
    w.name = S("blk.0.attn_q.weight");
    value_id x = refrig_input(p, 0, COLS);
    (void)pg_matmul(p, x, w, NULL); /* takes slot 0 */
    refrig_finish(p, pg_matmul(p, x, w, NULL));
    CHECK_EQ(p->lora_slots, 2);

    uint16_t b_half[OUT * RANK];
    for (int i = 0; i < OUT * RANK; i++) b_half[i] = convert_f32_to_f16((float)i - 3);
    lora_pair pairs[2] = {{.scale = 99}, {.scale = 0.5f}};
    pairs[1].a = refrig_table(2, RANK, COLS);
    pairs[1].b = (weight){.type = DTYPE_F16, .rows = OUT, .cols = RANK, .data = b_half};
    lora_pair none[2] = {{.scale = 99}, pairs[1]};
    none[1].a.data = NULL; /* says that it is untouched, whatever the rest is */
    lora_mix both = {.count = 3, .uses = {{pairs, 2}, {none, 7}, {pairs, -0.75f}}};
    lora_mix one = {.count = 1, .uses = {{pairs, 3}}};
    const double scale[ROWS] = {(2 - 0.75) * 0.5, 0, 3 * 0.5};

    refrig_batch b;
    refrig_batch_init(&b, p, (kv_layout){.type = DTYPE_F32});
    refrig_batch_run(&b, 0, 0, 0, ROWS);
    b.loras[0] = &both, b.loras[2] = &one;
    const float *y = refrig_step(p, &b);
    for (uint32_t i = 0; i < ROWS * OUT; i++) {
        uint32_t r = i / OUT, j = i % OUT;
        double add = 0;
        for (uint32_t k = 0; k < RANK; k++) add += product(r, 2, k) * (j * RANK + k - 3.0);
        refrig_check(y[i], product(r, 1, j) + scale[r] * add, "lora", i);
    }
    b.in.loras = NULL;
    y = refrig_step(p, &b);
    for (uint32_t i = 0; i < ROWS * OUT; i++)
        refrig_check(y[i], product(i / OUT, 1, i % OUT), "no lora", i);
    program_destroy(p);
}

/* The rows of the head read the adapters of the batch rows they come from. */
TEST(ref_matmul_of_taken_rows_finds_their_adapters) {
    program *p = refrig_program();
    weight w = refrig_table(1, 2, COLS);
    w.name = S("output.weight");
    value_id x = pg_take_rows(p, refrig_input(p, 0, COLS));
    value_id logits = pg_matmul(p, pg_take_rows(p, x), w, NULL);
    CHECK_EQ(program_finish(p, x, logits, NULL), OK);
    static const float b_ones[2] = {1, 1};
    lora_pair pair = {.a = refrig_table(2, 1, COLS), .b = table_of(b_ones, 2, 1), .scale = 1};
    lora_mix mix = {.count = 1, .uses = {{&pair, 1}}};
    refrig_batch b;
    refrig_batch_init(&b, p, (kv_layout){.type = DTYPE_F32});
    refrig_batch_run(&b, 0, 0, 0, 5);
    b.loras[3] = &mix;
    b.in.taken_rows = 3, b.taken[0] = 0, b.taken[1] = 1, b.taken[2] = 3;
    b.in.head_rows = 2, b.head[0] = 1, b.head[1] = 2;
    backend *ref = NULL;
    CHECK_EQ(
        backend_ref.open(&ref, p, &(backend_options){.threads = 1, .isa_cap = CPU_ISA_AUTO}, NULL),
        OK);
    const float *y = backend_ref.step(ref, &b.in).logits;
    for (uint32_t j = 0; j < 2; j++) {
        refrig_check(y[j], product(1, 1, j), "row 1", j);
        refrig_check(y[2 + j], product(3, 1, j) + product(3, 2, 0), "row 3", j);
    }
    backend_ref.close(ref);
    program_destroy(p);
}

/* Two heads of 4 elements and 2 more that pass; the matrices of both heads lie in one weight with
 * other rows before, between and behind them. */
static void check_heads_matmul(bool transposed) {
    enum { IN = 4, TAIL = 2, OUT = 3, STRIDE = 6, ROW0 = 1 };
    op_heads_matmul h = {2, IN, TAIL, transposed ? IN : OUT, ROW0, STRIDE, OUT, transposed};
    program *p = refrig_program();
    uint32_t w_cols = transposed ? OUT : IN;
    value_id x = refrig_input(p, 0, COLS);
    const float *y = refrig_rows(p, pg_heads_matmul(p, x, refrig_table(1, 12, w_cols), h), ROWS);
    for (uint32_t i = 0; i < ROWS * 2 * (OUT + TAIL); i++) {
        uint32_t r = i / 10, head = i / 5 % 2, c = i % 5;
        double want = 0;
        for (uint32_t j = 0; j < IN && c < OUT; j++)
            want += x_of(0, r, head * 6 + j) * refrig_x(1, w_cols, 0,
                                                        ROW0 + head * STRIDE + (transposed ? j : c),
                                                        transposed ? c : j);
        if (c >= OUT) want = x_of(0, r, head * 6 + IN + c - OUT);
        refrig_check(y[i], want, transposed ? "heads transposed" : "heads", i);
    }
}

TEST(ref_heads_matmul_has_a_matrix_for_each_head) {
    check_heads_matmul(false);
    check_heads_matmul(true);
}

/* --- mixture of experts ----------------------------------------------------------- */

static const float *route(const float *logits, op_route t) {
    program *p = refrig_program();
    return refrig_rows(p, pg_route(p, pg_embed(p, table_of(logits, 1, t.experts)), t), 1);
}

static void check_routed(const float *y, uint32_t used, const double *want, const char *what) {
    for (uint32_t i = 0; i < 2 * used; i++) refrig_check(y[i], want[i], what, i);
}

/* exp of these is 1, 4, 2, 4, 1: 12 together */
static const float five[5] = {0, 1.3862943611f, 0.6931471806f, 1.3862943611f, 0};

TEST(ref_route_by_softmax) {
    op_route t = {.kind = ROUTE_SOFTMAX, .experts = 5, .used = 3, .scale = 1};
    check_routed(route(five, t), 3, (double[]){1, 3, 2, 4.0 / 12, 4.0 / 12, 2.0 / 12}, "softmax");
    t.normalize = true;
    t.scale = 2.5f;
    check_routed(route(five, t), 3, (double[]){1, 3, 2, 1, 1, 0.5}, "normalised, scaled");
    t = (op_route){.kind = ROUTE_SOFTMAX_BEST, .experts = 5, .used = 2, .scale = 1};
    check_routed(route(five, t), 2, (double[]){1, 3, 0.5, 0.5}, "softmax of the best");
}

/* The bias changes who is chosen and in what order, not the weights. */
TEST(ref_route_by_sigmoid_with_bias) {
    static const float bias[5] = {0.6f, 0, 0, 0, 0};
    op_route t = {.kind = ROUTE_SIGMOID, .experts = 5, .used = 2, .scale = 1, .bias = bias};
    check_routed(route(five, t), 2, (double[]){0, 1, 0.5, 0.8}, "sigmoid");
    t.normalize = true;
    check_routed(route(five, t), 2, (double[]){0, 1, 0.5 / 1.3, 0.8 / 1.3}, "sigmoid normalised");
}

/* Groups {0 1} {2 3} {4 5}: the best single expert is in the last, the best pair in the first. */
TEST(ref_route_by_groups) {
    static const float logits[6] = {2, 1.9f, 0, 0.1f, 2.2f, -9}, zeros[6] = {0};
    op_route t = {.kind = ROUTE_SIGMOID, .experts = 6, .used = 2, .scale = 1, .groups = 3};
    t.groups_used = 1;
    const float *y = route(logits, t);
    CHECK(y[0] == 4 && y[1] == 5); /* by the best one */
    t.bias = zeros;
    y = route(logits, t);
    CHECK(y[0] == 0 && y[1] == 1); /* by the two best */
    t.groups_used = 2;
    y = route(logits, t);
    CHECK(y[0] == 0 && y[1] == 1); /* the middle group has more than the last */
    t.used = 4;
    y = route(logits, t);
    CHECK(y[2] == 3 && y[3] == 2);
}

/* Different experts that exist, whatever the logits are. */
TEST(ref_route_survives_broken_logits) {
    static const float broken[3][4] = {{NAN, NAN, NAN, NAN},
                                       {-INFINITY, -INFINITY, -INFINITY, 1},
                                       {INFINITY, NAN, -INFINITY, INFINITY}};
    for (int i = 0; i < 3 * 3 * 2; i++) {
        op_route t = {.kind = (route_kind)(i % 3), .experts = 4, .used = 4, .scale = 1};
        if (i >= 9) t.groups = 4, t.groups_used = 4;
        const float *y = route(broken[i / 3 % 3], t);
        uint32_t seen = 0;
        for (uint32_t u = 0; u < 4; u++) seen |= 1u << (uint32_t)y[u];
        CHECK_EQ(seen, 15);
    }
}

/* Row r goes to experts r + 1 and r, with weights that are rows of table 4. */
static value_id fixed_route(program *p, float *routed) {
    for (uint32_t r = 0; r < ROWS; r++) {
        routed[r * 4] = (float)(r + 1);
        routed[r * 4 + 1] = (float)r;
        routed[r * 4 + 2] = 0.5f + (float)r;
        routed[r * 4 + 3] = -2;
    }
    return pg_embed(p, table_of(routed, ROWS, 4));
}

TEST(ref_experts_apply_and_sum) {
    enum { EXPERTS = 4, OUT = 3 };
    float routed[ROWS * 4];
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS), to = fixed_route(p, routed);
    weight *w = pg_weights(p, EXPERTS);
    weight all = refrig_table(1, EXPERTS * OUT, COLS);
    for (uint32_t e = 0; e < EXPERTS; e++)
        w[e] = table_of((const float *)all.data + (size_t)e * OUT * COLS, OUT, COLS);
    const float *bias = refrig_vector(2);
    op_experts a = {.w = w, .experts = EXPERTS, .used = 2, .bias = bias, .shared_in = true};
    value_id up = pg_experts(p, x, to, a);
    const float *y = refrig_rows(p, pg_experts_sum(p, up, to, 2), ROWS);
    for (uint32_t i = 0; i < ROWS * OUT; i++) {
        uint32_t r = i / OUT, c = i % OUT, first = (r + 1) * OUT + c, second = r * OUT + c;
        double want = (0.5 + r) * (product(r, 1, first) + (double)bias[first]) -
                      2 * (product(r, 1, second) + (double)bias[second]);
        refrig_check(y[i], want, "experts", i);
    }
}

TEST(ref_experts_can_read_columns_of_their_own) {
    enum { EXPERTS = 4, IN = COLS / 2 };
    float routed[ROWS * 4];
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS), to = fixed_route(p, routed);
    weight *w = pg_weights(p, EXPERTS);
    weight all = refrig_table(1, EXPERTS, IN);
    for (uint32_t e = 0; e < EXPERTS; e++)
        w[e] = table_of((const float *)all.data + (size_t)e * IN, 1, IN);
    value_id v = pg_experts(p, x, to, (op_experts){.w = w, .experts = EXPERTS, .used = 2});
    const float *y = refrig_rows(p, v, ROWS);
    for (uint32_t i = 0; i < ROWS * 2; i++) {
        uint32_t r = i / 2, u = i % 2, e = r + 1 - u;
        double want = 0;
        for (uint32_t c = 0; c < IN; c++) want += x_of(0, r, u * IN + c) * refrig_x(1, IN, 0, e, c);
        refrig_check(y[i], want, "own columns", i);
    }
}
