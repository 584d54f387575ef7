/* test_cpu_floats.c - products with float weights: the order of operations that cpu_kernels.h
 * promises, bit by bit, in every instruction set, tiling and cut, and how close that comes to
 * doubles.  Buffers are as long as their contents, so that sanitizers see a step too far. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "tensor/convert.h"
#include "test.h"

/* Sixteen partial sums of f32 over some thousand terms. */
static const double floats_nmse_max = 1e-12;

enum { TABLES = 3 };

static void floats_tables(const cpu_kernels *k[TABLES]) {
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_SCALAR, &k[0], NULL), OK);
    k[1] = k[2] = k[0];
#if defined(__x86_64__)
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AVX2, &k[1], NULL), OK);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AVX512, &k[2], NULL), OK);
#endif
}

static matmul_fn *floats_kernel(const cpu_kernels *k, dtype t) {
    if (t == DTYPE_F32) return k->matmul_f32;
    return t == DTYPE_F16 ? k->matmul_f16 : k->matmul_bf16;
}

/* --- operands -------------------- */
typedef struct floats_case {
    dtype type;
    uint32_t rows, cols, x_rows;
    bool scratch;
    bool extras; /* bias and add */
    float range; /* of exponents, 2^-range .. 2^range; 0: plain -1 .. 1 */
} floats_case;

typedef struct floats_rig {
    floats_case c;
    matmul_args a; /* out is made by the test */
    void *w;
    float *x, *bias, *add, *scratch;
    float *want;   /* [x_rows, rows] in the promised order */
    double *exact; /* [x_rows, rows] */
} floats_rig;

static uint32_t floats_seed = 1;

static float floats_random(float range) {
    floats_seed = floats_seed * 1664525u + 1013904223u;
    float v = (float)(floats_seed >> 8) / 8388608.0f - 1.0f;
    return range > 0 ? ldexpf(v, (int)(floats_seed >> 5 & 1023) * (int)range / 512 - (int)range)
                     : v;
}

static float *floats_array(size_t count, float range) {
    float *v = malloc(count * sizeof *v + (count == 0));
    for (size_t i = 0; i < count; i++) v[i] = floats_random(range);
    return v;
}

static float *floats_scratch(void) {
    float *v = aligned_alloc(64, MATMUL_SCRATCH_FLOATS * sizeof *v);
    for (size_t i = 0; i < MATMUL_SCRATCH_FLOATS; i++) v[i] = NAN; /* nobody reads what is there */
    return v;
}

static float floats_weight(const floats_rig *g, uint32_t j, uint32_t c) {
    float v;
    const size_t elem = g->c.type == DTYPE_F32 ? 4 : 2;
    dequant_row(g->c.type, (const char *)g->w + ((size_t)j * g->c.cols + c) * elem, &v, 1);
    return v;
}

/* The promise of cpu_kernels.h, in the plainest way. */
static void floats_reference(floats_rig *g, uint32_t r, uint32_t j) {
    enum { LANES = 16 };
    float lane[LANES] = {0};
    double exact = 0;
    const uint32_t cols = g->c.cols;
    for (uint32_t c = 0; c < (cols + LANES - 1) / LANES * LANES; c++) {
        float x = c < cols ? g->x[(size_t)r * cols + c] : 0.0f;
        float w = c < cols ? floats_weight(g, j, c) : 0.0f;
        lane[c % LANES] = fmaf(x, w, lane[c % LANES]);
        exact += (double)x * (double)w;
    }
    for (uint32_t step = LANES / 2; step > 0; step /= 2)
        for (uint32_t l = 0; l < step; l++) lane[l] += lane[l + step];
    const size_t at = (size_t)r * g->c.rows + j;
    g->want[at] = lane[0];
    g->exact[at] = exact;
    if (g->c.extras) {
        g->want[at] = g->add[at] + (lane[0] + g->bias[j]);
        g->exact[at] += (double)g->bias[j] + (double)g->add[at];
    }
}

static void floats_open(floats_rig *g, const floats_case *c) {
    const size_t weights = (size_t)c->rows * c->cols, outs = (size_t)c->rows * c->x_rows;
    const size_t elem = c->type == DTYPE_F32 ? 4 : 2;
    *g = (floats_rig){.c = *c, .w = malloc(weights * elem)};
    for (size_t i = 0; i < weights; i++) {
        float v = floats_random(c->range);
        uint16_t half = c->type == DTYPE_F16 ? convert_f32_to_f16(v) : convert_f32_to_bf16(v);
        if (c->type == DTYPE_F32)
            ((float *)g->w)[i] = v;
        else
            ((uint16_t *)g->w)[i] = half;
    }
    g->x = floats_array((size_t)c->x_rows * c->cols, c->range);
    g->bias = floats_array(c->rows, c->range);
    g->add = floats_array(outs, c->range);
    g->want = floats_array(outs, 0);
    g->exact = malloc(outs * sizeof *g->exact + (outs == 0));
    g->scratch = c->scratch ? floats_scratch() : NULL;
    g->a = (matmul_args){.w = g->w,
                         .type = c->type,
                         .w_row_bytes = c->cols * elem,
                         .cols = c->cols,
                         .x_rows = c->x_rows,
                         .x = g->x,
                         .bias = c->extras ? g->bias : NULL,
                         .add = c->extras ? g->add : NULL,
                         .out_cols = c->rows,
                         .scratch = g->scratch};
    for (uint32_t r = 0; r < c->x_rows; r++)
        for (uint32_t j = 0; j < c->rows; j++) floats_reference(g, r, j);
}

