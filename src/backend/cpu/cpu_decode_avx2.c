/* cpu_decode_avx2.c - a few rows of activations times packed groups, with no panel in between: what
 * cpu_decode_avx512.c does, in tiles of one group and two rows, which is what sixteen registers
 * hold. */
#include "backend/cpu/cpu_packs_avx2.h"

#if defined(__x86_64__)

#include "backend/cpu/cpu_dots_avx2.h"
#include "backend/cpu/cpu_fetch.h"
#include "backend/cpu/cpu_pack_formats.h"

/* What is constant in one compiled loop, beside the shape. */
typedef struct kind {
    scale_form form;
    uint32_t super_blocks;
    size_t codes_bytes, super_bytes; /* of a block, of a superblock */
} kind;

/* --- scales -------------------- */

/* What all blocks of a superblock have in common. */
typedef struct super_scales {
    row_floats d, dmin;
    const uint8_t *parts; /* of single blocks */
} super_scales;

INLINE super_scales scales_of(const uint8_t *in, scale_form form) {
    super_scales s = {.parts = in};
    if (form == SCALE_POWER) return s;
    s.d = halves_at(in);
    s.parts += HALF_VECTOR;
    if (form == SCALE_HALF_MIN || form == SCALE_K32 || form == SCALE_K16) {
        s.dmin = halves_at(s.parts);
        s.parts += HALF_VECTOR;
    }
    return s;
}

typedef struct part_scale {
    row_floats scale, offset;
} part_scale;

/* Of part i of the superblock. */
INLINE part_scale scale_part(const super_scales *s, scale_form form, uint32_t i, float zero) {
    part_scale w = {.scale = s->d};
    if (form == SCALE_K32 || form == SCALE_K16) {
        const uint8_t *at = s->parts + (size_t)i * 2 * PACK_ROWS;
        w.scale = times(s->d, unsigned_at(at));
        w.offset = times(s->dmin, unsigned_at(at + PACK_ROWS));
        return w;
    }
    if (form == SCALE_POWER) w.scale = powers_at(s->parts);
    if (form == SCALE_SIGNED32 || form == SCALE_SIGNED16)
        w.scale = times(s->d, signed_at(s->parts + (size_t)i * PACK_ROWS));
    w.offset = form == SCALE_HALF_MIN ? negative(s->dmin) : times_number(w.scale, zero);
    return w;
}

/* --- a tile -------------------- */

INLINE void add_block(const tile_shape s, block_codes codes, const super_scales *scales,
                      scale_form form, float zero, uint32_t block, const act_block *const *x,
                      float *acc) {
    wide_act wide[TILE_ROWS_MAX];
    for (int r = 0; s.span == 0 && r < s.rows; r++) widen(x[r], false, &wide[r]);
    for (int sub = 0; sub < s.subs; sub++) {
        const uint32_t part = block * (uint32_t)s.subs + (uint32_t)sub;
        __m256i n[TILE_ROWS_MAX][HALVES];
        multiply_part(s, codes, sub, x, wide, n);
        const part_scale w = scale_part(scales, form, part, zero);
        for (int r = 0; r < s.rows; r++)
            settle(s, w.scale, w.offset, sub, x[r], n[r], acc + (size_t)r * PACK_ROWS);
    }
}

/* s.rows rows from r on against the group at `in`. */
INLINE void run_tile(const packed_dots_args *a, const uint8_t *in, uint32_t r, float *acc,
                     const tile_shape s, kind k) {
    const size_t share = k.super_bytes / k.super_blocks;
    const float zero = (float)a->format->zero;
    const act_block *x[TILE_ROWS_MAX];
    block_codes codes = {.table = _mm256_setzero_si256()};
    if (s.set.table)
        codes.table =
            _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)a->format->table));
    for (int i = 0; i < s.rows; i++) x[i] = a->x + (r + (size_t)i) * a->row_blocks;
    for (uint32_t left = a->blocks / k.super_blocks; left > 0; left--, in += k.super_bytes) {
        const super_scales scales = scales_of(in + k.super_blocks * k.codes_bytes, k.form);
        codes.planes = in;
        for (uint32_t b = 0; b < k.super_blocks; b++, codes.planes += k.codes_bytes) {
            cpu_fetch_ahead(in + b * share, share);
            add_block(s, codes, &scales, k.form, zero, b, x, acc);
            for (int i = 0; i < s.rows; i++) x[i]++;
        }
    }
}

