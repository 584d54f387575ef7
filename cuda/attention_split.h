/* attention_split.h - a block's query heads over one split of a row's span of tokens.
 *
 * A block of 4 warps has up to HEADS query heads of one row that share a head of keys and values,
 * so that what it reads of the cache it reads once.  The 16-token blocks of the split go to the
 * warps in turn.  A warp takes one in two halves of work:
 *
 *   scores   8 lanes per key, 4 keys at a time: a lane has 8 elements (16 bytes of f16) of every 64
 *            and the products with all heads.  As these are added up over the lanes they are dealt
 *            out, too, so that each lane is left with scores of one head, `own_head`
 *   values   as many lanes per token as its row has units of elements, up to 32; with fewer than
 *            32, 2 or 4 tokens at a time; panels of columns beyond that
 *
 * and keeps, for each head, a running maximum, sum and weighted sum of values (online softmax,
 * Milakov & Gimelshein 2018), in powers of two.  At the end the warps' results are added in order.
 * What is summed in which order follows from the split alone.
 *
 * What is not seen, or behind the end of a row, is not read and counts as 0. */
#ifndef CUDA_ATTENTION_SPLIT_H
#define CUDA_ATTENTION_SPLIT_H
#include "ck_math.h"
#include "kv.h"

enum : uint32_t {
    TOKENS = CK_KV_BLOCK_TOKENS,
    THREADS = 128,
    WARPS = 4,
    LANES = 32,
    HEADS_MAX =
        CK_ATTENTION_HEADS_MAX, /* of a block; their rows of values have 1024 elements at most */
    PIECES_MAX = 8,             /* of 128 columns of these */
    KEY_UNIT = 8,               /* elements of a key that a lane has next to each other */
    KEY_LANES = 8,              /* that work on one key */
    KEY_GROUPS = 4,             /* of lanes: keys at a time */
    KEYS = TOKENS / KEY_GROUPS,
};

/* What HEADS, a power of two, make of a lane's work: never more than 32 weighted sums. */
template <uint32_t HEADS> struct pack {
    enum : uint32_t {
        UNIT = HEADS == 8 ? 4 : 8, /* elements of a value that a lane has next to each other */
        PANEL = LANES * UNIT,      /* columns */
        PANELS = HEADS == 1   ? 4
                 : HEADS == 2 ? 2
                              : 1,
        SCORES = HEADS == 1 ? 1 : HEADS * KEYS / KEY_LANES, /* that a lane is left with */
        HEAD_LANES = KEY_LANES / HEADS,                     /* of KEY_LANES, with one head */
    };
};

typedef struct alignas(16) quad {
    float x[4];
} quad;

/* --- reading -------------------- */

