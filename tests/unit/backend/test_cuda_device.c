/* test_cuda_device.c - opening a GPU, launching, failing, memory and the upload ring, on a driver
 * that is a table of functions. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_memory.h"
#include "backend/cuda/cuda_stage.h"
#include "base/log.h"
#include "cuda_fake.h"
#include "test.h"

static cu_driver driver;
static cuda_images images;
static cuda_device dev;

static void fake_machine(void) {
    log_set_level(LOG_ERROR);
    driver = cuda_fake_driver();
    images = cuda_fake_images();
}

static void device_open(void) {
    fake_machine();
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, NULL), OK);
}

static void check_nothing_is_left(void) {
    CHECK_EQ(fake.contexts, 0);
    CHECK_EQ(fake.modules, 0);
    CHECK_EQ(fake.streams, 0);
    CHECK_EQ(fake.events, 0);
    CHECK_EQ(fake.blocks, 0);
    CHECK_EQ(fake.pinned, 0);
}

static void fail_at(const char *call, int at, int result) {
    fake.fail_call = call;
    fake.fail_at = cuda_fake_count(call) + at;
    fake.fail_result = result;
}

static status launch_norm(uint32_t shared_bytes) {
    k_norm_args args = {.x = 0xabcdef};
    return cuda_launch(&dev, CUDA_k_norm, 3, 2, 256, shared_bytes, &args, sizeof args);
}

/* --- opening ------------------------------------------------------------------ */

TEST(cuda_device_opens_with_all_kernels_and_measures_its_code) {
    fake_machine();
    fake.code_bytes = 1 << 20;
    fake.spilled = "k_wkv";
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, NULL), OK);
    CHECK_STR(dev.name, "Tesla T4");
    CHECK_STR(dev.image.name, "sm_75 cubin");
    CHECK_EQ(dev.cc, 75);
    CHECK_EQ(dev.shared_block_max, 64 * 1024);
    CHECK_EQ(dev.modules_bytes, images.count << 20);
    CHECK_EQ(dev.context_bytes, ((uint64_t)1 << 30) + (images.count << 20));
    CHECK_EQ(dev.spilled_count, 1);
    CHECK_EQ(dev.kernels[CUDA_k_wkv].local_bytes, 96);
    CHECK_EQ(dev.kernels[CUDA_k_norm].args_bytes, sizeof(k_norm_args));
    CHECK_EQ(dev.kernels[CUDA_k_norm].threads_max, 256);
    CHECK_STR(cuda_kernel_name(CUDA_k_norm), "k_norm");
    CHECK_EQ(fake.streams, 3);
    cuda_device_close(&dev);
    check_nothing_is_left();
    cuda_device_close(&dev); /* harmless */
}

TEST(cuda_device_falls_back_to_ptx_when_machine_code_is_refused) {
    fake_machine();
    fail_at("load-fatbin", 2, CU_NO_BINARY_FOR_GPU);
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, NULL), OK);
    CHECK_STR(dev.image.name, "PTX");
    CHECK_EQ(dev.image.code_path, 750);
    CHECK_EQ(fake.modules, images.count);
    CHECK_EQ(cuda_fake_count("load-ptx"), images.count);
    cuda_device_close(&dev);
    check_nothing_is_left();
}

TEST(cuda_device_passes_the_compilers_complaint_on) {
    fake_machine();
    driver.version = 12040;
    fake.jit_error = "ptxas fatal : unknown\n  thing\n\n";
    fail_at("load-ptx", 1, CU_INVALID_PTX);
    error err = {0};
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "loading cuda/embed.cu on GPU 0 'Tesla T4': CUDA_ERROR_INVALID_PTX (218)");
    CHECK_HAS(err.msg, ": ptxas fatal : unknown   thing");
    CHECK(dev.context == NULL);
    check_nothing_is_left();
}

TEST(cuda_device_says_what_is_missing) {
    fake_machine();
    error err = {0};
    CHECK_EQ(cuda_device_open(&dev, &driver, 3, &images, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "there is no GPU 3");
    cuda_images none = {NULL, 0};
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &none, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "compute capability 7.5");
    CHECK_HAS(err.msg, "CUDA 13.0");
    fail_at("cuModuleGetFunction", 3, CU_NOT_FOUND);
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "kernel k_norm of cuda/norm.cu");
    cuda_images few = {images.blobs, 1};
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &few, &err), ERR_NOT_FOUND);
    check_nothing_is_left();
}

