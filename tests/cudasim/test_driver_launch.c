/* test_driver_launch.c - launches on the software GPU: what is refused, what poisons a context. */
#include "cudasim/driver/test_rig.h"

TEST(sim_driver_launches_run_kernels) {
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    OK_CALL(cuMemsetD32Async(out, 0, 2, s));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = out}, 1, s));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = out}, 2, s));
    CHECK_EQ(rig_word(out), 3 * RIG_ATOMIC_STEP);
    CHECK_EQ(sim_launches("k_test_atomic"), 2);
    CHECK_EQ(sim_launches(NULL), 2);
    CHECK_EQ(sim_launches("k_none"), 0);
    CHECK_EQ(sim_calls("cuLaunchKernel"), 2);
    CHECK_EQ(sim_calls("cuNone"), UINT64_MAX);
    rig_close_machine();
}

typedef struct launch_case {
    unsigned grid[3], block[3], shared;
    cu_result want;
} launch_case;

TEST(sim_driver_launch_shapes_are_checked) {
    static const launch_case cases[] = {
        {{1, 1, 1}, {32, 1, 1}, 0, CU_SUCCESS},
        {{1, 65535, 1}, {1, 1, 1}, 0, CU_SUCCESS},
        {{0, 1, 1}, {32, 1, 1}, 0, CU_INVALID_VALUE},
        {{1, 65536, 1}, {32, 1, 1}, 0, CU_INVALID_VALUE},
        {{1, 1, 65536}, {32, 1, 1}, 0, CU_INVALID_VALUE},
        {{1u << 31, 1, 1}, {32, 1, 1}, 0, CU_INVALID_VALUE},
        {{1, 1, 1}, {0, 1, 1}, 0, CU_INVALID_VALUE},
        {{1, 1, 1}, {1025, 1, 1}, 0, CU_INVALID_VALUE},
        {{1, 1, 1}, {32, 33, 1}, 0, CU_INVALID_VALUE},
        {{1, 1, 1}, {1, 1, 65}, 0, CU_INVALID_VALUE},
        {{1, 1, 1}, {32, 1, 1}, 48 << 10, CU_SUCCESS},
        {{1, 1, 1}, {32, 1, 1}, (48 << 10) + 1, CU_INVALID_VALUE},
    };
    (void)rig_machine("t4");
    cu_function f = rig_kernel("k_test_address");
    cu_stream s = rig_stream();
    k_test_args a = {.n = 2000}; /* no such thread: nothing is touched */
    void *args[] = {&a};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const launch_case *c = &cases[i];
        CHECK_EQ(cuLaunchKernel(f, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1],
                                c->block[2], c->shared, s, args, NULL),
                 c->want);
    }
    OK_CALL(cuCtxSynchronize());
    rig_close_machine();
}

TEST(sim_driver_launch_needs_args_and_handles) {
    (void)rig_machine("t4");
    cu_function f = rig_kernel("k_test_address");
    cu_stream s = rig_stream();
    k_test_args a = {.n = 2000};
    void *args[] = {&a}, *none[] = {NULL};
    CHECK_EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, NULL, NULL), CU_INVALID_VALUE);
    CHECK_EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, none, NULL), CU_INVALID_VALUE);
    CHECK_EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, args, args), CU_INVALID_VALUE);
    CHECK_EQ(cuLaunchKernel(NULL, 1, 1, 1, 32, 1, 1, 0, s, args, NULL), CU_INVALID_HANDLE);
    CHECK_EQ(cuLaunchKernel((cu_function)(void *)s, 1, 1, 1, 32, 1, 1, 0, s, args, NULL),
             CU_INVALID_HANDLE);
    OK_CALL(cuStreamDestroy_v2(s));
    CHECK_EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, args, NULL), CU_INVALID_HANDLE);
    CHECK_EQ(cuStreamDestroy_v2(s), CU_INVALID_HANDLE);
    CHECK_EQ(sim_default_stream_uses(), 0);
    OK_CALL(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, args, NULL));
    CHECK_EQ(sim_default_stream_uses(), 1);
    rig_close_machine();
}

