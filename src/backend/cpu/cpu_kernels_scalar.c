/* cpu_kernels_scalar.c - plain C for any processor; the order of every sum is fixed. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_floats.h"
#include "backend/cpu/cpu_kernels.h"
#include "tensor/convert.h"

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

/* --- attention -------------------- */

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

static float get_as(dtype type, const void *p, uint32_t i) {
    return type == DTYPE_F16 ? get_f16(p, i) : get_f32(p, i);
}

static void turn_keys(dtype type, const void *rows, uint32_t dim, float *keys) {
    for (uint32_t t = 0; t < KV_BLOCK_TOKENS; t++)
        for (uint32_t d = 0; d < dim; d++)
            keys[(size_t)d * ATTN_LANES + t] = get_as(type, rows, t * dim + d);
}

static void widen_values(dtype type, const void *rows, uint32_t stride, uint32_t dim,
                         float *values) {
    for (uint32_t t = 0; t < KV_BLOCK_TOKENS; t++) {
        for (uint32_t c = 0; c < dim; c++) *values++ = get_as(type, rows, t * stride + c);
        for (uint32_t c = dim; c % ATTN_LANES != 0; c++) *values++ = 0;
    }
}

static void widen_q8(const int8_t *codes, const uint16_t *scales, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = convert_f16_to_f32(scales[i / KV_GROUP]) * (float)codes[i];
}

static void widen_q4(const uint8_t *codes, const uint16_t *scales, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = convert_f16_to_f32(scales[i / KV_GROUP]) *
                 (float)((codes[i / 2] >> i % 2 * 4 & 15) - 8);
}

static void narrow(const float *x, uint16_t *half, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) half[i] = convert_f32_to_f16(x[i]);
}

static void score_query(const attn_score *a, const float *q, float *s) {
    for (uint32_t t = a->begin; t < a->end; t += ATTN_LANES) {
        float sum[ATTN_LANES] = {0};
        const float *keys = a->keys + (size_t)t * a->dim;
        for (uint32_t d = 0; d < a->dim; d++, keys += ATTN_LANES)
            for (uint32_t l = 0; l < ATTN_LANES; l++) sum[l] += q[d] * keys[l];
        memcpy(s + t, sum, sizeof sum);
    }
}

static void score(const attn_score *a) {
    cpu_ahead ahead = cpu_ahead_for(a->ahead, 0);
    cpu_ahead_fetch(&ahead);
    for (size_t i = 0; i < a->queries; i++)
        score_query(a, a->q + i * a->dim, a->scores + i * ATTN_SPAN);
}

static void soften(float *s, uint32_t begin, uint32_t end, attn_state *state, float *out,
                   uint32_t cols) {
    float max = state->max, sum = 0;
    for (uint32_t t = begin; t < end; t++) max = fmaxf(max, s[t]);
    if (max > state->max) {
        float factor = expf(state->max - max);
        state->max = max;
        state->sum *= factor;
        for (uint32_t c = 0; c < cols; c++) out[c] *= factor;
    }
    for (uint32_t t = begin; t < end; t++) sum += s[t] = expf(s[t] - max);
    state->sum += sum;
}

static void mix_query(const attn_mix *a, const float *p, float *out) {
    for (uint32_t c = 0; c < a->cols; c += ATTN_LANES) {
        float sum[ATTN_LANES];
        memcpy(sum, out + c, sizeof sum);
        for (uint32_t t = a->begin; t < a->end; t++) {
            const float *row = a->values + (size_t)t * a->stride + c;
            for (uint32_t l = 0; l < ATTN_LANES; l++) sum[l] += p[t] * row[l];
        }
        memcpy(out + c, sum, sizeof sum);
    }
}

static void mix(const attn_mix *a) {
    cpu_ahead ahead = cpu_ahead_for(a->ahead, 0);
    cpu_ahead_fetch(&ahead);
    for (size_t i = 0; i < a->queries; i++)
        mix_query(a, a->p + i * ATTN_SPAN, a->out + i * a->stride);
}

static void mix_f32(const float *p, const void *v, uint32_t stride, uint32_t dim, uint32_t n,
                    float *y) {
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t i = 0; i < dim; i++) y[i] += p[t] * get_f32(v, t * stride + i);
}

/* --- states -------------------- */

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
    .matmul_f32 = cpu_floats_scalar_f32,
    .matmul_f16 = cpu_floats_scalar_f16,
    .matmul_bf16 = cpu_floats_scalar_bf16,
    .matmul_rows = cpu_floats_scalar_rows,
    .dequant = dequant_row,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .act = cpu_act_scalar,
    .turn_keys = turn_keys,
    .widen_values = widen_values,
    .widen_q8 = widen_q8,
    .widen_q4 = widen_q4,
    .score = score,
    .soften = soften,
    .mix = mix,
    .narrow = narrow,
    .mix_f32 = mix_f32,
    .scan = scan,
    .wkv = wkv,
};
