/* halves.h - numbers in f16 on their way to tensor cores, and products of them: what the products
 * and the attention of prompts share. */
#ifndef CUDA_HALVES_H
#define CUDA_HALVES_H
#include "ck.h"

/* Finite numbers that F16 does not reach become its largest one. */
CK_DEV float half_bounded(float x) {
    const uint32_t u = ck_f2u(x), magnitude = u & 0x7fffffffu;
    const bool over = magnitude > 0x477fe000u && magnitude < 0x7f800000u; /* 65504 */
    return over ? ck_u2f((u & 0x80000000u) | 0x477fe000u) : x;
}
/* To nearest, ties to even. */
CK_DEV uint32_t half_of(float x) { return ck_f2h(half_bounded(x)); }
CK_DEV uint32_t halves_of(float low, float high) { return half_of(low) | half_of(high) << 16; }

/* Is one of the two no number, or infinite?  Its exponent is all ones then, and one more spills
 * into the sign. */
CK_DEV bool halves_are_finite(uint32_t both) {
    return (((both & 0x7c007c00u) + 0x04000400u) & 0x80008000u) == 0;
}

/* m16n8k16 on every code path. */
CK_DEV void halves_mma(float acc[4], const uint32_t a[4], const uint32_t b[2]) {
#if CK_ARCH >= 800
    ck_mma_m16n8k16_f16(acc, a, b);
#else
    ck_mma_m16n8k8_f16(acc, a, b);
    ck_mma_m16n8k8_f16(acc, a + 2, b + 1);
#endif
}

#endif
