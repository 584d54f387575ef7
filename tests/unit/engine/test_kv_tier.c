/* test_kv_tier.c - kv_tier.h: random saving, loading and dropping against a word for each block,
 * and how many copies a call has to be. */
#include "engine/kv_tier.h"

#include <string.h>

#include "test.h"

enum { SEATS = 4, SEAT_BLOCKS = 6, BLOCKS = 16, HOST_BLOCKS = 13, SAVED_MAX = 8, OPS = 3000 };

typedef struct saved {
    uint32_t handle, tokens;
    uint32_t marks[SEAT_BLOCKS]; /* what its blocks hold */
} saved;

typedef struct rig {
    kv_pool *kv;
    kv_tier *tier;
    uint32_t held[BLOCKS], copies[HOST_BLOCKS]; /* a word stands for a block */
    saved list[SAVED_MAX];
    uint32_t count;
    uint32_t pieces; /* runs of neighbours of the last call */
    uint32_t marks;
    uint64_t random;
} rig;

static uint32_t next_random(rig *r, uint32_t below) {
    r->random = r->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(r->random >> 33) % below;
}

static void count_pieces(rig *r, const kv_move *m, uint32_t count) {
    r->pieces = 1;
    for (uint32_t i = 1; i < count; i++)
        r->pieces += m[i].block != m[i - 1].block + 1 || m[i].host_block != m[i - 1].host_block + 1;
}

static void save(void *ctx, const kv_move *m, uint32_t count) {
    rig *r = ctx;
    for (uint32_t i = 0; i < count; i++) r->copies[m[i].host_block] = r->held[m[i].block];
    count_pieces(r, m, count);
}

static void load(void *ctx, const kv_move *m, uint32_t count) {
    rig *r = ctx;
    for (uint32_t i = 0; i < count; i++) r->held[m[i].block] = r->copies[m[i].host_block];
    count_pieces(r, m, count);
}

static rig *open_rig(void) {
    static rig r;
    r = (rig){.random = 5};
    const kv_tier_options o = {.blocks_max = HOST_BLOCKS,
                               .seat_blocks_max = SEAT_BLOCKS,
                               .block_bytes = 10,
                               .mover = {&r, save, load}};
    CHECK_EQ(kv_pool_create(&r.kv, BLOCKS, SEATS, SEAT_BLOCKS, NULL), OK);
    CHECK_EQ(kv_tier_create(&r.tier, &o, NULL), OK);
    return &r;
}

static void close_rig(rig *r) {
    kv_tier_destroy(r->tier);
    kv_pool_destroy(r->kv);
}

static const uint32_t *table_of(const rig *r, uint32_t seat) {
    return kv_tables(r->kv) + (size_t)seat * SEAT_BLOCKS;
}

/* Marks that nothing else has. */
static void fill_seat(rig *r, uint32_t seat) {
    for (uint32_t i = 0; i < kv_blocks_for(kv_seat_tokens(r->kv, seat)); i++)
        r->held[table_of(r, seat)[i]] = ++r->marks;
}

static void try_save(rig *r, uint32_t seat) {
    const uint32_t tokens = kv_seat_tokens(r->kv, seat), blocks = kv_blocks_for(tokens);
    const uint32_t room = kv_tier_blocks_free(r->tier);
    if (tokens == 0 || r->count == SAVED_MAX) return;
    saved *s = &r->list[r->count];
    *s = (saved){.handle = kv_tier_save(r->tier, r->kv, seat), .tokens = tokens};
    CHECK((s->handle != KV_TIER_NONE) == (blocks <= room));
    if (s->handle == KV_TIER_NONE) return;
    CHECK_EQ(kv_tier_blocks_of(r->tier, s->handle), blocks);
    CHECK_EQ(kv_tier_blocks_free(r->tier), room - blocks);
    for (uint32_t i = 0; i < blocks; i++) s->marks[i] = r->held[table_of(r, seat)[i]];
    r->count++;
    kv_seat_clear(r->kv, seat);
}

