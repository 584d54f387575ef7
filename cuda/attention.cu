/* attention.cu - keys and values into the cache, and attention over it.
 *
 * k_attention: paged flash decoding (Dao et al. 2023) with the query heads of a head of keys and
 * values in one block.  A row's span of tokens is cut into splits (cut_of), and a split is computed
 * by one block (attention_split.h).  The splits of a row go
 *
 *   alone   all to one block, which folds each into what it has so far; or
 *   shared  in turn to the blocks of the row that the step's ck_splits says.  They leave what they
 *           have of each split, take a ticket, and who gets the last one folds all of them.
 *
 * Splits are folded in ascending order by the same operations in both, so that what is summed in
 * which order follows from the row's span only: a row has the same bits in every batch. */
#include "attention_split.h"

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

/* --- the splits of a row -------------------- */

/* Blocks of 16 tokens first .. end - 1, so many to a split. */
typedef struct cut {
    uint32_t first, end, per, count;
} cut;

/* CK_SPLIT_BLOCKS to a split: fewer, and a block's beginning and end take longer than what is in
 * between.  Twice as many, and so on, where there would be more than splits_max: all of them pass
 * through the one block that comes last. */
CK_DEV cut cut_of(const k_attention_args &a, const query &r) {
    cut c = {r.begin / TOKENS, (r.end + TOKENS - 1) / TOKENS, CK_SPLIT_BLOCKS, 0};
    const uint32_t blocks = c.end - c.first;
    while (c.per * a.splits_max < blocks) c.per *= 2;
    c.count = (blocks + c.per - 1) / c.per;
    return c;
}

/* Who computes them: this block takes the splits first, first + step ..; without a `slot` it is
 * alone. */
typedef struct share {
    uint32_t slot, first, step;
} share;

CK_DEV bool is_alone(const share &of) { return of.slot == CK_SPLIT_NONE; }

/* Where the result of a split goes: [heads] rows of padded(value_dim) floats and a softmax, in
 * PART_EXTRA floats. */
enum : uint32_t { PART_EXTRA = CK_ATTENTION_EXTRA };

CK_DEV uint64_t part_row_bytes(const k_attention_args &a) {
    return (padded(a.kv.value_dim) + PART_EXTRA) * sizeof(float);
}
CK_DEV uint64_t part_at(const k_attention_args &a, uint32_t slot, uint32_t split) {
    const uint64_t group = (uint64_t)slot * a.groups + ck_bid_x;
    return a.parts + (group * a.parts_stride + split) * a.per_block * part_row_bytes(a);
}

/* --- folding them -------------------- */

/* Of one head: all splits so far, and of their weighted values four columns. */
typedef struct folded {
    softmax of;
    quad x;
} folded;

CK_DEV folded nothing_folded() { return {{-CK_INFINITY, 0}, {{0, 0, 0, 0}}}; }

CK_DEV void fold(folded *f, softmax of, const quad &x) {
    const float max = ck_max(f->of.max, of.max), base = max == -CK_INFINITY ? 0.0f : max;
    const float kept = ck_ex2(f->of.max - base), taken = ck_ex2(of.max - base);
    f->of.max = max;
    f->of.sum = ck_fma(f->of.sum, kept, of.sum * taken);
#pragma unroll
    for (uint32_t e = 0; e < 4; e++) f->x.x[e] = ck_fma(f->x.x[e], kept, x.x[e] * taken);
}

/* The head's result.  A sink is a score without a value. */
CK_DEV quad result_of(const k_attention_args &a, uint32_t head, folded f) {
    if (a.sinks != 0) {
        const float sink = ck_ld((const float *)a.sinks + head) * 1.44269504f;
        fold(&f, {sink, 1}, {{0, 0, 0, 0}});
    }
    const float share = 1.0f / f.of.sum;
#pragma unroll
    for (uint32_t e = 0; e < 4; e++) f.x.x[e] *= share;
    return f.x;
}

/* A warp folds 4 columns per lane of a head at a time: of the block's head `head` those from
 * `column` on. */
typedef struct piece {
    uint32_t head, column;
} piece;

CK_DEV uint32_t pieces_of_head(const k_attention_args &a) {
    return (padded(a.kv.value_dim) + LANES * 4 - 1) / (LANES * 4);
}
CK_DEV piece piece_of(const k_attention_args &a, uint32_t i) {
    const uint32_t n = pieces_of_head(a);
    return {i / n, i % n * (LANES * 4) + ck_lane() * 4};
}

