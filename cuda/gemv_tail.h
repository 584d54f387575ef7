/* gemv_tail.h - products of one row, and what is made of the results, in one launch (k_gemvt_args).
 *
 * Blocks that have a part of the same group of results count themselves in its ticket; who is last
 * sees the results of all and goes on with them, by the very code that a launch of its own runs
 * (the threadFenceReduction sample of CUDA).  So nobody waits.
 *
 * How products are made is a struct:
 *   ROWS, THREADS      of a block: rows of w, threads
 *   run(args, block)   one block of a product; all its threads come back */
#ifndef CUDA_GEMV_TAIL_H
#define CUDA_GEMV_TAIL_H
#include "act.h"
#include "gemv.h"
#include "norm.h"
#include "rope.h"

/* A group of results: its ticket, how many blocks have a part in it, and which one it is of its
 * product. */
typedef struct tail_group {
    uint32_t ticket, blocks, at;
} tail_group;

enum { TAIL_COLS = 32 }; /* of a group of gates */

template <uint32_t ROWS>
CK_DEV tail_group tail_group_of(const k_gemvt_args &a, uint32_t product, uint32_t block) {
    tail_group g = {0, ck_gdim_x, 0};
    if (a.tail == CK_TAIL_ACT_MUL) {
        const uint32_t each = TAIL_COLS / ROWS, all = ck_gdim_x / 2;
        g.ticket = g.at = block / each;
        g.blocks = 2 * ck_min_u(all - g.at * each, each);
    } else if (a.tail == CK_TAIL_TURN) {
        const k_rope_write_args &t = a.then.turn;
        const uint32_t dim = product < 2 ? t.rope.head_dim : t.kv.value_dim;
        g.blocks = dim / ROWS;
        g.at = block / g.blocks;
        g.ticket = g.at + (product > 0 ? t.q_heads : 0) + (product > 1 ? t.kv.kv_heads : 0);
    }
    return g;
}

/* All of the block's results are written; is it the last one?  flag [1] in shared memory. */
CK_DEV bool tail_is_last(uint64_t tickets, const tail_group &g, uint32_t *flag) {
    ck_sync();
    if (ck_tid == 0) {
        uint32_t *ticket = (uint32_t *)tickets + g.ticket;
        ck_fence(); /* who sees the ticket sees the results */
        const bool is_last = ck_atomic_add(ticket, 1) == g.blocks - 1;
        if (is_last) ck_fence();
        if (is_last) (void)ck_atomic_add(ticket, 0u - g.blocks);
        flag[0] = is_last;
    }
    ck_sync();
    return flag[0] != 0;
}

/* The gates of a group; whole warps are inside of the row where codes are made. */
CK_DEV void tail_act_mul(const k_act_mul_args &a, uint32_t group) {
    const uint32_t c = group * TAIL_COLS + ck_lane();
    if (ck_warp() != 0 || c >= a.cols) return;
    const float y =
        gated(a.kind, a.a, a.b, ck_ld((const float *)a.gate + c), ck_ld((const float *)a.up + c));
    if (a.out != 0) ck_st((float *)a.out + c, y);
    if (a.codes != 0)
        quantize_store(y, (int8_t *)a.codes + group * TAIL_COLS, (ck_sums *)a.sums + group);
}

CK_DEV void tail_turn(const k_rope_write_args &a, uint32_t product, uint32_t head, bool with_v) {
    if (product == 0) {
        const uint64_t at = (uint64_t)head * a.rope.head_dim;
        turn_head(a.rope, 0, (const float *)a.q + at, (float *)a.q_out + at);
        return;
    }
    kv_rows to =
        kv_rows_at(a.kv, ck_ld((const uint32_t *)a.seats), ck_ld((const uint32_t *)a.pos), head);
    const turned_head k = {a.rope, (const float *)a.k + (uint64_t)head * a.rope.head_dim, 0};
    if (product == 1) kv_put(a.kv, to.k, 0, a.rope.head_dim, k);
    if (product == 2 || with_v)
        kv_put(a.kv, to.v, 0, a.kv.value_dim,
               kv_plain{(const float *)a.v + (uint64_t)head * a.kv.value_dim});
}

template <typename form> struct gemvt_streamed {
    enum : uint32_t { ROWS = CK_GEMV_BLOCK_ROWS, THREADS = CK_GEMV_THREADS };
    CK_DEV void run(const k_gemv_args &a, uint32_t block) { gemv_kernel<form, 1>(a, block); }
};

template <typename product> CK_DEV void gemvt_kernel(const k_gemvt_args &a) {
    CK_SHARED(uint32_t, flag, 1);
    CK_SHARED(group_scale, scales, 1);
    CK_SHARED(float, part, NORM_SUMS / 32);
    uint32_t block = ck_bid_x;
    const uint32_t i = gemvs_find<product::ROWS>(a.of, &block);
    product::run(a.of[i], block);
    if (ck_ld((const uint32_t *)a.of[0].count) == 0) return;
    const tail_group g = tail_group_of<product::ROWS>(a, i, block);
    if (!tail_is_last(a.tickets, g, flag)) return;
    if (a.tail == CK_TAIL_NORM)
        norm_row<product::THREADS, 1>(a.then.norm, 0, part, scales, part);
    else if (a.tail == CK_TAIL_ACT_MUL)
        tail_act_mul(a.then.act_mul, g.at);
    else
        tail_turn(a.then.turn, i, g.at, a.of[2].w.rows == 0);
}

#endif
