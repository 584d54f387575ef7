/* cpu_tasks.h - a program turned into the parallel phases that the cpu backend runs.
 *
 * One task is one phase between two barriers: a number of independent units that the
 * workers take one by one.  Building tasks is where fusion happens, by pattern:
 *
 *   matmuls of one input side by side      one phase over all their output rows
 *   matmul, then add into the residual     the add is the store
 *   rope(q), rope(k), kv_write(k, v)       one pass per row
 *   any op by rows feeding packed weights  the row is turned into digits where it is made,
 *                                          or rounded to bf16 (cpu_bf16.h)
 *
 * What matches no pattern runs as a task of its own and is counted as unfused. */
#ifndef BACKEND_CPU_CPU_TASKS_H
#define BACKEND_CPU_CPU_TASKS_H

#include <stdbool.h>

#include "backend/cpu/cpu_bf16.h"
#include "backend/program.h"

/* X(name): units in brackets */
#define TASK_KINDS(X)                                                                         \
    X(INPUT)        /* [row]; the first of a program also makes the rope tables of its row */ \
    X(EMBED)        /* [row]; the same */                                                     \
    X(EMBED_POS)    /* [row]; the same */                                                     \
    X(NORM)         /* [row] */                                                               \
    X(DIGITS)       /* [row] digits of ops[0]->in[0] */                                       \
    X(LORA)         /* [row, op] what the adapters' A makes of ops[0]->in[0] */               \
    X(MATMUL)       /* [weight rows] ops share in[0]; add_op is fused into ops[0] */          \
    X(HEADS_MATMUL) /* [head] */                                                              \
    X(ROPE)         /* [row] */                                                               \
    X(ROPE_KV)      /* [row] ops: rope q, rope k, kv_write */                                 \
    X(KV_WRITE)     /* [row] */                                                               \
    X(ATTENTION)    /* [rows of a run, query heads of one KV head] */                         \
    X(ACT)          /* [row] */                                                               \
    X(ACT_MUL)      /* [row] */                                                               \
    X(ADD)          /* [row] */                                                               \
    X(ADD_ROW)      /* [row] */                                                               \
    X(MUL)          /* [row] */                                                               \
    X(MUL_ROW)      /* [row] */                                                               \
    X(MUL_COL)      /* [row] */                                                               \
    X(ROUTE)        /* [row] */                                                               \
    X(GROUP)        /* one unit: which rows each expert has, of ops[0]->in[1] */              \
    X(EXPERTS)      /* [expert with rows, weight rows] */                                     \
    X(EXPERTS_SUM)  /* [row] */                                                               \
    X(CONV)         /* [run, columns] */                                                      \
    X(SCAN)         /* [run, columns] */                                                      \
    X(SHIFT)        /* [run] */                                                               \
    X(WKV)          /* [run, head] */                                                         \
    X(TAKE_ROWS)    /* [row] */

typedef enum task_kind {
#define TASK_KIND_ENUM(name) TASK_##name,
    TASK_KINDS(TASK_KIND_ENUM)
#undef TASK_KIND_ENUM
        TASK_KIND_COUNT
} task_kind;

const char *task_kind_name(task_kind kind); /* "ROPE_KV" */

enum { TASK_OPS_MAX = 4 };

typedef struct task {
    task_kind kind;
    const op *ops[TASK_OPS_MAX]; /* borrowed from the program */
    uint32_t ops_count;
    const op *add_op; /* MATMUL: the ADD that takes its result, or NULL */
    bool digits;      /* by rows: also make the digits of the result (cpu_digits_row) */
    bool tables;      /* INPUT, EMBED, EMBED_POS: also make the rope tables */
    row_set rows;
} task;

typedef struct task_list {
    task *tasks; /* owned */
    uint32_t count;
    uint32_t ops_fused;
    uint32_t ops_unfused;
    bool any_digits;  /* a shadow of the workspace is needed */
    bool any_rounded; /* the same in bf16 */
} task_list;

/* bf16: what prompt rows are multiplied with, where it takes the weight; NULL: there is none. */
NODISCARD status cpu_tasks_build(task_list *out, const program *p, const bf16_kernels *bf16,
                                 error *err);
void cpu_tasks_destroy(task_list *l);

#endif
