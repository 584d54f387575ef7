/* arch_tensors.c - the tensors of a decoder, as its row of traits says.
 *
 * Fused tensors are found by their names: "attn_qkv" is q above k above v; an "ffn_up" of a gated
 * block without "ffn_gate", and "ffn_gate_up_exps" of experts, are gate above up.  Biases are taken
 * wherever a file has them.
 * Source: the GGUF specification, standardized tensor names; gguf-py for the newer ones. */
#include <stddef.h>
#include <string.h>

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

/* Rows row0 .. of each part. */
static status slice_parts(model *m, const model_tensor *from, uint32_t row0, uint32_t rows,
                          model_tensor *out, error *err) {
    const uint32_t experts = m->hparams.experts.count;
    void *taken = NULL;
    TRY(model_take(m, experts, sizeof(model_tensor), "the experts", &taken, err));
    model_tensor *parts = taken;
    for (uint32_t e = 0; e < experts; e++) parts[e] = model_slice_rows(&from->parts[e], row0, rows);
    *out = parts[0];
    out->data = NULL;
    out->packed = NULL;
    out->parts = parts;
    return OK;
}

/* Columns col0 .. of the experts' biases, copied: those of one matrix lie together. */
static status slice_expert_bias(model *m, const model_tensor *from, uint32_t col0, uint32_t cols,
                                model_tensor *out, error *err) {
    void *taken = NULL;
    if (!model_has(from)) return OK;
    TRY(model_take(m, (uint64_t)from->rows * cols, sizeof(float), "a bias", &taken, err));
    float *to = taken;
    const float *at = (const float *)from->data + col0;
    for (uint32_t e = 0; e < from->rows; e++, to += cols, at += from->cols)
        memcpy(to, at, cols * sizeof *to);
    *out = *from;
    out->cols = cols;
    out->bytes = (uint64_t)from->rows * cols * sizeof(float);
    out->data = taken;
    return OK;
}

/* "ffn_gate_up_exps": each expert's gate above its up. */
static status bind_gates_above_ups(model *m, uint32_t i, error *err) {
    const uint32_t n_ff = m->hparams.experts.n_ff;
    model_layer *l = &m->layers[i];
    model_tensor both = {0}, bias = {0};
    TRY(model_bind_experts(m, i, "ffn_gate_up_exps", 2 * n_ff, m->hparams.n_embd, MODEL_REQUIRED,
                           &both, err));
    TRY(bind_expert_bias(m, i, "ffn_gate_up_exps.bias", 2 * n_ff, &bias, err));
    TRY(slice_parts(m, &both, 0, n_ff, &l->gate_exps, err));
    TRY(slice_parts(m, &both, n_ff, n_ff, &l->up_exps, err));
    TRY(slice_expert_bias(m, &bias, 0, n_ff, &l->gate_exps_bias, err));
    return slice_expert_bias(m, &bias, n_ff, n_ff, &l->up_exps_bias, err);
}

static status bind_gates_and_ups(model *m, bool gated, uint32_t i, error *err) {
    const uint32_t n_embd = m->hparams.n_embd, n_ff = m->hparams.experts.n_ff;
    model_layer *l = &m->layers[i];
    model_need gate = gated ? MODEL_REQUIRED : MODEL_OPTIONAL;
    if (gated && model_weight_rows(m, i, "ffn_gate_up_exps") > 0)
        return bind_gates_above_ups(m, i, err);
    TRY(model_bind_experts(m, i, "ffn_gate_exps", n_ff, n_embd, gate, &l->gate_exps, err));
    TRY(model_bind_experts(m, i, "ffn_up_exps", n_ff, n_embd, MODEL_REQUIRED, &l->up_exps, err));
    TRY(bind_expert_bias(m, i, "ffn_gate_exps.bias", n_ff, &l->gate_exps_bias, err));
    return bind_expert_bias(m, i, "ffn_up_exps.bias", n_ff, &l->up_exps_bias, err);
}

static status bind_experts(model *m, bool gated, uint32_t i, error *err) {
    const model_experts *e = &m->hparams.experts;
    const uint32_t n_embd = m->hparams.n_embd;
    model_layer *l = &m->layers[i];
    TRY(model_bind_linear(m, i, "ffn_gate_inp", e->count, n_embd, MODEL_REQUIRED, &l->router, err));
    TRY(model_bind_vector(m, i, "exp_probs_b.bias", e->count, MODEL_OPTIONAL, &l->router_choice,
                          err));
    TRY(bind_gates_and_ups(m, gated, i, err));
    TRY(model_bind_experts(m, i, "ffn_down_exps", n_embd, e->n_ff, MODEL_REQUIRED, &l->down_exps,
                           err));
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
