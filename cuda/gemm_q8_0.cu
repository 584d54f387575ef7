/* gemm_q8_0.cu - prompts with weights of Q8_0 on tensor cores. */
#include "gemm_codes.h"

struct gemm_weights_q8_0 {
    static constexpr gemm_kind KIND = GEMM_ONE;
    enum { ACROSS = 0 };
    typedef struct tile {
        ck_u4 codes[2];
        uint16_t d;
    } tile;

    CK_DEV void load(tile &t, const ck_matrix &w, uint32_t row, uint32_t chunk) {
        const uint32_t groups = w.cols / 32, group = chunk * GEMM_STEPS + gemm_half();
        if (group >= groups) return;
        const uint64_t at = (uint64_t)row * groups + group;
        t.codes[0] = planar_granule(w, 0, at);
        t.codes[1] = planar_granule(w, 1, at);
        t.d = ck_ldg2(planar_at(w, 2, at * 2));
    }
    CK_DEV gemm_unpacked unpack(const tile &t, uint32_t chunk) {
        (void)chunk;
        return {{t.codes[0], t.codes[1]}, ck_h2f(t.d), 0.0f};
    }
};
typedef gemm_codes<gemm_weights_q8_0> gemm_q8_0;

GEMM_KERNELS(q8_0, 4)
