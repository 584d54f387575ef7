/* kv.c - see kv.h. */
#include "engine/kv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

struct kv_pool {
    uint32_t blocks_max;
    uint32_t free_count;
    uint32_t seats;
    uint32_t seat_blocks_max;
    uint32_t *free_list; /* [blocks_max] ids, top at free_count - 1 */
    uint32_t *refs;      /* [blocks_max] */
    uint32_t *tables;    /* [seats, seat_blocks_max] */
    uint32_t *tokens;    /* [seats] */
};

status kv_pool_create(kv_pool **out, uint32_t blocks_max, uint32_t seats, uint32_t seat_blocks_max,
                      error *err) {
    kv_pool *kv = mem_try_calloc(1, sizeof *kv);
    if (kv == NULL) return error_set(err, ERR_NOMEM, "kv: no memory");
    kv->blocks_max = kv->free_count = blocks_max;
    kv->seats = seats;
    kv->seat_blocks_max = seat_blocks_max;
    kv->free_list = mem_try_calloc(blocks_max, sizeof(uint32_t));
    kv->refs = mem_try_calloc(blocks_max, sizeof(uint32_t));
    kv->tables = mem_try_calloc((size_t)seats * seat_blocks_max, sizeof(uint32_t));
    kv->tokens = mem_try_calloc(seats, sizeof(uint32_t));
    if (kv->free_list == NULL || kv->refs == NULL || kv->tables == NULL || kv->tokens == NULL) {
        kv_pool_destroy(kv);
        return error_set(err, ERR_NOMEM, "kv: no memory for %u blocks and %u seats", blocks_max,
                         seats);
    }
    for (uint32_t i = 0; i < blocks_max; i++) kv->free_list[i] = blocks_max - 1 - i;
    *out = kv;
    return OK;
}

void kv_pool_destroy(kv_pool *kv) {
    if (kv == NULL) return;
    mem_free(kv->free_list);
    mem_free(kv->refs);
    mem_free(kv->tables);
    mem_free(kv->tokens);
    mem_free(kv);
}

static uint32_t *table_of(const kv_pool *kv, uint32_t seat) {
    ASSERT(seat < kv->seats);
    return kv->tables + (size_t)seat * kv->seat_blocks_max;
}

uint32_t kv_seat_blocks_missing(const kv_pool *kv, uint32_t seat, uint32_t tokens) {
    uint32_t have = kv_blocks_for(kv->tokens[seat]), want = kv_blocks_for(tokens);
    return want > have ? want - have : 0;
}

status kv_seat_grow(kv_pool *kv, uint32_t seat, uint32_t tokens, error *err) {
    uint32_t *table = table_of(kv, seat);
    uint32_t have = kv_blocks_for(kv->tokens[seat]);
    uint32_t missing = kv_seat_blocks_missing(kv, seat, tokens);
    ASSERT(tokens >= kv->tokens[seat] && have + missing <= kv->seat_blocks_max);
    if (missing > kv->free_count)
        return error_set(err, ERR_NOMEM, "kv: %u blocks wanted, %u free", missing, kv->free_count);
    for (uint32_t i = 0; i < missing; i++) {
        uint32_t id = kv->free_list[--kv->free_count];
        kv->refs[id] = 1;
        table[have + i] = id;
    }
    kv->tokens[seat] = tokens;
    XASSERT(kv_validate(kv));
    return OK;
}

static void block_unref(kv_pool *kv, uint32_t id) {
    ASSERT(id < kv->blocks_max && kv->refs[id] > 0);
    if (--kv->refs[id] == 0) kv->free_list[kv->free_count++] = id;
}

void kv_seat_truncate(kv_pool *kv, uint32_t seat, uint32_t tokens) {
    uint32_t *table = table_of(kv, seat);
    ASSERT(tokens <= kv->tokens[seat]);
    uint32_t keep = kv_blocks_for(tokens);
    /* last block first: heads are shared longest */
    for (uint32_t i = kv_blocks_for(kv->tokens[seat]); i > keep; i--) block_unref(kv, table[i - 1]);
    kv->tokens[seat] = tokens;
    ASSERT(tokens % KV_BLOCK_TOKENS == 0 || kv->refs[table[keep - 1]] == 1);
    XASSERT(kv_validate(kv));
}

void kv_seat_clear(kv_pool *kv, uint32_t seat) { kv_seat_truncate(kv, seat, 0); }

void kv_seat_share(kv_pool *kv, uint32_t from, uint32_t to, uint32_t blocks) {
    const uint32_t *source = table_of(kv, from);
    uint32_t *table = table_of(kv, to);
    ASSERT(kv->tokens[to] == 0 && blocks <= kv->tokens[from] / KV_BLOCK_TOKENS);
    for (uint32_t i = 0; i < blocks; i++) {
        table[i] = source[i];
        kv->refs[source[i]]++;
    }
    kv->tokens[to] = blocks * KV_BLOCK_TOKENS;
    XASSERT(kv_validate(kv));
}

uint32_t kv_seat_blocks_exclusive(const kv_pool *kv, uint32_t seat) {
    const uint32_t *table = table_of(kv, seat);
    uint32_t n = 0;
    for (uint32_t i = 0; i < kv_blocks_for(kv->tokens[seat]); i++) n += kv->refs[table[i]] == 1;
    return n;
}

uint32_t kv_seat_tokens(const kv_pool *kv, uint32_t seat) { return kv->tokens[seat]; }
const uint32_t *kv_tables(const kv_pool *kv) { return kv->tables; }
uint32_t kv_seat_blocks_max(const kv_pool *kv) { return kv->seat_blocks_max; }
uint32_t kv_blocks_free(const kv_pool *kv) { return kv->free_count; }
uint32_t kv_blocks_max(const kv_pool *kv) { return kv->blocks_max; }

/* Count table entries per block into `seen`, and check invariants 2 and 3 on the way. */
static bool count_refs(const kv_pool *kv, uint32_t *seen) {
    for (uint32_t s = 0; s < kv->seats; s++) {
        uint32_t blocks = kv_blocks_for(kv->tokens[s]);
        const uint32_t *table = kv->tables + (size_t)s * kv->seat_blocks_max;
        if (blocks > kv->seat_blocks_max) return false;
        for (uint32_t i = 0; i < blocks; i++) {
            if (table[i] >= kv->blocks_max) return false;
            seen[table[i]]++;
        }
        bool partial = kv->tokens[s] % KV_BLOCK_TOKENS != 0;
        if (partial && kv->refs[table[blocks - 1]] != 1) return false;
    }
    return true;
}

bool kv_validate(const kv_pool *kv) {
    uint32_t *seen = mem_calloc(kv->blocks_max, sizeof *seen);
    bool ok = count_refs(kv, seen);
    uint32_t used = 0;
    for (uint32_t i = 0; i < kv->blocks_max && ok; i++) {
        ok = seen[i] == kv->refs[i];
        used += kv->refs[i] > 0;
    }
    ok = ok && used + kv->free_count == kv->blocks_max;
    for (uint32_t i = 0; i < kv->free_count && ok; i++) {
        ok = kv->free_list[i] < kv->blocks_max && seen[kv->free_list[i]] == 0;
        if (ok) seen[kv->free_list[i]] = 1;
    }
    mem_free(seen);
    return ok;
}
