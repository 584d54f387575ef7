/* test_arch_state.c - Mamba and RWKV-6 files: every tensor finds its field, stacked and fused
 * ones are cut right, and what cannot be computed is refused. */
#include "arch_rig.h"
#include "golden_paths.h"
#include "model/rwkv6.h"

/* --- mamba ------------------------------------------------------------------- */
static const arch_key mamba_keys[] = {
    {"mamba.block_count", 1},        {"mamba.context_length", 8},  {"mamba.embedding_length", 12},
    {"mamba.ssm.conv_kernel", 4},    {"mamba.ssm.inner_size", 24}, {"mamba.ssm.state_size", 5},
    {"mamba.ssm.time_step_rank", 3},
};
static const arch_tensor mamba_tensors[] = {
    {"token_embd.weight", BUILD_VOCAB, 12, false},
    {"output_norm.weight", 0, 12, false},
    {"output.weight", BUILD_VOCAB, 12, true},
    {"blk.0.attn_norm.weight", 0, 12, false},
    {"blk.0.ssm_in.weight", 48, 12, false},
    {"blk.0.ssm_conv1d.weight", 24, 4, false},
    {"blk.0.ssm_conv1d.bias", 0, 24, false},
    {"blk.0.ssm_x.weight", 13, 24, false},
    {"blk.0.ssm_dt.weight", 24, 3, false},
    {"blk.0.ssm_dt.bias", 0, 24, true},
    {"blk.0.ssm_a", 24, 5, false},
    {"blk.0.ssm_d", 0, 24, false},
    {"blk.0.ssm_out.weight", 12, 24, false},
};
static const arch_case mamba = {
    "mamba",
    mamba_keys,
    ARCH_COUNT(mamba_keys),
    mamba_tensors,
    ARCH_COUNT(mamba_tensors),
    "mamba.attention.layer_norm_rms_epsilon",
};

TEST(mamba_projections_are_cut_out_of_their_fused_tensors) {
    build b;
    str bytes;
    arch_build(&b, &mamba, "output.weight");
    model *m = arch_open(&b, &bytes);
    const model_hparams *hp = &m->hparams;
    const model_layer *l = &m->layers[0];
    CHECK(hp->mixer == MODEL_MIXER_MAMBA && hp->heads == 0 && !hp->ssm_norms && hp->tied_output);
    CHECK(m->output.w.data == m->token_embd.data);
    CHECK_EQ(l->ssm_x.rows, 24);
    CHECK_EQ(arch_row_of(&l->ssm_z, &l->ssm_x), 24);
    CHECK_EQ(l->ssm_dt_in.rows, 3);
    CHECK_EQ(arch_row_of(&l->ssm_b, &l->ssm_dt_in), 3);
    CHECK_EQ(arch_row_of(&l->ssm_c, &l->ssm_dt_in), 8);
    CHECK_EQ(l->ssm_c.rows, 5);
    CHECK(l->ssm_conv.rows == 24 && l->ssm_conv.cols == 4);
    CHECK(l->ssm_a.rows == 24 && l->ssm_a.cols == 5);
    CHECK(!l->ssm_dt_norm.on && l->rope == MODEL_ROPE_NONE);
    arch_close(m, bytes);
}

TEST(mamba_takes_its_own_tensors_and_no_others) {
    arch_check_tensors(&mamba);
    build b;
    arch_build(&b, &mamba, NULL);
    add_tensor(&b, "blk.0.attn_q.weight", DTYPE_F32, 12, 12);
    CHECK_HAS(model_refusal(&b), "'blk.0.attn_q.weight' has no place in architecture 'mamba'");
}

TEST(mamba_keys_are_required_and_bounded) {
    for (size_t i = 0; i < ARCH_COUNT(mamba_keys); i++) {
        CHECK_HAS(arch_without(&mamba, mamba_keys[i].key), mamba_keys[i].key);
        CHECK_HAS(arch_with_key(&mamba, mamba_keys[i].key, 0), mamba_keys[i].key);
        CHECK_HAS(arch_with_key(&mamba, mamba_keys[i].key, UINT32_MAX), mamba_keys[i].key);
    }
    CHECK_HAS(arch_without(&mamba, mamba.eps_key), mamba.eps_key);
    CHECK_STR(arch_with_key(&mamba, "mamba.attention.head_count", 0), "opened");
    CHECK_HAS(arch_with_key(&mamba, "mamba.attention.head_count", 2), "is 2, must be 0 to 0");
    CHECK_HAS(arch_with_key(&mamba, "mamba.feed_forward_length", 9), "is 9, must be 0 to 0");
}

TEST(mamba_of_falcon_normalises_without_parameters) {
    build b;
    str bytes;
    arch_build(&b, &mamba, NULL);
    add_bool(&b, "mamba.ssm.dt_b_c_rms", 1);
    model *m = arch_open(&b, &bytes);
    const model_layer *l = &m->layers[0];
    CHECK(m->hparams.ssm_norms && l->ssm_dt_norm.on && l->ssm_b_norm.on && l->ssm_c_norm.on);
    CHECK(!model_has(&l->ssm_dt_norm.gain) && !m->hparams.tied_output);
    arch_close(m, bytes);
}

