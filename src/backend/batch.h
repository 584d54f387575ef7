/* batch.h - what one step computes: the rows, and where their keys and values live.
 *
 * Plain views, owned by the engine, valid for the call.  Rows of one sequence stand in
 * ascending position order; different sequences in any order. */
#ifndef BACKEND_BATCH_H
#define BACKEND_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

enum { KV_BLOCK_TOKENS = 16 };

/* One KV group: layers of equal geometry and type.  A block is KV_BLOCK_TOKENS tokens of
 * all its layers, contiguous:
 *
 *   block: [layers][K, V][kv_heads][KV_BLOCK_TOKENS][head_dim] of `type`               */
typedef struct kv_layout {
    dtype type; /* F32 or F16 */
    uint32_t layers;
    uint32_t kv_heads;
    uint32_t head_dim;
} kv_layout;

static inline size_t kv_row_bytes(const kv_layout *l) {
    return (size_t)l->head_dim * (l->type == DTYPE_F16 ? 2 : 4);
}
/* Of one head of K or V in one block. */
static inline size_t kv_head_bytes(const kv_layout *l) { return kv_row_bytes(l) * KV_BLOCK_TOKENS; }
static inline size_t kv_block_bytes(const kv_layout *l) {
    return kv_head_bytes(l) * l->kv_heads * 2 * l->layers;
}

typedef enum kv_part { KV_K = 0, KV_V = 1 } kv_part;

typedef struct kv_view {
    kv_layout layout;
    void *blocks;           /* [blocks_max] of kv_block_bytes() */
    const uint32_t *tables; /* [seats, table_stride] block ids */
    uint32_t table_stride;
} kv_view;

/* The KV_BLOCK_TOKENS rows [head_dim] of one head in one block of a seat. */
static inline void *kv_at(const kv_view *kv, uint32_t seat, uint32_t block_idx, uint32_t layer,
                          kv_part part, uint32_t head) {
    uint32_t id = kv->tables[(size_t)seat * kv->table_stride + block_idx];
    size_t head_idx = ((size_t)layer * 2 + part) * kv->layout.kv_heads + head;
    return (char *)kv->blocks + (size_t)id * kv_block_bytes(&kv->layout) +
           head_idx * kv_head_bytes(&kv->layout);
}

typedef struct batch {
    uint32_t rows;
    const int32_t *tokens; /* [rows] ids, in the vocabulary */
    const uint32_t *pos;   /* [rows] position in the sequence */
    const uint32_t *seats; /* [rows] row of kv.tables that is the sequence's */
    uint32_t taken_rows;
    const uint32_t *taken; /* [taken_rows] ascending rows whose logits are wanted */
    kv_view kv;
} batch;

#endif
