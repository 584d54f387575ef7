/* gemm_q4_k.cu - prompts with weights of Q4_K on tensor cores. */
#include "gemm_k.h"

struct gemm_weights_q4_k {
    static constexpr gemm_kind KIND = GEMM_MIN;
    enum { ACROSS = 1 };
    typedef gemm_k_tile tile;

    CK_DEV void load(tile &t, const ck_matrix &w, uint32_t row, uint32_t chunk) {
        gemm_k_load(t, w, row, chunk);
    }
    CK_DEV gemm_unpacked unpack(const tile &t, uint32_t chunk) { return gemm_k_unpack(t, chunk); }
};
typedef gemm_codes<gemm_weights_q4_k> gemm_q4_k;

GEMM_KERNELS(q4_k, 3)
