/* plan_internal.h - what plan.c, ladder.c and engine.c share.
 *
 *   plan.c     the memory of one set of options: the numbers, and whether they fit
 *   ladder.c   which options that is, when memory is short
 *
 * Nothing here takes memory of a device; heap only for the recorded program. */
#ifndef ENGINE_PLAN_INTERNAL_H
#define ENGINE_PLAN_INTERNAL_H

#include "engine/engine.h"

/* Why a plan does not fit; all zero where no other options would help. */
typedef struct plan_shortage {
    mem_shortage why;
    bool can_shrink;   /* fewer rows or a shorter context may help */
    bool of_device;    /* and fewer layers, if it is the device's memory */
    uint32_t ctx_fits; /* tokens of one sequence that would; UINT32_MAX: not known */
} plan_shortage;

/* What is kept of a token for attention. */
kv_layout plan_kv_layout(const model *m, dtype kv_type);
/* Can that be Q8_0 and Q4_0? */
bool plan_has_kv_groups(const model *m);
/* The backend of the options, or the one that gives the first layers to the host. */
const backend_ops *plan_backend(const model *m, const engine_options *opt);
backend_options plan_backend_options(const model *m, const engine_options *opt);

/* The plan and the program it stands on, which becomes the caller's.  ERR_NOMEM: *lack says how
 * much is missing. */
NODISCARD status plan_once(const model *m, const engine_options *opt, mem_plan *plan, program **p,
                           plan_shortage *lack, error *err);

/* The same with what `asked` may be lowered to; *got is what the plan is made of. */
NODISCARD status plan_down(const model *m, const engine_options *asked, engine_options *got,
                           mem_plan *plan, program **p, error *err);

/* One WARN line for each cut, and what a smaller KV cache means. */
void plan_log_cuts(const mem_plan *plan);

#endif
