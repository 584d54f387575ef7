/* cpu_decode_avx512.c - a few rows of activations times packed groups, with no panel in between.
 *
 * Generation reads every weight once, so what counts is that memory is never idle: codes go from
 * their planes to the products in registers, scales are made where they are used, and what comes
 * CPU_AHEAD_BYTES later is fetched all along.  One row takes one group after the other.  Several
 * rows take two groups at once, four rows at a time: four activations are loaded once for both
 * groups, a code is unpacked once for four rows; 16 integer sums and 8 of f32 are in registers.
 *
 * There is one function for every type and tile; that of a type is chosen by its format.  The order
 * of an element's additions is that of cpu_kernels.h whatever the tile. */
#if defined(__x86_64__)
#include "backend/cpu/cpu_dots_avx512.h"
#include "backend/cpu/cpu_pack_formats.h"
#include "backend/cpu/cpu_unpack_avx512.h"
#include "base/num.h"

enum { GROUPS = 2, ROWS = 4 }; /* of a tile, at most */

/* What is constant in one compiled loop. */
typedef struct kind {
    planes p;
    scale_form form;
    uint32_t subs, super_blocks;
    size_t codes_bytes, super_bytes; /* of a block, of a superblock */
} kind;

/* What a tile reads, where no store can change it, as far as a compiler knows. */
typedef struct tile {
    const uint8_t *in[GROUPS]; /* the running superblock */
    const act_block *x[ROWS];  /* its first block */
    uint32_t supers;
    uint32_t skip_at; /* supers left when what to fetch is of the tile that follows.. */
    size_t skip;      /* ..which lies so much further */
    __m512i table;
    __m512 zero;
} tile;

typedef struct tile_sums {
    __m512 of[GROUPS][ROWS];
} tile_sums;

/* --- scales -------------------- */

/* What all blocks of a superblock have in common. */
typedef struct super_scales {
    __m512 d, dmin;
    const uint8_t *parts; /* of single blocks */
} super_scales;

INLINE super_scales scales_of(const uint8_t *in, scale_form form) {
    super_scales s = {.parts = in};
    if (form == SCALE_POWER) return s;
    s.d = load_half(in);
    s.parts += HALF_VECTOR;
    if (form == SCALE_HALF_MIN || form == SCALE_K32 || form == SCALE_K16) {
        s.dmin = load_half(s.parts);
        s.parts += HALF_VECTOR;
    }
    return s;
}

/* Of part i of the superblock. */
INLINE void scale_part(const super_scales *s, scale_form form, uint32_t i, __m512 zero, part *w) {
    if (form == SCALE_K32 || form == SCALE_K16) {
        const uint8_t *at = s->parts + (size_t)i * 2 * PACK_ROWS;
        w->scale = _mm512_mul_ps(s->d, load_u8(at));
        w->offset = _mm512_mul_ps(s->dmin, load_u8(at + PACK_ROWS));
        return;
    }
    w->scale = s->d;
    if (form == SCALE_POWER) w->scale = load_power(s->parts);
    if (form == SCALE_SIGNED32 || form == SCALE_SIGNED16)
        w->scale = _mm512_mul_ps(s->d, load_i8(s->parts + (size_t)i * PACK_ROWS));
    w->offset = form == SCALE_HALF_MIN ? _mm512_xor_ps(s->dmin, _mm512_set1_ps(-0.0f))
                                       : _mm512_mul_ps(zero, w->scale);
}

/* --- a tile -------------------- */

/* Integer sums of part s of the blocks at in[]. */
INLINE void multiply_part(const tile *t, const uint8_t *const *in, size_t block, kind k, uint32_t s,
                          uint32_t groups, uint32_t rows, sums n[GROUPS][ROWS]) {
    const uint32_t vectors = PACK_VECTORS / k.subs;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < vectors; i++) {
        /* one that has the low nibbles of a register before the one that has the high ones */
        const uint32_t v = s * vectors + (k.subs == 1 ? i / 2 + i % 2 * 4 : i);
        __m512i codes[GROUPS];
#pragma GCC unroll 2
        for (uint32_t g = 0; g < groups; g++) codes[g] = unpack(in[g], k.p, t->table, v);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            const __m512i hi = everywhere(t->x[r][block].hi, v);
            const __m512i lo = everywhere(t->x[r][block].lo, v);
#pragma GCC unroll 2
            for (uint32_t g = 0; g < groups; g++) {
                n[g][r].hi = _mm512_dpbusd_epi32(n[g][r].hi, codes[g], hi);
                n[g][r].lo = _mm512_dpbusd_epi32(n[g][r].lo, codes[g], lo);
            }
        }
    }
}

INLINE void add_block(const tile *t, const super_scales *scales, uint32_t b, size_t skip, kind k,
                      uint32_t groups, uint32_t rows, tile_sums *sum) {
    const shape exact = {false, k.subs};
    const uint8_t *in[GROUPS];
#pragma GCC unroll 2
    for (uint32_t g = 0; g < groups; g++) {
        in[g] = t->in[g] + b * k.codes_bytes;
        const size_t share = k.super_bytes / k.super_blocks;
        cpu_fetch_ahead(t->in[g] + b * share + skip, share);
    }
#pragma GCC unroll 2
    for (uint32_t s = 0; s < k.subs; s++) {
        sums n[GROUPS][ROWS];
#pragma GCC unroll 8
        for (uint32_t i = 0; i < GROUPS * ROWS; i++) n[i / ROWS][i % ROWS] = sums_zero();
        multiply_part(t, in, b, k, s, groups, rows, n);
#pragma GCC unroll 2
        for (uint32_t g = 0; g < groups; g++) {
            part w;
            scale_part(&scales[g], k.form, b * k.subs + s, t->zero, &w);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++)
                sum->of[g][r] = settle(sum->of[g][r], &w, &t->x[r][b], n[g][r], exact, s);
        }
    }
}

