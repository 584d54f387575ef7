/* test_cpu_matmul.c - matrix products of every weight type, odd shapes, on every machine.
 *
 * Method: 64 rows at once are measured against the reference; every smaller batch, every
 * row order and every thread count must then give the same bits. */
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "test.h"

/* backend.h: activations rounded to 16 bits per block of 32. */
static const double block_nmse_max = 1e-8;

/* Those with kernels of their own, and two that go through panels. */
static const dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,
                              DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_1};
enum { TYPES = 7, FLOAT_TYPES = 3, NATIVE_TYPES = 5 };

/* Wide enough for whole blocks, odd where that is possible. */
static uint32_t cols_of_type(dtype t) {
    return dtype_get((uint32_t)t)->block_elems > 32 ? 768 : 96;
}

/* --- shapes -------------------- */

static const uint32_t row_counts[] = {1, 2, 3, 4, 5, 7, 16, 17, 33, 64};

/* Rows 0..n-1 alone must give the bits that they have among 64. */
static unsigned smaller_batches_differ(const krig_machine *m, backend *b, const float *all,
                                       uint32_t cols) {
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof row_counts / sizeof row_counts[0]; i++) {
        krig_batch in;
        krig_batch_init(&in, row_counts[i]);
        const float *got = krig_step(m, b, &in);
        wrong += memcmp(got, all, (size_t)row_counts[i] * cols * sizeof *got) != 0;
    }
    return wrong;
}

/* A row's bits do not depend on where in the batch it stands. */
static unsigned other_orders_differ(const krig_machine *m, backend *b, const float *all,
                                    uint32_t cols) {
    unsigned wrong = 0;
    krig_random random = {99};
    for (uint32_t n = 7; n <= RIG_ROWS_MAX; n += 57) {
        krig_batch in;
        uint32_t order[RIG_ROWS_MAX];
        krig_batch_init(&in, n);
        krig_shuffle(&random, order, RIG_ROWS_MAX);
        for (uint32_t r = 0; r < n; r++) in.tokens[r] = (int32_t)order[r];
        const float *got = krig_step(m, b, &in);
        for (uint32_t r = 0; r < n; r++)
            wrong += memcmp(got + (size_t)r * cols, all + (size_t)order[r] * cols,
                            cols * sizeof *got) != 0;
    }
    return wrong;
}

static void check_shape(dtype type, uint32_t cols, uint32_t weight_rows) {
    krig_random random = {cols * 1000 + weight_rows};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, cols));
    weight w = krig_weight(&list, &random, type, weight_rows, cols);
    (void)krig_finish(p, pg_matmul(p, x, w, krig_vector(&list, &random, weight_rows)));
    krig_batch_init(&in, RIG_ROWS_MAX);
    size_t count = (size_t)RIG_ROWS_MAX * weight_rows;
    float *want = krig_run(&krig_machines[0], p, &in), *first = NULL;
    for (int i = 0; i < RIG_MACHINES; i++) {
        const krig_machine *m = &krig_machines[i];
        backend *b = krig_open(m, p);
        float *all = malloc(count * sizeof *all);
        memcpy(all, krig_step(m, b, &in), count * sizeof *all);
        double nmse = krig_nmse(all, want, count);
        unsigned batches = i == 0 ? 0 : smaller_batches_differ(m, b, all, weight_rows);
        unsigned orders = i == 0 ? 0 : other_orders_differ(m, b, all, weight_rows);
        bool threads_agree = i == 0 || i % 2 == 1 || memcmp(all, first, count * sizeof *all) == 0;
        if (nmse > krig_nmse_max(type) || batches + orders > 0 || !threads_agree)
            (void)fprintf(stderr, "%s [%u, %u] on %s: nmse %g, %u batches, %u orders, threads %d\n",
                          dtype_name(type), weight_rows, cols, m->name, nmse, batches, orders,
                          threads_agree);
        CHECK(nmse <= krig_nmse_max(type));
        CHECK_EQ(batches + orders, 0);
        CHECK(threads_agree);
        m->ops->close(b);
        free(first);
        first = all;
    }
    free(first);
    free(want);
    program_destroy(p);
    krig_weights_deinit(&list);
}

static const uint32_t weight_rows_list[] = {1, 3, 8, 9, 63, 64, 65, 130};
enum { WEIGHT_ROWS = 8 };

/* Every width with one height, every height with two widths. */
static void check_shapes(dtype type, const uint32_t *cols, size_t count) {
    for (size_t i = 0; i < count; i++)
        check_shape(type, cols[i], weight_rows_list[i % WEIGHT_ROWS]);
    for (size_t i = 0; i < WEIGHT_ROWS; i++) {
        check_shape(type, cols[1], weight_rows_list[i]);
        check_shape(type, cols[count - 2], weight_rows_list[i]);
    }
}

TEST(kernel_matmul_float_weights_in_odd_shapes) {
    static const uint32_t cols[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 172, 256};
    for (int t = 0; t < FLOAT_TYPES; t++) check_shapes(types[t], cols, 13);
}

TEST(kernel_matmul_block_weights_in_odd_shapes) {
    static const uint32_t cols[] = {32, 64, 96, 256, 2048};
    for (int t = FLOAT_TYPES; t < NATIVE_TYPES; t++) check_shapes(types[t], cols, 5);
}

