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

/* All 32 lanes. */
CK_DEV quantized quantize_warp(float x) {
    const float magnitude = x < 0.0f ? -x : x;
    const bool broken = ck_ballot(!(magnitude <= 3.402823466e38f)) != 0;
    const float amax = ck_warp_max(broken ? 0.0f : magnitude);
    const bool zero = amax < 7.888609052e-31f; /* 2^-100 */
    quantized q;
    q.code = zero ? 0 : quantize_code(x, 127.0f / amax);

    int half = q.code;
    for (unsigned m = 8; m > 0; m >>= 1) half += (int)ck_shfl_xor((uint32_t)half, m);
    q.sums.lo = (int16_t)ck_shfl((uint32_t)half, 0);
    q.sums.hi = (int16_t)ck_shfl((uint32_t)half, 16);
    q.sums.d = zero ? 0.0f : amax / 127.0f;
    if (broken) q.sums.d = ck_bf2f(0x7fc0); /* NaN */
    return q;
}

/* The same, stored: codes is where the first of the 32 codes goes, sums where their sums go.  What
 * the code leaves of x. */
CK_DEV float quantize_store(float x, int8_t *codes, ck_sums *sums) {
    const quantized q = quantize_warp(x);
    ck_st(codes + ck_lane(), (int8_t)q.code);
    if (ck_lane() == 0) ck_st(sums, q.sums);
    return ck_fma(-q.sums.d, (float)q.code, x);
}

#endif
