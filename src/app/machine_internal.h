/* machine_internal.h - the loops that are measured, and where they come from. */
#ifndef APP_MACHINE_INTERNAL_H
#define APP_MACHINE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "app/machine.h"

enum {
    READ_CHUNK_BYTES = 1 << 20, /* of one call of a READ loop */
    READ_STREAMS = 4,           /* places of a chunk that are read side by side */
    LOOP_ROUNDS = 2048,         /* of one call of the others: some microseconds */
    LOOP_SUMS = 16              /* independent sums hide the latency of an instruction */
};

/* One call: READ_CHUNK_BYTES from `chunk`, or LOOP_ROUNDS rounds.  What is returned depends on all
 * that was computed, so that nothing can be left out. */
typedef uint64_t machine_fn(const uint8_t *chunk);

typedef struct machine_loop {
    const char *name; /* NULL: there is none */
    machine_fn *run;
    double per_call; /* bytes, or multiplications and additions */
} machine_loop;

/* Put in what the CPU has beyond the portable loops.  loops [MACHINE_FIGURE_COUNT] */
void machine_loops_x86(cpu_isa cap, machine_loop *loops);
void machine_loops_neon(cpu_isa cap, machine_loop *loops);

/* Bytes of the largest cache; 0: unknown. */
size_t machine_cache_bytes(void);

#endif
