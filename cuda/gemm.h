/* gemm.h - products of a weight matrix with the rows of prompts, on tensor cores: what all forms
 * share.
 *
 * out[r] = x[r] . w^T + bias + add[r] of k_gemv_args, for the rows count[0] .. count[1] - 1; and
 * with experts the pairs of such a row and an expert, see below.
 *
 *   block   CK_GEMM_THREADS threads: CK_GEMM_TILE rows of w by as many of x.  Each of the 4 warps
 *           has a quarter, as 8 products of m16n8: 32 by 32, of experts 16 rows of w by all of x
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
 * Of experts a tile is up to CK_GEMM_TILE pairs of one of them, from anywhere in the step, as
 * k_group has sorted them.  Often they are few: then products all of whose rows of x are missing
 * are left out, 16 rows at a time.  All warps have the same rows of x, so what is
 * left keeps all of them busy.  The bits are those of a product alone.
 *
 * A row in shared memory is four granules of 16 bytes.  Granule j of row r lies at place
 * j ^ (r / 2 % 4): the 8 rows that ldmatrix reads at once are in different banks, and so is what 8
 * neighbouring threads write.
 *
 * A form is a struct (gemm_codes.h, gemm_halves.cu):
 *   job                           what a thread knows of its rows; begin(job, in, w_row, x_row)
 *   steps(cols)                   how many of 32 bytes a row has
 *   shared                        shared memory beside the rows
 *   scales                        what a lane needs of it for its rows w and w + 8 of a step;
 *                                 scales_of(shared, step, w)
 *   load(job, chunk)              half of a row of w and of x, into the job; half is ck_tid % 2
 *   put(job, chunk, rows, shared) from there into shared memory
 *   multiply(acc, a, b, scales, shared, step, x)    one step of one m16n8: of rows w and w + 8 of w
 *                                 with rows x and x + 1 of x, c[0] and c[1], then c[2] and c[3] */
#ifndef CUDA_GEMM_H
#define CUDA_GEMM_H
#include "ck_fma.h"

enum {
    GEMM_ROW_BYTES = 64,  /* of a chunk */
    GEMM_STEP_BYTES = 32, /* that an MMA multiplies */
    GEMM_STEPS = GEMM_ROW_BYTES / GEMM_STEP_BYTES,
    GEMM_M = 16, /* rows of w of an MMA */
    GEMM_N = 8,  /* rows of x of it */
    GEMM_PRODUCTS = CK_GEMM_TILE * CK_GEMM_TILE / (CK_GEMM_THREADS / 32 * GEMM_M * GEMM_N)
};

/* How the warps share a tile: MS by NS products each; b of PAIRS times 16 rows of x is in registers
 * at a time. */
typedef struct gemm_square {
    enum { MS = 2, NS = 4, PAIRS = 2 };
    static constexpr bool SKIPS = false;
} gemm_square;
typedef struct gemm_slices {
    enum { MS = 1, NS = 8, PAIRS = 1 };
    static constexpr bool SKIPS = true;
} gemm_slices;

typedef struct alignas(16) gemm_granule {
    ck_u4 words;
} gemm_granule;

/* The same chunk of all rows of the block. */
typedef struct gemm_rows {
    gemm_granule w[CK_GEMM_TILE * GEMM_ROW_BYTES / 16];
    gemm_granule x[CK_GEMM_TILE * GEMM_ROW_BYTES / 16];
} gemm_rows;

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
template <typename warps> CK_DEV uint32_t gemm_warp_w() {
    constexpr uint32_t rows = warps::MS * GEMM_M;
    return ck_warp() % (CK_GEMM_TILE / rows) * rows;
}
template <typename warps> CK_DEV uint32_t gemm_warp_x() {
    constexpr uint32_t rows = warps::MS * GEMM_M;
    return ck_warp() / (CK_GEMM_TILE / rows) * (warps::NS * GEMM_N);
}

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

/* Of a lane: product m, n is the element m * NS + n. */
typedef struct gemm_sums {
    float acc[GEMM_PRODUCTS][4];
} gemm_sums;

/* Of a step: the lane's part of the warp's rows of w. */
template <typename form, typename warps> struct gemm_of_w {
    uint32_t a[warps::MS][4];
    typename form::scales scales[warps::MS];
};

/* b of PAIRS times 16 rows of x from product n0 on, with all of w. */
template <typename form, typename warps>
CK_DEV void gemm_multiply(gemm_sums &s, const gemm_of_w<form, warps> &w, const gemm_rows &rows,
                          const typename form::shared &shared, uint32_t step, uint32_t n0) {
    uint32_t b[warps::PAIRS][4];
#pragma unroll
    for (uint32_t i = 0; i < warps::PAIRS; i++)
        gemm_load_b(b[i], rows.x, gemm_warp_x<warps>() + (n0 + 2 * i) * GEMM_N, step);
#pragma unroll
    for (uint32_t i = 0; i < 2 * warps::PAIRS; i++)
#pragma unroll
        for (uint32_t m = 0; m < warps::MS; m++) {
            const uint32_t x = gemm_warp_x<warps>() + (n0 + i) * GEMM_N + ck_lane() % 4 * 2;
            form::multiply(s.acc[m * warps::NS + n0 + i], w.a[m], &b[i / 2][i % 2 * 2], w.scales[m],
                           shared, step, x);
        }
}

