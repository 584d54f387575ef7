/* act.h - activation functions and gates; kinds as act_kind of tensor/formula.h. */
#ifndef CUDA_ACT_H
#define CUDA_ACT_H
#include "ck_math.h"
#include "tensor/formula.h"

CK_DEV float sigmoid(float x) { return 1.0f / (1.0f + ck_exp(-x)); }

/* x/2 * (1 + tanh(u)) is x * sigmoid(2u), which loses nothing where tanh is near -1. */
CK_DEV float gelu_tanh(float x) {
    const float twice_sqrt_2_over_pi = 1.59576912f;
    return x * sigmoid(twice_sqrt_2_over_pi * ck_fma(0.044715f * x * x, x, x));
}

CK_DEV float gelu_erf(float x) { return 0.5f * x * (1.0f + ck_erf(x * 0.707106781f)); }

/* log(1 + e^x) that neither overflows nor loses small results */
CK_DEV float softplus(float x) { return (x > 0 ? x : 0) + ck_log1p(ck_exp(-ck_abs(x))); }

/* Bounds give way to nothing, a NaN to the bounds. */
CK_DEV float clamp(float x, float low, float high) { return ck_min(ck_max(x, low), high); }

CK_DEV float activate(uint32_t kind, float a, float b, float x) {
    switch (kind) {
    case ACT_SILU:
        return x * sigmoid(x);
    case ACT_GELU:
        return gelu_tanh(x);
    case ACT_GELU_ERF:
        return gelu_erf(x);
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU_SQR:
        return x > 0 ? x * x : 0;
    case ACT_SIGMOID:
        return sigmoid(x);
    case ACT_TANH:
        return ck_tanh(x);
    case ACT_SOFTPLUS:
        return softplus(x);
    case ACT_EXP_NEG_EXP:
        return ck_exp(-ck_exp(x));
    case ACT_SCALE:
        return a * x;
    case ACT_CLAMP:
        return clamp(x, a, b);
    case ACT_SOFTCAP:
        return a * ck_tanh(x / a);
    }
    return ck_u2f(0x7fc00000u); /* NaN: ACT_SWIGLU_CLAMPED is no function of one number */
}

CK_DEV float gated(uint32_t kind, float a, float b, float gate, float up) {
    if (kind != ACT_SWIGLU_CLAMPED) return activate(kind, a, b, gate) * up;
    float g = ck_min(gate, b);
    return g * sigmoid(a * g) * (clamp(up, -b, b) + 1.0f);
}

#endif
