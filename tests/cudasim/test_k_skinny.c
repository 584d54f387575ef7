/* test_k_skinny.c - products of some rows with quantized weights on tensor cores.
 *
 * Truth is k_gemv_n1, bit by bit: what a row of x gives may not depend on how many there are.  What
 * that one gives is tested in test_k_gemv.c.  How much is read of the weights is counted: once for
 * CK_SKINNY_X rows of x; and bank conflicts, of which there are none. */
#include "cudasim/product_rig.h"
#include "cudasim/rig.h"
#include "test.h"

typedef enum skinny_epilogue { PLAIN, BIAS, ADD, ADD_IN_PLACE, EPILOGUES } skinny_epilogue;

typedef struct skinny_case {
    uint32_t rows, cols, x_rows;
    skinny_epilogue epilogue;
    uint32_t gap; /* elements between rows of out */
} skinny_case;

static uint32_t blocks(uint32_t n, uint32_t each) { return (n + each - 1) / each; }

static uint32_t rows_of_block(ck_form form) {
    return form == CK_FORM_Q8_0 ? CK_SKINNY_ROWS_Q8_0 : CK_SKINNY_ROWS;
}

static size_t out_bytes(const skinny_case *c) {
    return ((size_t)(c->x_rows - 1) * (c->rows + c->gap) + c->rows) * sizeof(float);
}

/* --- one product -------------------- */

typedef struct skinny_data {
    product_weight w;
    product_x x;
    float *bias, *add;
} skinny_data;

static skinny_data make_data(const product_form *f, const skinny_case *c) {
    skinny_data d = {.w = product_weight_make(f->type, c->rows, c->cols),
                     .x = product_x_make(f->form, c->x_rows, c->cols),
                     .bias = rig_buffer(c->rows * sizeof(float)),
                     .add = rig_buffer(out_bytes(c))};
    CHECK_EQ(d.w.form, f->form);
    rig_fill(d.bias, c->rows, 1.0f);
    rig_fill(d.add, out_bytes(c) / sizeof(float), 1.0f);
    return d;
}

static k_gemv_args args_of(const skinny_case *c, const skinny_data *d, float *out) {
    return (k_gemv_args){.w = d->w.on_device,
                         .x = product_x_at(&d->x),
                         .sums = rig_at(d->x.sums),
                         .bias = c->epilogue == BIAS ? rig_at(d->bias) : 0,
                         .add = c->epilogue == ADD            ? rig_at(d->add)
                                : c->epilogue == ADD_IN_PLACE ? rig_at(out)
                                                              : 0,
                         .out = rig_at(out),
                         .count = rig_count(c->x_rows),
                         .out_stride = c->rows + c->gap};
}

static float *make_out(const skinny_case *c, const skinny_data *d) {
    return c->epilogue == ADD_IN_PLACE ? rig_copy(d->add, out_bytes(c)) : rig_buffer(out_bytes(c));
}

/* tail: of the kernel's name, one row or pair to a block. */
static float *run_gemv(int arch, const product_form *f, const skinny_case *c, const skinny_data *d,
                       const char *tail) {
    float *out = make_out(c, d);
    const k_gemv_args a = args_of(c, d, out);
    rig_run(arch, product_kernel("gemv", f->name, tail), &a, blocks(c->rows, CK_GEMV_BLOCK_ROWS),
            c->x_rows, CK_GEMV_THREADS, 0);
    return out;
}

/* With a grid for more rows than there are, as graphs have it. */
static float *run_skinny(int arch, const product_form *f, const skinny_case *c,
                         const skinny_data *d, const char *tail) {
    float *out = make_out(c, d);
    const k_gemv_args a = args_of(c, d, out);
    rig_run(arch, product_kernel("gemv", f->name, tail), &a, blocks(c->x_rows, CK_SKINNY_X / 2) + 1,
            blocks(c->rows, rows_of_block(f->form)), CK_SKINNY_THREADS, 0);
    return out;
}

/* What stands between the rows of out is the same, too: nobody writes it. */
static void check_form(ck_form form) {
    static const uint32_t x_rows[] = {5, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64};
    static const uint32_t rows[] = {100, 1, 15, 16, 17, 33, 65};
    const product_form *f = &product_forms[form];
    const uint32_t kinds = form <= CK_FORM_Q4_0 ? 5 : 4; /* the shorter ones */
    for (uint32_t i = 0; i < sizeof x_rows / sizeof x_rows[0]; i++) RIG_EACH(arch) {
            const skinny_case c = {rows[i % 7], f->cols[i % kinds], x_rows[i],
                                   (skinny_epilogue)(i % EPILOGUES), i % 3};
            const skinny_data d = make_data(f, &c);
            const float *want = run_gemv(arch, f, &c, &d, "_n1");
            rig_same(run_skinny(arch, f, &c, &d, "_n16"), want, out_bytes(&c));
        }
    rig_done();
}

TEST(k_skinny_q8_0_gives_the_bits_of_gemv) { check_form(CK_FORM_Q8_0); }
TEST(k_skinny_q4_0_gives_the_bits_of_gemv) { check_form(CK_FORM_Q4_0); }
TEST(k_skinny_q4_k_gives_the_bits_of_gemv) { check_form(CK_FORM_Q4_K); }
TEST(k_skinny_q5_k_gives_the_bits_of_gemv) { check_form(CK_FORM_Q5_K); }
TEST(k_skinny_q6_k_gives_the_bits_of_gemv) { check_form(CK_FORM_Q6_K); }

