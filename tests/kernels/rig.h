/* rig.h - small recorded programs on every backend, for the tests of the kernels.
 *
 * Inputs enter a program through pg_embed() over an F32 table whose row is the wanted
 * activation row; the value under test leaves through pg_take_rows() as the hidden rows, or as
 * the logits where a test wants both.  The same program
 * then runs on each machine: backend_ref, whose doubles are the truth, and backend_cpu
 * by instruction-set class and thread count. */
#ifndef KERNELS_RIG_H
#define KERNELS_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

enum { RIG_ROWS_MAX = 64, RIG_LORA_RANK = 16, RIG_MACHINES = 7 };

typedef struct krig_machine {
    const char *name;
    const backend_ops *ops;
    backend_options options;
} krig_machine;

/* [0] is the reference; then scalar, avx2 and the best class of this CPU, each with 1 and 2
 * threads. */
extern const krig_machine krig_machines[RIG_MACHINES];

/* --- random numbers: the same seed gives the same ones ----------------------- */
typedef struct krig_random {
    uint64_t state;
} krig_random;

uint32_t krig_u32(krig_random *r, uint32_t below);
float krig_uniform(krig_random *r);                           /* [-1, 1) */
void krig_normal(krig_random *r, float *out, size_t count);   /* variance 1 */
void krig_shuffle(krig_random *r, uint32_t *ids, uint32_t n); /* 0..n-1 in random order */

/* --- weights: owned by the list, freed together ------------------------------ */
typedef struct krig_weights {
    void *owned[1024];
    uint32_t count;
} krig_weights;

/* [rows, cols] of variance 1 / cols, stored as `type`. */
weight krig_weight(krig_weights *list, krig_random *r, dtype type, uint32_t rows, uint32_t cols);
/* [rows, cols] f32 of variance 1: a table of activations. */
weight krig_table(krig_weights *list, krig_random *r, uint32_t rows, uint32_t cols);
/* The same, from values; copied. */
weight krig_table_of(krig_weights *list, const float *values, uint32_t rows, uint32_t cols);
/* [count] f32 of variance 1. */
const float *krig_vector(krig_weights *list, krig_random *r, uint32_t count);
/* Zeroed memory that goes with the list. */
void *krig_memory(krig_weights *list, size_t bytes);
/* `dims` of each head, base^(-2i/dims) radians per position. */
op_rope krig_rope(krig_weights *list, uint32_t heads, uint32_t head_dim, uint32_t dims,
                  double base);
void krig_weights_deinit(krig_weights *list);

/* --- batches ------------------------------------------------------------------ */
typedef struct krig_batch {
    uint32_t rows;
    int32_t tokens[RIG_ROWS_MAX];
    uint32_t pos[RIG_ROWS_MAX];
    uint32_t seats[RIG_ROWS_MAX];
    uint32_t taken[RIG_ROWS_MAX];
    uint32_t taken_rows;
    uint32_t head[RIG_ROWS_MAX];
    uint32_t head_rows;
    const bool *best;                    /* [head_rows] or NULL; borrowed */
    kv_view kv;                          /* blocks and tables owned */
    float *states;                       /* borrowed */
    const lora_mix *loras[RIG_ROWS_MAX]; /* where use_loras */
    bool use_loras;
    const bool *prompt; /* [rows] or NULL; borrowed */
} krig_batch;

/* Rows 0..rows-1: token r, position 0, seat 0, all taken and no head rows, no KV. */
void krig_batch_init(krig_batch *b, uint32_t rows);
/* Give it a KV cache of shuffled blocks for `seats` sequences of `tokens` tokens. */
void krig_batch_kv(krig_batch *b, krig_random *r, kv_layout layout, uint32_t seats,
                   uint32_t tokens);
void krig_batch_deinit(krig_batch *b);

/* --- running -------------------------------------------------------------------- */
/* A program for up to RIG_ROWS_MAX rows and ctx_max tokens. */
program *krig_program(uint32_t ctx_max);
/* Take all rows of `v` and finish; returns how wide the result is. */
uint32_t krig_finish(program *p, value_id v);
/* How wide the result of a finished program is. */
uint32_t krig_cols(const program *p);
value_id krig_norm_rms(program *p, value_id x, const float *gain);
value_id krig_silu_mul(program *p, value_id gate, value_id up);

backend *krig_open(const krig_machine *m, const program *p);
/* One step, valid until the next.  Neighbouring rows of one seat whose positions follow each
 * other are a run. */
step_result krig_step_both(const krig_machine *m, backend *b, const krig_batch *in);
/* The same; [taken_rows, cols] */
const float *krig_step(const krig_machine *m, backend *b, const krig_batch *in);
/* One step on a fresh instance; [taken_rows, cols] on the heap, the caller frees. */
float *krig_run(const krig_machine *m, const program *p, const krig_batch *in);

/* The tolerance of products with weights of this type (backend.h). */
double krig_nmse_max(dtype t);

/* sum((a - b)^2) / sum(b^2) */
double krig_nmse(const float *a, const float *b, size_t count);

/* Run the program on all machines: cpu within `nmse_max` of the reference, and 1 and 2
 * threads the same bits.  Says on stderr which machine and `what` when not. */
void krig_check_all(const program *p, const krig_batch *in, double nmse_max, const char *what);

#endif
