/* oracle.h - what a kernel's result should be: the same op on the reference backend.
 *
 *     oracle_begin(rows);
 *     value_id x = oracle_input(x_data, cols);
 *     const float *want = oracle_end(pg_norm(oracle_program(), x, ...));
 *
 * Rows are tokens 0 .. rows - 1 of one sequence in seat 0 unless oracle_batch() was changed.  One
 * at a time. */
#ifndef CUDASIM_ORACLE_H
#define CUDASIM_ORACLE_H

#include "backend/backend.h"

enum { ORACLE_ROWS_MAX = 256, ORACLE_RUNS_MAX = 8 };

void oracle_begin(uint32_t rows);
program *oracle_program(void);

/* Rows of numbers [rows, cols]; borrowed. */
value_id oracle_input(const float *x, uint32_t cols);

/* What the step is run with: for tests to set positions, seats, runs, kv and states. */
typedef struct oracle_rows {
    batch in;
    int32_t tokens[ORACLE_ROWS_MAX];
    uint32_t pos[ORACLE_ROWS_MAX], seats[ORACLE_ROWS_MAX], taken[ORACLE_ROWS_MAX];
    batch_run runs[ORACLE_RUNS_MAX];
} oracle_rows;
oracle_rows *oracle_batch(void);
/* Runs in place of the one sequence; positions and seats follow. */
void oracle_runs(const batch_run *runs, uint32_t count);

/* The rows of v [rows, cols of v], until the next oracle_begin(). */
const float *oracle_end(value_id v);

#endif
