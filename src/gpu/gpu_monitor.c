/* gpu_monitor.c - see gpu_monitor.h.
 *
 * Publishing without locks.  There are a few snapshots; `newest` is the number of one, and each
 * has a count of readers.  A reader raises the count of the newest and then looks whether it is
 * still the newest: if not, it lets go and tries again.  The monitor writes only into a snapshot
 * that is not the newest and has no readers.  All of these are sequentially consistent, so:
 * - A reader that sees its snapshot as the newest after raising the count holds one that was
 *   completely written: the store to `newest` came after the writing, and the load that saw it
 *   after that.  It stays untouched, because the monitor finds the count raised from then on.
 * - A reader that is late, raising the count of a snapshot that is being written, does not see it
 *   as the newest and lets go without looking inside.
 * When readers hold all of the others, this look is skipped and the newest stays. */
#include "gpu/gpu_monitor.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"

enum {
    SNAPSHOTS = 4,
    INTERVAL_MS = 1000,
    RETRY_MS = 30000, /* between two tries to reach NVML */
    LEAVE_MS = 2000   /* patience with a driver that hangs */
};

struct gpu_monitor {
    gpu_monitor_options o;
    thread thread;
    int wakeup; /* signalled once, to stop */
    atomic_bool stop;

    atomic_uint newest; /* of snapshots */
    atomic_uint readers[SNAPSHOTS];
    gpu_snapshot snapshots[SNAPSHOTS];

    /* the monitor thread's */
    nvml nvml;
    bool started; /* NVML is */
    uint64_t retry_at_ns;
    char said[GPU_WHY_BYTES];        /* the last complaint in the log */
    gpu_state logged[GPU_COUNT_MAX]; /* state of each GPU in the log */
};

/* --- snapshots -------------------- */

const gpu_snapshot *gpu_monitor_take(gpu_monitor *m) {
    for (;;) {
        unsigned i = atomic_load(&m->newest);
        (void)atomic_fetch_add(&m->readers[i], 1);
        if (atomic_load(&m->newest) == i) return &m->snapshots[i];
        (void)atomic_fetch_sub(&m->readers[i], 1);
    }
}

void gpu_monitor_give(gpu_monitor *m, const gpu_snapshot *s) {
    ASSERT(s >= m->snapshots && s < m->snapshots + SNAPSHOTS);
    unsigned before = atomic_fetch_sub(&m->readers[s - m->snapshots], 1);
    ASSERT(before > 0);
}

/* A snapshot to write into; NULL when readers hold all. */
static gpu_snapshot *spare(gpu_monitor *m) {
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        if (i != atomic_load(&m->newest) && atomic_load(&m->readers[i]) == 0)
            return &m->snapshots[i];
    return NULL;
}

static void publish(gpu_monitor *m, const gpu_snapshot *s) {
    atomic_store(&m->newest, (unsigned)(s - m->snapshots));
}

/* --- the log: changes only -------------------- */

static void log_source(gpu_monitor *m, const gpu_snapshot *s) {
    if (strcmp(m->said, s->why) == 0) return;
    memcpy(m->said, s->why, sizeof m->said);
    if (s->source == GPU_SOURCE_OK) return;
    if (m->o.expected)
        log_warn("gpu", "no figures of GPUs: %s; %s", s->why, s->fix);
    else
        log_info("gpu", "no figures of GPUs: %s", s->why);
}

static void log_gpus(gpu_monitor *m, const gpu_snapshot *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        const gpu_info *g = &s->gpus[i];
        if (m->logged[i] == g->state) continue;
        m->logged[i] = g->state;
        if (g->state == GPU_STATE_OK)
            log_info("gpu", "back gpu=%u uuid=%s", i, g->uuid);
        else
            log_error("gpu", "%s gpu=%u uuid=%s name=\"%s\": %s; %s", gpu_state_name(g->state), i,
                      g->uuid, g->name, nvml_result_words(g->result), nvml_result_fix(g->result));
    }
}

