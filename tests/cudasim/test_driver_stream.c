/* test_driver_stream.c - streams and events in the modes eager, deferred and random.
 *
 * The modes exist to catch hosts that trust in luck: a pinned buffer that is written again before
 * its event, a wait that is missing, memory that is freed too early. */
#include "cudasim/driver/test_rig.h"

#include <pthread.h>

#define DEFERRED "{\"streams\":\"deferred\"}"
#define RANDOM   "{\"streams\":\"random\",\"seed\":%u}"

TEST(sim_driver_deferred_runs_nothing_before_a_sync) {
    (void)rig_machine(DEFERRED);
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    OK_CALL(cuMemsetD32Async(out, 0, 2, s));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = out}, 1, s));
    CHECK_EQ(sim_launches(NULL), 0);
    CHECK_EQ(cuStreamQuery(s), CU_NOT_READY);
    OK_CALL(cuStreamQuery(s));
    CHECK_EQ(sim_launches(NULL), 1);
    CHECK_EQ(rig_word(out), RIG_ATOMIC_STEP);
    rig_close_machine();
}

/* Two steps through one pinned word, with and without waiting for the copy that reads it. */
static uint32_t sum_through_slot(const char *mode, bool waits) {
    (void)rig_machine(mode);
    cu_stream s = rig_stream();
    cu_event copied = rig_event();
    uint32_t *slot = rig_pinned(sizeof *slot);
    cu_ptr a = rig_device(4), b = rig_device(4);
    *slot = 1;
    OK_CALL(cuMemcpyHtoDAsync_v2(a, slot, 4, s));
    OK_CALL(cuEventRecord(copied, s));
    if (waits) OK_CALL(cuEventSynchronize(copied));
    *slot = 2;
    OK_CALL(cuMemcpyHtoDAsync_v2(b, slot, 4, s));
    uint32_t sum = rig_word(a) + rig_word(b);
    rig_close_machine();
    return sum;
}

TEST(sim_driver_deferred_catches_a_pinned_buffer_used_again) {
    CHECK_EQ(sum_through_slot("t4", false), 3); /* luck */
    CHECK_EQ(sum_through_slot(DEFERRED, true), 3);
    CHECK_EQ(sum_through_slot(DEFERRED, false), 4);
}

TEST(sim_driver_pageable_copies_are_done_with_the_host) {
    uint32_t word = 1, back = 0;
    (void)rig_machine(DEFERRED);
    cu_stream s = rig_stream();
    cu_ptr p = rig_device(4);
    OK_CALL(cuMemcpyHtoDAsync_v2(p, &word, 4, s));
    word = 2; /* was read at the call */
    OK_CALL(cuMemcpyDtoHAsync_v2(&back, p, 4, s));
    CHECK_EQ(back, 1);
    uint32_t *pinned = rig_pinned(4);
    OK_CALL(cuMemcpyDtoHAsync_v2(pinned, p, 4, s));
    CHECK_EQ(*pinned, UINT32_MAX);
    OK_CALL(cuStreamSynchronize(s));
    CHECK_EQ(*pinned, 1);
    rig_close_machine();
}

/* One stream copies a word from `a` to `b` after another has filled `a`: the value that arrives. */
static uint32_t fill_then_copy(const char *mode, bool waits) {
    (void)rig_machine(mode);
    cu_stream first = rig_stream(), second = rig_stream();
    cu_event filled = rig_event();
    cu_ptr a = rig_device(4), b = rig_device(4);
    OK_CALL(cuMemsetD32Async(a, 7, 1, first));
    OK_CALL(cuEventRecord(filled, first));
    if (waits) OK_CALL(cuStreamWaitEvent(second, filled, 0));
    OK_CALL(cuMemcpyDtoDAsync_v2(b, a, 4, second));
    OK_CALL(cuStreamSynchronize(second));
    uint32_t word = rig_word(b);
    rig_close_machine();
    return word;
}

TEST(sim_driver_deferred_and_random_catch_a_missing_wait) {
    uint32_t wrong = 0;
    CHECK_EQ(fill_then_copy("t4", false), 7);
    CHECK_EQ(fill_then_copy(DEFERRED, true), 7);
    CHECK_EQ(fill_then_copy(DEFERRED, false), UINT32_MAX);
    for (unsigned seed = 1; seed <= 20; seed++) {
        char mode[64];
        (void)snprintf(mode, sizeof mode, RANDOM, seed);
        CHECK_EQ(fill_then_copy(mode, true), 7);
        wrong += fill_then_copy(mode, false) != 7;
    }
    CHECK(wrong > 0 && wrong < 20);
}

