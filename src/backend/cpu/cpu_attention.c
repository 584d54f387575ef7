/* cpu_attention.c - attention over the KV cache, tile by tile.
 *
 * A query is one head of one row.  A unit is a tile of queries that read the same KV head: some
 * consecutive rows of one run times some of the heads of its group.  It walks the positions span
 * by span; its keys, then its values become f32 once, piece by piece, and serve all queries of the
 * tile while they are in the first cache (16 KB at 64 elements):
 *
 *      keys, turned        scores                values               sums
 *      [blocks, dim, 16]  [queries, ATTN_SPAN]  [ATTN_PIECE, v_cols]  [queries, v_cols]
 *
 * Softmax is online (Milakov & Gimelshein 2018): every span corrects the sums by how much the
 * maximum grew.  Spans begin at multiples of ATTN_SPAN, so what a row computes depends on its own
 * position alone, not on the tile, and long contexts need no longer scratch.  A position that one
 * query of a tile sees and another does not is left out of the sums of the other one, rather than
 * added as 0 times something: there may be anything.
 * A sink is where maximum and sum of its head begin. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_attention_internal.h"
#include "backend/kv_q4.h"
#include "backend/kv_q8.h"
#include "base/assert.h"

enum {
    QUERIES_MAX = 128,     /* of a tile, to stay in the second cache */
    QUERIES_MAX_LONG = 32, /* the same, of long heads */
    LONG_DIM = 256,        /* elements of a key that make a long head */
    UNITS_PER_THREAD = 4,  /* at least, as long as rows can be shared out */
    MIX_COLS = 64,         /* columns of the values that all queries go through */
};

/* --- units -------------------- */

/* How a step's queries are cut into units. */
typedef struct tiling {
    uint32_t rows;  /* of a tile, at most */
    uint32_t heads; /* of a tile, at most */
    uint32_t parts; /* that the heads of a KV head are cut into */
} tiling;

/* Processors that have bf16 have 1 MiB of second cache. */
static uint32_t queries_max(const op_attention *a, const bf16_kernels *bf16) {
    if (a->key_dim > LONG_DIM) return QUERIES_MAX_LONG;
    return cpu_attention_bf16_takes(bf16, a) ? ATTN_TILE_QUERIES : QUERIES_MAX;
}

/* Tiles as large as leave enough units for all threads. */
static tiling tiling_of(const backend *b, const op_attention *a) {
    const uint32_t group = a->heads / a->kv_heads, threads = cpu_pool_threads(b->pool);
    const uint32_t wanted = threads > 1 ? threads * UNITS_PER_THREAD : 1;
    const uint32_t queries = queries_max(a, b->bf16);
    tiling t = {.heads = num_min_u32(group, queries)};
    t.rows = num_max_u32(queries / t.heads, 1);
    t.parts = num_div_up_u32(group, t.heads);
    while (t.rows > 1 && num_div_up_u32(b->in->rows, t.rows) * a->kv_heads * t.parts < wanted)
        t.rows = num_div_up_u32(t.rows, 2);
    while (t.rows == 1 && t.heads > 1 && b->in->rows * a->kv_heads * t.parts < threads) {
        t.heads = num_div_up_u32(t.heads, 2);
        t.parts = num_div_up_u32(group, t.heads);
    }
    return t;
}

/* Tiles of rows in the batch: none has rows of two runs. */
static uint32_t row_tiles(const batch *in, const tiling *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < in->runs_count; i++) n += num_div_up_u32(in->runs[i].rows, t->rows);
    return n;
}

uint32_t cpu_units_attention(const backend *b, const task *t) {
    const op_attention *a = &t->ops[0]->attn;
    const tiling tiles = tiling_of(b, a);
    return row_tiles(b->in, &tiles) * a->kv_heads * tiles.parts;
}

/* --- a tile -------------------- */

static uint32_t cols_of(const op_attention *a) {
    return (uint32_t)num_align_size(a->value_dim, ATTN_LANES);
}

static size_t piece_floats(const op_attention *a) {
    return (size_t)ATTN_PIECE * num_max_u32(a->key_dim, cols_of(a));
}

static size_t tile_floats(const op_attention *a, size_t queries) {
    const size_t cols = cols_of(a);
    return queries * (a->key_dim + ATTN_SPAN + cols) + piece_floats(a) +
           KV_BLOCK_TOKENS * (size_t)a->key_dim;
}

