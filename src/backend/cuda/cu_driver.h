/* cu_driver.h - the CUDA driver: libcuda.so.1, found when the program runs.
 *
 * The binary links nothing of NVIDIA: the functions of cu_abi.h are looked up by name, so the same
 * binary runs where there is no driver.  A cu_driver is a table that does not change once it is
 * open; any thread may call through it.  A library that was asked to initialise stays loaded until
 * the process ends, for it has threads of its own. */
#ifndef BACKEND_CUDA_CU_DRIVER_H
#define BACKEND_CUDA_CU_DRIVER_H

#include <stdbool.h>

#include "backend/cuda/cu_abi.h"
#include "base/error.h"

typedef struct cu_driver {
#define CU_DRIVER_FIELD(need, field, symbol, arguments) cu_result(*field) arguments;
    CU_FUNCTIONS(CU_DRIVER_FIELD) /* those that are OPTIONAL may be NULL */
#undef CU_DRIVER_FIELD
    void *library;  /* NULL: the table was filled by hand */
    char path[256]; /* of the library */
    int version;    /* the newest CUDA that it knows: 12040 is 12.4; 0: it does not say */
} cu_driver;

/* Load and initialise.  path NULL: libcuda.so.1 of the system.
 * ERR_NOT_FOUND: there is no such library; ERR_UNSUPPORTED: it lacks a function that we need;
 * ERR_DEVICE: cuInit refused. */
NODISCARD status cu_driver_open(cu_driver *out, const char *path, error *err);

/* The first half of it: the table and the version, nothing initialised. */
NODISCARD status cu_driver_load(cu_driver *out, const char *path, error *err);

/* Back out of cu_driver_load(): only before anything was initialised. */
void cu_driver_unload(cu_driver *d);

/* OK for 0, else ERR_NOMEM for OUT_OF_MEMORY, else ERR_DEVICE, with a message
 * "cuda: CALL: NAME (NUMBER): TEXT".  `call` is what was asked: a function, a kernel's name. */
status cu_check(const cu_driver *d, cu_result code, const char *call, error *err);

/* "CUDA_ERROR_OUT_OF_MEMORY", also without a driver; "CUDA_ERROR" for a code that nobody knows. */
const char *cu_result_name(const cu_driver *d, cu_result code);

/* Is nothing in this process going to work on that GPU any more?  Then only a new process helps. */
bool cu_is_sticky(cu_result code);

#endif
