/* test_rig.h - how the driver's own tests open a pretended machine and get at a kernel.
 *
 * They call the cu* functions directly, without the library, and launch the executor's test kernels
 * from PTX text: the names in it are all that the software GPU reads. */
#ifndef CUDASIM_TEST_RIG_H
#define CUDASIM_TEST_RIG_H

#include "cudasim/driver/sim_internal.h"
#include "cudasim/kernels_test.h"
#include "test.h"

/* k_test_address: thread n of block 1 reads (mode 0) or writes (mode 1) at `in`, then writes `out`.
 * k_test_atomic: out[0] += thread, by each thread.  k_test_barrier: out[thread] = thread + n. */
#define RIG_PTX(version, target)                                       \
    "//\n.version " version "\n.target " target "\n.address_size 64\n" \
    ".visible .entry k_test_address(\n) { ret; }\n"                    \
    ".visible .entry k_test_atomic(\n) { ret; }\n"                     \
    ".visible .entry k_test_shared(\n) { ret; }\n"                     \
    ".visible .entry k_test_barrier(\n) { ret; }\n"

#define OK_CALL(call) CHECK_EQ(call, CU_SUCCESS)

/* The machine's first GPU; its context is current. */
static inline cu_context rig_machine(const char *cudasim) {
    cu_context ctx = NULL;
    sim_reset(cudasim);
    sim_fault_lines(false);
    OK_CALL(cuInit(0));
    OK_CALL(cuDevicePrimaryCtxRetain(&ctx, 0));
    OK_CALL(cuCtxSetCurrent(ctx));
    return ctx;
}

static inline cu_function rig_kernel(const char *name) {
    cu_module module = NULL;
    cu_function f = NULL;
    OK_CALL(cuModuleLoadDataEx(&module, RIG_PTX("6.5", "sm_75"), 0, NULL, NULL));
    OK_CALL(cuModuleGetFunction(&f, module, name));
    return f;
}

static inline cu_stream rig_stream(void) {
    cu_stream s = NULL;
    OK_CALL(cuStreamCreateWithPriority(&s, CU_STREAM_NON_BLOCKING_FLAG, 0));
    return s;
}

static inline cu_event rig_event(void) {
    cu_event e = NULL;
    OK_CALL(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING_FLAG));
    return e;
}

static inline cu_ptr rig_device(size_t bytes) {
    cu_ptr p = 0;
    OK_CALL(cuMemAlloc_v2(&p, bytes));
    return p;
}

static inline void *rig_pinned(size_t bytes) {
    void *p = NULL;
    OK_CALL(cuMemHostAlloc(&p, bytes, CU_HOST_ALLOC_PORTABLE));
    return p;
}

/* One warp in each of `blocks` blocks. */
static inline cu_result rig_launch_on(cu_function f, const k_test_args *a, unsigned blocks,
                                      cu_stream stream) {
    k_test_args copy = *a;
    void *args[] = {&copy};
    return cuLaunchKernel(f, blocks, 1, 1, 32, 1, 1, 0, stream, args, NULL);
}

/* out[0] of k_test_atomic grows by this with each launch of one block. */
enum { RIG_ATOMIC_STEP = 31 * 32 / 2 };

/* The word at p now, everything before it done. */
static inline uint32_t rig_word(cu_ptr p) {
    uint32_t word = 0;
    OK_CALL(cuCtxSynchronize());
    OK_CALL(cuMemcpyDtoHAsync_v2(&word, p, sizeof word, NULL));
    return word;
}

static inline void rig_close_machine(void) { sim_reset(NULL); }

#endif
