/* attention_prompt.h - a tile of queries over a span of the cache, on tensor cores: what is
 * multiplied with a piece of the cache in shared memory (attention_piece.h).
 *
 * Flash attention (Dao et al. 2022, Dao 2023) for the rows of prompts, all in pieces of
 * CK_PROMPT_PIECE tokens that begin at multiples of it:
 *
 *   queries  CK_PROMPT_QUERIES of a block, a query being one row and one head; each of 4 warps has
 *            16, in f16 and in the fragments of `a`.  A lane has to do with two of them, g and
 *            g + 8 of the warp's, where g = lane / 4
 *   scores   queries . keys, in f32: of 8 tokens in each of PIECE / 8 fragments of `c`
 *   weights  2^(15 + score - largest so far) rounded to f16, which lie in the lanes as fragments
 *            of `a`; the 15 keep small ones from being subnormal, and the division takes them away
 *   values   weights . values, summed over the piece from 0 on and then added to what there is of
 *            the pieces before.  The sum of the weights is one more column, of ones, so that the
 *            same rounded weights are divided by
 *
 * What a query computes depends on its own position alone: a piece that it does not see multiplies
 * what it has by 1 and adds 0.  Tokens that it does not see have weight 0, whatever the other
 * queries of its tile see; where that meets a value that is not finite, each query of the warp
 * multiplies values of its own, in which those tokens are 0 (add_values_alone).
 *
 * Of heads of more than 256 elements, as the latents of DeepSeek (576 and 512), no warp has room
 * for 16 queries and their sums: 4 warps share them, 8 are a block.  Each multiplies a quarter of
 * the elements of the keys, adds up the scores of all four in their order, so that they have the
 * same weights, and has a quarter of the columns of the values.  Keys and values are read from
 * shared memory as often as with a warp of its own for every 16 queries; the scores of a piece come
 * on top, 2 KiB of each warp, and 8 KiB that it reads. */
#ifndef CUDA_ATTENTION_PROMPT_H
#define CUDA_ATTENTION_PROMPT_H
#include "attention_piece.h"

/* --- scores -------------------- */

/* The warp's queries in f16: fragment k has their elements 16 k .. 16 k + 15.  Of the widest heads
 * they are in shared memory, which each lane writes and reads for itself. */
template <uint32_t DIM> struct prompt_queries {
    enum : uint32_t { FRAGMENTS = DIM / STEP };
    uint32_t a[FRAGMENTS][4];
    CK_DEV void put(prompt_queries &q, uint32_t k, const uint32_t a[4]) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) q.a[k][i] = a[i];
    }
    CK_DEV void get(const prompt_queries &q, uint32_t k, uint32_t a[4]) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) a[i] = q.a[k][i];
    }
};
template <> struct prompt_queries<256> {
    enum : uint32_t { FRAGMENTS = 256 / STEP };
    granule *own; /* of this lane: CK_PROMPT_THREADS apart */
    CK_DEV void put(prompt_queries &q, uint32_t k, const uint32_t a[4]) {
        ck_put16(q.own + k * CK_PROMPT_THREADS, {a[0], a[1], a[2], a[3]});
    }
    CK_DEV void get(const prompt_queries &q, uint32_t k, uint32_t a[4]) {
        const ck_u4 u = ck_get16(q.own + k * CK_PROMPT_THREADS);
        a[0] = u.x, a[1] = u.y, a[2] = u.z, a[3] = u.w;
    }
};

/* Fragments of c: those of token tile n are tokens 8 n + lane % 4 * 2 and the next, of query g in
 * [0] and [1], of query g + 8 in [2] and [3]. */
typedef struct prompt_scores {
    float s[TOKEN_TILES][4];
} prompt_scores;

template <uint32_t DIM>
CK_DEV void dot_keys(prompt_scores *out, const prompt_queries<DIM> &q, const cache_tile &keys,
                     uint32_t dim) {
    const granule *row = keys.rows + (ck_lane() % 8 + ck_lane() / 16 * 8) * keys.stride;
    *out = {};
#pragma unroll
    for (uint32_t k = 0; k < prompt_queries<DIM>::FRAGMENTS; k++) {
        if (k * STEP >= dim) continue;
        uint32_t a[4];
        prompt_queries<DIM>::get(q, k, a);
#pragma unroll
        for (uint32_t n = 0; n < TOKEN_TILES; n += 2) {
            uint32_t b[4];
            ck_ldmatrix_x4(b, row + n * 8 * keys.stride + 2 * k + ck_lane() / 8 % 2);
            halves_mma(out->s[n], a, b);
            halves_mma(out->s[n + 1], a, b + 2);
        }
    }
}

/* --- scores of several warps -------------------- */

enum : uint32_t { WARP_SCORES = TOKEN_TILES * 32 }; /* granules of a warp's fragments */

CK_DEV void put_scores(const prompt_scores &x, granule *own) {
#pragma unroll
    for (uint32_t n = 0; n < TOKEN_TILES; n++)
        ck_put16(own + n * 32 + ck_lane(),
                 {ck_f2u(x.s[n][0]), ck_f2u(x.s[n][1]), ck_f2u(x.s[n][2]), ck_f2u(x.s[n][3])});
}