static void floats_close(floats_rig *g) {
    free(g->w);
    free(g->x);
    free(g->bias);
    free(g->add);
    free(g->want);
    free(g->exact);
    free(g->scratch);
}

/* Equal bits, or both not a number. */
static unsigned floats_differing(const float *a, const float *b, size_t count) {
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++)
        wrong += memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]));
    return wrong;
}

/* Runs of weight rows, up to `step` at a time, in every table. */
static void floats_check(floats_rig *g, uint32_t step) {
    const cpu_kernels *k[TABLES];
    const size_t outs = (size_t)g->c.rows * g->c.x_rows;
    floats_tables(k);
    for (uint32_t i = 0; i < TABLES; i++) {
        float *out = floats_array(outs, 0);
        g->a.out = out;
        for (uint32_t j = 0; j < g->c.rows; j += step)
            floats_kernel(k[i], g->c.type)(&g->a, j, j + step < g->c.rows ? j + step : g->c.rows);
        const unsigned wrong = floats_differing(out, g->want, outs);
        if (wrong > 0)
            (void)fprintf(stderr, "%s %s: %u rows, %u columns, %u activation rows, scratch %d\n",
                          k[i]->isa, dtype_name(g->c.type), g->c.rows, g->c.cols, g->c.x_rows,
                          g->c.scratch);
        CHECK_EQ(wrong, 0);
        free(out);
    }
}

static void floats_run(const floats_case *c, uint32_t step) {
    floats_rig g;
    floats_open(&g, c);
    floats_check(&g, step);
    floats_close(&g);
}

static const dtype floats_types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
enum { FLOATS_TYPES = 3 };

/* --- bits -------------------- */
TEST(cpu_floats_keep_the_promised_order_in_every_tile) {
    static const uint32_t cols[] = {1, 15, 16, 17, 31, 33, 100};
    for (uint32_t t = 0; t < FLOATS_TYPES; t++)
        for (uint32_t i = 0; i < sizeof cols / sizeof *cols; i++)
            for (uint32_t x_rows = 0; x_rows <= 20; x_rows++)
                floats_run(&(floats_case){.type = floats_types[t],
                                          .rows = 1 + (x_rows * 7 + i) % 13,
                                          .cols = cols[i],
                                          .x_rows = x_rows,
                                          .scratch = x_rows % 3 != 0,
                                          .extras = x_rows % 2 != 0},
                           1 + x_rows % 8);
}

/* More columns than a panel, more rows than a block of either kind. */
TEST(cpu_floats_keep_the_promised_order_across_panels) {
    static const floats_case cases[] = {
        {.rows = 70, .cols = 1050, .x_rows = 100, .scratch = true, .extras = true},
        {.rows = 9, .cols = 1024, .x_rows = 13, .scratch = true},
        {.rows = 9, .cols = 2049, .x_rows = 13, .scratch = false, .extras = true},
        {.rows = 64, .cols = 513, .x_rows = 97, .scratch = true},
        {.rows = 65, .cols = 512, .x_rows = 193, .scratch = true, .extras = true},
    };
    for (uint32_t t = 0; t < FLOATS_TYPES; t++)
        for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            floats_case c = cases[i];
            c.type = floats_types[t];
            floats_run(&c, 64 + i);
        }
}

/* Results from below the smallest normal number up to infinity. */
TEST(cpu_floats_round_as_fused_operations_do_at_every_size) {
    for (uint32_t t = 0; t < FLOATS_TYPES; t++)
        for (uint32_t range = 8; range <= 120; range += 8)
            floats_run(&(floats_case){.type = floats_types[t],
                                      .rows = 12,
                                      .cols = 77,
                                      .x_rows = 14,
                                      .scratch = true,
                                      .range = (float)range},
                       12);
}

TEST(cpu_floats_pass_on_infinities_and_what_is_no_number) {
    static const float odd[] = {INFINITY, -INFINITY, NAN, -0.0f, 0x1p-149f, -0x1p-149f, 3e38f};
    for (uint32_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        floats_case c = {.type = DTYPE_F32, .rows = 5, .cols = 40, .x_rows = 15, .scratch = true};
        floats_rig g;
        floats_open(&g, &c);
        for (uint32_t at = i; at < 15 * 40; at += 37) g.x[at] = odd[i];
        for (uint32_t at = 2 * i; at < 5 * 40; at += 53) ((float *)g.w)[at] = odd[(i + at) % 7];
        for (uint32_t r = 0; r < c.x_rows; r++)
            for (uint32_t j = 0; j < c.rows; j++) floats_reference(&g, r, j);
        floats_check(&g, 5);
        floats_close(&g);
    }
}

