/* cpu_internal.h - what the files of the cpu backend share.
 *
 * A file holds the units of one family of tasks.  A unit reads its inputs in the workspace and
 * writes its part of the result; it may use the scratch of its worker, whose content does not
 * outlive the unit. */
#ifndef BACKEND_CPU_CPU_INTERNAL_H
#define BACKEND_CPU_CPU_INTERNAL_H

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_matmul.h"
#include "backend/cpu/cpu_pool.h"
#include "backend/cpu/cpu_profile.h"
#include "backend/cpu/cpu_repack.h"
#include "backend/cpu/cpu_rope.h"
#include "backend/cpu/cpu_tasks.h"
#include "backend/host_memory.h"
#include "base/num.h"

enum { MATMUL_ROWS_MAX = 64 }; /* weight rows per unit; whole groups of packed ones */

/* Which rows each expert has: the (row, slot) pairs of one routed value, sorted by expert. */
typedef struct expert_groups {
    uint32_t *begin;  /* [experts + 1] where an expert's pairs begin */
    uint32_t *pairs;  /* [rows * used] row * used + slot; ascending for each expert */
    uint32_t *active; /* [experts] those that have any */
    uint32_t active_count;
} expert_groups;

struct backend {
    const program *p; /* borrowed */
    const cpu_kernels *k;
    const bf16_kernels *bf16; /* of k, in mode `fast`; NULL: there is none */
    cpu_pool *pool;
    task_list list;
    cpu_phase *phases; /* owned; [list.count] one per task */
    /* Tasks of the running step: all, or a layer's.  A worker that comes late may see those of
     * another run, and finds that its own is over. */
    _Atomic uint32_t first_task, end_task;
    void *memory; /* owned pages */
    size_t memory_bytes;
    host_memory host; /* KV blocks and states */
    float *workspace;
    act_block *digits; /* of a value at the value's own place: of floats 32i .. at [i]; NULL: none
                          are read */
    uint16_t *rounded; /* the same in bf16, of prompt rows, at the float's place; NULL: none */
    pack_set packs;
    bool fast;             /* mode `fast` */
    const bool *fast_rows; /* [rows] of the running step, the batch's; NULL: none is */
    rope_tables ropes;
    expert_groups groups;
    float *lora; /* [rows, TASK_OPS_MAX, LORA_PER_ROW_MAX, max.lora_rank] x . A^T */
    float *scratch;
    size_t scratch_floats; /* of each worker */
    int32_t *best;         /* [max.head] */
    const batch *in;       /* of the running step */
    cpu_profile profile;
};

/* --- values -------------------- */

/* Where row r begins, in floats. */
static inline size_t value_at(const backend *b, value_id v, uint32_t r) {
    const value *d = &b->p->values[v];
    return d->offset + (size_t)r * d->cols;
}

static inline float *value_row(const backend *b, value_id v, uint32_t r) {
    return b->workspace + value_at(b, v, r);
}

static inline uint32_t value_cols(const backend *b, value_id v) { return b->p->values[v].cols; }

static inline float *worker_scratch(const backend *b, uint32_t worker) {
    return b->scratch + worker * b->scratch_floats;
}

/* Rows of a set in the running step. */
static inline uint32_t step_rows(const backend *b, row_set rows) {
    if (rows == ROWS_ALL) return b->in->rows;
    return rows == ROWS_TAKEN ? b->in->taken_rows : b->in->head_rows;
}

/* Which rows of a set may be rounded as in mode `fast`; NULL: none.  Only whole batches have any:
 * the few rows whose results are wanted are always exact. */
static inline const bool *step_fast_rows(const backend *b, row_set rows) {
    return rows == ROWS_ALL ? b->fast_rows : NULL;
}

static inline const act_block *value_digits(const backend *b, value_id v, uint32_t r) {
    return b->digits + value_at(b, v, r) / PACK_BLOCK;
}

static inline uint32_t op_idx_of(const backend *b, const op *o) {
    return (uint32_t)(o - b->p->ops);
}

/* Weight rows per unit for a task over so many: several units per worker, whole groups. */
uint32_t cpu_unit_rows(const backend *b, uint32_t weight_rows);

/* --- units: one call computes one; units_fn tells how many the running step has -------- */

typedef void unit_fn(backend *b, const task *t, uint32_t unit, uint32_t worker);
typedef uint32_t units_fn(const backend *b, const task *t);

units_fn cpu_units_rows;   /* one per row */
units_fn cpu_units_digits; /* the same, or none where nothing reads what they would make */

/* cpu_rows.c */
unit_fn cpu_input, cpu_embed, cpu_norm, cpu_digits, cpu_act, cpu_act_mul, cpu_add, cpu_add_row;
unit_fn cpu_mul, cpu_mul_row, cpu_mul_col, cpu_take_rows;
/* The digits of row r, and its bf16, as far as any product reads them. */
void cpu_digits_row(const backend *b, value_id v, uint32_t r);

/* cpu_kv.c */
unit_fn cpu_kv_write, cpu_rope, cpu_rope_kv;

/* cpu_attention.c */
unit_fn cpu_attention;
units_fn cpu_units_attention;
size_t cpu_attention_floats(const op_attention *a, const bf16_kernels *bf16);
/* cpu_attention_bf16.c: are prompt rows of this op computed in bf16?  bf16 NULL: there is none. */
bool cpu_attention_bf16_takes(const bf16_kernels *bf16, const op_attention *a);

/* cpu_products.c */
unit_fn cpu_product, cpu_lora, cpu_heads_matmul;
units_fn cpu_units_product, cpu_units_lora, cpu_units_heads;
size_t cpu_product_floats(const program *p, const op *o, const bf16_kernels *bf16);
size_t cpu_lora_floats(const program *p); /* of backend.lora */

/* cpu_bf16_products.c */
size_t cpu_bf16_floats(const weight *w);
/* Activation rows r0 .. r0 + count - 1 against `rows` weight rows from row0 on; of `to` bias, add,
 * out and out_cols are used. */
void cpu_bf16_multiply(const backend *b, const op *o, const matmul_args *to, uint32_t row0,
                       uint32_t rows, uint32_t r0, uint32_t count, float *scratch);

/* cpu_experts.c */
unit_fn cpu_route, cpu_group, cpu_experts, cpu_experts_sum;
units_fn cpu_units_group, cpu_units_experts;
size_t cpu_experts_floats(const op *o);
size_t cpu_route_floats(const op *o);

/* cpu_state.c */
unit_fn cpu_conv, cpu_scan, cpu_shift, cpu_wkv;
units_fn cpu_units_columns, cpu_units_runs, cpu_units_state_heads;

/* --- products of rows that do not lie side by side (cpu_tile.c) -------------------- */

enum { TILE_ROWS_MAX = 32 };

/* Rows of activations and where their results go, both in floats into the workspace. */
typedef struct tile {
    const weight *w;
    const pack_matrix *packed; /* its packed form, or NULL */
    const float *bias;         /* [w.rows] or NULL */
    uint32_t count;            /* 1..TILE_ROWS_MAX */
    size_t x[TILE_ROWS_MAX];
    size_t out[TILE_ROWS_MAX]; /* of the first weight row of the call */
    bool fast[TILE_ROWS_MAX];
} tile;

/* Scratch that cpu_tile_multiply() needs. */
size_t cpu_tile_floats(const weight *w, bool packed);

/* out[i] = x[i] . w[row0 + j] + bias[row0 + j] for j < rows. */
void cpu_tile_multiply(const backend *b, const tile *t, uint32_t row0, uint32_t rows,
                       float *scratch);

#endif
