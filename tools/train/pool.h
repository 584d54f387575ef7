/* pool.h - a loop over independent tasks, shared by a few threads.
 *
 * pool_run() calls the task once for each index and returns when all are done; the caller works
 * along.  Which thread gets which index is left to chance, so tasks must not care: each writes
 * memory of its own, in an order of its own.  Then the result is the same with any number of
 * threads.  Each thread has scratch memory, one for each `worker`.
 * Owner: the thread that created it; it alone calls pool_run(), never from within a task. */
#ifndef TRAIN_POOL_H
#define TRAIN_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { POOL_THREADS_MAX = 64 };

typedef struct pool pool;

typedef void (*pool_task)(void *arg, uint32_t index, void *scratch);

/* threads counts the caller.  ERR_NOMEM, ERR_LIMIT, or what starting a thread ends with. */
NODISCARD status pool_create(pool **out, uint32_t threads, size_t scratch_bytes, error *err);
/* Harmless on NULL. */
void pool_destroy(pool *p);

void pool_run(pool *p, uint32_t tasks, pool_task task, void *arg);

uint32_t pool_threads(const pool *p);

#endif
