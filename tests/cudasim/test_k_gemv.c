/* test_k_gemv.c - products with weights of every form.
 *
 * What a row of x gives has to be the same bits from k_gemv_n1, k_gemv_n4,
 * k_gemvs and k_experts.  How much memory a product reads is counted and may be nothing but the
 * weights, once. */
#include <math.h>
#include <stdlib.h>

#include "backend/cuda/cuda_planar.h"
#include "cudasim/oracle.h"
#include "cudasim/product_rig.h"
#include "cudasim/rig.h"
#include "tensor/convert.h"
#include "test.h"

/* --- k_gemv -------------------- */

typedef enum gemv_epilogue { PLAIN, BIAS, ADD, ADD_IN_PLACE, EPILOGUES } gemv_epilogue;

typedef struct gemv_case {
    uint32_t rows, cols, x_rows;
    gemv_epilogue epilogue;
    uint32_t gap; /* elements between rows of out */
} gemv_case;

/* Runs one kernel into a fresh out of x_rows rows, of which the last has no gap behind it. */
static float *run_gemv(int arch, const product_form *f, const gemv_case *c, uint32_t n,
                       const product_weight *g, const product_x *x, const float *bias,
                       const float *add) {
    const uint32_t stride = c->rows + c->gap;
    const size_t size = ((size_t)(c->x_rows - 1) * stride + c->rows) * sizeof(float);
    float *out = c->epilogue == ADD_IN_PLACE ? rig_copy(add, size) : rig_buffer(size);
    k_gemv_args a = {.w = g->on_device,
                     .x = product_x_at(x),
                     .sums = rig_at(x->sums),
                     .bias = c->epilogue == BIAS ? rig_at(bias) : 0,
                     .add = c->epilogue == ADD            ? rig_at(add)
                            : c->epilogue == ADD_IN_PLACE ? rig_at(out)
                                                          : 0,
                     .out = rig_at(out),
                     .count = rig_count(c->x_rows),
                     .out_stride = stride};
    const uint32_t blocks = (c->rows + CK_GEMV_BLOCK_ROWS - 1) / CK_GEMV_BLOCK_ROWS;
    rig_run(arch, product_kernel("gemv", f->name, n == 1 ? "_n1" : "_n4"), &a, blocks,
            (c->x_rows + n - 1) / n + 1, CK_GEMV_THREADS, 0);
    return out;
}

static void check_gaps(const float *out, const gemv_case *c, const float *before) {
    const uint32_t stride = c->rows + c->gap;
    for (uint32_t r = 0; r + 1 < c->x_rows; r++)
        for (uint32_t i = c->rows; i < stride; i++) {
            uint32_t bits = convert_f32_bits(out[r * stride + i]);
            CHECK_EQ(bits, before == NULL ? UINT32_MAX : convert_f32_bits(before[r * stride + i]));
        }
}

static void check_gemv(int arch, const product_form *f, const gemv_case *c) {
    const product_weight g = product_weight_make(f->type, c->rows, c->cols);
    CHECK_EQ(g.form, f->form);
    const product_x x = product_x_make(f->form, c->x_rows, c->cols);
    const uint32_t stride = c->rows + c->gap;
    float *bias = rig_buffer(c->rows * sizeof(float));
    float *add = rig_buffer((size_t)c->x_rows * stride * sizeof(float));
    float *none = rig_buffer(c->rows * sizeof(float));
    rig_fill(bias, c->rows, 1.0f);
    rig_fill(add, (size_t)c->x_rows * stride, 1.0f);
    memset(none, 0, c->rows * sizeof(float));
    float *one = run_gemv(arch, f, c, 1, &g, &x, bias, add);
    float *four = run_gemv(arch, f, c, 4, &g, &x, bias, add);
    rig_same(four, one, ((size_t)(c->x_rows - 1) * stride + c->rows) * sizeof(float));
    check_gaps(one, c, c->epilogue == ADD_IN_PLACE ? add : NULL);
    for (uint32_t r = 0; r < c->x_rows; r++) {
        const float *extra = c->epilogue == BIAS    ? bias
                             : c->epilogue == PLAIN ? none
                                                    : add + (size_t)r * stride;
        product_check_row(&g, &x, r, extra, one + (size_t)r * stride, f->name);
    }
}

