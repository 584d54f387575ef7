/* gpu_snapshot.c - see gpu_snapshot.h. */
#include "gpu/gpu_snapshot.h"

#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/str.h"
#include "gpu/gpu_links.h"

/* --- one question -------------------- */

static gpu_state state_of(nvml_result r) {
    switch (r) {
    case NVML_GPU_IS_LOST:
        return GPU_STATE_LOST;
    case NVML_RESET_REQUIRED:
        return GPU_STATE_RESET_REQUIRED;
    case NVML_NO_PERMISSION:
    case NVML_OPERATING_SYSTEM:
        return GPU_STATE_NO_PERMISSION;
    default:
        return GPU_STATE_UNREADABLE;
    }
}

/* An answer that is not there says nothing about the GPU, unless it says that the GPU is gone. */
static bool answered(gpu_info *g, nvml_result r) {
    bool gone = r == NVML_GPU_IS_LOST || r == NVML_RESET_REQUIRED;
    if (gone && g->state == GPU_STATE_OK) {
        g->state = state_of(r);
        g->result = r;
    }
    return r == NVML_SUCCESS;
}

#define ASK(field, ...) (n->field != NULL && answered(g, n->field(__VA_ARGS__)))

/* The many functions that give one unsigned number. */
static uint64_t ask_number(gpu_info *g, nvml_device dev,
                           nvml_result (*ask)(nvml_device, unsigned *)) {
    unsigned value = 0;
    return ask != NULL && answered(g, ask(dev, &value)) ? value : GPU_UNKNOWN;
}

static uint64_t ask_clock(gpu_info *g, nvml_device dev, int which,
                          nvml_result (*ask)(nvml_device, int, unsigned *)) {
    unsigned value = 0;
    return ask != NULL && answered(g, ask(dev, which, &value)) ? value : GPU_UNKNOWN;
}

/* --- groups of questions -------------------- */

void gpu_info_init(gpu_info *g) {
    *g = (gpu_info){.state = GPU_STATE_OK};
#define GPU_NUMBER_FORGET(kind, field, text) g->field = GPU_UNKNOWN;
    GPU_NUMBERS(GPU_NUMBER_FORGET)
#undef GPU_NUMBER_FORGET
}

/* A text of theirs, whatever they wrote: terminated, and empty when it is no text. */
static void tidy(char *text, size_t bytes) {
    text[bytes - 1] = '\0';
    str s = str_of(text);
    if (!str_is_utf8(s) || str_has_control(s)) text[0] = '\0';
}

static void read_identity(const nvml *n, nvml_device dev, gpu_info *g) {
    int major = 0, minor = 0;
    nvml_pci pci = {0};
    if (!ASK(name, dev, g->name, sizeof g->name)) g->name[0] = '\0';
    if (!ASK(uuid, dev, g->uuid, sizeof g->uuid)) g->uuid[0] = '\0';
    if (ASK(pci, dev, &pci)) memcpy(g->pci_bus_id, pci.bus_id, sizeof pci.bus_id);
    tidy(g->name, sizeof g->name);
    tidy(g->uuid, sizeof g->uuid);
    tidy(g->pci_bus_id, sizeof g->pci_bus_id);
    if (ASK(compute_capability, dev, &major, &minor))
        (void)snprintf(g->compute_capability, sizeof g->compute_capability, "%d.%d", major, minor);
}

static void keep_identity(gpu_info *g, const gpu_info *before) {
    memcpy(g->name, before->name, sizeof g->name);
    memcpy(g->uuid, before->uuid, sizeof g->uuid);
    memcpy(g->pci_bus_id, before->pci_bus_id, sizeof g->pci_bus_id);
    memcpy(g->compute_capability, before->compute_capability, sizeof g->compute_capability);
}

/* Version 1 counts what the driver reserves for itself as used.  Version 2 tells the two apart;
 * drivers are not of one mind whether its `used` still includes it, so the sum decides. */
static void read_memory(const nvml *n, nvml_device dev, gpu_info *g) {
    nvml_memory_v2 m = {.version = NVML_MEMORY_V2};
    nvml_memory_v1 old = {0};
    if (ASK(memory_v2, dev, &m)) {
        bool twice = m.used >= m.reserved && m.used + m.free + m.reserved > m.total;
        g->memory_total_bytes = m.total;
        g->memory_free_bytes = m.free;
        g->memory_reserved_bytes = m.reserved;
        g->memory_used_bytes = twice ? m.used - m.reserved : m.used;
    } else if (ASK(memory_v1, dev, &old)) {
        g->memory_total_bytes = old.total;
        g->memory_free_bytes = old.free;
        g->memory_used_bytes = old.used;
    }
}

