/* cpu_floats_avx2.c - products with float weights with AVX2: two vectors have the sixteen lanes
 * of an element.
 *
 * Twelve of the 16 registers have lanes.  Where the weights come from memory these are both vectors
 * of two weight rows times up to three activation rows; in panels one of four times three. */
#if defined(__x86_64__)
#include <string.h>

#include "backend/cpu/cpu_floats.h"
#include "backend/cpu/cpu_math_avx2.h"
#include "base/num.h"

enum { W = 2, X = 3, PANEL_W = 4 }; /* of tiles: weight and activation rows */

/* --- loads: eight columns from c on -------------------- */
typedef __m256 load_fn(const void *row, size_t c);

INLINE __m256 load_f32(const void *row, size_t c) {
    return _mm256_loadu_ps((const float *)row + c);
}
INLINE __m256 load_f16(const void *row, size_t c) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)row + c)));
}
INLINE __m256 load_bf16(const void *row, size_t c) {
    __m128i b = _mm_loadu_si128((const __m128i *)((const uint16_t *)row + c));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16));
}

/* --- tiles -------------------- */
typedef struct tile {
    __m256 lanes[X][W][2];
} tile;

/* Eight columns from c on of n activation rows and two weight rows, for one half of the lanes. */
INLINE void half_step(tile *t, const float *const *x, const void *const *w, size_t c, int half,
                      load_fn *load, int n) {
    __m256 w0 = load(w[0], c), w1 = load(w[1], c);
    for (int i = 0; i < n; i++) {
        __m256 u = load_f32(x[i], c);
        t->lanes[i][0][half] = _mm256_fmadd_ps(u, w0, t->lanes[i][0][half]);
        t->lanes[i][1][half] = _mm256_fmadd_ps(u, w1, t->lanes[i][1][half]);
    }
}

INLINE void step(tile *t, const float *const *x, const void *const *w, size_t c, load_fn *load,
                 int n) {
    half_step(t, x, w, c, 0, load, n);
    half_step(t, x, w, c + LANES, 1, load, n);
}

/* The step that is not whole, from copies with zeros behind the end. */
INLINE void last_step(tile *t, const float *const *x, const void *const *w, size_t c, uint32_t rest,
                      size_t elem_bytes, load_fn *load, int n) {
    float xs[X][FLOAT_LANES] = {{0}}, ws[W][FLOAT_LANES] = {{0}};
    const float *x_copies[X];
    const void *w_copies[W] = {ws[0], ws[1]};
    for (int i = 0; i < n; i++) {
        memcpy(xs[i], x[i] + c, rest * sizeof(float));
        x_copies[i] = xs[i];
    }
    for (int j = 0; j < W; j++)
        memcpy(ws[j], (const char *)w[j] + c * elem_bytes, rest * elem_bytes);
    step(t, x_copies, w_copies, 0, load, n);
}

INLINE void steps(tile *t, const float *const *x, const void *const *w, uint32_t cols,
                  size_t elem_bytes, load_fn *load, int n) {
    const uint32_t rest = cols % FLOAT_LANES, whole = cols - rest;
    for (uint32_t c = 0; c < whole; c += FLOAT_LANES) step(t, x, w, c, load, n);
    if (rest != 0) last_step(t, x, w, whole, rest, elem_bytes, load, n);
}

/* The same with whole weight rows, which come from memory. */
INLINE void far_steps(tile *t, const float *const *x, const char *const *w, const matmul_args *a,
                      float_share share, size_t elem_bytes, load_fn *load, int n) {
    const uint32_t line = (uint32_t)(CPU_LINE_BYTES / elem_bytes), whole = a->cols - a->cols % line;
    const void *rest[W];
    const float *x_rest[X];
    for (uint32_t c = 0; c < whole; c += line) {
        cpu_floats_fetch(w, W, c * elem_bytes, a->w_row_bytes, share);
        for (uint32_t i = 0; i < line; i += FLOAT_LANES)
            step(t, x, (const void *const *)w, c + i, load, n);
    }
    if (whole == a->cols) return;
    for (int k = 0; k < W; k++) rest[k] = w[k] + whole * elem_bytes;
    for (int i = 0; i < n; i++) x_rest[i] = x[i] + whole;
    steps(t, x_rest, rest, a->cols - whole, elem_bytes, load, n);
}

