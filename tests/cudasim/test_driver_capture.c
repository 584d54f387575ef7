/* test_driver_capture.c - stream capture and graphs on the software GPU. */
#include "cudasim/driver/test_rig.h"

/* A launch of k_test_atomic on `out`, captured on `s`. */
static cu_graph capture_step(cu_stream s, cu_function f, cu_ptr out) {
    cu_graph g = NULL;
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = out}, 1, s));
    OK_CALL(cuStreamEndCapture(s, &g));
    return g;
}

static void run_graph(const char *machine) {
    cu_graph_exec exec = NULL;
    (void)rig_machine(machine);
    cu_stream s = rig_stream(), other = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    OK_CALL(cuMemsetD32Async(out, 0, 2, s));
    cu_graph g = capture_step(s, f, out);
    OK_CALL(cuStreamSynchronize(s));
    CHECK_EQ(sim_launches(NULL), 0);
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    OK_CALL(cuGraphDestroy(g));
    CHECK_EQ(cuGraphDestroy(g), CU_INVALID_HANDLE);
    OK_CALL(cuGraphLaunch(exec, s));
    OK_CALL(cuGraphLaunch(exec, other));
    OK_CALL(cuGraphLaunch(exec, s));
    OK_CALL(cuGraphExecDestroy(exec)); /* launches hold what they need */
    CHECK_EQ(rig_word(out), 3 * RIG_ATOMIC_STEP);
    CHECK_EQ(cuGraphLaunch(exec, s), CU_INVALID_HANDLE);
    rig_close_machine();
}

TEST(sim_driver_graphs_run_what_was_captured) {
    run_graph("t4");
    run_graph("{\"streams\":\"deferred\"}");
    run_graph("{\"streams\":\"random\",\"seed\":5}");
}

TEST(sim_driver_capture_copies_arguments) {
    cu_graph g = NULL;
    cu_graph_exec exec = NULL;
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    OK_CALL(cuMemsetD32Async(out, 0, 2, s));
    k_test_args a = {.out = out};
    void *args[] = {&a};
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, args, NULL));
    OK_CALL(cuStreamEndCapture(s, &g));
    a.out = 1;
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    OK_CALL(cuGraphLaunch(exec, s));
    CHECK_EQ(rig_word(out), RIG_ATOMIC_STEP);
    rig_close_machine();
}

TEST(sim_driver_graphs_read_pinned_memory_when_they_run) {
    cu_graph g = NULL;
    cu_graph_exec exec = NULL;
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    uint32_t *pinned = rig_pinned(4);
    cu_ptr p = rig_device(4);
    *pinned = 1;
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(cuMemcpyHtoDAsync_v2(p, pinned, 4, s));
    OK_CALL(cuStreamEndCapture(s, &g));
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    for (uint32_t i = 1; i <= 3; i++) {
        *pinned = i;
        OK_CALL(cuGraphLaunch(exec, s));
        CHECK_EQ(rig_word(p), i);
    }
    rig_close_machine();
}

/* --- what breaks a capture -------------------- */

typedef struct bench {
    cu_stream s, other;
    cu_event event;
    cu_ptr p;
} bench;

static cu_result call_alloc(bench *b) {
    cu_ptr p;
    (void)b;
    return cuMemAlloc_v2(&p, 4);
}
static cu_result call_free(bench *b) { return cuMemFree_v2(b->p); }
static cu_result call_host_alloc(bench *b) {
    void *p;
    (void)b;
    return cuMemHostAlloc(&p, 4, 0);
}
static cu_result call_sync(bench *b) { return cuStreamSynchronize(b->s); }
static cu_result call_sync_other(bench *b) { return cuStreamSynchronize(b->other); }
static cu_result call_query(bench *b) { return cuStreamQuery(b->s); }
static cu_result call_context_sync(bench *b) {
    (void)b;
    return cuCtxSynchronize();
}
static cu_result call_event_query(bench *b) { return cuEventQuery(b->event); }
static cu_result call_pageable(bench *b) {
    static const char bytes[4];
    return cuMemcpyHtoDAsync_v2(b->p, bytes, 4, b->s);
}
static cu_result call_pageable_back(bench *b) {
    static char bytes[4];
    return cuMemcpyDtoHAsync_v2(bytes, b->p, 4, b->s);
}
static cu_result call_load(bench *b) {
    cu_module m;
    (void)b;
    return cuModuleLoadDataEx(&m, RIG_PTX("6.5", "sm_75"), 0, NULL, NULL);
}
/* An event from outside of the capture. */
static cu_result call_outer_wait(bench *b) { return cuStreamWaitEvent(b->s, b->event, 0); }
/* An event of the capture, asked for by the host. */
static cu_result call_inner_event(bench *b) {
    OK_CALL(cuEventRecord(b->event, b->s));
    return cuEventSynchronize(b->event);
}

