/* gemv.h - products of a weight matrix with a few rows of activations: what all forms share.
 *
 * out[r] = x[r] . w^T + bias + add[r], see k_gemv_args.  A weight is read once and multiplied with
 * all rows of x that the block has, so the time is that of streaming the matrix.  The kernels for
 * pairs multiply the codes of a row and those of what they leave (k_quantize_args), and add.
 *
 *   block   CK_GEMV_THREADS threads: 4 warps, each GEMV_ROWS neighbouring rows of w
 *   lane    groups lane, lane + 32, lane + 64 ... of a row: 16 bytes of a plane each, so that a
 *           warp reads 512 neighbouring bytes per load
 *   end     sums over the lanes by a butterfly; lane 0 adds bias and add
 *
 * What a row of x gives is the same bits whatever N is, in the kernels for several products and in
 * those for experts: sums are taken in ascending order of groups by each lane, every multiply-add
 * is ck_fma, and no step depends on N; skinny.h repeats these very steps.  Past the ends: a row of
 * w or x that is not there is read as the last one and not stored; a warp without rows and a block
 * without rows of x return as a whole.
 * Groups are counted over the whole matrix, in 32 bits: cuda_planar_sizes() refuses larger ones.
 *
 * A form is a struct (gemv_q8_0.cu is the shortest):
 *   GROUP    elements that a lane multiplies at a time
 *   UNROLL   groups that it loads before it multiplies
 *   RAGGED   1: rows of w are padded to groups, rows of x are not: see gemv_float.cu
 *   X_BYTES  of an element of x
 *   X_UNITS  of a group, x_units(cols) of a row: what `at` counts
 *   tile     a group's weights as loaded; load(w, group): group of the whole matrix
 *   input    a group's activations;       input_of(job, at)
 *   dot(tile, input, acc)                 acc + tile . input
 *   ahead(w, group)                       prefetches what load() reads */
#ifndef CUDA_GEMV_H
#define CUDA_GEMV_H
#include "ck_fma.h"

enum { GEMV_WARPS = CK_GEMV_THREADS / 32, GEMV_ROWS = CK_GEMV_BLOCK_ROWS / GEMV_WARPS };

typedef struct gemv_job {
    uint64_t x, sums, bias, add, out; /* of the first of its rows; bias of w's row 0 */
    uint32_t x_rows;                  /* >= 1; beyond N are other blocks' */
    uint32_t out_stride;
} gemv_job;

/* --- activations in 8 bits -------------------- */

/* ck_sums in registers. */
typedef struct gemv_sums {
    float d;
    int lo, hi;
} gemv_sums;

CK_DEV gemv_sums gemv_sums_of(uint32_t d, uint32_t halves) {
    return {ck_u2f(d), (int)(int16_t)(uint16_t)halves, (int)halves >> 16};
}

/* acc + the products of 16 pairs of signed bytes */
CK_DEV int gemv_dot16(ck_u4 w, ck_u4 x, int acc) {
    acc = ck_dp4a(w.x, x.x, acc);
    acc = ck_dp4a(w.y, x.y, acc);
    acc = ck_dp4a(w.z, x.z, acc);
    return ck_dp4a(w.w, x.w, acc);
}

CK_DEV ck_u4 gemv_low(ck_u4 g) {
    const uint32_t m = 0x0f0f0f0fu;
    return {g.x & m, g.y & m, g.z & m, g.w & m};
}
CK_DEV ck_u4 gemv_high(ck_u4 g) {
    const uint32_t m = 0x0f0f0f0fu;
    return {g.x >> 4 & m, g.y >> 4 & m, g.z >> 4 & m, g.w >> 4 & m};
}

/* 32 neighbouring activations, for the forms with blocks of 32. */
typedef struct gemv_input32 {
    ck_u4 x[2];
    gemv_sums sums;
} gemv_input32;

CK_DEV gemv_input32 gemv_input32_of(const gemv_job &job, uint32_t group) {
    const uint8_t *codes = (const uint8_t *)job.x + (uint64_t)group * 32;
    gemv_input32 in;
    in.x[0] = ck_ld16(codes);
    in.x[1] = ck_ld16(codes + 16);
    const uint64_t sums = ck_ld((const uint64_t *)job.sums + group);
    in.sums = gemv_sums_of((uint32_t)sums, (uint32_t)(sums >> 32));
    return in;
}

/* 64 of them, for the K forms: their rows begin at multiples of 64 bytes of sums. */
typedef struct gemv_input64 {
    ck_u4 x[4];
    gemv_sums sums[2];
} gemv_input64;

