/* skinny_q4_0.cu - some rows with weights of Q4_0 on tensor cores: nibbles less 8. */
#include "skinny.h"

/* Factors of 16 rows, four groups of each; of rows g and g + 8 in one. */
struct skinny_q4_0 {
    enum { GROUP = 32, M = 2, PLANES = 1, SUMS = 0 };
    typedef skinny_ints ints;
    typedef uint16_t loaded;
    typedef struct numbers {
        float d[16 * 4];
    } numbers;
    typedef struct raw {
        uint32_t words[4]; /* of the first group rows g, g + 8; of the second */
    } raw;
    typedef struct scales {
        float d[2];
    } scales;

    CK_DEV void load(loaded &l, const ck_matrix &w, uint32_t group) {
        l = ck_ldg2(planar_at(w, 1, (uint64_t)group * 2));
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        ck_prefetch(planar_at(w, 1, (uint64_t)group * 2));
    }
    CK_DEV void put(numbers &n, loaded l, uint32_t item, uint32_t group) {
        (void)group;
        n.d[item] = ck_h2f(l);
    }
    CK_DEV raw raw_of(const gemm_granule w[PLANES][64], const numbers &n, uint32_t piece) {
        const uint32_t matrix = ck_lane() / 8, row = matrix % 2 * 8 + ck_lane() % 8;
        raw r;
        (void)n;
        ck_ldmatrix_x4(r.words, &w[0][skinny_at<4>(row, piece * 2 + matrix / 2)]);
        return r;
    }
    CK_DEV void fragment(const raw &r, uint32_t part, uint32_t a[4]) {
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t word = r.words[part * 2 + i];
            a[i] = gemm_less_word(word & 0x0f0f0f0fu, 8);
            a[2 + i] = gemm_less_word(word >> 4 & 0x0f0f0f0fu, 8);
        }
    }
    CK_DEV scales scales_of(const numbers &n, uint32_t column) {
        const uint32_t at = ck_lane() / 4 * 4 + column;
        return {{n.d[at], n.d[at + 32]}};
    }
    CK_DEV void multiply(ints &c, const uint32_t a[4], const uint32_t b[2]) {
        c = skinny_zeros();
        gemm_mma(c.of, a, b);
    }
    CK_DEV float add(float acc, const ints &c, int i, const scales &w, uint32_t part,
                     const skinny_x &x) {
        (void)part;
        return ck_fma(w.d[i / 2] * skinny_of(x.d, i), skinny_sum(c.of[i]), acc);
    }
};

SKINNY_KERNELS(q4_0, 1)
