/* gpu_list.c - see gpu_list.h. */
#include "app/gpu_list.h"

#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda_host.h"
#include "base/str.h"

static const cuda_device_info *device_of(const cuda_probe_report *r, const char *uuid) {
    for (uint32_t i = 0; i < r->devices_count; i++)
        if (uuid[0] != '\0' && str_eq_nocase(str_of(r->devices[i].uuid), str_of(uuid)))
            return &r->devices[i];
    return NULL;
}

/* A GPU that fell off the bus tells CUDA nothing, not even who it is: it is the one that NVML calls
 * lost.  false: NVML calls none so. */
static bool is_lost_one(gpu_list *list, const cuda_device_info *d) {
    if (d->uuid[0] != '\0') return false;
    for (uint32_t i = 0; i < list->nvml_count; i++) {
        if (list->rows[i].device != NULL || list->nvml.gpus[i].state == GPU_STATE_OK) continue;
        list->rows[i].device = d;
        return true;
    }
    return false;
}

/* What CUDA knows of a GPU that NVML says nothing about. */
static void add_unseen(gpu_list *list, const cuda_device_info *d) {
    if (list->nvml.count == GPU_COUNT_MAX) return;
    uint32_t at = list->nvml.count++;
    gpu_info *g = &list->nvml.gpus[at];
    gpu_info_init(g);
    g->state = GPU_STATE_UNREADABLE;
    str_copy_c(g->name, sizeof g->name, str_of(d->name));
    str_copy_c(g->uuid, sizeof g->uuid, str_of(d->uuid));
    str_copy_c(g->pci_bus_id, sizeof g->pci_bus_id, str_of(d->pci));
    if (d->cc > 0)
        (void)snprintf(g->compute_capability, sizeof g->compute_capability, "%d.%d", d->cc / 10,
                       d->cc % 10);
    if (d->memory_bytes > 0) g->memory_total_bytes = d->memory_bytes;
    if (d->free_known) g->memory_free_bytes = d->free_bytes;
    list->rows[at] = (gpu_row){.index = -1, .device = d, .why = d->why, .fix = d->fix};
}

static void explain_hidden(gpu_list *list, const char *visible) {
    if (visible != NULL) {
        (void)snprintf(list->hidden, sizeof list->hidden, "CUDA_VISIBLE_DEVICES='%.64s' hides it",
                       visible);
        (void)snprintf(list->hidden_fix, sizeof list->hidden_fix,
                       "unset CUDA_VISIBLE_DEVICES, or name it there");
    } else {
        (void)snprintf(list->hidden, sizeof list->hidden, "the CUDA driver does not list it");
        (void)snprintf(list->hidden_fix, sizeof list->hidden_fix,
                       "look at nvidia-smi; in MIG mode its instances are listed instead");
    }
}

/* NVML without CUDA is what a container gets that may look at GPUs but not compute on them. */
static void explain_no_cuda(gpu_list *list) {
    cuda_probe_report *r = &list->cuda;
    if (r->driver_found || list->nvml_count == 0) return;
    (void)snprintf(r->why, sizeof r->why,
                   "NVML sees %u GPU%s, but there is no libcuda.so.1 that can be loaded",
                   list->nvml_count, list->nvml_count == 1 ? "" : "s");
    (void)snprintf(r->fix, sizeof r->fix,
                   "install the driver's compute libraries (libcuda1); in a container set "
                   "NVIDIA_DRIVER_CAPABILITIES=compute,utility");
}

/* Only NVML sees this one: because CUDA sees none, or because it sees others. */
static gpu_row unlisted(const gpu_list *list, uint32_t i) {
    const gpu_info *g = &list->nvml.gpus[i];
    gpu_row row = {.index = (int32_t)i, .why = list->hidden, .fix = list->hidden_fix};
    if (g->state != GPU_STATE_OK) {
        row.why = nvml_result_words(g->result);
        row.fix = nvml_result_fix(g->result);
    } else if (!list->cuda.driver_usable) {
        row.why = list->cuda.why;
        row.fix = list->cuda.fix;
    }
    return row;
}

void gpu_list_merge(gpu_list *list, const char *visible) {
    list->nvml_count = list->nvml.count;
    explain_hidden(list, visible);
    explain_no_cuda(list);
    for (uint32_t i = 0; i < list->nvml_count; i++) {
        const cuda_device_info *d = device_of(&list->cuda, list->nvml.gpus[i].uuid);
        list->rows[i] = d != NULL ? (gpu_row){(int32_t)i, d, d->why, d->fix} : unlisted(list, i);
    }
    for (uint32_t i = 0; i < list->cuda.devices_count; i++)
        if (gpu_snapshot_find(&list->nvml, list->cuda.devices[i].uuid) == NULL &&
            !is_lost_one(list, &list->cuda.devices[i]))
            add_unseen(list, &list->cuda.devices[i]);
}

void gpu_list_look(gpu_list *out, const char *visible) {
    memset(out, 0, sizeof *out);
    gpu_snapshot_look(&out->nvml);
    /* NVML tells how much memory is free without making a context on every card */
    cuda_probe(&(cuda_probe_options){.visible = visible,
                                     .images = CUDA_IMAGES_EMBEDDED,
                                     .measure_free = out->nvml.source != GPU_SOURCE_OK},
               &out->cuda);
    gpu_list_merge(out, visible);
}

bool gpu_list_expects_gpu(const gpu_list *list) {
    cuda_host host = cuda_host_look(NULL);
    return list->nvml.count > 0 || list->nvml.source == GPU_SOURCE_FAILED ||
           list->cuda.driver_found || host.module || host.nodes || host.pci_count > 0;
}
