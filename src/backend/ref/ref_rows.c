/* ref_rows.c - ops that work on one row at a time: embeddings, norms, element by element.
 *
 * A result may stand where the first operand stands (program.c, can_be_in_place): element c of a
 * row is read before it is written, and never after. */
#include <math.h>
#include <string.h>

#include "backend/ref/ref_internal.h"
#include "base/assert.h"

/* --- rows in and out -------------------------------------------------------------- */

static void copy_weight_row(backend *b, const op *o, uint32_t j, uint32_t r) {
    ASSERT(j < o->w.rows);
    memcpy(ref_row(b, o->out, r), ref_weight_row(b, &o->w, j), o->w.cols * sizeof(float));
}

void ref_input(backend *b, const op *o, const batch *in) {
    memcpy(ref_row(b, o->out, 0), in->input,
           (size_t)in->rows * ref_cols(b, o->out) * sizeof(float));
}

void ref_embed(backend *b, const op *o, const batch *in) {
    for (uint32_t r = 0; r < in->rows; r++) copy_weight_row(b, o, (uint32_t)in->tokens[r], r);
}

void ref_embed_pos(backend *b, const op *o, const batch *in) {
    for (uint32_t r = 0; r < in->rows; r++) copy_weight_row(b, o, in->pos[r], r);
}

void ref_take_rows(backend *b, const op *o, const batch *in) {
    bool second = b->p->values[o->out].rows == ROWS_HEAD;
    const uint32_t *from = second ? in->head : in->taken;
    size_t bytes = ref_cols(b, o->out) * sizeof(float);
    for (uint32_t r = 0; r < ref_rows(b, o, in); r++)
        memcpy(ref_row(b, o->out, r), ref_row(b, o->in[0], from[r]), bytes);
}

/* --- norms ------------------------------------------------------------------------ */

/* One group of `n` elements; gain and bias are the group's, or NULL. */
static void norm_group(const op_norm *a, const float *x, const float *gain, const float *bias,
                       float *y) {
    uint32_t n = a->group;
    double mean = 0, squares = 0;
    if (a->kind == NORM_LAYER) {
        for (uint32_t c = 0; c < n; c++) mean += (double)x[c];
        mean /= n;
    }
    for (uint32_t c = 0; c < n; c++) squares += ((double)x[c] - mean) * ((double)x[c] - mean);
    double scale = 1.0 / sqrt(squares / n + (double)a->eps);
    for (uint32_t c = 0; c < n; c++) {
        double v = ((double)x[c] - mean) * scale;
        if (gain != NULL) v *= (double)gain[c];
        if (bias != NULL) v += (double)bias[c];
        y[c] = (float)v;
    }
}

void ref_norm(backend *b, const op *o, const batch *in) {
    const op_norm *a = &o->norm;
    uint32_t cols = ref_cols(b, o->out), rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t at = 0; at < cols; at += a->group) {
            uint32_t own = a->gain_len == cols ? at : 0;
            norm_group(a, ref_row(b, o->in[0], r) + at, a->gain != NULL ? a->gain + own : NULL,
                       a->bias != NULL ? a->bias + own : NULL, ref_row(b, o->out, r) + at);
        }
    }
}

/* --- activations ------------------------------------------------------------------ */

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static double gelu_tanh(double x) {
    const double sqrt_2_over_pi = 0.79788456080286535588;
    return x / 2 * (1 + tanh(sqrt_2_over_pi * (x + 0.044715 * x * x * x)));
}

/* log(1 + exp(x)) that neither overflows nor loses small results */
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }

static double activate(op_act act, double x) {
    double a = (double)act.a, b = (double)act.b;
    switch (act.kind) {
    case ACT_SILU:
        return x * sigmoid(x);
    case ACT_GELU:
        return gelu_tanh(x);
    case ACT_GELU_ERF:
        return x / 2 * (1 + erf(x / sqrt(2.0)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU_SQR:
        return x > 0 ? x * x : 0;
    case ACT_SIGMOID:
        return sigmoid(x);
    case ACT_TANH:
        return tanh(x);
    case ACT_SOFTPLUS:
        return softplus(x);
    case ACT_EXP_NEG_EXP:
        return exp(-exp(x));
    case ACT_SCALE:
        return a * x;
    case ACT_CLAMP:
        return fmin(fmax(x, a), b);
    case ACT_SOFTCAP:
        return a * tanh(x / a);
    case ACT_SWIGLU_CLAMPED: /* no function of one number */
        break;
    }
    return NAN;
}

static double gated(op_act act, double gate, double up) {
    if (act.kind != ACT_SWIGLU_CLAMPED) return activate(act, gate) * up;
    double g = fmin(gate, (double)act.b), limit = (double)act.b;
    return g * sigmoid((double)act.a * g) * (fmin(fmax(up, -limit), limit) + 1);
}

void ref_act(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ref_row(b, o->in[0], r);
        float *y = ref_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++) y[c] = (float)activate(o->act, (double)x[c]);
    }
}

void ref_act_mul(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        const float *gate = ref_row(b, o->in[0], r), *up = ref_row(b, o->in[1], r);
        float *y = ref_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++)
            y[c] = (float)gated(o->act, (double)gate[c], (double)up[c]);
    }
}

/* --- sums and products ------------------------------------------------------------ */

/* The second factor or summand of row r: an operand, or the op's own row. */
static const float *second_of(const backend *b, const op *o, uint32_t r) {
    return o->in[1] != VALUE_NONE ? ref_row(b, o->in[1], r) : o->row;
}

static void add_rows(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ref_row(b, o->in[0], r), *y = second_of(b, o, r);
        float *out = ref_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++) out[c] = x[c] + y[c];
    }
}

static void mul_rows(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ref_row(b, o->in[0], r), *y = second_of(b, o, r);
        float *out = ref_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++) out[c] = x[c] * y[c];
    }
}

void ref_add(backend *b, const op *o, const batch *in) { add_rows(b, o, in); }
void ref_add_row(backend *b, const op *o, const batch *in) { add_rows(b, o, in); }
void ref_mul(backend *b, const op *o, const batch *in) { mul_rows(b, o, in); }
void ref_mul_row(backend *b, const op *o, const batch *in) { mul_rows(b, o, in); }

void ref_mul_col(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ref_row(b, o->in[0], r), s = ref_row(b, o->in[1], r)[0];
        float *out = ref_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++) out[c] = x[c] * s;
    }
}
