/* quantize.cu - rows of f32 to codes and sums. */
#include "quantize.h"

enum { BLOCK = 32, PER_WARP = 128, PER_BLOCK = 1024 }; /* elements */

/* A warp takes 4 blocks of 32; a block of 32 is inside the row or not, for all of its lanes. */
CK_KERNEL(k_quantize, 256) {
    const uint32_t row = ck_bid_y;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    const uint64_t to = (uint64_t)row << a.pairs;
    const float *x = (const float *)a.x + (uint64_t)row * a.cols;
    int8_t *codes = (int8_t *)a.codes + to * a.cols;
    ck_sums *sums = (ck_sums *)a.sums + to * (a.cols / BLOCK);
    const uint32_t first = ck_bid_x * PER_BLOCK + ck_warp() * PER_WARP;
    for (uint32_t i = 0; i < PER_WARP; i += BLOCK) {
        const uint32_t at = first + i;
        if (at >= a.cols) continue;
        const float rest = quantize_store(ck_ld(x + at + ck_lane()), codes + at, sums + at / BLOCK);
        if (a.pairs != 0) quantize_store(rest, codes + a.cols + at, sums + (a.cols + at) / BLOCK);
    }
}