/* --- one function for every type and tile -------------------- */

typedef void tile_fn(const packed_dots_args *a, const uint8_t *in, uint32_t r, float *acc);

/* Products that int16 can take (cpu_dots_avx2.h): vectors at a time; 0: none. */
#define CODE_MAX_none(n, t, o, b) ((b) ? 255 : (n) ? ((t) ? 63 : (o) ? 31 : 15) : 7)
#define CODE_MAX_iq4(n, t, o, b)  255
#define CODE_MAX_e2m1(n, t, o, b) 24
#define SPAN_OF(max, subs) \
    ((max) <= 15 && (subs) == 1 ? 8 : (max) <= 31 ? 4 : (max) <= 63 && (subs) == 2 ? 2 : 0)
#define has_none 0
#define has_iq4  1
#define has_e2m1 1

#define DEFINE_TILE(name, size, count, n, t, o, b, table_, form_, subs_, blocks)                 \
    static void name##_##size(const packed_dots_args *a, const uint8_t *in, uint32_t r,          \
                              float *acc) {                                                      \
        const tile_shape s = {                                                                   \
            .rows = (count),                                                                     \
            .subs = (subs_),                                                                     \
            .span = SPAN_OF(CODE_MAX_##table_(n, t, o, b), subs_),                               \
            .set = {                                                                             \
                .nibbles = (n), .twos = (t), .ones = (o), .bytes = (b), .table = has_##table_}}; \
        const kind k = {.form = SCALE_##form_,                                                   \
                        .super_blocks = (blocks),                                                \
                        .codes_bytes = PACK_CODES_BYTES(n, t, o, b),                             \
                        .super_bytes = (blocks)*PACK_CODES_BYTES(n, t, o, b) + form_##_BYTES};   \
        run_tile(a, in, r, acc, s, k);                                                           \
    }
#define DEFINE_TYPE(type, name, n, t, o, b, table_, form_, zero_, subs_, blocks) \
    DEFINE_TILE(name, one, 1, n, t, o, b, table_, form_, subs_, blocks)          \
    DEFINE_TILE(name, two, 2, n, t, o, b, table_, form_, subs_, blocks)
PACK_FORMATS(DEFINE_TYPE)
#undef DEFINE_TYPE
#undef DEFINE_TILE

/* By type, then of one row and of two. */
static tile_fn *const tiles[DTYPE_ID_END][2] = {
#define TILES_OF(type, name, n, t, o, b, table_, form_, zero_, subs_, blocks) \
    [DTYPE_##type] = {name##_one, name##_two},
    PACK_FORMATS(TILES_OF)
#undef TILES_OF
};

void cpu_dots_packed_avx2(const packed_dots_args *a) {
    tile_fn *const *const fns = tiles[a->format->type];
    memset(a->acc, 0, (size_t)a->count * a->rows * PACK_ROWS * sizeof *a->acc);
    for (uint32_t g = 0; g < a->count; g++) {
        const uint8_t *in = a->groups + g * a->group_bytes;
        float *acc = a->acc + (size_t)g * a->rows * PACK_ROWS;
        for (uint32_t r = 0, n = 0; r < a->rows; r += n) {
            n = a->rows - r < 2 ? 1 : 2;
            fns[n - 1](a, in, r, acc + (size_t)r * PACK_ROWS);
        }
    }
}
#else
typedef int cpu_decode_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