/* N elements of a row from `first` on; 0 where they are not wanted, and behind the row.  ALIGNED:
 * dim is a multiple of N, and rows are aligned to 16 bytes. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t N>
CK_DEV void load_unit(const kv_row &row, uint32_t first, uint32_t dim, bool is_wanted, float x[N]) {
    if (TYPE == CK_KV_Q8) {
        uint64_t codes = 0;
        uint16_t scale = 0;
        if (is_wanted) {
            codes = N == 8 ? ck_ld((const uint64_t *)(row.at + first))
                           : ck_ld((const uint32_t *)(row.at + first));
            scale = ck_ld((const uint16_t *)row.scales + first / CK_KV_GROUP);
        }
#pragma unroll
        for (uint32_t e = 0; e < N; e++)
            x[e] = ck_h2f(scale) * (float)(int8_t)(uint8_t)(codes >> 8 * e);
    } else if (TYPE == CK_KV_Q4) {
        uint32_t codes = 0;
        uint16_t scale = 0;
        if (is_wanted) {
            codes = N == 8 ? ck_ld((const uint32_t *)(row.at + first / 2))
                           : ck_ld((const uint16_t *)(row.at + first / 2));
            scale = ck_ld((const uint16_t *)row.scales + first / CK_KV_GROUP);
        }
#pragma unroll
        for (uint32_t e = 0; e < N; e++)
            x[e] = ck_h2f(scale) * (float)((int)(codes >> 4 * e & 15) - 8);
    } else if (ALIGNED && TYPE == CK_KV_F16 && N == 8) {
        ck_u4 u = {0, 0, 0, 0};
        if (is_wanted) u = ck_ld16((const uint16_t *)row.at + first);
        const uint32_t pairs[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (uint32_t e = 0; e < N; e++) x[e] = ck_h2f((uint16_t)(pairs[e / 2] >> e % 2 * 16));
    } else if (ALIGNED && TYPE == CK_KV_F16) {
        uint64_t halves = 0;
        if (is_wanted) halves = ck_ld((const uint64_t *)(row.at + (uint64_t)first * 2));
#pragma unroll
        for (uint32_t e = 0; e < N; e++) x[e] = ck_h2f((uint16_t)(halves >> 16 * e));
    } else if (ALIGNED) {
        ck_u4 u[N / 4] = {};
#pragma unroll
        for (uint32_t i = 0; i < N / 4; i++)
            if (is_wanted) u[i] = ck_ld16((const float *)row.at + first + 4 * i);
#pragma unroll
        for (uint32_t e = 0; e < N; e++) {
            const uint32_t words[4] = {u[e / 4].x, u[e / 4].y, u[e / 4].z, u[e / 4].w};
            x[e] = ck_u2f(words[e % 4]);
        }
    } else {
#pragma unroll
        for (uint32_t e = 0; e < N; e++) {
            x[e] = 0;
            if (!is_wanted || first + e >= dim) continue;
            x[e] = TYPE == CK_KV_F16 ? ck_h2f(ck_ld((const uint16_t *)row.at + first + e))
                                     : ck_ld((const float *)row.at + first + e);
        }
    }
}

/* --- what a block works on -------------------- */

/* Query heads `head` .. head + heads - 1 of a row, which see the positions begin .. end - 1 of the
 * sequence in `seat`. */
typedef struct query {
    uint32_t row, pos, seat, begin, end;
    uint32_t head, heads, kv_head;
} query;

typedef struct softmax {
    float max, sum;
} softmax;

/* Shared memory.  Rows of values have a whole number of units (padded()). */
typedef struct block_memory {
    float *q;        /* [HEADS, q_row()], with 0 for heads that there are not */
    float *split;    /* [HEADS, padded(value_dim)] weighted values of a split */
    float *row;      /* [HEADS, padded(value_dim)] of all splits so far, then the result */
    float *weights;  /* [WARPS, TOKENS, HEADS_MAX] */
    float *slopes;   /* [HEADS_MAX] */
    float *factors;  /* [WARPS, HEADS_MAX] */
    softmax *warps;  /* [WARPS, HEADS_MAX] */
    softmax *splits; /* [HEADS_MAX] of what is in `split` */
    softmax *so_far; /* [PIECES_MAX, LANES] of what is in `row`, where its lane has it */
    uint32_t *is_last;
} block_memory;

CK_DEV uint32_t padded(uint32_t dim) { return (dim + KEY_UNIT - 1) / KEY_UNIT * KEY_UNIT; }

/* Of the units of KEY_LANES lanes the first halves come first, so that lanes which read theirs at
 * once read neighbours. */
enum : uint32_t { KEY_PANEL = CK_ATTENTION_PANEL };
static_assert(KEY_PANEL == (uint32_t)KEY_LANES * KEY_UNIT, "one unit of each lane");
static_assert((uint32_t)KEY_UNIT == CK_ATTENTION_UNIT, "rows of values have whole units");
CK_DEV uint32_t q_row(const ck_kv &kv) {
    return (kv.key_dim + KEY_PANEL - 1) / KEY_PANEL * KEY_PANEL;
}
CK_DEV uint32_t place_of_unit(uint32_t first) { return first - first % KEY_PANEL / 2; }
CK_DEV uint32_t place_of(uint32_t c) {
    return place_of_unit(c / KEY_UNIT * KEY_UNIT) + c % KEY_UNIT / 4 * (KEY_PANEL / 2) + c % 4;
}

