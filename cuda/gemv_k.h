/* gemv_k.h - what products with weights of Q4_K and Q5_K share.
 *
 * A group is 64 elements, a quarter of a block: two parts of 32 with six-bit scale and minimum.
 * The minima are multiplied with the sums of the x codes:
 *
 *     sum over groups and their parts of  dx * (d * scale * (codes . x codes) - dmin * min * sum)
 *
 * Both ints are below 2^23 (63 * 31 * 32 * 127) and so exact as floats.  Four lanes share the 16
 * bytes of scales of a block; which quarter a lane has never changes, as groups are 32 apart. */
#ifndef CUDA_GEMV_K_H
#define CUDA_GEMV_K_H
#include "gemv.h"
#include "planar.h"

typedef struct gemv_k_tile {
    ck_u4 w[2]; /* low nibbles: elements 0..15 and 16..31; high ones: 32..47 and 48..63 */
    ck_u4 header;
} gemv_k_tile;

struct gemv_k {
    enum { GROUP = 64, UNROLL = 1, RAGGED = 0, X_BYTES = 1, X_UNITS = 1 };
    typedef gemv_input64 input;
    CK_DEV uint32_t x_units(uint32_t cols) { return cols / GROUP; }
    CK_DEV input input_of(const gemv_job &job, uint32_t group) {
        return gemv_input64_of(job, group);
    }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) {
        gemv_prefetch<16>(w, 0, group);
        gemv_prefetch<16>(w, 1, group);
        gemv_prefetch<16>(w, 2, group / 4);
    }
};

CK_DEV gemv_k_tile gemv_k_load(const ck_matrix &w, uint32_t group) {
    return {{gemv_granule(w, 0, group), gemv_granule(w, 1, group)}, gemv_granule(w, 2, group / 4)};
}

CK_DEV float gemv_k_scale(ck_u4 header, const int sum[2], const gemv_sums x[2], float acc) {
    const uint32_t scales = planar_six_bits(header.y, header.w, ck_lane());
    const uint32_t mins = planar_six_bits(header.z, header.w >> 4, ck_lane());
    const float d = ck_h2f((uint16_t)header.x), dmin = -ck_h2f((uint16_t)(header.x >> 16));
#pragma unroll
    for (int part = 0; part < 2; part++) {
        const int scale = (int)(part == 0 ? scales & 63u : scales >> 8);
        const int min = (int)(part == 0 ? mins & 63u : mins >> 8);
        const float offset = dmin * (float)(min * (x[part].lo + x[part].hi));
        acc = ck_fma(x[part].d, ck_fma(d, (float)(scale * sum[part]), offset), acc);
    }
    return acc;
}

#endif