/* Each call of an opening fails once: an error, and nothing left over. */
TEST(cuda_device_gives_everything_back_when_opening_fails_anywhere) {
    static const char *const calls[] = {"cuDeviceGet",
                                        "cuDeviceGetName",
                                        "cuDeviceTotalMem_v2",
                                        "cuDeviceGetAttribute",
                                        "cuDevicePrimaryCtxRetain",
                                        "cuCtxSetCurrent",
                                        "cuMemGetInfo_v2",
                                        "cuStreamCreateWithPriority",
                                        "cuEventCreate",
                                        "load-fatbin",
                                        "cuModuleGetFunction"};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        device_open();
        int count = cuda_fake_count(calls[i]);
        cuda_device_close(&dev);
        CHECK(count > 0);
        for (int n = 1; n <= count && n <= 20; n++) {
            fake_machine();
            fail_at(calls[i], n, CU_OUT_OF_MEMORY);
            CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, NULL), ERR_NOMEM);
            check_nothing_is_left();
        }
    }
    fake_machine(); /* this one only costs memory */
    fail_at("cuCtxSetLimit", 1, CU_INVALID_VALUE);
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, NULL), OK);
    cuda_device_close(&dev);
}

/* --- launching ----------------------------------------------------------------- */

TEST(cuda_launch_passes_its_struct_and_grid) {
    device_open();
    CHECK_EQ(launch_norm(100), OK);
    CHECK_EQ(fake.launched_args, 0xabcdef);
    CHECK_EQ(fake.launched_grid[0], 3);
    CHECK_EQ(fake.launched_grid[1], 2);
    CHECK_EQ(fake.launched_shared, 100);
    CHECK_EQ(cuda_sync(&dev, NULL), OK);
    uint32_t blocks = 0;
    CHECK_EQ(cuda_kernel_occupancy(&dev, CUDA_k_norm, 256, 0, &blocks, NULL), OK);
    CHECK_EQ(blocks, 4);
    cuda_device_close(&dev);
}

