/* gemm_q5_k.cu - prompts with weights of Q5_K on tensor cores: Q4_K, and a plane of fifth bits.
 *
 * Bit 8 b + w of a word of fifth bits belongs to byte b of the w-th word of codes; a thread has
 * words 0..3 or 4..7 of either part. */
#include "gemm_k.h"

struct gemm_weights_q5_k {
    static constexpr gemm_kind KIND = GEMM_MIN;
    enum { ACROSS = 1 };
    typedef struct tile {
        gemm_k_tile low;
        ck_u2 fifths; /* of the two parts */
    } tile;

    CK_DEV void load(tile &t, const ck_matrix &w, uint32_t row, uint32_t chunk) {
        const uint64_t group = (uint64_t)row * (w.cols / 64) + chunk;
        gemm_k_load(t.low, w, row, chunk);
        t.fifths = ck_ldg8(planar_at(w, 3, group * 8));
    }
    CK_DEV ck_u4 join(ck_u4 low, uint32_t fifths) {
        const uint32_t bits = fifths >> (gemm_half() * 4), m = 0x10101010u;
        return {low.x | (bits << 4 & m), low.y | (bits << 3 & m), low.z | (bits << 2 & m),
                low.w | (bits << 1 & m)};
    }
    CK_DEV gemm_unpacked unpack(const tile &t, uint32_t chunk) {
        gemm_unpacked u = gemm_k_unpack(t.low, chunk);
        u.codes[0] = join(u.codes[0], t.fifths.x);
        u.codes[1] = join(u.codes[1], t.fifths.y);
        return u;
    }
};
typedef gemm_codes<gemm_weights_q5_k> gemm_q5_k;

GEMM_KERNELS(q5_k, 3)
