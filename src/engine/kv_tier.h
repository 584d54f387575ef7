/* kv_tier.h - blocks of preempted sequences in the host's memory: where their copies are.
 *
 * A sequence that gives its seat away is saved: its blocks are copied down, all or none of them,
 * and are free at once.  It is loaded when it has a seat again, into whichever blocks that has, and
 * goes on where it was.  A saved sequence is a chain of host blocks, and its handle the first one.
 *
 * Owner: the engine; engine thread only.  Bookkeeping only: a kv_mover copies. */
#ifndef ENGINE_KV_TIER_H
#define ENGINE_KV_TIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/batch.h"
#include "base/error.h"
#include "engine/kv.h"

typedef struct kv_tier kv_tier;

enum { KV_TIER_NONE = UINT32_MAX }; /* the handle of what was not saved */
enum { KV_TIER_BLOCKS_MAX = 1 << 30 };

/* What copies the bytes, in the order of the calls: the engine, or a fake one in simulation.  The
 * moves are valid for the call. */
typedef struct kv_mover {
    void *ctx;
    void (*save)(void *ctx, const kv_move *moves, uint32_t count);
    void (*load)(void *ctx, const kv_move *moves, uint32_t count);
} kv_mover;

typedef struct kv_tier_options {
    uint32_t blocks_max;      /* host blocks, 1..KV_TIER_BLOCKS_MAX */
    uint32_t seat_blocks_max; /* of one sequence */
    size_t block_bytes;       /* for the counters */
    kv_mover mover;
} kv_tier_options;

typedef struct kv_tier_counters {
    uint64_t saved_bytes;
    uint64_t loaded_bytes;
} kv_tier_counters;

NODISCARD status kv_tier_create(kv_tier **out, const kv_tier_options *opt, error *err);
void kv_tier_destroy(kv_tier *t);

/* Copy the blocks of the seat, which has some; it can be cleared behind this.  Returns the handle;
 * KV_TIER_NONE: there is no room for all of them, and nothing was copied. */
uint32_t kv_tier_save(kv_tier *t, const kv_pool *kv, uint32_t seat);
/* Copy them to the seat, which has grown to as many tokens, but for its first `shared` blocks,
 * which it has of another seat.  The copies are gone. */
void kv_tier_load(kv_tier *t, uint32_t saved, const kv_pool *kv, uint32_t seat, uint32_t shared);
/* The copies are gone.  Harmless with KV_TIER_NONE. */
void kv_tier_drop(kv_tier *t, uint32_t saved);

/* Of one saved sequence; 0 for KV_TIER_NONE. */
uint32_t kv_tier_blocks_of(const kv_tier *t, uint32_t saved);
uint32_t kv_tier_blocks_max(const kv_tier *t);
uint32_t kv_tier_blocks_free(const kv_tier *t);
kv_tier_counters kv_tier_counters_get(const kv_tier *t);

#endif
