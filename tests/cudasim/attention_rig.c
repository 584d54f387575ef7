/* attention_rig.c - see attention_rig.h. */
#include "cudasim/attention_rig.h"

#include <math.h>

#include "backend/kv_q4.h"
#include "backend/kv_q8.h"
#include "cudasim/oracle.h"
#include "cudasim/rig.h"
#include "tensor/convert.h"

/* --- the cache -------------------- */

attention_cache attention_cache_make(kv_layout layout, uint32_t stride) {
    const uint32_t blocks = ATTENTION_SEATS * stride;
    layout.layers = ATTENTION_LAYERS;
    attention_cache c = {layout, rig_buffer(kv_block_bytes(&layout) * blocks),
                         rig_buffer(blocks * sizeof(uint32_t)), stride};
    for (uint32_t i = 0; i < blocks; i++) c.tables[i] = i * 17 % blocks;
    return c;
}

kv_view attention_cache_view(const attention_cache *c) {
    return (kv_view){c->layout, c->blocks, c->tables, c->stride};
}

static ck_kv_type type_of(dtype type) {
    if (type == DTYPE_Q8_0) return CK_KV_Q8;
    if (type == DTYPE_Q4_0) return CK_KV_Q4;
    return type == DTYPE_F16 ? CK_KV_F16 : CK_KV_F32;
}

ck_kv attention_cache_kv(const attention_cache *c) {
    const kv_layout *l = &c->layout;
    return (ck_kv){.blocks = rig_at(c->blocks) + ATTENTION_LAYER * kv_layer_bytes(l),
                   .tables = rig_at(c->tables),
                   .block_bytes = kv_block_bytes(l),
                   .table_stride = c->stride,
                   .type = type_of(l->type),
                   .kv_heads = l->kv_heads,
                   .key_dim = l->key_dim,
                   .value_dim = l->value_dim,
                   .v_in_k = l->v_in_k};
}

static void fill_row(const attention_cache *c, void *head, kv_part part, uint32_t t) {
    const uint32_t n = kv_row_elems(&c->layout, (int)part);
    float x[CK_ATTENTION_DIM_MAX];
    rig_fill(x, n, 1);
    if (c->layout.type == DTYPE_Q8_0) {
        kv_q8_put(kv_q8_row_at(&c->layout, head, (int)part, t), 0, x, n);
        return;
    }
    if (c->layout.type == DTYPE_Q4_0) {
        kv_q4_put(kv_q4_row_at(&c->layout, head, (int)part, t), 0, x, n);
        return;
    }
    for (uint32_t e = 0; e < n; e++) {
        if (c->layout.type == DTYPE_F16)
            ((uint16_t *)head)[(size_t)t * n + e] = convert_f32_to_f16(x[e]);
        else
            ((float *)head)[(size_t)t * n + e] = x[e];
    }
}

void attention_cache_fill(const attention_cache *c, uint32_t seat, uint32_t tokens) {
    const kv_view view = attention_cache_view(c);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < 2 * c->layout.kv_heads; i++) {
            const kv_part part = (kv_part)(i % 2);
            void *head = kv_at(&view, seat, t / KV_BLOCK_TOKENS, ATTENTION_LAYER, part, i / 2);
            fill_row(c, head, part, t % KV_BLOCK_TOKENS);
        }
}

/* --- queries over it -------------------- */

static uint32_t *seen_of(const attention_case *c, const oracle_rows *rows) {
    uint32_t *seen = rig_buffer(rows->in.rows * sizeof *seen);
    for (uint32_t r = 0; r < rows->in.rows; r++)
        seen[r] = c->whole ? batch_seen_whole(&rows->in, r) : rows->pos[r] + 1;
    return seen;
}

static void fill_inputs(const attention_case *c, attention_rig *a) {
    const size_t q_floats = (size_t)a->rows * c->heads * c->layout.key_dim;
    a->q = rig_buffer(q_floats * sizeof(float));
    rig_fill(a->q, q_floats, 3);
    a->out = rig_buffer(attention_rig_floats(c, a) * sizeof(float));
    a->sinks = rig_buffer(c->heads * sizeof(float));
    a->slopes = rig_buffer(c->heads * sizeof(float));
    rig_fill(a->sinks, c->heads, 4);
    for (uint32_t h = 0; h < c->heads; h++) a->slopes[h] = exp2f(-(float)h - 2);
}

attention_rig attention_rig_make(const attention_case *c, const batch_run *runs, uint32_t count,
                                 uint32_t stride) {
    const kv_layout *l = &c->layout;
    const cuda_attention_cut cut =
        cuda_attention_cut_of(c->heads, l->kv_heads, l->key_dim, l->value_dim);
    attention_rig a = {.cache = attention_cache_make(*l, stride),
                       .rows = runs[count - 1].row0 + runs[count - 1].rows,
                       .shared_bytes = cut.shared_bytes};
    for (uint32_t i = 0; i < count; i++)
        attention_cache_fill(&a.cache, runs[i].seat, runs[i].pos0 + runs[i].rows);
    fill_inputs(c, &a);

    oracle_begin(a.rows);
    oracle_runs(runs, count);
    oracle_rows *rows = oracle_batch();
    rows->in.kv = attention_cache_view(&a.cache);
    a.args = (k_attention_args){.kv = attention_cache_kv(&a.cache),
                                .q = rig_at(a.q),
                                .out = rig_at(a.out),
                                .pos = rig_at(rig_copy(rows->pos, a.rows * 4)),
                                .seats = rig_at(rig_copy(rows->seats, a.rows * 4)),
                                .seen = rig_at(seen_of(c, rows)),
                                .sinks = c->sinks ? rig_at(a.sinks) : 0,
                                .slopes = c->slopes ? rig_at(a.slopes) : 0,
                                .count = rig_count(a.rows),
                                .heads = c->heads,
                                .window = c->window,
                                .scale = 1.5f / sqrtf((float)l->key_dim),
                                .softcap = c->softcap,
                                .per_block = cut.per_block,
                                .groups = cut.groups,
                                .splits_max = cut.splits_max};
    return a;
}

const float *attention_rig_want(const attention_case *c, const attention_rig *a) {
    const op_attention attn = {.heads = c->heads,
                               .kv_heads = c->layout.kv_heads,
                               .key_dim = c->layout.key_dim,
                               .value_dim = c->layout.value_dim,
                               .scale = a->args.scale,
                               .softcap = c->softcap,
                               .window = c->window,
                               .causal = !c->whole,
                               .sinks = c->sinks ? a->sinks : NULL,
                               .slopes = c->slopes ? a->slopes : NULL};
    pg_layer(oracle_program(), ATTENTION_LAYER);
    const value_id q = oracle_input(a->q, c->heads * c->layout.key_dim);
    return oracle_end(pg_attention(oracle_program(), q, attn));
}

size_t attention_rig_floats(const attention_case *c, const attention_rig *a) {
    return (size_t)a->rows * c->heads * c->layout.value_dim;
}

uint16_t *attention_rig_f16_row(const attention_rig *a, kv_part part, uint32_t seat, uint32_t t) {
    const kv_view view = attention_cache_view(&a->cache);
    uint16_t *head = kv_at(&view, seat, t / KV_BLOCK_TOKENS, ATTENTION_LAYER, part, 0);
    return head + t % KV_BLOCK_TOKENS * kv_row_elems(&a->cache.layout, (int)part);
}
