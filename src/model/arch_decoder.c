/* arch_decoder.c - a decoder from its keys, as its row of traits says.
 *
 * Keys mean the same in every architecture, so all of them are read for all; a row says what holds
 * where they are absent.  After the keys come the layers, each with its window and its positions,
 * then the hook of the row, then the tensors.
 * Source: the GGUF specification, "[llm].*" keys. */
#include <math.h>
#include <stdio.h>

#include "model/arch.h"

/* --- heads ------------------------------------------------------------------- */
static status read_head_dims(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    uint32_t share = hp->n_embd / hp->heads;
    if (!model_key_has(m, "attention.key_length")) {
        if (hp->n_embd % hp->heads != 0)
            return error_set(err, ERR_FORMAT,
                             "model: embedding length %u is no multiple of %u attention heads",
                             hp->n_embd, hp->heads);
        if (share > MODEL_HEAD_DIM_MAX)
            return error_set(err, ERR_LIMIT, "model: %u elements per head, at most %d", share,
                             MODEL_HEAD_DIM_MAX);
        hp->head_dim = share;
    } else {
        TRY(model_key_count(m, "attention.key_length", MODEL_HEAD_DIM_MAX, &hp->head_dim, err));
    }
    hp->value_dim = hp->head_dim;
    if (!model_key_has(m, "attention.value_length")) return OK;
    return model_key_count(m, "attention.value_length", MODEL_HEAD_DIM_MAX, &hp->value_dim, err);
}

static status read_heads(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(model_key_count(m, "attention.head_count", MODEL_HEADS_MAX, &hp->heads, err));
    TRY(model_key_count_or(m, "attention.head_count_kv", MODEL_HEADS_MAX, hp->heads, &hp->kv_heads,
                           err));
    if (hp->kv_heads == 0 || hp->heads % hp->kv_heads != 0)
        return error_set(err, ERR_FORMAT,
                         "model: %u attention heads cannot share %u key and value heads", hp->heads,
                         hp->kv_heads);
    return read_head_dims(m, err);
}

/* --- numbers ----------------------------------------------------------------- */
/* Zero is how many writers say that there is none. */
static status read_scale(model *m, const char *suffix, float none, float *out, error *err) {
    float f = none;
    TRY(model_key_f32_or(m, suffix, none, &f, err));
    *out = f == 0.0f ? none : f;
    return OK;
}

/* 0 or above. */
static status read_limit(model *m, const char *suffix, float *out, error *err) {
    float f = 0;
    TRY(model_key_f32_or(m, suffix, 0, &f, err));
    if (!(f >= 0))
        return error_set(err, ERR_FORMAT, "model: '%s.%s' is %g, must be at least 0",
                         m->hparams.arch, suffix, (double)f);
    *out = f;
    return OK;
}

static status read_scales(model *m, const arch_traits *a, error *err) {
    model_hparams *hp = &m->hparams;
    float embd = a->embd_sqrt ? sqrtf((float)hp->n_embd) : 1.0f;
    float natural = 1.0f / sqrtf((float)hp->head_dim);
    TRY(read_scale(m, "attention.scale", natural, &hp->attn_scale, err));
    TRY(read_scale(m, "embedding_scale", embd, &hp->embd_scale, err));
    TRY(read_scale(m, "residual_scale", 1.0f, &hp->residual_scale, err));
    TRY(read_scale(m, "logit_scale", 1.0f, &hp->logit_scale, err));
    if (a->logit_divided) hp->logit_scale = 1.0f / hp->logit_scale;
    TRY(read_limit(m, "attn_logit_softcapping", &hp->attn_softcap, err));
    TRY(read_limit(m, "final_logit_softcapping", &hp->logit_softcap, err));
    return read_limit(m, "attention.clamp_kqv", &hp->qkv_clamp, err);
}

static status read_pooling(model *m, error *err) {
    uint32_t pooling = MODEL_POOLING_NONE;
    bool causal = true;
    TRY(model_key_bool_or(m, "attention.causal", true, &causal, err));
    TRY(model_key_count_or(m, "pooling_type", MODEL_POOLING_RANK, MODEL_POOLING_NONE, &pooling,
                           err));
    m->hparams.is_encoder = !causal;
    m->hparams.pooling = (model_pooling)pooling;
    return OK;
}

