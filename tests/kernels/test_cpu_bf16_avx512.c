/* test_cpu_bf16_avx512.c - products in bf16: on tiles made of software, and on real tiles and in
 * vectors (AVX512-BF16) where this machine has them.  What they share needs AVX-512. */
#if defined(__x86_64__)
#include "amx_model.h"

#define GANTRY_TILES_IN_SOFTWARE
#include "backend/cpu/cpu_bf16_amx.c"

#include <math.h>

#include "backend/cpu/cpu_kernels.h"
#include "rig.h"
#include "tensor/convert.h"
#include "test.h"

enum { ROWS = 32, GROUPS = 4, COLS = 2048, LANES = GROUPS * PACK_ROWS, UNITS = 3 };

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* The software first, then the hardware where there is some. */
static uint32_t kernels(const bf16_kernels *out[UNITS]) {
    const bf16_kernels *const real[] = {cpu_bf16_find_amx(), cpu_bf16_find_avx512()};
    uint32_t n = 0;
    out[n++] = &cpu_bf16_model;
    for (int i = 0; i < 2; i++)
        if (real[i] != NULL) out[n++] = real[i];
    return n;
}

static float bf16(uint16_t h) {
    const uint32_t bits = (uint32_t)h << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

TEST(bf16_rounds_to_the_nearest_even) {
    static const struct {
        uint32_t from, to;
    } cases[16] = {
        {0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F818000, 0x3F82}, {0x3F808001, 0x3F81},
        {0xBF808001, 0xBF81}, {0x7F7FFFFF, 0x7F80}, {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80},
        {0x7FC00000, 0x7FC0}, {0x7F800001, 0x7FC0}, {0x00000001, 0x0000}, {0x80000000, 0x8000},
        {0x00008000, 0x0000}, {0x00018000, 0x0002}, {0x42F6E979, 0x42F7}, {0x3EAAAAAB, 0x3EAB}};
    float x[16];
    uint16_t y[16];
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    for (int i = 0; i < 16; i++) memcpy(&x[i], &cases[i].from, sizeof x[i]);
    cpu_bf16_model.round(x, y, 16);
    for (int i = 0; i < 16; i++) CHECK_EQ(y[i], cases[i].to);
}

static void broken_multiply(const bf16_args *a) {
    cpu_bf16_model.multiply(a);
    a->out[a->rows * a->groups * PACK_ROWS - 1] += 1;
}

TEST(bf16_self_test_passes_and_notices) {
    bf16_kernels broken = cpu_bf16_model;
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    CHECK(cpu_bf16_is_right(&cpu_bf16_model));
    broken.multiply = broken_multiply;
    CHECK(!cpu_bf16_is_right(&broken));
}

/* A processor that has the instruction must compute rightly with it: a unit that fails its own
 * test would not be used, and nobody would see. */
TEST(bf16_of_avx512_is_used_where_the_cpu_has_it) {
    const cpu_kernels *k = NULL;
    error err;
    if (!has_avx512() || !__builtin_cpu_supports("avx512bf16")) SKIP("this CPU has no AVX512-BF16");
    CHECK(cpu_bf16_find_avx512() == &cpu_bf16_avx512);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AVX512, &k, &err), OK);
    CHECK_STR(k->isa, "avx512");
    CHECK(k->bf16 == &cpu_bf16_avx512);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AVX2, &k, &err), OK);
    CHECK(k->bf16 == NULL);
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AUTO, &k, &err), OK);
    CHECK(k->bf16 == (cpu_bf16_find_amx() != NULL ? &cpu_bf16_amx : &cpu_bf16_avx512));
}

static float x[ROWS][COLS], w[LANES][COLS];
static uint16_t x16[ROWS][COLS], w16[LANES][COLS], panel[GROUPS][COLS * PACK_ROWS];

/* Panels of the first `cols` columns of all weight rows, one behind the other. */
static void make_panels(const bf16_kernels *k, uint32_t cols) {
    for (uint32_t j = 0; j < LANES; j++) k->round(w[j], w16[0] + (size_t)j * cols, cols);
    for (uint32_t g = 0; g < GROUPS; g++) {
        const size_t at = (size_t)g * PACK_ROWS * cols;
        k->from_rows(DTYPE_BF16, w16[0] + at, PACK_ROWS, cols, panel[0] + at);
    }
}

/* Weight row j of the panel at column c. */
static double panel_at(uint32_t j, uint32_t c, uint32_t cols) {
    const uint16_t *group = panel[0] + (size_t)(j / PACK_ROWS) * cols * PACK_ROWS;
    return (double)bf16(group[(size_t)(c / 2) * 2 * PACK_ROWS + j % PACK_ROWS * 2 + c % 2]);
}

