/* test_early.c - the executor's rules of kernels that overlap (cuda/ck.h): each way to break them
 * is reported, and what is prefetched is counted. */
#include "cudasim/kernels_test.h"
#include "cudasim/rig.h"
#include "test.h"

enum { THREADS = 64, BLOCKS = 2, COUNT = THREADS * BLOCKS, WRONG = 37, ASIDE = 256 };

typedef enum way {
    GOOD,
    LOADS,
    STORES,
    COUNTS,
    STREAMS,
    LAUNCHES,
    LEAVES,
    FETCHES_NOTHING,
    FETCHES_IN_VAIN,
    STORES_BEHIND_A_BARRIER
} way;

/* Behind the numbers there is room that nobody reads. */
static k_test_args arguments(way mode) {
    uint32_t *in = rig_buffer((COUNT + 2 * ASIDE) * sizeof *in);
    for (uint32_t i = 0; i < COUNT; i++) in[i] = 1000 + i;
    return (k_test_args){.in = rig_at(in),
                         .out = rig_at(rig_buffer(COUNT * sizeof(uint32_t))),
                         .n = WRONG,
                         .mode = mode};
}

static void check_copied(const k_test_args *a) {
    const uint32_t *out = (const uint32_t *)(uintptr_t)a->out;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < COUNT; i++) wrong += out[i] != 1000 + i;
    CHECK_EQ(wrong, 0);
}

/* As a launch that is early or not, counted or not. */
static sim_fault run(int arch, const k_test_args *a, bool early, sim_counters *counters, char *why,
                     size_t why_bytes) {
    const sim_launch l = {.kernel = sim_kernel_find(arch, "k_test_early"),
                          .args = a,
                          .grid = {BLOCKS, 1, 1},
                          .block = {THREADS, 1, 1},
                          .shared_max = 48 << 10,
                          .order = rig_order(),
                          .early = early};
    return sim_run(&l, counters, why, why_bytes);
}

TEST(sim_early_kernels_prefetch_and_wait) {
    RIG_EACH(arch) {
        const k_test_args a = arguments(GOOD);
        if (!rig_run(arch, "k_test_early", &a, BLOCKS, 1, THREADS, 0)) return;
        check_copied(&a);
        const sim_counters *c = rig_counters();
        CHECK_EQ(c->prefetch_sectors, arch >= 900 ? COUNT * sizeof(uint32_t) / 32 : 0);
        CHECK_EQ(c->prefetch_unread, 0);
        CHECK_EQ(c->load_bytes, COUNT * sizeof(uint32_t)); /* a prefetch is no load */
    }
    rig_done();
}

TEST(sim_early_accesses_are_reported) {
    static const struct {
        way mode;
        const char *said;
    } cases[] = {
        {LOADS, "load of 4 bytes"},
        {STORES, "store of 4 bytes"},
        {COUNTS, "atomic of 4 bytes"},
        {STREAMS, "load of 4 bytes"},
        {LAUNCHES, "lets the next kernel start before its own ck_pdl_wait"},
        {STORES_BEHIND_A_BARRIER, "store of 4 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int counted = 0; counted < 2; counted++) {
            char why[256] = "";
            sim_counters counters;
            const k_test_args a = arguments(cases[i].mode);
            CHECK_EQ(run(900, &a, true, counted ? &counters : NULL, why, sizeof why),
                     SIM_TOO_EARLY);
            CHECK_HAS(why, "k_test_early, block (1, 0, 0), thread 37: ");
            CHECK_HAS(why, cases[i].said);
            if (cases[i].mode != LAUNCHES) CHECK_HAS(why, "before its ck_pdl_wait");
        }
    }
    rig_done();
}

/* Of a thread that ends, whatever the others do. */
TEST(sim_early_threads_must_not_leave) {
    char why[256] = "";
    const k_test_args a = arguments(LEAVES);
    CHECK_EQ(run(900, &a, true, NULL, why, sizeof why), SIM_TOO_EARLY);
    CHECK_HAS(why, "thread 37: ends without ck_pdl_wait");
    rig_done();
}

/* Where nothing overlaps accesses are free, but the next launch may be early all the same. */
TEST(sim_early_is_what_a_launch_says) {
    static const way free_ones[] = {GOOD, LOADS, STORES, COUNTS, STREAMS, STORES_BEHIND_A_BARRIER};
    char why[256] = "";
    for (size_t i = 0; i < sizeof free_ones / sizeof free_ones[0]; i++) {
        const k_test_args a = arguments(free_ones[i]);
        CHECK_EQ(run(900, &a, false, NULL, why, sizeof why), SIM_OK);
        CHECK_STR(why, "");
    }
    const k_test_args a = arguments(LAUNCHES);
    CHECK_EQ(run(900, &a, false, NULL, why, sizeof why), SIM_TOO_EARLY);
    CHECK_HAS(why, "lets the next kernel start");
    rig_done();
}

/* Code of older cards has no wait: launched early it is wrong. */
TEST(sim_early_needs_code_that_waits) {
    char why[256] = "";
    const k_test_args a = arguments(GOOD);
    CHECK_EQ(run(800, &a, false, NULL, why, sizeof why), SIM_OK);
    CHECK_EQ(run(800, &a, true, NULL, why, sizeof why), SIM_TOO_EARLY);
    CHECK_EQ(run(750, &a, true, NULL, why, sizeof why), SIM_TOO_EARLY);
    rig_done();
}

TEST(sim_early_prefetches_are_held_to_what_is_read) {
    char why[256] = "";
    sim_counters counters;
    k_test_args a = arguments(FETCHES_IN_VAIN);
    CHECK_EQ(run(900, &a, true, &counters, why, sizeof why), SIM_OK);
    CHECK_EQ(counters.prefetch_sectors, COUNT * sizeof(uint32_t) / 32 + 1);
    CHECK_EQ(counters.prefetch_unread, 1);
    a = arguments(FETCHES_NOTHING);
    CHECK_EQ(run(900, &a, true, NULL, why, sizeof why), SIM_ILLEGAL_ADDRESS);
    CHECK_HAS(why, "thread 37: prefetch of 1 bytes");
    a = arguments(GOOD); /* what a fault left behind is forgotten */
    CHECK_EQ(run(900, &a, true, &counters, why, sizeof why), SIM_OK);
    CHECK_EQ(counters.prefetch_unread, 0);
    check_copied(&a);
    rig_done();
}