CK_DEV gemv_input64 gemv_input64_of(const gemv_job &job, uint32_t group) {
    const uint8_t *codes = (const uint8_t *)job.x + (uint64_t)group * 64;
    gemv_input64 in;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) in.x[i] = ck_ld16(codes + i * 16);
    const ck_u4 sums = ck_ld16((const uint64_t *)job.sums + (uint64_t)group * 2);
    in.sums[0] = gemv_sums_of(sums.x, sums.y);
    in.sums[1] = gemv_sums_of(sums.z, sums.w);
    return in;
}

/* Element `index` of a plane of elements of so many bytes. */
template <int bytes> CK_DEV const uint8_t *gemv_at(const ck_matrix &w, int plane, uint32_t index) {
    return (const uint8_t *)w.plane[plane] + (uint64_t)index * bytes;
}
CK_DEV ck_u4 gemv_granule(const ck_matrix &w, int plane, uint32_t index) {
    return ck_ldg16(gemv_at<16>(w, plane, index));
}
template <int bytes> CK_DEV void gemv_prefetch(const ck_matrix &w, int plane, uint32_t index) {
    ck_prefetch(gemv_at<bytes>(w, plane, index));
}

/* --- the loop -------------------- */

/* PER rows of x go into one sum. */
template <typename form, int N, int PER = 1> struct gemv_state {
    uint32_t first[GEMV_ROWS]; /* groups of w before each row of w */
    uint32_t before[N];        /* units of x before each row of x */
    float acc[N / PER][GEMV_ROWS];
};

template <typename form> CK_DEV uint32_t gemv_row_groups(const ck_matrix &w) {
    return (w.cols + form::GROUP - 1) / form::GROUP;
}

/* COUNT groups of each lane, 32 apart: all loads of weights first. */
template <typename form, int N, int COUNT, bool RAGGED, int PER>
CK_DEV void gemv_step(gemv_state<form, N, PER> &s, const ck_matrix &w, const gemv_job &job,
                      uint32_t group) {
    typename form::tile tile[COUNT][GEMV_ROWS];
#pragma unroll
    for (int u = 0; u < COUNT; u++)
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++) tile[u][r] = form::load(w, s.first[r] + group + 32 * u);
#pragma unroll
    for (int u = 0; u < COUNT; u++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            typename form::input in;
            if constexpr (RAGGED)
                in = form::input_ragged(job, s.before[n], group + 32 * u, w.cols);
            else
                in = form::input_of(job, s.before[n] + (group + 32 * u) * form::X_UNITS);
#pragma unroll
            for (int r = 0; r < GEMV_ROWS; r++)
                s.acc[n / PER][r] = form::dot(tile[u][r], in, s.acc[n / PER][r]);
        }
}

template <typename form, int N, int PER>
CK_DEV void gemv_walk(gemv_state<form, N, PER> &s, const ck_matrix &w, const gemv_job &job) {
    uint32_t groups = w.cols / form::GROUP;
    if constexpr (form::RAGGED) groups = form::groups(w.cols);
    uint32_t g = ck_lane();
#pragma unroll 1
    for (; g + 32 * (form::UNROLL - 1) < groups; g += 32 * form::UNROLL)
        gemv_step<form, N, form::UNROLL, false>(s, w, job, g);
    if constexpr (form::UNROLL > 1) {
#pragma unroll 1
        for (; g < groups; g += 32) gemv_step<form, N, 1, false>(s, w, job, g);
    }
    if constexpr (form::RAGGED) {
        const uint32_t all = gemv_row_groups<form>(w);
#pragma unroll 1
        for (; g < all; g += 32) gemv_step<form, N, 1, true>(s, w, job, g);
    }
}

template <typename form, int N>
CK_DEV void gemv_store(const gemv_state<form, N> &s, const gemv_job &job, uint32_t row,
                       uint32_t rows) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++) {
            float v = ck_warp_sum(s.acc[n][r]);
            if (ck_lane() != 0 || n >= (int)job.x_rows || row + r >= rows) continue;
            const uint64_t at = (uint64_t)n * job.out_stride + row + r;
            if (job.bias != 0) v += ck_ld((const float *)job.bias + row + r);
            if (job.add != 0) v += ck_ld((const float *)job.add + at);
            ck_st((float *)job.out + at, v);
        }
}

/* Of this warp, in the block of that number. */
CK_DEV uint32_t gemv_first_row(uint32_t block) {
    return (block * GEMV_WARPS + ck_warp()) * GEMV_ROWS;
}