size_t cpu_attention_floats(const op_attention *a, const bf16_kernels *bf16) {
    const uint32_t queries = queries_max(a, bf16);
    const size_t floats = tile_floats(a, queries);
    if (!cpu_attention_bf16_takes(bf16, a)) return floats;
    return num_max_u64(floats, cpu_attention_bf16_floats(a, queries));
}

static void lay_out_tile(attn_tile *t, float *scratch) {
    const op_attention *a = &t->o->attn;
    t->piece = scratch;
    t->scores = t->piece + piece_floats(a);
    t->sums = t->scores + (size_t)t->queries * ATTN_SPAN;
    t->block = t->sums + (size_t)t->queries * t->v_cols;
    t->q = t->block + (size_t)KV_BLOCK_TOKENS * a->key_dim;
    t->stride = t->v_cols;
}

/* The tile with this number, counted from the last rows on: they see most and take longest. */
static void find_rows(attn_tile *t, uint32_t number, uint32_t rows_max) {
    const batch *in = t->b->in;
    uint32_t i = in->runs_count - 1;
    for (uint32_t n; number >= (n = num_div_up_u32(in->runs[i].rows, rows_max)); i--) number -= n;
    t->run = &in->runs[i];
    const uint32_t first = (num_div_up_u32(t->run->rows, rows_max) - 1 - number) * rows_max;
    t->row0 = t->run->row0 + first;
    t->rows = num_min_u32(rows_max, t->run->rows - first);
}

static uint32_t row_of(const attn_tile *t, uint32_t query) { return t->row0 + query / t->heads; }
static uint32_t head_of(const attn_tile *t, uint32_t query) { return t->head0 + query % t->heads; }
static uint32_t pos_of(const attn_tile *t, uint32_t query) {
    return t->run->pos0 + (row_of(t, query) - t->run->row0);
}

/* What a query sees: a window reaches back, and forward where the row may look there. */
static span seen_by(const attn_tile *t, uint32_t query) {
    const op_attention *a = &t->o->attn;
    const uint32_t i = pos_of(t, query), end = a->causal ? i + 1 : t->run->pos0 + t->run->rows;
    if (a->window == 0) return (span){0, end};
    uint32_t begin = i + 1 > a->window ? i + 1 - a->window : 0;
    return (span){begin, (uint32_t)num_min_u64(end, (uint64_t)i + a->window)};
}

/* Keys and values of 4 bits are stored turned: so queries are, and sums are turned back. */
static bool is_turned(const attn_tile *t) { return t->b->in->kv.layout.type == DTYPE_Q4_0; }

static void begin_query(attn_tile *t, uint32_t i) {
    const op_attention *a = &t->o->attn;
    const uint32_t head = head_of(t, i);
    const float *x = value_row(t->b, t->o->in[0], row_of(t, i)) + (size_t)head * a->key_dim;
    float *q = t->bf16 ? t->q : t->q + (size_t)i * a->key_dim;
    t->b->k->act(&(op_act){.kind = ACT_SCALE, .a = a->scale}, x, NULL, q, a->key_dim);
    if (is_turned(t)) kv_q4_turn(q, a->key_dim);
    const float sink = a->sinks != NULL ? a->sinks[head] : -INFINITY;
    t->seen[i] = seen_by(t, i);
    t->states[i] = (attn_state){.max = sink, .sum = sink > -INFINITY ? 1 : 0};
    if (t->bf16) cpu_attention_bf16_begin(t, i);
}

static void end_query(const attn_tile *t, uint32_t i) {
    const op_attention *a = &t->o->attn;
    float *y = value_row(t->b, t->o->out, row_of(t, i)) + (size_t)head_of(t, i) * a->value_dim;
    const float *sums = t->sums + (size_t)i * t->stride;
    const float sum = t->bf16 ? cpu_attention_bf16_sum(t, i) : t->states[i].sum;
    const op_act divide = {.kind = ACT_SCALE, .a = 1.0f / sum};
    t->b->k->act(&divide, sums, NULL, y, a->value_dim);
    if (is_turned(t)) kv_q4_turn(y, a->value_dim);
}

/* --- a span -------------------- */

