/* hf_rope.c - rope_scaling: how rotary positions are stretched beyond the length of training.
 *
 * Source: modeling_rope_utils of transformers for the fields and formulas; docs/models/rope.md for
 * what becomes of the keys. */
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "model/hf_internal.h"

#define PI 3.14159265358979323846

typedef struct rope_part {
    json_node node;
    json_fields f;
} rope_part;

static status need_f32(rope_part *p, const char *key, float *out, error *err) {
    json_node n;
    TRY(hf_blame(json_field_need(&p->f, key, &n, err), err));
    TRY(hf_blame(json_node_f32(&n, -3e38F, 3e38F, out, err), err));
    if (*out > 0) return OK;
    return error_set(err, ERR_FORMAT, "config.json: rope_scaling.%s is %g, must be above 0", key,
                     (double)*out);
}

static status copy_f32(hf_job *j, rope_part *p, const char *key, const char *suffix, error *err) {
    float value = 0;
    json_node n = json_field(&p->f, key);
    if (!json_node_is_set(&n)) return OK;
    TRY(hf_blame(json_node_f32(&n, -3e38F, 3e38F, &value, err), err));
    hf_put_f32(j, suffix, value);
    return OK;
}

static void put_factors(hf_job *j, const char *name, float *values) {
    gguf_tensor t = {.name = str_of(name),
                     .type = DTYPE_F32,
                     .dims_count = 1,
                     .dims = {j->rope_dims / 2, 1, 1, 1},
                     .data = values};
    gguf_make_tensor(j->maker, &t);
}

static status take_factors(hf_job *j, float **out, error *err) {
    uint32_t count = j->rope_dims / 2;
    if (count == 0 || j->rope_dims % 2 != 0)
        return error_set(err, ERR_FORMAT,
                         "config.json: %u elements of a head are rotated, want pairs",
                         j->rope_dims);
    *out = gguf_make_take(j->maker, (uint64_t)count * sizeof(float));
    return *out != NULL ? OK : error_set(err, ERR_NOMEM, "no memory for %u rope factors", count);
}

/* --- llama3 ---------------------------------------------------------------------------- */
typedef struct llama3 {
    float factor, low, high, ctx;
} llama3;

/* What the frequency of this wave length (tokens) is divided by: short waves stay, long ones are
 * stretched, those between by parts. */
static double llama3_divisor(const llama3 *l, double wave) {
    double low = l->ctx / (double)l->low, high = l->ctx / (double)l->high;
    if (wave < high) return 1;
    if (wave > low) return l->factor;
    double smooth = (l->ctx / wave - l->low) / ((double)l->high - l->low);
    return 1 / ((1 - smooth) / l->factor + smooth);
}

static status read_llama3(hf_job *j, rope_part *p, error *err) {
    llama3 l;
    float *factors = NULL;
    TRY(need_f32(p, "factor", &l.factor, err));
    TRY(need_f32(p, "low_freq_factor", &l.low, err));
    TRY(need_f32(p, "high_freq_factor", &l.high, err));
    TRY(need_f32(p, "original_max_position_embeddings", &l.ctx, err));
    if (!(l.high > l.low))
        return error_set(err, ERR_FORMAT,
                         "config.json: rope_scaling.high_freq_factor %g is not above "
                         "low_freq_factor %g",
                         (double)l.high, (double)l.low);
    TRY(take_factors(j, &factors, err));
    for (uint32_t i = 0; i < j->rope_dims / 2; i++) {
        double freq = pow(j->theta, -2.0 * i / j->rope_dims);
        factors[i] = (float)llama3_divisor(&l, 2 * PI / freq);
    }
    put_factors(j, "rope_freqs.weight", factors);
    return OK;
}

/* --- linear, yarn ------------------------------------------------------------------------ */
static status read_linear(hf_job *j, rope_part *p, error *err) {
    float factor = 0;
    TRY(need_f32(p, "factor", &factor, err));
    hf_put_str(j, "rope.scaling.type", "linear");
    hf_put_f32(j, "rope.scaling.factor", factor);
    return OK;
}

/* mscale and mscale_all_dim multiply queries and keys by a common magnitude; DeepSeek-V2 multiplies
 * the scores by the square of one of them, which is the key here. */
static status read_yarn_scale(hf_job *j, rope_part *p, error *err) {
    float one = 0, all = 0;
    json_node m = json_field(&p->f, "mscale"), a = json_field(&p->f, "mscale_all_dim");
    TRY(hf_blame(json_node_f32(&m, 0, 1e6F, &one, err), err));
    TRY(hf_blame(json_node_f32(&a, 0, 1e6F, &all, err), err));
    if (!json_node_is_set(&a) && !json_node_is_set(&m)) return OK;
    if (strcmp(j->class->arch, "deepseek2") != 0 || one != all)
        return error_set(err, ERR_UNSUPPORTED,
                         "config.json: rope_scaling.mscale %g with mscale_all_dim %g cannot be "
                         "computed for %s",
                         (double)one, (double)all, j->class->name);
    hf_put_f32(j, "rope.scaling.yarn_log_multiplier", 0.1F * all);
    return OK;
}

