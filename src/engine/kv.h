/* kv.h - the paged KV cache: which block holds which tokens of which sequence.
 *
 * Blocks of KV_BLOCK_TOKENS tokens are reference-counted; a running sequence sits on a
 * seat, whose table lists its blocks in order.  Full blocks may be shared by several
 * seats and are never written again; a block with free room belongs to one seat.
 *
 * Invariants (kv_validate, checked under XASSERT and in simulation):
 *   1. refs of a block = number of table entries that name it; free blocks have 0.
 *   2. a seat's table has exactly ceil(tokens / KV_BLOCK_TOKENS) entries.
 *   3. only a seat's last block may be partly filled, and then its refs are 1.
 *   4. free + used = blocks_max, and no block is in the free list twice.
 *
 * Owner: the engine; engine thread only.  Bookkeeping only: the memory of the blocks is
 * the engine's. */
#ifndef ENGINE_KV_H
#define ENGINE_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/batch.h"
#include "base/error.h"

typedef struct kv_pool kv_pool;

enum { KV_BLOCK_COST_BYTES = 12 }; /* what the pool itself keeps of a block */

NODISCARD status kv_pool_create(kv_pool **out, uint32_t blocks_max, uint32_t seats,
                                uint32_t seat_blocks_max, error *err);
void kv_pool_destroy(kv_pool *kv);

static inline uint32_t kv_blocks_for(uint32_t tokens) {
    return tokens / KV_BLOCK_TOKENS + (tokens % KV_BLOCK_TOKENS != 0);
}

/* Blocks that growing the seat to `tokens` would take. */
uint32_t kv_seat_blocks_missing(const kv_pool *kv, uint32_t seat, uint32_t tokens);
/* Grow the seat to `tokens`.  ERR_NOMEM, and nothing taken, when blocks are missing. */
NODISCARD status kv_seat_grow(kv_pool *kv, uint32_t seat, uint32_t tokens, error *err);
/* Drop everything past `tokens`; a shared partial block cannot arise (whole blocks only
 * are shared, so truncating into one is an error of ours). */
void kv_seat_truncate(kv_pool *kv, uint32_t seat, uint32_t tokens);
/* The empty seat `to` starts with the first `blocks` full blocks of `from`. */
void kv_seat_share(kv_pool *kv, uint32_t from, uint32_t to, uint32_t blocks);
/* Give all blocks of the seat back. */
void kv_seat_clear(kv_pool *kv, uint32_t seat);
/* Blocks that clearing the seat would free: those no other seat shares. */
uint32_t kv_seat_blocks_exclusive(const kv_pool *kv, uint32_t seat);
uint32_t kv_seat_tokens(const kv_pool *kv, uint32_t seat);

const uint32_t *kv_tables(const kv_pool *kv); /* [seats, seat_blocks_max] */
uint32_t kv_seat_blocks_max(const kv_pool *kv);
uint32_t kv_blocks_free(const kv_pool *kv);
uint32_t kv_blocks_max(const kv_pool *kv);

/* Do all invariants hold?  O(blocks + table entries). */
bool kv_validate(const kv_pool *kv);

#endif
