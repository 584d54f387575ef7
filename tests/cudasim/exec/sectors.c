/* sectors.c - how many 32-byte sectors the requests of warps touch: what a GPU's caches and memory
 * move, however few bytes of them were asked for; and how many bank conflicts those have that are
 * 16 bytes of shared memory for each lane.
 *
 * A request is one access of a kernel's source, made by the lanes of a warp together.  Here lanes
 * run one after the other, so their accesses are brought together again by a key: the place in the
 * code (the return address of sim_touch(), which is called by inlined code only), and how many
 * times this lane has been there since its warp last met in a warp operation or barrier.  That is
 * exact where lanes that leave out an access leave out the rest of that loop, too; a warp's meeting
 * sets all lanes level again.  An aligned access of at most 16 bytes lies in one sector.
 *
 * Shared memory has 32 banks of 4 bytes: of 16 bytes each 8 lanes are served at once, from 8 groups
 * of banks.  What lies in one group at different places takes a cycle for each of them (CUDA C++
 * Programming Guide, "Shared Memory"). */
#include <stdlib.h>
#include <string.h>

#include "cudasim/exec/exec_internal.h"
#include "cudasim/exec/fiber.h"

enum { SECTOR_BYTES = 32, PLACES_MAX = 1024, SLOTS = 4096 };
enum { GRANULE_BYTES = 16, LANES_AT_ONCE = 8, BANK_GROUPS = 8 };

typedef struct request {
    uint32_t count;
    uint32_t lanes;                    /* of shared memory: bits of those that take part */
    uintptr_t sectors[SIM_WARP_LANES]; /* [count], each once; of shared memory granules by lane */
} request;

typedef struct place {
    const void *site;
    sim_access access;
    uint32_t times[SIM_WARP_LANES]; /* of each lane since the warp met */
    request *requests;              /* owned, [count], room for more */
    uint32_t count, room;
} place;

typedef struct warp_places {
    place places[PLACES_MAX]; /* [count] */
    uint32_t count;
    uint16_t slots[SLOTS]; /* open addressing by site: 1 + index into places, 0: free */
} warp_places;

static warp_places warps[SIM_BLOCK_WARPS_MAX];

/* NULL: there are too many. */
static place *place_of(warp_places *w, const void *site, sim_access access) {
    uint32_t i = (uint32_t)(((uintptr_t)site * UINT64_C(0x9E3779B97F4A7C15)) >> 32) % SLOTS;
    for (; w->slots[i] != 0; i = (i + 1) % SLOTS)
        if (w->places[w->slots[i] - 1].site == site) return &w->places[w->slots[i] - 1];
    if (w->count == PLACES_MAX) return NULL;
    w->places[w->count] = (place){.site = site, .access = access};
    w->slots[i] = (uint16_t)++w->count;
    return &w->places[w->count - 1];
}

static request *request_of(place *p, uint32_t number) {
    if (number >= p->room) {
        uint32_t room = p->room == 0 ? 16 : p->room * 2;
        request *grown = realloc(p->requests, room * sizeof *grown);
        if (grown == NULL) abort();
        p->requests = grown;
        p->room = room;
    }
    while (p->count <= number) {
        p->requests[p->count].lanes = 0;
        p->requests[p->count++].count = 0;
    }
    return &p->requests[number];
}

static void note(place *p, uint32_t lane, uintptr_t sector) {
    request *r = request_of(p, p->times[lane]++);
    for (uint32_t i = r->count; i > 0; i--)
        if (r->sectors[i - 1] == sector) return;
    r->sectors[r->count++] = sector;
}

void sim_sectors_note(uint32_t tid, const void *site, const void *at, sim_access access) {
    fiber_unwatch();
    place *p = place_of(&warps[tid / SIM_WARP_LANES], site, access);
    if (p != NULL) note(p, tid % SIM_WARP_LANES, (uintptr_t)at / SECTOR_BYTES);
    fiber_watch();
    if (p == NULL) SIM_FAIL(SIM_BAD_LAUNCH, "has more than %d accesses to count", PLACES_MAX);
}

