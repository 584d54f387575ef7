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
#include "base/num.h"

#define INLINE static inline __attribute__((always_inline))

enum { PAIR = 2 * PACK_ROWS, /* elements of a pair of columns of a group */ TILE_ROWS_MOST = 16 };

/* Sums of `rows` activation rows, both constants where this is inlined. */
INLINE void tile(const bf16_args *a, uint32_t r0, int rows, int groups) {
    const size_t group = (size_t)a->cols * PACK_ROWS, lanes = (size_t)groups * PACK_ROWS;
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
    float *out = a->out + r0 * lanes;
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < groups; g++)
            _mm512_storeu_ps(out + r * lanes + (size_t)g * PACK_ROWS, sum[r][g]);
}

typedef void tile_fn(const bf16_args *a, uint32_t r0);

#define TILE(rows, groups)                                                \
    static void tile_##rows##_##groups(const bf16_args *a, uint32_t r0) { \
        tile(a, r0, rows, groups);                                        \
    }
TILE(1, 1)
TILE(2, 1)
TILE(4, 1) TILE(8, 1) TILE(16, 1) TILE(1, 2) TILE(2, 2) TILE(4, 2) TILE(8, 2) TILE(1, 3) TILE(2, 3)
    TILE(4, 3) TILE(8, 3) TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 4)

        static void multiply(const bf16_args *a) {
    /* [groups - 1][rows - 1]; where there is none, a smaller one does */
    static tile_fn *const tiles[BF16_GROUPS][TILE_ROWS_MOST] = {
        {[0] = tile_1_1, [1] = tile_2_1, [3] = tile_4_1, [7] = tile_8_1, [15] = tile_16_1},
        {[0] = tile_1_2, [1] = tile_2_2, [3] = tile_4_2, [7] = tile_8_2},
        {[0] = tile_1_3, [1] = tile_2_3, [3] = tile_4_3, [7] = tile_8_3},
        {tile_1_4, tile_2_4, tile_3_4, tile_4_4, tile_5_4, tile_6_4}};
    static const uint32_t most[BF16_GROUPS] = {16, 8, 8, 6};
    tile_fn *const *of = tiles[a->groups - 1];
    for (uint32_t r = 0, n = 0; r < a->rows; r += n) {
        const uint32_t left = a->rows - r, parts = num_div_up_u32(left, most[a->groups - 1]);
        n = num_div_up_u32(left, parts); /* few rows at the end would be slow: parts alike */
        while (of[n - 1] == NULL) n--;
        of[n - 1](a, r);
    }
}

const bf16_kernels cpu_bf16_avx512 = {.takes_packed = false,
                                      .round = cpu_bf16_round,
                                      .from_codes = cpu_bf16_from_codes,
                                      .from_rows = cpu_bf16_from_rows,
                                      .multiply = multiply};
#endif
