/* test_k_norm.c - k_norm against the reference backend: kinds, groups, gains, sums, codes, bits. */
#include <math.h>

#include "cudasim/oracle.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

static const double NEAR = 2e-6; /* of elements of about 1: f32 sums of 257 squares */

typedef struct norm_case {
    op_norm norm; /* gain and bias: not NULL means yes */
    uint32_t rows, cols;
    bool add, sum_in_place, in_shared, codes;
} norm_case;

typedef struct norm_buffers {
    float *x, *add, *gain, *bias, *out;
    int8_t *codes;
    ck_sums *sums;
} norm_buffers;

static const float yes[1];

static norm_buffers make_buffers(const norm_case *c) {
    size_t n = (size_t)c->rows * c->cols;
    norm_buffers b = {.x = rig_buffer(n * 4), .add = rig_buffer(n * 4), .out = rig_buffer(n * 4)};
    b.gain = rig_buffer(c->norm.gain_len * sizeof(float));
    b.bias = rig_buffer(c->norm.gain_len * sizeof(float));
    rig_fill(b.x, n, 3);
    rig_fill(b.add, n, 1);
    rig_fill(b.gain, c->norm.gain_len, 2);
    rig_fill(b.bias, c->norm.gain_len, 1);
    b.codes = rig_buffer(n);
    b.sums = rig_buffer(n / 32 * sizeof(ck_sums));
    return b;
}

static k_norm_args args_of(const norm_case *c, const norm_buffers *b) {
    return (k_norm_args){.x = rig_at(b->x),
                         .add = c->add ? rig_at(b->add) : 0,
                         .sum = c->sum_in_place ? rig_at(b->x) : 0,
                         .gain = c->norm.gain != NULL ? rig_at(b->gain) : 0,
                         .bias = c->norm.bias != NULL ? rig_at(b->bias) : 0,
                         .out = rig_at(b->out),
                         .codes = c->codes ? rig_at(b->codes) : 0,
                         .sums = c->codes ? rig_at(b->sums) : 0,
                         .count = rig_count(c->rows),
                         .cols = c->cols,
                         .group = c->norm.group,
                         .gain_len = c->norm.gain_len,
                         .kind = c->norm.kind,
                         .eps = c->norm.eps,
                         .in_shared = c->in_shared};
}

static const float *wanted(const norm_case *c, const norm_buffers *b) {
    op_norm norm = c->norm;
    if (norm.gain != NULL) norm.gain = b->gain;
    if (norm.bias != NULL) norm.bias = b->bias;
    oracle_begin(c->rows);
    program *p = oracle_program();
    value_id x = oracle_input(b->x, c->cols);
    if (c->add) x = pg_add(p, x, oracle_input(b->add, c->cols));
    return oracle_end(pg_norm(p, x, norm));
}

/* Codes that are x within half a step, and their sums. */
static void check_codes(const norm_case *c, const norm_buffers *b) {
    size_t n = (size_t)c->rows * c->cols;
    uint32_t wrong = 0;
    for (size_t at = 0; at < n; at += 32) {
        int halves[2] = {0, 0};
        ck_sums s = b->sums[at / 32];
        for (size_t k = 0; k < 32; k++) {
            halves[k / 16] += b->codes[at + k];
            double off = (double)b->out[at + k] - (double)s.d * b->codes[at + k];
            wrong += !(fabs(off) <= 0.5001 * (double)s.d);
        }
        wrong += halves[0] != s.lo || halves[1] != s.hi;
    }
    CHECK_EQ(wrong, 0);
}

static void check_norm(int arch, const norm_case *c) {
    norm_buffers b = make_buffers(c);
    const float *want = wanted(c, &b);
    k_norm_args a = args_of(c, &b);
    size_t n = (size_t)c->rows * c->cols;
    float *sums = rig_copy(b.x, n * sizeof *sums);
    for (size_t i = 0; i < n && c->add; i++) sums[i] += b.add[i];
    rig_run(arch, "k_norm", &a, c->rows + 1, 1, 256, c->in_shared ? 4 * c->cols : 0);
    rig_near(b.out, want, n, NEAR * 10);
    rig_close(b.out, want, n, 1e-12);
    if (c->sum_in_place) rig_same(b.x, sums, n * sizeof *sums);
    if (c->codes) check_codes(c, &b);
}

