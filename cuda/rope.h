/* rope.h - heads turned by the angles of their row's position: by a block of ROPE_THREADS, or one
 * element after the other on their way into the cache. */
#ifndef CUDA_ROPE_H
#define CUDA_ROPE_H
#include "kv.h"

enum { ROPE_THREADS = 128 };

typedef struct turn {
    float cos, sin;
} turn;

/* The two elements of a pair, turned. */
CK_DEV float turned_first(const turn &t, float x0, float x1) {
    return ck_fma(x0, t.cos, -(x1 * t.sin));
}
CK_DEV float turned_second(const turn &t, float x0, float x1) {
    return ck_fma(x0, t.sin, x1 * t.cos);
}

/* The block turns the head x of a row.  A thread reads both elements of its pair before it writes
 * either, so x may be out. */
CK_DEV void turn_head(const ck_rope &rope, uint32_t row, const float *x, float *out) {
    uint32_t pairs = rope.dims / 2;
    const turn *table = (const turn *)rope.table + (uint64_t)row * pairs;
    for (uint32_t i = ck_tid; i < pairs; i += ROPE_THREADS) {
        uint32_t first = rope.first + (rope.halves ? i : 2 * i);
        uint32_t second = first + (rope.halves ? pairs : 1);
        turn t = ck_ld(table + i);
        float x0 = ck_ld(x + first), x1 = ck_ld(x + second);
        ck_st(out + first, turned_first(t, x0, x1));
        ck_st(out + second, turned_second(t, x0, x1));
    }
    if (x == out) return;
    for (uint32_t c = ck_tid; c < rope.head_dim; c += ROPE_THREADS)
        if (c - rope.first >= rope.dims) ck_st(out + c, ck_ld(x + c)); /* unsigned: before, too */
}

/* The same one by one: each lane of a warp has an element of its own. */
struct turned_head {
    ck_rope rope;
    const float *x;
    uint32_t row;

    CK_DEV float at(const turned_head &h, uint32_t c) {
        const uint32_t pairs = h.rope.dims / 2, in = c - h.rope.first;
        if (in >= h.rope.dims) return ck_ld(h.x + c);
        const uint32_t i = h.rope.halves ? (in < pairs ? in : in - pairs) : in / 2;
        const bool is_first = h.rope.halves ? in < pairs : in % 2 == 0;
        const float *x = h.x + h.rope.first + (h.rope.halves ? i : 2 * i);
        const turn t = ck_ld((const turn *)h.rope.table + (uint64_t)h.row * pairs + i);
        const float x0 = ck_ld(x), x1 = ck_ld(x + (h.rope.halves ? pairs : 1));
        return is_first ? turned_first(t, x0, x1) : turned_second(t, x0, x1);
    }
};

#endif
