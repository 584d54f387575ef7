/* cpu_transpose_avx512.h - a table of 16 x 16 lanes of 32 bits, turned in registers. */
#ifndef BACKEND_CPU_CPU_TRANSPOSE_AVX512_H
#define BACKEND_CPU_CPU_TRANSPOSE_AVX512_H
#if defined(__AVX512F__)

#include <immintrin.h>

/* Lane j of vector i becomes lane i of vector j. */
static inline __attribute__((always_inline)) void transpose(__m512i v[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    /* lanes 4k + j of rows i .. i + 3 are quarter k of v[i + j] */
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        const __m512i a = _mm512_shuffle_i32x4(v[j], v[4 + j], 0x88); /* quarters 0 and 2 */
        const __m512i b = _mm512_shuffle_i32x4(v[j], v[4 + j], 0xDD); /* 1 and 3 */
        const __m512i c = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0x88);
        const __m512i d = _mm512_shuffle_i32x4(v[8 + j], v[12 + j], 0xDD);
        t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(a, c, 0xDD);
        t[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[12 + j] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
    for (int i = 0; i < 16; i++) v[i] = t[i];
}

#endif
#endif