static void check_product(const bf16_kernels *k, uint32_t rows, uint32_t groups, uint32_t cols) {
    static float out[ROWS + 1][LANES];
    const uint32_t lanes = groups * PACK_ROWS;
    double wrong = 0, all = 0;
    for (uint32_t r = 0; r < rows; r++) k->round(x[r], x16[r], cols);
    float *flat = out[0];
    memset(out, 0x55, sizeof out);
    k->multiply(&(bf16_args){.panel = panel[0],
                             .groups = groups,
                             .cols = cols,
                             .x = x16[0],
                             .x_stride = COLS,
                             .rows = rows,
                             .out = flat,
                             .out_stride = lanes});
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t j = 0; j < lanes; j++) {
            double sum = 0;
            for (uint32_t c = 0; c < cols; c++)
                sum += (double)bf16(x16[r][c]) * panel_at(j, c, cols);
            wrong += pow((double)flat[(size_t)r * lanes + j] - sum, 2);
            all += sum * sum;
        }
    }
    CHECK(wrong <= 1e-12 * all);
    /* nothing is written behind the rows that were asked for */
    uint32_t after;
    memcpy(&after, &flat[(size_t)rows * lanes], sizeof after);
    CHECK_EQ(after, 0x55555555);
}

static void check_products(const bf16_kernels *k, const uint32_t *rows, uint32_t count,
                           uint32_t cols) {
    make_panels(k, cols);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t groups = 1; groups <= GROUPS; groups++)
            check_product(k, rows[i], groups, cols);
}

TEST(bf16_products_of_every_number_of_rows_and_groups) {
    static const uint32_t some[] = {1, 5, 6, 7, 31, 32};
    const bf16_kernels *all[UNITS];
    uint32_t each[ROWS];
    krig_random random = {4};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    for (uint32_t i = 0; i < ROWS; i++) each[i] = i + 1;
    krig_normal(&random, x[0], (size_t)ROWS * COLS);
    krig_normal(&random, w[0], (size_t)LANES * COLS);
    for (uint32_t k = 0; k < kernels(all); k++) {
        for (uint32_t cols = BF16_COLS; cols <= 3 * BF16_COLS; cols += BF16_COLS)
            check_products(all[k], each, ROWS, cols);
        check_products(all[k], some, sizeof some / sizeof *some, COLS);
    }
    CHECK_EQ(amx.faults, 0);
}

/* Every element by itself: one row, one group. */
static void multiply_alone(const bf16_kernels *k, uint32_t cols, float out[ROWS][LANES]) {
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t g = 0; g < GROUPS; g++)
            k->multiply(&(bf16_args){.panel = panel[0] + (size_t)g * cols * PACK_ROWS,
                                     .groups = 1,
                                     .cols = cols,
                                     .x = x16[r],
                                     .x_stride = COLS,
                                     .rows = 1,
                                     .out = out[r] + (size_t)g * PACK_ROWS,
                                     .out_stride = PACK_ROWS});
}

/* An element's bits do not depend on which rows and groups go with it. */
TEST(bf16_rows_alone_and_together_have_the_same_bits) {
    enum { WIDTH = 160 };
    static float together[ROWS * LANES], alone[ROWS][LANES];
    const bf16_kernels *all[UNITS];
    krig_random random = {5};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    krig_normal(&random, x[0], (size_t)ROWS * COLS);
    krig_normal(&random, w[0], (size_t)LANES * COLS);
    for (uint32_t i = 0; i < kernels(all); i++) {
        unsigned differ = 0;
        for (uint32_t r = 0; r < ROWS; r++) all[i]->round(x[r], x16[r], COLS);
        make_panels(all[i], WIDTH);
        multiply_alone(all[i], WIDTH, alone);
        bf16_args a = {
            .panel = panel[0], .cols = WIDTH, .x = x16[0], .x_stride = COLS, .out = together};
        for (a.rows = 1; a.rows <= ROWS; a.rows++) {
            for (a.groups = 1; a.groups <= GROUPS; a.groups++) {
                const size_t lanes = (size_t)a.groups * PACK_ROWS;
                a.out_stride = lanes;
                all[i]->multiply(&a);
                for (uint32_t r = 0; r < a.rows; r++)
                    differ += memcmp(alone[r], together + r * lanes, lanes * sizeof(float)) != 0;
            }
        }
        CHECK_EQ(differ, 0);
    }
}

