/* quant_fit.h - the two searches all quantizers are made of; for quant_*.c only.
 *
 * A block format says which multiples of a scale it can hold: a grid.  "Snap" takes elements
 * divided by the scale to the nearest points of the grid.  Looked for is the scale (and for the
 * affine types the minimum) with the least weighted squared error.  That error has many local
 * minima, so several starts are tried.  With the codes held fixed the best scale is the solution
 * of a linear least squares problem; the solution gives new codes, and so on (the idea of Lloyd
 * 1982, with the grid as the codebook).
 *
 * The functions are expanded where they are used, so that grid and sizes are constants there. */
#ifndef TENSOR_QUANT_FIT_H
#define TENSOR_QUANT_FIT_H

#include <math.h>
#include <stdbool.h>

#include "tensor/quant_internal.h"

#define QUANT_EXPAND static inline __attribute__((always_inline))

/* v: elements / scale; answers the grid's points nearest to them. */
typedef lanes (*snap_fn)(lanes v);

/* 1 / scale, finite: a scale too small for that has only zeros above it. */
static inline float fit_inverse(float scale) {
    return fabsf(scale) < 0x1p-126f ? 0.0f : 1.0f / scale;
}

/* --- scale ------------------------------------------------------------------- */

/* Which points of the grid the element of largest magnitude is put on, one start each. */
typedef struct scale_starts {
    float first;
    float step;
    uint32_t count;
    bool both_signs; /* the grid is not symmetric: try it mirrored as well */
} scale_starts;

typedef struct scale_fit {
    float scale;
    float gain; /* weighted squared error of all zeros, less that of this scale */
} scale_fit;

/* The best scale for the codes that `inverse` gives. */
QUANT_EXPAND scale_fit fit_scale_once(const float *x, const float *w, size_t n, float inverse,
                                      snap_fn snap) {
    lanes xq = {0}, qq = {0};
    for (size_t i = 0; i < n; i += LANES) {
        const lanes v = lanes_load(x + i), q = snap(v * inverse), wq = lanes_load(w + i) * q;
        xq += wq * v;
        qq += wq * q;
    }
    const float a = lanes_sum(xq), b = lanes_sum(qq);
    if (!(b > 0.0f)) return (scale_fit){0};
    return (scale_fit){a / b, a / b * a};
}

QUANT_EXPAND float fit_scale(const float *x, const float *w, size_t n, scale_starts s,
                             uint32_t rounds, snap_fn snap) {
    float amax = 0.0f;
    scale_fit best = {0};
    for (size_t i = 0; i < n; i++) amax = fmaxf(amax, fabsf(x[i]));
    if (amax < 0x1p-100f) return 0.0f; /* its inverse and squares leave the range of f32 */
    const float inverse_amax = 1.0f / amax;
    for (uint32_t k = 0; k < s.count; k++) {
        const float inverse = (s.first + s.step * (float)k) * inverse_amax;
        scale_fit f = fit_scale_once(x, w, n, inverse, snap);
        if (f.gain > best.gain) best = f;
        if (!s.both_signs) continue;
        f = fit_scale_once(x, w, n, -inverse, snap);
        if (f.gain > best.gain) best = f;
    }
    for (uint32_t k = 0; k < rounds; k++) {
        const scale_fit f = fit_scale_once(x, w, n, fit_inverse(best.scale), snap);
        if (!(f.gain > best.gain)) break;
        best = f;
    }
    return best.scale;
}

/* The weighted squared error that remains with this scale. */
QUANT_EXPAND float fit_scale_error(const float *x, const float *w, size_t n, float scale,
                                   snap_fn snap) {
    const float inverse = fit_inverse(scale);
    lanes sum = {0};
    for (size_t i = 0; i < n; i += LANES) {
        const lanes v = lanes_load(x + i), e = v - snap(v * inverse) * scale;
        sum += lanes_load(w + i) * e * e;
    }
    return lanes_sum(sum);
}

/* q [n]: the grid's points nearest to x / scale. */
QUANT_EXPAND void fit_scale_codes(const float *x, size_t n, float scale, float *q, snap_fn snap) {
    const float inverse = fit_inverse(scale);
    for (size_t i = 0; i < n; i += LANES) lanes_store(q + i, snap(lanes_load(x + i) * inverse));
}

/* --- scale and minimum -------------------------------------------------------- */

/* x is about scale * q - min, q = 0 .. top. */
typedef struct affine {
    float scale;
    float min;
} affine;

/* How far the ends of the range are pulled in: steps from `first` of `step` grid distances at
 * either end, each combination a start. */
