/* test_kv.c - kv.h: random growing, truncating, sharing and clearing against a model that
 * only remembers which block ids each seat was given. */
#include "base/alloc.h"
#include "engine/kv.h"
#include "test.h"

enum { SEATS = 6, SEAT_BLOCKS = 12, BLOCKS = 40, OPS = 4000 };

typedef struct seat_model {
    uint32_t tokens;
    uint32_t blocks[SEAT_BLOCKS];
} seat_model;

typedef struct pool_model {
    kv_pool *kv;
    seat_model seats[SEATS];
    uint64_t random;
} pool_model;

static uint32_t next_random(pool_model *m, uint32_t below) {
    m->random = m->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(m->random >> 33) % below;
}

static uint32_t refs_of(const pool_model *m, uint32_t id) {
    uint32_t refs = 0;
    for (uint32_t s = 0; s < SEATS; s++)
        for (uint32_t i = 0; i < kv_blocks_for(m->seats[s].tokens); i++)
            refs += m->seats[s].blocks[i] == id;
    return refs;
}

static uint32_t free_of(const pool_model *m) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < BLOCKS; id++) n += refs_of(m, id) == 0;
    return n;
}

static unsigned check_pool(const pool_model *m) {
    unsigned wrong = !kv_validate(m->kv);
    wrong += kv_blocks_free(m->kv) != free_of(m);
    for (uint32_t s = 0; s < SEATS; s++) {
        const seat_model *seat = &m->seats[s];
        const uint32_t *table = kv_tables(m->kv) + (size_t)s * kv_seat_blocks_max(m->kv);
        uint32_t exclusive = 0;
        wrong += kv_seat_tokens(m->kv, s) != seat->tokens;
        for (uint32_t i = 0; i < kv_blocks_for(seat->tokens); i++) {
            wrong += table[i] != seat->blocks[i];
            exclusive += refs_of(m, seat->blocks[i]) == 1;
        }
        wrong += kv_seat_blocks_exclusive(m->kv, s) != exclusive;
    }
    return wrong;
}

static unsigned try_grow(pool_model *m, uint32_t s) {
    seat_model *seat = &m->seats[s];
    uint32_t room = SEAT_BLOCKS * KV_BLOCK_TOKENS - seat->tokens;
    uint32_t tokens = seat->tokens + next_random(m, (room < 70 ? room : 70) + 1);
    uint32_t have = kv_blocks_for(seat->tokens), want = kv_blocks_for(tokens);
    uint32_t free_before = free_of(m);
    unsigned wrong = kv_seat_blocks_missing(m->kv, s, tokens) != want - have;
    error err = {0};
    status st = kv_seat_grow(m->kv, s, tokens, &err);
    if (st != OK) return wrong + (want - have <= free_before || st != ERR_NOMEM);
    const uint32_t *table = kv_tables(m->kv) + (size_t)s * SEAT_BLOCKS;
    for (uint32_t i = have; i < want; i++) {
        wrong += table[i] >= BLOCKS || refs_of(m, table[i]) != 0; /* new blocks were free */
        seat->blocks[i] = table[i];
        seat->tokens = i * KV_BLOCK_TOKENS + 1; /* so that refs_of() counts it */
    }
    seat->tokens = tokens;
    return wrong + (want - have > free_before);
}

/* Only whole blocks are shared, so a cut may not end inside a shared one. */
static void truncate_some(pool_model *m, uint32_t s) {
    seat_model *seat = &m->seats[s];
    uint32_t tokens = next_random(m, seat->tokens + 1);
    uint32_t last = tokens / KV_BLOCK_TOKENS;
    if (tokens % KV_BLOCK_TOKENS != 0 && refs_of(m, seat->blocks[last]) > 1)
        tokens = last * KV_BLOCK_TOKENS;
    kv_seat_truncate(m->kv, s, tokens);
    seat->tokens = tokens;
}

static void share_some(pool_model *m, uint32_t from, uint32_t to) {
    if (m->seats[to].tokens != 0 || from == to) return;
    uint32_t blocks = next_random(m, m->seats[from].tokens / KV_BLOCK_TOKENS + 1);
    kv_seat_share(m->kv, from, to, blocks);
    memcpy(m->seats[to].blocks, m->seats[from].blocks, sizeof m->seats[to].blocks);
    m->seats[to].tokens = blocks * KV_BLOCK_TOKENS;
}

