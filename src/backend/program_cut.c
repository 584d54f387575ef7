/* program_cut.c - some layers of a program as one of its own, to be computed in a place of its own.
 *
 *   | embed, layers 0 .. a - 1 | layers a .. b - 1       | layers b .., head |
 *     .............. TAKE_ROWS   INPUT ....... TAKE_ROWS   INPUT ...........
 *
 * Ops and values are recorded in one order, so each part is a run of both, renumbered. */
#include <string.h>

#include "backend/program.h"
#include "base/alloc.h"
#include "base/assert.h"

/* Before the first op of a layer, or behind the last op of all. */
typedef struct cut {
    uint32_t op;       /* the first one behind it */
    uint32_t value;    /* the first one that is made behind it */
    value_id crossing; /* the one that is made before and read behind; VALUE_NONE at either end */
    size_t state;      /* floats of a sequence's state that belong to what is before it */
} cut;

typedef struct part {
    const program *whole; /* borrowed */
    program *p;
    cut from, to;
    uint32_t layer; /* the first one */
} part;

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
    *c = (cut){.crossing = VALUE_NONE};
    if (layer == 0) return OK;
    while (c->op < p->ops_count && p->ops[c->op].layer < layer) c->op++;
    c->state = state_before(p, c->op);
    c->value = p->values_count;
    if (c->op == p->ops_count) return OK;
    for (c->value = 0; c->value < p->values_count && p->values[c->value].op_def < c->op;
         c->value++) {
        if (p->values[c->value].op_end < c->op) continue;
        c->crossing = (value_id)c->value;
        crossings++;
    }
    if (crossings == 1 && p->values[c->crossing].rows == ROWS_ALL) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "program: %u values reach from layer %u into layer %u, want 1: it cannot be "
                     "cut there",
                     crossings, layer - 1, layer);
}

/* --- the part -------------------- */

static bool begins_program(const part *a) { return a->from.crossing == VALUE_NONE; }
static bool ends_program(const part *a) { return a->to.crossing == VALUE_NONE; }

/* Room for what is copied, INPUT and TAKE_ROWS. */
static status create_part(part *a, error *err) {
    program_limits max = a->whole->max;
    const uint32_t ops = a->to.op - a->from.op + 2, values = a->to.value - a->from.value + 2;
    if (!ends_program(a)) {
        max.taken = max.rows;
        max.head = 0;
    }
    TRY(program_create(&a->p, &max, err));
    a->p->ops_cap = ops;
    a->p->values_cap = values;
    a->p->ops = mem_try_calloc(ops, sizeof *a->p->ops);
    a->p->values = mem_try_calloc(values, sizeof *a->p->values);
    if (a->p->ops != NULL && a->p->values != NULL) return OK;
    return error_set(err, ERR_NOMEM, "program: no memory for a part of %u ops", ops);
}

/* INPUT is op 0 of what does not begin the program, and makes its value 0. */
static value_id renumbered(const part *a, value_id v) {
    const uint32_t first = begins_program(a) ? 0 : 1;
    if (v == VALUE_NONE) return VALUE_NONE;
    if (v == a->from.crossing) return 0;
    ASSERT(v >= a->from.value && v < a->to.value);
    return (value_id)(v - a->from.value + first);
}

/* What is read behind the part is what TAKE_ROWS will read, and says so then. */
static uint16_t renumbered_op(const part *a, uint16_t op_idx) {
    const uint32_t first = begins_program(a) ? 0 : 1;
    if (op_idx == UINT16_MAX) return UINT16_MAX;
    return (uint16_t)(op_idx - a->from.op + first);
}

static void add_values(part *a) {
    for (uint32_t v = a->from.value; v < a->to.value; v++) {
        value *to = &a->p->values[a->p->values_count++];
        *to = a->whole->values[v];
        to->op_def = renumbered_op(a, to->op_def);
        to->op_end = renumbered_op(a, to->op_end);
    }
}

static void add_op(part *a, const op *from) {
    op *o = &a->p->ops[a->p->ops_count++];
    *o = *from;
    o->layer = (uint16_t)(o->layer - a->layer);
    o->out = renumbered(a, o->out);
    for (uint32_t i = 0; i < OP_INPUTS_MAX; i++) o->in[i] = renumbered(a, o->in[i]);
    if (has_state(o)) o->state.offset -= a->from.state;
}

static void add_input(part *a) {
    const value *crossing = &a->whole->values[a->from.crossing];
    const value_id in = pg_input(a->p, crossing->cols);
    a->p->values[in].op_end = renumbered_op(a, crossing->op_end);
}

static status fill_part(part *a, error *err) {
    const program *whole = a->whole;
    program *p = a->p;
    if (!begins_program(a)) add_input(a);
    add_values(a);
    for (uint32_t i = a->from.op; i < a->to.op; i++) add_op(a, &whole->ops[i]);
    p->layer = p->ops[p->ops_count - 1].layer;
    p->state_floats = a->to.state - a->from.state;
    p->lora_slots = whole->lora_slots;
    p->goes_on = !ends_program(a);
    if (ends_program(a))
        return program_finish(p, renumbered(a, whole->hidden), renumbered(a, whole->logits), err);
    return program_finish(p, pg_take_rows(p, renumbered(a, a->to.crossing)), VALUE_NONE, err);
}

status program_cut(program **out, const program *p, uint32_t first, uint32_t end, error *err) {
    ASSERT(first < end && end <= program_layers(p));
    part a = {.whole = p, .layer = first};
    TRY(find_cut(&a.from, p, first, err));
    TRY(find_cut(&a.to, p, end, err));
    status st = create_part(&a, err);
    if (st == OK) st = fill_part(&a, err);
    if (st != OK) {
        program_destroy(a.p);
        return st;
    }
    *out = a.p;
    return OK;
}