TEST(mamba_convolutions_of_some_age_have_three_dimensions) {
    const uint64_t dims[3] = {4, 1, 24};
    build b;
    arch_build(&b, &mamba, "blk.0.ssm_conv1d.weight");
    add_tensor_raw(&b, S("blk.0.ssm_conv1d.weight"), 3, 3, dims, DTYPE_F32, b.data_bytes);
    b.data_bytes += sizeof(float) * 4 * 24;
    CHECK_STR(model_refusal(&b), "opened");
}

TEST(mamba_of_the_oracle_is_described) {
    SHARED_OR_SKIP(path, "oracle/public/models/mamba/model-f32.gguf");
    model *m = NULL;
    error err = {0};
    CHECK_EQ(model_open(&m, path, &err), OK);
    CHECK_STR(err.msg, "");
    if (m == NULL) return;
    CHECK_EQ(m->hparams.ssm_inner, 64);
    CHECK_EQ(m->hparams.ssm_state, 16);
    CHECK(((const float *)m->layers[1].ssm_a.data)[0] < 0.0f);
    model_close(m);
}

/* --- rwkv6 ------------------------------------------------------------------- */
static const arch_key rwkv6_keys[] = {
    {"rwkv6.block_count", 1},          {"rwkv6.context_length", 8}, {"rwkv6.embedding_length", 16},
    {"rwkv6.feed_forward_length", 28}, {"rwkv6.wkv.head_size", 8},  {"rwkv6.time_mix_extra_dim", 3},
    {"rwkv6.time_decay_extra_dim", 5},
};
static const arch_tensor rwkv6_tensors[] = {
    {"token_embd.weight", BUILD_VOCAB, 16, false},
    {"token_embd_norm.weight", 0, 16, false},
    {"token_embd_norm.bias", 0, 16, true},
    {"output_norm.weight", 0, 16, false},
    {"output.weight", BUILD_VOCAB, 16, false},
    {"blk.0.attn_norm.weight", 0, 16, false},
    {"blk.0.attn_norm_2.weight", 0, 16, false},
    {"blk.0.time_mix_lerp_x.weight", 0, 16, false},
    {"blk.0.time_mix_w1.weight", 15, 16, false},
    {"blk.0.time_mix_w2.weight", 80, 3, false},
    {"blk.0.time_mix_lerp_w.weight", 0, 16, false},
    {"blk.0.time_mix_lerp_k.weight", 0, 16, false},
    {"blk.0.time_mix_lerp_v.weight", 0, 16, false},
    {"blk.0.time_mix_lerp_r.weight", 0, 16, false},
    {"blk.0.time_mix_lerp_g.weight", 0, 16, false},
    {"blk.0.time_mix_first.weight", 2, 8, false},
    {"blk.0.time_mix_decay.weight", 0, 16, false},
    {"blk.0.time_mix_decay_w1.weight", 5, 16, false},
    {"blk.0.time_mix_decay_w2.weight", 16, 5, false},
    {"blk.0.time_mix_receptance.weight", 16, 16, false},
    {"blk.0.time_mix_key.weight", 16, 16, false},
    {"blk.0.time_mix_value.weight", 16, 16, false},
    {"blk.0.time_mix_gate.weight", 16, 16, false},
    {"blk.0.time_mix_ln.weight", 0, 16, false},
    {"blk.0.time_mix_output.weight", 16, 16, false},
    {"blk.0.channel_mix_lerp_k.weight", 0, 16, false},
    {"blk.0.channel_mix_lerp_r.weight", 0, 16, false},
    {"blk.0.channel_mix_key.weight", 28, 16, false},
    {"blk.0.channel_mix_value.weight", 16, 28, false},
    {"blk.0.channel_mix_receptance.weight", 16, 16, false},
};
static const arch_case rwkv6 = {
    "rwkv6",
    rwkv6_keys,
    ARCH_COUNT(rwkv6_keys),
    rwkv6_tensors,
    ARCH_COUNT(rwkv6_tensors),
    "rwkv6.attention.layer_norm_epsilon",
};

static const char *const lerps[] = {
    "blk.0.time_mix_lerp_w.weight", "blk.0.time_mix_lerp_k.weight", "blk.0.time_mix_lerp_v.weight",
    "blk.0.time_mix_lerp_r.weight", "blk.0.time_mix_lerp_g.weight",
};

