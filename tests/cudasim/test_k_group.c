/* test_k_group.c - pairs of rows and experts, sorted by expert, against the same done on the host
 * one pair after the other: the list, its tiles and their number, and nothing behind them. */
#include "backend/cuda/cuda_experts.h"
#include "cudasim/rig.h"
#include "test.h"

/* How rows choose. */
typedef enum group_kind {
    ANY,   /* different experts, evenly */
    ONE,   /* all the last one */
    FIRST, /* experts 0 .. used - 1: the others have none */
    GROUP_KINDS
} group_kind;

typedef struct group_case {
    uint32_t experts, used, before, rows; /* `before` rows that are not grouped */
    group_kind kind;
    uint32_t tile; /* 0: CK_GEMM_TILE */
} group_case;

static uint32_t tile_of(const group_case *c) { return c->tile != 0 ? c->tile : CK_GEMM_TILE; }

static uint32_t tiles_max(const group_case *c) {
    return cuda_tiles_max(c->rows * c->used, c->experts, tile_of(c));
}

/* [before + rows, 2 * used]; numbers of rows before are none, nor are weights. */
static float *make_routed(const group_case *c) {
    const size_t rows = c->before + c->rows;
    float *routed = rig_buffer(rows * 2 * c->used * sizeof *routed);
    for (size_t r = c->before; r < rows; r++) {
        const uint32_t first = rig_random(c->experts), step = 1 + rig_random(2) * 2;
        for (uint32_t u = 0; u < c->used; u++) {
            uint32_t expert = (first + u * step) % c->experts;
            if (c->kind == ONE) expert = c->experts - 1;
            if (c->kind == FIRST) expert = (first + u) % c->used;
            routed[r * 2 * c->used + u] = (float)expert;
        }
    }
    return routed;
}

typedef struct group_lists {
    uint32_t *pairs, *tiles_count;
    ck_tile *tiles;
} group_lists;

static group_lists run_group(int arch, const group_case *c, const float *routed) {
    const uint32_t pairs = c->rows * c->used;
    const group_lists l = {.pairs = rig_buffer(pairs * sizeof *l.pairs),
                           .tiles = rig_buffer(tiles_max(c) * sizeof *l.tiles),
                           .tiles_count = rig_buffer(sizeof *l.tiles_count)};
    k_group_args a = {.routed = rig_at(routed),
                      .pairs = rig_at(l.pairs),
                      .tiles = rig_at(l.tiles),
                      .tiles_count = rig_at(l.tiles_count),
                      .first = c->before > 0 ? rig_count(c->before) : 0,
                      .end = rig_count(c->before + c->rows),
                      .experts = c->experts,
                      .used = c->used,
                      .tile = tile_of(c)};
    rig_run(arch, "k_group", &a, c->experts, 1, 256, 0);
    return l;
}

/* The pairs of an expert from place `at` of the list on; returns how many there are. */
static uint32_t check_pairs(const group_case *c, const float *routed, uint32_t expert,
                            const uint32_t *at) {
    const uint32_t end = (c->before + c->rows) * c->used;
    uint32_t found = 0, wrong = 0;
    for (uint32_t pair = c->before * c->used; pair < end; pair++) {
        const size_t number = (size_t)(pair / c->used) * 2 * c->used + pair % c->used;
        if (routed[number] == (float)expert) wrong += at[found++] != pair;
    }
    CHECK_EQ(wrong, 0);
    return found;
}

static void check_group(int arch, const group_case *c) {
    const float *routed = make_routed(c);
    const group_lists l = run_group(arch, c, routed);
    uint32_t at = 0, tiles = 0;
    const uint32_t tile = tile_of(c);
    for (uint32_t e = 0; e < c->experts; e++) {
        const uint32_t pairs = check_pairs(c, routed, e, l.pairs + at);
        for (uint32_t i = 0; i < pairs; i += tile, tiles++) {
            const uint32_t left = pairs - i;
            CHECK_EQ(l.tiles[tiles].expert, e);
            CHECK_EQ(l.tiles[tiles].first, at + i);
            CHECK_EQ(l.tiles[tiles].count, left < tile ? left : tile);
        }
        at += pairs;
    }
    CHECK_EQ(at, c->rows * c->used);
    CHECK_EQ(*l.tiles_count, tiles);
    CHECK(tiles <= tiles_max(c));
    for (uint32_t i = tiles; i < tiles_max(c); i++) CHECK_EQ(l.tiles[i].count, UINT32_MAX);
}

/* Every number of experts with every number of rows, ways of choosing in turn. */
TEST(k_group_sorts_pairs_as_the_host_does) {
    static const uint32_t experts[] = {4, 8, 60, 64, 128, 256}, rows[] = {1, 7, 64, 65, 512};
    RIG_EACH(arch) {
        for (uint32_t e = 0; e < 6; e++)
            for (uint32_t r = 0; r < 5; r++) {
                const uint32_t size = rows[r] * experts[e];
                if (size > 512 * 64 && rig_order() != SIM_ASCENDING) continue;
                if (size > 65 * 64 && rig_is_watched()) continue;
                const uint32_t used = 1 + (e * 5 + r) % (experts[e] < 8 ? 4 : 8);
                const group_case c = {experts[e],
                                      used,
                                      e % 3,
                                      rows[r],
                                      (group_kind)((e + r) % GROUP_KINDS),
                                      r % 2 == 0 ? 0 : 8 + e % 2 * 8};
                check_group(arch, &c);
            }
    }
    rig_done();
}

TEST(k_group_sorts_for_every_number_of_used_experts) {
    for (uint32_t used = 1; used <= 8; used += rig_is_watched() ? 5 : 1)
        for (uint32_t kind = 0; kind < GROUP_KINDS; kind++) {
            const group_case c = {64, used, used, 65, (group_kind)kind, 8};
            check_group(900, &c);
            rig_done();
        }
}

TEST(k_group_takes_as_many_experts_as_there_may_be) {
    const group_case c = {CK_EXPERTS_MAX, 8, 1, 33, ANY, 0}, one = {1, 1, 0, 130, ONE, 16};
    RIG_EACH(arch) check_group(arch, &one);
    check_group(750, &c);
    rig_done();
}

/* What grids and memory are made for is what the worst choices come to, and no more. */
TEST(cuda_tiles_max_is_what_the_worst_choice_makes) {
    static const uint32_t tiles[] = {CK_HALVES_X, CK_SKINNY_X, CK_GEMM_TILE};
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t experts = 1; experts <= 9; experts++)
            for (uint32_t pairs = 1; pairs < 5 * CK_GEMM_TILE; pairs++) {
                /* All but one expert have one pair each, as long as there are any. */
                const uint32_t single = pairs - 1 < experts - 1 ? pairs - 1 : experts - 1;
                const uint32_t most = single + (pairs - single + tiles[i] - 1) / tiles[i];
                CHECK_EQ(cuda_tiles_max(pairs, experts, tiles[i]), most);
            }
}
