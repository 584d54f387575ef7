/* model_rope.c - positions: rotary frequencies with every scaling, and the slopes of ALiBi.
 *
 * A pair i of a head is turned by position * freqs[i].  Whatever a file does to make a model reach
 * further than it was trained changes only these numbers, so it is worked out here, once, in
 * double:
 *   plain       f = base^(-2i / dims)
 *   divisors    f / rope_freqs[i], what Llama 3 stores instead of its formula; LongRoPE has two
 *               sets of them, for short and for long contexts       (Ding et al. 2024)
 *   linear      f / factor                                          (Chen et al. 2023)
 *   YaRN        f for pairs that turn often within the trained context, f / factor for those that
 *               hardly turn, and a ramp between; a magnitude of 0.1 ln(factor) + 1
 *                                                                   (Peng et al. 2023)
 * Keys and defaults as in the GGUF specification, "rope.scaling.*". */
#include <float.h>
#include <math.h>

#include "model/model_internal.h"

#define TWO_PI 6.28318530717958647692

typedef enum scaling_kind { SCALING_NONE, SCALING_LINEAR, SCALING_YARN, SCALING_LONG } scaling_kind;

typedef struct scaling {
    scaling_kind kind;
    float factor;
    float magnitude;            /* on top of what the kind brings along */
    uint32_t ctx;               /* trained before it was stretched, tokens */
    float beta_fast, beta_slow; /* turns within ctx where the ramp begins and ends */
    float mix;                  /* how much of the ramp counts: 1 */
} scaling;

/* --- keys ------------------------------------------------------------------ */
static status read_kind(model *m, scaling_kind *out, error *err) {
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    str name = S("");
    TRY(model_key_str_or(m, "rope.scaling.type", &name, err));
    *out = SCALING_LINEAR; /* what a factor without a type means */
    if (name.n == 0) return OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!str_eq_c(name, names[i])) continue;
        *out = (scaling_kind)i;
        return OK;
    }
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, name);
    return error_set(err, ERR_UNSUPPORTED,
                     "model: '%s.rope.scaling.type' is '%s'; known are none, linear, yarn and "
                     "longrope",
                     m->hparams.arch, text);
}

/* An absent key leaves *inout as it is. */
static status read_positive(model *m, const char *suffix, float *inout, error *err) {
    return model_key_has(m, suffix) ? model_key_positive(m, suffix, inout, err) : OK;
}

/* Zero is how some writers say that nothing is stretched. */
static status read_factor(model *m, const char *suffix, float *inout, error *err) {
    float f = 0;
    TRY(model_key_f32_or(m, suffix, 0, &f, err));
    return f == 0 ? OK : read_positive(m, suffix, inout, err);
}

static status read_scaling(model *m, scaling *out, error *err) {
    scaling s = {.factor = 1, .magnitude = 1, .beta_fast = 32, .beta_slow = 1};
    float yarn_magnitude = 1;
    TRY(read_kind(m, &s.kind, err));
    TRY(read_factor(m, "rope.scale_linear", &s.factor, err)); /* the older name */
    TRY(read_factor(m, "rope.scaling.factor", &s.factor, err));
    TRY(read_positive(m, "rope.scaling.attn_factor", &s.magnitude, err));
    TRY(read_positive(m, "rope.scaling.yarn_attn_factor", &yarn_magnitude, err));
    TRY(read_positive(m, "rope.scaling.yarn_beta_fast", &s.beta_fast, err));
    TRY(read_positive(m, "rope.scaling.yarn_beta_slow", &s.beta_slow, err));
    TRY(model_key_f32_or(m, "rope.scaling.yarn_ext_factor", 1, &s.mix, err));
    if (s.mix < 0) s.mix = 1; /* how some writers say: not set */
    TRY(model_key_count_or(m, "rope.scaling.original_context_length", MODEL_CTX_MAX,
                           m->hparams.ctx_train, &s.ctx, err));
    if (s.ctx == 0) s.ctx = m->hparams.ctx_train;
    if (s.kind == SCALING_YARN) s.magnitude *= yarn_magnitude;
    if (s.kind == SCALING_NONE || s.kind == SCALING_LONG) s.factor = 1;
    *out = s;
    return OK;
}

status model_rope_yarn_log(model *m, double *out, error *err) {
    scaling s;
    TRY(read_scaling(m, &s, err));
    *out = s.kind == SCALING_YARN ? log((double)s.factor) : 0;
    return OK;
}

/* --- frequencies ----------------------------------------------------------- */
/* The pair that turns `turns` times within the trained context. */
static double pair_of_turns(const scaling *s, uint32_t dims, double base, double turns) {
    return dims * log(s->ctx / (turns * TWO_PI)) / (2 * log(base));
}

/* 1 before the ramp, 0 behind it. */
static double ramp(double low, double high, double i) {
    double y = (i - low) / fmax(0.001, high - low);
    return 1 - fmin(1, fmax(0, y));
}

/* The ramp lies on whole pairs, as in ggml; YaRN's own code can do both. */
static void apply_yarn(const scaling *s, uint32_t dims, double base, double *freqs) {
    double low = fmax(0, floor(pair_of_turns(s, dims, base, (double)s->beta_fast)));
    double high = fmin(dims - 1, ceil(pair_of_turns(s, dims, base, (double)s->beta_slow)));
    for (uint32_t i = 0; i < dims / 2; i++) {
        double keep = ramp(low, high, i) * (double)s->mix;
        freqs[i] = freqs[i] / (double)s->factor * (1 - keep) + freqs[i] * keep;
    }
}