static void read_load(const nvml *n, nvml_device dev, gpu_info *g) {
    nvml_utilization u = {0};
    unsigned celsius = 0;
    if (ASK(utilization, dev, &u)) {
        g->utilization_gpu_percent = u.gpu;
        g->utilization_memory_percent = u.memory;
    }
    if (ASK(temperature, dev, NVML_SENSOR_GPU, &celsius)) g->temperature_celsius = celsius;
    g->power_draw_mw = ask_number(g, dev, n->power);
    g->power_limit_mw = ask_number(g, dev, n->power_limit);
}

static void read_clocks(const nvml *n, nvml_device dev, gpu_info *g) {
    unsigned long long bits = 0;
    g->clocks_sm_mhz = ask_clock(g, dev, NVML_CLOCK_SM, n->clock);
    g->clocks_memory_mhz = ask_clock(g, dev, NVML_CLOCK_MEMORY, n->clock);
    g->clocks_max_sm_mhz = ask_clock(g, dev, NVML_CLOCK_SM, n->clock_max);
    g->clocks_max_memory_mhz = ask_clock(g, dev, NVML_CLOCK_MEMORY, n->clock_max);
    /* the same under the name that branch 535 gave it, should the old one go */
    if (ASK(throttle_reasons, dev, &bits) || ASK(event_reasons, dev, &bits))
        g->throttle_reasons_bits = bits;
}

static void read_ecc(const nvml *n, nvml_device dev, gpu_info *g) {
    int current = 0, pending = 0;
    unsigned long long count = 0;
    if (ASK(ecc_mode, dev, &current, &pending)) g->ecc_enabled = current != 0;
    if (ASK(ecc_errors, dev, NVML_ECC_CORRECTED, NVML_ECC_VOLATILE, &count))
        g->ecc_corrected_errors = count;
    if (ASK(ecc_errors, dev, NVML_ECC_UNCORRECTED, NVML_ECC_VOLATILE, &count))
        g->ecc_uncorrected_errors = count;
}

static void read_bus(const nvml *n, nvml_device dev, gpu_info *g) {
    unsigned current = 0, pending = 0;
    g->pcie_generation = ask_number(g, dev, n->pcie_generation);
    g->pcie_generation_max = ask_number(g, dev, n->pcie_generation_max);
    g->pcie_width = ask_number(g, dev, n->pcie_width);
    g->pcie_width_max = ask_number(g, dev, n->pcie_width_max);
    if (ASK(mig_mode, dev, &current, &pending)) g->mig_enabled = current != 0;
}

/* --- processes -------------------- */

/* Keep the list sorted, most memory first; what is not known counts as most. */
static void add_process(gpu_info *g, gpu_process p) {
    uint32_t at = g->processes_listed;
    while (at > 0 && g->processes[at - 1].used_bytes < p.used_bytes) at--;
    if (at == GPU_PROCESSES_MAX) return;
    if (g->processes_listed < GPU_PROCESSES_MAX) g->processes_listed++;
    memmove(&g->processes[at + 1], &g->processes[at],
            (g->processes_listed - at - 1) * sizeof g->processes[0]);
    g->processes[at] = p;
}

/* Version 2 first, which has had the same layout since branch 455: drivers 535.43 to 535.86 write
 * entries of 32 bytes in version 3.  The array has room for those, so none overruns it.
 * Source: NVML API reference, "nvmlProcessInfo_t", of 12.2 and of 12.2 update 1. */
static void read_processes(const nvml *n, nvml_device dev, gpu_info *g) {
    enum { ASKED = 64, ROOM = ASKED * 32 / 24 + 1 };
    nvml_process list[ROOM];
    unsigned count = ASKED;
    nvml_result (*ask)(nvml_device, unsigned *, nvml_process *) =
        n->processes_v2 != NULL ? n->processes_v2 : n->processes_v3;
    if (ask == NULL) return;
    nvml_result r = ask(dev, &count, list);
    if (r == NVML_INSUFFICIENT_SIZE) g->processes_count = count; /* how many there are */
    if (!answered(g, r) || count > ASKED) return;
    g->processes_count = count;
    for (unsigned i = 0; i < count; i++)
        add_process(g, (gpu_process){.pid = list[i].pid, .used_bytes = list[i].used_bytes});
}

/* --- the whole -------------------- */

