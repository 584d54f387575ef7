/* host_rig.h - the host's driver layer on the software GPU, whose libcuda.so.1 it loads as programs
 * do.
 *
 *     TEST(host_...) {
 *         HOST_MACHINE("t4,h100");
 *         host_device(0);          opens host.dev with PTX that names all kernels
 *         ...
 *         host_end();              closes it and checks that nothing is left
 *     }
 *
 * LD_LIBRARY_PATH must lead to the library; a test skips where it finds another driver or none. */
#ifndef CUDASIM_HOST_RIG_H
#define CUDASIM_HOST_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "backend/cuda/cu_driver.h"
#include "backend/cuda/cuda_device.h"
#include "cudasim/driver/sim_driver.h"
#include "test.h"

/* X(name, result, arguments): what of sim_driver.h is looked up in the library. */
#define HOST_SIM(X)                                                                     \
    X(reset, void, (const char *cudasim))                                               \
    X(fault_add, void, (const char *call, const char *kernel, uint64_t at, int result)) \
    X(lose_gpu, void, (uint32_t gpu))                                                   \
    X(fault_lines, void, (bool on))                                                     \
    X(calls, uint64_t, (const char *symbol))                                            \
    X(launches, uint64_t, (const char *kernel))                                         \
    X(early_launches, uint64_t, (const char *kernel))                                   \
    X(count, void, (bool on))                                                           \
    X(counted, bool, (const char *kernel, sim_counters *last, sim_counters *all))       \
    X(copied, sim_copied_bytes, (void))                                                 \
    X(default_stream_uses, uint64_t, (void))                                            \
    X(memory, sim_memory_use, (uint32_t gpu))                                           \
    X(mark, void, (void))                                                               \
    X(allocs_since_mark, uint64_t, (void))                                              \
    X(leaks, uint64_t, (void))

/* GPUs by their numbers: "0", "1" ... */
extern const char *const host_gpu_numbers[BACKEND_DEVICES_MAX];

typedef struct host_rig {
    cu_driver driver; /* loaded once, initialised by host_machine() */
    cuda_device dev;
#define HOST_SIM_FIELD(name, result, arguments) result(*name) arguments;
    HOST_SIM(HOST_SIM_FIELD)
#undef HOST_SIM_FIELD
} host_rig;

extern host_rig host;

/* A new machine as CUDASIM describes it; false: there is no software GPU. */
bool host_machine(const char *cudasim);
#define HOST_MACHINE(cudasim) \
    if (!host_machine(cudasim)) SKIP("libcuda.so.1 is not the software GPU's")

/* All kernels as PTX of that .version, in blobs of one file each. */
cuda_images host_images(const char *ptx_version);

/* Opens host.dev on a GPU of the machine. */
void host_device(int ordinal);
void host_end(void);

#endif
