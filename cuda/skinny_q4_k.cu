/* skinny_q4_k.cu - some rows with weights of Q4_K on tensor cores. */
#include "skinny_k.h"

struct skinny_q4_k : skinny_k {
    typedef ck_u4 loaded;
    typedef skinny_k_numbers numbers;
    typedef struct raw {
        uint32_t words[4];
    } raw;

    CK_DEV void load(loaded &l, const ck_matrix &w, uint32_t group) {
        l = planar_granule(w, 2, group / 4);
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        ck_prefetch(planar_at(w, 2, (uint64_t)(group / 4) * 16));
    }
    CK_DEV void put(numbers &n, loaded l, uint32_t item, uint32_t group) {
        skinny_k_put(n, l, item, group);
    }
    CK_DEV raw raw_of(const gemm_granule w[PLANES][32], const numbers &n, uint32_t piece) {
        raw r;
        (void)n;
        skinny_k_words(r.words, w, piece);
        return r;
    }
    CK_DEV void fragment(const raw &r, uint32_t part, uint32_t a[4]) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) a[i] = r.words[i] >> (part * 4) & 0x0f0f0f0fu;
    }
    CK_DEV scales scales_of(const numbers &n, uint32_t column) {
        return skinny_k_scales_of(n, column);
    }
};

SKINNY_KERNELS(q4_k, 1)
