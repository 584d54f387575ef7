/* embed.cu - rows in and out: of a table by number, of a matrix by index. */
#include "planar.h"

enum { THREADS = 256 };

/* A number outside of the table gives zeros and is reported, by row: an id is data, and what it is
 * used for here is an address. */
CK_KERNEL(k_embed, 256) {
    uint32_t row = ck_bid_x;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    uint32_t id = ck_ld((const uint32_t *)a.ids + row);
    if (a.made != 0 && id >> 31 != 0) id = ck_ld((const uint32_t *)a.made + ~id);
    bool known = id < a.table.rows;
    if (!known && ck_tid == 0) (void)ck_atomic_max((uint32_t *)a.error, 1 + row);
    float *out = (float *)a.out + (uint64_t)row * a.table.cols;
    for (uint32_t c = ck_tid; c < a.table.cols; c += THREADS)
        ck_st(out + c, known ? planar_element(a.table, id, c) : 0.0f);
}

CK_KERNEL(k_take_rows, 256) {
    uint32_t row = ck_bid_x;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    const float *x = (const float *)a.x + (uint64_t)ck_ld((const uint32_t *)a.index + row) * a.cols;
    float *out = (float *)a.out + (uint64_t)row * a.cols;
    for (uint32_t c = ck_tid; c < a.cols; c += THREADS) ck_st(out + c, ck_ld(x + c));
}
