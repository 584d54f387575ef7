/* cuda_overlap.c - which kernels may start before the one ahead of them has ended; see
 * cuda_device.h.
 *
 * The driver has cuLaunchKernelEx since CUDA 11.8.  A stream capture keeps such a launch as what it
 * is, an edge of the graph between kernels that overlap, since 12.3, which brought edges with data
 * (CUDA C++ Programming Guide, "Use in CUDA Graphs"); before that recorded launches are plain ones.
 * Which code was loaded decides first: that of cc 7.5, which a newer card runs as PTX, has no wait
 * in it. */
#include "backend/cuda/cuda_device_internal.h"
#include "base/log.h"

enum { CODE_PATH_MIN = 900, DRIVER_MIN = 11080, DRIVER_GRAPHS_MIN = 12030 };

/* NULL: they may. */
static const char *why_not(const cuda_device *dev, bool wanted) {
    if (!wanted) return "switched off";
    if (dev->image.code_path < CODE_PATH_MIN)
        return "only the code for compute capability 9.0 and later can wait";
    if (dev->driver->launch_ex == NULL || dev->driver->version < DRIVER_MIN)
        return "the driver is older than CUDA 11.8";
    return NULL;
}

void cuda_device_overlap(cuda_device *dev, bool wanted) {
    const char *why = why_not(dev, wanted);
    dev->overlaps = why == NULL;
    dev->overlaps_in_graphs = dev->overlaps && dev->driver->version >= DRIVER_GRAPHS_MIN;
    if (why != NULL)
        log_info("cuda", "pdl gpu=%d on=0 code='%s' why='%s'", dev->ordinal, dev->image.name, why);
    else
        log_info("cuda", "pdl gpu=%d on=1 code='%s' graphs=%d", dev->ordinal, dev->image.name,
                 dev->overlaps_in_graphs);
}

void cuda_overlap_refused(cuda_device *dev, cu_result code) {
    error err = {0};
    (void)!cuda_check(dev, code, "cuLaunchKernelEx", &err);
    log_warn("cuda", "no kernel starts early, each waits for the one before it: %s", err.msg);
    dev->overlaps = dev->overlaps_in_graphs = false;
    dev->chain = CUDA_CHAIN_NONE;
}

void cuda_overlap_unrecorded(cuda_device *dev, cu_result code, const char *call) {
    error err = {0};
    (void)!cu_check(dev->driver, code, call, &err);
    log_warn("cuda", "no kernel of a graph starts early: %s", err.msg);
    dev->overlaps_in_graphs = false;
}

void cuda_chain(cuda_device *dev, bool on, bool recording) {
    const bool may = recording ? dev->overlaps_in_graphs : dev->overlaps;
    dev->chain = on && may && !dev->check_each_launch ? CUDA_CHAIN_FIRST : CUDA_CHAIN_NONE;
}

void cuda_chain_anew(cuda_device *dev) {
    if (dev->chain == CUDA_CHAIN_NEXT) dev->chain = CUDA_CHAIN_FIRST;
}
