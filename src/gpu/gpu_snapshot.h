/* gpu_snapshot.h - what NVML says about the GPUs at one moment, as plain data.
 *
 * One convention for all that a driver, a container or a virtual GPU does not tell: numbers are
 * GPU_UNKNOWN, texts are empty, enums have a value UNKNOWN.  Nothing is ever guessed, and a zero
 * is a zero that NVML said; outside, unknown is null in JSON and no series in metrics.
 * GPUs are numbered as NVML does, which CUDA_VISIBLE_DEVICES does not change: what CUDA calls a
 * device is found by its UUID.  Process ids are those of the host, also in a container.
 * Owner: whoever holds the struct. */
#ifndef GPU_GPU_SNAPSHOT_H
#define GPU_GPU_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "gpu/nvml.h"

enum {
    GPU_COUNT_MAX = 16,
    GPU_PROCESSES_MAX = 16, /* kept per GPU, those with the most memory first */
    GPU_NAME_BYTES = 96, /* NVML_DEVICE_NAME_V2_BUFFER_SIZE and NVML_DEVICE_UUID_V2_BUFFER_SIZE */
    GPU_VERSION_BYTES = 80, /* NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE */
    GPU_WHY_BYTES = 256
};
#define GPU_UNKNOWN UINT64_MAX

/* X(kind, field, name outside): every number of a GPU.
 *   COUNT  as it is        FLAG  0 or 1        MILLI  thousandths of the unit outside */
#define GPU_NUMBERS(X)                                                 \
    X(COUNT, memory_total_bytes, "memory_total_bytes")                 \
    X(COUNT, memory_used_bytes, "memory_used_bytes")                   \
    X(COUNT, memory_free_bytes, "memory_free_bytes")                   \
    X(COUNT, memory_reserved_bytes, "memory_reserved_bytes")           \
    X(COUNT, utilization_gpu_percent, "utilization_gpu_percent")       \
    X(COUNT, utilization_memory_percent, "utilization_memory_percent") \
    X(COUNT, temperature_celsius, "temperature_gpu_celsius")           \
    X(MILLI, power_draw_mw, "power_draw_watts")                        \
    X(MILLI, power_limit_mw, "power_limit_watts")                      \
    X(COUNT, clocks_sm_mhz, "clocks_sm_mhz")                           \
    X(COUNT, clocks_memory_mhz, "clocks_mem_mhz")                      \
    X(COUNT, clocks_max_sm_mhz, "clocks_max_sm_mhz")                   \
    X(COUNT, clocks_max_memory_mhz, "clocks_max_mem_mhz")              \
    X(COUNT, throttle_reasons_bits, "clocks_throttle_reasons_bits")    \
    X(FLAG, ecc_enabled, "ecc_enabled")                                \
    X(COUNT, ecc_corrected_errors, "ecc_corrected_errors")             \
    X(COUNT, ecc_uncorrected_errors, "ecc_uncorrected_errors")         \
    X(COUNT, pcie_generation, "pcie_link_gen")                         \
    X(COUNT, pcie_generation_max, "pcie_link_gen_max")                 \
    X(COUNT, pcie_width, "pcie_link_width")                            \
    X(COUNT, pcie_width_max, "pcie_link_width_max")                    \
    X(FLAG, mig_enabled, "mig_enabled")                                \
    X(COUNT, nvlinks_active, "nvlinks_active")                         \
    X(COUNT, processes_count, "processes_count")

/* X(bit, name): why the clocks are below their maximum (nvmlClocksThrottleReasons). */
#define GPU_THROTTLE_REASONS(X)           \
    X(0x1, "gpu_idle")                    \
    X(0x2, "applications_clocks_setting") \
    X(0x4, "sw_power_cap")                \
    X(0x8, "hw_slowdown")                 \
    X(0x10, "sync_boost")                 \
    X(0x20, "sw_thermal_slowdown")        \
    X(0x40, "hw_thermal_slowdown")        \
    X(0x80, "hw_power_brake_slowdown")    \
    X(0x100, "display_clock_setting")

/* X(NAME, name outside): can NVML ask this GPU? */
#define GPU_STATES(X)                   \
    X(OK, "ok")                         \
    X(LOST, "lost")                     \
    X(RESET_REQUIRED, "reset_required") \
    X(NO_PERMISSION, "no_permission")   \
    X(UNREADABLE, "unreadable")

typedef enum gpu_state {
#define GPU_STATE_ENUM(name, text) GPU_STATE_##name,
    GPU_STATES(GPU_STATE_ENUM)
#undef GPU_STATE_ENUM
        GPU_STATE_COUNT
} gpu_state;

