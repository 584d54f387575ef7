/* cpu_pool.c - see cpu_pool.h.
 *
 * Ordering: a run is published by the release increment of `run_seq` and taken with an
 * acquire load, so run/ctx and everything the caller wrote before are visible to the
 * workers.  Each barrier is an acq_rel counter plus a release store of `barrier_seq`
 * that the waiters load with acquire: what any worker wrote before a barrier is visible
 * to all after it.  The join is a barrier too.
 * Parking: a waiter re-checks the sequence under the mutex before it sleeps and the
 * waker takes the mutex when anyone is parked, so no wake-up is lost. */
#include "backend/cpu/cpu_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/thread.h"

enum {
    SPINS_MAX = 4000, /* about 50 us of pauses, longer than the gap between two phases */
    CACHE_LINE = 64,
};

struct cpu_pool {
    uint32_t threads;
    void (*run)(void *, uint32_t);
    void *ctx;
    _Alignas(CACHE_LINE) _Atomic uint32_t run_seq;
    _Alignas(CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(CACHE_LINE) _Atomic uint32_t barrier_seq;
    _Alignas(CACHE_LINE) _Atomic uint32_t parked;
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pool_worker {
        cpu_pool *pool;
        uint32_t idx;
        thread thread;
    } workers[]; /* [threads]; 0 is the caller's and has no thread */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until *seq is no longer `old`. */
static void await(cpu_pool *pool, _Atomic uint32_t *seq, uint32_t old) {
    for (uint32_t i = 0; i < SPINS_MAX; i++) {
        if (atomic_load_explicit(seq, memory_order_acquire) != old) return;
        pause_cpu();
    }
    (void)pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->parked, 1);
    while (atomic_load(seq) == old) (void)pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->parked, 1);
    (void)pthread_mutex_unlock(&pool->lock);
}

/* Move *seq on and wake whoever sleeps. */
static void advance(cpu_pool *pool, _Atomic uint32_t *seq) {
    atomic_fetch_add(seq, 1);
    if (atomic_load(&pool->parked) == 0) return;
    (void)pthread_mutex_lock(&pool->lock);
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
}

void cpu_pool_barrier(cpu_pool *pool) {
    if (pool->threads == 1) return;
    uint32_t seq = atomic_load_explicit(&pool->barrier_seq, memory_order_relaxed);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == pool->threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        advance(pool, &pool->barrier_seq);
    } else {
        await(pool, &pool->barrier_seq, seq);
    }
}

static void worker_main(void *arg) {
    struct pool_worker *w = arg;
    cpu_pool *pool = w->pool;
    mem_freeze("step");
    for (uint32_t seq = 0;; seq++) {
        await(pool, &pool->run_seq, seq);
        if (atomic_load(&pool->stop)) break;
        pool->run(pool->ctx, w->idx);
        cpu_pool_barrier(pool);
    }
    mem_thaw();
}

void cpu_pool_run(cpu_pool *pool, void (*run)(void *, uint32_t), void *ctx) {
    pool->run = run;
    pool->ctx = ctx;
    if (pool->threads > 1) advance(pool, &pool->run_seq);
    run(ctx, 0);
    cpu_pool_barrier(pool);
}

status cpu_pool_create(cpu_pool **out, uint32_t threads, error *err) {
    ASSERT(threads >= 1);
    size_t bytes = sizeof(cpu_pool) + threads * sizeof(struct pool_worker);
    cpu_pool *pool = mem_try_alloc_aligned(CACHE_LINE, bytes);
    if (pool == NULL) return error_set(err, ERR_NOMEM, "cpu pool: no memory");
    *pool = (cpu_pool){.threads = threads};
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    status st = OK;
    for (uint32_t i = 0; i < threads; i++)
        pool->workers[i] = (struct pool_worker){.pool = pool, .idx = i};
    for (uint32_t i = 1; i < threads && st == OK; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "cpu %u", i);
        st = thread_start(&pool->workers[i].thread, name, worker_main, &pool->workers[i], err);
    }
    if (st != OK) {
        cpu_pool_destroy(pool);
        return st;
    }
    *out = pool;
    return OK;
}

void cpu_pool_destroy(cpu_pool *pool) {
    if (pool == NULL) return;
    atomic_store(&pool->stop, true);
    advance(pool, &pool->run_seq);
    for (uint32_t i = 1; i < pool->threads; i++) thread_join(&pool->workers[i].thread);
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

uint32_t cpu_pool_threads(const cpu_pool *pool) { return pool->threads; }
