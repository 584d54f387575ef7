/* cpu_expand_avx2.c - a packed group as a panel, with AVX2: shifts and masks of whole registers
 * for the codes, eight scales at a time. */
#include "backend/cpu/cpu_packs_avx2.h"

#if defined(__x86_64__)

#include "backend/cpu/cpu_math_avx2.h"

enum { BYTES = 32, VECTOR_BYTES = 64 }; /* of a register, of a u-vector */

/* --- codes -------------------- */

/* The planes of a format, constant in each of the loops below. */
typedef struct plane_set {
    bool nibbles, twos, ones, bytes;
    bool table; /* the nibbles are looked up */
} plane_set;

INLINE __m256i load_at(const uint8_t *plane, int offset) {
    return _mm256_loadu_si256((const __m256i *)(plane + offset));
}

/* The bits from bit `from` of every byte, moved to bit `to`; `mask` is of where they arrive. */
INLINE __m256i move_bits(__m256i v, int from, int to, int mask) {
    v = from >= to ? _mm256_srli_epi16(v, from - to) : _mm256_slli_epi16(v, to - from);
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* Register h of u-vector v of a block; constant v and h make this a few instructions. */
INLINE __m256i code_of(const plane_set set, const uint8_t *plane, __m256i table, int v, int h) {
    __m256i code = _mm256_setzero_si256();
    int shift = 0; /* of the bits of the next plane */
    if (set.bytes) return load_at(plane, v * VECTOR_BYTES + h * BYTES);
    if (set.nibbles) {
        code = load_at(plane, v % 4 * VECTOR_BYTES + h * BYTES);
        code = move_bits(code, v / 4 * 4, 0, 15);
        plane += (size_t)4 * VECTOR_BYTES, shift += 4;
    }
    if (set.table) code = _mm256_shuffle_epi8(table, code);
    if (set.twos) {
        __m256i two = load_at(plane, v % 2 * VECTOR_BYTES + h * BYTES);
        code = _mm256_or_si256(code, move_bits(two, v / 2 * 2, shift, 3 << shift));
        plane += (size_t)2 * VECTOR_BYTES, shift += 2;
    }
    if (set.ones) {
        __m256i one = load_at(plane, h * BYTES);
        code = _mm256_or_si256(code, move_bits(one, v, shift, 1 << shift));
    }
    return code;
}

/* The blocks of `supers` superblocks. */
INLINE void expand_codes(const pack_format *f, const plane_set set, const uint8_t *super,
                         uint32_t supers, uint8_t *codes) {
    __m256i table = _mm256_setzero_si256();
    if (set.table) table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)f->table));
    for (uint32_t i = 0; i < supers; i++, super += f->super_bytes) {
        const uint8_t *block = super;
        for (uint32_t b = 0; b < f->super_blocks; b++, block += f->codes_bytes) {
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

/* Sixteen numbers, one for every row. */
typedef struct row_floats {
    __m256 half[2];
} row_floats;

INLINE row_floats halves_at(const uint8_t *p) {
    row_floats f;
    for (int h = 0; h < 2; h++)
        f.half[h] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + (size_t)h * 16)));
    return f;
}

INLINE row_floats unsigned_at(const uint8_t *p) {
    row_floats f;
    for (int h = 0; h < 2; h++)
        f.half[h] = _mm256_cvtepi32_ps(
            _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + (size_t)h * 8))));
    return f;
}

INLINE row_floats signed_at(const uint8_t *p) {
    row_floats f;
    for (int h = 0; h < 2; h++)
        f.half[h] = _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + (size_t)h * 8))));
    return f;
}

/* 2^(e - 128): the exponent field is e - 1; 0 and 1 are the denormals 2^-128 and 2^-127. */
INLINE row_floats powers_at(const uint8_t *p) {
    row_floats f;
    const __m256i one = _mm256_set1_epi32(1);
    for (int h = 0; h < 2; h++) {
        __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + (size_t)h * 8)));
        __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
        __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
        __m256i is_normal = _mm256_cmpgt_epi32(e, one);
        f.half[h] = _mm256_castsi256_ps(_mm256_blendv_epi8(small, normal, is_normal));
    }
    return f;
}

INLINE row_floats times(row_floats a, row_floats b) {
    for (int h = 0; h < 2; h++) a.half[h] = _mm256_mul_ps(a.half[h], b.half[h]);
    return a;
}

INLINE row_floats times_number(row_floats a, float b) {
    for (int h = 0; h < 2; h++) a.half[h] = _mm256_mul_ps(a.half[h], _mm256_set1_ps(b));
    return a;
}

INLINE row_floats negative(row_floats a) {
    for (int h = 0; h < 2; h++) a.half[h] = _mm256_xor_ps(a.half[h], _mm256_set1_ps(-0.0f));
    return a;
}

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
