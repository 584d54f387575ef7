/* topology.h - the machine that the software GPUs pretend to be; libcuda and libnvidia-ml read it.
 *
 * CUDASIM names a JSON file, or is a list of presets: "t4", "t4,t4", "a10", "l4", "h100".  Unset:
 * "t4".  It may also be the JSON itself, which then begins with '{'.  Without "gpus": one t4.  More
 * presets: "a100"; "p100" and "k80", which are too old.  All members of a GPU: topology.c.
 *   {"driver": "580.65.06", "cuda": 13000, "stub": false,
 *    "gpus": [{"preset": "t4", "memory_mib": 512, "name": .., "cc": "7.5", "sms": 40, "uuid": ..,
 *              "pci": "00000000:00:04.0", "context_mib": 300, "mig": false, "lost_at_call": 0}],
 *    "p2p": [[0, 1]], "p2p_corrupts": false,
 *    "streams": "eager" | "deferred" | "random", "seed": 1, "threads": "ascending" | ...,
 *    "faults": [{"call": "cuMemAlloc_v2", "at": 7, "result": 2},
 *               {"kernel": "k_norm", "at": 3, "result": 700}],
 *    "nvml": {"absent": false, "unsupported": ["nvmlDeviceGetPowerUsage"]}}
 * `at` counts calls of that function (launches of that kernel) from 1; lost_at_call counts the
 * process's calls of any function. */
#ifndef CUDASIM_TOPOLOGY_H
#define CUDASIM_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

enum { SIM_GPUS_MAX = 16, SIM_FAULTS_MAX = 32, SIM_UNSUPPORTED_MAX = 32 };

typedef struct sim_gpu {
    char name[64], uuid[48], pci[24]; /* "GPU-xxxxxxxx-xxxx-...", "00000000:00:04.0" */
    int cc_major, cc_minor, sms;
    uint64_t memory_bytes, context_bytes;
    uint64_t l2_bytes, shared_optin_bytes;
    uint32_t threads_per_sm, clock_khz, memory_clock_khz, memory_bus_bits;
    uint32_t temperature_c, power_mw, power_limit_mw, utilization_percent;
    uint32_t pcie_gen, pcie_width;
    bool mig, ecc, prohibited;
    uint64_t lost_at_call; /* 0: never; else the driver call at which it falls off the bus */
} sim_gpu;

typedef struct sim_fault_rule {
    char call[64];   /* driver symbol, or "" */
    char kernel[64]; /* kernel name, or "" */
    uint64_t at;
    int result;
} sim_fault_rule;

typedef enum sim_streams { SIM_EAGER, SIM_DEFERRED, SIM_RANDOM } sim_streams;

typedef struct sim_topology {
    char driver[32];
    int cuda;        /* cuDriverGetVersion */
    bool stub;       /* libcuda is the toolkit's stub */
    int init_result; /* of cuInit, nvmlInit: 0 mostly */
    uint32_t gpus_count;
    sim_gpu gpus[SIM_GPUS_MAX];
    bool p2p[SIM_GPUS_MAX][SIM_GPUS_MAX];
    bool p2p_corrupts;
    sim_streams streams;
    int threads_order; /* sim_order */
    uint64_t seed;
    uint32_t faults_count;
    sim_fault_rule faults[SIM_FAULTS_MAX];
    bool nvml_absent;
    uint32_t unsupported_count;
    char unsupported[SIM_UNSUPPORTED_MAX][64];
} sim_topology;

/* Of the environment; read once.  A file that is wrong ends the process with a line on stderr. */
const sim_topology *sim_topology_get(void);
/* Reads again, from `cudasim` in place of the variable; NULL: from the environment.  For tests,
 * which pretend many machines in one process; the caller sees to it that no other thread reads
 * meanwhile. */
const sim_topology *sim_topology_use(const char *cudasim);
/* CUDA_VISIBLE_DEVICES applied: ordinals as the driver numbers them -> index into gpus. */
uint32_t sim_topology_visible(uint32_t out[SIM_GPUS_MAX]);

#endif
