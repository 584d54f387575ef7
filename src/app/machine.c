/* machine.c - see machine.h. */
#include "app/machine.h"

#include <string.h>

#include "backend/cpu/cpu_pool.h"
#include "base/os.h"

enum { SWEEPS = 3, LINE_WORDS = 8 };
static const size_t sweep_bytes = (size_t)1 << 30;

typedef struct sweep {
    cpu_phase phase; /* one unit per thread: its share of the memory */
    cpu_pool *pool;
    const uint64_t *words;
    size_t share_words;
    _Atomic uint64_t sum; /* so that no read can be left out */
} sweep;

/* Read one share in whole cache lines; eight independent sums keep the loads in flight. */
static uint64_t read_share(const uint64_t *p, size_t words) {
    uint64_t sum[LINE_WORDS] = {0};
    for (size_t i = 0; i < words; i += LINE_WORDS)
        for (size_t k = 0; k < LINE_WORDS; k++) sum[k] += p[i + k];
    for (int k = 1; k < LINE_WORDS; k++) sum[0] ^= sum[k];
    return sum[0];
}

static void read_shares(void *ctx, uint32_t run, uint32_t worker) {
    sweep *s = ctx;
    uint32_t unit = 0;
    (void)worker;
    while (cpu_phase_claim(&s->phase, run, &unit)) {
        s->sum += read_share(s->words + unit * s->share_words, s->share_words);
        cpu_phase_done(s->pool, &s->phase);
    }
    (void)cpu_phase_wait(s->pool, &s->phase, run);
}

static double sweep_rate(sweep *s) {
    uint64_t start_ns = os_now_ns();
    cpu_phase_open(&s->phase, cpu_pool_next_run(s->pool), cpu_pool_threads(s->pool));
    cpu_pool_run(s->pool, read_shares, s);
    return (double)sweep_bytes * 1e9 / (double)(os_now_ns() - start_ns);
}

status machine_read_sweep(uint32_t threads, double *bytes_per_s, error *err) {
    void *memory = NULL;
    sweep s = {0};
    TRY(os_map_pages(sweep_bytes, &memory, err));
    status st = cpu_pool_create(&s.pool, threads, err);
    if (st == OK) {
        s.words = memory;
        s.share_words = sweep_bytes / sizeof(uint64_t) / threads / LINE_WORDS * LINE_WORDS;
        memset(memory, 1, sweep_bytes); /* every page is there before the clock runs */
        *bytes_per_s = 0;
        for (int i = 0; i < SWEEPS; i++) {
            double rate = sweep_rate(&s);
            if (rate > *bytes_per_s) *bytes_per_s = rate;
        }
    }
    cpu_pool_destroy(s.pool);
    os_unmap(memory, sweep_bytes);
    return st;
}