/* x_rows of x are there, where warps skip the others. */
template <typename form, typename warps>
CK_DEV void gemm_step(gemm_sums &s, const gemm_rows &rows, const typename form::shared &shared,
                      uint32_t step, uint32_t x_rows) {
    gemm_of_w<form, warps> w;
#pragma unroll
    for (uint32_t m = 0; m < warps::MS; m++) {
        const uint32_t row = gemm_warp_w<warps>() + m * GEMM_M;
        gemm_load_a(w.a[m], rows.w, row, step);
        w.scales[m] = form::scales_of(shared, step, row + ck_lane() / 4);
    }
#pragma unroll
    for (uint32_t n = 0; n < warps::NS; n += 2 * warps::PAIRS) {
        if (warps::SKIPS && gemm_warp_x<warps>() + n * GEMM_N >= x_rows) continue;
        gemm_multiply<form, warps>(s, w, rows, shared, step, n);
    }
}

template <typename form, typename warps>
CK_DEV void gemm_walk(gemm_sums &s, typename form::job &job, uint32_t steps, gemm_rows &rows,
                      typename form::shared &shared, uint32_t x_rows) {
    const uint32_t chunks = (steps + GEMM_STEPS - 1) / GEMM_STEPS;
    form::load(job, 0);
#pragma unroll 1
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        form::put(job, chunk, rows, shared);
        ck_sync();
        if (chunk + 1 < chunks) form::load(job, chunk + 1);
#pragma unroll
        for (uint32_t step = 0; step < GEMM_STEPS; step++)
            if (chunk * GEMM_STEPS + step < steps)
                gemm_step<form, warps>(s, rows, shared, step, x_rows);
        ck_sync();
    }
}

/* --- the end -------------------- */

/* What is multiplied: x and sums of the row 0. */
typedef struct gemm_input {
    const ck_matrix &w;
    uint64_t x, sums;
} gemm_input;

/* Where the results go; bias of w's row 0, add and out of row 0. */
typedef struct gemm_output {
    uint64_t bias, add, out;
    uint32_t w_rows, stride;
} gemm_output;

/* Rows of x and out of a tile: those from `first` on, or those that a list names. */
typedef struct gemm_neighbours {
    uint32_t first, count;
    CK_DEV uint32_t at(const gemm_neighbours &r, uint32_t i) { return r.first + i; }
} gemm_neighbours;
typedef struct gemm_listed {
    const uint32_t *row; /* in shared memory */
    uint32_t count;
    CK_DEV uint32_t at(const gemm_listed &r, uint32_t i) { return r.row[i]; }
} gemm_listed;
/* Rows of x of pairs that a list names: several pairs may have one. */
typedef struct gemm_shared_rows {
    const uint32_t *pair; /* in shared memory */
    uint32_t count, each; /* pairs of a row of x */
    CK_DEV uint32_t at(const gemm_shared_rows &r, uint32_t i) { return r.pair[i] / r.each; }
} gemm_shared_rows;

/* An element: row of w, row of out. */
CK_DEV void gemm_store_one(const gemm_output &o, float v, uint32_t row, uint32_t out_row) {
    const uint64_t at = (uint64_t)out_row * o.stride + row;
    if (o.bias != 0) v += ck_ld((const float *)o.bias + row);
    if (o.add != 0) v += ck_ld((const float *)o.add + at);
    ck_st((float *)o.out + at, v);
}

template <typename warps, typename out_rows>
CK_DEV void gemm_store(const gemm_sums &s, const gemm_output &o, uint32_t w_row,
                       const out_rows &rows) {
#pragma unroll
    for (uint32_t m = 0; m < warps::MS; m++)
#pragma unroll
        for (uint32_t n = 0; n < warps::NS; n++)
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t row =
                    w_row + gemm_warp_w<warps>() + m * GEMM_M + ck_lane() / 4 + i / 2 * 8;
                const uint32_t r = gemm_warp_x<warps>() + n * GEMM_N + ck_lane() % 4 * 2 + i % 2;
                if (row >= o.w_rows || r >= rows.count) continue;
                gemm_store_one(o, s.acc[m * warps::NS + n][i], row, out_rows::at(rows, r));
            }
}

CK_DEV uint32_t gemm_there(uint32_t row, uint32_t rows) { return row < rows ? row : rows - 1; }

/* --- neighbouring rows -------------------- */

