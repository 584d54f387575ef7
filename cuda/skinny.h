/* skinny.h - products of a quantized weight matrix with some rows of activations, on tensor cores:
 * what all forms share.
 *
 * The bits are those of k_gemv_FORM_n1 (gemv.h), so a row may be computed by either.  There lane L
 * adds up the groups L, L + 32, L + 64 ... of a row, and a butterfly adds up the lanes.  Sums of
 * products of codes are ints and exact in any order; the float sums behind them are these:
 *
 *   class   the groups g with the same g % 32, in ascending order, are one f32 sum of an element:
 *           what a lane had.  A warp has SKINNY_CLASSES neighbouring ones of all elements
 *   end     classes 16, 8 and 4 apart are in different warps, and are added in this order through
 *           shared memory; those 2 apart and 1 apart are in the same thread
 *
 *   block   CK_SKINNY_THREADS threads: M * 16 rows of w by CK_SKINNY_X of x
 *   step    128 codes of each of these rows by one warp: its lanes read 16 bytes each, 64 or 32 in
 *           a row, of the next step while they multiply this one.  By way of the warp's own shared
 *           memory ldmatrix makes fragments of them: no block waits for its warps before the end
 *   piece   64 codes, half of a step: a patch of x
 *   part    32 codes, with one factor of x
 *
 * Weights are read once for CK_SKINNY_X rows of x; blocks next to each other have the same rows of
 * w, so that these come from memory once for all of them.  x comes from the L2 cache, for each
 * block anew: that is what M is for.
 *
 * A patch is 32 granules, 4 of 8 rows each or 2 of 16.  Granule c of a row lies among those of its
 * column, turned by the column: the 8 rows that ldmatrix reads at once are in different banks, and
 * so is what 8 neighbouring lanes write.
 *
 * Of experts the rows of x are those of a list: pairs of one expert, from anywhere in the step, as
 * k_group has sorted them.  An expert's weights are read once for CK_SKINNY_X of them.
 *
 * Past the ends: a row of w or x that is not there is read as the last one and not stored; a group
 * beyond a row is read as its last one and left out.
 *
 * A form of weights is a struct (skinny_q4_0.cu is the shortest):
 *   GROUP     elements of a group of gemv.h: 32 or 64
 *   M         16 rows of w each
 *   PLANES    of 16 bytes per group
 *   SUMS      does it want the sums of the x codes?
 *   loaded    a step's other numbers, as a lane loads them for 16 rows;
 *             load(loaded, w, group) of the group of the matrix; ahead(w, group) prefetches them
 *   numbers   they in shared memory, for 16 rows;  put(numbers, loaded, item, group) of the row
 *   raw       what fragments of a piece are made of; raw_of(granules, numbers, piece)
 *   fragment(raw, part, a)     a of one part of the piece
 *   scales    of rows g and g + 8 in a group; scales_of(numbers, column)
 *   ints      the int sums of a part; multiply(ints, a, b)
 *   add(acc, ints, i, scales, part, x)    acc and element i of a part of the group, in the very
 *             steps of gemv_FORM::dot */
#ifndef CUDA_SKINNY_H
#define CUDA_SKINNY_H
#include "gemm_codes.h"

enum {
    SKINNY_WARPS = CK_SKINNY_THREADS / 32,
    SKINNY_CLASSES = 32 / SKINNY_WARPS, /* of a warp */
    SKINNY_N = CK_SKINNY_X / 8,
    SKINNY_PIECES = 2, /* of a step */
    SKINNY_PARTS = 4,
    SKINNY_PATCH = 32 /* granules */
};

