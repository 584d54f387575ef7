/* kernels_body.h - the row operations of kernels.h, once for every instruction set.
 *
 * Included by kernels_*.c, each compiled with its own flags.  Vectors of 16 floats are GCC's
 * vector extension, which any flags can compile and which always round the same (they never leave
 * a file, so -Wpsabi has nothing to say: train.mk silences it); the including
 * file defines gemm_tile(), KERNEL_MR, KERNEL_NR and KERNEL_NAME.
 * Source of the exponential: Cephes, expf (Moshier 1989): range reduction by ln 2 in two parts
 * and a polynomial of degree 5; error below 2e-7 relative. */
#include <math.h>
#include <string.h>

#include "train/kernels.h"

#define LANES  KERNELS_LANES
#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t lanes_i __attribute__((vector_size(4 * LANES)));

INLINE lanes load(const float *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store(float *p, lanes v) { memcpy(p, &v, sizeof v); }

/* The last n < LANES floats of a row, `fill` behind them. */
INLINE lanes load_tail(const float *p, uint32_t n, float fill) {
    float a[LANES];
    for (uint32_t i = 0; i < LANES; i++) a[i] = i < n ? p[i] : fill;
    return load(a);
}

INLINE void store_tail(float *p, lanes v, uint32_t n) {
    float a[LANES];
    store(a, v);
    memcpy(p, a, n * sizeof *p);
}

INLINE lanes all(float x) { return (lanes){0} + x; }

INLINE lanes pick(lanes_i mask, lanes yes, lanes no) {
    return (lanes)(((lanes_i)yes & mask) | ((lanes_i)no & ~mask));
}

INLINE lanes larger(lanes a, lanes b) { return pick(a > b, a, b); }
INLINE lanes smaller(lanes a, lanes b) { return pick(a < b, a, b); }

/* Lanes are added in pairs of halves: one order, whatever the machine. */
INLINE float sum_lanes(lanes v) {
    float a[LANES];
    store(a, v);
    for (uint32_t half = LANES / 2; half > 0; half /= 2)
        for (uint32_t i = 0; i < half; i++) a[i] += a[i + half];
    return a[0];
}

INLINE float max_lanes(lanes v) {
    float a[LANES];
    store(a, v);
    for (uint32_t i = 1; i < LANES; i++) a[0] = a[i] > a[0] ? a[i] : a[0];
    return a[0];
}

/* exp(x); below -87 it is the smallest normal number, above 88 the largest power. */
INLINE lanes exp_lanes(lanes x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = smaller(larger(x, all(-87.0f)), all(88.0f));
    lanes shifted = x * 1.44269504f + round;
    lanes n = shifted - round;
    lanes r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    lanes p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    lanes_i bits = (lanes_i)shifted - (lanes_i)all(round); /* n as an integer */
    return (lanes)((lanes_i)p + (bits << 23));
}

/* The whole vectors of a row of n, then its tail of `rest`. */
#define FOR_LANES(i, n) for (uint32_t i = 0; i + LANES <= (n); i += LANES)
#define TAIL_AT(n)      ((n) / LANES * LANES)

/* --- softmax ----------------------------------------------------------------------------- */

static float max_row(const float *row, uint32_t n) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    lanes max = all(-INFINITY);
    FOR_LANES(i, n) max = larger(max, load(row + i));
    if (rest > 0) max = larger(max, load_tail(row + tail, rest, -INFINITY));
    return max_lanes(max);
}

static void exp_row(float *row, uint32_t n, float scale, float *max_out, float *sum_out) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    const float max = max_row(row, n) * scale; /* scale > 0 */
    lanes sum = {0};
    FOR_LANES(i, n) {
        lanes e = exp_lanes(load(row + i) * scale - max);
        store(row + i, e);
        sum += e;
    }
    if (rest > 0) {
        store_tail(row + tail, exp_lanes(load_tail(row + tail, rest, 0) * scale - max), rest);
        sum += load_tail(row + tail, rest, 0);
    }
    *max_out = max;
    *sum_out = sum_lanes(sum);
}

static void exp_row_again(float *row, uint32_t n, float scale, float max, float factor) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    FOR_LANES(i, n) store(row + i, exp_lanes(load(row + i) * scale - max) * factor);
    if (rest == 0) return;
    lanes e = exp_lanes(load_tail(row + tail, rest, 0) * scale - max) * factor;
    store_tail(row + tail, e, rest);
}

static void softmax_grad_row(const float *p, float *dp, uint32_t n, float scale) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    lanes sum = {0};
    FOR_LANES(i, n) sum += load(p + i) * load(dp + i);
    if (rest > 0) sum += load_tail(p + tail, rest, 0) * load_tail(dp + tail, rest, 0);
    const float dot = sum_lanes(sum);
    FOR_LANES(i, n) store(dp + i, load(p + i) * (load(dp + i) - dot) * scale);
    if (rest == 0) return;
    lanes d = load_tail(p + tail, rest, 0) * (load_tail(dp + tail, rest, 0) - dot) * scale;
    store_tail(dp + tail, d, rest);
}

