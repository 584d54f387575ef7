/* gemm.h - products of a weight matrix with the rows of prompts, on tensor cores: what all forms
 * share.
 *
 * out[r] = x[r] . w^T + bias + add[r] of k_gemv_args, for the rows count[0] .. count[1] - 1.
 *
 *   block   CK_GEMM_THREADS threads: CK_GEMM_TILE rows of w by as many of x, of which each of the 4
 *           warps has a quarter, 32 by 32, as 2 by 4 products of m16n8
 *   chunk   64 bytes of each row: what lies in shared memory at a time, in two steps of 32 bytes.
 *           A thread brings half of a row of w and half of one of x: the next chunk is on its way
 *           into registers while this one is multiplied
 *   end     a lane has the sums of 2 by 2 elements of each m16n8; it adds bias and add
 *
 * Weights are read and unpacked once for CK_GEMM_TILE rows of x.  Blocks next to each other have
 * the same rows of w, so that these come from memory once for all rows of x.
 *
 * What a row of x gives is the same bits wherever it stands and whatever stands beside it: an
 * element is one sum in ascending order of columns, and nothing depends on how many rows there are.
 * Past the ends: a row of w or x that is not there is read as the last one and not stored; steps
 * beyond the columns are left out.
 *
 * A row in shared memory is four granules of 16 bytes.  Granule j of row r lies at place
 * j ^ (r / 2 % 4): the 8 rows that ldmatrix reads at once are in different banks, and so is what 8
 * neighbouring threads write.
 *
 * A form is a struct (gemm_codes.h, gemm_halves.cu):
 *   job                           what a thread knows of its rows; begin(job, a, w_row, x_row)
 *   steps(cols)                   how many of 32 bytes a row has
 *   shared                        shared memory beside the rows
 *   load(job, chunk)              half of a row of w and of x, into the job; half is ck_tid % 2
 *   put(job, chunk, rows, shared) from there into shared memory
 *   multiply(acc, a, b, shared, place)    one step of one m16n8 */
#ifndef CUDA_GEMM_H
#define CUDA_GEMM_H
#include "ck_fma.h"

enum {
    GEMM_ROW_BYTES = 64,  /* of a chunk */
    GEMM_STEP_BYTES = 32, /* that an MMA multiplies */
    GEMM_STEPS = GEMM_ROW_BYTES / GEMM_STEP_BYTES,
    GEMM_WARP = 32, /* rows of w, and of x, of a warp */
    GEMM_M = 16,    /* rows of w of an MMA */
    GEMM_N = 8,     /* rows of x of it */
    GEMM_MS = GEMM_WARP / GEMM_M,
    GEMM_NS = GEMM_WARP / GEMM_N
};

typedef struct alignas(16) gemm_granule {
    ck_u4 words;
} gemm_granule;

/* The same chunk of all rows of the block. */
typedef struct gemm_rows {
    gemm_granule w[CK_GEMM_TILE * GEMM_ROW_BYTES / 16];
    gemm_granule x[CK_GEMM_TILE * GEMM_ROW_BYTES / 16];
} gemm_rows;

/* Of a step: where the lane's elements of the current m16n8 are in the tile. */
typedef struct gemm_place {
    uint32_t step; /* of the chunk */
    uint32_t w;    /* rows w and w + 8 of w ... */
    uint32_t x;    /* ... with rows x and x + 1 of x: c[0], c[1], then c[2], c[3] */
} gemm_place;

CK_DEV uint32_t gemm_at(uint32_t row, uint32_t granule) {
    return row * (GEMM_ROW_BYTES / 16) + (granule ^ (row / 2 % 4));
}

/* This thread's rows of the tile, one of w and one of x, and its half of them. */
CK_DEV uint32_t gemm_thread_row() { return ck_tid / 2; }
CK_DEV uint32_t gemm_half() { return ck_tid % 2; }

CK_DEV void gemm_put(gemm_granule *rows, uint32_t granule, ck_u4 words) {
    rows[gemm_at(gemm_thread_row(), granule)].words = words;
}

/* --- fragments -------------------- */

/* The first row of w, and of x, of this warp. */
CK_DEV uint32_t gemm_warp_w() { return ck_warp() % 2 * GEMM_WARP; }
CK_DEV uint32_t gemm_warp_x() { return ck_warp() / 2 * GEMM_WARP; }

/* a of 16 rows from `row` on. */
CK_DEV void gemm_load_a(uint32_t a[4], const gemm_granule *rows, uint32_t row, uint32_t step) {
    const uint32_t lane = ck_lane();
    ck_ldmatrix_x4(a, &rows[gemm_at(row + lane % 16, step * 2 + lane / 16)]);
}

/* b of 8 rows from `row` on, and of the next 8. */
CK_DEV void gemm_load_b(uint32_t b[4], const gemm_granule *rows, uint32_t row, uint32_t step) {
    const uint32_t lane = ck_lane();
    ck_ldmatrix_x4(b, &rows[gemm_at(row + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2)]);
}

/* --- the loop -------------------- */

typedef struct gemm_sums {
    float acc[GEMM_MS][GEMM_NS][4];
} gemm_sums;

