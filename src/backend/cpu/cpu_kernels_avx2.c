/* cpu_kernels_avx2.c - AVX2 + FMA + F16C.  Built with those flags only; chosen at run time.
 *
 * A float dot keeps two accumulators of eight lanes (16 columns a turn), then one turn of
 * eight, then single columns; a block dot keeps one accumulator of eight lanes and adds
 * float(exact int32 partial sums) * (weight scale * activation scale) per block.  Tiles
 * compute one weight row against up to TILE activation rows, each with accumulators of
 * its own, so an element is the same in every tile. */
#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_math_avx2.h"
#include "tensor/convert.h"

enum { TILE = 4 };

/* --- loads -------------------- */
INLINE __m256 load_f32(const void *p, size_t i) { return _mm256_loadu_ps((const float *)p + i); }
INLINE __m256 load_f16(const void *p, size_t i) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)p + i)));
}
INLINE __m256 load_bf16(const void *p, size_t i) {
    __m128i b = _mm_loadu_si128((const __m128i *)((const uint16_t *)p + i));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
}
INLINE float one_f32(const void *p, size_t i) {
    float v;
    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return v;
}
INLINE float one_f16(const void *p, size_t i) {
    uint16_t v;
    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return _cvtsh_ss(v);
}
INLINE float one_bf16(const void *p, size_t i) {
    uint16_t v;
    memcpy(&v, (const char *)p + i * sizeof v, sizeof v);
    return convert_bf16_to_f32(v);
}

INLINE void store(const matmul_args *a, uint32_t r, uint32_t j, float v) {
    size_t at = (size_t)r * a->out_cols + j;
    if (a->bias != NULL) v += a->bias[j];
    if (a->add != NULL) v = a->add[at] + v;
    a->out[at] = v;
}

/* --- matmul, float weights -------------------- */
#define DEFINE_MATMUL_FLOAT(type)                                                              \
    /* one weight row against n <= TILE activation rows, stride `cols` */                      \
    INLINE void dots_##type(const float *x, const void *w, uint32_t cols, int n, float *out) { \
        __m256 a0[TILE], a1[TILE];                                                             \
        for (int i = 0; i < n; i++) a0[i] = a1[i] = _mm256_setzero_ps();                       \
        uint32_t c = 0;                                                                        \
        for (; c + 2 * LANES <= cols; c += 2 * LANES) {                                        \
            __m256 w0 = load_##type(w, c), w1 = load_##type(w, c + LANES);                     \
            for (int i = 0; i < n; i++) {                                                      \
                const float *xi = x + (size_t)i * cols + c;                                    \
                a0[i] = _mm256_fmadd_ps(_mm256_loadu_ps(xi), w0, a0[i]);                       \
                a1[i] = _mm256_fmadd_ps(_mm256_loadu_ps(xi + LANES), w1, a1[i]);               \
            }                                                                                  \
        }                                                                                      \
        for (; c + LANES <= cols; c += LANES) {                                                \
            __m256 w0 = load_##type(w, c);                                                     \
            for (int i = 0; i < n; i++)                                                        \
                a0[i] = _mm256_fmadd_ps(_mm256_loadu_ps(x + (size_t)i * cols + c), w0, a0[i]); \
        }                                                                                      \
        for (int i = 0; i < n; i++) {                                                          \
            float sum = sum_lanes(_mm256_add_ps(a0[i], a1[i]));                                \
            for (uint32_t t = c; t < cols; t++)                                                \
                sum = fmaf(x[(size_t)i * cols + t], one_##type(w, t), sum);                    \
            out[i] = sum;                                                                      \
        }                                                                                      \
    }                                                                                          \
    static void matmul_##type(const matmul_args *a, uint32_t row0, uint32_t row1) {            \
        float out[TILE];                                                                       \
        for (uint32_t r = 0; r < a->x_rows; r += TILE) {                                       \
            const float *x = a->x + (size_t)r * a->cols;                                       \
            uint32_t n = a->x_rows - r < TILE ? a->x_rows - r : TILE;                          \
            for (uint32_t j = row0; j < row1; j++) {                                           \
                const char *w = (const char *)a->w + j * a->w_row_bytes;                       \
                switch (n) {                                                                   \
                case 1:                                                                        \
                    dots_##type(x, w, a->cols, 1, out);                                        \
                    break;                                                                     \
                case 2:                                                                        \
                    dots_##type(x, w, a->cols, 2, out);                                        \
                    break;                                                                     \
                case 3:                                                                        \
                    dots_##type(x, w, a->cols, 3, out);                                        \
                    break;                                                                     \
                default:                                                                       \
                    dots_##type(x, w, a->cols, TILE, out);                                     \
                    break;                                                                     \
                }                                                                              \
                for (uint32_t i = 0; i < n; i++) store(a, r + i, j, out[i]);                   \
            }                                                                                  \
        }                                                                                      \
    }
