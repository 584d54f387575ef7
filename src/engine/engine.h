/* engine.h - a model married to a backend: rows of tokens in, hidden states and logits out.
 *
 * The engine owns the KV cache, the states of state-space models, the program and the backend
 * instance.  Everything it needs is planned and taken when it opens; a step allocates nothing (the
 * heap is frozen around it).  Owner: whoever opened it; one thread.
 *
 * Models without a KV cache have one all the same as far as its bookkeeping goes: seats grow and
 * are cleared as ever, and the blocks have no bytes. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "backend/backend.h"
#include "engine/kv.h"
#include "engine/kv_tier.h"
#include "model/model.h"

typedef struct engine engine;

/* kv_host_bytes: a quarter of the host's free memory, but no more than the KV cache has, and no
 * more than ENGINE_KV_HOST_AUTO_MAX: the driver takes a second or so for as much. */
#define ENGINE_KV_HOST_AUTO     UINT64_MAX
#define ENGINE_KV_HOST_AUTO_MAX ((uint64_t)4 << 30)

typedef struct engine_options {
    const backend_ops *backend;
    uint32_t threads;
    cpu_isa isa_cap;
    bool fast;                 /* numerics of prompts (backend.h), unless all weights are F32 */
    dtype kv_type;             /* F32, F16, Q8_0 or Q4_0 */
    bool kv_may_be_q8;         /* Q8_0 when memory is short */
    uint32_t ctx_max;          /* tokens per sequence; 0: what the model was trained for */
    uint32_t ctx_min;          /* of ctx_max 0: as few when memory is short; 0: never fewer */
    uint32_t ctx_asked;        /* 0: ctx_max; larger where only a part of the context is needed */
    uint32_t seats;            /* sequences that run at the same time */
    uint32_t rows_max;         /* rows of one step */
    uint32_t rows_min;         /* as few, or as seats, when memory is short; 0: never fewer */
    uint32_t taken_rows_max;   /* rows of one step whose logits, or best token, are wanted */
    uint32_t hidden_rows_max;  /* these, and rows whose hidden states are; 0: as many */
    uint32_t lora_rank_max;    /* of adapters; 0: there will be none */
    uint64_t kv_bytes_max;     /* 0: every seat can be full, as far as memory allows */
    uint64_t kv_host_bytes;    /* of devices: host memory for blocks of sequences that give theirs
                                  away (kv_tier.h), or ENGINE_KV_HOST_AUTO; 0: none */
    uint64_t spoken_for_bytes; /* of the free memory, planned by others and not touched yet */
    const char *device;        /* for backends on a device (backend.h): which one; borrowed */
    uint64_t device_bytes_max; /* of its memory, of each one's; 0: what is free */
    uint64_t adapter_bytes;    /* of it, and of each one's, left for adapters that will be added */
    bool no_graphs;            /* of a GPU: every step is launched kernel by kernel */
    bool no_pdl;               /* of a GPU: no kernel starts before the one ahead of it ended */
    bool no_peers;             /* rows go from GPU to GPU by the host's memory */
    bool no_ahead;             /* no step is begun before the one before it has ended */
    bool no_micro_batches;     /* parts of a split model compute one after the other */
    uint32_t micro_rows;       /* as backend_options.micro_rows */
    uint32_t device_layers;    /* on devices: the last so many, the others are the CPU's; 0: all */
    uint32_t host_experts;     /* the routed experts of the first so many layers that have any are
                                  computed on the CPU; more than there are: of all.  No
                                  device_layers: else ERR_INVALID */
    bool may_move_experts;     /* of more when memory is short, as many as it takes */
    bool may_split;            /* as few as one layer on devices when memory is short */
    /* Instead of `device` several, of which the first has the first layers: */
    uint32_t devices_count; /* 0: `device` alone */
    uint32_t devices_min;   /* the first so many are used, and when memory is short the others,
                               those with most of it free first; 0: 1 */
    const char *devices[BACKEND_DEVICES_MAX];        /* borrowed */
    uint64_t devices_bytes_max[BACKEND_DEVICES_MAX]; /* of each; 0: device_bytes_max */
} engine_options;

/* What there was no room for: "weights and steps" need so much, so much may be taken. */
typedef struct mem_shortage {
    const char *what; /* static; NULL: nothing was short */
    uint64_t needed_bytes;
    uint64_t available_bytes;
    char where[128]; /* the device's name and what is left out there, or "host memory" */
} mem_shortage;

/* What the engine does without for want of memory, and what it lacked last. */
typedef struct mem_cut {
    const char *name; /* "step_tokens", "ctx", "kv_bits", "gpus", "gpu_experts", "gpu_layers",
                         "kv_tokens" */
    uint64_t from, to;
    mem_shortage why;
} mem_cut;

enum { MEM_CUTS_MAX = 7, MEM_CUTS_TEXT_BYTES = 248, MEM_DEVICES_TEXT_BYTES = 192 };

typedef struct mem_cuts {
    mem_cut list[MEM_CUTS_MAX];
    uint32_t count;
} mem_cuts;