typedef struct affine_starts {
    float first;
    float step;
    uint32_t count;
} affine_starts;

typedef struct affine_fit {
    float scale, offset; /* y is about scale * q + offset */
    float gain;
} affine_fit;

/* Sums that do not depend on the codes. */
typedef struct affine_sums {
    float w, y;
} affine_sums;

/* The best scale and offset for the codes of `from`; offset_max bounds the offset. */
QUANT_EXPAND affine_fit fit_affine_once(const float *y, const float *w, size_t n, float top,
                                        affine_fit from, affine_sums s, float offset_max) {
    const float inverse = fit_inverse(from.scale), shift = -from.offset * inverse;
    lanes q1 = {0}, q2 = {0}, yq = {0};
    for (size_t i = 0; i < n; i += LANES) {
        const lanes v = lanes_load(y + i);
        const lanes q = lanes_round(lanes_clamp(v * inverse + shift, 0, top));
        const lanes wq = lanes_load(w + i) * q;
        q1 += wq;
        q2 += wq * q;
        yq += wq * v;
    }
    const float sq = lanes_sum(q1), sqq = lanes_sum(q2), syq = lanes_sum(yq);
    const float det = s.w * sqq - sq * sq;
    if (!(det > 0.0f)) return (affine_fit){0};
    affine_fit f = {.scale = (s.w * syq - s.y * sq) / det, .offset = (sqq * s.y - sq * syq) / det};
    if (f.offset > offset_max) { /* the next best is on the bound */
        f.offset = offset_max;
        f.scale = (syq - f.offset * sq) / sqq;
    }
    if (!(f.scale > 0.0f)) return (affine_fit){0};
    f.gain = 2.0f * (f.scale * syq + f.offset * s.y) -
             (f.scale * f.scale * sqq + 2.0f * f.scale * f.offset * sq + f.offset * f.offset * s.w);
    return f;
}

QUANT_EXPAND affine_fit fit_affine_starts(const float *y, const float *w, size_t n, float top,
                                          float range, affine_sums s, float offset_max,
                                          affine_starts starts) {
    affine_fit best = {.scale = range / top};
    for (uint32_t a = 0; a < starts.count; a++) {
        for (uint32_t b = 0; b < starts.count; b++) {
            const float low = starts.first + starts.step * (float)a;
            const float high = starts.first + starts.step * (float)b;
            const float scale = range / (top + low + high);
            const affine_fit from = {.scale = scale, .offset = low * scale};
            const affine_fit f = fit_affine_once(y, w, n, top, from, s, offset_max);
            if (f.gain > best.gain) best = f;
        }
    }
    return best;
}

/* min_is_positive: the format has no negative min. */
QUANT_EXPAND affine fit_affine(const float *x, const float *w, size_t n, float top,
                               bool min_is_positive, affine_starts starts, uint32_t rounds) {
    float y[QUANT_BLOCK_MAX];
    float lo = x[0], hi = x[0];
    affine_sums s = {0};
    for (size_t i = 1; i < n; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
    }
    if (min_is_positive && lo > 0.0f) lo = 0.0f;
    if (hi - lo < 0x1p-60f) return (affine){0.0f, -lo};
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] - lo;
        s.w += w[i];
        s.y += w[i] * y[i];
    }
    const float offset_max = min_is_positive ? -lo : hi - lo;
    affine_fit best = fit_affine_starts(y, w, n, top, hi - lo, s, offset_max, starts);
    for (uint32_t k = 0; k < rounds; k++) {
        const affine_fit f = fit_affine_once(y, w, n, top, best, s, offset_max);
        if (!(f.gain > best.gain)) break;
        best = f;
    }
    return (affine){best.scale, -(lo + best.offset)};
}

QUANT_EXPAND float fit_affine_error(const float *x, const float *w, size_t n, float top, affine a) {
    const float inverse = fit_inverse(a.scale), shift = a.min * inverse;
    lanes sum = {0};
    for (size_t i = 0; i < n; i += LANES) {
        const lanes v = lanes_load(x + i);
        const lanes q = lanes_round(lanes_clamp(v * inverse + shift, 0, top));
        const lanes e = v - (q * a.scale - a.min);
        sum += lanes_load(w + i) * e * e;
    }
    return lanes_sum(sum);
}

QUANT_EXPAND void fit_affine_codes(const float *x, size_t n, float top, affine a, float *q) {
    const float inverse = fit_inverse(a.scale), shift = a.min * inverse;
    for (size_t i = 0; i < n; i += LANES)
        lanes_store(q + i, lanes_round(lanes_clamp(lanes_load(x + i) * inverse + shift, 0, top)));
}

#endif