/* Every other type: one, three and many blocks; heights around the panel and the unit. */
TEST(kernel_matmul_of_types_read_row_by_row_in_odd_shapes) {
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        const dtype_info *info = dtype_get(id);
        if (info == NULL || info->is_integer) continue;
        if (backend_cpu.path((dtype)id) == BACKEND_PATH_NATIVE) continue;
        check_shape((dtype)id, info->block_elems, 1);
        check_shape((dtype)id, info->block_elems * 3, 9);
        check_shape((dtype)id, info->block_elems > 1 ? 512 : 172, 20);
    }
}

/* --- fusion -------------------- */

typedef struct sum_program {
    program *p;
    krig_weights list;
} sum_program;

/* x + (n . w^T + bias).  Written in this order the add is fused into the product; the
 * other way round it cannot be, and must still give the same bits. */
static sum_program make_sum(dtype type, bool product_first) {
    sum_program s = {.p = krig_program(1)};
    krig_random random = {type + 5};
    value_id x = pg_embed(s.p, krig_table(&s.list, &random, RIG_ROWS_MAX, 72));
    uint32_t cols = cols_of_type(type);
    value_id n = pg_embed(s.p, krig_table(&s.list, &random, RIG_ROWS_MAX, cols));
    weight w = krig_weight(&s.list, &random, type, 72, cols);
    value_id y = pg_matmul(s.p, n, w, krig_vector(&s.list, &random, 72));
    (void)krig_finish(s.p, product_first ? pg_add(s.p, y, x) : pg_add(s.p, x, y));
    return s;
}

static backend_report report_of(const krig_machine *m, const program *p) {
    backend_report report;
    backend *b = krig_open(m, p);
    m->ops->report(b, &report);
    m->ops->close(b);
    return report;
}

TEST(kernel_fused_add_gives_the_bits_of_the_unfused) {
    krig_batch in;
    krig_batch_init(&in, 17);
    for (int t = 0; t < TYPES; t++) {
        sum_program fused = make_sum(types[t], false), apart = make_sum(types[t], true);
        krig_check_all(fused.p, &in, krig_nmse_max(types[t]), "fused add");
        for (int i = 1; i < RIG_MACHINES; i++) {
            const krig_machine *m = &krig_machines[i];
            CHECK_EQ(report_of(m, fused.p).ops_fused, 1);
            CHECK_EQ(report_of(m, apart.p).ops_fused, 0);
            CHECK_EQ(report_of(m, fused.p).ops_unfused + 1, report_of(m, apart.p).ops_unfused);
            float *a = krig_run(m, fused.p, &in), *b = krig_run(m, apart.p, &in);
            CHECK(memcmp(a, b, (size_t)17 * 72 * sizeof *a) == 0);
            free(a);
            free(b);
        }
        program_destroy(fused.p);
        program_destroy(apart.p);
        krig_weights_deinit(&fused.list);
        krig_weights_deinit(&apart.list);
    }
}

/* x + x . w^T: the sum would land on the input of the product, so it must not be fused. */
TEST(kernel_add_to_the_products_own_input_is_right) {
    for (int t = 0; t < TYPES; t++) {
        krig_random random = {7};
        krig_weights list = {0};
        krig_batch in;
        program *p = krig_program(1);
        value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 256));
        weight w = krig_weight(&list, &random, types[t], 256, 256);
        (void)krig_finish(p, pg_add(p, x, pg_matmul(p, x, w, NULL)));
        krig_batch_init(&in, 33);
        krig_check_all(p, &in, krig_nmse_max(types[t]), "x + x . w");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

/* Products of one input run as one phase: types may differ, and there may be more of
 * them than one phase takes. */
TEST(kernel_products_of_one_input_side_by_side) {
    static const dtype mixed[] = {DTYPE_Q8_0, DTYPE_F32,  DTYPE_Q4_0, DTYPE_F16,
                                  DTYPE_Q6_K, DTYPE_Q8_0, DTYPE_BF16, DTYPE_IQ3_S};
    enum { PRODUCTS = 8, COLS = 256 };
    krig_random random = {3};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    value_id y[PRODUCTS], x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, COLS));
    value_id n = krig_norm_rms(p, x, krig_vector(&list, &random, COLS));
    for (int i = 0; i < PRODUCTS; i++)
        y[i] = pg_matmul(p, n, krig_weight(&list, &random, mixed[i], 40, COLS), NULL);
    for (int i = 1; i < PRODUCTS; i++) y[0] = pg_add(p, y[0], y[i]);
    (void)krig_finish(p, y[0]);
    krig_batch_init(&in, 33);
    krig_check_all(p, &in, block_nmse_max, "eight products");
    CHECK_EQ(report_of(&krig_machines[1], p).ops_fused, 3 + 3);
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* The int16 form made by a norm must not be trusted once another value took its place. */
TEST(kernel_int16_forms_follow_their_values) {
    krig_random random = {11};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    const float *gain = krig_vector(&list, &random, 64);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 64));
    value_id other = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 64));
    value_id n = krig_norm_rms(p, x, gain);
    value_id a = pg_matmul(p, other, krig_weight(&list, &random, DTYPE_Q8_0, 64, 64), NULL);
    value_id b = pg_matmul(p, n, krig_weight(&list, &random, DTYPE_Q4_0, 64, 64), NULL);
    value_id c = krig_silu_mul(p, a, b);
    value_id d = pg_matmul(p, c, krig_weight(&list, &random, DTYPE_Q8_0, 64, 64), NULL);
    (void)krig_finish(p, pg_add(p, n, pg_add(p, x, d)));
    krig_batch_init(&in, 5);
    krig_check_all(p, &in, block_nmse_max, "int16 forms");
    program_destroy(p);
    krig_weights_deinit(&list);
}