/* Folds m.split into m.row, and after the last split makes that the result. */
CK_DEV void fold_split(const k_attention_args &a, const query &r, const block_memory &m,
                       bool is_first, bool is_last) {
    const uint32_t row = padded(a.kv.value_dim), pieces = r.heads * pieces_of_head(a);
    for (uint32_t i = ck_warp(); i < pieces; i += WARPS) {
        const piece p = piece_of(a, i);
        if (p.column >= row) continue;
        quad *at = (quad *)(m.row + p.head * row + p.column);
        folded f = is_first ? nothing_folded() : folded{m.so_far[i * LANES + ck_lane()], *at};
        fold(&f, m.splits[p.head], *(const quad *)(m.split + p.head * row + p.column));
        m.so_far[i * LANES + ck_lane()] = f.of;
        *at = is_last ? result_of(a, r.head + p.head, f) : f.x;
    }
}

CK_DEV softmax load_softmax(uint64_t at) {
    const uint64_t both = ck_ld((const uint64_t *)at);
    return {ck_u2f((uint32_t)both), ck_u2f((uint32_t)(both >> 32))};
}
CK_DEV quad load_quad(uint64_t at) {
    const ck_u4 u = ck_ld16((const void *)at);
    return {{ck_u2f(u.x), ck_u2f(u.y), ck_u2f(u.z), ck_u2f(u.w)}};
}

/* The results of all splits, as blocks left them, into m.row. */
CK_DEV void fold_parts(const k_attention_args &a, const query &r, const block_memory &m,
                       uint32_t slot, uint32_t count) {
    const uint32_t row = padded(a.kv.value_dim), pieces = r.heads * pieces_of_head(a);
    const uint64_t stride = a.per_block * part_row_bytes(a);
    for (uint32_t i = ck_warp(); i < pieces; i += WARPS) {
        const piece p = piece_of(a, i);
        if (p.column >= row) continue;
        const uint64_t at = part_at(a, slot, 0) + p.head * part_row_bytes(a);
        folded f = nothing_folded();
#pragma unroll 4
        for (uint32_t s = 0; s < count; s++)
            fold(&f, load_softmax(at + s * stride + row * sizeof(float)),
                 load_quad(at + s * stride + p.column * sizeof(float)));
        *(quad *)(m.row + p.head * row + p.column) = result_of(a, r.head + p.head, f);
    }
}

/* m.split and m.splits to where the block that comes last will read them. */
CK_DEV void leave_split(const k_attention_args &a, const query &r, const block_memory &m,
                        uint32_t slot, uint32_t split) {
    const uint32_t row = padded(a.kv.value_dim);
    for (uint32_t h = 0; h < r.heads; h++) {
        float *to = (float *)(part_at(a, slot, split) + h * part_row_bytes(a));
        for (uint32_t c = ck_tid; c < row; c += THREADS) ck_st(to + c, m.split[h * row + c]);
        if (ck_tid == 0) ck_st(to + row, m.splits[h].max);
        if (ck_tid == 0) ck_st(to + row + 1, m.splits[h].sum);
    }
}

/* Of so many blocks that share the row; the ticket counter is 0 again afterwards. */
CK_DEV bool is_last_block(const k_attention_args &a, uint32_t slot, uint32_t blocks,
                          uint32_t *is_last) {
    uint32_t *tickets = (uint32_t *)a.tickets + slot * a.groups + ck_bid_x;
    ck_sync();
    if (ck_tid == 0) {
        ck_fence(); /* who sees the ticket sees the parts */
        is_last[0] = ck_atomic_add(tickets, 1) == blocks - 1;
        if (is_last[0] != 0) ck_fence();
        if (is_last[0] != 0) (void)ck_atomic_add(tickets, 0u - blocks);
    }
    ck_sync();
    return is_last[0] != 0;
}

/* The lane's element of 32 neighbours of a result: of Q4 turned back, as values are. */
template <ck_kv_type TYPE> CK_DEV float turned_back(float x) {
    return TYPE == CK_KV_Q4 ? kv_turned(x) : x;
}

/* The result, as f32 and in 8 bits, of which a warp makes 32 at a time. */
template <ck_kv_type TYPE>
CK_DEV void write_result(const k_attention_args &a, const query &r, const float *result) {
    const uint32_t row = padded(a.kv.value_dim);
    ck_sync();
    for (uint32_t h = 0; h < r.heads; h++) {
        const uint64_t to = ((uint64_t)r.row * a.heads + r.head + h) * a.kv.value_dim;
        for (uint32_t c = ck_tid; c < a.kv.value_dim && a.out != 0; c += THREADS)
            ck_st((float *)a.out + to + c, turned_back<TYPE>(result[h * row + c]));
#pragma unroll 1
        for (uint32_t c = ck_warp() * 32; c < a.kv.value_dim && a.codes != 0; c += THREADS)
            quantize_store(turned_back<TYPE>(result[h * row + c + ck_lane()]),
                           (int8_t *)a.codes + to + c, (ck_sums *)a.sums + (to + c) / 32);
    }
}

