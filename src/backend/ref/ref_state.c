/* ref_state.c - ops that carry a state from one row of a sequence to the next.
 *
 * A state is f32 and rounded after every row, so a prompt cut into chunks leaves the same bits as
 * the whole prompt. */
#include <math.h>
#include <string.h>

#include "backend/ref/ref_internal.h"
#include "base/assert.h"

/* The state of this op for a run; zeros where the sequence begins. */
static float *state_of(const backend *b, const op *o, const batch *in, const batch_run *run) {
    float *state = in->states + (size_t)run->seat * b->p->state_floats + o->state.offset;
    if (run->pos0 == 0) memset(state, 0, o->state.floats * sizeof(float));
    return state;
}

/* --- convolution --- */

/* Row `at` of the run; those before it are the state's. */
static const float *conv_input(const backend *b, const op *o, const float *state,
                               const batch_run *run, int64_t at) {
    if (at >= 0) return ref_row(b, o->in[0], run->row0 + (uint32_t)at);
    return state + (size_t)(at + o->state.width - 1) * ref_cols(b, o->in[0]);
}

static void conv_row(const backend *b, const op *o, const float *state, const batch_run *run,
                     uint32_t r) {
    const op_state *a = &o->state;
    float *y = ref_row(b, o->out, run->row0 + r);
    for (uint32_t c = 0; c < ref_cols(b, o->out); c++) {
        double sum = a->bias != NULL ? (double)a->bias[c] : 0;
        for (uint32_t i = 0; i < a->width; i++) {
            int64_t at = (int64_t)r - a->width + 1 + i;
            sum += (double)a->w[(size_t)c * a->width + i] *
                   (double)conv_input(b, o, state, run, at)[c];
        }
        y[c] = (float)sum;
    }
}

void ref_conv(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), kept = o->state.width - 1;
    for (uint32_t i = 0; i < in->runs_count; i++) {
        const batch_run *run = &in->runs[i];
        float *state = state_of(b, o, in, run);
        for (uint32_t r = 0; r < run->rows; r++) conv_row(b, o, state, run, r);
        /* a short run keeps some of the old rows: they move up before they are needed below */
        for (uint32_t k = 0; k < kept; k++)
            memmove(state + (size_t)k * cols,
                    conv_input(b, o, state, run, (int64_t)run->rows - kept + k),
                    cols * sizeof(float));
    }
}

/* --- selective scan --- */

static void scan_row(const backend *b, const op *o, float *state, uint32_t r) {
    const op_state *a = &o->state;
    const float *x = ref_row(b, o->in[0], r), *dt = ref_row(b, o->in[1], r);
    const float *in_gate = ref_row(b, o->in[2], r), *out_gate = ref_row(b, o->in[3], r);
    float *y = ref_row(b, o->out, r);
    for (uint32_t c = 0; c < ref_cols(b, o->out); c++) {
        float *h = state + (size_t)c * a->width;
        const float *decay = a->w + (size_t)c * a->width;
        double sum = (double)a->bias[c] * (double)x[c];
        for (uint32_t s = 0; s < a->width; s++) {
            double kept = exp((double)dt[c] * (double)decay[s]) * (double)h[s];
            h[s] = (float)(kept + (double)dt[c] * (double)in_gate[s] * (double)x[c]);
            sum += (double)out_gate[s] * (double)h[s];
        }
        y[c] = (float)sum;
    }
}

void ref_scan(backend *b, const op *o, const batch *in) {
    for (uint32_t i = 0; i < in->runs_count; i++) {
        const batch_run *run = &in->runs[i];
        float *state = state_of(b, o, in, run);
        for (uint32_t r = 0; r < run->rows; r++) scan_row(b, o, state, run->row0 + r);
    }
}

/* --- token shift --- */

void ref_shift(backend *b, const op *o, const batch *in) {
    size_t bytes = ref_cols(b, o->out) * sizeof(float);
    for (uint32_t i = 0; i < in->runs_count; i++) {
        const batch_run *run = &in->runs[i];
        float *last = state_of(b, o, in, run);
        for (uint32_t r = run->row0; r < run->row0 + run->rows; r++) {
            memcpy(ref_row(b, o->out, r), last, bytes);
            memcpy(last, ref_row(b, o->in[0], r), bytes);
        }
    }
}

/* --- RWKV-6 --- */

/* The vectors of one head of one row, [dim] each. */
typedef struct wkv_row {
    const float *r, *k, *v, *decay, *first;
} wkv_row;

static void wkv_head(const wkv_row *w, uint32_t dim, float *state, float *y) {
    for (uint32_t j = 0; j < dim; j++) {
        double sum = 0;
        for (uint32_t i = 0; i < dim; i++) {
            float *s = &state[(size_t)i * dim + j];
            double kv = (double)w->k[i] * (double)w->v[j];
            sum += (double)w->r[i] * ((double)*s + (double)w->first[i] * kv);
            *s = (float)((double)w->decay[i] * (double)*s + kv);
        }
        y[j] = (float)sum;
    }
}

void ref_wkv(backend *b, const op *o, const batch *in) {
    uint32_t dim = o->state.width;
    for (uint32_t i = 0; i < in->runs_count; i++) {
        const batch_run *run = &in->runs[i];
        float *state = state_of(b, o, in, run);
        for (uint32_t r = run->row0; r < run->row0 + run->rows; r++)
            for (uint32_t at = 0; at < ref_cols(b, o->out); at += dim) {
                wkv_row w = {ref_row(b, o->in[0], r) + at, ref_row(b, o->in[1], r) + at,
                             ref_row(b, o->in[2], r) + at, ref_row(b, o->in[3], r) + at,
                             o->state.w + at};
                wkv_head(&w, dim, state + (size_t)at * dim, ref_row(b, o->out, r) + at);
            }
    }
}
