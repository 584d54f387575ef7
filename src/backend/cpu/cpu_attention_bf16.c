/* cpu_attention_bf16.c - scores and sums of prompt rows in mode `fast`, in bf16 (cpu_bf16.h).
 *
 * Both are products of the queries of a tile with a panel, which a piece of the cache becomes once:
 *
 *   scores   q [queries, key_dim]              keys    [blocks][key_dim / 2][16 positions][2]
 *   sums     weights [queries, ATTN_PIECE]     values  [v_cols / 16][positions / 2][16 columns][2]
 *
 * Piece by piece, and within one BF16_ROWS queries after the other: their scores become weights and
 * sums while they are in the first cache.  Softmax is online as in cpu_attention.c, in f32, with a
 * step for each piece.  What its exponentials are rounded to is what the values are multiplied
 * with, so that is also what is added up to divide by: many alike would be wrong by the same part
 * of themselves.  This sum stands behind the sums of the values, in parts, and shrinks with them.
 *
 * The sums of a piece begin at zero and are whole when they go to those of the pieces before, and a
 * piece of which a query sees nothing is not added: what a row computes depends on its own
 * position alone.  Positions that it does not see have weight 0, whatever the others of its tile
 * see; where that would meet a value that is not finite, queries have panels of their own. */
#include <string.h>

#include "backend/cpu/cpu_attention_internal.h"

enum { PIECE_GROUPS = ATTN_PIECE / PACK_ROWS };

_Static_assert((int)KV_BLOCK_TOKENS == (int)PACK_ROWS, "a block of keys is a group of a panel");
_Static_assert((int)PIECE_GROUPS <= (int)BF16_GROUPS, "a piece of keys is one panel");
_Static_assert((int)ATTN_PIECE == (int)BF16_POSITIONS, "a piece is one step of the softmax");
_Static_assert((int)ATTN_LANES == (int)PACK_ROWS, "as many parts of a sum");

bool cpu_attention_bf16_takes(const bf16_kernels *bf16, const op_attention *a) {
    return bf16 != NULL && a->key_dim % BF16_COLS == 0 && a->value_dim % PACK_ROWS == 0;
}

/* --- scratch -------------------- */

static size_t block_floats(const op_attention *a) {
    return (size_t)KV_BLOCK_TOKENS * num_max_u32(a->key_dim, a->value_dim);
}

static size_t panel_elems(uint32_t dim) { return (size_t)ATTN_PIECE * dim; }

size_t cpu_attention_bf16_floats(const op_attention *a, uint32_t queries) {
    const size_t of_query = 1 + a->value_dim + ATTN_LANES + (size_t)a->key_dim / 2;
    const size_t some = BF16_ROWS * ((size_t)ATTN_PIECE + ATTN_PIECE / 2);
    const size_t panels = (panel_elems(a->key_dim) + panel_elems(a->value_dim)) / 2;
    return queries * of_query + some + a->key_dim + block_floats(a) + panels;
}

void cpu_attention_bf16_lay_out(attn_tile *t, float *scratch) {
    const op_attention *a = &t->o->attn;
    t->stride = t->v_cols + ATTN_LANES;
    t->keys = (uint16_t *)scratch;
    t->values = t->keys + panel_elems(a->key_dim);
    t->weights = t->values + panel_elems(a->value_dim);
    t->q16 = t->weights + (size_t)BF16_ROWS * ATTN_PIECE;
    t->scores = (float *)(void *)(t->q16 + (size_t)t->queries * a->key_dim);
    t->sums = t->scores + (size_t)BF16_ROWS * ATTN_PIECE;
    t->block = t->sums + (size_t)t->queries * t->stride;
    t->q = t->block + block_floats(a);
    t->max = t->q + a->key_dim;
}

void cpu_attention_bf16_begin(const attn_tile *t, uint32_t i) {
    const uint32_t dim = t->o->attn.key_dim;
    t->b->bf16->round(t->q, t->q16 + (size_t)i * dim, dim);
    t->max[i] = t->states[i].max;
    t->sums[(size_t)i * t->stride + t->v_cols] = t->states[i].sum;
}

