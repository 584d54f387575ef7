/* split_internal.h - what the files of backend_split share.
 *
 *   split.c      the parts: planning, life, memory, reports
 *   split_cut.c  where a step is cut into micro-batches
 *   split_step.c a step: one part after the other, or micro-batches through all of them */
#ifndef BACKEND_SPLIT_SPLIT_INTERNAL_H
#define BACKEND_SPLIT_SPLIT_INTERNAL_H

#include "backend/backend.h"
#include "backend/host_experts.h"

/* What a part is: its backend, with which options, and its layers. */
typedef struct part {
    const backend_ops *ops;
    program *p; /* owned; borrows from the whole program */
    uint32_t layers;
    backend_options opt;
} part;

typedef struct parts {
    part of[BACKEND_PARTS_MAX];
    uint32_t count;
    /* Owned: the whole without the experts that the host computes, and these; NULL: there are no
     * such. */
    program *device, *host;
} parts;

typedef struct instance {
    backend *b; /* owned */
    void *kv;
    float *states;
} instance;

enum { SPLIT_MICRO_PER_PART = 2, SPLIT_MICRO_MAX = SPLIT_MICRO_PER_PART * BACKEND_PARTS_MAX };

/* A step as micro-batches: views of its batch, and of rows that are numbered anew. */
typedef struct split_cut {
    uint32_t most;     /* micro-batches of a step; 1: none is cut */
    uint32_t rows_min; /* about so many rows at least to each of them */
    uint32_t unit;     /* rows of prompts are cut behind a multiple of it */
    bool whole_runs;   /* rows of a sequence stay together */
    uint32_t count;    /* of the step */
    batch of[SPLIT_MICRO_MAX];
    batch_run *runs; /* owned; [rows] */
    uint32_t *taken; /* owned; [taken] */
    uint32_t *head;  /* owned; [head] */
} split_cut;

NODISCARD status split_cut_init(split_cut *c, const program *p, const backend_options *opt,
                                uint32_t places, error *err);
void split_cut_deinit(split_cut *c); /* harmless when zeroed */

/* Cut a step's batch, which is borrowed as long as they are used; returns c->count, which is 1
 * where the step is not worth it. */
uint32_t split_cut_step(split_cut *c, const batch *in);

/* How far the micro-batches of a step are. */
typedef struct split_flow {
    uint32_t begun[BACKEND_PARTS_MAX], ended[BACKEND_PARTS_MAX];
    const float *hidden[BACKEND_PARTS_MAX]; /* of the last one that has ended; the part's */
    step_result result;
    uint32_t failed; /* the part whose fault is in the result */
} split_flow;

struct backend {
    const program *p; /* borrowed */
    parts parts;
    instance of[BACKEND_PARTS_MAX];
    host_experts *experts; /* owned; of all parts; NULL: each part computes its own */
    uint32_t layers;
    uint32_t *all_rows; /* owned; 0, 1, 2 ... [p->max.rows]: the rows that a part gives on */
    bool is_measured;   /* tasks take their time: no step is cut */
    split_cut cut;
    split_flow flow;
    int32_t *best;             /* owned; [p->max.head] of the micro-batches of a step */
    sample_logprobs *logprobs; /* owned; [p->max.head] */
};

step_result split_step(backend *b, const batch *in);

#endif
