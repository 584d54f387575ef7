/* exec_internal.h - the pieces of the executor to each other.
 *
 *   run.c       a launch: its checks, its blocks one after the other, its fault in words
 *   block.c     the threads of a block: who runs next, barriers, warp operations
 *   shared.c    the shared memory of a block
 *   memory.c    global memory: what may be touched
 *   sectors.c   how many 32-byte sectors the requests of warps touch
 *   ahead.c     what is prefetched, and whether it is read then
 *   fiber.c     stacks and the switch between them
 *   table.c     the kernels of one code path
 *
 * While a kernel runs nothing in here may lock: ThreadSanitizer would take that for an order
 * between the kernel's threads; what calls the C library on memory of them all is unwatched. */
#ifndef CUDASIM_EXEC_INTERNAL_H
#define CUDASIM_EXEC_INTERNAL_H

#include "cudasim/exec.h"
#include "cudasim/exec/place.h"

/* --- run.c: the launch under way -------------------- */

typedef struct sim_job {
    const sim_kernel *kernel;
    const void *args;
    const sim_launch *launch;
    sim_counters *counters; /* NULL: nothing is counted */
    sim_fault fault;        /* the first one */
    char *why;
    size_t why_bytes;
} sim_job;
extern sim_job sim_now;

/* Writes "KERNEL, block (x, y, z), thread t: " and what the format says. */
void sim_explain(sim_fault fault, bool of_thread, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Of the running thread: explains and ends the launch. */
#define SIM_FAIL(fault, ...)                     \
    do {                                         \
        sim_explain((fault), true, __VA_ARGS__); \
        sim_block_give_up();                     \
    } while (0)

/* --- block.c -------------------- */

/* Memory for blocks of that many threads; false: there is none. */
bool sim_block_prepare(uint32_t threads);
/* Runs the block that sim_here names; number: which of the launch.  false: sim_now.fault is set. */
bool sim_block_run(uint64_t number);
/* The launch is over: what its threads did happened before what the caller does next. */
void sim_block_finish(void);
/* May the running thread touch global memory? */
bool sim_block_may_touch(void);
/* From the running thread back to sim_block_run(), for good. */
void sim_block_give_up(void) __attribute__((noreturn));

/* --- shared.c -------------------- */

/* For one launch, whose blocks may have bytes_max each.  false: no memory. */
bool sim_shared_prepare(uint32_t bytes_max);
/* Room for another block before memory is used again? */
bool sim_shared_has_room(void);
void sim_shared_reuse(void);
/* Of a block: sets sim_here.shared_dyn. */
void sim_shared_begin(uint32_t dynamic_bytes);
/* Was nothing written beyond an array?  else explains. */
bool sim_shared_check(void);
/* Bytes at addresses of this block alone, to name things for ThreadSanitizer. */
enum { SIM_SHARED_TAGS = 72 };
char *sim_shared_tag(uint32_t i);

/* --- memory.c -------------------- */

/* For one launch: accesses are checked against what is known now. */
bool sim_memory_begin(bool counting);

/* --- sectors.c -------------------- */

/* One lane's access of a request: `site` tells the accesses of a kernel apart. */
void sim_sectors_note(uint32_t tid, const void *site, const void *at, sim_access access);
/* A warp met, or the block has ended: requests up to here are complete. */
void sim_sectors_flush(uint32_t warp);
void sim_sectors_forget(void); /* after a fault */

/* --- ahead.c: while accesses are counted -------------------- */

void sim_ahead_note(const void *at); /* prefetched */
void sim_ahead_load(const void *at); /* loaded from */
/* A block has ended: what it prefetched is counted and forgotten. */
void sim_ahead_flush(void);

#endif
