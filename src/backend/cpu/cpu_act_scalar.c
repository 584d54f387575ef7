/* cpu_act_scalar.c - activation functions in plain C, each element in double. */
#include <math.h>

#include "backend/cpu/cpu_kernels.h"

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

/* x/2 (1 + tanh u) is x sigmoid(2u), which keeps its digits where 1 + tanh u cancels. */
static double gelu(double x) {
    const double root = 0.79788456080286536; /* sqrt(2 / pi) */
    return x * sigmoid(2.0 * root * (x + 0.044715 * x * x * x));
}

/* log(1 + exp x); the larger of x and 0 is taken out so that nothing overflows. */
static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

/* The smaller bound wins over one that is not a number, as in the vector forms. */
static double clamp(double x, double low, double high) {
    double y = x > low ? x : low;
    return y < high ? y : high;
}

/* gpt-oss: the gate's own factor; `limit` bounds it from above only. */
static double swiglu_gate(double g, double slope, double limit) {
    g = g < limit ? g : limit;
    return g * sigmoid(slope * g);
}

static double apply(const op_act *f, double x) {
    const double a = (double)f->a, b = (double)f->b;
    switch (f->kind) {
    case ACT_SILU:
        return x * sigmoid(x);
    case ACT_GELU:
        return gelu(x);
    case ACT_GELU_ERF: /* erfc keeps its digits where 1 + erf cancels */
        return 0.5 * x * erfc(-x * 0.70710678118654752);
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
        return clamp(x, a, b);
    case ACT_SOFTCAP:
        return a * tanh(x / a);
    case ACT_SWIGLU_CLAMPED:
        return swiglu_gate(x, a, b);
    }
    return x;
}

/* What f(x) is multiplied by. */
static double factor(const op_act *f, float up) {
    if (f->kind != ACT_SWIGLU_CLAMPED) return (double)up;
    return clamp((double)up, -(double)f->b, (double)f->b) + 1.0;
}

void cpu_act_scalar(const op_act *f, const float *x, const float *up, float *y, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) {
        double v = apply(f, (double)x[c]);
        y[c] = (float)(up != NULL ? v * factor(f, up[c]) : v);
    }
}
