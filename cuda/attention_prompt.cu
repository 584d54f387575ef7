/* attention_prompt.cu - attention of the rows of prompts on tensor cores (attention_prompt.h).
 *
 * The queries of a head of the cache are the rows of a run times the query heads that share it, in
 * the order of rows: a tile is CK_PROMPT_QUERIES of them that follow each other, of wide heads
 * CK_PROMPT_WIDE_QUERIES, whatever the number of heads.  Of a run the tiles that see most come
 * first. */
#include "attention_prompt.h"

/* --- which queries -------------------- */

/* What a block works on: queries first .. of those of a run, which has `count`. */
typedef struct tile {
    uint32_t row0;  /* of the run's first query */
    uint32_t heads; /* of a row: query i is head i % heads of row row0 + i / heads */
    uint32_t first, count;
    uint32_t seat;
    span seen; /* by anyone of the tile */
    span all;  /* by everyone */
} tile;

CK_DEV uint32_t row_of(const tile &t, uint32_t query) { return t.row0 + query / t.heads; }

/* As query_of() of attention.cu. */
CK_DEV span seen_of(const k_attention_args &a, uint32_t row, uint32_t pos) {
    span s = {0, ck_ld((const uint32_t *)a.seen + row)};
    if (a.window == 0) return s;
    if (pos >= a.window) s.begin = pos - a.window + 1;
    if (s.end - pos > a.window) s.end = pos + a.window; /* end > pos */
    return s;
}
CK_DEV span seen_of_row(const k_attention_args &a, uint32_t row) {
    return seen_of(a, row, ck_ld((const uint32_t *)a.pos + row));
}

/* What a row sees begins and ends no earlier than what the one before it does. */
CK_DEV void look(const k_attention_args &a, uint32_t queries, tile *t) {
    const uint32_t row = row_of(*t, t->first),
                   last = row_of(*t, ck_min_u(t->first + queries, t->count) - 1);
    const span s = seen_of_row(a, row), e = seen_of_row(a, last);
    t->seat = ck_ld((const uint32_t *)a.seats + row);
    t->seen = {s.begin, e.end};
    t->all = {e.begin, s.end};
}

/* The tile of this block, of so many queries; false: there is none. */
CK_DEV bool find_tile(const k_attention_args &a, uint32_t queries, tile *t) {
    const ck_counts *counts = (const ck_counts *)a.counts;
    const uint32_t generated = ck_ld(&counts->generated), runs = ck_ld(&counts->runs);
    uint32_t idx = ck_bid_x;
    t->heads = a.heads / a.kv.kv_heads;
#pragma unroll 1
    for (uint32_t i = ck_ld(&counts->prompt_run); i < runs; i++) {
        const ck_run *run = (const ck_run *)a.runs + i;
        const uint32_t row0 = ck_ld(&run->row0), end = row0 + ck_ld(&run->rows);
        t->row0 = row0 > generated ? row0 : generated;
        t->count = (end - t->row0) * t->heads;
        const uint32_t tiles = (t->count + queries - 1) / queries;
        if (idx < tiles) {
            t->first = (tiles - 1 - idx) * queries;
            look(a, queries, t);
            return true;
        }
        idx -= tiles;
    }
    return false;
}

/* --- this lane's -------------------- */

/* The two queries of a lane are 8 apart; false: there is no such query. */
template <typename shape>
CK_DEV bool find_query(const tile &t, uint32_t which, uint32_t *query) {
    *query = t.first + shape::first_query() + ck_lane() / 4 + 8 * which;
    return *query < t.count;
}
CK_DEV uint32_t head_of(const tile &t, uint32_t query) {
    return ck_bid_y * t.heads + query % t.heads;
}
/* Of its row and head among those of all rows. */
CK_DEV uint64_t place_of(const k_attention_args &a, const tile &t, uint32_t query) {
    return (uint64_t)row_of(t, query) * a.heads + head_of(t, query);
}

