/* skinny_halves.h - products of a matrix of F16 or BF16 with some rows of f32, on tensor cores.
 *
 * Tensor cores multiply numbers of one type.  So x becomes a sum of PARTS numbers of the type of w,
 * exact but for what is said there, and w is multiplied with each of them.
 *
 *   block   CK_SKINNY_THREADS threads: M * 16 rows of w by N * 8 of x
 *   step    64 columns.  Warp W has the steps W, W + 8, W + 16 ... of all rows of the block, and
 *           loads the weights of its next step while it multiplies this one
 *   lane    16 bytes of a row at a time, granules q and q + 4 of the eight of a step, q = lane % 4.
 *           They go from memory into the fragments as they are: which columns an MMA multiplies
 *           at once does not matter, as long as w and x have the same, and x is read alike
 *   end     the sums of the warps are added up in the order of their numbers, by way of shared
 *           memory, then bias and add
 *
 * Weights are read once for N * 8 rows of x, and nothing but fragments is made of them.  x comes
 * from the L2 cache, for each block anew: that is what M is for.
 *
 * What a row of x gives is the same bits whatever M and N are, and wherever it stands: an element
 * is the sum over the warps, in their order, of f32 sums over their steps, in ascending order, of
 * what tensor cores make of a step with no sum before it.  Those see one row of x in a column of
 * theirs.  That they begin with 0 in each step leaves the sum over steps to f32, which rounds to
 * nearest.
 * Past the ends: a row of w or x that is not there is read as the last one and not stored, but
 * 8 rows of x none of which is there are left out; columns beyond a row are 0.
 *
 * A type is a struct (skinny_halves.cu):
 *   PARTS                     into which a number is taken apart
 *   SUMS                      sums that the tensor cores make of a step, 1 or 2
 *   split(low, high, words)   parts of two numbers, as words of two halves
 *   mma(sums, a, b)           sums [SUMS][4] += a . b of all parts, b [PARTS][2]
 *   join(acc, sums, i)        acc + the sum of a step */
#ifndef CUDA_SKINNY_HALVES_H
#define CUDA_SKINNY_HALVES_H
#include "gemm.h"
#include "gemv.h"
#include "gemv_tail.h"
#include "halves.h"
#include "planar.h"

enum : uint32_t {
    HALVES_WARPS = CK_SKINNY_THREADS / 32,
    HALVES_COLS = 64,    /* of a step */
    HALVES_GRANULES = 8, /* of it in a row: 8 columns each */
    HALVES_OF_LANE = 2   /* of these, q and q + 4 */
};

CK_DEV uint32_t halves_granules(uint32_t cols) { return (cols + 7) / 8; }
CK_DEV uint32_t halves_steps(uint32_t cols) { return (cols + HALVES_COLS - 1) / HALVES_COLS; }

/* --- on the way there -------------------- */

/* A step of 16 rows: granules of row g, of row g + 8, g = lane / 4. */
typedef struct halves_w {
    ck_u4 granule[2][HALVES_OF_LANE];
} halves_w;

template <uint32_t M, uint32_t N> struct halves_job {
    const ck_matrix *w;
    uint32_t first[M][2]; /* granules of w before each of the lane's rows */
    const float *x[N];    /* the lane's rows of x */
    uint32_t x_rows;      /* that are there */
};

template <uint32_t M, uint32_t N, typename x_rows>
CK_DEV void halves_begin(halves_job<M, N> &j, const gemm_input &in, uint32_t w_row,
                         const x_rows &rows) {
    const uint32_t g = ck_lane() / 4;
    j.w = &in.w;
    j.x_rows = rows.count;
#pragma unroll
    for (uint32_t m = 0; m < M; m++)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
            j.first[m][i] =
                gemm_there(w_row + m * 16 + i * 8 + g, in.w.rows) * halves_granules(in.w.cols);
#pragma unroll
    for (uint32_t n = 0; n < N; n++)
        j.x[n] = (const float *)in.x +
                 (uint64_t)x_rows::at(rows, gemm_there(n * 8 + g, rows.count)) * in.w.cols;
}