TEST(sim_driver_waits_follow_events_over_many_streams) {
    enum { STREAMS = 8 };
    cu_stream streams[STREAMS];
    cu_ptr words[STREAMS];
    (void)rig_machine(DEFERRED);
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = rig_stream();
        words[i] = rig_device(4);
    }
    OK_CALL(cuMemsetD32Async(words[0], 5, 1, streams[0]));
    for (int i = 1; i < STREAMS; i++) {
        cu_event e = rig_event();
        OK_CALL(cuEventRecord(e, streams[i - 1]));
        OK_CALL(cuStreamWaitEvent(streams[i], e, 0));
        OK_CALL(cuEventDestroy_v2(e)); /* while it is waited for */
        OK_CALL(cuMemcpyDtoDAsync_v2(words[i], words[i - 1], 4, streams[i]));
        OK_CALL(cuStreamDestroy_v2(streams[i - 1])); /* with work left */
    }
    OK_CALL(cuStreamSynchronize(streams[STREAMS - 1]));
    CHECK_EQ(rig_word(words[STREAMS - 1]), 5);
    rig_close_machine();
}

TEST(sim_driver_events_mean_their_last_record) {
    (void)rig_machine(DEFERRED);
    cu_stream a = rig_stream(), b = rig_stream();
    cu_event e = rig_event();
    cu_ptr p = rig_device(4), q = rig_device(4);
    OK_CALL(cuEventQuery(e)); /* never recorded: done */
    OK_CALL(cuEventSynchronize(e));
    OK_CALL(cuMemsetD32Async(p, 1, 1, a));
    OK_CALL(cuEventRecord(e, a));
    OK_CALL(cuStreamWaitEvent(b, e, 0));
    OK_CALL(cuEventRecord(e, b)); /* the wait is still for the record in a */
    OK_CALL(cuMemcpyDtoDAsync_v2(q, p, 4, b));
    CHECK_EQ(cuEventQuery(e), CU_NOT_READY);
    OK_CALL(cuEventQuery(e));
    CHECK_EQ(rig_word(q), 1);
    rig_close_machine();
}

TEST(sim_driver_event_times_are_small_and_positive) {
    float ms = -1.0f;
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_event from = NULL, to = NULL, untimed = rig_event();
    OK_CALL(cuEventCreate(&from, CU_EVENT_DEFAULT_FLAG));
    OK_CALL(cuEventCreate(&to, CU_EVENT_BLOCKING_SYNC_FLAG));
    OK_CALL(cuEventRecord(from, s));
    CHECK_EQ(cuEventElapsedTime(&ms, from, to), CU_INVALID_HANDLE);
    OK_CALL(cuEventRecord(to, s));
    OK_CALL(cuEventRecord(untimed, s));
    OK_CALL(cuEventElapsedTime(&ms, from, to));
    CHECK(ms > 0.0f && ms < 1.0f);
    CHECK_EQ(cuEventElapsedTime(&ms, from, untimed), CU_INVALID_HANDLE);
    rig_close_machine();
}

TEST(sim_driver_default_stream_waits_for_blocking_ones) {
    cu_stream blocking = NULL;
    (void)rig_machine(DEFERRED);
    cu_stream free_stream = rig_stream();
    OK_CALL(cuStreamCreateWithPriority(&blocking, 0, 0));
    cu_ptr p = rig_device(4), q = rig_device(4);
    uint32_t *seen = rig_pinned(8);
    OK_CALL(cuMemsetD32Async(p, 3, 1, blocking));
    OK_CALL(cuMemsetD32Async(q, 3, 1, free_stream));
    OK_CALL(cuMemcpyDtoHAsync_v2(&seen[0], p, 4, NULL));
    OK_CALL(cuMemcpyDtoHAsync_v2(&seen[1], q, 4, NULL));
    OK_CALL(cuMemsetD32Async(p, 4, 1, blocking)); /* and they wait for it */
    OK_CALL(cuStreamSynchronize(blocking));
    CHECK_EQ(seen[0], 3);
    CHECK_EQ(seen[1], UINT32_MAX);
    CHECK_EQ(sim_default_stream_uses(), 2);
    rig_close_machine();
}

TEST(sim_driver_memory_freed_under_pending_work_is_a_fault) {
    (void)rig_machine(DEFERRED);
    cu_stream s = rig_stream();
    cu_ptr p = rig_device(4);
    OK_CALL(cuMemsetD32Async(p, 1, 1, s));
    OK_CALL(cuMemFree_v2(p));
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    (void)rig_machine(DEFERRED);
    s = rig_stream();
    p = rig_device(4);
    void *pinned = rig_pinned(4);
    OK_CALL(cuMemcpyHtoDAsync_v2(p, pinned, 4, s));
    OK_CALL(cuMemFreeHost(pinned));
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}

