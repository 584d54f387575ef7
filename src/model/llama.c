/* llama.c - the llama family: hyper-parameters from "llama.*" keys, weights by name.
 *
 * Covers Llama 1 to 3, Mistral, TinyLlama, SmolLM and what else is stored under this
 * name: RMS norm, rotary positions, grouped-query attention, gated SiLU feed-forward.
 * Source: the GGUF specification, "llama" keys and standardized tensor names. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "base/log.h"
#include "model/model_internal.h"

/* --- keys ------------------------------------------------------------------ */
typedef struct key_text {
    char bytes[96];
} key_text;

static str key_of(key_text *k, const char *suffix) {
    (void)snprintf(k->bytes, sizeof k->bytes, "llama.%s", suffix);
    return str_of(k->bytes);
}

static bool has_key(const gguf *g, const char *suffix) {
    key_text k;
    return gguf_kv_find(g, key_of(&k, suffix)) != NULL;
}

static status check_present(const gguf *g, str key, error *err) {
    if (gguf_kv_find(g, key) != NULL) return OK;
    return error_set(err, ERR_FORMAT, "model: key '%.*s' is missing", STR(key));
}

/* A required count from 1 to max. */
static status read_count(const gguf *g, const char *suffix, uint32_t max, uint32_t *out,
                         error *err) {
    key_text k;
    uint32_t n = 0;
    str key = key_of(&k, suffix);
    TRY(check_present(g, key, err));
    TRY(gguf_get_u32(g, key, &n, err));
    if (n < 1 || n > max)
        return error_set(err, ERR_LIMIT, "model: '%.*s' is %u, must be 1 to %u", STR(key), n, max);
    *out = n;
    return OK;
}

static status read_count_or(const gguf *g, const char *suffix, uint32_t max, uint32_t fallback,
                            uint32_t *out, error *err) {
    if (has_key(g, suffix)) return read_count(g, suffix, max, out, err);
    *out = fallback;
    return OK;
}

static status read_positive(const gguf *g, const char *suffix, float *out, error *err) {
    key_text k;
    float f = 0.0f;
    str key = key_of(&k, suffix);
    TRY(check_present(g, key, err));
    TRY(gguf_get_f32(g, key, &f, err));
    if (!(f > 0.0f))
        return error_set(err, ERR_FORMAT, "model: '%.*s' is %g, must be above 0", STR(key),
                         (double)f);
    *out = f;
    return OK;
}

/* --- keys that would change the computation -------------------------------- */
static const char *const known_keys[] = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "expert_count",
    "vocab_size",
    /* these say how the file was made or repeat another key */
    "expert_used_count",
    "tensor_data_layout",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
};

/* Features this forward pass lacks, and the value at which they do nothing. */
static const struct {
    const char *suffix;
    double neutral;
} feature_keys[] = {
    {"attention.sliding_window", 0}, {"attention.causal", 1},
    {"attention.clamp_kqv", 0},      {"attention.max_alibi_bias", 0},
    {"attention.scale", 0},          {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},  {"logit_scale", 1},
    {"embedding_scale", 1},          {"residual_scale", 1},
    {"rope.scaling.attn_factor", 1}, {"use_parallel_residual", 0},
};

/* NaN, which equals nothing, for what is no number. */
static double number_of(const gguf_value *v) {
    switch (v->type) {
    case GGUF_TYPE_BOOL:
        return v->as.boolean ? 1 : 0;
    case GGUF_TYPE_F32:
    case GGUF_TYPE_F64:
        return v->as.f64;
    case GGUF_TYPE_I8:
    case GGUF_TYPE_I16:
    case GGUF_TYPE_I32:
    case GGUF_TYPE_I64:
        return (double)v->as.i64;
    case GGUF_TYPE_U8:
    case GGUF_TYPE_U16:
    case GGUF_TYPE_U32:
    case GGUF_TYPE_U64:
        return (double)v->as.u64;
    case GGUF_TYPE_STRING:
    case GGUF_TYPE_ARRAY:
        break;
    }
    return NAN;
}

