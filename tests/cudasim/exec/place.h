/* place.h - what device code on the software GPU knows of the thread that it is, and what it calls.
 *
 * Shared by ck_host.h (C++, compiled into every kernel) and the executor (C).  One sim_place per
 * thread of the host; the executor writes it at each switch, device code only reads it. */
#ifndef CUDASIM_EXEC_PLACE_H
#define CUDASIM_EXEC_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SIM_BLOCK_THREADS_MAX = 1024, SIM_WARP_LANES = 32, SIM_BLOCK_WARPS_MAX = 32 };

/* Global memory that may be touched lately: slot (address >> SIM_SPAN_SHIFT) % SIM_SPANS. */
typedef struct sim_span {
    uintptr_t first, end;
} sim_span;
enum { SIM_SPANS = 64, SIM_SPAN_SHIFT = 12 };

typedef struct sim_place {
    uint32_t tid, bdim;
    uint32_t bid[3], gdim[3];
    unsigned char *shared_dyn;
    const sim_span *spans; /* [SIM_SPANS]; all empty while accesses are counted, and for a thread
                              that may not touch anything yet */
    bool counting;
} sim_place;

/* Initial-exec: a read costs one instruction in libcuda.so.1, too. */
extern __thread sim_place sim_here __attribute__((tls_model("initial-exec")));

typedef enum sim_access {
    SIM_LOAD,
    SIM_LOAD_STREAMED, /* read once: weights */
    SIM_STORE,
    SIM_ATOMIC,
    SIM_PREFETCH,
    SIM_SHARED /* 16 bytes of shared memory, either way */
} sim_access;

/* Returns when the access is allowed; else the launch ends here.  Its return address tells the
 * accesses of a kernel apart, so it is called by inlined code only. */
void sim_touch(const void *at, uint32_t bytes, sim_access access);
/* 16 bytes of shared memory, while accesses are counted; by inlined code only, too. */
void sim_shared_touch(const void *at);

/* The block's array of this declaration: the same for all its threads. */
void *sim_shared(const void *declaration, size_t bytes);

void sim_block_sync(void);
void sim_warp_sync(void);
uint32_t sim_warp_shuffle(uint32_t value, uint32_t from_lane);
uint32_t sim_warp_ballot(bool predicate);

/* What all lanes of the warp bring to one instruction: word w of lane l is [w * SIM_WARP_LANES + l]
 * of the result, 16-aligned, until this lane's next warp operation. */
enum { SIM_GATHER_WORDS = 6 };
typedef enum sim_gather { SIM_GATHER_MMA, SIM_GATHER_LDMATRIX } sim_gather;
void sim_fail_misaligned_row(const void *row); /* of an ldmatrix: the launch ends */
const uint32_t *sim_warp_gather(sim_gather what, const uint32_t *words, uint32_t count);
void sim_fence(void);
/* Of kernels that overlap (cuda/ck.h): of the running thread. */
void sim_pdl_wait(void);
void sim_pdl_launch(void);
void sim_prefetch(const void *at); /* the sector that it is in */
void sim_count_dp4a(void);
/* Low words of the addresses [SIM_WARP_LANES] of the rows of four matrices. */
void sim_count_ldmatrix(const uint32_t *rows);

#ifdef __cplusplus
}
#endif
#endif
