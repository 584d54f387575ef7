/* test_cpu_products.c - products beyond one plain matrix: packed ones, adapters, head by head. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rig.h"
#include "tensor/convert.h"
#include "test.h"

/* backend.h: f32 accumulation against double; activations rounded to 16 bits. */
static const double float_nmse_max = 1e-11;
static const double block_nmse_max = 1e-8;

/* All machines against the reference, and rows in smaller batches bit for bit. */
static void check_rows(const program *p, krig_batch *in, double nmse_max, const char *what) {
    const uint32_t all_rows = in->rows, cols = krig_cols(p);
    krig_check_all(p, in, nmse_max, what);
    for (int i = 1; i < RIG_MACHINES; i++) {
        float *all = krig_run(&krig_machines[i], p, in);
        unsigned wrong = 0;
        for (uint32_t n = 1; n < all_rows; n = n * 4 + 1) {
            in->rows = in->taken_rows = n;
            float *some = krig_run(&krig_machines[i], p, in);
            wrong += memcmp(some, all, (size_t)n * cols * sizeof *all) != 0;
            free(some);
        }
        CHECK_EQ(wrong, 0);
        in->rows = in->taken_rows = all_rows;
        free(all);
    }
}

/* --- packed matrices -------------------- */

/* One scale per row of random int8. */
static weight int8_weight(krig_weights *list, krig_random *r, uint32_t rows, uint32_t cols) {
    packed_matrix *m = krig_memory(list, sizeof *m);
    int8_t *data = krig_memory(list, (size_t)rows * cols);
    float *scales = krig_memory(list, rows * sizeof *scales);
    for (uint32_t i = 0; i < rows * cols; i++) data[i] = (int8_t)((int)krig_u32(r, 255) - 127);
    for (uint32_t i = 0; i < rows; i++) scales[i] = 0.002f + 0.001f * krig_uniform(r);
    *m = (packed_matrix){.kind = PACKED_INT8,
                         .rows = rows,
                         .cols = cols,
                         .data = data,
                         .scales = scales,
                         .scale_type = DTYPE_F32,
                         .group = cols,
                         .row_group = 1};
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = cols, .packed = m};
}

/* A whole matrix, and rows from the middle of it (fused q, k and v). */
TEST(kernel_products_with_packed_matrices) {
    static const uint32_t shapes[][2] = {{3, 8}, {40, 96}, {65, 33}, {130, 64}};
    for (int i = 0; i < 4; i++) {
        krig_random random = {shapes[i][0]};
        krig_weights list = {0};
        krig_batch in;
        uint32_t rows = shapes[i][0], cols = shapes[i][1];
        program *p = krig_program(1);
        value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, cols));
        weight w = int8_weight(&list, &random, rows, cols), slice = w;
        slice.row0 = rows / 3;
        slice.rows = rows - slice.row0;
        value_id a = pg_matmul(p, x, w, krig_vector(&list, &random, rows));
        value_id b = pg_matmul(p, x, slice, NULL);
        weight back = krig_weight(&list, &random, DTYPE_F32, slice.rows, rows);
        (void)krig_finish(p, pg_mul(p, pg_matmul(p, a, back, NULL), b));
        krig_batch_init(&in, RIG_ROWS_MAX);
        check_rows(p, &in, float_nmse_max, "packed product");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

TEST(kernel_experts_that_are_packed) {
    krig_random random = {9};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    op_experts experts = {.experts = 4, .used = 2, .shared_in = true};
    weight *w = pg_weights(p, 4);
    for (int e = 0; e < 4; e++) w[e] = int8_weight(&list, &random, 20, 24);
    experts.w = w;
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 24));
    value_id logits = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 4));
    value_id routed = pg_route(p, logits, (op_route){.experts = 4, .used = 2, .scale = 1});
    (void)krig_finish(p, pg_experts(p, x, routed, experts));
    krig_batch_init(&in, 50);
    check_rows(p, &in, float_nmse_max, "packed experts");
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* --- head by head -------------------- */

