/* gemm_k.h - what prompts with weights of Q4_K and Q5_K on tensor cores share.
 *
 * A chunk is the 64 elements of a group of gemv_k.h, its steps are their two parts.  The 16 bytes
 * of scales of a block stay with the thread for its four chunks. */
#ifndef CUDA_GEMM_K_H
#define CUDA_GEMM_K_H
#include "gemm_codes.h"

typedef struct gemm_k_tile {
    ck_u4 nibbles; /* low: of 16 elements of the first part; high: of the second */
    ck_u4 header;
} gemm_k_tile;

CK_DEV void gemm_k_load(gemm_k_tile &t, const ck_matrix &w, uint32_t row, uint32_t chunk) {
    const uint64_t group = (uint64_t)row * (w.cols / 64) + chunk;
    t.nibbles = planar_granule(w, gemm_half(), group);
    if (chunk % 4 == 0) t.header = planar_granule(w, 2, group / 4);
}

CK_DEV gemm_unpacked gemm_k_unpack(const gemm_k_tile &t, uint32_t chunk) {
    const planar_scale s = planar_scale_k(t.header, chunk % 4 * 2 + gemm_half());
    return {{planar_low(t.nibbles), planar_high(t.nibbles)}, s.scale, -s.min};
}

#endif
