/* arch_deepseek2.c - multi-head latent attention, of DeepSeek-V2, V3 and R1.
 *
 * Keys and values of all heads come from one latent of kv_rank elements per token; a rotary key of
 * its own is shared by all heads.  Files have the matrix from the latent to the heads either
 * whole, "attn_kv_b", for each head nope_dim rows of keys above value_dim rows of values, or cut in
 * two and the key part transposed, "attn_k_b" and "attn_v_b".  Both are used as they are; of files
 * that have both, the whole one is.
 * Source: DeepSeek-AI 2024, "DeepSeek-V2", section 2.1. */
#include <math.h>

#include "model/arch.h"

/* --- keys -------------------------------------------------------------------- */
/* Files with the cut matrix tell the cache's dimensions in the ordinary keys and those of a head in
 * keys of their own. */
static status read_head_dims(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    uint32_t key = 0, value = 0;
    TRY(model_key_count(m, "attention.key_length", MODEL_RANK_MAX, &key, err));
    TRY(model_key_count(m, "attention.value_length", MODEL_RANK_MAX, &value, err));
    TRY(model_key_count_or(m, "attention.key_length_mla", MODEL_HEAD_DIM_MAX, key, &hp->head_dim,
                           err));
    TRY(model_key_count_or(m, "attention.value_length_mla", MODEL_HEAD_DIM_MAX, value,
                           &hp->value_dim, err));
    if (hp->head_dim > 0 && hp->head_dim <= MODEL_HEAD_DIM_MAX && hp->value_dim > 0 &&
        hp->value_dim <= MODEL_HEAD_DIM_MAX)
        return OK;
    return error_set(err, ERR_LIMIT,
                     "model: heads with keys of %u and values of %u elements, must be 1 to %d",
                     hp->head_dim, hp->value_dim, MODEL_HEAD_DIM_MAX);
}

status arch_latent_keys(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    uint32_t rope = 0, kv_heads = 0;
    hp->mixer = MODEL_MIXER_LATENT;
    hp->kv_heads = 1;
    TRY(model_key_count(m, "attention.head_count", MODEL_HEADS_MAX, &hp->heads, err));
    TRY(model_key_count_or(m, "attention.head_count_kv", MODEL_HEADS_MAX, 1, &kv_heads, err));
    if (kv_heads != 1 && kv_heads != hp->heads)
        return error_set(err, ERR_FORMAT,
                         "model: %u key and value heads, latent attention has 1 or %u", kv_heads,
                         hp->heads);
    TRY(model_key_count_or(m, "attention.q_lora_rank", MODEL_RANK_MAX, 0, &hp->q_rank, err));
    TRY(model_key_count(m, "attention.kv_lora_rank", MODEL_RANK_MAX, &hp->kv_rank, err));
    TRY(model_key_count(m, "rope.dimension_count", MODEL_HEAD_DIM_MAX, &rope, err));
    TRY(read_head_dims(m, err));
    if (rope >= hp->head_dim)
        return error_set(err, ERR_FORMAT,
                         "model: %u rotary dimensions leave nothing of head dimension %u", rope,
                         hp->head_dim);
    hp->nope_dim = hp->head_dim - rope;
    return OK;
}

/* What YaRN does to the magnitude is here done to the scores, squared, and by another factor: the
 * key is 0.1 times the paper's mscale_all_dim. */
status arch_latent_rope(model *m, float base, error *err) {
    model_hparams *hp = &m->hparams;
    model_rope *r = &m->ropes[0];
    float log_mul = 0;
    double stretch = 0;
    TRY(model_rope_init(m, r, ROPE_ADJACENT, hp->head_dim - hp->nope_dim, base, true, err));
    TRY(model_key_f32_or(m, "rope.scaling.yarn_log_multiplier", 0, &log_mul, err));
    TRY(model_rope_yarn_log(m, &stretch, err));
    double mscale = (1 + (double)log_mul * stretch) * (double)r->magnitude / (1 + 0.1 * stretch);
    hp->attn_scale = (float)((double)hp->attn_scale * mscale * mscale);
    r->magnitude = r->magnitude_long = 1;
    return OK;
}

/* --- tensors ------------------------------------------------------------------- */
static status bind_queries(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t rows = hp->heads * hp->head_dim;
    if (hp->q_rank == 0)
        return model_bind_linear(m, i, "attn_q", rows, hp->n_embd, MODEL_REQUIRED, &l->q, err);
    TRY(model_bind_matrix(m, i, "attn_q_a", hp->q_rank, hp->n_embd, MODEL_REQUIRED, &l->q_a, err));
    TRY(model_bind_norm(m, i, "attn_q_a_norm", hp->q_rank, MODEL_REQUIRED, &l->q_a_norm, err));
    return model_bind_matrix(m, i, "attn_q_b", rows, hp->q_rank, MODEL_REQUIRED, &l->q_b, err);
}

static status bind_latent(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    model_tensor both = {0};
    uint32_t rope = hp->head_dim - hp->nope_dim;
    TRY(model_bind_matrix(m, i, "attn_kv_a_mqa", hp->kv_rank + rope, hp->n_embd, MODEL_REQUIRED,
                          &both, err));
    l->kv_a = model_slice_rows(&both, 0, hp->kv_rank);
    l->k_rope = model_slice_rows(&both, hp->kv_rank, rope);
    return model_bind_norm(m, i, "attn_kv_a_norm", hp->kv_rank, MODEL_REQUIRED, &l->kv_a_norm, err);
}

static status bind_whole(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    uint32_t stride = hp->nope_dim + hp->value_dim;
    TRY(model_bind_matrix(m, i, "attn_kv_b", hp->heads * stride, hp->kv_rank, MODEL_REQUIRED,
                          &l->k_b, err));
    model_leave(m, i, "attn_k_b");
    model_leave(m, i, "attn_v_b");
    l->k_b_stride = stride;
    l->k_b_rows = hp->nope_dim;
    l->k_b_transposed = true;
    l->v_b = l->k_b;
    l->v_b_row0 = hp->nope_dim;
    l->v_b_stride = stride;
    return OK;
}

static status bind_cut(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    model_layer *l = &m->layers[i];
    TRY(model_bind_stack(m, i, "attn_k_b", hp->heads, hp->kv_rank, hp->nope_dim, &l->k_b, err));
    TRY(model_bind_stack(m, i, "attn_v_b", hp->heads, hp->value_dim, hp->kv_rank, &l->v_b, err));
    l->k_b_stride = l->k_b_rows = hp->kv_rank;
    l->v_b_stride = hp->value_dim;
    return OK;
}

status arch_latent_bind(model *m, uint32_t i, error *err) {
    const model_hparams *hp = &m->hparams;
    TRY(bind_queries(m, i, err));
    TRY(bind_latent(m, i, err));
    bool cut = model_weight_rows(m, i, "attn_k_b") > 0 && model_weight_rows(m, i, "attn_kv_b") == 0;
    TRY(cut ? bind_cut(m, i, err) : bind_whole(m, i, err));
    return model_bind_linear(m, i, "attn_output", hp->n_embd, hp->heads * hp->value_dim,
                             MODEL_REQUIRED, &m->layers[i].o, err);
}
