/* nvml_sim.c - libnvidia-ml.so.1 of the software GPU: the functions of gpu/nvml.h, answered from
 * the pretended machine.
 *
 * As the real library it numbers GPUs without regard to CUDA_VISIBLE_DEVICES.  Functions that the
 * topology lists as unsupported answer NOT_SUPPORTED, "absent" makes nvmlInit_v2 answer
 * DRIVER_NOT_LOADED.  A GPU with lost_at_call is lost from that call of the CUDA driver on, when
 * the software GPU's libcuda is in this process, else from that call here.
 * Memory is static: nothing but what the driver reserves is taken.  CUDASIM_NVML_LIVE=1 asks the
 * software GPU's libcuda in the same process instead, which waits for a kernel that runs. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cudasim/driver/sim_driver.h"
#include "cudasim/topology.h"
#include "gpu/nvml.h"

/* The exported prototypes: a definition that drifts from nvml.h does not compile. */
#define EXPORT                               __attribute__((visibility("default")))
#define PROTOTYPE(need, field, symbol, args) EXPORT nvml_result symbol args;
NVML_FUNCTIONS(PROTOTYPE)
#undef PROTOTYPE

#define MIB ((uint64_t)1 << 20)

enum { IDLE_SM_MHZ = 300, IDLE_MEMORY_MHZ = 405, IDLE_PCIE_GENERATION = 1, THROTTLE_IDLE = 1 };
enum { P2P_CHIPSET = 1, LEVEL_SINGLE = 10, LEVEL_NODE = 40 };

static atomic_int initialized;
static atomic_ullong calls[SIM_GPUS_MAX]; /* of each GPU, while no libcuda counts */

/* --- libcuda in the same process -------------------- */

static void *cuda_symbol(const char *name) {
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = library != NULL ? dlsym(library, name) : NULL;
    if (library != NULL) (void)dlclose(library); /* ours; theirs keeps it loaded */
    return symbol;
}

static uint64_t cuda_calls(uint32_t gpu) {
    uint64_t (*count)(const char *) = NULL;
    void *symbol = cuda_symbol("sim_calls");
    memcpy(&count, &symbol, sizeof count);
    return count != NULL ? count(NULL) : atomic_fetch_add(&calls[gpu], 1) + 1;
}

static uint64_t used_bytes(uint32_t gpu) {
    sim_memory_use (*memory)(uint32_t) = NULL;
    const char *live = getenv("CUDASIM_NVML_LIVE");
    if (live == NULL || strcmp(live, "1") != 0) return 0;
    void *symbol = cuda_symbol("sim_memory");
    memcpy(&memory, &symbol, sizeof memory);
    return memory != NULL ? memory(gpu).held_now : 0;
}

/* --- the way in -------------------- */

static bool is_unsupported(const char *symbol) {
    const sim_topology *t = sim_topology_get();
    for (uint32_t i = 0; i < t->unsupported_count; i++)
        if (strcmp(t->unsupported[i], symbol) == 0) return true;
    return false;
}

static nvml_result enter(const char *symbol) {
    if (atomic_load(&initialized) <= 0) return NVML_UNINITIALIZED;
    return is_unsupported(symbol) ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
}

/* A handle is the address of its GPU in the topology. */
static nvml_device handle_of(uint32_t gpu) {
    const sim_gpu *g = &sim_topology_get()->gpus[gpu];
    return (nvml_device)(uintptr_t)g;
}

static nvml_result enter_gpu(const char *symbol, nvml_device dev, uint32_t *gpu) {
    const sim_topology *t = sim_topology_get();
    nvml_result r = enter(symbol);
    if (r != NVML_SUCCESS) return r;
    for (uint32_t i = 0; i < t->gpus_count; i++) {
        if (handle_of(i) != dev) continue;
        *gpu = i;
        bool lost = t->gpus[i].lost_at_call != 0 && cuda_calls(i) >= t->gpus[i].lost_at_call;
        return lost ? NVML_GPU_IS_LOST : NVML_SUCCESS;
    }
    return NVML_INVALID_ARGUMENT;
}

