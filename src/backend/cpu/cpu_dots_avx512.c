/* cpu_dots_avx512.c - panels times activation rows by vpdpbusd, four activations to every lane.
 *
 * What limits it is the loads: Ice Lake moves 1.2 registers of 64 bytes a cycle but starts nearly
 * two products, and every product needs four activations from memory.  So the sums stay in
 * registers while the blocks of the panel go by; four panels together share each load of
 * activations (cpu_dots_quad_avx512.c).
 *
 * The order of an element's additions is that of cpu_kernels.h whatever the tile. */
#if defined(__x86_64__)
#include "backend/cpu/cpu_dots_avx512.h"

enum {
    VECTOR = 64,
    TOGETHER_MAX = 4 /* rows whose products are interleaved */
};

INLINE part part_load(const pack_panel *p, size_t i, uint32_t vectors) {
    part w;
#pragma GCC unroll 8
    for (uint32_t v = 0; v < vectors; v++)
        w.codes[v] = _mm512_loadu_si512(p->codes + (i * vectors + v) * VECTOR);
    w.scale = _mm512_loadu_ps(p->scales + i * PACK_ROWS);
    w.offset = _mm512_loadu_ps(p->offsets + i * PACK_ROWS);
    return w;
}

/* --- one panel -------------------- */

INLINE __m512 add_part(__m512 acc, const part *w, const act_block *x, shape f, uint32_t s) {
    const uint32_t vectors = PACK_VECTORS / f.subs;
    sums n = sums_zero();
#pragma GCC unroll 8
    for (uint32_t v = 0; v < vectors; v++) {
        n.hi = _mm512_dpbusd_epi32(n.hi, w->codes[v], everywhere(x->hi, s * vectors + v));
        if (!f.fast)
            n.lo = _mm512_dpbusd_epi32(n.lo, w->codes[v], everywhere(x->lo, s * vectors + v));
    }
    return settle(acc, w, x, n, f, s);
}

/* `rows` <= TOGETHER_MAX rows from row r on, with sums in registers. */
INLINE void rows_once(const dots_args *a, uint32_t r, uint32_t rows, shape f) {
    const pack_panel panel = *a->panel;
    const size_t stride = a->row_blocks;
    const act_block *x = a->x + r * stride;
    float *acc = a->acc + (size_t)r * PACK_ROWS;
    __m512 sum[TOGETHER_MAX];
#pragma GCC unroll 4
    for (uint32_t j = 0; j < rows; j++) sum[j] = _mm512_load_ps(acc + (size_t)j * PACK_ROWS);
    for (size_t i = 0; i < a->blocks; i++) {
#pragma GCC unroll 2
        for (uint32_t s = 0; s < f.subs; s++) {
            const part w = part_load(&panel, i * f.subs + s, PACK_VECTORS / f.subs);
#pragma GCC unroll 4
            for (uint32_t j = 0; j < rows; j++)
                sum[j] = add_part(sum[j], &w, x + j * stride + i, f, s);
        }
    }
#pragma GCC unroll 4
    for (uint32_t j = 0; j < rows; j++) _mm512_store_ps(acc + (size_t)j * PACK_ROWS, sum[j]);
}

INLINE void rows_all(const dots_args *a, shape f) {
    uint32_t r = 0;
    for (; a->rows - r >= 4; r += 4) rows_once(a, r, 4, f);
    if (a->rows - r >= 2) {
        rows_once(a, r, 2, f);
        r += 2;
    }
    if (r < a->rows) rows_once(a, r, 1, f);
}

static void exact(const dots_args *a) { rows_all(a, (shape){false, 1}); }
static void exact_halves(const dots_args *a) { rows_all(a, (shape){false, 2}); }
static void fast(const dots_args *a) { rows_all(a, (shape){true, 1}); }
static void fast_halves(const dots_args *a) { rows_all(a, (shape){true, 2}); }

void cpu_dots_avx512(const dots_args *a) {
    if (a->panel->subs == 1)
        (a->fast ? fast : exact)(a);
    else
        (a->fast ? fast_halves : exact_halves)(a);
}

#endif
