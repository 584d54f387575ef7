/* test_exec.c - the executor: threads, warps, barriers, memory checks, counters.
 *
 * Two kinds of wrong kernels are for ThreadSanitizer, whose report ends the process; run by hand:
 *     make MODE=tsan build/tsan/cudasim/run
 *     setarch -R env CUDASIM_RACES=1 build/tsan/cudasim/run race_within_a_block
 *     setarch -R env CUDASIM_RACES=1 build/tsan/cudasim/run race_between_blocks
 * Each must print "WARNING: ThreadSanitizer: data race" with kernels_test.cu in both stacks. */
#include <stdlib.h>

#include "abi.h"
#include "cudasim/kernels_test.h"
#include "cudasim/rig.h"
#include "test.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { WITH_ASAN = 1 };
#else
enum { WITH_ASAN = 0 };
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
enum { WITH_TSAN = 1 };
#else
enum { WITH_TSAN = 0 };
#endif

/* --- threads together -------------------- */

static float lane_sum(const float *v) {
    float x[32], y[32];
    memcpy(x, v, sizeof x);
    for (unsigned m = 16; m > 0; m >>= 1) {
        for (unsigned i = 0; i < 32; i++) y[i] = x[i] + x[i ^ m];
        memcpy(x, y, sizeof x);
    }
    return x[0];
}

static void check_warp(const float *v, const uint32_t *out, unsigned first) {
    uint32_t ballot = 0, sum_bits;
    float sum = lane_sum(v + first), most = v[first];
    for (unsigned i = 0; i < 32; i++) {
        ballot |= (uint32_t)(v[first + i] > 0) << i;
        most = v[first + i] > most ? v[first + i] : most;
    }
    memcpy(&sum_bits, &sum, sizeof sum);
    for (unsigned i = first; i < first + 32; i++) {
        float got_most;
        memcpy(&got_most, &out[4 * i + 3], sizeof got_most);
        CHECK_EQ(out[4 * i], sum_bits);
        CHECK_EQ(out[4 * i + 1], ballot);
        CHECK_EQ(out[4 * i + 2], first + ((i * 7 + 3) & 31));
        CHECK(got_most == most);
    }
}

TEST(sim_warp_operations_give_every_lane_what_it_asks_for) {
    enum { THREADS = 96, BLOCKS = 3, N = THREADS * BLOCKS };
    RIG_EACH(arch) {
        float *in = rig_buffer(N * sizeof *in);
        uint32_t *out = rig_buffer(N * 4 * sizeof *out);
        rig_fill(in, N, 1.0f);
        k_test_args a = {.in = rig_at(in), .out = rig_at(out)};
        if (!rig_run(arch, "k_test_warp", &a, BLOCKS, 1, THREADS, 0)) return;
        for (unsigned block = 0; block < BLOCKS; block++)
            for (unsigned warp = 0; warp < THREADS / 32; warp++) {
                uint32_t rebased[4 * 32];
                memcpy(rebased, out + 4 * (block * THREADS + warp * 32), sizeof rebased);
                for (unsigned i = 0; i < 32; i++) rebased[4 * i + 2] -= warp * 32;
                check_warp(in + block * THREADS + warp * 32, rebased, 0);
            }
    }
    rig_done();
}

TEST(sim_barrier_holds_every_thread_of_the_block) {
    enum { BLOCKS = 2, ROTATIONS = 5 };
    static const uint32_t THREADS[] = {1, 32, 33, 100, 256, 1024};
    RIG_EACH(arch) {
        for (unsigned t = 0; t < sizeof THREADS / sizeof THREADS[0]; t++) {
            uint32_t *out = rig_buffer(BLOCKS * THREADS[t] * sizeof *out);
            k_test_args a = {.out = rig_at(out), .n = ROTATIONS};
            (void)rig_run(arch, "k_test_barrier", &a, BLOCKS, 1, THREADS[t], 0);
            uint32_t wrong = 0;
            for (uint32_t i = 0; i < BLOCKS * THREADS[t]; i++)
                wrong += out[i] != (i % THREADS[t] + ROTATIONS) % THREADS[t];
            CHECK_EQ(wrong, 0);
        }
    }
    rig_done();
}