/* What query `i` of the tile sees and where it is, for get_queries(). */
CK_DEV ck_u4 describe_query(const k_attention_args &a, const tile &t, uint32_t i) {
    const uint32_t query = t.first + i;
    if (query >= t.count) return {0, 0, 0, 0};
    const uint32_t pos = ck_ld((const uint32_t *)a.pos + row_of(t, query));
    const span s = seen_of(a, row_of(t, query), pos);
    float slope = 0.0f;
    if (a.slopes != 0)
        slope = ck_mul(ck_ld((const float *)a.slopes + head_of(t, query)), 1.44269504f);
    return {s.begin, s.end, pos, ck_f2u(slope)};
}

/* Two neighbours of a row. */
CK_DEV uint32_t load_pair(const float *x, bool wanted) {
    const uint64_t both = wanted ? ck_ld((const uint64_t *)(const void *)x) : 0;
    return halves_of(ck_u2f((uint32_t)both), ck_u2f((uint32_t)(both >> 32)));
}

/* Elements 32 k .. of a query, as kv_turn_quad() has them, turned as keys are. */
CK_DEV void load_turned(float to[8], const float *x, bool wanted) {
#pragma unroll
    for (uint32_t n = 0; n < 4; n++) {
        const uint64_t both = wanted ? ck_ld((const uint64_t *)(const void *)(x + 8 * n)) : 0;
        to[2 * n] = ck_u2f((uint32_t)both);
        to[2 * n + 1] = ck_u2f((uint32_t)(both >> 32));
    }
    kv_turn_quad(to);
}

/* Two fragments of both queries at a time. */
template <uint32_t DIM>
CK_DEV void put_turned(prompt_queries<DIM> &q, uint32_t dim, const float *const x[2],
                       const bool there[2]) {
#pragma unroll
    for (uint32_t k = 0; k < prompt_queries<DIM>::FRAGMENTS; k += 2) {
        if (k * STEP >= dim) continue;
        float of[2][8];
        load_turned(of[0], x[0] + k * STEP, there[0]);
        load_turned(of[1], x[1] + k * STEP, there[1]);
#pragma unroll
        for (uint32_t i = 0; i < 8; i += 4) {
            const uint32_t words[4] = {
                halves_of(of[0][i], of[0][i + 1]), halves_of(of[1][i], of[1][i + 1]),
                halves_of(of[0][i + 2], of[0][i + 3]), halves_of(of[1][i + 2], of[1][i + 3])};
            prompt_queries<DIM>::put(q, k + i / 4, words);
        }
    }
}

template <uint32_t DIM>
CK_DEV void put_plain(prompt_queries<DIM> &q, uint32_t dim, const float *const x[2],
                      const bool there[2]) {
#pragma unroll
    for (uint32_t k = 0; k < prompt_queries<DIM>::FRAGMENTS; k++) {
        if (k * STEP >= dim) continue;
        const uint32_t words[4] = {
            load_pair(x[0] + k * STEP, there[0]), load_pair(x[1] + k * STEP, there[1]),
            load_pair(x[0] + k * STEP + 8, there[0]), load_pair(x[1] + k * STEP + 8, there[1])};
        prompt_queries<DIM>::put(q, k, words);
    }
}

/* The warp's elements of them. */
template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV void load_queries(prompt_queries<prompt_shape<TYPE, DIM>::KEYS> &q,
                         const k_attention_args &a, const tile &t) {
    typedef prompt_shape<TYPE, DIM> shape;
    const uint32_t first = shape::part() * shape::KEYS, dim = from_element(a.kv.key_dim, first);
    const float *x[2];
    bool there[2];
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t query;
        there[i] = find_query<shape>(t, i, &query);
        x[i] = (const float *)a.q + first + ck_lane() % 4 * 2;
        if (there[i]) x[i] += place_of(a, t, query) * a.kv.key_dim;
    }
    if (TYPE == CK_KV_Q4)
        put_turned(q, dim, x, there);
    else
        put_plain(q, dim, x, there);
}

/* --- the walk -------------------- */

typedef struct prompt_memory {
    cache_tile keys, values; /* the same memory with v_in_k, and of all but narrow heads */
    granule *scores;         /* of each warp, where several have the same queries */
    uint32_t *not_finite;    /* > 0: some value of a piece that not all of the tile see */
} prompt_memory;

