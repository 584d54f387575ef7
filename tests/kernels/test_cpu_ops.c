/* test_cpu_ops.c - embed, norm, rope, silu and softmax, in odd widths and at the
 * ends of their range. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "rig.h"
#include "tensor/convert.h"
#include "test.h"

/* backend.h: f32 arithmetic against double. */
static const double float_nmse_max = 1e-11;
/* cos and sin are rounded to f32 before they multiply, as x is. */
static const double rope_nmse_max = 1e-13;
/* expf and the polynomial of the avx2 class are good to 2e-7; a sum of n terms that are
 * each so good is as good. */
static const double exp_relative_max = 5e-7;

static const uint32_t widths[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 172, 256};
static const uint32_t row_counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 33, 64};
enum { WIDTHS = 13, ROW_COUNTS = 10 };

/* Run all machines for all row counts. */
static void check_rows(const program *p, double nmse_max, const char *what) {
    for (int i = 0; i < ROW_COUNTS; i++) {
        krig_batch in;
        krig_batch_init(&in, row_counts[i]);
        for (uint32_t r = 0; r < in.rows; r++) in.pos[r] = r * 17;
        krig_check_all(p, &in, nmse_max, what);
    }
}

TEST(kernel_embed_is_exact_for_every_type) {
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0};
    for (int t = 0; t < 5; t++) {
        krig_random random = {(uint64_t)t};
        krig_weights list = {0};
        krig_batch in;
        program *p = krig_program(1);
        (void)krig_finish(p, pg_embed(p, krig_weight(&list, &random, types[t], 64, 96)));
        krig_batch_init(&in, 64);
        krig_check_all(p, &in, 0.0, dtype_name(types[t]));
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

TEST(kernel_norm_in_odd_widths) {
    for (int i = 0; i < WIDTHS; i++) {
        krig_random random = {widths[i]};
        krig_weights list = {0};
        program *p = krig_program(1);
        value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, widths[i]));
        (void)krig_finish(p, krig_norm_rms(p, x, krig_vector(&list, &random, widths[i])));
        check_rows(p, float_nmse_max, "norm");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

TEST(kernel_norm_of_extreme_rows_is_finite) {
    enum { COLS = 33 };
    static const float scales[] = {0.0f, 1e-20f, 1e-6f, 1e6f, 1e18f};
    float values[5 * COLS], ones[COLS];
    krig_weights list = {0};
    krig_batch in;
    for (int i = 0; i < 5 * COLS; i++) values[i] = scales[i / COLS] * ((i % 2) != 0 ? 1.0f : -0.5f);
    for (int i = 0; i < COLS; i++) ones[i] = 1.0f;
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table_of(&list, values, 5, COLS));
    (void)krig_finish(p, krig_norm_rms(p, x, ones));
    krig_batch_init(&in, 5);
    krig_check_all(p, &in, float_nmse_max, "norm of extremes");
    float *out = krig_run(&krig_machines[3], p, &in);
    for (int i = 0; i < 5 * COLS; i++) CHECK(isfinite(out[i]));
    CHECK(out[0] == 0.0f && fabsf(out[4 * COLS + 1]) > 0.5f);
    free(out);
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_act_mul_in_odd_widths) {
    for (int i = 0; i < WIDTHS; i++) {
        krig_random random = {widths[i] + 50};
        krig_weights list = {0};
        program *p = krig_program(1);
        value_id gate = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, widths[i]));
        value_id up = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, widths[i]));
        (void)krig_finish(p, krig_silu_mul(p, gate, up));
        check_rows(p, float_nmse_max, "act_mul");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

TEST(kernel_take_rows_takes_any_ascending_rows) {
    krig_random random = {1};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    weight table = krig_table(&list, &random, RIG_ROWS_MAX, 19);
    (void)krig_finish(p, pg_embed(p, table));
    krig_batch_init(&in, 64);
    in.taken_rows = 3;
    in.taken[0] = 5;
    in.taken[1] = 6;
    in.taken[2] = 63;
    krig_check_all(p, &in, 0.0, "take rows");
    float *out = krig_run(&krig_machines[1], p, &in);
    CHECK(memcmp(out + 38, (const float *)table.data + 63 * 19, 19 * sizeof *out) == 0);
    in.taken_rows = 0; /* a prompt chunk that wants no logits */
    for (int i = 0; i < RIG_MACHINES; i++) free(krig_run(&krig_machines[i], p, &in));
    free(out);
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* --- rope -------------------- */

/* Table of frequencies that `weird` makes uneven. */
static void check_rope(op_rope rope, double base, bool weird, bool in_place) {
    krig_random random = {rope.dims + rope.heads};
    krig_weights list = {0};
    double *freqs = krig_memory(&list, rope.dims * sizeof *freqs);
    for (uint32_t i = 0; i < rope.dims / 2; i++)
        freqs[i] = pow(base, -2.0 * i / rope.dims) / (weird ? 1.0 + i % 4 : 1.0);
    rope.freqs = freqs;
    program *p = krig_program(1);
    uint32_t cols = rope.heads * rope.head_dim;
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, cols));
    value_id y = pg_rope(p, x, rope);
    (void)krig_finish(p, in_place ? y : pg_add(p, y, x));
    check_rows(p, rope_nmse_max, "rope");
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_rope_rotates_part_of_a_head) {
    static const uint32_t shapes[][4] = {
        /* heads, head_dim, first, dims */
        {1, 2, 0, 2},   {3, 8, 0, 8},   {3, 8, 0, 6},   {2, 20, 0, 4},  {4, 64, 0, 64},
        {2, 80, 0, 32}, {3, 24, 16, 8}, {2, 20, 3, 10}, {1, 12, 10, 2}, {2, 48, 8, 22}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int pairs = ROPE_ADJACENT; pairs <= ROPE_HALVES; pairs++) {
            op_rope rope = {.heads = shapes[i][0],
                            .head_dim = shapes[i][1],
                            .first = shapes[i][2],
                            .dims = shapes[i][3],
                            .pairs = (rope_pairs)pairs,
                            .magnitude = 1.0f};
            check_rope(rope, 10000.0, false, true);
            check_rope(rope, 10000.0, false, false);
            rope.magnitude = 1.19f;
            check_rope(rope, 500000.0, true, true);
        }
    }
}