CK_DEV uint32_t skinny_min(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Granule c of a row, in patches with C of each row: 32 / C rows. */
template <uint32_t C> CK_DEV uint32_t skinny_at(uint32_t row, uint32_t c) {
    constexpr uint32_t rows = SKINNY_PATCH / C;
    return row / rows * SKINNY_PATCH + c * rows + (row % rows & 8u) + ((row + c * (8 / C)) & 7u);
}

/* Int sums begin here, so that their bits are those of a float: 1.5 * 2^23 more than the sum, which
 * has to be less than 2^22. */
enum { SKINNY_ZERO = 0x4b400000 };
typedef struct skinny_ints {
    int of[4];
} skinny_ints;
CK_DEV skinny_ints skinny_zeros() { return {{SKINNY_ZERO, SKINNY_ZERO, SKINNY_ZERO, SKINNY_ZERO}}; }
CK_DEV float skinny_sum(int c) { return ck_u2f((uint32_t)c) - 12582912.0f; }

/* An exact product of ints, as a float; 0 is never -0. */
CK_DEV float skinny_times(float a, float b) { return ck_fma(a, b, 0.0f); }

/* Factors and sums of codes of the rows 2q and 2q + 1 of 8 of x, in a part. */
typedef struct skinny_x {
    gemm_pair d, sum;
} skinny_x;
CK_DEV float skinny_of(const gemm_pair &p, int i) { return i % 2 == 0 ? p.x : p.y; }

/* Columns of granules, groups of a plane, that a step has of a row. */
template <typename form> struct skinny_shape {
    static constexpr uint32_t COLS = 128 / form::GROUP;
    static constexpr uint32_t ITEMS = 16 * COLS / 32; /* of a lane for 16 rows: row and column */
    static constexpr uint32_t STEPS = SKINNY_CLASSES / COLS; /* that all classes of a warp take */
};

/* --- shared memory -------------------- */

/* Of a warp. */
template <typename form> struct skinny_stage {
    gemm_granule w[form::M][form::PLANES][16 * skinny_shape<form>::COLS];
    gemm_granule x[SKINNY_N][SKINNY_PIECES][SKINNY_PATCH];
    alignas(8) float d[SKINNY_PARTS][CK_SKINNY_X];
    alignas(8) float sum[form::SUMS ? SKINNY_PARTS : 1][CK_SKINNY_X];
    typename form::numbers numbers[form::M];
};

template <typename form> union skinny_shared {
    skinny_stage<form> stages[SKINNY_WARPS];
    /* of the end: half of what each thread has */
    float sums[SKINNY_WARPS][form::M * SKINNY_N * 2 * SKINNY_CLASSES][32];
};

/* --- on the way there -------------------- */

template <typename form> struct skinny_job {
    enum { ITEMS = skinny_shape<form>::ITEMS };
    const ck_matrix *w;
    uint64_t x, sums;               /* of the lane's rows: see below */
    uint32_t first[form::M][ITEMS]; /* groups of w before each of the lane's rows */
    uint64_t x_skip[SKINNY_N];      /* bytes from x to each of the lane's rows */
    uint32_t parts;                 /* of a row */
    ck_u4 w_codes[form::M][form::PLANES][ITEMS];
    typename form::loaded numbers[form::M][ITEMS];
    ck_u4 x_codes[SKINNY_N][SKINNY_PIECES];
    uint64_t x_sums[2];
};

/* The lane's granules: rows item / COLS of 16 of w, columns item % COLS. */
CK_DEV uint32_t skinny_item(uint32_t i) { return i * 32 + ck_lane(); }

/* `rows` of x, as those of gemm.h name them. */
template <typename form, typename x_rows>
CK_DEV void skinny_begin(skinny_job<form> &j, const gemm_input &in, uint32_t w_row,
                         const x_rows &rows) {
    constexpr uint32_t cols = skinny_shape<form>::COLS;
    const uint32_t lane = ck_lane(), last = rows.count - 1;
    j.w = &in.w;
    j.parts = in.w.cols / 32;
    j.x = in.x;
    j.sums = in.sums +
             (uint64_t)x_rows::at(rows, skinny_min(lane / 2, last)) * j.parts * sizeof(ck_sums);
#pragma unroll
    for (uint32_t m = 0; m < form::M; m++)
#pragma unroll
        for (uint32_t i = 0; i < skinny_shape<form>::ITEMS; i++) {
            const uint32_t row = w_row + m * 16 + skinny_item(i) / cols;
            j.first[m][i] = skinny_min(row, in.w.rows - 1) * (in.w.cols / form::GROUP);
        }
#pragma unroll
    for (uint32_t n = 0; n < SKINNY_N; n++)
        j.x_skip[n] = (uint64_t)x_rows::at(rows, skinny_min(n * 8 + lane / 4, last)) * in.w.cols;
}

/* The step that begins with this group of each row. */
template <typename form> CK_DEV void skinny_load(skinny_job<form> &j, uint32_t group) {
    constexpr uint32_t cols = skinny_shape<form>::COLS, parts = form::GROUP / 32;
    const uint32_t lane = ck_lane(), last = j.parts - 1;
#pragma unroll
    for (uint32_t m = 0; m < form::M; m++)
#pragma unroll
        for (uint32_t i = 0; i < skinny_shape<form>::ITEMS; i++) {
            const uint32_t mine = skinny_min(group + lane % cols, j.parts / parts - 1);
#pragma unroll
            for (uint32_t p = 0; p < form::PLANES; p++)
                j.w_codes[m][p][i] = planar_granule(*j.w, p, j.first[m][i] + mine);
            form::load(j.numbers[m][i], *j.w, j.first[m][i] + mine);
        }
#pragma unroll
    for (uint32_t n = 0; n < SKINNY_N; n++)
#pragma unroll
        for (uint32_t k = 0; k < SKINNY_PIECES; k++) {
            const uint32_t part = skinny_min(group * parts + k * 2 + lane % 4 / 2, last);
            j.x_codes[n][k] =
                ck_ld16((const uint8_t *)j.x + j.x_skip[n] + part * 32 + lane % 2 * 16);
        }
#pragma unroll
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t part = skinny_min(group * parts + lane % 2 * 2 + k, last);
        j.x_sums[k] = ck_ld((const uint64_t *)j.sums + part);
    }
}

