/* test_driver_early.c - cuLaunchKernelEx on the software GPU: launches that may start before the
 * one ahead of them has ended. */
#include "cudasim/driver/test_rig.h"

#define EARLY_PTX                                         \
    "//\n.version 8.0\n.target sm_90\n.address_size 64\n" \
    ".visible .entry k_test_early(\n) { ret; }\n"         \
    ".visible .entry k_test_atomic(\n) { ret; }\n"

static cu_function kernel_of(const char *ptx, const char *name) {
    cu_module module = NULL;
    cu_function f = NULL;
    OK_CALL(cuModuleLoadDataEx(&module, ptx, 0, NULL, NULL));
    OK_CALL(cuModuleGetFunction(&f, module, name));
    return f;
}

static cu_result launch_with(cu_function f, const k_test_args *a, cu_stream s, int id, int value) {
    k_test_args copy = *a;
    void *args[] = {&copy};
    const cu_launch_attribute attribute = {.id = id, .value = {.number = value}};
    const cu_launch_config c = {.grid_x = 2,
                                .grid_y = 1,
                                .grid_z = 1,
                                .block_x = 32,
                                .block_y = 1,
                                .block_z = 1,
                                .stream = s,
                                .attributes = &attribute,
                                .attributes_count = 1};
    return cuLaunchKernelEx(&c, f, args, NULL);
}

static cu_result launch_early(cu_function f, const k_test_args *a, cu_stream s) {
    return launch_with(f, a, s, CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, 1);
}

/* Words that k_test_early copies from `in` to `out`. */
static k_test_args words(cu_stream s, uint32_t mode) {
    const k_test_args a = {.in = rig_device(4096), .out = rig_device(256), .n = 5, .mode = mode};
    OK_CALL(cuMemsetD32Async(a.in, 7, 1024, s));
    return a;
}

TEST(sim_driver_launches_early) {
    (void)rig_machine("h100");
    cu_stream s = rig_stream();
    cu_function f = kernel_of(EARLY_PTX, "k_test_early");
    const k_test_args a = words(s, 0);
    OK_CALL(launch_early(f, &a, s));
    CHECK_EQ(rig_word(a.out), 7);
    CHECK_EQ(sim_launches("k_test_early"), 1);
    CHECK_EQ(sim_early_launches("k_test_early"), 1);
    OK_CALL(launch_with(f, &a, s, CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, 0)); /* a plain one */
    OK_CALL(cuCtxSynchronize());
    CHECK_EQ(sim_launches(NULL), 2);
    CHECK_EQ(sim_early_launches(NULL), 1);
    CHECK_EQ(sim_early_launches("k_none"), 0);
    CHECK_EQ(launch_with(f, &a, s, 5, 1), CU_INVALID_VALUE); /* nothing we know */
    CHECK_EQ(cuLaunchKernelEx(NULL, f, NULL, NULL), CU_INVALID_VALUE);
    CHECK_EQ(sim_calls("cuLaunchKernelEx"), 4);
    rig_close_machine();
}

/* A kernel that writes before it waits would do so while the one ahead of it may still read. */
TEST(sim_driver_early_mistakes_poison_the_context) {
    (void)rig_machine("h100");
    cu_stream s = rig_stream();
    cu_function f = kernel_of(EARLY_PTX, "k_test_early");
    const k_test_args a = words(s, 2);
    OK_CALL(launch_with(f, &a, s, CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, 0));
    OK_CALL(cuCtxSynchronize());
    OK_CALL(launch_early(f, &a, s));
    CHECK_EQ(cuCtxSynchronize(), 719);
    CHECK_HAS(sim_fault_text(), "k_test_early, block (1, 0, 0), thread 5: store of 4 bytes");
    CHECK_HAS(sim_fault_text(), "before its ck_pdl_wait");
    rig_close_machine();
}

TEST(sim_driver_early_launches_need_a_newer_card) {
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    const k_test_args a = {.out = rig_device(8)};
    CHECK_EQ(launch_early(f, &a, s), CU_NOT_SUPPORTED);
    OK_CALL(launch_with(f, &a, s, CU_LAUNCH_PROGRAMMATIC_SERIALIZATION, 0));
    OK_CALL(cuCtxSynchronize());
    (void)rig_machine("h100"); /* code of an older one has no wait in it */
    s = rig_stream();
    f = rig_kernel("k_test_atomic");
    const k_test_args b = {.out = rig_device(8)};
    OK_CALL(launch_early(f, &b, s));
    CHECK_EQ(cuCtxSynchronize(), 719);
    CHECK_HAS(sim_fault_text(), "before its ck_pdl_wait");
    rig_close_machine();
}

TEST(sim_driver_graphs_keep_early_launches) {
    cu_graph g = NULL;
    cu_graph_exec exec = NULL;
    (void)rig_machine("{\"gpus\":[{\"preset\":\"h100\"}],\"cuda\":12030}");
    cu_stream s = rig_stream();
    cu_function f = kernel_of(EARLY_PTX, "k_test_early");
    const k_test_args a = words(s, 0);
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(launch_early(f, &a, s));
    OK_CALL(launch_early(f, &a, s));
    OK_CALL(cuStreamEndCapture(s, &g));
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    CHECK_EQ(sim_early_launches(NULL), 0);
    OK_CALL(cuGraphLaunch(exec, s));
    OK_CALL(cuGraphLaunch(exec, s));
    CHECK_EQ(rig_word(a.out), 7);
    CHECK_EQ(sim_early_launches(NULL), 4);
    rig_close_machine();
}

TEST(sim_driver_captures_of_old_drivers_break_at_early_launches) {
    cu_graph g = NULL;
    (void)rig_machine("{\"gpus\":[{\"preset\":\"h100\"}],\"cuda\":12020}");
    cu_stream s = rig_stream();
    cu_function f = kernel_of(EARLY_PTX, "k_test_early");
    const k_test_args a = words(s, 0);
    OK_CALL(launch_early(f, &a, s));
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    CHECK_EQ(launch_early(f, &a, s), CU_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQ(cuStreamEndCapture(s, &g), CU_STREAM_CAPTURE_INVALIDATED);
    rig_close_machine();
}