TEST(cpu_floats_may_add_to_where_they_store) {
    floats_case c = {.type = DTYPE_F16, .rows = 11, .cols = 600, .x_rows = 21, .scratch = true};
    const cpu_kernels *k[TABLES];
    floats_tables(k);
    for (uint32_t i = 0; i < TABLES; i++) {
        floats_rig g;
        floats_open(&g, &c);
        float *out = floats_array((size_t)c.rows * c.x_rows, 0);
        for (uint32_t at = 0; at < c.rows * c.x_rows; at++) g.want[at] = out[at] + g.want[at];
        g.a.add = g.a.out = out;
        k[i]->matmul_f16(&g.a, 0, c.rows);
        CHECK_EQ(floats_differing(out, g.want, (size_t)c.rows * c.x_rows), 0);
        free(out);
        floats_close(&g);
    }
}

/* What lies beside the asked columns of the result stays. */
TEST(cpu_floats_store_the_asked_rows_alone) {
    enum { ROWS = 10, X_ROWS = 14, WIDTH = ROWS + 3 };
    floats_case c = {.type = DTYPE_BF16, .rows = ROWS, .cols = 50, .x_rows = X_ROWS, .scratch = 1};
    const cpu_kernels *k[TABLES];
    floats_tables(k);
    for (uint32_t i = 0; i < TABLES; i++) {
        float out[X_ROWS][WIDTH];
        floats_rig g;
        floats_open(&g, &c);
        for (uint32_t at = 0; at < X_ROWS * WIDTH; at++) out[at / WIDTH][at % WIDTH] = 7;
        g.a.out = out[0];
        g.a.out_cols = WIDTH;
        k[i]->matmul_bf16(&g.a, 2, 9);
        for (uint32_t r = 0; r < X_ROWS; r++) {
            CHECK_EQ(floats_differing(&out[r][2], &g.want[r * ROWS + 2], 7), 0);
            for (uint32_t j = 0; j < WIDTH; j++) CHECK((j >= 2 && j < 9) || out[r][j] == 7.0f);
        }
        floats_close(&g);
    }
}

/* --- types that become f32 -------------------- */
TEST(cpu_floats_of_every_type_have_the_bits_of_their_f32_rows) {
    enum { ROWS = 10, COLS = 768, X_ROWS = 20 };
    static const uint32_t counts[] = {1, 5, X_ROWS};
    static float f32[ROWS * COLS], want[X_ROWS * ROWS], got[X_ROWS * ROWS];
    const cpu_kernels *k[TABLES];
    float *x = floats_array((size_t)X_ROWS * COLS, 0), *scratch = floats_scratch();
    floats_tables(k);
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        uint64_t bytes = 0;
        const dtype_info *info = dtype_get(id);
        if (info == NULL || info->is_integer || !dtype_row_bytes((dtype)id, COLS, &bytes)) continue;
        uint8_t *w = malloc(ROWS * bytes);
        for (size_t i = 0; i < ROWS * bytes; i++) w[i] = (uint8_t)(i * 7 + (i >> 5) * 13) & 0x3b;
        for (uint32_t j = 0; j < ROWS; j++)
            dequant_row((dtype)id, w + j * bytes, f32 + (size_t)j * COLS, COLS);
        for (uint32_t i = 0; i < TABLES; i++) {
            matmul_args a = {.type = (dtype)id, .cols = COLS, .x = x, .out_cols = ROWS};
            a.x_rows = counts[(id + i) % 3];
            a.w = f32, a.w_row_bytes = COLS * sizeof(float), a.out = want;
            k[i]->matmul_f32(&a, 0, ROWS);
            a.w = w, a.w_row_bytes = bytes, a.out = got, a.scratch = scratch;
            k[i]->matmul_rows(&a, 0, ROWS);
            CHECK_EQ(floats_differing(got, want, (size_t)a.x_rows * ROWS), 0);
        }
        free(w);
    }
    free(x);
    free(scratch);
}

/* --- closeness -------------------- */
TEST(cpu_floats_are_close_to_doubles) {
    for (uint32_t t = 0; t < FLOATS_TYPES; t++) {
        floats_case c = {.type = floats_types[t], .rows = 6, .cols = 4096, .x_rows = 14};
        double errors = 0, squares = 0;
        floats_rig g;
        floats_open(&g, &c);
        for (uint32_t i = 0; i < c.rows * c.x_rows; i++) {
            double off = (double)g.want[i] - g.exact[i];
            errors += off * off;
            squares += g.exact[i] * g.exact[i];
        }
        CHECK(errors <= floats_nmse_max * squares);
        floats_check(&g, 6); /* the kernels are what was measured */
        floats_close(&g);
    }
}
