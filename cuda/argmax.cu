/* argmax.cu - the largest of each row of logits: greedy sampling without sending them anywhere.
 *
 * A logit and its id become one number (rank.h), of which the largest is the answer in whatever
 * order they are looked at.  Blocks of a row each leave theirs, and take a ticket; who gets the
 * last one has all of them before its eyes. */
#include "rank.h"

enum { THREADS = 256, WARPS = 8, EACH = CK_ARGMAX_COLS / THREADS };

/* Of this block's columns.  What is behind the end of the row is NaN of a larger id: nothing is
 * below it. */
CK_DEV uint64_t thread_largest(const k_argmax_args &a) {
    const float *x = (const float *)a.x + (uint64_t)ck_bid_y * a.cols;
    const uint32_t first = ck_bid_x * CK_ARGMAX_COLS + ck_tid;
    float logits[EACH];
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t c = first + i * THREADS;
        logits[i] = c < a.cols ? ck_ld(x + c) : ck_u2f(0x7fc00000u);
    }
    uint64_t best = 0;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++)
        best = rank_larger(best, rank_of(logits[i], first + i * THREADS));
    return best;
}

CK_KERNEL(k_argmax, 256) {
    CK_SHARED(uint64_t, part, WARPS);
    CK_SHARED(uint32_t, is_last, 1);
    const uint32_t row = ck_bid_y, blocks = ck_gdim_x;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    uint64_t *parts = (uint64_t *)a.parts + (uint64_t)row * blocks;
    uint64_t best = rank_block(thread_largest(a), part, WARPS);
    if (ck_tid == 0) {
        ck_st(parts + ck_bid_x, best);
        ck_fence(); /* who sees the ticket sees the part */
        is_last[0] = ck_atomic_add((uint32_t *)a.tickets + row, 1) == blocks - 1;
        if (is_last[0] != 0) ck_fence();
    }
    ck_sync();
    if (is_last[0] == 0) return;
    best = 0;
    for (uint32_t i = ck_tid; i < blocks; i += THREADS) best = rank_larger(best, ck_ld(parts + i));
    best = rank_block(best, part, WARPS);
    if (ck_tid != 0) return;
    ck_st((uint32_t *)a.out + row, rank_id(best));
    (void)ck_atomic_add((uint32_t *)a.tickets + row, 0u - blocks);
}
