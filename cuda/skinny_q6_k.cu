/* skinny_q6_k.cu - some rows with weights of Q6_K on tensor cores: six-bit codes less 32, four
 * sixteenths of a group with a scale each; gemv_q6_k.cu has the formula. */
#include "skinny.h"

struct skinny_q6_k {
    enum { GROUP = 64, M = 2, PLANES = 3, SUMS = 0 };
    typedef struct ints {
        skinny_ints first, second; /* of 16 codes each */
    } ints;
    typedef struct loaded {
        uint32_t scales; /* four int8 */
        uint16_t d;
    } loaded;
    typedef struct numbers { /* item row * 2 + group */
        float d[32];
        uint32_t scales[32];
    } numbers;
    typedef struct raw {
        uint32_t low[4];   /* of both parts: rows g and g + 8 */
        uint32_t pairs[4]; /* of both groups of the step, alike */
        uint32_t piece;
    } raw;
    typedef struct scales {
        float d[2];
        uint32_t scales[2];
    } scales;

    CK_DEV void load(loaded &l, const ck_matrix &w, uint32_t group) {
        l.scales = ck_ldg4(planar_at(w, 3, (uint64_t)group * 4));
        l.d = ck_ldg2(planar_at(w, 4, (uint64_t)(group / 4) * 2));
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        ck_prefetch(planar_at(w, 3, (uint64_t)group * 4));
        ck_prefetch(planar_at(w, 4, (uint64_t)(group / 4) * 2));
    }
    CK_DEV void put(numbers &n, const loaded &l, uint32_t item, uint32_t group) {
        (void)group;
        n.d[item] = ck_h2f(l.d);
        n.scales[item] = l.scales;
    }
    CK_DEV raw raw_of(const gemm_granule w[PLANES][32], const numbers &n, uint32_t piece) {
        const uint32_t matrix = ck_lane() / 8, row = matrix % 2 * 8 + ck_lane() % 8;
        raw r;
        (void)n;
        r.piece = piece;
        ck_ldmatrix_x4(r.low, &w[matrix / 2][skinny_at<2>(row, piece)]);
        ck_ldmatrix_x4(r.pairs, &w[2][skinny_at<2>(row, matrix / 2)]);
        return r;
    }
    /* The first 16 of a part, rows g and g + 8, then the second. */
    CK_DEV void fragment(const raw &r, uint32_t part, uint32_t a[4]) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t pairs = r.pairs[r.piece * 2 + i % 2] >> (part * 4 + i / 2 * 2);
            const uint32_t low = r.low[part * 2 + i % 2] >> (i / 2 * 4) & 0x0f0f0f0fu;
            a[i] = gemm_less_word(low | (pairs & 0x03030303u) << 4, 32);
        }
    }
    CK_DEV scales scales_of(const numbers &n, uint32_t column) {
        const uint32_t at = ck_lane() / 4 * 2 + column;
        return {{n.d[at], n.d[at + 16]}, {n.scales[at], n.scales[at + 16]}};
    }
    CK_DEV void multiply(ints &c, const uint32_t a[4], const uint32_t b[2]) {
        c.first = c.second = skinny_zeros();
        gemm_mma_half(c.first.of, a, b);
        gemm_mma_half(c.second.of, a + 2, b + 1);
    }
    CK_DEV float add(float acc, const ints &c, int i, const scales &w, uint32_t part,
                     const skinny_x &x) {
        const uint32_t both = w.scales[i / 2] >> (part * 16);
        const float one = (float)(int8_t)(uint8_t)both;
        const float other = (float)(int8_t)(uint8_t)(both >> 8);
        const float first = skinny_times(one, skinny_sum(c.first.of[i]));
        const float sum = ck_fma(other, skinny_sum(c.second.of[i]), first);
        return ck_fma(w.d[i / 2] * skinny_of(x.d, i), sum, acc);
    }
};

SKINNY_KERNELS(q6_k, 1)
