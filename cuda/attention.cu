/* attention.cu - keys and values into the cache, and attention over it, one query row per block.
 *
 * k_attention.  A block of 4 warps has one query head of one row.  The row's 16-token blocks, from
 * the first in the window to the last seen, go to the warps in turn.  A warp takes a block of
 * tokens in two halves of work:
 *
 *   scores   8 lanes per key, 4 keys at a time: a lane has 8 elements (16 bytes of f16) of every 64
 *   values   as many lanes per token as its row has units of 8 elements, up to 32; with fewer than
 *            32, 2 or 4 tokens at a time; panels of 256 columns beyond that
 *
 * and keeps a running maximum, sum and weighted sum of values (online softmax, Milakov & Gimelshein
 * 2018), in powers of two.  At the end the warps' results are added in order.  What is summed in
 * which order follows from the span of tokens seen, so a row has the same bits in every batch.
 *
 * Lanes without work read what a neighbour reads and drop it: no address is formed from a token
 * that is not seen, and no branch stands between the loads. */
#include "ck_math.h"
#include "kv.h"

enum {
    TOKENS = CK_KV_BLOCK_TOKENS,
    THREADS = 128,
    WARPS = 4,
    UNIT = 8,      /* elements that a lane has next to each other */
    KEY_LANES = 8, /* that work on one key */
    KEYS = 4,      /* that a lane works on: TOKENS * KEY_LANES / 32 */
    PANELS = CK_ATTENTION_DIM_MAX / (32 * UNIT),
};

/* --- writing -------------------- */

CK_KERNEL(k_kv_write, 128) {
    uint32_t head = ck_bid_x, row = ck_bid_y;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    kv_rows to = kv_rows_at(a.kv, ck_ld((const uint32_t *)a.seats + row),
                            ck_ld((const uint32_t *)a.pos + row), head);
    uint32_t k_dim = a.k_cols / a.kv.kv_heads, v_dim = a.v_cols / a.kv.kv_heads;
    const float *k = (const float *)a.k + (uint64_t)row * a.k_cols + head * k_dim;
    const float *v = (const float *)a.v + (uint64_t)row * a.v_cols + head * v_dim;
    kv_put(a.kv, to.k, 0, k_dim, kv_plain{k});
    kv_put(a.kv, to.v, a.kv.v_in_k ? k_dim : 0, v_dim, kv_plain{v});
}

/* --- reading -------------------- */

typedef struct alignas(16) quad {
    float x[4];
} quad;

/* UNIT elements of a row from `first` on.  ALIGNED: dim is a multiple of UNIT and rows are aligned
 * to 16 bytes; of a unit behind the row the last one is read.  Else what is behind it is 0. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void load_unit(const kv_row &row, uint32_t first, uint32_t dim, float x[UNIT]) {
    if (TYPE == CK_KV_Q8) {
        const uint32_t c = ck_min_u(first, dim - UNIT);
        const uint64_t codes = ck_ld((const uint64_t *)(row.at + c));
        const float scale = ck_h2f(ck_ld((const uint16_t *)row.scales + c / CK_KV_Q8_GROUP));
#pragma unroll
        for (uint32_t e = 0; e < UNIT; e++) x[e] = scale * (float)(int8_t)(uint8_t)(codes >> 8 * e);
    } else if (ALIGNED && TYPE == CK_KV_F16) {
        ck_u4 u = ck_ld16((const uint16_t *)row.at + ck_min_u(first, dim - UNIT));
        uint32_t pairs[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (uint32_t e = 0; e < UNIT; e++) x[e] = ck_h2f((uint16_t)(pairs[e / 2] >> e % 2 * 16));
    } else if (ALIGNED) {
        const float *from = (const float *)row.at + ck_min_u(first, dim - UNIT);
        ck_u4 u = ck_ld16(from), v = ck_ld16(from + 4);
        uint32_t words[UNIT] = {u.x, u.y, u.z, u.w, v.x, v.y, v.z, v.w};
#pragma unroll
        for (uint32_t e = 0; e < UNIT; e++) x[e] = ck_u2f(words[e]);
    } else {
#pragma unroll
        for (uint32_t e = 0; e < UNIT; e++) {
            x[e] = 0;
            if (first + e >= dim) continue;
            x[e] = TYPE == CK_KV_F16 ? ck_h2f(ck_ld((const uint16_t *)row.at + first + e))
                                     : ck_ld((const float *)row.at + first + e);
        }
    }
}

/* --- one block of tokens -------------------- */

/* What a query row sees: positions begin .. end - 1 of the sequence in `seat`. */
typedef struct query {
    uint32_t pos, seat, begin, end;
    uint32_t head, kv_head;
} query;

