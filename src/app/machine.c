/* machine.c - see machine.h. */
#include "app/machine.h"

#include <string.h>

#include "backend/cpu/cpu_pool.h"
#include "base/os.h"

enum { SWEEPS = 3, LINE_WORDS = 8, LINES_PER_TURN = 8, TURN_WORDS = LINE_WORDS * LINES_PER_TURN };
static const size_t sweep_bytes = (size_t)1 << 30;

typedef struct sweep {
    const uint64_t *words;
    size_t count;
    uint32_t threads;
    uint64_t sums[64]; /* per worker, so that no read can be left out */
} sweep;

/* Read our share in whole cache lines; eight independent sums keep the loads in flight. */
static void read_share(void *ctx, uint32_t worker) {
    sweep *s = ctx;
    size_t share = s->count / s->threads / TURN_WORDS;
    const uint64_t *p = s->words + worker * share * TURN_WORDS;
    uint64_t sum[LINE_WORDS] = {0};
    for (size_t i = 0; i < share * LINES_PER_TURN; i++, p += LINE_WORDS)
        for (int k = 0; k < LINE_WORDS; k++) sum[k] += p[k];
    for (int k = 1; k < LINE_WORDS; k++) sum[0] ^= sum[k];
    s->sums[worker % 64] = sum[0];
}

status machine_read_sweep(uint32_t threads, double *bytes_per_s, error *err) {
    void *memory = NULL;
    cpu_pool *pool = NULL;
    TRY(os_map_pages(sweep_bytes, &memory, err));
    status st = cpu_pool_create(&pool, threads, err);
    if (st == OK) {
        sweep s = {.words = memory, .count = sweep_bytes / sizeof(uint64_t), .threads = threads};
        double best = 0;
        memset(memory, 1, sweep_bytes); /* every page is there before the clock runs */
        for (int i = 0; i < SWEEPS; i++) {
            uint64_t start_ns = os_now_ns();
            cpu_pool_run(pool, read_share, &s);
            double rate = (double)sweep_bytes * 1e9 / (double)(os_now_ns() - start_ns);
            if (rate > best) best = rate;
        }
        *bytes_per_s = best;
    }
    cpu_pool_destroy(pool);
    os_unmap(memory, sweep_bytes);
    return st;
}