static uint32_t sum_without_barrier(sim_order order) {
    uint32_t *out = rig_buffer(64 * sizeof *out), sum = 0;
    k_test_args a = {.out = rig_at(out), .n = 1};
    rig_order_set(order);
    (void)rig_run(750, "k_test_no_barrier", &a, 1, 1, 64, 0);
    for (uint32_t i = 0; i < 64; i++) sum += out[i];
    return sum;
}

TEST(sim_missing_barrier_gives_another_result_in_another_order) {
    if (WITH_TSAN) SKIP("ThreadSanitizer reports the race instead: see race_within_a_block");
    uint32_t up = sum_without_barrier(SIM_ASCENDING), down = sum_without_barrier(SIM_DESCENDING);
    rig_done();
    CHECK(up != down);
    CHECK(up != 64 * 63 / 2);
}

static void run_race(const char *kernel, uint32_t mode) {
    uint32_t *out = rig_buffer(128 * sizeof *out);
    k_test_args a = {.out = rig_at(out), .n = 1, .mode = mode};
    (void)rig_run(750, kernel, &a, 2, 1, 64, 0);
    rig_done();
}

TEST(sim_race_within_a_block_is_reported) {
    if (getenv("CUDASIM_RACES") == NULL) SKIP("run by hand, see the top of the file");
    run_race("k_test_no_barrier", 0);
}

TEST(sim_race_between_blocks_is_reported) {
    if (getenv("CUDASIM_RACES") == NULL) SKIP("run by hand, see the top of the file");
    run_race("k_test_block_race", 0);
}

TEST(sim_race_between_blocks_by_other_threads_is_reported) {
    if (getenv("CUDASIM_RACES") == NULL) SKIP("run by hand, see the top of the file");
    run_race("k_test_block_race", 1);
}

/* --- deadlocks -------------------- */

TEST(sim_warp_operation_by_half_a_warp_names_its_lanes) {
    RIG_EACH(arch) {
        k_test_args a = {.out = rig_at(rig_buffer(256))};
        CHECK_EQ(rig_try(arch, "k_test_half_warp", &a, 1, 1, 64, 0), SIM_DEADLOCK);
        CHECK_HAS(rig_why(), "k_test_half_warp, block (0, 0, 0): deadlock");
        CHECK_HAS(rig_why(), "warp 1: lanes 0-15 in a shuffle, lanes 16-31 ended");
    }
    rig_done();
}

TEST(sim_warp_operations_of_two_kinds_at_once_are_a_fault) {
    RIG_EACH(arch) {
        k_test_args a = {.out = rig_at(rig_buffer(256))};
        CHECK_EQ(rig_try(arch, "k_test_mixed_warp", &a, 1, 1, 32, 0), SIM_DEADLOCK);
        CHECK_HAS(rig_why(), "a shuffle");
        CHECK_HAS(rig_why(), "a ballot");
    }
    rig_done();
}

TEST(sim_barrier_that_some_threads_end_before_names_them) {
    RIG_EACH(arch) {
        k_test_args a = {.out = rig_at(rig_buffer(512)), .n = 2};
        CHECK_EQ(rig_try(arch, "k_test_half_barrier", &a, 1, 1, 100, 0), SIM_DEADLOCK);
        CHECK_HAS(rig_why(), "barriers so far 1:");
        CHECK_HAS(rig_why(), "warp 1: lanes 0-31 in a barrier; warp 2: lanes 0-31 ended");
        CHECK_HAS(rig_why(), "warp 3: lanes 0-3 ended");
    }
    rig_done();
}

/* --- addresses -------------------- */

static sim_fault touch(int arch, uint64_t at, uint32_t mode) {
    k_test_args a = {.in = at, .out = rig_at(rig_buffer(4)), .n = 37, .mode = mode};
    return rig_try(arch, "k_test_address", &a, 3, 1, 64, 0);
}

