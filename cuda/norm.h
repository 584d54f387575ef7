/* norm.h - a row is summed up with its residual, normed, multiplied with gains and quantized by a
 * block.
 *
 * Every sum is taken in an order that follows from the length of a group alone, so a row's bits
 * depend neither on the batch nor on how many threads there are, nor on whether it fits into shared
 * memory:
 *   groups longer than NORM_WARP_GROUP_MAX   NORM_SUMS partial sums by the block, one group after
 *                                            the other
 *   shorter ones                             32 partial sums by a warp, one group for each at once
 * Where the row is not in shared memory it is read again: from `sum` when that was written. */
#ifndef CUDA_NORM_H
#define CUDA_NORM_H
#include "ck_math.h"
#include "quantize.h"
#include "tensor/formula.h"

enum { NORM_SUMS = 256, NORM_WARP_GROUP_MAX = 1024 };

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
template <uint32_t THREADS>
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

/* The sum of NORM_SUMS partial ones, whatever the threads: the same bits in all of them.
 * part [NORM_SUMS / 32] in shared memory. */
template <uint32_t THREADS>
CK_DEV float block_sum(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t at,
                       bool squares, float mean, float *part) {
    for (uint32_t v = ck_tid; v < NORM_SUMS; v += THREADS) {
        float sum = ck_warp_sum(partial_sum(a, row_at, row, at, v, NORM_SUMS, squares, mean));
        if (ck_lane() == 0) part[v / 32] = sum;
    }
    ck_sync();
    float sum = part[0];
    for (uint32_t w = 1; w < NORM_SUMS / 32; w++) sum += part[w];
    ck_sync();
    return sum;
}

/* One group by the block. */
template <uint32_t THREADS>
CK_DEV void scale_long_group(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t at,
                             float *part, group_scale *out) {
    float mean = 0;
    if (a.kind == NORM_LAYER)
        mean = block_sum<THREADS>(a, row_at, row, at, false, 0, part) / (float)a.group;
    float squares = block_sum<THREADS>(a, row_at, row, at, true, mean, part);
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
template <uint32_t THREADS>
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

/* The row, whose columns begin at row_at, GROUPS groups at a time.  In shared memory: row [a.cols]
 * if a.in_shared, scales [GROUPS], part [NORM_SUMS / 32].  A batch of groups ends at a multiple of
 * 32 columns, or at the end of the row. */
template <uint32_t THREADS, uint32_t GROUPS>
CK_DEV void norm_row(const k_norm_args &a, uint64_t row_at, float *row, group_scale *scales,
                     float *part) {
    uint32_t groups = a.cols / a.group;
    take_row<THREADS>(a, row_at, row);
    for (uint32_t first = 0; first < groups; first += GROUPS) {
        uint32_t n = ck_min_u(groups - first, GROUPS);
        uint32_t at = first * a.group;
        if (a.group > NORM_WARP_GROUP_MAX)
            for (uint32_t g = 0; g < n; g++)
                scale_long_group<THREADS>(a, row_at, row, at + g * a.group, part, &scales[g]);
        else
            for (uint32_t g = ck_warp(); g < n; g += THREADS / 32)
                scale_short_group(a, row_at, row, at + g * a.group, &scales[g]);
        ck_sync();
        write_columns<THREADS>(a, row_at, row, at, at + n * a.group, scales);
        ck_sync();
    }
}

#endif
