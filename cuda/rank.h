/* rank.h - a logit and its id as one 64-bit number, whose order is that of tensor/best.h. */
#ifndef CUDA_RANK_H
#define CUDA_RANK_H
#include "ck.h"

/* The order of floats as that of integers: negative ones count down, all of NaN is 0, which -inf is
 * above.  Of the same logits the smaller id is the larger number. */
CK_DEV uint64_t rank_of(float logit, uint32_t id) {
    uint32_t bits = ck_bits(logit), order = bits >> 31 ? ~bits : bits | 0x80000000u;
    if (logit == 0) order = 0x80000000u;
    if (logit != logit) order = 0;
    return (uint64_t)order << 32 | ~id;
}
CK_DEV uint32_t rank_id(uint64_t rank) { return ~(uint32_t)rank; }

CK_DEV uint64_t rank_larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* The largest of the block, in thread 0.  part [warps] in shared memory. */
CK_DEV uint64_t rank_block(uint64_t v, uint64_t *part, uint32_t warps) {
    for (unsigned m = 16; m > 0; m >>= 1) {
        uint32_t high = ck_shfl_xor((uint32_t)(v >> 32), m), low = ck_shfl_xor((uint32_t)v, m);
        v = rank_larger(v, (uint64_t)high << 32 | low);
    }
    if (ck_lane() == 0) part[ck_warp()] = v;
    ck_sync();
    for (uint32_t w = 0; w < warps && ck_tid == 0; w++) v = rank_larger(v, part[w]);
    return v;
}

#endif
