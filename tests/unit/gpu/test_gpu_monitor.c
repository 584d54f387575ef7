/* test_gpu_monitor.c - snapshots appear, do not change while they are held, and the thread ends. */
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "gpu/gpu_monitor.h"
#include "gpu/gpu_table.h"
#include "test.h"

enum { PATIENCE_MS = 10000 };

static gpu_monitor *open_monitor(const nvml *table) {
    gpu_monitor *m = NULL;
    error err = {0};
    gpu_monitor_options o = {.interval_ms = 1, .table = table};
    log_set_level(LOG_OFF);
    CHECK_EQ(gpu_monitor_open(&m, &o, &err), OK);
    return m;
}

static void close_monitor(gpu_monitor *m) {
    gpu_monitor_close(m);
    log_set_level(LOG_INFO);
}

/* Wait until the newest snapshot is of that kind; false: it never was. */
static bool comes_to(gpu_monitor *m, gpu_source source, gpu_state state) {
    for (int i = 0; i < PATIENCE_MS; i++) {
        const gpu_snapshot *s = gpu_monitor_take(m);
        bool there = s->source == source && (s->count == 0 || s->gpus[1].state == state);
        gpu_monitor_give(m, s);
        if (there) return true;
        os_sleep_ms(1);
    }
    return false;
}

TEST(gpu_monitor_publishes_and_ends_at_once) {
    nvml n = gpu_table_new();
    gpu_monitor *m = open_monitor(&n);
    CHECK(comes_to(m, GPU_SOURCE_OK, GPU_STATE_OK));
    uint64_t before_ns = os_now_ns();
    close_monitor(m);
    CHECK(os_now_ns() - before_ns < 1000000000); /* 100 ms on a machine that is not busy */
    CHECK_EQ(gpu_table.started, 1);
    CHECK_EQ(gpu_table.stopped, 1);
    gpu_monitor_close(NULL);
}

/* All of one look has the same number in all GPUs; a torn snapshot would mix them. */
typedef struct reader_state {
    gpu_monitor *m;
    _Atomic bool stop;
    _Atomic uint64_t torn, seen;
} reader_state;

static void read_on(void *arg) {
    reader_state *r = arg;
    while (!r->stop) {
        const gpu_snapshot *s = gpu_monitor_take(r->m);
        uint64_t first = s->count > 0 ? s->gpus[0].memory_used_bytes : 0;
        uint64_t taken_ns = s->taken_ns;
        for (int look = 0; look < 50; look++)
            if (s->taken_ns != taken_ns || (s->count > 0 && s->gpus[0].memory_used_bytes != first))
                r->torn++;
        r->seen++;
        gpu_monitor_give(r->m, s);
    }
}

TEST(gpu_monitor_snapshots_do_not_change_under_a_reader) {
    enum { READERS = 3, LOOKS = 300 };
    thread readers[READERS] = {0};
    nvml n = gpu_table_new();
    reader_state r = {.m = open_monitor(&n)};
    for (int i = 0; i < READERS; i++)
        CHECK_EQ(thread_start(&readers[i], "reader", read_on, &r, NULL), OK);
    for (int i = 0; i < PATIENCE_MS && gpu_table.looks < LOOKS; i++) {
        gpu_table.used_bytes = (unsigned)i << 10;
        os_sleep_ms(1);
    }
    r.stop = true;
    for (int i = 0; i < READERS; i++) thread_join(&readers[i]);
    CHECK(gpu_table.looks >= LOOKS);
    CHECK(r.seen > 0);
    CHECK_EQ(r.torn, 0);
    close_monitor(r.m);
}

/* Readers that hold everything stop the monitor's looking, nothing else. */
TEST(gpu_monitor_waits_for_a_free_snapshot) {
    enum { HELD_MAX = 8 };
    const gpu_snapshot *held[HELD_MAX];
    int count = 0;
    nvml n = gpu_table_new();
    gpu_monitor *m = open_monitor(&n);
    for (; count < HELD_MAX; count++) {
        held[count] = gpu_monitor_take(m);
        os_sleep_ms(5);
    }
    const gpu_snapshot *newest = gpu_monitor_take(m);
    CHECK(newest != NULL);
    gpu_monitor_give(m, newest);
    while (count > 0) gpu_monitor_give(m, held[--count]);
    CHECK(comes_to(m, GPU_SOURCE_OK, GPU_STATE_OK));
    close_monitor(m);
}

TEST(gpu_monitor_reports_a_lost_gpu) {
    nvml n = gpu_table_new();
    gpu_monitor *m = open_monitor(&n);
    CHECK(comes_to(m, GPU_SOURCE_OK, GPU_STATE_OK));
    gpu_table.result[1] = NVML_GPU_IS_LOST;
    CHECK(comes_to(m, GPU_SOURCE_OK, GPU_STATE_LOST));
    const gpu_snapshot *s = gpu_monitor_take(m);
    CHECK_STR(s->gpus[1].uuid, "GPU-0001");
    CHECK_EQ(s->gpus[0].state, GPU_STATE_OK);
    gpu_monitor_give(m, s);
    close_monitor(m);
}

TEST(gpu_monitor_lives_with_a_driver_that_goes) {
    nvml n = gpu_table_new();
    gpu_monitor *m = open_monitor(&n);
    CHECK(comes_to(m, GPU_SOURCE_OK, GPU_STATE_OK));
    gpu_table.count_result = NVML_UNKNOWN;
    CHECK(comes_to(m, GPU_SOURCE_FAILED, GPU_STATE_OK));
    CHECK_EQ(gpu_table.stopped, 1);
    close_monitor(m);
    CHECK_EQ(gpu_table.stopped, 1); /* not twice */
}

TEST(gpu_monitor_without_a_driver_says_why) {
    nvml n = gpu_table_new();
    gpu_table.init_result = NVML_DRIVER_NOT_LOADED;
    gpu_monitor *m = open_monitor(&n);
    CHECK(comes_to(m, GPU_SOURCE_FAILED, GPU_STATE_OK));
    os_sleep_ms(20); /* many intervals: it is not asked again so soon */
    CHECK_EQ(gpu_table.started, 1);
    const gpu_snapshot *s = gpu_monitor_take(m);
    CHECK_HAS(s->why, "kernel driver is not loaded");
    CHECK_HAS(s->fix, "modprobe");
    gpu_monitor_give(m, s);
    close_monitor(m);
    CHECK_EQ(gpu_table.stopped, 0);
}
