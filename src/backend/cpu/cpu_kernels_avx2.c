/* cpu_kernels_avx2.c - AVX2 + FMA + F16C.  Built with those flags only; chosen at run time. */
#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_math_avx2.h"
#include "tensor/convert.h"

/* --- norms -------------------- */
INLINE __m256d low_doubles(__m256 v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
INLINE __m256d high_doubles(__m256 v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }

INLINE double sum_doubles(__m256d s0, __m256d s1) {
    double lane[4];
    _mm256_storeu_pd(lane, _mm256_add_pd(s0, s1));
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

static void norm_rms(const float *x, const float *gain, float *y, uint32_t cols, float eps) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0;
    uint32_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        __m256 v = _mm256_loadu_ps(x + c);
        __m256d low = low_doubles(v), high = high_doubles(v);
        s0 = _mm256_fmadd_pd(low, low, s0);
        s1 = _mm256_fmadd_pd(high, high, s1);
    }
    double sum = sum_doubles(s0, s1);
    for (; c < cols; c++) sum += (double)x[c] * x[c];
    float scale = (float)(1.0 / sqrt(sum / cols + (double)eps));
    for (c = 0; c + LANES <= cols; c += LANES) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + c), _mm256_set1_ps(scale));
        if (gain != NULL) v = _mm256_mul_ps(v, _mm256_loadu_ps(gain + c));
        _mm256_storeu_ps(y + c, v);
    }
    for (; c < cols; c++) y[c] = gain != NULL ? x[c] * scale * gain[c] : x[c] * scale;
}

static double mean_of(const float *x, uint32_t cols) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0;
    uint32_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        __m256 v = _mm256_loadu_ps(x + c);
        s0 = _mm256_add_pd(s0, low_doubles(v));
        s1 = _mm256_add_pd(s1, high_doubles(v));
    }
    double sum = sum_doubles(s0, s1);
    for (; c < cols; c++) sum += (double)x[c];
    return sum / cols;
}

static double variance_of(const float *x, double mean, uint32_t cols) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, m = _mm256_set1_pd(mean);
    uint32_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        __m256 v = _mm256_loadu_ps(x + c);
        __m256d low = _mm256_sub_pd(low_doubles(v), m), high = _mm256_sub_pd(high_doubles(v), m);
        s0 = _mm256_fmadd_pd(low, low, s0);
        s1 = _mm256_fmadd_pd(high, high, s1);
    }
    double sum = sum_doubles(s0, s1);
    for (; c < cols; c++) sum += ((double)x[c] - mean) * ((double)x[c] - mean);
    return sum / cols;
}

/* The difference to the mean is taken in double: the mean may be much larger than it. */
static void norm_layer(const float *x, const float *gain, float *y, uint32_t cols, float eps) {
    double mean = mean_of(x, cols);
    double scale = 1.0 / sqrt(variance_of(x, mean, cols) + (double)eps);
    __m256d m = _mm256_set1_pd(mean), s = _mm256_set1_pd(scale);
    uint32_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        __m256 v = _mm256_loadu_ps(x + c);
        __m128 low = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_sub_pd(low_doubles(v), m), s));
        __m128 high = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_sub_pd(high_doubles(v), m), s));
        v = _mm256_set_m128(high, low);
        if (gain != NULL) v = _mm256_mul_ps(v, _mm256_loadu_ps(gain + c));
        _mm256_storeu_ps(y + c, v);
    }
    for (; c < cols; c++) {
        float v = (float)(((double)x[c] - mean) * scale);
        y[c] = gain != NULL ? v * gain[c] : v;
    }
}

