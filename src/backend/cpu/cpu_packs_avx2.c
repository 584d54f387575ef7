/* cpu_packs_avx2.c - packed weights with AVX2 and FMA: tiles by code width and rows. */
#include "backend/cpu/cpu_kernels.h"

#if defined(__x86_64__)

#include "backend/cpu/cpu_dots_avx2.h"
#include "backend/cpu/cpu_packs_avx2.h"

#define panel_codes \
    { .bytes = true }

/* All rows: tiles of s.rows as long as they fit, then of 2, then of 1. */
INLINE void in_tiles(const dots_args *a, tile_shape s) {
    tile_shape two = s, one = s;
    const uint32_t most = (uint32_t)s.rows;
    uint32_t row = 0;
    two.rows = 2;
    one.rows = 1;
    for (; row + most <= a->rows; row += most) tile(a, row, s);
    for (; s.rows > 2 && row + 2 <= a->rows; row += 2) tile(a, row, two);
    for (; s.rows > 1 && row < a->rows; row++) tile(a, row, one);
}

/* One 32-column scale to a row: nibbles; nibbles with a fifth bit; bytes and tables. */
static void dots_to_15(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 1, 8, true, panel_codes});
    else
        in_tiles(a, (tile_shape){2, 1, 8, false, panel_codes});
}

static void dots_to_31(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){2, 1, 4, true, panel_codes});
    else
        in_tiles(a, (tile_shape){2, 1, 4, false, panel_codes});
}

static void dots_to_255(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 1, 0, true, panel_codes});
    else
        in_tiles(a, (tile_shape){4, 1, 0, false, panel_codes});
}

/* Two scales of 16 columns each: two or three bits; six bits; what no type needs. */
static void halves_to_31(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){4, 2, 4, true, panel_codes});
    else
        in_tiles(a, (tile_shape){2, 2, 4, false, panel_codes});
}

static void halves_to_63(const dots_args *a) {
    if (a->fast)
        in_tiles(a, (tile_shape){2, 2, 2, true, panel_codes});
    else
        in_tiles(a, (tile_shape){2, 2, 2, false, panel_codes});
}

static void halves_to_255(const dots_args *a) {
    in_tiles(a, (tile_shape){1, 2, 0, a->fast, panel_codes});
}

static void dots(const dots_args *a) {
    const uint32_t max = a->panel->code_max == 0 ? 255 : a->panel->code_max;
    const bool halves = a->panel->subs == 2;
    if (max <= 15 && !halves)
        dots_to_15(a);
    else if (max <= 31)
        halves ? halves_to_31(a) : dots_to_31(a);
    else if (max <= 63 && halves)
        halves_to_63(a);
    else
        halves ? halves_to_255(a) : dots_to_255(a);
}

void cpu_packs_avx2(cpu_kernels *k) {
    k->expand = cpu_expand_avx2;
    k->dots = dots;
    k->dots_packed = cpu_dots_packed_avx2;
    k->digits = cpu_digits_avx2;
}
#else
typedef int cpu_packs_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
