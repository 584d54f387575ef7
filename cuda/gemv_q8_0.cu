/* gemv_q8_0.cu - products with weights of Q8_0: 32 codes and one f16 scale.
 *
 *     sum over groups of  d * dx * (codes . x codes)
 *
 * The sum of 32 products of bytes is at most 2^19: exact as int and as float.
 * ptx_count: k_gemv_q8_0_n1 weights 64 budget 0.9
 * ptx_count: k_gemvs_q8_0_n1 weights 64 budget 0.9 */
#include "gemv.h"

struct gemv_q8_0 {
    enum { GROUP = 32, UNROLL = 1, RAGGED = 0, X_BYTES = 1, X_UNITS = 1 };
    typedef struct tile {
        ck_u4 w[2];
        uint16_t d;
    } tile;
    typedef gemv_input32 input;

    CK_DEV tile load(const ck_matrix &w, uint32_t group) {
        return {{gemv_granule(w, 0, group), gemv_granule(w, 1, group)},
                ck_ldg2(gemv_at<2>(w, 2, group))};
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        gemv_prefetch<16>(w, 0, group);
        gemv_prefetch<16>(w, 1, group);
        gemv_prefetch<2>(w, 2, group);
    }
    CK_DEV uint32_t x_units(uint32_t cols) { return cols / GROUP; }
    CK_DEV input input_of(const gemv_job &job, uint32_t group) {
        return gemv_input32_of(job, group);
    }
    CK_DEV float dot(const tile &t, const input &in, float acc) {
        const int sum = gemv_dot16(t.w[1], in.x[1], gemv_dot16(t.w[0], in.x[0], 0));
        return ck_fma(ck_h2f(t.d) * in.sums.d, (float)sum, acc);
    }
};

GEMV_KERNELS(q8_0, CK_EARLY_OF)
GEMV_KERNELS_PAIRS(q8_0)