/* The head, of the block's, whose scores this lane is left with; and the first of its keys. */
template <uint32_t HEADS> CK_DEV uint32_t own_head() {
    return ck_lane() % KEY_LANES / pack<HEADS>::HEAD_LANES;
}
template <uint32_t HEADS> CK_DEV uint32_t own_key() {
    const uint32_t lanes = pack<HEADS>::HEAD_LANES;
    return ck_lane() % KEY_LANES % lanes * KEYS / lanes;
}
/* Of one head two lanes each are left with the same score. */
template <uint32_t HEADS> CK_DEV bool is_owner() { return HEADS > 1 || ck_lane() % 2 == 0; }

/* Lanes, by the bits that their numbers differ in, that have other keys of the same head. */
template <uint32_t HEADS> CK_DEV bool is_of_head(uint32_t mask) {
    if (HEADS == 1) return mask > 1;
    return mask >= KEY_LANES || mask < pack<HEADS>::HEAD_LANES;
}
template <uint32_t HEADS> CK_DEV float head_max(float v) {
#pragma unroll
    for (uint32_t m = LANES / 2; m > 0; m >>= 1)
        if (is_of_head<HEADS>(m)) v = ck_max(ck_shfl_xor_f(v, m), v);
    return v;
}
template <uint32_t HEADS> CK_DEV float head_sum(float v) {
#pragma unroll
    for (uint32_t m = LANES / 2; m > 0; m >>= 1)
        if (is_of_head<HEADS>(m)) v += ck_shfl_xor_f(v, m);
    return v;
}

/* --- scores of one block of tokens -------------------- */

/* Of a block the tokens begin .. end - 1 are seen; at least one is. */
typedef struct block_span {
    uint32_t begin, end;
} block_span;

CK_DEV bool is_seen(block_span s, uint32_t t) { return t >= s.begin && t < s.end; }

/* The token that is key i of this lane. */
CK_DEV uint32_t token_of_key(uint32_t i) { return KEY_GROUPS * i + ck_lane() / KEY_LANES; }

/* out[h][i] = this lane's part of q of head h . key i * KEYS / N + round. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS, uint32_t N>
CK_DEV void dot_keys(const ck_kv &kv, uint64_t keys, block_span seen, uint32_t round,
                     const float *q, float out[HEADS * N]) {
#pragma unroll
    for (uint32_t i = 0; i < HEADS * N; i++) out[i] = 0;
    const kv_row row = kv_row_of<TYPE>(keys, kv.key_dim, token_of_key(round));
#pragma unroll 1
    for (uint32_t first = ck_lane() % KEY_LANES * KEY_UNIT; first < kv.key_dim;
         first += KEY_LANES * KEY_UNIT) {
        float k[N][KEY_UNIT];
#pragma unroll
        for (uint32_t i = 0; i < N; i++) {
            load_unit<TYPE, ALIGNED, KEY_UNIT>(
                kv_row_after<TYPE>(row, kv.key_dim, i * (TOKENS / N)), first, kv.key_dim,
                is_seen(seen, token_of_key(i * (KEYS / N) + round)), k[i]);
        }
#pragma unroll
        for (uint32_t half = 0; half < KEY_UNIT; half += 4)
#pragma unroll
            for (uint32_t h = 0; h < HEADS; h++) {
                const quad of_q =
                    *(const quad *)(q + h * q_row(kv) + place_of_unit(first) + half * KEY_LANES);
#pragma unroll
                for (uint32_t i = 0; i < N; i++)
#pragma unroll
                    for (uint32_t e = 0; e < 4; e++)
                        out[h * N + i] = ck_fma(k[i][half + e], of_q.x[e], out[h * N + i]);
            }
    }
}

/* Adds up over the lanes that differ in the bits of 2 * MASK - 1.  Of N sums a lane is left with
 * N / (2 * MASK), those from its number * N / (2 * MASK) on; where N is less, the MASK-th part of
 * the lanes has the same one. */
template <uint32_t N, uint32_t MASK> CK_DEV void sum_and_deal(float v[N]) {
    if constexpr (MASK == 0) {
    } else if constexpr (N == 1) {
        v[0] += ck_shfl_xor_f(v[0], MASK);
        sum_and_deal<1, MASK / 2>(v);
    } else {
        const bool has_upper = (ck_lane() & MASK) != 0;
#pragma unroll
        for (uint32_t i = 0; i < N / 2; i++) {
            const float kept = has_upper ? v[N / 2 + i] : v[i];
            const float given = has_upper ? v[i] : v[N / 2 + i];
            v[i] = kept + ck_shfl_xor_f(given, MASK);
        }
        sum_and_deal<N / 2, MASK / 2>(v);
    }
}

