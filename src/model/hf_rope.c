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

/* The magnitude of queries and keys that belongs to a stretch: 1 for none. */
static double yarn_magnitude(double factor, double share) { return 1 + 0.1 * share * log(factor); }

typedef struct yarn {
    float factor, fast, slow;
    uint32_t ctx;
    bool whole_pairs; /* the ramp begins and ends on whole pairs */
    float all;        /* mscale_all_dim */
    double magnitude; /* of queries and of keys */
} yarn;

/* "attention_factor" is the magnitude itself; else "mscale" and "mscale_all_dim" are shares of the
 * usual one, and what counts is their quotient. */
static status read_magnitude(rope_part *p, yarn *y, error *err) {
    float said = 0, share = 0;
    TRY(hf_blame(json_get_f32(&p->f, "mscale", 0, 1e6F, &share, err), err));
    TRY(hf_blame(json_get_f32(&p->f, "mscale_all_dim", 0, 1e6F, &y->all, err), err));
    TRY(hf_blame(json_get_f32(&p->f, "attention_factor", 1e-6F, 1e6F, &said, err), err));
    y->magnitude = yarn_magnitude((double)y->factor, 1);
    if (share != 0 && y->all != 0)
        y->magnitude = yarn_magnitude((double)y->factor, (double)share) /
                       yarn_magnitude((double)y->factor, (double)y->all);
    if (said != 0) y->magnitude = (double)said;
    return OK;
}

static status read_yarn_numbers(hf_job *j, rope_part *p, yarn *y, error *err) {
    *y = (yarn){.fast = 32, .slow = 1, .ctx = j->ctx, .whole_pairs = true};
    TRY(need_f32(p, "factor", &y->factor, err));
    if (y->factor < 1)
        return error_set(err, ERR_FORMAT,
                         "config.json: rope_scaling.factor is %g, with yarn at least 1",
                         (double)y->factor);
    TRY(hf_u32(j, "original_max_position_embeddings", MODEL_CTX_MAX, &y->ctx, err));
    TRY(hf_blame(
        json_get_u32(&p->f, "original_max_position_embeddings", 1, MODEL_CTX_MAX, &y->ctx, err),
        err));
    TRY(hf_blame(json_get_f32(&p->f, "beta_fast", 1e-6F, 1e6F, &y->fast, err), err));
    TRY(hf_blame(json_get_f32(&p->f, "beta_slow", 1e-6F, 1e6F, &y->slow, err), err));
    TRY(hf_blame(json_get_bool(&p->f, "truncate", &y->whole_pairs, err), err));
    return read_magnitude(p, y, err);
}

/* DeepSeek multiplies scores by the square of mscale_all_dim's magnitude; rotary parts alone are
 * not computed with another magnitude than 1. */
static status put_latent_scale(hf_job *j, const yarn *y, error *err) {
    if (fabs(y->magnitude - 1) > 1e-6 || !y->whole_pairs)
        return error_set(err, ERR_UNSUPPORTED,
                         "config.json: rope_scaling gives rotary parts a magnitude of %g%s, %s is "
                         "computed with 1 (mscale equal to mscale_all_dim)",
                         y->magnitude, y->whole_pairs ? "" : " and a ramp between pairs",
                         j->class->name);
    if (y->all != 0) hf_put_f32(j, "rope.scaling.yarn_log_multiplier", 0.1F * y->all);
    return OK;
}

/* The key is what the usual magnitude is multiplied by. */
static void put_magnitude(hf_job *j, const yarn *y, double usual) {
    if (fabs(y->magnitude - usual) > 1e-6 * usual)
        hf_put_f32(j, "rope.scaling.attn_factor", (float)(y->magnitude / usual));
}

/* The pair that turns so often within the trained context. */
static double pair_of_turns(const hf_job *j, const yarn *y, float turns) {
    double wave = (double)y->ctx / (2 * PI * (double)turns);
    return j->rope_dims * log(wave) / (2 * log((double)j->theta));
}

/* A ramp between pairs has no key: what each frequency is divided by goes into the file, as with
 * llama3. */
static status put_divisors(hf_job *j, const yarn *y, error *err) {
    float *factors = NULL;
    double low = fmax(0, pair_of_turns(j, y, y->fast));
    double high = fmin(j->rope_dims - 1.0, pair_of_turns(j, y, y->slow));
    if (low == high) high += 0.001;
    TRY(take_factors(j, &factors, err));
    for (uint32_t i = 0; i < j->rope_dims / 2; i++) {
        double keep = 1 - fmin(1, fmax(0, (i - low) / (high - low)));
        factors[i] = (float)(1 / (keep + (1 - keep) / (double)y->factor));
    }
    put_factors(j, "rope_freqs.weight", factors);
    return OK;
}

