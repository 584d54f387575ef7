/* test_host_device.c - contexts, kernels, memory and uploads of the host's layer, with results.
 *
 * The machines run their streams "eager", "deferred" or "random": in the last two a buffer that is
 * used again too early, or work that is not ordered, shows in the data. */
#include "abi.h"
#include "backend/cuda/cuda_memory.h"
#include "backend/cuda/cuda_stage.h"
#include "cudasim/host_rig.h"

#define T4_STREAMS(mode) \
    "{\"gpus\": [{\"preset\": \"t4\"}], \"streams\": \"" mode "\", \"seed\": 7}"
static const char *const MACHINES[] = {T4_STREAMS("eager"), T4_STREAMS("deferred"),
                                       T4_STREAMS("random")};
enum { MACHINES_COUNT = sizeof MACHINES / sizeof MACHINES[0] };

/* --- a small working set: two vectors, a count, a result ---------------------- */

enum { COLS = 300, SET_BYTES = 16 << 10 };

typedef struct work {
    cuda_arena arena;
    cuda_pinned in, out; /* f32 [COLS] each */
    cu_ptr x, y, count;
} work;

static work work_open(void) {
    work w = {.x = 0};
    CHECK_EQ(cuda_arena_open(&w.arena, &host.dev, "work", SET_BYTES, NULL), OK);
    CHECK_EQ(cuda_arena_take(&w.arena, COLS * 4, &w.x, NULL), OK);
    CHECK_EQ(cuda_arena_take(&w.arena, COLS * 4, &w.y, NULL), OK);
    CHECK_EQ(cuda_arena_take(&w.arena, 4, &w.count, NULL), OK);
    CHECK_EQ(cuda_pinned_open(&w.in, &host.dev, (COLS + 1) * 4, NULL), OK);
    CHECK_EQ(cuda_pinned_open(&w.out, &host.dev, COLS * 4, NULL), OK);
    return w;
}

static void work_close(work *w) {
    cuda_pinned_close(&w->in);
    cuda_pinned_close(&w->out);
    cuda_arena_close(&w->arena);
}

/* y = x + y, one row */
static status work_add(const work *w) {
    k_binary_args args = {
        .x = w->x, .y = w->y, .out = w->y, .count = w->count, .cols = COLS, .kind = CK_ADD};
    return cuda_launch(&host.dev, CUDA_k_binary, (COLS + 255) / 256, 1, 256, 0, &args, sizeof args);
}

/* x = 0 .. COLS - 1 and the count by the upload stream, y = 0. */
static void work_fill(const work *w) {
    float *x = w->in.host;
    uint32_t one = 1;
    for (int i = 0; i < COLS; i++) x[i] = (float)i;
    memcpy(&x[COLS], &one, sizeof one);
    CHECK_EQ(cuda_copy_in(&host.dev, host.dev.upload, w->x, x, COLS * 4), OK);
    CHECK_EQ(cuda_copy_in(&host.dev, host.dev.upload, w->count, &x[COLS], 4), OK);
    CHECK_EQ(cuda_fill(&host.dev, host.dev.compute, w->y, 0, COLS * 4), OK);
    CHECK_EQ(cuda_after(&host.dev, host.dev.compute, host.dev.upload), OK);
}

static void work_check(const work *w, float times) {
    const float *out = w->out.host;
    CHECK_EQ(cuda_after(&host.dev, host.dev.download, host.dev.compute), OK);
    CHECK_EQ(cuda_copy_out(&host.dev, host.dev.download, w->out.host, w->y, COLS * 4), OK);
    CHECK_EQ(cuda_sync_stream(&host.dev, host.dev.download, NULL), OK);
    for (int i = 0; i < COLS; i++) CHECK_EQ(out[i], (float)i * times);
}

/* --- opening -------------------------------------------------------------------- */

TEST(host_device_opens_and_leaves_nothing) {
    HOST_MACHINE("{\"gpus\": [{\"preset\": \"t4\", \"memory_mib\": 1000, \"context_mib\": 300}]}");
    host_device(0);
    CHECK_HAS(host.dev.name, "T4");
    CHECK_STR(host.dev.image.name, "PTX");
    CHECK_EQ(host.dev.context_bytes, (uint64_t)300 << 20);
    CHECK_EQ(host.dev.spilled_count, 0);
    uint32_t blocks = 0;
    CHECK_EQ(cuda_kernel_occupancy(&host.dev, CUDA_k_norm, 256, 0, &blocks, NULL), OK);
    CHECK(blocks >= 1);
    host_end();
    CHECK_EQ(host.memory(0).held_now, 0);
}

