/* test_k_gemm.c - products of the rows of prompts on tensor cores, with weights of every form that
 * has them.
 *
 * Truth is a sum in double over the elements of the stored rows and of the activations as they are
 * multiplied: codes, or what F16 and BF16 round them to.  Rows of x before and behind those that
 * are asked for are NaN, their results are not written.  What a row gives has to be the same bits
 * alone, among others and in another place of a tile.  How much is read of the weights is counted:
 * once for CK_GEMM_TILE rows of x. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cudasim/product_rig.h"
#include "cudasim/rig.h"
#include "tensor/convert.h"
#include "test.h"

enum { AROUND = 3 }; /* rows of x before and behind those that are multiplied */

static uint32_t tiles(uint32_t rows) { return (rows + CK_GEMM_TILE - 1) / CK_GEMM_TILE; }

/* --- activations -------------------- */

/* `count` rows between AROUND rows of NaN on either side. */
static product_x make_x(const product_form *f, uint32_t count, uint32_t cols) {
    product_x x = product_x_make(f->form, count + 2 * AROUND, cols);
    for (uint32_t i = 0; i < AROUND; i++) {
        product_x_spoil(f->form, &x, i, cols);
        product_x_spoil(f->form, &x, AROUND + count + i, cols);
    }
    return x;
}

/* --- one product -------------------- */

typedef enum gemm_epilogue { PLAIN, BIAS, ADD, ADD_IN_PLACE, EPILOGUES } gemm_epilogue;

typedef struct gemm_case {
    uint32_t rows, cols, count; /* count rows of x behind the first AROUND */
    gemm_epilogue epilogue;
    uint32_t gap; /* elements between rows of out */
} gemm_case;

static uint64_t range_at(uint32_t first, uint32_t end) {
    const uint32_t range[] = {first, end};
    return rig_at(rig_copy(range, sizeof range));
}

static k_gemv_args args_of(const product_weight *g, const product_x *x, uint32_t first,
                           uint32_t end, float *out, uint32_t stride) {
    return (k_gemv_args){.w = g->on_device,
                         .x = product_x_at(x),
                         .sums = rig_at(x->sums),
                         .out = rig_at(out),
                         .count = range_at(first, end),
                         .out_stride = stride};
}

static size_t out_bytes(const gemm_case *c) {
    const uint32_t stride = c->rows + c->gap;
    return ((size_t)(AROUND + c->count - 1) * stride + c->rows) * sizeof(float);
}

/* Rows first .. end - 1 of x into a fresh out, which begins at row 0 and ends with the last row of
 * the case. */
static float *run_gemm(int arch, const product_form *f, const gemm_case *c, const product_weight *g,
                       const product_x *x, uint32_t first, uint32_t end, const float *bias,
                       const float *add) {
    float *out =
        c->epilogue == ADD_IN_PLACE ? rig_copy(add, out_bytes(c)) : rig_buffer(out_bytes(c));
    k_gemv_args a = args_of(g, x, first, end, out, c->rows + c->gap);
    if (c->epilogue == BIAS) a.bias = rig_at(bias);
    if (c->epilogue == ADD) a.add = rig_at(add);
    if (c->epilogue == ADD_IN_PLACE) a.add = a.out;
    rig_run(arch, product_kernel("gemm", f->name, ""), &a, tiles(end - first) + 1, tiles(c->rows),
            CK_GEMM_THREADS, 0);
    return out;
}

/* What is not an element of the rows asked for is as it was. */
static void check_untouched(const float *out, const gemm_case *c, const float *before) {
    const uint32_t stride = c->rows + c->gap;
    uint32_t wrong = 0;
    for (size_t i = 0; i < out_bytes(c) / sizeof *out; i++) {
        if (i / stride >= AROUND && i % stride < c->rows) continue;
        wrong +=
            convert_f32_bits(out[i]) != (before == NULL ? UINT32_MAX : convert_f32_bits(before[i]));
    }
    CHECK_EQ(wrong, 0);
}

