/* heads.cu - each head of a row times a matrix of its own, as in multi-head latent attention.
 *
 * A block has one head of one row.  Weights are read in blocks of 32 by one lane, which takes them
 * apart once; floats are read one by one by neighbouring lanes.  The order of every sum follows
 * from the shape and form of the matrix alone. */
#include "planar.h"

enum { THREADS = 128, WARPS = 4, BLOCK = 32 };

/* A head: x [in_dim], out [out_dim], rows row0 .. of w. */
typedef struct heads_job {
    const float *x;
    float *out;
    uint32_t row0;
} heads_job;

/* The smallest power of two that is not below n, at most `most`. */
CK_DEV uint32_t power_of_two(uint32_t n, uint32_t most) {
    uint32_t p = 1;
    while (p < n && p < most) p *= 2;
    return p;
}

/* Element k of a block of 32. */
CK_DEV float value_of(const planar_codes &c, uint32_t k) {
    int code = (int)(int8_t)(uint8_t)(c.words[k / 4] >> (k % 4 * 8));
    return ck_fma(c.part[k / 16].scale, (float)code, -c.part[k / 16].min);
}

/* --- out[j] = x . W[j] -------------------- */

/* This lane's share of a row: blocks first, first + lanes, .. */
CK_DEV float dot_blocks(const ck_matrix &w, const float *x, uint32_t row, uint32_t first,
                        uint32_t lanes) {
    float sum = 0;
#pragma unroll 1
    for (uint32_t b = first; b * BLOCK < w.cols; b += lanes) {
        planar_codes c = planar_codes_of(w, row, b);
#pragma unroll
        for (uint32_t k = 0; k < BLOCK; k++)
            sum = ck_fma(ck_ld(x + b * BLOCK + k), value_of(c, k), sum);
    }
    return sum;
}

CK_DEV float dot_floats(const ck_matrix &w, const float *x, uint32_t row, uint32_t first,
                        uint32_t lanes) {
    float sum = 0;
    for (uint32_t c = first; c < w.cols; c += lanes)
        sum = ck_fma(ck_ld(x + c), planar_float(w, row, c), sum);
    return sum;
}

/* As many lanes per row as it has blocks, and as many rows at once as that leaves lanes for. */
CK_DEV void by_rows(const k_heads_matmul_args &a, const heads_job &h) {
    bool floats = planar_is_float(a.w);
    uint32_t lanes = floats ? 32 : power_of_two(a.w.cols / BLOCK, 32), at_once = 32 / lanes;
    for (uint32_t j0 = ck_warp() * at_once; j0 < a.out_dim; j0 += WARPS * at_once) {
        uint32_t j = j0 + ck_lane() / lanes, first = ck_lane() % lanes;
        float sum = 0;
        if (j < a.out_dim)
            sum = floats ? dot_floats(a.w, h.x, h.row0 + j, first, lanes)
                         : dot_blocks(a.w, h.x, h.row0 + j, first, lanes);
        for (uint32_t m = lanes / 2; m > 0; m >>= 1) sum += ck_shfl_xor_f(sum, m);
        if (first == 0 && j < a.out_dim) ck_st(h.out + j, sum);
    }
}

/* --- out[c] = sum over j of x[j] * W[j][c] -------------------- */

CK_DEV void by_columns_of_floats(const k_heads_matmul_args &a, const heads_job &h) {
    for (uint32_t c = ck_tid; c < a.out_dim; c += THREADS) {
        float sum = 0;
        for (uint32_t j = 0; j < a.in_dim; j++)
            sum = ck_fma(ck_ld(h.x + j), planar_float(a.w, h.row0 + j, c), sum);
        ck_st(h.out + c, sum);
    }
}

typedef struct column_sums {
    float x[BLOCK + 1]; /* one more: threads' sums begin in different banks */
} column_sums;

/* A thread has a block of columns and every parts-th row; a column's parts are added in order. */
CK_DEV void by_columns(const k_heads_matmul_args &a, const heads_job &h, column_sums *sums) {
    uint32_t blocks = power_of_two(a.out_dim / BLOCK, THREADS);
    uint32_t parts = THREADS / blocks, panel = blocks * BLOCK;
    for (uint32_t c0 = 0; c0 < a.out_dim; c0 += panel) {
        uint32_t block = c0 / BLOCK + ck_tid % blocks;
        float sum[BLOCK] = {};
#pragma unroll 1
        for (uint32_t j = ck_tid / blocks; j < a.in_dim && block * BLOCK < a.out_dim; j += parts) {
            float x = ck_ld(h.x + j);
            planar_codes c = planar_codes_of(a.w, h.row0 + j, block);
#pragma unroll
            for (uint32_t k = 0; k < BLOCK; k++) sum[k] = ck_fma(x, value_of(c, k), sum[k]);
        }
#pragma unroll
        for (uint32_t k = 0; k < BLOCK; k++) sums[ck_tid].x[k] = sum[k];
        ck_sync();
        for (uint32_t c = ck_tid; c < panel && c0 + c < a.out_dim; c += THREADS) {
            float all = 0;
            for (uint32_t p = 0; p < parts; p++) all += sums[p * blocks + c / BLOCK].x[c % BLOCK];
            ck_st(h.out + c0 + c, all);
        }
        ck_sync();
    }
}

CK_KERNEL(k_heads_matmul, 128) {
    CK_SHARED(column_sums, sums, THREADS);
    uint32_t head = ck_bid_x, row = ck_bid_y;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    uint64_t at = (uint64_t)row * a.heads + head;
    heads_job h = {(const float *)a.x + at * (a.in_dim + a.tail_dim),
                   (float *)a.out + at * (a.out_dim + a.tail_dim), a.row0 + head * a.row_stride};
    if (!a.transposed)
        by_rows(a, h);
    else if (planar_is_float(a.w))
        by_columns_of_floats(a, h);
    else
        by_columns(a, h, sums);
    for (uint32_t c = ck_tid; c < a.tail_dim; c += THREADS)
        ck_st(h.out + a.out_dim + c, ck_ld(h.x + a.in_dim + c));
}
