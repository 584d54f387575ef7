/* test_map.c - map.h and idmap.h: against a brute-force list of what is inside. */
#include "base/alloc.h"
#include "base/idmap.h"
#include "base/map.h"
#include "test.h"

enum { KEYS = 20000 };

TEST(map_finds_every_key_and_no_other) {
    static char names[KEYS][12];
    map m;
    CHECK_EQ(map_init(&m, KEYS, NULL), OK);
    for (unsigned i = 0; i < KEYS; i++) {
        (void)snprintf(names[i], sizeof names[i], "k%u", i);
        CHECK(map_add(&m, str_of(names[i]), i * 3));
    }
    CHECK_EQ(m.count, KEYS);
    unsigned wrong = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        uint32_t value = 0;
        wrong += !map_get(&m, str_of(names[i]), &value) || value != i * 3;
        char other[16];
        (void)snprintf(other, sizeof other, "k%u ", i);
        wrong += map_get(&m, str_of(other), NULL);
    }
    CHECK_EQ(wrong, 0);
    map_deinit(&m);
    CHECK(!map_get(&m, S("k1"), NULL));
}

TEST(map_refuses_a_key_it_has) {
    map m;
    uint32_t value = 0;
    CHECK_EQ(map_init(&m, 4, NULL), OK);
    CHECK(map_add(&m, S("a"), 1));
    CHECK(!map_add(&m, S("a"), 2));
    CHECK(map_get(&m, S("a"), &value) && value == 1);
    CHECK(map_add(&m, S(""), 3) && map_get(&m, S(""), &value) && value == 3);
    CHECK(map_add(&m, (str){"a\0b", 3}, 4));
    CHECK(!map_get(&m, (str){"a\0", 2}, &value));
    CHECK_EQ(m.count, 3);
    map_deinit(&m);
}

TEST(map_limits_are_errors) {
    map m;
    idmap ids;
    error err = {0};
    CHECK_EQ(map_init(&m, UINT32_MAX, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "4294967295");
    mem_fail_after(0);
    CHECK_EQ(map_init(&m, 10, &err), ERR_NOMEM);
    CHECK_EQ(idmap_init(&ids, 10, &err), ERR_NOMEM);
    mem_fail_after(-1);
}

/* --- idmap -------------------- */

enum { IDS = 512, IDS_MAX = 300, OPS = 60000 };

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33);
}

static unsigned walk_count(const idmap *m, const char *values, const bool *inside) {
    unsigned seen = 0;
    uint32_t at = 0;
    for (const char *v = idmap_next(m, &at); v != NULL; v = idmap_next(m, &at)) {
        CHECK(inside[v - values]);
        seen++;
    }
    return seen;
}

/* Ids of three kinds: small, far apart, and equal in their low bits. */
static uint64_t id_of(unsigned i) {
    if (i % 3 == 0) return i;
    return i % 3 == 1 ? (uint64_t)i << 40 : 0x9E3779B97F4A7C15ull * i;
}

TEST(idmap_agrees_with_a_list_over_random_operations) {
    static char values[IDS];
    static bool inside[IDS];
    idmap m;
    unsigned count = 0, wrong = 0;
    uint64_t state = 42;
    memset(inside, 0, sizeof inside);
    CHECK_EQ(idmap_init(&m, IDS_MAX, NULL), OK);
    for (unsigned i = 0; i < OPS; i++) {
        unsigned k = next_random(&state) % IDS;
        void *want = inside[k] ? &values[k] : NULL;
        wrong += idmap_get(&m, id_of(k)) != want;
        if (!inside[k] && count < IDS_MAX && next_random(&state) % 8 != 0) {
            idmap_add(&m, id_of(k), &values[k]);
            inside[k] = true;
            count++;
        } else if (next_random(&state) % 2 != 0) {
            wrong += idmap_remove(&m, id_of(k)) != want;
            count -= inside[k];
            inside[k] = false;
        }
        wrong += m.count != count;
        if (i % 1000 == 0) wrong += walk_count(&m, values, inside) != count;
    }
    for (unsigned k = 0; k < IDS; k++)
        wrong += idmap_get(&m, id_of(k)) != (inside[k] ? &values[k] : NULL);
    CHECK_EQ(wrong, 0);
    idmap_deinit(&m);
}

TEST(idmap_can_be_filled_and_emptied) {
    char values[64];
    idmap m;
    CHECK_EQ(idmap_init(&m, 64, NULL), OK);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 64; i++) idmap_add(&m, i << 32, &values[i]);
        CHECK_EQ(m.count, 64);
        for (uint64_t i = 0; i < 64; i++) CHECK(idmap_remove(&m, i << 32) == &values[i]);
        uint32_t at = 0;
        CHECK(idmap_next(&m, &at) == NULL);
    }
    CHECK(idmap_remove(&m, 7) == NULL);
    idmap_deinit(&m);
}