static status check_features(const gguf *g, error *err) {
    for (size_t i = 0; i < sizeof feature_keys / sizeof *feature_keys; i++) {
        key_text k;
        const gguf_value *v = gguf_kv_find(g, key_of(&k, feature_keys[i].suffix));
        if (v == NULL || number_of(v) == feature_keys[i].neutral) continue;
        return error_set(err, ERR_UNSUPPORTED,
                         "model: '%s' is %g; this version computes llama models with %g only",
                         k.bytes, number_of(v), feature_keys[i].neutral);
    }
    return OK;
}

static bool is_known(str suffix) {
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        if (str_eq_c(suffix, known_keys[i])) return true;
    for (size_t i = 0; i < sizeof feature_keys / sizeof *feature_keys; i++)
        if (str_eq_c(suffix, feature_keys[i].suffix)) return true;
    return false;
}

static void report_unknown_keys(const gguf *g) {
    for (uint32_t i = 0; i < gguf_kv_count(g); i++) {
        str key = gguf_kv_get(g, i)->key;
        if (!str_starts(key, S("llama.")) || is_known(str_skip(key, S("llama.").n))) continue;
        log_warn("model", "unknown key=%.*s has no effect", STR(key));
    }
}

/* --- hyper-parameters ------------------------------------------------------ */
static status read_heads(const gguf *g, model_hparams *hp, error *err) {
    uint32_t value_dim = 0;
    TRY(read_count(g, "attention.head_count", MODEL_HEADS_MAX, &hp->heads, err));
    TRY(read_count_or(g, "attention.head_count_kv", MODEL_HEADS_MAX, hp->heads, &hp->kv_heads,
                      err));
    if (hp->heads % hp->kv_heads != 0)
        return error_set(err, ERR_FORMAT, "model: %u attention heads cannot share %u kv heads",
                         hp->heads, hp->kv_heads);
    if (!has_key(g, "attention.key_length") && hp->n_embd % hp->heads != 0)
        return error_set(err, ERR_FORMAT,
                         "model: embedding length %u is no multiple of %u attention heads",
                         hp->n_embd, hp->heads);
    TRY(read_count_or(g, "attention.key_length", MODEL_HEAD_DIM_MAX, hp->n_embd / hp->heads,
                      &hp->head_dim, err));
    if (hp->head_dim > MODEL_HEAD_DIM_MAX)
        return error_set(err, ERR_LIMIT, "model: head dimension %u, at most %u", hp->head_dim,
                         MODEL_HEAD_DIM_MAX);
    TRY(read_count_or(g, "attention.value_length", MODEL_HEAD_DIM_MAX, hp->head_dim, &value_dim,
                      err));
    if (value_dim != hp->head_dim)
        return error_set(err, ERR_UNSUPPORTED,
                         "model: attention value length %u differs from key length %u", value_dim,
                         hp->head_dim);
    return OK;
}

/* "rope.scaling.factor", or its older name; 1 when the file has neither. */
static status read_rope_factor(const gguf *g, float *out, error *err) {
    *out = 1.0f;
    if (has_key(g, "rope.scaling.factor")) return read_positive(g, "rope.scaling.factor", out, err);
    if (has_key(g, "rope.scale_linear")) return read_positive(g, "rope.scale_linear", out, err);
    return OK;
}

static status read_rope_scaling(const gguf *g, float *out, error *err) {
    key_text k;
    str kind = S("linear"); /* what a factor without a type means */
    str key = key_of(&k, "rope.scaling.type");
    if (gguf_kv_find(g, key) != NULL) TRY(gguf_get_str(g, key, &kind, err));
    if (str_eq_c(kind, "linear")) return read_rope_factor(g, out, err);
    if (!str_eq_c(kind, "none")) {
        char text[MODEL_TEXT_BYTES];
        model_copy_text(text, sizeof text, kind);
        return error_set(err, ERR_UNSUPPORTED, "model: '%.*s' is '%s'; known are none and linear",
                         STR(key), text);
    }
    *out = 1.0f;
    return OK;
}

