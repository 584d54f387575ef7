/* cpu_attention_avx512.c - attention with vectors of sixteen floats: what cpu_attention_avx2.c
 * does, with the same bits.
 *
 * 24 of the 32 registers hold sums: of six queries four vectors, of values for three or fewer
 * eight. */
#if defined(__x86_64__)
#include <math.h>

#include "backend/batch.h"
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_math_avx2.h"
#include "backend/cpu/cpu_math_avx512.h"
#include "backend/cpu/cpu_transpose_avx512.h"
#include "base/num.h"

enum { WIDE = 16 };

/* --- values as f32 -------------------- */

INLINE void widen_row_f16(const uint16_t *row, uint32_t dim, float *out) {
    uint32_t c = 0;
    for (; c + 4 * WIDE <= dim; c += 4 * WIDE) /* conversions take long to come through */
#pragma GCC unroll 4
        for (uint32_t i = c; i < c + 4 * WIDE; i += WIDE)
            _mm512_store_ps(out + i,
                            _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + i))));
    for (; c + WIDE <= dim; c += WIDE)
        _mm512_store_ps(out + c, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + c))));
    if (c == dim) return;
    __m256i rest = _mm256_maskz_loadu_epi16((__mmask16)((1u << (dim - c)) - 1), row + c);
    _mm512_store_ps(out + c, _mm512_cvtph_ps(rest));
}

INLINE void widen_row_f32(const float *row, uint32_t dim, float *out) {
    uint32_t c = 0;
    for (; c + WIDE <= dim; c += WIDE) _mm512_store_ps(out + c, _mm512_loadu_ps(row + c));
    if (c == dim) return;
    _mm512_store_ps(out + c, _mm512_maskz_loadu_ps((__mmask16)((1u << (dim - c)) - 1), row + c));
}

static void widen_values(dtype type, const void *rows, uint32_t stride, uint32_t dim,
                         float *values) {
    const uint32_t cols = (dim + WIDE - 1) / WIDE * WIDE;
    if (type == DTYPE_F16 && stride == cols && dim == cols) { /* as if it were one row */
        widen_row_f16(rows, KV_BLOCK_TOKENS * dim, values);
        return;
    }
    for (size_t t = 0; t < KV_BLOCK_TOKENS; t++, values += cols) {
        if (type == DTYPE_F16)
            widen_row_f16((const uint16_t *)rows + t * stride, dim, values);
        else
            widen_row_f32((const float *)rows + t * stride, dim, values);
    }
}

/* --- keys, turned -------------------- */

/* Dimensions d and d + 1 of sixteen positions, a pair to a lane. */
INLINE void store_pair(float *keys, __m512i pairs) {
    const __m512i odd = _mm512_srli_epi32(pairs, 16);
    _mm512_store_ps(keys, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs)));
    _mm512_store_ps(keys + ATTN_LANES, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(odd)));
}

/* 32 dimensions of 16 positions, as a table of pairs. */
INLINE void turn_32_f16(const uint16_t *k, size_t dim, float *keys) {
    __m512i v[16];
    for (size_t i = 0; i < 16; i++) v[i] = _mm512_loadu_si512(k + i * dim);
    transpose(v);
    for (size_t i = 0; i < 16; i++) store_pair(keys + 2 * i * ATTN_LANES, v[i]);
}

static void turn_keys(dtype type, const void *rows, uint32_t dim, float *keys) {
    if (type != DTYPE_F16 || dim % 32 != 0) {
        cpu_turn_keys_avx2(type, rows, dim, keys);
        return;
    }
    for (size_t d = 0; d < dim; d += 32)
        turn_32_f16((const uint16_t *)rows + d, dim, keys + d * ATTN_LANES);
}

/* --- scores -------------------- */

/* n queries against `vectors` vectors of keys from t on; both are constants where this lands. */
INLINE void score_tile(const attn_score *a, int n, int vectors, uint32_t t, cpu_ahead *ahead) {
    __m512 sum[ATTN_QUERIES][8];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = _mm512_setzero_ps();
    const size_t block = (size_t)a->dim * WIDE;
    const float *keys = a->keys + t / WIDE * block;
    for (size_t d = 0; d < a->dim; d++, keys += WIDE) {
        if (d % CPU_FETCH_STEP == 0) cpu_ahead_fetch(ahead);
        __m512 q[ATTN_QUERIES];
        for (int i = 0; i < n; i++) q[i] = _mm512_set1_ps(a->q[(size_t)i * a->dim + d]);
        for (int v = 0; v < vectors; v++) {
            __m512 k = _mm512_load_ps(keys + (size_t)v * block);
            for (int i = 0; i < n; i++) sum[i][v] = _mm512_fmadd_ps(q[i], k, sum[i][v]);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(a->scores + (size_t)i * ATTN_SPAN + t + (size_t)v * WIDE, sum[i][v]);
}

INLINE void score_all(const attn_score *a, int n, int vectors) {
    const uint32_t wide = (uint32_t)vectors * WIDE;
    cpu_ahead ahead = cpu_ahead_for(a->ahead, num_div_up_size(a->end - a->begin, wide) * a->dim);
    uint32_t t = a->begin;
    for (; t + wide <= a->end; t += wide) score_tile(a, n, vectors, t, &ahead);
    for (; t < a->end; t += WIDE) score_tile(a, n, 1, t, &ahead);
}

static void score(const attn_score *a) {
    switch (a->queries) {
    case 1:
        score_all(a, 1, 4);
        break;
    case 2:
        score_all(a, 2, 4);
        break;
    case 3:
        score_all(a, 3, 4);
        break;
    case 4:
        score_all(a, 4, 4);
        break;
    case 5:
        score_all(a, 5, 4);
        break;
    default:
        score_all(a, ATTN_QUERIES, 4);
        break;
    }
}

/* --- softmax -------------------- */

/* The halves first: then the eight lanes of AVX2. */
INLINE __m256 low_half(__m512 v) { return _mm512_castps512_ps256(v); }
INLINE __m256 high_half(__m512 v) { return _mm512_extractf32x8_ps(v, 1); }

/* Scores t .. t + 15; -inf where they are not in [begin, end). */
INLINE __m512 scores_within(const float *s, uint32_t t, uint32_t begin, uint32_t end) {
    if (t >= begin && t + WIDE <= end) return _mm512_loadu_ps(s + t);
    uint32_t from = begin > t ? begin - t : 0, to = end - t < WIDE ? end - t : WIDE;
    __mmask16 within = (__mmask16)(((1u << to) - 1) & ~((1u << from) - 1));
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), within, s + t);
}