/* Of the warps that have the same queries, from that of the first part on. */
template <uint32_t PARTS> CK_DEV void add_scores(prompt_scores *x, const granule *all) {
#pragma unroll
    for (uint32_t n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (uint32_t p = 0; p < PARTS; p++) {
            const ck_u4 u = ck_get16(all + p * WARP_SCORES + n * 32 + ck_lane());
            const float s[4] = {ck_u2f(u.x), ck_u2f(u.y), ck_u2f(u.z), ck_u2f(u.w)};
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) x->s[n][i] = p == 0 ? s[i] : x->s[n][i] + s[i];
        }
}

/* --- what becomes of them -------------------- */

/* The two queries of a lane: what they see, and what their scores are made of. */
typedef struct lane_queries {
    span seen[2]; /* nothing, where there is no such query */
    uint32_t pos[2];
    float slopes[2]; /* in powers of 2 */
} lane_queries;

/* Of all queries of the warp: begin and end of what is seen, position, slope. */
CK_DEV lane_queries get_queries(const granule *all) {
    lane_queries q;
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        const ck_u4 u = ck_get16(all + ck_lane() / 4 + 8 * i);
        q.seen[i] = {u.x, u.y};
        q.pos[i] = u.z;
        q.slopes[i] = ck_u2f(u.w);
    }
    return q;
}

/* Of products of q and a key: 2^score is their weight. */
typedef struct scoring {
    float factor, cap; /* without a cap: factor; with one factor is 2 / cap of the score */
    bool capped, sloped;
} scoring;

CK_DEV scoring scoring_of(const k_attention_args &a) {
    const float log2e = 1.44269504f, in_twos = ck_mul(a.scale, log2e);
    const bool capped = a.softcap != 0;
    return {capped ? ck_mul(2.0f, in_twos) / a.softcap : in_twos, ck_mul(a.softcap, log2e), capped,
            a.slopes != 0};
}

/* cap * tanh(x / cap) is cap - 2 cap / (e^(2 x / cap) + 1). */
CK_DEV float score_of(const scoring &f, const lane_queries &q, uint32_t which, float dot,
                      uint32_t pos) {
    float s = ck_mul(dot, f.factor);
    if (f.capped) s = ck_fma(ck_mul(-2.0f, f.cap), ck_rcp(ck_ex2(s) + 1.0f), f.cap);
    if (f.sloped) {
        const uint32_t at = q.pos[which];
        s = ck_fma(-q.slopes[which], (float)(pos > at ? pos - at : at - pos), s);
    }
    return s;
}

CK_DEV void score_all(prompt_scores *x, const scoring &f, const granule *queries, uint32_t piece) {
    const uint32_t pos = piece * PIECE + ck_lane() % 4 * 2;
    if (!f.capped && !f.sloped) {
#pragma unroll
        for (uint32_t n = 0; n < TOKEN_TILES; n++)
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) x->s[n][i] = ck_mul(x->s[n][i], f.factor);
        return;
    }
    const lane_queries q = get_queries(queries);
#pragma unroll
    for (uint32_t n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            x->s[n][i] = score_of(f, q, i / 2, x->s[n][i], pos + n * 8 + i % 2);
}

CK_DEV void hide_unseen(prompt_scores *x, const lane_queries &q, uint32_t piece) {
    const uint32_t pos = piece * PIECE + ck_lane() % 4 * 2;
#pragma unroll
    for (uint32_t n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            if (!sees(q.seen[i / 2], pos + n * 8 + i % 2)) x->s[n][i] = -CK_INFINITY;
}

/* --- weights -------------------- */

/* Of a lane's two queries: all pieces so far. */
template <uint32_t DIM> struct prompt_sums {
    float max[2], sum[2];
    float out[DIM / 8][4]; /* weighted values of 8 columns each, as fragments of c */
};

/* Of one piece: fragments of a, of 16 tokens each, and what becomes of the sums before. */
typedef struct prompt_weights {
    uint32_t a[PIECE / STEP][4];
    float kept[2];
} prompt_weights;

CK_DEV float row_max(const prompt_scores &x, uint32_t which, float max) {
#pragma unroll
    for (uint32_t n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) max = ck_max(x.s[n][2 * which + i], max);
#pragma unroll
    for (uint32_t m = 2; m > 0; m >>= 1) max = ck_max(ck_shfl_xor_f(max, m), max);
    return max;
}

/* Of the largest score; what f16 has room for. */
#define PROMPT_WEIGHT_MAX 32768.0f

template <uint32_t DIM>
CK_DEV void weigh(const prompt_scores &x, prompt_sums<DIM> *sums, prompt_weights *w) {
#pragma unroll
    for (uint32_t q = 0; q < 2; q++) {
        const float max = row_max(x, q, sums->max[q]);
        const float base = max == -CK_INFINITY ? 0.0f : max; /* all weights are 0 then */
        w->kept[q] = ck_ex2(sums->max[q] - base);
        sums->max[q] = max;
#pragma unroll
        for (uint32_t n = 0; n < TOKEN_TILES; n++) {
            const float low = ck_mul(ck_ex2(x.s[n][2 * q] - base), PROMPT_WEIGHT_MAX);
            const float high = ck_mul(ck_ex2(x.s[n][2 * q + 1] - base), PROMPT_WEIGHT_MAX);
            w->a[n / 2][n % 2 * 2 + q] = ck_f2h(low) | (uint32_t)ck_f2h(high) << 16;
        }
    }
}

/* --- values -------------------- */

CK_DEV void add_piece(float sums[4], const prompt_weights &w, const float piece[4]) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) sums[i] = ck_fma(sums[i], w.kept[i / 2], piece[i]);
}