/* Every number of columns with every number of rows; numbers of rows of x and what is added take
 * turns, as do gaps. */
static void check_form(const product_form *f) {
    static const uint32_t rows[] = {1, 2, 7, 8, 9, 65}, x_rows[] = {1, 2, 3, 4, 5, 9};
    uint32_t turn = 0;
    for (uint32_t k = 0; k < 8 && f->cols[k] != 0; k++)
        for (uint32_t r = 0; r < 6; r++, turn++) {
            if (rows[r] == 65 && f->cols[k] > 2048) continue; /* long rows need not be many */
            const gemv_case c = {rows[r], f->cols[k], x_rows[(r + k) % 6],
                                 (gemv_epilogue)(turn % EPILOGUES), turn % 3};
            RIG_EACH(arch) check_gemv(arch, f, &c);
        }
    rig_done();
}

TEST(k_gemv_f32) { check_form(&product_forms[CK_FORM_F32]); }
TEST(k_gemv_f16) { check_form(&product_forms[CK_FORM_F16]); }
TEST(k_gemv_bf16) { check_form(&product_forms[CK_FORM_BF16]); }
TEST(k_gemv_q8_0) { check_form(&product_forms[CK_FORM_Q8_0]); }
TEST(k_gemv_q4_0) { check_form(&product_forms[CK_FORM_Q4_0]); }
TEST(k_gemv_q4_k) { check_form(&product_forms[CK_FORM_Q4_K]); }
TEST(k_gemv_q5_k) { check_form(&product_forms[CK_FORM_Q5_K]); }
TEST(k_gemv_q6_k) { check_form(&product_forms[CK_FORM_Q6_K]); }

/* --- several in one launch -------------------- */

typedef struct together_case {
    uint32_t rows[CK_GEMVS_MAX]; /* 0 ends it */
    uint32_t x_rows;
    uint32_t k; /* which of the form's numbers of columns */
} together_case;

/* N rows of x to a block; outs[i] are fresh. */
static void run_together(int arch, const product_form *f, const together_case *c, uint32_t n,
                         const product_weight *g, const product_x *x, const float *bias,
                         float **outs) {
    k_gemvs_args a = {0};
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < CK_GEMVS_MAX && c->rows[i] != 0; i++) {
        outs[i] = rig_buffer((size_t)c->x_rows * c->rows[i] * sizeof(float));
        a.of[i] = (k_gemv_args){.w = g[i].on_device,
                                .x = product_x_at(x),
                                .sums = rig_at(x->sums),
                                .bias = i == 1 ? rig_at(bias) : 0,
                                .out = rig_at(outs[i]),
                                .count = rig_count(c->x_rows),
                                .out_stride = c->rows[i]};
        blocks += (c->rows[i] + CK_GEMV_BLOCK_ROWS - 1) / CK_GEMV_BLOCK_ROWS;
    }
    rig_run(arch, product_kernel("gemvs", f->name, n == 1 ? "_n1" : "_n4"), &a, blocks,
            (c->x_rows + n - 1) / n + 1, CK_GEMV_THREADS, 0);
}