/* Element [r, j]. */
INLINE void put(const float_panel *p, uint32_t j, uint32_t r, float sum) {
    const size_t at = r * p->out_cols + j;
    p->out[at] = cpu_floats_finish(sum, p->bias != NULL ? p->bias + j : NULL,
                                   p->add != NULL ? p->add + at : NULL);
}

/* --- panels -------------------- */
/* Of activation row i and panel row k, from the first of a tile. */
INLINE size_t lanes_at(int i, int k) {
    return ((size_t)i * FLOAT_PANEL_ROWS + (size_t)k) * FLOAT_LANES;
}

/* Eight columns from c on of n activation rows and four panel rows; x_mask is of the columns that
 * there are. */
INLINE void wide_step(__m256 lanes[X][PANEL_W], const float *const *x, const float *w, size_t c,
                      const __m256i *x_mask, int n) {
    __m256 u[X];
    for (int i = 0; i < n; i++)
        u[i] = x_mask != NULL ? _mm256_maskload_ps(x[i] + c, *x_mask) : load_f32(x[i], c);
    for (int k = 0; k < PANEL_W; k++) {
        __m256 v = load_f32(w, (size_t)k * FLOAT_COLS + c);
        for (int i = 0; i < n; i++) lanes[i][k] = _mm256_fmadd_ps(u[i], v, lanes[i][k]);
    }
}

/* Lanes 0..7 or 8..15 of a tile: `from` (or 0) goes on and is stored at `to`. */
INLINE void half_tile(const float_panel *p, const float *w, const float *const *x, int half,
                      const float *from, float *to, int n) {
    const uint32_t rest = p->cols % FLOAT_LANES, whole = p->cols - rest;
    const size_t first = (size_t)half * LANES;
    __m256 lanes[X][PANEL_W];
    for (int i = 0; i < n; i++)
        for (int k = 0; k < PANEL_W; k++)
            lanes[i][k] =
                from == NULL ? _mm256_setzero_ps() : _mm256_loadu_ps(from + lanes_at(i, k) + first);
    for (uint32_t c = 0; c < whole; c += FLOAT_LANES) wide_step(lanes, x, w, first + c, NULL, n);
    if (rest != 0) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)rest - half * LANES), lane);
        wide_step(lanes, x, w, first + whole, &mask, n);
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < PANEL_W; k++)
            _mm256_storeu_ps(to + lanes_at(i, k) + first, lanes[i][k]);
}

INLINE void put_panel(const float_panel *p, uint32_t j, uint32_t r, const float *lanes, int n) {
    const uint32_t rows = num_min_u32(PANEL_W, p->rows - j);
    for (int i = 0; i < n; i++) {
        for (uint32_t k = 0; k < rows; k++) {
            const float *of = lanes + lanes_at(i, (int)k);
            float sum = sum_lanes(_mm256_add_ps(load_f32(of, 0), load_f32(of, LANES)));
            put(p, j + k, r + (uint32_t)i, sum);
        }
    }
}

/* Panel rows j .. j + 3, activation rows r .. r + n - 1.  One half of the lanes after the other:
 * twelve registers are then four times three rows, and seven loads serve twelve multiply-adds. */
INLINE void panel_tile(const float_panel *p, uint32_t j, uint32_t r, int n) {
    float done[X * FLOAT_PANEL_ROWS * FLOAT_LANES];
    float *kept = p->lanes + ((size_t)r * FLOAT_PANEL_ROWS + j) * FLOAT_LANES;
    const float *x[X], *w = p->w + (size_t)j * FLOAT_COLS;
    for (int i = 0; i < n; i++) x[i] = p->x + (r + (size_t)i) * p->x_stride;
    for (int half = 0; half < 2; half++)
        half_tile(p, w, x, half, p->first ? NULL : kept, p->last ? done : kept, n);
    if (p->last) put_panel(p, j, r, done, n);
}

INLINE void panel_rows(const float_panel *p, uint32_t r, int n) {
    for (uint32_t j = 0; j < p->rows; j += PANEL_W) panel_tile(p, j, r, n);
}