/* Equal frequencies share a table, others do not. */
TEST(kernel_ropes_of_several_kinds_in_one_program) {
    krig_random random = {31};
    krig_weights list = {0};
    program *p = krig_program(1);
    value_id sum = VALUE_NONE;
    for (int i = 0; i < 7; i++) {
        op_rope rope = krig_rope(&list, 2, 16, i % 2 != 0 ? 16 : 8, i < 4 ? 1e4 : 1e6);
        if (i == 6) rope.magnitude = 0.75f;
        value_id x = pg_rope(p, pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 32)), rope);
        sum = i == 0 ? x : pg_add(p, sum, x);
    }
    (void)krig_finish(p, sum);
    check_rows(p, rope_nmse_max, "several ropes");
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_rope_at_position_zero_changes_nothing) {
    krig_random random = {2};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    weight table = krig_table(&list, &random, 4, 24);
    value_id x = pg_embed(p, table);
    (void)krig_finish(p, pg_rope(p, x, krig_rope(&list, 3, 8, 8, 10000.0)));
    krig_batch_init(&in, 4);
    for (int i = 0; i < RIG_MACHINES; i++) {
        float *out = krig_run(&krig_machines[i], p, &in);
        CHECK(memcmp(out, table.data, (size_t)4 * 24 * sizeof *out) == 0);
        free(out);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* --- kernels called directly: the ends of their range -------------------- */

static const cpu_kernels *tables[2];

static void find_tables(void) {
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_SCALAR, &tables[0], NULL), OK);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AUTO, &tables[1], NULL), OK);
}

TEST(kernel_silu_extremes) {
    static const float gates[] = {0.0f,   -0.0f, 1e-30f, -1e-30f, 5.0f,   -5.0f,  20.0f,
                                  -20.0f, 80.0f, -80.0f, 88.0f,   -88.0f, 100.0f, -100.0f,
                                  1e4f,   -1e4f, 3e38f,  -3e38f,  1.0f};
    enum { N = sizeof gates / sizeof gates[0] };
    float up[N], y[N];
    find_tables();
    for (int i = 0; i < N; i++) up[i] = 1.0f;
    for (int k = 0; k < 2; k++) {
        tables[k]->act(&(op_act){.kind = ACT_SILU}, gates, up, y, N);
        for (int i = 0; i < N; i++) {
            double g = (double)gates[i], want = g / (1.0 + exp(-g));
            if (g < -700) want = 0;
            double wrong = fabs((double)y[i] - want);
            /* below -88 the true value is smaller than any normal float next to it */
            CHECK(wrong <= exp_relative_max * fabs(want) || wrong <= 3e-34 * fmax(1, fabs(g)));
            CHECK(!isnan(y[i]));
        }
    }
}

/* One span of scores. */
static void check_softmax(const cpu_kernels *k, const float *scores, uint32_t n) {
    float s[ATTN_SPAN];
    double want[ATTN_SPAN], max = -INFINITY, total = 0;
    attn_state state = {.max = -INFINITY};
    memset(s, 0x7F, sizeof s);
    memcpy(s, scores, n * sizeof *s);
    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)scores[i]);
    for (uint32_t i = 0; i < n; i++) total += want[i] = exp((double)scores[i] - max);
    k->soften(s, 0, n, &state, NULL, 0);
    CHECK(fabs((double)state.sum - total) <= exp_relative_max * total * 4);
    for (uint32_t i = 0; i < n; i++) {
        /* s - max is rounded to f32 before exp() sees it */
        double distance = max - (double)scores[i];
        double relative = exp_relative_max + distance * 0x1p-24;
        CHECK(fabs((double)s[i] - want[i]) <= relative * want[i] + 1e-37);
    }
}

TEST(kernel_softmax_extremes) {
    float s[128];
    krig_random random = {4};
    find_tables();
    for (int k = 0; k < 2; k++) {
        for (uint32_t n = 1; n <= 128; n += n < 34 ? 1 : 13) {
            for (uint32_t i = 0; i < n; i++) s[i] = 3.25f; /* all equal: exactly 1 each */
            check_softmax(tables[k], s, n);
            krig_normal(&random, s, n);
            check_softmax(tables[k], s, n);
            for (uint32_t i = 0; i < n; i++) s[i] *= 40.0f; /* most vanish */
            check_softmax(tables[k], s, n);
            for (uint32_t i = 0; i < n; i++) s[i] = -3e38f;
            s[n / 2] = 3e37f; /* the difference overflows to -inf */
            check_softmax(tables[k], s, n);
            s[n / 2] = -3.1e38f;
            check_softmax(tables[k], s, n);
        }
    }
}