/* Columns 16 n .. 16 n + 15 of the values of 16 tokens, as fragments of b: of the first 8 columns,
 * then of the others. */
CK_DEV void load_values(uint32_t b[4], const cache_tile &values, uint32_t step, uint32_t n) {
    const uint32_t lane = ck_lane();
    ck_ldmatrix_x4_trans(b, values.rows + (step * STEP + lane % 16) * values.stride + 2 * n +
                                lane / 16);
}

template <uint32_t DIM> CK_DEV void add_weights(prompt_sums<DIM> *sums, const prompt_weights &w) {
    const uint32_t ones[2] = {0x3c003c00u, 0x3c003c00u};
    float piece[4] = {};
#pragma unroll
    for (uint32_t t = 0; t < PIECE / STEP; t++) halves_mma(piece, w.a[t], ones);
#pragma unroll
    for (uint32_t q = 0; q < 2; q++) sums->sum[q] = ck_fma(sums->sum[q], w.kept[q], piece[2 * q]);
}

template <uint32_t DIM>
CK_DEV void add_values(prompt_sums<DIM> *sums, const prompt_weights &w, const cache_tile &values,
                       uint32_t dim) {
#pragma unroll
    for (uint32_t n = 0; n < DIM / STEP; n++) {
        if (n * STEP >= dim) continue;
        float piece[2][4] = {};
#pragma unroll
        for (uint32_t t = 0; t < PIECE / STEP; t++) {
            uint32_t b[4];
            load_values(b, values, t, n);
            halves_mma(piece[0], w.a[t], b);
            halves_mma(piece[1], w.a[t], b + 2);
        }
        add_piece(sums->out[2 * n], w, piece[0]);
        add_piece(sums->out[2 * n + 1], w, piece[1]);
    }
}

/* --- values that are not all finite -------------------- */

/* Halves of two neighbouring tokens, 0 where one is not seen. */
CK_DEV uint32_t only_seen(uint32_t both, span seen, uint32_t pos) {
    return both & ((sees(seen, pos) ? 0xffffu : 0u) | (sees(seen, pos + 1) ? 0xffff0000u : 0u));
}

/* The weighted values of 16 columns, of which only those of one query are right: `own` is its part
 * of w, `seen` what it sees. */
CK_DEV void multiply_seen(float piece[2][4], const uint32_t own[PIECE / STEP][4],
                          const cache_tile &values, uint32_t n, span seen, uint32_t first) {
#pragma unroll
    for (uint32_t t = 0; t < PIECE / STEP; t++) {
        const uint32_t pos = first + t * STEP + ck_lane() % 4 * 2;
        uint32_t b[4];
        load_values(b, values, t, n);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) b[i] = only_seen(b[i], seen, pos + i % 2 * 8);
        halves_mma(piece[0], own[t], b);
        halves_mma(piece[1], own[t], b + 2);
    }
}

/* 0 times what is not finite would not be 0: every query of the warp by itself. */
template <uint32_t DIM>
CK_DEV void add_values_alone(prompt_sums<DIM> *sums, const prompt_weights &w, const lane_queries &q,
                             const cache_tile &values, uint32_t dim, uint32_t first) {
#pragma unroll 1
    for (uint32_t query = 0; query < WARP_QUERIES; query++) {
        const uint32_t lane = query % 8 * 4;
        const bool upper = query >= 8, mine = ck_lane() / 4 == query % 8;
        const bool is_own[2] = {mine && !upper, mine && upper};
        const span seen = {ck_shfl(upper ? q.seen[1].begin : q.seen[0].begin, lane),
                           ck_shfl(upper ? q.seen[1].end : q.seen[0].end, lane)};
        uint32_t own[PIECE / STEP][4];
#pragma unroll
        for (uint32_t i = 0; i < PIECE / STEP * 4; i++)
            own[i / 4][i % 4] = is_own[i % 2] ? w.a[i / 4][i % 4] : 0;
#pragma unroll
        for (uint32_t n = 0; n < DIM / STEP; n++) {
            if (n * STEP >= dim) continue;
            float piece[2][4] = {};
            multiply_seen(piece, own, values, n, seen, first);
#pragma unroll
            for (uint32_t i = 0; i < 8; i++) {
                float *to = &sums->out[2 * n + i / 4][i % 4];
                if (is_own[i % 4 / 2]) *to = ck_fma(*to, w.kept[i % 4 / 2], piece[i / 4][i % 4]);
            }
        }
    }
}

#endif
