/* norm.cu - residual sum, norm, gain and bias, and the codes of the result, in one pass over a row:
 * norm.h, a block of 256 threads for each. */
#include "norm.h"

enum { THREADS = 256, GROUPS_AT_ONCE = 512 };

CK_KERNEL(k_norm, 256) {
    CK_SHARED_DYN(float, row);
    CK_SHARED(group_scale, scales, GROUPS_AT_ONCE);
    CK_SHARED(float, part, NORM_SUMS / 32);
    if (ck_bid_x >= ck_ld((const uint32_t *)a.count)) return;
    norm_row<THREADS, GROUPS_AT_ONCE>(a, (uint64_t)ck_bid_x * a.cols, row, scales, part);
}
