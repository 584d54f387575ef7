/* gemv_q5_k.cu - products with weights of Q5_K: Q4_K, and a plane of fifth bits.
 *
 * Bit 8 b + w of a word of fifth bits belongs to byte b of the w-th word of codes.
 * ptx_count: k_gemv_q5_k_n1 weights 128 budget 2.6 */
#include "gemv_k.h"

struct gemv_q5_k : gemv_k {
    typedef struct tile {
        gemv_k_tile low;
        ck_u2 fifths; /* of elements 0..31 and 32..63 */
    } tile;

    CK_DEV tile load(const ck_matrix &w, uint32_t group) {
        return {gemv_k_load(w, group), ck_ldg8(gemv_at<8>(w, 3, group))};
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        gemv_k::ahead(w, group);
        gemv_prefetch<8>(w, 3, group);
    }
    /* The fifth bits of word w of codes, where they belong. */
    CK_DEV uint32_t fifths_of(uint32_t bits, int w) {
        return (w < 4 ? bits << (4 - w) : bits >> (w - 4)) & 0x10101010u;
    }
    /* Words 4 i .. 4 i + 3 of the codes. */
    CK_DEV ck_u4 join(ck_u4 low, uint32_t bits, int i) {
        return {low.x | fifths_of(bits, 4 * i), low.y | fifths_of(bits, 4 * i + 1),
                low.z | fifths_of(bits, 4 * i + 2), low.w | fifths_of(bits, 4 * i + 3)};
    }
    CK_DEV float dot(const tile &t, const input &in, float acc) {
        int sum[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 2; i++)
            sum[0] = gemv_dot16(join(gemv_low(t.low.w[i]), t.fifths.x, i), in.x[i], sum[0]);
#pragma unroll
        for (int i = 0; i < 2; i++)
            sum[1] = gemv_dot16(join(gemv_high(t.low.w[i]), t.fifths.y, i), in.x[2 + i], sum[1]);
        return gemv_k_scale(t.low.header, sum, in.sums, acc);
    }
};

GEMV_KERNELS(q5_k, GEMV_EARLY_FEW)
GEMV_KERNELS_PAIRS(q5_k)