/* The case as it is written today: one tensor of three dimensions, one of four. */
static void build_fused(build *b) {
    const uint64_t up[3] = {3, 16, 5}, lerp[4] = {16, 1, 1, 5};
    build_init(b);
    arch_case c = rwkv6;
    arch_tensor rest[ARCH_COUNT(rwkv6_tensors)];
    c.tensors = rest;
    c.tensors_count = 0;
    for (size_t i = 0; i < ARCH_COUNT(rwkv6_tensors); i++) {
        const char *name = rwkv6_tensors[i].name;
        bool apart = strcmp(name, "blk.0.time_mix_w2.weight") == 0;
        for (size_t k = 0; k < ARCH_COUNT(lerps); k++) apart |= strcmp(name, lerps[k]) == 0;
        if (!apart) rest[c.tensors_count++] = rwkv6_tensors[i];
    }
    arch_build(b, &c, NULL);
    add_tensor_raw(b, S("blk.0.time_mix_w2.weight"), 3, 3, up, DTYPE_F32, b->data_bytes);
    b->data_bytes += sizeof(float) * 3 * 16 * 5;
    add_tensor_raw(b, S("blk.0.time_mix_lerp_fused.weight"), 4, 4, lerp, DTYPE_F32, b->data_bytes);
    b->data_bytes += sizeof(float) * 16 * 5;
}

TEST(rwkv6_mixes_are_cut_out_of_their_stacks) {
    build b;
    str bytes;
    build_fused(&b);
    model *m = arch_open(&b, &bytes);
    const struct model_rwkv6 *w = m->layers[0].rwkv;
    CHECK(m->hparams.mixer == MODEL_MIXER_RWKV6 && !m->hparams.tied_output);
    CHECK(m->layers[0].attn_norm.on && m->layers[0].ffn_norm.on && m->embd_norm.on);
    for (uint32_t i = 0; i < RWKV6_MIXES; i++) {
        CHECK(w->mix_down[i].rows == 3 && w->mix_down[i].cols == 16);
        CHECK(w->mix_up[i].w.rows == 16 && w->mix_up[i].w.cols == 3);
        CHECK_EQ(arch_row_of(&w->mix_down[i], &w->mix_down[0]), 3 * i);
        CHECK_EQ(arch_row_of(&w->mix_up[i].w, &w->mix_up[0].w), 16 * i);
        CHECK_EQ(w->mix_up[i].w.row0, 16 * i);
        CHECK_EQ(arch_row_of(&w->mix_up[i].bias, &w->mix_up[0].bias), i);
    }
    CHECK_EQ(w->first.rows * w->first.cols, 16);
    CHECK(w->decay_down.rows == 5 && w->decay_up.w.cols == 5 && model_has(&w->decay_up.bias));
    CHECK(w->channel_key.rows == 28 && w->channel_value.cols == 28);
    arch_close(m, bytes);
}

TEST(rwkv6_takes_its_own_tensors_and_no_others) {
    arch_check_tensors(&rwkv6);
    build b;
    build_fused(&b);
    add_tensor(&b, lerps[0], DTYPE_F32, 0, 16);
    CHECK_HAS(model_refusal(&b), "'blk.0.time_mix_lerp_w.weight' has no place");
}

TEST(rwkv6_stacks_are_f32_whatever_the_file_stores) {
    build b;
    str bytes;
    arch_build(&b, &rwkv6, "blk.0.time_mix_w2.weight");
    add_tensor(&b, "blk.0.time_mix_w2.weight", DTYPE_F16, 80, 3);
    model *m = arch_open(&b, &bytes);
    const model_tensor *last = &m->layers[0].rwkv->mix_up[RWKV6_G].w;
    CHECK_EQ(last->type, DTYPE_F32);
    CHECK_EQ(last->bytes, 48 * sizeof(float));
    CHECK(((const float *)last->data)[47] == 0.0f);
    arch_close(m, bytes);
}

TEST(rwkv6_keys_are_required_and_bounded) {
    for (size_t i = 0; i < ARCH_COUNT(rwkv6_keys); i++) {
        CHECK_HAS(arch_without(&rwkv6, rwkv6_keys[i].key), rwkv6_keys[i].key);
        CHECK_HAS(arch_with_key(&rwkv6, rwkv6_keys[i].key, 0), rwkv6_keys[i].key);
        CHECK_HAS(arch_with_key(&rwkv6, rwkv6_keys[i].key, UINT32_MAX), rwkv6_keys[i].key);
    }
    CHECK_HAS(arch_with_key(&rwkv6, "rwkv6.wkv.head_size", 6), "no multiple of the 6 elements");
    CHECK_STR(arch_with_key(&rwkv6, "rwkv6.token_shift_count", 2), "opened");
    CHECK_HAS(arch_with_key(&rwkv6, "rwkv6.token_shift_count", 1), "computed with 2 only");
    CHECK_STR(arch_with_key(&rwkv6, "rwkv6.rescale_every_n_layers", 6), "opened");
    CHECK_HAS(arch_with_key(&rwkv6, "rwkv6.attention.head_count", 2), "is 2, must be 0 to 0");
}

TEST(arch_state_models_survive_every_lack_of_memory) {
    arch_check_memory(&mamba);
    arch_check_memory(&rwkv6);
}
