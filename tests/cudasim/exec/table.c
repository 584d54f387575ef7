/* table.c - the kernels of one code path; compiled once for each CK_ARCH.
 *
 * The entries are in the objects of cuda/FILE.cu, as ck_host.h makes them.  References are weak: an
 * object without a kernel of kernels.def is a kernel that is not found, no failure to link. */
#include "cudasim/exec/table.h"

#include <string.h>

#define PASTE_TWO(a, b) a##_##b
#define PASTE(a, b)     PASTE_TWO(a, b)

#define X(file, name, args, threads) \
    extern const sim_kernel PASTE(name, CK_ARCH) __attribute__((weak));
#include "cudasim/exec/kernels_all.def"
#undef X

static const sim_kernel *const KERNELS[] = {
#define X(file, name, args, threads) &PASTE(name, CK_ARCH),
#include "cudasim/exec/kernels_all.def"
#undef X
};

const sim_kernel *PASTE(sim_table, CK_ARCH)(const char *name) {
    for (size_t i = 0; i < sizeof KERNELS / sizeof KERNELS[0]; i++)
        if (KERNELS[i] != NULL && strcmp(KERNELS[i]->name, name) == 0) return KERNELS[i];
    return NULL;
}
