/* oracle.c - see oracle.h. */
#include "cudasim/oracle.h"

#include "test.h"

enum { CTX = 4096 };

static struct {
    program *p;
    backend *b;
    oracle_rows rows;
} oracle;

static void forget(void) {
    if (oracle.b != NULL) backend_ref.close(oracle.b);
    program_destroy(oracle.p);
    oracle.b = NULL;
    oracle.p = NULL;
}

void oracle_begin(uint32_t rows) {
    forget();
    CHECK(rows <= ORACLE_ROWS_MAX);
    program_limits max = {.rows = rows, .taken = rows, .head = rows, .ctx = CTX, .ctx_asked = CTX};
    CHECK_EQ(program_create(&oracle.p, &max, NULL), OK);
    oracle_rows *o = &oracle.rows;
    *o = (oracle_rows){.runs = {{0, rows, 0, 0}}};
    for (uint32_t r = 0; r < rows; r++) {
        o->tokens[r] = (int32_t)r;
        o->pos[r] = o->taken[r] = r;
    }
    o->in = (batch){.rows = rows,
                    .tokens = o->tokens,
                    .pos = o->pos,
                    .seats = o->seats,
                    .runs_count = 1,
                    .runs = o->runs,
                    .taken_rows = rows,
                    .taken = o->taken,
                    .head_rows = rows,
                    .head = o->taken};
}

program *oracle_program(void) { return oracle.p; }
oracle_rows *oracle_batch(void) { return &oracle.rows; }

void oracle_runs(const batch_run *runs, uint32_t count) {
    oracle_rows *o = &oracle.rows;
    CHECK(count <= ORACLE_RUNS_MAX);
    o->in.runs_count = count;
    for (uint32_t i = 0; i < count; i++) {
        o->runs[i] = runs[i];
        for (uint32_t k = 0; k < runs[i].rows; k++) {
            o->pos[runs[i].row0 + k] = runs[i].pos0 + k;
            o->seats[runs[i].row0 + k] = runs[i].seat;
        }
    }
}

/* A table that has a row for each row of the batch. */
value_id oracle_input(const float *x, uint32_t cols) {
    weight table = {.type = DTYPE_F32, .rows = oracle.rows.in.rows, .cols = cols, .data = x};
    return pg_embed(oracle.p, table);
}

const float *oracle_end(value_id v) {
    backend_options options = {.threads = 1};
    CHECK_EQ(program_finish(oracle.p, pg_take_rows(oracle.p, v), VALUE_NONE, NULL), OK);
    CHECK_EQ(backend_ref.open(&oracle.b, oracle.p, &options, NULL), OK);
    return backend_ref.step(oracle.b, &oracle.rows.in).hidden;
}
