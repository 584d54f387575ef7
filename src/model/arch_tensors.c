/* arch_tensors.c - the tensors of a decoder, as its row of traits says.
 *
 * Fused tensors are found by their names: "attn_qkv" is q above k above v, and an "ffn_up" of a
 * gated block without "ffn_gate" is gate above up.  Biases are taken wherever a file has them.
 * Source: the GGUF specification, standardized tensor names; gguf-py for the newer ones. */
#include <stddef.h>

#include "model/arch.h"

/* --- norms ------------------------------------------------------------------- */
enum { BLOCK_NORMS_MAX = 4 };

/* Which norms a block has; an empty name ends the list. */
typedef struct block_norm {
    const char *stem;
    size_t field; /* offset in model_layer */
    model_need need;
} block_norm;

#define FIELD(f) offsetof(model_layer, f)
static const block_norm block_norms[][BLOCK_NORMS_MAX] = {
    [BLOCK_PRE] = {{"attn_norm", FIELD(attn_norm), MODEL_REQUIRED},
                   {"ffn_norm", FIELD(ffn_norm), MODEL_REQUIRED}},
    [BLOCK_PRE_LATE] = {{"attn_norm", FIELD(attn_norm), MODEL_REQUIRED},
                        {"post_attention_norm", FIELD(ffn_norm), MODEL_REQUIRED}},
    [BLOCK_PRE_POST] = {{"attn_norm", FIELD(attn_norm), MODEL_REQUIRED},
                        {"post_attention_norm", FIELD(post_attn_norm), MODEL_REQUIRED},
                        {"ffn_norm", FIELD(ffn_norm), MODEL_REQUIRED},
                        {"post_ffw_norm", FIELD(post_ffn_norm), MODEL_REQUIRED}},
    [BLOCK_POST] = {{"post_attention_norm", FIELD(post_attn_norm), MODEL_REQUIRED},
                    {"post_ffw_norm", FIELD(post_ffn_norm), MODEL_REQUIRED}},
    [BLOCK_PRE_BARE] = {{NULL, 0, MODEL_OPTIONAL}},
    [BLOCK_SHARED] = {{"attn_norm", FIELD(attn_norm), MODEL_REQUIRED}},
    [BLOCK_SHARED_TWO] = {{"attn_norm", FIELD(attn_norm), MODEL_REQUIRED},
                          {"attn_norm_2", FIELD(attn_norm_2), MODEL_OPTIONAL}},
    [BLOCK_PRE_OR_SHARED] = {{"attn_norm", FIELD(attn_norm), MODEL_REQUIRED},
                             {"ffn_norm", FIELD(ffn_norm), MODEL_OPTIONAL}},
};
#undef FIELD

static status bind_block_norms(model *m, arch_block block, uint32_t i, error *err) {
    model_layer *l = &m->layers[i];
    for (uint32_t k = 0; k < BLOCK_NORMS_MAX && block_norms[block][k].stem != NULL; k++) {
        const block_norm *b = &block_norms[block][k];
        model_norm *n = (model_norm *)(void *)((char *)l + b->field);
        TRY(model_bind_norm(m, i, b->stem, m->hparams.n_embd, b->need, n, err));
    }
    if (block == BLOCK_PRE_BARE) l->attn_norm.on = l->ffn_norm.on = true;
    if (block != BLOCK_PRE_OR_SHARED) return OK;
    if (i > 0 && m->hparams.parallel == l->ffn_norm.on)
        return error_set(err, ERR_UNSUPPORTED,
                         "model: layers 0 and %u differ in whether they have an 'ffn_norm'", i);
    m->hparams.parallel = !l->ffn_norm.on;
    return OK;
}

