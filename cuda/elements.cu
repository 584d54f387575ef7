/* elements.cu - element by element: activations and gates, sums and products, the sum of experts.
 *
 * A thread is one element.  A result may stand where the first operand stands: the element is read
 * before it is written, by the same thread. */
#include "ck_math.h"
#include "quantize.h"
#include "tensor/formula.h"

/* --- activations -------------------- */

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

/* --- kernels -------------------- */

/* This thread's element of a [rows, cols] matrix; false behind its end. */
CK_DEV bool element(uint64_t count, uint32_t cols, uint64_t *at) {
    uint32_t row = ck_bid_y, c = ck_bid_x * 256 + ck_tid;
    *at = (uint64_t)row * cols + c;
    return c < cols && row < ck_ld((const uint32_t *)count);
}

/* Where it goes, and as what.  With codes whole warps are inside of a row or behind it. */
CK_DEV void put(uint64_t out, uint64_t codes, uint64_t sums, uint64_t at, float y) {
    if (out != 0) ck_st((float *)out + at, y);
    if (codes == 0) return;
    uint64_t first = at - ck_lane();
    quantize_store(y, (int8_t *)codes + first, (ck_sums *)sums + first / 32);
}

CK_KERNEL(k_act, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    float x = ck_ld((const float *)a.x + at);
    put(a.out, a.codes, a.sums, at, activate(a.kind, a.a, a.b, x));
}

CK_KERNEL(k_act_mul, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    float gate = ck_ld((const float *)a.gate + at), up = ck_ld((const float *)a.up + at);
    put(a.out, a.codes, a.sums, at, gated(a.kind, a.a, a.b, gate, up));
}

CK_KERNEL(k_binary, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    bool by_row = a.kind == CK_ADD_ROW || a.kind == CK_MUL_ROW;
    uint64_t at_y = a.kind == CK_MUL_COL ? ck_bid_y
                    : by_row             ? at - (uint64_t)ck_bid_y * a.cols
                                         : at;
    float x = ck_ld((const float *)a.x + at), y = ck_ld((const float *)a.y + at_y);
    bool add = a.kind == CK_ADD || a.kind == CK_ADD_ROW;
    ck_st((float *)a.out + at, add ? x + y : x * y);
}

CK_KERNEL(k_experts_sum, 256) {
    uint64_t at;
    if (!element(a.count, a.cols, &at)) return;
    const float *share = (const float *)a.routed + (uint64_t)ck_bid_y * 2 * a.used + a.used;
    const float *x = (const float *)a.x + at + (uint64_t)ck_bid_y * a.cols * (a.used - 1);
    float sum = 0;
    for (uint32_t u = 0; u < a.used; u++)
        sum = ck_fma(ck_ld(share + u), ck_ld(x + (uint64_t)u * a.cols), sum);
    ck_st((float *)a.out + at, sum);
}
