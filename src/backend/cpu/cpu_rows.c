/* cpu_rows.c - tasks whose unit is one row: embeddings, norms, element by element. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/assert.h"

uint32_t cpu_units_rows(const backend *b, const task *t) { return step_rows(b, t->rows); }

uint32_t cpu_units_digits(const backend *b, const task *t) {
    return b->digits != NULL || step_fast_rows(b, t->rows) != NULL ? step_rows(b, t->rows) : 0;
}

void cpu_digits_row(const backend *b, value_id v, uint32_t r) {
    const size_t at = value_at(b, v, r);
    const bool *fast = step_fast_rows(b, b->p->values[v].rows);
    if (b->digits != NULL)
        b->k->digits(b->workspace + at, b->digits + at / PACK_BLOCK, value_cols(b, v));
    if (b->rounded != NULL && fast != NULL && fast[r])
        b->bf16->round(b->workspace + at, b->rounded + at, value_cols(b, v));
}

void cpu_digits(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    cpu_digits_row(b, t->ops[0]->in[0], r);
}

/* --- rows in and out -------------------- */

/* Positions are those of layers: experts alone have none. */
void cpu_input(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    const uint32_t cols = value_cols(b, o->out);
    const float *from = o->routed ? b->in->routed : b->in->input;
    memcpy(value_row(b, o->out, r), from + (size_t)r * cols, cols * sizeof(float));
    if (t->tables && b->ropes.count > 0) rope_tables_fill(&b->ropes, r, b->in->pos[r]);
}

/* EMBED by token, EMBED_POS by position. */
void cpu_embed(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    uint32_t j = o->kind == OP_EMBED ? (uint32_t)b->in->tokens[r] : b->in->pos[r];
    ASSERT(j < o->w.rows);
    cpu_weight_rows(b->k, &o->w, j, 1, value_row(b, o->out, r));
    if (t->tables) rope_tables_fill(&b->ropes, r, b->in->pos[r]);
}

void cpu_take_rows(backend *b, const task *t, uint32_t i, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    const uint32_t *from = t->rows == ROWS_TAKEN ? b->in->taken : b->in->head;
    memcpy(value_row(b, o->out, i), value_row(b, o->in[0], from[i]),
           value_cols(b, o->out) * sizeof(float));
}

/* --- norms -------------------- */

void cpu_norm(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    const op_norm *a = &o->norm;
    norm_fn *norm = a->kind == NORM_RMS ? b->k->norm_rms : b->k->norm_layer;
    const uint32_t cols = value_cols(b, o->out);
    const float *x = value_row(b, o->in[0], r);
    float *y = value_row(b, o->out, r);
    for (uint32_t at = 0; at < cols; at += a->group) {
        uint32_t own = a->gain_len == cols ? at : 0;
        norm(x + at, a->gain != NULL ? a->gain + own : NULL, y + at, a->group, a->eps);
        for (uint32_t c = 0; a->bias != NULL && c < a->group; c++) y[at + c] += a->bias[own + c];
    }
}

/* --- element by element -------------------- */

void cpu_act(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    b->k->act(&o->act, value_row(b, o->in[0], r), NULL, value_row(b, o->out, r),
              value_cols(b, o->out));
}

void cpu_act_mul(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    b->k->act(&o->act, value_row(b, o->in[0], r), value_row(b, o->in[1], r),
              value_row(b, o->out, r), value_cols(b, o->out));
}

static void add(const float *x, const float *y, float *out, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) out[c] = x[c] + y[c];
}

static void multiply(const float *x, const float *y, float *out, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) out[c] = x[c] * y[c];
}

void cpu_add(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    add(value_row(b, o->in[0], r), value_row(b, o->in[1], r), value_row(b, o->out, r),
        value_cols(b, o->out));
}

void cpu_add_row(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    add(value_row(b, o->in[0], r), o->row, value_row(b, o->out, r), value_cols(b, o->out));
}

void cpu_mul(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    multiply(value_row(b, o->in[0], r), value_row(b, o->in[1], r), value_row(b, o->out, r),
             value_cols(b, o->out));
}

void cpu_mul_row(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    multiply(value_row(b, o->in[0], r), o->row, value_row(b, o->out, r), value_cols(b, o->out));
}

void cpu_mul_col(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    const op *o = t->ops[0];
    const float *x = value_row(b, o->in[0], r), s = *value_row(b, o->in[1], r);
    float *out = value_row(b, o->out, r);
    for (uint32_t c = 0; c < value_cols(b, o->out); c++) out[c] = x[c] * s;
}
