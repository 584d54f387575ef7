/* arch_rwkv6.c - RWKV-6 (Finch): tensors of the file to the struct of model/rwkv6.h, where the
 * computation stands.
 *
 * Source: Peng et al. 2024, "Eagle and Finch"; tensor names from gguf-py. */
#include "model/model_internal.h"
#include "model/rwkv6.h"

/* With RWKV6_MIXES matrices of MODEL_EMBD_MAX rows this keeps every product below 2^32. */
enum { RWKV6_RANK_MAX = 4096 };

static status read_rescale(model *m, error *err) {
    return model_key_count_or(m, "rescale_every_n_layers", MODEL_LAYERS_MAX, 0,
                              &m->hparams.wkv_rescale_every, err);
}

/* Both halves of a layer look one token back; files that say so must say two. */
static status check_shifts(model *m, error *err) {
    uint32_t shifts = 2;
    TRY(model_key_count_or(m, "token_shift_count", MODEL_LAYERS_MAX, 2, &shifts, err));
    if (shifts == 2) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "model: 'rwkv6.token_shift_count' is %u; layers are computed with 2 only",
                     shifts);
}

static status read_hparams(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    uint32_t none = 0;
    TRY(model_key_count(m, "block_count", MODEL_LAYERS_MAX, &hp->layers, err));
    TRY(model_key_count(m, "context_length", MODEL_CTX_MAX, &hp->ctx_train, err));
    TRY(model_key_count(m, "feed_forward_length", MODEL_FF_MAX, &hp->n_ff, err));
    TRY(model_key_positive(m, "attention.layer_norm_epsilon", &hp->norm_eps, err));
    TRY(model_key_count(m, "wkv.head_size", MODEL_HEAD_DIM_MAX, &hp->wkv_dim, err));
    TRY(model_key_count(m, "time_mix_extra_dim", RWKV6_RANK_MAX, &hp->wkv_mix_rank, err));
    TRY(model_key_count(m, "time_decay_extra_dim", MODEL_RANK_MAX, &hp->wkv_decay_rank, err));
    TRY(read_rescale(m, err));
    TRY(check_shifts(m, err));
    TRY(model_key_count_or(m, "attention.head_count", 0, 0, &none, err));
    if (hp->n_embd % hp->wkv_dim != 0)
        return error_set(err, ERR_FORMAT,
                         "model: embedding length %u is no multiple of the %u "
                         "elements of a head",
                         hp->n_embd, hp->wkv_dim);
    hp->mixer = MODEL_MIXER_RWKV6;
    hp->norm = NORM_LAYER;
    hp->act = ACT_RELU_SQR;
    hp->embd_scale = hp->residual_scale = hp->logit_scale = 1.0f;
    return OK;
}

/* --- the five mixes ---------------------------------------------------------- */
/* Matrix i of a stack that was bound as one f32 vector. */
static model_tensor stack_part(const model_tensor *stack, uint32_t i, uint32_t rows,
                               uint32_t cols) {
    model_tensor t = *stack;
    t.rows = rows;
    t.cols = cols;
    t.row0 = i * rows;
    t.bytes = (uint64_t)rows * cols * sizeof(float);
    t.data = (const float *)stack->data + (size_t)i * rows * cols;
    return t;
}

/* The static part of each mix: one tensor of all five, or five in files of some age. */
static status bind_lerps(model *m, uint32_t i, error *err) {
    static const char *const names[RWKV6_MIXES] = {
        "time_mix_lerp_w.weight", "time_mix_lerp_k.weight", "time_mix_lerp_v.weight",
        "time_mix_lerp_r.weight", "time_mix_lerp_g.weight",
    };
    struct model_rwkv6 *w = m->layers[i].rwkv;
    uint32_t n = m->hparams.n_embd;
    model_tensor fused = {0};
    TRY(model_bind_vector(m, i, "time_mix_lerp_fused.weight", RWKV6_MIXES * n, MODEL_OPTIONAL,
                          &fused, err));
    for (uint32_t k = 0; k < RWKV6_MIXES; k++) {
        if (model_has(&fused))
            w->mix_up[k].bias = stack_part(&fused, k, 1, n);
        else
            TRY(model_bind_vector(m, i, names[k], n, MODEL_REQUIRED, &w->mix_up[k].bias, err));
    }
    return OK;
}

static status bind_mixes(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    struct model_rwkv6 *w = m->layers[i].rwkv;
    uint32_t n = hp->n_embd, rank = hp->wkv_mix_rank;
    model_tensor down = {0}, up = {0};
    TRY(model_bind_vector(m, i, "time_mix_lerp_x.weight", n, MODEL_REQUIRED, &w->lerp_x, err));
    TRY(model_bind_matrix(m, i, "time_mix_w1", RWKV6_MIXES * rank, n, MODEL_REQUIRED, &down, err));
    TRY(model_bind_vector(m, i, "time_mix_w2.weight", RWKV6_MIXES * n * rank, MODEL_REQUIRED, &up,
                          err));
    for (uint32_t k = 0; k < RWKV6_MIXES; k++) {
        w->mix_down[k] = model_slice_rows(&down, k * rank, rank);
        w->mix_up[k].w = stack_part(&up, k, n, rank);
    }
    return bind_lerps(m, i, err);
}

