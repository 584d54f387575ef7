/* cpu_act_avx2.c - activation functions with AVX2; the rare ones stay in plain C.
 *
 * Columns past the last whole vector go through a padded copy, so that an element is the
 * same wherever it stands in its row. */
#if defined(__x86_64__)
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_math_avx2.h"

INLINE __m256 gelu8(__m256 x) {
    /* x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
    __m256 cube = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
    __m256 u = _mm256_fmadd_ps(cube, _mm256_set1_ps(0.044715f), x);
    return silu8(x, _mm256_mul_ps(u, _mm256_set1_ps(2 * 0.797884561f)));
}

INLINE __m256 clamp8(__m256 x, __m256 low, __m256 high) {
    return _mm256_min_ps(_mm256_max_ps(x, low), high);
}

INLINE __m256 apply8(act_kind kind, __m256 x, __m256 a, __m256 b) {
    const __m256 zero = _mm256_setzero_ps();
    switch (kind) {
    case ACT_SILU:
        return silu8(x, x);
    case ACT_GELU:
        return gelu8(x);
    case ACT_RELU:
        return _mm256_max_ps(x, zero);
    case ACT_RELU_SQR:
        x = _mm256_max_ps(x, zero);
        return _mm256_mul_ps(x, x);
    case ACT_SIGMOID:
        return silu8(_mm256_set1_ps(1.0f), x);
    case ACT_TANH:
        return tanh8(x);
    case ACT_SCALE:
        return _mm256_mul_ps(a, x);
    case ACT_CLAMP:
        return clamp8(x, a, b);
    case ACT_SOFTCAP:
        return _mm256_mul_ps(a, tanh8(_mm256_div_ps(x, a)));
    case ACT_SWIGLU_CLAMPED:
        x = _mm256_min_ps(x, b);
        return silu8(x, _mm256_mul_ps(a, x));
    case ACT_GELU_ERF:
    case ACT_SOFTPLUS:
    case ACT_EXP_NEG_EXP:
        break; /* cpu_act_scalar() */
    }
    return zero;
}

/* f(x) times what the other half of the gate gives. */
INLINE __m256 gate8(act_kind kind, __m256 fx, __m256 up, __m256 b) {
    if (kind == ACT_SWIGLU_CLAMPED) {
        __m256 low = _mm256_sub_ps(_mm256_setzero_ps(), b);
        up = _mm256_add_ps(clamp8(up, low, b), _mm256_set1_ps(1.0f));
    }
    return _mm256_mul_ps(fx, up);
}

INLINE void vector(act_kind kind, const op_act *f, const float *x, const float *up, float *y) {
    __m256 a = _mm256_set1_ps(f->a), b = _mm256_set1_ps(f->b);
    __m256 v = apply8(kind, _mm256_loadu_ps(x), a, b);
    if (up != NULL) v = gate8(kind, v, _mm256_loadu_ps(up), b);
    _mm256_storeu_ps(y, v);
}

INLINE void row(act_kind kind, const op_act *f, const float *x, const float *up, float *y,
                uint32_t cols) {
    uint32_t c = 0;
    if (up == NULL)
        for (; c + LANES <= cols; c += LANES) vector(kind, f, x + c, NULL, y + c);
    else
        for (; c + LANES <= cols; c += LANES) vector(kind, f, x + c, up + c, y + c);
    if (c == cols) return;
    float rest[LANES] = {0}, rest_up[LANES] = {0};
    memcpy(rest, x + c, (cols - c) * sizeof *x);
    if (up != NULL) memcpy(rest_up, up + c, (cols - c) * sizeof *x);
    vector(kind, f, rest, up != NULL ? rest_up : NULL, rest);
    memcpy(y + c, rest, (cols - c) * sizeof *x);
}

void cpu_act_avx2(const op_act *f, const float *x, const float *up, float *y, uint32_t cols) {
#define ROW_OF(kind)                  \
    case kind:                        \
        row(kind, f, x, up, y, cols); \
        return
    switch (f->kind) {
        ROW_OF(ACT_SILU);
        ROW_OF(ACT_GELU);
        ROW_OF(ACT_RELU);
        ROW_OF(ACT_RELU_SQR);
        ROW_OF(ACT_SIGMOID);
        ROW_OF(ACT_TANH);
        ROW_OF(ACT_SCALE);
        ROW_OF(ACT_CLAMP);
        ROW_OF(ACT_SOFTCAP);
        ROW_OF(ACT_SWIGLU_CLAMPED);
    case ACT_GELU_ERF:
    case ACT_SOFTPLUS:
    case ACT_EXP_NEG_EXP:
        cpu_act_scalar(f, x, up, y, cols);
        return;
    }
#undef ROW_OF
}
#else
typedef int cpu_act_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