/* The sums of this warp's rows of w, from `row` on, with N rows of x. */
template <typename form, int N, int PER>
CK_DEV void gemv_sum(gemv_state<form, N, PER> &s, const ck_matrix &w, const gemv_job &job,
                     uint32_t row) {
#pragma unroll
    for (uint32_t r = 0; r < GEMV_ROWS; r++)
        s.first[r] = (row + r < w.rows ? row + r : w.rows - 1) * gemv_row_groups<form>(w);
#pragma unroll
    for (uint32_t n = 0; n < N; n++) {
        const uint32_t last = job.x_rows - 1;
        s.before[n] = n == 0 ? 0 : (n < last ? n : last) * form::x_units(w.cols);
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++) s.acc[n / PER][r] = 0.0f;
    }
    gemv_walk(s, w, job);
}

template <typename form, int N>
CK_DEV void gemv_run(const ck_matrix &w, const gemv_job &job, uint32_t block) {
    const uint32_t row = gemv_first_row(block);
    if (row >= w.rows) return;
    gemv_state<form, N> s;
    gemv_sum(s, w, job, row);
    gemv_store(s, job, row, w.rows);
}

/* --- before the kernel ahead has ended -------------------- */

/* What each lane loads first of the weights, into the L2 cache.  One row of blocks does it for all
 * that have the same rows of w: how many rows of x there are is not known yet. */
template <typename form> CK_DEV void gemv_prefetch_first(const ck_matrix &w, uint32_t block) {
    const uint32_t row = gemv_first_row(block), groups = gemv_row_groups<form>(w);
    if (CK_ARCH < 900 || ck_bid_y != 0 || row >= w.rows) return;
#pragma unroll
    for (uint32_t u = 0; u < form::UNROLL; u++)
#pragma unroll
        for (uint32_t r = 0; r < GEMV_ROWS; r++) {
            const uint32_t group = ck_lane() + 32 * u;
            if (group >= groups || row + r >= w.rows) continue;
            form::ahead(w, (row + r) * groups + group);
        }
}

/* Of every kernel here before anything else. */
template <typename form> CK_DEV void gemv_wait(const ck_matrix &w, uint32_t block) {
    gemv_prefetch_first<form>(w, block);
    ck_pdl_wait();
    ck_pdl_launch();
}

/* --- entries -------------------- */

/* The first row of x. */
template <typename form>
CK_DEV void gemv_begin(gemv_job &job, uint64_t x, uint64_t sums, uint32_t cols, uint64_t row) {
    job.x = x + row * cols * form::X_BYTES;
    job.sums = sums + row * (cols / 32) * sizeof(ck_sums);
}

template <typename form, int N> CK_DEV void gemv_kernel(const k_gemv_args &a, uint32_t block) {
    gemv_wait<form>(a.w, block);
    const uint32_t first = ck_bid_y * N, rows = ck_ld((const uint32_t *)a.count);
    if (first >= rows) return;
    const uint64_t skip = (uint64_t)first * a.out_stride * sizeof(float);
    gemv_job job;
    gemv_begin<form>(job, a.x, a.sums, a.w.cols, first);
    job.bias = a.bias;
    job.add = a.add != 0 ? a.add + skip : 0;
    job.out = a.out + skip;
    job.x_rows = rows - first;
    job.out_stride = a.out_stride;
    gemv_run<form, N>(a.w, job, block);
}

/* Which product a block of ROWS rows of w is of; what is left is its number there. */
template <uint32_t ROWS> CK_DEV uint32_t gemvs_find(const k_gemv_args *of, uint32_t *block) {
    uint32_t i = 0;
#pragma unroll 1
    for (; i + 1 < CK_GEMVS_MAX; i++) {
        const uint32_t blocks = (of[i].w.rows + ROWS - 1) / ROWS;
        if (*block < blocks) break;
        *block -= blocks;
    }
    return i;
}

/* The blocks of one product after those of another.  Arguments at a place that only the block knows
 * are read as cheaply as others; a copy of the code for each product took more registers. */
template <typename form, int N> CK_DEV void gemvs_kernel(const k_gemvs_args &a) {
    uint32_t block = ck_bid_x;
    const uint32_t i = gemvs_find<CK_GEMV_BLOCK_ROWS>(a.of, &block);
    gemv_kernel<form, N>(a.of[i], block);
}

/* COUNT pairs of rows of x.  What is needed at the end only is worked out there: the sums of four
 * rows leave no registers to keep it in. */
