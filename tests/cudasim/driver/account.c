/* account.c - what tests want to know afterwards: launches and counters of each kernel, what was
 * copied, allocations since a mark, what was left behind. */
#include "cudasim/driver/sim_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KERNELS_MAX = 512 };

typedef struct kernel_account {
    const char *name; /* of the executor's table */
    uint64_t asked;   /* cuLaunchKernel calls, those in captures included */
    uint64_t launches, counted;
    uint64_t early; /* of launches */
    sim_counters last, all;
} kernel_account;

static kernel_account kernels[KERNELS_MAX];
static uint32_t kernels_count;
static uint64_t launches_total, early_total, takes_at_mark, leaked_before;
static sim_copied_bytes copied;
static bool counting, reports;

/* --- kernels -------------------- */

/* NULL: not seen yet, or there are more kernels than the table has rows. */
static kernel_account *find_account(const char *name) {
    for (uint32_t i = 0; i < kernels_count; i++) {
        if (strcmp(kernels[i].name, name) == 0) return &kernels[i];
    }
    return NULL;
}

static kernel_account *account_of(const char *name) {
    kernel_account *k = find_account(name);
    if (k != NULL) return k;
    if (kernels_count == KERNELS_MAX) {
        (void)fprintf(stderr, "cudasim: more than %d kernels\n", KERNELS_MAX);
        abort();
    }
    k = &kernels[kernels_count++];
    *k = (kernel_account){.name = name};
    return k;
}

uint64_t account_ask(const char *kernel) { return ++account_of(kernel)->asked; }

uint64_t account_asked(const char *kernel) {
    const kernel_account *k = find_account(kernel);
    return k == NULL ? 0 : k->asked;
}

uint64_t account_launch(const char *kernel, bool early) {
    kernel_account *k = account_of(kernel);
    launches_total++;
    early_total += early;
    k->early += early;
    return ++k->launches;
}

uint64_t account_launches(const char *kernel) {
    const kernel_account *k = find_account(kernel);
    return k == NULL ? 0 : k->launches;
}

bool account_is_counting(void) { return counting; }

static void counters_add(sim_counters *sum, const sim_counters *c) {
    sum->load_bytes += c->load_bytes;
    sum->store_bytes += c->store_bytes;
    sum->streamed_bytes += c->streamed_bytes;
    sum->load_sectors += c->load_sectors;
    sum->store_sectors += c->store_sectors;
    sum->shared_conflicts += c->shared_conflicts;
    sum->barriers += c->barriers;
    sum->warp_ops += c->warp_ops;
    sum->dp4a += c->dp4a;
    sum->mma += c->mma;
    sum->prefetch_sectors += c->prefetch_sectors;
    sum->prefetch_unread += c->prefetch_unread;
}

void account_counters(const char *kernel, const sim_counters *counters) {
    kernel_account *k = account_of(kernel);
    k->counted++;
    k->last = *counters;
    counters_add(&k->all, counters);
}

uint64_t sim_launches(const char *kernel) {
    sim_lock();
    uint64_t launches = kernel == NULL ? launches_total : account_launches(kernel);
    sim_unlock();
    return launches;
}

uint64_t sim_early_launches(const char *kernel) {
    sim_lock();
    const kernel_account *k = kernel == NULL ? NULL : find_account(kernel);
    uint64_t early = kernel == NULL ? early_total : k == NULL ? 0 : k->early;
    sim_unlock();
    return early;
}

void sim_count(bool on) {
    sim_lock();
    counting = on;
    sim_unlock();
}

bool sim_counted(const char *kernel, sim_counters *last, sim_counters *all) {
    sim_lock();
    const kernel_account *k = find_account(kernel);
    bool was_counted = k != NULL && k->counted > 0;
    if (was_counted && last != NULL) *last = k->last;
    if (was_counted && all != NULL) *all = k->all;
    sim_unlock();
    return was_counted;
}

/* --- copies -------------------- */

void account_copied(sim_place to, sim_place from, uint64_t bytes) {
    if (from != PLACE_DEVICE) copied.in += bytes;
    if (to != PLACE_DEVICE) copied.out += bytes;
}

sim_copied_bytes sim_copied(void) {
    sim_lock();
    sim_copied_bytes all = copied;
    sim_unlock();
    return all;
}

/* --- allocations -------------------- */

void sim_mark(void) {
    sim_lock();
    takes_at_mark = memory_takes;
    sim_unlock();
}

uint64_t sim_allocs_since_mark(void) {
    sim_lock();
    uint64_t takes = memory_takes - takes_at_mark;
    sim_unlock();
    return takes;
}