/* "step_tokens 512 -> 256, ctx 131072 -> 32768"; "" when nothing was cut. */
void mem_cuts_text(const mem_cuts *c, char out[MEM_CUTS_TEXT_BYTES]);

/* What one device computes, and the bytes of its memory that this takes. */
typedef struct mem_device {
    char name[64];
    char place[64]; /* the same in messages: with its number where there are several */
    uint32_t index; /* of the options' devices */
    uint32_t layers;
    uint64_t bytes;
    uint64_t weights_bytes; /* of them */
    uint64_t available;     /* what could be taken when it was planned; 0: not asked for */
} mem_device;

/* Every byte the engine will use.  The same function plans and opens.  On a device all of them are
 * bytes of its memory, taken at once when the engine opens. */
typedef struct mem_plan {
    uint64_t weights_bytes;  /* read by steps: mapped from the file, or as they lie on the device */
    uint64_t repacked_bytes; /* copies in place of others: those are not counted above */
    uint64_t kv_bytes;
    uint64_t state_bytes;     /* of all seats; 0 without state-space layers */
    uint64_t workspace_bytes; /* backend: values, tables, scratch */
    uint32_t kv_blocks;
    uint32_t rows_max; /* of a step */
    uint32_t ctx_max;  /* an encoder's is at most rows_max: its sequences are whole in a step */
    uint32_t seats;
    dtype kv_type; /* of the options, or Q8_0 */
    bool kv_cut;   /* seats * ctx_max tokens do not fit in memory: fewer blocks were planned */
    mem_cuts cuts; /* that, and rungs of the ladder (ladder.c) */
    uint64_t untouched_bytes; /* of the host's memory, not used before the first step */
    bool on_device;           /* all layers, or the last ones */
    uint32_t device_layers;   /* 0 on the host */
    uint64_t device_bytes;    /* of what is above: the devices'; 0 on the host */
    uint64_t device_weights_bytes;
    uint32_t host_experts;       /* layers on devices whose experts are on the host, ... */
    uint64_t host_experts_bytes; /* ... which are so many of what is above: weights, copies of them
                                    and workspace */
    uint64_t pinned_bytes;       /* of the host's memory, besides */
    uint32_t kv_host_blocks;     /* copies of blocks that the host has room for (kv_tier.h) ... */
    uint64_t kv_host_bytes; /* ... and all of their bytes; on devices they are pinned, on the host's
                                part of the layers untouched */
    uint64_t kv_host_pinned_bytes;
    uint32_t devices_count;
    mem_device devices[BACKEND_DEVICES_MAX]; /* in the order of their layers */
    char device[MEM_DEVICES_TEXT_BYTES];     /* mem_devices_text() */
} mem_plan;

/* The devices' names, "Tesla T4", "Tesla T4 x2, NVIDIA A10"; "" on the host. */
void mem_devices_text(const mem_plan *plan, char out[MEM_DEVICES_TEXT_BYTES]);

/* Where memory is short: with fewer rows and a shorter context, as far as the options let it.
 * ERR_NOMEM names the numbers of the smallest plan. */
NODISCARD status engine_plan(const model *m, const engine_options *opt, mem_plan *out, error *err);

/* m is borrowed and must outlive the engine.  A device whose memory somebody else takes meanwhile
 * is planned for anew, a few times.  One WARN line for each cut. */
NODISCARD status engine_open(engine **out, const model *m, const engine_options *opt, error *err);
void engine_close(engine *e);

/* One INFO line per type of weight: tensors, bytes, how it is computed with. */
void engine_log_weights(const engine *e);

/* Repack the weights that the backend wants repacked, and read every page of the others once, so
 * that all are in memory before the first request needs them.  Weights larger than the free memory
 * would push each other out and are not read.  To a device they are sent, all of them.
 * ERR_CANCELED when `p` says stop. */
NODISCARD status engine_load(engine *e, const backend_progress *p, error *err);

/* One step of one row on seat 0, whose blocks are given back: threads and tables are awake. */
NODISCARD status engine_warm_up(engine *e, error *err);

/* One row of a step.  Rows of one seat stand next to each other, and their positions ascend one by
 * one from the seat's first uncomputed one; an encoder's are the whole sequence.  Rows that were
 * generated come before those that were given. */
typedef struct engine_row {
    int32_t token; /* ~i, negative: of the step that was begun before, the token that the i-th of
                      its rows makes which want logits or a token; engine_begin() */
    uint32_t pos;
    uint32_t seat;
    bool wants_logits;
    bool wants_best;            /* instead of them: only the id of the largest one, engine_best() */
    const sample_order *sample; /* instead of them: only the token that it draws, engine_best(), and
                                   what its rule wants to know, engine_logprobs(); or NULL.  Where
                                   engine_can_sample() */
    bool draws_later;           /* of `sample` only that there is one is known: engine_draw() */
    bool wants_hidden;
    bool prompt;          /* the token was given, not generated */
    const lora_mix *lora; /* adapters of its sequence; NULL: none */
} engine_row;