/* What is there grows by exactly what would have been stored, in rows that are further apart. */
static void check_added(const bf16_kernels *k, bf16_args a) {
    enum { STRIDE = LANES + 16 };
    static float plain[ROWS * LANES], sums[ROWS * STRIDE];
    unsigned wrong = 0;
    a.out = plain;
    a.out_stride = LANES;
    k->multiply(&a);
    for (uint32_t i = 0; i < ROWS * STRIDE; i++) sums[i] = (float)i;
    a.out = sums;
    a.out_stride = STRIDE;
    a.add = true;
    k->multiply(&a);
    for (uint32_t i = 0; i < ROWS * STRIDE; i++) {
        const uint32_t r = i / STRIDE, j = i % STRIDE;
        const bool within = r < a.rows && j < a.groups * PACK_ROWS;
        wrong += sums[i] != (within ? (float)i + plain[r * LANES + j] : (float)i);
    }
    CHECK_EQ(wrong, 0);
}

TEST(bf16_products_are_added_to_what_is_there) {
    enum { WIDTH = 64 };
    const bf16_kernels *all[UNITS];
    krig_random random = {6};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    krig_normal(&random, x[0], (size_t)ROWS * COLS);
    krig_normal(&random, w[0], (size_t)LANES * COLS);
    for (uint32_t i = 0; i < kernels(all); i++) {
        for (uint32_t r = 0; r < ROWS; r++) all[i]->round(x[r], x16[r], COLS);
        make_panels(all[i], WIDTH);
        bf16_args a = {.panel = panel[0], .cols = WIDTH, .x = x16[0], .x_stride = COLS};
        for (a.rows = 1; a.rows <= ROWS; a.rows += 15)
            for (a.groups = 1; a.groups <= GROUPS; a.groups++) check_added(all[i], a);
    }
    CHECK_EQ(amx.faults, 0);
}

enum { VALUE_GROUPS = 3, VALUE_STRIDE = VALUE_GROUPS * PACK_ROWS + 5 };
enum { GROUPS_APART = PACK_ROWS * PACK_ROWS + 32 };
static uint16_t value_panel[VALUE_GROUPS * GROUPS_APART];

static bool make_value_panel(dtype type, const void *rows, uint32_t begin, uint32_t end) {
    return cpu_bf16_model.from_values(&(bf16_values){.type = type,
                                                     .rows = rows,
                                                     .stride = VALUE_STRIDE,
                                                     .begin = begin,
                                                     .end = end,
                                                     .groups = VALUE_GROUPS,
                                                     .panel = value_panel,
                                                     .group_stride = GROUPS_APART});
}

/* Rows before and behind those that count may hold anything. */
static void check_values(krig_random *random, uint32_t begin, uint32_t end) {
    static float f32[PACK_ROWS * VALUE_STRIDE];
    static uint16_t f16[PACK_ROWS * VALUE_STRIDE];
    krig_normal(random, f32, PACK_ROWS * VALUE_STRIDE);
    for (uint32_t i = 0; i < PACK_ROWS * VALUE_STRIDE; i++) {
        const uint32_t t = i / VALUE_STRIDE;
        f16[i] = t >= begin && t < end ? convert_f32_to_f16(f32[i]) : 0xFFFF;
        f32[i] = convert_f16_to_f32(f16[i]);
    }
    for (int type = 0; type < 2; type++) {
        unsigned wrong = 0;
        CHECK(type == 0 ? make_value_panel(DTYPE_F32, f32, begin, end)
                        : make_value_panel(DTYPE_F16, f16, begin, end));
        for (uint32_t i = 0; i < PACK_ROWS * VALUE_STRIDE; i++) {
            const uint32_t t = i / VALUE_STRIDE, c = i % VALUE_STRIDE;
            if (c >= VALUE_GROUPS * PACK_ROWS) continue;
            const uint16_t *pairs = value_panel + (size_t)(c / PACK_ROWS) * GROUPS_APART +
                                    (size_t)(t / 2) * 2 * PACK_ROWS;
            wrong += pairs[c % PACK_ROWS * 2 + t % 2] !=
                     convert_f32_to_bf16(t >= begin && t < end ? f32[i] : 0);
        }
        CHECK_EQ(wrong, 0);
    }
    f16[(end - 1) * VALUE_STRIDE + 7] = 0x7C00; /* infinite */
    CHECK(!make_value_panel(DTYPE_F16, f16, begin, end));
}

TEST(bf16_panels_of_values) {
    krig_random random = {7};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    for (uint32_t begin = 0; begin < PACK_ROWS; begin += 3)
        for (uint32_t end = begin + 1; end <= PACK_ROWS; end++) check_values(&random, begin, end);
}

