/* gemm_q4_0.cu - prompts with weights of Q4_0 on tensor cores: nibbles less 8. */
#include "gemm_codes.h"

struct gemm_weights_q4_0 {
    static constexpr gemm_kind KIND = GEMM_ONE;
    enum { ACROSS = 0 };
    typedef struct tile {
        ck_u4 nibbles;
        uint16_t d;
    } tile;

    CK_DEV void load(tile &t, const ck_matrix &w, uint32_t row, uint32_t chunk) {
        const uint32_t groups = w.cols / 32, group = chunk * GEMM_STEPS + gemm_half();
        if (group >= groups) return;
        const uint64_t at = (uint64_t)row * groups + group;
        t.nibbles = planar_granule(w, 0, at);
        t.d = ck_ldg2(planar_at(w, 1, at * 2));
    }
    CK_DEV gemm_unpacked unpack(const tile &t, uint32_t chunk) {
        (void)chunk;
        return {{gemm_less(planar_low(t.nibbles), 8), gemm_less(planar_high(t.nibbles), 8)},
                ck_h2f(t.d),
                0.0f};
    }
};
typedef gemm_codes<gemm_weights_q4_0> gemm_q4_0;

GEMM_KERNELS_EACH(q4_0, 4, 3)