/* Where keys and values have one place: what was multiplied is done with. */
CK_DEV void sync_place(const prompt_memory &m) {
    if (m.keys.rows == m.values.rows) ck_sync();
}

/* Does this warp see anything of the piece, and all of it? */
typedef struct warp_view {
    bool some, all;
} warp_view;

CK_DEV warp_view view_of(const lane_queries &q, uint32_t piece) {
    const bool some = sees_some(q.seen[0], piece) || sees_some(q.seen[1], piece);
    const bool all = sees_all(q.seen[0], piece) && sees_all(q.seen[1], piece);
    return {ck_ballot(some) != 0, ck_ballot(!all) == 0};
}

CK_DEV void note(bool finite, uint32_t *not_finite) {
    if (!finite) (void)ck_shared_add(not_finite, 1);
}

/* Products with the keys of a piece by all warps that have the same queries; `some`: these see some
 * of it. */
template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV void dot_parts(prompt_scores *x, const prompt_queries<prompt_shape<TYPE, DIM>::KEYS> &q,
                      const prompt_memory &m, uint32_t dim, bool some) {
    typedef prompt_shape<TYPE, DIM> shape;
    const uint32_t part = shape::part(), first = part * shape::KEYS;
    if (some) dot_keys(x, q, from_column(m.keys, first), from_element(dim, first));
    granule *own = m.scores + ck_warp() * WARP_SCORES;
    if (some) put_scores(*x, own);
    ck_sync();
    if (some) add_scores<shape::PARTS>(x, own - part * WARP_SCORES);
}

/* The warp's columns of the values of a piece. */
template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV void add_columns(prompt_sums<prompt_shape<TYPE, DIM>::VALUES> *sums,
                        const prompt_weights &w, const prompt_memory &m, uint32_t dim,
                        const granule *queries, bool all, uint32_t piece) {
    typedef prompt_shape<TYPE, DIM> shape;
    const uint32_t first = shape::part() * shape::VALUES, left = from_element(dim, first);
    const cache_tile values = from_column(m.values, first);
    add_weights(sums, w);
    if (all || *m.not_finite == 0)
        add_values(sums, w, values, left);
    else
        add_values_alone(sums, w, get_queries(queries), values, left, piece * PIECE);
}

/* Keys of the piece in, values on their way; scores, and what becomes of them.  queries: those of
 * the warp. */
template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV void walk(const k_attention_args &a, const tile &t, const granule *queries,
                 const prompt_queries<prompt_shape<TYPE, DIM>::KEYS> &q, const prompt_memory &m,
                 prompt_sums<prompt_shape<TYPE, DIM>::VALUES> *sums) {
    const bool has_parts = prompt_shape<TYPE, DIM>::PARTS > 1;
    const ck_kv &kv = a.kv;
    const scoring f = scoring_of(a);
    uint32_t piece = t.seen.begin / PIECE;
    staged<TYPE, DIM> s;
    piece_blocks at = blocks_of(kv, t.seat, piece, t.seen);
    load_piece<cache_keys>(s, kv, ck_bid_y, at, piece, t.seen);
#pragma unroll 1
    for (; piece * PIECE < t.seen.end; piece++) {
        const piece_blocks next = blocks_of(kv, t.seat, piece + 1, t.seen);
        const warp_view view = view_of(get_queries(queries), piece);
        prompt_weights w;
        bool finite = put_piece(s, kv.key_dim, m.keys);
        if (kv.v_in_k) note(finite || sees_all(t.all, piece), m.not_finite);
        ck_sync();
        if (!kv.v_in_k) load_piece<cache_values>(s, kv, ck_bid_y, at, piece, t.seen);
        prompt_scores x;
        if (has_parts) dot_parts<TYPE, DIM>(&x, q, m, kv.key_dim, view.some);
        if (view.some) {
            if (!has_parts) dot_keys(&x, q, m.keys, kv.key_dim);
            score_all(&x, f, queries, piece);
            if (!view.all) hide_unseen(&x, get_queries(queries), piece);
            weigh(x, sums, &w);
        }
        if (!kv.v_in_k) {
            sync_place(m);
            finite = put_piece(s, kv.value_dim, m.values);
            note(finite || sees_all(t.all, piece), m.not_finite);
            ck_sync();
        }
        at = next;
        if ((piece + 1) * PIECE < t.seen.end)
            load_piece<cache_keys>(s, kv, ck_bid_y, at, piece + 1, t.seen);
        if (view.some)
            add_columns<TYPE, DIM>(sums, w, m, kv.value_dim, queries, view.all, piece);
        sync_place(m);
    }
}

