/* plan_internal.h - what plan.c, ladder.c and engine.c share.
 *
 *   plan.c         the memory of one set of options: the numbers, and whether they fit
 *   plan_parts.c   the places that layers are in, and what the backend needs of each
 *   share.c        which layers those of several devices are
 *   ladder.c       which options that is, when memory is short
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

/* --- places -------------------- */

/* Of what is free on a device beside everything else, the KV cache gets at most this much. */
#define PLAN_KV_DEVICE_FRACTION 0.95

/* What plans with several devices have in common, found out by the first one.  Devices stand under
 * their index in the options. */
typedef struct plan_known {
    uint32_t order[BACKEND_DEVICES_MAX];     /* which are taken first, [usable] */
    uint32_t usable;                         /* 1 where the options have no list */
    uint64_t available[BACKEND_DEVICES_MAX]; /* what may be taken of each; 0: not asked yet */
    /* Owned; [layers] weights and states of each; NULL: not weighed yet. */
    uint64_t *layer_bytes;
    uint64_t *bare_bytes;  /* without the experts */
    uint64_t *share_bytes; /* of the plan that is made: of each one or the other */
} plan_known;

/* All devices, in the order of the options. */
plan_known plan_known_of(const engine_options *opt);
void plan_known_deinit(plan_known *known);
/* Of known->order the first so many are used: devices_min, but no more than have layers. */
uint32_t plan_devices_used(const model *m, const engine_options *opt);
/* The backend of the options, or the one that computes in several places. */
const backend_ops *plan_backend(const model *m, const engine_options *opt);
/* With the layers of devices that the plan has. */
backend_options plan_backend_options(const model *m, const engine_options *opt,
                                     const mem_plan *plan);
/* Layers that have experts, and those of them whose experts the host computes. */
uint32_t plan_expert_layers(const model *m);
uint32_t plan_host_experts(const model *m, const engine_options *opt);
/* Of a device, beside what is left to adapters. */
uint64_t plan_available(const engine_options *opt, const backend_memory *part);
/* What each place needs, the host first, and the layers of plan->devices. */
NODISCARD status plan_parts(const model *m, const engine_options *opt, const program *p,
                            mem_plan *plan, plan_known *known,
                            backend_memory parts[BACKEND_PARTS_MAX], uint32_t *count, error *err);

/* Orders the devices behind the first devices_min by what is free on them, and leaves those out
 * that cannot be asked, or have no room for one layer with its share of a sequence's KV cache and
 * of a step: a line of the log for each.  p is recorded with opt; the plan has its context. */
NODISCARD status plan_parts_order(const model *m, const engine_options *opt, const program *p,
                                  mem_plan *plan, plan_known *known, error *err);

/* --- layers of several devices -------------------- */

typedef struct share_device {
    uint64_t available; /* bytes that may be taken */
    uint64_t workspace; /* of them by steps */
    uint32_t layers;    /* what it gets */
} share_device;

typedef struct share_task {
    const uint64_t *layer_bytes; /* [layers] of weights and states, on a device */
    uint32_t layers;             /* at least one for each device */
    uint64_t kv_layer_bytes;     /* of a block, on every layer */
    double kv_fraction;          /* of what is left for them, blocks may take so much */
    uint64_t blocks_min;         /* what a plan must have ... */
    uint64_t blocks_max;         /* ... and what it can use */
    uint32_t count;
    share_device devices[BACKEND_DEVICES_MAX];
} share_task;

/* Fills the layers of the devices. */
void share_layers(share_task *t);

/* --- plans -------------------- */

/* The plan and the program it stands on, which becomes the caller's.  ERR_NOMEM: *lack says how
 * much is missing. */
NODISCARD status plan_once(const model *m, const engine_options *opt, plan_known *known,
                           mem_plan *plan, program **p, plan_shortage *lack, error *err);

/* plan_parts_order() with a program of these options. */
NODISCARD status plan_order(const model *m, const engine_options *opt, plan_known *known,
                            error *err);

/* plan_once() with what `asked` may be lowered to; *got is what the plan is made of. */
NODISCARD status plan_down(const model *m, const engine_options *asked, engine_options *got,
                           mem_plan *plan, program **p, error *err);

/* There is no tier of the KV cache in the host's memory. */
void plan_drop_kv_host(mem_plan *plan);

/* One WARN line for each cut, and what a smaller KV cache means. */
void plan_log_cuts(const mem_plan *plan);

#endif