INLINE void run_tile(tile t, kind k, uint32_t groups, uint32_t rows, tile_sums *out) {
    tile_sums sum;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < GROUPS * ROWS; i++) sum.of[i / ROWS][i % ROWS] = _mm512_setzero_ps();
    size_t skip = 0;
    for (; t.supers > 0; t.supers--) {
        if (t.supers == t.skip_at) skip = t.skip;
        super_scales scales[GROUPS];
#pragma GCC unroll 2
        for (uint32_t g = 0; g < groups; g++)
            scales[g] = scales_of(t.in[g] + k.super_blocks * k.codes_bytes, k.form);
        for (uint32_t b = 0; b < k.super_blocks; b++)
            add_block(&t, scales, b, skip, k, groups, rows, &sum);
#pragma GCC unroll 2
        for (uint32_t g = 0; g < groups; g++) t.in[g] += k.super_bytes;
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) t.x[r] += k.super_blocks;
    }
#pragma GCC unroll 2
    for (uint32_t g = 0; g < groups; g++) {
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) out->of[g][r] = sum.of[g][r];
    }
}

/* --- one function for every type and tile -------------------- */

typedef void tile_fn(const tile *t, tile_sums *out);

/* Of a type, by groups and rows. */
typedef struct tile_fns {
    tile_fn *one, *two, *four, *pair_two, *pair_four;
} tile_fns;

#define DEFINE_TILE(name, size, k, groups, rows) \
    static void name##_##size(const tile *t, tile_sums *out) { run_tile(*t, k, groups, rows, out); }

#define has_none 0
#define has_iq4  1
#define has_e2m1 1
#define DEFINE_TYPE(type, name, n, t, o, b, table_, form_, zero_, subs_, blocks)              \
    static const kind name = {                                                                \
        .p = {.nibbles = (n), .twos = (t), .ones = (o), .bytes = (b), .table = has_##table_}, \
        .form = SCALE_##form_,                                                                \
        .subs = (subs_),                                                                      \
        .super_blocks = (blocks),                                                             \
        .codes_bytes = PACK_CODES_BYTES(n, t, o, b),                                          \
        .super_bytes = (blocks)*PACK_CODES_BYTES(n, t, o, b) + form_##_BYTES};                \
    DEFINE_TILE(name, one, name, 1, 1)                                                        \
    DEFINE_TILE(name, two, name, 1, 2)                                                        \
    DEFINE_TILE(name, four, name, 1, 4)                                                       \
    DEFINE_TILE(name, pair_two, name, 2, 2)                                                   \
    DEFINE_TILE(name, pair_four, name, 2, 4)
PACK_FORMATS(DEFINE_TYPE)
#undef DEFINE_TYPE

static const tile_fns tiles[DTYPE_ID_END] = {
#define TILES_OF(type, name, n, t, o, b, table_, form_, zero_, subs_, blocks) \
    [DTYPE_##type] = {name##_one, name##_two, name##_four, name##_pair_two, name##_pair_four},
    PACK_FORMATS(TILES_OF)
#undef TILES_OF
};

/* The smallest tile that has so many groups and rows. */
static tile_fn *tile_of(const tile_fns *fns, uint32_t groups, uint32_t rows) {
    if (groups == GROUPS) return rows <= 2 ? fns->pair_two : fns->pair_four;
    if (rows == 1) return fns->one;
    return rows == 2 ? fns->two : fns->four;
}

/* Rows r .. r + rows - 1 of `groups` groups from g on. */
static void multiply(const packed_dots_args *a, uint32_t g, uint32_t groups, uint32_t r,
                     uint32_t rows) {
    const pack_format *f = a->format;
    tile t = {.supers = a->blocks / f->super_blocks,
              .skip = (groups - 1) * a->group_bytes,
              .table = table_load(f),
              .zero = _mm512_set1_ps((float)f->zero)};
    t.skip_at = num_min_u32(t.supers, (uint32_t)(CPU_AHEAD_BYTES / f->super_bytes));
    for (uint32_t i = 0; i < groups; i++) t.in[i] = a->groups + (g + i) * a->group_bytes;
    /* a tile may have more rows: those are the last one once more */
    for (uint32_t i = 0; i < ROWS; i++)
        t.x[i] = a->x + (r + num_min_u32(i, rows - 1)) * a->row_blocks;
    tile_sums out;
    tile_of(&tiles[f->type], groups, rows)(&t, &out);
    for (uint32_t i = 0; i < groups; i++)
        for (uint32_t j = 0; j < rows; j++)
            _mm512_store_ps(a->acc + ((size_t)(g + i) * a->rows + r + j) * PACK_ROWS, out.of[i][j]);
}

void cpu_dots_packed_avx512(const packed_dots_args *a) {
    const uint32_t together = a->rows == 1 ? 1 : GROUPS;
    for (uint32_t g = 0, groups = 0; g < a->count; g += groups) {
        groups = num_min_u32(together, a->count - g);
        for (uint32_t r = 0; r < a->rows; r += ROWS)
            multiply(a, g, groups, r, num_min_u32(ROWS, a->rows - r));
    }
}

#endif