/* Rows of the cache from a block's first position on. */
void *cpu_attention_kv(const attn_tile *t, kv_part part, uint32_t pos) {
    const batch *in = t->b->in;
    return kv_at(&in->kv, t->run->seat, pos / KV_BLOCK_TOKENS, t->o->layer, part, t->kv_head);
}

/* The first dim elements of a block's rows that are codes, as f32. */
void cpu_attention_widen(const attn_tile *t, kv_part part, uint32_t pos, uint32_t dim, float *out) {
    const kv_layout *l = &t->b->in->kv.layout;
    void *head = cpu_attention_kv(t, part, pos);
    for (uint32_t i = 0; i < KV_BLOCK_TOKENS; i++, out += dim) {
        if (l->type == DTYPE_Q8_0) {
            const kv_q8_row row = kv_q8_row_at(l, head, (int)part, i);
            t->b->k->widen_q8(row.codes, row.scales, dim, out);
        } else {
            const kv_q4_row row = kv_q4_row_at(l, head, (int)part, i);
            t->b->k->widen_q4(row.codes, row.scales, dim, out);
        }
    }
}

static void load_block_keys(const attn_tile *t, uint32_t pos, float *keys) {
    const kv_layout *l = &t->b->in->kv.layout;
    const bool codes = kv_type_has_codes(l->type);
    if (codes) cpu_attention_widen(t, KV_K, pos, l->key_dim, t->block);
    t->b->k->turn_keys(codes ? DTYPE_F32 : l->type,
                       codes ? t->block : cpu_attention_kv(t, KV_K, pos), l->key_dim, keys);
}

static void load_block_values(const attn_tile *t, uint32_t pos, float *values) {
    const kv_layout *l = &t->b->in->kv.layout;
    if (kv_type_has_codes(l->type))
        cpu_attention_widen(t, KV_V, pos, t->v_cols, values); /* whole groups: nothing to fill up */
    else
        t->b->k->widen_values(l->type, cpu_attention_kv(t, KV_V, pos), kv_row_elems(l, KV_V),
                              l->value_dim, values);
}

/* Of whole blocks, as far as any query sees into them: one behind the other. */
static void load_keys(const attn_tile *t, span blocks) {
    for (uint32_t pos = blocks.begin; pos < blocks.end; pos += KV_BLOCK_TOKENS)
        load_block_keys(t, pos, t->piece + (size_t)(pos % ATTN_PIECE) * t->o->attn.key_dim);
}

static void load_values(const attn_tile *t, span blocks) {
    for (uint32_t pos = blocks.begin; pos < blocks.end; pos += KV_BLOCK_TOKENS)
        load_block_values(t, pos, t->piece + (size_t)(pos % ATTN_PIECE) * t->v_cols);
}

static span clip(span seen, uint32_t at) {
    const uint32_t begin = num_max_u32(seen.begin, at), end = num_min_u32(seen.end, at + ATTN_SPAN);
    return begin < end ? (span){begin - at, end - at} : (span){0, 0};
}

/* What the n queries from i on see in the span that begins at `at`. */
static void clip_group(attn_tile *t, uint32_t i, uint32_t n, uint32_t at) {
    span any = {ATTN_SPAN, 0}, all = {0, ATTN_SPAN};
    for (uint32_t k = i; k < i + n; k++) {
        const span here = t->here[k] = clip(t->seen[k], at);
        if (here.begin < here.end)
            any = (span){num_min_u32(any.begin, here.begin), num_max_u32(any.end, here.end)};
        all = (span){num_max_u32(all.begin, here.begin), num_min_u32(all.end, here.end)};
    }
    t->any[i] = any;
    t->all[i] = all.begin < all.end ? all : (span){0, 0};
}

/* The first query sees the least behind it, and the last one the least before it. */
static void clip_tile(attn_tile *t, uint32_t at) {
    const bool whole = t->seen[0].end >= at + ATTN_SPAN && t->seen[t->queries - 1].begin <= at;
    if (whole && t->whole) return; /* as in the span before */
    t->whole = whole;
    for (uint32_t i = 0; i < t->queries; i += t->group)
        clip_group(t, i, num_min_u32(t->group, t->queries - i), at);
}

/* The blocks that come a piece later are asked for while this piece is computed: blocks lie far
 * apart, and nothing else sees them coming. */
