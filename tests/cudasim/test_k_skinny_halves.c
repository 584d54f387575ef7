/* test_k_skinny_halves.c - products of some rows with weights of F16 and BF16 on tensor cores.
 *
 * Truth is a sum in double over the elements of the stored rows and x as it is, which the kernels
 * take apart and do not round; and all of them have to give a row the same bits, in whatever
 * company.  What is read of the weights is counted: once for all rows of x of a block. */
#include <math.h>
#include <string.h>

#include "cudasim/product_rig.h"
#include "cudasim/rig.h"
#include "test.h"

typedef enum halves_epilogue { PLAIN, BIAS, ADD, ADD_IN_PLACE, EPILOGUES } halves_epilogue;

typedef struct halves_case {
    uint32_t rows, cols, x_rows;
    halves_epilogue epilogue;
    uint32_t gap; /* elements between rows of out */
} halves_case;

typedef struct halves_data {
    product_weight w;
    product_x x;
    float *bias, *add;
} halves_data;

static uint32_t blocks(uint32_t n, uint32_t each) { return (n + each - 1) / each; }

/* Where prompts have kernels these rows have, too. */
static bool has_halves(int arch, const product_form *f) {
    return product_is_float(f->form) && product_has_gemm(arch, f);
}

static size_t out_floats(const halves_case *c) {
    return (size_t)(c->x_rows - 1) * (c->rows + c->gap) + c->rows;
}

static halves_data make_data(const product_form *f, const halves_case *c) {
    halves_data d = {.w = product_weight_make(f->type, c->rows, c->cols),
                     .x = product_x_make(f->form, c->x_rows, c->cols),
                     .bias = rig_buffer(c->rows * sizeof(float)),
                     .add = rig_buffer(out_floats(c) * sizeof(float))};
    rig_fill(d.bias, c->rows, 1.0f);
    rig_fill(d.add, out_floats(c), 1.0f);
    return d;
}

static k_gemv_args args_of(const halves_case *c, const halves_data *d, float *out) {
    return (k_gemv_args){.w = d->w.on_device,
                         .x = product_x_at(&d->x),
                         .bias = c->epilogue == BIAS ? rig_at(d->bias) : 0,
                         .add = c->epilogue == ADD            ? rig_at(d->add)
                                : c->epilogue == ADD_IN_PLACE ? rig_at(out)
                                                              : 0,
                         .out = rig_at(out),
                         .count = rig_count(c->x_rows),
                         .out_stride = c->rows + c->gap};
}

static float *make_out(const halves_case *c, const halves_data *d) {
    const size_t bytes = out_floats(c) * sizeof(float);
    return c->epilogue == ADD_IN_PLACE ? rig_copy(d->add, bytes) : rig_buffer(bytes);
}

/* With a grid for more rows than there are, as graphs have it. */
static float *run_few(int arch, const product_form *f, const halves_case *c, const halves_data *d) {
    float *out = make_out(c, d);
    const k_gemv_args a = args_of(c, d, out);
    rig_run(arch, product_kernel("gemv", f->name, "_m8"), &a, blocks(c->rows, CK_HALVES_ROWS),
            blocks(c->x_rows, CK_HALVES_X) + 1, CK_SKINNY_THREADS, 0);
    return out;
}
static float *run_crowd(int arch, const product_form *f, const halves_case *c,
                        const halves_data *d) {
    float *out = make_out(c, d);
    const k_gemv_args a = args_of(c, d, out);
    rig_run(arch, product_kernel("gemv", f->name, "_m32"), &a,
            blocks(c->x_rows, CK_HALVES_CROWD) + 1, blocks(c->rows, CK_HALVES_CROWD_ROWS),
            CK_SKINNY_THREADS, 0);
    return out;
}

/* --- the numbers -------------------- */

static void check_numbers(const product_form *f, const halves_case *c, const halves_data *d,
                          const float *out) {
    static float none[PRODUCT_COLS_MAX];
    for (uint32_t r = 0; r < c->x_rows; r++) {
        const size_t at = (size_t)r * (c->rows + c->gap);
        const float *extra = c->epilogue == BIAS    ? d->bias
                             : c->epilogue == PLAIN ? none
                                                    : d->add + at;
        product_check_row(&d->w, &d->x, r, extra, out + at, f->name);
    }
}

/* One row of x on its own, without anything added. */
static void check_alone(int arch, const product_form *f, const halves_case *c, const halves_data *d,
                        const float *out) {
    const halves_case alone = {c->rows, c->cols, 1, PLAIN, 0};
    const uint32_t r = c->x_rows / 2;
    halves_data one = *d;
    one.x.values = d->x.values + (size_t)r * c->cols;
    rig_same(run_few(arch, f, &alone, &one), out + (size_t)r * (c->rows + c->gap),
             c->rows * sizeof(float));
}

static void check_case(int arch, const product_form *f, const halves_case *c) {
    const halves_data d = make_data(f, c);
    const float *few = run_few(arch, f, c, &d);
    check_numbers(f, c, &d, few);
    rig_same(run_crowd(arch, f, c, &d), few, out_floats(c) * sizeof(float));
    if (c->epilogue == PLAIN) check_alone(arch, f, c, &d, few);
}

