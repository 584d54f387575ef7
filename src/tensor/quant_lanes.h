/* quant_lanes.h - four floats at a time, for the inner loops of quantizers.
 *
 * The compiler's vectors, so every machine has them; one order of additions, so the same bytes
 * come out on every machine.  For quant_*.c only. */
#ifndef TENSOR_QUANT_LANES_H
#define TENSOR_QUANT_LANES_H

#include <stdint.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

enum { LANES = 4 };

typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lane_masks __attribute__((vector_size(16)));

static inline lanes lanes_load(const float *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void lanes_store(float *p, lanes v) { memcpy(p, &v, sizeof v); }

static inline lanes lanes_all(float f) { return (lanes){f, f, f, f}; }

/* a where the mask is set, else b. */
static inline lanes lanes_pick(lane_masks m, lanes a, lanes b) {
    return (lanes)(((lane_masks)a & m) | ((lane_masks)b & ~m));
}

/* Compilers do not find the instructions behind two picks; a NaN becomes `lo` in both forms. */
static inline lanes lanes_clamp(lanes v, float lo, float hi) {
#ifdef __SSE__
    return _mm_min_ps(_mm_max_ps(v, lanes_all(lo)), lanes_all(hi));
#else
    v = lanes_pick(v > lanes_all(lo), v, lanes_all(lo));
    return lanes_pick(v < lanes_all(hi), v, lanes_all(hi));
#endif
}

/* To the nearest integer, ties to even, for |v| < 2^22: beyond 2^23 floats have no fraction, so
 * adding and taking away 1.5 * 2^23 leaves the integer. */
static inline lanes lanes_round(lanes v) {
    const lanes shift = lanes_all(0x1.8p23f);
    return (v + shift) - shift;
}

static inline float lanes_sum(lanes v) { return (v[0] + v[1]) + (v[2] + v[3]); }

#endif
