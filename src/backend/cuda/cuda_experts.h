/* cuda_experts.h - how many tiles the pairs of a row and an expert make: pure functions. */
#ifndef BACKEND_CUDA_EXPERTS_H
#define BACKEND_CUDA_EXPERTS_H

#include "abi.h"
#include "base/num.h"

/* Tiles of k_group at most, however the pairs spread.  An expert that has any begins with one, and
 * every CK_GEMM_TILE of the other pairs may fill another. */
static inline uint32_t cuda_tiles_max(uint32_t pairs, uint32_t experts) {
    const uint32_t used = num_min_u32(pairs, experts);
    return used + (pairs - used) / CK_GEMM_TILE;
}

#endif
