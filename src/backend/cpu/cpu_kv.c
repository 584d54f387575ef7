/* cpu_kv.c - rotary positions, and what a row leaves in the KV cache. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/assert.h"

static void rope_row(const backend *b, const op *o, uint32_t r) {
    const float *cos_sin = rope_tables_row(&b->ropes, (uint32_t)(o - b->p->ops), r);
    rope_turn(&o->rope, cos_sin, value_row(b, o->in[0], r), value_row(b, o->out, r));
}

/* Elements first .. first + n - 1 of a row of the cache. */
static void kv_put(const backend *b, void *row, size_t first, const float *x, uint32_t n) {
    if (b->in->kv.layout.type == DTYPE_F16)
        b->k->narrow(x, (uint16_t *)row + first, n);
    else
        memcpy((float *)row + first, x, n * sizeof *x);
}

/* One head: k and v each in its part, or v behind k in one row. */
static void kv_write_head(const backend *b, const op *o, uint32_t r, uint32_t head) {
    const kv_view *kv = &b->in->kv;
    const kv_layout *l = &kv->layout;
    uint32_t block = b->in->pos[r] / KV_BLOCK_TOKENS, t = b->in->pos[r] % KV_BLOCK_TOKENS;
    uint32_t k_dim = value_cols(b, o->in[0]) / l->kv_heads;
    uint32_t v_dim = value_cols(b, o->in[1]) / l->kv_heads;
    size_t k_first = (size_t)t * l->key_dim;
    size_t v_first = l->v_in_k ? k_first + k_dim : (size_t)t * l->value_dim;
    DASSERT(l->v_in_k ? k_dim + v_dim == l->key_dim : k_dim == l->key_dim && v_dim == l->value_dim);
    void *k = kv_at(kv, b->in->seats[r], block, o->layer, KV_K, head);
    void *v = kv_at(kv, b->in->seats[r], block, o->layer, KV_V, head);
    kv_put(b, k, k_first, value_row(b, o->in[0], r) + (size_t)head * k_dim, k_dim);
    kv_put(b, v, v_first, value_row(b, o->in[1], r) + (size_t)head * v_dim, v_dim);
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
