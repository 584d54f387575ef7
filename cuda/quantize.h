/* quantize.h - activations in 8 bits: 32 neighbouring elements by one warp, an element per lane.
 *
 * amax is the largest magnitude of the 32:
 *   d = amax / 127,  code = x * (127 / amax) rounded to nearest, ties to even
 * in float, the product and the rounding as one operation, so that host and device agree on every
 * bit.  Blocks whose amax is below 2^-100 are zeros: 127 / amax has to be finite.  A block with an
 * infinity or a NaN has codes 0 and d = NaN: all that is made of it is NaN, as it should be.
 * Used by k_quantize, and by the kernels that make what products read. */
#ifndef CUDA_QUANTIZE_H
#define CUDA_QUANTIZE_H
#include "ck_fma.h"

typedef struct quantized {
    int code;     /* of this lane's element: -127..127 */
    ck_sums sums; /* of the 32: the same in every lane */
} quantized;

/* Adding 1.5 * 2^23 leaves no bits below the point: the adder rounds to nearest, ties to even. */
CK_DEV int quantize_code(float x, float inverse) {
    const float shift = 12582912.0f;
    return (int)(ck_fma(x, inverse, shift) - shift);
}

CK_DEV bool quantize_is_zero(float amax) { return amax < 7.888609052e-31f; } /* 2^-100 */
CK_DEV float quantize_d(float amax, bool broken) {
    if (broken) return ck_bf2f(0x7fc0); /* NaN */
    return quantize_is_zero(amax) ? 0.0f : amax / 127.0f;
}

/* All 32 lanes, N blocks: what they wait for, they wait for together. */
template <uint32_t N> CK_DEV void quantize_warp(const float x[N], quantized q[N]) {
    float amax[N], magnitude[N];
    bool broken[N];
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        magnitude[i] = x[i] < 0.0f ? -x[i] : x[i];
        broken[i] = ck_ballot(!(magnitude[i] <= 3.402823466e38f)) != 0;
        amax[i] = broken[i] ? 0.0f : magnitude[i];
    }
#pragma unroll
    for (uint32_t m = 16; m > 0; m >>= 1)
#pragma unroll
        for (uint32_t i = 0; i < N; i++) {
            const float other = ck_shfl_xor_f(amax[i], m);
            amax[i] = other > amax[i] ? other : amax[i];
        }
    int half[N];
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        const bool zero = quantize_is_zero(amax[i]);
        half[i] = q[i].code = zero ? 0 : quantize_code(x[i], 127.0f / amax[i]);
        q[i].sums.d = quantize_d(amax[i], broken[i]);
    }
#pragma unroll
    for (uint32_t m = 8; m > 0; m >>= 1)
#pragma unroll
        for (uint32_t i = 0; i < N; i++) half[i] += (int)ck_shfl_xor((uint32_t)half[i], m);
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        q[i].sums.lo = (int16_t)ck_shfl((uint32_t)half[i], 0);
        q[i].sums.hi = (int16_t)ck_shfl((uint32_t)half[i], 16);
    }
}

CK_DEV void store_quantized(const quantized &q, int8_t *codes, ck_sums *sums) {
    ck_st(codes + ck_lane(), (int8_t)q.code);
    if (ck_lane() == 0) ck_st(sums, q.sums);
}

/* One block, stored: codes is where the first of the 32 codes goes, sums where their sums go.  What
 * the code leaves of x. */
CK_DEV float quantize_store(float x, int8_t *codes, ck_sums *sums) {
    quantized q;
    quantize_warp<1>(&x, &q);
    store_quantized(q, codes, sums);
    return ck_fma(-q.sums.d, (float)q.code, x);
}

/* One block of which 4 neighbouring lanes have 8 elements each, as tensor cores leave them: x[2 n]
 * and x[2 n + 1] are its elements 8 n + 2 q and the next one, q = lane % 4.  The same bits as
 * above.  All 32 lanes. */
CK_DEV ck_sums quantize_quad(const float x[8], int code[8]) {
    float amax = 0.0f;
    uint32_t broken = 0;
    int half[2] = {0, 0};
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        const float magnitude = x[i] < 0.0f ? -x[i] : x[i];
        broken |= !(magnitude <= 3.402823466e38f);
        amax = magnitude > amax ? magnitude : amax;
    }
#pragma unroll
    for (uint32_t m = 2; m > 0; m >>= 1) {
        const float other = ck_shfl_xor_f(amax, m);
        amax = other > amax ? other : amax;
        broken |= ck_shfl_xor(broken, m);
    }
    if (broken) amax = 0.0f;
    const bool zero = quantize_is_zero(amax);
    const float inverse = 127.0f / amax;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        code[i] = zero ? 0 : quantize_code(x[i], inverse);
        half[i / 4] += code[i];
    }
#pragma unroll
    for (uint32_t m = 2; m > 0; m >>= 1)
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) half[i] += (int)ck_shfl_xor((uint32_t)half[i], m);
    return {quantize_d(amax, broken != 0), (int16_t)half[0], (int16_t)half[1]};
}

#endif
