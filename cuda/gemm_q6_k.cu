/* gemm_q6_k.cu - prompts with weights of Q6_K on tensor cores: six-bit codes less 32, four parts of
 * 16 with a scale each in a chunk.
 *
 * A thread has the nibbles of two parts; the granule of upper pairs is that of all four, and both
 * threads of a row read it. */
#include "gemm_codes.h"

struct gemm_weights_q6_k {
    static constexpr gemm_kind KIND = GEMM_TWO;
    enum { ACROSS = 0 };
    typedef struct tile {
        ck_u4 nibbles; /* low: of the step's first part; high: of its second */
        ck_u4 pairs;
        uint16_t scales; /* two int8 */
        uint16_t d;
    } tile;

    CK_DEV void load(tile &t, const ck_matrix &w, uint32_t row, uint32_t chunk) {
        const uint64_t group = (uint64_t)row * (w.cols / 64) + chunk;
        t.nibbles = planar_granule(w, gemm_half(), group);
        t.pairs = planar_granule(w, 2, group);
        t.scales = ck_ldg2(planar_at(w, 3, group * 4 + gemm_half() * 2));
        if (chunk % 4 == 0) t.d = ck_ldg2(planar_at(w, 4, group / 4 * 2));
    }
    /* The two bits of a part on top of its nibbles. */
    CK_DEV ck_u4 join(ck_u4 low, ck_u4 pairs, uint32_t part) {
        const uint32_t shift = part * 2, m = 0x03030303u;
        return gemm_less({low.x | (pairs.x >> shift & m) << 4, low.y | (pairs.y >> shift & m) << 4,
                          low.z | (pairs.z >> shift & m) << 4, low.w | (pairs.w >> shift & m) << 4},
                         32);
    }
    CK_DEV gemm_unpacked unpack(const tile &t, uint32_t chunk) {
        (void)chunk;
        const float d = ck_h2f(t.d);
        const uint32_t part = gemm_half() * 2;
        return {{join(planar_low(t.nibbles), t.pairs, part),
                 join(planar_high(t.nibbles), t.pairs, part + 1)},
                d * (float)(int8_t)(uint8_t)t.scales,
                d * (float)(int8_t)(uint8_t)(t.scales >> 8)};
    }
};
typedef gemm_codes<gemm_weights_q6_k> gemm_q6_k;

GEMM_KERNELS(q6_k, 3)