template <typename form>
CK_DEV void skinny_put(const skinny_job<form> &j, skinny_stage<form> &s, uint32_t group) {
    constexpr uint32_t cols = skinny_shape<form>::COLS;
    const uint32_t lane = ck_lane();
#pragma unroll
    for (uint32_t m = 0; m < form::M; m++)
#pragma unroll
        for (uint32_t i = 0; i < skinny_shape<form>::ITEMS; i++) {
            const uint32_t item = skinny_item(i);
            const uint32_t at = skinny_at<cols>(item / cols, item % cols);
#pragma unroll
            for (uint32_t p = 0; p < form::PLANES; p++)
                ck_put16(&s.w[m][p][at], j.w_codes[m][p][i]);
            form::put(s.numbers[m], j.numbers[m][i], item, group + item % cols);
        }
#pragma unroll
    for (uint32_t n = 0; n < SKINNY_N; n++)
#pragma unroll
        for (uint32_t k = 0; k < SKINNY_PIECES; k++)
            ck_put16(&s.x[n][k][skinny_at<4>(lane / 4, lane % 4)], j.x_codes[n][k]);
#pragma unroll
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t part = lane % 2 * 2 + k, halves = (uint32_t)(j.x_sums[k] >> 32);
        s.d[part][lane / 2] = ck_u2f((uint32_t)j.x_sums[k]);
        if constexpr (form::SUMS)
            s.sum[part][lane / 2] = (float)((int)(int16_t)(uint16_t)halves + ((int)halves >> 16));
    }
}

/* --- the loop -------------------- */

/* PER rows of x go into one sum: neighbouring ones, whose sums are of one thread. */
template <typename form, int PER> struct skinny_state {
    float acc[SKINNY_CLASSES][form::M * SKINNY_N][4 / PER];
};

/* Part `part` of a step: rows 2q and 2q + 1 of the 8 of x from n on. */
template <typename form>
CK_DEV skinny_x skinny_x_of(const skinny_stage<form> &s, uint32_t part, uint32_t n) {
    const uint32_t at = n * 8 + ck_lane() % 4 * 2;
    skinny_x x = {*(const gemm_pair *)&s.d[part][at], {0.0f, 0.0f}};
    if constexpr (form::SUMS) x.sum = *(const gemm_pair *)&s.sum[part][at];
    return x;
}

