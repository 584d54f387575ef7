/* gpu_list.h - every GPU of this machine, as the CUDA driver and NVML see it, put together.
 *
 * NVML sees all GPUs and what they do; the CUDA driver sees those that CUDA_VISIBLE_DEVICES leaves,
 * in an order of its own, and knows whether we can use them.  They are matched by UUID.  For
 * `gantry gpus` and `gantry doctor`.  Main thread. */
#ifndef APP_GPU_LIST_H
#define APP_GPU_LIST_H

#include "backend/cuda/cuda_probe.h"
#include "gpu/gpu_snapshot.h"

typedef struct gpu_row {
    int32_t index;                  /* of NVML; -1: NVML does not see it */
    const cuda_device_info *device; /* of the list's report; NULL: CUDA does not see it */
    const char *why, *fix;          /* it is not used; "" when it can be; in the list */
} gpu_row;

typedef struct gpu_list {
    cuda_probe_report cuda;
    gpu_snapshot nvml; /* and, after nvml_count GPUs, those that only CUDA sees */
    uint32_t nvml_count;
    gpu_row rows[GPU_COUNT_MAX]; /* [nvml.count] */
    char hidden[128];            /* why and fix of GPUs that CUDA does not list */
    char hidden_fix[128];
} gpu_list;

/* Look at the machine.  `visible` is CUDA_VISIBLE_DEVICES, or NULL.  Never fails. */
void gpu_list_look(gpu_list *out, const char *visible);

/* The second half of it, from what was found. */
void gpu_list_merge(gpu_list *list, const char *visible);

/* Is there any NVIDIA hardware, or something that looks like its driver?  Then a GPU that is not
 * used is worth a warning. */
bool gpu_list_expects_gpu(const gpu_list *list);

#endif
