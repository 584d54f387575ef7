/* cpu_state.c - ops that carry a state from one row of a sequence to the next.
 *
 * Runs, columns and heads are independent; the rows of a run are taken in order.  A state is f32
 * and is what the next row reads, in this step or in a later one, so a prompt cut into chunks
 * leaves the same bits as a whole one. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"

enum { COLUMNS_PER_UNIT = 64 };

static float *state_of(const backend *b, const op *o, const batch_run *run) {
    return b->in->states + (size_t)run->seat * b->p->state_floats + o->state.offset;
}

static uint32_t column_units(const backend *b, const op *o) {
    return num_div_up_u32(value_cols(b, o->out), COLUMNS_PER_UNIT);
}

uint32_t cpu_units_runs(const backend *b, const task *t) {
    (void)t;
    return b->in->runs_count;
}

uint32_t cpu_units_columns(const backend *b, const task *t) {
    return b->in->runs_count * column_units(b, t->ops[0]);
}

static uint32_t state_heads(const backend *b, const op *o) {
    return value_cols(b, o->out) / o->state.width;
}

uint32_t cpu_units_state_heads(const backend *b, const task *t) {
    return b->in->runs_count * state_heads(b, t->ops[0]);
}

/* Some columns of one run. */
typedef struct columns {
    const batch_run *run;
    uint32_t begin, end;
} columns;

static columns columns_of(const backend *b, const op *o, uint32_t unit) {
    const uint32_t units = column_units(b, o), begin = unit % units * COLUMNS_PER_UNIT;
    return (columns){&b->in->runs[unit / units], begin,
                     num_min_u32(begin + COLUMNS_PER_UNIT, value_cols(b, o->out))};
}

/* --- convolution: the state is the last width - 1 rows of the input -------------------- */

/* Row `at` of the run; those before it are the state's. */
static const float *conv_input(const backend *b, const op *o, const batch_run *run, int64_t at) {
    if (at >= 0) return value_row(b, o->in[0], run->row0 + (uint32_t)at);
    const size_t kept = (size_t)(at + (int64_t)o->state.width - 1);
    return state_of(b, o, run) + kept * value_cols(b, o->in[0]);
}

static void conv_row(const backend *b, const op *o, const columns *s, uint32_t at) {
    const op_state *a = &o->state;
    float *y = value_row(b, o->out, s->run->row0 + at);
    for (uint32_t c = s->begin; c < s->end; c++) y[c] = a->bias != NULL ? a->bias[c] : 0;
    for (uint32_t i = 0; i < a->width; i++) {
        const float *x = conv_input(b, o, s->run, (int64_t)at - a->width + 1 + i);
        for (uint32_t c = s->begin; c < s->end; c++) y[c] += a->w[(size_t)c * a->width + i] * x[c];
    }
}

void cpu_conv(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const columns s = columns_of(b, o, unit);
    const uint32_t kept = o->state.width - 1, cols = value_cols(b, o->out);
    const size_t bytes = (s.end - s.begin) * sizeof(float);
    float *state = state_of(b, o, s.run);
    (void)worker;
    for (uint32_t k = 0; s.run->pos0 == 0 && k < kept; k++)
        memset(state + (size_t)k * cols + s.begin, 0, bytes);
    for (uint32_t r = 0; r < s.run->rows; r++) conv_row(b, o, &s, r);
    for (uint32_t k = 0; k < kept; k++) { /* upwards: an older row moves to a place before it */
        const float *x = conv_input(b, o, s.run, (int64_t)s.run->rows - kept + k);
        memmove(state + (size_t)k * cols + s.begin, x + s.begin, bytes);
    }
}

/* --- selective scan: the state is h [cols, states] -------------------- */

static void scan_row(const backend *b, const op *o, const columns *s, float *state, uint32_t r) {
    const op_state *a = &o->state;
    const float *x = value_row(b, o->in[0], r), *dt = value_row(b, o->in[1], r);
    const float *bs = value_row(b, o->in[2], r), *cs = value_row(b, o->in[3], r);
    float *y = value_row(b, o->out, r);
    for (uint32_t c = s->begin; c < s->end; c++) {
        const size_t at = (size_t)c * a->width;
        y[c] = b->k->scan(state + at, a->w + at, bs, cs, dt[c], dt[c] * x[c], a->width) +
               a->bias[c] * x[c];
    }
}

void cpu_scan(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const columns s = columns_of(b, o, unit);
    float *state = state_of(b, o, s.run);
    (void)worker;
    if (s.run->pos0 == 0)
        memset(state + (size_t)s.begin * o->state.width, 0,
               (size_t)(s.end - s.begin) * o->state.width * sizeof *state);
    for (uint32_t r = 0; r < s.run->rows; r++) scan_row(b, o, &s, state, s.run->row0 + r);
}

/* --- shift: the state is the last row -------------------- */

void cpu_shift(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const batch_run *run = &b->in->runs[unit];
    const size_t bytes = value_cols(b, o->out) * sizeof(float);
    float *state = state_of(b, o, run);
    (void)worker;
    if (run->pos0 == 0) memset(state, 0, bytes);
    for (uint32_t r = 0; r < run->rows; r++) {
        const float *before = r > 0 ? value_row(b, o->in[0], run->row0 + r - 1) : state;
        memcpy(value_row(b, o->out, run->row0 + r), before, bytes);
    }
    memcpy(state, value_row(b, o->in[0], run->row0 + run->rows - 1), bytes);
}

/* --- WKV: the state is one matrix per head -------------------- */

void cpu_wkv(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const uint32_t heads = state_heads(b, o), dim = o->state.width;
    const batch_run *run = &b->in->runs[unit / heads];
    const size_t first = (size_t)(unit % heads) * dim;
    wkv_args a = {
        .dim = dim, .first = o->state.w + first, .state = state_of(b, o, run) + first * dim};
    (void)worker;
    if (run->pos0 == 0) memset(a.state, 0, (size_t)dim * dim * sizeof *a.state);
    for (uint32_t r = run->row0; r < run->row0 + run->rows; r++) {
        a.r = value_row(b, o->in[0], r) + first;
        a.k = value_row(b, o->in[1], r) + first;
        a.v = value_row(b, o->in[2], r) + first;
        a.decay = value_row(b, o->in[3], r) + first;
        a.out = value_row(b, o->out, r) + first;
        b->k->wkv(&a);
    }
}
