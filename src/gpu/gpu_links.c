/* gpu_links.c - see gpu_links.h. */
#include "gpu/gpu_links.h"

#include <string.h>

static gpu_path path_of(int level) {
    switch (level) {
#define GPU_PATH_OF(name, number, text) \
    case number:                        \
        return GPU_PATH_##name;
        GPU_PATHS(GPU_PATH_OF)
#undef GPU_PATH_OF
    default:
        return GPU_PATH_UNKNOWN;
    }
}

static gpu_link ask_link(const nvml *n, nvml_device dev, nvml_device peer) {
    gpu_link link = {0};
    int level = 0, answer = 0;
    if (n->common_ancestor != NULL && n->common_ancestor(dev, peer, &level) == NVML_SUCCESS)
        link.path = path_of(level);
    if (n->p2p_status != NULL && n->p2p_status(dev, peer, NVML_P2P_READ, &answer) == NVML_SUCCESS)
        link.p2p = answer == NVML_P2P_OK ? GPU_ANSWER_YES : GPU_ANSWER_NO;
    return link;
}

/* Which of the devices is at this place of the bus?  -1: none; it is a switch, or not ours. */
static int device_at_bus(const nvml *n, nvml_device *devices, uint32_t count, const nvml_pci *at) {
    for (uint32_t i = 0; i < count; i++) {
        nvml_pci pci = {0};
        if (devices[i] == NULL || n->pci == NULL || n->pci(devices[i], &pci) != NVML_SUCCESS)
            continue;
        if (pci.domain == at->domain && pci.bus == at->bus && pci.device == at->device)
            return (int)i;
    }
    return -1;
}

/* A GPU without NVLink answers that the first link is not supported: then nothing is known about
 * links there, and none are active. */
static void count_nvlinks(const nvml *n, nvml_device *devices, uint32_t gpu, gpu_snapshot *out) {
    nvml_device dev = devices[gpu];
    for (unsigned l = 0; l < NVML_NVLINKS_MAX && n->nvlink_state != NULL; l++) {
        int active = 0;
        nvml_pci remote = {0};
        if (n->nvlink_state(dev, l, &active) != NVML_SUCCESS) return;
        uint64_t *total = &out->gpus[gpu].nvlinks_active;
        if (*total == GPU_UNKNOWN) *total = 0;
        *total += active != 0;
        if (active == 0 || n->nvlink_remote == NULL ||
            n->nvlink_remote(dev, l, &remote) != NVML_SUCCESS)
            continue;
        int peer = device_at_bus(n, devices, out->count, &remote);
        if (peer >= 0) out->links[gpu][peer].nvlinks++;
    }
}

void gpu_links_read(const nvml *n, gpu_snapshot *out) {
    nvml_device devices[GPU_COUNT_MAX] = {0};
    for (uint32_t i = 0; i < out->count; i++)
        if (n->device_at(i, &devices[i]) != NVML_SUCCESS) devices[i] = NULL;
    for (uint32_t i = 0; i < out->count; i++) {
        for (uint32_t k = 0; k < out->count; k++)
            if (k != i && devices[i] != NULL && devices[k] != NULL)
                out->links[i][k] = ask_link(n, devices[i], devices[k]);
        if (devices[i] != NULL) count_nvlinks(n, devices, i, out);
    }
}

void gpu_links_keep(const gpu_snapshot *before, gpu_snapshot *out) {
    memcpy(out->links, before->links, sizeof out->links);
    for (uint32_t i = 0; i < out->count; i++)
        out->gpus[i].nvlinks_active = before->gpus[i].nvlinks_active;
}
