/* gpu_links.h - how the GPUs of a snapshot are connected: PCIe, NVLink, peer access. */
#ifndef GPU_GPU_LINKS_H
#define GPU_GPU_LINKS_H

#include "gpu/gpu_snapshot.h"

/* Ask for out->links and for nvlinks_active of each GPU; the rest of *out is there. */
void gpu_links_read(const nvml *n, gpu_snapshot *out);
/* The same from an earlier snapshot of the same GPUs: connections do not change. */
void gpu_links_keep(const gpu_snapshot *before, gpu_snapshot *out);

#endif
