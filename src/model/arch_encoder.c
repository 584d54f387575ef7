/* arch_encoder.c - the encoders: BERT, Nomic BERT (dense and mixture), Jina BERT v2.
 *
 * All are post-LN: embeddings are normalised, then each block's result is added to its input and
 * the sum is normalised.  They differ in what tells positions apart (a learned table, rotation,
 * a bias on the scores), in the feed-forward block and in a few norms.
 * Sources: Devlin et al. 2019 (BERT); Nussbaum et al. 2024 (Nomic Embed); Günther et al. 2023
 * (Jina Embeddings 2); tensor names from gguf-py. */
#include <math.h>

#include "base/num.h"
#include "model/model_internal.h"
#include "tensor/convert.h"

typedef enum encoder_positions { POSITIONS_LEARNED, POSITIONS_ROTARY, POSITIONS_ALIBI } positions;

typedef struct encoder_traits {
    const char *arch;
    positions positions;
    act_kind act;
    bool gated; /* the feed-forward block is act(gate) * up; false: act(up) */
} encoder_traits;

static const encoder_traits encoders[] = {
    {"bert", POSITIONS_LEARNED, ACT_GELU, false},
    {"nomic-bert", POSITIONS_ROTARY, ACT_SILU, true},
    {"nomic-bert-moe", POSITIONS_ROTARY, ACT_GELU, false},
    {"jina-bert-v2", POSITIONS_ALIBI, ACT_GELU, true},
};

/* Jina BERT v2 has it in its code, not in its files. */
static const float ALIBI_BIAS_MAX = 8.0f;

static status find_traits(const model *m, const encoder_traits **out, error *err) {
    for (size_t i = 0; i < sizeof encoders / sizeof *encoders; i++) {
        if (!str_eq_c(str_of(m->hparams.arch), encoders[i].arch)) continue;
        *out = &encoders[i];
        return OK;
    }
    return error_set(err, ERR_INTERNAL, "model: '%s' is no encoder", m->hparams.arch);
}

/* --- keys ------------------------------------------------------------------ */
static status read_heads(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(model_key_count(m, "attention.head_count", MODEL_HEADS_MAX, &hp->heads, err));
    TRY(model_key_count_or(m, "attention.head_count_kv", MODEL_HEADS_MAX, hp->heads, &hp->kv_heads,
                           err));
    if (hp->kv_heads == 0 || hp->heads % hp->kv_heads != 0)
        return error_set(err, ERR_FORMAT, "model: %u attention heads cannot share %u kv heads",
                         hp->heads, hp->kv_heads);
    if (hp->n_embd % hp->heads != 0 || hp->n_embd / hp->heads > MODEL_HEAD_DIM_MAX)
        return error_set(err, ERR_FORMAT,
                         "model: embedding length %u cannot be cut into %u attention heads of at "
                         "most %d elements",
                         hp->n_embd, hp->heads, MODEL_HEAD_DIM_MAX);
    hp->head_dim = hp->value_dim = hp->n_embd / hp->heads;
    hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
    return OK;
}

static status check_direction(model *m, error *err) {
    bool causal = false;
    TRY(model_key_bool_or(m, "attention.causal", false, &causal, err));
    if (!causal) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "model: '%s.attention.causal' is 1; encoders are computed with 0 only",
                     m->hparams.arch);
}

/* The mixture of Nomic Embed v2: every `every`-th layer, from the second on. */
static status read_experts(model *m, uint32_t *every, error *err) {
    model_experts *e = &m->hparams.experts;
    *every = 0;
    if (!str_eq_c(str_of(m->hparams.arch), "nomic-bert-moe")) return OK;
    TRY(model_key_count(m, "moe_every_n_layers", MODEL_LAYERS_MAX, every, err));
    TRY(model_key_count(m, "expert_count", MODEL_EXPERTS_MAX, &e->count, err));
    TRY(model_key_count(m, "expert_used_count", e->count, &e->used, err));
    TRY(model_key_f32_or(m, "expert_weights_scale", 1.0f, &e->scale, err));
    if (e->scale == 0.0f) e->scale = 1.0f; /* how some writers say that there is none */
    e->n_ff = m->hparams.n_ff;
    e->route = ROUTE_SOFTMAX;
    return OK;
}

static status read_hparams(model *m, const encoder_traits *t, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(model_key_count(m, "block_count", MODEL_LAYERS_MAX, &hp->layers, err));
    TRY(model_key_count(m, "context_length", MODEL_CTX_MAX, &hp->ctx_train, err));
    TRY(model_key_count(m, "feed_forward_length", MODEL_FF_MAX, &hp->n_ff, err));
    TRY(model_key_positive(m, "attention.layer_norm_epsilon", &hp->norm_eps, err));
    TRY(read_heads(m, err));
    TRY(check_direction(m, err));
    hp->is_encoder = true;
    hp->mixer = MODEL_MIXER_ATTENTION;
    hp->norm = NORM_LAYER;
    hp->act = t->act;
    hp->embd_scale = hp->residual_scale = hp->logit_scale = 1.0f;
    return OK;
}