static void log_found(const gpu_snapshot *s) {
    log_info("gpu", "monitor gpus=%u driver=%s cuda=%s", s->count, s->driver_version,
             s->cuda_version);
    if (s->count_seen > s->count)
        log_warn("gpu", "%u GPUs, figures of the first %u are kept", s->count_seen, s->count);
}

/* --- the monitor's thread -------------------- */

static status connect(gpu_monitor *m, const char **fix, error *err) {
    nvml_result r = NVML_SUCCESS;
    *fix = nvml_missing_fix();
    if (m->o.table != NULL)
        m->nvml = *m->o.table;
    else
        TRY(nvml_load(&m->nvml, NULL, err));
    if (nvml_start(&m->nvml, &r, err) == OK) return OK;
    *fix = nvml_result_fix(r);
    nvml_unload(&m->nvml);
    return err->code;
}

static void disconnect(gpu_monitor *m) {
    if (!m->started) return;
    nvml_stop(&m->nvml);
    nvml_unload(&m->nvml);
    m->started = false;
}

/* What there is to see, or why there is nothing. */
static void see(gpu_monitor *m, gpu_snapshot *out) {
    const gpu_snapshot *before = &m->snapshots[atomic_load(&m->newest)];
    const char *fix = "";
    error err = {0};
    bool first = !m->started;
    if (first && connect(m, &fix, &err) != OK) {
        bool absent = err.code == ERR_NOT_FOUND;
        gpu_snapshot_none(out, absent ? GPU_SOURCE_ABSENT : GPU_SOURCE_FAILED, err.msg, fix);
    } else {
        m->started = true;
        gpu_snapshot_read(&m->nvml, before, out);
    }
    if (out->source != GPU_SOURCE_OK) {
        disconnect(m);
        m->retry_at_ns = os_now_ns() + (uint64_t)RETRY_MS * 1000000u;
    } else if (first) {
        log_found(out);
    }
    log_source(m, out);
    log_gpus(m, out);
}

static void look(gpu_monitor *m) {
    if (!m->started && os_now_ns() < m->retry_at_ns) return;
    gpu_snapshot *out = spare(m);
    if (out == NULL) return;
    see(m, out);
    publish(m, out);
}

static void monitor_main(void *arg) {
    gpu_monitor *m = arg;
    while (!atomic_load(&m->stop)) {
        look(m);
        os_wait(&m->wakeup, 1, (int)m->o.interval_ms);
    }
    disconnect(m);
}

/* --- life -------------------- */

static void destroy(gpu_monitor *m) {
    if (m->wakeup >= 0) os_close(m->wakeup);
    mem_free(m);
}

status gpu_monitor_open(gpu_monitor **out, const gpu_monitor_options *options, error *err) {
    gpu_monitor *m = mem_try_calloc(1, sizeof *m);
    if (m == NULL) return error_set(err, ERR_NOMEM, "gpu monitor: no memory");
    m->o = *options;
    if (m->o.interval_ms == 0) m->o.interval_ms = INTERVAL_MS;
    m->wakeup = -1;
    gpu_snapshot_none(&m->snapshots[0], GPU_SOURCE_STARTING, "", "");
    status st = os_event_open(&m->wakeup, err);
    if (st == OK) st = thread_start(&m->thread, "monitor", monitor_main, m, err);
    if (st == OK)
        *out = m;
    else
        destroy(m);
    return st;
}

void gpu_monitor_close(gpu_monitor *m) {
    if (m == NULL) return;
    atomic_store(&m->stop, true);
    os_event_signal(m->wakeup);
    uint64_t leave_at_ns = os_now_ns() + (uint64_t)LEAVE_MS * 1000000u;
    while (!thread_has_ended(&m->thread) && os_now_ns() < leave_at_ns) os_sleep_ms(1);
    if (!thread_has_ended(&m->thread)) {
        log_warn("gpu", "the driver does not return from a call: its thread is left behind");
        return;
    }
    thread_join(&m->thread);
    for (unsigned i = 0; i < SNAPSHOTS; i++) ASSERT(atomic_load(&m->readers[i]) == 0);
    destroy(m);
}