static void check_heads(dtype type, op_heads_matmul h, uint32_t w_cols, bool packed) {
    krig_random random = {h.heads + h.in_dim};
    krig_weights list = {0};
    krig_batch in;
    uint32_t rows = h.row0 + (h.heads - 1) * h.row_stride + h.w_rows;
    program *p = krig_program(1);
    uint32_t in_cols = h.heads * (h.in_dim + h.tail_dim);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, in_cols));
    weight w = packed ? int8_weight(&list, &random, rows, w_cols)
                      : krig_weight(&list, &random, type, rows, w_cols);
    (void)krig_finish(p, pg_heads_matmul(p, x, w, h));
    krig_batch_init(&in, RIG_ROWS_MAX);
    check_rows(p, &in, float_nmse_max, h.transposed ? "heads transposed" : "heads");
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_heads_matmul_in_both_directions) {
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q5_0};
    static const uint32_t dims[][4] = {/* heads, w_rows, w.cols, tail */
                                       {1, 3, 32, 0},
                                       {4, 12, 64, 5},
                                       {3, 70, 32, 8},
                                       {5, 17, 96, 1}};
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < 4; i++) {
            const uint32_t *d = dims[i];
            op_heads_matmul h = {.heads = d[0],
                                 .tail_dim = d[3],
                                 .w_rows = d[1],
                                 .row0 = d[3],
                                 .row_stride = d[1] + d[3]};
            h.in_dim = d[2];
            h.out_dim = d[1];
            check_heads(types[t], h, d[2], t == 1);
            h.in_dim = d[1];
            h.out_dim = d[2];
            h.transposed = true;
            check_heads(types[t], h, d[2], t == 2);
        }
    }
}

/* --- adapters -------------------- */

enum { SLOTS = 3, COLS = 64, OUT = 40 };

typedef struct adapter {
    lora_pair pairs[SLOTS];
} adapter;

static void fill_adapter(adapter *a, krig_weights *list, krig_random *r, dtype type,
                         uint32_t rank) {
    for (int s = 0; s < SLOTS; s++) {
        if (s == 1 && rank == 5) continue; /* leaves one weight alone */
        a->pairs[s] = (lora_pair){.a = krig_weight(list, r, type, rank, COLS),
                                  .b = krig_weight(list, r, type, s == 2 ? COLS : OUT, rank),
                                  .scale = 2.0f / (float)rank};
    }
}

static weight named(weight w, const char *name) {
    w.name = str_of(name);
    return w;
}

/* Two products side by side of which the second is adapted as well, and one that an add ends. */
static program *adapted_program(krig_weights *list, krig_random *random, dtype type) {
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(list, random, RIG_ROWS_MAX, COLS));
    value_id n = krig_norm_rms(p, x, NULL);
    value_id a = pg_matmul(p, n, named(krig_weight(list, random, type, OUT, COLS), "a"), NULL);
    value_id b = pg_matmul(p, n, named(krig_weight(list, random, type, OUT, COLS), "b"), NULL);
    value_id c = pg_matmul(p, n, krig_weight(list, random, DTYPE_F32, COLS, COLS), NULL);
    c = pg_add(p, x, c);
    value_id d = pg_matmul(p, c, named(krig_weight(list, random, type, COLS, COLS), "d"), NULL);
    value_id back = pg_matmul(p, pg_mul(p, a, b), krig_weight(list, random, type, COLS, OUT), NULL);
    back = pg_add(p, back, d);
    (void)krig_finish(p, back);
    CHECK_EQ(p->lora_slots, SLOTS);
    return p;
}