static void look_ahead(attn_tile *t, kv_part part, span blocks) {
    const size_t bytes = kv_head_bytes(&t->b->in->kv.layout, (int)part);
    const uint32_t lines = (uint32_t)num_div_up_size(bytes, CPU_LINE_BYTES);
    uint32_t count = 0;
    for (uint32_t pos = blocks.begin; pos < blocks.end && pos + ATTN_PIECE < t->end;
         pos += KV_BLOCK_TOKENS)
        t->ahead[count++] = cpu_attention_kv(t, part, pos + ATTN_PIECE);
    const uint32_t groups = num_div_up_u32(t->queries, t->group);
    t->ahead_left = count * lines;
    t->ahead_next = (cpu_ahead){
        .block = t->ahead, .block_lines = lines, .lines = num_div_up_u32(t->ahead_left, groups)};
}

/* What the next group of queries asks for of them. */
static cpu_ahead take_ahead(attn_tile *t) {
    cpu_ahead a = t->ahead_next;
    a.lines = num_min_u32(a.lines, t->ahead_left);
    t->ahead_left -= a.lines;
    t->ahead_next.line += a.lines;
    for (; t->ahead_next.line >= a.block_lines; t->ahead_next.block++)
        t->ahead_next.line -= a.block_lines;
    return a;
}

static void score_group(attn_tile *t, uint32_t i, uint32_t k) {
    const span any = within_piece(t->any[i], k);
    const attn_score args = {
        .queries = num_min_u32(t->group, t->queries - i),
        .dim = t->o->attn.key_dim,
        .begin = any.begin / ATTN_LANES * ATTN_LANES,
        .end = (uint32_t)num_align_size(any.end, ATTN_LANES),
        .q = t->q + (size_t)i * t->o->attn.key_dim,
        .keys = t->piece,
        .scores = t->scores + (size_t)i * ATTN_SPAN + k,
        .ahead = take_ahead(t),
    };
    if (args.begin < args.end) t->b->k->score(&args);
}

static void score_span(attn_tile *t, uint32_t at, span blocks) {
    for (uint32_t k = 0; k < ATTN_SPAN; k += ATTN_PIECE) {
        load_keys(t, piece_blocks(blocks, at + k));
        look_ahead(t, KV_K, piece_blocks(blocks, at + k));
        for (uint32_t i = 0; i < t->queries; i += t->group) score_group(t, i, k);
    }
}

void cpu_attention_bend(const attn_tile *t, uint32_t i, span here, uint32_t at, float *scores) {
    const op_attention *a = &t->o->attn;
    if (a->softcap != 0) {
        op_act softcap = {.kind = ACT_SOFTCAP, .a = a->softcap};
        float *first = scores + here.begin;
        t->b->k->act(&softcap, first, NULL, first, here.end - here.begin);
    }
    if (a->slopes == NULL) return;
    const float slope = a->slopes[head_of(t, i)];
    const int64_t pos = (int64_t)pos_of(t, i) - at;
    for (uint32_t k = here.begin; k < here.end; k++)
        scores[k] -= slope * (float)(pos > k ? pos - k : k - pos);
}

static void soften_span(attn_tile *t, uint32_t at) {
    for (uint32_t i = 0; i < t->queries; i++) {
        const span here = t->here[i];
        float *scores = t->scores + (size_t)i * ATTN_SPAN;
        if (here.begin == here.end) continue;
        cpu_attention_bend(t, i, here, at, scores);
        t->b->k->soften(scores, here.begin, here.end, &t->states[i],
                        t->sums + (size_t)i * t->stride, t->stride);
    }
}

/* Of n queries from i on, in the piece that begins at k. */
static void mix_some(const attn_tile *t, uint32_t i, uint32_t n, uint32_t k, span positions,
                     span cols, cpu_ahead ahead) {
    const span here = within_piece(positions, k);
    const attn_mix args = {
        .queries = n,
        .cols = cols.end - cols.begin,
        .stride = t->v_cols,
        .begin = here.begin,
        .end = here.end,
        .p = t->scores + (size_t)i * ATTN_SPAN + k,
        .values = t->piece + cols.begin,
        .out = t->sums + (size_t)i * t->v_cols + cols.begin,
        .ahead = ahead,
    };
    if (here.begin < here.end) t->b->k->mix(&args);
}

/* What all see is taken together; what only some see before and after that, one by one: every
 * query still goes through its positions in order. */