template <uint32_t M, uint32_t N>
CK_DEV void halves_load(halves_w w[M], const halves_job<M, N> &j, uint32_t step) {
    const uint32_t all = halves_granules(j.w->cols);
#pragma unroll
    for (uint32_t m = 0; m < M; m++)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
#pragma unroll
            for (uint32_t k = 0; k < HALVES_OF_LANE; k++) {
                const uint32_t granule = step * HALVES_GRANULES + k * 4 + ck_lane() % 4;
                w[m].granule[i][k] = granule < all
                                         ? planar_granule(*j.w, 0, j.first[m][i] + granule)
                                         : ck_u4{0, 0, 0, 0};
            }
}

/* 8 columns of a row.  Rows are 16-aligned where cols is a multiple of 4. */
CK_DEV void halves_load_x(float v[8], const float *row, uint32_t col, uint32_t cols) {
    if (cols % 4 == 0) {
#pragma unroll
        for (uint32_t i = 0; i < 8; i += 4) {
            const ck_u4 x = col + i < cols ? ck_ld16(row + col + i) : ck_u4{0, 0, 0, 0};
            v[i] = ck_u2f(x.x);
            v[i + 1] = ck_u2f(x.y);
            v[i + 2] = ck_u2f(x.z);
            v[i + 3] = ck_u2f(x.w);
        }
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) v[i] = col + i < cols ? ck_ld(row + col + i) : 0.0f;
}

/* --- the loop -------------------- */

template <uint32_t M, uint32_t N> struct halves_sums { float acc[M][N][4]; };

/* One granule of each row of x with those of w: two MMAs, each with two words of a granule. */
template <typename type, uint32_t M>
CK_DEV void halves_granule(float sums[M][type::SUMS][4], const halves_w w[M], uint32_t k,
                           const float x[8]) {
    uint32_t b[2][type::PARTS][2];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t words[type::PARTS];
        type::split(x[2 * i], x[2 * i + 1], words);
#pragma unroll
        for (uint32_t p = 0; p < type::PARTS; p++) b[i / 2][p][i % 2] = words[p];
    }
#pragma unroll
    for (uint32_t m = 0; m < M; m++) {
        const ck_u4 low = w[m].granule[0][k], high = w[m].granule[1][k];
        const uint32_t a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
        type::mma(sums[m], a[0], b[0]);
        type::mma(sums[m], a[1], b[1]);
    }
}

template <typename type, uint32_t M, uint32_t N>
CK_DEV void halves_multiply(halves_sums<M, N> &s, const halves_job<M, N> &j, const halves_w w[M],
                            uint32_t step) {
#pragma unroll
    for (uint32_t n = 0; n < N; n++) {
        if (n * 8 >= j.x_rows) continue;
        float sums[M][type::SUMS][4] = {};
#pragma unroll
        for (uint32_t k = 0; k < HALVES_OF_LANE; k++) {
            const uint32_t col = step * HALVES_COLS + (k * 4 + ck_lane() % 4) * 8;
            float x[8];
            halves_load_x(x, j.x[n], col, j.w->cols);
            halves_granule<type, M>(sums, w, k, x);
        }
#pragma unroll
        for (uint32_t m = 0; m < M; m++)
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                s.acc[m][n][i] = type::join(s.acc[m][n][i], sums[m], i);
    }
}

template <typename type, uint32_t M, uint32_t N>
CK_DEV void halves_walk(halves_sums<M, N> &s, const halves_job<M, N> &j) {
    const uint32_t steps = halves_steps(j.w->cols);
    uint32_t step = ck_warp();
    halves_w now[M], next[M];
    if (step < steps) halves_load(next, j, step);
#pragma unroll 1
    for (; step < steps; step += HALVES_WARPS) {
#pragma unroll
        for (uint32_t m = 0; m < M; m++) now[m] = next[m];
        if (step + HALVES_WARPS < steps) halves_load(next, j, step + HALVES_WARPS);
        halves_multiply<type>(s, j, now, step);
    }
}

/* --- the end -------------------- */