/* One group of 16 rows of w, whose parts are those of the piece from `first` on, with b of the rows
 * of x.  Each sum gets its terms as in gemv_step(): one row of x after the other. */
template <typename form, int PER>
CK_DEV void skinny_group(float acc[][4 / PER], const typename form::raw &raw,
                         const skinny_stage<form> &s, const typename form::scales &scales,
                         const uint32_t b[SKINNY_N][4], uint32_t piece, uint32_t first) {
    constexpr uint32_t parts = form::GROUP / 32;
    uint32_t a[parts][4];
#pragma unroll
    for (uint32_t p = 0; p < parts; p++) form::fragment(raw, first + p, a[p]);
#pragma unroll
    for (uint32_t n = 0; n < SKINNY_N; n++) {
        typename form::ints ints[parts];
        skinny_x x[parts];
#pragma unroll
        for (uint32_t p = 0; p < parts; p++) {
            form::multiply(ints[p], a[p], &b[n][2 * (first + p)]);
            x[p] = skinny_x_of(s, piece * 2 + first + p, n);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (uint32_t p = 0; p < parts; p++)
                acc[n][i / PER] = form::add(acc[n][i / PER], ints[p], i, scales, p, x[p]);
    }
}

/* `groups` of the step are there; acc of its first class. */
template <typename form, int PER>
CK_DEV void skinny_multiply(float acc[][form::M * SKINNY_N][4 / PER], const skinny_stage<form> &s,
                            uint32_t groups) {
    constexpr uint32_t parts = form::GROUP / 32, each = 2 / parts; /* groups of a piece */
    const uint32_t lane = ck_lane();
#pragma unroll
    for (uint32_t piece = 0; piece < SKINNY_PIECES; piece++) {
        uint32_t b[SKINNY_N][4];
#pragma unroll
        for (uint32_t n = 0; n < SKINNY_N; n++)
            ck_ldmatrix_x4(b[n], &s.x[n][piece][skinny_at<4>(lane % 8, lane / 8)]);
#pragma unroll
        for (uint32_t m = 0; m < form::M; m++) {
            const typename form::raw raw = form::raw_of(s.w[m], s.numbers[m], piece);
#pragma unroll
            for (uint32_t k = 0; k < each; k++) {
                const uint32_t column = piece * each + k;
                if (column >= groups) continue;
                skinny_group<form, PER>(&acc[column][m * SKINNY_N], raw, s,
                                        form::scales_of(s.numbers[m], column), b, piece, k * parts);
            }
        }
    }
}

template <typename form, int PER>
CK_DEV void skinny_walk(skinny_state<form, PER> &s, skinny_job<form> &j,
                        skinny_stage<form> &stage) {
    constexpr uint32_t cols = skinny_shape<form>::COLS, steps = skinny_shape<form>::STEPS;
    const uint32_t groups = j.w->cols / form::GROUP;
    uint32_t group = ck_warp() * SKINNY_CLASSES;
    if (group < groups) skinny_load(j, group);
#pragma unroll 1
    for (; group < groups; group += 32)
#pragma unroll
        for (uint32_t i = 0; i < steps; i++) {
            const uint32_t now = group + i * cols;
            const uint32_t next = i + 1 < steps ? now + cols : group + 32;
            skinny_put(j, stage, now);
            ck_syncwarp();
            if (next < groups) skinny_load(j, next);
            if (now < groups) skinny_multiply<form, PER>(&s.acc[i * cols], stage, groups - now);
            ck_syncwarp();
        }
}

/* --- the end -------------------- */

/* Gives half of COUNT values of each class to the warp `apart` from this one, and adds its half of
 * ours to the other: the classes of both are as far apart as SKINNY_CLASSES * apart.  A single
 * value both add up. */
template <int COUNT>
CK_DEV void skinny_halve(float v[][SKINNY_CLASSES], float (*shared)[32], uint32_t stride,
                         uint32_t apart) {
    constexpr uint32_t half = COUNT / 2, sent = COUNT > 1 ? half : 1;
    const bool upper = (ck_warp() & apart) != 0;
    const uint32_t mine = ck_warp() * stride, theirs = (ck_warp() ^ apart) * stride;
    ck_sync();
#pragma unroll
    for (uint32_t i = 0; i < sent; i++)
#pragma unroll
        for (uint32_t c = 0; c < SKINNY_CLASSES; c++)
            shared[mine + i * SKINNY_CLASSES + c][ck_lane()] = upper ? v[i][c] : v[i + half][c];
    ck_sync();
#pragma unroll
    for (uint32_t i = 0; i < sent; i++)
#pragma unroll
        for (uint32_t c = 0; c < SKINNY_CLASSES; c++)
            v[i][c] = (upper ? v[i + half][c] : v[i][c]) +
                      shared[theirs + i * SKINNY_CLASSES + c][ck_lane()];
}

/* What the warp is left with of all that each warp had: the bits of its number, highest first, say
 * which half of them was kept. */
template <typename form, int PER, typename out_rows>
CK_DEV void skinny_end(const skinny_state<form, PER> &s, skinny_shared<form> &shared,
                       const gemm_output &o, uint32_t w_row, const out_rows &rows) {
    constexpr uint32_t each = 4 / PER, all = form::M * SKINNY_N * each; /* values */
    constexpr uint32_t left = all > SKINNY_WARPS ? all / SKINNY_WARPS : 1;
    constexpr uint32_t stride = all / 2 * SKINNY_CLASSES;
    float v[all][SKINNY_CLASSES];
#pragma unroll
    for (uint32_t i = 0; i < all; i++)
#pragma unroll
        for (uint32_t c = 0; c < SKINNY_CLASSES; c++) v[i][c] = s.acc[c][i / each][i % each];
    skinny_halve<all>(v, &shared.sums[0][0], stride, 4);
    skinny_halve<all / 2>(v, &shared.sums[0][0], stride, 2);
    skinny_halve<all / 4>(v, &shared.sums[0][0], stride, 1);
    if (all < SKINNY_WARPS && ck_warp() % 2 != 0) return;
#pragma unroll
    for (uint32_t i = 0; i < left; i++) {
        const uint32_t at = ck_warp() * all / SKINNY_WARPS + i, tile = at / each;
        const uint32_t element = at % each * PER; /* or the first of a pair */
        const uint32_t row = tile / SKINNY_N * 16 + ck_lane() / 4 + element / 2 * 8;
        const uint32_t x = (tile % SKINNY_N * 8 + ck_lane() % 4 * 2 + element % 2) / PER;
        if (w_row + row >= o.w_rows || x >= rows.count) continue;
        gemm_store_one(o, (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]), w_row + row,
                       out_rows::at(rows, x));
    }
}

