/* test_k_argmax.c - k_argmax against best_of(): every length, ties, what is no number. */
#include <math.h>
#include <string.h>

#include "cudasim/rig.h"
#include "tensor/best.h"
#include "test.h"

#include "abi.h"

enum { ROWS_MAX = 5 };

/* Runs it and compares all rows; `more` rows of the grid are behind the last one. */
static void check_argmax(int arch, const float *x, uint32_t rows, uint32_t cols, uint32_t more) {
    static const uint32_t zeros[ROWS_MAX];
    const uint32_t blocks = (cols + CK_ARGMAX_COLS - 1) / CK_ARGMAX_COLS;
    uint32_t *tickets = rig_copy(zeros, rows * sizeof *zeros);
    uint32_t *out = rig_buffer(rows * sizeof *out), want[ROWS_MAX];
    k_argmax_args a = {.x = rig_at(x),
                       .parts = rig_at(rig_buffer((size_t)rows * blocks * sizeof(uint64_t))),
                       .tickets = rig_at(tickets),
                       .out = rig_at(out),
                       .count = rig_count(rows),
                       .cols = cols};
    rig_run(arch, "k_argmax", &a, blocks, rows + more, 256, 0);
    for (uint32_t r = 0; r < rows; r++) want[r] = (uint32_t)best_of(x + (size_t)r * cols, cols);
    rig_same(out, want, rows * sizeof *out);
    rig_same(tickets, zeros, rows * sizeof *zeros); /* for the next step */
}

static float *random_rows(uint32_t rows, uint32_t cols) {
    float *x = rig_buffer((size_t)rows * cols * sizeof *x);
    rig_fill(x, (size_t)rows * cols, 30);
    return x;
}

TEST(k_argmax_of_rows_of_any_length) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 4095, 4096, 4097, 32003};
    static const uint32_t rows[] = {1, 4, 5};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 11; i++) {
            const uint32_t n = rows[i % 3];
            float *x = random_rows(n, cols[i]);
            check_argmax(arch, x, n, cols[i], i % 2);
            x[(size_t)n * cols[i] - 1] = 31; /* the last of all */
            check_argmax(arch, x, n, cols[i], 0);
        }
    }
    rig_done();
}

/* More blocks to a row than the last one has threads. */
TEST(k_argmax_of_a_very_long_row) {
    enum { COLS = 257 * CK_ARGMAX_COLS + 1 };
    float *x = random_rows(1, COLS);
    x[COLS - 2] = x[COLS - 1] = 31;
    check_argmax(750, x, 1, COLS, 0);
    rig_done();
}

/* The largest one twice or more: in a warp, in a block, in different blocks, everywhere. */
TEST(k_argmax_takes_the_smallest_id_of_equals) {
    enum { COLS = 3 * CK_ARGMAX_COLS + 7 };
    static const uint32_t twice[][2] = {{5, 6},       {6, 7000},    {31, 32},
                                        {255, 256},   {4095, 4096}, {4096, 12294},
                                        {8191, 8192}, {0, 12294},   {300, 300 + CK_ARGMAX_COLS}};
    RIG_EACH(arch) {
        float *x = random_rows(1, COLS);
        for (uint32_t i = 0; i < 9; i++) {
            const float before[2] = {x[twice[i][0]], x[twice[i][1]]};
            x[twice[i][0]] = x[twice[i][1]] = 77;
            check_argmax(arch, x, 1, COLS, 0);
            x[twice[i][0]] = before[0];
            x[twice[i][1]] = before[1];
        }
        for (uint32_t c = 0; c < COLS; c++) x[c] = -3;
        check_argmax(arch, x, 1, COLS, 0);
    }
    rig_done();
}

/* Infinite ones, zeros of both signs, the smallest and the largest. */
static const float odd[] = {NAN,    -INFINITY, INFINITY, 0.0f,     -0.0f,
                            1e-45f, -1e-45f,   3.4e38f,  -3.4e38f, -1};
enum { ODD = sizeof odd / sizeof odd[0] };

/* One of each among many of each. */
TEST(k_argmax_of_what_is_no_number_is_the_samplers) {
    static const uint32_t cols[] = {1, 33, 5000};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 2 * ODD; i++) {
            const uint32_t n = cols[i % 3], at = n * 2 / 3;
            float *x = rig_buffer((size_t)ODD / 2 * n * sizeof *x);
            for (uint32_t c = 0; c < ODD / 2 * n; c++) x[c] = odd[i / 2];
            for (uint32_t r = 0; r < ODD / 2; r++) x[r * n + at] = odd[i % 2 * ODD / 2 + r];
            check_argmax(arch, x, ODD / 2, n, 0);
        }
    }
    rig_done();
}

TEST(k_argmax_of_any_mixture_is_the_samplers) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 20; i++) {
            const uint32_t cols = 1 + rig_random(i % 4 == 0 ? 9000 : 40), rows = 1 + i % ROWS_MAX;
            float *x = random_rows(rows, cols);
            const uint32_t kinds = 1 + rig_random(ODD);
            for (uint32_t k = 0; k < rows * cols; k++)
                if (rig_random(4) != 0) x[k] = odd[rig_random(kinds)];
            check_argmax(arch, x, rows, cols, 1);
        }
    }
    rig_done();
}

/* NaN has many bits; all stand last, in the order of their ids. */
TEST(k_argmax_knows_every_nan) {
    static const uint32_t bits[] = {0xffffffffu, 0x7fc00000u, 0x7f800001u, 0xff800001u,
                                    0xffc00000u};
    RIG_EACH(arch) {
        float *x = rig_buffer(sizeof bits);
        memcpy(x, bits, sizeof bits);
        check_argmax(arch, x, 1, 5, 0);
        x[3] = -INFINITY;
        check_argmax(arch, x, 1, 5, 0);
    }
    rig_done();
}

TEST(k_argmax_reads_every_logit_once) {
    enum { ROWS = 2, COLS = 2 * CK_ARGMAX_COLS };
    RIG_SKIP_UNLESS_COUNTED();
    check_argmax(750, random_rows(ROWS, COLS), ROWS, COLS, 0);
    const sim_counters *n = rig_counters();
    const uint64_t logits = ROWS * COLS * sizeof(float), blocks = ROWS * COLS / CK_ARGMAX_COLS;
    /* `count` by every thread; a ticket is a load and a store, and so is giving it back; the last
     * blocks read the parts */
    CHECK_EQ(n->store_bytes, blocks * 8 + blocks * 4 + ROWS * 8);
    CHECK_EQ(n->load_bytes, logits + blocks * 256 * 4 + blocks * 4 + blocks * 8 + ROWS * 4);
    rig_done();
}
