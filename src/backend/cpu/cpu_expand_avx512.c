/* cpu_expand_avx512.c - packed groups to panels: codes by shifts and masks of whole vectors, 16
 * scales at a time.
 *
 * Codes and scales are two loops, one of each for every way of storing them, since the eight ways
 * of each would be 64 together.  The scales of a superblock lie behind its codes, which have just
 * been read. */
#if defined(__x86_64__)
#include "backend/cpu/cpu_unpack_avx512.h"

/* The blocks to unpack. */
typedef struct span {
    const pack_format *f;
    const uint8_t *in; /* the first superblock */
    uint32_t supers;
    const pack_panel *out;
} span;

/* --- codes -------------------- */

/* All vectors before the first is stored: a store in between would make compilers load the planes
 * again for every vector. */
INLINE void unpack_block(const uint8_t *in, planes p, __m512i table, uint8_t *out) {
    __m512i code[PACK_VECTORS];
#pragma GCC unroll 8
    for (uint32_t v = 0; v < PACK_VECTORS; v++) code[v] = unpack(in, p, table, v);
#pragma GCC unroll 8
    for (uint32_t v = 0; v < PACK_VECTORS; v++)
        _mm512_storeu_si512(out + (size_t)VECTOR * v, code[v]);
}

INLINE void unpack_codes(const span *s, planes p) {
    const pack_format *f = s->f;
    const __m512i table = table_load(f);
    uint8_t *out = s->out->codes;
    for (uint32_t i = 0; i < s->supers; i++) {
        const uint8_t *in = s->in + i * f->super_bytes;
        for (uint32_t b = 0; b < f->super_blocks; b++) {
            cpu_fetch_ahead(in + b * f->codes_bytes, f->codes_bytes);
            unpack_block(in + b * f->codes_bytes, p, table, out);
            out += PACK_BLOCK_CODES;
        }
    }
}

static void codes_nibbles(const span *s) { unpack_codes(s, (planes){.nibbles = true}); }
static void codes_table(const span *s) {
    unpack_codes(s, (planes){.nibbles = true, .table = true});
}
static void codes_nibbles_ones(const span *s) {
    unpack_codes(s, (planes){.nibbles = true, .ones = true});
}
static void codes_nibbles_twos(const span *s) {
    unpack_codes(s, (planes){.nibbles = true, .twos = true});
}
static void codes_twos(const span *s) { unpack_codes(s, (planes){.twos = true}); }
static void codes_twos_ones(const span *s) {
    unpack_codes(s, (planes){.twos = true, .ones = true});
}
static void codes_ones(const span *s) { unpack_codes(s, (planes){.ones = true}); }
static void codes_bytes(const span *s) { unpack_codes(s, (planes){.bytes = true}); }

static void expand_codes(const span *s) {
    const pack_format *f = s->f;
    if (f->bytes) {
        codes_bytes(s);
    } else if (f->table != NULL) {
        codes_table(s);
    } else if (f->nibbles) {
        if (f->twos)
            codes_nibbles_twos(s);
        else if (f->ones)
            codes_nibbles_ones(s);
        else
            codes_nibbles(s);
    } else if (f->twos) {
        if (f->ones)
            codes_twos_ones(s);
        else
            codes_twos(s);
    } else {
        codes_ones(s);
    }
}

/* --- scales -------------------- */

/* The scales of one superblock, `n` = blocks * subs of them, to `scales` and `offsets`, which
 * advance. */
typedef struct scale_out {
    float *scales, *offsets;
    __m512 zero; /* the format's */
} scale_out;

INLINE void put(scale_out *o, __m512 scale, __m512 offset) {
    _mm512_storeu_ps(o->scales, scale);
    _mm512_storeu_ps(o->offsets, offset);
    o->scales += PACK_ROWS;
    o->offsets += PACK_ROWS;
}
INLINE void put_around_zero(scale_out *o, __m512 scale) {
    put(o, scale, _mm512_mul_ps(o->zero, scale));
}

INLINE void scales_super(const uint8_t *in, scale_form form, uint32_t n, scale_out *o) {
    const size_t half = sizeof(uint16_t) * PACK_ROWS;
    if (form == SCALE_POWER) {
        put_around_zero(o, load_power(in));
        return;
    }
    const __m512 d = load_half(in);
    if (form == SCALE_HALF) put_around_zero(o, d);
    if (form == SCALE_HALF_MIN)
        put(o, d, _mm512_xor_ps(load_half(in + half), _mm512_set1_ps(-0.0f)));
    if (form == SCALE_K32 || form == SCALE_K16) {
        const __m512 dmin = load_half(in + half);
        in += 2 * half;
        for (uint32_t i = 0; i < n; i++, in += (size_t)2 * PACK_ROWS)
            put(o, _mm512_mul_ps(d, load_u8(in)), _mm512_mul_ps(dmin, load_u8(in + PACK_ROWS)));
    }
    if (form == SCALE_SIGNED32 || form == SCALE_SIGNED16) {
        in += half;
        for (uint32_t i = 0; i < n; i++, in += PACK_ROWS)
            put_around_zero(o, _mm512_mul_ps(d, load_i8(in)));
    }
}

INLINE void scales_all(const span *s, scale_form form) {
    const pack_format *f = s->f;
    scale_out o = {s->out->scales, s->out->offsets, _mm512_set1_ps((float)f->zero)};
    const uint8_t *in = s->in + f->super_blocks * f->codes_bytes;
    for (uint32_t i = 0; i < s->supers; i++, in += f->super_bytes)
        scales_super(in, form, f->super_blocks * f->subs, &o);
}

static void expand_scales(const span *s) {
    switch (s->f->form) {
    case SCALE_HALF:
        scales_all(s, SCALE_HALF);
        break;
    case SCALE_HALF_MIN:
        scales_all(s, SCALE_HALF_MIN);
        break;
    case SCALE_K32:
    case SCALE_K16:
        scales_all(s, SCALE_K32);
        break;
    case SCALE_SIGNED32:
    case SCALE_SIGNED16:
        scales_all(s, SCALE_SIGNED32);
        break;
    case SCALE_POWER:
        scales_all(s, SCALE_POWER);
        break;
    }
}

void cpu_expand_avx512(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                       const pack_panel *out) {
    const span s = {f, group + first / f->super_blocks * f->super_bytes, count / f->super_blocks,
                    out};
    expand_codes(&s);
    expand_scales(&s);
}

#endif
