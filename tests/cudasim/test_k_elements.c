/* test_k_elements.c - activations, gates, sums, products, experts' sums against the reference. */
#include <math.h>

#include "cudasim/oracle.h"
#include "cudasim/quantized.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

/* Of results up to about 10: roundings of a few f32 operations. */
static const double NEAR = 3e-6;

typedef struct shape {
    uint32_t rows, cols;
} shape;
static const shape shapes[] = {{1, 1}, {3, 31}, {2, 32}, {3, 33}, {1, 100}, {17, 257}, {2, 520}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static uint32_t grid_of(uint32_t cols) { return (cols + 255) / 256; }

static float *random_rows(shape s, uint32_t cols, float scale) {
    float *x = rig_buffer((size_t)s.rows * cols * sizeof *x);
    rig_fill(x, (size_t)s.rows * cols, scale);
    return x;
}

TEST(k_act_is_each_of_the_formulas) {
    RIG_EACH(arch) {
        for (uint32_t kind = 0; kind < ACT_SWIGLU_CLAMPED; kind++) {
            shape s = shapes[kind % SHAPES];
            size_t n = (size_t)s.rows * s.cols;
            float *x = random_rows(s, s.cols, 8);
            op_act act = {.kind = (act_kind)kind, .a = 1.5f, .b = 4};
            oracle_begin(s.rows);
            const float *want = oracle_end(pg_act(oracle_program(), oracle_input(x, s.cols), act));
            k_act_args a = {.x = rig_at(x),
                            .out = rig_at(x),
                            .count = rig_count(s.rows),
                            .cols = s.cols,
                            .kind = kind,
                            .a = act.a,
                            .b = act.b};
            float *wanted = rig_copy(want, n * sizeof *want); /* x is the oracle's, too */
            rig_run(arch, "k_act", &a, grid_of(s.cols), s.rows + 2, 256, 0);
            double near = kind == ACT_RELU_SQR ? 64 * 1e-7 : NEAR;
            rig_near(x, wanted, n, near);
        }
    }
    rig_done();
}

TEST(k_act_of_numbers_that_are_none) {
    static const float ends[] = {INFINITY, -INFINITY, NAN, 1e30f, -1e30f, 100, -100, 0};
    enum { N = sizeof ends / sizeof ends[0] };
    RIG_EACH(arch) {
        for (uint32_t kind = 0; kind < ACT_SWIGLU_CLAMPED; kind++) {
            float *x = rig_copy(ends, sizeof ends), *out = rig_buffer(sizeof ends);
            op_act act = {.kind = (act_kind)kind, .a = 2, .b = 3};
            oracle_begin(1);
            const float *want = oracle_end(pg_act(oracle_program(), oracle_input(x, N), act));
            k_act_args a = {.x = rig_at(x),
                            .out = rig_at(out),
                            .count = rig_count(1),
                            .cols = N,
                            .kind = kind,
                            .a = act.a,
                            .b = act.b};
            rig_run(arch, "k_act", &a, 1, 1, 256, 0);
            for (uint32_t i = 0; i < N; i++) { /* kind, number */
                bool same = isnan(want[i]) ? isnan(out[i])
                                           : fabsf(out[i] - want[i]) <= fabsf(want[i]) * 1e-6f ||
                                                 out[i] == want[i] || fabsf(want[i]) < 1e-37f;
                if (!same)
                    (void)fprintf(stderr, "act %u of %g: %g, want %g\n", kind, (double)ends[i],
                                  (double)out[i], (double)want[i]);
                CHECK(same);
            }
        }
    }
    rig_done();
}

TEST(k_act_mul_is_each_of_the_gates) {
    RIG_EACH(arch) {
        for (uint32_t kind = 0; kind <= ACT_SWIGLU_CLAMPED; kind++) {
            shape s = shapes[(kind + 3) % SHAPES];
            size_t n = (size_t)s.rows * s.cols;
            float *gate = random_rows(s, s.cols, 5), *up = random_rows(s, s.cols, 2);
            op_act act = {.kind = (act_kind)kind, .a = 1.702f, .b = 1.25f};
            oracle_begin(s.rows);
            value_id g = oracle_input(gate, s.cols), u = oracle_input(up, s.cols);
            const float *want = oracle_end(pg_act_mul(oracle_program(), g, u, act));
            float *out = rig_buffer(n * sizeof *out);
            k_act_mul_args a = {.gate = rig_at(gate),
                                .up = rig_at(up),
                                .out = rig_at(out),
                                .count = rig_count(s.rows),
                                .cols = s.cols,
                                .kind = kind,
                                .a = act.a,
                                .b = act.b};
            rig_run(arch, "k_act_mul", &a, grid_of(s.cols), s.rows, 256, 0);
            rig_near(out, want, n, 2 * NEAR + (kind == ACT_RELU_SQR ? 1e-5 : 0));
        }
    }
    rig_done();
}

/* --- codes of the result -------------------- */

static const shape coded[] = {{1, 32}, {4, 96}, {5, 224}, {1, 256}, {4, 288}, {5, 1056}};
enum { CODED = sizeof coded / sizeof coded[0] };

/* The result as f32 and as codes; then as codes only. */
static void check_coded_act(int arch, shape s, uint32_t kind) {
    const size_t n = (size_t)s.rows * s.cols;
    float *x = random_rows(s, s.cols, 8), *out = rig_buffer(n * sizeof *out);
    const quantized both = quantized_buffers(s.rows, s.cols);
    const quantized alone = quantized_buffers(s.rows, s.cols);
    k_act_args a = {.x = rig_at(x),
                    .out = rig_at(out),
                    .codes = rig_at(both.codes),
                    .sums = rig_at(both.sums),
                    .count = rig_count(s.rows),
                    .cols = s.cols,
                    .kind = kind,
                    .a = 1.5f,
                    .b = 4};
    rig_run(arch, "k_act", &a, grid_of(s.cols), s.rows + 1, 256, 0);
    quantized_same(arch, both, out, s.rows, s.cols);
    a.out = 0;
    a.codes = rig_at(alone.codes);
    a.sums = rig_at(alone.sums);
    rig_run(arch, "k_act", &a, grid_of(s.cols), s.rows + 1, 256, 0);
    quantized_same(arch, alone, out, s.rows, s.cols);
}

static void check_coded_act_mul(int arch, shape s, uint32_t kind) {
    const size_t n = (size_t)s.rows * s.cols;
    float *gate = random_rows(s, s.cols, 5), *up = random_rows(s, s.cols, 2);
    float *out = rig_buffer(n * sizeof *out);
    const quantized both = quantized_buffers(s.rows, s.cols);
    const quantized alone = quantized_buffers(s.rows, s.cols);
    k_act_mul_args a = {.gate = rig_at(gate),
                        .up = rig_at(up),
                        .out = rig_at(out),
                        .codes = rig_at(both.codes),
                        .sums = rig_at(both.sums),
                        .count = rig_count(s.rows),
                        .cols = s.cols,
                        .kind = kind,
                        .a = 1.702f,
                        .b = 1.25f};
    rig_run(arch, "k_act_mul", &a, grid_of(s.cols), s.rows + 1, 256, 0);
    quantized_same(arch, both, out, s.rows, s.cols);
    a.out = 0;
    a.codes = rig_at(alone.codes);
    a.sums = rig_at(alone.sums);
    rig_run(arch, "k_act_mul", &a, grid_of(s.cols), s.rows + 1, 256, 0);
    quantized_same(arch, alone, out, s.rows, s.cols);
}

TEST(k_act_and_k_act_mul_write_the_codes_of_what_they_make) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < CODED; i++) {
            check_coded_act(arch, coded[i], i % 2 == 0 ? ACT_GELU : ACT_RELU);
            check_coded_act_mul(arch, coded[i], i % 2 == 0 ? ACT_SILU : ACT_SWIGLU_CLAMPED);
        }
    }
    rig_done();
}

