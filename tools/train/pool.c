/* pool.c - see pool.h.
 *
 * A run is published by its number: workers wait until it is another one, then take indices
 * from a shared counter until there are none.  The counter is the only thing contended for.
 *   run     written under the lock; workers read it under the lock
 *   next    relaxed adds: an index is taken by exactly one thread, order does not matter
 *   busy    under the lock; 0 says that all writes of the run have happened before */
#include "train/pool.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/thread.h"

enum { SCRATCH_ALIGN = 64 };

typedef struct pool_worker {
    struct pool *pool;
    thread thread;
    void *scratch; /* owned */
} pool_worker;

struct pool {
    uint32_t threads; /* with the caller, who is worker 0 */
    pool_worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    uint64_t run;  /* number of the current one */
    uint32_t busy; /* workers that have not finished it */
    bool stop;
    pool_task task;
    void *arg;
    uint32_t tasks;
    _Atomic uint32_t next;
};

static void work(pool *p, void *scratch) {
    for (;;) {
        uint32_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->tasks) return;
        p->task(p->arg, i, scratch);
    }
}

/* Waits for a run after `seen`; false: it is time to stop. */
static bool wait_begin(pool *p, uint64_t *seen) {
    (void)pthread_mutex_lock(&p->lock);
    while (!p->stop && p->run == *seen) (void)pthread_cond_wait(&p->begin, &p->lock);
    *seen = p->run;
    bool go = !p->stop;
    (void)pthread_mutex_unlock(&p->lock);
    return go;
}

static void worker_main(void *arg) {
    pool_worker *w = arg;
    pool *p = w->pool;
    for (uint64_t seen = 0; wait_begin(p, &seen);) {
        work(p, w->scratch);
        (void)pthread_mutex_lock(&p->lock);
        if (--p->busy == 0) (void)pthread_cond_signal(&p->end);
        (void)pthread_mutex_unlock(&p->lock);
    }
}

void pool_run(pool *p, uint32_t tasks, pool_task task, void *arg) {
    p->task = task;
    p->arg = arg;
    p->tasks = tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    if (tasks > 1 && p->threads > 1) {
        (void)pthread_mutex_lock(&p->lock);
        p->run++;
        p->busy = p->threads - 1;
        (void)pthread_cond_broadcast(&p->begin);
        (void)pthread_mutex_unlock(&p->lock);
    }
    work(p, p->workers[0].scratch);
    if (tasks <= 1 || p->threads <= 1) return;
    (void)pthread_mutex_lock(&p->lock);
    while (p->busy > 0) (void)pthread_cond_wait(&p->end, &p->lock);
    (void)pthread_mutex_unlock(&p->lock);
}

static status start_workers(pool *p, size_t scratch_bytes, error *err) {
    for (uint32_t i = 0; i < p->threads; i++) {
        pool_worker *w = &p->workers[i];
        w->pool = p;
        w->scratch = mem_try_alloc_aligned(SCRATCH_ALIGN, num_align_size(scratch_bytes + 1, 64));
        if (w->scratch == NULL)
            return error_set(err, ERR_NOMEM, "train: no memory for %zu bytes of scratch",
                             scratch_bytes);
        if (i > 0) TRY(thread_start(&w->thread, "train", worker_main, w, err));
    }
    return OK;
}

status pool_create(pool **out, uint32_t threads, size_t scratch_bytes, error *err) {
    if (threads < 1 || threads > POOL_THREADS_MAX)
        return error_set(err, ERR_LIMIT, "train: %u threads, must be 1 to %d", threads,
                         POOL_THREADS_MAX);
    pool *p = mem_try_calloc(1, sizeof *p);
    if (p == NULL) return error_set(err, ERR_NOMEM, "train: no memory for threads");
    p->threads = threads;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->begin, NULL);
    (void)pthread_cond_init(&p->end, NULL);
    p->workers = mem_calloc(threads, sizeof *p->workers);
    status st = start_workers(p, scratch_bytes, err);
    if (st != OK) {
        pool_destroy(p);
        return st;
    }
    *out = p;
    return OK;
}

void pool_destroy(pool *p) {
    if (p == NULL) return;
    (void)pthread_mutex_lock(&p->lock);
    p->stop = true;
    (void)pthread_cond_broadcast(&p->begin);
    (void)pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->threads; i++) {
        if (i > 0) thread_join(&p->workers[i].thread);
        mem_free(p->workers[i].scratch);
    }
    (void)pthread_cond_destroy(&p->begin);
    (void)pthread_cond_destroy(&p->end);
    (void)pthread_mutex_destroy(&p->lock);
    mem_free(p->workers);
    mem_free(p);
}

uint32_t pool_threads(const pool *p) { return p->threads; }