template <typename form, int COUNT> CK_DEV void gemv_pairs_kernel(const k_gemv_args &a) {
    gemv_wait<form>(a.w, ck_bid_x);
    const uint32_t first = ck_bid_y * COUNT, row = gemv_first_row(ck_bid_x);
    if (first >= ck_ld((const uint32_t *)a.count) || row >= a.w.rows) return;
    gemv_job job;
    gemv_begin<form>(job, a.x, a.sums, a.w.cols, (uint64_t)first * 2);
    job.x_rows = (ck_ld((const uint32_t *)a.count) - first) * 2;
    gemv_state<form, 2 * COUNT, 2> s;
    gemv_sum(s, a.w, job, row);
#pragma unroll
    for (int n = 0; n < COUNT; n++)
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++) {
            float v = ck_warp_sum(s.acc[n][r]);
            const uint32_t x_row = ck_bid_y * COUNT + n, at_row = gemv_first_row(ck_bid_x) + r;
            if (ck_lane() != 0 || x_row >= ck_ld((const uint32_t *)a.count) || at_row >= a.w.rows)
                continue;
            const uint64_t at = (uint64_t)x_row * a.out_stride + at_row;
            if (a.bias != 0) v += ck_ld((const float *)a.bias + at_row);
            if (a.add != 0) v += ck_ld((const float *)a.add + at);
            ck_st((float *)a.out + at, v);
        }
}

CK_DEV ck_matrix gemv_matrix(uint64_t at) {
    ck_matrix w;
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) w.plane[p] = ck_ld((const uint64_t *)at + p);
    return w;
}

template <typename form> CK_DEV void gemv_experts(const k_experts_args &a) {
    const uint32_t row = ck_bid_y / a.used, place = ck_bid_y % a.used;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    const uint64_t number = (uint64_t)row * 2 * a.used + place;
    const uint32_t expert = (uint32_t)ck_ld((const float *)a.routed + number);
    ck_matrix w = gemv_matrix(a.experts + (uint64_t)expert * sizeof(ck_matrix));
    w.rows = a.w_rows;
    w.cols = a.cols;
    const uint64_t out_bytes = (uint64_t)a.w_rows * sizeof(float);
    gemv_job job;
    gemv_begin<form>(job, a.x, a.sums, a.cols, a.shared_in != 0 ? row : ck_bid_y);
    job.bias = a.bias != 0 ? a.bias + expert * out_bytes : 0;
    job.add = 0;
    job.out = a.out + ck_bid_y * out_bytes;
    job.x_rows = 1;
    job.out_stride = a.w_rows;
    gemv_run<form, 1>(w, job, ck_bid_x);
}

#include "gemv_tail.h"

/* kernel_of is CK_EARLY_OF, or of a form whose tiles leave too few registers for several products
 * with four rows, GEMV_EARLY_FEW.  Which experts a row has an earlier kernel says: nothing of them
 * is known before the wait. */
#define GEMV_EARLY_FEW(name, args, threads) CK_EARLY_FEW(name, args, threads, 3)
#define GEMV_KERNELS(name, kernel_of)                                 \
    CK_EARLY_OF(k_gemv_##name##_n1, k_gemv_args, CK_GEMV_THREADS) {   \
        gemv_kernel<gemv_##name, 1>(a, ck_bid_x);                     \
    }                                                                 \
    CK_EARLY_OF(k_gemv_##name##_n4, k_gemv_args, CK_GEMV_THREADS) {   \
        gemv_kernel<gemv_##name, 4>(a, ck_bid_x);                     \
    }                                                                 \
    CK_EARLY_OF(k_gemvs_##name##_n1, k_gemvs_args, CK_GEMV_THREADS) { \
        gemvs_kernel<gemv_##name, 1>(a);                              \
    }                                                                 \
    kernel_of(k_gemvs_##name##_n4, k_gemvs_args, CK_GEMV_THREADS) {   \
        gemvs_kernel<gemv_##name, 4>(a);                              \
    }                                                                 \
    CK_EARLY_FEW(k_gemvt_##name, k_gemvt_args, CK_GEMV_THREADS, 6) {  \
        gemvt_kernel<gemvt_streamed<gemv_##name>>(a);                 \
    }                                                                 \
    CK_KERNEL_OF(k_experts_##name, k_experts_args, CK_GEMV_THREADS) { \
        gemv_experts<gemv_##name>(a);                                 \
    }

/* Forms of codes only: one pair and two. */
#define GEMV_KERNELS_PAIRS(name)                                        \
    CK_EARLY_FEW(k_gemv_##name##_p1, k_gemv_args, CK_GEMV_THREADS, 4) { \
        gemv_pairs_kernel<gemv_##name, 1>(a);                           \
    }                                                                   \
    CK_EARLY_FEW(k_gemv_##name##_p2, k_gemv_args, CK_GEMV_THREADS, 3) { \
        gemv_pairs_kernel<gemv_##name, 2>(a);                           \
    }

#endif