/* --- entries -------------------- */

/* The weights of skinny_load() of the warp's first step, into the L2 cache, before the kernel ahead
 * has ended.  The first of the blocks that have the same rows of w does it for all. */
template <typename form> CK_DEV void skinny_prefetch_first(const ck_matrix &w, uint32_t w_row) {
    constexpr uint32_t cols = skinny_shape<form>::COLS;
    const uint32_t groups = w.cols / form::GROUP;
    const uint32_t group = ck_warp() * SKINNY_CLASSES + ck_lane() % cols;
    if (CK_ARCH < 900 || ck_bid_x != 0 || group >= groups) return;
#pragma unroll
    for (uint32_t m = 0; m < form::M; m++)
#pragma unroll
        for (uint32_t i = 0; i < skinny_shape<form>::ITEMS; i++) {
            const uint32_t row = w_row + m * 16 + skinny_item(i) / cols;
            if (row >= w.rows) continue;
#pragma unroll
            for (uint32_t p = 0; p < form::PLANES; p++)
                ck_prefetch(planar_at(w, p, (uint64_t)(row * groups + group) * 16));
            form::ahead(w, row * groups + group);
        }
}

/* Rows of x are rows of results, or pairs of them are: PER. */
template <typename form, int PER> CK_DEV void skinny_kernel(const k_gemv_args &a, uint32_t tile) {
    typedef skinny_shared<form> shared_of;
    CK_SHARED(shared_of, shared, 1);
    const uint32_t row = ck_bid_x * (CK_SKINNY_X / PER), w_row = tile * (form::M * 16);
    skinny_prefetch_first<form>(a.w, w_row);
    ck_pdl_wait();
    ck_pdl_launch();
    const uint32_t rows = ck_ld((const uint32_t *)a.count);
    if (row >= rows) return;
    skinny_job<form> job;
    skinny_state<form, PER> s = {};
    skinny_begin(job, {a.w, a.x, a.sums}, w_row, gemm_neighbours{row * PER, (rows - row) * PER});
    skinny_walk(s, job, shared[0].stages[ck_warp()]);
    const gemm_output to = {a.bias, a.add, a.out, a.w.rows, a.out_stride};
    skinny_end(s, shared[0], to, w_row, gemm_neighbours{row, rows - row});
}

