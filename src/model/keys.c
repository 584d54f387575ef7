/* keys.c - the "ARCH.suffix" keys of a file: checked when they are read, and looked through
 * afterwards for those that nobody read.
 *
 * Some keys may hold one number or an array with one per layer.  The architectures here have
 * equal layers, so an array is read as its one number; different numbers are refused by name.
 * Source: the GGUF specification, "[llm].*" keys; gguf-py's constants for the newer ones. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/log.h"
#include "model/model_internal.h"

typedef struct key_text {
    char bytes[96];
} key_text;

static str key_of(const model *m, key_text *k, const char *suffix) {
    int n = snprintf(k->bytes, sizeof k->bytes, "%s.%s", m->hparams.arch, suffix);
    ASSERT(n > 0 && (size_t)n < sizeof k->bytes);
    return str_of(k->bytes);
}

/* Marks the key as read; NULL when the file has none. */
static const gguf_value *read_key(model *m, str key) {
    const gguf *g = m->internal->gguf;
    const gguf_value *v = gguf_kv_find(g, key);
    if (v != NULL) m->internal->keys_read[v - gguf_kv_get(g, 0)] = true;
    return v;
}

bool model_key_has(const model *m, const char *suffix) {
    key_text k;
    return gguf_kv_find(m->internal->gguf, key_of(m, &k, suffix)) != NULL;
}

const gguf_value *model_key_value(model *m, const char *suffix) {
    key_text k;
    return read_key(m, key_of(m, &k, suffix));
}

/* --- counts ---------------------------------------------------------------- */
/* False for what is no integer of 0 .. 2^32 - 1. */
static bool count_of(const gguf_value *v, uint32_t *out) {
    switch (v->type) {
    case GGUF_TYPE_U8:
    case GGUF_TYPE_U16:
    case GGUF_TYPE_U32:
    case GGUF_TYPE_U64:
        *out = (uint32_t)v->as.u64;
        return v->as.u64 <= UINT32_MAX;
    case GGUF_TYPE_I8:
    case GGUF_TYPE_I16:
    case GGUF_TYPE_I32:
    case GGUF_TYPE_I64:
        *out = (uint32_t)v->as.i64;
        return v->as.i64 >= 0 && v->as.i64 <= UINT32_MAX;
    case GGUF_TYPE_F32:
    case GGUF_TYPE_F64:
    case GGUF_TYPE_BOOL:
    case GGUF_TYPE_STRING:
    case GGUF_TYPE_ARRAY:
        break;
    }
    return false;
}

/* The one number of an array with a number per layer. */
static status equal_counts(str key, const gguf_array *a, uint32_t *out, error *err) {
    if (a->type == GGUF_TYPE_STRING || a->count == 0)
        return error_set(err, ERR_FORMAT,
                         "model: '%.*s' is an array of %" PRIu64 " %s, must be of integers",
                         STR(key), a->count, gguf_type_name(a->type));
    uint32_t first = 0;
    for (uint64_t i = 0; i < a->count; i++) {
        gguf_value v = gguf_array_get(a, i);
        uint32_t n = 0;
        if (!count_of(&v, &n))
            return error_set(err, ERR_FORMAT, "model: '%.*s' has no count at %" PRIu64, STR(key),
                             i);
        if (i == 0) first = n;
        if (n != first)
            return error_set(err, ERR_UNSUPPORTED,
                             "model: '%.*s' is %u in layer 0 and %u in layer %" PRIu64
                             "; only equal layers can be computed",
                             STR(key), first, n, i);
    }
    *out = first;
    return OK;
}

static status read_count(model *m, str key, uint32_t min, uint32_t max, uint32_t *out, error *err) {
    const gguf_value *v = read_key(m, key);
    uint32_t n = 0;
    if (v->type == GGUF_TYPE_ARRAY)
        TRY(equal_counts(key, &v->as.array, &n, err));
    else
        TRY(gguf_get_u32(m->internal->gguf, key, &n, err));
    if (n < min || n > max)
        return error_set(err, ERR_LIMIT, "model: '%.*s' is %u, must be %u to %u", STR(key), n, min,
                         max);
    *out = n;
    return OK;
}

static status missing(str key, error *err) {
    return error_set(err, ERR_FORMAT, "model: key '%.*s' is missing", STR(key));
}

status model_key_count(model *m, const char *suffix, uint32_t max, uint32_t *out, error *err) {
    key_text k;
    str key = key_of(m, &k, suffix);
    if (!model_key_has(m, suffix)) return missing(key, err);
    return read_count(m, key, 1, max, out, err);
}

status model_key_count_or(model *m, const char *suffix, uint32_t max, uint32_t fallback,
                          uint32_t *out, error *err) {
    key_text k;
    str key = key_of(m, &k, suffix);
    if (model_key_has(m, suffix)) return read_count(m, key, 0, max, out, err);
    *out = fallback;
    return OK;
}