/* Each product is, bit by bit, that of a launch of its own; the second one has a bias. */
static void check_together(int arch, const product_form *f, const together_case *c) {
    product_weight g[CK_GEMVS_MAX];
    float *one[CK_GEMVS_MAX], *four[CK_GEMVS_MAX];
    const uint32_t cols = f->cols[c->k];
    const product_x x = product_x_make(f->form, c->x_rows, cols);
    float *bias = rig_buffer(c->rows[1] * sizeof(float));
    rig_fill(bias, c->rows[1], 1.0f);
    for (uint32_t i = 0; i < CK_GEMVS_MAX && c->rows[i] != 0; i++)
        g[i] = product_weight_make(f->type, c->rows[i], cols);
    run_together(arch, f, c, 1, g, &x, bias, one);
    run_together(arch, f, c, 4, g, &x, bias, four);
    for (uint32_t i = 0; i < CK_GEMVS_MAX && c->rows[i] != 0; i++) {
        const gemv_case alone = {c->rows[i], cols, c->x_rows, i == 1 ? BIAS : PLAIN, 0};
        const size_t bytes = (size_t)c->x_rows * c->rows[i] * sizeof(float);
        const float *want = run_gemv(arch, f, &alone, 1, &g[i], &x, bias, NULL);
        rig_same(one[i], want, bytes);
        rig_same(four[i], want, bytes);
    }
}

TEST(k_gemvs_are_the_products_one_after_the_other) {
    static const together_case cases[] = {
        {{1, 1, 1}, 1, 0},  {{7, 8, 9}, 4, 1},  {{65, 1, 16}, 5, 2},
        {{8, 24, 0}, 1, 3}, {{9, 17, 0}, 5, 1}, {{16, 7, 65}, 1, 3},
    };
    for (uint32_t i = 0; i < PRODUCT_FORMS; i++)
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            RIG_EACH(arch) check_together(arch, &product_forms[i], &cases[k]);
            rig_done();
        }
}

/* --- pairs of codes -------------------- */

typedef struct pairs {
    float *x;      /* [rows, cols] */
    int8_t *codes; /* [2 rows, cols] */
    ck_sums *sums;
    uint32_t rows, cols;
} pairs;

static pairs make_pairs(int arch, uint32_t rows, uint32_t cols) {
    enum { PER_BLOCK = 1024, THREADS = 256 };
    const size_t n = (size_t)rows * cols;
    pairs p = {rig_buffer(n * sizeof(float)), rig_buffer(2 * n),
               rig_buffer(2 * n / PRODUCT_BLOCK * sizeof(ck_sums)), rows, cols};
    rig_fill(p.x, n, 3.0f);
    k_quantize_args a = {.x = rig_at(p.x),
                         .codes = rig_at(p.codes),
                         .sums = rig_at(p.sums),
                         .count = rig_count(rows),
                         .cols = cols,
                         .pairs = 1};
    rig_run(arch, "k_quantize", &a, (cols + PER_BLOCK - 1) / PER_BLOCK, rows + 1, THREADS, 0);
    return p;
}

/* Results of `count` rows from row `first` of x on. */
static float *run_pairs(int arch, const product_form *f, const product_weight *g, const pairs *p,
                        uint32_t first, uint32_t count, uint32_t pairs_per_block,
                        const float *bias) {
    const uint32_t rows = g->w.rows;
    float *out = rig_buffer((size_t)count * rows * sizeof(float));
    const size_t skip = (size_t)2 * first * p->cols;
    k_gemv_args a = {.w = g->on_device,
                     .x = rig_at(p->codes + skip),
                     .sums = rig_at(p->sums + skip / PRODUCT_BLOCK),
                     .bias = rig_at(bias),
                     .out = rig_at(out),
                     .count = rig_count(count),
                     .out_stride = rows};
    rig_run(arch, product_kernel("gemv", f->name, pairs_per_block == 1 ? "_p1" : "_p2"), &a,
            (rows + CK_GEMV_BLOCK_ROWS - 1) / CK_GEMV_BLOCK_ROWS,
            (count + pairs_per_block - 1) / pairs_per_block + 1, CK_GEMV_THREADS, 0);
    return out;
}

