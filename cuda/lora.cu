/* lora.cu - what low-rank adapters add to products (abi.h).
 *
 *   shrink   a block has CK_LORA_RANKS rows of A and the rows of x of a segment; its threads take
 *            granules tid, tid + 128 ... of a row, warps sum by a butterfly, and the sums of the
 *            four warps are added in order
 *   expand   a thread is one row of B, with all rows of a segment: x . A^T comes through shared
 *            memory, some ranks at a time
 *
 * Every sum is one row's, in an order that depends on the matrix alone: use after use, rank after
 * rank, column after column of a thread.  Segments of one row have code of their own with the same
 * order. */
#include "ck_fma.h"

enum { WARPS = CK_LORA_THREADS / 32, EXPAND_RANKS = 64, MANY = CK_LORA_SEGMENT_ROWS };

/* --- elements of a granule -------------------- */

struct lora_f32 {
    enum { ELEMENTS = 4 };
    CK_DEV float at(const uint32_t words[4], int i) { return ck_u2f(words[i]); }
};
struct lora_f16 {
    enum { ELEMENTS = 8 };
    CK_DEV float at(const uint32_t words[4], int i) {
        return ck_h2f((uint16_t)(words[i / 2] >> (i % 2 * 16)));
    }
};
struct lora_bf16 {
    enum { ELEMENTS = 8 };
    CK_DEV float at(const uint32_t words[4], int i) {
        return ck_u2f(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    }
};

CK_DEV void granule(uint64_t matrix, uint64_t idx, uint32_t words[4]) {
    const ck_u4 g = ck_ldg16((const uint8_t *)matrix + idx * 16);
    words[0] = g.x;
    words[1] = g.y;
    words[2] = g.z;
    words[3] = g.w;
}

template <typename form> CK_DEV uint32_t granules_of(uint32_t cols) {
    return (cols + form::ELEMENTS - 1) / form::ELEMENTS;
}

/* --- what a step says -------------------- */

CK_DEV ck_lora_segment segment_of(const ck_lora &l) {
    const ck_lora_segment *s = (const ck_lora_segment *)l.segments + ck_bid_y;
    return {ck_ld(&s->row0), ck_ld(&s->rows), ck_ld(&s->mix), 0};
}

/* Use u of a mix; false behind the last one. */
CK_DEV bool use_of(const ck_lora &l, uint32_t mix, uint32_t u, uint32_t slot, ck_lora_pair *pair) {
    if (u == CK_LORA_USES_MAX) return false;
    const ck_lora_use *use = ((const ck_lora_mix *)l.mixes + mix)->uses + u;
    const uint64_t pairs = ck_ld(&use->pairs);
    if (pairs == 0) return false;
    const ck_lora_pair *p = (const ck_lora_pair *)pairs + slot;
    pair->a = ck_ld(&p->a);
    pair->b = ck_ld(&p->b);
    pair->rank = pair->a != 0 ? ck_ld(&p->rank) : 0;
    pair->a_form = ck_ld(&p->a_form);
    pair->b_form = ck_ld(&p->b_form);
    pair->scale = ck_mul(ck_ld(&use->scale), ck_ld(&p->scale));
    return true;
}

/* x . A^T of a row and a use: [rank] */
CK_DEV float *mid_of(const ck_lora &l, uint32_t product, uint32_t row, uint32_t u) {
    return (float *)l.mid + product * l.mid_stride +
           ((uint64_t)row * CK_LORA_USES_MAX + u) * l.rank_max;
}

/* --- x . A^T -------------------- */

/* Elements of a row of x: the row ends anywhere, and is aligned where `whole` says so. */
template <int COUNT> CK_DEV void elements(const float *x, uint32_t left, bool whole, float *out) {
    if (whole) {
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) {
            const ck_u4 v = ck_ld16(x + i);
            out[i] = ck_u2f(v.x);
            out[i + 1] = ck_u2f(v.y);
            out[i + 2] = ck_u2f(v.z);
            out[i + 3] = ck_u2f(v.w);
        }
    } else {
#pragma unroll
        for (uint32_t i = 0; i < COUNT; i++) out[i] = i < left ? ck_ld(x + i) : 0.0f;
    }
}

/* This thread's part of rows k0 .. of A with the rows of the segment: rows of either that are not
 * there are the last one again. */