/* X(NAME, NVML's level, nvidia-smi's word): where the ways of two GPUs meet, nearest first.
 * Source: nvmlGpuTopologyLevel_t; the legend of `nvidia-smi topo -m`. */
#define GPU_PATHS(X)          \
    X(INTERNAL, 0, "PSB")     \
    X(SINGLE, 10, "PIX")      \
    X(MULTIPLE, 20, "PXB")    \
    X(HOST_BRIDGE, 30, "PHB") \
    X(NODE, 40, "NODE")       \
    X(SYSTEM, 50, "SYS")

typedef enum gpu_path {
    GPU_PATH_UNKNOWN,
#define GPU_PATH_ENUM(name, level, text) GPU_PATH_##name,
    GPU_PATHS(GPU_PATH_ENUM)
#undef GPU_PATH_ENUM
} gpu_path;

typedef enum gpu_answer { GPU_ANSWER_UNKNOWN, GPU_ANSWER_NO, GPU_ANSWER_YES } gpu_answer;

typedef struct gpu_link {
    gpu_path path;
    gpu_answer p2p;   /* may one read the memory of the other? (to be verified with data) */
    uint32_t nvlinks; /* direct ones; those to a switch count in nvlinks_active only */
} gpu_link;

typedef struct gpu_process {
    uint32_t pid;
    uint64_t used_bytes; /* or GPU_UNKNOWN */
} gpu_process;

typedef struct gpu_info {
    gpu_state state;
    nvml_result result;        /* what made the state */
    char name[GPU_NAME_BYTES]; /* "Tesla T4" */
    char uuid[GPU_NAME_BYTES]; /* "GPU-8f4c..." */
    char pci_bus_id[NVML_BUS_ID_BYTES];
    char compute_capability[16]; /* "7.5" */
#define GPU_NUMBER_FIELD(kind, field, text) uint64_t field;
    GPU_NUMBERS(GPU_NUMBER_FIELD)
#undef GPU_NUMBER_FIELD
    uint32_t processes_listed;
    gpu_process processes[GPU_PROCESSES_MAX];
} gpu_info;

/* X(NAME, name outside): does NVML answer at all? */
#define GPU_SOURCES(X)      \
    X(STARTING, "starting") \
    X(OK, "ok")             \
    X(ABSENT, "absent")     \
    X(FAILED, "failed")

typedef enum gpu_source {
#define GPU_SOURCE_ENUM(name, text) GPU_SOURCE_##name,
    GPU_SOURCES(GPU_SOURCE_ENUM)
#undef GPU_SOURCE_ENUM
        GPU_SOURCE_COUNT
} gpu_source;

typedef struct gpu_snapshot {
    gpu_source source;
    char why[GPU_WHY_BYTES]; /* it is not OK; else empty */
    char fix[GPU_WHY_BYTES]; /* what a person can do about it */
    uint64_t taken_ns;       /* os_now_ns() */
    char driver_version[GPU_VERSION_BYTES];
    char cuda_version[16]; /* the newest that the driver can run: "13.0" */
    uint32_t count_seen;   /* by NVML; more than count when there are more than GPU_COUNT_MAX */
    uint32_t count;
    gpu_info gpus[GPU_COUNT_MAX];
    gpu_link links[GPU_COUNT_MAX][GPU_COUNT_MAX]; /* [gpu][other]; the diagonal says nothing */
} gpu_snapshot;

/* Ask a started library for everything.  `before` is what it said last, or NULL: names and links
 * do not change, so a GPU that is lost keeps them, and links are asked for only once.
 * Never fails: *out says what is known. */
void gpu_snapshot_read(const nvml *n, const gpu_snapshot *before, gpu_snapshot *out);

/* A snapshot that has no GPUs because of `why`. */
void gpu_snapshot_none(gpu_snapshot *out, gpu_source source, const char *why, const char *fix);

/* Load, start, read, stop, unload: one look for a command.  Never fails. */
void gpu_snapshot_look(gpu_snapshot *out);

/* A GPU of which nothing is known. */
void gpu_info_init(gpu_info *g);

/* The GPU with this UUID; NULL when there is none. */
const gpu_info *gpu_snapshot_find(const gpu_snapshot *s, const char *uuid);

const char *gpu_state_name(gpu_state state);
const char *gpu_source_name(gpu_source source);
const char *gpu_path_name(gpu_path path); /* "" when unknown */

/* Name of the lowest reason in *bits, which is taken out; NULL when none is left.  Bits without
 * a name are "other". */
const char *gpu_throttle_reason_next(uint64_t *bits);

#endif
