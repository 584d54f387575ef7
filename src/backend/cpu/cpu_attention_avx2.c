/* cpu_attention_avx2.c - attention with AVX2, FMA and F16C.
 *
 * Keys are turned, so that a vector holds one dimension of eight positions: a score is a chain of
 * multiply-adds through the dimensions in a lane of its own, and nothing is summed across lanes.
 * A tile of queries takes each vector of keys or values from the first cache and keeps its sums
 * in twelve registers. */
#if defined(__x86_64__)
#include <math.h>

#include "backend/batch.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_math_avx2.h"
#include "base/num.h"
#include "tensor/convert.h"

/* --- keys and values -------------------- */

/* Elements 0..7 of rows i and i + 8. */
INLINE __m256i two_rows(const uint16_t *k, size_t dim, size_t i) {
    __m256i low = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(k + i * dim)));
    return _mm256_inserti128_si256(low, _mm_loadu_si128((const __m128i *)(k + (i + 8) * dim)), 1);
}

/* One dimension of 16 positions. */
INLINE void store_f16(float *keys, __m256i h) {
    _mm256_store_ps(keys, _mm256_cvtph_ps(_mm256_castsi256_si128(h)));
    _mm256_store_ps(keys + LANES, _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)));
}

/* Eight dimensions: in each half of a register, eight rows of eight, turned in three rounds. */
INLINE void turn_8_f16(const uint16_t *k, uint32_t dim, float *keys) {
    __m256i one[8], two[8];
    for (size_t i = 0; i < 4; i++) { /* rows 2i and 2i + 1 */
        __m256i a = two_rows(k, dim, 2 * i), b = two_rows(k, dim, 2 * i + 1);
        one[i] = _mm256_unpacklo_epi16(a, b);     /* columns 0..3 */
        one[i + 4] = _mm256_unpackhi_epi16(a, b); /* columns 4..7 */
    }
    for (size_t i = 0; i < 8; i += 2) { /* rows 0..3 and 4..7 of two columns each */
        size_t to = i / 4 * 4 + i % 4 / 2;
        two[to] = _mm256_unpacklo_epi32(one[i], one[i + 1]);
        two[to + 2] = _mm256_unpackhi_epi32(one[i], one[i + 1]);
    }
    for (size_t i = 0; i < 8; i += 2) {
        store_f16(keys + i * ATTN_LANES, _mm256_unpacklo_epi64(two[i], two[i + 1]));
        store_f16(keys + (i + 1) * ATTN_LANES, _mm256_unpackhi_epi64(two[i], two[i + 1]));
    }
}

static void turn_keys_f16(const uint16_t *k, uint32_t dim, float *keys) {
    uint32_t d = 0;
    for (; d + LANES <= dim; d += LANES) turn_8_f16(k + d, dim, keys + (size_t)d * ATTN_LANES);
    for (; d < dim; d++)
        for (size_t t = 0; t < KV_BLOCK_TOKENS; t++)
            keys[(size_t)d * ATTN_LANES + t] = _cvtsh_ss(k[t * dim + d]);
}

/* Four dimensions of eight positions. */
INLINE void turn_4_f32(const float *k, size_t dim, float *keys) {
    __m256 r[4];
    for (size_t i = 0; i < 4; i++) /* rows i and i + 4 */
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(k + i * dim)),
                                    _mm_loadu_ps(k + (i + 4) * dim), 1);
    __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1]));
    __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
    __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
    __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    _mm256_store_ps(keys, _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23)));
    _mm256_store_ps(keys + ATTN_LANES, _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23)));
    _mm256_store_ps(keys + (size_t)2 * ATTN_LANES,
                    _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23)));
    _mm256_store_ps(keys + (size_t)3 * ATTN_LANES,
                    _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23)));
}

static void turn_keys_f32(const float *k, size_t dim, float *keys) {
    size_t d = 0;
    for (; d + 4 <= dim; d += 4) {
        turn_4_f32(k + d, dim, keys + d * ATTN_LANES);
        turn_4_f32(k + LANES * dim + d, dim, keys + d * ATTN_LANES + LANES);
    }
    for (; d < dim; d++)
        for (size_t t = 0; t < KV_BLOCK_TOKENS; t++) keys[d * ATTN_LANES + t] = k[t * dim + d];
}

void cpu_turn_keys_avx2(dtype type, const void *rows, uint32_t dim, float *keys) {
    if (type == DTYPE_F16)
        turn_keys_f16(rows, dim, keys);
    else
        turn_keys_f32(rows, dim, keys);
}

INLINE void widen_row_f16(const uint16_t *row, uint32_t dim, float *out) {
    uint32_t c = 0;
    for (; c + LANES <= dim; c += LANES)
        _mm256_store_ps(out + c, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + c))));
    for (; c < dim; c++) out[c] = _cvtsh_ss(row[c]);
}