TEST(kv_agrees_with_a_model_over_random_operations) {
    pool_model m = {.random = 3};
    unsigned wrong = 0, refused = 0;
    CHECK_EQ(kv_pool_create(&m.kv, BLOCKS, SEATS, SEAT_BLOCKS, NULL), OK);
    for (unsigned i = 0; i < OPS; i++) {
        uint32_t s = next_random(&m, SEATS), other = next_random(&m, SEATS);
        uint32_t before = m.seats[s].tokens;
        switch (next_random(&m, 8)) {
        case 0:
            kv_seat_clear(m.kv, s);
            m.seats[s].tokens = 0;
            break;
        case 1:
            truncate_some(&m, s);
            break;
        case 2:
        case 3:
            share_some(&m, other, s);
            break;
        default:
            wrong += try_grow(&m, s);
            refused += m.seats[s].tokens == before && free_of(&m) < 4;
            break;
        }
        wrong += check_pool(&m);
    }
    CHECK_EQ(wrong, 0);
    CHECK(refused > 20); /* the pool did run out */
    for (uint32_t s = 0; s < SEATS; s++) kv_seat_clear(m.kv, s);
    CHECK_EQ(kv_blocks_free(m.kv), BLOCKS);
    CHECK(kv_validate(m.kv));
    kv_pool_destroy(m.kv);
}

TEST(kv_exhaustion_is_an_error_and_takes_nothing) {
    kv_pool *kv = NULL;
    error err = {0};
    CHECK_EQ(kv_pool_create(&kv, 5, 2, 8, NULL), OK);
    CHECK_EQ(kv_seat_grow(kv, 0, 33, &err), OK);
    CHECK_EQ(kv_blocks_free(kv), 2);
    CHECK_EQ(kv_seat_grow(kv, 1, 100, &err), ERR_NOMEM);
    CHECK_STR(err.msg, "kv: 7 blocks wanted, 2 free");
    CHECK_EQ(kv_blocks_free(kv), 2);
    CHECK_EQ(kv_seat_tokens(kv, 1), 0);
    CHECK_EQ(kv_seat_grow(kv, 0, 100, &err), ERR_NOMEM);
    CHECK_EQ(kv_seat_tokens(kv, 0), 33);
    CHECK_EQ(kv_seat_grow(kv, 0, 48, &err), OK); /* inside the last block: takes none */
    CHECK_EQ(kv_blocks_free(kv), 2);
    CHECK_EQ(kv_seat_grow(kv, 1, 32, &err), OK);
    CHECK_EQ(kv_blocks_free(kv), 0);
    CHECK(kv_validate(kv));
    kv_pool_destroy(kv);
    kv_pool_destroy(NULL);
}

TEST(kv_shared_blocks_live_until_their_last_seat) {
    kv_pool *kv = NULL;
    CHECK_EQ(kv_pool_create(&kv, 8, 3, 8, NULL), OK);
    CHECK_EQ(kv_seat_grow(kv, 0, 40, NULL), OK);
    kv_seat_share(kv, 0, 1, 2);
    kv_seat_share(kv, 1, 2, 1);
    CHECK_EQ(kv_blocks_free(kv), 5);
    CHECK_EQ(kv_seat_tokens(kv, 1), 32);
    CHECK_EQ(kv_seat_blocks_exclusive(kv, 0), 1);
    CHECK_EQ(kv_seat_blocks_exclusive(kv, 1), 0);
    CHECK_EQ(kv_seat_grow(kv, 1, 33, NULL), OK); /* a block of its own behind the shared */
    CHECK(kv_tables(kv)[8 + 2] != kv_tables(kv)[2]);
    kv_seat_clear(kv, 0);
    CHECK_EQ(kv_blocks_free(kv), 5);
    CHECK_EQ(kv_seat_blocks_exclusive(kv, 1), 2);
    kv_seat_clear(kv, 1);
    CHECK_EQ(kv_blocks_free(kv), 7);
    kv_seat_clear(kv, 2);
    CHECK_EQ(kv_blocks_free(kv), 8);
    CHECK(kv_validate(kv));
    kv_pool_destroy(kv);
}

TEST(kv_block_arithmetic) {
    CHECK_EQ(kv_blocks_for(0), 0);
    CHECK_EQ(kv_blocks_for(1), 1);
    CHECK_EQ(kv_blocks_for(16), 1);
    CHECK_EQ(kv_blocks_for(17), 2);
    CHECK_EQ(kv_blocks_for(UINT32_MAX), 1u << 28);
}

TEST(kv_pool_without_memory_is_an_error) {
    kv_pool *kv = NULL;
    error err = {0};
    for (int after = 0; after < 5; after++) {
        mem_fail_after(after);
        CHECK_EQ(kv_pool_create(&kv, 8, 2, 4, &err), ERR_NOMEM);
        mem_fail_after(-1);
    }
    CHECK(kv == NULL);
}
