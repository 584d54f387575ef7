/* machine.h - what this machine can do, measured: the limits that speed is a fraction of.
 *
 * A figure is the best of several short runs of one loop on all threads at once.  The loops do
 * nothing but what they are named after: read memory that no cache holds, or multiply and add in
 * registers.  Owner: the command; not for use while anything else computes. */
#ifndef APP_MACHINE_H
#define APP_MACHINE_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/error.h"

/* X(ID, name in JSON): bytes per second for READ, else multiplications and additions per second. */
#define MACHINE_FIGURES(X)        \
    X(READ, "read")               \
    X(F32, "f32")                 \
    X(INT8, "int8")               \
    X(AMX_INT8, "amx_int8")       \
    X(AVX512_BF16, "avx512_bf16") \
    X(AMX_BF16, "amx_bf16")

typedef enum machine_figure {
#define MACHINE_FIGURE_ENUM(id, name) MACHINE_##id,
    MACHINE_FIGURES(MACHINE_FIGURE_ENUM)
#undef MACHINE_FIGURE_ENUM
        MACHINE_FIGURE_COUNT
} machine_figure;

typedef struct machine machine;

/* Takes 1 GiB, or four times the last-level cache where that is more, but never over a quarter of
 * the free memory.  Loops are of the newest instruction set up to `cap` that the CPU has.
 * threads >= 1. */
NODISCARD status machine_open(machine **out, uint32_t threads, cpu_isa cap, error *err);
void machine_close(machine *m);

/* Measure for about 0.2 s; 0 where there is no loop. */
NODISCARD status machine_measure(machine *m, machine_figure which, double *per_s, error *err);

/* "int8" */
const char *machine_figure_name(machine_figure which);
/* "vpdpbusd avx512"; NULL: this CPU, or the cap, has none. */
const char *machine_loop_name(const machine *m, machine_figure which);
uint64_t machine_read_bytes(const machine *m); /* what READ goes over */

#endif
