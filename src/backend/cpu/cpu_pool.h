/* cpu_pool.h - threads that compute one step together, phase by phase.
 *
 * A run is a list of phases; a phase is a number of independent units that workers claim, one
 * at a time or a part of those that are left.  A phase is over when all its units are done, not
 * when all workers are there: a worker that lost its core holds nobody up unless it is in the
 * middle of what it claimed, and when it comes back it runs through what is finished, or finds
 * that the run is over.
 * The calling thread is worker 0 and can do everything alone.
 *
 * Waiting spins for microseconds, then parks, so an idle pool costs nothing and a busy one
 * loses no time.  Heap use inside a run aborts (base/alloc.h).
 * Owner: the backend; runs are started from one thread. */
#ifndef BACKEND_CPU_CPU_POOL_H
#define BACKEND_CPU_CPU_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct cpu_pool cpu_pool;

/* One phase of a run.  `claim` is the run's number in the high half and the next unit in
 * the low one, so that a worker of an earlier run cannot claim a unit of this one. */
typedef struct cpu_phase {
    _Alignas(64) _Atomic uint64_t claim;
    _Atomic uint32_t units;
    _Atomic uint32_t parts; /* of the units that are left: one is a claim */
    _Alignas(64) _Atomic uint32_t done;
} cpu_phase;

/* threads >= 1, the caller included. */
NODISCARD status cpu_pool_create(cpu_pool **out, uint32_t threads, error *err);
void cpu_pool_destroy(cpu_pool *pool);
uint32_t cpu_pool_threads(const cpu_pool *pool);

/* The number of the run that cpu_pool_run() will start next; phases are opened with it. */
uint32_t cpu_pool_next_run(const cpu_pool *pool);
/* Before the run: the phase has so many units.  A claim takes one of `parts` >= 1 of those that are
 * left, or a single unit: with UINT32_MAX parts always that. */
void cpu_phase_open(cpu_phase *phase, uint32_t run, uint32_t units, uint32_t parts);

/* Call work(ctx, run, worker) on every worker.  Returns when the caller's own call does, which
 * must be after it waited for every phase; others may still be on their way out, or even in,
 * and touch nothing but the phases.  ctx and the phases live until cpu_pool_destroy(); a pool is
 * run with at most four different pairs of work and ctx. */
void cpu_pool_run(cpu_pool *pool, void (*work)(void *ctx, uint32_t run, uint32_t worker),
                  void *ctx);

/* --- inside work() --------------------------------------------------------------- */
/* Consecutive ones. */
typedef struct cpu_units {
    uint32_t first, count;
} cpu_units;

/* Take units; false when none is left or the run is over.  What the phase works on stays
 * as it is until the units are given back as done. */
bool cpu_phase_claim(cpu_phase *phase, uint32_t run, cpu_units *out);
void cpu_phase_done(cpu_pool *pool, cpu_phase *phase, uint32_t units);
/* Wait until all units are done; false when the run is over and the worker must leave. */
bool cpu_phase_wait(cpu_pool *pool, cpu_phase *phase, uint32_t run);

#endif