typedef struct breaker {
    cu_result (*call)(bench *b);
    cu_result want;
} breaker;

TEST(sim_driver_forbidden_calls_break_a_capture) {
    static const breaker breakers[] = {
        {call_alloc, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_free, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_host_alloc, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_sync, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_sync_other, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_query, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_context_sync, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_event_query, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_pageable, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_pageable_back, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_load, CU_STREAM_CAPTURE_UNSUPPORTED},
        {call_outer_wait, SIM_CAPTURE_ISOLATION},
        {call_inner_event, SIM_CAPTURED_EVENT},
    };
    (void)rig_machine("t4");
    bench b = {rig_stream(), rig_stream(), rig_event(), rig_device(4)};
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    for (size_t i = 0; i < sizeof breakers / sizeof breakers[0]; i++) {
        cu_graph g = NULL;
        OK_CALL(cuEventRecord(b.event, b.other));
        OK_CALL(cuStreamBeginCapture_v2(b.s, CU_CAPTURE_THREAD_LOCAL));
        CHECK_EQ(breakers[i].call(&b), breakers[i].want);
        CHECK_EQ(rig_launch_on(f, &(k_test_args){.out = out}, 1, b.s),
                 CU_STREAM_CAPTURE_INVALIDATED);
        CHECK_EQ(cuStreamEndCapture(b.s, &g), CU_STREAM_CAPTURE_INVALIDATED);
        CHECK(g == NULL);
        OK_CALL(cuStreamSynchronize(b.s)); /* a stream as before */
    }
    CHECK_EQ(sim_launches(NULL), 0);
    rig_close_machine();
}

TEST(sim_driver_capture_allows_what_touches_no_stream) {
    cu_graph g = NULL;
    size_t free_bytes = 0, total = 0;
    int value = 0;
    (void)rig_machine("t4");
    cu_stream s = rig_stream(), other = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    CHECK_EQ(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL), SIM_ILLEGAL_STATE);
    OK_CALL(cuMemGetInfo_v2(&free_bytes, &total));
    OK_CALL(cuFuncGetAttribute(&value, CU_FUNC_REGISTERS, f));
    OK_CALL(cuMemsetD32Async(out, 0, 2, other));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = out}, 1, NULL)); /* s does not block it */
    OK_CALL(cuStreamEndCapture(s, &g));
    CHECK_EQ(cuStreamEndCapture(s, &g), SIM_ILLEGAL_STATE);
    CHECK_EQ(cuStreamBeginCapture_v2(NULL, 0), CU_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQ(rig_word(out), RIG_ATOMIC_STEP);
    rig_close_machine();
}

TEST(sim_driver_default_stream_breaks_a_blocking_capture) {
    cu_stream s = NULL;
    cu_graph g = NULL;
    (void)rig_machine("t4");
    OK_CALL(cuStreamCreateWithPriority(&s, 0, 0));
    cu_ptr p = rig_device(4);
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    CHECK_EQ(cuMemsetD32Async(p, 0, 1, NULL), CU_STREAM_CAPTURE_IMPLICIT);
    CHECK_EQ(cuStreamEndCapture(s, &g), CU_STREAM_CAPTURE_INVALIDATED);
    rig_close_machine();
}

/* --- forks -------------------- */