/* Codes and scales at the ends of their ranges: the largest int sums, also as floats. */
TEST(k_skinny_sums_are_exact_at_the_ends_of_their_ranges) {
    for (ck_form form = CK_FORM_Q8_0; form < CK_FORM_COUNT; form++) {
        const product_form *f = &product_forms[form];
        RIG_EACH(arch) {
            const skinny_case c = {1, 2048, 2, PLAIN, 0};
            const skinny_data d = {.w = product_weight_extreme(f), .x = product_x_extreme(form)};
            const float *want = run_gemv(arch, f, &c, &d, "_n1");
            rig_same(run_skinny(arch, f, &c, &d, "_n16"), want, out_bytes(&c));
        }
        rig_done();
    }
}

/* The output matrix: two rows of codes to each row of results. */
TEST(k_skinny_pairs_give_the_bits_of_gemv) {
    static const uint32_t x_rows[] = {3, 8, 9, 16, 31}, rows[] = {33, 16, 1, 100, 15};
    for (ck_form form = CK_FORM_Q8_0; form < CK_FORM_COUNT; form++)
        for (uint32_t i = 0; i < 5; i++) {
            const product_form *f = &product_forms[form];
            RIG_EACH(arch) {
                const skinny_case c = {rows[i], f->cols[(i + 1) % 4], x_rows[i],
                                       i % 2 == 0 ? BIAS : PLAIN, i % 3};
                skinny_data d = make_data(f, &c);
                d.x = product_x_make(form, 2 * x_rows[i], c.cols);
                const float *want = run_gemv(arch, f, &c, &d, "_p1");
                rig_same(run_skinny(arch, f, &c, &d, "_p8"), want, out_bytes(&c));
            }
            rig_done();
        }
}

/* --- several in one launch -------------------- */

static void check_together(int arch, const product_form *f, const uint32_t rows[CK_GEMVS_MAX],
                           uint32_t x_rows) {
    const uint32_t cols = f->cols[1];
    skinny_case c[CK_GEMVS_MAX];
    skinny_data d[CK_GEMVS_MAX];
    float *outs[CK_GEMVS_MAX];
    k_gemvs_args a = {0};
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++) {
        c[i] = (skinny_case){rows[i], cols, x_rows, i == 1 ? BIAS : PLAIN, 0};
        d[i] = make_data(f, &c[i]);
        d[i].x = d[0].x;
        outs[i] = make_out(&c[i], &d[i]);
        a.of[i] = args_of(&c[i], &d[i], outs[i]);
        tiles += blocks(rows[i], rows_of_block(f->form));
    }
    rig_run(arch, product_kernel("gemvs", f->name, "_n16"), &a, blocks(x_rows, CK_SKINNY_X) + 1,
            tiles, CK_SKINNY_THREADS, 0);
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++)
        rig_same(outs[i], run_gemv(arch, f, &c[i], &d[i], "_n1"), out_bytes(&c[i]));
}

TEST(k_skinny_products_together_give_the_bits_of_each_alone) {
    static const uint32_t rows[][CK_GEMVS_MAX] = {{33, 16, 7}, {17, 40, 0}};
    for (ck_form form = CK_FORM_Q8_0; form < CK_FORM_COUNT; form++)
        for (uint32_t i = 0; i < 2; i++) {
            RIG_EACH(arch) check_together(arch, &product_forms[form], rows[i], i == 0 ? 6 : 19);
            rig_done();
        }
}

/* --- traffic -------------------- */

/* Sectors of 32 bytes for a tile of x: codes whole ones, 32 or 64 bytes of a row at a time; of each
 * other plane one for each row and step of 128 codes, so these are asked for again. */
static uint64_t weight_sectors(ck_form form, uint64_t elements) {
    if (form == CK_FORM_Q8_0) return elements / 32 + elements / 128;
    if (form == CK_FORM_Q6_K) return elements / 128 * 3 + elements / 128 * 2;
    return elements / 64 + elements / 128 * (form == CK_FORM_Q5_K ? 2 : 1);
}

/* Of a block: 16 rows of codes, and twice the sums of a step; each warp of every block reads the
 * number of rows. */
static uint64_t x_sectors(uint32_t cols) { return CK_SKINNY_X * (cols / 32 + cols / 128 * 2); }

TEST(k_skinny_reads_every_weight_once_for_16_rows_without_bank_conflicts) {
    enum { ROWS = 64, COLS = 4096, WARPS = CK_SKINNY_THREADS / 32 };
    RIG_SKIP_UNLESS_COUNTED();
    for (ck_form form = CK_FORM_Q8_0; form < CK_FORM_COUNT; form++)
        for (uint32_t x_rows = 16; x_rows <= 32; x_rows += 16) {
            const skinny_case c = {ROWS, COLS, x_rows, PLAIN, 0};
            const skinny_data d = make_data(&product_forms[form], &c);
            const uint32_t tiles = x_rows / CK_SKINNY_X, all = x_rows / (CK_SKINNY_X / 2) + 1;
            const uint32_t along_w = ROWS / rows_of_block(form);
            (void)run_skinny(800, &product_forms[form], &c, &d, "_n16");
            const sim_counters *n = rig_counters();
            CHECK_EQ(n->streamed_bytes, tiles * product_skinny_bytes(&d.w));
            CHECK_EQ(n->load_sectors,
                     tiles * (weight_sectors(form, ROWS * COLS) + along_w * x_sectors(COLS)) +
                         along_w * all * WARPS);
            CHECK_EQ(n->mma, ROWS * COLS * x_rows / (16 * 8 * product_gemm_k(form)));
            CHECK_EQ(n->dp4a, 0);
            CHECK_EQ(n->shared_conflicts, 0);
            CHECK_EQ(n->store_bytes, out_bytes(&c));
            rig_done();
        }
}
