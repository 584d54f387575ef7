/* test_driver_memory.c - the software GPU's memory: limits, accounting, wrong addresses. */
#include "cudasim/driver/test_rig.h"

#define MIB ((size_t)1 << 20)

TEST(sim_driver_t4_is_what_the_real_one_says) {
    size_t free_bytes = 0, total = 0;
    int sms = 0, optin = 0;
    (void)rig_machine("t4");
    OK_CALL(cuMemGetInfo_v2(&free_bytes, &total));
    CHECK_EQ(total, 15637086208);
    CHECK_EQ(total - free_bytes, 300 * MIB);
    OK_CALL(cuDeviceGetAttribute(&sms, CU_ATTR_SM_COUNT, 0));
    OK_CALL(cuDeviceGetAttribute(&optin, CU_ATTR_MAX_SHARED_OPTIN, 0));
    CHECK_EQ(sms, 40);
    CHECK_EQ(optin, 65536);
    rig_close_machine();
}

TEST(sim_driver_memory_is_limited_and_counted_in_units) {
    size_t before = 0, after = 0, total = 0;
    cu_ptr p = 0;
    (void)rig_machine("{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":512,\"context_mib\":100}]}");
    OK_CALL(cuMemGetInfo_v2(&before, &total));
    CHECK_EQ(before, 412 * MIB);
    CHECK_EQ(cuMemAlloc_v2(&p, 413 * MIB), CU_OUT_OF_MEMORY);
    CHECK_EQ(cuMemAlloc_v2(&p, 0), CU_INVALID_VALUE);
    CHECK_EQ(cuMemAlloc_v2(&p, SIZE_MAX), CU_OUT_OF_MEMORY);
    p = rig_device(3 * MIB);
    OK_CALL(cuMemGetInfo_v2(&after, &total));
    CHECK_EQ(before - after, 4 * MIB);
    CHECK_EQ(sim_memory(0).asked_now, 3 * MIB);
    OK_CALL(cuMemFree_v2(p));
    OK_CALL(cuMemGetInfo_v2(&after, &total));
    CHECK_EQ(before, after);
    CHECK_EQ(sim_memory(0).asked_peak, 3 * MIB);
    CHECK_EQ(sim_memory(0).held_peak, 4 * MIB);
    rig_close_machine();
}

TEST(sim_driver_large_memory_costs_nothing) {
    (void)rig_machine("h100");
    cu_ptr p = rig_device((size_t)70 << 30);
    unsigned char first = 0, middle = 1, last = 0;
    OK_CALL(cuMemcpyDtoHAsync_v2(&first, p, 1, NULL));
    OK_CALL(cuMemcpyDtoHAsync_v2(&middle, p + ((size_t)35 << 30), 1, NULL));
    OK_CALL(cuMemcpyDtoHAsync_v2(&last, p + ((size_t)70 << 30) - 1, 1, NULL));
    CHECK_EQ(first, 0xff);
    CHECK_EQ(middle, 0);
    CHECK_EQ(last, 0xff);
    rig_close_machine();
}

TEST(sim_driver_the_kth_allocation_runs_out) {
    for (uint64_t k = 1; k <= 4; k++) {
        cu_ptr p = 0;
        (void)rig_machine("t4");
        sim_fault_add("cuMemAlloc_v2", NULL, k, CU_OUT_OF_MEMORY);
        for (uint64_t i = 1; i <= 5; i++)
            CHECK_EQ(cuMemAlloc_v2(&p, 1000), i == k ? CU_OUT_OF_MEMORY : CU_SUCCESS);
        CHECK_EQ(sim_calls("cuMemAlloc_v2"), 5);
        CHECK_EQ(sim_memory(0).blocks, 4);
    }
    (void)rig_machine("{\"faults\":[{\"call\":\"cuMemHostAlloc\",\"at\":1,\"result\":2}]}");
    void *host = NULL;
    CHECK_EQ(cuMemHostAlloc(&host, 100, 0), CU_OUT_OF_MEMORY);
    OK_CALL(cuMemHostAlloc(&host, 100, 0));
    rig_close_machine();
}

TEST(sim_driver_fresh_memory_is_not_a_number) {
    float x = 0.0f;
    (void)rig_machine("t4");
    cu_ptr p = rig_device(4);
    OK_CALL(cuMemcpyDtoHAsync_v2(&x, p, sizeof x, NULL));
    CHECK(x != x);
    rig_close_machine();
}

