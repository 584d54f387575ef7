/* gpu_monitor.h - a thread that looks at the GPUs once a second and publishes what it saw.
 *
 * Thread `monitor` owns the NVML handle; nobody waits for it.  Readers on any thread borrow the
 * newest snapshot: it does not change while they hold it, and they hold it for the time of writing
 * a page, not longer.  NVML that fails is not a GPU that fails: serving goes on, the snapshot says
 * why nothing is known, and the monitor looks again every half minute. */
#ifndef GPU_GPU_MONITOR_H
#define GPU_GPU_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "gpu/gpu_snapshot.h"

typedef struct gpu_monitor gpu_monitor;

typedef struct gpu_monitor_options {
    uint32_t interval_ms; /* [1000] */
    bool expected;        /* a GPU is meant to be there: its absence is worth a warning */
    const nvml *table;    /* NULL: load the library; else ask these functions, for tests */
} gpu_monitor_options;

/* The thread runs; the first snapshot says GPU_SOURCE_STARTING. */
NODISCARD status gpu_monitor_open(gpu_monitor **out, const gpu_monitor_options *options,
                                  error *err);

/* Within 100 ms.  A driver that hangs in a call does not keep us: after two seconds its thread is
 * left behind, for the process is about to end.  Every snapshot must have been given back. */
void gpu_monitor_close(gpu_monitor *m);

/* The newest snapshot, never NULL; to be given back. */
const gpu_snapshot *gpu_monitor_take(gpu_monitor *m);
void gpu_monitor_give(gpu_monitor *m, const gpu_snapshot *s);

#endif