/* Elements of all rows of w, and of x as it is multiplied: [rows, cols] on the heap. */
static float *dense_w(const product_weight *g) {
    float *w = malloc((size_t)g->w.rows * g->w.cols * sizeof *w);
    for (uint32_t r = 0; r < g->w.rows; r++) product_weight_row(g, r, w + (size_t)r * g->w.cols);
    return w;
}

static void check_rows(const product_form *f, const gemm_case *c, const product_weight *g,
                       const product_x *x, const float *bias, const float *add, const float *out) {
    const uint32_t stride = c->rows + c->gap;
    float *w = dense_w(g);
    uint32_t wrong = 0;
    for (uint32_t r = AROUND; r < AROUND + c->count; r++)
        for (uint32_t i = 0; i < c->rows; i++) {
            const size_t at = (size_t)r * stride + i;
            const double extra = c->epilogue == BIAS    ? (double)bias[i]
                                 : c->epilogue == PLAIN ? 0
                                                        : (double)add[at];
            double sum = extra, all = fabs(extra);
            for (uint32_t k = 0; k < c->cols; k++) {
                const double v =
                    (double)w[(size_t)i * c->cols + k] *
                    (double)product_x_rounded(f->form, x->values[(size_t)r * c->cols + k]);
                sum += v;
                all += fabs(v);
            }
            wrong += !(fabs((double)out[at] - sum) <= PRODUCT_ERROR_MAX * all);
        }
    if (wrong != 0)
        (void)fprintf(stderr, "%s: [%u, %u] with %u rows: %u elements\n", f->name, c->rows, c->cols,
                      c->count, wrong);
    CHECK_EQ(wrong, 0);
    free(w);
}

static void check_gemm(int arch, const product_form *f, const gemm_case *c) {
    const product_weight g = product_weight_make(f->type, c->rows, c->cols);
    CHECK_EQ(g.form, f->form);
    const product_x x = make_x(f, c->count, c->cols);
    float *bias = rig_buffer(c->rows * sizeof *bias), *add = rig_buffer(out_bytes(c));
    rig_fill(bias, c->rows, 1.0f);
    rig_fill(add, out_bytes(c) / sizeof *add, 1.0f);
    const float *out = run_gemm(arch, f, c, &g, &x, AROUND, AROUND + c->count, bias, add);
    check_untouched(out, c, c->epilogue == ADD_IN_PLACE ? add : NULL);
    check_rows(f, c, &g, &x, bias, add, out);
}

/* Every number of rows of x with other rows and columns of w; what is added takes turns, as do
 * gaps. */
static void check_form(const product_form *f) {
    static const uint32_t counts[] = {1, 7, 8, 9, 63, 65, 200, 512};
    static const uint32_t rows[] = {1, 65, 33, 130, 64, 7, 100, 66};
    uint32_t cols_count = 0;
    while (cols_count < 8 && f->cols[cols_count] != 0 && f->cols[cols_count] <= 1100) cols_count++;
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t cols = counts[i] < 200 ? f->cols[i % cols_count] : f->cols[i % 2];
        const gemm_case c = {rows[i], cols, counts[i], (gemm_epilogue)(i % EPILOGUES), i % 3};
        RIG_EACH(arch) if (product_has_gemm(arch, f)) check_gemm(arch, f, &c);
    }
    rig_done();
}

TEST(k_gemm_f16) { check_form(&product_forms[CK_FORM_F16]); }
TEST(k_gemm_bf16) { check_form(&product_forms[CK_FORM_BF16]); }
TEST(k_gemm_q8_0) { check_form(&product_forms[CK_FORM_Q8_0]); }
TEST(k_gemm_q4_0) { check_form(&product_forms[CK_FORM_Q4_0]); }
TEST(k_gemm_q4_k) { check_form(&product_forms[CK_FORM_Q4_K]); }
TEST(k_gemm_q5_k) { check_form(&product_forms[CK_FORM_Q5_K]); }
TEST(k_gemm_q6_k) { check_form(&product_forms[CK_FORM_Q6_K]); }

