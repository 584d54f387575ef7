/* test_cpu_formulas.c - norms, activations and arithmetic element by element, every kind of them,
 * in odd widths. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "rig.h"
#include "test.h"

/* backend.h: f32 arithmetic against double. */
static const double float_nmse_max = 1e-11;
/* cpu_kernels.h: of an activation where the result is a normal float; an exponential of an
 * argument near 88 has its rounding 88 times over. */
static const double act_relative_max = 2e-6;
static const double act_steep_relative_max = 1e-5;

static const uint32_t widths[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 172, 256};
enum { WIDTHS = 13 };

/* Run all machines for few and many rows. */
static void check_rows(const program *p, const char *what) {
    static const uint32_t row_counts[] = {1, 5, 64};
    for (int i = 0; i < 3; i++) {
        krig_batch in;
        krig_batch_init(&in, row_counts[i]);
        krig_check_all(p, &in, float_nmse_max, what);
    }
}

/* --- norms -------------------- */

/* Bits of `form`: layer norm, gain, bias, gain for all columns. */
static void check_norm(uint32_t group, uint32_t groups, int form) {
    krig_random random = {group * 10 + groups};
    krig_weights list = {0};
    uint32_t cols = group * groups;
    op_norm norm = {.kind = (form & 1) != 0 ? NORM_LAYER : NORM_RMS, .group = group, .eps = 1e-5f};
    norm.gain_len = (form & 8) != 0 ? cols : group;
    if ((form & 2) != 0) norm.gain = krig_vector(&list, &random, norm.gain_len);
    if ((form & 4) != 0) norm.bias = krig_vector(&list, &random, norm.gain_len);
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, cols));
    (void)krig_finish(p, pg_norm(p, x, norm));
    check_rows(p, "norm");
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_norms_of_every_form) {
    for (int form = 0; form < 16; form++)
        for (int i = 0; i < WIDTHS; i += form % 3 + 1) check_norm(widths[i], 1, form);
}

TEST(kernel_norms_in_groups) {
    static const uint32_t groups[][2] = {{1, 5}, {8, 4}, {12, 3}, {20, 2}, {128, 2}};
    for (int form = 0; form < 16; form++)
        for (int i = 0; i < 5; i++) check_norm(groups[i][0], groups[i][1], form);
}

/* A mean a thousand times the spread: the difference must be taken before it is rounded. */
TEST(kernel_layer_norm_keeps_its_digits_far_from_zero) {
    enum { COLS = 100 };
    float values[2 * COLS];
    krig_weights list = {0};
    krig_batch in;
    for (int i = 0; i < 2 * COLS; i++) values[i] = (i < COLS ? 1e3f : -1e6f) + (float)(i % 7) * 2;
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table_of(&list, values, 2, COLS));
    (void)krig_finish(p, pg_norm(p, x, (op_norm){.kind = NORM_LAYER, .group = COLS, .eps = 1e-5f}));
    krig_batch_init(&in, 2);
    krig_check_all(p, &in, float_nmse_max, "layer norm far from zero");
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* --- activations -------------------- */

enum { ACT_KINDS = ACT_SWIGLU_CLAMPED + 1 };

static op_act act_of(int kind) {
    op_act act = {.kind = (act_kind)kind, .a = 1.7f, .b = 1.2f};
    if (kind == ACT_CLAMP) act.a = -0.3f;
    return act;
}

static void check_act(int kind, uint32_t cols, bool gate) {
    krig_random random = {cols + (uint32_t)kind};
    krig_weights list = {0};
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, cols));
    value_id up = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, cols));
    value_id y = gate ? pg_act_mul(p, x, up, act_of(kind)) : pg_act(p, x, act_of(kind));
    (void)krig_finish(p, pg_add(p, y, up));
    check_rows(p, "activation");
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_activations_in_odd_widths) {
    for (int kind = 0; kind < ACT_KINDS; kind++) {
        for (int i = kind % 3; i < WIDTHS; i += 3) {
            check_act(kind, widths[i], true);
            if (kind != ACT_SWIGLU_CLAMPED) check_act(kind, widths[i], false);
        }
    }
}

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

/* The formulas once more, for numbers of every size. */
static double want_of(op_act f, double x) {
    const double a = (double)f.a, b = (double)f.b;
    switch (f.kind) {
    case ACT_SILU:
        return x * sigmoid(x);
    case ACT_GELU:
        return x * sigmoid(2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x));
    case ACT_GELU_ERF:
        return x / 2 * erfc(-x / sqrt(2.0));
    case ACT_RELU:
        return fmax(x, 0);
    case ACT_RELU_SQR:
        return fmax(x, 0) * fmax(x, 0);
    case ACT_SIGMOID:
        return sigmoid(x);
    case ACT_TANH:
        return tanh(x);
    case ACT_SOFTPLUS:
        return x > 30 ? x : log1p(exp(x));
    case ACT_EXP_NEG_EXP:
        return exp(-exp(x));
    case ACT_SCALE:
        return a * x;
    case ACT_CLAMP:
        return fmin(fmax(x, a), b);
    case ACT_SOFTCAP:
        return a * tanh(x / a);
    case ACT_SWIGLU_CLAMPED:
        return fmin(x, b) * sigmoid(a * fmin(x, b));
    }
    return 0;
}

