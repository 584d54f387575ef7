/* run.c - a launch: its checks, its blocks one after the other, its fault in words. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "cudasim/exec/exec_internal.h"

enum { ARGS_BYTES_MAX = 4096, GRID_YZ_MAX = 65535 };

sim_job sim_now;
static atomic_flag busy = ATOMIC_FLAG_INIT; /* one launch at a time */
static _Alignas(16) unsigned char args_copy[ARGS_BYTES_MAX];

void sim_explain(sim_fault fault, bool of_thread, const char *format, ...) {
    sim_now.fault = fault;
    if (sim_now.why_bytes == 0) return;
    const char *name = sim_now.kernel != NULL ? sim_now.kernel->name : "no kernel";
    int used = snprintf(sim_now.why, sim_now.why_bytes, "%s, block (%u, %u, %u)", name,
                        sim_here.bid[0], sim_here.bid[1], sim_here.bid[2]);
    size_t at = (size_t)used;
    if (of_thread && at < sim_now.why_bytes)
        at +=
            (size_t)snprintf(sim_now.why + at, sim_now.why_bytes - at, ", thread %u", sim_here.tid);
    if (at < sim_now.why_bytes)
        at += (size_t)snprintf(sim_now.why + at, sim_now.why_bytes - at, ": ");
    if (at >= sim_now.why_bytes) return;
    va_list values;
    va_start(values, format);
    (void)vsnprintf(sim_now.why + at, sim_now.why_bytes - at, format, values);
    va_end(values);
}

/* NULL: the launch may begin. */
static const char *launch_refused(const sim_launch *l) {
    const sim_kernel *k = l->kernel;
    if (k == NULL) return "there is no such kernel";
    if (l->args == NULL || k->args_bytes > ARGS_BYTES_MAX) return "its arguments are missing";
    for (int i = 0; i < 3; i++)
        if (l->grid[i] == 0 || l->block[i] == 0) return "a dimension is 0";
    if (l->grid[0] > INT32_MAX) return "the grid is wider than 2147483647";
    if (l->grid[1] > GRID_YZ_MAX || l->grid[2] > GRID_YZ_MAX)
        return "the grid is higher than 65535";
    if (l->block[1] != 1 || l->block[2] != 1) return "a block has one dimension, by our rules";
    if (l->block[0] > k->threads_max) return "a block has more threads than the launch bound";
    if (l->block[0] > SIM_BLOCK_THREADS_MAX) return "a block has more than 1024 threads";
    if (l->shared_bytes > l->shared_max) return "a block asks for more shared memory than it may";
    return NULL;
}

static bool run_blocks(const sim_launch *l) {
    uint64_t number = 0;
    for (uint32_t z = 0; z < l->grid[2]; z++)
        for (uint32_t y = 0; y < l->grid[1]; y++)
            for (uint32_t x = 0; x < l->grid[0]; x++) {
                sim_here.bid[0] = x;
                sim_here.bid[1] = y;
                sim_here.bid[2] = z;
                if (!sim_block_run(number++)) return false;
            }
    return true;
}

static void begin(const sim_launch *l, sim_counters *counters) {
    memcpy(args_copy, l->args, l->kernel->args_bytes);
    sim_now.args = args_copy;
    sim_here.bdim = l->block[0];
    memcpy(sim_here.gdim, l->grid, sizeof sim_here.gdim);
    sim_here.counting = counters != NULL;
}

static void run(const sim_launch *l, sim_counters *counters) {
    memset(sim_here.bid, 0, sizeof sim_here.bid);
    const char *refused = launch_refused(l);
    if (refused != NULL) {
        sim_explain(SIM_BAD_LAUNCH, false, "%s", refused);
        return;
    }
    begin(l, counters);
    if (!sim_memory_begin(counters != NULL) || !sim_shared_prepare(l->shared_max) ||
        !sim_block_prepare(l->block[0])) {
        sim_explain(SIM_BAD_LAUNCH, false, "no memory for %u threads and %u shared bytes",
                    l->block[0], l->shared_max);
        return;
    }
    (void)run_blocks(l);
    sim_block_finish();
    if (counters != NULL) sim_sectors_forget();
}

sim_fault sim_run(const sim_launch *launch, sim_counters *counters, char *why, size_t why_bytes) {
    if (atomic_flag_test_and_set(&busy)) {
        if (why_bytes > 0) (void)snprintf(why, why_bytes, "another launch is under way");
        return SIM_BAD_LAUNCH;
    }
    sim_now = (sim_job){.kernel = launch->kernel,
                        .launch = launch,
                        .counters = counters,
                        .why = why,
                        .why_bytes = why_bytes};
    if (counters != NULL) *counters = (sim_counters){0};
    if (why_bytes > 0) why[0] = '\0';
    run(launch, counters);
    sim_fault fault = sim_now.fault;
    atomic_flag_clear(&busy);
    return fault;
}

void sim_count_dp4a(void) { sim_now.counters->dp4a++; }