/* --- experts ----------------------------------------------------------------- */
static status read_gating(model *m, route_kind none, route_kind *out, error *err) {
    static const route_kind kinds[] = {ROUTE_SOFTMAX, ROUTE_SIGMOID, ROUTE_SOFTMAX_BEST};
    uint32_t id = 0;
    TRY(model_key_count_or(m, "expert_gating_func", UINT32_MAX, 0, &id, err));
    if (id > sizeof kinds / sizeof *kinds)
        return error_set(err, ERR_UNSUPPORTED,
                         "model: '%s.expert_gating_func' is %u; known are 1 to %zu",
                         m->hparams.arch, id, sizeof kinds / sizeof *kinds);
    *out = id == 0 ? none : kinds[id - 1];
    return OK;
}

/* Experts are chosen from the best groups only.                     (DeepSeek-V3) */
static status read_groups(model *m, error *err) {
    model_experts *e = &m->hparams.experts;
    TRY(model_key_count_or(m, "expert_group_count", MODEL_EXPERTS_MAX, 0, &e->groups, err));
    TRY(model_key_count_or(m, "expert_group_used_count", MODEL_EXPERTS_MAX, 0, &e->groups_used,
                           err));
    if (e->groups <= 1) return OK;
    uint32_t size = e->count / e->groups;
    if (e->count % e->groups != 0 || size < 2)
        return error_set(err, ERR_FORMAT, "model: %u experts cannot be cut into %u groups",
                         e->count, e->groups);
    if (e->groups_used == 0 || e->groups_used > e->groups || e->used > e->groups_used * size)
        return error_set(err, ERR_FORMAT,
                         "model: %u of %u expert groups of %u cannot give %u experts",
                         e->groups_used, e->groups, size, e->used);
    return OK;
}

static status read_shared(model *m, const arch_experts *t, error *err) {
    model_experts *e = &m->hparams.experts;
    uint32_t count = 0;
    TRY(model_key_count_or(m, "expert_shared_count", MODEL_EXPERTS_MAX, 0, &count, err));
    uint32_t none = t->shared_ff && count == 0 ? m->hparams.n_ff : count * e->n_ff;
    TRY(model_key_count_or(m, "expert_shared_feed_forward_length", MODEL_FF_MAX, 0, &e->shared_n_ff,
                           err));
    if (e->shared_n_ff == 0) e->shared_n_ff = none;
    if (e->shared_n_ff <= MODEL_FF_MAX) return OK;
    return error_set(err, ERR_LIMIT, "model: shared experts have %u columns, at most %d",
                     e->shared_n_ff, MODEL_FF_MAX);
}

/* Columns of one expert; 0 when no key says them. */
static status read_expert_ff(model *m, const arch_experts *t, error *err) {
    model_experts *e = &m->hparams.experts;
    uint32_t none = t->ff_divided ? m->hparams.n_ff / e->used : m->hparams.n_ff;
    TRY(model_key_count_or(m, "expert_feed_forward_length", MODEL_FF_MAX, 0, &e->n_ff, err));
    if (e->n_ff == 0) e->n_ff = none;
    if (e->n_ff > 0) return OK;
    return error_set(err, ERR_FORMAT, "model: '%s.expert_feed_forward_length' is missing",
                     m->hparams.arch);
}

static status read_experts(model *m, const arch_experts *t, error *err) {
    model_experts *e = &m->hparams.experts;
    TRY(model_key_count_or(m, "expert_count", MODEL_EXPERTS_MAX, 0, &e->count, err));
    if (e->count == 0) return OK;
    if (!t->allowed)
        return error_set(err, ERR_UNSUPPORTED,
                         "model: '%s.expert_count' is %u; this architecture is known with 0 "
                         "experts only",
                         m->hparams.arch, e->count);
    TRY(model_key_count(m, "expert_used_count", e->count, &e->used, err));
    TRY(read_gating(m, t->route, &e->route, err));
    TRY(model_key_bool_or(m, "expert_weights_norm", t->normalize, &e->normalize, err));
    TRY(read_scale(m, "expert_weights_scale", 1.0f, &e->scale, err));
    TRY(read_groups(m, err));
    TRY(read_expert_ff(m, t, err));
    return read_shared(m, t, err);
}