float cpu_attention_bf16_sum(const attn_tile *t, uint32_t i) {
    const float *parts = t->sums + (size_t)i * t->stride + t->v_cols;
    float sum = 0;
    for (uint32_t k = 0; k < ATTN_LANES; k++) sum += parts[k];
    return sum;
}

/* --- scores -------------------- */

static bool sees(const attn_tile *t, uint32_t query, uint32_t k) {
    return within_piece(t->here[query], k).end > 0;
}

/* Queries that see something of the piece that begins at k: they stand side by side, for what a
 * query sees begins and ends no earlier than what the one before it does. */
static span queries_of(const attn_tile *t, uint32_t k) {
    span among = {0, t->queries};
    while (among.begin < among.end && !sees(t, among.begin, k)) among.begin++;
    while (among.begin < among.end && !sees(t, among.end - 1, k)) among.end--;
    return among;
}

static void load_keys(const attn_tile *t, span blocks) {
    const kv_layout *l = &t->b->in->kv.layout;
    const bool codes = kv_type_has_codes(l->type);
    uint16_t *panel = t->keys;
    for (uint32_t pos = blocks.begin; pos < blocks.end; pos += KV_BLOCK_TOKENS) {
        if (codes) cpu_attention_widen(t, KV_K, pos, l->key_dim, t->block);
        t->b->bf16->from_rows(codes ? DTYPE_F32 : l->type,
                              codes ? t->block : cpu_attention_kv(t, KV_K, pos), PACK_ROWS,
                              l->key_dim, panel);
        panel += (size_t)l->key_dim * PACK_ROWS;
        cpu_attention_fetch(t, KV_K, pos);
    }
}

/* Of n queries from i on, with `groups` blocks from position `first` of the piece on. */
static void score(const attn_tile *t, uint32_t i, uint32_t n, uint32_t first, uint32_t groups) {
    const uint32_t dim = t->o->attn.key_dim;
    t->b->bf16->multiply(&(bf16_args){.panel = t->keys,
                                      .groups = groups,
                                      .cols = dim,
                                      .x = t->q16 + (size_t)i * dim,
                                      .x_stride = dim,
                                      .rows = n,
                                      .out = t->scores + first,
                                      .out_stride = ATTN_PIECE});
}

/* Their weights in the piece that begins at k of the span at `at`. */
static void soften(const attn_tile *t, uint32_t i, uint32_t n, uint32_t at, uint32_t k) {
    bf16_range seen[BF16_ROWS];
    for (uint32_t j = 0; j < n; j++) {
        const span here = within_piece(t->here[i + j], k);
        cpu_attention_bend(t, i + j, here, at + k, t->scores + (size_t)j * ATTN_PIECE);
        seen[j] = (bf16_range){here.begin, here.end};
    }
    t->b->bf16->soften(&(bf16_softmax){.rows = n,
                                       .scores = t->scores,
                                       .seen = seen,
                                       .max = t->max + i,
                                       .sums = t->sums + (size_t)i * t->stride,
                                       .stride = t->stride,
                                       .cols = t->v_cols,
                                       .weights = t->weights});
}

/* --- sums -------------------- */

/* A piece of values as it is multiplied. */
typedef struct value_panel {
    uint32_t at;    /* its first position */
    uint32_t cols;  /* positions: whole BF16_COLS */
    span positions; /* that are not zeros in it, counted from the first */
} value_panel;

