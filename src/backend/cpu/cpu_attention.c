/* cpu_attention.c - rotary positions, the KV cache, and attention over it.
 *
 * A row's scores stand one behind the other in the worker's scratch, from the first position that
 * it sees on: what they are does not depend on how the row came into the batch.  A sink is one
 * more score, whose share of the sum has no value. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/assert.h"
#include "tensor/convert.h"

enum {
    HEADS_PER_UNIT = 8, /* query heads of one KV head: more of them are shared out */
    SCORES_PAD = 16,    /* softmax works on whole vectors */
};

/* --- rotary positions and the cache -------------------- */

static void rope_row(const backend *b, const op *o, uint32_t r) {
    const float *cos_sin = rope_tables_row(&b->ropes, (uint32_t)(o - b->p->ops), r);
    rope_turn(&o->rope, cos_sin, value_row(b, o->in[0], r), value_row(b, o->out, r));
}

/* Elements first .. first + n - 1 of a row of the cache. */
static void kv_put(dtype type, void *row, size_t first, const float *x, uint32_t n) {
    if (type == DTYPE_F32) {
        memcpy((float *)row + first, x, n * sizeof *x);
        return;
    }
    uint16_t *h = (uint16_t *)row + first;
    for (uint32_t i = 0; i < n; i++) h[i] = convert_f32_to_f16(x[i]);
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
    kv_put(l->type, k, k_first, value_row(b, o->in[0], r) + (size_t)head * k_dim, k_dim);
    kv_put(l->type, v, v_first, value_row(b, o->in[1], r) + (size_t)head * v_dim, v_dim);
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

/* --- attention -------------------- */

/* Positions begin .. end - 1. */
typedef struct span {
    uint32_t begin, end;
} span;

/* What row r sees: a window reaches back, and forward where the row may look there. */
static span seen_by(const backend *b, const op_attention *a, uint32_t r) {
    uint32_t i = b->in->pos[r], end = a->causal ? i + 1 : batch_seen_whole(b->in, r);
    if (a->window == 0) return (span){0, end};
    uint32_t begin = i + 1 > a->window ? i + 1 - a->window : 0;
    return (span){begin, (uint32_t)num_min_u64(end, (uint64_t)i + a->window)};
}

/* The rows of the cache that a query head reads, run by run within blocks. */
typedef struct kv_rows {
    const kv_view *kv;
    uint32_t seat, layer, head;
} kv_rows;

/* Rows from position t on, and how many follow in the same block before `end`. */
static const void *kv_rows_at(const kv_rows *s, kv_part part, uint32_t t, uint32_t end,
                              uint32_t *n) {
    const kv_layout *l = &s->kv->layout;
    uint32_t in_block = t % KV_BLOCK_TOKENS;
    const char *block = kv_at(s->kv, s->seat, t / KV_BLOCK_TOKENS, s->layer, part, s->head);
    *n = num_min_u32(KV_BLOCK_TOKENS - in_block, end - t);
    return block + (size_t)in_block * kv_row_elems(l, (int)part) * kv_elem_bytes(l);
}

/* scores[i] of position seen.begin + i */
static void score(const backend *b, const op_attention *a, const kv_rows *s, const float *q,
                  span seen, float *scores) {
    const bool f16 = s->kv->layout.type == DTYPE_F16;
    for (uint32_t t = seen.begin, n = 0; t < seen.end; t += n) {
        const void *k = kv_rows_at(s, KV_K, t, seen.end, &n);
        (f16 ? b->k->scores_f16 : b->k->scores_f32)(q, k, a->key_dim, n, a->scale,
                                                    scores + (t - seen.begin));
    }
}

/* Soft-cap and distances, where there are any; i is the row's position. */
static void bend(const backend *b, const op_attention *a, uint32_t h, uint32_t i, span seen,
                 float *scores) {
    const uint32_t count = seen.end - seen.begin;
    if (a->softcap != 0) {
        op_act softcap = {.kind = ACT_SOFTCAP, .a = a->softcap};
        b->k->act(&softcap, scores, NULL, scores, count);
    }
    if (a->slopes == NULL) return;
    for (uint32_t c = 0; c < count; c++) {
        uint32_t j = seen.begin + c, distance = i > j ? i - j : j - i;
        scores[c] -= a->slopes[h] * (float)distance;
    }
}

/* One query head: block by block over what the row may see. */
static void attend(const backend *b, const op *o, uint32_t r, uint32_t h, float *scores) {
    const op_attention *a = &o->attn;
    const kv_view *kv = &b->in->kv;
    const kv_rows s = {kv, b->in->seats[r], o->layer, h / (a->heads / a->kv_heads)};
    const bool f16 = kv->layout.type == DTYPE_F16;
    const span seen = seen_by(b, a, r);
    const uint32_t count = seen.end - seen.begin, stride = kv_row_elems(&kv->layout, KV_V);
    float *y = value_row(b, o->out, r) + (size_t)h * a->value_dim;
    score(b, a, &s, value_row(b, o->in[0], r) + (size_t)h * a->key_dim, seen, scores);
    bend(b, a, h, b->in->pos[r], seen, scores);
    if (a->sinks != NULL) scores[count] = a->sinks[h];
    float sum = b->k->softmax(scores, a->sinks != NULL ? count + 1 : count);
    memset(y, 0, a->value_dim * sizeof *y);
    for (uint32_t t = seen.begin, n = 0; t < seen.end; t += n) {
        const void *v = kv_rows_at(&s, KV_V, t, seen.end, &n);
        (f16 ? b->k->mix_f16 : b->k->mix_f32)(scores + (t - seen.begin), v, stride, a->value_dim, n,
                                              y);
    }
    for (uint32_t i = 0; i < a->value_dim; i++) y[i] /= sum;
}

static uint32_t units_per_kv_head(const op_attention *a) {
    return num_div_up_u32(a->heads / a->kv_heads, HEADS_PER_UNIT);
}

uint32_t cpu_units_attention(const backend *b, const task *t) {
    const op_attention *a = &t->ops[0]->attn;
    return step_rows(b, t->rows) * a->kv_heads * units_per_kv_head(a);
}

void cpu_attention(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const uint32_t per_head = units_per_kv_head(&o->attn), group = o->attn.heads / o->attn.kv_heads;
    const uint32_t r = unit / (o->attn.kv_heads * per_head);
    const uint32_t kv_head = unit / per_head % o->attn.kv_heads;
    const uint32_t first = unit % per_head * HEADS_PER_UNIT;
    const uint32_t end = num_min_u32(first + HEADS_PER_UNIT, group);
    for (uint32_t h = first; h < end; h++)
        attend(b, o, r, kv_head * group + h, worker_scratch(b, worker));
}

size_t cpu_attention_floats(const program *p) {
    return (size_t)p->max.ctx + 1 + SCORES_PAD; /* 1: the sink */
}
