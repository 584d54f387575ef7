/* cpu_pool.c - see cpu_pool.h.
 *
 * Ordering.  A run is published by the release increment of `run_seq`; workers load it with
 * acquire, so everything the caller wrote before is visible to them.  A unit's results are
 * published by the increment of `done` and taken by the acquire load that sees the phase
 * complete.  A claim succeeds only while the run lasts: the caller opens the next run's
 * phases after every unit of this one is done, and from then on the number in `claim`
 * differs.
 * What a run calls is one pointer to a pair that never changes: a worker that comes late sees the
 * function and the context of one run or of another, never a mixture, and finds its own run over.
 * Parking.  A waiter announces itself in `parked` before it looks a last time; a waker changes
 * the state before it looks at `parked`.  Both are sequentially consistent, so one of the
 * two sees the other. */
#include "backend/cpu/cpu_pool.h"

#include <pthread.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/thread.h"

enum {
    SPINS_MAX = 4000, /* about 50 us of pauses, longer than the gap between two phases */
    CACHE_LINE = 64,
    JOBS_MAX = 4, /* different things a pool is for */
};

typedef struct pool_job {
    void (*work)(void *ctx, uint32_t run, uint32_t worker);
    void *ctx;
} pool_job;

struct cpu_pool {
    uint32_t threads;
    pool_job jobs[JOBS_MAX]; /* [jobs_count] the caller's */
    uint32_t jobs_count;
    _Atomic(const pool_job *) job; /* of the last run; one of jobs */
    _Alignas(CACHE_LINE) _Atomic uint32_t run_seq;
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

/* --- waiting -------------------- */

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

typedef bool ready_fn(const void *what, uint32_t number);

/* Wait until ready(what, number): spin, then park. */
static void await(cpu_pool *pool, ready_fn *ready, const void *what, uint32_t number) {
    for (uint32_t i = 0; i < SPINS_MAX; i++) {
        if (ready(what, number)) return;
        pause_cpu();
    }
    (void)pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->parked, 1);
    while (!ready(what, number)) (void)pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->parked, 1);
    (void)pthread_mutex_unlock(&pool->lock);
}

/* The state has changed: wake whoever sleeps. */
static void wake_parked(cpu_pool *pool) {
    if (atomic_load(&pool->parked) == 0) return;
    (void)pthread_mutex_lock(&pool->lock);
    (void)pthread_cond_broadcast(&pool->wake);
    (void)pthread_mutex_unlock(&pool->lock);
}

/* --- phases -------------------- */

static uint32_t run_of(uint64_t claim) { return (uint32_t)(claim >> 32); }

void cpu_phase_open(cpu_phase *phase, uint32_t run, uint32_t units, uint32_t parts) {
    /* First nobody can claim, then the counts change, then this run can. */
    atomic_store(&phase->claim, (uint64_t)run << 32 | UINT32_MAX);
    atomic_store(&phase->units, units);
    atomic_store(&phase->parts, parts);
    atomic_store(&phase->done, 0);
    atomic_store(&phase->claim, (uint64_t)run << 32);
}

bool cpu_phase_claim(cpu_phase *phase, uint32_t run, cpu_units *out) {
    uint64_t claim = atomic_load(&phase->claim);
    for (;;) {
        const uint32_t first = (uint32_t)claim, units = atomic_load(&phase->units);
        if (run_of(claim) != run || first >= units) return false;
        /* these are of another run only if the claim is no longer the one we saw */
        const uint32_t count = num_max_u32((units - first) / atomic_load(&phase->parts), 1);
        if (atomic_compare_exchange_weak(&phase->claim, &claim, claim + count)) {
            *out = (cpu_units){first, count};
            return true;
        }
    }
}

void cpu_phase_done(cpu_pool *pool, cpu_phase *phase, uint32_t units) {
    uint32_t all = atomic_load(&phase->units); /* cannot change while our units are out */
    if (atomic_fetch_add(&phase->done, units) + units == all) wake_parked(pool);
}

static bool phase_is_over(const void *what, uint32_t run) {
    const cpu_phase *phase = what;
    return atomic_load(&phase->done) >= atomic_load(&phase->units) ||
           run_of(atomic_load(&phase->claim)) != run;
}

bool cpu_phase_wait(cpu_pool *pool, cpu_phase *phase, uint32_t run) {
    await(pool, phase_is_over, phase, run);
    return run_of(atomic_load(&phase->claim)) == run;
}

/* --- runs -------------------- */

static bool run_has_begun(const void *what, uint32_t last) {
    return atomic_load((const _Atomic uint32_t *)what) != last;
}

static void worker_main(void *arg) {
    struct pool_worker *w = arg;
    cpu_pool *pool = w->pool;
    uint32_t run = 0;
    mem_freeze("step");
    for (;;) {
        await(pool, run_has_begun, &pool->run_seq, run);
        run = atomic_load(&pool->run_seq);   /* runs that were missed are over */
        if (atomic_load(&pool->stop)) break; /* set before the number by which it is seen */
        const pool_job *job = atomic_load(&pool->job);
        job->work(job->ctx, run, w->idx);
    }
    mem_thaw();
}

uint32_t cpu_pool_next_run(const cpu_pool *pool) {
    return atomic_load_explicit(&pool->run_seq, memory_order_relaxed) + 1;
}

/* The pair, which is kept as long as the pool. */
static const pool_job *job_of(cpu_pool *pool, pool_job wanted) {
    for (uint32_t i = 0; i < pool->jobs_count; i++)
        if (pool->jobs[i].work == wanted.work && pool->jobs[i].ctx == wanted.ctx)
            return &pool->jobs[i];
    ASSERT(pool->jobs_count < JOBS_MAX);
    pool->jobs[pool->jobs_count] = wanted;
    return &pool->jobs[pool->jobs_count++];
}

void cpu_pool_run(cpu_pool *pool, void (*work)(void *ctx, uint32_t run, uint32_t worker),
                  void *ctx) {
    uint32_t run = cpu_pool_next_run(pool);
    atomic_store(&pool->job, job_of(pool, (pool_job){work, ctx}));
    atomic_store(&pool->run_seq, run);
    wake_parked(pool);
    work(ctx, run, 0);
}

/* --- life cycle -------------------- */

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
    atomic_fetch_add(&pool->run_seq, 1);
    wake_parked(pool);
    for (uint32_t i = 1; i < pool->threads; i++) thread_join(&pool->workers[i].thread);
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

uint32_t cpu_pool_threads(const cpu_pool *pool) { return pool->threads; }