/* Inputs over 60 binades, both signs, and dense ones where the curves bend. */
static uint32_t fill_inputs(float *x) {
    uint32_t n = 0;
    for (int e = -40; e <= 20; e++)
        for (int sign = -1; sign <= 1; sign += 2) x[n++] = (float)sign * ldexpf(1.37f, e);
    for (int i = -400; i <= 400; i++) x[n++] = (float)i * 0.03f;
    for (int i = -110; i <= 110; i++) x[n++] = (float)i;
    return n;
}

TEST(kernel_activations_are_accurate_everywhere) {
    static float x[2000], up[2000], y[2000];
    const cpu_kernels *tables[2];
    uint32_t n = fill_inputs(x);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_SCALAR, &tables[0], NULL), OK);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AUTO, &tables[1], NULL), OK);
    for (uint32_t i = 0; i < n; i++) up[i] = 0; /* the other half is then 1 or 0 */
    for (int kind = 0; kind < ACT_KINDS; kind++) {
        op_act act = act_of(kind);
        for (int k = 0; k < 2; k++) {
            double worst = 0;
            tables[k]->act(&act, x, kind == ACT_SWIGLU_CLAMPED ? up : NULL, y, n);
            for (uint32_t i = 0; i < n; i++) {
                double want = want_of(act, (double)x[i]), wrong = fabs((double)y[i] - want);
                double limit = fabs(want) < 1e-4 ? act_steep_relative_max : act_relative_max;
                /* below that, what is left of x / exp(88.7) */
                if (wrong > 3e-34 * fmax(1, fabs((double)x[i])))
                    worst = fmax(worst, wrong / fabs(want) / limit);
                CHECK(!isnan(y[i]));
            }
            if (worst > 1)
                (void)fprintf(stderr, "activation %d on %s: %g times the limit\n", kind,
                              tables[k]->isa, worst);
            CHECK(worst <= 1);
        }
    }
}

/* --- arithmetic -------------------- */

TEST(kernel_arithmetic_in_odd_widths) {
    for (int i = 0; i < WIDTHS; i++) {
        krig_random random = {widths[i]};
        krig_weights list = {0};
        program *p = krig_program(1);
        value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, widths[i]));
        value_id y = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, widths[i]));
        value_id s = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 1));
        value_id sum = pg_add_row(p, x, krig_vector(&list, &random, widths[i]));
        sum = pg_mul(p, sum, y);
        sum = pg_mul_row(p, sum, krig_vector(&list, &random, widths[i]));
        sum = pg_add(p, pg_mul_col(p, sum, s), pg_mul(p, x, x));
        (void)krig_finish(p, sum);
        check_rows(p, "arithmetic");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

/* --- rows in and out -------------------- */

TEST(kernel_position_embeddings_are_rows_of_their_table) {
    krig_random random = {1};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(64);
    weight table = krig_weight(&list, &random, DTYPE_F16, 64, 17);
    (void)krig_finish(p, pg_embed_pos(p, table));
    krig_batch_init(&in, 33);
    for (uint32_t r = 0; r < in.rows; r++) in.pos[r] = 63 - r;
    krig_check_all(p, &in, 0.0, "positions");
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_logits_are_of_the_head_rows_among_the_taken) {
    enum { COLS = 40, VOCAB = 9 };
    krig_random random = {1};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, COLS));
    value_id hidden = pg_take_rows(p, x);
    weight head = krig_weight(&list, &random, DTYPE_F32, VOCAB, COLS);
    value_id logits = pg_matmul(p, pg_take_rows(p, hidden), head, NULL);
    CHECK_EQ(program_finish(p, hidden, logits, NULL), OK);
    krig_batch_init(&in, 20);
    in.taken_rows = 3;
    in.taken[0] = 4;
    in.taken[1] = 7;
    in.taken[2] = 19;
    in.head_rows = 2;
    in.head[0] = 0;
    in.head[1] = 2;
    float want[2 * VOCAB];
    for (int i = 0; i < RIG_MACHINES; i++) {
        backend *b = krig_open(&krig_machines[i], p);
        step_result got = krig_step_both(&krig_machines[i], b, &in);
        if (i == 0) memcpy(want, got.logits, sizeof want);
        CHECK(krig_nmse(got.logits, want, (size_t)2 * VOCAB) <= float_nmse_max);
        const float *row = p->ops[0].w.data;
        CHECK(memcmp(got.hidden + 2 * COLS, row + 19 * COLS, COLS * sizeof *row) == 0);
        in.head_rows = 0; /* an embedding request wants no logits */
        (void)krig_step_both(&krig_machines[i], b, &in);
        in.head_rows = 2;
        krig_machines[i].ops->close(b);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}
