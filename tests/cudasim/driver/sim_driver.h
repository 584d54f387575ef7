/* sim_driver.h - what tests ask of the software GPU's driver beyond the CUDA driver API.
 *
 * Exported by tests/cudasim's libcuda.so.1 beside the cu* symbols; the real library has none of it.
 * All functions may be called from any thread.  `gpu` counts the topology's GPUs, whatever
 * CUDA_VISIBLE_DEVICES shows.
 *
 * How the software GPU is stricter than a real one:
 *   - a block that is freed, or a stream's pinned buffer that is given back, while work on it is
 *     still pending makes that work fail (700) instead of waiting for it;
 *   - modes "deferred" and "random" run nothing earlier than a dependency asks for: a host that
 *     reuses a pinned buffer before its event sees the mistake in the data;
 *   - fresh device memory and fresh pinned memory hold 0xFF bytes: NaN as f32, f16 and bf16;
 *   - what a launch that may start early does before it waits is a fault (cuda/ck.h), also where
 *     nothing is ahead of it that it could come before.
 * Where it knows less than a real one:
 *   - a fatbin's cubins are taken to come from CUDA 13 when their ELF ABI version is 8, and need
 *     "cuda" >= 13000 then; other versions load everywhere;
 *   - the branches of a captured graph run in the order in which they were captured;
 *   - a GPU in MIG mode is shown whole, and devices are in the topology's order, not the fastest
 *     first. */
#ifndef CUDASIM_SIM_DRIVER_H
#define CUDASIM_SIM_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cudasim/exec.h"

/* Back to how a new process finds the driver, on the machine that `cudasim` describes (as the
 * environment variable does; NULL: the variable).  Every handle and allocation is gone; the
 * counters are 0; CUDA_VISIBLE_DEVICES is read again.  No other thread may be in the driver. */
void sim_reset(const char *cudasim);

/* --- faults -------------------- */

/* A rule as in the topology, `at` counted from now: 1 is the next call (launch).  One of the names
 * is NULL.  A result that real drivers do not recover from (700, 719 ...) poisons the context. */
void sim_fault_add(const char *call, const char *kernel, uint64_t at, int result);
void sim_fault_clear(void);
/* The GPU falls off the bus: 999 from now on. */
void sim_lose_gpu(uint32_t gpu);
/* What the last fault of a kernel or a copy was; "" when there was none.  A line of it goes to
 * stderr unless told otherwise. */
const char *sim_fault_text(void);
void sim_fault_lines(bool on);

/* --- what was done -------------------- */

/* Calls of one symbol, as "cuMemAlloc_v2"; NULL: of all.  An unknown name gives UINT64_MAX. */
uint64_t sim_calls(const char *symbol);
/* Launches of one kernel that ran, those of graphs included; NULL: of all kernels. */
uint64_t sim_launches(const char *kernel);
/* Of them, those that could start before the launch ahead of them had ended. */
uint64_t sim_early_launches(const char *kernel);
/* Operations that were given to the default stream, which we never want to use. */
uint64_t sim_default_stream_uses(void);

/* Bytes that copies have brought to devices from the host, and to the host from devices. */
typedef struct sim_copied_bytes {
    uint64_t in, out;
} sim_copied_bytes;
sim_copied_bytes sim_copied(void);

typedef struct sim_memory_use {
    uint64_t asked_now, asked_peak; /* bytes, as asked for */
    uint64_t held_now, held_peak;   /* in units of 2 MiB, as cuMemGetInfo counts */
    uint64_t blocks;
} sim_memory_use;
sim_memory_use sim_memory(uint32_t gpu);

/* Allocations, of devices and of pinned memory, since the last mark. */
void sim_mark(void);
uint64_t sim_allocs_since_mark(void);

/* Handles and blocks which exist, or which their context's end took away: 0 after a clean end. */
uint64_t sim_leaks(void);
/* The table that CUDASIM_REPORT=1 prints to stderr at exit. */
void sim_report(void);

/* Counting of kernels' memory traffic: on at start with CUDASIM_COUNT=1.  false: that kernel has
 * not run while it was on.  Either out may be NULL. */
void sim_count(bool on);
bool sim_counted(const char *kernel, sim_counters *last, sim_counters *all);

#endif