DEFINE_MATMUL_FLOAT(f32)
DEFINE_MATMUL_FLOAT(f16)
DEFINE_MATMUL_FLOAT(bf16)

/* --- matmul, block weights -------------------- */
/* 32 weights of a block, widened to int16. */
typedef struct block_i16 {
    __m256i low, high;
} block_i16;

INLINE block_i16 widen(__m128i low, __m128i high) {
    return (block_i16){_mm256_cvtepi8_epi16(low), _mm256_cvtepi8_epi16(high)};
}
INLINE block_i16 block_q8_0(const uint8_t *b) {
    const __m128i *q = (const __m128i *)(b + 2);
    return widen(_mm_loadu_si128(q), _mm_loadu_si128(q + 1));
}
INLINE block_i16 block_q4_0(const uint8_t *b) {
    const __m128i mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    __m128i packed = _mm_loadu_si128((const __m128i *)(b + 2));
    __m128i low = _mm_and_si128(packed, mask);
    __m128i high = _mm_and_si128(_mm_srli_epi16(packed, 4), mask);
    return widen(_mm_sub_epi8(low, eight), _mm_sub_epi8(high, eight));
}

/* Eight int32 partial sums of w . x over 32 pairs: exact. */
INLINE __m256i dot_i16(block_i16 w, const int16_t *x) {
    __m256i x0 = _mm256_loadu_si256((const __m256i *)x);
    __m256i x1 = _mm256_loadu_si256((const __m256i *)(x + 16));
    return _mm256_add_epi32(_mm256_madd_epi16(w.low, x0), _mm256_madd_epi16(w.high, x1));
}

#define DEFINE_MATMUL_BLOCK(type, block_bytes)                                                   \
    INLINE void dots_##type(const int16_t *xq, const float *xs, const uint8_t *w, uint32_t cols, \
                            int n, float *out) {                                                 \
        uint32_t blocks = cols / ACT_BLOCK;                                                      \
        __m256 acc[TILE];                                                                        \
        for (int i = 0; i < n; i++) acc[i] = _mm256_setzero_ps();                                \
        for (uint32_t b = 0; b < blocks; b++, w += (block_bytes)) {                              \
            block_i16 wq = block_##type(w);                                                      \
            float d = one_f16(w, 0);                                                             \
            for (int i = 0; i < n; i++) {                                                        \
                const int16_t *xb = xq + (size_t)i * cols + (size_t)b * ACT_BLOCK;               \
                __m256i dot = dot_i16(wq, xb);                                                   \
                __m256 scale = _mm256_set1_ps(d * xs[(size_t)i * blocks + b]);                   \
                acc[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, acc[i]);                \
            }                                                                                    \
        }                                                                                        \
        for (int i = 0; i < n; i++) out[i] = sum_lanes(acc[i]);                                  \
    }                                                                                            \
    static void matmul_##type(const matmul_args *a, uint32_t row0, uint32_t row1) {              \
        float out[TILE];                                                                         \
        for (uint32_t r = 0; r < a->x_rows; r += TILE) {                                         \
            const int16_t *xq = a->xq + (size_t)r * a->cols;                                     \
            const float *xs = a->xs + (size_t)r * (a->cols / ACT_BLOCK);                         \
            uint32_t n = a->x_rows - r < TILE ? a->x_rows - r : TILE;                            \
            for (uint32_t j = row0; j < row1; j++) {                                             \
                const uint8_t *w = (const uint8_t *)a->w + j * a->w_row_bytes;                   \
                switch (n) {                                                                     \
                case 1:                                                                          \
                    dots_##type(xq, xs, w, a->cols, 1, out);                                     \
                    break;                                                                       \
                case 2:                                                                          \
                    dots_##type(xq, xs, w, a->cols, 2, out);                                     \
                    break;                                                                       \
                case 3:                                                                          \
                    dots_##type(xq, xs, w, a->cols, 3, out);                                     \
                    break;                                                                       \
                default:                                                                         \
                    dots_##type(xq, xs, w, a->cols, TILE, out);                                  \
                    break;                                                                       \
                }                                                                                \
                for (uint32_t i = 0; i < n; i++) store(a, r + i, j, out[i]);                     \
            }                                                                                    \
        }                                                                                        \
    }