TEST(sim_driver_module_unloaded_under_pending_work_is_a_fault) {
    cu_module module = NULL;
    cu_function f = NULL;
    (void)rig_machine(DEFERRED);
    cu_stream s = rig_stream();
    OK_CALL(cuModuleLoadDataEx(&module, RIG_PTX("6.5", "sm_75"), 0, NULL, NULL));
    OK_CALL(cuModuleGetFunction(&f, module, "k_test_atomic"));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = rig_device(8)}, 1, s));
    OK_CALL(cuModuleUnload(module));
    CHECK_EQ(rig_launch_on(f, &(k_test_args){0}, 1, s), CU_INVALID_HANDLE);
    CHECK_EQ(cuModuleUnload(module), CU_INVALID_HANDLE);
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}

/* --- GPUs beside each other -------------------- */

static const char PEERS[] = "{\"gpus\":[{},{},{}],\"p2p\":[[0,1]],\"p2p_corrupts\":%s}";

/* A word through cuMemcpyPeerAsync from GPU 0 to GPU `to`, with peer access where it may be. */
static uint32_t word_to_peer(const char *corrupts, int to) {
    char machine[128];
    cu_context there = NULL;
    int can = -1;
    uint32_t word = 6;
    (void)snprintf(machine, sizeof machine, PEERS, corrupts);
    cu_context here = rig_machine(machine);
    OK_CALL(cuDevicePrimaryCtxRetain(&there, to));
    OK_CALL(cuDeviceCanAccessPeer(&can, 0, to));
    CHECK_EQ(can, to == 1);
    CHECK_EQ(cuCtxEnablePeerAccess(there, 0), to == 1 ? CU_SUCCESS : (int)SIM_PEER_UNSUPPORTED);
    if (to == 1) CHECK_EQ(cuCtxEnablePeerAccess(there, 0), CU_PEER_ACCESS_ALREADY_ENABLED);
    cu_stream s = rig_stream();
    cu_ptr p = rig_device(4);
    OK_CALL(cuCtxSetCurrent(there));
    cu_ptr q = rig_device(4);
    OK_CALL(cuCtxSetCurrent(here));
    OK_CALL(cuMemcpyHtoDAsync_v2(p, &word, 4, s));
    CHECK_EQ(cuMemcpyPeerAsync(q, here, p, here, 4, s), CU_INVALID_VALUE);
    OK_CALL(cuMemcpyPeerAsync(q, there, p, here, 4, s));
    OK_CALL(cuStreamSynchronize(s));
    word = rig_word(q);
    rig_close_machine();
    return word;
}

TEST(sim_driver_peer_copies_arrive_and_may_be_corrupted) {
    CHECK_EQ(word_to_peer("false", 1), 6);
    CHECK(word_to_peer("true", 1) != 6);
    CHECK_EQ(word_to_peer("true", 2), 6); /* through the host */
}

/* --- threads -------------------- */

enum { THREADS = 4, ROUNDS = 40 };

static void *work(void *context) {
    uint32_t word = 0;
    OK_CALL(cuCtxSetCurrent(context));
    cu_stream s = rig_stream();
    cu_event e = rig_event();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        cu_ptr p = rig_device(64 + i);
        OK_CALL(cuMemsetD32Async(p, i, 4, s));
        OK_CALL(cuEventRecord(e, s));
        OK_CALL(cuEventSynchronize(e));
        OK_CALL(cuMemcpyDtoHAsync_v2(&word, p + 12, 4, s));
        CHECK_EQ(word, i);
        OK_CALL(cuMemFree_v2(p));
    }
    OK_CALL(cuEventDestroy_v2(e));
    OK_CALL(cuStreamDestroy_v2(s));
    return NULL;
}

static void work_in_threads(const char *machine) {
    pthread_t threads[THREADS];
    cu_context ctx = rig_machine(machine);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, work, ctx), 0);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(sim_calls("cuMemAlloc_v2"), THREADS * ROUNDS);
    CHECK_EQ(sim_leaks(), 1);
    rig_close_machine();
}

TEST(sim_driver_threads_share_a_context) {
    work_in_threads("t4");
    work_in_threads(DEFERRED);
    work_in_threads("{\"streams\":\"random\",\"seed\":3}");
}
