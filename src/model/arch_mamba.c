/* arch_mamba.c - Mamba and Falcon Mamba: layers of selective state spaces, without attention.
 *
 * Source: Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces";
 * Zuo et al. 2024, "Falcon Mamba" (the norms of dt, B and C); tensor names from gguf-py. */
#include "model/model_internal.h"

/* With MODEL_FF_MAX columns these keep every product below 2^32. */
enum { MAMBA_STATES_MAX = 1024, MAMBA_TAPS_MAX = 64 };

static status read_hparams(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    uint32_t none = 0;
    TRY(model_key_count(m, "block_count", MODEL_LAYERS_MAX, &hp->layers, err));
    TRY(model_key_count(m, "context_length", MODEL_CTX_MAX, &hp->ctx_train, err));
    TRY(model_key_positive(m, "attention.layer_norm_rms_epsilon", &hp->norm_eps, err));
    TRY(model_key_count(m, "ssm.conv_kernel", MAMBA_TAPS_MAX, &hp->ssm_conv, err));
    TRY(model_key_count(m, "ssm.inner_size", MODEL_FF_MAX, &hp->ssm_inner, err));
    TRY(model_key_count(m, "ssm.state_size", MAMBA_STATES_MAX, &hp->ssm_state, err));
    TRY(model_key_count(m, "ssm.time_step_rank", MODEL_RANK_MAX, &hp->ssm_dt_rank, err));
    TRY(model_key_bool_or(m, "ssm.dt_b_c_rms", false, &hp->ssm_norms, err));
    /* what other architectures have and this one has none of */
    TRY(model_key_count_or(m, "attention.head_count", 0, 0, &none, err));
    TRY(model_key_count_or(m, "feed_forward_length", 0, 0, &none, err));
    hp->mixer = MODEL_MIXER_MAMBA;
    hp->norm = NORM_RMS;
    hp->act = ACT_SILU;
    hp->embd_scale = hp->residual_scale = hp->logit_scale = 1.0f;
    return OK;
}

/* [x | z], [dt | B | C]: one tensor each, whose rows are taken apart. */
static status bind_projections(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t inner = hp->ssm_inner, rank = hp->ssm_dt_rank, states = hp->ssm_state;
    model_tensor in = {0}, x = {0};
    TRY(model_bind_matrix(m, i, "ssm_in", 2 * inner, hp->n_embd, MODEL_REQUIRED, &in, err));
    TRY(model_bind_matrix(m, i, "ssm_x", rank + 2 * states, inner, MODEL_REQUIRED, &x, err));
    l->ssm_x = model_slice_rows(&in, 0, inner);
    l->ssm_z = model_slice_rows(&in, inner, inner);
    l->ssm_dt_in = model_slice_rows(&x, 0, rank);
    l->ssm_b = model_slice_rows(&x, rank, states);
    l->ssm_c = model_slice_rows(&x, rank + states, states);
    TRY(model_bind_linear(m, i, "ssm_dt", inner, rank, MODEL_REQUIRED, &l->ssm_dt, err));
    return model_bind_matrix(m, i, "ssm_out", hp->n_embd, inner, MODEL_REQUIRED, &l->ssm_out, err);
}

/* A small f32 matrix, [ssm_inner, cols]; files of some age have it in more dimensions. */
static status bind_columns(model *m, uint32_t i, const char *name, uint32_t cols, model_tensor *out,
                           error *err) {
    uint32_t inner = m->hparams.ssm_inner;
    TRY(model_bind_vector(m, i, name, inner * cols, MODEL_REQUIRED, out, err));
    out->rows = inner;
    out->cols = cols;
    return OK;
}

static status bind_layer(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t inner = hp->ssm_inner;
    l->rope = MODEL_ROPE_NONE;
    TRY(model_bind_norm(m, i, "attn_norm", hp->n_embd, MODEL_REQUIRED, &l->attn_norm, err));
    TRY(bind_projections(m, i, err));
    TRY(bind_columns(m, i, "ssm_conv1d.weight", hp->ssm_conv, &l->ssm_conv, err));
    TRY(model_bind_vector(m, i, "ssm_conv1d.bias", inner, MODEL_REQUIRED, &l->ssm_conv_bias, err));
    TRY(bind_columns(m, i, "ssm_a", hp->ssm_state, &l->ssm_a, err));
    TRY(model_bind_vector(m, i, "ssm_d", inner, MODEL_REQUIRED, &l->ssm_d, err));
    l->ssm_dt_norm.on = l->ssm_b_norm.on = l->ssm_c_norm.on = hp->ssm_norms;
    return OK;
}

static status bind_ends(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    TRY(model_bind_matrix(m, MODEL_LAYER_NONE, "token_embd", hp->vocab, hp->n_embd, MODEL_REQUIRED,
                          &m->token_embd, err));
    TRY(model_bind_norm(m, MODEL_LAYER_NONE, "output_norm", hp->n_embd, MODEL_REQUIRED,
                        &m->output_norm, err));
    TRY(model_bind_linear(m, MODEL_LAYER_NONE, "output", hp->vocab, hp->n_embd, MODEL_OPTIONAL,
                          &m->output, err));
    hp->tied_output = !model_has(&m->output.w);
    if (hp->tied_output) m->output.w = m->token_embd;
    return OK;
}

status arch_mamba_describe(model *m, error *err) {
    void *layers = NULL;
    TRY(read_hparams(m, err));
    TRY(bind_ends(m, err));
    TRY(model_take(m, m->hparams.layers, sizeof *m->layers, "the layers", &layers, err));
    m->layers = layers;
    for (uint32_t i = 0; i < m->hparams.layers; i++) TRY(bind_layer(m, i, err));
    return OK;
}
