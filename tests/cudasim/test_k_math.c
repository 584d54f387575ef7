/* test_k_math.c - the functions of cuda/ck_math.h against libm, over the whole range of f32.
 *
 * The very source of the device is compiled as C here, on words of our own: exact ones, and then
 * ones that are wrong by as much as a GPU's 2^x may be, up and down (2 ulp: CUDA C++ Programming
 * Guide, "Intrinsic Functions"). */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "test.h"

static double ex2_error; /* relative */

#define CUDA_CK_H
#define CK_DEV static inline __attribute__((unused))
CK_DEV uint32_t ck_f2u(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
CK_DEV float ck_u2f(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
CK_DEV float ck_ex2(float x) { return (float)(exp2((double)x) * (1 + ex2_error)); }
#include "ck_math.h"

/* How far got is from what it should be, in units of the last place of that. */
static double ulps_off(float got, double want) {
    float nearest = (float)want;
    if (isnan(want) || isinf(nearest) || isinf(got)) {
        bool same = isnan(want) ? isnan(got) : got == nearest;
        bool at_the_edge = fabs(want) > 0x1.ffffp127 && fabsf(got) > 0x1.ffffp127f;
        return same || at_the_edge ? 0 : INFINITY;
    }
    int exponent = 0;
    (void)frexp(want, &exponent);
    return isnan(got)
               ? INFINITY
               : fabs((double)got - want) / ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
}

typedef struct math_case {
    const char *name;
    float (*ours)(float);
    double (*exact)(double);
    double ulps_max;
} math_case;

static float our_exp(float x) { return ck_exp(x); }
static float our_tanh(float x) { return ck_tanh(x); }
static float our_log1p(float x) { return ck_log1p(x); }
static float our_erf(float x) { return ck_erf(x); }

static const math_case cases[] = {{"exp", our_exp, exp, 4},
                                  {"tanh", our_tanh, tanh, 4},
                                  {"log1p", our_log1p, log1p, 3},
                                  {"erf", our_erf, erf, 3}};

/* Of every 4099th f32, all exponents and both signs, infinities and NaN included. */
static double worst_of(const math_case *m, float *at) {
    double worst = 0;
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += 4099) {
        float x = ck_u2f((uint32_t)u);
        double off = ulps_off(m->ours(x), m->exact((double)x));
        if (off <= worst) continue;
        worst = off;
        *at = x;
    }
    return worst;
}

TEST(k_math_functions_are_within_a_few_ulp_everywhere) {
    static const double errors[] = {0, 0x1.8p-23, -0x1.8p-23};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < 3; k++) {
            float at = 0;
            ex2_error = errors[k];
            double worst = worst_of(&cases[i], &at);
            if (k == 0)
                (void)fprintf(stderr, "  %s: at most %.2f ulp, at %.9g\n", cases[i].name, worst,
                              (double)at);
            CHECK(worst <= cases[i].ulps_max);
        }
    ex2_error = 0;
}

TEST(k_math_functions_at_the_ends) {
    static const float ends[] = {0.0f,    -0.0f,  INFINITY, -INFINITY, NAN,     -1.0f,
                                 -2.0f,   88.72f, 88.8f,    -87.4f,    -103.9f, -104.1f,
                                 -150.0f, 1e-45f, 3.4e38f,  -3.4e38f};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
            double want = cases[i].exact((double)ends[k]), got = (double)cases[i].ours(ends[k]);
            bool near = ulps_off((float)got, want) <= cases[i].ulps_max;
            if (!near)
                (void)fprintf(stderr, "  %s(%.9g) = %.9g\n", cases[i].name, (double)ends[k], got);
            CHECK(near);
        }
}

/* The larger of sine and cosine to an ulp of its own, the other to the same absolute distance. */
static double sincos_off(double angle) {
    float s = 0, c = 0;
    ck_sincos(angle, &s, &c);
    double off = fmax(fabs((double)s - sin(angle)), fabs((double)c - cos(angle)));
    return isnan(s) || isnan(c) ? INFINITY : off / 0x1p-24;
}

TEST(k_math_sincos_up_to_positions_of_millions) {
    double worst = 0, at = 0;
    for (uint32_t i = 0; i < 600000; i++) {
        double angle = i < 200000 ? i * 1e-4 : i < 400000 ? i * 49.99999 : exp(i * 4e-5) * -0.37;
        if (fabs(angle) > 1e10) break;
        double off = sincos_off(angle);
        if (off <= worst) continue;
        worst = off;
        at = angle;
    }
    (void)fprintf(stderr, "  sincos: at most %.2f * 2^-24, at %.17g\n", worst, at);
    CHECK(worst <= 1);
    CHECK(sincos_off(0) == 0 && sincos_off(-0.0) == 0);
    for (int n = -8; n <= 8; n++) CHECK(sincos_off(n * 1.57079632679489662) <= 1);
    CHECK(sincos_off(1e7) <= 1 && sincos_off(-9999999.75) <= 1 && sincos_off(4294967295.0) <= 1);
    CHECK(isinf(sincos_off(1e11)) && isinf(sincos_off(NAN)) && isinf(sincos_off(-INFINITY)));
}
