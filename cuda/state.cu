/* state.cu - layers that carry a state from row to row: convolution, selective scan, token shift.
 *
 * A thread has one column of one run and takes the run's rows in order.  A state is f32 and rounded
 * after every row, so a prompt cut into chunks leaves the same bits as the whole prompt. */
#include "ck_math.h"

enum {
    THREADS = 128,
    SCAN_STATES = 16, /* of a column, in registers */
    SCAN_ROWS = 8,    /* of B and C, in shared memory */
};

CK_DEV float *state_at(const ck_state &s, ck_run run) {
    return (float *)s.states + run.seat * s.stride + s.offset;
}

CK_DEV ck_run run_at(const ck_state &s, uint32_t i) {
    const uint32_t *at = (const uint32_t *)s.runs + (uint64_t)i * 4;
    return {ck_ld(at), ck_ld(at + 1), ck_ld(at + 2), ck_ld(at + 3)};
}

CK_DEV bool has_run(uint64_t count) { return ck_bid_y < ck_ld((const uint32_t *)count); }

/* --- convolution -------------------- */

/* Input `at` of the column, counted from the run's first row; those before it are the state's, and
 * zeros where the sequence begins. */
CK_DEV float conv_input(const k_conv_args &a, ck_run run, const float *state, uint32_t c, int at) {
    if (at >= 0) return ck_ld((const float *)a.x + (uint64_t)(run.row0 + at) * a.cols + c);
    return run.pos0 == 0 ? 0 : ck_ld(state + (uint64_t)(at + (int)a.width - 1) * a.cols + c);
}

CK_KERNEL(k_conv, 128) {
    uint32_t c = ck_bid_x * THREADS + ck_tid;
    if (!has_run(a.count) || c >= a.cols) return;
    ck_run run = run_at(a.state, ck_bid_y);
    float *state = state_at(a.state, run);
    const float *w = (const float *)a.w + (uint64_t)c * a.width;
    float bias = a.bias != 0 ? ck_ld((const float *)a.bias + c) : 0;
    int rows = (int)run.rows, kept = (int)a.width - 1;
    for (int r = 0; r < rows; r++) {
        float sum = bias;
        for (int i = 0; i <= kept; i++)
            sum = ck_fma(ck_ld(w + i), conv_input(a, run, state, c, r - kept + i), sum);
        ck_st((float *)a.out + (uint64_t)(run.row0 + r) * a.cols + c, sum);
    }
    /* upwards: a short run keeps some of the old rows, read before they are overwritten */
    for (int k = 0; k < kept; k++)
        ck_st(state + (uint64_t)k * a.cols + c, conv_input(a, run, state, c, rows - kept + k));
}

/* --- selective scan -------------------- */

/* B and C of some rows, for some states: zeros behind the last state. */
typedef struct scan_gates {
    float b[SCAN_ROWS][SCAN_STATES], c[SCAN_ROWS][SCAN_STATES];
} scan_gates;

CK_DEV void take_gates(const k_scan_args &a, uint32_t row, uint32_t rows, uint32_t first,
                       scan_gates *out) {
    for (uint32_t i = ck_tid; i < rows * SCAN_STATES; i += THREADS) {
        uint32_t r = i / SCAN_STATES, s = i % SCAN_STATES;
        uint64_t at = (uint64_t)(row + r) * a.states + first + s;
        bool is_state = first + s < a.states;
        out->b[r][s] = is_state ? ck_ld((const float *)a.b + at) : 0;
        out->c[r][s] = is_state ? ck_ld((const float *)a.c + at) : 0;
    }
}

/* One row of one column with SCAN_STATES of its states; `decay` is A / ln 2. */
CK_DEV float scan_row(const float *b, const float *c, float x, float dt, const float *decay,
                      float *h, float sum) {
#pragma unroll
    for (uint32_t s = 0; s < SCAN_STATES; s++) {
        h[s] = ck_fma(ck_ex2(dt * decay[s]), h[s], dt * b[s] * x);
        sum = ck_fma(c[s], h[s], sum);
    }
    return sum;
}

/* Rows of the run with states first .. first + SCAN_STATES - 1: what they give is added to `out`,
 * where the first states begin with D * x. */
CK_DEV void scan_states(const k_scan_args &a, ck_run run, uint32_t c, uint32_t first,
                        scan_gates *gates) {
    bool has_col = c < a.cols;
    float *state = state_at(a.state, run) + (uint64_t)c * a.states + first;
    const float *a_row = (const float *)a.a + (uint64_t)c * a.states + first;
    float d = has_col ? ck_ld((const float *)a.d + c) : 0;
    float h[SCAN_STATES], decay[SCAN_STATES];
#pragma unroll
    for (uint32_t s = 0; s < SCAN_STATES; s++) {
        bool has_state = has_col && first + s < a.states;
        h[s] = has_state && run.pos0 != 0 ? ck_ld(state + s) : 0;
        decay[s] = has_state ? ck_ld(a_row + s) * 1.44269504f : 0;
    }
    for (uint32_t done = 0; done < run.rows; done += SCAN_ROWS) {
        uint32_t rows = ck_min_u(run.rows - done, SCAN_ROWS);
        take_gates(a, run.row0 + done, rows, first, gates);
        ck_sync();
#pragma unroll 1
        for (uint32_t r = 0; r < rows; r++) {
            uint64_t at = (uint64_t)(run.row0 + done + r) * a.cols + c;
            float x = has_col ? ck_ld((const float *)a.x + at) : 0;
            float dt = has_col ? ck_ld((const float *)a.dt + at) : 0;
            float sum = d * x;
            if (has_col && first > 0) sum = ck_ld((const float *)a.out + at);
            sum = scan_row(gates->b[r], gates->c[r], x, dt, decay, h, sum);
            if (has_col) ck_st((float *)a.out + at, sum);
        }
        ck_sync();
    }
#pragma unroll
    for (uint32_t s = 0; s < SCAN_STATES; s++)
        if (has_col && first + s < a.states) ck_st(state + s, h[s]);
}

CK_KERNEL(k_scan, 128) {
    CK_SHARED(scan_gates, gates, 1);
    if (!has_run(a.count)) return;
    ck_run run = run_at(a.state, ck_bid_y);
    for (uint32_t first = 0; first < a.states; first += SCAN_STATES)
        scan_states(a, run, ck_bid_x * THREADS + ck_tid, first, &gates[0]);
}

/* --- token shift -------------------- */

CK_KERNEL(k_shift, 128) {
    uint32_t c = ck_bid_x * THREADS + ck_tid;
    if (!has_run(a.count) || c >= a.cols) return;
    ck_run run = run_at(a.state, ck_bid_y);
    float *state = state_at(a.state, run) + c;
    float last = run.pos0 == 0 ? 0 : ck_ld(state);
    for (uint32_t r = run.row0; r < run.row0 + run.rows; r++) {
        uint64_t at = (uint64_t)r * a.cols + c;
        ck_st((float *)a.out + at, last);
        last = ck_ld((const float *)a.x + at);
    }
    ck_st(state, last);
}
