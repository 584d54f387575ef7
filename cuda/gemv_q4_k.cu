/* gemv_q4_k.cu - products with weights of Q4_K.
 *
 * ptx_count: k_gemv_q4_k_n1 weights 128 budget 1.8
 * ptx_count: k_gemvs_q4_k_n1 weights 128 budget 1.8 */
#include "gemv_k.h"

struct gemv_q4_k : gemv_k {
    typedef gemv_k_tile tile;

    CK_DEV tile load(const ck_matrix &w, uint32_t group) { return gemv_k_load(w, group); }
    CK_DEV float dot(const tile &t, const input &in, float acc) {
        int sum[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            sum[0] = gemv_dot16(gemv_low(t.w[i]), in.x[i], sum[0]);
            sum[1] = gemv_dot16(gemv_high(t.w[i]), in.x[2 + i], sum[1]);
        }
        return gemv_k_scale(t.header, sum, in.sums, acc);
    }
};

GEMV_KERNELS(q4_k, GEMV_EARLY_FEW)
GEMV_KERNELS_PAIRS(q4_k)