TEST(cuda_launch_asks_once_for_more_than_48_kb) {
    fake_machine();
    fake.shared_static = 1024;
    CHECK_EQ(cuda_device_open(&dev, &driver, 0, &images, NULL), OK);
    CHECK_EQ(launch_norm(47 * 1024), OK);
    CHECK_EQ(cuda_fake_count("cuFuncSetAttribute"), 0);
    CHECK_EQ(launch_norm(50 * 1024), OK);
    CHECK_EQ(launch_norm(50 * 1024), OK);
    CHECK_EQ(launch_norm(1024), OK);
    CHECK_EQ(cuda_fake_count("cuFuncSetAttribute"), 1);
    CHECK_EQ(launch_norm(63 * 1024), OK);
    CHECK_EQ(cuda_fake_count("cuFuncSetAttribute"), 2);
    error err = {0};
    CHECK_EQ(launch_norm(63 * 1024 + 4), ERR_UNSUPPORTED);
    CHECK_EQ(cuda_sync(&dev, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "k_norm needs 1024 + 64516 bytes of shared memory");
    CHECK_HAS(err.msg, "has 65536");
    CHECK(!cuda_device_is_lost(&dev));
    cuda_device_close(&dev);
}

TEST(cuda_first_failure_is_kept_and_nothing_is_queued_after_it) {
    device_open();
    fail_at("k_norm", 2, CU_ILLEGAL_ADDRESS);
    CHECK_EQ(launch_norm(0), OK);
    CHECK_EQ(launch_norm(0), ERR_DEVICE);
    fail_at("cuStreamSynchronize", 1, CU_OUT_OF_MEMORY);
    CHECK_EQ(launch_norm(0), ERR_DEVICE);
    CHECK_EQ(cuda_fake_count("k_norm"), 2);
    char byte = 0;
    CHECK_EQ(cuda_copy_in(&dev, dev.upload, 0x100, &byte, 1), ERR_DEVICE);
    CHECK_EQ(cuda_copy_out(&dev, dev.download, &byte, 0x100, 1), ERR_DEVICE);
    CHECK_EQ(cuda_copy(&dev, dev.compute, 0x100, 0x200, 1), ERR_DEVICE);
    CHECK_EQ(cuda_fill(&dev, dev.compute, 0x100, 0, 1), ERR_DEVICE);
    CHECK_EQ(cuda_after(&dev, dev.compute, dev.upload), ERR_DEVICE);
    CHECK_EQ(cuda_fake_count("cuMemcpyHtoDAsync_v2"), 0);
    error err = {0};
    CHECK_EQ(cuda_sync(&dev, &err), ERR_DEVICE);
    CHECK_STR(err.msg, "cuda: k_norm (after k_norm) on GPU 0 'Tesla T4': NAME_OF_700 (700): "
                       "what the driver says");
    CHECK(cuda_device_is_lost(&dev));
    cuda_device_close(&dev);
    check_nothing_is_left();
}

TEST(cuda_late_failure_names_the_kernel_before_it) {
    device_open();
    CHECK_EQ(launch_norm(0), OK);
    fail_at("cuStreamSynchronize", 1, CU_ILLEGAL_ADDRESS);
    error err = {0};
    CHECK_EQ(cuda_sync(&dev, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "cuStreamSynchronize (after k_norm) on GPU 0");
    CHECK_HAS(err.msg, "(700)");
    cuda_device_close(&dev);
    /* for finding bugs: each launch is waited for */
    device_open();
    dev.check_each_launch = true;
    fail_at("cuStreamSynchronize", 1, CU_ILLEGAL_ADDRESS);
    CHECK_EQ(launch_norm(0), ERR_DEVICE);
    CHECK_HAS(dev.failure.msg, "cuda: k_norm");
    cuda_device_close(&dev);
}

TEST(cuda_copies_fills_and_order_reach_the_driver) {
    device_open();
    char byte = 0;
    CHECK_EQ(cuda_copy_in(&dev, dev.upload, 0x100, &byte, 0), OK);
    CHECK_EQ(cuda_fake_count("cuMemcpyHtoDAsync_v2"), 0);
    CHECK_EQ(cuda_copy_in(&dev, dev.upload, 0x100, &byte, 1), OK);
    CHECK_EQ(cuda_copy_out(&dev, dev.download, &byte, 0x100, 1), OK);
    CHECK_EQ(cuda_copy(&dev, dev.compute, 0x100, 0x200, 1), OK);
    CHECK_EQ(cuda_fill(&dev, dev.compute, 0x100, 0, 1), OK);
    CHECK_EQ(cuda_after(&dev, dev.compute, dev.upload), OK);
    CHECK_HAS(fake.log, "cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuMemcpyDtoDAsync_v2 "
                        "cuMemsetD8Async cuEventRecord cuStreamWaitEvent");
    CHECK_EQ(cuda_device_enter(&dev, NULL), OK);
    fail_at("cuStreamWaitEvent", 1, CU_INVALID_HANDLE);
    CHECK_EQ(cuda_after(&dev, dev.compute, dev.upload), ERR_DEVICE);
    CHECK_HAS(dev.failure.msg, "cuda: cuStreamWaitEvent on GPU 0 'Tesla T4'");
    cuda_device_close(&dev);
}

/* --- memory --------------------------------------------------------------------- */

TEST(cuda_arena_accounts_exactly_in_steps_of_256_bytes) {
    device_open();
    cuda_arena a = {0};
    cu_ptr p[4] = {0};
    error err = {0};
    CHECK_EQ(cuda_arena_open(&a, &dev, "weights", 1000, NULL), OK);
    CHECK_EQ(cuda_arena_take(&a, 1, &p[0], NULL), OK);
    CHECK_EQ(cuda_arena_take(&a, 256, &p[1], NULL), OK);
    CHECK_EQ(cuda_arena_take(&a, 0, &p[2], NULL), OK);
    CHECK_EQ(p[0], a.base);
    CHECK_EQ(p[1], a.base + 256);
    CHECK_EQ(p[2], a.base + 512);
    CHECK_EQ(cuda_arena_take(&a, 489, &p[3], &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "arena weights: 512 of 1000 bytes taken, 489 asked for");
    CHECK_EQ(cuda_arena_take(&a, 488, &p[3], NULL), OK); /* to the last byte */
    CHECK_EQ(a.taken_bytes, 1000);
    CHECK_EQ(cuda_arena_take(&a, 1, &p[3], NULL), ERR_LIMIT);
    CHECK_EQ(cuda_arena_take(&a, SIZE_MAX, &p[3], NULL), ERR_LIMIT);
    cuda_arena_reset(&a);
    CHECK_EQ(cuda_arena_take(&a, 1000, &p[3], NULL), OK);
    CHECK_EQ(p[3], a.base);
    CHECK_EQ(cuda_arena_cost(0), 0);
    CHECK_EQ(cuda_arena_cost(257), 512);
    cuda_arena_close(&a);
    cuda_arena_close(&a);
    CHECK_EQ(cuda_arena_open(&a, &dev, "nothing", 0, NULL), OK);
    CHECK_EQ(cuda_arena_take(&a, 1, &p[0], NULL), ERR_LIMIT);
    cuda_arena_close(&a);
    cuda_device_close(&dev);
    check_nothing_is_left();
}

TEST(cuda_arena_without_memory_gives_the_numbers_and_the_gpu_stays_well) {
    device_open();
    fake.devices[0].free = (size_t)3 << 20;
    cuda_arena a = {0};
    error err = {0};
    CHECK_EQ(cuda_arena_open(&a, &dev, "kv", (size_t)7 << 20, &err), ERR_NOMEM);
    CHECK_STR(err.msg, "cuda: arena kv: 7.0 MiB asked for, 3.0 of 16384.0 MiB free on GPU 0 "
                       "'Tesla T4'");
    CHECK_EQ(cuda_arena_open(&a, &dev, "kv", (size_t)2 << 20, &err), OK);
    CHECK_EQ(launch_norm(0), OK);
    fail_at("cuMemAlloc_v2", 1, CU_UNKNOWN);
    cuda_arena b = {0};
    CHECK_EQ(cuda_arena_open(&b, &dev, "more", 256, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "cuMemAlloc_v2 on GPU 0");
    cuda_arena_close(&a);
    cuda_device_close(&dev);
    check_nothing_is_left();
}

TEST(cuda_allocation_after_the_freeze_is_caught) {
    device_open();
    cuda_device_freeze(&dev);
    pid_t child = fork();
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        cuda_arena a;
        _exit(cuda_arena_open(&a, &dev, "late", 256, NULL) == OK ? 0 : 1);
    }
    int how = 0;
    CHECK_EQ(waitpid(child, &how, 0), child);
    CHECK(WIFSIGNALED(how));
    cuda_device_close(&dev);
}

/* --- the upload ring -------------------------------------------------------------- */

TEST(cuda_stage_waits_for_a_slot_only_when_it_is_in_flight) {
    device_open();
    cuda_stage s = {0};
    CHECK_EQ(cuda_stage_open(&s, &dev, 64, 3, NULL), OK);
    void *slot[5] = {0};
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(cuda_stage_take(&s, &slot[i], NULL), OK);
        CHECK_EQ(cuda_fake_count("cuEventSynchronize"), i < 3 ? 0 : i - 2);
        memset(slot[i], i, 64);
        CHECK_EQ(cuda_stage_send(&s, 0x1000, 64, NULL), OK);
    }
    CHECK(slot[0] == slot[3] && slot[1] == slot[4] && slot[0] != slot[1]);
    CHECK_EQ(s.sent_bytes, 5 * 64);
    CHECK_EQ(cuda_stage_drain(&s, NULL), OK);
    CHECK_EQ(cuda_stage_take(&s, &slot[0], NULL), OK); /* nothing is in flight any more */
    CHECK_EQ(cuda_fake_count("cuEventSynchronize"), 2);
    CHECK_EQ(cuda_stage_copy(&s, 0x1000, 0, 16, NULL), OK);
    CHECK_EQ(cuda_stage_copy(&s, 0x2000, 16, 48, NULL), OK);
    CHECK_EQ(cuda_stage_give(&s, NULL), OK);
    CHECK_EQ(cuda_fake_count("cuMemcpyHtoDAsync_v2"), 7);
    CHECK_EQ(cuda_fake_count("cuEventRecord"), 6);
    cuda_stage_close(&s);
    cuda_stage_close(&s);
    cuda_device_close(&dev);
    check_nothing_is_left();
}

TEST(cuda_stage_failures_are_errors_and_leave_nothing) {
    error err = {0};
    cuda_stage s = {0};
    device_open();
    fail_at("cuMemHostAlloc", 1, CU_OUT_OF_MEMORY);
    CHECK_EQ(cuda_stage_open(&s, &dev, 1 << 20, 4, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "4194304 bytes of pinned host memory");
    CHECK_EQ(cuda_stage_open(&s, &dev, SIZE_MAX / 2, 4, &err), ERR_LIMIT);
    fail_at("cuEventCreate", 3, CU_OUT_OF_MEMORY);
    CHECK_EQ(cuda_stage_open(&s, &dev, 1 << 10, 4, &err), ERR_NOMEM);
    CHECK_EQ(fake.pinned, 0);
    CHECK_EQ(fake.events, 1); /* the device's own */

    CHECK_EQ(cuda_stage_open(&s, &dev, 1 << 10, 2, NULL), OK);
    void *slot = NULL;
    fail_at("cuMemcpyHtoDAsync_v2", 1, CU_ILLEGAL_ADDRESS);
    CHECK_EQ(cuda_stage_take(&s, &slot, NULL), OK);
    CHECK_EQ(cuda_stage_send(&s, 0x1000, 8, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "cuMemcpyHtoDAsync_v2 on GPU 0 'Tesla T4'");
    CHECK_EQ(cuda_stage_take(&s, &slot, &err), ERR_DEVICE);
    CHECK_EQ(cuda_stage_drain(&s, &err), ERR_DEVICE);
    cuda_stage_close(&s);
    cuda_device_close(&dev);
    check_nothing_is_left();
}

TEST(cuda_pinned_blocks_start_as_zeros) {
    device_open();
    cuda_pinned p = {0};
    CHECK_EQ(cuda_pinned_open(&p, &dev, 100, NULL), OK);
    for (size_t i = 0; i < 100; i++) CHECK_EQ(((char *)p.host)[i], 0);
    cuda_pinned_close(&p);
    cuda_pinned_close(&p);
    cuda_device_close(&dev);
    check_nothing_is_left();
}
