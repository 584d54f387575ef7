/* backend_rig.h - small recorded programs on backend_cuda, held against backend_ref.
 *
 *     LAB_MACHINE("t4");
 *     lab *l = lab_begin(rows, ctx);
 *     value_id x = lab_input(l, cols);
 *     lab_end(l, pg_act(l->p, x, ...), 1e-12);      runs, compares and frees
 *
 * Weights and random numbers are those of tests/kernels/rig.h.  Rows are tokens 0 .. of one
 * sequence in seat 0 unless a test sets l->in before lab_end(). */
#ifndef CUDASIM_BACKEND_RIG_H
#define CUDASIM_BACKEND_RIG_H

#include "cudasim/host_rig.h"
#include "kernels/rig.h"

/* A new machine, quiet; skips the test where there is no software GPU. */
#define LAB_MACHINE(cudasim) HOST_MACHINE(cudasim)

typedef struct lab {
    krig_weights weights;
    krig_random random;
    program *p;
    krig_batch in;
    kv_layout kv; /* kv_heads 0: no cache */
    uint32_t seats;
    uint32_t kv_tokens; /* of a seat */
    bool fast;          /* numerics; ref is exact all the same */
    bool no_pdl;
} lab;

lab *lab_begin(uint32_t rows, uint32_t ctx_max);
/* [rows of the batch, cols] of variance 1 */
value_id lab_input(lab *l, uint32_t cols);
/* Give it a cache: `seats` of `tokens` tokens, blocks in random order. */
void lab_kv(lab *l, kv_layout layout, uint32_t seats, uint32_t tokens);
/* Neighbouring rows of one sequence, behind those that there are. */
void lab_run(lab *l, uint32_t seat, uint32_t pos0, uint32_t rows);

/* Finish with v, whose rows are all taken. */
void lab_finish(lab *l, value_id v);
/* Steps of a backend on memory of its own. */
typedef struct lab_machine {
    const backend_ops *ops;
    backend *b;
    void *kv;
    float *states;
} lab_machine;
bool lab_open(const lab *l, const backend_ops *ops, lab_machine *out);
/* One step with l->in; hidden rows [taken, cols], until the next; NULL after a failed CHECK. */
const float *lab_step(lab *l, const lab_machine *m);
/* A step of the batch's rows first .. end - 1 alone, is_prompt [rows of the batch] saying which are
 * of prompts; their hidden rows go into `out` where they stand when there are all of them. */
void lab_step_rows(const lab *l, const lab_machine *m, const bool *is_prompt, uint32_t first,
                   uint32_t end, float *out);
void lab_close(lab_machine *m);
void lab_free(lab *l);

/* Of generated rows in mode `fast` against `exact`: bits with weights of codes; with those of F16
 * and BF16 sums in another order; and where matrices of BF16 have become F16, few of their numbers
 * are others. */
double lab_generated_nmse_max(dtype type, bool as_f16);

/* Finish, run once on cuda and on ref, compare, free.  Names the test's `what` on stderr. */
#define lab_end(l, v, nmse_max) lab_end_at((l), (v), (nmse_max), __FILE__, __LINE__)
void lab_end_at(lab *l, value_id v, double nmse_max, const char *file, int line);

#endif