/* s[i] = q . key own_key() + i, of own_head(). */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void dot_products(const ck_kv &kv, uint64_t keys, block_span seen, const float *q,
                         float s[pack<HEADS>::SCORES]) {
    /* Keys at once: they and their products are registers. */
    constexpr uint32_t N =
        (HEADS == 8 ? KEYS / 2 : KEYS) / (TYPE != CK_KV_F16 && HEADS > 2 ? 2 : 1);
    constexpr uint32_t ROUNDS = KEYS / N;
#pragma unroll
    for (uint32_t round = 0; round < ROUNDS; round++) {
        float sums[HEADS * N];
        dot_keys<TYPE, ALIGNED, HEADS, N>(kv, keys, seen, round, q, sums);
        sum_and_deal<HEADS * N, KEY_LANES / 2>(sums);
#pragma unroll
        for (uint32_t i = 0; i < pack<HEADS>::SCORES / ROUNDS; i++) s[i * ROUNDS + round] = sums[i];
    }
}

/* What becomes of a product of q and a key, as an exponent of 2. */
CK_DEV float score(const k_attention_args &a, const query &r, const float *slope, float dot,
                   uint32_t pos) {
    float s = dot * a.scale;
    if (a.softcap != 0) s = a.softcap * ck_tanh(s / a.softcap);
    if (a.slopes != 0) {
        float distance = (float)(pos > r.pos ? pos - r.pos : r.pos - pos);
        s = ck_fma(-*slope, distance, s);
    }
    return s * 1.44269504f;
}

/* --- values of one block of tokens -------------------- */

/* What a warp has of its tokens so far. */
template <uint32_t HEADS> struct partial {
    float max; /* of the scores of own_head() */
    float sum; /* of the weights of own_head()'s keys in this lane */
    float out[HEADS][pack<HEADS>::PANELS][pack<HEADS>::UNIT]; /* weighted values of this lane's
                                                                 columns and tokens */
};

/* Lanes that share a row of values: 8, 16 or 32. */
template <uint32_t HEADS> CK_DEV uint32_t value_lanes(const ck_kv &kv) {
    const uint32_t unit = pack<HEADS>::UNIT;
    return kv.value_dim <= 8 * unit ? 8 : kv.value_dim <= 16 * unit ? 16 : 32;
}

/* A token's weights for all heads. */
template <uint32_t HEADS> CK_DEV void load_weights(const float *weights, uint32_t t, float *w) {
    constexpr uint32_t N = HEADS < 4 ? HEADS : 4;
    typedef struct alignas(N * sizeof(float)) several {
        float x[N];
    } several;
#pragma unroll
    for (uint32_t h = 0; h < HEADS; h += N) {
        const several of = *(const several *)(weights + t * HEADS + h);
#pragma unroll
        for (uint32_t e = 0; e < N; e++) w[h + e] = of.x[e];
    }
}

/* out += weight * value over the block's tokens; weights [TOKENS, HEADS] are in shared memory. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void add_values(const ck_kv &kv, uint64_t values, block_span seen, const float *weights,
                       partial<HEADS> *part) {
    enum : uint32_t { UNIT = pack<HEADS>::UNIT, AT_ONCE = TYPE == CK_KV_F32 && HEADS >= 4 ? 2 : 4 };
    const uint32_t lanes = value_lanes<HEADS>(kv), tokens = LANES / lanes;
#pragma unroll
    for (uint32_t p = 0; p < pack<HEADS>::PANELS; p++) {
        if (p * pack<HEADS>::PANEL >= kv.value_dim) break;
        const uint32_t first = p * pack<HEADS>::PANEL + ck_lane() % lanes * UNIT;
#pragma unroll 1
        for (uint32_t base = ck_lane() / lanes; base < TOKENS; base += AT_ONCE * tokens) {
            const kv_row row = kv_row_of<TYPE>(values, kv_value_elems(kv), base);
            float v[AT_ONCE][UNIT];
#pragma unroll
            for (uint32_t i = 0; i < AT_ONCE; i++) {
                load_unit<TYPE, ALIGNED, UNIT>(
                    kv_row_after<TYPE>(row, kv_value_elems(kv), i * tokens), first, kv.value_dim,
                    is_seen(seen, base + i * tokens) && first < kv.value_dim, v[i]);
            }
#pragma unroll
            for (uint32_t i = 0; i < AT_ONCE; i++) {
                float w[HEADS];
                load_weights<HEADS>(weights, base + i * tokens, w);
#pragma unroll
                for (uint32_t h = 0; h < HEADS; h++)
#pragma unroll
                    for (uint32_t e = 0; e < UNIT; e++)
                        part->out[h][p][e] = ck_fma(w[h], v[i][e], part->out[h][p][e]);
            }
        }
    }
}

/* --- one block of tokens -------------------- */

