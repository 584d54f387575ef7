/* machine.h - what this machine can do, measured: the limit that speed is a fraction of. */
#ifndef APP_MACHINE_H
#define APP_MACHINE_H

#include <stdint.h>

#include "base/error.h"

/* Bytes per second that `threads` threads read from 1 GiB of memory, best of 3 sweeps. */
NODISCARD status machine_read_sweep(uint32_t threads, double *bytes_per_s, error *err);

#endif
