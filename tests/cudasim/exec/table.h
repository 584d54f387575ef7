/* table.h - the kernels of the three code paths: table.c, compiled three times. */
#ifndef CUDASIM_EXEC_TABLE_H
#define CUDASIM_EXEC_TABLE_H

#include "cudasim/exec.h"

/* NULL: there is no kernel of that name. */
const sim_kernel *sim_table_750(const char *name);
const sim_kernel *sim_table_800(const char *name);
const sim_kernel *sim_table_900(const char *name);

#endif
