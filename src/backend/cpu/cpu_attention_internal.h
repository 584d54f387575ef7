/* cpu_attention_internal.h - a tile of queries on its way over the KV cache: cpu_attention.c walks,
 * cpu_attention_bf16.c computes scores and sums of prompt rows in mode `fast`. */
#ifndef BACKEND_CPU_CPU_ATTENTION_INTERNAL_H
#define BACKEND_CPU_CPU_ATTENTION_INTERNAL_H

#include "backend/cpu/cpu_fetch.h"
#include "backend/cpu/cpu_internal.h"

enum { ATTN_TILE_QUERIES = 256 /* at most: keys and values are then turned almost for free */ };

/* Positions begin .. end - 1. */
typedef struct span {
    uint32_t begin, end;
} span;

typedef struct attn_tile {
    const backend *b;
    const op *o;
    const batch_run *run;
    uint32_t row0, rows; /* of the batch */
    bool bf16;           /* all of them are computed so */
    uint32_t kv_head;
    uint32_t head0, heads; /* query heads */
    uint32_t queries;      /* rows * heads; query i is head i % heads of row i / heads */
    uint32_t end;          /* the first position that none of them sees */
    uint32_t v_cols;
    uint32_t stride; /* of sums: v_cols, or in bf16 ATTN_LANES more, which are parts of the sum of
                        the probabilities */
    uint32_t group;  /* queries that a kernel takes together */
    const char *ahead[ATTN_PIECE / KV_BLOCK_TOKENS]; /* blocks to ask for */
    cpu_ahead ahead_next;                            /* the rest of them, `lines` for each group */
    uint32_t ahead_left;                             /* lines */
    span seen[ATTN_TILE_QUERIES];
    bool whole; /* all of them see all of the running span, and so the next three say */
    /* of it in the running span, counted from there; may be empty */
    span here[ATTN_TILE_QUERIES];
    span any[ATTN_TILE_QUERIES]; /* by the group that begins at this query: what one of them sees */
    span all[ATTN_TILE_QUERIES]; /* what every one of them sees */
    /* scratch */
    float *q; /* [queries, key_dim] times the scale; in bf16 of one query, before it is rounded */
    float *piece;  /* keys [ATTN_PIECE / ATTN_LANES, key_dim, ATTN_LANES], later values
                      [ATTN_PIECE, v_cols] */
    float *scores; /* [queries, ATTN_SPAN]; in bf16 [BF16_ROWS, ATTN_PIECE] */
    float *sums;   /* [queries, stride] */
    float *block;  /* [KV_BLOCK_TOKENS, key_dim] rows of a cache of codes, as f32; in bf16 also of
                      values */
    /* scratch in bf16 */
    uint16_t *q16;     /* [queries, key_dim] */
    uint16_t *weights; /* [BF16_ROWS, ATTN_PIECE] probabilities, 0 where a query does not see */
    uint16_t *keys;    /* panel of a piece (cpu_bf16.h) */
    uint16_t *values;  /* panel of a piece */
    float *max;        /* [queries] of the scores so far */
    attn_state states[ATTN_TILE_QUERIES];
} attn_tile;

/* Rows of the cache from a block's first position on. */
void *cpu_attention_kv(const attn_tile *t, kv_part part, uint32_t pos);
/* The first dim elements of a block's rows that are codes, as f32: of 4 bits turned
 * (kv_q4.h). */
void cpu_attention_widen(const attn_tile *t, kv_part part, uint32_t pos, uint32_t dim, float *out);

/* Soft-cap and distances, where there are any: of the scores of query i that are in the range,
 * counted from position `at` on. */
void cpu_attention_bend(const attn_tile *t, uint32_t i, span here, uint32_t at, float *scores);

/* Asks for the block that comes a piece later, if there is one: blocks lie far apart, and nothing
 * else sees them coming.  Not for more at a time: a core waits for about two dozen lines.  (Inline,
 * since gcc takes a function that only asks for one that does nothing, and drops its calls.) */
static inline __attribute__((always_inline)) void cpu_attention_fetch(const attn_tile *t,
                                                                      kv_part part, uint32_t pos) {
    const size_t bytes = kv_head_bytes(&t->b->in->kv.layout, (int)part);
    if (pos + ATTN_PIECE >= t->end) return;
    const char *block = cpu_attention_kv(t, part, pos + ATTN_PIECE);
    for (size_t i = 0; i < bytes; i += CPU_LINE_BYTES) __builtin_prefetch(block + i);
}

/* Of the positions of a span within its piece that begins at k: counted from there. */
static inline span within_piece(span here, uint32_t k) {
    const uint32_t begin = num_max_u32(here.begin, k), end = num_min_u32(here.end, k + ATTN_PIECE);
    return begin < end ? (span){begin - k, end - k} : (span){0, 0};
}

/* The blocks of the piece of a span that begins at `at`, of all that are seen. */
static inline span piece_blocks(span blocks, uint32_t at) {
    return (span){num_max_u32(blocks.begin, at), num_min_u32(blocks.end, at + ATTN_PIECE)};
}

/* --- in bf16 (cpu_attention_bf16.c) -------------------- */

size_t cpu_attention_bf16_floats(const op_attention *a, uint32_t queries);
void cpu_attention_bf16_lay_out(attn_tile *t, float *scratch);
/* t->q is that of query i, times the scale, and its state has begun. */
void cpu_attention_bf16_begin(const attn_tile *t, uint32_t i);
/* All of the span that begins at `at`, of which these blocks are seen. */
void cpu_attention_bf16_span(const attn_tile *t, uint32_t at, span blocks);
/* The sum of the probabilities of query i. */
float cpu_attention_bf16_sum(const attn_tile *t, uint32_t i);

#endif
