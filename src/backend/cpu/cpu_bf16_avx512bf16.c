/* cpu_bf16_avx512bf16.c - cpu_bf16.h with AVX512-BF16.  Built with its flags only; chosen at run
 * time.
 *
 * VDPBF16PS adds two products to each lane of a vector of sums.  Up to 24 such vectors stay in
 * registers over the whole width: of so many activation rows that the groups of weight rows let in.
 * A turn takes a pair of columns: one load per group and one broadcast per row serve all their
 * products.  An element is one lane: pair after pair in ascending order, whatever the tile. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/cpu_bf16.h"
#include "backend/cpu/cpu_bf16_panels_avx512.h"
#include "base/num.h"

#define INLINE static inline __attribute__((always_inline))

enum { TILE_ROWS_MOST = 16 };

/* Sums of `rows` activation rows, both constants where this is inlined. */
INLINE void tile(const bf16_args *a, uint32_t r0, int rows, int groups) {
    const size_t group = (size_t)a->cols * PACK_ROWS;
    const uint16_t *x = a->x + r0 * a->x_stride, *w = a->panel;
    __m512 sum[TILE_ROWS_MOST][BF16_GROUPS];
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < groups; g++) sum[r][g] = _mm512_setzero_ps();
    for (uint32_t c = 0; c < a->cols; c += 2, w += PAIR) {
        __m512i of[BF16_GROUPS];
        for (int g = 0; g < groups; g++) of[g] = _mm512_loadu_si512(w + g * group);
        for (int r = 0; r < rows; r++) {
            int pair;
            memcpy(&pair, x + r * a->x_stride + c, sizeof pair);
            const __m512i both = _mm512_set1_epi32(pair);
            for (int g = 0; g < groups; g++)
                sum[r][g] = _mm512_dpbf16_ps(sum[r][g], (__m512bh)both, (__m512bh)of[g]);
        }
    }
    for (int r = 0; r < rows; r++) {
        float *out = a->out + (r0 + (size_t)r) * a->out_stride;
        for (int g = 0; g < groups; g++, out += PACK_ROWS)
            _mm512_storeu_ps(out,
                             a->add ? _mm512_add_ps(_mm512_loadu_ps(out), sum[r][g]) : sum[r][g]);
    }
}

/* X(rows, groups) */
/* clang-format off */
#define TILES(X)                             \
    X(1, 1) X(2, 1) X(4, 1) X(8, 1) X(16, 1) \
    X(1, 2) X(2, 2) X(4, 2) X(8, 2)          \
    X(1, 3) X(2, 3) X(4, 3) X(8, 3)          \
    X(1, 4) X(2, 4) X(3, 4) X(4, 4) X(5, 4) X(6, 4)
/* clang-format on */

#define TILE_FN(rows, groups)                                             \
    static void tile_##rows##_##groups(const bf16_args *a, uint32_t r0) { \
        tile(a, r0, rows, groups);                                        \
    }
TILES(TILE_FN)

typedef void tile_fn(const bf16_args *a, uint32_t r0);

static void multiply(const bf16_args *a) {
    static const uint32_t most[BF16_GROUPS] = {16, 8, 8, 6};
    static tile_fn *const tiles[BF16_GROUPS][TILE_ROWS_MOST] = {
#define TILE_ENTRY(rows, groups) [(groups)-1][(rows)-1] = tile_##rows##_##groups,
        TILES(TILE_ENTRY)
#undef TILE_ENTRY
    };
    tile_fn *const *of = tiles[a->groups - 1];
    /* parts alike: a tile of few rows waits for its own sums */
    const uint32_t parts = num_div_up_u32(a->rows, most[a->groups - 1]);
    const uint32_t each = a->rows / parts, more = a->rows % parts;
    for (uint32_t i = 0, r = 0; i < parts; i++) {
        for (uint32_t left = each + (i < more), n = 0; left > 0; left -= n, r += n) {
            n = left;
            while (of[n - 1] == NULL) n--;
            of[n - 1](a, r);
        }
    }
}

/* --- what comes before and between products -------------------- */

static void round_cols(const float *x, uint16_t *out, uint32_t cols) { round_row(x, out, cols); }

static void from_codes(const pack_panel *p, uint32_t blocks, uint16_t *panel) {
    panel_of_codes(p, blocks, panel);
}

static void from_rows(dtype type, const void *rows, uint32_t count, uint32_t cols,
                      uint16_t *panel) {
    panel_of_rows(type, rows, count, cols, panel);
}

static bool from_values(const bf16_values *v) { return panel_of_values(v); }

static void soften(const bf16_softmax *a) { soften_rows(a); }

const bf16_kernels cpu_bf16_avx512 = {.takes_packed = false,
                                      .round = round_cols,
                                      .from_codes = from_codes,
                                      .from_rows = from_rows,
                                      .from_values = from_values,
                                      .soften = soften,
                                      .multiply = multiply};
#endif
