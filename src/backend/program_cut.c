/* program_cut.c - one program as two, to be computed in two places.
 *
 *   | embed, layers 0 .. n - 1 | layers n .., head |
 *     front ......... TAKE_ROWS  INPUT ........ back
 *
 * Ops and values are recorded in one order, so each part is a run of both, renumbered. */
#include <string.h>

#include "backend/program.h"
#include "base/alloc.h"
#include "base/assert.h"

typedef struct cut {
    const program *p;
    uint32_t op;       /* the first one of the back */
    uint32_t value;    /* the first one that the back makes */
    value_id crossing; /* the one that the front makes and the back reads */
    size_t state;      /* floats of a sequence's state that are the front's */
} cut;

/* --- where -------------------- */

uint32_t program_layers(const program *p) {
    uint32_t last = 0;
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].layer > last) last = p->ops[i].layer;
    return last + 1;
}

static bool has_state(const op *o) {
    return o->kind == OP_CONV || o->kind == OP_SCAN || o->kind == OP_SHIFT || o->kind == OP_WKV;
}

/* Pieces of state are taken in the order of the ops. */
static size_t state_before(const program *p, uint32_t op_idx) {
    for (uint32_t i = op_idx; i < p->ops_count; i++)
        if (has_state(&p->ops[i])) return p->ops[i].state.offset;
    return p->state_floats;
}

static status find_cut(cut *c, const program *p, uint32_t layer, error *err) {
    uint32_t crossings = 0;
    *c = (cut){.p = p};
    while (p->ops[c->op].layer < layer) c->op++;
    for (; c->value < p->values_count && p->values[c->value].op_def < c->op; c->value++) {
        if (p->values[c->value].op_end < c->op) continue;
        c->crossing = (value_id)c->value;
        crossings++;
    }
    c->state = state_before(p, c->op);
    if (crossings == 1 && p->values[c->crossing].rows == ROWS_ALL) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "program: %u values reach from layer %u into layer %u, want 1: it cannot be "
                     "cut there",
                     crossings, layer - 1, layer);
}

/* --- the parts -------------------- */

static status create_part(program **out, const program_limits *max, uint32_t ops, uint32_t values,
                          error *err) {
    program *p = NULL;
    TRY(program_create(&p, max, err));
    p->ops_cap = ops;
    p->values_cap = values;
    p->ops = mem_try_calloc(ops, sizeof *p->ops);
    p->values = mem_try_calloc(values, sizeof *p->values);
    if (p->ops == NULL || p->values == NULL) {
        program_destroy(p);
        return error_set(err, ERR_NOMEM, "program: no memory for a part of %u ops", ops);
    }
    *out = p;
    return OK;
}

/* All rows are taken, in their order. */
static status make_front(program **out, const cut *c, error *err) {
    program_limits max = c->p->max;
    program *front = NULL;
    max.taken = max.rows;
    max.head = 0;
    TRY(create_part(&front, &max, c->op + 1, c->value + 1, err));
    memcpy(front->ops, c->p->ops, c->op * sizeof *front->ops);
    memcpy(front->values, c->p->values, c->value * sizeof *front->values);
    front->ops_count = c->op;
    front->values_count = c->value;
    front->layer = front->ops[c->op - 1].layer;
    front->state_floats = c->state;
    front->lora_slots = c->p->lora_slots;
    *out = front;
    return program_finish(front, pg_take_rows(front, c->crossing), VALUE_NONE, err);
}

/* INPUT is op 0 of the back, and makes its value 0. */
static value_id renumbered(const cut *c, value_id v) {
    if (v == VALUE_NONE) return VALUE_NONE;
    ASSERT(v == c->crossing || v >= c->value);
    return v == c->crossing ? 0 : (value_id)(v - c->value + 1);
}

static uint16_t renumbered_op(const cut *c, uint16_t op_idx) {
    return op_idx == UINT16_MAX ? UINT16_MAX : (uint16_t)(op_idx - c->op + 1);
}

static void add_renumbered(program *back, const cut *c, uint32_t op_idx, uint32_t layer) {
    op *o = &back->ops[back->ops_count++];
    *o = c->p->ops[op_idx];
    o->layer = (uint16_t)(o->layer - layer);
    o->out = renumbered(c, o->out);
    for (uint32_t i = 0; i < OP_INPUTS_MAX; i++) o->in[i] = renumbered(c, o->in[i]);
    if (has_state(o)) o->state.offset -= c->state;
}

static status make_back(program **out, const cut *c, uint32_t layer, error *err) {
    const program *p = c->p;
    program *back = NULL;
    TRY(create_part(&back, &p->max, p->ops_count - c->op + 1, p->values_count - c->value + 1, err));
    const value_id in = pg_input(back, p->values[c->crossing].cols);
    back->values[in].op_end = renumbered_op(c, p->values[c->crossing].op_end);
    for (uint32_t v = c->value; v < p->values_count; v++) {
        value *to = &back->values[back->values_count++];
        *to = p->values[v];
        to->op_def = renumbered_op(c, to->op_def);
        to->op_end = renumbered_op(c, to->op_end);
    }
    for (uint32_t i = c->op; i < p->ops_count; i++) add_renumbered(back, c, i, layer);
    back->state_floats = p->state_floats - c->state;
    back->lora_slots = p->lora_slots;
    *out = back;
    return program_finish(back, renumbered(c, p->hidden), renumbered(c, p->logits), err);
}

status program_cut(program **front, program **back, const program *p, uint32_t layer, error *err) {
    ASSERT(layer > 0 && layer < program_layers(p));
    cut c;
    *front = *back = NULL;
    status st = find_cut(&c, p, layer, err);
    if (st == OK) st = make_front(front, &c, err);
    if (st == OK) st = make_back(back, &c, layer, err);
    if (st == OK) return OK;
    program_destroy(*front);
    program_destroy(*back);
    *front = *back = NULL;
    return st;
}
