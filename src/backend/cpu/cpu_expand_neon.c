/* cpu_expand_neon.c - a packed group as a panel, with NEON: shifts and masks of whole registers for
 * the codes, four scales at a time. */
#include "backend/cpu/cpu_packs_neon.h"

#if defined(__aarch64__)

#include <arm_neon.h>

enum { VECTOR_BYTES = 64 }; /* of a u-vector */

/* --- codes -------------------- */

/* The planes of a format, constant in each of the loops below. */
typedef struct plane_set {
    bool nibbles, twos, ones, bytes;
    bool table; /* the nibbles are looked up */
} plane_set;

/* The bits from bit `from` of every byte, moved to bit `to`; `mask` is of where they arrive. */
INLINE uint8x16_t move_bits(uint8x16_t v, int from, int to, int mask) {
    return vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)(to - from))), vdupq_n_u8((uint8_t)mask));
}

/* Register q of u-vector v of a block; constant v makes this a few instructions. */
INLINE uint8x16_t code_of(const plane_set set, const uint8_t *plane, uint8x16_t table, int v,
                          int q) {
    const size_t at = (size_t)q * QUAD_BYTES;
    uint8x16_t code = vdupq_n_u8(0);
    int shift = 0; /* of the bits of the next plane */
    if (set.bytes) return vld1q_u8(plane + (size_t)v * VECTOR_BYTES + at);
    if (set.nibbles) {
        code = vld1q_u8(plane + (size_t)(v % 4) * VECTOR_BYTES + at);
        code = move_bits(code, v / 4 * 4, 0, 15);
        plane += (size_t)4 * VECTOR_BYTES, shift += 4;
    }
    if (set.table) code = vqtbl1q_u8(table, code);
    if (set.twos) {
        uint8x16_t two = vld1q_u8(plane + (size_t)(v % 2) * VECTOR_BYTES + at);
        code = vorrq_u8(code, move_bits(two, v / 2 * 2, shift, 3 << shift));
        plane += (size_t)2 * VECTOR_BYTES, shift += 2;
    }
    if (set.ones) code = vorrq_u8(code, move_bits(vld1q_u8(plane + at), v, shift, 1 << shift));
    return code;
}

/* The blocks of `supers` superblocks. */
INLINE void expand_codes(const pack_format *f, const plane_set set, const uint8_t *super,
                         uint32_t supers, uint8_t *codes) {
    const uint8x16_t table = set.table ? vld1q_u8(f->table) : vdupq_n_u8(0);
    for (uint32_t i = 0; i < supers; i++, super += f->super_bytes) {
        const uint8_t *block = super;
        for (uint32_t b = 0; b < f->super_blocks; b++, block += f->codes_bytes) {
#pragma GCC unroll 8
            for (int v = 0; v < PACK_VECTORS; v++)
                for (int q = 0; q < QUADS; q++, codes += QUAD_BYTES)
                    vst1q_u8(codes, code_of(set, block, table, v, q));
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
    float32x4_t quad[QUADS];
} row_floats;

INLINE row_floats halves_at(const uint8_t *p) {
    row_floats f;
    for (int q = 0; q < QUADS; q++)
        f.quad[q] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + (size_t)q * 8)));
    return f;
}

/* Bytes as numbers of 32 bits. */
typedef struct row_numbers {
    uint32x4_t quad[QUADS];
} row_numbers;

INLINE row_numbers numbers_at(const uint8_t *p) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    return (row_numbers){{vmovl_u16(vget_low_u16(low)), vmovl_u16(vget_high_u16(low)),
                          vmovl_u16(vget_low_u16(high)), vmovl_u16(vget_high_u16(high))}};
}

INLINE row_floats unsigned_at(const uint8_t *p) {
    const row_numbers n = numbers_at(p);
    row_floats f;
    for (int q = 0; q < QUADS; q++) f.quad[q] = vcvtq_f32_u32(n.quad[q]);
    return f;
}

INLINE row_floats signed_at(const uint8_t *p) {
    const row_numbers n = numbers_at(p);
    row_floats f;
    for (int q = 0; q < QUADS; q++) { /* the sign of the byte to all above it */
        const int32x4_t top = vreinterpretq_s32_u32(vshlq_n_u32(n.quad[q], 24));
        f.quad[q] = vcvtq_f32_s32(vshrq_n_s32(top, 24));
    }
    return f;
}

/* 2^(e - 128): the exponent field is e - 1; 0 and 1 are the denormals 2^-128 and 2^-127. */
INLINE row_floats powers_at(const uint8_t *p) {
    const row_numbers n = numbers_at(p);
    const uint32x4_t one = vdupq_n_u32(1);
    row_floats f;
    for (int q = 0; q < QUADS; q++) {
        const uint32x4_t normal = vshlq_n_u32(vsubq_u32(n.quad[q], one), 23);
        const uint32x4_t small = vshlq_u32(vdupq_n_u32(0x200000), vreinterpretq_s32_u32(n.quad[q]));
        const uint32x4_t is_normal = vcgtq_u32(n.quad[q], one);
        f.quad[q] = vreinterpretq_f32_u32(vbslq_u32(is_normal, normal, small));
    }
    return f;
}

INLINE row_floats times(row_floats a, row_floats b) {
    for (int q = 0; q < QUADS; q++) a.quad[q] = vmulq_f32(a.quad[q], b.quad[q]);
    return a;
}

INLINE row_floats times_number(row_floats a, float b) {
    for (int q = 0; q < QUADS; q++) a.quad[q] = vmulq_n_f32(a.quad[q], b);
    return a;
}

INLINE row_floats negative(row_floats a) {
    for (int q = 0; q < QUADS; q++) a.quad[q] = vnegq_f32(a.quad[q]);
    return a;
}

INLINE void put(float *out, row_floats f) {
    for (int q = 0; q < QUADS; q++) vst1q_f32(out + (size_t)q * QUAD_ROWS, f.quad[q]);
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

void cpu_expand_neon(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
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
typedef int cpu_expand_neon_is_for_arm_only; /* a translation unit holds a declaration */
#endif
