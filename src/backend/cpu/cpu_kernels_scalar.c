/* cpu_kernels_scalar.c - plain C for any processor.
 *
 * Float dots run eight partial sums, so that compilers may use what vector registers the
 * baseline has; the order of every sum is fixed. */
#include <math.h>

#include "backend/cpu/cpu_kernels.h"
#include "tensor/convert.h"

enum { LANES = 8 };

static float sum_lanes(const float *lane) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static float get_f32(const void *p, uint32_t i) {
    float v;
    memcpy(&v, (const char *)p + (size_t)i * sizeof v, sizeof v);
    return v;
}
static float get_f16(const void *p, uint32_t i) {
    uint16_t v;
    memcpy(&v, (const char *)p + (size_t)i * sizeof v, sizeof v);
    return convert_f16_to_f32(v);
}
static float get_bf16(const void *p, uint32_t i) {
    uint16_t v;
    memcpy(&v, (const char *)p + (size_t)i * sizeof v, sizeof v);
    return convert_bf16_to_f32(v);
}

#define DEFINE_DOT(name, get)                                                         \
    static float name(const float *x, const void *w, uint32_t cols) {                 \
        float lane[LANES] = {0};                                                      \
        uint32_t c = 0;                                                               \
        for (; c + LANES <= cols; c += LANES)                                         \
            for (uint32_t l = 0; l < LANES; l++) lane[l] += x[c + l] * get(w, c + l); \
        float sum = sum_lanes(lane);                                                  \
        for (; c < cols; c++) sum += x[c] * get(w, c);                                \
        return sum;                                                                   \
    }
DEFINE_DOT(dot_f32, get_f32)
DEFINE_DOT(dot_f16, get_f16)
DEFINE_DOT(dot_bf16, get_bf16)

static float dot_q8_0(const int16_t *xq, const float *xs, const uint8_t *w, uint32_t cols) {
    float sum = 0;
    for (uint32_t b = 0; b < cols / ACT_BLOCK; b++, w += 34, xq += ACT_BLOCK) {
        const int8_t *wq = (const int8_t *)(w + 2);
        int32_t dot = 0;
        for (int i = 0; i < ACT_BLOCK; i++) dot += wq[i] * xq[i];
        sum += (float)dot * (get_f16(w, 0) * xs[b]);
    }
    return sum;
}

static float dot_q4_0(const int16_t *xq, const float *xs, const uint8_t *w, uint32_t cols) {
    float sum = 0;
    for (uint32_t b = 0; b < cols / ACT_BLOCK; b++, w += 18, xq += ACT_BLOCK) {
        const uint8_t *nibbles = w + 2;
        int32_t dot = 0;
        for (int i = 0; i < 16; i++) {
            dot += ((nibbles[i] & 15) - 8) * xq[i];
            dot += ((nibbles[i] >> 4) - 8) * xq[i + 16];
        }
        sum += (float)dot * (get_f16(w, 0) * xs[b]);
    }
    return sum;
}

static void store(const matmul_args *a, uint32_t r, uint32_t j, float v) {
    size_t at = (size_t)r * a->out_cols + j;
    if (a->bias != NULL) v += a->bias[j];
    if (a->add != NULL) v = a->add[at] + v;
    a->out[at] = v;
}

#define DEFINE_MATMUL_FLOAT(name, dot)                                       \
    static void name(const matmul_args *a, uint32_t row0, uint32_t row1) {   \
        for (uint32_t j = row0; j < row1; j++) {                             \
            const char *w = (const char *)a->w + j * a->w_row_bytes;         \
            for (uint32_t r = 0; r < a->x_rows; r++)                         \
                store(a, r, j, dot(a->x + (size_t)r * a->cols, w, a->cols)); \
        }                                                                    \
    }
DEFINE_MATMUL_FLOAT(matmul_f32, dot_f32)
DEFINE_MATMUL_FLOAT(matmul_f16, dot_f16)
DEFINE_MATMUL_FLOAT(matmul_bf16, dot_bf16)

#define DEFINE_MATMUL_BLOCK(name, dot)                                               \
    static void name(const matmul_args *a, uint32_t row0, uint32_t row1) {           \
        for (uint32_t j = row0; j < row1; j++) {                                     \
            const uint8_t *w = (const uint8_t *)a->w + j * a->w_row_bytes;           \
            for (uint32_t r = 0; r < a->x_rows; r++) {                               \
                size_t at = (size_t)r * a->cols;                                     \
                store(a, r, j, dot(a->xq + at, a->xs + at / ACT_BLOCK, w, a->cols)); \
            }                                                                        \
        }                                                                            \
    }
