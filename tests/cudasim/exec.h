/* exec.h - runs the blocks of one kernel launch on the CPU: the GPU part of the software GPU.
 *
 * A kernel's source is compiled by the C++ compiler with tests/cudasim/ck_host.h behind cuda/ck.h.
 * The threads of a block are fibers on the calling thread; a warp operation or a barrier switches
 * to the next fiber.  Nothing here knows the driver API. */
#ifndef CUDASIM_EXEC_H
#define CUDASIM_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An entry of cuda/kernels.def as compiled for one code path. */
typedef struct sim_kernel {
    const char *name;
    void (*entry)(const void *args);
    uint32_t args_bytes;
    uint32_t threads_max; /* its launch bound */
} sim_kernel;

/* arch: 750, 800 or 900.  NULL: there is no kernel of that name. */
const sim_kernel *sim_kernel_find(int arch, const char *name);

typedef enum sim_order { SIM_ASCENDING, SIM_DESCENDING, SIM_SHUFFLED } sim_order;

typedef struct sim_launch {
    const sim_kernel *kernel;
    const void *args;
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* dynamic */
    uint32_t shared_max;   /* bytes a block may have, static and dynamic together */
    sim_order order;       /* of the threads of a block */
    uint64_t seed;         /* SIM_SHUFFLED */
    bool early;            /* it may start before the launch ahead of it has ended: a thread that
                              touches global memory before its ck_pdl_wait() is a fault, and so is
                              one that ends without */
} sim_launch;

/* Of one launch. */
typedef struct sim_counters {
    uint64_t load_bytes, store_bytes; /* global memory, as asked for */
    uint64_t streamed_bytes;          /* of load_bytes, by ck_ldg*: weights */
    uint64_t load_sectors;            /* 32-byte sectors, per warp-wide request */
    uint64_t store_sectors;
    uint64_t shared_conflicts; /* cycles that bank conflicts add, of ck_get16, ck_put16 and
                                  ck_ldmatrix_* */
    uint64_t barriers, warp_ops, dp4a, mma;
    uint64_t prefetch_sectors; /* of ck_prefetch, each once for a block */
    uint64_t prefetch_unread;  /* of them, those that the block then did not load from */
} sim_counters;

typedef enum sim_fault {
    SIM_OK,
    SIM_ILLEGAL_ADDRESS, /* outside of what sim_memory_add() told */
    SIM_MISALIGNED,
    SIM_DEADLOCK,  /* a barrier or warp operation that not all reach */
    SIM_TOO_EARLY, /* against the rules of kernels that overlap (cuda/ck.h) */
    SIM_BAD_LAUNCH
} sim_fault;

/* Global memory that kernels may touch. */
void sim_memory_add(const void *at, size_t bytes);
void sim_memory_remove(const void *at);

/* Runs all blocks.  `why` [why_bytes] gets block, lanes and address of a fault.  counters may be
 * NULL.  One launch at a time in a process. */
sim_fault sim_run(const sim_launch *launch, sim_counters *counters, char *why, size_t why_bytes);

#ifdef __cplusplus
}
#endif
#endif
