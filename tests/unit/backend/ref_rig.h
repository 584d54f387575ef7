/* ref_rig.h - small programs on the reference backend, for its own tests.
 *
 * Inputs enter through pg_embed() over tables of numbers that a test can look up itself: token
 * t of sequence s reads row s * REFRIG_TOKENS_MAX + t of each table.  The value under test leaves
 * as the hidden state.  Everything is static: one rig at a time. */
#ifndef UNIT_BACKEND_REF_RIG_H
#define UNIT_BACKEND_REF_RIG_H

#include "backend/backend.h"

enum {
    REFRIG_ROWS_MAX = 64,
    REFRIG_TOKENS_MAX = 40, /* of a sequence */
    REFRIG_SEQS = 4,        /* also seats */
    REFRIG_TABLES = 8,
    REFRIG_COLS_MAX = 64,
    REFRIG_RANK_MAX = 8,
};

/* The same numbers between -1 and 1 for each id, as a table or as a vector of weights. */
weight refrig_table(uint32_t id, uint32_t rows, uint32_t cols);
const float *refrig_vector(uint32_t id);
/* Element c of table `id` for a token. */
double refrig_x(uint32_t id, uint32_t cols, uint32_t seq, uint32_t pos, uint32_t c);
/* A table that every token has a row in. */
value_id refrig_input(program *p, uint32_t id, uint32_t cols);

program *refrig_program(void);
/* The rows of v that are taken are the hidden states; there is no head. */
void refrig_finish(program *p, value_id v);

/* What one step computes; the tokens of a sequence are its own wherever it sits. */
typedef struct refrig_batch {
    batch in;
    int32_t tokens[REFRIG_ROWS_MAX];
    uint32_t pos[REFRIG_ROWS_MAX], seats[REFRIG_ROWS_MAX];
    uint32_t taken[REFRIG_ROWS_MAX], head[REFRIG_ROWS_MAX];
    batch_run runs[REFRIG_SEQS];
    const lora_mix *loras[REFRIG_ROWS_MAX];
} refrig_batch;

/* An empty batch on the rig's memory for KV and states, which refrig_forget() fills with NaN. */
void refrig_batch_init(refrig_batch *b, const program *p, kv_layout layout);
/* Tokens pos0 .. of a sequence; all rows are taken. */
void refrig_batch_run(refrig_batch *b, uint32_t seat, uint32_t seq, uint32_t pos0, uint32_t rows);
void refrig_forget(void);

/* One step on an instance of its own; hidden [taken rows, cols], until the next call. */
const float *refrig_step(const program *p, const refrig_batch *b);
/* Finish with v, run tokens 0 .. rows - 1 of sequence 0 and destroy the program. */
const float *refrig_rows(program *p, value_id v, uint32_t rows);

/* Equal but for the rounding of the result to f32? */
void refrig_check(float got, double want, const char *what, uint32_t at);

#endif
