/* kv_tier.c - see kv_tier.h. */
#include "engine/kv_tier.h"

#include "base/alloc.h"
#include "base/assert.h"

/* In `next`: a host block that is free, and the last one of its chain. */
enum { NEXT_FREE = UINT32_MAX, NEXT_END = UINT32_MAX - 1 };

struct kv_tier {
    kv_tier_options opt;
    uint32_t free_count;
    uint32_t first_free; /* below it none is */
    uint32_t *next;      /* [opt.blocks_max] of its chain */
    kv_move *moves;      /* [opt.seat_blocks_max] of the call */
    kv_tier_counters counters;
};

status kv_tier_create(kv_tier **out, const kv_tier_options *opt, error *err) {
    ASSERT(opt->blocks_max > 0 && opt->blocks_max <= KV_TIER_BLOCKS_MAX);
    kv_tier *t = mem_try_calloc(1, sizeof *t);
    if (t == NULL) return error_set(err, ERR_NOMEM, "kv tier: no memory");
    t->opt = *opt;
    t->free_count = opt->blocks_max;
    t->next = mem_try_calloc(opt->blocks_max, sizeof *t->next);
    t->moves = mem_try_calloc(opt->seat_blocks_max, sizeof *t->moves);
    if (t->next == NULL || t->moves == NULL) {
        kv_tier_destroy(t);
        return error_set(err, ERR_NOMEM, "kv tier: no memory for %u blocks", opt->blocks_max);
    }
    for (uint32_t i = 0; i < opt->blocks_max; i++) t->next[i] = NEXT_FREE;
    *out = t;
    return OK;
}

void kv_tier_destroy(kv_tier *t) {
    if (t == NULL) return;
    mem_free(t->next);
    mem_free(t->moves);
    mem_free(t);
}

/* The first free host block.  Taken in this order, those of a sequence are neighbours as a rule,
 * which move in one copy. */
static uint32_t take(kv_tier *t) {
    ASSERT(t->free_count > 0);
    while (t->next[t->first_free] != NEXT_FREE) t->first_free++;
    t->free_count--;
    return t->first_free++;
}

static void give(kv_tier *t, uint32_t host_block) {
    ASSERT(host_block < t->opt.blocks_max && t->next[host_block] != NEXT_FREE);
    t->next[host_block] = NEXT_FREE;
    t->free_count++;
    if (host_block < t->first_free) t->first_free = host_block;
}

static const uint32_t *table_of(const kv_pool *kv, uint32_t seat) {
    return kv_tables(kv) + (size_t)seat * kv_seat_blocks_max(kv);
}

uint32_t kv_tier_save(kv_tier *t, const kv_pool *kv, uint32_t seat) {
    const uint32_t *table = table_of(kv, seat);
    const uint32_t count = kv_blocks_for(kv_seat_tokens(kv, seat));
    ASSERT(count > 0 && count <= t->opt.seat_blocks_max);
    if (count > t->free_count) return KV_TIER_NONE;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = take(t);
        if (i > 0) t->next[t->moves[i - 1].host_block] = at;
        t->next[at] = NEXT_END;
        t->moves[i] = (kv_move){.block = table[i], .host_block = at};
    }
    t->opt.mover.save(t->opt.mover.ctx, t->moves, count);
    t->counters.saved_bytes += count * (uint64_t)t->opt.block_bytes;
    return t->moves[0].host_block;
}

void kv_tier_load(kv_tier *t, uint32_t saved, const kv_pool *kv, uint32_t seat, uint32_t shared) {
    const uint32_t *table = table_of(kv, seat);
    const uint32_t blocks = kv_blocks_for(kv_seat_tokens(kv, seat));
    uint32_t i = 0, count = 0;
    for (uint32_t at = saved, next; at != NEXT_END; at = next, i++) {
        next = t->next[at];
        if (i >= shared) t->moves[count++] = (kv_move){.block = table[i], .host_block = at};
        give(t, at); /* what is saved there next is copied behind this */
    }
    ASSERT(i == blocks && shared <= blocks);
    if (count == 0) return;
    t->opt.mover.load(t->opt.mover.ctx, t->moves, count);
    t->counters.loaded_bytes += count * (uint64_t)t->opt.block_bytes;
}

void kv_tier_drop(kv_tier *t, uint32_t saved) {
    if (saved == KV_TIER_NONE) return;
    for (uint32_t at = saved, next; at != NEXT_END; at = next) {
        next = t->next[at];
        give(t, at);
    }
}

uint32_t kv_tier_blocks_of(const kv_tier *t, uint32_t saved) {
    uint32_t count = 0;
    if (saved == KV_TIER_NONE) return 0;
    for (uint32_t at = saved; at != NEXT_END; at = t->next[at]) {
        ASSERT(at < t->opt.blocks_max && count < t->opt.blocks_max);
        count++;
    }
    return count;
}

uint32_t kv_tier_blocks_max(const kv_tier *t) { return t->opt.blocks_max; }
uint32_t kv_tier_blocks_free(const kv_tier *t) { return t->free_count; }
kv_tier_counters kv_tier_counters_get(const kv_tier *t) { return t->counters; }
