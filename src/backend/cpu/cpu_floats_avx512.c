/* cpu_floats_avx512.c - products with float weights with AVX-512: one vector has the sixteen
 * lanes of an element.
 *
 * Four weight rows times up to six activation rows fill 24 of the 32 registers with lanes, and ten
 * loads serve 24 multiply-adds. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/cpu_floats.h"
#include "base/num.h"

#define INLINE static inline __attribute__((always_inline))

enum { W = 4, X = 6 }; /* of a tile */

/* --- loads: sixteen columns from c on, or those of them under the mask, zeros else ---------- */
typedef __m512 load_fn(const void *row, size_t c, __mmask16 mask);

INLINE __m512 load_f32(const void *row, size_t c, __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, (const float *)row + c);
}
INLINE __m512 load_f16(const void *row, size_t c, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)row + c));
}
INLINE __m512 load_bf16(const void *row, size_t c, __mmask16 mask) {
    __m256i b = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)row + c);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

/* Of the last, incomplete lanes; none when there are no such. */
INLINE __mmask16 rest_of(uint32_t cols) { return (__mmask16)((1u << cols % FLOAT_LANES) - 1u); }

/* --- tiles -------------------- */
typedef struct tile {
    __m512 lanes[X][W];
} tile;

/* One step: sixteen columns of n activation rows and four weight rows. */
INLINE void step(tile *t, const float *const *x, const char *const *w, size_t c, __mmask16 mask,
                 load_fn *load, int n) {
    __m512 v[W];
    for (int j = 0; j < W; j++) v[j] = load(w[j], c, mask);
    for (int i = 0; i < n; i++) {
        __m512 u = load_f32(x[i], c, mask);
        for (int j = 0; j < W; j++) t->lanes[i][j] = _mm512_fmadd_ps(u, v[j], t->lanes[i][j]);
    }
}

INLINE void steps(tile *t, const float *const *x, const char *const *w, uint32_t cols,
                  load_fn *load, int n) {
    const uint32_t whole = cols - cols % FLOAT_LANES;
    for (uint32_t c = 0; c < whole; c += FLOAT_LANES) step(t, x, w, c, 0xffff, load, n);
    if (whole < cols) step(t, x, w, whole, rest_of(cols), load, n);
}

/* The same with whole weight rows, which come from memory. */
INLINE void far_steps(tile *t, const float *const *x, const char *const *w, const matmul_args *a,
                      float_share share, size_t elem_bytes, load_fn *load, int n) {
    const uint32_t line = (uint32_t)(CPU_LINE_BYTES / elem_bytes), whole = a->cols - a->cols % line;
    const char *rest[W];
    const float *x_rest[X];
    for (uint32_t c = 0; c < whole; c += line) {
        cpu_floats_fetch(w, W, c * elem_bytes, a->w_row_bytes, share);
        for (uint32_t i = 0; i < line; i += FLOAT_LANES) step(t, x, w, c + i, 0xffff, load, n);
    }
    if (whole == a->cols) return;
    for (int k = 0; k < W; k++) rest[k] = w[k] + whole * elem_bytes;
    for (int i = 0; i < n; i++) x_rest[i] = x[i] + whole;
    steps(t, x_rest, rest, a->cols - whole, load, n);
}

/* The sums of four times sixteen lanes: l + (l + 8), then + 4, + 2, + 1. */
INLINE __m128 sums_of(const __m512 *v) {
    __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44),
                             _mm512_shuffle_f32x4(v[0], v[1], 0xEE));
    __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44),
                             _mm512_shuffle_f32x4(v[2], v[3], 0xEE));
    __m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4E));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xB1));
    const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, s));
}

/* What is left to do with the lanes of n activation rows from r on. */
INLINE void put(const tile *t, const float_panel *p, uint32_t j, uint32_t r, int n) {
    const uint32_t rows = num_min_u32(W, p->rows - j);
    const __mmask8 real = (__mmask8)((1u << rows) - 1u);
    __m128 sums[X];
    for (int i = 0; i < n; i++) sums[i] = sums_of(t->lanes[i]);
    for (int i = 0; i < n; i++) {
        const size_t at = (r + (size_t)i) * p->out_cols + j;
        __m128 v = sums[i];
        if (p->bias != NULL) v = _mm_add_ps(v, _mm_maskz_loadu_ps(real, p->bias + j));
        if (p->add != NULL) v = _mm_add_ps(_mm_maskz_loadu_ps(real, p->add + at), v);
        _mm_mask_storeu_ps(p->out + at, real, v);
    }
}

/* --- panels -------------------- */
/* Of activation row i and panel row k, from the first of a tile. */
INLINE size_t lanes_at(int i, int k) {
    return ((size_t)i * FLOAT_PANEL_ROWS + (size_t)k) * FLOAT_LANES;
}

/* Weight rows j .. j + 3 of the panel, activation rows r .. r + n - 1. */
INLINE void panel_tile(const float_panel *p, uint32_t j, uint32_t r, int n) {
    const __mmask16 begun = p->first ? 0 : 0xffff;
    float *kept = p->lanes + ((size_t)r * FLOAT_PANEL_ROWS + j) * FLOAT_LANES;
    const float *x[X];
    const char *w[W];
    tile t;
    for (int i = 0; i < n; i++) x[i] = p->x + (r + (size_t)i) * p->x_stride;
    for (int k = 0; k < W; k++) w[k] = (const char *)(p->w + (j + (size_t)k) * FLOAT_COLS);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < W; k++)
            t.lanes[i][k] = _mm512_maskz_loadu_ps(begun, kept + lanes_at(i, k));
    steps(&t, x, w, p->cols, load_f32, n);
    if (p->last) {
        put(&t, p, j, r, n);
        return;
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < W; k++) _mm512_storeu_ps(kept + lanes_at(i, k), t.lanes[i][k]);
}

