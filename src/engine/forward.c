/* forward.c - a model from tokens to logits: embeddings, layers, heads.
 *
 *   x = embed(tokens) [+ positions] [+ type]
 *   for each layer:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
 *   hidden = norm(rows of x that are wanted);  logits = head(rows of hidden that are wanted)
 *
 * Norms stand before a block (Llama), after it (OLMo 2), on both sides (Gemma 2), or on the sum
 * (BERT); the two blocks run one after the other or side by side (GPT-NeoX, Falcon).
 * Sources: Vaswani et al. 2017; Touvron et al. 2023; docs/models tells each family's details. */
#include "engine/forward.h"

#include "base/assert.h"
#include "base/num.h"
#include "engine/forward_internal.h"

/* --- building bricks -------------------- */

weight forward_weight(const model_tensor *t) {
    ASSERT(t->data != NULL || t->packed != NULL);
    return (weight){.type = t->type,
                    .rows = t->rows,
                    .cols = t->cols,
                    .data = t->data,
                    .packed = t->packed,
                    .name = t->name,
                    .row0 = t->row0};
}

value_id forward_matmul(const forward *f, value_id x, const model_tensor *w) {
    return pg_matmul(f->p, x, forward_weight(w), NULL);
}

value_id forward_linear(const forward *f, value_id x, const model_linear *l) {
    return pg_matmul(f->p, x, forward_weight(&l->w), l->bias.data);
}

value_id forward_act(const forward *f, value_id x, act_kind kind) {
    return pg_act(f->p, x, (op_act){.kind = kind});
}

value_id forward_scale(const forward *f, value_id x, float scale) {
    if (scale == 1.0f) return x;
    return pg_act(f->p, x, (op_act){.kind = ACT_SCALE, .a = scale});
}

value_id forward_norm_groups(const forward *f, value_id x, const model_norm *n, uint32_t group,
                             norm_kind kind, float eps) {
    if (!n->on) return x;
    uint32_t cols = f->p->values[x].cols;
    /* a group wider than the value: the norm is over the full width, whatever that is here */
    group = group == 0 ? cols : num_min_u32(group, cols);
    uint32_t gain_len = model_has(&n->gain) ? n->gain.rows * n->gain.cols : group;
    return pg_norm(f->p, x,
                   (op_norm){.kind = kind,
                             .group = group,
                             .eps = eps,
                             .gain = n->gain.data,
                             .bias = n->bias.data,
                             .gain_len = gain_len});
}

value_id forward_norm(const forward *f, value_id x, const model_norm *n) {
    return forward_norm_groups(f, x, n, 0, f->h->norm, f->h->norm_eps);
}

/* --- rows in -------------------- */

static value_id embed(const forward *f) {
    const model *m = f->m;
    value_id x = pg_embed(f->p, forward_weight(&m->token_embd));
    x = forward_scale(f, x, f->h->embd_scale);
    if (model_has(&m->position_embd))
        x = pg_add(f->p, x, pg_embed_pos(f->p, forward_weight(&m->position_embd)));
    if (model_has(&m->type_embd)) x = pg_add_row(f->p, x, m->type_embd.data);
    return forward_norm(f, x, &m->embd_norm);
}

/* --- a transformer layer -------------------- */

static value_id attention(const forward *f, const model_layer *l, value_id n) {
    value_id a = f->h->mixer == MODEL_MIXER_LATENT ? forward_latent_attention(f, l, n)
                                                   : forward_attention(f, l, n);
    return forward_norm(f, a, &l->post_attn_norm);
}

static value_id feed_forward(const forward *f, const model_layer *l, value_id n) {
    return forward_norm(f, forward_ffn(f, l, n), &l->post_ffn_norm);
}

static value_id residual(const forward *f, value_id x, value_id block) {
    return pg_add(f->p, x, forward_scale(f, block, f->h->residual_scale));
}

static value_id sequential_layer(const forward *f, const model_layer *l, value_id x) {
    value_id before = x;
    x = residual(f, x, attention(f, l, forward_norm(f, x, &l->attn_norm)));
    x = forward_norm(f, x, &l->attn_out_norm);
    if (l->attn_out_norm_2.on) x = forward_norm(f, pg_add(f->p, x, before), &l->attn_out_norm_2);
    x = residual(f, x, feed_forward(f, l, forward_norm(f, x, &l->ffn_norm)));
    return forward_norm(f, x, &l->layer_out_norm);
}

/* Both blocks read the same x: through one norm, or through one each. */
static value_id parallel_layer(const forward *f, const model_layer *l, value_id x) {
    value_id n = forward_norm(f, x, &l->attn_norm);
    value_id to_attn = l->attn_norm_2.on ? forward_norm(f, x, &l->attn_norm_2) : n;
    value_id to_ffn = l->ffn_norm.on ? forward_norm(f, x, &l->ffn_norm) : n;
    value_id a = attention(f, l, to_attn);
    value_id b = feed_forward(f, l, to_ffn);
    return residual(f, x, pg_add(f->p, a, b));
}

static value_id layer(const forward *f, uint32_t i, value_id x) {
    const model_layer *l = &f->m->layers[i];
    pg_layer(f->p, i);
    if (f->h->mixer == MODEL_MIXER_MAMBA) return forward_mamba_layer(f, l, x);
    if (f->h->mixer == MODEL_MIXER_RWKV6) return forward_rwkv6_layer(f, l, i, x);
    return f->h->parallel ? parallel_layer(f, l, x) : sequential_layer(f, l, x);
}

/* --- heads -------------------- */

static value_id token_head(const forward *f, value_id x) {
    float cap = f->h->logit_softcap;
    value_id logits = forward_scale(f, forward_linear(f, x, &f->m->output), f->h->logit_scale);
    return cap == 0 ? logits : pg_act(f->p, logits, (op_act){.kind = ACT_SOFTCAP, .a = cap});
}

/* score = out . tanh(dense . x), without the part that is missing */
static value_id class_head(const forward *f, value_id x) {
    const model *m = f->m;
    if (model_has(&m->cls_dense.w))
        x = forward_act(f, forward_linear(f, x, &m->cls_dense), ACT_TANH);
    return model_has(&m->cls_out.w) ? forward_linear(f, x, &m->cls_out) : x;
}

static value_id head(const forward *f, value_id hidden) {
    const model *m = f->m;
    bool classes = model_has(&m->cls_dense.w) || model_has(&m->cls_out.w);
    if (f->h->is_encoder && !classes) return VALUE_NONE;
    value_id x = pg_take_rows(f->p, hidden);
    return classes ? class_head(f, x) : token_head(f, x);
}

/* --- the whole -------------------- */

status forward_record(program **out, const model *m, const program_limits *max, error *err) {
    forward f = {.m = m, .h = &m->hparams};
    TRY(program_create(&f.p, max, err));
    value_id x = embed(&f);
    for (uint32_t i = 0; i < f.h->layers; i++) x = layer(&f, i, x);
    value_id hidden = forward_norm(&f, pg_take_rows(f.p, x), &m->output_norm);
    value_id logits = head(&f, hidden);
    status st = program_finish(f.p, hidden, logits, err);
    if (st != OK) {
        program_destroy(f.p);
        return st;
    }
    *out = f.p;
    return OK;
}
