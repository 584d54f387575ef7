/* test_k_state.c - convolution, scan, shift and RWKV-6: results and states against the reference,
 * and a prompt in pieces against the whole prompt, bit by bit. */
#include <math.h>

#include "cudasim/oracle.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

enum { SEATS = 4, INPUTS = 4 };

/* States and results of about 1, after up to 17 rows. */
static const double NEAR = 3e-6;

typedef enum state_kind { CONV, SCAN, SHIFT, WKV } state_kind;

typedef struct state_case {
    state_kind kind;
    uint32_t cols, width; /* WKV: cols = heads * width */
    bool bias;
} state_case;

typedef struct state_rig {
    const state_case *c;
    uint32_t rows;
    float *x[INPUTS]; /* SCAN: x, dt, B, C; WKV: r, k, v, decay */
    float *w, *bias, *out;
    float *states; /* [SEATS, stride], the op's piece at offset */
    uint32_t stride, offset, floats;
} state_rig;

static const batch_run some_runs[] = {{0, 11, 2, 0}, {11, 1, 0, 5}, {12, 2, 3, 900}, {14, 3, 1, 0}};
enum { RUNS = 4, ROWS = 17 };

static uint32_t input_cols(const state_case *c, uint32_t i) {
    return c->kind == SCAN && i >= 2 ? c->width : c->cols;
}

static uint32_t state_floats(const state_case *c) {
    if (c->kind == CONV) return (c->width - 1) * c->cols;
    return c->kind == SHIFT ? c->cols : c->cols * c->width;
}

static float *filled(size_t count, float scale) {
    float *x = rig_buffer(count * sizeof *x);
    rig_fill(x, count, scale);
    return x;
}

static state_rig make_rig(const state_case *c, uint32_t rows) {
    state_rig s = {.c = c, .rows = rows, .offset = 5, .floats = state_floats(c)};
    s.stride = s.offset + s.floats + 3;
    for (uint32_t i = 0; i < INPUTS; i++) s.x[i] = filled((size_t)rows * input_cols(c, i), 1);
    s.w = filled((size_t)c->cols * (c->width + 1), 1);
    s.bias = filled(c->cols, 1);
    s.out = rig_buffer((size_t)rows * c->cols * sizeof(float));
    s.states = filled((size_t)SEATS * s.stride, 1);
    size_t n = (size_t)rows * c->cols;
    if (c->kind == SCAN) { /* A below 0 and dt above: states shrink */
        for (size_t i = 0; i < (size_t)c->cols * c->width; i++) s.w[i] = -4 * fabsf(s.w[i]);
        for (size_t i = 0; i < n; i++) s.x[1][i] = fabsf(s.x[1][i]);
    }
    for (size_t i = 0; i < n && c->kind == WKV; i++) s.x[3][i] = fabsf(s.x[3][i]); /* decays */
    return s;
}

/* Launches the kernel for rows row0 .. of the rig, as `runs` says. */
static void launch(int arch, const state_rig *s, uint32_t row0, const batch_run *runs,
                   uint32_t count) {
    const state_case *c = s->c;
    ck_state state = {.states = rig_at(s->states),
                      .runs = rig_at(rig_copy(runs, count * sizeof *runs)),
                      .stride = s->stride,
                      .offset = s->offset};
    uint64_t in[INPUTS], n = rig_count(count), out = rig_at(s->out + (size_t)row0 * c->cols);
    for (uint32_t i = 0; i < INPUTS; i++) in[i] = rig_at(s->x[i] + (size_t)row0 * input_cols(c, i));
    uint32_t blocks = (c->cols + 127) / 128;
    uint64_t w = rig_at(s->w), bias = c->bias ? rig_at(s->bias) : 0;
    if (c->kind == CONV) {
        k_conv_args a = {state, in[0], w, bias, out, n, c->cols, c->width};
        rig_run(arch, "k_conv", &a, blocks, count + 1, 128, 0);
    } else if (c->kind == SCAN) {
        k_scan_args a = {state,           in[0], in[1], in[2],   in[3],   w,
                         rig_at(s->bias), out,   n,     c->cols, c->width};
        rig_run(arch, "k_scan", &a, blocks, count + 1, 128, 0);
    } else if (c->kind == SHIFT) {
        k_shift_args a = {state, in[0], out, n, c->cols, 0};
        rig_run(arch, "k_shift", &a, blocks, count + 1, 128, 0);
    } else {
        k_wkv_args a = {state, in[0], in[1], in[2], in[3], w, out, n, c->cols / c->width, c->width};
        rig_run(arch, "k_wkv", &a, c->cols / c->width, count + 1, 128, 0);
    }
}

