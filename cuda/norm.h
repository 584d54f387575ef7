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

enum : uint32_t {
    NORM_SUMS = 256,
    NORM_WARP_GROUP_MAX = 1024,
    NORM_AHEAD = 8,   /* elements that a thread has on their way */
    NORM_AT_ONCE = 4, /* blocks of 32 codes that a warp makes */
};

/* What a group is moved by and multiplied with. */
typedef struct group_scale {
    float mean, scale;
} group_scale;

/* Loads take longer than what is made of them, so several are under way at a time: N elements of
 * the row, first, first + stride, .., as far as they are before `end`, and 0 behind it. */
template <uint32_t N>
CK_DEV void load_floats(uint64_t from, uint32_t first, uint32_t stride, uint32_t end, float x[N]) {
    const float *at = (const float *)from;
#pragma unroll
    for (uint32_t i = 0; i < N; i++)
        x[i] = first + i * stride < end ? ck_ld(at + first + i * stride) : 0.0f;
}

/* Of x + add. */
template <uint32_t N>
CK_DEV void load_summed(const k_norm_args &a, uint64_t row_at, uint32_t first, uint32_t stride,
                        uint32_t end, float x[N]) {
    load_floats<N>(a.x + row_at * sizeof(float), first, stride, end, x);
    if (a.add == 0) return;
    float add[N];
    load_floats<N>(a.add + row_at * sizeof(float), first, stride, end, add);
#pragma unroll
    for (uint32_t i = 0; i < N; i++) x[i] += add[i];
}

/* Or of what was made of it before. */
template <uint32_t N>
CK_DEV void load_elements(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t first,
                          uint32_t stride, uint32_t end, float x[N]) {
    if (!a.in_shared && a.sum != 0) {
        load_floats<N>(a.sum + row_at * sizeof(float), first, stride, end, x);
    } else if (!a.in_shared) {
        load_summed<N>(a, row_at, first, stride, end, x);
    } else {
#pragma unroll
        for (uint32_t i = 0; i < N; i++)
            x[i] = first + i * stride < end ? row[first + i * stride] : 0.0f;
    }
}

/* Fills `row` and `sum`. */
template <uint32_t THREADS>
CK_DEV void take_row(const k_norm_args &a, uint64_t row_at, float *row) {
    if (!a.in_shared && a.sum == 0) return;
    for (uint32_t first = ck_tid; first < a.cols; first += NORM_AHEAD * THREADS) {
        float x[NORM_AHEAD];
        load_summed<NORM_AHEAD>(a, row_at, first, THREADS, a.cols, x);
#pragma unroll
        for (uint32_t i = 0; i < NORM_AHEAD; i++) {
            const uint32_t c = first + i * THREADS;
            if (c >= a.cols) break;
            if (a.in_shared) row[c] = x[i];
            if (a.sum != 0) ck_st((float *)a.sum + row_at + c, x[i]);
        }
    }
    ck_sync();
}

/* Of the group's elements first, first + stride, ..: the sum, or that of (x - mean)^2. */
CK_DEV float partial_sum(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t at,
                         uint32_t first, uint32_t stride, bool squares, float mean) {
    float sum = 0;
    for (uint32_t c = first; c < a.group; c += NORM_AHEAD * stride) {
        float x[NORM_AHEAD];
        load_elements<NORM_AHEAD>(a, row_at, row, at + c, stride, at + a.group, x);
#pragma unroll
        for (uint32_t i = 0; i < NORM_AHEAD; i++) {
            if (c + i * stride >= a.group) break;
            sum = squares ? ck_fma(x[i] - mean, x[i] - mean, sum) : sum + x[i];
        }
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

/* Where the gain and the bias of column c are. */
CK_DEV uint32_t gain_of(const k_norm_args &a, uint32_t c) {
    return a.gain_len == a.cols ? c : c % a.group;
}

/* What becomes of N columns first, first + stride, .. in x. */
template <uint32_t N>
CK_DEV void scale_columns(const k_norm_args &a, uint32_t begin, uint32_t end, uint32_t first,
                          uint32_t stride, const group_scale *scales, float x[N]) {
    float gain[N], bias[N];
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t c = first + i * stride;
        gain[i] = a.gain != 0 && c < end ? ck_ld((const float *)a.gain + gain_of(a, c)) : 1.0f;
        bias[i] = a.bias != 0 && c < end ? ck_ld((const float *)a.bias + gain_of(a, c)) : 0.0f;
    }
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t c = first + i * stride;
        if (c >= end) break;
        const group_scale s = scales[a.group == a.cols ? 0 : (c - begin) / a.group];
        x[i] = ck_mul(ck_mul(x[i] - s.mean, s.scale), gain[i]);
        if (a.bias != 0) x[i] += bias[i];
    }
}

/* Columns begin .. end of the result.  Whole warps stay together: codes are made by 32 lanes. */
template <uint32_t THREADS>
CK_DEV void write_columns(const k_norm_args &a, uint64_t row_at, const float *row, uint32_t begin,
                          uint32_t end, const group_scale *scales) {
    enum : uint32_t { N = NORM_AT_ONCE };
    for (uint32_t base = begin + ck_warp() * 32; base < end; base += N * THREADS) {
        float y[N];
        quantized q[N];
        load_elements<N>(a, row_at, row, base + ck_lane(), THREADS, end, y);
        scale_columns<N>(a, begin, end, base + ck_lane(), THREADS, scales, y);
        if (a.codes != 0) quantize_warp<N>(y, q);
#pragma unroll
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t first = base + i * THREADS;
            if (first >= end) break;
            if (a.out != 0 && first + ck_lane() < end)
                ck_st((float *)a.out + row_at + first + ck_lane(), y[i]);
            if (a.codes != 0)
                store_quantized(q[i], (int8_t *)a.codes + row_at + first,
                                (ck_sums *)a.sums + (row_at + first) / 32);
        }
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