DEFINE_MATMUL_BLOCK(matmul_q8_0, dot_q8_0)
DEFINE_MATMUL_BLOCK(matmul_q4_0, dot_q4_0)

static void quantize(const float *x, int16_t *q, float *scales, uint32_t cols) {
    for (uint32_t b = 0; b < cols / ACT_BLOCK; b++, x += ACT_BLOCK, q += ACT_BLOCK) {
        float max = 0;
        for (int i = 0; i < ACT_BLOCK; i++) max = fmaxf(max, fabsf(x[i]));
        float inverse = max > 0 ? 32767.0f / max : 0;
        scales[b] = max / 32767.0f;
        for (int i = 0; i < ACT_BLOCK; i++) {
            float v = fminf(fmaxf(nearbyintf(x[i] * inverse), -32767.0f), 32767.0f);
            q[i] = (int16_t)v;
        }
    }
}

static void norm_rms(const float *x, const float *gain, float *y, uint32_t cols, float eps) {
    double sum = 0;
    for (uint32_t c = 0; c < cols; c++) sum += (double)x[c] * x[c];
    float scale = (float)(1.0 / sqrt(sum / cols + (double)eps));
    for (uint32_t c = 0; c < cols; c++) y[c] = gain != NULL ? x[c] * scale * gain[c] : x[c] * scale;
}

/* The difference to the mean is taken in double: the mean may be much larger than it. */
static void norm_layer(const float *x, const float *gain, float *y, uint32_t cols, float eps) {
    double sum = 0, squares = 0;
    for (uint32_t c = 0; c < cols; c++) sum += (double)x[c];
    double mean = sum / cols;
    for (uint32_t c = 0; c < cols; c++) squares += ((double)x[c] - mean) * ((double)x[c] - mean);
    double scale = 1.0 / sqrt(squares / cols + (double)eps);
    for (uint32_t c = 0; c < cols; c++) {
        float v = (float)(((double)x[c] - mean) * scale);
        y[c] = gain != NULL ? v * gain[c] : v;
    }
}

static float softmax(float *s, uint32_t n) {
    float max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmaxf(max, s[i]);
    for (uint32_t i = 0; i < n; i++) sum += s[i] = expf(s[i] - max);
    return sum;
}

#define DEFINE_ATTENTION(scores, mix, dot, get, elem_bytes)                                   \
    static void scores(const float *q, const void *k, uint32_t dim, uint32_t n, float scale,  \
                       float *out) {                                                          \
        for (uint32_t t = 0; t < n; t++)                                                      \
            out[t] = dot(q, (const char *)k + (size_t)t * dim * (elem_bytes), dim) * scale;   \
    }                                                                                         \
    static void mix(const float *p, const void *v, uint32_t stride, uint32_t dim, uint32_t n, \
                    float *y) {                                                               \
        for (uint32_t t = 0; t < n; t++)                                                      \
            for (uint32_t i = 0; i < dim; i++) y[i] += p[t] * get(v, t * stride + i);         \
    }
DEFINE_ATTENTION(scores_f32, mix_f32, dot_f32, get_f32, 4)
DEFINE_ATTENTION(scores_f16, mix_f16, dot_f16, get_f16, 2)

static float scan(float *h, const float *a, const float *b, const float *c, float dt, float dx,
                  uint32_t states) {
    float sum = 0;
    for (uint32_t s = 0; s < states; s++) {
        h[s] = expf(dt * a[s]) * h[s] + b[s] * dx;
        sum += c[s] * h[s];
    }
    return sum;
}

static void wkv(const wkv_args *a) {
    memset(a->out, 0, a->dim * sizeof *a->out);
    for (uint32_t i = 0; i < a->dim; i++) {
        float *state = a->state + (size_t)i * a->dim;
        const float bonus = a->first[i] * a->k[i];
        for (uint32_t j = 0; j < a->dim; j++) {
            a->out[j] += a->r[i] * (bonus * a->v[j] + state[j]);
            state[j] = a->decay[i] * state[j] + a->k[i] * a->v[j];
        }
    }
}

const cpu_kernels cpu_kernels_scalar = {
    .isa = "scalar",
    .matmul_f32 = matmul_f32,
    .matmul_f16 = matmul_f16,
    .matmul_bf16 = matmul_bf16,
    .matmul_q8_0 = matmul_q8_0,
    .matmul_q4_0 = matmul_q4_0,
    .dequant = dequant_row,
    .quantize = quantize,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .act = cpu_act_scalar,
    .scores_f32 = scores_f32,
    .scores_f16 = scores_f16,
    .softmax = softmax,
    .mix_f32 = mix_f32,
    .mix_f16 = mix_f16,
    .scan = scan,
    .wkv = wkv,
};
