/* test_k_rope.c - the table of angles, and the turning of heads, against the reference. */
#include <math.h>

#include "cudasim/oracle.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

typedef struct rope_case {
    uint32_t rows, heads, head_dim, first, dims;
    rope_pairs pairs;
    float magnitude;
    uint32_t pos0;
} rope_case;

static const rope_case cases[] = {
    {1, 1, 2, 0, 2, ROPE_HALVES, 1, 0},
    {3, 2, 64, 0, 64, ROPE_HALVES, 1, 100},
    {3, 3, 64, 0, 64, ROPE_ADJACENT, 1.25f, 131071},
    {17, 2, 33, 0, 32, ROPE_HALVES, 1, 7},
    {2, 1, 80, 16, 32, ROPE_ADJACENT, 1, 1000000},
    {2, 2, 300, 10, 290, ROPE_HALVES, 0.5f, 9999990},
    {3, 2, 192, 128, 64, ROPE_ADJACENT, 1, 40},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static double *frequencies(uint32_t pairs) {
    double *f = rig_buffer(pairs * sizeof *f);
    for (uint32_t i = 0; i < pairs; i++) f[i] = pow(10000, -(double)i / pairs);
    return f;
}

/* The step's positions, and the table made of them. */
static float *make_table(int arch, const rope_case *c, const double *freqs) {
    uint32_t pairs = c->dims / 2;
    float *table = rig_buffer((size_t)c->rows * pairs * 2 * sizeof *table);
    uint32_t *pos = rig_buffer(c->rows * sizeof *pos);
    for (uint32_t r = 0; r < c->rows; r++) pos[r] = c->pos0 + r;
    k_rope_table_args a = {.pos = rig_at(pos),
                           .freqs = rig_at(freqs),
                           .table = rig_at(table),
                           .count = rig_count(c->rows),
                           .pairs = pairs,
                           .magnitude = c->magnitude};
    rig_run(arch, "k_rope_table", &a, (pairs + 63) / 64, c->rows + 1, 64, 0);
    return table;
}

TEST(k_rope_table_is_cosine_and_sine_of_position_times_frequency) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < CASES; i++) {
            const rope_case *c = &cases[i];
            uint32_t pairs = c->dims / 2;
            double *freqs = frequencies(pairs), worst = 0;
            float *table = make_table(arch, c, freqs);
            for (uint32_t at = 0; at < c->rows * pairs; at++) {
                double angle = (double)(c->pos0 + at / pairs) * freqs[at % pairs];
                double m = (double)c->magnitude;
                worst = fmax(worst, fabs((double)table[2 * at] - m * cos(angle)));
                worst = fmax(worst, fabs((double)table[2 * at + 1] - m * sin(angle)));
            }
            CHECK(worst <= 1.3e-7);
        }
    }
    rig_done();
}

static void check_rope(int arch, const rope_case *c, bool in_place) {
    uint32_t cols = c->heads * c->head_dim;
    size_t n = (size_t)c->rows * cols;
    double *freqs = frequencies(c->dims / 2);
    float *x = rig_buffer(n * sizeof *x), *out = in_place ? x : rig_buffer(n * sizeof *x);
    rig_fill(x, n, 2);
    oracle_begin(c->rows);
    oracle_runs(&(batch_run){0, c->rows, 0, c->pos0}, 1);
    op_rope rope = {c->heads, c->head_dim, c->first, c->dims, c->pairs, freqs, c->magnitude};
    const float *want = oracle_end(pg_rope(oracle_program(), oracle_input(x, cols), rope));
    k_rope_args a = {.x = rig_at(x),
                     .out = rig_at(out),
                     .rope = {.table = rig_at(make_table(arch, c, freqs)),
                              .head_dim = c->head_dim,
                              .first = c->first,
                              .dims = c->dims,
                              .halves = c->pairs == ROPE_HALVES},
                     .count = rig_count(c->rows),
                     .heads = c->heads};
    rig_run(arch, "k_rope", &a, c->heads, c->rows + 1, 128, 0);
    rig_near(out, want, n, 1e-6);
}

TEST(k_rope_turns_every_kind_of_pair) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < CASES; i++) {
            check_rope(arch, &cases[i], false);
            check_rope(arch, &cases[i], true);
        }
    }
    rig_done();
}