template <typename form>
CK_DEV void gemm_step(gemm_sums &s, const gemm_rows &rows, const typename form::shared &shared,
                      uint32_t step) {
    uint32_t a[GEMM_MS][4], b[GEMM_NS / 2][4];
#pragma unroll
    for (uint32_t m = 0; m < GEMM_MS; m++)
        gemm_load_a(a[m], rows.w, gemm_warp_w() + m * GEMM_M, step);
#pragma unroll
    for (uint32_t n = 0; n < GEMM_NS / 2; n++)
        gemm_load_b(b[n], rows.x, gemm_warp_x() + n * 2 * GEMM_N, step);
#pragma unroll
    for (uint32_t n = 0; n < GEMM_NS; n++)
#pragma unroll
        for (uint32_t m = 0; m < GEMM_MS; m++) {
            const gemm_place at = {step, gemm_warp_w() + m * GEMM_M + ck_lane() / 4,
                                   gemm_warp_x() + n * GEMM_N + ck_lane() % 4 * 2};
            form::multiply(s.acc[m][n], a[m], &b[n / 2][n % 2 * 2], shared, at);
        }
}

template <typename form>
CK_DEV void gemm_walk(gemm_sums &s, typename form::job &job, uint32_t steps, gemm_rows &rows,
                      typename form::shared &shared) {
    const uint32_t chunks = (steps + GEMM_STEPS - 1) / GEMM_STEPS;
    form::load(job, 0);
#pragma unroll 1
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        form::put(job, chunk, rows, shared);
        ck_sync();
        if (chunk + 1 < chunks) form::load(job, chunk + 1);
#pragma unroll
        for (uint32_t step = 0; step < GEMM_STEPS; step++)
            if (chunk * GEMM_STEPS + step < steps) gemm_step<form>(s, rows, shared, step);
        ck_sync();
    }
}

/* --- the end -------------------- */

CK_DEV void gemm_store(const gemm_sums &s, const k_gemv_args &a, uint32_t w_row, uint32_t x_row,
                       uint32_t x_end) {
#pragma unroll
    for (uint32_t m = 0; m < GEMM_MS; m++)
#pragma unroll
        for (uint32_t n = 0; n < GEMM_NS; n++)
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t row = w_row + gemm_warp_w() + m * GEMM_M + ck_lane() / 4 + i / 2 * 8;
                const uint32_t r = x_row + gemm_warp_x() + n * GEMM_N + ck_lane() % 4 * 2 + i % 2;
                if (row >= a.w.rows || r >= x_end) continue;
                const uint64_t at = (uint64_t)r * a.out_stride + row;
                float v = s.acc[m][n][i];
                if (a.bias != 0) v += ck_ld((const float *)a.bias + row);
                if (a.add != 0) v += ck_ld((const float *)a.add + at);
                ck_st((float *)a.out + at, v);
            }
}

CK_DEV uint32_t gemm_there(uint32_t row, uint32_t rows) { return row < rows ? row : rows - 1; }

template <typename form> CK_DEV void gemm_kernel(const k_gemv_args &a, uint32_t tile) {
    CK_SHARED(gemm_rows, rows, 1);
    CK_SHARED(typename form::shared, shared, 1);
    const uint32_t x_end = ck_ld((const uint32_t *)a.count + 1);
    const uint32_t x_row = ck_ld((const uint32_t *)a.count) + ck_bid_x * CK_GEMM_TILE;
    const uint32_t w_row = tile * CK_GEMM_TILE;
    if (x_row >= x_end) return;
    typename form::job job = {};
    form::begin(job, a, gemm_there(w_row + gemm_thread_row(), a.w.rows),
                gemm_there(x_row + gemm_thread_row(), x_end));
    gemm_sums s = {};
    gemm_walk<form>(s, job, form::steps(a.w.cols), rows[0], shared[0]);
    gemm_store(s, a, w_row, x_row, x_end);
}

/* The tiles of one product after those of another. */
template <typename form> CK_DEV void gemms_kernel(const k_gemvs_args &a) {
    uint32_t tile = ck_bid_y, i = 0;
#pragma unroll 1
    for (; i + 1 < CK_GEMVS_MAX; i++) {
        const uint32_t tiles = (a.of[i].w.rows + CK_GEMM_TILE - 1) / CK_GEMM_TILE;
        if (tile < tiles) break;
        tile -= tiles;
    }
    gemm_kernel<form>(a.of[i], tile);
}

/* Blocks on an SM: 4 leave 128 registers to each thread, 3 leave 168. */
#define GEMM_KERNELS_EACH(name, blocks, together)                            \
    CK_KERNEL_FEW(k_gemm_##name, k_gemv_args, CK_GEMM_THREADS, blocks) {     \
        gemm_kernel<gemm_##name>(a, ck_bid_y);                               \
    }                                                                        \
    CK_KERNEL_FEW(k_gemms_##name, k_gemvs_args, CK_GEMM_THREADS, together) { \
        gemms_kernel<gemm_##name>(a);                                        \
    }
#define GEMM_KERNELS(name, blocks) GEMM_KERNELS_EACH(name, blocks, blocks)

#endif