/* --- numbers, switches, words ------------------------------------------------ */
status model_key_f32_or(model *m, const char *suffix, float fallback, float *out, error *err) {
    key_text k;
    str key = key_of(m, &k, suffix);
    (void)read_key(m, key);
    return gguf_get_f32_or(m->internal->gguf, key, fallback, out, err);
}

status model_key_positive(model *m, const char *suffix, float *out, error *err) {
    key_text k;
    float f = 0.0f;
    str key = key_of(m, &k, suffix);
    if (read_key(m, key) == NULL) return missing(key, err);
    TRY(gguf_get_f32(m->internal->gguf, key, &f, err));
    if (!(f > 0.0f))
        return error_set(err, ERR_FORMAT, "model: '%.*s' is %g, must be above 0", STR(key),
                         (double)f);
    *out = f;
    return OK;
}

status model_key_bool_or(model *m, const char *suffix, bool fallback, bool *out, error *err) {
    key_text k;
    str key = key_of(m, &k, suffix);
    (void)read_key(m, key);
    return gguf_get_bool_or(m->internal->gguf, key, fallback, out, err);
}

status model_key_str_or(model *m, const char *suffix, str *out, error *err) {
    key_text k;
    str key = key_of(m, &k, suffix);
    if (read_key(m, key) != NULL) return gguf_get_str(m->internal->gguf, key, out, err);
    *out = S("");
    return OK;
}

/* --- keys that nobody read --------------------------------------------------- */
/* What would compute something else in an architecture that does not ask for it, and the value at
 * which it does nothing. */
static const struct {
    const char *suffix;
    double neutral;
} feature_keys[] = {
    {"attention.causal", 1},
    {"attention.clamp_kqv", 0},
    {"attention.group_norm_groups", 0},
    {"attention.kv_lora_rank", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.q_lora_rank", 0},
    {"attention.scale", 0},
    {"attention.shared_kv_layers", 0},
    {"attention.sliding_window", 0},
    {"attention.temperature_length", 0},
    {"attention.temperature_scale", 0},
    {"attn_logit_softcapping", 0},
    {"embedding_length_per_layer_input", 0},
    {"embedding_scale", 1},
    {"expert_count", 0},
    {"expert_gating_func", 1},
    {"expert_group_count", 1},
    {"expert_shared_count", 0},
    {"expert_weights_norm", 0},
    {"expert_weights_scale", 1},
    {"final_logit_softcapping", 0},
    {"interleave_moe_layer_step", 1},
    {"logit_scale", 1},
    {"moe_every_n_layers", 0},
    {"moe_latent_size", 0},
    {"nextn_predict_layers", 0},
    {"residual_scale", 1},
    {"router_logit_softcapping", 0},
    {"ssm.inner_size", 0},
    {"swin_norm", 0},
    {"use_parallel_residual", 0},
};

/* These repeat another key or say how the file was made. */
static const char *const silent_keys[] = {
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "expert_feed_forward_length",
    "expert_group_used_count",
    "expert_used_count",
    "leading_dense_block_count",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
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

/* What is said about experts of a model that has none. */
static bool is_about_no_experts(const model *m, str suffix) {
    return m->hparams.experts.count == 0 && str_starts(suffix, S("expert_")) &&
           !str_eq_c(suffix, "expert_count");
}

static status check_unread(const model *m, const gguf_value *v, str suffix, error *err) {
    if (is_about_no_experts(m, suffix)) return OK;
    for (size_t i = 0; i < sizeof feature_keys / sizeof *feature_keys; i++) {
        if (!str_eq_c(suffix, feature_keys[i].suffix)) continue;
        if (number_of(v) == feature_keys[i].neutral) return OK;
        return error_set(err, ERR_UNSUPPORTED,
                         "model: '%.*s' is %g; this version computes %s models with %g only",
                         STR(v->key), number_of(v), m->hparams.arch, feature_keys[i].neutral);
    }
    for (size_t i = 0; i < sizeof silent_keys / sizeof *silent_keys; i++)
        if (str_eq_c(suffix, silent_keys[i])) return OK;
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, v->key);
    log_warn("model", "key has no meaning here key=%s", text);
    return OK;
}

status model_check_keys(const model *m, error *err) {
    const gguf *g = m->internal->gguf;
    key_text k;
    str prefix = key_of(m, &k, "");
    for (uint32_t i = 0; i < gguf_kv_count(g); i++) {
        const gguf_value *v = gguf_kv_get(g, i);
        if (m->internal->keys_read[i] || !str_starts(v->key, prefix)) continue;
        TRY(check_unread(m, v, str_skip(v->key, prefix.n), err));
    }
    return OK;
}
