/* skinny_k.h - what some rows with weights of Q4_K and Q5_K on tensor cores share; gemv_k.h has the
 * formula.  Products of six-bit numbers with int sums are exact as floats, too. */
#ifndef CUDA_SKINNY_K_H
#define CUDA_SKINNY_K_H
#include "skinny.h"

/* Of 16 rows and two groups of each: item row * 2 + group. */
typedef struct skinny_k_numbers {
    float d[32], dmin[32]; /* dmin: less than 0 */
    uint32_t six_bits[32]; /* scales of both parts, then minima */
} skinny_k_numbers;

/* Of rows g and g + 8. */
typedef struct skinny_k_scales {
    float d[2], dmin[2];
    uint32_t six_bits[2];
} skinny_k_scales;

CK_DEV void skinny_k_put(skinny_k_numbers &n, ck_u4 header, uint32_t item, uint32_t group) {
    n.d[item] = ck_h2f((uint16_t)header.x);
    n.dmin[item] = -ck_h2f((uint16_t)(header.x >> 16));
    n.six_bits[item] = planar_six_bits(header.y, header.w, group) |
                       planar_six_bits(header.z, header.w >> 4, group) << 16;
}

CK_DEV skinny_k_scales skinny_k_scales_of(const skinny_k_numbers &n, uint32_t column) {
    const uint32_t at = ck_lane() / 4 * 2 + column;
    return {{n.d[at], n.d[at + 16]},
            {n.dmin[at], n.dmin[at + 16]},
            {n.six_bits[at], n.six_bits[at + 16]}};
}

/* Nibbles of rows g and g + 8: words q and q + 4 of either part. */
CK_DEV void skinny_k_words(uint32_t words[4], const gemm_granule w[2][32], uint32_t piece) {
    const uint32_t matrix = ck_lane() / 8, row = matrix % 2 * 8 + ck_lane() % 8;
    ck_ldmatrix_x4(words, &w[matrix / 2][skinny_at<2>(row, piece)]);
}

struct skinny_k {
    enum { GROUP = 64, M = 2, PLANES = 2, SUMS = 1 };
    typedef skinny_ints ints;
    typedef skinny_k_scales scales;

    CK_DEV void multiply(ints &c, const uint32_t a[4], const uint32_t b[2]) {
        c = skinny_zeros();
        gemm_mma(c.of, a, b);
    }
    CK_DEV float add(float acc, const ints &c, int i, const scales &w, uint32_t part,
                     const skinny_x &x) {
        const uint32_t six_bits = w.six_bits[i / 2] >> (part * 8);
        const float scale = (float)(six_bits & 63u), min = (float)(six_bits >> 16 & 63u);
        const float offset = w.dmin[i / 2] * skinny_times(min, skinny_of(x.sum, i));
        const float sum = skinny_times(scale, skinny_sum(c.of[i]));
        return ck_fma(skinny_of(x.d, i), ck_fma(w.d[i / 2], sum, offset), acc);
    }
};

#endif
