/* cpu_pool.h - threads that compute one step together: fork, barriers inside, join.
 *
 * The calling thread is worker 0.  Waiting spins for microseconds, then parks, so an
 * idle pool costs nothing and a busy one loses no time.  Heap use inside a run aborts
 * (base/alloc.h).  Owner: the backend; run from one thread at a time. */
#ifndef BACKEND_CPU_CPU_POOL_H
#define BACKEND_CPU_CPU_POOL_H

#include <stdint.h>

#include "base/error.h"

typedef struct cpu_pool cpu_pool;

/* threads >= 1, the caller included. */
NODISCARD status cpu_pool_create(cpu_pool **out, uint32_t threads, error *err);
void cpu_pool_destroy(cpu_pool *pool);

/* Call run(ctx, worker) on every worker and wait for all of them. */
void cpu_pool_run(cpu_pool *pool, void (*run)(void *ctx, uint32_t worker), void *ctx);

/* Inside a run: wait until every worker is here.  All of them must call it equally often. */
void cpu_pool_barrier(cpu_pool *pool);

uint32_t cpu_pool_threads(const cpu_pool *pool);

#endif
