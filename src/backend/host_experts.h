/* host_experts.h - the routed experts of some layers, computed by the CPU for GPUs that have no
 * room for them.
 *
 * One instance and one pool of threads for all GPUs: their drivers call on threads of their own,
 * maybe at the same time, and then one waits for the other.  Owner: the backend that made it;
 * between steps all but host_experts_sums() is the engine thread's. */
#ifndef BACKEND_HOST_EXPERTS_H
#define BACKEND_HOST_EXPERTS_H

#include "backend/backend.h"

typedef struct host_experts host_experts;

/* What computes them. */
extern const backend_ops *const host_experts_ops;

/* Of the host's memory, for a program of experts (program_split_experts). */
NODISCARD status host_experts_plan(const program *p, const backend_options *opt,
                                   backend_memory *out, error *err);

/* The program is borrowed. */
NODISCARD status host_experts_open(host_experts **out, const program *p, const backend_options *opt,
                                   error *err);
void host_experts_close(host_experts *h); /* NULL is fine */

NODISCARD status host_experts_load(host_experts *h, const backend_progress *progress, error *err);

/* The sums of a layer of the program, count floats, to `out`: rows, prompt, input and routed of the
 * batch are read.  On any thread. */
void host_experts_sums(host_experts *h, uint32_t layer, const batch *in, float *out, size_t count);

/* Adds what they are to the report of the GPUs: "cuda sm_75 + cpu avx2 experts". */
void host_experts_report(const host_experts *h, backend_report *out);
NODISCARD status host_experts_profile(host_experts *h, bool on, error *err);
uint32_t host_experts_profiled(const host_experts *h, backend_profile *out);

#endif