TEST(sim_driver_shared_memory_is_opted_into) {
    int value = 0;
    (void)rig_machine("t4");
    cu_function f = rig_kernel("k_test_address");
    cu_stream s = rig_stream();
    k_test_args a = {.n = 2000};
    void *args[] = {&a};
    CHECK_EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 60000, s, args, NULL), CU_INVALID_VALUE);
    CHECK_EQ(cuFuncSetAttribute(f, CU_FUNC_MAX_DYNAMIC_SHARED, 65537), CU_INVALID_VALUE);
    CHECK_EQ(cuFuncSetAttribute(f, CU_FUNC_REGISTERS, 32), CU_INVALID_VALUE);
    OK_CALL(cuFuncSetAttribute(f, CU_FUNC_MAX_DYNAMIC_SHARED, 65536));
    OK_CALL(cuFuncGetAttribute(&value, CU_FUNC_MAX_DYNAMIC_SHARED, f));
    CHECK_EQ(value, 65536);
    OK_CALL(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 65536, s, args, NULL));
    OK_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, f, 256, 65536));
    CHECK_EQ(value, 1);
    OK_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, f, 256, 0));
    CHECK_EQ(value, 4);
    OK_CALL(cuCtxSynchronize());
    rig_close_machine();
}

TEST(sim_driver_an_illegal_address_poisons_the_context) {
    cu_ptr p = 0;
    cu_context ctx = rig_machine("t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_address");
    cu_ptr out = rig_device(4);
    OK_CALL(rig_launch_on(f, &(k_test_args){.in = out + 4, .out = out}, 2, s));
    CHECK_EQ(cuMemAlloc_v2(&p, 4), CU_ILLEGAL_ADDRESS);
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    CHECK_EQ(cuStreamDestroy_v2(s), CU_ILLEGAL_ADDRESS);
    CHECK_HAS(sim_fault_text(), "k_test_address");
    OK_CALL(cuCtxSetCurrent(ctx));
    OK_CALL(cuDevicePrimaryCtxRelease_v2(0));
    CHECK_EQ(cuDevicePrimaryCtxRetain(&ctx, 0), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}

TEST(sim_driver_kernels_see_no_freed_and_no_other_gpus_memory) {
    cu_context other = NULL;
    cu_context ctx = rig_machine("t4,t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_address");
    cu_ptr out = rig_device(4), freed = rig_device(4);
    OK_CALL(rig_launch_on(f, &(k_test_args){.in = freed, .out = out}, 2, s));
    OK_CALL(cuStreamSynchronize(s));
    OK_CALL(cuDevicePrimaryCtxRetain(&other, 1));
    OK_CALL(cuCtxSetCurrent(other));
    CHECK_EQ(rig_launch_on(f, &(k_test_args){.in = out, .out = out}, 2, s), CU_INVALID_HANDLE);
    f = rig_kernel("k_test_address");
    cu_stream s1 = rig_stream();
    OK_CALL(rig_launch_on(f, &(k_test_args){.in = out, .out = rig_device(4)}, 2, s1));
    CHECK_EQ(cuStreamSynchronize(s1), CU_ILLEGAL_ADDRESS);
    OK_CALL(cuCtxSetCurrent(ctx)); /* only its own context is lost */
    OK_CALL(cuStreamSynchronize(s));
    f = rig_kernel("k_test_address");
    OK_CALL(cuMemFree_v2(freed));
    OK_CALL(rig_launch_on(f, &(k_test_args){.in = freed, .out = out}, 2, s));
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}

TEST(sim_driver_fault_rules_count_launches) {
    (void)rig_machine("{\"faults\":[{\"kernel\":\"k_test_atomic\",\"at\":2,\"result\":719},"
                      "{\"kernel\":\"k_test_address\",\"at\":1,\"result\":701}]}");
    cu_stream s = rig_stream();
    cu_function atomic = rig_kernel("k_test_atomic"), address = rig_kernel("k_test_address");
    cu_ptr out = rig_device(8);
    k_test_args a = {.out = out, .n = 2000};
    CHECK_EQ(rig_launch_on(address, &a, 1, s), CU_LAUNCH_OUT_OF_RESOURCES);
    OK_CALL(rig_launch_on(address, &a, 1, s));
    OK_CALL(rig_launch_on(atomic, &a, 1, s));
    OK_CALL(cuStreamSynchronize(s));
    OK_CALL(rig_launch_on(atomic, &a, 1, s)); /* the launch itself went well */
    CHECK_EQ(cuStreamSynchronize(s), CU_LAUNCH_FAILED);
    CHECK_EQ(cuStreamSynchronize(s), CU_LAUNCH_FAILED);
    rig_close_machine();
}

TEST(sim_driver_a_sticky_result_of_a_call_stays) {
    cu_ptr p = 0;
    (void)rig_machine("{\"faults\":[{\"call\":\"cuStreamQuery\",\"at\":1,\"result\":700}]}");
    cu_stream s = rig_stream();
    OK_CALL(cuStreamSynchronize(s));
    CHECK_EQ(cuStreamQuery(s), CU_ILLEGAL_ADDRESS);
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    CHECK_EQ(cuMemAlloc_v2(&p, 1), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}

TEST(sim_driver_a_lost_gpu_answers_nothing) {
    int value = 0;
    cu_context other = NULL;
    (void)rig_machine("{\"gpus\":[{\"lost_at_call\":6},{\"preset\":\"t4\"}]}"); /* 3 calls */
    cu_stream s = rig_stream();
    OK_CALL(cuStreamSynchronize(s));
    CHECK_EQ(cuStreamSynchronize(s), CU_UNKNOWN);
    CHECK_EQ(cuDeviceGetAttribute(&value, CU_ATTR_SM_COUNT, 0), CU_UNKNOWN);
    OK_CALL(cuDeviceGetAttribute(&value, CU_ATTR_SM_COUNT, 1));
    OK_CALL(cuDevicePrimaryCtxRetain(&other, 1));
    OK_CALL(cuCtxSetCurrent(other));
    s = rig_stream();
    OK_CALL(cuStreamSynchronize(s));
    sim_lose_gpu(1);
    CHECK_EQ(cuStreamSynchronize(s), CU_UNKNOWN);
    rig_close_machine();
}

TEST(sim_driver_counts_traffic_when_asked) {
    sim_counters last = {0}, all = {0};
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    k_test_args a = {.out = out};
    OK_CALL(rig_launch_on(f, &a, 1, s));
    CHECK(!sim_counted("k_test_atomic", &last, &all));
    sim_count(true);
    OK_CALL(rig_launch_on(f, &a, 1, s));
    OK_CALL(rig_launch_on(f, &a, 2, s));
    CHECK(sim_counted("k_test_atomic", &last, &all));
    CHECK(last.store_bytes > 0);
    CHECK_EQ(all.store_bytes * 2, last.store_bytes * 3);
    rig_close_machine();
}

TEST(sim_driver_calls_need_init_and_a_context) {
    int count = 0;
    const char *text = NULL;
    cu_ptr p = 0;
    sim_reset("t4");
    CHECK_EQ(cuDeviceGetCount(&count), CU_NOT_INITIALIZED);
    OK_CALL(cuDriverGetVersion(&count));
    CHECK_EQ(count, 13000);
    OK_CALL(cuGetErrorName(CU_OUT_OF_MEMORY, &text));
    CHECK_STR(text, "CUDA_ERROR_OUT_OF_MEMORY");
    OK_CALL(cuGetErrorName(CU_SUCCESS, &text));
    CHECK_STR(text, "CUDA_SUCCESS");
    OK_CALL(cuGetErrorString(CU_ILLEGAL_ADDRESS, &text));
    CHECK_STR(text, "illegal address");
    CHECK_EQ(cuGetErrorName(12345, &text), CU_INVALID_VALUE);
    CHECK_EQ(cuInit(1), CU_INVALID_VALUE);
    OK_CALL(cuInit(0));
    CHECK_EQ(cuMemAlloc_v2(&p, 4), CU_INVALID_CONTEXT);
    CHECK_EQ(cuDevicePrimaryCtxRelease_v2(0), CU_INVALID_CONTEXT);
    CHECK_EQ(cuDeviceGet(&count, 1), CU_INVALID_DEVICE);
    rig_close_machine();
}
