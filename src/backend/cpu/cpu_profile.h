/* cpu_profile.h - the time of each task of the cpu backend.
 *
 * A task ends when its last unit does and begins when the one before has ended, whichever workers
 * were there; so its time has the barrier in it.  Every unit tells when it is done: the caller's
 * thread may have lost its core meanwhile and come back to a step that others have computed.
 * Owner: the backend, between steps; units in a step. */
#ifndef BACKEND_CPU_CPU_PROFILE_H
#define BACKEND_CPU_CPU_PROFILE_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_tasks.h"

typedef struct cpu_profile {
    backend_task *tasks;       /* owned; [count] one per task of the list */
    _Atomic uint64_t *ends_ns; /* owned; [count] of the units that are done; NULL: not measured */
    uint32_t count;
    uint64_t began_ns; /* the step */
    uint64_t tasks_ns; /* the first task */
    uint64_t ns;       /* of the last step */
} cpu_profile;

/* bf16: what prompts go through, or NULL. */
NODISCARD status cpu_profile_init(cpu_profile *f, const program *p, const task_list *list,
                                  const bf16_kernels *bf16, error *err);
void cpu_profile_deinit(cpu_profile *f); /* harmless when zeroed */

void cpu_profile_begin(cpu_profile *f); /* a step, before the workers may claim any unit of it */
void cpu_profile_begin_tasks(cpu_profile *f);
/* A unit of task `idx` is computed, and not given back yet.  Any worker. */
void cpu_profile_unit(cpu_profile *f, uint32_t idx);
/* All of the step is done. */
void cpu_profile_end(cpu_profile *f, const program *p, const batch *in);
/* The same of tasks first .. end - 1, whose time alone is the step's if it begins with the first
 * of all, and else is added to it. */
void cpu_profile_begin_some(cpu_profile *f, uint32_t first, uint32_t end);
void cpu_profile_end_some(cpu_profile *f, const program *p, const batch *in, uint32_t first,
                          uint32_t end);

#endif