static value_id oracle_value(const state_rig *s) {
    const state_case *c = s->c;
    program *p = oracle_program();
    value_id v[INPUTS];
    for (uint32_t i = 0; i < INPUTS; i++) v[i] = oracle_input(s->x[i], input_cols(c, i));
    switch (c->kind) {
    case CONV:
        return pg_conv(p, v[0], s->w, c->bias ? s->bias : NULL, c->width);
    case SCAN:
        return pg_scan(p, v[0], v[1], v[2], v[3], s->w, s->bias, c->width);
    case SHIFT:
        return pg_shift(p, v[0]);
    case WKV:
        return pg_wkv(p, v[0], v[1], v[2], v[3], s->w, c->width);
    }
    return v[0];
}

/* Some sequences at once; what is around the piece of a state stays as it was. */
static void check_state(int arch, const state_case *c) {
    state_rig s = make_rig(c, ROWS);
    float *states = rig_copy(s.states, (size_t)SEATS * s.stride * sizeof *states);
    float *wanted = rig_copy(states, (size_t)SEATS * s.stride * sizeof *states);
    float *pieces = rig_buffer((size_t)SEATS * s.floats * sizeof *pieces);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        memcpy(pieces + (size_t)seat * s.floats, states + (size_t)seat * s.stride + s.offset,
               s.floats * sizeof(float));
    oracle_begin(ROWS);
    oracle_runs(some_runs, RUNS);
    oracle_batch()->in.states = pieces;
    const float *want = oracle_end(oracle_value(&s));
    for (uint32_t seat = 0; seat < SEATS; seat++)
        memcpy(wanted + (size_t)seat * s.stride + s.offset, pieces + (size_t)seat * s.floats,
               s.floats * sizeof(float));
    launch(arch, &s, 0, some_runs, RUNS);
    rig_near(s.out, want, (size_t)ROWS * c->cols, NEAR * (c->kind == WKV ? 10 : 1));
    rig_near(s.states, wanted, (size_t)SEATS * s.stride, NEAR);
}

/* The same rows in pieces of 1, 2, 4 and the rest. */
static void check_pieces(int arch, const state_case *c) {
    state_rig s = make_rig(c, ROWS);
    batch_run whole = {0, ROWS, 1, 0};
    launch(arch, &s, 0, &whole, 1);
    float *out = rig_copy(s.out, (size_t)ROWS * c->cols * sizeof *out);
    float *states = rig_copy(s.states, (size_t)SEATS * s.stride * sizeof *states);
    for (uint32_t row = 0, n = 1; row < ROWS; row += n, n *= 2) {
        uint32_t left = ROWS - row;
        launch(arch, &s, row, &(batch_run){0, n < left ? n : left, 1, row}, 1);
    }
    rig_same(s.out, out, (size_t)ROWS * c->cols * sizeof *out);
    rig_same(s.states, states, (size_t)SEATS * s.stride * sizeof *states);
}

static void check_cases(const state_case *cases, size_t count) {
    RIG_EACH(arch) {
        for (size_t i = 0; i < count; i++) {
            check_state(arch, &cases[i]);
            check_pieces(arch, &cases[i]);
        }
    }
    rig_done();
}

TEST(k_conv_carries_the_last_rows) {
    static const state_case cases[] = {{CONV, 100, 4, true},
                                       {CONV, 257, 4, false},
                                       {CONV, 3, 1, true},
                                       {CONV, 33, 2, false},
                                       {CONV, 31, 20, true}};
    check_cases(cases, 5);
}

TEST(k_scan_carries_a_state_per_column) {
    static const state_case cases[] = {
        {SCAN, 100, 16, true}, {SCAN, 257, 5, true}, {SCAN, 1, 1, true}, {SCAN, 33, 40, true}};
    check_cases(cases, 4);
}

TEST(k_shift_carries_the_last_row) {
    static const state_case cases[] = {{SHIFT, 1, 1, false}, {SHIFT, 130, 1, false}};
    check_cases(cases, 2);
}

TEST(k_wkv_carries_a_matrix_per_head) {
    static const state_case cases[] = {
        {WKV, 128, 64, false}, {WKV, 66, 33, false}, {WKV, 3, 1, false}, {WKV, 140, 140, false}};
    check_cases(cases, 4);
}
