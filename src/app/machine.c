/* machine.c - see machine.h: memory, threads and clock around the loops. */
#include "app/machine.h"

#include <stdatomic.h>
#include <string.h>

#include "app/machine_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "base/thread.h"

enum { PERIODS = 5, LEAD_NS = 2000000, PERIOD_NS = 40000000 };
static const size_t read_bytes_min = (size_t)1 << 30;

struct machine {
    machine_loop loops[MACHINE_FIGURE_COUNT];
    uint32_t threads;
    uint8_t *memory; /* owned pages; one share of each thread after the other */
    size_t share_bytes;
};

/* One thread of a measurement. */
typedef struct lane {
    const machine_loop *loop;
    uint8_t *share;
    size_t share_bytes;
    uint64_t start_ns;
    uint64_t calls[PERIODS];
    uint64_t sum;
    thread thread;
} lane;

/* --- portable loops -------------------- */

typedef float floats __attribute__((vector_size(16)));
enum { FLOATS = sizeof(floats) / sizeof(float) };

static uint64_t read_words(const uint8_t *chunk) {
    enum { LINE_WORDS = 8 };
    const uint64_t *p = (const uint64_t *)(const void *)chunk;
    uint64_t sum[LINE_WORDS] = {0};
    for (size_t i = 0; i < READ_CHUNK_BYTES / sizeof *p; i += LINE_WORDS)
        for (size_t k = 0; k < LINE_WORDS; k++) sum[k] += p[i + k];
    for (int k = 1; k < LINE_WORDS; k++) sum[0] ^= sum[k];
    return sum[0];
}

static uint64_t multiply_add(const uint8_t *chunk) {
    floats sum[LOOP_SUMS] = {0};
    floats x = {0.5F, 0.25F, 0.125F, 0.75F};
    (void)chunk;
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < LOOP_SUMS; k++) sum[k] = sum[k] * x + x;
    for (int k = 1; k < LOOP_SUMS; k++) sum[0] += sum[k];
    return (uint64_t)(sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3]);
}

#if !defined(__x86_64__)
void machine_loops_x86(cpu_isa cap, machine_loop *loops) {
    (void)cap;
    (void)loops;
}

size_t machine_cache_bytes(void) { return 0; }
#endif

#if !defined(__aarch64__)
void machine_loops_neon(cpu_isa cap, machine_loop *loops) {
    (void)cap;
    (void)loops;
}
#endif

/* --- threads -------------------- */

/* First touch by the thread that reads it: on its node, where a machine has several. */
static void touch(void *arg) {
    lane *l = arg;
    memset(l->share, 1, l->share_bytes);
}

/* Periods follow each other on the same clock on all threads; a call counts for the period that it
 * begins in. */
static void race(void *arg) {
    lane *l = arg;
    size_t at = 0;
    uint64_t now_ns = os_now_ns();
    while (now_ns < l->start_ns) now_ns = os_now_ns();
    for (;;) {
        uint64_t period = (now_ns - l->start_ns) / PERIOD_NS;
        if (period >= PERIODS) return;
        l->calls[period]++;
        l->sum += l->loop->run(l->share + at);
        at += READ_CHUNK_BYTES; /* a share is whole chunks */
        if (at == l->share_bytes) at = 0;
        now_ns = os_now_ns();
    }
}

static status run_lanes(const machine *m, void (*work)(void *), lane *lanes, error *err) {
    status st = OK;
    for (uint32_t i = 0; i < m->threads && st == OK; i++)
        st = thread_start(&lanes[i].thread, "bench", work, &lanes[i], err);
    for (uint32_t i = 0; i < m->threads; i++) thread_join(&lanes[i].thread);
    return st;
}

static lane *lanes_create(const machine *m, const machine_loop *loop) {
    lane *lanes = mem_calloc(m->threads, sizeof *lanes);
    uint64_t start_ns = os_now_ns() + LEAD_NS;
    for (uint32_t i = 0; i < m->threads; i++) {
        lanes[i].loop = loop;
        lanes[i].share = m->memory + i * m->share_bytes;
        lanes[i].share_bytes = m->share_bytes;
        lanes[i].start_ns = start_ns;
    }
    return lanes;
}

/* --- the machine -------------------- */

static size_t read_bytes_wanted(void) {
    uint64_t bytes = num_max_u64(read_bytes_min, 4 * (uint64_t)machine_cache_bytes());
    return (size_t)num_min_u64(bytes, os_memory_available() / 4);
}

static status map_shares(machine *m, error *err) {
    size_t chunks = read_bytes_wanted() / m->threads / READ_CHUNK_BYTES;
    void *memory = NULL;
    m->share_bytes = (chunks > 0 ? chunks : 1) * READ_CHUNK_BYTES;
    TRY(os_map_pages(m->threads * m->share_bytes, &memory, err));
    m->memory = memory;
    lane *lanes = lanes_create(m, NULL);
    status st = run_lanes(m, touch, lanes, err);
    mem_free(lanes);
    return st;
}

status machine_open(machine **out, uint32_t threads, cpu_isa cap, error *err) {
    ASSERT(threads > 0);
    machine *m = mem_calloc(1, sizeof *m);
    m->threads = threads;
    m->loops[MACHINE_READ] = (machine_loop){"64-bit loads", read_words, READ_CHUNK_BYTES};
    m->loops[MACHINE_F32] =
        (machine_loop){"multiply and add", multiply_add, 2.0 * LOOP_ROUNDS * LOOP_SUMS * FLOATS};
    if (cap != CPU_ISA_SCALAR) {
        machine_loops_x86(cap, m->loops);
        machine_loops_neon(cap, m->loops);
    }
    status st = map_shares(m, err);
    if (st == OK)
        *out = m;
    else
        machine_close(m);
    return st;
}

void machine_close(machine *m) {
    if (m == NULL) return;
    os_unmap(m->memory, m->threads * m->share_bytes);
    mem_free(m);
}

status machine_measure(machine *m, machine_figure which, double *per_s, error *err) {
    const machine_loop *loop = &m->loops[which];
    double best = 0;
    if (loop->name != NULL) {
        lane *lanes = lanes_create(m, loop);
        status st = run_lanes(m, race, lanes, err);
        for (int p = 0; p < PERIODS; p++) {
            uint64_t calls = 0;
            for (uint32_t i = 0; i < m->threads; i++) calls += lanes[i].calls[p];
            double rate = (double)calls * loop->per_call * 1e9 / PERIOD_NS;
            if (rate > best) best = rate;
        }
        mem_free(lanes);
        TRY(st);
    }
    *per_s = best;
    return OK;
}

const char *machine_figure_name(machine_figure which) {
    static const char *const names[] = {
#define MACHINE_FIGURE_NAME(id, name) name,
        MACHINE_FIGURES(MACHINE_FIGURE_NAME)
#undef MACHINE_FIGURE_NAME
    };
    return names[which];
}

const char *machine_loop_name(const machine *m, machine_figure which) {
    return m->loops[which].name;
}

uint64_t machine_read_bytes(const machine *m) { return (uint64_t)m->threads * m->share_bytes; }
