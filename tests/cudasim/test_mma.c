/* test_mma.c - the words of ck.h for tensor cores: against plain products of matrices.
 *
 * Random numbers in every place of every fragment: a word that lies elsewhere than PTX says, or two
 * that change places, give another product.  Small whole numbers in halves have products and sums
 * without rounding, so that a card has to agree bit by bit; of other halves only the order of the
 * sum is its own. */
#include <math.h>
#include <stdio.h>

#include "cudasim/kernels_test.h"
#include "cudasim/rig.h"
#include "tensor/convert.h"
#include "test.h"

enum { COLS = 8, CASES = 20, ROWS_MAX = 16, K_MAX = 32, WORDS_MAX = 32 };

typedef enum mma_type { S8, F16, BF16 } mma_type;

typedef struct mma_shape {
    const char *name;
    mma_type type;
    uint32_t rows, k;
    int arch_min;
} mma_shape;

static const mma_shape shapes[] = {
    {"m8n8k16_s8", S8, 8, 16, 750},     {"m16n8k16_s8", S8, 16, 16, 800},
    {"m16n8k32_s8", S8, 16, 32, 800},   {"m16n8k8_f16", F16, 16, 8, 750},
    {"m16n8k16_f16", F16, 16, 16, 800}, {"m16n8k16_bf16", BF16, 16, 16, 800},
};

/* One product: numbers, and the words that stand for them. */
typedef struct mma_case {
    double a[ROWS_MAX][K_MAX], b[COLS][K_MAX], c[ROWS_MAX][COLS];
} mma_case;

static uint32_t row_words(const mma_shape *s) { return s->type == S8 ? s->k / 4 : s->k / 2; }

/* A number of the type, and its bits. */
static double draw(mma_type type, bool whole, uint32_t *bits) {
    if (type == S8) {
        const int8_t v = (int8_t)(rig_random(256) - 128);
        *bits = (uint8_t)v;
        return v;
    }
    const float f = whole ? (float)((int)rig_random(33) - 16)
                          : ldexpf((float)((int)rig_random(2001) - 1000), -9);
    const uint16_t half = type == F16 ? convert_f32_to_f16(f) : convert_f32_to_bf16(f);
    *bits = half;
    return (double)(type == F16 ? convert_f16_to_f32(half) : convert_bf16_to_f32(half));
}

/* Rows of k numbers, and their words. */
static void draw_rows(const mma_shape *s, bool whole, uint32_t rows, double out[][K_MAX],
                      uint32_t *words) {
    const uint32_t bits = s->type == S8 ? 8 : 16;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < s->k; k++) {
            uint32_t of = 0;
            out[r][k] = draw(s->type, whole, &of);
            if (k * bits % 32 == 0) words[(r * s->k + k) * bits / 32] = 0;
            words[(r * s->k + k) * bits / 32] |= of << k * bits % 32;
        }
}

static void draw_sums(const mma_shape *s, uint32_t count, double *out, uint32_t *words) {
    for (uint32_t i = 0; i < count; i++) {
        const int v = (int)rig_random(2001) - 1000;
        out[i] = v;
        words[i] = s->type == S8 ? (uint32_t)v : convert_f32_bits((float)v);
    }
}

static double number_of(const mma_shape *s, uint32_t word) {
    return s->type == S8 ? (double)(int32_t)word : (double)convert_bits_f32(word);
}

static void check_case(const mma_shape *s, bool whole, const mma_case *c, const uint32_t *out) {
    uint32_t wrong = 0;
    for (uint32_t r = 0; r < s->rows; r++)
        for (uint32_t n = 0; n < COLS; n++) {
            double sum = c->c[r][n], all = fabs(sum);
            for (uint32_t k = 0; k < s->k; k++) {
                sum += c->a[r][k] * c->b[n][k];
                all += fabs(c->a[r][k] * c->b[n][k]);
            }
            const double off = fabs(number_of(s, out[r * COLS + n]) - sum);
            wrong += !(off <= (whole ? 0 : 1e-6 * all));
        }
    if (wrong != 0) (void)fprintf(stderr, "%s: %u elements\n", s->name, wrong);
    CHECK_EQ(wrong, 0);
}

static void check_shape(int arch, const mma_shape *s, bool whole) {
    static mma_case cases[CASES];
    const uint32_t k_words = row_words(s), a_words = s->rows * k_words, b_words = COLS * k_words,
                   c_words = s->rows * COLS, words = a_words + b_words + c_words;
    uint32_t *in = rig_buffer((size_t)CASES * words * sizeof *in);
    uint32_t *out = rig_buffer((size_t)CASES * c_words * sizeof *out);
    for (uint32_t i = 0; i < CASES; i++) {
        uint32_t *at = in + (size_t)i * words;
        draw_rows(s, whole, s->rows, cases[i].a, at);
        draw_rows(s, whole, COLS, cases[i].b, at + a_words);
        draw_sums(s, c_words, &cases[i].c[0][0], at + a_words + b_words);
    }
    char name[32];
    (void)snprintf(name, sizeof name, "k_test_mma_%s", s->name);
    k_test_args a = {.in = rig_at(in), .out = rig_at(out)};
    (void)rig_run(arch, name, &a, CASES, 1, 32, 0);
    for (uint32_t i = 0; i < CASES; i++) check_case(s, whole, &cases[i], out + (size_t)i * c_words);
}