/* --- shared memory -------------------- */

/* Cycles beyond the first for those of 8 lanes that take part. */
static uint32_t conflicts_of(const uintptr_t granules[LANES_AT_ONCE], uint32_t lanes) {
    uint32_t in_group[BANK_GROUPS] = {0}, most = 1;
    for (uint32_t i = 0; i < LANES_AT_ONCE; i++) {
        bool is_new = (lanes >> i & 1u) != 0;
        for (uint32_t k = 0; k < i; k++)
            if ((lanes >> k & 1u) != 0 && granules[k] == granules[i]) is_new = false;
        if (!is_new) continue;
        const uint32_t n = ++in_group[granules[i] % BANK_GROUPS];
        if (n > most) most = n;
    }
    return most - 1;
}

static uint64_t conflicts_of_warp(const uintptr_t granules[SIM_WARP_LANES], uint32_t lanes) {
    uint64_t all = 0;
    for (uint32_t i = 0; i < SIM_WARP_LANES; i += LANES_AT_ONCE)
        all += conflicts_of(granules + i, lanes >> i & 0xffu);
    return all;
}

void sim_shared_touch(const void *at) {
    fiber_unwatch();
    const uint32_t lane = sim_here.tid % SIM_WARP_LANES;
    place *p =
        place_of(&warps[sim_here.tid / SIM_WARP_LANES], __builtin_return_address(0), SIM_SHARED);
    if (p != NULL) {
        request *r = request_of(p, p->times[lane]++);
        r->lanes |= UINT32_C(1) << lane;
        r->sectors[lane] = (uintptr_t)at / GRANULE_BYTES;
    }
    fiber_watch();
    if (p == NULL) SIM_FAIL(SIM_BAD_LAUNCH, "has more than %d accesses to count", PLACES_MAX);
}

void sim_count_ldmatrix(const uint32_t *rows) {
    uintptr_t granules[SIM_WARP_LANES];
    for (uint32_t i = 0; i < SIM_WARP_LANES; i++) granules[i] = rows[i] / GRANULE_BYTES;
    sim_now.counters->shared_conflicts += conflicts_of_warp(granules, UINT32_MAX);
}

static uint64_t take_conflicts(place *p) {
    uint64_t conflicts = 0;
    for (uint32_t k = 0; k < p->count; k++)
        conflicts += conflicts_of_warp(p->requests[k].sectors, p->requests[k].lanes);
    p->count = 0;
    memset(p->times, 0, sizeof p->times);
    return conflicts;
}

/* --- when a warp has met -------------------- */

/* The sectors of the requests of a place, which are forgotten. */
static uint64_t take_sectors(place *p) {
    uint64_t sectors = 0;
    for (uint32_t k = 0; k < p->count; k++) sectors += p->requests[k].count;
    p->count = 0;
    memset(p->times, 0, sizeof p->times);
    return sectors;
}

void sim_sectors_flush(uint32_t warp) {
    sim_counters *c = sim_now.counters;
    fiber_unwatch();
    for (uint32_t i = 0; i < warps[warp].count; i++) {
        place *p = &warps[warp].places[i];
        if (p->count == 0) continue;
        if (p->access == SIM_SHARED) {
            c->shared_conflicts += take_conflicts(p);
            continue;
        }
        uint64_t sectors = take_sectors(p);
        if (p->access != SIM_STORE) c->load_sectors += sectors;
        if (p->access == SIM_STORE || p->access == SIM_ATOMIC) c->store_sectors += sectors;
    }
    fiber_watch();
}

void sim_sectors_forget(void) {
    fiber_unwatch();
    for (uint32_t w = 0; w < SIM_BLOCK_WARPS_MAX; w++) {
        if (warps[w].count == 0) continue;
        for (uint32_t i = 0; i < warps[w].count; i++) free(warps[w].places[i].requests);
        warps[w].count = 0;
        memset(warps[w].slots, 0, sizeof warps[w].slots);
    }
    fiber_watch();
}
