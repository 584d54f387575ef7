/* cpu_unpack_avx512.h - what is in a packed group (cpu_pack.h): u-vectors one at a time, and
 * scales. */
#ifndef BACKEND_CPU_CPU_UNPACK_AVX512_H
#define BACKEND_CPU_CPU_UNPACK_AVX512_H
#if defined(__AVX512BW__)

#include <immintrin.h>

#include "backend/cpu/cpu_fetch.h"
#include "backend/cpu/cpu_packs_avx512.h"

enum { VECTOR = 64 };

typedef uint16_t lanes16 __attribute__((vector_size(VECTOR)));

/* The planes that make a code. */
typedef struct planes {
    bool nibbles, table, twos, ones, bytes;
} planes;

INLINE __m512i load(const uint8_t *p) { return _mm512_loadu_si512(p); }

/* Bits `from` and up of every byte, moved to `to`; what crosses from the byte beside it is above
 * or below them. */
INLINE __m512i move(__m512i v, uint32_t from, uint32_t to) {
    return from > to ? (__m512i)((lanes16)v >> (from - to)) : (__m512i)((lanes16)v << (to - from));
}

/* a | (b & mask) */
INLINE __m512i merge(__m512i a, __m512i b, uint32_t mask) {
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8((char)mask), 0xf8);
}

/* u-vector v of the block at `in`. */
INLINE __m512i unpack(const uint8_t *in, planes p, __m512i table, uint32_t v) {
    if (p.bytes) return load(in + (size_t)VECTOR * v);
    const uint8_t *twos = p.nibbles ? in + (size_t)4 * VECTOR : in;
    const uint8_t *ones = p.twos ? twos + (size_t)2 * VECTOR : twos;
    const uint32_t two_at = p.nibbles ? 4 : 0, one_at = p.nibbles ? 4 : p.twos ? 2 : 0;
    __m512i code = _mm512_setzero_si512();
    if (p.nibbles) {
        const __m512i both = load(in + (size_t)VECTOR * (v % 4));
        code = _mm512_and_si512(move(both, v < 4 ? 0 : 4, 0), _mm512_set1_epi8(15));
    }
    if (p.table) code = _mm512_shuffle_epi8(table, code);
    if (p.twos)
        code = merge(code, move(load(twos + (size_t)VECTOR * (v % 2)), v / 2 * 2, two_at),
                     3u << two_at);
    if (p.ones) code = merge(code, move(load(ones), v, one_at), 1u << one_at);
    return code;
}

/* The table of the format, for unpack(). */
INLINE __m512i table_load(const pack_format *f) {
    if (f->table == NULL) return _mm512_setzero_si512();
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)f->table));
}

/* --- scales -------------------- */

/* 16 numbers in one of the stored types, as f32. */
INLINE __m512 load_half(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE __m128i load_bytes(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
INLINE __m512 load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_bytes(p)));
}
INLINE __m512 load_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(p)));
}

/* 2^(e - 128): the exponent of an f32 is e - 1, or for e 0 and 1 a bit of a denormal. */
INLINE __m512 load_power(const uint8_t *p) {
    const __m512i e = _mm512_cvtepu8_epi32(load_bytes(p));
    const __mmask16 denormal = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(1 << 21), e);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, denormal, small));
}

#endif
#endif