/* Into an empty seat; its first block may be another one's. */
static void try_load(rig *r, uint32_t seat, uint32_t which) {
    const saved s = r->list[which];
    const uint32_t room = kv_tier_blocks_free(r->tier);
    if (kv_seat_tokens(r->kv, seat) > 0) return;
    if (kv_seat_blocks_missing(r->kv, seat, s.tokens) > kv_blocks_free(r->kv)) return;
    CHECK_EQ(kv_seat_grow(r->kv, seat, s.tokens, NULL), OK);
    for (uint32_t i = 0; i < kv_blocks_for(s.tokens); i++) r->held[table_of(r, seat)[i]] = 0;
    const uint32_t shared = next_random(r, kv_blocks_for(s.tokens) + 1);
    kv_tier_load(r->tier, s.handle, r->kv, seat, shared);
    for (uint32_t i = 0; i < kv_blocks_for(s.tokens); i++)
        CHECK_EQ(r->held[table_of(r, seat)[i]], i < shared ? 0 : s.marks[i]);
    CHECK_EQ(kv_tier_blocks_free(r->tier), room + kv_blocks_for(s.tokens));
    r->list[which] = r->list[--r->count];
    fill_seat(r, seat);
}

TEST(kv_tier_gives_back_what_was_saved) {
    rig *r = open_rig();
    for (uint32_t n = 0; n < OPS; n++) {
        const uint32_t seat = next_random(r, SEATS), what = next_random(r, 10);
        const uint32_t tokens = 1 + next_random(r, SEAT_BLOCKS * KV_BLOCK_TOKENS);
        if (what < 4 && kv_seat_tokens(r->kv, seat) == 0 &&
            kv_seat_grow(r->kv, seat, tokens, NULL) == OK)
            fill_seat(r, seat);
        else if (what < 7)
            try_save(r, seat);
        else if (what < 9 && r->count > 0)
            try_load(r, seat, next_random(r, r->count));
        else if (r->count > 0) {
            const uint32_t which = next_random(r, r->count);
            kv_tier_drop(r->tier, r->list[which].handle);
            r->list[which] = r->list[--r->count];
        }
        uint32_t used = 0;
        for (uint32_t i = 0; i < r->count; i++) used += kv_blocks_for(r->list[i].tokens);
        CHECK_EQ(used + kv_tier_blocks_free(r->tier), HOST_BLOCKS);
        CHECK(kv_validate(r->kv));
    }
    const kv_tier_counters c = kv_tier_counters_get(r->tier);
    CHECK(c.loaded_bytes > 0 && c.saved_bytes > c.loaded_bytes);
    close_rig(r);
}

TEST(kv_tier_moves_neighbours_as_neighbours) {
    rig *r = open_rig();
    CHECK_EQ(kv_seat_grow(r->kv, 0, SEAT_BLOCKS * KV_BLOCK_TOKENS, NULL), OK);
    const uint32_t first = kv_tier_save(r->tier, r->kv, 0);
    CHECK_EQ(r->pieces, 1);
    kv_seat_clear(r->kv, 0);
    CHECK_EQ(kv_seat_grow(r->kv, 1, 5 * KV_BLOCK_TOKENS, NULL), OK);
    const uint32_t second = kv_tier_save(r->tier, r->kv, 1);
    CHECK_EQ(r->pieces, 1);
    kv_seat_clear(r->kv, 1);
    CHECK_EQ(kv_seat_grow(r->kv, 2, SEAT_BLOCKS * KV_BLOCK_TOKENS, NULL), OK);
    kv_tier_load(r->tier, first, r->kv, 2, 2);
    CHECK_EQ(r->pieces, 1);
    CHECK_EQ(kv_tier_counters_get(r->tier).loaded_bytes, 4 * 10);
    kv_tier_drop(r->tier, second);
    kv_tier_drop(r->tier, KV_TIER_NONE);
    CHECK_EQ(kv_tier_blocks_free(r->tier), HOST_BLOCKS);
    close_rig(r);
}
