/* nvml.h - the part of NVIDIA's management library that we use, in our own words, by dlopen.
 *
 * No NVIDIA header is needed to build.  Types, codes and prototypes follow the NVML API reference
 * (docs.nvidia.com/deploy/nvml-api, releases 470 to 580); symbols are the oldest versioned names
 * that do what we need, so that one binary works with all of these drivers.  What a driver, a
 * container or a virtual GPU does not offer is a NULL pointer or an answer other than
 * NVML_SUCCESS: callers go without.  Owner: the thread that opened it. */
#ifndef GPU_NVML_H
#define GPU_NVML_H

#include "base/error.h"

typedef int nvml_result;
typedef struct nvml_device_st *nvml_device; /* theirs; valid until nvml_stop() */

/* X(NAME, number, what it means): the results that we tell apart. */
#define NVML_RESULTS(X)                                                                        \
    X(SUCCESS, 0, "success")                                                                   \
    X(UNINITIALIZED, 1, "the library is not initialized")                                      \
    X(INVALID_ARGUMENT, 2, "an argument is not valid")                                         \
    X(NOT_SUPPORTED, 3, "this device does not tell")                                           \
    X(NO_PERMISSION, 4, "this user may not ask")                                               \
    X(NOT_FOUND, 6, "not found")                                                               \
    X(INSUFFICIENT_SIZE, 7, "the answer does not fit")                                         \
    X(INSUFFICIENT_POWER, 8, "a power cable of the GPU is not plugged in")                     \
    X(DRIVER_NOT_LOADED, 9, "the NVIDIA kernel driver is not loaded")                          \
    X(TIMEOUT, 10, "timeout")                                                                  \
    X(IRQ_ISSUE, 11, "the kernel has trouble with the GPU's interrupts")                       \
    X(FUNCTION_NOT_FOUND, 13, "the driver library lacks the function")                         \
    X(CORRUPTED_INFOROM, 14, "the GPU's info ROM is corrupted")                                \
    X(GPU_IS_LOST, 15, "the GPU has fallen off the bus")                                       \
    X(RESET_REQUIRED, 16, "the GPU needs a reset")                                             \
    X(OPERATING_SYSTEM, 17, "the operating system blocks the GPU's device files")              \
    X(LIB_RM_VERSION_MISMATCH, 18, "the driver's library and its kernel module do not match")  \
    X(MEMORY, 20, "no memory")                                                                 \
    X(ARGUMENT_VERSION_MISMATCH, 25, "the driver does not know this version of the structure") \
    X(GPU_NOT_FOUND, 28, "no GPU was found")                                                   \
    X(UNKNOWN, 999, "an internal error of the driver")

enum {
#define NVML_RESULT_ENUM(name, number, words) NVML_##name = number,
    NVML_RESULTS(NVML_RESULT_ENUM)
#undef NVML_RESULT_ENUM
};

/* nvmlMemory_t */
typedef struct nvml_memory_v1 {
    unsigned long long total, free, used; /* used includes what the driver reserves */
} nvml_memory_v1;

/* nvmlMemory_v2_t; versions of structures are their size with the number in the top byte. */
typedef struct nvml_memory_v2 {
    unsigned version; /* set before the call */
    unsigned long long total, reserved, free, used;
} nvml_memory_v2;
#define NVML_MEMORY_V2 ((unsigned)(sizeof(nvml_memory_v2) | 2u << 24))

/* nvmlUtilization_t, percent of the driver's sampling period */
typedef struct nvml_utilization {
    unsigned gpu, memory;
} nvml_utilization;

enum { NVML_BUS_ID_BYTES = 32 };
/* nvmlPciInfo_t as nvmlDeviceGetPciInfo_v3 fills it */
typedef struct nvml_pci {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[NVML_BUS_ID_BYTES]; /* "00000000:00:04.0" */
} nvml_pci;

/* nvmlProcessInfo_v2_t; v3 is the same but in the first drivers of branch 535, see
 * gpu_snapshot.c. */
typedef struct nvml_process {
    unsigned pid;
    unsigned long long used_bytes; /* all ones: not known */
    unsigned gpu_instance, compute_instance;
} nvml_process;

enum {
    NVML_SENSOR_GPU = 0,
    NVML_CLOCK_SM = 1,
    NVML_CLOCK_MEMORY = 2,
    NVML_ECC_CORRECTED = 0,
    NVML_ECC_UNCORRECTED = 1,
    NVML_ECC_VOLATILE = 0, /* since the driver was loaded */
    NVML_P2P_READ = 0,
    NVML_P2P_OK = 0,
    NVML_NVLINKS_MAX = 18
};

