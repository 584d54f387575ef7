/* norm.cu - residual sum, norm, gain and bias, and the codes of the result, in one pass over a row.
 *
 * A block of 256 threads has a row.  Every sum is taken in an order that follows from the length of
 * a group alone, so a row's bits do not depend on the batch, nor on whether it fits into shared
 * memory:
 *   groups longer than WARP_GROUP_MAX     256 partial sums by the block, one group after the other
 *   shorter ones                          32 partial sums by a warp, 8 groups at once
 * Where the row is not in shared memory it is read again: from `sum` when that was written. */
#include "ck_math.h"
#include "quantize.h"
#include "tensor/formula.h"

enum { THREADS = 256, WARPS = 8, WARP_GROUP_MAX = 1024, GROUPS_AT_ONCE = 512 };

/* What a group is moved by and multiplied with. */
typedef struct group_scale {
    float mean, scale;
} group_scale;

/* x + add, or what was made of it before. */
CK_DEV float summed(const k_norm_args &a, uint64_t at) {
    float x = ck_ld((const float *)a.x + at);
    return a.add != 0 ? x + ck_ld((const float *)a.add + at) : x;
}

CK_DEV float element(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t c) {
    if (a.in_shared) return row[c];
    if (a.sum != 0) return ck_ld((const float *)a.sum + row_at + c);
    return summed(a, row_at + c);
}

/* Fills `row` and `sum`. */
CK_DEV void take_row(const k_norm_args &a, uint64_t row_at, float *row) {
    if (!a.in_shared && a.sum == 0) return;
    for (uint32_t c = ck_tid; c < a.cols; c += THREADS) {
        float x = summed(a, row_at + c);
        if (a.in_shared) row[c] = x;
        if (a.sum != 0) ck_st((float *)a.sum + row_at + c, x);
    }
    ck_sync();
}

/* Of the group's elements first, first + stride, ..: the sum, or that of (x - mean)^2. */
CK_DEV float partial_sum(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t at,
                         uint32_t first, uint32_t stride, bool squares, float mean) {
    float sum = 0;
    for (uint32_t c = first; c < a.group; c += stride) {
        float x = element(a, row_at, row, at + c);
        sum = squares ? ck_fma(x - mean, x - mean, sum) : sum + x;
    }
    return sum;
}

CK_DEV float group_factor(const k_norm_args &a, float squares) {
    return ck_rsqrt(squares / (float)a.group + a.eps);
}

/* The same bits in all threads.  part [WARPS] in shared memory. */
CK_DEV float block_sum(float v, float *part) {
    v = ck_warp_sum(v);
    if (ck_lane() == 0) part[ck_warp()] = v;
    ck_sync();
    float sum = part[0];
    for (uint32_t w = 1; w < WARPS; w++) sum += part[w];
    ck_sync();
    return sum;
}

/* One group by the block. */
CK_DEV void scale_long_group(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t at,
                             float *part, group_scale *out) {
    float mean = 0;
    if (a.kind == NORM_LAYER) {
        float sum = partial_sum(a, row_at, row, at, ck_tid, THREADS, false, 0);
        mean = block_sum(sum, part) / (float)a.group;
    }
    float squares = partial_sum(a, row_at, row, at, ck_tid, THREADS, true, mean);
    squares = block_sum(squares, part);
    group_scale s = {mean, group_factor(a, squares)};
    if (ck_tid == 0) *out = s;
}

/* One group by a warp. */
CK_DEV void scale_short_group(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t at,
                              group_scale *out) {
    float mean = 0;
    if (a.kind == NORM_LAYER) {
        float sum = partial_sum(a, row_at, row, at, ck_lane(), 32, false, 0);
        mean = ck_warp_sum(sum) / (float)a.group;
    }
    float squares = ck_warp_sum(partial_sum(a, row_at, row, at, ck_lane(), 32, true, mean));
    group_scale s = {mean, group_factor(a, squares)};
    if (ck_lane() == 0) *out = s;
}

/* Columns begin .. end of the result.  Whole warps stay together: codes are made by 32 lanes. */
CK_DEV void write_columns(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t begin,
                          uint32_t end, const group_scale *scales) {
    for (uint32_t base = begin + ck_warp() * 32; base < end; base += THREADS) {
        uint32_t c = base + ck_lane();
        float y = 0;
        if (c < end) {
            uint32_t g = a.group == a.cols ? 0 : (c - begin) / a.group;
            uint32_t own = a.gain_len == a.cols ? c : c - begin - g * a.group;
            y = (element(a, row_at, row, c) - scales[g].mean) * scales[g].scale;
            if (a.gain != 0) y *= ck_ld((const float *)a.gain + own);
            if (a.bias != 0) y += ck_ld((const float *)a.bias + own);
            if (a.out != 0) ck_st((float *)a.out + row_at + c, y);
        }
        if (a.codes != 0)
            quantize_store(y, (int8_t *)a.codes + row_at + base,
                           (ck_sums *)a.sums + (row_at + base) / 32);
    }
}

/* A batch of groups ends at a multiple of 32 columns, or at the end of the row. */
CK_KERNEL(k_norm, 256) {
    CK_SHARED_DYN(float, row);
    CK_SHARED(group_scale, scales, GROUPS_AT_ONCE);
    CK_SHARED(float, part, WARPS);
    if (ck_bid_x >= ck_ld((const uint32_t *)a.count)) return;
    uint64_t row_at = (uint64_t)ck_bid_x * a.cols;
    uint32_t groups = a.cols / a.group;
    take_row(a, row_at, row);
    for (uint32_t first = 0; first < groups; first += GROUPS_AT_ONCE) {
        uint32_t n = ck_min_u(groups - first, GROUPS_AT_ONCE);
        uint32_t at = first * a.group;
        if (a.group > WARP_GROUP_MAX)
            for (uint32_t g = 0; g < n; g++)
                scale_long_group(a, row_at, row, at + g * a.group, part, &scales[g]);
        else
            for (uint32_t g = ck_warp(); g < n; g += WARPS)
                scale_short_group(a, row_at, row, at + g * a.group, &scales[g]);
        ck_sync();
        write_columns(a, row_at, row, at, at + n * a.group, scales);
        ck_sync();
    }
}
