/* formula.h - the formulas that model files choose among, by name.
 *
 * A model file says which of these its layers use; the backends compute them.  Both name them
 * by the enums below and know nothing of each other. */
#ifndef TENSOR_FORMULA_H
#define TENSOR_FORMULA_H

/* 1 / sqrt(32): what makes a Walsh-Hadamard matrix of order 32 orthogonal (backend/kv_q4.h). */
#define FORMULA_TURN_32 0.17677669f

/* How a row is brought to one scale. */
typedef enum norm_kind {
    NORM_RMS,   /* x / sqrt(mean(x^2) + eps)                     (Zhang & Sennrich 2019) */
    NORM_LAYER, /* (x - mean(x)) / sqrt(variance(x) + eps)       (Ba et al. 2016) */
} norm_kind;

/* f(x) of one element; `a` and `b` are parameters. */
typedef enum act_kind {
    ACT_SILU, /* x * sigmoid(x) */
    ACT_GELU, /* x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))   (Hendrycks & Gimpel 2016) */
    ACT_GELU_ERF, /* x/2 * (1 + erf(x / sqrt(2))) */
    ACT_RELU,
    ACT_RELU_SQR, /* relu(x)^2                                           (So et al. 2021) */
    ACT_SIGMOID,
    ACT_TANH,
    ACT_SOFTPLUS,       /* log(1 + exp(x)) */
    ACT_EXP_NEG_EXP,    /* exp(-exp(x)): a decay in (0, 1)                  (Peng et al. 2024) */
    ACT_SCALE,          /* a * x */
    ACT_CLAMP,          /* min(max(x, a), b) */
    ACT_SOFTCAP,        /* a * tanh(x / a)                                     (Gemma 2) */
    ACT_SWIGLU_CLAMPED, /* only as a gate: g * sigmoid(a * g) * (up + 1), g at most b, up within
                           -b..b                                         (gpt-oss) */
} act_kind;

/* Which two elements of a head are one pair that a rotary position turns. */
typedef enum rope_pairs {
    ROPE_ADJACENT, /* (2i, 2i + 1)                                (Su et al. 2021) */
    ROPE_HALVES,   /* (i, i + dims / 2)                           (GPT-NeoX) */
} rope_pairs;

/* How router logits become weights of experts. */
typedef enum route_kind {
    ROUTE_SOFTMAX,      /* softmax over all, then the best */
    ROUTE_SIGMOID,      /* sigmoid of each, then the best          (DeepSeek-V3) */
    ROUTE_SOFTMAX_BEST, /* the best, then softmax over these       (gpt-oss) */
} route_kind;

#endif
