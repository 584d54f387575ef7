/* forward_attention.c - attention over the KV cache: multi-head with shared KV heads, and latent.
 *
 * Sources: Vaswani et al. 2017; Ainslie et al. 2023, "GQA"; Su et al. 2021, "RoFormer";
 * DeepSeek-AI 2024, "DeepSeek-V2", section 2.1 and appendix C. */
#include "engine/forward_internal.h"

static value_id project(const forward *f, value_id n, const model_linear *l) {
    float limit = f->h->qkv_clamp;
    value_id y = forward_linear(f, n, l);
    if (limit == 0) return y;
    return pg_act(f->p, y, (op_act){.kind = ACT_CLAMP, .a = -limit, .b = limit});
}

/* Give the heads of x their position; `first` elements of each stay as they are. */
static value_id turn(const forward *f, const model_layer *l, value_id x, uint32_t heads,
                     uint32_t first) {
    if (l->rope == MODEL_ROPE_NONE) return x;
    const model_rope *r = &f->m->ropes[l->rope];
    bool is_long = r->freqs_long != NULL && f->p->max.ctx_asked > r->ctx_short;
    return pg_rope(f->p, x,
                   (op_rope){.heads = heads,
                             .head_dim = f->p->values[x].cols / heads,
                             .first = first,
                             .dims = r->dims,
                             .pairs = r->pairs,
                             .freqs = is_long ? r->freqs_long : r->freqs,
                             .magnitude = is_long ? r->magnitude_long : r->magnitude});
}

/* Normalise the heads of x and give them their position. */
static value_id shape(const forward *f, const model_layer *l, value_id x, const model_norm *n,
                      uint32_t heads) {
    bool late = f->h->qk_norm_after_rope;
    if (late) x = turn(f, l, x, heads, 0);
    x = forward_norm_groups(f, x, n, l->qk_norm_group, f->h->norm, f->h->norm_eps);
    return late ? x : turn(f, l, x, heads, 0);
}

/* What all kinds of attention have in common. */
static op_attention traits(const forward *f, const model_layer *l) {
    return (op_attention){.heads = f->h->heads,
                          .scale = f->h->attn_scale,
                          .softcap = f->h->attn_softcap,
                          .window = l->window,
                          .causal = !f->h->is_encoder,
                          .sinks = l->sinks.data,
                          .slopes = f->h->alibi_slopes};
}

value_id forward_attention(const forward *f, const model_layer *l, value_id n) {
    const model_hparams *h = f->h;
    op_attention attn = traits(f, l);
    attn.kv_heads = h->kv_heads;
    attn.key_dim = h->head_dim;
    attn.value_dim = h->value_dim;

    value_id q = project(f, n, &l->q); /* [rows, heads * head_dim] */
    value_id k = project(f, n, &l->k); /* [rows, kv_heads * head_dim] */
    value_id v = project(f, n, &l->v); /* [rows, kv_heads * value_dim] */
    q = shape(f, l, q, &l->q_norm, h->heads);
    k = shape(f, l, k, &l->k_norm, h->kv_heads);
    pg_kv_write(f->p, k, v);
    return forward_linear(f, pg_attention(f->p, q, attn), &l->o);
}

/* --- latent attention --------------------
 *
 * Keys and values of all heads are matrices of one latent c, so only c and one rotary key are
 * kept.  Instead of unfolding them for every token that is looked at, the key matrix goes to the
 * query's side and the value matrix behind the sum:
 *   q . (K_b c) = (K_b^T q) . c         sum p_j (V_b c_j) = V_b (sum p_j c_j)
 * A row of the cache is [ c, kv_rank | rotary key ]; its values are c again. */

static value_id latent_queries(const forward *f, const model_layer *l, value_id n) {
    if (f->h->q_rank == 0) return forward_linear(f, n, &l->q);
    value_id c = forward_norm(f, forward_matmul(f, n, &l->q_a), &l->q_a_norm); /* [rows, q_rank] */
    return forward_matmul(f, c, &l->q_b);
}

value_id forward_latent_attention(const forward *f, const model_layer *l, value_id n) {
    const model_hparams *h = f->h;
    uint32_t rope_dim = h->head_dim - h->nope_dim;
    op_heads_matmul to_latent = {.heads = h->heads,
                                 .in_dim = h->nope_dim,
                                 .tail_dim = rope_dim,
                                 .w_rows = l->k_b_rows,
                                 .row0 = l->k_b_row0,
                                 .row_stride = l->k_b_stride,
                                 .out_dim = h->kv_rank,
                                 .transposed = l->k_b_transposed};
    op_heads_matmul to_value = {.heads = h->heads,
                                .in_dim = h->kv_rank,
                                .w_rows = h->value_dim,
                                .row0 = l->v_b_row0,
                                .row_stride = l->v_b_stride,
                                .out_dim = h->value_dim};
    op_attention attn = traits(f, l);
    attn.kv_heads = 1;
    attn.key_dim = h->kv_rank + rope_dim;
    attn.value_dim = h->kv_rank;

    value_id q = latent_queries(f, l, n); /* [rows, heads * (nope_dim + rope_dim)] */
    q = turn(f, l, q, h->heads, h->nope_dim);
    q = pg_heads_matmul(f->p, q, forward_weight(&l->k_b), to_latent);
    value_id c = forward_norm(f, forward_matmul(f, n, &l->kv_a), &l->kv_a_norm);
    value_id k = turn(f, l, forward_matmul(f, n, &l->k_rope), 1, 0); /* [rows, rope_dim] */
    pg_kv_write(f->p, c, k);
    value_id a = pg_attention(f->p, q, attn); /* [rows, heads * kv_rank] */
    a = pg_heads_matmul(f->p, a, forward_weight(&l->v_b), to_value);
    return forward_linear(f, a, &l->o);
}