/* Of a block the tokens begin .. end - 1 are seen; at least one is. */
typedef struct block_span {
    uint32_t begin, end;
} block_span;

CK_DEV bool is_seen(block_span s, uint32_t t) { return t >= s.begin && t < s.end; }
/* The token, or the nearest that is seen. */
CK_DEV uint32_t nearest_seen(block_span s, uint32_t t) {
    return t < s.begin ? s.begin : t < s.end ? t : s.end - 1;
}

/* out[i] = q . key of token KEYS * i + lane / KEY_LANES; the same in the KEY_LANES lanes.
 * q is in shared memory, with zeros up to a multiple of UNIT * KEY_LANES. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void dot_keys(const ck_kv &kv, uint64_t keys, block_span seen, const float *q,
                     float out[KEYS]) {
    kv_row row[KEYS];
#pragma unroll
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t t = nearest_seen(seen, KEYS * i + ck_lane() / KEY_LANES);
        row[i] = kv_row_of<TYPE>(keys, kv.key_dim, t);
        out[i] = 0;
    }
#pragma unroll 1
    for (uint32_t base = 0; base < kv.key_dim; base += UNIT * KEY_LANES) {
        uint32_t first = base + ck_lane() % KEY_LANES * UNIT;
        quad low = *(const quad *)(q + first), high = *(const quad *)(q + first + 4);
        float k[KEYS][UNIT];
#pragma unroll
        for (uint32_t i = 0; i < KEYS; i++)
            load_unit<TYPE, ALIGNED>(row[i], first, kv.key_dim, k[i]);
#pragma unroll
        for (uint32_t i = 0; i < KEYS; i++)
#pragma unroll
            for (uint32_t e = 0; e < UNIT; e++)
                out[i] = ck_fma(k[i][e], e < 4 ? low.x[e] : high.x[e - 4], out[i]);
    }
#pragma unroll
    for (uint32_t i = 0; i < KEYS; i++)
        for (uint32_t m = KEY_LANES / 2; m > 0; m >>= 1) out[i] += ck_shfl_xor_f(out[i], m);
}

/* What becomes of a product of q and a key, as an exponent of 2. */
CK_DEV float score(const k_attention_args &a, const query &r, float dot, uint32_t pos) {
    float s = dot * a.scale;
    if (a.softcap != 0) s = a.softcap * ck_tanh(s / a.softcap);
    if (a.slopes != 0) {
        float distance = (float)(pos > r.pos ? pos - r.pos : r.pos - pos);
        s = ck_fma(-ck_ld((const float *)a.slopes + r.head), distance, s);
    }
    return s * 1.44269504f;
}

/* What a warp has of its tokens so far. */
typedef struct partial {
    float max;               /* of the scores: the same in all lanes */
    float sum;               /* of the weights of this lane's keys */
    float out[PANELS][UNIT]; /* weighted values of this lane's columns and tokens */
} partial;

/* Lanes that share a row of values: 8, 16 or 32. */
CK_DEV uint32_t value_lanes(const ck_kv &kv) {
    return kv.value_dim <= 8 * UNIT ? 8 : kv.value_dim <= 16 * UNIT ? 16 : 32;
}

/* out += weight * value over the block's tokens, for one panel of columns. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void add_panel(const ck_kv &kv, uint64_t values, block_span seen, const float *weights,
                      uint32_t panel, float out[UNIT]) {
    uint32_t lanes = value_lanes(kv), at_once = 32 / lanes;
    uint32_t first = panel * 32 * UNIT + ck_lane() % lanes * UNIT;
    for (uint32_t base = 0; base < TOKENS; base += 4 * at_once) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t t = base + i * at_once + ck_lane() / lanes;
            float v[UNIT], weight = weights[t];
            kv_row row = kv_row_of<TYPE>(values, kv_value_elems(kv), nearest_seen(seen, t));
            load_unit<TYPE, ALIGNED>(row, first, kv.value_dim, v);
#pragma unroll
            for (uint32_t e = 0; e < UNIT; e++) out[e] = ck_fma(weight, v[e], out[e]);
        }
    }
}

/* weights [TOKENS] in shared memory; 0: not seen. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void add_values(const ck_kv &kv, uint64_t values, block_span seen, const float *weights,
                       float out[PANELS][UNIT]) {
#pragma unroll
    for (uint32_t p = 0; p < PANELS; p++)
        if (p * 32 * UNIT < kv.value_dim)
            add_panel<TYPE, ALIGNED>(kv, values, seen, weights, p, out[p]);
}

/* Takes in the block's tokens.  weights [TOKENS] is the warp's own. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void take_block(const k_attention_args &a, const query &r, uint32_t block, uint32_t pos0,
                       const float *q, float *weights, partial *part) {
    block_span seen = {r.begin > pos0 ? r.begin - pos0 : 0, ck_min_u(r.end - pos0, TOKENS)};
    float s[KEYS], max = part->max;
    dot_keys<TYPE, ALIGNED>(a.kv, kv_keys_at(a.kv, block, r.kv_head), seen, q, s);
#pragma unroll
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t t = KEYS * i + ck_lane() / KEY_LANES;
        s[i] = is_seen(seen, t) ? score(a, r, s[i], pos0 + t) : -CK_INFINITY;
        max = ck_max(s[i], max);
    }
    for (uint32_t m = 16; m >= KEY_LANES; m >>= 1) max = ck_max(ck_shfl_xor_f(max, m), max);

    float base = max == -CK_INFINITY ? 0.0f : max; /* all weights are 0 then */
    float kept = ck_ex2(part->max - base);
    part->max = max;
    part->sum *= kept;