/* [warps][elements of a lane][lanes] */
template <uint32_t M, uint32_t N> struct halves_shared { float sums[HALVES_WARPS][M * N * 4][32]; };

/* Each thread adds up the sums of the warps of some elements, as its neighbours do of the next. */
template <uint32_t M, uint32_t N, typename out_rows>
CK_DEV void halves_end(const halves_sums<M, N> &s, halves_shared<M, N> &shared,
                       const gemm_output &o, uint32_t w_row, const out_rows &rows) {
    constexpr uint32_t all = M * N * 4;
#pragma unroll
    for (uint32_t i = 0; i < all; i++)
        shared.sums[ck_warp()][i][ck_lane()] = s.acc[i / (N * 4)][i / 4 % N][i % 4];
    ck_sync();
#pragma unroll 1
    for (uint32_t i = ck_warp(); i < all; i += HALVES_WARPS) {
        const uint32_t row = w_row + i / (N * 4) * 16 + ck_lane() / 4 + i % 4 / 2 * 8;
        const uint32_t x = i / 4 % N * 8 + ck_lane() % 4 * 2 + i % 2;
        if (row >= o.w_rows || x >= rows.count) continue;
        float v = shared.sums[0][i][ck_lane()];
#pragma unroll
        for (uint32_t k = 1; k < HALVES_WARPS; k++) v += shared.sums[k][i][ck_lane()];
        gemm_store_one(o, v, row, out_rows::at(rows, x));
    }
}

template <typename type, uint32_t M, uint32_t N, typename x_rows, typename out_rows>
CK_DEV void halves_tile(const gemm_input &in, const gemm_output &to, uint32_t w_row,
                        const x_rows &from, const out_rows &rows) {
    typedef halves_shared<M, N> shared_of;
    CK_SHARED(shared_of, shared, 1);
    halves_job<M, N> j;
    halves_sums<M, N> s = {};
    halves_begin(j, in, w_row, from);
    halves_walk<type>(s, j);
    halves_end(s, shared[0], to, w_row, rows);
}

/* --- entries -------------------- */

/* The weights of halves_load() of the warp's first step, into the L2 cache, before the kernel ahead
 * has ended.  The first of the blocks that have the same rows of w does it for all. */
template <uint32_t M>
CK_DEV void halves_prefetch_first(const ck_matrix &w, uint32_t w_row, uint32_t along) {
    const uint32_t all = halves_granules(w.cols);
    if (CK_ARCH < 900 || along != 0) return;
#pragma unroll
    for (uint32_t i = 0; i < 2 * M; i++)
#pragma unroll
        for (uint32_t k = 0; k < HALVES_OF_LANE; k++) {
            const uint32_t row = w_row + i * 8 + ck_lane() / 4;
            const uint32_t granule = ck_warp() * HALVES_GRANULES + k * 4 + ck_lane() % 4;
            if (row >= w.rows || granule >= all) continue;
            ck_prefetch(planar_at(w, 0, ((uint64_t)row * all + granule) * 16));
        }
}

/* Tile `tile` of w with tile `along` of x. */
template <typename type, uint32_t M, uint32_t N>
CK_DEV void halves_kernel(const k_gemv_args &a, uint32_t tile, uint32_t along) {
    const uint32_t w_row = tile * (M * 16), row = along * (N * 8);
    halves_prefetch_first<M>(a.w, w_row, along);
    ck_pdl_wait();
    ck_pdl_launch();
    const uint32_t rows = ck_ld((const uint32_t *)a.count);
    if (row >= rows) return;
    const gemm_neighbours near = {row, rows - row};
    halves_tile<type, M, N>({a.w, a.x, 0}, {a.bias, a.add, a.out, a.w.rows, a.out_stride}, w_row,
                            near, near);
}

template <typename type, uint32_t M, uint32_t N>
CK_DEV void halves_together(const k_gemvs_args &a, uint32_t tile, uint32_t along) {
    const uint32_t i = gemvs_find<M * 16>(a.of, &tile);
    halves_kernel<type, M, N>(a.of[i], tile, along);
}