static double magnitude_of(const scaling *s) {
    double m = (double)s->magnitude;
    bool stretched = s->kind == SCALING_YARN && s->mix != 0;
    return stretched ? m * (1 + 0.1 * log((double)s->factor)) : m;
}

/* divisors: [dims / 2], or absent. */
static status make_freqs(model *m, const scaling *s, uint32_t dims, float base,
                         const model_tensor *divisors, const double **out, error *err) {
    void *taken = NULL;
    const float *by = divisors->data;
    TRY(model_take(m, dims / 2, sizeof(double), "rotary frequencies", &taken, err));
    double *freqs = taken;
    for (uint32_t i = 0; i < dims / 2; i++) {
        freqs[i] = pow((double)base, -2.0 * i / dims);
        if (by != NULL) freqs[i] /= (double)by[i];
        if (s->kind != SCALING_YARN) freqs[i] /= (double)s->factor;
    }
    if (s->kind == SCALING_YARN) apply_yarn(s, dims, (double)base, freqs);
    *out = freqs;
    return OK;
}

/* --- divisors ---------------------------------------------------------------- */
static status bind_divisors(model *m, const char *name, uint32_t count, model_tensor *out,
                            error *err) {
    TRY(model_bind_vector(m, MODEL_LAYER_NONE, name, count, MODEL_OPTIONAL, out, err));
    const float *by = out->data;
    for (uint32_t i = 0; by != NULL && i < count; i++)
        if (!(by[i] > 0.0f && by[i] <= FLT_MAX))
            return error_set(err, ERR_FORMAT, "model: tensor '%s' has %g at %u, must be above 0",
                             name, (double)by[i], i);
    return OK;
}

static status make_scaled(model *m, model_rope *r, float base, error *err) {
    scaling s;
    model_tensor all = {0}, near = {0}, far = {0};
    uint32_t pairs = r->dims / 2;
    TRY(read_scaling(m, &s, err));
    TRY(bind_divisors(m, "rope_freqs.weight", pairs, &all, err));
    TRY(bind_divisors(m, "rope_factors_short.weight", pairs, &near, err));
    TRY(bind_divisors(m, "rope_factors_long.weight", pairs, &far, err));
    if (model_has(&near) != model_has(&far))
        return error_set(err, ERR_FORMAT,
                         "model: tensor 'rope_factors_%s.weight' is missing, the other one is "
                         "there",
                         model_has(&near) ? "long" : "short");
    if (model_has(&near) && model_has(&all))
        return error_set(err, ERR_UNSUPPORTED,
                         "model: rotary positions with tensors 'rope_freqs.weight' and "
                         "'rope_factors_long.weight', only one can be meant");
    r->magnitude = r->magnitude_long = (float)magnitude_of(&s);
    r->ctx_short = s.ctx;
    TRY(make_freqs(m, &s, r->dims, base, model_has(&near) ? &near : &all, &r->freqs, err));
    if (!model_has(&far)) return OK;
    return make_freqs(m, &s, r->dims, base, &far, &r->freqs_long, err);
}

status model_rope_init(model *m, model_rope *out, rope_pairs pairs, uint32_t dims, float base,
                       bool scaled, error *err) {
    static const scaling plain = {.kind = SCALING_NONE, .factor = 1, .magnitude = 1};
    static const model_tensor none = {0};
    bool halves = false;
    if (dims == 0 || dims % 2 != 0 || dims > m->hparams.head_dim)
        return error_set(err, ERR_FORMAT,
                         "model: %u rotary dimensions, must be even and at most head dimension %u",
                         dims, m->hparams.head_dim);
    /* rows of a Hugging Face directory are not reordered: its pairs are where they were trained */
    TRY(gguf_get_bool_or(m->internal->gguf, S("gantry.rope.halves"), false, &halves, err));
    model_rope r = {
        .pairs = halves ? ROPE_HALVES : pairs, .dims = dims, .magnitude = 1, .magnitude_long = 1};
    if (scaled)
        TRY(make_scaled(m, &r, base, err));
    else
        TRY(make_freqs(m, &plain, dims, base, &none, &r.freqs, err));
    *out = r;
    return OK;
}

/* --- ALiBi ------------------------------------------------------------------- */
/* Slopes fall geometrically; beyond the largest power of two heads take the odd steps of a sequence
 * twice as fine.                                                   (Press et al. 2021) */
status model_alibi_init(model *m, float bias_max, error *err) {
    uint32_t heads = m->hparams.heads, even = 1;
    void *taken = NULL;
    TRY(model_take(m, heads, sizeof(float), "ALiBi slopes", &taken, err));
    float *slopes = taken;
    while (even * 2 <= heads) even *= 2;
    for (uint32_t h = 0; h < heads; h++) {
        double steps = h < even ? h + 1 : h - even + 0.5;
        slopes[h] = (float)exp2(-(double)bias_max / even * steps);
    }
    m->hparams.alibi_bias_max = bias_max;
    m->hparams.alibi_slopes = slopes;
    return OK;
}