/* Compute the rows.  The caller has grown every seat to cover its rows.  Returns logits
 * [rows that want them or a token, engine_logits_cols()] in row order, valid until the next step;
 * those of rows that want a token may be anything.  NULL where the model has no head, and when the
 * device failed. */
const float *engine_step(engine *e, const engine_row *rows, uint32_t count);

/* The two halves of engine_step(), where engine_runs_ahead(): a step is queued behind the one that
 * is computed, and needs no host in between.  Begin two at most, and end them in that order.  Rows
 * are read by engine_begin(); those of the second of two want a token or nothing, and may say that
 * theirs is one of the first's.  engine_end() returns what engine_step() does, of the step that was
 * begun first; its results are valid until the next one begins.  After a fault nothing is left to
 * end. */
void engine_begin(engine *e, const engine_row *rows, uint32_t count);
/* What the tokens of a step are drawn by may depend on those of the step before it, which have not
 * come yet when it begins.  A step with rows that draw later computes all but its drawing; the
 * sample orders of all its rows stay where they are, and are read here, of the step that was begun
 * last: before it ends, and before the next one begins.  An order whose rule wants nothing is of a
 * row that nobody waits for any more, and gets any token. */
void engine_draw(engine *e);
const float *engine_end(engine *e);
bool engine_runs_ahead(const engine *e);

/* What the device failed with: there are no results of the last step and there is no further one,
 * engine_close() is all that is left to do.  NULL: all is well, as it always is on a host. */
const error *engine_fault(const engine *e);
/* The same as a status. */
NODISCARD status engine_check(const engine *e, error *err);

/* Of the last step: the states after the model's last norm, [rows that want anything,
 * engine_hidden_cols()] in row order; valid until the next step.  Those of rows that want a token
 * may be anything. */
const float *engine_hidden(const engine *e);

/* Of the last step: the id of the largest logit (tensor/best.h), or of the drawn token
 * (tensor/sample.h), [rows that want logits or a token] in row order; valid until the next step,
 * and only where a token was wanted.  NULL when none was. */
const int32_t *engine_best(const engine *e);

/* Likewise: what is said of drawn tokens whose sample order wants log-probabilities.  NULL when
 * none was to be said. */
const sample_logprobs *engine_logprobs(const engine *e);

/* Micro-batches that the last step was cut into, for several devices to compute at a time; 0: it
 * was not cut. */
uint32_t engine_micro_batches(const engine *e);

/* --- what can be adapted -------------------- */

/* Rows row0 .. row0 + rows - 1 of a matrix of the model: one index into lora_mix.pairs.  A fused
 * tensor has several. */
typedef struct lora_slot {
    str tensor; /* its name in the model; borrowed */
    uint32_t row0;
    uint32_t rows;
    uint32_t cols;
} lora_slot;

/* 0 unless lora_rank_max was set */
uint32_t engine_lora_slots(const engine *e);
lora_slot engine_lora_slot(const engine *e, uint32_t slot);
uint32_t engine_lora_rank_max(const engine *e);

/* pairs [slots] that rows may name from here on, borrowed until they are dropped.  A device copies
 * them: ERR_NOMEM with what it needs and what may be taken.  Dropping waits for what was begun. */
NODISCARD status engine_adapter_add(engine *e, const lora_pair *pairs, error *err);
void engine_adapter_drop(engine *e, const lora_pair *pairs);

/* --- introspection -------------------- */

const model *engine_model(const engine *e);
kv_pool *engine_kv(engine *e);
/* NULL: what is preempted is computed again.  So it is on a host, whose blocks are in its memory
 * already, where sequences have states, and when the driver has no such memory (one WARN line). */
kv_tier *engine_kv_tier(engine *e);
const mem_plan *engine_mem_plan(const engine *e);
uint32_t engine_vocab(const engine *e);
uint32_t engine_hidden_cols(const engine *e); /* n_embd */
uint32_t engine_logits_cols(const engine *e); /* vocab, or a reranker's scores; 0: no head */
bool engine_is_encoder(const engine *e);
/* Do steps draw tokens?  Of a row SAMPLE_CHANGES_MAX changes at most, SAMPLE_STEP_CHANGES_MAX of
 * all. */
bool engine_can_sample(const engine *e);
/* Can a seat begin with blocks of another one, or be truncated?  Not where sequences have states,
 * which exist only as they are after their last token, nor in encoders. */
bool engine_can_share(const engine *e);
void engine_report(const engine *e, backend_report *out);

/* Measure the tasks of every step from now on, or of none any more.  Steps are slower meanwhile.
 * Takes and gives back memory.  ERR_UNSUPPORTED: the backend does not. */
NODISCARD status engine_profile_switch(engine *e, bool on, error *err);
/* Of the last step while that is on; returns how many parts the model has. */
uint32_t engine_profiled(const engine *e, backend_profile out[BACKEND_PARTS_MAX]);

#endif