static status read_yarn(hf_job *j, rope_part *p, error *err) {
    yarn y;
    bool latent = strcmp(j->class->arch, "deepseek2") == 0;
    TRY(read_yarn_numbers(j, p, &y, err));
    if (latent) TRY(put_latent_scale(j, &y, err));
    if (!y.whole_pairs) {
        put_magnitude(j, &y, 1);
        return put_divisors(j, &y, err);
    }
    hf_put_str(j, "rope.scaling.type", "yarn");
    hf_put_f32(j, "rope.scaling.factor", y.factor);
    hf_put_u32(j, "rope.scaling.original_context_length", y.ctx);
    if (y.fast != 32) hf_put_f32(j, "rope.scaling.yarn_beta_fast", y.fast);
    if (y.slow != 1) hf_put_f32(j, "rope.scaling.yarn_beta_slow", y.slow);
    if (!latent) put_magnitude(j, &y, yarn_magnitude((double)y.factor, 1));
    return OK;
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

/* How much longer texts may be than those of training. */
static status read_stretch(hf_job *j, rope_part *p, uint32_t *ctx, float *stretch, error *err) {
    *ctx = 0;
    TRY(hf_u32(j, "original_max_position_embeddings", MODEL_CTX_MAX, ctx, err));
    TRY(hf_blame(
        json_get_u32(&p->f, "original_max_position_embeddings", 1, MODEL_CTX_MAX, ctx, err), err));
    bool said = *ctx != 0;
    if (!said) *ctx = j->ctx;
    if (*ctx < 2)
        return error_set(err, ERR_FORMAT,
                         "config.json: original_max_position_embeddings is %u, want 2", *ctx);
    *stretch = (float)j->ctx / (float)*ctx;
    return said ? OK : hf_blame(json_get_f32(&p->f, "factor", 1e-6F, 1e6F, stretch, err), err);
}

static status read_longrope(hf_job *j, rope_part *p, error *err) {
    uint32_t ctx = 0;
    float magnitude = 1, stretch = 1;
    TRY(read_stretch(j, p, &ctx, &stretch, err));
    if (stretch > 1) magnitude = (float)sqrt(1 + log((double)stretch) / log(ctx));
    TRY(hf_blame(json_get_f32(&p->f, "attention_factor", 1e-6F, 1e6F, &magnitude, err), err));
    hf_put_u32(j, "rope.scaling.original_context_length", ctx);
    hf_put_f32(j, "rope.scaling.attn_factor", magnitude);
    TRY(read_list(j, p, "long_factor", "rope_factors_long.weight", err));
    return read_list(j, p, "short_factor", "rope_factors_short.weight", err);
}

/* --- the choice ------------------------------------------------------------------------------ */
/* HunYuan's "alpha" makes the base larger, whatever the length of a text.  What others call so
 * stretches only texts that are longer than those of training; up to there nothing changes. */
static status read_dynamic(hf_job *j, rope_part *p, error *err) {
    float alpha = 0;
    double dims = j->rope_dims;
    TRY(hf_blame(json_get_f32(&p->f, "alpha", 0, 1e9F, &alpha, err), err));
    if (alpha != 0 && strcmp(j->class->arch, "hunyuan-dense") == 0 && j->rope_dims > 2) {
        j->theta = (float)((double)j->theta * pow((double)alpha, dims / (dims - 2)));
        return OK;
    }
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
    bool in_space = str_eq_c(type, "mrope") && (j->class->bits & HF_SPACE) != 0;
    if (str_eq_c(type, "default") || in_space) return OK;
    if (str_eq_c(type, "linear")) return read_linear(j, p, err);
    if (str_eq_c(type, "llama3")) return read_llama3(j, p, err);
    if (str_eq_c(type, "yarn")) return read_yarn(j, p, err);
    if (str_eq_c(type, "longrope") || str_eq_c(type, "su")) return read_longrope(j, p, err);
    if (str_eq_c(type, "dynamic")) return read_dynamic(j, p, err);
    model_copy_text(text, sizeof text, type);
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: rope_scaling type '%s' is not known; known: default, linear, "
                     "llama3, yarn, longrope, dynamic",
                     text);
}

/* Layers with a window have numbers of their own, which may be no others than the architecture's:
 * no scaling, and in Gemma 3 a base of 10000. */
static status check_local(hf_job *j, json_node *n, float theta, error *err) {
    rope_part local = {.node = *n};
    str type = S("default");
    float base = theta, want = strcmp(j->class->arch, "gemma3") == 0 ? 10000 : theta;
    TRY(hf_blame(json_fields_open(&local.f, &local.node, err), err));
    TRY(hf_blame(json_get_str(&local.f, "rope_type", 64, &type, err), err));
    TRY(hf_blame(json_get_f32(&local.f, "rope_theta", 1e-6F, 3e38F, &base, err), err));
    if (str_eq_c(type, "default") && base == want) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: rope_parameters.sliding_attention: only rope_theta %g without "
                     "scaling is computed for %s, not %g",
                     (double)want, j->class->name, (double)base);
}

static status read_part(hf_job *j, rope_part *p, error *err) {
    float share = 0;
    TRY(hf_blame(json_get_f32(&p->f, "rope_theta", 1e-6F, 3e38F, &j->theta, err), err));
    TRY(hf_blame(json_get_f32(&p->f, "partial_rotary_factor", 1e-6F, 1, &share, err), err));
    if (share != 0 && strcmp(j->class->arch, "deepseek2") != 0)
        j->rope_dims = (uint32_t)((float)j->head_dim * share);
    json_node sections = json_field(&p->f, "mrope_section");
    if (json_node_is_set(&sections) && (j->class->bits & HF_SPACE) == 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "config.json: rope_scaling.mrope_section (positions in space) is not "
                         "computed");
    return read_type(j, p, err);
}

/* Newer files have an object for each kind of layer in "rope_parameters". */
status hf_rope_read(hf_job *j, error *err) {
    rope_part p = {.node = hf_node(j, "rope_scaling|rope_parameters")};
    if (!json_node_is_set(&p.node)) return OK;
    TRY(hf_blame(json_fields_open(&p.f, &p.node, err), err));
    rope_part full = {.node = json_field(&p.f, "full_attention")};
    if (!json_node_is_set(&full.node)) return read_part(j, &p, err);
    TRY(hf_blame(json_fields_open(&full.f, &full.node, err), err));
    TRY(read_part(j, &full, err));
    json_node local = json_field(&p.f, "sliding_attention");
    return json_node_is_set(&local) ? check_local(j, &local, j->theta, err) : OK;
}
