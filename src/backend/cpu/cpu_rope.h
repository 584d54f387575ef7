/* cpu_rope.h - cos and sin of every row of the step, one table per distinct set of frequencies.
 *
 * Owner: the backend; the tables are carved from its memory. */
#ifndef BACKEND_CPU_CPU_ROPE_H
#define BACKEND_CPU_CPU_ROPE_H

#include "backend/program.h"

typedef struct rope_table {
    op_rope attrs;  /* of the first op that uses it */
    float *cos_sin; /* [rows_max, dims / 2, 2] times the magnitude */
} rope_table;

typedef struct rope_tables {
    rope_table *tables; /* owned; [count] */
    uint16_t *of_op;    /* owned; [ops_count] the table of each ROPE op */
    uint32_t count;
} rope_tables;

NODISCARD status rope_tables_init(rope_tables *t, const program *p, error *err);
void rope_tables_deinit(rope_tables *t);

/* The tables' entries for row r at this position. */
void rope_tables_fill(const rope_tables *t, uint32_t r, uint32_t pos);

/* Turn one row of all heads; y may be x. */
void rope_turn(const op_rope *a, const float *cos_sin, const float *x, float *y);

/* Of row r, for the op with this index. */
static inline const float *rope_tables_row(const rope_tables *t, uint32_t op_idx, uint32_t r) {
    const rope_table *table = &t->tables[t->of_op[op_idx]];
    return table->cos_sin + (size_t)r * table->attrs.dims;
}

#endif