TEST(k_norm_of_whole_rows_of_any_length) {
    static const uint32_t cols[] = {1, 31, 32, 33, 100, 257, 1500}, rows[] = {1, 3, 17};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 7; i++) {
            op_norm norm = {.kind = i % 2 == 0 ? NORM_RMS : NORM_LAYER,
                            .group = cols[i],
                            .eps = 1e-5f,
                            .gain = yes,
                            .bias = i % 3 == 0 ? yes : NULL,
                            .gain_len = cols[i]};
            if (cols[i] == 1) norm.eps = 1; /* the only element is its own mean */
            check_norm(arch, &(norm_case){.norm = norm,
                                          .rows = rows[i % 3],
                                          .cols = cols[i],
                                          .add = i % 2 == 1,
                                          .in_shared = i % 3 != 1});
        }
    }
    rig_done();
}

TEST(k_norm_of_groups_with_gains_of_the_group_or_of_the_row) {
    static const uint32_t group[] = {1, 8, 33, 64, 1300}, count[] = {600, 5, 9, 12, 2};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 10; i++) {
            uint32_t g = group[i / 2], cols = g * count[i / 2];
            op_norm norm = {.kind = i < 5 ? NORM_LAYER : NORM_RMS,
                            .group = g,
                            .eps = 1e-3f,
                            .gain = yes,
                            .bias = yes,
                            .gain_len = i % 2 == 0 ? g : cols};
            check_norm(arch, &(norm_case){.norm = norm,
                                          .rows = 2,
                                          .cols = cols,
                                          .add = i % 3 == 0,
                                          .sum_in_place = i % 4 == 0,
                                          .in_shared = i % 3 == 1});
        }
    }
    rig_done();
}

TEST(k_norm_adds_and_quantizes_at_once) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t cols = i == 3 ? 1088 : 96;
            op_norm norm = {.kind = NORM_RMS,
                            .group = i == 2 ? 48 : cols,
                            .eps = 1e-6f,
                            .gain = yes,
                            .gain_len = cols};
            check_norm(arch, &(norm_case){.norm = norm,
                                          .rows = 3,
                                          .cols = cols,
                                          .add = true,
                                          .sum_in_place = i != 1,
                                          .in_shared = i % 2 == 0,
                                          .codes = true});
        }
    }
    rig_done();
}

/* A row alone, in a batch, in shared memory or not: the same bits, and out may be x. */
TEST(k_norm_gives_a_row_the_same_bits_everywhere) {
    enum { ROWS = 3, COLS = 1300 };
    RIG_EACH(arch) {
        norm_case c = {.norm = {.kind = NORM_LAYER,
                                .group = COLS,
                                .eps = 1e-5f,
                                .gain = yes,
                                .gain_len = COLS},
                       .rows = ROWS,
                       .cols = COLS,
                       .add = true,
                       .in_shared = true};
        norm_buffers b = make_buffers(&c);
        k_norm_args a = args_of(&c, &b);
        rig_run(arch, "k_norm", &a, ROWS, 1, 256, 4 * COLS);
        k_norm_args alone = a;
        float *in_place = rig_copy(b.x + 2 * COLS, COLS * sizeof(float));
        alone.x = alone.out = rig_at(in_place);
        alone.add = a.add + 2 * COLS * sizeof(float);
        alone.count = rig_count(1);
        alone.in_shared = 0;
        rig_run(arch, "k_norm", &alone, 1, 1, 256, 0);
        rig_same(in_place, b.out + 2 * COLS, COLS * sizeof(float));
    }
    rig_done();
}