/* --- attention ----------------------------------------------------------------- */
static status bind_qkv(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t q = hp->heads * hp->head_dim, k = hp->kv_heads * hp->head_dim;
    uint32_t v = hp->kv_heads * hp->value_dim;
    if (model_weight_rows(m, i, "attn_qkv") > 0) {
        model_linear all = {0};
        TRY(model_bind_linear(m, i, "attn_qkv", q + k + v, hp->n_embd, MODEL_REQUIRED, &all, err));
        l->q = model_slice_linear(&all, 0, q);
        l->k = model_slice_linear(&all, q, k);
        l->v = model_slice_linear(&all, q + k, v);
        return OK;
    }
    TRY(model_bind_linear(m, i, "attn_q", q, hp->n_embd, MODEL_REQUIRED, &l->q, err));
    TRY(model_bind_linear(m, i, "attn_k", k, hp->n_embd, MODEL_REQUIRED, &l->k, err));
    return model_bind_linear(m, i, "attn_v", v, hp->n_embd, MODEL_REQUIRED, &l->v, err);
}

static status bind_qk_norms(model *m, arch_qk_norm kind, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    bool whole = kind == QK_WHOLE || kind == QK_WHOLE_OPT;
    model_need need = kind == QK_HEADS || kind == QK_WHOLE ? MODEL_REQUIRED : MODEL_OPTIONAL;
    uint32_t q = hp->head_dim, k = hp->head_dim; /* elements of the gains */
    if (kind == QK_NONE) return OK;
    if (kind == QK_EACH_OPT || whole) {
        q *= hp->heads;
        k *= hp->kv_heads;
    }
    l->qk_norm_group = whole ? 0 : hp->head_dim;
    TRY(model_bind_norm(m, i, "attn_q_norm", q, need, &l->q_norm, err));
    return model_bind_norm(m, i, "attn_k_norm", k, need, &l->k_norm, err);
}

static status bind_attention(model *m, const arch_traits *a, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    if (a->latent) return arch_latent_bind(m, i, err);
    TRY(bind_qkv(m, i, err));
    TRY(bind_qk_norms(m, a->qk_norm, i, err));
    if (a->sinks)
        TRY(model_bind_vector(m, i, "attn_sinks.weight", hp->heads, MODEL_REQUIRED, &l->sinks,
                              err));
    return model_bind_linear(m, i, "attn_output", hp->n_embd, hp->heads * hp->value_dim,
                             MODEL_REQUIRED, &l->o, err);
}

/* --- feed-forward ---------------------------------------------------------------- */
static status bind_dense(model *m, bool gated, uint32_t i, error *err) {
    const uint32_t n_embd = m->hparams.n_embd, n_ff = m->hparams.n_ff;
    model_layer *l = &m->layers[i];
    if (n_ff == 0)
        return error_set(err, ERR_FORMAT,
                         "model: '%s.feed_forward_length' is missing or 0, layer %u needs it",
                         m->hparams.arch, i);
    TRY(model_bind_linear(m, i, "ffn_down", n_embd, n_ff, MODEL_REQUIRED, &l->down, err));
    if (!gated) return model_bind_linear(m, i, "ffn_up", n_ff, n_embd, MODEL_REQUIRED, &l->up, err);
    if (model_weight_rows(m, i, "ffn_gate") > 0 || model_weight_rows(m, i, "ffn_up") == n_ff) {
        TRY(model_bind_linear(m, i, "ffn_gate", n_ff, n_embd, MODEL_REQUIRED, &l->gate, err));
        return model_bind_linear(m, i, "ffn_up", n_ff, n_embd, MODEL_REQUIRED, &l->up, err);
    }
    model_linear both = {0};
    TRY(model_bind_linear(m, i, "ffn_up", 2 * n_ff, n_embd, MODEL_REQUIRED, &both, err));
    l->gate = model_slice_linear(&both, 0, n_ff);
    l->up = model_slice_linear(&both, n_ff, n_ff);
    return OK;
}

/* [experts, rows] */
static status bind_expert_bias(model *m, uint32_t i, const char *name, uint32_t rows,
                               model_tensor *out, error *err) {
    const uint32_t experts = m->hparams.experts.count;
    TRY(model_bind_vector(m, i, name, experts * rows, MODEL_OPTIONAL, out, err));
    if (!model_has(out)) return OK;
    out->rows = experts;
    out->cols = rows;
    return OK;
}

