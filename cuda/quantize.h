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
        const bool zero = amax[i] < 7.888609052e-31f; /* 2^-100 */
        half[i] = q[i].code = zero ? 0 : quantize_code(x[i], 127.0f / amax[i]);
        q[i].sums.d = zero ? 0.0f : amax[i] / 127.0f;
        if (broken[i]) q[i].sums.d = ck_bf2f(0x7fc0); /* NaN */
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

#endif