static void check_form(ck_form form) {
    static const uint32_t x_rows[] = {1, 2, 3, 7, 8, 9, 16, 31, 33, 63, 64, 65};
    static const uint32_t rows[] = {100, 1, 15, 16, 17, 33, 65};
    const product_form *f = &product_forms[form];
    for (uint32_t i = 0; i < sizeof x_rows / sizeof x_rows[0]; i++) {
        const halves_case c = {rows[i % 7], f->cols[(i * 3 + i / 8) % 8], x_rows[i],
                               (halves_epilogue)(i % EPILOGUES), i % 3};
        RIG_EACH(arch) if (has_halves(arch, f)) check_case(arch, f, &c);
        rig_done();
    }
}

TEST(k_skinny_halves_f16) { check_form(CK_FORM_F16); }
TEST(k_skinny_halves_bf16) { check_form(CK_FORM_BF16); }

/* Numbers of every size that F16 has, and far smaller ones; those beyond its largest are that. */
TEST(k_skinny_halves_f16_take_small_and_large_numbers_apart) {
    const product_form *f = &product_forms[CK_FORM_F16];
    const halves_case c = {16, 64, 8, PLAIN, 0};
    RIG_EACH(arch) {
        halves_data d = make_data(f, &c);
        for (uint32_t r = 0; r < c.x_rows; r++)
            for (uint32_t i = 0; i < c.cols; i++)
                d.x.values[r * c.cols + i] *= ldexpf(1.0f, 14 - 4 * (int)r);
        check_numbers(f, &c, &d, run_few(arch, f, &c, &d));
        for (uint32_t i = 0; i < c.cols; i++) d.x.values[i] = i % 2 == 0 ? 1e30f : -7e4f;
        const float *bounded = run_few(arch, f, &c, &d);
        for (uint32_t i = 0; i < c.cols; i++) d.x.values[i] = i % 2 == 0 ? 65504.0f : -65504.0f;
        check_numbers(f, &c, &d, bounded);
        d.x.values[5] = INFINITY;
        CHECK(isnan(run_few(arch, f, &c, &d)[0]));
        d.x.values[5] = NAN;
        CHECK(isnan(run_few(arch, f, &c, &d)[0]));
    }
    rig_done();
}

TEST(k_skinny_halves_bf16_take_numbers_of_any_size) {
    const product_form *f = &product_forms[CK_FORM_BF16];
    const halves_case c = {16, 64, 8, PLAIN, 0};
    RIG_EACH(arch) {
        if (!has_halves(arch, f)) continue;
        halves_data d = make_data(f, &c);
        for (uint32_t r = 0; r < c.x_rows; r++)
            for (uint32_t i = 0; i < c.cols; i++)
                d.x.values[r * c.cols + i] *= ldexpf(1.0f, 100 - 25 * (int)r);
        check_numbers(f, &c, &d, run_few(arch, f, &c, &d));
        d.x.values[5] = INFINITY;
        CHECK(isnan(run_few(arch, f, &c, &d)[0]));
        d.x.values[5] = NAN;
        CHECK(isnan(run_few(arch, f, &c, &d)[0]));
    }
    rig_done();
}

/* --- several in one launch -------------------- */

static void check_together(int arch, const product_form *f, const uint32_t rows[CK_GEMVS_MAX],
                           uint32_t x_rows) {
    halves_case c[CK_GEMVS_MAX];
    halves_data d[CK_GEMVS_MAX];
    float *few[CK_GEMVS_MAX], *crowd[CK_GEMVS_MAX];
    k_gemvs_args a = {0}, b = {0};
    uint32_t tiles = 0, crowd_tiles = 0;
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++) {
        c[i] = (halves_case){rows[i], f->cols[6], x_rows, i == 1 ? BIAS : PLAIN, 0};
        d[i] = make_data(f, &c[i]);
        d[i].x = d[0].x;
        few[i] = make_out(&c[i], &d[i]);
        crowd[i] = make_out(&c[i], &d[i]);
        a.of[i] = args_of(&c[i], &d[i], few[i]);
        b.of[i] = args_of(&c[i], &d[i], crowd[i]);
        tiles += blocks(rows[i], CK_HALVES_ROWS);
        crowd_tiles += blocks(rows[i], CK_HALVES_CROWD_ROWS);
    }
    rig_run(arch, product_kernel("gemvs", f->name, "_m8"), &a, tiles,
            blocks(x_rows, CK_HALVES_X) + 1, CK_SKINNY_THREADS, 0);
    rig_run(arch, product_kernel("gemvs", f->name, "_m32"), &b, blocks(x_rows, CK_HALVES_CROWD) + 1,
            crowd_tiles, CK_SKINNY_THREADS, 0);
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++) {
        const float *want = run_few(arch, f, &c[i], &d[i]);
        rig_same(few[i], want, out_floats(&c[i]) * sizeof(float));
        rig_same(crowd[i], want, out_floats(&c[i]) * sizeof(float));
    }
}