/* --- sizes --------------------------------------------------------------------- */
/* Layers behind the last one that predict further tokens are no part of the model itself: their
 * tensors are left alone. */
static status leave_draft_layers(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    const gguf *g = m->internal->gguf;
    uint32_t draft = 0;
    TRY(model_key_count_or(m, "nextn_predict_layers", hp->layers - 1, 0, &draft, err));
    hp->layers -= draft;
    for (uint32_t i = hp->layers; i < hp->layers + draft; i++) {
        char prefix[16];
        (void)snprintf(prefix, sizeof prefix, "blk.%u.", i);
        for (uint32_t t = 0; t < gguf_tensor_count(g); t++)
            if (str_starts(gguf_tensor_get(g, t)->name, str_of(prefix)))
                m->internal->bound[t] = true;
    }
    return OK;
}

/* Without dense layers the length of these may be left out. */
static status read_ff(model *m, error *err) {
    uint32_t *n_ff = &m->hparams.n_ff;
    if (!model_key_has(m, "expert_feed_forward_length"))
        return model_key_count(m, "feed_forward_length", MODEL_FF_MAX, n_ff, err);
    return model_key_count_or(m, "feed_forward_length", MODEL_FF_MAX, 0, n_ff, err);
}

static status read_sizes(model *m, const arch_traits *a, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(model_key_count(m, "block_count", MODEL_LAYERS_MAX, &hp->layers, err));
    TRY(model_key_count(m, "context_length", MODEL_CTX_MAX, &hp->ctx_train, err));
    TRY(read_ff(m, err));
    TRY(leave_draft_layers(m, err));
    if (a->norm == NORM_RMS)
        TRY(model_key_positive(m, "attention.layer_norm_rms_epsilon", &hp->norm_eps, err));
    else
        TRY(model_key_positive(m, "attention.layer_norm_epsilon", &hp->norm_eps, err));
    return a->latent ? arch_latent_keys(m, err) : read_heads(m, err);
}

static status read_hparams(model *m, const arch_traits *a, error *err) {
    model_hparams *hp = &m->hparams;
    hp->norm = a->norm;
    hp->act = a->ffn.act;
    hp->parallel = a->block == BLOCK_SHARED || a->block == BLOCK_SHARED_TWO;
    TRY(read_sizes(m, a, err));
    TRY(read_scales(m, a, err));
    TRY(read_pooling(m, err));
    return read_experts(m, &a->experts, err);
}

/* --- windows ------------------------------------------------------------------- */
/* "attention.sliding_window_pattern": the period, or for each layer whether it has the window. */
static status set_windows(model *m, uint32_t tokens, uint32_t period, error *err) {
    model_hparams *hp = &m->hparams;
    const gguf_value *v = model_key_value(m, "attention.sliding_window_pattern");
    bool listed = v != NULL && v->type == GGUF_TYPE_ARRAY;
    if (listed && (v->as.array.type != GGUF_TYPE_BOOL || v->as.array.count < hp->layers))
        return error_set(err, ERR_FORMAT,
                         "model: '%.*s' must be an array of %u bools, one per layer", STR(v->key),
                         hp->layers);
    if (v != NULL && !listed)
        TRY(model_key_count_or(m, "attention.sliding_window_pattern", MODEL_LAYERS_MAX, period,
                               &period, err));
    for (uint32_t i = 0; i < hp->layers; i++) {
        bool global = period > 1 && i % period == period - 1;
        if (listed) global = !gguf_array_get(&v->as.array, i).as.boolean;
        if (!global) m->layers[i].window = tokens;
    }
    return OK;
}

