/* test_cpu_state.c - convolutions, scans, shifts and WKV: what they compute, and that a sequence
 * gives the same bits however it is cut into steps and whoever is beside it.
 *
 * Method: three sequences go through one op in chunks; row 0 of each begins with garbage in its
 * state, which position 0 must wipe out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rig.h"
#include "test.h"

/* backend.h: f32 arithmetic against double; a state's error goes on from row to row. */
static const double state_nmse_max = 1e-11;

enum { TOKENS = 21, TABLE_ROWS = 128, SEATS = 3 };

static int32_t token_of(uint32_t seat, uint32_t pos) {
    return (int32_t)((seat * 31 + pos * 7) % TABLE_ROWS);
}

/* Positions from .. from + rows - 1 of the seats given into out [SEATS, TOKENS, cols]. */
static void step_chunk(const krig_machine *m, backend *b, krig_batch *in, uint32_t from,
                       uint32_t rows, uint32_t seats, float *out, uint32_t cols) {
    in->rows = in->taken_rows = rows * seats;
    ASSERT(in->rows <= RIG_ROWS_MAX);
    for (uint32_t r = 0; r < in->rows; r++) {
        in->seats[r] = seats - 1 - r / rows; /* seats need not come in order */
        in->pos[r] = from + r % rows;
        in->tokens[r] = token_of(in->seats[r], in->pos[r]);
        in->taken[r] = r;
    }
    const float *got = krig_step(m, b, in);
    for (uint32_t r = 0; r < in->rows; r++)
        memcpy(out + ((size_t)in->seats[r] * TOKENS + in->pos[r]) * cols, got + (size_t)r * cols,
               cols * sizeof *out);
}

/* All positions of the first `seats` sequences in chunks; the caller frees. */
static float *run_sequences(const krig_machine *m, const program *p, uint32_t seats,
                            uint32_t chunk) {
    uint32_t cols = krig_cols(p);
    float *out = calloc((size_t)SEATS * TOKENS * cols, sizeof *out);
    krig_batch in;
    backend *b = krig_open(m, p);
    krig_batch_init(&in, 1);
    in.states = malloc(SEATS * p->state_floats * sizeof *in.states);
    memset(in.states, 0x7F, SEATS * p->state_floats * sizeof *in.states);
    for (uint32_t from = 0; from < TOKENS; from += chunk) {
        uint32_t rows = TOKENS - from < chunk ? TOKENS - from : chunk;
        step_chunk(m, b, &in, from, rows, seats, out, cols);
    }
    free(in.states);
    m->ops->close(b);
    return out;
}

static void check_sequences(const program *p, const char *what) {
    size_t one = (size_t)TOKENS * krig_cols(p);
    float *want = run_sequences(&krig_machines[0], p, SEATS, TOKENS), *first = NULL;
    for (int i = 0; i < RIG_MACHINES; i++) {
        const krig_machine *m = &krig_machines[i];
        float *whole = run_sequences(m, p, SEATS, TOKENS), *alone = run_sequences(m, p, 1, 4);
        float *ones = run_sequences(m, p, SEATS, 1), *twos = run_sequences(m, p, SEATS, 2);
        double nmse = krig_nmse(whole, want, one * SEATS);
        bool same = memcmp(whole, ones, one * SEATS * sizeof *whole) == 0 &&
                    memcmp(whole, twos, one * SEATS * sizeof *whole) == 0 &&
                    memcmp(whole, alone, one * sizeof *whole) == 0;
        bool threads = i == 0 || i % 2 == 1 || memcmp(whole, first, one * sizeof *whole) == 0;
        if (!(nmse <= state_nmse_max) || !same || !threads)
            (void)fprintf(stderr, "%s on %s: nmse %g, same bits %d, threads %d\n", what, m->name,
                          nmse, same, threads);
        CHECK(nmse <= state_nmse_max);
        CHECK(same && threads);
        free(alone);
        free(ones);
        free(twos);
        free(first);
        first = whole;
    }
    free(first);
    free(want);
}

static value_id table_value(program *p, krig_weights *list, krig_random *random, uint32_t cols) {
    return pg_embed(p, krig_table(list, random, TABLE_ROWS, cols));
}

TEST(kernel_conv_in_odd_widths) {
    static const uint32_t shapes[][2] = {/* cols, taps */
                                         {1, 1}, {7, 4}, {64, 2}, {65, 3}, {130, 4}, {9, 30}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        krig_random random = {shapes[i][0]};
        krig_weights list = {0};
        uint32_t cols = shapes[i][0], width = shapes[i][1];
        program *p = krig_program(1);
        const float *w = krig_vector(&list, &random, cols * width);
        const float *bias = i % 2 != 0 ? krig_vector(&list, &random, cols) : NULL;
        (void)krig_finish(p, pg_conv(p, table_value(p, &list, &random, cols), w, bias, width));
        check_sequences(p, "conv");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

TEST(kernel_scan_in_odd_widths) {
    static const uint32_t shapes[][2] = {/* cols, states */
                                         {1, 1}, {7, 4}, {64, 16}, {65, 9}, {130, 24}, {5, 13}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        krig_random random = {shapes[i][0] + 1};
        krig_weights list = {0};
        uint32_t cols = shapes[i][0], states = shapes[i][1];
        program *p = krig_program(1);
        float *a = krig_memory(&list, (size_t)cols * states * sizeof *a);
        for (uint32_t k = 0; k < cols * states; k++) a[k] = -expf(2 * krig_uniform(&random));
        value_id x = table_value(p, &list, &random, cols);
        value_id dt =
            pg_act(p, table_value(p, &list, &random, cols), (op_act){.kind = ACT_SOFTPLUS});
        value_id bs = table_value(p, &list, &random, states);
        value_id cs = table_value(p, &list, &random, states);
        const float *d = krig_vector(&list, &random, cols);
        (void)krig_finish(p, pg_scan(p, x, dt, bs, cs, a, d, states));
        check_sequences(p, "scan");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

/* Two of them and their difference: each has a state of its own. */
TEST(kernel_shift_is_the_row_before) {
    static const uint32_t widths[] = {1, 8, 100};
    for (int i = 0; i < 3; i++) {
        krig_random random = {widths[i]};
        krig_weights list = {0};
        program *p = krig_program(1);
        value_id x = table_value(p, &list, &random, widths[i]);
        value_id before = pg_shift(p, x), twice = pg_shift(p, before);
        value_id minus = pg_act(p, before, (op_act){.kind = ACT_SCALE, .a = -2});
        (void)krig_finish(p, pg_add(p, pg_add(p, x, minus), twice));
        check_sequences(p, "shift");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

TEST(kernel_wkv_in_odd_heads) {
    static const uint32_t shapes[][2] = {/* heads, dim */ {1, 1}, {3, 8}, {2, 13}, {2, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        krig_random random = {shapes[i][1]};
        krig_weights list = {0};
        uint32_t cols = shapes[i][0] * shapes[i][1];
        program *p = krig_program(1);
        value_id r = table_value(p, &list, &random, cols);
        value_id k = table_value(p, &list, &random, cols);
        value_id v = table_value(p, &list, &random, cols);
        value_id decay =
            pg_act(p, table_value(p, &list, &random, cols), (op_act){.kind = ACT_EXP_NEG_EXP});
        const float *first = krig_vector(&list, &random, cols);
        (void)krig_finish(p, pg_wkv(p, r, k, v, decay, first, shapes[i][1]));
        check_sequences(p, "wkv");
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}
