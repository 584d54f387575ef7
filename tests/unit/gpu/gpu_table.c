/* gpu_table.c - see gpu_table.h. */
#include "gpu/gpu_table.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

gpu_table_state gpu_table;

enum { TOTAL = 16 << 20, RESERVED = 1 << 20, LINKS = 4 };

/* Handles are 1 and 2. */
static unsigned index_of(nvml_device dev) { return (unsigned)(uintptr_t)dev - 1; }
static nvml_result ok(nvml_device dev) { return gpu_table.result[index_of(dev)]; }

static nvml_result init(void) {
    gpu_table.started++;
    return gpu_table.init_result;
}

static nvml_result shut_down(void) {
    gpu_table.stopped++;
    return NVML_SUCCESS;
}

static nvml_result device_count(unsigned *count) {
    gpu_table.looks++;
    *count = gpu_table.count;
    return gpu_table.count_result;
}

static nvml_result device_at(unsigned index, nvml_device *out) {
    unsigned gpu = index % GPU_TABLE_GPUS; /* more of them are the same ones again */
    *out = (nvml_device)(uintptr_t)(gpu + 1);
    return gpu_table.result[gpu];
}

static nvml_result driver_version(char *out, unsigned bytes) {
    (void)snprintf(out, bytes, "580.65.06");
    return NVML_SUCCESS;
}

static nvml_result cuda_version(int *version) {
    *version = 12040;
    return NVML_SUCCESS;
}

static nvml_result name(nvml_device dev, char *out, unsigned bytes) {
    (void)snprintf(out, bytes, "Tesla T4");
    return ok(dev);
}

static nvml_result uuid(nvml_device dev, char *out, unsigned bytes) {
    (void)snprintf(out, bytes, "GPU-%04u", index_of(dev));
    return ok(dev);
}

static nvml_result pci(nvml_device dev, nvml_pci *out) {
    *out = (nvml_pci){.bus = 4 + index_of(dev)};
    (void)snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return ok(dev);
}

static nvml_result compute_capability(nvml_device dev, int *major, int *minor) {
    *major = 7;
    *minor = 5;
    return ok(dev);
}

static nvml_result memory_v2(nvml_device dev, nvml_memory_v2 *out) {
    if (out->version != NVML_MEMORY_V2) return NVML_ARGUMENT_VERSION_MISMATCH;
    unsigned long long used = gpu_table.used_bytes;
    *out = (nvml_memory_v2){.total = TOTAL,
                            .reserved = RESERVED,
                            .used = used + (gpu_table.used_with_reserved ? RESERVED : 0),
                            .free = TOTAL - RESERVED - used};
    return ok(dev);
}

static nvml_result memory_v1(nvml_device dev, nvml_memory_v1 *out) {
    unsigned long long used = gpu_table.used_bytes + RESERVED;
    *out = (nvml_memory_v1){.total = TOTAL, .used = used, .free = TOTAL - used};
    return ok(dev);
}

static nvml_result utilization(nvml_device dev, nvml_utilization *out) {
    *out = (nvml_utilization){.gpu = 87, .memory = 40};
    return ok(dev);
}

static nvml_result temperature(nvml_device dev, int sensor, unsigned *celsius) {
    *celsius = 41 + (unsigned)sensor;
    return ok(dev);
}

static nvml_result power(nvml_device dev, unsigned *mw) {
    *mw = 27450;
    return ok(dev);
}

static nvml_result power_limit(nvml_device dev, unsigned *mw) {
    *mw = 70000;
    return ok(dev);
}

static nvml_result clock(nvml_device dev, int which, unsigned *mhz) {
    *mhz = which == NVML_CLOCK_SM ? 585 : 5000;
    return ok(dev);
}

static nvml_result clock_max(nvml_device dev, int which, unsigned *mhz) {
    *mhz = which == NVML_CLOCK_SM ? 1590 : 5001;
    return ok(dev);
}

static nvml_result throttle_reasons(nvml_device dev, unsigned long long *bits) {
    *bits = gpu_table.throttle_reasons;
    return ok(dev);
}

static nvml_result ecc_mode(nvml_device dev, int *current, int *pending) {
    *current = *pending = 1;
    return ok(dev);
}

static nvml_result ecc_errors(nvml_device dev, int type, int counter, unsigned long long *count) {
    *count = type == NVML_ECC_CORRECTED ? 3 : (unsigned)counter;
    return ok(dev);
}

static nvml_result generation(nvml_device dev, unsigned *out) {
    *out = 1;
    return ok(dev);
}

static nvml_result generation_max(nvml_device dev, unsigned *out) {
    *out = 3;
    return ok(dev);
}

static nvml_result width(nvml_device dev, unsigned *out) {
    *out = 16;
    return ok(dev);
}

static nvml_result no_mig(nvml_device dev, unsigned *current, unsigned *pending) {
    (void)dev, (void)current, (void)pending;
    return NVML_NOT_SUPPORTED;
}

static nvml_result processes(nvml_device dev, unsigned *count, nvml_process *out) {
    unsigned room = *count;
    *count = gpu_table.processes;
    if (room < gpu_table.processes) return NVML_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < gpu_table.processes; i++)
        out[i] = (nvml_process){.pid = 100 + i, .used_bytes = (i + 1ull) << 20};
    return ok(dev);
}

static nvml_result common_ancestor(nvml_device dev, nvml_device peer, int *level) {
    gpu_table.links_asked++;
    *level = dev == peer ? 0 : 30;
    return ok(dev);
}

static nvml_result p2p_status(nvml_device dev, nvml_device peer, int what, int *answer) {
    (void)peer;
    *answer = what; /* reading is 0: it is fine */
    return ok(dev);
}

/* Two links to the other GPU, one to a switch, one that is off. */
static nvml_result nvlink_state(nvml_device dev, unsigned link, int *active) {
    if (link >= LINKS) return NVML_INVALID_ARGUMENT;
    *active = link != 3;
    return ok(dev);
}

static nvml_result nvlink_remote(nvml_device dev, unsigned link, nvml_pci *out) {
    *out = (nvml_pci){.bus = link == 2 ? 99 : 4 + (1 - index_of(dev))};
    return ok(dev);
}

nvml gpu_table_new(void) {
    memset((void *)&gpu_table, 0, sizeof gpu_table);
    gpu_table.count = GPU_TABLE_GPUS;
    gpu_table.used_bytes = 5 << 20;
    gpu_table.throttle_reasons = 0x44;
    return (nvml){
        .init = init,
        .shutdown = shut_down,
        .device_count = device_count,
        .device_at = device_at,
        .driver_version = driver_version,
        .cuda_version = cuda_version,
        .name = name,
        .uuid = uuid,
        .pci = pci,
        .compute_capability = compute_capability,
        .memory_v2 = memory_v2,
        .memory_v1 = memory_v1,
        .utilization = utilization,
        .temperature = temperature,
        .power = power,
        .power_limit = power_limit,
        .clock = clock,
        .clock_max = clock_max,
        .throttle_reasons = throttle_reasons,
        .ecc_mode = ecc_mode,
        .ecc_errors = ecc_errors,
        .pcie_generation = generation,
        .pcie_generation_max = generation_max,
        .pcie_width = width,
        .pcie_width_max = width,
        .mig_mode = no_mig,
        .processes_v2 = processes,
        .common_ancestor = common_ancestor,
        .p2p_status = p2p_status,
        .nvlink_state = nvlink_state,
        .nvlink_remote = nvlink_remote,
    };
}