static status describe_windows(model *m, const arch_window *w, error *err) {
    uint32_t tokens = 0;
    if (w->required)
        TRY(model_key_count(m, "attention.sliding_window", UINT32_MAX, &tokens, err));
    else
        TRY(model_key_count_or(m, "attention.sliding_window", UINT32_MAX, w->tokens, &tokens, err));
    return set_windows(m, tokens, w->period, err);
}

/* --- positions ------------------------------------------------------------------- */
static status describe_ropes(model *m, const arch_traits *a, error *err) {
    const rope_pairs pairs = a->positions == POS_ADJACENT ? ROPE_ADJACENT : ROPE_HALVES;
    const arch_window *w = &a->window;
    uint32_t dims = 0;
    float base = 10000.0f, local = 0;
    if (model_key_has(m, "rope.freq_base"))
        TRY(model_key_positive(m, "rope.freq_base", &base, err));
    if (a->latent) return arch_latent_rope(m, base, err);
    TRY(model_key_count_or(m, "rope.dimension_count", MODEL_HEAD_DIM_MAX, m->hparams.head_dim,
                           &dims, err));
    TRY(model_rope_init(m, &m->ropes[0], pairs, dims, base, true, err));
    local = w->local_base != 0 ? w->local_base : base;
    if (model_key_has(m, "rope.freq_base_swa"))
        TRY(model_key_positive(m, "rope.freq_base_swa", &local, err));
    if (!w->local_rope && local == base) return OK;
    return model_rope_init(m, &m->ropes[1], pairs, dims, local, !w->local_rope, err);
}

/* Which of the two, or none. */
static uint8_t rope_of_layer(const model *m, const arch_traits *a, uint32_t i) {
    bool local = m->layers[i].window > 0;
    if (a->window.global_nope && !local) return MODEL_ROPE_NONE;
    if (a->nope_every > 0 && (i + 1) % a->nope_every == 0) return MODEL_ROPE_NONE;
    return local && m->ropes[1].dims > 0 ? 1 : 0;
}

static status describe_positions(model *m, const arch_traits *a, error *err) {
    model_hparams *hp = &m->hparams;
    bool rotary = a->positions == POS_ADJACENT || a->positions == POS_HALVES;
    float bias = 8.0f;
    if (rotary) TRY(describe_ropes(m, a, err));
    for (uint32_t i = 0; i < hp->layers; i++)
        m->layers[i].rope = rotary ? rope_of_layer(m, a, i) : MODEL_ROPE_NONE;
    if (rotary) return OK;
    if (a->positions == POS_ALIBI) {
        TRY(model_key_f32_or(m, "attention.max_alibi_bias", bias, &bias, err));
        if (bias > 0) TRY(model_alibi_init(m, bias, err));
    }
    return model_bind_matrix(m, MODEL_LAYER_NONE, "position_embd", hp->ctx_train, hp->n_embd,
                             a->positions == POS_LEARNED ? MODEL_REQUIRED : MODEL_OPTIONAL,
                             &m->position_embd, err);
}

/* --- the whole ------------------------------------------------------------------- */
static status take_layers(model *m, error *err) {
    void *layers = NULL;
    TRY(model_take(m, m->hparams.layers, sizeof *m->layers, "the layers", &layers, err));
    m->layers = layers;
    return OK;
}

static status bind_layers(model *m, const arch_traits *a, error *err) {
    const model_hparams *hp = &m->hparams;
    uint32_t dense = hp->experts.count > 0 ? 0 : hp->layers;
    if (hp->experts.count > 0)
        TRY(model_key_count_or(m, "leading_dense_block_count", MODEL_LAYERS_MAX, 0, &dense, err));
    for (uint32_t i = 0; i < hp->layers; i++) TRY(arch_bind_layer(m, a, i, i >= dense, err));
    return OK;
}

status arch_decoder_describe(model *m, error *err) {
    const arch_traits *a = arch_of(m);
    TRY(read_hparams(m, a, err));
    TRY(take_layers(m, err));
    TRY(describe_windows(m, &a->window, err));
    TRY(describe_positions(m, a, err));
    if (a->adjust != NULL) TRY(a->adjust(m, err));
    TRY(arch_bind_outside(m, a, err));
    return bind_layers(m, a, err);
}