template <typename type> struct gemvt_halves {
    enum : uint32_t { ROWS = CK_HALVES_ROWS, THREADS = CK_SKINNY_THREADS };
    CK_DEV void run(const k_gemv_args &a, uint32_t block) {
        halves_kernel<type, 1, 1>(a, block, 0);
    }
};

/* Pairs of one expert, of whose rows of x several pairs may have one. */
template <typename type>
CK_DEV void halves_experts_tile(const k_experts_args &a, const gemm_tile &t, const ck_tile &tile,
                                uint32_t along) {
    const uint64_t bias_at = (uint64_t)tile.expert * a.w_rows * sizeof(float);
    halves_tile<type, 1, 1>(
        {t.w, a.x, 0}, {a.bias != 0 ? a.bias + bias_at : 0, 0, a.out, a.w_rows, a.w_rows},
        along * CK_HALVES_ROWS, gemm_shared_rows{t.pair, tile.count, a.shared_in != 0 ? a.used : 1},
        gemm_listed{t.pair, tile.count});
}

template <typename type> CK_DEV void halves_experts(const k_experts_args &a) {
    CK_SHARED(gemm_tile, t, 1);
    if (ck_bid_x >= ck_ld((const uint32_t *)a.few_tiles_count)) return;
    const ck_tile tile = gemm_tile_at(a.few_tiles, ck_bid_x);
    gemm_tile_read(t[0], a.experts, a.few_pairs, tile);
    halves_experts_tile<type>(a, t[0], tile, ck_bid_y);
}

/* Pair ck_bid_y, a tile of its own. */
template <typename type> CK_DEV void halves_expert(const k_experts_args &a) {
    CK_SHARED(gemm_tile, t, 1);
    const uint32_t row = ck_bid_y / a.used, place = ck_bid_y % a.used;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    const uint64_t number = (uint64_t)row * 2 * a.used + place;
    const uint32_t expert = (uint32_t)ck_ld((const float *)a.routed + number);
    gemm_matrix_read(t[0], a.experts, expert);
    if (ck_tid == 0) t[0].pair[0] = ck_bid_y;
    ck_sync();
    halves_experts_tile<type>(a, t[0], {expert, 0, 1}, ck_bid_x);
}

/* Blocks on an SM: 3 leave 80 registers to each thread, 2 leave 128. */
#define HALVES_KERNELS(name, type)                                               \
    CK_EARLY_FEW(k_gemv_##name##_m8, k_gemv_args, CK_SKINNY_THREADS, 3) {        \
        halves_kernel<type, 1, 1>(a, ck_bid_x, ck_bid_y);                        \
    }                                                                            \
    CK_EARLY_FEW(k_gemvs_##name##_m8, k_gemvs_args, CK_SKINNY_THREADS, 3) {      \
        halves_together<type, 1, 1>(a, ck_bid_x, ck_bid_y);                      \
    }                                                                            \
    CK_EARLY_FEW(k_gemv_##name##_m32, k_gemv_args, CK_SKINNY_THREADS, 1) {       \
        halves_kernel<type, 2, 4>(a, ck_bid_y, ck_bid_x);                        \
    }                                                                            \
    CK_EARLY_FEW(k_gemvs_##name##_m32, k_gemvs_args, CK_SKINNY_THREADS, 1) {     \
        halves_together<type, 2, 4>(a, ck_bid_y, ck_bid_x);                      \
    }                                                                            \
    CK_EARLY_FEW(k_gemvt_##name##_m1, k_gemvt_args, CK_SKINNY_THREADS, 3) {      \
        gemvt_kernel<gemvt_halves<type>>(a);                                     \
    }                                                                            \
    CK_KERNEL_FEW(k_experts_##name##_m1, k_experts_args, CK_SKINNY_THREADS, 3) { \
        halves_expert<type>(a);                                                  \
    }                                                                            \
    CK_KERNEL_FEW(k_experts_##name##_m8, k_experts_args, CK_SKINNY_THREADS, 3) { \
        halves_experts<type>(a);                                                 \
    }

#endif