static status read_rope(const gguf *g, model_hparams *hp, error *err) {
    TRY(read_count_or(g, "rope.dimension_count", MODEL_HEAD_DIM_MAX, hp->head_dim, &hp->rope_dims,
                      err));
    if (hp->rope_dims > hp->head_dim || hp->rope_dims % 2 != 0)
        return error_set(err, ERR_FORMAT,
                         "model: %u rotary dimensions, must be even and at most head dimension %u",
                         hp->rope_dims, hp->head_dim);
    hp->rope_base = 10000.0f;
    if (has_key(g, "rope.freq_base")) TRY(read_positive(g, "rope.freq_base", &hp->rope_base, err));
    return read_rope_scaling(g, &hp->rope_scale, err);
}

static status refuse_experts(const gguf *g, error *err) {
    key_text k;
    uint32_t experts = 0;
    TRY(gguf_get_u32_or(g, key_of(&k, "expert_count"), 0, &experts, err));
    if (experts == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "model: 'llama.expert_count' is %u; mixtures of experts cannot be run, only 0 "
                     "experts",
                     experts);
}

static status read_hparams(const gguf *g, model_hparams *hp, error *err) {
    TRY(refuse_experts(g, err));
    TRY(check_features(g, err));
    TRY(read_count(g, "block_count", MODEL_LAYERS_MAX, &hp->layers, err));
    TRY(read_count(g, "context_length", MODEL_CTX_MAX, &hp->ctx_train, err));
    TRY(read_count(g, "embedding_length", MODEL_EMBD_MAX, &hp->n_embd, err));
    TRY(read_count(g, "feed_forward_length", MODEL_FF_MAX, &hp->n_ff, err));
    TRY(read_positive(g, "attention.layer_norm_rms_epsilon", &hp->norm_eps, err));
    TRY(read_heads(g, hp, err));
    TRY(read_rope(g, hp, err));
    report_unknown_keys(g);
    return OK;
}

/* The embedding's rows; the tokenizer and the key must agree with them. */
static status read_vocab_size(model *m, error *err) {
    const gguf *g = m->internal->gguf;
    const gguf_tensor *t = gguf_tensor_find(g, S("token_embd.weight"));
    uint32_t said = 0;
    if (t == NULL)
        return error_set(err, ERR_FORMAT, "model: tensor 'token_embd.weight' is missing");
    if (t->dims[1] > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT,
                         "model: tensor 'token_embd.weight' has %" PRIu64 " rows, at most %u",
                         t->dims[1], MODEL_VOCAB_MAX);
    uint32_t rows = (uint32_t)t->dims[1];
    TRY(read_count_or(g, "vocab_size", MODEL_VOCAB_MAX, rows, &said, err));
    if (said != rows)
        return error_set(err, ERR_FORMAT,
                         "model: 'llama.vocab_size' is %u, tensor 'token_embd.weight' has %u rows",
                         said, rows);
    if (m->vocab.kind != TOK_KIND_NONE && m->vocab.count != rows)
        return error_set(err, ERR_FORMAT,
                         "model: tokenizer has %u tokens, tensor 'token_embd.weight' has %u rows",
                         m->vocab.count, rows);
    m->hparams.vocab = rows;
    return OK;
}

/* --- weights --------------------------------------------------------------- */
typedef enum extent { EXTENT_ONE, EXTENT_EMBD, EXTENT_Q, EXTENT_KV, EXTENT_FF } extent;

static uint32_t extent_of(const model_hparams *hp, extent e) {
    switch (e) {
    case EXTENT_EMBD:
        return hp->n_embd;
    case EXTENT_Q:
        return hp->heads * hp->head_dim;
    case EXTENT_KV:
        return hp->kv_heads * hp->head_dim;
    case EXTENT_FF:
        return hp->n_ff;
    case EXTENT_ONE:
        break;
    }
    return 1;
}

/* One row per tensor of a layer; vectors have EXTENT_ONE rows. */
typedef struct layer_weight {
    const char *name; /* behind "blk.N." */
    size_t field;     /* offset in model_layer */
    extent rows, cols;
    bool optional;
} layer_weight;

