/* program_experts.c - a program whose routed experts are computed in two places, as two programs.
 *
 *   p        norm  router  ROUTE | EXPERTS EXPERTS ACT_MUL EXPERTS EXPERTS_SUM | ADD ..
 *   device   norm  router  ROUTE | HOST                                        | ADD ..
 *   host                 INPUT x, INPUT of the choice | EXPERTS .. EXPERTS_SUM
 *
 * The ops between the bars are a run of p's, and one value leaves it. */
#include "backend/program.h"
#include "base/alloc.h"
#include "base/assert.h"

/* The experts of a layer: ops first .. last of p. */
typedef struct run {
    uint32_t first, last; /* EXPERTS, EXPERTS_SUM */
    value_id x, routed;
} run;

typedef struct split {
    const program *p; /* borrowed */
    program *device, *host;
    value_id *device_of; /* owned; [p->values_count] the same value there */
    value_id *host_of;   /* owned; likewise */
} split;

/* --- where -------------------- */

/* The next run from op `from` on; false: there is none. */
static bool find_run(const program *p, uint32_t from, run *out) {
    while (from < p->ops_count && p->ops[from].kind != OP_EXPERTS) from++;
    if (from == p->ops_count) return false;
    const op *o = &p->ops[from];
    *out = (run){.first = from, .last = from, .x = o->in[0], .routed = o->in[1]};
    while (out->last + 1 < p->ops_count && p->ops[out->last].kind != OP_EXPERTS_SUM) out->last++;
    return true;
}

uint32_t program_expert_layers(const program *p) {
    uint32_t count = 0;
    run r;
    for (uint32_t from = 0; find_run(p, from, &r); from = r.last + 1) count++;
    return count;
}

uint32_t program_host_layers(const program *p) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) count += p->ops[i].kind == OP_HOST;
    return count;
}

static bool is_made_in(const program *p, const run *r, value_id v) {
    return v != VALUE_NONE && p->values[v].op_def >= r->first && p->values[v].op_def <= r->last;
}

/* Does it read nothing but x, the choice and what the run has made? */
static bool belongs(const program *p, const run *r, const op *o) {
    const bool of_run = is_made_in(p, r, o->in[0]);
    switch (o->kind) {
    case OP_EXPERTS:
        return (of_run || o->in[0] == r->x) && o->in[1] == r->routed;
    case OP_EXPERTS_SUM:
        return of_run && o->in[1] == r->routed;
    case OP_ACT:
        return of_run;
    case OP_ACT_MUL:
        return of_run && is_made_in(p, r, o->in[1]);
    default:
        return false;
    }
}

static status check_run(const program *p, const run *r, error *err) {
    const uint16_t layer = p->ops[r->first].layer;
    for (uint32_t i = r->first; i <= r->last; i++) {
        const op *o = &p->ops[i];
        const value *made = &p->values[o->out != VALUE_NONE ? o->out : r->x];
        const bool stays = i == r->last || made->op_end <= r->last;
        if (o->layer == layer && belongs(p, r, o) && stays && made->rows == ROWS_ALL) continue;
        return error_set(err, ERR_UNSUPPORTED,
                         "program: %s, op %u of layer %u, is among the experts and needs more than "
                         "they do: they cannot be computed elsewhere",
                         op_kind_name(o->kind), i - r->first, o->layer);
    }
    return p->ops[r->last].kind == OP_EXPERTS_SUM
               ? OK
               : error_set(err, ERR_UNSUPPORTED,
                           "program: the experts of layer %u have no sum: they cannot be computed "
                           "elsewhere",
                           layer);
}

/* --- what stays -------------------- */

/* pg_*() would record the op with other attributes: it is copied. */
static void copy_op(const split *s, const op *from) {
    program *d = s->device;
    const uint16_t at = (uint16_t)d->ops_count;
    op *o = &d->ops[d->ops_count++];
    *o = *from;
    for (uint32_t i = 0; i < OP_INPUTS_MAX; i++) {
        if (from->in[i] == VALUE_NONE) continue;
        o->in[i] = s->device_of[from->in[i]];
        d->values[o->in[i]].op_end = at;
    }
    if (from->out == VALUE_NONE) return;
    o->out = s->device_of[from->out] = (value_id)d->values_count++;
    d->values[o->out] = s->p->values[from->out];
    d->values[o->out].op_def = d->values[o->out].op_end = at;
}

