/* ahead.c - what a block prefetches before it may read: sectors of 32 bytes, each once, and those
 * of them that it then loads from.
 *
 * A prefetch is right when it names what the block is going to read; only that is worth anything on
 * a GPU, where a wrong one costs bandwidth and nobody notices. */
#include "cudasim/exec/exec_internal.h"

enum { SECTOR_BYTES = 32, SLOTS = 16384, SECTORS_MAX = SLOTS / 2 };

static struct {
    uintptr_t sectors[SLOTS]; /* open addressing by sector; 0: free */
    bool read[SLOTS];
    uint16_t used[SECTORS_MAX]; /* [count], the slots that are not free */
    uint32_t count;
} ahead;

/* The sector's slot, or the free one where it would be. */
static uint32_t slot_of(uintptr_t sector) {
    uint32_t i = (uint32_t)((sector * UINT64_C(0x9E3779B97F4A7C15)) >> 32) % SLOTS;
    while (ahead.sectors[i] != 0 && ahead.sectors[i] != sector) i = (i + 1) % SLOTS;
    return i;
}

void sim_ahead_note(const void *at) {
    const uintptr_t sector = (uintptr_t)at / SECTOR_BYTES;
    const uint32_t i = slot_of(sector);
    if (ahead.sectors[i] != 0) return;
    if (ahead.count == SECTORS_MAX)
        SIM_FAIL(SIM_BAD_LAUNCH, "prefetches more than %d sectors", SECTORS_MAX);
    ahead.sectors[i] = sector;
    ahead.read[i] = false;
    ahead.used[ahead.count++] = (uint16_t)i;
}

void sim_ahead_load(const void *at) {
    if (ahead.count == 0) return;
    ahead.read[slot_of((uintptr_t)at / SECTOR_BYTES)] = true; /* of a free slot nobody asks */
}

void sim_ahead_flush(void) {
    sim_now.counters->prefetch_sectors += ahead.count;
    for (; ahead.count > 0; ahead.count--) {
        const uint32_t i = ahead.used[ahead.count - 1];
        sim_now.counters->prefetch_unread += !ahead.read[i];
        ahead.sectors[i] = 0;
    }
}