INLINE void panel_rows(const float_panel *p, uint32_t r, int n) {
    for (uint32_t j = 0; j < p->rows; j += W) panel_tile(p, j, r, n);
}

static void panel(const float_panel *p) {
    uint32_t r = 0;
    for (; r + X <= p->x_rows; r += X) panel_rows(p, r, X);
    switch (p->x_rows - r) {
    case 1:
        panel_rows(p, r, 1);
        break;
    case 2:
        panel_rows(p, r, 2);
        break;
    case 3:
        panel_rows(p, r, 3);
        break;
    case 4:
        panel_rows(p, r, 4);
        break;
    case 5:
        panel_rows(p, r, 5);
        break;
    default:
        break;
    }
}

/* --- weights where they lie -------------------- */
/* Weight rows j .. row1 - 1, at most four of them: missing ones are the last one again. */
INLINE void direct_tile(const matmul_args *a, uint32_t j, uint32_t row1, uint32_t r,
                        float_share share, size_t elem_bytes, load_fn *load, int n) {
    const uint32_t rows = num_min_u32(W, row1 - j);
    const float *x[X];
    const char *w[W];
    tile t;
    for (int i = 0; i < n; i++) x[i] = a->x + (r + (size_t)i) * a->cols;
    for (uint32_t k = 0; k < W; k++)
        w[k] = (const char *)a->w + (j + (size_t)num_min_u32(k, rows - 1)) * a->w_row_bytes;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < W; k++) t.lanes[i][k] = _mm512_setzero_ps();
    far_steps(&t, x, w, a, share, elem_bytes, load, n);
    float_panel p = {.rows = rows,
                     .bias = a->bias != NULL ? a->bias + j : NULL,
                     .add = a->add != NULL ? a->add + j : NULL,
                     .out = a->out + j,
                     .out_cols = a->out_cols};
    put(&t, &p, 0, r, n);
}

/* All activation rows, in equal shares of at most six, for four weight rows, then the next. */
INLINE void direct(const matmul_args *a, uint32_t row0, uint32_t row1, size_t elem_bytes,
                   load_fn *load) {
    const uint32_t shares = num_div_up_u32(a->x_rows, X);
    for (uint32_t j = row0; j < row1; j += W) {
        for (uint32_t s = 0, r = 0; s < shares; s++) {
            const float_share share = {s, shares};
            const uint32_t n = num_div_up_u32(a->x_rows - r, shares - s);
            switch (n) {
            case 1:
                direct_tile(a, j, row1, r, share, elem_bytes, load, 1);
                break;
            case 2:
                direct_tile(a, j, row1, r, share, elem_bytes, load, 2);
                break;
            case 3:
                direct_tile(a, j, row1, r, share, elem_bytes, load, 3);
                break;
            case 4:
                direct_tile(a, j, row1, r, share, elem_bytes, load, 4);
                break;
            case 5:
                direct_tile(a, j, row1, r, share, elem_bytes, load, 5);
                break;
            default:
                direct_tile(a, j, row1, r, share, elem_bytes, load, 6);
                break;
            }
            r += n;
        }
    }
}

/* --- one type -------------------- */
static const float_kernels kernels = {
    .panel = panel, .dequant = cpu_dequant_avx2, .direct_rows_max = 12};

/* Columns of a row as f32; several at a time, since conversions take long to come through. */
INLINE void fill(const void *row, size_t col0, uint32_t cols, load_fn *load, float *out) {
    enum { TURN = 4 };
    const uint32_t whole = cols - cols % FLOAT_LANES;
    uint32_t c = 0;
    for (; c + TURN * FLOAT_LANES <= whole; c += TURN * FLOAT_LANES) {
        __m512 v[TURN];
        for (size_t i = 0; i < TURN; i++) v[i] = load(row, col0 + c + i * FLOAT_LANES, 0xffff);
        for (size_t i = 0; i < TURN; i++) _mm512_storeu_ps(out + c + i * FLOAT_LANES, v[i]);
    }
    for (; c < whole; c += FLOAT_LANES) _mm512_storeu_ps(out + c, load(row, col0 + c, 0xffff));
    if (c < cols) _mm512_storeu_ps(out + c, load(row, col0 + c, rest_of(cols)));
}

#define DEFINE_FLOATS(type, elem_bytes)                                                  \
    static void direct_##type(const matmul_args *a, uint32_t row0, uint32_t row1) {      \
        direct(a, row0, row1, elem_bytes, load_##type);                                  \
    }                                                                                    \
    static void fill_##type(const void *row, uint32_t col0, uint32_t cols, float *out) { \
        fill(row, col0, cols, load_##type, out);                                         \
    }                                                                                    \
    static void matmul_##type(const matmul_args *a, uint32_t row0, uint32_t row1) {      \
        cpu_floats_multiply(&kernels, direct_##type, fill_##type, a, row0, row1);        \
    }
DEFINE_FLOATS(f32, 4)
DEFINE_FLOATS(f16, 2)
DEFINE_FLOATS(bf16, 2)

static void matmul_rows(const matmul_args *a, uint32_t row0, uint32_t row1) {
    cpu_floats_panels(&kernels, NULL, a, row0, row1);
}

void cpu_floats_avx512(cpu_kernels *k) {
    k->matmul_f32 = matmul_f32;
    k->matmul_f16 = matmul_f16;
    k->matmul_bf16 = matmul_bf16;
    k->matmul_rows = matmul_rows;
}
#else
typedef int cpu_floats_avx512_is_for_x86_only; /* a translation unit holds a declaration */
#endif