TEST(k_skinny_halves_together_give_the_bits_of_each_alone) {
    static const uint32_t rows[][CK_GEMVS_MAX] = {{33, 16, 7}, {17, 40, 0}};
    for (ck_form form = CK_FORM_F16; form <= CK_FORM_BF16; form++)
        for (uint32_t i = 0; i < 2; i++) {
            const product_form *f = &product_forms[form];
            RIG_EACH(arch) if (has_halves(arch, f)) check_together(arch, f, rows[i], 1 + i * 18);
            rig_done();
        }
}

/* --- experts of a few rows -------------------- */

/* Each pair on its own: the bits of the row alone with that expert. */
static void check_experts(int arch, const product_form *f, bool shared) {
    enum { EXPERTS = 3, USED = 2, TOKENS = 3, ROWS = 21, COLS = 100 };
    static const float routed[TOKENS][2 * USED] = {{1, 0, 1, 1}, {2, 1, 1, 1}, {0, 2, 1, 1}};
    const halves_case c = {ROWS, COLS, shared ? TOKENS : TOKENS * USED, BIAS, 0};
    halves_data d[EXPERTS];
    ck_matrix *table = rig_buffer(EXPERTS * sizeof *table);
    float *bias = rig_buffer(EXPERTS * ROWS * sizeof *bias);
    float *out = rig_buffer(TOKENS * USED * ROWS * sizeof *out);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        d[e] = make_data(f, &c);
        d[e].x = d[0].x;
        table[e] = d[e].w.on_device;
        memcpy(bias + e * ROWS, d[e].bias, ROWS * sizeof *bias);
    }
    k_experts_args a = {.experts = rig_at(table),
                        .routed = rig_at(rig_copy(routed, sizeof routed)),
                        .x = product_x_at(&d[0].x),
                        .bias = rig_at(bias),
                        .out = rig_at(out),
                        .count = rig_count(TOKENS),
                        .w_rows = ROWS,
                        .cols = COLS,
                        .used = USED,
                        .shared_in = shared};
    rig_run(arch, product_kernel("experts", f->name, "_m1"), &a, blocks(ROWS, CK_HALVES_ROWS),
            (TOKENS + 1) * USED, CK_SKINNY_THREADS, 0);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        const float *want = run_few(arch, f, &c, &d[e]);
        for (uint32_t i = 0; i < TOKENS * USED; i++)
            if ((uint32_t)routed[i / USED][i % USED] == e)
                rig_same(out + i * ROWS, want + (shared ? i / USED : i) * ROWS,
                         ROWS * sizeof(float));
    }
}

TEST(k_skinny_halves_experts_give_the_bits_of_each_row_alone) {
    for (ck_form form = CK_FORM_F16; form <= CK_FORM_BF16; form++) {
        const product_form *f = &product_forms[form];
        RIG_EACH(arch) if (has_halves(arch, f)) check_experts(arch, f, true);
        RIG_EACH(arch) if (has_halves(arch, f)) check_experts(arch, f, false);
        rig_done();
    }
}

/* --- traffic -------------------- */

/* Each warp of every block reads the number of rows.  A lane's 8 columns of x are a sector, for
 * which it asks by halves. */
TEST(k_skinny_halves_read_every_weight_once_without_bank_conflicts) {
    enum { ROWS = 64, COLS = 4096, WARPS = CK_SKINNY_THREADS / 32 };
    RIG_SKIP_UNLESS_COUNTED();
    for (ck_form form = CK_FORM_F16; form <= CK_FORM_BF16; form++)
        for (uint32_t x_rows = 8; x_rows <= 64; x_rows *= 2) {
            const bool crowd = x_rows > CK_HALVES_X;
            const product_form *f = &product_forms[form];
            const halves_case c = {ROWS, COLS, x_rows, PLAIN, 0};
            const halves_data d = make_data(f, &c);
            (void)(crowd ? run_crowd : run_few)(900, f, &c, &d);
            const sim_counters *n = rig_counters();
            const uint32_t w_rows = crowd ? CK_HALVES_CROWD_ROWS : CK_HALVES_ROWS;
            const uint32_t x_block = crowd ? CK_HALVES_CROWD : CK_HALVES_X;
            const uint64_t tiles = blocks(x_rows, x_block), along_w = ROWS / w_rows;
            const uint64_t there = x_rows < x_block ? x_rows : x_block;
            CHECK_EQ(n->streamed_bytes, tiles * product_weight_bytes(&d.w));
            CHECK_EQ(n->load_sectors, tiles * (product_weight_bytes(&d.w) / 32 +
                                               along_w * there * COLS * sizeof(float) / 16) +
                                          along_w * (tiles + 1) * WARPS);
            CHECK_EQ(n->mma, (uint64_t)ROWS * COLS * x_rows / (16 * 8 * 16) *
                                 (form == CK_FORM_F16 ? 2 : 3));
            CHECK_EQ(n->shared_conflicts, 0);
            CHECK_EQ(n->store_bytes, out_floats(&c) * sizeof(float));
            CHECK_EQ(n->prefetch_sectors * 32,
                     (uint64_t)ROWS * WARPS * 64 * sizeof(uint16_t)); /* a step of each warp */
            rig_done();
        }
}
