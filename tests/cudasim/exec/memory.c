/* memory.c - global memory as kernels may touch it: the ranges that were told, and the check.
 *
 * A launch works on a copy of the ranges as they were when it began, so that other threads may
 * allocate meanwhile.  Nearly all accesses end in device code, in one compare with the span that an
 * address's page hashes to; what is not there, everything while accesses are counted, and all that
 * a thread does that may not touch memory yet, comes to sim_touch(). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cudasim/exec/exec_internal.h"

typedef struct range_table {
    sim_span *spans; /* owned; ascending, none overlap */
    size_t count, room;
} range_table;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static range_table told;     /* under the lock */
static uint64_t told_change; /* under the lock */

static range_table known; /* of the launch */
static uint64_t known_change;
static sim_span recent[SIM_SPANS]; /* {0, 0}: nothing yet */
static const sim_span none[SIM_SPANS];

/* --- telling -------------------- */

/* How many ranges begin at or below `at`. */
static size_t count_until(const range_table *t, uintptr_t at) {
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->spans[middle].first <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool room_for(range_table *t, size_t count) {
    if (count <= t->room) return true;
    size_t room = count * 2;
    sim_span *spans = realloc(t->spans, room * sizeof *spans);
    if (spans == NULL) return false;
    t->spans = spans;
    t->room = room;
    return true;
}

void sim_memory_add(const void *at, size_t bytes) {
    if (bytes == 0) return;
    uintptr_t first = (uintptr_t)at;
    (void)pthread_mutex_lock(&lock);
    if (!room_for(&told, told.count + 1)) abort();
    size_t i = count_until(&told, first);
    memmove(told.spans + i + 1, told.spans + i, (told.count - i) * sizeof *told.spans);
    told.spans[i] = (sim_span){first, first + bytes};
    told.count++;
    told_change++;
    (void)pthread_mutex_unlock(&lock);
}

void sim_memory_remove(const void *at) {
    (void)pthread_mutex_lock(&lock);
    size_t i = count_until(&told, (uintptr_t)at);
    if (i > 0 && told.spans[i - 1].first == (uintptr_t)at) {
        memmove(told.spans + i - 1, told.spans + i, (told.count - i) * sizeof *told.spans);
        told.count--;
        told_change++;
    }
    (void)pthread_mutex_unlock(&lock);
}

/* --- of a launch -------------------- */

bool sim_memory_begin(bool counting) {
    (void)pthread_mutex_lock(&lock);
    bool ok = room_for(&known, told.count);
    if (ok && known_change != told_change) {
        if (told.count > 0) memcpy(known.spans, told.spans, told.count * sizeof *told.spans);
        known.count = told.count;
        known_change = told_change;
        memset(recent, 0, sizeof recent);
    }
    (void)pthread_mutex_unlock(&lock);
    sim_here.spans = counting ? none : recent;
    return ok;
}

/* The range that begins next below; NULL: none does. */
static const sim_span *range_below(uintptr_t at) {
    size_t i = count_until(&known, at);
    return i > 0 ? &known.spans[i - 1] : NULL;
}

static const char *access_name(sim_access access) {
    if (access == SIM_PREFETCH) return "prefetch";
    return access == SIM_STORE ? "store" : access == SIM_ATOMIC ? "atomic" : "load";
}

static void explain_illegal(uintptr_t at, uint32_t bytes, sim_access access) {
    const sim_span *below = range_below(at);
    if (below == NULL)
        SIM_FAIL(SIM_ILLEGAL_ADDRESS, "%s of %u bytes at %#zx, where nothing is allocated",
                 access_name(access), bytes, (size_t)at);
    SIM_FAIL(SIM_ILLEGAL_ADDRESS,
             "%s of %u bytes at %#zx, which is at byte %zu of the %zu allocated at %#zx",
             access_name(access), bytes, (size_t)at, (size_t)(at - below->first),
             (size_t)(below->end - below->first), (size_t)below->first);
}

static void count_bytes(sim_counters *c, uint32_t bytes, sim_access access) {
    if (access != SIM_STORE) c->load_bytes += bytes;
    if (access == SIM_STORE || access == SIM_ATOMIC) c->store_bytes += bytes;
    if (access == SIM_LOAD_STREAMED) c->streamed_bytes += bytes;
}

static void check_range(uintptr_t at, uint32_t bytes, sim_access access) {
    sim_span *recently = &recent[(at >> SIM_SPAN_SHIFT) % SIM_SPANS];
    if (at >= recently->first && at + bytes <= recently->end) return;
    const sim_span *range = range_below(at);
    if (range == NULL || at + bytes > range->end) explain_illegal(at, bytes, access);
    *recently = *range;
}

void sim_touch(const void *p, uint32_t bytes, sim_access access) {
    uintptr_t at = (uintptr_t)p;
    if (!sim_block_may_touch())
        SIM_FAIL(SIM_TOO_EARLY, "%s of %u bytes at %#zx before its ck_pdl_wait",
                 access_name(access), bytes, (size_t)at);
    if (at % bytes != 0)
        SIM_FAIL(SIM_MISALIGNED, "%s of %u bytes at %#zx, which is no multiple of %u",
                 access_name(access), bytes, (size_t)at, bytes);
    check_range(at, bytes, access);
    if (sim_now.counters == NULL) return;
    count_bytes(sim_now.counters, bytes, access);
    if (access != SIM_STORE) sim_ahead_load(p);
    sim_sectors_note(sim_here.tid, __builtin_return_address(0), p, access);
}

/* On a GPU a prefetch of nothing is no fault; here it is a mistake. */
void sim_prefetch(const void *p) {
    check_range((uintptr_t)p, 1, SIM_PREFETCH);
    if (sim_now.counters != NULL) sim_ahead_note(p);
}