/* A code is off by half of its unit d; that of the rest, whose unit is at most d / 254, too. */
static void check_pairs_row(const product_weight *g, const pairs *p, uint32_t x_row,
                            const float *bias, const float *out) {
    static float w[PRODUCT_COLS_MAX];
    uint64_t stored = 0;
    uint32_t wrong = 0;
    (void)dtype_row_bytes(g->w.type, p->cols, &stored);
    for (uint32_t r = 0; r < g->w.rows; r++) {
        dequant_row(g->w.type, (const uint8_t *)g->w.data + r * stored, w, p->cols);
        double sum = (double)bias[r], all = fabs(sum), off = 0.0;
        for (uint32_t c = 0; c < p->cols; c++) {
            const size_t unit = ((size_t)2 * x_row * p->cols + c) / PRODUCT_BLOCK;
            const double v = (double)p->x[(size_t)x_row * p->cols + c];
            sum += (double)w[c] * v;
            all += fabs((double)w[c] * v);
            off += fabs((double)w[c]) * (double)p->sums[unit].d / 508.0;
        }
        wrong += !(fabs((double)out[r] - sum) <= off * 1.001 + PRODUCT_ERROR_MAX * all);
    }
    CHECK_EQ(wrong, 0);
}

TEST(k_gemv_pairs_have_the_activations_in_15_bits) {
    enum { X_ROWS = 5, ROWS = 19 };
    for (uint32_t i = CK_FORM_Q8_0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        RIG_EACH(arch) {
            const product_weight g = product_weight_make(f->type, ROWS, f->cols[1]);
            const pairs p = make_pairs(arch, X_ROWS, f->cols[1]);
            float *bias = rig_buffer(ROWS * sizeof(float));
            rig_fill(bias, ROWS, 1.0f);
            float *all = run_pairs(arch, f, &g, &p, 0, X_ROWS, 2, bias);
            float *one = run_pairs(arch, f, &g, &p, 0, X_ROWS, 1, bias);
            rig_same(one, all, (size_t)X_ROWS * ROWS * sizeof(float));
            for (uint32_t r = 0; r < X_ROWS; r++) {
                check_pairs_row(&g, &p, r, bias, all + (size_t)r * ROWS);
                float *alone = run_pairs(arch, f, &g, &p, r, 1, 2, bias);
                rig_same(alone, all + (size_t)r * ROWS, ROWS * sizeof(float));
            }
        }
        rig_done();
    }
}

/* Codes and weights at the ends of their ranges: the int sums of a group are the largest there
 * are. */
TEST(k_gemv_sums_do_not_overflow) {
    for (uint32_t i = CK_FORM_Q8_0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        const product_weight g = product_weight_extreme(f);
        const product_x x = product_x_extreme(f->form);
        const gemv_case c = {1, 2048, 2, PLAIN, 0};
        float *out = run_gemv(800, f, &c, 4, &g, &x, NULL, NULL);
        static const float none[1];
        product_check_row(&g, &x, 0, none, out, f->name);
        product_check_row(&g, &x, 1, none, out + 1, f->name);
    }
    rig_done();
}

/* --- k_experts -------------------- */

enum { EXPERTS = 5, USED = 3, TOKENS = 4 };

/* Experts 1 and 3 twice in a row and again, expert 4 never. */
static const float routed_numbers[TOKENS][2 * USED] = {
    {1, 1, 3, 0.5f, 0.3f, 0.2f}, {0, 2, 1, 1, 0, 0}, {3, 3, 3, 1, 1, 1}, {2, 0, 1, 1, 1, 1}};