/* --- the result -------------------- */

/* What the sums of a query are multiplied with.  A sink is a score without a value. */
template <typename shape>
CK_DEV float share_of(const k_attention_args &a, const tile &t, uint32_t which, float max,
                      float sum) {
    uint32_t query;
    if (!find_query<shape>(t, which, &query)) return 0.0f;
    if (a.sinks == 0) return 1.0f / sum;
    const float sink = ck_mul(ck_ld((const float *)a.sinks + head_of(t, query)), 1.44269504f);
    const float most = ck_max(max, sink), base = most == -CK_INFINITY ? 0.0f : most;
    const float kept = ck_ex2(max - base);
    return kept / ck_fma(sum, kept, ck_mul(ck_ex2(sink - base), PROMPT_WEIGHT_MAX));
}

/* 32 columns from `column` on of one of the lane's queries: x [8] are those of this lane. */
CK_DEV void write_codes(const k_attention_args &a, uint64_t at, bool there, uint32_t column,
                        const float x[8]) {
    int code[8];
    const ck_sums sums = quantize_quad(x, code);
    if (!there) return;
    uint16_t *codes = (uint16_t *)(a.codes + at + column) + ck_lane() % 4;
#pragma unroll
    for (uint32_t n = 0; n < 4; n++)
        ck_st(codes + 4 * n,
              (uint16_t)((uint32_t)(uint8_t)code[2 * n] | (uint32_t)(uint8_t)code[2 * n + 1] << 8));
    if (ck_lane() % 4 == 0) ck_st((ck_sums *)a.sums + (at + column) / 32, sums);
}

CK_DEV void write_floats(const k_attention_args &a, uint64_t at, uint32_t column,
                         const float x[8]) {
    uint64_t *to = (uint64_t *)(void *)((float *)a.out + at + column) + ck_lane() % 4;
#pragma unroll
    for (uint32_t n = 0; n < 4; n++)
        if (column + 8 * n < a.kv.value_dim)
            ck_st(to + 4 * n, (uint64_t)ck_f2u(x[2 * n]) | (uint64_t)ck_f2u(x[2 * n + 1]) << 32);
}

/* 0 is added for zeros of one sign: which of them a sum is may hang on pieces that are not seen.
 * Values of Q4 are turned, and so are sums of them. */
template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV void write_query(const k_attention_args &a, const tile &t, uint32_t which,
                        const prompt_sums<prompt_shape<TYPE, DIM>::VALUES> &sums) {
    typedef prompt_shape<TYPE, DIM> shape;
    const uint32_t first = shape::part() * shape::VALUES;
    uint32_t query;
    const bool there = find_query<shape>(t, which, &query);
    const uint64_t at = there ? place_of(a, t, query) * a.kv.value_dim : 0;
    const float share = share_of<shape>(a, t, which, sums.max[which], sums.sum[which]);
#pragma unroll
    for (uint32_t n = 0; n < shape::VALUES / 8; n += 4) {
        if (first + n * 8 >= a.kv.value_dim) continue;
        float x[8];
#pragma unroll
        for (uint32_t i = 0; i < 8; i++)
            x[i] = ck_fma(sums.out[n + i / 2][2 * which + i % 2], share, 0.0f);
        if (TYPE == CK_KV_Q4) kv_turn_quad(x);
        if (a.out != 0 && there) write_floats(a, at, first + n * 8, x);
        if (a.codes != 0) write_codes(a, at, there, first + n * 8, x);
    }
}

/* --- entries -------------------- */