#pragma unroll
    for (uint32_t p = 0; p < PANELS; p++)
#pragma unroll
        for (uint32_t e = 0; e < UNIT; e++) part->out[p][e] *= kept;
#pragma unroll
    for (uint32_t i = 0; i < KEYS; i++) {
        s[i] = ck_ex2(s[i] - base);
        part->sum += s[i];
        if (ck_lane() % KEY_LANES == 0) weights[KEYS * i + ck_lane() / KEY_LANES] = s[i];
    }
    ck_syncwarp();
    add_values<TYPE, ALIGNED>(a.kv, kv_values_at(a.kv, block, r.kv_head), seen, weights, part->out);
    ck_syncwarp(); /* before the next block's weights */
}

/* --- a row -------------------- */

/* Every WARPS-th block of the span, from this warp's first on. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void walk(const k_attention_args &a, const query &r, const float *q, float *weights,
                 partial *part) {
    uint32_t idx = r.begin / TOKENS + ck_warp();
    uint32_t next = idx * TOKENS < r.end ? kv_block_of(a.kv, r.seat, idx) : 0;
    while (idx * TOKENS < r.end) {
        uint32_t block = next, pos0 = idx * TOKENS;
        idx += WARPS;
        if (idx * TOKENS < r.end) next = kv_block_of(a.kv, r.seat, idx);
        take_block<TYPE, ALIGNED>(a, r, block, pos0, q, weights, part);
    }
}

/* Adds up what the lanes of the warp have of the same thing. */
CK_DEV void gather(const ck_kv &kv, partial *part) {
    for (uint32_t m = KEY_LANES; m < 32; m <<= 1) part->sum += ck_shfl_xor_f(part->sum, m);
    for (uint32_t m = value_lanes(kv); m < 32; m <<= 1)
#pragma unroll
        for (uint32_t p = 0; p < PANELS; p++)
#pragma unroll
            for (uint32_t e = 0; e < UNIT; e++)
                part->out[p][e] += ck_shfl_xor_f(part->out[p][e], m);
}

typedef struct warp_softmax {
    float max, sum;
} warp_softmax;

/* What this warp's part of the row is multiplied with.  A sink is a score without a value. */
CK_DEV float share_of_warp(const k_attention_args &a, uint32_t head, const warp_softmax *warps) {
    float sink = -CK_INFINITY, max, sum;
    if (a.sinks != 0) sink = ck_ld((const float *)a.sinks + head) * 1.44269504f;
    max = sink;
    for (uint32_t w = 0; w < WARPS; w++) max = ck_max(warps[w].max, max);
    if (max == -CK_INFINITY) max = 0;
    sum = ck_ex2(sink - max);
    for (uint32_t w = 0; w < WARPS; w++) sum += warps[w].sum * ck_ex2(warps[w].max - max);
    return ck_ex2(warps[ck_warp()].max - max) / sum;
}

CK_DEV void add_part(const ck_kv &kv, const partial *part, float share, bool is_first, float *row) {
#pragma unroll
    for (uint32_t p = 0; p < PANELS; p++) {
        if (p * 32 * UNIT >= kv.value_dim) break;
        quad *at = (quad *)(row + p * 32 * UNIT + ck_lane() * UNIT);
#pragma unroll
        for (uint32_t e = 0; e < UNIT; e++) {
            float x = part->out[p][e] * share;
            at[e / 4].x[e % 4] = is_first ? x : at[e / 4].x[e % 4] + x;
        }
    }
}

/* row [CK_ATTENTION_DIM_MAX] in shared memory takes the sum of the warps' parts, in their order. */
CK_DEV void combine(const k_attention_args &a, const partial *part, float share, float *row) {
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == ck_warp() && ck_lane() < value_lanes(a.kv))
            add_part(a.kv, part, share, w == 0, row);
        ck_sync();
    }
}

