/* ck_math.h - exp, tanh, log1p, erf, sine and cosine for device code, without a CUDA library.
 *
 * clang compiles our kernels without CUDA's headers, and the software GPU has none: these are made
 * of the primitive words only.  Accuracy is for all arguments, in units in the last place (ulp) of
 * the result, against the exact value; tests/cudasim/test_k_math.c holds every function to it:
 *     ck_exp 4   ck_tanh 4   ck_log1p 3   ck_erf 3   ck_sincos 1 (of the larger one)
 * NaN gives NaN, and infinities what mathematics says.
 * Source: Cody & Waite 1980 for the reductions; the polynomials interpolate at Chebyshev nodes. */
#ifndef CUDA_CK_MATH_H
#define CUDA_CK_MATH_H
#include "ck_fma.h"

#define CK_INFINITY __builtin_inff()

CK_DEV float ck_abs(float x) { return x < 0 ? -x : x; }
CK_DEV float ck_max(float a, float b) { return a > b ? a : b; } /* b where one is NaN */
CK_DEV float ck_min(float a, float b) { return a < b ? a : b; }
CK_DEV uint32_t ck_min_u(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* 1.5 * 2^23: added to an x of |x| < 2^22 it leaves round(x) in the low bits. */
#define CK_ROUNDER 12582912.0f
CK_DEV int ck_rounded(float with_rounder) {
    return (int)(ck_f2u(with_rounder) - ck_f2u(CK_ROUNDER));
}
/* x * 2^n, n in -252..254: two factors, as 2^n itself may be no f32. */
CK_DEV float ck_scale2(float x, int n) {
    int half = n >> 1;
    return x * ck_u2f((uint32_t)(half + 127) << 23) * ck_u2f((uint32_t)(n - half + 127) << 23);
}

/* e^x = 2^n * 2^(r / ln 2) where x = n * ln 2 + r */
CK_DEV float ck_exp(float x) {
    x = x > 89.0f ? 89.0f : x; /* infinity, as from 88.73 on */
    x = x < -104.0f ? -104.0f : x;
    float with = ck_fma(x, 1.44269504f, CK_ROUNDER), n = with - CK_ROUNDER;
    float r = ck_fma(n, -0.693147182f, x);
    r = ck_fma(n, 1.90465421e-9f, r); /* what ln 2 is less than that f32 */
    float y = ck_ex2(r * 1.44269504f);
    return x == x ? ck_scale2(y, ck_rounded(with)) : x;
}

CK_DEV float ck_tanh(float x) {
    float a = ck_abs(x), z = x * x;
    if (a < 0.625f) {
        float p = -6.096714176e-3f;
        p = ck_fma(p, z, 2.099717967e-2f);
        p = ck_fma(p, z, -5.385090783e-2f);
        p = ck_fma(p, z, 1.333276927e-1f);
        p = ck_fma(p, z, -3.333332837e-1f);
        return ck_fma(x, z * p, x);
    }
    float y = 1.0f - 2.0f / (ck_exp(2.0f * a) + 1.0f);
    return x < 0 ? -y : y;
}

/* log(1 + x) = k * ln 2 + log(1 + f), where 1 + x = 2^k * (1 + f), 1 + f in sqrt(1/2)..sqrt(2).
 * What 1 + x loses when it is rounded comes back by the slope of the logarithm. */
CK_DEV float ck_log1p(float x) {
    float u = 1.0f + x;
    float lost = (x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f)) / u;
    int k = (int)((ck_f2u(u) - 0x3f3504f3u) >> 23); /* sqrt(1/2) */
    k = k > 255 ? k - 512 : k;
    float f = ck_u2f(ck_f2u(u) - ((uint32_t)k << 23)) - 1.0f, n = (float)k;
    float p = -7.902743667e-2f;
    p = ck_fma(p, f, 1.262231916e-1f);
    p = ck_fma(p, f, -1.299818307e-1f);
    p = ck_fma(p, f, 1.421449631e-1f);
    p = ck_fma(p, f, -1.664128155e-1f);
    p = ck_fma(p, f, 2.000104487e-1f);
    p = ck_fma(p, f, -2.500030696e-1f);
    p = ck_fma(p, f, 3.333333135e-1f);
    float tail = ck_fma(f * f, ck_fma(f, p, -0.5f), ck_fma(n, -1.90465421e-9f, lost));
    float y = ck_fma(n, 0.693147182f, f + tail);
    if (x <= 3.402823466e38f && u > 0) return y;
    return u < 0 ? ck_u2f(0x7fc00000u) : u == 0 ? -1.0f / u : x; /* NaN, -infinity, x */
}

/* Near 0 a polynomial in x^2; from 1 on 1 - e^-p(|x|); from 4 on the 1 that it rounds to. */
CK_DEV float ck_erf(float x) {
    float a = ck_abs(x), z = x * x;
    if (a < 1.0f) {
        float p = 7.875874871e-5f;
        p = ck_fma(p, z, -8.016864303e-4f);
        p = ck_fma(p, z, 5.189087242e-3f);
        p = ck_fma(p, z, -2.685421146e-2f);
        p = ck_fma(p, z, 1.128359437e-1f);
        p = ck_fma(p, z, -3.761262596e-1f);
        return ck_fma(x, z * p, x * 1.128379107f);
    }
    float b = a > 4.0f ? 4.0f : a; /* NaN stays */
    float p = -1.637151399e-6f;
    p = ck_fma(p, b, 4.605804133e-5f);
    p = ck_fma(p, b, -5.968056503e-4f);
    p = ck_fma(p, b, 4.759596195e-3f);
    p = ck_fma(p, b, -2.642113529e-2f);
    p = ck_fma(p, b, 1.100800857e-1f);
    p = ck_fma(p, b, 6.318260431e-1f);
    p = ck_fma(p, b, 1.130233407f);
    p = ck_fma(p, b, -3.201380605e-4f);
    float y = 1.0f - ck_exp(-p);
    return x < 0 ? -y : y;
}

/* The angle is reduced in double: n * pi/2 in three parts, of which the first two have 20 bits, so
 * that n * part is exact up to n = 2^33.  Angles beyond 1e10 give NaN: no position has them. */
CK_DEV void ck_sincos(double angle, float *s, float *c) {
    bool usual = angle > -1e10 && angle < 1e10;
    double turns = usual ? angle * 0.63661977236758134308 : 0;
    long long n = (long long)(turns + (turns < 0 ? -0.5 : 0.5));
    double m = (double)n, r = angle - m * 0x1.921fap+0;
    r = (r - m * 0x1.54442p-20) - m * 0x1.a308d313198a3p-41;
    double z = r * r, p = -1.0 / 39916800, q = 1.0 / 479001600; /* Taylor: 1/11!, 1/12! .. */
    p = p * z + 1.0 / 362880;
    p = p * z - 1.0 / 5040;
    p = p * z + 1.0 / 120;
    p = p * z - 1.0 / 6;
    q = q * z - 1.0 / 3628800;
    q = q * z + 1.0 / 40320;
    q = q * z - 1.0 / 720;
    q = q * z + 1.0 / 24;
    q = q * z - 0.5;
    float sine = (float)(r + r * (z * p)), cosine = (float)(1.0 + z * q);
    float nan = ck_u2f(0x7fc00000u);
    *s = usual ? (n & 1 ? cosine : sine) * (n & 2 ? -1.0f : 1.0f) : nan;
    *c = usual ? (n & 1 ? sine : cosine) * ((n + 1) & 2 ? -1.0f : 1.0f) : nan;
}

#endif