/* --- sums and products -------------------- */

/* The value of the op that is k_binary's kind; y as the op reads it. */
static value_id binary_value(ck_binary kind, const float *x, const float *y, uint32_t cols) {
    program *p = oracle_program();
    value_id v = oracle_input(x, cols);
    switch (kind) {
    case CK_ADD:
        return pg_add(p, v, oracle_input(y, cols));
    case CK_MUL:
        return pg_mul(p, v, oracle_input(y, cols));
    case CK_ADD_ROW:
        return pg_add_row(p, v, y);
    case CK_MUL_ROW:
        return pg_mul_row(p, v, y);
    case CK_MUL_COL:
        return pg_mul_col(p, v, oracle_input(y, 1));
    }
    return v;
}

TEST(k_binary_adds_and_multiplies_exactly) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < (uint32_t)5 * SHAPES; i++) {
            shape s = shapes[i / 5];
            size_t n = (size_t)s.rows * s.cols;
            float *x = random_rows(s, s.cols, 3), *y = random_rows(s, s.cols, 3);
            oracle_begin(s.rows);
            const float *want = oracle_end(binary_value((ck_binary)(i % 5), x, y, s.cols));
            float *wanted = rig_copy(want, n * sizeof *want);
            k_binary_args a = {.x = rig_at(x),
                               .y = rig_at(y),
                               .out = rig_at(x),
                               .count = rig_count(s.rows),
                               .cols = s.cols,
                               .kind = i % 5};
            rig_run(arch, "k_binary", &a, grid_of(s.cols), s.rows + 1, 256, 0);
            rig_same(x, wanted, n * sizeof *x);
        }
    }
    rig_done();
}

TEST(k_experts_sum_weighs_the_used_experts) {
    static const uint32_t used[] = {1, 2, 3, 8, 5, 2, 7};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < SHAPES; i++) {
            shape s = shapes[i];
            float *x = random_rows(s, used[i] * s.cols, 1);
            float *routed = random_rows(s, 2 * used[i], 1);
            float *out = rig_buffer((size_t)s.rows * s.cols * sizeof *out);
            oracle_begin(s.rows);
            value_id v = oracle_input(x, used[i] * s.cols), r = oracle_input(routed, 2 * used[i]);
            const float *want = oracle_end(pg_experts_sum(oracle_program(), v, r, used[i]));
            k_experts_sum_args a = {.x = rig_at(x),
                                    .routed = rig_at(routed),
                                    .out = rig_at(out),
                                    .count = rig_count(s.rows),
                                    .used = used[i],
                                    .cols = s.cols};
            rig_run(arch, "k_experts_sum", &a, grid_of(s.cols), s.rows, 256, 0);
            rig_near(out, want, (size_t)s.rows * s.cols, 1e-6);
        }
    }
    rig_done();
}
