/* batch.h - what one step computes: the rows, and where their keys and values live.
 *
 * Plain views, owned by the engine, valid for the call.  Rows of one sequence stand next
 * to each other in ascending position order. */
#ifndef BACKEND_BATCH_H
#define BACKEND_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/program.h"
#include "tensor/dtype.h"
#include "tensor/sample.h"

enum { KV_BLOCK_TOKENS = 16, KV_GROUP = 32 };

/* One KV group: layers of equal geometry and type.  A block is KV_BLOCK_TOKENS tokens of
 * all its layers, contiguous:
 *
 *   block: [layers] of  K [kv_heads][KV_BLOCK_TOKENS][key_dim],
 *                       V [kv_heads][KV_BLOCK_TOKENS][value_dim]      of `type`
 *
 * v_in_k: no V is stored; V is the first value_dim elements of each K row (the latent of
 * multi-head latent attention, DeepSeek-AI 2024). */
typedef struct kv_layout {
    dtype type; /* F32, F16; where kv_layout_has_groups() Q8_0 (kv_q8.h) or Q4_0 (kv_q4.h) */
    uint32_t layers;
    uint32_t kv_heads;
    uint32_t key_dim;
    uint32_t value_dim;
    bool v_in_k;
} kv_layout;

/* Elements from one token's row of a head to the next one's. */
static inline uint32_t kv_row_elems(const kv_layout *l, int part) {
    return part == 0 || l->v_in_k ? l->key_dim : l->value_dim;
}
/* Of one token's row of a head. */
static inline size_t kv_row_bytes(const kv_layout *l, int part) {
    const size_t elems = kv_row_elems(l, part);
    if (l->type == DTYPE_Q8_0) return elems + elems / KV_GROUP * 2;
    if (l->type == DTYPE_Q4_0) return elems / 2 + elems / KV_GROUP * 2;
    return elems * (l->type == DTYPE_F16 ? 2 : 4);
}
/* Of one head of K (part 0) or V (part 1) in one block. */
static inline size_t kv_head_bytes(const kv_layout *l, int part) {
    return kv_row_bytes(l, part) * KV_BLOCK_TOKENS;
}
/* Of a type that stores codes, groups of KV_GROUP elements with a scale each. */
static inline bool kv_type_has_codes(dtype type) {
    return type == DTYPE_Q8_0 || type == DTYPE_Q4_0;
}
/* Are all that is written at once whole groups? */
static inline bool kv_layout_has_groups(const kv_layout *l) {
    return l->key_dim % KV_GROUP == 0 && l->value_dim % KV_GROUP == 0;
}
static inline size_t kv_layer_bytes(const kv_layout *l) {
    size_t v = l->v_in_k ? 0 : kv_head_bytes(l, 1);
    return (kv_head_bytes(l, 0) + v) * l->kv_heads;
}
static inline size_t kv_block_bytes(const kv_layout *l) { return kv_layer_bytes(l) * l->layers; }

typedef enum kv_part { KV_K = 0, KV_V = 1 } kv_part;

typedef struct kv_view {
    kv_layout layout;
    void *blocks;           /* [blocks_max] of kv_block_bytes() */
    const uint32_t *tables; /* [seats, table_stride] block ids */
    uint32_t table_stride;
} kv_view;

/* The KV_BLOCK_TOKENS rows [kv_row_elems()] of one head in one block of a seat.  With v_in_k the
 * V rows are the K rows. */
static inline void *kv_at(const kv_view *kv, uint32_t seat, uint32_t block_idx, uint32_t layer,
                          kv_part part, uint32_t head) {
    const kv_layout *l = &kv->layout;
    uint32_t id = kv->tables[(size_t)seat * kv->table_stride + block_idx];
    size_t at = (size_t)id * kv_block_bytes(l) + layer * kv_layer_bytes(l);
    if (part == KV_V && !l->v_in_k) at += kv_head_bytes(l, KV_K) * l->kv_heads;
    return (char *)kv->blocks + at + head * kv_head_bytes(l, part);
}