TEST(sim_access_outside_of_allocated_memory_is_illegal) {
    RIG_EACH(arch) {
        uint64_t at = rig_at(rig_buffer(40));
        CHECK_EQ(touch(arch, at + 36, 0), SIM_OK);
        CHECK_EQ(touch(arch, at + 40, 0), SIM_ILLEGAL_ADDRESS);
        CHECK_HAS(rig_why(), "k_test_address, block (1, 0, 0), thread 37: load of 4 bytes at 0x");
        CHECK_HAS(rig_why(), "at byte 40 of the 40 allocated");
        CHECK_EQ(touch(arch, at + 40, 1), SIM_ILLEGAL_ADDRESS);
        CHECK_HAS(rig_why(), "store of 4 bytes");
        CHECK_EQ(touch(arch, at + 32, 2), SIM_ILLEGAL_ADDRESS); /* 8 bytes of 16 are there */
        CHECK_EQ(touch(arch, at - 4, 3), SIM_ILLEGAL_ADDRESS);
        CHECK_EQ(touch(arch, 0, 4), SIM_ILLEGAL_ADDRESS);
        CHECK_EQ(touch(arch, at, 2), SIM_OK);
    }
    rig_done();
}

TEST(sim_access_of_memory_given_back_is_illegal) {
    static uint32_t words[4];
    sim_memory_add(words, sizeof words);
    CHECK_EQ(touch(750, rig_at(words), 0), SIM_OK);
    sim_memory_remove(words);
    CHECK_EQ(touch(750, rig_at(words), 0), SIM_ILLEGAL_ADDRESS);
    rig_done();
}

TEST(sim_access_that_is_not_aligned_is_a_fault) {
    RIG_EACH(arch) {
        uint64_t at = rig_at(rig_buffer(64));
        CHECK_EQ(touch(arch, at + 8, 2), SIM_MISALIGNED);
        CHECK_HAS(rig_why(), "thread 37: load of 16 bytes at 0x");
        CHECK_HAS(rig_why(), "no multiple of 16");
        CHECK_EQ(touch(arch, at + 2, 1), SIM_MISALIGNED);
        CHECK_EQ(touch(arch, at + 1, 4), SIM_MISALIGNED);
        CHECK_EQ(touch(arch, at + 2, 4), SIM_OK);
    }
    rig_done();
}

/* --- shared memory -------------------- */

TEST(sim_shared_memory_is_poisoned_for_each_block) {
    enum { THREADS = 32, BLOCKS = 3 };
    RIG_EACH(arch) {
        uint32_t *out = rig_buffer(BLOCKS * THREADS * 4 * sizeof *out), wrong = 0;
        k_test_args a = {.out = rig_at(out)};
        (void)rig_run(arch, "k_test_shared", &a, BLOCKS, 1, THREADS, THREADS * 4);
        for (uint32_t i = 0; i < BLOCKS * THREADS; i++) {
            wrong += out[4 * i] != 0xCDCDCDCDu;
            wrong += out[4 * i + 1] != 0xCDCDCDCDu;
            wrong += out[4 * i + 2] != 0xCDu;
            wrong += out[4 * i + 3] % 16 != 0;
        }
        CHECK_EQ(wrong, 0);
    }
    rig_done();
}

TEST(sim_write_beyond_a_shared_array_is_found) {
    if (WITH_ASAN) SKIP("AddressSanitizer ends the process at the write itself");
    k_test_args a = {.n = 31, .mode = 0};
    CHECK_EQ(rig_try(750, "k_test_shared_over", &a, 2, 1, 32, 128), SIM_OK);
    a.n = 32;
    CHECK_EQ(rig_try(750, "k_test_shared_over", &a, 2, 1, 32, 128), SIM_ILLEGAL_ADDRESS);
    CHECK_HAS(rig_why(), "beyond the dynamic shared array of 128 bytes");
    a.mode = 1;
    CHECK_EQ(rig_try(750, "k_test_shared_over", &a, 2, 1, 32, 128), SIM_ILLEGAL_ADDRESS);
    CHECK_HAS(rig_why(), "beyond a static shared array of 128 bytes");
    rig_done();
}

