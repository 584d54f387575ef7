/* rope.cu - rotary positions: the table of a step's angles, and the turning of heads. */
#include "ck_math.h"

enum { TABLE_THREADS = 64, ROPE_THREADS = 128 };

typedef struct turn {
    float cos, sin;
} turn;

/* Angles are in double: at position 1e6 an f32 angle is wrong by 0.03 radians. */
CK_KERNEL(k_rope_table, 64) {
    uint32_t row = ck_bid_y, i = ck_bid_x * TABLE_THREADS + ck_tid;
    if (row >= ck_ld((const uint32_t *)a.count) || i >= a.pairs) return;
    double angle =
        (double)ck_ld((const uint32_t *)a.pos + row) * ck_ld((const double *)a.freqs + i);
    turn t;
    ck_sincos(angle, &t.sin, &t.cos);
    t.sin *= a.magnitude;
    t.cos *= a.magnitude;
    ck_st((turn *)a.table + (uint64_t)row * a.pairs + i, t);
}

/* A thread reads both elements of its pair before it writes either, so x may be out. */
CK_KERNEL(k_rope, 128) {
    uint32_t head = ck_bid_x, row = ck_bid_y, pairs = a.dims / 2;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    uint64_t at = ((uint64_t)row * a.heads + head) * a.head_dim;
    const float *x = (const float *)a.x + at;
    float *out = (float *)a.out + at;
    const turn *table = (const turn *)a.table + (uint64_t)row * pairs;
    for (uint32_t i = ck_tid; i < pairs; i += ROPE_THREADS) {
        uint32_t first = a.first + (a.halves ? i : 2 * i), second = first + (a.halves ? pairs : 1);
        turn t = ck_ld(table + i);
        float x0 = ck_ld(x + first), x1 = ck_ld(x + second);
        ck_st(out + first, ck_fma(x0, t.cos, -(x1 * t.sin)));
        ck_st(out + second, ck_fma(x0, t.sin, x1 * t.cos));
    }
    if (a.x == a.out) return;
    for (uint32_t c = ck_tid; c < a.head_dim; c += ROPE_THREADS)
        if (c - a.first >= a.dims) ck_st(out + c, ck_ld(x + c)); /* unsigned: before it, too */
}