/* The tiles of one product after those of another. */
template <typename form> CK_DEV void skinnies_kernel(const k_gemvs_args &a) {
    constexpr uint32_t each = form::M * 16;
    uint32_t tile = ck_bid_y, i = 0;
#pragma unroll 1
    for (; i + 1 < CK_GEMVS_MAX; i++) {
        const uint32_t tiles = (a.of[i].w.rows + each - 1) / each;
        if (tile < tiles) break;
        tile -= tiles;
    }
    skinny_kernel<form, 1>(a.of[i], tile);
}

/* A tile of up to CK_SKINNY_X pairs. */
template <typename form> CK_DEV void skinny_experts_kernel(const k_experts_args &a) {
    typedef skinny_shared<form> shared_of;
    CK_SHARED(shared_of, shared, 1);
    CK_SHARED(gemm_tile, t, 1);
    if (ck_bid_x >= ck_ld((const uint32_t *)a.few_tiles_count)) return;
    const ck_tile tile = gemm_tile_at(a.few_tiles, ck_bid_x);
    const uint32_t w_row = ck_bid_y * (form::M * 16);
    gemm_tile_read(t[0], a.experts, a.few_pairs, tile);
    skinny_job<form> job;
    skinny_state<form, 1> s = {};
    skinny_begin(job, {t[0].w, a.x, a.sums}, w_row,
                 gemm_shared_rows{t[0].pair, tile.count, a.shared_in != 0 ? a.used : 1});
    skinny_walk(s, job, shared[0].stages[ck_warp()]);
    const uint64_t bias_at = (uint64_t)tile.expert * a.w_rows * sizeof(float);
    const gemm_output to = {a.bias != 0 ? a.bias + bias_at : 0, 0, a.out, a.w_rows, a.w_rows};
    skinny_end(s, shared[0], to, w_row, gemm_listed{t[0].pair, tile.count});
}

/* Blocks on an SM: 2 leave 128 registers to each thread, 1 leaves 255. */
#define SKINNY_KERNELS(name, blocks)                                                   \
    CK_EARLY_FEW(k_gemv_##name##_n16, k_gemv_args, CK_SKINNY_THREADS, blocks) {        \
        skinny_kernel<skinny_##name, 1>(a, ck_bid_y);                                  \
    }                                                                                  \
    CK_EARLY_FEW(k_gemv_##name##_p8, k_gemv_args, CK_SKINNY_THREADS, blocks) {         \
        skinny_kernel<skinny_##name, 2>(a, ck_bid_y);                                  \
    }                                                                                  \
    CK_EARLY_FEW(k_gemvs_##name##_n16, k_gemvs_args, CK_SKINNY_THREADS, blocks) {      \
        skinnies_kernel<skinny_##name>(a);                                             \
    }                                                                                  \
    CK_KERNEL_FEW(k_experts_##name##_n16, k_experts_args, CK_SKINNY_THREADS, blocks) { \
        skinny_experts_kernel<skinny_##name>(a);                                       \
    }

#endif