/* --- what is left -------------------- */

void account_leaked(uint64_t objects) { leaked_before += objects; }

static uint64_t count_leaks(void) {
    uint64_t leaks = leaked_before + memory_host_blocks();
    for (uint32_t i = 0; i < sim.topology->gpus_count; i++)
        leaks += sim.devices[i].memory.blocks + sim.devices[i].refs;
    for (int kind = SIM_CONTEXT + 1; kind < SIM_KINDS_COUNT; kind++) {
        if (kind != SIM_FUNCTION) leaks += sim_handle_count((sim_kind)kind);
    }
    return leaks;
}

uint64_t sim_leaks(void) {
    sim_lock();
    uint64_t leaks = count_leaks();
    sim_unlock();
    return leaks;
}

/* --- the report -------------------- */

static void report_devices(void) {
    for (uint32_t i = 0; i < sim.topology->gpus_count; i++) {
        const sim_memory_use *use = &sim.devices[i].memory;
        (void)fprintf(stderr,
                      "  gpu %u: peak_bytes=%" PRIu64 " held_peak_bytes=%" PRIu64
                      " left_blocks=%" PRIu64 " left_bytes=%" PRIu64 " context_refs=%u\n",
                      i, use->asked_peak, use->held_peak, use->blocks, use->asked_now,
                      sim.devices[i].refs);
    }
}

static void report_left(void) {
    static const char *const names[SIM_KINDS_COUNT] = {[SIM_MODULE] = "modules",
                                                       [SIM_STREAM] = "streams",
                                                       [SIM_EVENT] = "events",
                                                       [SIM_GRAPH] = "graphs",
                                                       [SIM_EXEC] = "executable graphs"};
    for (int kind = SIM_CONTEXT; kind < SIM_KINDS_COUNT; kind++) {
        uint64_t left = names[kind] == NULL ? 0 : sim_handle_count((sim_kind)kind);
        if (left > 0) (void)fprintf(stderr, "  left: %" PRIu64 " %s\n", left, names[kind]);
    }
    uint64_t host = memory_host_blocks();
    if (host > 0) (void)fprintf(stderr, "  left: %" PRIu64 " blocks of pinned memory\n", host);
    if (leaked_before > 0)
        (void)fprintf(stderr, "  left: %" PRIu64 " objects at the end of their context\n",
                      leaked_before);
}

static void report_kernel(const kernel_account *k) {
    (void)fprintf(stderr, "  %-32s launches=%" PRIu64, k->name, k->launches);
    if (k->counted > 0)
        (void)fprintf(stderr,
                      " load_bytes=%" PRIu64 " store_bytes=%" PRIu64 " load_sectors=%" PRIu64
                      " conflicts=%" PRIu64,
                      k->all.load_bytes, k->all.store_bytes, k->all.load_sectors,
                      k->all.shared_conflicts);
    (void)fputc('\n', stderr);
}

void sim_report(void) {
    sim_lock();
    (void)fprintf(stderr,
                  "cudasim: launches=%" PRIu64 " early=%" PRIu64 " allocations=%" PRIu64
                  " default_stream=%" PRIu64 " leaks=%" PRIu64 " copied_in=%" PRIu64
                  " copied_out=%" PRIu64 "\n",
                  launches_total, early_total, memory_takes, sim.default_stream_uses, count_leaks(),
                  copied.in, copied.out);
    report_devices();
    report_left();
    for (uint32_t i = 0; i < kernels_count; i++) report_kernel(&kernels[i]);
    const char *name;
    for (uint32_t i = 0; i < SIM_CALLS_COUNT; i++) {
        uint64_t calls = entry_calls(i, &name);
        if (calls > 0) (void)fprintf(stderr, "  %-44s calls=%" PRIu64 "\n", name, calls);
    }
    sim_unlock();
}

static bool is_set(const char *variable) {
    const char *value = getenv(variable);
    return value != NULL && strcmp(value, "1") == 0;
}

void account_reset(void) {
    kernels_count = 0;
    launches_total = early_total = takes_at_mark = leaked_before = 0;
    copied = (sim_copied_bytes){0};
    counting = is_set("CUDASIM_COUNT");
}

__attribute__((constructor)) static void read_environment(void) {
    counting = is_set("CUDASIM_COUNT");
    reports = is_set("CUDASIM_REPORT");
}

__attribute__((destructor)) static void report_at_exit(void) {
    if (reports && sim.ready) sim_report();
}