/* Multiplies what there is by kept, of own_head(), where it is not 1 for every head. */
template <uint32_t HEADS>
CK_DEV void keep(const block_memory &m, float kept, partial<HEADS> *part) {
    float *factors = m.factors + ck_warp() * HEADS_MAX;
    if (ck_ballot(kept != 1.0f) == 0) return;
    if (is_owner<HEADS>() && ck_lane() < KEY_LANES && own_key<HEADS>() == 0)
        factors[own_head<HEADS>()] = kept;
    ck_syncwarp();
    part->sum *= kept;
#pragma unroll
    for (uint32_t h = 0; h < HEADS; h++)
#pragma unroll
        for (uint32_t p = 0; p < pack<HEADS>::PANELS; p++)
#pragma unroll
            for (uint32_t e = 0; e < pack<HEADS>::UNIT; e++) part->out[h][p][e] *= factors[h];
}

/* Takes in the tokens of `block`, the first of which is at pos0. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void take_block(const k_attention_args &a, const query &r, const block_memory &m,
                       uint32_t block, uint32_t pos0, partial<HEADS> *part) {
    const block_span seen = {r.begin > pos0 ? r.begin - pos0 : 0, ck_min_u(r.end - pos0, TOKENS)};
    float *weights = m.weights + ck_warp() * TOKENS * HEADS_MAX;
    float s[pack<HEADS>::SCORES], max = part->max;
    dot_products<TYPE, ALIGNED, HEADS>(a.kv, kv_keys_at(a.kv, block, r.kv_head), seen, m.q, s);
#pragma unroll
    for (uint32_t i = 0; i < pack<HEADS>::SCORES; i++) {
        const uint32_t t = token_of_key(own_key<HEADS>() + i);
        s[i] = is_seen(seen, t) ? score(a, r, m.slopes + own_head<HEADS>(), s[i], pos0 + t)
                                : -CK_INFINITY;
        max = ck_max(s[i], max);
    }
    max = head_max<HEADS>(max);

    const float base = max == -CK_INFINITY ? 0.0f : max; /* all weights are 0 then */
    keep<HEADS>(m, ck_ex2(part->max - base), part);
    part->max = max;
#pragma unroll
    for (uint32_t i = 0; i < pack<HEADS>::SCORES; i++) {
        const uint32_t t = token_of_key(own_key<HEADS>() + i);
        const float weight = ck_ex2(s[i] - base);
        part->sum += weight;
        if (is_owner<HEADS>()) weights[t * HEADS + own_head<HEADS>()] = weight;
    }
    ck_syncwarp();
    add_values<TYPE, ALIGNED, HEADS>(a.kv, kv_values_at(a.kv, block, r.kv_head), seen, weights,
                                     part);
    ck_syncwarp(); /* before the next block's weights and factors */
}

/* --- a split -------------------- */