#define FIELD(f) offsetof(model_layer, f)
static const layer_weight layer_weights[] = {
    {"attn_norm.weight", FIELD(attn_norm), EXTENT_ONE, EXTENT_EMBD, false},
    {"attn_q.weight", FIELD(wq), EXTENT_Q, EXTENT_EMBD, false},
    {"attn_k.weight", FIELD(wk), EXTENT_KV, EXTENT_EMBD, false},
    {"attn_v.weight", FIELD(wv), EXTENT_KV, EXTENT_EMBD, false},
    {"attn_output.weight", FIELD(wo), EXTENT_EMBD, EXTENT_Q, false},
    {"ffn_norm.weight", FIELD(ffn_norm), EXTENT_ONE, EXTENT_EMBD, false},
    {"ffn_gate.weight", FIELD(w_gate), EXTENT_FF, EXTENT_EMBD, false},
    {"ffn_up.weight", FIELD(w_up), EXTENT_FF, EXTENT_EMBD, false},
    {"ffn_down.weight", FIELD(w_down), EXTENT_EMBD, EXTENT_FF, false},
    {"attn_q.bias", FIELD(bq), EXTENT_ONE, EXTENT_Q, true},
    {"attn_k.bias", FIELD(bk), EXTENT_ONE, EXTENT_KV, true},
    {"attn_v.bias", FIELD(bv), EXTENT_ONE, EXTENT_KV, true},
    {"attn_output.bias", FIELD(bo), EXTENT_ONE, EXTENT_EMBD, true},
    {"ffn_gate.bias", FIELD(b_gate), EXTENT_ONE, EXTENT_FF, true},
    {"ffn_up.bias", FIELD(b_up), EXTENT_ONE, EXTENT_FF, true},
    {"ffn_down.bias", FIELD(b_down), EXTENT_ONE, EXTENT_EMBD, true},
};
#undef FIELD

static status bind_layer(model *m, uint32_t idx, error *err) {
    for (size_t i = 0; i < sizeof layer_weights / sizeof *layer_weights; i++) {
        const layer_weight *w = &layer_weights[i];
        model_tensor *t = (model_tensor *)(void *)((char *)&m->layers[idx] + w->field);
        uint32_t rows = extent_of(&m->hparams, w->rows), cols = extent_of(&m->hparams, w->cols);
        char name[GGUF_NAME_BYTES_MAX + 1];
        (void)snprintf(name, sizeof name, "blk.%u.%s", idx, w->name);
        if (w->rows == EXTENT_ONE)
            TRY(model_bind_vector(m, name, cols, w->optional, t, err));
        else
            TRY(model_bind_matrix(m, name, rows, cols, t, err));
    }
    return OK;
}

static status bind_layers(model *m, error *err) {
    void *layers = NULL;
    TRY(model_take(m, m->hparams.layers, sizeof *m->layers, "the layers", &layers, err));
    m->layers = layers;
    for (uint32_t i = 0; i < m->hparams.layers; i++) TRY(bind_layer(m, i, err));
    return OK;
}

static status bind_output(model *m, error *err) {
    const model_hparams *hp = &m->hparams;
    m->hparams.tied_output = gguf_tensor_find(m->internal->gguf, S("output.weight")) == NULL;
    m->output = m->token_embd;
    if (hp->tied_output) return OK;
    return model_bind_matrix(m, "output.weight", hp->vocab, hp->n_embd, &m->output, err);
}

/* Frequencies are divided by these, so zero has no meaning. */
static status bind_rope_freqs(model *m, error *err) {
    TRY(model_bind_vector(m, "rope_freqs.weight", m->hparams.rope_dims / 2, true, &m->rope_freqs,
                          err));
    const float *factors = m->rope_freqs.data;
    for (uint32_t i = 0; i < m->rope_freqs.cols; i++)
        if (!(factors[i] > 0.0f && factors[i] <= FLT_MAX))
            return error_set(err, ERR_FORMAT,
                             "model: tensor 'rope_freqs.weight' has %g at %u, must be above 0",
                             (double)factors[i], i);
    return OK;
}

status llama_describe(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(read_hparams(m->internal->gguf, hp, err));
    TRY(read_vocab_size(m, err));
    TRY(model_bind_matrix(m, "token_embd.weight", hp->vocab, hp->n_embd, &m->token_embd, err));
    TRY(model_bind_vector(m, "output_norm.weight", hp->n_embd, false, &m->output_norm, err));
    TRY(bind_output(m, err));
    TRY(bind_rope_freqs(m, err));
    return bind_layers(m, err);
}