static void widen_values(dtype type, const void *rows, uint32_t stride, uint32_t dim,
                         float *values) {
    const uint32_t cols = (dim + ATTN_LANES - 1) / ATTN_LANES * ATTN_LANES;
    for (size_t t = 0; t < KV_BLOCK_TOKENS; t++, values += cols) {
        if (type == DTYPE_F16)
            widen_row_f16((const uint16_t *)rows + t * stride, dim, values);
        else
            memcpy(values, (const float *)rows + t * stride, dim * sizeof *values);
        for (uint32_t c = dim; c < cols; c++) values[c] = 0;
    }
}

static void widen_q8(const int8_t *codes, const uint16_t *scales, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i += LANES) {
        const __m128i eight = _mm_loadl_epi64((const __m128i *)(codes + i));
        const __m256 scale = _mm256_set1_ps(_cvtsh_ss(scales[i / KV_GROUP]));
        _mm256_storeu_ps(out + i,
                         _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight))));
    }
}

/* 16 at a time: low and high halves of 8 bytes, dealt out in turn. */
static void widen_q4(const uint8_t *codes, const uint16_t *scales, uint32_t n, float *out) {
    const __m128i low = _mm_set1_epi8(15), middle = _mm_set1_epi8(8);
    for (uint32_t i = 0; i < n; i += 2 * LANES) {
        const __m128i pairs = _mm_loadl_epi64((const __m128i *)(codes + i / 2));
        const __m128i even = _mm_and_si128(pairs, low);
        const __m128i odd = _mm_and_si128(_mm_srli_epi16(pairs, 4), low);
        const __m128i bytes = _mm_sub_epi8(_mm_unpacklo_epi8(even, odd), middle);
        const __m256 scale = _mm256_set1_ps(_cvtsh_ss(scales[i / KV_GROUP]));
        const __m256i first = _mm256_cvtepi8_epi32(bytes);
        const __m256i second = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes));
        _mm256_storeu_ps(out + i, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(first)));
        _mm256_storeu_ps(out + i + LANES, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(second)));
    }
}