template <typename form, int N>
CK_DEV void shrink_sums(const k_lora_shrink_args &a, const ck_lora_segment &s,
                        const ck_lora_pair &pair, uint32_t k0, float sum[N][CK_LORA_RANKS]) {
    const uint32_t cols = a.cols, granules = granules_of<form>(cols);
    const float *x = (const float *)a.x + (uint64_t)s.row0 * cols;
    const uint32_t last_k = pair.rank - 1 - k0;
#pragma unroll 1
    for (uint32_t g = ck_tid; g < granules; g += CK_LORA_THREADS) {
        const uint32_t col = g * form::ELEMENTS;
        const bool whole = cols % 4 == 0 && col + form::ELEMENTS <= cols;
        uint32_t w[CK_LORA_RANKS][4];
#pragma unroll
        for (uint32_t k = 0; k < CK_LORA_RANKS; k++)
            granule(pair.a, (uint64_t)(k0 + (k < last_k ? k : last_k)) * granules + g, w[k]);
#pragma unroll
        for (uint32_t n = 0; n < N; n++) {
            const uint32_t row = n < s.rows ? n : s.rows - 1;
            float v[form::ELEMENTS];
            elements<form::ELEMENTS>(x + (uint64_t)row * cols + col, cols - col, whole, v);
#pragma unroll
            for (int k = 0; k < CK_LORA_RANKS; k++)
#pragma unroll
                for (int i = 0; i < form::ELEMENTS; i++)
                    sum[n][k] = ck_fma(form::at(w[k], i), v[i], sum[n][k]);
        }
    }
}

template <typename form, int N>
CK_DEV void shrink_tile(const k_lora_shrink_args &a, const ck_lora_segment &s,
                        const ck_lora_pair &pair, uint32_t product, uint32_t u, uint32_t k0,
                        float *parts) {
    float sum[N][CK_LORA_RANKS];
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int k = 0; k < CK_LORA_RANKS; k++) sum[n][k] = 0.0f;
    shrink_sums<form, N>(a, s, pair, k0, sum);
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int k = 0; k < CK_LORA_RANKS; k++) {
            const float v = ck_warp_sum(sum[n][k]);
            if (ck_lane() == 0) parts[(n * CK_LORA_RANKS + k) * WARPS + ck_warp()] = v;
        }
    ck_sync();
    const uint32_t n = ck_tid / CK_LORA_RANKS, k = k0 + ck_tid % CK_LORA_RANKS;
    if (n < s.rows && k < pair.rank) {
        const float *part = parts + ck_tid * WARPS;
        ck_st(mid_of(a.lora, product, s.row0 + n, u) + k, part[0] + part[1] + part[2] + part[3]);
    }
    ck_sync();
}

template <int N>
CK_DEV void shrink_pair(const k_lora_shrink_args &a, const ck_lora_segment &s,
                        const ck_lora_pair &pair, uint32_t product, uint32_t u, uint32_t k0,
                        float *parts) {
    if (pair.a_form == CK_FORM_F32)
        shrink_tile<lora_f32, N>(a, s, pair, product, u, k0, parts);
    else if (pair.a_form == CK_FORM_F16)
        shrink_tile<lora_f16, N>(a, s, pair, product, u, k0, parts);
    else
        shrink_tile<lora_bf16, N>(a, s, pair, product, u, k0, parts);
}

/* Tiles are those of all uses, one use behind the other; every `blocks`th one is this block's. */
CK_KERNEL_FEW(k_lora_shrink, k_lora_shrink_args, CK_LORA_THREADS, 4) {
    CK_SHARED(float, parts, MANY *CK_LORA_RANKS *WARPS);
    if (ck_bid_y >= ck_ld((const uint32_t *)a.lora.count)) return;
    const ck_lora_segment s = segment_of(a.lora);
    const uint32_t product = ck_bid_x / a.blocks, slot = a.lora.slots[product];
    uint32_t tile = ck_bid_x % a.blocks;
    ck_lora_pair pair;
    for (uint32_t u = 0; use_of(a.lora, s.mix, u, slot, &pair); u++) {
        const uint32_t tiles = (pair.rank + CK_LORA_RANKS - 1) / CK_LORA_RANKS;
        for (; tile < tiles; tile += a.blocks) {
            const uint32_t k0 = tile * CK_LORA_RANKS;
            if (s.rows == 1)
                shrink_pair<1>(a, s, pair, product, u, k0, parts);
            else
                shrink_pair<MANY>(a, s, pair, product, u, k0, parts);
        }
        tile -= tiles;
    }
}

/* --- (x . A^T) . B^T -------------------- */