TEST(kernel_adapters_of_each_row) {
    static const dtype of[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const dtype base[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (int t = 0; t < 3; t++) {
        krig_random random = {(uint64_t)t + 40};
        krig_weights list = {0};
        krig_batch in;
        adapter one = {0}, two = {0};
        program *p = adapted_program(&list, &random, base[t]);
        fill_adapter(&one, &list, &random, of[t], RIG_LORA_RANK);
        fill_adapter(&two, &list, &random, of[(t + 1) % 3], 5);
        lora_mix mixes[3] = {{.count = 1}, {.count = 2}, {.count = LORA_PER_ROW_MAX}};
        for (int m = 0; m < 3; m++)
            for (uint32_t u = 0; u < mixes[m].count; u++) {
                mixes[m].uses[u].pairs = u % 2 == 0 ? one.pairs : two.pairs;
                mixes[m].uses[u].scale = 0.5f + (float)u;
            }
        krig_batch_init(&in, 40);
        check_rows(p, &in, float_nmse_max, "no adapters");
        in.use_loras = true;
        check_rows(p, &in, float_nmse_max, "adapters that no row uses");
        for (uint32_t r = 0; r < in.rows; r++) in.loras[r] = r % 4 < 3 ? &mixes[r % 4] : NULL;
        check_rows(p, &in, float_nmse_max, "adapters");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

/* Block weights, int16 activations: what the adapters add is computed from the f32 ones. */
TEST(kernel_adapters_of_block_weights) {
    krig_random random = {4};
    krig_weights list = {0};
    krig_batch in;
    adapter one = {0};
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, COLS));
    weight w = named(krig_weight(&list, &random, DTYPE_Q8_0, OUT, COLS), "w");
    weight v = named(krig_weight(&list, &random, DTYPE_Q4_0, OUT, COLS), "v");
    value_id sum = pg_add(p, pg_matmul(p, x, w, NULL), pg_matmul(p, x, v, NULL));
    weight last = named(krig_weight(&list, &random, DTYPE_F32, COLS, COLS), "l");
    value_id residual = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, COLS));
    residual = pg_add(p, residual, pg_matmul(p, x, last, NULL)); /* fused with its add */
    value_id hidden = pg_take_rows(p, residual), ends = pg_take_rows(p, pg_take_rows(p, sum));
    CHECK_EQ(program_finish(p, hidden, ends, NULL), OK);
    fill_adapter(&one, &list, &random, DTYPE_F16, 8);
    lora_mix mix = {.count = 1, .uses = {{one.pairs, 1.5f}}};
    krig_batch_init(&in, 9);
    in.use_loras = true;
    in.head_rows = 9;
    for (uint32_t r = 0; r < 9; r++) {
        in.loras[r] = r % 2 == 0 ? &mix : NULL;
        in.head[r] = r;
    }
    float want[9 * OUT], wanted[9 * COLS];
    for (int i = 0; i < RIG_MACHINES; i++) {
        backend *b = krig_open(&krig_machines[i], p);
        step_result got = krig_step_both(&krig_machines[i], b, &in);
        if (i == 0) memcpy(want, got.logits, sizeof want);
        if (i == 0) memcpy(wanted, got.hidden, sizeof wanted);
        CHECK(krig_nmse(got.logits, want, 9 * OUT) <= block_nmse_max);
        CHECK(krig_nmse(got.hidden, wanted, 9 * COLS) <= float_nmse_max);
        krig_machines[i].ops->close(b);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* A row among the taken ones has the adapter of its row in the batch. */
TEST(kernel_adapters_of_taken_and_head_rows) {
    krig_random random = {6};
    krig_weights list = {0};
    krig_batch in;
    adapter one = {0};
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, COLS));
    value_id hidden = pg_take_rows(p, x);
    hidden =
        pg_matmul(p, hidden, named(krig_weight(&list, &random, DTYPE_F32, COLS, COLS), "h"), NULL);
    value_id logits = pg_take_rows(p, hidden);
    logits =
        pg_matmul(p, logits, named(krig_weight(&list, &random, DTYPE_F32, OUT, COLS), "o"), NULL);
    CHECK_EQ(program_finish(p, hidden, logits, NULL), OK);
    fill_adapter(&one, &list, &random, DTYPE_F32, 4);
    one.pairs[0].b = krig_weight(&list, &random, DTYPE_F32, COLS, 4);
    lora_mix mix = {.count = 1, .uses = {{one.pairs, 1.0f}}};
    krig_batch_init(&in, 12);
    in.use_loras = true;
    in.loras[3] = in.loras[8] = in.loras[11] = &mix;
    in.taken_rows = 3;
    in.head_rows = 2;
    in.taken[0] = 2;
    in.taken[1] = 3;
    in.taken[2] = 11;
    in.head[0] = 0;
    in.head[1] = 2;
    float want[2 * OUT], wanted[3 * COLS];
    for (int i = 0; i < RIG_MACHINES; i++) {
        backend *b = krig_open(&krig_machines[i], p);
        step_result got = krig_step_both(&krig_machines[i], b, &in);
        if (i == 0) memcpy(want, got.logits, sizeof want);
        if (i == 0) memcpy(wanted, got.hidden, sizeof wanted);
        CHECK(krig_nmse(got.logits, want, 2 * OUT) <= float_nmse_max);
        CHECK(krig_nmse(got.hidden, wanted, 3 * COLS) <= float_nmse_max);
        krig_machines[i].ops->close(b);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}