static void panel(const float_panel *p) {
    uint32_t r = 0;
    for (; r + X <= p->x_rows; r += X) panel_rows(p, r, X);
    if (p->x_rows - r == 1) panel_rows(p, r, 1);
    if (p->x_rows - r == 2) panel_rows(p, r, 2);
}

/* --- weights where they lie -------------------- */
/* Weight rows j and j + 1; at the end the last one twice. */
INLINE void direct_tile(const matmul_args *a, uint32_t j, uint32_t row1, uint32_t r,
                        float_share share, size_t elem_bytes, load_fn *load, int n) {
    const uint32_t rows = num_min_u32(W, row1 - j);
    const char *first = (const char *)a->w + j * a->w_row_bytes;
    const float *x[X];
    const char *w[W] = {first, rows == W ? first + a->w_row_bytes : first};
    const float_panel p = {.bias = a->bias, .add = a->add, .out = a->out, .out_cols = a->out_cols};
    tile t;
    for (int i = 0; i < n; i++) {
        x[i] = a->x + (r + (size_t)i) * a->cols;
        for (int k = 0; k < W; k++) t.lanes[i][k][0] = t.lanes[i][k][1] = _mm256_setzero_ps();
    }
    far_steps(&t, x, w, a, share, elem_bytes, load, n);
    for (int i = 0; i < n; i++) {
        float sums[W];
        for (int k = 0; k < W; k++)
            sums[k] = sum_lanes(_mm256_add_ps(t.lanes[i][k][0], t.lanes[i][k][1]));
        for (uint32_t k = 0; k < rows; k++) put(&p, j + k, r + (uint32_t)i, sums[k]);
    }
}

/* All activation rows for two weight rows, then the next. */
INLINE void direct(const matmul_args *a, uint32_t row0, uint32_t row1, size_t elem_bytes,
                   load_fn *load) {
    for (uint32_t j = row0; j < row1; j += W) {
        float_share share = {0, num_div_up_u32(a->x_rows, X)};
        uint32_t r = 0;
        for (; r + X <= a->x_rows; r += X, share.number++)
            direct_tile(a, j, row1, r, share, elem_bytes, load, X);
        if (a->x_rows - r == 1) direct_tile(a, j, row1, r, share, elem_bytes, load, 1);
        if (a->x_rows - r == 2) direct_tile(a, j, row1, r, share, elem_bytes, load, 2);
    }
}

/* --- one type -------------------- */
static const float_kernels kernels = {
    .panel = panel, .dequant = cpu_dequant_avx2, .direct_rows_max = 6};

/* Columns of a row as f32, the last lanes from a copy. */
INLINE void fill(const void *row, uint32_t col0, uint32_t cols, size_t elem_bytes, load_fn *load,
                 float *out) {
    const uint32_t rest = cols % FLOAT_LANES, whole = cols - rest;
    for (uint32_t c = 0; c < whole; c += LANES)
        _mm256_storeu_ps(out + c, load(row, (size_t)col0 + c));
    if (rest == 0) return;
    float copy[FLOAT_LANES] = {0};
    memcpy(copy, (const char *)row + ((size_t)col0 + whole) * elem_bytes, rest * elem_bytes);
    _mm256_storeu_ps(out + whole, load(copy, 0));
    _mm256_storeu_ps(out + whole + LANES, load(copy, LANES));
}

#define DEFINE_FLOATS(type, elem_bytes)                                                  \
    static void direct_##type(const matmul_args *a, uint32_t row0, uint32_t row1) {      \
        direct(a, row0, row1, elem_bytes, load_##type);                                  \
    }                                                                                    \
    static void fill_##type(const void *row, uint32_t col0, uint32_t cols, float *out) { \
        fill(row, col0, cols, elem_bytes, load_##type, out);                             \
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

void cpu_floats_avx2(cpu_kernels *k) {
    k->matmul_f32 = matmul_f32;
    k->matmul_f16 = matmul_f16;
    k->matmul_bf16 = matmul_bf16;
    k->matmul_rows = matmul_rows;
}
#else
typedef int cpu_floats_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