/* The result of the head goes to `out`, and stays in `shared`. */
template <ck_kv_type TYPE, bool ALIGNED>
CK_DEV void attend(const k_attention_args &a, const query &r, float *shared, float *weights,
                   warp_softmax *warps) {
    uint64_t from = ((uint64_t)ck_bid_y * a.heads + r.head) * a.kv.key_dim;
    uint32_t padded =
        (a.kv.key_dim + UNIT * KEY_LANES - 1) / (UNIT * KEY_LANES) * (UNIT * KEY_LANES);
    for (uint32_t c = ck_tid; c < padded; c += THREADS)
        shared[c] = c < a.kv.key_dim ? ck_ld((const float *)a.q + from + c) : 0;
    ck_sync();

    partial part = {-CK_INFINITY, 0, {}};
    walk<TYPE, ALIGNED>(a, r, shared, weights + ck_warp() * TOKENS, &part);
    gather(a.kv, &part);
    if (ck_lane() == 0) {
        warps[ck_warp()].max = part.max;
        warps[ck_warp()].sum = part.sum;
    }
    ck_sync(); /* q is done with: its place takes the result */
    combine(a, &part, share_of_warp(a, r.head, warps), shared);
    if (a.out == 0) return;
    uint64_t to = ((uint64_t)ck_bid_y * a.heads + r.head) * a.kv.value_dim;
    for (uint32_t c = ck_tid; c < a.kv.value_dim; c += THREADS)
        ck_st((float *)a.out + to + c, shared[c]);
}

/* What attend() left in shared memory in 8 bits, of which a warp makes 32 at a time. */
CK_DEV void write_codes(const k_attention_args &a, const float *result) {
    uint64_t to = ((uint64_t)ck_bid_y * a.heads + ck_bid_x) * a.kv.value_dim;
#pragma unroll 1
    for (uint32_t base = ck_warp() * 32; base < a.kv.value_dim; base += THREADS)
        quantize_store(result[base + ck_lane()], (int8_t *)a.codes + to + base,
                       (ck_sums *)a.sums + (to + base) / 32);
}

/* A window reaches back, and forward where the row may look there. */
CK_DEV query query_of(const k_attention_args &a, uint32_t row, uint32_t head) {
    query r;
    r.pos = ck_ld((const uint32_t *)a.pos + row);
    r.seat = ck_ld((const uint32_t *)a.seats + row);
    r.begin = 0;
    r.end = ck_ld((const uint32_t *)a.seen + row);
    r.head = head;
    r.kv_head = head / (a.heads / a.kv.kv_heads);
    if (a.window == 0) return r;
    if (r.pos >= a.window) r.begin = r.pos - a.window + 1;
    if (r.end - r.pos > a.window) r.end = r.pos + a.window; /* end > pos */
    return r;
}

/* The block's row and head; false: the step has no such row. */
CK_DEV bool find_row(const k_attention_args &a, query *r) {
    if (ck_bid_y >= ck_ld((const uint32_t *)a.count)) return false;
    *r = query_of(a, ck_bid_y, ck_bid_x);
    return true;
}

CK_KERNEL_FEW(k_attention, k_attention_args, 128, 3) {
    CK_SHARED(float, shared, CK_ATTENTION_DIM_MAX);
    CK_SHARED(float, weights, WARPS *TOKENS);
    CK_SHARED(warp_softmax, warps, WARPS);
    query r;
    if (!find_row(a, &r)) return;
    bool aligned = a.kv.key_dim % UNIT == 0 && a.kv.value_dim % UNIT == 0;
    if (a.kv.type == CK_KV_F16 && aligned)
        attend<CK_KV_F16, true>(a, r, shared, weights, warps);
    else if (a.kv.type == CK_KV_F16)
        attend<CK_KV_F16, false>(a, r, shared, weights, warps);
    else if (aligned)
        attend<CK_KV_F32, true>(a, r, shared, weights, warps);
    else
        attend<CK_KV_F32, false>(a, r, shared, weights, warps);
    if (a.codes != 0) write_codes(a, shared);
}

CK_KERNEL_OF(k_attention_q8, k_attention_args, 128) {
    CK_SHARED(float, shared, CK_ATTENTION_DIM_MAX);
    CK_SHARED(float, weights, WARPS *TOKENS);
    CK_SHARED(warp_softmax, warps, WARPS);
    query r;
    if (!find_row(a, &r)) return;
    attend<CK_KV_Q8, true>(a, r, shared, weights, warps);
    if (a.codes != 0) write_codes(a, shared);
}