static bool load_block(const attn_tile *t, const value_panel *p, uint32_t from) {
    const kv_layout *l = &t->b->in->kv.layout;
    const bool codes = kv_type_has_codes(l->type);
    const span s = p->positions;
    if (codes) cpu_attention_widen(t, KV_V, p->at + from, t->v_cols, t->block);
    const bf16_values v = {
        .type = codes ? DTYPE_F32 : l->type,
        .rows = codes ? t->block : cpu_attention_kv(t, KV_V, p->at + from),
        .stride = codes ? t->v_cols : kv_row_elems(l, KV_V),
        .begin = num_max_u32(s.begin, from) - from,
        .end = num_max_u32(s.end, from) - from,
        .groups = t->v_cols / PACK_ROWS,
        .panel = t->values + (size_t)from * PACK_ROWS,
        .group_stride = (size_t)p->cols * PACK_ROWS,
    };
    return t->b->bf16->from_values(&v);
}

/* Are all of them finite? */
static bool load_values(const attn_tile *t, const value_panel *p) {
    const size_t group = (size_t)p->cols * PACK_ROWS, block = (size_t)KV_BLOCK_TOKENS * PACK_ROWS;
    bool finite = true;
    for (uint32_t from = 0; from < p->cols; from += KV_BLOCK_TOKENS) {
        if (p->positions.begin < from + KV_BLOCK_TOKENS && from < p->positions.end) {
            finite &= load_block(t, p, from);
            cpu_attention_fetch(t, KV_V, p->at + from);
        } else {
            for (size_t g = 0; g < t->v_cols / PACK_ROWS; g++)
                memset(t->values + g * group + from / KV_BLOCK_TOKENS * block, 0,
                       block * sizeof *t->values);
        }
    }
    return finite;
}

/* Of n queries from i on, whose weights begin at row j. */
static void mix(const attn_tile *t, const value_panel *p, uint32_t i, uint32_t n, uint32_t j) {
    const uint32_t groups = t->v_cols / PACK_ROWS;
    for (uint32_t g = 0; g < groups; g += BF16_GROUPS)
        t->b->bf16->multiply(
            &(bf16_args){.panel = t->values + (size_t)g * PACK_ROWS * p->cols,
                         .groups = num_min_u32(BF16_GROUPS, groups - g),
                         .cols = p->cols,
                         .x = t->weights + (size_t)j * ATTN_PIECE,
                         .x_stride = ATTN_PIECE,
                         .rows = n,
                         .out = t->sums + (size_t)i * t->stride + (size_t)g * PACK_ROWS,
                         .out_stride = t->stride,
                         .add = true});
}

/* 0 times what is not finite would not be 0: nobody's panel has what it does not see. */
static void mix_alone(const attn_tile *t, value_panel p, uint32_t k, uint32_t i, uint32_t n) {
    for (uint32_t j = 0; j < n; j++) {
        p.positions = within_piece(t->here[i + j], k);
        (void)load_values(t, &p);
        mix(t, &p, i + j, 1, j);
    }
}

/* --- a piece -------------------- */

static void attend_piece(const attn_tile *t, uint32_t at, uint32_t k, span blocks) {
    const span seen = {num_max_u32(blocks.begin, t->seen[0].begin), blocks.end};
    const uint32_t first = blocks.begin - (at + k);
    const uint32_t groups = num_div_up_u32(blocks.end - blocks.begin, KV_BLOCK_TOKENS);
    const value_panel p = {
        .at = at + k,
        .cols = (uint32_t)num_align_size(seen.end - (at + k), BF16_COLS),
        .positions = {seen.begin - (at + k), seen.end - (at + k)},
    };
    const span among = queries_of(t, k);
    load_keys(t, blocks);
    const bool finite = load_values(t, &p);
    for (uint32_t i = among.begin, n = 0; i < among.end; i += n) {
        n = num_min_u32(BF16_ROWS, among.end - i);
        score(t, i, n, first, groups);
        soften(t, i, n, at, k);
        if (finite)
            mix(t, &p, i, n, 0);
        else
            mix_alone(t, p, k, i, n);
    }
}

void cpu_attention_bf16_span(const attn_tile *t, uint32_t at, span blocks) {
    for (uint32_t k = 0; k < ATTN_SPAN; k += ATTN_PIECE) {
        const span piece = piece_blocks(blocks, at + k);
        if (piece.begin < piece.end) attend_piece(t, at, k, piece);
    }
}