static status bind_shared_expert(model *m, bool gated, uint32_t i, error *err) {
    const uint32_t n_embd = m->hparams.n_embd, n_ff = m->hparams.experts.shared_n_ff;
    model_layer *l = &m->layers[i];
    model_need gate = gated ? MODEL_REQUIRED : MODEL_OPTIONAL;
    if (n_ff == 0) return OK;
    TRY(model_bind_linear(m, i, "ffn_gate_shexp", n_ff, n_embd, gate, &l->shared_gate, err));
    TRY(model_bind_linear(m, i, "ffn_up_shexp", n_ff, n_embd, MODEL_REQUIRED, &l->shared_up, err));
    TRY(model_bind_linear(m, i, "ffn_down_shexp", n_embd, n_ff, MODEL_REQUIRED, &l->shared_down,
                          err));
    return model_bind_matrix(m, i, "ffn_gate_inp_shexp", 1, n_embd, MODEL_OPTIONAL,
                             &l->shared_router, err);
}

static status bind_experts(model *m, bool gated, uint32_t i, error *err) {
    const model_experts *e = &m->hparams.experts;
    const uint32_t n_embd = m->hparams.n_embd, n_ff = e->n_ff;
    model_layer *l = &m->layers[i];
    model_need gate = gated ? MODEL_REQUIRED : MODEL_OPTIONAL;
    TRY(model_bind_linear(m, i, "ffn_gate_inp", e->count, n_embd, MODEL_REQUIRED, &l->router, err));
    TRY(model_bind_vector(m, i, "exp_probs_b.bias", e->count, MODEL_OPTIONAL, &l->router_choice,
                          err));
    TRY(model_bind_experts(m, i, "ffn_gate_exps", n_ff, n_embd, gate, &l->gate_exps, err));
    TRY(model_bind_experts(m, i, "ffn_up_exps", n_ff, n_embd, MODEL_REQUIRED, &l->up_exps, err));
    TRY(model_bind_experts(m, i, "ffn_down_exps", n_embd, n_ff, MODEL_REQUIRED, &l->down_exps,
                           err));
    TRY(bind_expert_bias(m, i, "ffn_gate_exps.bias", n_ff, &l->gate_exps_bias, err));
    TRY(bind_expert_bias(m, i, "ffn_up_exps.bias", n_ff, &l->up_exps_bias, err));
    TRY(bind_expert_bias(m, i, "ffn_down_exps.bias", n_embd, &l->down_exps_bias, err));
    return bind_shared_expert(m, gated, i, err);
}

status arch_bind_layer(model *m, const arch_traits *a, uint32_t i, bool experts, error *err) {
    TRY(bind_block_norms(m, a->block, i, err));
    TRY(bind_attention(m, a, i, err));
    return experts ? bind_experts(m, a->ffn.gated, i, err) : bind_dense(m, a->ffn.gated, i, err);
}

/* --- outside the layers ---------------------------------------------------------- */
/* Without an output matrix of its own the embeddings are it. */
static status bind_output(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(model_bind_matrix(m, MODEL_LAYER_NONE, "output", hp->vocab, hp->n_embd, MODEL_OPTIONAL,
                          &m->output.w, err));
    hp->tied_output = !model_has(&m->output.w);
    if (hp->tied_output) m->output.w = m->token_embd;
    return model_bind_vector(m, MODEL_LAYER_NONE, "output.bias", hp->vocab, MODEL_OPTIONAL,
                             &m->output.bias, err);
}

status arch_bind_outside(model *m, const arch_traits *a, error *err) {
    const uint32_t n_embd = m->hparams.n_embd;
    TRY(model_bind_matrix(m, MODEL_LAYER_NONE, "token_embd", m->hparams.vocab, n_embd,
                          MODEL_REQUIRED, &m->token_embd, err));
    if (a->embd_norm)
        TRY(model_bind_norm(m, MODEL_LAYER_NONE, "token_embd_norm", n_embd, MODEL_REQUIRED,
                            &m->embd_norm, err));
    if (a->block == BLOCK_PRE_BARE)
        m->output_norm.on = true;
    else
        TRY(model_bind_norm(m, MODEL_LAYER_NONE, "output_norm", n_embd, MODEL_REQUIRED,
                            &m->output_norm, err));
    return bind_output(m, err);
}
