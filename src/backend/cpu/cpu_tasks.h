/* cpu_tasks.h - a program turned into the parallel phases that the cpu backend runs.
 *
 * One task is one phase between two barriers: a number of independent units that the
 * workers take one by one.  Building tasks is where fusion happens, by pattern:
 *
 *   matmuls of one input side by side      one phase over all their output rows
 *   matmul, then add into the residual     the add is the store
 *   rope(q), rope(k), kv_write(k, v)       one pass per row
 *   norm or act_mul feeding block weights  the row is quantized where it is made
 *
 * What matches no pattern runs as a task of its own and is counted as unfused. */
#ifndef BACKEND_CPU_CPU_TASKS_H
#define BACKEND_CPU_CPU_TASKS_H

#include <stdbool.h>

#include "backend/program.h"

typedef enum task_kind {
    TASK_EMBED, /* also makes the rope tables of its row */
    TASK_NORM,
    TASK_QUANTIZE, /* int16 form of ops[0]->in[0] */
    TASK_MATMUL,   /* ops[0..count) share in[0]; add_op is fused into ops[0] */
    TASK_ROPE,
    TASK_ROPE_KV, /* ops: rope q, rope k, kv_write */
    TASK_KV_WRITE,
    TASK_ATTENTION,
    TASK_ACT_MUL,
    TASK_ADD,
    TASK_TAKE_ROWS,
} task_kind;

enum { TASK_OPS_MAX = 4 };

typedef struct task {
    task_kind kind;
    const op *ops[TASK_OPS_MAX]; /* borrowed from the program */
    uint32_t ops_count;
    const op *add_op; /* MATMUL: the ADD that takes its result, or NULL */
    bool quantize;    /* NORM, ACT_MUL: also make the int16 form of the result */
    bool taken;       /* its rows are the taken rows */
} task;

typedef struct task_list {
    task *tasks; /* owned */
    uint32_t count;
    uint32_t ops_fused;
    uint32_t ops_unfused;
    bool any_quantized; /* an int16 shadow of the workspace is needed */
} task_list;

NODISCARD status cpu_tasks_build(task_list *out, const program *p, error *err);
void cpu_tasks_destroy(task_list *l);

/* Does the weight take int16 activations? */
bool cpu_weight_is_block(dtype t);

#endif