static void shrink(float *out, uint32_t cols, float factor) {
    for (uint32_t c = 0; c < cols; c += WIDE)
        _mm512_storeu_ps(out + c, _mm512_mul_ps(_mm512_loadu_ps(out + c), _mm512_set1_ps(factor)));
}

static void soften(float *s, uint32_t begin, uint32_t end, attn_state *state, float *out,
                   uint32_t cols) {
    const uint32_t first = begin / WIDE * WIDE;
    __m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (uint32_t t = first; t < end; t += WIDE)
        max = _mm512_max_ps(max, scores_within(s, t, begin, end));
    float top = max_lanes(_mm256_max_ps(low_half(max), high_half(max)));
    if (top > state->max) {
        float factor = _mm512_cvtss_f32(exp16(_mm512_set1_ps(state->max - top)));
        state->max = top;
        state->sum *= factor;
        shrink(out, cols, factor);
    }
    const __m512 m = _mm512_set1_ps(state->max);
    for (uint32_t t = first; t < end; t += WIDE) {
        __m512 e = exp16(_mm512_sub_ps(scores_within(s, t, begin, end), m));
        _mm512_storeu_ps(s + t, e);
        sum = _mm512_add_ps(sum, e);
    }
    state->sum += sum_lanes(_mm256_add_ps(low_half(sum), high_half(sum)));
}

/* --- values -------------------- */

INLINE void mix_tile(const attn_mix *a, int n, int vectors, uint32_t c, cpu_ahead *ahead) {
    __m512 sum[ATTN_QUERIES][8];
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm512_loadu_ps(a->out + (size_t)i * a->stride + c + (size_t)v * WIDE);
    const float *values = a->values + (size_t)a->begin * a->stride + c;
    for (size_t t = a->begin; t < a->end; t++, values += a->stride) {
        if (t % CPU_FETCH_STEP == 0) cpu_ahead_fetch(ahead);
        __m512 p[ATTN_QUERIES];
        for (int i = 0; i < n; i++) p[i] = _mm512_set1_ps(a->p[(size_t)i * ATTN_SPAN + t]);
        for (int v = 0; v < vectors; v++) {
            __m512 x = _mm512_loadu_ps(values + (size_t)v * WIDE);
            for (int i = 0; i < n; i++) sum[i][v] = _mm512_fmadd_ps(p[i], x, sum[i][v]);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(a->out + (size_t)i * a->stride + c + (size_t)v * WIDE, sum[i][v]);
}

INLINE void mix_all(const attn_mix *a, int n, int vectors) {
    const uint32_t wide = (uint32_t)vectors * WIDE;
    cpu_ahead ahead = cpu_ahead_for(a->ahead, num_div_up_size(a->cols, wide) * (a->end - a->begin));
    uint32_t c = 0;
    for (; c + wide <= a->cols; c += wide) mix_tile(a, n, vectors, c, &ahead);
    for (; c + 4 * WIDE <= a->cols; c += 4 * WIDE) mix_tile(a, n, 4, c, &ahead);
    for (; c < a->cols; c += WIDE) mix_tile(a, n, 1, c, &ahead);
}

static void mix(const attn_mix *a) {
    switch (a->queries) {
    case 1:
        mix_all(a, 1, 8);
        break;
    case 2:
        mix_all(a, 2, 8);
        break;
    case 3:
        mix_all(a, 3, 8);
        break;
    case 4:
        mix_all(a, 4, 4);
        break;
    case 5:
        mix_all(a, 5, 4);
        break;
    default:
        mix_all(a, ATTN_QUERIES, 4);
        break;
    }
}

void cpu_attention_avx512(cpu_kernels *k) {
    k->turn_keys = turn_keys;
    k->widen_values = widen_values;
    k->score = score;
    k->soften = soften;
    k->mix = mix;
}
#else
typedef int cpu_attention_avx512_is_for_x86_only; /* a translation unit holds a declaration */
#endif
