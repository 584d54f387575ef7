/* cuda_fake.h - a CUDA driver made of a table of functions, for tests of the layer above it.
 *
 * It computes nothing: it says what the test wants to hear, counts the calls and lets one of them
 * fail.  The software GPU of tests/cudasim is for tests that need results. */
#ifndef CUDA_FAKE_H
#define CUDA_FAKE_H

#include "backend/cuda/cu_driver.h"
#include "backend/cuda/cuda_image.h"

enum { FAKE_DEVICES_MAX = 20, FAKE_LOG_BYTES = 16384 };

typedef struct fake_device {
    const char *name, *pci;
    unsigned char uuid0; /* its first byte; the others are 0x11 */
    int major, minor, sms, mode;
    size_t memory, free;
} fake_device;

typedef struct cuda_fake {
    int version, init_result, devices_count;
    fake_device devices[FAKE_DEVICES_MAX];
    /* the call `fail_call` number fail_at (from 1) returns fail_result */
    const char *fail_call;
    int fail_at, fail_result;
    const char *jit_error; /* what a failing cuModuleLoadDataEx complains about */
    const char *spilled;   /* the kernel with local memory */
    int shared_static;     /* bytes, of every kernel */
    int contexts, modules, streams, events, blocks, pinned; /* that exist */
    size_t code_bytes; /* that each module takes from the free memory */
    uint32_t launched_shared, launched_grid[2];
    uint64_t launched_args;   /* the first 8 bytes of them */
    char log[FAKE_LOG_BYTES]; /* "cuInit cuDeviceGetCount ..." */
} cuda_fake;

extern cuda_fake fake;

/* A new table; `fake` describes one T4 with a driver for CUDA 13.0 again. */
cu_driver cuda_fake_driver(void);

/* Blobs for all files of kernels.def: PTX that says "ptx", and machine code of sm_75 and sm_90a. */
cuda_images cuda_fake_images(void);

/* The machine code of it. */
extern const unsigned char fake_fatbin[];
extern const size_t fake_fatbin_bytes;

/* How often a call is in the log. */
int cuda_fake_count(const char *call);

#endif