template <typename form> CK_DEV void gemm_kernel(const k_gemv_args &a, uint32_t tile) {
    CK_SHARED(gemm_rows, rows, 1);
    CK_SHARED(typename form::shared, shared, 1);
    const uint32_t x_end = ck_ld((const uint32_t *)a.count + 1);
    const uint32_t x_row = ck_ld((const uint32_t *)a.count) + ck_bid_x * CK_GEMM_TILE;
    const uint32_t w_row = tile * CK_GEMM_TILE;
    if (x_row >= x_end) return;
    typename form::job job = {};
    form::begin(job, {a.w, a.x, a.sums}, gemm_there(w_row + gemm_thread_row(), a.w.rows),
                gemm_there(x_row + gemm_thread_row(), x_end));
    gemm_sums s = {};
    gemm_walk<form, gemm_square>(s, job, form::steps(a.w.cols), rows[0], shared[0], CK_GEMM_TILE);
    const gemm_output to = {a.bias, a.add, a.out, a.w.rows, a.out_stride};
    gemm_store<gemm_square>(s, to, w_row, gemm_neighbours{x_row, x_end - x_row});
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

/* --- pairs of one expert -------------------- */

/* What the block's threads all have to know of its tile, of which there may be fewer pairs. */
typedef struct gemm_tile {
    ck_matrix w;
    uint32_t pair[CK_GEMM_TILE];
} gemm_tile;

CK_DEV ck_tile gemm_tile_at(uint64_t tiles, uint32_t i) {
    const uint32_t *at = (const uint32_t *)tiles + (uint64_t)i * 3;
    return {ck_ld(at), ck_ld(at + 1), ck_ld(at + 2)};
}

/* Nothing is there before the block's next ck_sync(). */
CK_DEV void gemm_matrix_read(gemm_tile &t, uint64_t experts, uint32_t expert) {
    constexpr uint32_t words = sizeof(ck_matrix) / sizeof(uint32_t);
    const uint64_t matrix = experts + (uint64_t)expert * sizeof(ck_matrix);
    if (ck_tid < words) ((uint32_t *)&t.w)[ck_tid] = ck_ld((const uint32_t *)matrix + ck_tid);
}

CK_DEV void gemm_tile_read(gemm_tile &t, uint64_t experts, uint64_t pairs, const ck_tile &tile) {
    gemm_matrix_read(t, experts, tile.expert);
    if (ck_tid < CK_GEMM_TILE)
        t.pair[ck_tid] =
            ck_ld((const uint32_t *)pairs + tile.first + gemm_there(ck_tid, tile.count));
    ck_sync();
}

template <typename form> CK_DEV void gemm_experts_kernel(const k_experts_args &a) {
    CK_SHARED(gemm_rows, rows, 1);
    CK_SHARED(typename form::shared, shared, 1);
    CK_SHARED(gemm_tile, t, 1);
    if (ck_bid_x >= ck_ld((const uint32_t *)a.tiles_count)) return;
    const ck_tile tile = gemm_tile_at(a.tiles, ck_bid_x);
    const uint32_t w_row = ck_bid_y * CK_GEMM_TILE;
    gemm_tile_read(t[0], a.experts, a.pairs, tile);
    const uint32_t pair = t[0].pair[gemm_thread_row()];
    typename form::job job = {};
    form::begin(job, {t[0].w, a.x, a.sums}, gemm_there(w_row + gemm_thread_row(), a.w_rows),
                a.shared_in != 0 ? pair / a.used : pair);
    gemm_sums s = {};
    gemm_walk<form, gemm_slices>(s, job, form::steps(a.cols), rows[0], shared[0], tile.count);
    const uint64_t bias_at = (uint64_t)tile.expert * a.w_rows * sizeof(float);
    const gemm_output to = {a.bias != 0 ? a.bias + bias_at : 0, 0, a.out, a.w_rows, a.w_rows};
    gemm_store<gemm_slices>(s, to, w_row, gemm_listed{t[0].pair, tile.count});
}

/* Blocks on an SM: 4 leave 128 registers to each thread, 3 leave 168. */
#define GEMM_KERNELS_EACH(name, blocks, together)                              \
    CK_KERNEL_FEW(k_gemm_##name, k_gemv_args, CK_GEMM_THREADS, blocks) {       \
        gemm_kernel<gemm_##name>(a, ck_bid_y);                                 \
    }                                                                          \
    CK_KERNEL_FEW(k_gemms_##name, k_gemvs_args, CK_GEMM_THREADS, together) {   \
        gemms_kernel<gemm_##name>(a);                                          \
    }                                                                          \
    CK_KERNEL_FEW(k_gemm_experts_##name, k_experts_args, CK_GEMM_THREADS, 4) { \
        gemm_experts_kernel<gemm_##name>(a);                                   \
    }
#define GEMM_KERNELS(name, blocks) GEMM_KERNELS_EACH(name, blocks, blocks)

#endif