/* Ranks k0 .. of the segment's rows, 0 where there are none. */
template <int N>
CK_DEV void fetch_mid(const ck_lora &l, const ck_lora_segment &s, uint32_t rank, uint32_t product,
                      uint32_t u, uint32_t k0, float *mid) {
    for (uint32_t i = ck_tid; i < N * EXPAND_RANKS; i += CK_LORA_THREADS) {
        const uint32_t n = i / EXPAND_RANKS, k = k0 + i % EXPAND_RANKS;
        const bool there = n < s.rows && k < rank;
        mid[i] = there ? ck_ld((const float *)mid_of(l, product, s.row0 + n, u) + k) : 0.0f;
    }
}

/* sum[n] += ranks k0 .. of row `row` of B, times those of row n. */
template <typename form, int N>
CK_DEV void expand_sums(const ck_lora_pair &pair, uint32_t row, uint32_t k0, const float *mid,
                        float sum[N]) {
    const uint32_t granules = granules_of<form>(pair.rank), first = k0 / form::ELEMENTS;
    const uint32_t here = EXPAND_RANKS / form::ELEMENTS;
    const uint32_t count = granules - first < here ? granules - first : here;
#pragma unroll 1
    for (uint32_t g = 0; g < count; g++) {
        uint32_t w[4];
        granule(pair.b, (uint64_t)row * granules + first + g, w);
#pragma unroll
        for (int i = 0; i < form::ELEMENTS; i++)
#pragma unroll
            for (int n = 0; n < N; n++)
                sum[n] = ck_fma(form::at(w, i),
                                mid[n * EXPAND_RANKS + g * form::ELEMENTS + (uint32_t)i], sum[n]);
    }
}

template <int N>
CK_DEV void expand_pair(const ck_lora &l, const ck_lora_segment &s, const ck_lora_pair &pair,
                        uint32_t product, uint32_t u, uint32_t row, bool there, float *mid,
                        float sum[N]) {
#pragma unroll 1
    for (uint32_t k0 = 0; k0 < pair.rank; k0 += EXPAND_RANKS) {
        fetch_mid<N>(l, s, pair.rank, product, u, k0, mid);
        ck_sync();
        if (there && pair.b_form == CK_FORM_F32)
            expand_sums<lora_f32, N>(pair, row, k0, mid, sum);
        else if (there && pair.b_form == CK_FORM_F16)
            expand_sums<lora_f16, N>(pair, row, k0, mid, sum);
        else if (there)
            expand_sums<lora_bf16, N>(pair, row, k0, mid, sum);
        ck_sync();
    }
}

template <int N>
CK_DEV void expand(const k_lora_expand_args &a, const ck_lora_segment &s, uint32_t product,
                   uint32_t row, float *mid) {
    const uint32_t rows = a.rows[product];
    const bool there = row < rows;
    float *out = (float *)a.out[product] + (uint64_t)s.row0 * rows + row;
    float y[N];
#pragma unroll
    for (uint32_t n = 0; n < N; n++)
        y[n] = there && n < s.rows ? ck_ld((const float *)out + (uint64_t)n * rows) : 0.0f;
    ck_lora_pair pair;
    for (uint32_t u = 0; use_of(a.lora, s.mix, u, a.lora.slots[product], &pair); u++) {
        float sum[N];
#pragma unroll
        for (int n = 0; n < N; n++) sum[n] = 0.0f;
        expand_pair<N>(a.lora, s, pair, product, u, row, there, mid, sum);
        if (pair.rank == 0) continue;
#pragma unroll
        for (int n = 0; n < N; n++) y[n] = ck_fma(pair.scale, sum[n], y[n]);
    }
#pragma unroll
    for (uint32_t n = 0; n < N; n++)
        if (there && n < s.rows) ck_st(out + (uint64_t)n * rows, y[n]);
}

CK_KERNEL_FEW(k_lora_expand, k_lora_expand_args, CK_LORA_THREADS, 4) {
    CK_SHARED(float, mid, MANY *EXPAND_RANKS);
    if (ck_bid_y >= ck_ld((const uint32_t *)a.lora.count)) return;
    const ck_lora_segment s = segment_of(a.lora);
    uint32_t product = 0, block = ck_bid_x;
#pragma unroll 1
    for (; product + 1 < CK_GEMVS_MAX; product++) {
        const uint32_t blocks = (a.rows[product] + CK_LORA_THREADS - 1) / CK_LORA_THREADS;
        if (block < blocks) break;
        block -= blocks;
    }
    const uint32_t row = block * CK_LORA_THREADS + ck_tid;
    if (s.rows == 1)
        expand<1>(a, s, product, row, mid);
    else
        expand<MANY>(a, s, product, row, mid);
}