static void mix_group(attn_tile *t, uint32_t i, uint32_t k, span cols) {
    const uint32_t n = num_min_u32(t->group, t->queries - i);
    const span all = t->all[i];
    const cpu_ahead none = {0}, ahead = cols.begin == 0 ? take_ahead(t) : none;
    if (t->whole) {
        mix_some(t, i, n, k, all, cols, ahead);
        return;
    }
    if (all.begin < all.end)
        for (uint32_t j = i; j < i + n; j++)
            mix_some(t, j, 1, k, (span){t->here[j].begin, all.begin}, cols, none);
    mix_some(t, i, n, k, all, cols, ahead);
    for (uint32_t j = i; j < i + n; j++) {
        const span rest = {num_max_u32(all.end, t->here[j].begin), t->here[j].end};
        mix_some(t, j, 1, k, rest, cols, none);
    }
}

static void mix_span(attn_tile *t, uint32_t at, span blocks) {
    const uint32_t cols = t->queries > t->group ? MIX_COLS : t->v_cols;
    for (uint32_t k = 0; k < ATTN_SPAN; k += ATTN_PIECE) {
        load_values(t, piece_blocks(blocks, at + k));
        look_ahead(t, KV_V, piece_blocks(blocks, at + k));
        for (uint32_t c = 0; c < t->v_cols; c += cols)
            for (uint32_t i = 0; i < t->queries; i += t->group)
                mix_group(t, i, k, (span){c, num_min_u32(c + cols, t->v_cols)});
    }
}

static void attend(attn_tile *t) {
    memset(t->sums, 0, (size_t)t->queries * t->stride * sizeof *t->sums);
    for (uint32_t i = 0; i < t->queries; i++) begin_query(t, i);
    /* later rows see no less behind them, and no less before them is hidden by a window */
    const uint32_t begin = t->seen[0].begin, end = t->seen[t->queries - 1].end;
    t->end = end;
    const uint32_t first = begin / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    for (uint32_t at = begin / ATTN_SPAN * ATTN_SPAN; at < end; at += ATTN_SPAN) {
        const span blocks = {num_max_u32(at, first), num_min_u32(at + ATTN_SPAN, end)};
        clip_tile(t, at);
        if (t->bf16) {
            cpu_attention_bf16_span(t, at, blocks);
        } else {
            score_span(t, at, blocks);
            soften_span(t, at);
            mix_span(t, at, blocks);
        }
    }
    for (uint32_t i = 0; i < t->queries; i++) end_query(t, i);
}

/* The rows of the tile from row0 on that are computed alike. */
static void attend_stretch(attn_tile *t, uint32_t end, float *scratch) {
    const bool *fast = step_fast_rows(t->b, ROWS_ALL);
    const bool takes = fast != NULL && cpu_attention_bf16_takes(t->b->bf16, &t->o->attn);
    t->bf16 = takes && fast[t->row0];
    for (t->rows = 1; t->row0 + t->rows < end; t->rows++)
        if (takes && fast[t->row0 + t->rows] != t->bf16) break;
    t->queries = t->rows * t->heads;
    t->group = num_div_up_u32(t->queries, num_div_up_u32(t->queries, ATTN_QUERIES));
    t->whole = false;
    if (t->bf16)
        cpu_attention_bf16_lay_out(t, scratch);
    else
        lay_out_tile(t, scratch);
    attend(t);
}

void cpu_attention(backend *b, const task *work, uint32_t unit, uint32_t worker) {
    const op *o = work->ops[0];
    const op_attention *a = &o->attn;
    const tiling tiles = tiling_of(b, a);
    const uint32_t group = a->heads / a->kv_heads, part = unit % tiles.parts;
    attn_tile t; /* the rest as it is needed: it is large for a single row */
    t.b = b;
    t.o = o;
    t.v_cols = cols_of(a);
    t.kv_head = unit / tiles.parts % a->kv_heads;
    t.head0 = t.kv_head * group + part * tiles.heads;
    t.heads = num_min_u32(tiles.heads, group - part * tiles.heads);
    find_rows(&t, unit / tiles.parts / a->kv_heads, tiles.rows);
    DASSERT(t.rows * t.heads <= queries_max(a, b->bf16) && a->key_dim == b->in->kv.layout.key_dim);
    const uint32_t end = t.row0 + t.rows;
    for (; t.row0 < end; t.row0 += t.rows) attend_stretch(&t, end, worker_scratch(b, worker));
}
