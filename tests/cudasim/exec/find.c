/* find.c - a kernel by code path and name. */
#include "cudasim/exec/table.h"

const sim_kernel *sim_kernel_find(int arch, const char *name) {
    switch (arch) {
    case 750:
        return sim_table_750(name);
    case 800:
        return sim_table_800(name);
    case 900:
        return sim_table_900(name);
    default:
        return NULL;
    }
}