/* --- the rest ---------------------------------------------------------------- */
static status bind_decay(model *m, uint32_t i, error *err) {
    struct model_rwkv6 *w = m->layers[i].rwkv;
    uint32_t n = m->hparams.n_embd, rank = m->hparams.wkv_decay_rank;
    TRY(model_bind_matrix(m, i, "time_mix_decay_w1", rank, n, MODEL_REQUIRED, &w->decay_down, err));
    TRY(model_bind_matrix(m, i, "time_mix_decay_w2", n, rank, MODEL_REQUIRED, &w->decay_up.w, err));
    TRY(model_bind_vector(m, i, "time_mix_decay.weight", n, MODEL_REQUIRED, &w->decay_up.bias,
                          err));
    return model_bind_vector(m, i, "time_mix_first.weight", n, MODEL_REQUIRED, &w->first, err);
}

static status bind_time_mix(model *m, uint32_t i, error *err) {
    struct model_rwkv6 *w = m->layers[i].rwkv;
    uint32_t n = m->hparams.n_embd;
    const struct {
        const char *stem;
        model_tensor *field;
    } square[] = {
        {"time_mix_receptance", &w->receptance}, {"time_mix_key", &w->key},
        {"time_mix_value", &w->value},           {"time_mix_gate", &w->gate},
        {"time_mix_output", &w->output},
    };
    TRY(bind_mixes(m, i, err));
    TRY(bind_decay(m, i, err));
    for (size_t k = 0; k < sizeof square / sizeof *square; k++)
        TRY(model_bind_matrix(m, i, square[k].stem, n, n, MODEL_REQUIRED, square[k].field, err));
    return model_bind_norm(m, i, "time_mix_ln", n, MODEL_REQUIRED, &w->ln, err);
}

static status bind_channel_mix(model *m, uint32_t i, error *err) {
    struct model_rwkv6 *w = m->layers[i].rwkv;
    uint32_t n = m->hparams.n_embd, f = m->hparams.n_ff;
    TRY(model_bind_vector(m, i, "channel_mix_lerp_k.weight", n, MODEL_REQUIRED, &w->channel_lerp_k,
                          err));
    TRY(model_bind_vector(m, i, "channel_mix_lerp_r.weight", n, MODEL_REQUIRED, &w->channel_lerp_r,
                          err));
    TRY(model_bind_matrix(m, i, "channel_mix_key", f, n, MODEL_REQUIRED, &w->channel_key, err));
    TRY(model_bind_matrix(m, i, "channel_mix_value", n, f, MODEL_REQUIRED, &w->channel_value, err));
    return model_bind_matrix(m, i, "channel_mix_receptance", n, n, MODEL_REQUIRED,
                             &w->channel_receptance, err);
}

static status bind_layer(model *m, uint32_t i, error *err) {
    model_layer *l = &m->layers[i];
    uint32_t n = m->hparams.n_embd;
    void *rwkv = NULL;
    TRY(model_take(m, 1, sizeof *l->rwkv, "a layer", &rwkv, err));
    l->rwkv = rwkv;
    l->rope = MODEL_ROPE_NONE;
    TRY(model_bind_norm(m, i, "attn_norm", n, MODEL_REQUIRED, &l->attn_norm, err));
    TRY(model_bind_norm(m, i, "attn_norm_2", n, MODEL_REQUIRED, &l->ffn_norm, err));
    TRY(bind_time_mix(m, i, err));
    return bind_channel_mix(m, i, err);
}

static status bind_ends(model *m, error *err) {
    const model_hparams *hp = &m->hparams;
    TRY(model_bind_matrix(m, MODEL_LAYER_NONE, "token_embd", hp->vocab, hp->n_embd, MODEL_REQUIRED,
                          &m->token_embd, err));
    TRY(model_bind_norm(m, MODEL_LAYER_NONE, "token_embd_norm", hp->n_embd, MODEL_REQUIRED,
                        &m->embd_norm, err));
    TRY(model_bind_norm(m, MODEL_LAYER_NONE, "output_norm", hp->n_embd, MODEL_REQUIRED,
                        &m->output_norm, err));
    return model_bind_linear(m, MODEL_LAYER_NONE, "output", hp->vocab, hp->n_embd, MODEL_REQUIRED,
                             &m->output, err);
}

status arch_rwkv6_describe(model *m, error *err) {
    void *layers = NULL;
    TRY(read_hparams(m, err));
    TRY(bind_ends(m, err));
    TRY(model_take(m, m->hparams.layers, sizeof *m->layers, "the layers", &layers, err));
    m->layers = layers;
    for (uint32_t i = 0; i < m->hparams.layers; i++) TRY(bind_layer(m, i, err));
    return OK;
}
