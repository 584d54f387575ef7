/* skinny_q8_0.cu - some rows with weights of Q8_0 on tensor cores.
 *
 * A step of 16 rows is twice as long as that of other forms, and so a block has half as many. */
#include "skinny.h"

struct skinny_q8_0 {
    enum { GROUP = 32, M = 1, PLANES = 2, SUMS = 0 };
    typedef skinny_ints ints;
    typedef uint16_t loaded;
    typedef struct numbers {
        float d[16 * 4];
    } numbers;
    typedef struct raw {
        uint32_t a[2][4];
    } raw;
    typedef struct scales {
        float d[2];
    } scales;

    CK_DEV void load(loaded &l, const ck_matrix &w, uint32_t group) {
        l = ck_ldg2(planar_at(w, 2, (uint64_t)group * 2));
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        ck_prefetch(planar_at(w, 2, (uint64_t)group * 2));
    }
    CK_DEV void put(numbers &n, loaded l, uint32_t item, uint32_t group) {
        (void)group;
        n.d[item] = ck_h2f(l);
    }
    CK_DEV raw raw_of(const gemm_granule w[PLANES][64], const numbers &n, uint32_t piece) {
        const uint32_t matrix = ck_lane() / 8, row = matrix % 2 * 8 + ck_lane() % 8;
        raw r;
        (void)n;
#pragma unroll
        for (uint32_t part = 0; part < 2; part++)
            ck_ldmatrix_x4(r.a[part], &w[matrix / 2][skinny_at<4>(row, piece * 2 + part)]);
        return r;
    }
    CK_DEV void fragment(const raw &r, uint32_t part, uint32_t a[4]) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) a[i] = r.a[part][i];
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

SKINNY_KERNELS(q8_0, 2)