/* --- positions --------------------------------------------------------------- */
static status read_rope(model *m, error *err) {
    uint32_t dims = 0;
    float base = 10000.0f;
    TRY(model_key_count_or(m, "rope.dimension_count", MODEL_HEAD_DIM_MAX, m->hparams.head_dim,
                           &dims, err));
    if (model_key_has(m, "rope.freq_base"))
        TRY(model_key_positive(m, "rope.freq_base", &base, err));
    return model_rope_init(m, &m->ropes[0], ROPE_HALVES, dims, base, true, err);
}

static status describe_positions(model *m, const encoder_traits *t, error *err) {
    const model_hparams *hp = &m->hparams;
    switch (t->positions) {
    case POSITIONS_LEARNED:
        return model_bind_matrix(m, MODEL_LAYER_NONE, "position_embd", hp->ctx_train, hp->n_embd,
                                 MODEL_REQUIRED, &m->position_embd, err);
    case POSITIONS_ROTARY:
        return read_rope(m, err);
    case POSITIONS_ALIBI:
        break;
    }
    return model_alibi_init(m, ALIBI_BIAS_MAX, err);
}

/* --- embeddings and head ------------------------------------------------------- */
/* Only the first type's row is used: texts are given as one sentence. */
static status bind_types(model *m, error *err) {
    uint64_t rows = num_min_u64(model_weight_rows(m, MODEL_LAYER_NONE, "token_types"), UINT32_MAX);
    model_tensor all = {0};
    void *f32 = NULL;
    if (rows == 0) return OK;
    TRY(model_bind_matrix(m, MODEL_LAYER_NONE, "token_types", (uint32_t)rows, m->hparams.n_embd,
                          MODEL_REQUIRED, &all, err));
    if (all.data == NULL)
        return error_set(err, ERR_UNSUPPORTED, "model: tensor '%.*s' is packed, must be plain",
                         STR(all.name));
    m->type_embd = model_slice_rows(&all, 0, 1);
    if (all.type == DTYPE_F32) return OK;
    TRY(model_take(m, all.cols, sizeof(float), "the token type", &f32, err));
    dequant_row(all.type, all.data, f32, all.cols);
    m->type_embd.type = DTYPE_F32;
    m->type_embd.data = f32;
    m->type_embd.bytes = (uint64_t)all.cols * sizeof(float);
    return OK;
}

static status bind_embeddings(model *m, error *err) {
    const model_hparams *hp = &m->hparams;
    TRY(model_bind_matrix(m, MODEL_LAYER_NONE, "token_embd", hp->vocab, hp->n_embd, MODEL_REQUIRED,
                          &m->token_embd, err));
    TRY(bind_types(m, err));
    return model_bind_norm(m, MODEL_LAYER_NONE, "token_embd_norm", hp->n_embd, MODEL_REQUIRED,
                           &m->embd_norm, err);
}

/* A reranker's score is one number: out . tanh(dense . x), or, with only one of the two in the
 * file, tanh(dense . x) or out . x. */
static status bind_head(model *m, error *err) {
    uint32_t n = m->hparams.n_embd;
    TRY(model_bind_linear(m, MODEL_LAYER_NONE, "cls.output", 1, n, MODEL_OPTIONAL, &m->cls_out,
                          err));
    return model_bind_linear(m, MODEL_LAYER_NONE, "cls", model_has(&m->cls_out.w) ? n : 1, n,
                             MODEL_OPTIONAL, &m->cls_dense, err);
}

/* A file that does not say is pooled the way sentence-transformers pools by default, and scored
 * if it has a head. */
static status read_pooling(model *m, error *err) {
    bool has_head = model_has(&m->cls_out.w) || model_has(&m->cls_dense.w);
    uint32_t pooling = has_head ? MODEL_POOLING_RANK : MODEL_POOLING_MEAN;
    TRY(model_key_count_or(m, "pooling_type", MODEL_POOLING_RANK, pooling, &pooling, err));
    if (pooling == MODEL_POOLING_RANK && !has_head)
        return error_set(err, ERR_FORMAT,
                         "model: '%s.pooling_type' is %u, a score, but the file has neither tensor "
                         "'cls.weight' nor 'cls.output.weight'",
                         m->hparams.arch, pooling);
    m->hparams.pooling = (model_pooling)pooling;
    return OK;
}