/* Declares `gpu`, its number, and `g`, its description, or returns. */
#define ENTER(symbol, dev)                                \
    uint32_t gpu = 0;                                     \
    nvml_result entered_ = enter_gpu(#symbol, dev, &gpu); \
    if (entered_ != NVML_SUCCESS) return entered_;        \
    const sim_gpu *g = &sim_topology_get()->gpus[gpu];    \
    (void)g

static nvml_result give_text(char *out, unsigned bytes, const char *text) {
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    if (strlen(text) >= bytes) return NVML_INSUFFICIENT_SIZE;
    memcpy(out, text, strlen(text) + 1);
    return NVML_SUCCESS;
}

static nvml_result give(unsigned *out, unsigned value) {
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    *out = value;
    return NVML_SUCCESS;
}

/* --- the library -------------------- */

/* What NVML says where cuInit says `cuda`. */
static nvml_result init_result(int cuda) {
    switch (cuda) {
    case 0:
    case 34:  /* a stub of libcuda says nothing about NVML */
    case 802: /* nor does the fabric manager */
        return NVML_SUCCESS;
    case 100:
        return NVML_DRIVER_NOT_LOADED;
    case 803:
        return NVML_LIB_RM_VERSION_MISMATCH;
    default:
        return NVML_UNKNOWN;
    }
}

nvml_result nvmlInit_v2(void) {
    const sim_topology *t = sim_topology_get();
    nvml_result r = t->nvml_absent ? NVML_DRIVER_NOT_LOADED : init_result(t->init_result);
    if (r == NVML_SUCCESS) (void)atomic_fetch_add(&initialized, 1);
    return r;
}

nvml_result nvmlShutdown(void) {
    if (atomic_load(&initialized) <= 0) return NVML_UNINITIALIZED;
    (void)atomic_fetch_sub(&initialized, 1);
    return NVML_SUCCESS;
}

nvml_result nvmlSystemGetDriverVersion(char *out, unsigned bytes) {
    nvml_result r = enter("nvmlSystemGetDriverVersion");
    return r != NVML_SUCCESS ? r : give_text(out, bytes, sim_topology_get()->driver);
}

nvml_result nvmlSystemGetCudaDriverVersion_v2(int *version) {
    nvml_result r = enter("nvmlSystemGetCudaDriverVersion_v2");
    if (r == NVML_SUCCESS) *version = sim_topology_get()->cuda;
    return r;
}

nvml_result nvmlDeviceGetCount_v2(unsigned *count) {
    nvml_result r = enter("nvmlDeviceGetCount_v2");
    return r != NVML_SUCCESS ? r : give(count, sim_topology_get()->gpus_count);
}

nvml_result nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *out) {
    uint32_t gpu = 0;
    if (index >= sim_topology_get()->gpus_count || out == NULL) return NVML_INVALID_ARGUMENT;
    nvml_result r = enter_gpu("nvmlDeviceGetHandleByIndex_v2", handle_of(index), &gpu);
    if (r == NVML_SUCCESS) *out = handle_of(index);
    return r;
}

/* --- what it is -------------------- */

nvml_result nvmlDeviceGetName(nvml_device dev, char *out, unsigned bytes) {
    ENTER(nvmlDeviceGetName, dev);
    return give_text(out, bytes, g->name);
}

nvml_result nvmlDeviceGetUUID(nvml_device dev, char *out, unsigned bytes) {
    ENTER(nvmlDeviceGetUUID, dev);
    return give_text(out, bytes, g->uuid);
}

static void fill_pci(const sim_gpu *g, nvml_pci *out) {
    *out = (nvml_pci){.device_id = 0x10de};
    (void)sscanf(g->pci, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    (void)snprintf(out->bus_id, sizeof out->bus_id, "%s", g->pci);
    (void)snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "%04X:%02X:%02X.0",
                   out->domain & 0xffff, out->bus & 0xff, out->device & 0xff);
}

