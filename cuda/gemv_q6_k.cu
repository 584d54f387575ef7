/* gemv_q6_k.cu - products with weights of Q6_K: 64 of them are four parts of 16 with a scale each.
 *
 *     sum over groups and pairs of parts of
 *         d * dx * (scale * (codes . x codes - 32 * sum of the x codes), both parts added)
 *
 * The int of a pair is below 2^24 (2 * 128 * 16 * 32 * 127) and so exact as float; the int sums
 * begin at the offset.  Four lanes share the f16 of a block.
 * ptx_count: k_gemv_q6_k_n1 weights 128 budget 2.6
 * ptx_count: k_gemvs_q6_k_n1 weights 128 budget 2.6 */
#include "gemv.h"

struct gemv_q6_k {
    enum { GROUP = 64, UNROLL = 1, RAGGED = 0, X_BYTES = 1, X_UNITS = 1 };
    typedef struct tile {
        ck_u4 low[2]; /* nibbles: of 0..15 and 16..31, of 32..47 and 48..63 */
        ck_u4 pairs;
        uint32_t scales; /* four int8 */
        uint16_t d;
    } tile;
    typedef gemv_input64 input;

    CK_DEV tile load(const ck_matrix &w, uint32_t group) {
        return {{gemv_granule(w, 0, group), gemv_granule(w, 1, group)},
                gemv_granule(w, 2, group),
                ck_ldg4(gemv_at<4>(w, 3, group)),
                ck_ldg2(gemv_at<2>(w, 4, group / 4))};
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
#pragma unroll
        for (int plane = 0; plane < 3; plane++) gemv_prefetch<16>(w, plane, group);
        gemv_prefetch<4>(w, 3, group);
        gemv_prefetch<2>(w, 4, group / 4);
    }
    CK_DEV uint32_t x_units(uint32_t cols) { return cols / GROUP; }
    CK_DEV input input_of(const gemv_job &job, uint32_t group) {
        return gemv_input64_of(job, group);
    }

    CK_DEV uint32_t pair_of(uint32_t pairs, int part) {
        return (part < 2 ? pairs << (4 - 2 * part) : pairs >> (2 * part - 4)) & 0x30303030u;
    }
    /* The six-bit codes of a part. */
    CK_DEV ck_u4 codes(const tile &t, int part) {
        const ck_u4 low = part % 2 == 0 ? gemv_low(t.low[part / 2]) : gemv_high(t.low[part / 2]);
        return {low.x | pair_of(t.pairs.x, part), low.y | pair_of(t.pairs.y, part),
                low.z | pair_of(t.pairs.z, part), low.w | pair_of(t.pairs.w, part)};
    }
    CK_DEV int part_dot(const tile &t, int part, ck_u4 x, int x_sum) {
        const int scale = (int)(int8_t)(uint8_t)(t.scales >> (part * 8));
        return scale * gemv_dot16(codes(t, part), x, -32 * x_sum);
    }
    CK_DEV float dot(const tile &t, const input &in, float acc) {
        const float d = ck_h2f(t.d);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int sum = part_dot(t, 2 * i, in.x[2 * i], in.sums[i].lo) +
                            part_dot(t, 2 * i + 1, in.x[2 * i + 1], in.sums[i].hi);
            acc = ck_fma(d * in.sums[i].d, (float)sum, acc);
        }
        return acc;
    }
};

GEMV_KERNELS(q6_k, GEMV_EARLY_FEW)
GEMV_KERNELS_PAIRS(q6_k)