/* A block, and the copy of it in the host's memory: each by its number there. */
typedef struct kv_move {
    uint32_t block;
    uint32_t host_block;
} kv_move;

/* Consecutive rows of one sequence. */
typedef struct batch_run {
    uint32_t row0;
    uint32_t rows;
    uint32_t seat;
    uint32_t pos0; /* position of row0; the others follow one by one */
} batch_run;

/* One adaptable weight of one adapter: + scale * (x . a^T) . b^T.  a.data NULL: untouched. */
typedef struct lora_pair {
    weight a;    /* [rank, cols] F32, F16 or BF16 */
    weight b;    /* [rows, rank] */
    float scale; /* alpha / rank */
} lora_pair;

enum { LORA_PER_ROW_MAX = 8 };

/* What a row's sequence asked for. */
typedef struct lora_mix {
    uint32_t count;
    struct {
        const lora_pair *pairs; /* [program.lora_slots]; see backend_ops.adapter_add */
        float scale;
    } uses[LORA_PER_ROW_MAX];
} lora_mix;

/* How many of each there are in front. */
typedef struct batch_before {
    uint32_t rows, taken, head;
} batch_before;

typedef struct batch {
    uint32_t rows;
    const int32_t *tokens; /* [rows] ids, in the vocabulary; negative: backend_ops.begin */
    const uint32_t *pos;   /* [rows] position in the sequence */
    const uint32_t *seats; /* [rows] row of kv.tables that is the sequence's */
    const bool *prompt; /* [rows] the token was given, not generated: mode `fast` may round its row
                           more; NULL: none was.  backend_cuda wants all that were not given before
                           all that were, as the engine has them */
    uint32_t runs_count;
    const batch_run *runs; /* [runs_count] cover all rows, in row order; no seat twice */
    uint32_t taken_rows;
    const uint32_t *taken; /* [taken_rows] ascending rows whose hidden state is wanted */
    const float *input;    /* [rows, cols] of op INPUT, on the host; NULL where there is none, and
                              where backend_ops.link found a way without the host */
    const float *routed; /* [rows, 2 * used] of op INPUT of the router's choice: numbers, weights */
    uint32_t head_rows;
    const uint32_t *head; /* [head_rows] ascending indices into taken: logits are wanted */
    const bool *best; /* [head_rows] instead of its logits and its hidden state only the id of the
                         row's largest logit is wanted (tensor/best.h); NULL: of no row */
    const sample_order *const *samples; /* [head_rows] alike: only the token that it draws from the
                                           row's logits is wanted, and the log-probabilities that
                                           its rule says; NULL where none is; or NULL.
                                           SAMPLE_STEP_CHANGES_MAX changes in all, ids in the
                                           vocabulary.  Where backend_ops.samples */
    bool draws_later; /* what the samples say is not known yet, only which rows have one: it comes
                         with backend_ops.draw */
    kv_view kv;
    float *states;                /* [seats, program.state_floats], or NULL when that is 0 */
    const lora_mix *const *loras; /* [rows], NULL where a row has none; or NULL */
    batch_before before; /* of a micro-batch: what those in front of it have; backend_ops.begin */
} batch;

/* Are the logits of head row h wanted, and its hidden state? */
static inline bool batch_wants_logits(const batch *b, uint32_t h) {
    if (b->samples != NULL && b->samples[h] != NULL) return false;
    return b->best == NULL || !b->best[h];
}

/* Tokens of its sequence that row r can see when attention is not causal: the sequence is whole
 * in the batch. */
static inline uint32_t batch_seen_whole(const batch *b, uint32_t r) {
    for (uint32_t i = 0; i < b->runs_count; i++)
        if (r - b->runs[i].row0 < b->runs[i].rows) return b->runs[i].pos0 + b->runs[i].rows;
    return 0;
}

#endif
