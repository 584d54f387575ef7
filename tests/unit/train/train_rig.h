/* train_rig.h - what tests of the trainer share: a crew, random rows, differences. */
#ifndef TRAIN_RIG_H
#define TRAIN_RIG_H

#include <math.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "test.h"
#include "train/layers.h"
#include "train/random.h"

enum { RIG_CTX = 96 };

static inline crew rig_crew(const char *kernels_name, uint32_t threads) {
    error err = {0};
    crew c = {.kern = kernels_find(kernels_name)};
    CHECK_EQ(pool_create(&c.pool, threads, crew_scratch_bytes(RIG_CTX), &err), OK);
    return c;
}

/* [count] numbers of variance 1, freed by mem_free(). */
static inline float *rig_random(uint64_t seed, size_t count) {
    random_stream r = random_stream_of(seed, 77);
    float *p = mem_alloc((count + 1) * sizeof *p);
    for (size_t i = 0; i < count; i++) p[i] = random_normal(&r);
    return p;
}

static inline float *rig_zeros(size_t count) { return mem_calloc(count + 1, sizeof(float)); }

static inline double rig_dot(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static inline bool rig_close(double a, double b, double tolerance) {
    const double scale = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
    return fabs(a - b) <= tolerance * (scale > 1e-3 ? scale : 1e-3);
}

/* Says by how much when it is not. */
static inline bool rig_agrees(const char *what, double found, double wanted, double tolerance) {
    if (rig_close(found, wanted, tolerance)) return true;
    (void)fprintf(stderr, "%s: %.8g, want %.8g within %.1g\n", what, found, wanted, tolerance);
    return false;
}

/* Central difference of f along `direction` from x [count], which is as it was afterwards. */
typedef double (*rig_function)(void *ctx);
static inline double rig_slope(rig_function f, void *ctx, float *x, const float *direction,
                               size_t count, float step) {
    float *kept = mem_alloc((count + 1) * sizeof *kept);
    memcpy(kept, x, count * sizeof *x);
    for (size_t i = 0; i < count; i++) x[i] = kept[i] + step * direction[i];
    const double above = f(ctx);
    for (size_t i = 0; i < count; i++) x[i] = kept[i] - step * direction[i];
    const double below = f(ctx);
    memcpy(x, kept, count * sizeof *x);
    mem_free(kept);
    return (above - below) / (2.0 * (double)step);
}

#endif