DEFINE_MATMUL_BLOCK(q8_0, 34)
DEFINE_MATMUL_BLOCK(q4_0, 18)

static void quantize(const float *x, int16_t *q, float *scales, uint32_t cols) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (uint32_t b = 0; b < cols / ACT_BLOCK; b++, x += ACT_BLOCK, q += ACT_BLOCK) {
        __m256 v[4], max = _mm256_setzero_ps();
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + (size_t)i * LANES);
            max = _mm256_max_ps(max, _mm256_andnot_ps(sign, v[i]));
        }
        float m = max_lanes(max);
        __m256 inverse = _mm256_set1_ps(m > 0 ? 32767.0f / m : 0);
        scales[b] = m / 32767.0f;
        for (int i = 0; i < 4; i += 2) { /* cvtps rounds to nearest, ties to even */
            __m256i n0 = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
            __m256i n1 = _mm256_cvtps_epi32(_mm256_mul_ps(v[i + 1], inverse));
            /* packs works in halves: put the quarters back in order */
            __m256i pair = _mm256_permute4x64_epi64(_mm256_packs_epi32(n0, n1), 0xD8);
            _mm256_storeu_si256((__m256i *)(q + (size_t)i * LANES), pair);
        }
    }
}

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

/* --- attention -------------------- */
static float softmax(float *s, uint32_t n) {
    __m256 max = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
    for (uint32_t i = 0; i < n; i += LANES) { /* the buffer is padded to whole vectors */
        for (uint32_t k = n; k < i + LANES; k++) s[k] = -INFINITY;
        max = _mm256_max_ps(max, _mm256_loadu_ps(s + i));
    }
    __m256 m = _mm256_set1_ps(max_lanes(max));
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 d = _mm256_sub_ps(_mm256_loadu_ps(s + i), m);
        __m256 live = _mm256_cmp_ps(d, _mm256_set1_ps(-87.3f), _CMP_GE_OQ);
        __m256 e = _mm256_and_ps(exp8(d), live);
        _mm256_storeu_ps(s + i, e);
        sum = _mm256_add_ps(sum, e);
    }
    return sum_lanes(sum);
}

#define DEFINE_ATTENTION(type, elem_bytes)                                                     \
    static void scores_##type(const float *q, const void *k, uint32_t dim, uint32_t n,         \
                              float scale, float *out) {                                       \
        for (uint32_t t = 0; t < n; t++) {                                                     \
            dots_##type(q, (const char *)k + (size_t)t * dim * (elem_bytes), dim, 1, out + t); \
            out[t] *= scale;                                                                   \
        }                                                                                      \
    }                                                                                          \
    static void mix_##type(const float *p, const void *v, uint32_t stride, uint32_t dim,       \
                           uint32_t n, float *y) {                                             \
        uint32_t c = 0;                                                                        \
        for (; c + LANES <= dim; c += LANES) {                                                 \
            __m256 acc = _mm256_loadu_ps(y + c);                                               \
            for (uint32_t t = 0; t < n; t++)                                                   \
                acc = _mm256_fmadd_ps(_mm256_set1_ps(p[t]),                                    \
                                      load_##type(v, (size_t)t * stride + c), acc);            \
            _mm256_storeu_ps(y + c, acc);                                                      \
        }                                                                                      \
        for (; c < dim; c++)                                                                   \
            for (uint32_t t = 0; t < n; t++)                                                   \
                y[c] = fmaf(p[t], one_##type(v, (size_t)t * stride + c), y[c]);                \
    }
DEFINE_ATTENTION(f32, 4)
DEFINE_ATTENTION(f16, 2)

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
    .matmul_f32 = matmul_f32,
    .matmul_f16 = matmul_f16,
    .matmul_bf16 = matmul_bf16,
    .matmul_q8_0 = matmul_q8_0,
    .matmul_q4_0 = matmul_q4_0,
    .dequant = cpu_dequant_avx2,
    .quantize = quantize,
    .norm_rms = norm_rms,
    .norm_layer = norm_layer,
    .act = cpu_act_avx2,
    .scores_f32 = scores_f32,
    .scores_f16 = scores_f16,
    .softmax = softmax,
    .mix_f32 = mix_f32,
    .mix_f16 = mix_f16,
    .scan = scan,
    .wkv = wkv,
};
#else
typedef int cpu_kernels_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
