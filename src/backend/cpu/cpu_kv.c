/* cpu_kv.c - rotary positions, and what a row leaves in the KV cache. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "backend/kv_q4.h"
#include "backend/kv_q8.h"
#include "base/assert.h"

static void rope_row(const backend *b, const op *o, uint32_t r) {
    const float *cos_sin = rope_tables_row(&b->ropes, (uint32_t)(o - b->p->ops), r);
    rope_turn(&o->rope, cos_sin, value_row(b, o->in[0], r), value_row(b, o->out, r));
}

/* Elements first .. first + n - 1 of row t of a head. */
static void kv_put(const backend *b, void *head, kv_part part, uint32_t t, uint32_t first,
                   const float *x, uint32_t n) {
    const kv_layout *l = &b->in->kv.layout;
    const size_t at = (size_t)t * kv_row_elems(l, (int)part) + first;
    if (l->type == DTYPE_Q8_0)
        kv_q8_put(kv_q8_row_at(l, head, (int)part, t), first, x, n);
    else if (l->type == DTYPE_Q4_0)
        kv_q4_put(kv_q4_row_at(l, head, (int)part, t), first, x, n);
    else if (l->type == DTYPE_F16)
        b->k->narrow(x, (uint16_t *)head + at, n);
    else
        memcpy((float *)head + at, x, n * sizeof *x);
}

/* One head: k and v each in its part, or v behind k in one row. */
static void kv_write_head(const backend *b, const op *o, uint32_t r, uint32_t head) {
    const kv_view *kv = &b->in->kv;
    const kv_layout *l = &kv->layout;
    uint32_t block = b->in->pos[r] / KV_BLOCK_TOKENS, t = b->in->pos[r] % KV_BLOCK_TOKENS;
    uint32_t k_dim = value_cols(b, o->in[0]) / l->kv_heads;
    uint32_t v_dim = value_cols(b, o->in[1]) / l->kv_heads;
    DASSERT(l->v_in_k ? k_dim + v_dim == l->key_dim : k_dim == l->key_dim && v_dim == l->value_dim);
    void *k = kv_at(kv, b->in->seats[r], block, o->layer, KV_K, head);
    void *v = kv_at(kv, b->in->seats[r], block, o->layer, KV_V, head);
    kv_put(b, k, KV_K, t, 0, value_row(b, o->in[0], r) + (size_t)head * k_dim, k_dim);
    kv_put(b, v, KV_V, t, l->v_in_k ? k_dim : 0, value_row(b, o->in[1], r) + (size_t)head * v_dim,
           v_dim);
}

static void kv_write_row(const backend *b, const op *o, uint32_t r) {
    for (uint32_t h = 0; h < b->in->kv.layout.kv_heads; h++) kv_write_head(b, o, r, h);
}

void cpu_rope(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    rope_row(b, t->ops[0], r);
}

void cpu_kv_write(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    kv_write_row(b, t->ops[0], r);
}

void cpu_rope_kv(backend *b, const task *t, uint32_t r, uint32_t worker) {
    (void)worker;
    rope_row(b, t->ops[0], r);
    rope_row(b, t->ops[1], r);
    kv_write_row(b, t->ops[2], r);
}