/* --- the bits -------------------- */

/* Rows alone, in pieces that begin anywhere, and all at once. */
static void check_bits(int arch, const product_form *f, uint32_t cols) {
    static const uint32_t cuts[][2] = {{0, 1}, {5, 6}, {1, 9}, {7, 72}, {69, 70}, {40, 70}};
    const gemm_case c = {70, cols, 70, BIAS, 1};
    const uint32_t stride = c.rows + c.gap;
    const product_weight g = product_weight_make(f->type, c.rows, c.cols);
    const product_x x = make_x(f, c.count, c.cols);
    float *bias = rig_buffer(c.rows * sizeof *bias);
    rig_fill(bias, c.rows, 1.0f);
    const float *all = run_gemm(arch, f, &c, &g, &x, AROUND, AROUND + c.count, bias, NULL);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        const uint32_t end = cuts[i][1] < c.count ? cuts[i][1] : c.count;
        const float *some =
            run_gemm(arch, f, &c, &g, &x, AROUND + cuts[i][0], AROUND + end, bias, NULL);
        for (uint32_t r = AROUND + cuts[i][0]; r < AROUND + end; r++)
            rig_same(some + (size_t)r * stride, all + (size_t)r * stride, c.rows * sizeof(float));
    }
}

TEST(k_gemm_gives_a_row_the_same_bits_anywhere) {
    if (rig_is_watched()) SKIP("ThreadSanitizer is slow, and these are launches of k_gemm_*");
    for (uint32_t i = 0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        RIG_EACH(arch) if (product_has_gemm(arch, f)) check_bits(arch, f, f->cols[1]);
        rig_done();
    }
}

/* The ints are exact and scaled in one order: cards of all kinds agree. */
TEST(k_gemm_of_codes_gives_the_same_bits_on_all_code_paths) {
    for (uint32_t i = CK_FORM_Q8_0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        const gemm_case c = {66, f->cols[1], 9, PLAIN, 0};
        const product_weight g = product_weight_make(f->type, c.rows, c.cols);
        const product_x x = make_x(f, c.count, c.cols);
        const float *want = run_gemm(750, f, &c, &g, &x, AROUND, AROUND + c.count, NULL, NULL);
        for (int arch = 800; arch <= 900; arch += 100)
            rig_same(run_gemm(arch, f, &c, &g, &x, AROUND, AROUND + c.count, NULL, NULL), want,
                     out_bytes(&c));
        rig_done();
    }
}

TEST(k_gemm_sums_do_not_overflow) {
    for (uint32_t i = CK_FORM_Q8_0; i < PRODUCT_FORMS; i++) {
        const product_form *f = &product_forms[i];
        RIG_EACH(arch) {
            static const float none[1];
            const product_weight g = product_weight_extreme(f);
            const product_x x = product_x_extreme(f->form);
            float *out = rig_buffer(2 * sizeof *out);
            k_gemv_args a = args_of(&g, &x, 0, 2, out, 1);
            rig_run(arch, product_kernel("gemm", f->name, ""), &a, 1, 1, CK_GEMM_THREADS, 0);
            product_check_row(&g, &x, 0, none, out, f->name);
            product_check_row(&g, &x, 1, none, out + 1, f->name);
        }
        rig_done();
    }
}

/* --- several in one launch -------------------- */

static void check_together(int arch, const product_form *f, const uint32_t rows[CK_GEMVS_MAX],
                           uint32_t count) {
    product_weight g[CK_GEMVS_MAX];
    float *outs[CK_GEMVS_MAX];
    const uint32_t cols = f->cols[1];
    const product_x x = make_x(f, count, cols);
    k_gemvs_args a = {0};
    uint32_t all = 0;
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++) {
        g[i] = product_weight_make(f->type, rows[i], cols);
        outs[i] = rig_buffer((size_t)(AROUND + count) * rows[i] * sizeof(float));
        a.of[i] = args_of(&g[i], &x, AROUND, AROUND + count, outs[i], rows[i]);
        all += tiles(rows[i]);
    }
    rig_run(arch, product_kernel("gemms", f->name, ""), &a, tiles(count), all, CK_GEMM_THREADS, 0);
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++) {
        const gemm_case c = {rows[i], cols, count, PLAIN, 0};
        rig_same(outs[i], run_gemm(arch, f, &c, &g[i], &x, AROUND, AROUND + count, NULL, NULL),
                 out_bytes(&c));
    }
}