TEST(sim_mma_is_the_product_of_two_matrices) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) RIG_EACH(arch) {
            if (arch < shapes[i].arch_min) continue;
            check_shape(arch, &shapes[i], true);
            if (shapes[i].type != S8) check_shape(arch, &shapes[i], false);
        }
    rig_done();
}

TEST(sim_mma_of_later_cards_is_not_on_older_ones) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) RIG_EACH(arch) {
            char name[32];
            (void)snprintf(name, sizeof name, "k_test_mma_%s", shapes[i].name);
            CHECK_EQ(rig_has(arch, name), arch >= shapes[i].arch_min);
        }
    rig_done();
}

TEST(sim_mma_is_counted_once_for_a_warp) {
    if (rig_is_card()) SKIP("a card counts nothing");
    check_shape(750, &shapes[0], true);
    CHECK_EQ(rig_counters()->mma, CASES);
    rig_done();
}

/* Matrix i has rows 8 i .. 8 i + 7 in the order of the lanes that name them. */
TEST(sim_ldmatrix_gives_each_lane_its_words) {
    RIG_EACH(arch) {
        uint32_t *in = rig_buffer(WORDS_MAX * 4 * sizeof *in), wrong = 0;
        uint32_t *out = rig_buffer(WORDS_MAX * 4 * sizeof *out);
        rig_fill_bytes(in, WORDS_MAX * 4 * sizeof *in);
        k_test_args a = {.in = rig_at(in), .out = rig_at(out), .n = 13};
        (void)rig_run(arch, "k_test_ldmatrix", &a, 1, 1, 32, 0);
        for (uint32_t lane = 0; lane < 32; lane++)
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t row = (8 * i + lane / 4) * 13 % 32;
                wrong += out[lane * 4 + i] != in[row * 4 + lane % 4];
            }
        CHECK_EQ(wrong, 0);
    }
    rig_done();
}

/* Word q of row g is halves g of rows 2 q and 2 q + 1. */
TEST(sim_ldmatrix_transposes) {
    RIG_EACH(arch) {
        uint16_t *in = rig_buffer(WORDS_MAX * 8 * sizeof *in);
        uint32_t *out = rig_buffer(WORDS_MAX * 4 * sizeof *out), wrong = 0;
        rig_fill_bytes(in, WORDS_MAX * 8 * sizeof *in);
        k_test_args a = {.in = rig_at(in), .out = rig_at(out), .n = 13};
        (void)rig_run(arch, "k_test_ldmatrix_trans", &a, 1, 1, 32, 0);
        for (uint32_t lane = 0; lane < 32; lane++)
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t named = 8 * i + lane % 4 * 2, g = lane / 4;
                const uint16_t *low = in + named * 13 % 32 * 8,
                               *high = in + (named + 1) * 13 % 32 * 8;
                wrong += out[lane * 4 + i] != (low[g] | (uint32_t)high[g] << 16);
            }
        CHECK_EQ(wrong, 0);
    }
    rig_done();
}

/* Of 8 lanes whose granules are `n` apart those that share a group of banks wait for each
 * other. */
TEST(sim_bank_conflicts_are_counted) {
    static const struct {
        uint32_t n, mode, conflicts;
    } cases[] = {{1, 0, 0},     {1, 1, 0},     {1, 2, 0},     {3, 2, 0}, {2, 0, 4}, {2, 1, 4},
                 {4, 2, 4 * 3}, {8, 0, 4 * 7}, {8, 2, 4 * 7}, {8, 3, 7}, {5, 3, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) RIG_EACH(arch) {
            uint32_t *out = rig_buffer(32 * sizeof *out), wrong = 0;
            k_test_args a = {.out = rig_at(out), .n = cases[i].n, .mode = cases[i].mode};
            (void)rig_run(arch, "k_test_granules", &a, 1, 1, 32, 0);
            for (uint32_t lane = 0; lane < 32 && cases[i].mode < 2; lane++)
                wrong += out[lane] != lane;
            CHECK_EQ(wrong, 0);
            if (!rig_is_card()) CHECK_EQ(rig_counters()->shared_conflicts, cases[i].conflicts);
        }
    rig_done();
}

TEST(sim_ldmatrix_of_a_row_that_is_not_aligned_is_a_fault) {
    if (rig_is_card()) SKIP("a card would be lost");
    uint32_t *in = rig_buffer(WORDS_MAX * 4 * sizeof *in);
    uint32_t *out = rig_buffer(WORDS_MAX * 4 * sizeof *out);
    k_test_args a = {.in = rig_at(in), .out = rig_at(out), .n = 1, .mode = 4};
    CHECK_EQ(rig_try(750, "k_test_ldmatrix", &a, 1, 1, 32, 0), SIM_MISALIGNED);
    rig_done();
}