/* --- layers ------------------------------------------------------------------ */
static status bind_qkv(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t q = hp->heads * hp->head_dim, kv = hp->kv_heads * hp->head_dim;
    model_linear qkv = {0};
    TRY(model_bind_linear(m, i, "attn_qkv", q + 2 * kv, hp->n_embd, MODEL_OPTIONAL, &qkv, err));
    if (model_has(&qkv.w)) {
        l->q = model_slice_linear(&qkv, 0, q);
        l->k = model_slice_linear(&qkv, q, kv);
        l->v = model_slice_linear(&qkv, q + kv, kv);
        return OK;
    }
    TRY(model_bind_linear(m, i, "attn_q", q, hp->n_embd, MODEL_REQUIRED, &l->q, err));
    TRY(model_bind_linear(m, i, "attn_k", kv, hp->n_embd, MODEL_REQUIRED, &l->k, err));
    return model_bind_linear(m, i, "attn_v", kv, hp->n_embd, MODEL_REQUIRED, &l->v, err);
}

static status bind_attention(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t n = hp->n_embd;
    TRY(bind_qkv(m, i, err));
    TRY(model_bind_linear(m, i, "attn_output", n, n, MODEL_REQUIRED, &l->o, err));
    TRY(model_bind_norm(m, i, "attn_output_norm", n, MODEL_REQUIRED, &l->attn_out_norm, err));
    if (!str_eq_c(str_of(hp->arch), "jina-bert-v2")) return OK;
    TRY(model_bind_norm(m, i, "attn_norm_2", n, MODEL_OPTIONAL, &l->attn_out_norm_2, err));
    TRY(model_bind_norm(m, i, "attn_q_norm", n, MODEL_OPTIONAL, &l->q_norm, err));
    TRY(model_bind_norm(m, i, "attn_k_norm", hp->kv_heads * hp->head_dim, MODEL_OPTIONAL,
                        &l->k_norm, err));
    if (l->k_norm.on && hp->kv_heads != hp->heads)
        return error_set(err, ERR_UNSUPPORTED,
                         "model: normalised keys need as many kv heads as heads: %u, not %u",
                         hp->heads, hp->kv_heads);
    l->qk_norm_group = n;
    return OK;
}

static status bind_experts(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    TRY(model_bind_linear(m, i, "ffn_gate_inp", hp->experts.count, hp->n_embd, MODEL_REQUIRED,
                          &l->router, err));
    TRY(model_bind_experts(m, i, "ffn_up_exps", hp->n_ff, hp->n_embd, MODEL_REQUIRED, &l->up_exps,
                           err));
    return model_bind_experts(m, i, "ffn_down_exps", hp->n_embd, hp->n_ff, MODEL_REQUIRED,
                              &l->down_exps, err);
}

/* Gate and up may be one tensor, gate first. */
static status bind_gated(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t n = hp->n_embd, f = hp->n_ff;
    TRY(model_bind_linear(m, i, "ffn_gate", f, n, MODEL_OPTIONAL, &l->gate, err));
    if (model_has(&l->gate.w))
        return model_bind_linear(m, i, "ffn_up", f, n, MODEL_REQUIRED, &l->up, err);
    model_linear both = {0};
    TRY(model_bind_linear(m, i, "ffn_up", 2 * f, n, MODEL_REQUIRED, &both, err));
    l->gate = model_slice_linear(&both, 0, f);
    l->up = model_slice_linear(&both, f, f);
    return OK;
}

static status bind_feed_forward(model *m, const encoder_traits *t, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    if (t->gated)
        TRY(bind_gated(m, i, err));
    else
        TRY(model_bind_linear(m, i, "ffn_up", hp->n_ff, hp->n_embd, MODEL_REQUIRED, &l->up, err));
    return model_bind_linear(m, i, "ffn_down", hp->n_embd, hp->n_ff, MODEL_REQUIRED, &l->down, err);
}

static status bind_layer(model *m, const encoder_traits *t, uint32_t i, bool experts, error *err) {
    model_layer *l = &m->layers[i];
    l->rope = t->positions == POSITIONS_ROTARY ? 0 : MODEL_ROPE_NONE;
    TRY(bind_attention(m, i, err));
    if (experts)
        TRY(bind_experts(m, i, err));
    else
        TRY(bind_feed_forward(m, t, i, err));
    return model_bind_norm(m, i, "layer_output_norm", m->hparams.n_embd, MODEL_REQUIRED,
                           &l->layer_out_norm, err);
}

status arch_encoder_describe(model *m, error *err) {
    const encoder_traits *t = NULL;
    uint32_t every = 0;
    void *layers = NULL;
    TRY(find_traits(m, &t, err));
    TRY(read_hparams(m, t, err));
    TRY(read_experts(m, &every, err));
    TRY(bind_embeddings(m, err));
    TRY(describe_positions(m, t, err));
    TRY(bind_head(m, err));
    TRY(read_pooling(m, err));
    TRY(model_take(m, m->hparams.layers, sizeof *m->layers, "the layers", &layers, err));
    m->layers = layers;
    for (uint32_t i = 0; i < m->hparams.layers; i++)
        TRY(bind_layer(m, t, i, every > 0 && i % every == 1, err));
    return OK;
}