/* | queries of heads of 256 | keys | values, where they have a place of their own |
 * | scores of wide heads | keys, values | */
template <typename shape>
CK_DEV prompt_memory memory_of(const ck_kv &kv, granule *rows, bool shared, uint32_t *not_finite) {
    const uint32_t stride = tile_stride(kv.key_dim);
    granule *scores = rows;
    if (shape::PARTS > 1) rows += shape::THREADS / 32 * WARP_SCORES;
    granule *values = shared || kv.v_in_k ? rows : rows + PIECE * stride;
    return {{rows, stride},
            {values, kv.v_in_k ? stride : tile_stride(kv.value_dim)},
            scores,
            not_finite};
}

template <uint32_t DIM> CK_DEV granule *place_queries(prompt_queries<DIM> &q, granule *rows) {
    return (void)q, rows;
}
CK_DEV granule *place_queries(prompt_queries<256> &q, granule *rows) {
    q.own = rows + ck_tid;
    return rows + prompt_queries<256>::FRAGMENTS * CK_PROMPT_THREADS;
}

/* What threads need now and then, and have no registers to spare for. */
typedef struct alignas(16) fixed_memory {
    granule queries[CK_PROMPT_QUERIES];
    tile todo;
    uint32_t has_tile, not_finite;
} fixed_memory;

template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV void prompt_attention(const k_attention_args &a, granule *rows, fixed_memory *fixed) {
    typedef prompt_shape<TYPE, DIM> shape;
    if (ck_tid == 0) fixed->has_tile = find_tile(a, shape::QUERIES, &fixed->todo);
    if (ck_tid == 0) fixed->not_finite = 0;
    ck_sync();
    if (fixed->has_tile == 0) return;
    const tile &t = fixed->todo;
    if (ck_tid < shape::QUERIES) ck_put16(fixed->queries + ck_tid, describe_query(a, t, ck_tid));
    prompt_queries<shape::KEYS> q;
    rows = place_queries(q, rows);
    load_queries<TYPE, DIM>(q, a, t);
    ck_sync();
    prompt_sums<shape::VALUES> sums = {{-CK_INFINITY, -CK_INFINITY}, {0, 0}, {}};
    walk<TYPE, DIM>(a, t, fixed->queries + shape::first_query(), q,
                    memory_of<shape>(a.kv, rows, DIM > 128, &fixed->not_finite), &sums);
    write_query<TYPE, DIM>(a, t, 0, sums);
    write_query<TYPE, DIM>(a, t, 1, sums);
}

/* blocks: of an SM, as many as there are registers for. */
#define PROMPT_KERNEL(name, type, dim, blocks)                                              \
    CK_KERNEL_FEW(k_prompt_attention_##name, k_attention_args,                             \
                  (prompt_shape<type, dim>::THREADS), blocks) {                            \
        CK_SHARED_DYN(granule, rows);                                                      \
        CK_SHARED(fixed_memory, fixed, 1);                                                 \
        prompt_attention<type, dim>(a, rows, fixed);                                       \
    }

PROMPT_KERNEL(f16_d64, CK_KV_F16, 64, 4)
PROMPT_KERNEL(f16_d128, CK_KV_F16, 128, 3)
PROMPT_KERNEL(f16_d256, CK_KV_F16, 256, 2)
PROMPT_KERNEL(f16_d576, CK_KV_F16, 576, 1)
PROMPT_KERNEL(q8_d64, CK_KV_Q8, 64, 4)
PROMPT_KERNEL(q8_d128, CK_KV_Q8, 128, 3)
PROMPT_KERNEL(q8_d256, CK_KV_Q8, 256, 2)
PROMPT_KERNEL(q8_d576, CK_KV_Q8, 576, 1)
PROMPT_KERNEL(q4_d64, CK_KV_Q4, 64, 4)
PROMPT_KERNEL(q4_d128, CK_KV_Q4, 128, 3)
PROMPT_KERNEL(q4_d256, CK_KV_Q4, 256, 2)
PROMPT_KERNEL(q4_d576, CK_KV_Q4, 576, 1)
