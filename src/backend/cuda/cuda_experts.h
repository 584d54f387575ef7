/* cuda_experts.h - how many tiles the pairs of a row and an expert make, and from when on it is
 * worth making them: pure functions. */
#ifndef BACKEND_CUDA_EXPERTS_H
#define BACKEND_CUDA_EXPERTS_H

#include "abi.h"
#include "base/num.h"

/* Tiles of k_group at most, however the pairs spread.  An expert that has any begins with one, and
 * every `tile` of the other pairs may fill another. */
static inline uint32_t cuda_tiles_max(uint32_t pairs, uint32_t experts, uint32_t tile) {
    const uint32_t used = num_min_u32(pairs, experts);
    return used + (pairs - used) / tile;
}

/* Pairs of a tile of rows that are none of a prompt, with weights of this form; 0: F32, whose pairs
 * are not grouped. */
static inline uint32_t cuda_few_tile(ck_form form) {
    if (form == CK_FORM_F32) return 0;
    return form <= CK_FORM_BF16 ? CK_HALVES_X : CK_SKINNY_X;
}

/* Rows from which on they are grouped.  N rows that use U of E experts use E (1 - (1 - U / E)^N) of
 * them if they choose evenly, and routers do not: with half as many pairs as experts every weight
 * is read 1.25 times or more if each pair reads its own.  Two rows never gain that much. */
static inline uint32_t cuda_few_from(uint32_t experts, uint32_t used) {
    return num_max_u32(num_div_up_u32(experts, 2 * used), 3);
}

#endif
