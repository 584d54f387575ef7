/* rig.h - small recorded programs on every backend, for the tests of the kernels.
 *
 * Inputs enter a program through pg_embed() over an F32 table whose row is the wanted
 * activation row; the value under test leaves through pg_take_rows().  The same program
 * then runs on each machine: backend_ref, whose doubles are the truth, and backend_cpu
 * by instruction-set class and thread count. */
#ifndef KERNELS_RIG_H
#define KERNELS_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

enum { RIG_ROWS_MAX = 64, RIG_SEATS_MAX = 8, RIG_MACHINES = 5 };

typedef struct krig_machine {
    const char *name;
    const backend_ops *ops;
    backend_options options;
} krig_machine;

/* [0] is the reference; then scalar and avx2, each with 1 and 2 threads. */
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
    void *owned[64];
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
void krig_weights_deinit(krig_weights *list);

/* --- batches ------------------------------------------------------------------ */
typedef struct krig_batch {
    uint32_t rows;
    int32_t tokens[RIG_ROWS_MAX];
    uint32_t pos[RIG_ROWS_MAX];
    uint32_t seats[RIG_ROWS_MAX];
    uint32_t taken[RIG_ROWS_MAX];
    uint32_t taken_rows;
    kv_view kv; /* blocks and tables owned */
} krig_batch;

/* Rows 0..rows-1: token r, position 0, seat 0, all taken, no KV. */
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

backend *krig_open(const krig_machine *m, const program *p);
/* One step; [taken_rows, cols], valid until the next. */
const float *krig_logits(const krig_machine *m, backend *b, const krig_batch *in);
/* One step on a fresh instance; [taken_rows, cols] on the heap, the caller frees. */
float *krig_run(const krig_machine *m, const program *p, const krig_batch *in);

/* sum((a - b)^2) / sum(b^2) */
double krig_nmse(const float *a, const float *b, size_t count);

/* Run the program on all machines: cpu within `nmse_max` of the reference, and 1 and 2
 * threads the same bits.  Says on stderr which machine and `what` when not. */
void krig_check_all(const program *p, const krig_batch *in, double nmse_max, const char *what);

#endif
