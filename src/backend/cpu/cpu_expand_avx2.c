/* cpu_expand_avx2.c - a packed group as a panel, with AVX2: shifts and masks of whole registers
 * for the codes, eight scales at a time. */
#include "backend/cpu/cpu_packs_avx2.h"

#if defined(__x86_64__)

#include "backend/cpu/cpu_fetch.h"
#include "backend/cpu/cpu_unpack_avx2.h"

/* --- codes -------------------- */

/* The blocks of `supers` superblocks. */
INLINE void expand_codes(const pack_format *f, const plane_set set, const uint8_t *super,
                         uint32_t supers, uint8_t *codes) {
    __m256i table = _mm256_setzero_si256();
    if (set.table) table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)f->table));
    for (uint32_t i = 0; i < supers; i++, super += f->super_bytes) {
        const uint8_t *block = super;
        for (uint32_t b = 0; b < f->super_blocks; b++, block += f->codes_bytes) {
            cpu_fetch_ahead(block, f->codes_bytes);
#pragma GCC unroll 16
            for (int r = 0; r < PACK_BLOCK_CODES / BYTES; r++, codes += BYTES)
                _mm256_storeu_si256((__m256i *)codes, code_of(set, block, table, r / 2, r % 2));
        }
    }
}

/* Every branch is a loop of its own, with the planes that it has. */
static void expand_planes(const pack_format *f, const uint8_t *super, uint32_t supers,
                          uint8_t *codes) {
    if (f->bytes)
        expand_codes(f, (plane_set){.bytes = true}, super, supers, codes);
    else if (!f->nibbles && f->ones)
        expand_codes(f, (plane_set){.twos = true, .ones = true}, super, supers, codes);
    else if (!f->nibbles)
        expand_codes(f, (plane_set){.twos = true}, super, supers, codes);
    else if (f->twos)
        expand_codes(f, (plane_set){.nibbles = true, .twos = true}, super, supers, codes);
    else if (f->ones)
        expand_codes(f, (plane_set){.nibbles = true, .ones = true}, super, supers, codes);
    else if (f->table != NULL)
        expand_codes(f, (plane_set){.nibbles = true, .table = true}, super, supers, codes);
    else
        expand_codes(f, (plane_set){.nibbles = true}, super, supers, codes);
}

/* --- scales -------------------- */

INLINE void put(float *out, row_floats f) {
    _mm256_storeu_ps(out, f.half[0]);
    _mm256_storeu_ps(out + LANES, f.half[1]);
}

/* Scales of one number each, of a superblock of one block. */
static void expand_single(const pack_format *f, const uint8_t *p, float *scales, float *offsets) {
    row_floats scale = f->form == SCALE_POWER ? powers_at(p) : halves_at(p);
    put(scales, scale);
    if (f->form == SCALE_HALF_MIN)
        put(offsets, negative(halves_at(p + (size_t)PACK_ROWS * 2)));
    else
        put(offsets, times_number(scale, (float)f->zero));
}

/* Scales and minima that share factors: K32 and K16. */
static void expand_affine(const uint8_t *p, uint32_t parts, float *scales, float *offsets) {
    const row_floats d = halves_at(p), dmin = halves_at(p + (size_t)PACK_ROWS * 2);
    p += (size_t)PACK_ROWS * 4;
    for (uint32_t i = 0; i < parts; i++, p += (size_t)PACK_ROWS * 2) {
        put(scales + (size_t)i * PACK_ROWS, times(d, unsigned_at(p)));
        put(offsets + (size_t)i * PACK_ROWS, times(dmin, unsigned_at(p + PACK_ROWS)));
    }
}

/* Signed scales that share a factor: SIGNED32 and SIGNED16. */
static void expand_signed(const pack_format *f, const uint8_t *p, uint32_t parts, float *scales,
                          float *offsets) {
    const row_floats d = halves_at(p);
    p += (size_t)PACK_ROWS * 2;
    for (uint32_t i = 0; i < parts; i++, p += PACK_ROWS) {
        const row_floats scale = times(d, signed_at(p));
        put(scales + (size_t)i * PACK_ROWS, scale);
        put(offsets + (size_t)i * PACK_ROWS, times_number(scale, (float)f->zero));
    }
}

static void expand_scales(const pack_format *f, const uint8_t *p, float *scales, float *offsets) {
    const uint32_t parts = f->super_blocks * f->subs;
    if (f->form == SCALE_K32 || f->form == SCALE_K16)
        expand_affine(p, parts, scales, offsets);
    else if (f->form == SCALE_SIGNED32 || f->form == SCALE_SIGNED16)
        expand_signed(f, p, parts, scales, offsets);
    else
        expand_single(f, p, scales, offsets);
}

void cpu_expand_avx2(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                     const pack_panel *out) {
    const size_t floats = (size_t)f->super_blocks * f->subs * PACK_ROWS; /* of a superblock */
    const uint8_t *super = group + (size_t)(first / f->super_blocks) * f->super_bytes;
    const uint32_t supers = count / f->super_blocks;
    const uint8_t *stored = super + f->super_blocks * f->codes_bytes; /* scales */
    expand_planes(f, super, supers, out->codes);
    for (uint32_t i = 0; i < supers; i++, stored += f->super_bytes)
        expand_scales(f, stored, out->scales + i * floats, out->offsets + i * floats);
}
#else
typedef int cpu_expand_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