nvml_result nvmlDeviceGetPciInfo_v3(nvml_device dev, nvml_pci *out) {
    ENTER(nvmlDeviceGetPciInfo_v3, dev);
    fill_pci(g, out);
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetCudaComputeCapability(nvml_device dev, int *major, int *minor) {
    ENTER(nvmlDeviceGetCudaComputeCapability, dev);
    *major = g->cc_major;
    *minor = g->cc_minor;
    return NVML_SUCCESS;
}

/* --- memory and load -------------------- */

/* The driver keeps a share for itself; what is left is what the CUDA driver calls total. */
static nvml_memory_v2 memory_of(uint32_t gpu) {
    const sim_gpu *g = &sim_topology_get()->gpus[gpu];
    uint64_t reserved = g->memory_bytes / 32 / MIB * MIB, used = used_bytes(gpu);
    return (nvml_memory_v2){.version = NVML_MEMORY_V2,
                            .total = g->memory_bytes + reserved,
                            .reserved = reserved,
                            .used = used,
                            .free = g->memory_bytes - used};
}

nvml_result nvmlDeviceGetMemoryInfo_v2(nvml_device dev, nvml_memory_v2 *out) {
    ENTER(nvmlDeviceGetMemoryInfo_v2, dev);
    if (out->version != NVML_MEMORY_V2) return NVML_ARGUMENT_VERSION_MISMATCH;
    *out = memory_of(gpu);
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetMemoryInfo(nvml_device dev, nvml_memory_v1 *out) {
    ENTER(nvmlDeviceGetMemoryInfo, dev);
    nvml_memory_v2 m = memory_of(gpu);
    *out = (nvml_memory_v1){.total = m.total, .free = m.free, .used = m.used + m.reserved};
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetUtilizationRates(nvml_device dev, nvml_utilization *out) {
    ENTER(nvmlDeviceGetUtilizationRates, dev);
    *out = (nvml_utilization){.gpu = g->utilization_percent, .memory = g->utilization_percent / 2};
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetTemperature(nvml_device dev, int sensor, unsigned *celsius) {
    ENTER(nvmlDeviceGetTemperature, dev);
    return sensor == NVML_SENSOR_GPU ? give(celsius, g->temperature_c) : NVML_INVALID_ARGUMENT;
}

nvml_result nvmlDeviceGetPowerUsage(nvml_device dev, unsigned *mw) {
    ENTER(nvmlDeviceGetPowerUsage, dev);
    return give(mw, g->power_mw);
}

nvml_result nvmlDeviceGetEnforcedPowerLimit(nvml_device dev, unsigned *mw) {
    ENTER(nvmlDeviceGetEnforcedPowerLimit, dev);
    return give(mw, g->power_limit_mw);
}

/* --- clocks -------------------- */

static bool is_idle(const sim_gpu *g) { return g->utilization_percent == 0; }

static nvml_result give_clock(const sim_gpu *g, int which, bool idle, unsigned *mhz) {
    switch (which) {
    case NVML_CLOCK_SM:
        return give(mhz, idle ? IDLE_SM_MHZ : g->clock_khz / 1000);
    case NVML_CLOCK_MEMORY:
        return give(mhz, idle ? IDLE_MEMORY_MHZ : g->memory_clock_khz / 1000);
    default:
        return NVML_INVALID_ARGUMENT;
    }
}

nvml_result nvmlDeviceGetClockInfo(nvml_device dev, int which, unsigned *mhz) {
    ENTER(nvmlDeviceGetClockInfo, dev);
    return give_clock(g, which, is_idle(g), mhz);
}

nvml_result nvmlDeviceGetMaxClockInfo(nvml_device dev, int which, unsigned *mhz) {
    ENTER(nvmlDeviceGetMaxClockInfo, dev);
    return give_clock(g, which, false, mhz);
}

nvml_result nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device dev, unsigned long long *bits) {
    ENTER(nvmlDeviceGetCurrentClocksThrottleReasons, dev);
    *bits = is_idle(g) ? THROTTLE_IDLE : 0;
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetCurrentClocksEventReasons(nvml_device dev, unsigned long long *bits) {
    ENTER(nvmlDeviceGetCurrentClocksEventReasons, dev);
    *bits = is_idle(g) ? THROTTLE_IDLE : 0;
    return NVML_SUCCESS;
}

/* --- ECC, MIG, processes -------------------- */

nvml_result nvmlDeviceGetEccMode(nvml_device dev, int *current, int *pending) {
    ENTER(nvmlDeviceGetEccMode, dev);
    *current = *pending = g->ecc;
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetTotalEccErrors(nvml_device dev, int type, int counter,
                                        unsigned long long *count) {
    ENTER(nvmlDeviceGetTotalEccErrors, dev);
    if (type > NVML_ECC_UNCORRECTED || counter != NVML_ECC_VOLATILE) return NVML_INVALID_ARGUMENT;
    if (!g->ecc) return NVML_NOT_SUPPORTED;
    *count = 0;
    return NVML_SUCCESS;
}

/* Cards of data centers: A100 and its like, H100 and newer. */
static bool is_large(const sim_gpu *g) {
    return g->cc_major >= 9 || (g->cc_major == 8 && g->cc_minor == 0);
}

nvml_result nvmlDeviceGetMigMode(nvml_device dev, unsigned *current, unsigned *pending) {
    ENTER(nvmlDeviceGetMigMode, dev);
    if (!is_large(g) && !g->mig) return NVML_NOT_SUPPORTED;
    *current = *pending = g->mig;
    return NVML_SUCCESS;
}

static nvml_result give_processes(uint32_t gpu, unsigned *count, nvml_process *out) {
    unsigned room = *count;
    uint64_t used = used_bytes(gpu);
    *count = used > 0;
    if (*count > room) return NVML_INSUFFICIENT_SIZE;
    if (*count > 0)
        out[0] = (nvml_process){.pid = (unsigned)getpid(),
                                .used_bytes = used,
                                .gpu_instance = UINT32_MAX,
                                .compute_instance = UINT32_MAX};
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetComputeRunningProcesses_v2(nvml_device dev, unsigned *count,
                                                    nvml_process *out) {
    ENTER(nvmlDeviceGetComputeRunningProcesses_v2, dev);
    return give_processes(gpu, count, out);
}

nvml_result nvmlDeviceGetComputeRunningProcesses_v3(nvml_device dev, unsigned *count,
                                                    nvml_process *out) {
    ENTER(nvmlDeviceGetComputeRunningProcesses_v3, dev);
    return give_processes(gpu, count, out);
}

/* --- connections -------------------- */

nvml_result nvmlDeviceGetCurrPcieLinkGeneration(nvml_device dev, unsigned *out) {
    ENTER(nvmlDeviceGetCurrPcieLinkGeneration, dev);
    return give(out, is_idle(g) ? IDLE_PCIE_GENERATION : g->pcie_gen);
}

nvml_result nvmlDeviceGetMaxPcieLinkGeneration(nvml_device dev, unsigned *out) {
    ENTER(nvmlDeviceGetMaxPcieLinkGeneration, dev);
    return give(out, g->pcie_gen);
}

nvml_result nvmlDeviceGetCurrPcieLinkWidth(nvml_device dev, unsigned *out) {
    ENTER(nvmlDeviceGetCurrPcieLinkWidth, dev);
    return give(out, g->pcie_width);
}

nvml_result nvmlDeviceGetMaxPcieLinkWidth(nvml_device dev, unsigned *out) {
    ENTER(nvmlDeviceGetMaxPcieLinkWidth, dev);
    return give(out, g->pcie_width);
}

nvml_result nvmlDeviceGetTopologyCommonAncestor(nvml_device dev, nvml_device peer, int *level) {
    uint32_t other = 0;
    ENTER(nvmlDeviceGetTopologyCommonAncestor, dev);
    nvml_result r = enter_gpu("nvmlDeviceGetTopologyCommonAncestor", peer, &other);
    if (r == NVML_SUCCESS) *level = sim_topology_get()->p2p[gpu][other] ? LEVEL_SINGLE : LEVEL_NODE;
    return r;
}

nvml_result nvmlDeviceGetP2PStatus(nvml_device dev, nvml_device peer, int what, int *answer) {
    uint32_t other = 0;
    (void)what;
    ENTER(nvmlDeviceGetP2PStatus, dev);
    nvml_result r = enter_gpu("nvmlDeviceGetP2PStatus", peer, &other);
    if (r == NVML_SUCCESS)
        *answer = sim_topology_get()->p2p[gpu][other] ? NVML_P2P_OK : P2P_CHIPSET;
    return r;
}

/* The links of a large card go to its peers in turn; -1: there is no peer. */
static int peer_of_link(uint32_t gpu, unsigned link) {
    const sim_topology *t = sim_topology_get();
    unsigned peers = 0, at = 0;
    for (uint32_t i = 0; i < t->gpus_count; i++) peers += t->p2p[gpu][i];
    if (peers == 0) return -1;
    for (uint32_t i = 0; i < t->gpus_count; i++)
        if (t->p2p[gpu][i] && at++ == link % peers) return (int)i;
    return -1;
}

static unsigned links_of(const sim_gpu *g) {
    if (!is_large(g)) return 0;
    return g->cc_major >= 9 ? 18 : 12;
}

nvml_result nvmlDeviceGetNvLinkState(nvml_device dev, unsigned link, int *active) {
    ENTER(nvmlDeviceGetNvLinkState, dev);
    if (links_of(g) == 0) return NVML_NOT_SUPPORTED;
    if (link >= links_of(g)) return NVML_INVALID_ARGUMENT;
    *active = peer_of_link(gpu, link) >= 0;
    return NVML_SUCCESS;
}

nvml_result nvmlDeviceGetNvLinkRemotePciInfo_v2(nvml_device dev, unsigned link, nvml_pci *out) {
    ENTER(nvmlDeviceGetNvLinkRemotePciInfo_v2, dev);
    if (links_of(g) == 0) return NVML_NOT_SUPPORTED;
    if (link >= links_of(g)) return NVML_INVALID_ARGUMENT;
    int peer = peer_of_link(gpu, link);
    if (peer < 0) return NVML_NOT_SUPPORTED;
    fill_pci(&sim_topology_get()->gpus[peer], out);
    return NVML_SUCCESS;
}