static void check_experts(int arch, const product_form *f, uint32_t rows, uint32_t cols,
                          bool shared, bool with_bias) {
    product_weight w[EXPERTS];
    ck_matrix *table = rig_buffer(EXPERTS * sizeof *table);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        w[e] = product_weight_make(f->type, rows, cols);
        table[e] = w[e].on_device;
    }
    const product_x x = product_x_make(f->form, shared ? TOKENS : TOKENS * USED, cols);
    float *bias = rig_buffer((size_t)EXPERTS * rows * sizeof(float));
    float *out = rig_buffer((size_t)TOKENS * USED * rows * sizeof(float));
    rig_fill(bias, (size_t)EXPERTS * rows, 1.0f);
    k_experts_args a = {.experts = rig_at(table),
                        .routed = rig_at(rig_copy(routed_numbers, sizeof routed_numbers)),
                        .x = product_x_at(&x),
                        .sums = rig_at(x.sums),
                        .bias = with_bias ? rig_at(bias) : 0,
                        .out = rig_at(out),
                        .count = rig_count(TOKENS),
                        .w_rows = rows,
                        .cols = cols,
                        .used = USED,
                        .shared_in = shared};
    const uint32_t blocks = (rows + CK_GEMV_BLOCK_ROWS - 1) / CK_GEMV_BLOCK_ROWS;
    rig_run(arch, product_kernel("experts", f->name, ""), &a, blocks, (TOKENS + 1) * USED,
            CK_GEMV_THREADS, 0);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        const gemv_case c = {rows, cols, shared ? TOKENS : TOKENS * USED, with_bias ? BIAS : PLAIN,
                             0};
        const float *want = run_gemv(arch, f, &c, 4, &w[e], &x, bias + (size_t)e * rows, NULL);
        for (uint32_t i = 0; i < TOKENS * USED; i++)
            if ((uint32_t)routed_numbers[i / USED][i % USED] == e)
                rig_same(out + (size_t)i * rows, want + (size_t)(shared ? i / USED : i) * rows,
                         rows * sizeof(float));
    }
}

TEST(k_experts_give_the_bits_of_k_gemv) {
    for (uint32_t i = 0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        const uint32_t odd = product_is_float(f->form) ? 63 : 512,
                       even = product_is_float(f->form) ? 64 : 256;
        RIG_EACH(arch) check_experts(arch, f, 9, odd, i % 2 == 0, i % 3 == 0);
        RIG_EACH(arch) check_experts(arch, f, 16, even, i % 2 != 0, i % 3 != 0);
    }
    rig_done();
}

/* --- against the reference backend: weights of every type -------------------- */

static double nmse_max_of(cuda_conversion how) {
    return how == CUDA_ROUNDED ? 1e-6 : 1e-12; /* f16 has 11 bits */
}

TEST(k_gemv_agrees_with_the_reference_for_every_type) {
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        const dtype_info *info = dtype_get(id);
        if (info == NULL || info->is_integer) continue;
        const product_weight g = product_weight_make((dtype)id, 33, 512);
        const product_form *f = &product_forms[g.form];
        CHECK_EQ(f->form, g.form);
        const product_x x = product_x_make(g.form, 3, 512);
        const gemv_case c = {33, 512, 3, PLAIN, 0};
        const float *got = run_gemv(750, f, &c, 1, &g, &x, NULL, NULL);
        oracle_begin(3);
        const value_id in = oracle_input(x.values, 512);
        const float *want = oracle_end(pg_matmul(oracle_program(), in, g.w, NULL));
        cuda_conversion how = CUDA_AS_STORED;
        (void)cuda_planar_choose(&g.w, &how);
        if (!rig_close(got, want, 99, nmse_max_of(how))) (void)fprintf(stderr, "%s\n", info->name);
        rig_done();
    }
}

/* --- traffic -------------------- */

/* Sectors of 32 bytes that the loads of one row of x by one warp touch, for full warps.  Codes are
 * read 16 bytes per lane, 32 or 64 apart, and so are the f32 of halves: a sector for each load. */
static uint64_t x_sectors(ck_form form, uint32_t cols) {
    if (form == CK_FORM_F32) return cols / 8;
    if (product_is_float(form)) return cols / 4;
    return cols / 16 + cols / 128;
}