TEST(sim_shared_memory_has_a_limit) {
    k_test_args a = {.n = 0, .mode = 0};
    CHECK_EQ(rig_try(750, "k_test_shared_over", &a, 1, 1, 32, 64 * 1024 - 128), SIM_OK);
    CHECK_EQ(rig_try(750, "k_test_shared_over", &a, 1, 1, 32, 64 * 1024 - 64), SIM_BAD_LAUNCH);
    CHECK_HAS(rig_why(), "an array of 128 more, may have 65536");
    CHECK_EQ(rig_try(750, "k_test_shared_over", &a, 1, 1, 32, 64 * 1024 + 4), SIM_BAD_LAUNCH);
    CHECK_EQ(rig_try(900, "k_test_shared_over", &a, 1, 1, 32, 200 * 1024), SIM_OK);
}

/* --- launches -------------------- */

TEST(sim_launch_that_no_gpu_takes_is_refused) {
    k_test_args a = {0};
    CHECK_EQ(rig_try(750, "k_test_atomic", &a, 1, 1, 1025, 0), SIM_BAD_LAUNCH);
    CHECK_EQ(rig_try(750, "k_test_atomic", &a, 0, 1, 32, 0), SIM_BAD_LAUNCH);
    CHECK_EQ(rig_try(750, "k_test_atomic", &a, 1, 65536, 32, 0), SIM_BAD_LAUNCH);
    CHECK_EQ(rig_try(750, "k_absent", &a, 1, 1, 32, 0), SIM_BAD_LAUNCH);
    CHECK_HAS(rig_why(), "there is no k_absent for 750");
    CHECK_EQ(rig_try(751, "k_test_atomic", &a, 1, 1, 32, 0), SIM_BAD_LAUNCH);
}

TEST(sim_launches_go_on_after_faults) {
    RIG_EACH(arch) {
        uint32_t *out = rig_buffer(256);
        k_test_args bad = {.in = 16, .out = rig_at(out), .n = 3}, good = {.out = rig_at(out)};
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(rig_try(arch, "k_test_half_warp", &bad, 1, 1, 64, 0), SIM_DEADLOCK);
            CHECK_EQ(rig_try(arch, "k_test_address", &bad, 2, 1, 96, 0), SIM_ILLEGAL_ADDRESS);
            memset(out, 0, 8);
            (void)rig_run(arch, "k_test_atomic", &good, 1, 1, 32, 0); /* of fewer warps */
            CHECK_EQ(out[0], 32 * 31 / 2);
            memset(out, 0, 8);
            (void)rig_run(arch, "k_test_atomic", &good, 3, 1, 96, 0);
            CHECK_EQ(out[0], 3 * 96 * 95 / 2);
            CHECK_EQ(out[1], 3 * 96 - 1);
        }
    }
    rig_done();
}

TEST(sim_last_block_sees_what_the_others_fenced) {
    enum { BLOCKS = 9 };
    RIG_EACH(arch) {
        uint32_t *out = rig_buffer((2 + BLOCKS) * sizeof *out);
        memset(out, 0, (2 + BLOCKS) * sizeof *out);
        k_test_args a = {.out = rig_at(out)};
        (void)rig_run(arch, "k_test_last_block", &a, BLOCKS, 1, 64, 0);
        CHECK_EQ(out[1], BLOCKS * (BLOCKS + 1) / 2);
    }
    rig_done();
}

/* --- counters -------------------- */

static const sim_counters *count(int arch, uint32_t mode, uint32_t n, uint32_t threads) {
    k_test_args a = {
        .in = rig_at(rig_buffer(4096)), .out = rig_at(rig_buffer(4096)), .n = n, .mode = mode};
    (void)rig_run(arch, "k_test_sectors", &a, 1, 1, threads, 0);
    return rig_counters();
}