static void add_host(const split *s, const run *r) {
    const op *sum = &s->p->ops[r->last];
    s->device->layer = sum->layer;
    s->device_of[sum->out] = pg_host(s->device, s->device_of[r->x], s->device_of[r->routed],
                                     s->p->values[sum->out].cols);
}

/* --- what goes -------------------- */

static value_id record(const split *s, const op *o) {
    program *h = s->host;
    const value_id x = s->host_of[o->in[0]];
    switch (o->kind) {
    case OP_EXPERTS:
        return pg_experts(h, x, s->host_of[o->in[1]], o->experts);
    case OP_EXPERTS_SUM:
        return pg_experts_sum(h, x, s->host_of[o->in[1]], o->experts.used);
    case OP_ACT:
        return pg_act(h, x, o->act);
    default:
        ASSERT(o->kind == OP_ACT_MUL);
        return pg_act_mul(h, x, s->host_of[o->in[1]], o->act);
    }
}

/* Returns the sum. */
static value_id move_run(const split *s, const run *r, uint32_t layer) {
    const program *p = s->p;
    pg_layer(s->host, layer);
    s->host_of[r->x] = pg_input(s->host, p->values[r->x].cols);
    s->host_of[r->routed] = pg_input_routed(s->host, p->values[r->routed].cols / 2);
    for (uint32_t i = r->first; i <= r->last; i++)
        s->host_of[p->ops[i].out] = record(s, &p->ops[i]);
    return s->host_of[p->ops[r->last].out];
}

/* --- the whole -------------------- */

static status create(split *s, error *err) {
    const program *p = s->p;
    program_limits of_rows = {.rows = p->max.rows, .taken = p->max.rows, .ctx = p->max.ctx};
    TRY(program_create(&s->device, &p->max, err));
    TRY(program_create(&s->host, &of_rows, err));
    program *d = s->device;
    d->ops_cap = p->ops_count;
    d->values_cap = p->values_count;
    d->ops = mem_try_calloc(p->ops_count, sizeof *d->ops);
    d->values = mem_try_calloc(p->values_count, sizeof *d->values);
    s->device_of = mem_try_calloc(p->values_count, sizeof *s->device_of);
    s->host_of = mem_try_calloc(p->values_count, sizeof *s->host_of);
    if (d->ops != NULL && d->values != NULL && s->device_of != NULL && s->host_of != NULL)
        return OK;
    return error_set(err, ERR_NOMEM, "program: no memory to split %u ops", p->ops_count);
}

static status fill(const split *s, uint32_t layers, error *err) {
    const program *p = s->p;
    value_id sum = VALUE_NONE;
    uint32_t at = 0;
    for (uint32_t i = 0; i < layers; i++) {
        run r;
        const bool found = find_run(p, at, &r);
        ASSERT(found);
        TRY(check_run(p, &r, err));
        for (; at < r.first; at++) copy_op(s, &p->ops[at]);
        add_host(s, &r);
        sum = move_run(s, &r, i);
        at = r.last + 1;
    }
    for (; at < p->ops_count; at++) copy_op(s, &p->ops[at]);
    s->device->layer = p->layer;
    s->device->state_floats = p->state_floats;
    s->device->lora_slots = p->lora_slots;
    const value_id logits = p->logits == VALUE_NONE ? VALUE_NONE : s->device_of[p->logits];
    TRY(program_finish(s->device, s->device_of[p->hidden], logits, err));
    pg_layer(s->host, layers); /* of no layer: what is taken is never read */
    return program_finish(s->host, pg_take_rows(s->host, sum), VALUE_NONE, err);
}

status program_split_experts(program **device, program **host, const program *p, uint32_t layers,
                             error *err) {
    ASSERT(layers >= 1 && layers <= program_expert_layers(p));
    split s = {.p = p};
    status st = create(&s, err);
    if (st == OK) st = fill(&s, layers, err);
    mem_free(s.device_of);
    mem_free(s.host_of);
    if (st != OK) {
        program_destroy(s.device);
        program_destroy(s.host);
        return st;
    }
    *device = s.device;
    *host = s.host;
    return OK;
}