/* Every WARPS-th block of tokens first .. end - 1, from this warp's on. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void walk(const k_attention_args &a, const query &r, const block_memory &m, uint32_t first,
                 uint32_t end, partial<HEADS> *part) {
    uint32_t idx = first + ck_warp();
    uint32_t next = idx < end ? kv_block_of(a.kv, r.seat, idx) : 0;
    while (idx < end) {
        const uint32_t block = next, pos0 = idx * TOKENS;
        idx += WARPS;
        if (idx < end) next = kv_block_of(a.kv, r.seat, idx);
        take_block<TYPE, ALIGNED, HEADS>(a, r, m, block, pos0, part);
    }
}

/* Adds up what the lanes of the warp have of the same thing. */
template <uint32_t HEADS> CK_DEV void gather(const ck_kv &kv, partial<HEADS> *part) {
    part->sum = head_sum<HEADS>(part->sum);
    for (uint32_t m = value_lanes<HEADS>(kv); m < LANES; m <<= 1)
#pragma unroll
        for (uint32_t h = 0; h < HEADS; h++)
#pragma unroll
            for (uint32_t p = 0; p < pack<HEADS>::PANELS; p++)
#pragma unroll
                for (uint32_t e = 0; e < pack<HEADS>::UNIT; e++)
                    part->out[h][p][e] += ck_shfl_xor_f(part->out[h][p][e], m);
}

/* m.splits, and in m.factors what each warp's values are multiplied with: by lane, of its head. */
template <uint32_t HEADS> CK_DEV void weigh_warps(const block_memory &m) {
    if (ck_lane() < HEADS) {
        float max = -CK_INFINITY, sum = 0;
#pragma unroll
        for (uint32_t w = 0; w < WARPS; w++)
            max = ck_max(m.warps[w * HEADS_MAX + ck_lane()].max, max);
        const float base = max == -CK_INFINITY ? 0.0f : max;
#pragma unroll
        for (uint32_t w = 0; w < WARPS; w++) {
            const softmax of = m.warps[w * HEADS_MAX + ck_lane()];
            sum = ck_fma(of.sum, ck_ex2(of.max - base), sum);
        }
        const float own = m.warps[ck_warp() * HEADS_MAX + ck_lane()].max;
        m.factors[ck_warp() * HEADS_MAX + ck_lane()] = ck_ex2(own - base);
        if (ck_warp() == 0) m.splits[ck_lane()] = {max, sum};
    }
    ck_syncwarp();
}

template <uint32_t HEADS>
CK_DEV void add_part(const ck_kv &kv, const block_memory &m, const partial<HEADS> *part) {
    const float *factors = m.factors + ck_warp() * HEADS_MAX;
    const uint32_t row = padded(kv.value_dim);
#pragma unroll
    for (uint32_t h = 0; h < HEADS; h++) {
#pragma unroll
        for (uint32_t p = 0; p < pack<HEADS>::PANELS; p++) {
            const uint32_t first = p * pack<HEADS>::PANEL + ck_lane() * pack<HEADS>::UNIT;
            if (first >= row) break;
            quad *at = (quad *)(m.split + h * row + first);
#pragma unroll
            for (uint32_t e = 0; e < pack<HEADS>::UNIT; e++) {
                const float x = part->out[h][p][e] * factors[h];
                at[e / 4].x[e % 4] = ck_warp() == 0 ? x : at[e / 4].x[e % 4] + x;
            }
        }
    }
}

/* The warps' results, in their order, into m.split and m.splits. */
template <uint32_t HEADS>
CK_DEV void combine_warps(const ck_kv &kv, const block_memory &m, partial<HEADS> *part) {
    gather<HEADS>(kv, part);
    if (is_owner<HEADS>() && ck_lane() < KEY_LANES && own_key<HEADS>() == 0)
        m.warps[ck_warp() * HEADS_MAX + own_head<HEADS>()] = {part->max, part->sum};
    ck_sync(); /* the split before is done with, too */
    weigh_warps<HEADS>(m);
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == ck_warp() && ck_lane() < value_lanes<HEADS>(kv)) add_part<HEADS>(kv, m, part);
        ck_sync();
    }
}

/* Blocks of tokens first .. end - 1: their values, weighted, in m.split, and m.splits. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void take_split(const k_attention_args &a, const query &r, const block_memory &m,
                       uint32_t first, uint32_t end) {
    partial<HEADS> part = {-CK_INFINITY, 0, {}};
    walk<TYPE, ALIGNED, HEADS>(a, r, m, first, end, &part);
    combine_warps<HEADS>(a.kv, m, &part);
}

#endif