/* X(need, field, symbol, arguments): need is REQUIRED, or OPTIONAL where we do without. */
#define NVML_FUNCTIONS(X)                                                                          \
    X(REQUIRED, init, nvmlInit_v2, (void))                                                         \
    X(OPTIONAL, shutdown, nvmlShutdown, (void))                                                    \
    X(REQUIRED, device_count, nvmlDeviceGetCount_v2, (unsigned *count))                            \
    X(REQUIRED, device_at, nvmlDeviceGetHandleByIndex_v2, (unsigned index, nvml_device *out))      \
    X(OPTIONAL, driver_version, nvmlSystemGetDriverVersion, (char *out, unsigned bytes))           \
    X(OPTIONAL, cuda_version, nvmlSystemGetCudaDriverVersion_v2, (int *version))                   \
    X(OPTIONAL, name, nvmlDeviceGetName, (nvml_device dev, char *out, unsigned bytes))             \
    X(OPTIONAL, uuid, nvmlDeviceGetUUID, (nvml_device dev, char *out, unsigned bytes))             \
    X(OPTIONAL, pci, nvmlDeviceGetPciInfo_v3, (nvml_device dev, nvml_pci * out))                   \
    X(OPTIONAL, compute_capability, nvmlDeviceGetCudaComputeCapability,                            \
      (nvml_device dev, int *major, int *minor))                                                   \
    X(OPTIONAL, memory_v2, nvmlDeviceGetMemoryInfo_v2, (nvml_device dev, nvml_memory_v2 * out))    \
    X(OPTIONAL, memory_v1, nvmlDeviceGetMemoryInfo, (nvml_device dev, nvml_memory_v1 * out))       \
    X(OPTIONAL, utilization, nvmlDeviceGetUtilizationRates,                                        \
      (nvml_device dev, nvml_utilization * out))                                                   \
    X(OPTIONAL, temperature, nvmlDeviceGetTemperature,                                             \
      (nvml_device dev, int sensor, unsigned *celsius))                                            \
    X(OPTIONAL, power, nvmlDeviceGetPowerUsage, (nvml_device dev, unsigned *mw))                   \
    X(OPTIONAL, power_limit, nvmlDeviceGetEnforcedPowerLimit, (nvml_device dev, unsigned *mw))     \
    X(OPTIONAL, clock, nvmlDeviceGetClockInfo, (nvml_device dev, int which, unsigned *mhz))        \
    X(OPTIONAL, clock_max, nvmlDeviceGetMaxClockInfo, (nvml_device dev, int which, unsigned *mhz)) \
    X(OPTIONAL, throttle_reasons, nvmlDeviceGetCurrentClocksThrottleReasons,                       \
      (nvml_device dev, unsigned long long *bits))                                                 \
    X(OPTIONAL, event_reasons, nvmlDeviceGetCurrentClocksEventReasons,                             \
      (nvml_device dev, unsigned long long *bits))                                                 \
    X(OPTIONAL, ecc_mode, nvmlDeviceGetEccMode, (nvml_device dev, int *current, int *pending))     \
    X(OPTIONAL, ecc_errors, nvmlDeviceGetTotalEccErrors,                                           \
      (nvml_device dev, int type, int counter, unsigned long long *count))                         \
    X(OPTIONAL, pcie_generation, nvmlDeviceGetCurrPcieLinkGeneration,                              \
      (nvml_device dev, unsigned *out))                                                            \
    X(OPTIONAL, pcie_width, nvmlDeviceGetCurrPcieLinkWidth, (nvml_device dev, unsigned *out))      \
    X(OPTIONAL, pcie_generation_max, nvmlDeviceGetMaxPcieLinkGeneration,                           \
      (nvml_device dev, unsigned *out))                                                            \
    X(OPTIONAL, pcie_width_max, nvmlDeviceGetMaxPcieLinkWidth, (nvml_device dev, unsigned *out))   \
    X(OPTIONAL, mig_mode, nvmlDeviceGetMigMode,                                                    \
      (nvml_device dev, unsigned *current, unsigned *pending))                                     \
    X(OPTIONAL, processes_v2, nvmlDeviceGetComputeRunningProcesses_v2,                             \
      (nvml_device dev, unsigned *count, nvml_process *out))                                       \
    X(OPTIONAL, processes_v3, nvmlDeviceGetComputeRunningProcesses_v3,                             \
      (nvml_device dev, unsigned *count, nvml_process *out))                                       \
    X(OPTIONAL, common_ancestor, nvmlDeviceGetTopologyCommonAncestor,                              \
      (nvml_device dev, nvml_device peer, int *level))                                             \
    X(OPTIONAL, p2p_status, nvmlDeviceGetP2PStatus,                                                \
      (nvml_device dev, nvml_device peer, int what, int *answer))                                  \
    X(OPTIONAL, nvlink_state, nvmlDeviceGetNvLinkState,                                            \
      (nvml_device dev, unsigned link, int *active))                                               \
    X(OPTIONAL, nvlink_remote, nvmlDeviceGetNvLinkRemotePciInfo_v2,                                \
      (nvml_device dev, unsigned link, nvml_pci *out))

typedef struct nvml {
    void *library; /* owned; NULL when not loaded, or for a table that a test filled */
#define NVML_FIELD(need, field, symbol, args) nvml_result(*field) args;
    NVML_FUNCTIONS(NVML_FIELD)
#undef NVML_FIELD
} nvml;

/* The library and its symbols; nothing of it runs.  `path` NULL: libnvidia-ml.so.1 where the
 * system looks for libraries.
 * ERR_NOT_FOUND     there is none: no NVIDIA driver, or a container without its libraries
 * ERR_UNSUPPORTED   it lacks a function that we cannot do without */
NODISCARD status nvml_load(nvml *out, const char *path, error *err);
void nvml_unload(nvml *n); /* harmless when not loaded */

/* Attach to the driver; ERR_DEVICE with the library's answer in *result and in words. */
NODISCARD status nvml_start(const nvml *n, nvml_result *result, error *err);
void nvml_stop(const nvml *n);

/* "the GPU has fallen off the bus"; never NULL. */
const char *nvml_result_words(nvml_result r);
/* What a person can do about an answer of nvml_start(); never NULL. */
const char *nvml_result_fix(nvml_result r);
/* What a person can do when there is no library. */
const char *nvml_missing_fix(void);

#endif
