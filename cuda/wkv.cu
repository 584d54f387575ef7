/* wkv.cu - the recurrence of RWKV-6: a matrix of states per head, row by row.
 *
 *   out = r . (S + first * k^T v);  S = decay * S + k^T v        (backend/program.h, pg_wkv)
 *
 * A block has one head of one run, a thread one column of S (an element of v and of out).  It keeps
 * WKV_STATES of the column in registers and takes all rows of the run with them, then the next ones
 * in the same way; `out` gathers the sums.  r, k, decay and first of some rows wait in shared
 * memory for all columns. */
#include "ck_math.h"

enum {
    THREADS = 128,
    WKV_STATES = 16, /* of a column, in registers */
    WKV_ROWS = 8,    /* in shared memory */
};

/* What one row has for one state: read at once. */
enum { OF_R, OF_K, OF_DECAY, OF_FIRST, OF_COUNT };
typedef struct alignas(16) wkv_item {
    float of[OF_COUNT];
} wkv_item;

/* Zeros behind the last state. */
typedef struct wkv_row {
    wkv_item state[WKV_STATES];
} wkv_row;

/* A head of a run: `at` is where the head's elements of the run's first row are. */
typedef struct wkv_head {
    uint64_t at, state;
    uint32_t stride, first_at; /* from row to row; the head's elements of `first` */
    uint32_t rows;
    bool is_new; /* the sequence begins: no state to read */
} wkv_head;

CK_DEV wkv_head head_of(const k_wkv_args &a, uint32_t head, uint32_t i) {
    const uint32_t *run = (const uint32_t *)a.state.runs + (uint64_t)i * 4; /* ck_run */
    uint32_t row0 = ck_ld(run), rows = ck_ld(run + 1), seat = ck_ld(run + 2), pos0 = ck_ld(run + 3);
    wkv_head h;
    h.stride = a.heads * a.dim;
    h.first_at = head * a.dim;
    h.at = (uint64_t)row0 * h.stride + h.first_at;
    h.state = seat * a.state.stride + a.state.offset + (uint64_t)h.first_at * a.dim;
    h.rows = rows;
    h.is_new = pos0 == 0;
    return h;
}

CK_DEV void take_rows(const k_wkv_args &a, const wkv_head &h, uint32_t row, uint32_t rows,
                      uint32_t state0, wkv_row *out) {
    uint32_t which = ck_tid / WKV_STATES % OF_COUNT, i = ck_tid % WKV_STATES;
    const float *from = (const float *)(which == OF_R ? a.r : which == OF_K ? a.k : a.decay);
#pragma unroll 1
    for (uint32_t r = ck_tid / (OF_COUNT * WKV_STATES); r < rows;
         r += THREADS / (OF_COUNT * WKV_STATES)) {
        float *to = &out[r].state[i].of[which];
        if (state0 + i >= a.dim)
            *to = 0;
        else if (which == OF_FIRST)
            *to = ck_ld((const float *)a.first + h.first_at + state0 + i);
        else
            *to = ck_ld(from + h.at + (uint64_t)(row + r) * h.stride + state0 + i);
    }
}

/* One row of one column with WKV_STATES of its states. */
CK_DEV float step(const wkv_row &w, float v, float *s, float sum) {
#pragma unroll
    for (uint32_t i = 0; i < WKV_STATES; i++) {
        wkv_item item = w.state[i];
        float kv = item.of[OF_K] * v;
        sum = ck_fma(item.of[OF_R], ck_fma(item.of[OF_FIRST], kv, s[i]), sum);
        s[i] = ck_fma(item.of[OF_DECAY], s[i], kv);
    }
    return sum;
}

/* Column j with states state0 .. state0 + WKV_STATES - 1; threads without a column come along. */
CK_DEV void walk(const k_wkv_args &a, const wkv_head &h, uint32_t j, uint32_t state0,
                 wkv_row *rows) {
    bool has_col = j < a.dim;
    float *state = (float *)a.state.states + h.state + (uint64_t)state0 * a.dim + j, s[WKV_STATES];
    uint32_t stored = has_col ? ck_min_u(a.dim - state0, WKV_STATES) : 0;
    uint32_t kept = h.is_new ? 0 : stored;
#pragma unroll
    for (uint32_t i = 0; i < WKV_STATES; i++) {
        s[i] = i < kept ? ck_ld(state + (uint64_t)i * a.dim) : 0;
    }
#pragma unroll 1
    for (uint32_t done = 0; done < h.rows; done += WKV_ROWS) {
        uint32_t n = ck_min_u(h.rows - done, WKV_ROWS);
        take_rows(a, h, done, n, state0, rows);
        ck_sync();
#pragma unroll 1
        for (uint32_t r = 0; r < n; r++) {
            uint64_t at = h.at + (uint64_t)(done + r) * h.stride + j;
            float v = has_col ? ck_ld((const float *)a.v + at) : 0, sum = 0;
            if (has_col && state0 > 0) sum = ck_ld((const float *)a.out + at);
            sum = step(rows[r], v, s, sum);
            if (has_col) ck_st((float *)a.out + at, sum);
        }
        ck_sync();
    }
#pragma unroll
    for (uint32_t i = 0; i < WKV_STATES; i++)
        if (i < stored) ck_st(state + (uint64_t)i * a.dim, s[i]);
}

CK_KERNEL(k_wkv, 128) {
    CK_SHARED(wkv_row, rows, WKV_ROWS);
    if (ck_bid_y >= ck_ld((const uint32_t *)a.count)) return;
    wkv_head h = head_of(a, ck_bid_x, ck_bid_y);
    for (uint32_t j0 = 0; j0 < a.dim; j0 += THREADS)
#pragma unroll 1
        for (uint32_t state0 = 0; state0 < a.dim; state0 += WKV_STATES)
            walk(a, h, j0 + ck_tid, state0, rows);
}