/* --- sums of rows -------------------- */
static void mix_f32(const float *p, const void *v, uint32_t stride, uint32_t dim, uint32_t n,
                    float *y) {
    const float *rows = v;
    uint32_t c = 0;
    for (; c + LANES <= dim; c += LANES) {
        __m256 acc = _mm256_loadu_ps(y + c);
        for (uint32_t t = 0; t < n; t++)
            acc = _mm256_fmadd_ps(_mm256_set1_ps(p[t]),
                                  _mm256_loadu_ps(rows + (size_t)t * stride + c), acc);
        _mm256_storeu_ps(y + c, acc);
    }
    for (; c < dim; c++)
        for (uint32_t t = 0; t < n; t++) y[c] = fmaf(p[t], rows[(size_t)t * stride + c], y[c]);
}

/* --- states -------------------- */
INLINE __m256 scan8(float *h, __m256 a, __m256 b, __m256 dt, __m256 dx) {
    __m256 kept = _mm256_mul_ps(exp8(_mm256_mul_ps(dt, a)), _mm256_loadu_ps(h));
    __m256 v = _mm256_fmadd_ps(b, dx, kept);
    _mm256_storeu_ps(h, v);
    return v;
}

static float scan(float *h, const float *a, const float *b, const float *c, float dt, float dx,
                  uint32_t states) {
    __m256 acc = _mm256_setzero_ps(), vdt = _mm256_set1_ps(dt), vdx = _mm256_set1_ps(dx);
    uint32_t s = 0;
    for (; s + LANES <= states; s += LANES) {
        __m256 v = scan8(h + s, _mm256_loadu_ps(a + s), _mm256_loadu_ps(b + s), vdt, vdx);
        acc = _mm256_fmadd_ps(_mm256_loadu_ps(c + s), v, acc);
    }
    if (s < states) {
        float rest[4][LANES] = {{0}}; /* h, a, b, c; what is behind them adds 0 */
        const float *from[4] = {h + s, a + s, b + s, c + s};
        for (int i = 0; i < 4; i++) memcpy(rest[i], from[i], (states - s) * sizeof *h);
        __m256 v = scan8(rest[0], _mm256_loadu_ps(rest[1]), _mm256_loadu_ps(rest[2]), vdt, vdx);
        acc = _mm256_fmadd_ps(_mm256_loadu_ps(rest[3]), v, acc);
        memcpy(h + s, rest[0], (states - s) * sizeof *h);
    }
    return sum_lanes(acc);
}

/* Row i of the state against all of v. */
INLINE void wkv_row(const wkv_args *a, uint32_t i) {
    float *state = a->state + (size_t)i * a->dim;
    const float r = a->r[i], k = a->k[i], decay = a->decay[i], bonus = a->first[i] * k;
    __m256 vr = _mm256_set1_ps(r), vk = _mm256_set1_ps(k), vbonus = _mm256_set1_ps(bonus);
    uint32_t j = 0;
    for (; j + LANES <= a->dim; j += LANES) {
        __m256 s = _mm256_loadu_ps(state + j), v = _mm256_loadu_ps(a->v + j);
        __m256 seen = _mm256_fmadd_ps(vbonus, v, s), out = _mm256_loadu_ps(a->out + j);
        _mm256_storeu_ps(a->out + j, _mm256_fmadd_ps(vr, seen, out));
        s = _mm256_fmadd_ps(_mm256_set1_ps(decay), s, _mm256_mul_ps(vk, v));
        _mm256_storeu_ps(state + j, s);
    }
    for (; j < a->dim; j++) {
        a->out[j] = fmaf(r, fmaf(bonus, a->v[j], state[j]), a->out[j]);
        state[j] = fmaf(decay, state[j], k * a->v[j]);
    }
}

static void wkv(const wkv_args *a) {
    memset(a->out, 0, a->dim * sizeof *a->out);
    for (uint32_t i = 0; i < a->dim; i++) wkv_row(a, i);
}

const cpu_kernels cpu_kernels_avx2 = {
    .isa = "avx2",
    .dequant = cpu_dequant_avx2,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .act = cpu_act_avx2,
    .mix_f32 = mix_f32,
    .scan = scan,
    .wkv = wkv,
};
#else
typedef int cpu_kernels_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
