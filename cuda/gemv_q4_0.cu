/* gemv_q4_0.cu - products with weights of Q4_0: 32 nibbles and one f16 scale.
 *
 *     sum over groups of  d * dx * (nibbles . x codes - 8 * sum of the x codes)
 *
 * The int sum begins at the offset.  Two groups at a time: one alone is a single granule.
 * ptx_count: k_gemv_q4_0_n1 weights 128 budget 1.3 */
#include "gemv.h"

struct gemv_q4_0 {
    enum { GROUP = 32, UNROLL = 2, RAGGED = 0, X_BYTES = 1, X_UNITS = 1 };
    typedef struct tile {
        ck_u4 w;
        uint16_t d;
    } tile;
    typedef gemv_input32 input;

    CK_DEV tile load(const ck_matrix &w, uint32_t group) {
        return {gemv_granule(w, 0, group), ck_ldg2(gemv_at<2>(w, 1, group))};
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        gemv_prefetch<16>(w, 0, group);
        gemv_prefetch<2>(w, 1, group);
    }
    CK_DEV uint32_t x_units(uint32_t cols) { return cols / GROUP; }
    CK_DEV input input_of(const gemv_job &job, uint32_t group) {
        return gemv_input32_of(job, group);
    }
    CK_DEV float dot(const tile &t, const input &in, float acc) {
        int sum = -8 * (in.sums.lo + in.sums.hi);
        sum = gemv_dot16(gemv_low(t.w), in.x[0], sum);
        sum = gemv_dot16(gemv_high(t.w), in.x[1], sum);
        return ck_fma(ck_h2f(t.d) * in.sums.d, (float)sum, acc);
    }
};

GEMV_KERNELS(q4_0, CK_EARLY_OF)
GEMV_KERNELS_PAIRS(q4_0)