TEST(sim_driver_copies_check_their_addresses) {
    char bytes[64] = {1};
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_ptr p = rig_device(sizeof bytes), q = rig_device(64);
    OK_CALL(cuMemcpyHtoDAsync_v2(p, bytes, 64, s));
    CHECK_EQ(cuMemcpyHtoDAsync_v2(p + 1, bytes, 64, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemcpyHtoDAsync_v2((cu_ptr)(uintptr_t)bytes, bytes, 64, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemcpyHtoDAsync_v2(p, (void *)(uintptr_t)q, 64, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemcpyDtoHAsync_v2((void *)(uintptr_t)q, p, 64, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemcpyDtoDAsync_v2(q, p, 65, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemsetD8Async(q, 0, 65, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemsetD32Async(q + 2, 0, 1, s), CU_INVALID_VALUE);
    CHECK_EQ(cuMemsetD32Async(q, 0, SIZE_MAX / 2, s), CU_INVALID_VALUE);
    OK_CALL(cuMemFree_v2(p));
    CHECK_EQ(cuMemFree_v2(p), CU_INVALID_VALUE);
    CHECK_EQ(cuMemFree_v2(q + 1), CU_INVALID_VALUE);
    CHECK_EQ(cuMemcpyHtoDAsync_v2(p, bytes, 1, s), CU_INVALID_VALUE);
    OK_CALL(cuStreamSynchronize(s));
    OK_CALL(cuMemFree_v2(0));
    rig_close_machine();
}

TEST(sim_driver_fills_and_copies_move_bytes) {
    uint32_t words[4] = {0};
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_ptr p = rig_device(16), q = rig_device(16);
    OK_CALL(cuMemsetD32Async(p, 0x01020304, 4, s));
    OK_CALL(cuMemsetD8Async(p + 4, 9, 4, s));
    OK_CALL(cuMemcpyDtoDAsync_v2(q, p, 16, s));
    OK_CALL(cuMemcpyDtoHAsync_v2(words, q, 16, s));
    CHECK_EQ(sim_copied().out, 16);
    CHECK_EQ(sim_copied().in, 0);
    OK_CALL(cuMemcpyHtoDAsync_v2(q, words, 12, s));
    CHECK_EQ(sim_copied().in, 12);
    CHECK_EQ(words[0], 0x01020304);
    CHECK_EQ(words[1], 0x09090909);
    CHECK_EQ(words[3], 0x01020304);
    rig_close_machine();
}

TEST(sim_driver_registered_memory_is_pinned_once) {
    static char bytes[8192];
    (void)rig_machine("t4");
    OK_CALL(cuMemHostRegister_v2(bytes, sizeof bytes, 0));
    CHECK_EQ(cuMemHostRegister_v2(bytes + 4096, 4096, 0), CU_HOST_MEMORY_ALREADY_REGISTERED);
    CHECK_EQ(cuMemFreeHost(bytes), CU_INVALID_VALUE);
    OK_CALL(cuMemHostUnregister(bytes));
    CHECK(cuMemHostUnregister(bytes) != CU_SUCCESS);
    OK_CALL(cuMemHostRegister_v2(bytes + 4096, 4096, 0));
    OK_CALL(cuMemHostUnregister(bytes + 4096));
    rig_close_machine();
}

TEST(sim_driver_marks_count_allocations) {
    (void)rig_machine("t4");
    cu_ptr p = rig_device(100);
    sim_mark();
    OK_CALL(cuMemFree_v2(p));
    CHECK_EQ(sim_allocs_since_mark(), 0);
    (void)rig_device(100);
    (void)rig_pinned(100);
    CHECK_EQ(sim_allocs_since_mark(), 2);
    rig_close_machine();
}

TEST(sim_driver_says_what_was_left_behind) {
    cu_context ctx = rig_machine("t4");
    (void)ctx;
    cu_ptr p = rig_device(100);
    cu_stream s = rig_stream();
    cu_event e = rig_event();
    CHECK_EQ(sim_leaks(), 4); /* and the context */
    OK_CALL(cuMemFree_v2(p));
    OK_CALL(cuEventDestroy_v2(e));
    OK_CALL(cuStreamDestroy_v2(s));
    CHECK_EQ(sim_leaks(), 1);
    OK_CALL(cuDevicePrimaryCtxRelease_v2(0));
    CHECK_EQ(sim_leaks(), 0);
    rig_close_machine();
}

TEST(sim_driver_a_context_takes_its_objects_along) {
    cu_context ctx = rig_machine("t4"), again = NULL;
    cu_ptr p = rig_device(100);
    cu_stream s = rig_stream();
    (void)rig_kernel("k_test_atomic");
    OK_CALL(cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(again == ctx);
    OK_CALL(cuDevicePrimaryCtxRelease_v2(0));
    OK_CALL(cuStreamSynchronize(s));
    OK_CALL(cuDevicePrimaryCtxRelease_v2(0));
    CHECK_EQ(cuStreamSynchronize(s), CU_INVALID_CONTEXT);
    CHECK_EQ(sim_leaks(), 3);
    CHECK_EQ(sim_memory(0).asked_now, 0);
    OK_CALL(cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(again != ctx);
    OK_CALL(cuCtxSetCurrent(again));
    CHECK_EQ(cuStreamSynchronize(s), CU_INVALID_HANDLE);
    CHECK_EQ(cuMemFree_v2(p), CU_INVALID_VALUE);
    CHECK_EQ(cuCtxSetCurrent(ctx), CU_INVALID_CONTEXT);
    rig_close_machine();
}