enum { SOFT_ROWS = 3, SOFT_COLS = 48, SOFT_STRIDE = SOFT_COLS + PACK_ROWS };

/* Some queries in the middle of their softmax. */
typedef struct soft_rows {
    float scores[SOFT_ROWS][BF16_POSITIONS];
    bf16_range seen[SOFT_ROWS];
    float max[SOFT_ROWS + 1], sums[SOFT_ROWS + 1][SOFT_STRIDE];
    uint16_t weights[SOFT_ROWS + 1][BF16_POSITIONS];
} soft_rows;

/* Half of the rows have seen more than what comes, half less; one has seen nothing yet. */
static void begin_softmax(soft_rows *s, krig_random *random, bf16_range seen) {
    krig_normal(random, s->scores[0], SOFT_ROWS * BF16_POSITIONS);
    krig_normal(random, s->sums[0], (SOFT_ROWS + 1) * SOFT_STRIDE);
    for (uint32_t r = 0; r <= SOFT_ROWS; r++) s->max[r] = r == 0 ? -INFINITY : (float)r * 10 - 15;
    for (uint32_t c = 0; c < SOFT_STRIDE; c++) s->sums[0][c] = 0;
    for (uint32_t r = 0; r < SOFT_ROWS; r++) {
        s->seen[r] = r == 1 ? (bf16_range){0, BF16_POSITIONS} : seen;
        for (uint32_t t = 0; t < BF16_POSITIONS; t++) {
            const bool counts = t >= s->seen[r].begin && t < s->seen[r].end;
            s->scores[r][t] = counts ? s->scores[r][t] * 8 : NAN;
        }
    }
    s->scores[1][17] = -200; /* whose weight is too small for a float */
    memset(s->weights, 0x55, sizeof s->weights);
}

/* How many weights of the row are wrong: rounding to bf16 is 2^-8 off at most. */
static unsigned wrong_weights(const soft_rows *was, const soft_rows *is, uint32_t r, double *sum) {
    unsigned wrong = 0;
    *sum = 0;
    for (uint32_t t = 0; t < BF16_POSITIONS; t++) {
        const double got = (double)bf16(is->weights[r][t]), score = (double)was->scores[r][t];
        const double want = isnan(score) ? 0 : exp(score - (double)is->max[r]);
        wrong += fabs(got - want) > (want < 0x1p-126 ? 0x1p-126 : want * (0x1p-8 + 1e-4));
        wrong += isnan(score) && is->weights[r][t] != 0;
        *sum += got;
    }
    return wrong;
}

static void check_softmax(const bf16_kernels *k, krig_random *random, bf16_range seen) {
    static soft_rows was, is;
    begin_softmax(&was, random, seen);
    is = was;
    k->soften(&(bf16_softmax){.rows = SOFT_ROWS,
                              .scores = is.scores[0],
                              .seen = is.seen,
                              .max = is.max,
                              .sums = is.sums[0],
                              .stride = SOFT_STRIDE,
                              .cols = SOFT_COLS,
                              .weights = is.weights[0]});
    for (uint32_t r = 0; r < SOFT_ROWS; r++) {
        float max = was.max[r];
        for (uint32_t t = 0; t < BF16_POSITIONS; t++) max = fmaxf(max, was.scores[r][t]);
        CHECK(is.max[r] == max);
        double sum = 0, got = 0, shrunk = exp((double)was.max[r] - (double)max);
        CHECK_EQ(wrong_weights(&was, &is, r, &sum), 0);
        for (uint32_t c = 0; c < SOFT_STRIDE; c++) {
            const double left = (double)was.sums[r][c] * shrunk, now = (double)is.sums[r][c];
            if (c < SOFT_COLS) CHECK(fabs(now - left) <= 1e-5 * fabs(left));
            if (c >= SOFT_COLS) got += now, sum += left;
        }
        CHECK(fabs(got - sum) <= 1e-5 * (1 + fabs(sum)));
    }
    CHECK(memcmp(was.sums[SOFT_ROWS], is.sums[SOFT_ROWS], sizeof is.sums[0]) == 0);
    CHECK(memcmp(was.weights[SOFT_ROWS], is.weights[SOFT_ROWS], sizeof is.weights[0]) == 0);
}

TEST(bf16_weights_are_added_up_as_they_are_rounded) {
    const bf16_kernels *all[UNITS];
    krig_random random = {8};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    for (uint32_t i = 0; i < kernels(all); i++)
        for (uint32_t begin = 0; begin < BF16_POSITIONS; begin += 13)
            for (uint32_t end = begin + 1; end <= BF16_POSITIONS; end += 5)
                check_softmax(all[i], &random, (bf16_range){begin, end});
}