static void read_gpu(const nvml *n, uint32_t index, const gpu_info *before, gpu_info *g) {
    nvml_device dev = NULL;
    gpu_info_init(g);
    nvml_result r = n->device_at(index, &dev);
    if (r == NVML_SUCCESS) {
        read_identity(n, dev, g);
        read_memory(n, dev, g);
        read_load(n, dev, g);
        read_clocks(n, dev, g);
        read_ecc(n, dev, g);
        read_bus(n, dev, g);
        read_processes(n, dev, g);
    } else {
        g->state = state_of(r);
        g->result = r;
    }
    if (before != NULL && g->uuid[0] == '\0') keep_identity(g, before);
}

static void read_versions(const nvml *n, gpu_snapshot *out) {
    int cuda = 0; /* 1000 * major + 10 * minor */
    char *driver = out->driver_version;
    if (n->driver_version == NULL ||
        n->driver_version(driver, sizeof out->driver_version) != NVML_SUCCESS)
        driver[0] = '\0';
    tidy(driver, sizeof out->driver_version);
    if (n->cuda_version != NULL && n->cuda_version(&cuda) == NVML_SUCCESS)
        (void)snprintf(out->cuda_version, sizeof out->cuda_version, "%d.%d", cuda / 1000,
                       cuda % 1000 / 10);
}

void gpu_snapshot_read(const nvml *n, const gpu_snapshot *before, gpu_snapshot *out) {
    unsigned count = 0;
    nvml_result r = n->device_count(&count);
    if (r != NVML_SUCCESS) {
        gpu_snapshot_none(out, GPU_SOURCE_FAILED, nvml_result_words(r), nvml_result_fix(r));
        return;
    }
    gpu_snapshot_none(out, GPU_SOURCE_OK, "", "");
    read_versions(n, out);
    out->count_seen = count;
    out->count = count < GPU_COUNT_MAX ? count : GPU_COUNT_MAX;
    bool same = before != NULL && before->source == GPU_SOURCE_OK && before->count == out->count;
    for (uint32_t i = 0; i < out->count; i++)
        read_gpu(n, i, same ? &before->gpus[i] : NULL, &out->gpus[i]);
    if (same)
        gpu_links_keep(before, out);
    else
        gpu_links_read(n, out);
}

void gpu_snapshot_none(gpu_snapshot *out, gpu_source source, const char *why, const char *fix) {
    *out = (gpu_snapshot){.source = source, .taken_ns = os_now_ns()};
    str_copy_c(out->why, sizeof out->why, str_of(why));
    str_copy_c(out->fix, sizeof out->fix, str_of(fix));
}

void gpu_snapshot_look(gpu_snapshot *out) {
    nvml n;
    nvml_result r = NVML_SUCCESS;
    error err = {0};
    if (nvml_load(&n, NULL, &err) != OK) {
        gpu_snapshot_none(out, GPU_SOURCE_ABSENT, err.msg, nvml_missing_fix());
        return;
    }
    if (nvml_start(&n, &r, &err) == OK) {
        gpu_snapshot_read(&n, NULL, out);
        nvml_stop(&n);
    } else {
        gpu_snapshot_none(out, GPU_SOURCE_FAILED, err.msg, nvml_result_fix(r));
    }
    nvml_unload(&n);
}

const gpu_info *gpu_snapshot_find(const gpu_snapshot *s, const char *uuid) {
    for (uint32_t i = 0; i < s->count; i++)
        if (uuid[0] != '\0' && str_eq_nocase(str_of(s->gpus[i].uuid), str_of(uuid)))
            return &s->gpus[i];
    return NULL;
}

/* --- words -------------------- */

const char *gpu_state_name(gpu_state state) {
    static const char *const names[] = {
#define GPU_STATE_NAME(name, text) text,
        GPU_STATES(GPU_STATE_NAME)
#undef GPU_STATE_NAME
    };
    return names[state];
}

const char *gpu_source_name(gpu_source source) {
    static const char *const names[] = {
#define GPU_SOURCE_NAME(name, text) text,
        GPU_SOURCES(GPU_SOURCE_NAME)
#undef GPU_SOURCE_NAME
    };
    return names[source];
}

const char *gpu_path_name(gpu_path path) {
    static const char *const names[] = {"",
#define GPU_PATH_NAME(name, level, text) text,
                                        GPU_PATHS(GPU_PATH_NAME)
#undef GPU_PATH_NAME
    };
    return names[path];
}

const char *gpu_throttle_reason_next(uint64_t *bits) {
#define GPU_THROTTLE_REASON_TAKE(bit, name) \
    if ((*bits & (bit)) != 0) {             \
        *bits &= ~(uint64_t)(bit);          \
        return name;                        \
    }
    GPU_THROTTLE_REASONS(GPU_THROTTLE_REASON_TAKE)
#undef GPU_THROTTLE_REASON_TAKE
    bool rest = *bits != 0;
    *bits = 0;
    return rest ? "other" : NULL;
}