static void scale_row(float *row, uint32_t n, float factor) {
    for (uint32_t i = 0; i < n; i++) row[i] *= factor;
}

/* --- RMSNorm ----------------------------------------------------------------------------- */

static float sum_products(const float *a, const float *b, uint32_t n) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    lanes sum = {0};
    FOR_LANES(i, n) sum += load(a + i) * load(b + i);
    if (rest > 0) sum += load_tail(a + tail, rest, 0) * load_tail(b + tail, rest, 0);
    return sum_lanes(sum);
}

static float sum_squares(const float *x, uint32_t n) { return sum_products(x, x, n); }

static void rms_row(const float *x, const float *gain, float *y, uint32_t n, float eps,
                    float *inv_out) {
    const float inv = 1.0f / sqrtf(sum_squares(x, n) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++) y[i] = x[i] * inv * gain[i];
    *inv_out = inv;
}

/* With g = dy * gain:  dx = inv * (g - x * inv^2 * mean(g * x)). */
static void rms_grad_row(const float *dy, const float *x, const float *gain, float inv, float *dx,
                         uint32_t n) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    lanes sum = {0};
    FOR_LANES(i, n) sum += load(dy + i) * load(gain + i) * load(x + i);
    if (rest > 0)
        sum += load_tail(dy + tail, rest, 0) * load_tail(gain + tail, rest, 0) *
               load_tail(x + tail, rest, 0);
    const float back = inv * inv * sum_lanes(sum) / (float)n;
    for (uint32_t i = 0; i < n; i++) dx[i] += inv * (dy[i] * gain[i] - x[i] * back);
}

static void rms_grad_gain(const float *dy, const float *x, float inv, float *sums, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) sums[i] += dy[i] * x[i] * inv;
}

/* --- SwiGLU ------------------------------------------------------------------------------ */

INLINE lanes sigmoid(lanes x) { return 1.0f / (1.0f + exp_lanes(-x)); }

static void swiglu_row(const float *gate, const float *up, float *out, uint32_t n) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    FOR_LANES(i, n) {
        lanes g = load(gate + i);
        store(out + i, g * sigmoid(g) * load(up + i));
    }
    if (rest == 0) return;
    lanes g = load_tail(gate + tail, rest, 0);
    store_tail(out + tail, g * sigmoid(g) * load_tail(up + tail, rest, 0), rest);
}

/* silu(g) = g * s with s = sigmoid(g);  silu'(g) = s * (1 + g * (1 - s)). */
INLINE void swiglu_grad(lanes *g, lanes *u, lanes d) {
    lanes s = sigmoid(*g), silu = *g * s;
    lanes dg = d * *u * s * (1.0f + *g * (1.0f - s));
    *u = d * silu;
    *g = dg;
}

static void swiglu_grad_row(float *gate, float *up, const float *dout, uint32_t n) {
    const uint32_t tail = TAIL_AT(n), rest = n - tail;
    FOR_LANES(i, n) {
        lanes g = load(gate + i), u = load(up + i);
        swiglu_grad(&g, &u, load(dout + i));
        store(gate + i, g);
        store(up + i, u);
    }
    if (rest == 0) return;
    lanes g = load_tail(gate + tail, rest, 0), u = load_tail(up + tail, rest, 0);
    swiglu_grad(&g, &u, load_tail(dout + tail, rest, 0));
    store_tail(gate + tail, g, rest);
    store_tail(up + tail, u, rest);
}

/* --- AdamW ------------------------------------------------------------------------------- */

static void adamw_row(float *param, const float *grad, float *m, float *v, uint32_t n,
                      const adamw_scalars *s) {
    for (uint32_t i = 0; i < n; i++) {
        const float g = grad[i] * s->grad_scale;
        m[i] = s->beta1 * m[i] + (1.0f - s->beta1) * g;
        v[i] = s->beta2 * v[i] + (1.0f - s->beta2) * g * g;
        param[i] = param[i] * s->keep - s->rate * m[i] / (sqrtf(v[i]) * s->root + s->eps);
    }
}

/* --- the table --------------------------------------------------------------------------- */

static const kernels table = {
    .name = KERNEL_NAME,
    .mr = KERNEL_MR,
    .nr = KERNEL_NR,
    .gemm_tile = gemm_tile,
    .exp_row = exp_row,
    .exp_row_again = exp_row_again,
    .softmax_grad_row = softmax_grad_row,
    .scale_row = scale_row,
    .rms_row = rms_row,
    .rms_grad_row = rms_grad_row,
    .rms_grad_gain = rms_grad_gain,
    .swiglu_row = swiglu_row,
    .swiglu_grad_row = swiglu_grad_row,
    .sum_squares = sum_squares,
    .adamw_row = adamw_row,
};
