/* skinny_halves.cu - some rows of f32 with weights of F16 and BF16 on tensor cores. */
#include "skinny_halves.h"

/* x is its F16 and 2^-11 times the F16 of what that leaves, enlarged so that it has all of its
 * digits: 22 bits down to 2^-14, below that multiples of 2^-36.  Finite numbers that F16 does not
 * reach become its largest one; of what is not finite the results are NaN. */
struct halves_type_f16 {
    enum : uint32_t { PARTS = 2, SUMS = 2 };

    CK_DEV uint32_t rest_of(float x, uint32_t half) {
        return ck_f2h((x - ck_h2f((uint16_t)half)) * 2048.0f);
    }
    CK_DEV void split(float low, float high, uint32_t words[PARTS]) {
        const float a = half_bounded(low), b = half_bounded(high);
        const uint32_t first = ck_f2h(a), second = ck_f2h(b);
        words[0] = first | second << 16;
        words[1] = rest_of(a, first) | rest_of(b, second) << 16;
    }
    CK_DEV void mma(float sums[SUMS][4], const uint32_t a[4], const uint32_t b[PARTS][2]) {
        halves_mma(sums[0], a, b[0]);
        halves_mma(sums[1], a, b[1]);
    }
    CK_DEV float join(float acc, const float sums[SUMS][4], uint32_t i) {
        return ck_fma(sums[1][i], 1.0f / 2048.0f, acc + sums[0][i]);
    }
};
HALVES_KERNELS(f16, halves_type_f16)

#if CK_ARCH >= 800
/* The 24 bits of x are those of three numbers of BF16, each with what the ones before it leave. */
struct halves_type_bf16 {
    enum : uint32_t { PARTS = 3, SUMS = 1 };

    /* The upper halves. */
    CK_DEV uint32_t word_of(float low, float high) {
        return ck_bytes(ck_f2u(low), ck_f2u(high), 0x7632);
    }
    CK_DEV float rest_of(float x) { return x - ck_u2f(ck_f2u(x) & 0xffff0000u); }
    CK_DEV void split(float low, float high, uint32_t words[PARTS]) {
#pragma unroll
        for (uint32_t p = 0; p < PARTS; p++) {
            words[p] = word_of(low, high);
            low = rest_of(low);
            high = rest_of(high);
        }
    }
    CK_DEV void mma(float sums[SUMS][4], const uint32_t a[4], const uint32_t b[PARTS][2]) {
#pragma unroll
        for (uint32_t p = 0; p < PARTS; p++) ck_mma_m16n8k16_bf16(sums[0], a, b[p]);
    }
    CK_DEV float join(float acc, const float sums[SUMS][4], uint32_t i) { return acc + sums[0][i]; }
};
HALVES_KERNELS(bf16, halves_type_bf16)
#endif