/* Conversions that the processor has are those of the integers, but denormals, which are zeros. */
TEST(bf16_conversions_agree) {
    enum { MANY = 4096 };
    static float from[MANY];
    static uint16_t want[MANY], got[MANY];
    const bf16_kernels *real = cpu_bf16_find_avx512();
    krig_random random = {9};
    if (!has_avx512() || real == NULL) SKIP("this CPU has no AVX512-BF16");
    for (uint32_t i = 0; i < MANY; i++) {
        const uint32_t bits = krig_u32(&random, 1u << 16) << 16 | krig_u32(&random, 1u << 16);
        const uint32_t edge = (bits & 0xFFFF0000u) | (i % 3 == 0   ? 0x8000
                                                      : i % 3 == 1 ? 0x7FFF
                                                                   : 0);
        memcpy(&from[i], i % 2 == 0 ? &bits : &edge, sizeof from[i]);
        if (!isnormal(from[i])) from[i] = i % 2 == 0 ? INFINITY : 0;
    }
    for (uint32_t cols = 16; cols <= MANY; cols *= 2) {
        cpu_bf16_model.round(from, want, cols);
        real->round(from, got, cols);
        CHECK(memcmp(got, want, cols * sizeof *got) == 0);
    }
}

/* Every F16 there is, and every BF16, in panels with and without rows that are missing. */
TEST(bf16_panels_of_rows) {
    enum { WIDTH = 65536 / PACK_ROWS };
    static uint16_t all[PACK_ROWS * WIDTH], out[PACK_ROWS * WIDTH];
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    for (uint32_t i = 0; i < PACK_ROWS * WIDTH; i++) all[i] = (uint16_t)(i * 40503u);
    for (uint32_t count = 1; count <= PACK_ROWS; count++) {
        unsigned wrong = 0;
        for (int t = 0; t < 2; t++) {
            cpu_bf16_model.from_rows(t == 0 ? DTYPE_F16 : DTYPE_BF16, all, count, WIDTH, out);
            for (uint32_t j = 0; j < PACK_ROWS; j++) {
                for (uint32_t c = 0; c < WIDTH; c++) {
                    const uint16_t from = j < count ? all[(size_t)j * WIDTH + c] : 0;
                    float v[16] = {convert_f16_to_f32(from)};
                    uint16_t want[16] = {from};
                    if (t == 0) cpu_bf16_model.round(v, want, 16);
                    wrong += out[(size_t)(c / 2) * 2 * PACK_ROWS + 2 * j + c % 2] != want[0];
                }
            }
        }
        CHECK_EQ(wrong, 0);
    }
}

/* Codes, scales and offsets become scale * code - offset, rounded once to f32 and once to bf16. */
TEST(bf16_panels_of_codes) {
    enum { BLOCKS = 3 };
    static uint8_t codes[BLOCKS * PACK_BLOCK_CODES];
    static float scales[BLOCKS * 2 * PACK_ROWS], offsets[BLOCKS * 2 * PACK_ROWS];
    static uint16_t out[BLOCKS * PACK_BLOCK * PACK_ROWS];
    krig_random random = {6};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    for (size_t i = 0; i < sizeof codes; i++) codes[i] = (uint8_t)krig_u32(&random, 256);
    krig_normal(&random, scales, BLOCKS * 2 * PACK_ROWS);
    krig_normal(&random, offsets, BLOCKS * 2 * PACK_ROWS);
    for (uint32_t subs = 1; subs <= 2; subs++) {
        const pack_panel p = {.codes = codes, .scales = scales, .offsets = offsets, .subs = subs};
        unsigned wrong = 0;
        cpu_bf16_model.from_codes(&p, BLOCKS, out);
        for (uint32_t c = 0; c < BLOCKS * PACK_BLOCK; c++) {
            const uint32_t b = c / PACK_BLOCK, in = c % PACK_BLOCK;
            for (uint32_t j = 0; j < PACK_ROWS; j++) {
                const size_t at = ((size_t)b * subs + in * subs / PACK_BLOCK) * PACK_ROWS + j;
                const uint8_t code =
                    codes[(size_t)b * PACK_BLOCK_CODES + in / 4 * 64 + j * 4 + in % 4];
                float v[16] = {fmaf(scales[at], (float)code, -offsets[at])};
                uint16_t want[16];
                cpu_bf16_model.round(v, want, 16);
                wrong += out[(size_t)(c / 2) * 2 * PACK_ROWS + 2 * j + c % 2] != want[0];
            }
        }
        CHECK_EQ(wrong, 0);
    }
}
#endif