static status read_yarn(hf_job *j, rope_part *p, error *err) {
    float factor = 0;
    uint32_t ctx = 0;
    json_node n = json_field(&p->f, "original_max_position_embeddings");
    TRY(need_f32(p, "factor", &factor, err));
    ctx = json_node_is_set(&n) ? 0 : j->ctx;
    TRY(hf_blame(json_node_u32(&n, 1, MODEL_CTX_MAX, &ctx, err), err));
    hf_put_str(j, "rope.scaling.type", "yarn");
    hf_put_f32(j, "rope.scaling.factor", factor);
    hf_put_u32(j, "rope.scaling.original_context_length", ctx);
    TRY(copy_f32(j, p, "attention_factor", "rope.scaling.attn_factor", err));
    TRY(copy_f32(j, p, "beta_fast", "rope.scaling.yarn_beta_fast", err));
    TRY(copy_f32(j, p, "beta_slow", "rope.scaling.yarn_beta_slow", err));
    return read_yarn_scale(j, p, err);
}

/* --- longrope ------------------------------------------------------------------------------ */
static status read_list(hf_job *j, rope_part *p, const char *key, const char *name, error *err) {
    json_node list;
    float *factors = NULL;
    TRY(take_factors(j, &factors, err));
    TRY(hf_blame(json_field_need(&p->f, key, &list, err), err));
    if (json_node_count(&list) != j->rope_dims / 2)
        return error_set(err, ERR_FORMAT,
                         "config.json: rope_scaling.%s has %zu numbers for %u pairs", key,
                         json_node_count(&list), j->rope_dims / 2);
    for (uint32_t i = 0; i < j->rope_dims / 2; i++) {
        json_node n = json_node_element(&list, i);
        TRY(hf_blame(json_node_f32(&n, 1e-6F, 1e6F, &factors[i], err), err));
    }
    put_factors(j, name, factors);
    return OK;
}

static status read_longrope(hf_job *j, rope_part *p, error *err) {
    uint32_t ctx = j->ctx;
    float magnitude = 1;
    json_node said = json_field(&p->f, "attention_factor");
    TRY(hf_u32(j, "original_max_position_embeddings", MODEL_CTX_MAX, &ctx, err));
    json_node own = json_field(&p->f, "original_max_position_embeddings");
    TRY(hf_blame(json_node_u32(&own, 1, MODEL_CTX_MAX, &ctx, err), err));
    if (ctx < 2)
        return error_set(err, ERR_FORMAT,
                         "config.json: original_max_position_embeddings is %u, want 2", ctx);
    double stretch = (double)j->ctx / ctx;
    if (stretch > 1) magnitude = (float)sqrt(1 + log(stretch) / log(ctx));
    TRY(hf_blame(json_node_f32(&said, 1e-6F, 1e6F, &magnitude, err), err));
    hf_put_u32(j, "rope.scaling.original_context_length", ctx);
    hf_put_f32(j, "rope.scaling.attn_factor", magnitude);
    TRY(read_list(j, p, "long_factor", "rope_factors_long.weight", err));
    return read_list(j, p, "short_factor", "rope_factors_short.weight", err);
}

/* --- the choice ------------------------------------------------------------------------------ */
/* Stretches only texts that are longer than those of training; up to there nothing changes. */
static status read_dynamic(hf_job *j, error *err) {
    (void)err;
    log_warn("model",
             "rope_scaling 'dynamic' is not computed: good for %u tokens, the length of training",
             j->ctx);
    return OK;
}

static status read_type(hf_job *j, rope_part *p, error *err) {
    char text[MODEL_TEXT_BYTES];
    str type = S("default");
    TRY(hf_blame(json_get_str(&p->f, "type", 64, &type, err), err));
    TRY(hf_blame(json_get_str(&p->f, "rope_type", 64, &type, err), err));
    if (str_eq_c(type, "default")) return OK;
    if (str_eq_c(type, "linear")) return read_linear(j, p, err);
    if (str_eq_c(type, "llama3")) return read_llama3(j, p, err);
    if (str_eq_c(type, "yarn")) return read_yarn(j, p, err);
    if (str_eq_c(type, "longrope") || str_eq_c(type, "su")) return read_longrope(j, p, err);
    if (str_eq_c(type, "dynamic")) return read_dynamic(j, err);
    model_copy_text(text, sizeof text, type);
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: rope_scaling type '%s' is not known; known: default, linear, "
                     "llama3, yarn, longrope, dynamic",
                     text);
}

status hf_rope_read(hf_job *j, error *err) {
    rope_part p = {.node = hf_node(j, "rope_scaling|rope_parameters")};
    if (!json_node_is_set(&p.node)) return OK;
    TRY(hf_blame(json_fields_open(&p.f, &p.node, err), err));
    TRY(hf_blame(json_get_f32(&p.f, "rope_theta", 1e-6F, 3e38F, &j->theta, err), err));
    json_node sections = json_field(&p.f, "mrope_section");
    if (json_node_is_set(&sections))
        return error_set(err, ERR_UNSUPPORTED,
                         "config.json: rope_scaling.mrope_section (positions in space) is not "
                         "computed");
    return read_type(j, &p, err);
}
