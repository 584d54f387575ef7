/* cpu_dots_quad_avx512.c - four panels times activation rows: the tile of prompts.
 *
 * Ice Lake starts nearly two products of 64 bytes a cycle but loads little more than one vector, so
 * a tile is an outer product: for each u-vector four code vectors and one broadcast per row (fast:
 * six rows of one digit, exact: three rows of two) make 24 products from 10 loads.  The 24 integer
 * sums stay in registers for a block; f32 sums are in memory.  The same bits as dots(). */
#if defined(__x86_64__)
#include "backend/cpu/cpu_dots_avx512.h"

enum { PANELS = 4, FAST_ROWS = 6, EXACT_ROWS = 3 };

/* The arguments where no store can change them, as far as a compiler knows. */
typedef struct tile {
    const uint8_t *codes[PANELS];
    const float *scales[PANELS], *offsets[PANELS];
    const act_block *x; /* the first row of the tile */
    size_t row_blocks;
    float *acc; /* of the first row and panel */
    size_t acc_stride;
} tile;

typedef __m512i tile_sums[FAST_ROWS][PANELS];

/* hi and lo: integer sums of part s of block b. */
INLINE void multiply_part(const tile *t, uint32_t rows, shape f, size_t b, uint32_t s, tile_sums hi,
                          tile_sums lo) {
    const uint32_t vectors = PACK_VECTORS / f.subs;
    const size_t at = (b * f.subs + s) * vectors * 64;
#pragma GCC unroll 6
    for (uint32_t j = 0; j < rows; j++) {
#pragma GCC unroll 4
        for (int p = 0; p < PANELS; p++) hi[j][p] = lo[j][p] = _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (uint32_t v = 0; v < vectors; v++) {
        __m512i c[PANELS];
#pragma GCC unroll 4
        for (int p = 0; p < PANELS; p++)
            c[p] = _mm512_load_si512(t->codes[p] + at + (size_t)v * 64);
#pragma GCC unroll 6
        for (uint32_t j = 0; j < rows; j++) {
            const act_block *x = t->x + j * t->row_blocks + b;
            const __m512i four = everywhere(x->hi, s * vectors + v);
#pragma GCC unroll 4
            for (int p = 0; p < PANELS; p++) hi[j][p] = _mm512_dpbusd_epi32(hi[j][p], c[p], four);
            if (f.fast) continue;
            const __m512i low = everywhere(x->lo, s * vectors + v);
#pragma GCC unroll 4
            for (int p = 0; p < PANELS; p++) lo[j][p] = _mm512_dpbusd_epi32(lo[j][p], c[p], low);
        }
    }
}

/* What they add to the f32 sums. */
INLINE void settle_part(const tile *t, uint32_t rows, shape f, size_t b, uint32_t s, tile_sums hi,
                        tile_sums lo) {
    const size_t at = (b * f.subs + s) * PACK_ROWS;
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; p++) {
        const part w = {.scale = _mm512_load_ps(t->scales[p] + at),
                        .offset = _mm512_load_ps(t->offsets[p] + at)};
        float *acc = t->acc + (size_t)p * t->acc_stride;
#pragma GCC unroll 6
        for (uint32_t j = 0; j < rows; j++, acc += PACK_ROWS) {
            const sums n = {hi[j][p], lo[j][p]};
            const act_block *x = t->x + j * t->row_blocks + b;
            _mm512_store_ps(acc, settle(_mm512_load_ps(acc), &w, x, n, f, s));
        }
    }
}

/* `rows` rows from row r on. */
INLINE void tile_rows(const dots_quad_args *a, uint32_t r, uint32_t rows, shape f) {
    const size_t blocks = a->blocks;
    tile t = {.x = a->x + r * a->row_blocks,
              .row_blocks = a->row_blocks,
              .acc = a->acc + (size_t)r * PACK_ROWS,
              .acc_stride = a->acc_stride * PACK_ROWS};
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; p++) {
        t.codes[p] = a->panel[p].codes;
        t.scales[p] = a->panel[p].scales;
        t.offsets[p] = a->panel[p].offsets;
    }
    for (size_t b = 0; b < blocks; b++) {
        /* the rows of the next tile come from far away, a cache line each */
#pragma GCC unroll 6
        for (uint32_t j = 0; j < rows; j++)
            _mm_prefetch((const char *)(t.x + (rows + j) * t.row_blocks + b), _MM_HINT_T1);
#pragma GCC unroll 2
        for (uint32_t s = 0; s < f.subs; s++) {
            tile_sums hi, lo;
            multiply_part(&t, rows, f, b, s, hi, lo);
            settle_part(&t, rows, f, b, s, hi, lo);
        }
    }
}

INLINE void all_rows(const dots_quad_args *a, shape f) {
    const uint32_t most = f.fast ? FAST_ROWS : EXACT_ROWS;
    uint32_t r = 0;
    for (; r + most <= a->rows; r += most) tile_rows(a, r, most, f);
    for (; r + 2 <= a->rows; r += 2) tile_rows(a, r, 2, f);
    if (r < a->rows) tile_rows(a, r, 1, f);
}

static void fast(const dots_quad_args *a) { all_rows(a, (shape){true, 1}); }
static void fast_halves(const dots_quad_args *a) { all_rows(a, (shape){true, 2}); }
static void exact(const dots_quad_args *a) { all_rows(a, (shape){false, 1}); }
static void exact_halves(const dots_quad_args *a) { all_rows(a, (shape){false, 2}); }

void cpu_dots_quad_avx512(const dots_quad_args *a) {
    if (a->panel[0].subs == 1)
        (a->fast ? fast : exact)(a);
    else
        (a->fast ? fast_halves : exact_halves)(a);
}

#endif
