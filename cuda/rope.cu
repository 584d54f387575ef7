/* rope.cu - rotary positions: the table of a step's angles, and the turning of heads, of keys on
 * their way into the cache. */
#include "rope.h"

#include "ck_math.h"

enum { TABLE_THREADS = 64 };

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

CK_KERNEL(k_rope, 128) {
    uint32_t head = ck_bid_x, row = ck_bid_y;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    uint64_t at = ((uint64_t)row * a.heads + head) * a.rope.head_dim;
    turn_head(a.rope, row, (const float *)a.x + at, (float *)a.out + at);
}

/* Heads of q first, then those of k, each with its value. */
CK_KERNEL(k_rope_write, 128) {
    uint32_t row = ck_bid_y;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    if (ck_bid_x < a.q_heads) {
        uint64_t at = ((uint64_t)row * a.q_heads + ck_bid_x) * a.rope.head_dim;
        turn_head(a.rope, row, (const float *)a.q + at, (float *)a.q_out + at);
        return;
    }
    uint64_t head = ck_bid_x - a.q_heads, at = (uint64_t)row * a.kv.kv_heads + head;
    kv_rows to = kv_rows_at(a.kv, ck_ld((const uint32_t *)a.seats + row),
                            ck_ld((const uint32_t *)a.pos + row), (uint32_t)head);
    const turned_head k = {a.rope, (const float *)a.k + at * a.rope.head_dim, row};
    kv_put(a.kv, to.k, 0, a.rope.head_dim, k);
    kv_put(a.kv, to.v, 0, a.kv.value_dim, kv_plain{(const float *)a.v + at * a.kv.value_dim});
}