TEST(k_gemms_are_the_products_one_after_the_other) {
    static const uint32_t cases[][CK_GEMVS_MAX] = {{65, 1, 64}, {64, 70, 0}};
    for (uint32_t i = 0; i < PRODUCT_FORMS; i++)
        for (size_t k = 0; k < 2; k++) {
            const product_form *f = &product_forms[i];
            RIG_EACH(arch) if (product_has_gemm(arch, f)) check_together(arch, f, cases[k], 9);
            rig_done();
        }
}

/* --- what F16 does not reach -------------------- */

/* A number beyond 65504 becomes that; an infinity stays one, and a NaN is one in its own row
 * only. */
TEST(k_gemm_f16_saturates_what_is_finite) {
    enum { COLS = 8, ROWS = 4 };
    static const float values[ROWS] = {1e6f, -1e6f, INFINITY, NAN};
    RIG_EACH(arch) {
        float ones[COLS], *out = rig_buffer(ROWS * sizeof *out);
        uint16_t *data = rig_buffer(COLS * sizeof *data);
        for (uint32_t c = 0; c < COLS; c++) ones[c] = 1.0f;
        for (uint32_t c = 0; c < COLS; c++) data[c] = convert_f32_to_f16(ones[c]);
        const product_weight g =
            product_weight_put((weight){.type = DTYPE_F16, .rows = 1, .cols = COLS, .data = data});
        product_x x = {.values = rig_buffer(sizeof(float) * ROWS * COLS)};
        memset(x.values, 0, sizeof(float) * ROWS * COLS);
        for (uint32_t r = 0; r < ROWS; r++) x.values[r * COLS + r] = values[r];
        k_gemv_args a = args_of(&g, &x, 0, ROWS, out, 1);
        rig_run(arch, "k_gemm_f16", &a, 1, 1, CK_GEMM_THREADS, 0);
        CHECK(out[0] == 65504.0f && out[1] == -65504.0f);
        CHECK(isinf(out[2]) && isnan(out[3]));
    }
    rig_done();
}

/* --- traffic -------------------- */

TEST(k_gemm_reads_every_weight_once_for_a_tile_of_rows) {
    RIG_SKIP_UNLESS_COUNTED();
    static const uint32_t counts[] = {1, CK_GEMM_TILE, 2 * CK_GEMM_TILE};
    enum { ROWS = 2 * CK_GEMM_TILE, COLS = 512 };
    for (uint32_t i = CK_FORM_F16; i < PRODUCT_FORMS; i++)
        for (size_t k = 0; k < 3; k++) {
            const product_form *f = &product_forms[i];
            const gemm_case c = {ROWS, COLS, counts[k], PLAIN, 0};
            const product_weight g = product_weight_make(f->type, ROWS, COLS);
            const product_x x = make_x(f, c.count, COLS);
            (void)run_gemm(900, f, &c, &g, &x, AROUND, AROUND + c.count, NULL, NULL);
            const sim_counters *n = rig_counters();
            const uint64_t elements = (uint64_t)ROWS * COLS, blocks = tiles(c.count);
            CHECK_EQ(n->streamed_bytes, blocks * product_gemm_bytes(&g));
            CHECK_EQ(n->store_bytes, (uint64_t)c.count * ROWS * sizeof(float));
            CHECK_EQ(n->mma, blocks * CK_GEMM_TILE * elements / (16 * 8 * product_gemm_k(f->form)));
        }
    rig_done();
}