TEST(host_device_reports_what_the_jit_does_not_take) {
    HOST_MACHINE("{\"cuda\": 12000, \"gpus\": [{\"preset\": \"t4\"}]}");
    CHECK_EQ(host.driver.init(0), CU_SUCCESS);
    cuda_images images = host_images("9.0");
    error err = {0};
    CHECK_EQ(cuda_device_open(&host.dev, &host.driver, 0, &images, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "UNSUPPORTED_PTX_VERSION");
    CHECK_HAS(err.msg, "ptxas");
    CHECK_EQ(host.leaks(), 0);
    images = host_images("6.5");
    CHECK_EQ(cuda_device_open(&host.dev, &host.driver, 0, &images, &err), OK);
    host_end();
}

/* --- work ------------------------------------------------------------------------ */

TEST(host_kernels_copies_and_order_give_results_in_every_mode_of_streams) {
    for (int m = 0; m < MACHINES_COUNT; m++) {
        HOST_MACHINE(MACHINES[m]);
        host_device(0);
        work w = work_open();
        work_fill(&w);
        for (int i = 0; i < 3; i++) CHECK_EQ(work_add(&w), OK);
        work_check(&w, 3);
        CHECK_EQ(host.launches("k_binary"), 3);
        work_close(&w);
        host_end();
    }
}

TEST(host_steps_allocate_nothing_after_loading) {
    HOST_MACHINE("t4");
    host_device(0);
    work w = work_open();
    cuda_device_freeze(&host.dev);
    host.mark();
    for (int i = 0; i < 10; i++) {
        work_fill(&w);
        CHECK_EQ(work_add(&w), OK);
        work_check(&w, 1);
    }
    CHECK_EQ(host.allocs_since_mark(), 0);
    work_close(&w);
    host_end();
}

/* --- uploads ----------------------------------------------------------------------- */

/* More slots' worth than there are slots, each with its own content. */
TEST(host_stage_uploads_everything_whatever_the_streams_do) {
    enum { PIECE = 1024, PIECES = 20 };
    for (int m = 0; m < MACHINES_COUNT; m++) {
        HOST_MACHINE(MACHINES[m]);
        host_device(0);
        cuda_arena a = {0};
        cuda_stage s = {0};
        cuda_pinned back = {0};
        CHECK_EQ(cuda_arena_open(&a, &host.dev, "weights", PIECE * PIECES, NULL), OK);
        CHECK_EQ(cuda_stage_open(&s, &host.dev, PIECE, 3, NULL), OK);
        CHECK_EQ(cuda_pinned_open(&back, &host.dev, PIECE * PIECES, NULL), OK);
        for (int i = 0; i < PIECES; i++) {
            void *slot = NULL;
            CHECK_EQ(cuda_stage_take(&s, &slot, NULL), OK);
            memset(slot, i + 1, PIECE);
            cu_ptr at = a.base + (cu_ptr)i * PIECE;
            if (i % 2 == 0) {
                CHECK_EQ(cuda_stage_send(&s, at, PIECE, NULL), OK);
            } else { /* in two pieces, the second one first */
                CHECK_EQ(cuda_stage_copy(&s, at + 512, 512, PIECE - 512, NULL), OK);
                CHECK_EQ(cuda_stage_copy(&s, at, 0, 512, NULL), OK);
                CHECK_EQ(cuda_stage_give(&s, NULL), OK);
            }
        }
        CHECK_EQ(cuda_stage_drain(&s, NULL), OK);
        CHECK_EQ(cuda_copy_out(&host.dev, host.dev.download, back.host, a.base, PIECE * PIECES),
                 OK);
        CHECK_EQ(cuda_sync_stream(&host.dev, host.dev.download, NULL), OK);
        const unsigned char *bytes = back.host;
        for (int i = 0; i < PIECES; i++) {
            CHECK_EQ(bytes[i * PIECE], i + 1);
            CHECK_EQ(bytes[i * PIECE + PIECE - 1], i + 1);
        }
        cuda_pinned_close(&back);
        cuda_stage_close(&s);
        cuda_arena_close(&a);
        host_end();
    }
}

TEST(host_stage_closed_in_flight_waits_for_its_copies) {
    HOST_MACHINE(T4_STREAMS("deferred"));
    host_device(0);
    cuda_arena a = {0};
    cuda_stage s = {0};
    void *slot = NULL;
    CHECK_EQ(cuda_arena_open(&a, &host.dev, "weights", 256, NULL), OK);
    CHECK_EQ(cuda_stage_open(&s, &host.dev, 256, 2, NULL), OK);
    CHECK_EQ(cuda_stage_take(&s, &slot, NULL), OK);
    CHECK_EQ(cuda_stage_send(&s, a.base, 256, NULL), OK);
    cuda_stage_close(&s); /* a pinned buffer given back too early would poison the context */
    CHECK_EQ(cuda_sync(&host.dev, NULL), OK);
    cuda_arena_close(&a);
    host_end();
}

/* --- memory ----------------------------------------------------------------------- */

TEST(host_arena_that_does_not_fit_gives_numbers_and_harms_nothing) {
    HOST_MACHINE("{\"gpus\": [{\"preset\": \"t4\", \"memory_mib\": 512, \"context_mib\": 300}]}");
    host_device(0);
    cuda_arena a = {0}, b = {0};
    error err = {0};
    CHECK_EQ(cuda_arena_open(&a, &host.dev, "weights", (size_t)100 << 20, NULL), OK);
    CHECK_EQ(host.memory(0).asked_now, (uint64_t)100 << 20);
    CHECK_EQ(cuda_arena_open(&b, &host.dev, "kv", (size_t)200 << 20, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "arena kv: 200.0 MiB asked for, 112.0 of 512.0 MiB free on GPU 0");
    CHECK_EQ(cuda_arena_open(&b, &host.dev, "kv", (size_t)112 << 20, &err), OK);
    uint64_t free_bytes = 1, total_bytes = 0;
    CHECK_EQ(cuda_device_memory(&host.dev, &free_bytes, &total_bytes, NULL), OK);
    CHECK_EQ(free_bytes, 0);
    cuda_arena_close(&b);
    cuda_arena_close(&a);
    host_end();
}

/* --- failures ---------------------------------------------------------------------- */

TEST(host_kernel_that_faults_makes_the_gpu_lost_and_is_named) {
    for (int m = 0; m < MACHINES_COUNT; m++) {
        HOST_MACHINE(MACHINES[m]);
        host_device(0);
        work w = work_open();
        work_fill(&w);
        host.fault_add(NULL, "k_binary", 2, CU_ILLEGAL_ADDRESS);
        CHECK_EQ(work_add(&w), OK);
        (void)work_add(&w); /* fails at once, or at the sync */
        error err = {0};
        CHECK_EQ(cuda_sync(&host.dev, &err), ERR_DEVICE);
        CHECK_HAS(err.msg, "k_binary");
        CHECK_HAS(err.msg, "ILLEGAL_ADDRESS (700)");
        CHECK_HAS(err.msg, "Tesla T4");
        CHECK(cuda_device_is_lost(&host.dev));
        CHECK_EQ(work_add(&w), ERR_DEVICE);
        work_close(&w);
        cuda_device_close(&host.dev);
    }
}

TEST(host_gpu_that_falls_off_the_bus_is_lost) {
    HOST_MACHINE("t4");
    host_device(0);
    work w = work_open();
    work_fill(&w);
    host.lose_gpu(0);
    CHECK_EQ(work_add(&w), ERR_DEVICE);
    CHECK(cuda_device_is_lost(&host.dev));
    error err = {0};
    CHECK_EQ(cuda_sync(&host.dev, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "k_binary");
    CHECK_HAS(err.msg, "(999)");
    work_close(&w);
    cuda_device_close(&host.dev);
}

/* Every driver call of an opening fails once: an error, and nothing left. */
TEST(host_device_opening_survives_any_failing_call) {
    static const char *const calls[] = {
        "cuDevicePrimaryCtxRetain",   "cuCtxSetCurrent",   "cuMemGetInfo_v2",
        "cuStreamCreateWithPriority", "cuEventCreate",     "cuModuleLoadDataEx",
        "cuModuleGetFunction",        "cuFuncGetAttribute"};
    cuda_images images = host_images("6.5");
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        for (uint64_t at = 1; at <= 3; at++) {
            HOST_MACHINE("t4");
            CHECK_EQ(host.driver.init(0), CU_SUCCESS);
            host.fault_add(calls[i], NULL, at, CU_OUT_OF_MEMORY);
            status st = cuda_device_open(&host.dev, &host.driver, 0, &images, NULL);
            CHECK(st == ERR_NOMEM || host.calls(calls[i]) < at);
            cuda_device_close(&host.dev);
            CHECK_EQ(host.leaks(), 0);
        }
    }
}
