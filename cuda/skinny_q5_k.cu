/* skinny_q5_k.cu - some rows with weights of Q5_K on tensor cores: Q4_K, and fifth bits, whose
 * order is that of gemv_q5_k.cu. */
#include "skinny_k.h"

struct skinny_q5_k : skinny_k {
    typedef struct loaded {
        ck_u4 header;
        ck_u2 fifths;
    } loaded;
    typedef struct numbers {
        skinny_k_numbers k;
        uint32_t fifths[2][32]; /* of both parts */
    } numbers;
    typedef struct raw {
        uint32_t words[4], fifths[2][2]; /* of both parts, rows g and g + 8 */
    } raw;

    CK_DEV void load(loaded &l, const ck_matrix &w, uint32_t group) {
        l.header = planar_granule(w, 2, group / 4);
        l.fifths = ck_ldg8(planar_at(w, 3, (uint64_t)group * 8));
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        ck_prefetch(planar_at(w, 2, (uint64_t)(group / 4) * 16));
        ck_prefetch(planar_at(w, 3, (uint64_t)group * 8));
    }
    CK_DEV void put(numbers &n, const loaded &l, uint32_t item, uint32_t group) {
        skinny_k_put(n.k, l.header, item, group);
        n.fifths[0][item] = l.fifths.x;
        n.fifths[1][item] = l.fifths.y;
    }
    CK_DEV raw raw_of(const gemm_granule w[PLANES][32], const numbers &n, uint32_t piece) {
        const uint32_t at = ck_lane() / 4 * 2 + piece;
        raw r;
        skinny_k_words(r.words, w, piece);
#pragma unroll
        for (uint32_t part = 0; part < 2; part++)
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) r.fifths[part][i] = n.fifths[part][at + 16 * i];
        return r;
    }
    /* Words q of rows g and g + 8, then words q + 4. */
    CK_DEV void fragment(const raw &r, uint32_t part, uint32_t a[4]) {
        const uint32_t q = ck_lane() % 4;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t fifths = r.fifths[part][i % 2] >> (q + i / 2 * 4) & 0x01010101u;
            a[i] = (r.words[i] >> (part * 4) & 0x0f0f0f0fu) | fifths << 4;
        }
    }
    CK_DEV scales scales_of(const numbers &n, uint32_t column) {
        return skinny_k_scales_of(n.k, column);
    }
};

SKINNY_KERNELS(q5_k, 1)