/* A second stream takes part in the capture; whether it comes back before the end. */
static cu_result fork_capture(bool joins, cu_ptr *out, cu_stream *stream, cu_graph *graph) {
    (void)rig_machine("t4");
    cu_stream s = *stream = rig_stream(), branch = rig_stream();
    cu_event forked = rig_event(), done = rig_event();
    cu_function f = rig_kernel("k_test_atomic");
    *out = rig_device(8);
    OK_CALL(cuMemsetD32Async(*out, 0, 2, s));
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = *out}, 1, s));
    OK_CALL(cuEventRecord(forked, s));
    OK_CALL(cuStreamWaitEvent(branch, forked, 0));
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = *out}, 1, branch));
    OK_CALL(cuEventRecord(done, branch));
    if (joins) OK_CALL(cuStreamWaitEvent(s, done, 0));
    CHECK_EQ(sim_launches(NULL), 0);
    cu_result result = cuStreamEndCapture(s, graph);
    OK_CALL(rig_launch_on(f, &(k_test_args){.out = *out}, 1, branch)); /* not captured any more */
    return result;
}

TEST(sim_driver_forks_must_be_joined) {
    cu_ptr out = 0;
    cu_stream s = NULL;
    cu_graph g = NULL;
    cu_graph_exec exec = NULL;
    CHECK_EQ(fork_capture(false, &out, &s, &g), SIM_CAPTURE_UNJOINED);
    OK_CALL(fork_capture(true, &out, &s, &g));
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    OK_CALL(cuGraphLaunch(exec, s));
    CHECK_EQ(rig_word(out), 3 * RIG_ATOMIC_STEP);
    rig_close_machine();
}

TEST(sim_driver_streams_may_be_destroyed_in_a_capture) {
    cu_graph g = NULL;
    (void)rig_machine("t4");
    cu_stream s = rig_stream(), branch = rig_stream();
    cu_event e = rig_event();
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(cuEventRecord(e, s));
    OK_CALL(cuStreamWaitEvent(branch, e, 0));
    OK_CALL(cuEventRecord(e, branch));
    OK_CALL(cuStreamDestroy_v2(branch));
    CHECK_EQ(cuStreamWaitEvent(s, e, 0), CU_STREAM_CAPTURE_INVALIDATED);
    CHECK_EQ(cuStreamEndCapture(s, &g), CU_STREAM_CAPTURE_INVALIDATED);
    OK_CALL(cuStreamBeginCapture_v2(s, CU_CAPTURE_THREAD_LOCAL));
    OK_CALL(cuEventRecord(e, s));
    OK_CALL(cuStreamDestroy_v2(s));
    CHECK_EQ(cuEventQuery(e), SIM_CAPTURED_EVENT);
    rig_close_machine();
}

TEST(sim_driver_graph_over_freed_memory_is_a_fault) {
    cu_graph_exec exec = NULL;
    (void)rig_machine("t4");
    cu_stream s = rig_stream();
    cu_function f = rig_kernel("k_test_atomic");
    cu_ptr out = rig_device(8);
    cu_graph g = capture_step(s, f, out);
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    OK_CALL(cuMemFree_v2(out));
    OK_CALL(cuGraphLaunch(exec, s));
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}

TEST(sim_driver_graph_launches_count_for_fault_rules) {
    cu_graph_exec exec = NULL;
    (void)rig_machine("{\"faults\":[{\"kernel\":\"k_test_atomic\",\"at\":3,\"result\":700}]}");
    cu_stream s = rig_stream();
    cu_graph g = capture_step(s, rig_kernel("k_test_atomic"), rig_device(8));
    OK_CALL(cuGraphInstantiateWithFlags(&exec, g, 0));
    OK_CALL(cuGraphLaunch(exec, s));
    OK_CALL(cuGraphLaunch(exec, s));
    OK_CALL(cuStreamSynchronize(s));
    OK_CALL(cuGraphLaunch(exec, s));
    CHECK_EQ(cuStreamSynchronize(s), CU_ILLEGAL_ADDRESS);
    rig_close_machine();
}