/* --- which row -------------------- */

/* A window reaches back, and forward where the row may look there. */
CK_DEV query query_of(const k_attention_args &a, uint32_t row) {
    query r;
    const uint32_t of_kv_head = a.groups / a.kv.kv_heads, heads = a.heads / a.kv.kv_heads;
    const uint32_t first = ck_bid_x % of_kv_head * a.per_block;
    r.kv_head = ck_bid_x / of_kv_head;
    r.head = r.kv_head * heads + first;
    r.heads = ck_min_u(a.per_block, heads - first);
    r.row = row;
    r.pos = ck_ld((const uint32_t *)a.pos + row);
    r.seat = ck_ld((const uint32_t *)a.seats + row);
    r.begin = 0;
    r.end = ck_ld((const uint32_t *)a.seen + row);
    if (a.window == 0) return r;
    if (r.pos >= a.window) r.begin = r.pos - a.window + 1;
    if (r.end - r.pos > a.window) r.end = r.pos + a.window; /* end > pos */
    return r;
}

/* Blocks y = 0 .. count - 1 are the first ones of the rows, those behind them the others of the
 * rows that have several.  False: there is no such block. */
CK_DEV bool find_share(const k_attention_args &a, uint32_t *row, share *of) {
    const uint32_t rows = ck_ld((const uint32_t *)a.count);
    const ck_splits *splits = (const ck_splits *)a.splits;
    *of = {CK_SPLIT_NONE, 0, 1};
    *row = ck_bid_y;
    if (ck_bid_y < rows && a.splits == 0) return true;
    if (a.splits == 0) return false;
    const uint32_t shared = ck_ld(&splits->rows);
    of->step = ck_ld(&splits->blocks);
    if (ck_bid_y < rows) {
        of->slot = ck_ld((const uint32_t *)a.slots + ck_bid_y);
        return true;
    }
    if (shared == 0) return false;
    of->slot = (ck_bid_y - rows) % shared;
    of->first = 1 + (ck_bid_y - rows) / shared;
    if (of->first >= of->step) return false;
    *row = ck_ld(splits->row + of->slot);
    return true;
}

/* What a block works on: the same for all of its threads, which have no registers to spare. */
typedef struct work {
    query r;
    cut c;
    share of;
} work;

/* The block's query heads, and its part of the row; false: there is nothing for it to do. */
CK_DEV bool find_work(const k_attention_args &a, work *w) {
    uint32_t row;
    if (!find_share(a, &row, &w->of)) return false;
    w->r = query_of(a, row);
    w->c = cut_of(a, w->r);
    if (w->of.slot == CK_SPLIT_NONE || w->of.step == 1 || w->c.count == 1) {
        w->of = {CK_SPLIT_NONE, w->of.first, 1};
        return w->of.first == 0;
    }
    return w->of.first < w->c.count;
}

/* --- entries -------------------- */

/* What a block has beside the rows of its heads, whose size is the launch's. */
typedef struct alignas(16) fixed_memory {
    float weights[WARPS * TOKENS * HEADS_MAX];
    float slopes[HEADS_MAX];
    float factors[WARPS * HEADS_MAX];
    softmax warps[WARPS * HEADS_MAX], splits[HEADS_MAX];
    softmax so_far[PIECES_MAX * LANES];
    work todo;
    uint32_t is_last;
} fixed_memory;

template <uint32_t HEADS>
CK_DEV block_memory memory_of(const ck_kv &kv, float *rows, fixed_memory *fixed) {
    const uint32_t values = HEADS * padded(kv.value_dim);
    float *split = rows + HEADS * q_row(kv);
    return {rows,           split,        split + values, fixed->weights, fixed->slopes,
            fixed->factors, fixed->warps, fixed->splits,  fixed->so_far,  &fixed->is_last};
}