TEST(sim_sectors_are_those_of_the_warps_requests) {
    RIG_EACH(arch) {
        CHECK_EQ(count(arch, 0, 1, 32)->load_sectors, 16); /* 512 bytes in a row */
        CHECK_EQ(count(arch, 1, 1, 32)->load_sectors, 32); /* 16 of every 32 bytes */
        CHECK_EQ(count(arch, 2, 1, 32)->load_sectors, 1);  /* all the same 16 bytes */
        CHECK_EQ(count(arch, 3, 1, 32)->load_sectors, 1);  /* all the same byte */
        CHECK_EQ(count(arch, 4, 1, 32)->load_sectors, 4);  /* 128 bytes, backwards */
        CHECK_EQ(count(arch, 5, 1, 32)->load_sectors, 5);  /* 128 bytes, half a sector off */
        CHECK_EQ(count(arch, 0, 3, 64)->load_sectors, 3 * 2 * 16);
        CHECK_EQ(count(arch, 4, 3, 64)->load_sectors, 3 * 2 * 4);
        CHECK_EQ(count(arch, 0 | 10 << 8, 3, 64)->load_sectors, 3 * 2 * 5); /* lanes 0 to 9 */
        CHECK_EQ(count(arch, 6, 0, 32)->store_sectors, 8);                  /* 4 of every 8 bytes */
        CHECK_EQ(count(arch, 7, 0, 96)->store_sectors, 3); /* one lane of each warp */
    }
    rig_done();
}

TEST(sim_bytes_are_those_asked_for) {
    RIG_EACH(arch) {
        const sim_counters *c = count(arch, 0, 2, 64);
        CHECK_EQ(c->load_bytes, 2 * 64 * 16);
        CHECK_EQ(c->streamed_bytes, 2 * 64 * 16);
        CHECK_EQ(c->store_bytes, 0);
        c = count(arch, 3, 2, 64);
        CHECK_EQ(c->load_bytes, 2 * 64);
        CHECK_EQ(c->streamed_bytes, 0);
        CHECK_EQ(count(arch, 6, 0, 64)->store_bytes, 64 * 4);
    }
    rig_done();
}

TEST(sim_barriers_warp_operations_and_dp4a_are_counted) {
    RIG_EACH(arch) {
        k_test_args a = {.out = rig_at(rig_buffer(256)), .n = 7};
        (void)rig_run(arch, "k_test_counted", &a, 1, 1, 64, 0);
        CHECK_EQ(rig_counters()->barriers, 7);
        CHECK_EQ(rig_counters()->warp_ops, 7 * 2);
        CHECK_EQ(rig_counters()->dp4a, 7 * 64);
    }
    rig_done();
}

/* --- the table -------------------- */

/* Argument structs and launch bounds are those of kernels.def: the host launches by these. */
TEST(sim_kernels_are_as_kernels_def_says) {
    static const struct {
        const char *name;
        size_t args_bytes;
        uint32_t threads;
        int path_min;
    } KERNELS[] = {
#define X(file, name, args, threads)    {#name, sizeof(args), threads, 750},
#define X800(file, name, args, threads) {#name, sizeof(args), threads, 800},
#include "kernels.def"
#undef X
    };
    for (int arch = 750; arch <= 900; arch += arch == 750 ? 50 : 100)
        for (size_t i = 0; i < sizeof KERNELS / sizeof KERNELS[0]; i++) {
            const sim_kernel *k = sim_kernel_find(arch, KERNELS[i].name);
            const bool wanted = arch >= KERNELS[i].path_min;
            if ((k != NULL) != wanted) {
                (void)fprintf(stderr, "there is %s %s for %d\n", wanted ? "no" : "a",
                              KERNELS[i].name, arch);
                test_failures++;
            }
            if (k == NULL) continue;
            CHECK_EQ(k->args_bytes, KERNELS[i].args_bytes);
            CHECK_EQ(k->threads_max, KERNELS[i].threads);
        }
}
