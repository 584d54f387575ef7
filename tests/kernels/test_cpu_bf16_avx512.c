/* test_cpu_bf16_avx512.c - the matrix-unit kernels on tiles made of software, and on real ones
 * where this machine has them.  Their vector parts need AVX-512. */
#if defined(__x86_64__)
#include "amx_model.h"

#define GANTRY_TILES_IN_SOFTWARE
#include "backend/cpu/cpu_bf16_amx.c"

#include <math.h>

#include "backend/cpu/cpu_kernels.h"
#include "rig.h"
#include "test.h"

enum { ROWS = 32, GROUPS = 4, COLS = 96, LANES = GROUPS * PACK_ROWS };

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* The software first, then the hardware where there is some. */
static uint32_t kernels(const bf16_kernels **out) {
    out[0] = &cpu_bf16_model;
    out[1] = cpu_bf16_find();
    return out[1] != NULL ? 2 : 1;
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

static float x[ROWS][COLS], w[LANES][COLS];
static uint16_t x16[ROWS][COLS], panel[GROUPS][COLS * PACK_ROWS];

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
    for (uint32_t g = 0; g < groups; g++)
        k->from_rows(w[g * PACK_ROWS], COLS, cols, panel[0] + (size_t)g * cols * PACK_ROWS);
    float *flat = out[0];
    memset(out, 0x55, sizeof out);
    k->multiply(&(bf16_args){.panel = panel[0],
                             .groups = groups,
                             .cols = cols,
                             .x = x16[0],
                             .x_stride = COLS,
                             .rows = rows,
                             .out = flat});
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

TEST(bf16_products_of_every_number_of_rows_and_groups) {
    const bf16_kernels *all[2];
    krig_random random = {4};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    krig_normal(&random, x[0], (size_t)ROWS * COLS);
    krig_normal(&random, w[0], (size_t)LANES * COLS);
    for (uint32_t k = 0; k < kernels(all); k++)
        for (uint32_t rows = 1; rows <= ROWS; rows++)
            for (uint32_t groups = 1; groups <= GROUPS; groups++)
                for (uint32_t cols = BF16_COLS; cols <= COLS; cols += BF16_COLS)
                    check_product(all[k], rows, groups, cols);
    CHECK_EQ(amx.faults, 0);
}

/* A row's bits do not depend on which rows go with it. */
TEST(bf16_rows_alone_and_together_have_the_same_bits) {
    static float together[ROWS][LANES], alone[LANES];
    const bf16_kernels *all[2];
    krig_random random = {5};
    if (!has_avx512()) SKIP("this CPU has no AVX-512");
    krig_normal(&random, x[0], (size_t)ROWS * COLS);
    krig_normal(&random, w[0], (size_t)LANES * COLS);
    for (uint32_t i = 0; i < kernels(all); i++) {
        const bf16_kernels *k = all[i];
        for (uint32_t r = 0; r < ROWS; r++) k->round(x[r], x16[r], COLS);
        for (uint32_t g = 0; g < GROUPS; g++) k->from_rows(w[g * PACK_ROWS], COLS, COLS, panel[g]);
        bf16_args a = {.panel = panel[0],
                       .groups = GROUPS,
                       .cols = COLS,
                       .x = x16[0],
                       .x_stride = COLS,
                       .rows = ROWS,
                       .out = together[0]};
        k->multiply(&a);
        a.rows = 1;
        a.out = alone;
        for (uint32_t r = 0; r < ROWS; r++) {
            a.x = x16[r];
            k->multiply(&a);
            CHECK(memcmp(alone, together[r], sizeof alone) == 0);
        }
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