/* Of Q4 turned, as keys are: a warp has 32 neighbours, since rows are whole panels. */
template <ck_kv_type TYPE, uint32_t HEADS>
CK_DEV void load_queries(const k_attention_args &a, const query &r, float *q) {
    const uint32_t row = q_row(a.kv), dim = a.kv.key_dim;
    const float *from = (const float *)a.q + ((uint64_t)r.row * a.heads + r.head) * dim;
#pragma unroll 4
    for (uint32_t i = ck_tid; i < HEADS * row; i += THREADS) {
        const uint32_t h = i / row, c = i % row;
        const float x = h < r.heads && c < dim ? ck_ld(from + h * dim + c) : 0;
        q[h * row + place_of(c)] = TYPE == CK_KV_Q4 ? kv_turned(x) : x;
    }
}

/* Heads behind the last one are computed as that one, and dropped. */
CK_DEV void load_slopes(const k_attention_args &a, const query &r, float *slopes) {
    if (ck_tid >= HEADS_MAX || a.slopes == 0) return;
    const uint32_t h = r.head + ck_min_u(ck_tid, r.heads - 1);
    slopes[ck_tid] = ck_ld((const float *)a.slopes + h);
}

/* The block's splits. */
template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void take_splits(const k_attention_args &a, const work &w, const block_memory &m) {
#pragma unroll 1
    for (uint32_t s = w.of.first; s < w.c.count; s += w.of.step) {
        const uint32_t first = w.c.first + s * w.c.per;
        take_split<TYPE, ALIGNED, HEADS>(a, w.r, m, first, ck_min_u(first + w.c.per, w.c.end));
        if (is_alone(w.of))
            fold_split(a, w.r, m, s == 0, s + 1 == w.c.count);
        else
            leave_split(a, w.r, m, w.of.slot, s);
    }
}

template <ck_kv_type TYPE, bool ALIGNED, uint32_t HEADS>
CK_DEV void attend(const k_attention_args &a, float *rows, fixed_memory *fixed) {
    work found;
    if (!find_work(a, &found)) return;
    if (ck_tid == 0) fixed->todo = found;
    ck_sync();
    const work &w = fixed->todo;
    const block_memory m = memory_of<HEADS>(a.kv, rows, fixed);
    load_queries<TYPE, HEADS>(a, w.r, m.q);
    load_slopes(a, w.r, m.slopes);
    ck_sync();
    take_splits<TYPE, ALIGNED, HEADS>(a, w, m);
    if (!is_alone(w.of)) {
        if (!is_last_block(a, w.of.slot, ck_min_u(w.of.step, w.c.count), m.is_last)) return;
        fold_parts(a, w.r, m, w.of.slot, w.c.count);
    }
    write_result<TYPE>(a, w.r, m.row);
}

/* blocks: of an SM, as many as there are registers for. */
#define ATTENTION_KERNEL(name, type, is_aligned, heads, blocks)        \
    CK_KERNEL_FEW(k_attention_##name, k_attention_args, 128, blocks) { \
        CK_SHARED_DYN(float, rows);                                    \
        CK_SHARED(fixed_memory, fixed, 1);                             \
        attend<type, is_aligned, heads>(a, rows, fixed);               \
    }

ATTENTION_KERNEL(f32_any, CK_KV_F32, false, 1, 3)
ATTENTION_KERNEL(f32_n1, CK_KV_F32, true, 1, 4)
ATTENTION_KERNEL(f32_n2, CK_KV_F32, true, 2, 4)
ATTENTION_KERNEL(f32_n4, CK_KV_F32, true, 4, 4)
ATTENTION_KERNEL(f32_n8, CK_KV_F32, true, 8, 3)
ATTENTION_KERNEL(f16_any, CK_KV_F16, false, 1, 3)
ATTENTION_KERNEL(f16_n1, CK_KV_F16, true, 1, 4)
ATTENTION_KERNEL(f16_n2, CK_KV_F16, true, 2, 4)
ATTENTION_KERNEL(f16_n4, CK_KV_F16, true, 4, 4)
ATTENTION_KERNEL(f16_n8, CK_KV_F16, true, 8, 4)
ATTENTION_KERNEL(q8_n1, CK_KV_Q8, true, 1, 4)
ATTENTION_KERNEL(q8_n2, CK_KV_Q8, true, 2, 4)
ATTENTION_KERNEL(q8_n4, CK_KV_Q8, true, 4, 4)
ATTENTION_KERNEL(q8_n8, CK_KV_Q8, true, 8, 2)
ATTENTION_KERNEL(q4_n1, CK_KV_Q4, true, 1, 4)
ATTENTION_KERNEL(q4_n2, CK_KV_Q4, true, 2, 4)
ATTENTION_KERNEL(q4_n4, CK_KV_Q4, true, 4, 4)
ATTENTION_KERNEL(q4_n8, CK_KV_Q4, true, 8, 2)