static void narrow(const float *x, uint16_t *half, uint32_t n) {
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm_storeu_si128((__m128i *)(half + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) half[i] = convert_f32_to_f16(x[i]);
}

/* --- scores -------------------- */

/* n queries against `vectors` vectors of keys from t on; both are constants where this lands. */
INLINE void score_tile(const attn_score *a, int n, int vectors, uint32_t t, cpu_ahead *ahead) {
    __m256 sum[ATTN_QUERIES][8];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = _mm256_setzero_ps();
    const size_t block = (size_t)a->dim * ATTN_LANES;
    const float *keys = a->keys + t / ATTN_LANES * block;
    for (size_t d = 0; d < a->dim; d++, keys += ATTN_LANES) {
        if (d % CPU_FETCH_STEP == 0) cpu_ahead_fetch(ahead);
        __m256 k[8];
        for (int v = 0; v < vectors; v++)
            k[v] = _mm256_load_ps(keys + v / 2 * block + (size_t)(v % 2) * LANES);
        for (int i = 0; i < n; i++) {
            __m256 q = _mm256_broadcast_ss(a->q + (size_t)i * a->dim + d);
            for (int v = 0; v < vectors; v++) sum[i][v] = _mm256_fmadd_ps(q, k[v], sum[i][v]);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(a->scores + (size_t)i * ATTN_SPAN + t + (size_t)v * LANES, sum[i][v]);
}

INLINE void score_all(const attn_score *a, int n, int vectors) {
    const uint32_t wide = (uint32_t)vectors * LANES;
    cpu_ahead ahead = cpu_ahead_for(a->ahead, num_div_up_size(a->end - a->begin, wide) * a->dim);
    uint32_t t = a->begin;
    for (; t + wide <= a->end; t += wide) score_tile(a, n, vectors, t, &ahead);
    for (; t < a->end; t += 2 * LANES) score_tile(a, n, 2, t, &ahead);
}

static void score(const attn_score *a) {
    switch (a->queries) {
    case 1:
        score_all(a, 1, 8);
        break;
    case 2:
        score_all(a, 2, 4);
        break;
    case 3:
        score_all(a, 3, 4);
        break;
    case 4:
        score_all(a, 4, 2);
        break;
    case 5:
        score_all(a, 5, 2);
        break;
    default:
        score_all(a, ATTN_QUERIES, 2);
        break;
    }
}

/* --- softmax -------------------- */

/* exp(x), or 0 where that cuts off, and for what is no number. */
INLINE __m256 exp_or_0(__m256 x) {
    return _mm256_and_ps(exp8(x), _mm256_cmp_ps(x, _mm256_set1_ps(-87.3f), _CMP_GE_OQ));
}

static void shrink(float *out, uint32_t cols, float factor) {
    for (uint32_t c = 0; c < cols; c += LANES)
        _mm256_storeu_ps(out + c, _mm256_mul_ps(_mm256_loadu_ps(out + c), _mm256_set1_ps(factor)));
}

/* What stands in the vectors of the range and is not in it. */
static void hide(float *s, uint32_t begin, uint32_t end) {
    for (uint32_t t = begin / ATTN_LANES * ATTN_LANES; t < begin; t++) s[t] = -INFINITY;
    for (uint32_t t = end; t % ATTN_LANES != 0; t++) s[t] = -INFINITY;
}

/* The even vectors have one sum and the odd ones another: together sixteen lanes. */
static void soften(float *s, uint32_t begin, uint32_t end, attn_state *state, float *out,
                   uint32_t cols) {
    const uint32_t first = begin / ATTN_LANES * ATTN_LANES;
    __m256 max = _mm256_set1_ps(-INFINITY), sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    hide(s, begin, end);
    for (uint32_t t = first; t < end; t += ATTN_LANES)
        max = _mm256_max_ps(max,
                            _mm256_max_ps(_mm256_loadu_ps(s + t), _mm256_loadu_ps(s + t + LANES)));
    float top = max_lanes(max);
    if (top > state->max) {
        float factor = _mm256_cvtss_f32(exp_or_0(_mm256_set1_ps(state->max - top)));
        state->max = top;
        state->sum *= factor;
        shrink(out, cols, factor);
    }
    const __m256 m = _mm256_set1_ps(state->max);
    for (uint32_t t = first; t < end; t += ATTN_LANES) {
        for (uint32_t h = 0; h < 2; h++) {
            float *at = s + t + (size_t)h * LANES;
            __m256 e = exp_or_0(_mm256_sub_ps(_mm256_loadu_ps(at), m));
            _mm256_storeu_ps(at, e);
            sum[h] = _mm256_add_ps(sum[h], e);
        }
    }
    state->sum += sum_lanes(_mm256_add_ps(sum[0], sum[1]));
}

/* --- values -------------------- */

INLINE void mix_tile(const attn_mix *a, int n, int vectors, uint32_t c, cpu_ahead *ahead) {
    __m256 sum[ATTN_QUERIES][8];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm256_loadu_ps(a->out + (size_t)i * a->stride + c + (size_t)v * LANES);
    const float *values = a->values + (size_t)a->begin * a->stride + c;
    for (size_t t = a->begin; t < a->end; t++, values += a->stride) {
        if (t % CPU_FETCH_STEP == 0) cpu_ahead_fetch(ahead);
        __m256 x[8];
        for (int v = 0; v < vectors; v++) x[v] = _mm256_load_ps(values + (size_t)v * LANES);
        for (int i = 0; i < n; i++) {
            __m256 p = _mm256_broadcast_ss(a->p + (size_t)i * ATTN_SPAN + t);
            for (int v = 0; v < vectors; v++) sum[i][v] = _mm256_fmadd_ps(p, x[v], sum[i][v]);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_ps(a->out + (size_t)i * a->stride + c + (size_t)v * LANES, sum[i][v]);
}

INLINE void mix_all(const attn_mix *a, int n, int vectors) {
    const uint32_t wide = (uint32_t)vectors * LANES;
    cpu_ahead ahead = cpu_ahead_for(a->ahead, num_div_up_size(a->cols, wide) * (a->end - a->begin));
    uint32_t c = 0;
    for (; c + wide <= a->cols; c += wide) mix_tile(a, n, vectors, c, &ahead);
    for (; c < a->cols; c += 2 * LANES) mix_tile(a, n, 2, c, &ahead);
}

static void mix(const attn_mix *a) {
    switch (a->queries) {
    case 1:
        mix_all(a, 1, 8);
        break;
    case 2:
        mix_all(a, 2, 4);
        break;
    case 3:
        mix_all(a, 3, 4);
        break;
    case 4:
        mix_all(a, 4, 2);
        break;
    case 5:
        mix_all(a, 5, 2);
        break;
    default:
        mix_all(a, ATTN_QUERIES, 2);
        break;
    }
}

void cpu_attention_avx2(cpu_kernels *k) {
    k->turn_keys = cpu_turn_keys_avx2;
    k->widen_values = widen_values;
    k->widen_q8 = widen_q8;
    k->widen_q4 = widen_q4;
    k->narrow = narrow;
    k->score = score;
    k->soften = soften;
    k->mix = mix;
}
#else
typedef int cpu_attention_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
