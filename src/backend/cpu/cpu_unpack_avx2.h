/* cpu_unpack_avx2.h - what is in a packed group (cpu_pack.h) with AVX2: registers of codes, and
 * scales of sixteen rows. */
#ifndef BACKEND_CPU_CPU_UNPACK_AVX2_H
#define BACKEND_CPU_CPU_UNPACK_AVX2_H
#if defined(__AVX2__)

#include "backend/cpu/cpu_math_avx2.h"
#include "backend/cpu/cpu_pack.h"

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

#endif
#endif