/* Bytes that lanes ask for beyond the weights: four lanes want the 16 bytes of scales of a block of
 * Q4_K and Q5_K, and the factor of one of Q6_K. */
static uint64_t bytes_asked_again(ck_form form, uint64_t elements) {
    if (form == CK_FORM_Q4_K || form == CK_FORM_Q5_K) return elements / 256 * 48;
    return form == CK_FORM_Q6_K ? elements / 256 * 6 : 0;
}

TEST(k_gemv_reads_every_weight_once_and_nothing_else) {
    RIG_SKIP_UNLESS_COUNTED();
    static const uint32_t rows = 32, cols[] = {2048, 4096};
    for (uint32_t i = 0; i < PRODUCT_FORMS; i++)
        for (uint32_t k = 0; k < 2; k++) {
            const product_form *f = &product_forms[i];
            const product_weight g = product_weight_make(f->type, rows, cols[k]);
            const product_x x = product_x_make(f->form, 1, cols[k]);
            const gemv_case c = {rows, cols[k], 1, PLAIN, 0};
            (void)run_gemv(750, f, &c, 1, &g, &x, NULL, NULL);
            const sim_counters *n = rig_counters();
            const uint64_t weights = product_weight_bytes(&g);
            CHECK_EQ(n->streamed_bytes,
                     weights + bytes_asked_again(f->form, (uint64_t)rows * cols[k]));
            uint64_t ideal = weights / 32;
            if (f->form == CK_FORM_Q6_K) ideal += rows * cols[k] / 4096; /* 16 bytes per load: d */
            /* the blocks beyond the rows of x read `count`, too */
            const uint64_t others = rows / 2 * (x_sectors(f->form, cols[k]) + 2);
            CHECK_EQ(n->load_sectors, ideal + others);
            CHECK((double)(n->load_sectors - others) * 32 <= 1.03 * (double)weights);
            CHECK_EQ(n->store_bytes, rows * sizeof(float));
        }
    rig_done();
}

/* Elements of a row that a warp loads at a time. */
static uint32_t cols_at_once(ck_form form) {
    static const uint32_t cols[CK_FORM_COUNT] = {
        [CK_FORM_F32] = 2 * 32 * 4, [CK_FORM_F16] = 2 * 32 * 8,   [CK_FORM_BF16] = 2 * 32 * 8,
        [CK_FORM_Q8_0] = 32 * 32,   [CK_FORM_Q4_0] = 2 * 32 * 32, [CK_FORM_Q4_K] = 32 * 64,
        [CK_FORM_Q5_K] = 32 * 64,   [CK_FORM_Q6_K] = 32 * 64};
    return cols[form];
}

/* Before it waits each warp asks for what it loads first, and the row of blocks that is there
 * whatever rows x has does so for all of them. */
TEST(k_gemv_prefetches_what_it_loads_first) {
    RIG_SKIP_UNLESS_COUNTED();
    static const uint32_t rows = 32, x_rows = 9;
    for (uint32_t i = 0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        const uint32_t cols = 2 * cols_at_once(f->form);
        const product_weight g = product_weight_make(f->type, rows, cols);
        const product_x x = product_x_make(f->form, x_rows, cols);
        const gemv_case c = {rows, cols, x_rows, PLAIN, 0};
        for (uint32_t n = 1; n <= 4; n += 3) {
            (void)run_gemv(900, f, &c, n, &g, &x, NULL, NULL);
            uint64_t half = product_weight_bytes(&g) / 2 / 32;
            if (f->form == CK_FORM_Q6_K) half += rows / 2; /* 16 bytes of a row's d: a sector */
            CHECK_EQ(rig_counters()->prefetch_sectors, half);
            (void)run_gemv(800, f, &c, n, &g, &x, NULL, NULL);
            CHECK_EQ(rig_counters()->prefetch_sectors, 0);
        }
    }
    rig_done();
}
