/* test_arch.c - what the rows of the architecture table make of files.
 *
 * Recorded models say what a description must hold; small built ones say what is refused. */
#include "model/model.h"

#include <math.h>

#include "base/log.h"
#include "gguf_build.h"
#include "golden_paths.h"

/* --- recorded models ----------------------------------------------------------- */
static model *arch_open(const char *name) {
    char relative[120];
    model *m = NULL;
    error err = {0};
    (void)snprintf(relative, sizeof relative, "oracle/public/models/%s/model-f32.gguf", name);
    const char *path = shared_path(relative);
    CHECK(path != NULL);
    if (path == NULL) return NULL;
    CHECK_EQ(model_open(&m, path, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

static const char *const recorded[] = {
    "bert",
    "command-r",
    "deepseek",
    "deepseek2",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "gpt-oss",
    "gpt2",
    "granite",
    "llama-mha",
    "llama-attn-bias",
    "llama-headdim",
    "mamba",
    "mixtral",
    "mpt",
    "llama-rope-linear",
    "llama3-gqa-ropefreqs",
    "olmo2",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "phi3-longrope",
    "stablelm",
    "starcoder2",
};

TEST(arch_every_recorded_model_opens) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    for (size_t i = 0; i < sizeof recorded / sizeof *recorded; i++) {
        model *m = arch_open(recorded[i]);
        CHECK(m != NULL);
        if (m == NULL) {
            (void)fprintf(stderr, "  %s\n", recorded[i]);
            continue;
        }
        CHECK_EQ(m->hparams.vocab, 512);
        CHECK(m->hparams.layers >= 2);
        model_close(m);
    }
}

/* Windows of the layers as text: '-' sees all, 'w' looks through a window. */
static const char *windows_of(const model *m) {
    static char text[MODEL_LAYERS_MAX + 1];
    for (uint32_t i = 0; i < m->hparams.layers; i++) text[i] = m->layers[i].window > 0 ? 'w' : '-';
    text[m->hparams.layers] = '\0';
    return text;
}

static bool near_to(double got, double want) { return fabs(got - want) <= 1e-6 * fabs(want); }

TEST(arch_llama_scalings_end_in_frequencies) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("llama-rope-linear");
    CHECK(m->ropes[0].pairs == ROPE_ADJACENT && m->ropes[0].dims == 16);
    CHECK(near_to(m->ropes[0].freqs[0], 0.25));
    CHECK(near_to(m->ropes[0].freqs[4], 0.25 / 100));
    model_close(m);
    m = arch_open("llama3-gqa-ropefreqs");
    CHECK(m->ropes[0].freqs[0] < 1.01 && m->ropes[0].freqs_long == NULL);
    CHECK(m->ropes[0].freqs[5] < pow(500000.0, -10.0 / 12));
    model_close(m);
    m = arch_open("phi3-longrope");
    CHECK(m->ropes[0].freqs_long != NULL && m->ropes[0].ctx_short == 256);
    CHECK(near_to(m->ropes[0].magnitude, sqrt(1.25)));
    CHECK(near_to(m->ropes[0].magnitude_long, sqrt(1.25)));
    CHECK_STR(windows_of(m), "ww");
    CHECK(m->layers[0].k.w.row0 == 64 && m->layers[0].v.w.row0 == 128);
    CHECK(m->layers[0].gate.w.rows == 96 && m->layers[0].up.w.row0 == 96);
    model_close(m);
}

TEST(arch_yarn_keeps_fast_pairs_and_stretches_slow_ones) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("gpt-oss");
    const model_rope *r = &m->ropes[0];
    /* of 16 pairs the ramp goes from 0 (-1.5 is before all of them) to ceil(3.1) = 4 */
    CHECK(r->pairs == ROPE_HALVES && r->dims == 32);
    CHECK(near_to(r->freqs[0], 1));
    CHECK(near_to(r->freqs[15], pow(150000.0, -30.0 / 32) / 8));
    CHECK(r->freqs[2] < pow(150000.0, -4.0 / 32) && r->freqs[2] > pow(150000.0, -4.0 / 32) / 8);
    CHECK(near_to(r->magnitude, 1 + 0.1 * log(8)));
    CHECK_STR(windows_of(m), "w-");
    CHECK_EQ(m->layers[0].window, 20);
    CHECK(m->hparams.experts.route == ROUTE_SOFTMAX_BEST && !m->hparams.experts.normalize);
    CHECK(m->hparams.act == ACT_SWIGLU_CLAMPED && m->layers[0].sinks.cols == 4);
    CHECK(m->layers[0].ffn_norm.on && !m->layers[0].post_attn_norm.on);
    CHECK(m->layers[1].down_exps_bias.rows == 4 && m->layers[1].down_exps_bias.cols == 64);
    CHECK(m->layers[1].router.bias.cols == 4);
    model_close(m);
}

TEST(arch_gemmas_scale_and_look_through_windows) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("gemma");
    CHECK(near_to(m->hparams.embd_scale, 8) && m->hparams.act == ACT_GELU);
    CHECK(m->hparams.head_dim == 32 && m->hparams.kv_heads == 1 && m->hparams.tied_output);
    CHECK(near_to(m->hparams.attn_scale, 1 / sqrt(32)));
    model_close(m);
    m = arch_open("gemma2");
    CHECK_STR(windows_of(m), "w-w-w-w-w-w-w-w-w-w-w-w-w-");
    CHECK(m->hparams.attn_softcap == 6.0f && m->hparams.logit_softcap == 8.0f);
    CHECK(m->layers[0].post_attn_norm.on && m->layers[0].post_ffn_norm.on);
    model_close(m);
    m = arch_open("gemma3");
    CHECK_STR(windows_of(m), "wwwww-");
    CHECK(m->layers[0].rope == 1 && m->layers[5].rope == 0);
    CHECK(near_to(m->ropes[1].freqs[4], 0.01) && near_to(m->ropes[0].freqs[4], 0.001));
    CHECK(m->layers[0].q_norm.gain.cols == 16 && m->layers[0].qk_norm_group == 16);
    model_close(m);
}

TEST(arch_norms_stand_where_the_family_has_them) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("olmo2");
    CHECK(!m->layers[0].attn_norm.on && !m->layers[0].ffn_norm.on);
    CHECK(m->layers[0].post_attn_norm.on && m->layers[0].post_ffn_norm.on);
    CHECK(m->layers[0].q_norm.gain.cols == 32 && m->layers[0].qk_norm_group == 0);
    model_close(m);
    m = arch_open("falcon");
    CHECK(m->hparams.parallel && m->hparams.norm == NORM_LAYER && m->layers[0].attn_norm.bias.data);
    CHECK(!m->layers[0].attn_norm_2.on && !model_has(&m->layers[0].gate.w));
    CHECK(m->layers[0].q.w.rows == 32 && m->layers[0].k.w.rows == 8);
    model_close(m);
    m = arch_open("stablelm");
    CHECK(!m->hparams.parallel && m->layers[0].ffn_norm.on && m->ropes[0].dims == 4);
    model_close(m);
    m = arch_open("command-r");
    CHECK(m->hparams.parallel && m->hparams.logit_scale == 0.25f && m->hparams.tied_output);
    CHECK(!m->layers[0].attn_norm.bias.data && m->ropes[0].pairs == ROPE_ADJACENT);
    model_close(m);
    m = arch_open("glm4");
    CHECK(m->layers[0].post_attn_norm.on && m->layers[1].post_ffn_norm.on);
    CHECK(m->layers[0].gate.w.rows == 64 && m->layers[0].up.w.row0 == 64);
    CHECK(m->ropes[0].dims == 4 && m->ropes[0].pairs == ROPE_ADJACENT);
    model_close(m);
}

TEST(arch_positions_can_be_learned_or_a_bias) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("gpt2");
    CHECK(m->position_embd.rows == 192 && m->layers[0].rope == MODEL_ROPE_NONE);
    CHECK(m->hparams.alibi_slopes == NULL && m->layers[0].q.bias.cols == 32);
    CHECK(m->layers[0].v.bias.data == (const float *)m->layers[0].q.bias.data + 64);
    model_close(m);
    m = arch_open("mpt");
    CHECK(m->hparams.qkv_clamp == 2.0f && m->hparams.alibi_bias_max == 8.0f);
    CHECK(m->hparams.alibi_slopes != NULL && m->hparams.alibi_slopes[0] == 0.25f);
    CHECK(m->hparams.alibi_slopes[3] == 0x1p-8f && m->position_embd.data == NULL);
    model_close(m);
}

TEST(arch_granite_scales_are_all_read) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("granite");
    CHECK(m->hparams.attn_scale == 0.4f && m->hparams.embd_scale == 3.0f);
    CHECK(m->hparams.residual_scale == 0.6f && m->hparams.logit_scale == 0.5f);
    model_close(m);
}

TEST(arch_experts_are_as_their_family_routes_them) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("mixtral");
    const model_experts *e = &m->hparams.experts;
    CHECK(e->count == 4 && e->used == 2 && e->n_ff == 64 && e->shared_n_ff == 0);
    CHECK(e->normalize && e->route == ROUTE_SOFTMAX && e->scale == 1.0f);
    CHECK(m->layers[0].up_exps.data == NULL && m->layers[0].up_exps.parts[3].rows == 64);
    model_close(m);
    m = arch_open("qwen2moe");
    e = &m->hparams.experts;
    CHECK(!e->normalize && e->n_ff == 32 && e->shared_n_ff == 48);
    CHECK(m->layers[0].shared_router.rows == 1 && m->layers[0].q.bias.cols == 48);
    model_close(m);
    m = arch_open("qwen3moe");
    CHECK(m->hparams.experts.normalize && m->layers[0].q_norm.gain.cols == 32);
    model_close(m);
    m = arch_open("deepseek");
    e = &m->hparams.experts;
    CHECK(!e->normalize && e->shared_n_ff == 32 && m->hparams.n_ff == 64);
    CHECK(model_has(&m->layers[0].up.w) && !model_has(&m->layers[0].router.w));
    CHECK(!model_has(&m->layers[1].up.w) && model_has(&m->layers[1].router.w));
    model_close(m);
}

TEST(arch_latent_attention_cuts_its_matrices) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    model *m = arch_open("deepseek2");
    const model_hparams *hp = &m->hparams;
    const model_layer *l = &m->layers[1];
    CHECK(hp->mixer == MODEL_MIXER_LATENT && hp->kv_heads == 1 && hp->heads == 4);
    CHECK(hp->q_rank == 64 && hp->kv_rank == 32 && hp->head_dim == 48 && hp->nope_dim == 32);
    CHECK(hp->value_dim == 24 && near_to(hp->attn_scale, 1 / sqrt(48)));
    CHECK(m->ropes[0].dims == 16 && l->k_rope.rows == 16 && l->k_rope.row0 == 32);
    CHECK(l->k_b_transposed && l->k_b_rows == 32 && l->k_b_stride == 56 && l->k_b_row0 == 0);
    CHECK(l->v_b_row0 == 32 && l->v_b_stride == 56 && l->v_b.data == l->k_b.data);
    CHECK(hp->experts.shared_n_ff == 32 && model_has(&l->shared_up.w));
    model_close(m);
}

/* --- built models: a row of numbers away from llama ------------------------------ */
/* The smallest llama, whose keys are another architecture's. */
static void build_as(build *b, const char *arch) {
    char key[80];
    static const struct {
        const char *suffix;
        uint32_t value;
    } counts[] = {
        {"block_count", 1},          {"context_length", 64},      {"embedding_length", BUILD_EMBD},
        {"feed_forward_length", 32}, {"attention.head_count", 2},
    };
    build_init(b);
    add_str(b, "general.architecture", arch);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        (void)snprintf(key, sizeof key, "%s.%s", arch, counts[i].suffix);
        add_u32(b, key, counts[i].value);
    }
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    add_f32(b, key, 1e-5f);
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_epsilon", arch);
    add_f32(b, key, 1e-5f);
}

static model *arch_open_built(build *b, str *bytes) {
    blob *file = NULL;
    model *m = NULL;
    error err = {0};
    *bytes = build_finish(b);
    CHECK_EQ(blob_open_memory(&file, *bytes, "test", &err), OK);
    CHECK_EQ(model_open_blob(&m, file, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

static void arch_close_built(model *m, str bytes) {
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

TEST(arch_minicpm_has_scales_of_its_own_when_keys_are_absent) {
    build b;
    str bytes;
    build_as(&b, "minicpm");
    good_tensors(&b, NULL);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->hparams.embd_scale == 12.0f && near_to(m->hparams.residual_scale, 1.4));
    CHECK(near_to(m->hparams.logit_scale, 8));
    arch_close_built(m, bytes);
    build_as(&b, "minicpm");
    add_f32(&b, "minicpm.logit_scale", 4.0f);
    good_tensors(&b, NULL);
    m = arch_open_built(&b, &bytes);
    CHECK(m->hparams.logit_scale == 0.25f);
    arch_close_built(m, bytes);
}

TEST(arch_layers_without_positions_are_told_by_the_row) {
    build b;
    str bytes;
    build_as(&b, "refact");
    good_tensors(&b, NULL);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->hparams.alibi_slopes != NULL && m->layers[0].rope == MODEL_ROPE_NONE);
    /* two heads: 2^(-8 / 2 * 1), 2^(-8 / 2 * 2) */
    CHECK(m->hparams.alibi_slopes[0] == 0x1p-4f && m->hparams.alibi_slopes[1] == 0x1p-8f);
    arch_close_built(m, bytes);
    build_as(&b, "granite");
    add_bool(&b, "granite.rope.scaling.finetuned", 0);
    good_tensors(&b, NULL);
    m = arch_open_built(&b, &bytes);
    CHECK(m->layers[0].rope == MODEL_ROPE_NONE);
    arch_close_built(m, bytes);
}

TEST(arch_stablelm_without_ffn_norm_is_parallel) {
    build b;
    str bytes;
    build_as(&b, "stablelm");
    add_bool(&b, "stablelm.use_parallel_residual", 1);
    good_tensors(&b, "blk.0.ffn_norm.weight");
    add_tensor(&b, "blk.0.attn_q_norm.weight", DTYPE_F32, 2, 16);
    add_tensor(&b, "blk.0.attn_k_norm.weight", DTYPE_F32, 2, 16);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->hparams.parallel && m->layers[0].q_norm.gain.cols == 32);
    CHECK_EQ(m->layers[0].qk_norm_group, 16);
    arch_close_built(m, bytes);
}

TEST(arch_olmo_norms_have_no_parameters) {
    build b;
    str bytes;
    build_as(&b, "olmo");
    good_tensors(&b, NULL);
    CHECK_HAS(model_refusal(&b), "'output_norm.weight' has no place");
    build_as(&b, "olmo");
    good_tensor(&b, NULL, "token_embd.weight", BUILD_VOCAB);
    static const char *const names[] = {"attn_q", "attn_k",   "attn_v",  "attn_output",
                                        "ffn_up", "ffn_gate", "ffn_down"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.0.%s.weight", names[i]);
        add_tensor(&b, name, DTYPE_F32, BUILD_EMBD, BUILD_EMBD);
    }
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->output_norm.on && m->layers[0].attn_norm.on && !m->layers[0].ffn_norm.gain.data);
    arch_close_built(m, bytes);
}

TEST(arch_a_fused_tensor_is_taken_apart) {
    build b;
    str bytes;
    build_good(&b, "blk.0.ffn_gate.weight");
    b.tensors_count = b.data_bytes = 0;
    buf_clear(&b.tensors);
    good_tensor(&b, NULL, "token_embd.weight", BUILD_VOCAB);
    good_tensor(&b, NULL, "output_norm.weight", 0);
    good_tensor(&b, NULL, "blk.0.attn_norm.weight", 0);
    good_tensor(&b, NULL, "blk.0.ffn_norm.weight", 0);
    add_tensor(&b, "blk.0.attn_qkv.weight", DTYPE_F16, 96, 32);
    add_tensor(&b, "blk.0.attn_output.weight", DTYPE_F32, 32, 32);
    add_tensor(&b, "blk.0.ffn_up.weight", DTYPE_F16, 64, 32);
    add_tensor(&b, "blk.0.ffn_down.weight", DTYPE_F32, 32, 32);
    model *m = arch_open_built(&b, &bytes);
    const model_layer *l = &m->layers[0];
    CHECK((const char *)l->k.w.data == (const char *)l->q.w.data + 32 * 64);
    CHECK(l->v.w.row0 == 64 && l->v.w.bytes == 32 * 64);
    CHECK((const char *)l->up.w.data == (const char *)l->gate.w.data + 32 * 64);
    arch_close_built(m, bytes);
}

/* Tensors of so many layers of the small llama, with or without a norm before the second block. */
static void layer_tensors(build *b, uint32_t layers, bool two_norms) {
    static const char *const stems[] = {"attn_q", "attn_k",   "attn_v",  "attn_output",
                                        "ffn_up", "ffn_gate", "ffn_down"};
    char name[64];
    good_tensor(b, NULL, "token_embd.weight", BUILD_VOCAB);
    good_tensor(b, NULL, "output_norm.weight", 0);
    for (uint32_t l = 0; l < layers; l++) {
        (void)snprintf(name, sizeof name, "blk.%u.attn_norm.weight", l);
        good_tensor(b, NULL, name, 0);
        (void)snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", l);
        if (two_norms) good_tensor(b, NULL, name, 0);
        for (size_t i = 0; i < sizeof stems / sizeof *stems; i++) {
            (void)snprintf(name, sizeof name, "blk.%u.%s.weight", l, stems[i]);
            good_tensor(b, NULL, name, BUILD_EMBD);
        }
    }
}

/* build_as() with so many layers instead of one, and so many tokens of context. */
static void build_layers_ctx(build *b, const char *arch, uint32_t layers, uint32_t ctx) {
    char key[80];
    build_init(b);
    add_str(b, "general.architecture", arch);
    static const char *const same[] = {"embedding_length", "feed_forward_length"};
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(key, sizeof key, "%s.%s", arch, same[i]);
        add_u32(b, key, BUILD_EMBD);
    }
    (void)snprintf(key, sizeof key, "%s.context_length", arch);
    add_u32(b, key, ctx);
    (void)snprintf(key, sizeof key, "%s.block_count", arch);
    add_u32(b, key, layers);
    (void)snprintf(key, sizeof key, "%s.attention.head_count", arch);
    add_u32(b, key, 2);
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    add_f32(b, key, 1e-5f);
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_epsilon", arch);
    add_f32(b, key, 1e-5f);
}

static void build_layers(build *b, const char *arch, uint32_t layers) {
    build_layers_ctx(b, arch, layers, BUILD_EMBD);
}

TEST(arch_cohere2_turns_only_behind_windows) {
    build b;
    str bytes;
    build_layers(&b, "cohere2", 5);
    layer_tensors(&b, 5, false);
    CHECK_HAS(model_refusal(&b), "key 'cohere2.attention.sliding_window' is missing");
    build_layers(&b, "cohere2", 5);
    add_u32(&b, "cohere2.attention.sliding_window", 8);
    layer_tensors(&b, 5, false);
    model *m = arch_open_built(&b, &bytes);
    CHECK_STR(windows_of(m), "www-w");
    CHECK(m->layers[2].rope == 0 && m->layers[3].rope == MODEL_ROPE_NONE && m->hparams.parallel);
    arch_close_built(m, bytes);
}

TEST(arch_smollm3_leaves_every_fourth_layer_unturned) {
    build b;
    str bytes;
    build_layers(&b, "smollm3", 5);
    layer_tensors(&b, 5, true);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->layers[2].rope == 0 && m->layers[3].rope == MODEL_ROPE_NONE && m->layers[4].rope == 0);
    arch_close_built(m, bytes);
}

TEST(arch_window_patterns_may_be_keys) {
    build b;
    str bytes;
    build_layers(&b, "llama", 3);
    add_u32(&b, "llama.attention.sliding_window", 8);
    add_u32(&b, "llama.attention.sliding_window_pattern", 3);
    layer_tensors(&b, 3, true);
    model *m = arch_open_built(&b, &bytes);
    CHECK_STR(windows_of(m), "ww-");
    arch_close_built(m, bytes);
    build_layers(&b, "llama", 3);
    add_u32(&b, "llama.attention.sliding_window", 8);
    add_array(&b, "llama.attention.sliding_window_pattern", GGUF_TYPE_BOOL, 3);
    buf_put(&b.kv, "\0\1\0", 3);
    add_f32(&b, "llama.rope.freq_base_swa", 100.0f);
    layer_tensors(&b, 3, true);
    m = arch_open_built(&b, &bytes);
    CHECK_STR(windows_of(m), "-w-");
    CHECK(m->layers[0].rope == 0 && m->layers[1].rope == 1 && near_to(m->ropes[1].freqs[4], 0.1));
    arch_close_built(m, bytes);
}

TEST(arch_gptneox_says_whether_its_blocks_are_parallel) {
    for (int said = 0; said < 3; said++) {
        build b;
        str bytes;
        build_as(&b, "gptneox");
        if (said < 2) add_bool(&b, "gptneox.use_parallel_residual", (char)said);
        good_tensors(&b, "blk.0.ffn_gate.weight");
        model *m = arch_open_built(&b, &bytes);
        CHECK(m->hparams.parallel == (said != 0) && m->layers[0].ffn_norm.on);
        arch_close_built(m, bytes);
    }
}

TEST(arch_mistral3_ends_where_its_queries_would_grow) {
    build b;
    str bytes;
    build_as(&b, "mistral3");
    add_f32(&b, "mistral3.attention.temperature_scale", 0.1f);
    add_str(&b, "mistral3.rope.scaling.type", "yarn");
    add_f32(&b, "mistral3.rope.scaling.factor", 4.0f);
    add_f32(&b, "mistral3.rope.scaling.yarn_log_multiplier", 1.0f);
    add_u32(&b, "mistral3.rope.scaling.original_context_length", 16);
    good_tensors(&b, NULL);
    log_set_level(LOG_OFF);
    model *m = arch_open_built(&b, &bytes);
    log_set_level(LOG_INFO);
    CHECK_EQ(m->hparams.ctx_train, 16);
    CHECK(near_to(m->ropes[0].magnitude, 1));
    arch_close_built(m, bytes);
}

TEST(arch_phi3_files_of_some_age_have_the_window_of_their_model) {
    for (int told = 0; told < 2; told++) {
        build b;
        str bytes;
        build_layers_ctx(&b, "phi3", 32, 4096);
        if (told) add_u32(&b, "phi3.attention.sliding_window", 0);
        layer_tensors(&b, 32, true);
        model *m = arch_open_built(&b, &bytes);
        CHECK_EQ(m->layers[0].window, told ? 0 : 2047);
        CHECK_EQ(m->layers[31].window, told ? 0 : 2047);
        arch_close_built(m, bytes);
    }
}

TEST(arch_jais_divides_scores_by_the_whole_head) {
    build b;
    str bytes;
    build_as(&b, "jais");
    good_tensors(&b, NULL);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->hparams.attn_scale == 1.0f / 16 && m->hparams.alibi_slopes != NULL);
    arch_close_built(m, bytes);
}

TEST(arch_a_scaling_factor_of_zero_is_none) {
    build b;
    str bytes;
    build_good(&b, NULL);
    add_f32(&b, "llama.rope.scaling.factor", 0.0f);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->ropes[0].freqs[0] == 1 && m->ropes[0].magnitude == 1);
    arch_close_built(m, bytes);
    build_good(&b, NULL);
    add_f32(&b, "llama.rope.scaling.factor", -1.0f);
    CHECK_HAS(model_refusal(&b), "'llama.rope.scaling.factor' is -1, must be above 0");
}

/* --- latent attention, built -------------------------------------------------------- */
static void build_latent(build *b, bool cut) {
    const uint64_t k[3] = {8, 16, 2}, v[3] = {16, 12, 2};
    build_as(b, "deepseek2");
    add_u32(b, "deepseek2.attention.kv_lora_rank", 16);
    add_u32(b, "deepseek2.rope.dimension_count", 4);
    add_u32(b, "deepseek2.attention.key_length", cut ? 20 : 12);
    add_u32(b, "deepseek2.attention.value_length", cut ? 16 : 12);
    if (cut) {
        add_u32(b, "deepseek2.attention.key_length_mla", 12);
        add_u32(b, "deepseek2.attention.value_length_mla", 12);
        add_u32(b, "deepseek2.attention.head_count_kv", 1);
    }
    good_tensor(b, NULL, "token_embd.weight", BUILD_VOCAB);
    good_tensor(b, NULL, "output_norm.weight", 0);
    good_tensor(b, NULL, "blk.0.attn_norm.weight", 0);
    good_tensor(b, NULL, "blk.0.ffn_norm.weight", 0);
    good_tensor(b, NULL, "blk.0.attn_q.weight", 24);
    good_tensor(b, NULL, "blk.0.attn_kv_a_mqa.weight", 20);
    add_tensor(b, "blk.0.attn_kv_a_norm.weight", DTYPE_F32, 0, 16);
    add_tensor(b, "blk.0.attn_output.weight", DTYPE_F32, 32, 24);
    good_tensor(b, NULL, "blk.0.ffn_gate.weight", 32);
    good_tensor(b, NULL, "blk.0.ffn_up.weight", 32);
    good_tensor(b, NULL, "blk.0.ffn_down.weight", 32);
    if (!cut) {
        add_tensor(b, "blk.0.attn_kv_b.weight", DTYPE_F32, 40, 16);
        return;
    }
    add_tensor_raw(b, S("blk.0.attn_k_b.weight"), 3, 3, k, DTYPE_F32, b->data_bytes);
    b->data_bytes += 8 * 16 * 2 * 4;
    add_tensor_raw(b, S("blk.0.attn_v_b.weight"), 3, 3, v, DTYPE_F32, b->data_bytes);
    b->data_bytes += 16 * 12 * 2 * 4;
}

TEST(arch_latent_matrices_may_be_whole_or_cut) {
    for (int cut = 0; cut < 2; cut++) {
        build b;
        str bytes;
        build_latent(&b, cut != 0);
        model *m = arch_open_built(&b, &bytes);
        const model_layer *l = &m->layers[0];
        CHECK(m->hparams.head_dim == 12 && m->hparams.nope_dim == 8 && m->hparams.value_dim == 12);
        CHECK(m->hparams.q_rank == 0 && model_has(&l->q.w) && m->hparams.kv_heads == 1);
        CHECK_EQ(l->k_b_transposed, !cut);
        CHECK_EQ(l->k_b_rows, cut ? 16 : 8);
        CHECK_EQ(l->k_b_stride, cut ? 16 : 20);
        CHECK_EQ(l->k_b.rows, cut ? 32 : 40);
        CHECK_EQ(l->v_b_row0, cut ? 0 : 8);
        CHECK_EQ(l->v_b_stride, cut ? 12 : 20);
        arch_close_built(m, bytes);
    }
}

TEST(arch_latent_halves_beside_the_whole_are_copies) {
    build b;
    str bytes;
    build_latent(&b, false);
    add_tensor(&b, "blk.0.attn_k_b.weight", DTYPE_F32, 32, 8);
    add_tensor(&b, "blk.0.attn_v_b.weight", DTYPE_F32, 24, 16);
    model *m = arch_open_built(&b, &bytes);
    CHECK(m->layers[0].k_b_transposed && m->layers[0].k_b.rows == 40);
    arch_close_built(m, bytes);
}

TEST(arch_latent_scores_carry_the_magnitude_of_yarn) {
    build b;
    str bytes;
    build_latent(&b, false);
    add_str(&b, "deepseek2.rope.scaling.type", "yarn");
    add_f32(&b, "deepseek2.rope.scaling.factor", 40.0f);
    add_f32(&b, "deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
    model *m = arch_open_built(&b, &bytes);
    double mscale = 1 + 0.0707 * log(40);
    CHECK(m->ropes[0].magnitude == 1.0f && m->ropes[0].pairs == ROPE_ADJACENT);
    CHECK(near_to(m->hparams.attn_scale, mscale * mscale / sqrt(12)));
    arch_close_built(m, bytes);
}

/* The refusal of the whole form with one more key, or another value of it. */
static const char *latent_refusal(const char *suffix, uint32_t value) {
    build b;
    char key[80];
    build_latent(&b, false);
    (void)snprintf(key, sizeof key, "deepseek2.%s", suffix);
    add_u32(&b, key, value);
    return model_refusal(&b);
}

TEST(arch_latent_numbers_must_fit_each_other) {
    CHECK_HAS(latent_refusal("attention.key_length_mla", 4), "4 rotary dimensions leave nothing");
    CHECK_HAS(latent_refusal("attention.key_length_mla", 0), "keys of 0 and values of 12");
    CHECK_HAS(latent_refusal("attention.value_length_mla", 9999), "must be 0 to 4096");
    CHECK_HAS(latent_refusal("attention.q_lora_rank", 8), "'blk.0.attn_q_a.weight' is missing");
    CHECK_HAS(latent_refusal("attention.head_count_kv", 3), "3 key and value heads");
}

/* --- experts, built ---------------------------------------------------------------- */
static void build_moe(build *b, uint32_t count, uint32_t used) {
    build_as(b, "qwen3moe");
    add_u32(b, "qwen3moe.expert_count", count);
    add_u32(b, "qwen3moe.expert_used_count", used);
    add_u32(b, "qwen3moe.expert_feed_forward_length", 16);
}

typedef enum moe_form {
    MOE_TOGETHER, /* a tensor for all experts */
    MOE_APART,    /* one for each */
    MOE_ABOVE,    /* together, gate above up */
} moe_form;

static void moe_tensors(build *b, moe_form form) {
    const uint64_t in[3] = {32, 16, 4}, out[3] = {16, 32, 4}, both[3] = {32, 32, 4};
    const bool apart = form == MOE_APART;
    static const char *const plain[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    static const char *const stems[] = {"ffn_gate", "ffn_up", "ffn_down"};
    char name[64];
    good_tensor(b, NULL, "token_embd.weight", BUILD_VOCAB);
    good_tensor(b, NULL, "output_norm.weight", 0);
    good_tensor(b, NULL, "blk.0.attn_norm.weight", 0);
    good_tensor(b, NULL, "blk.0.ffn_norm.weight", 0);
    add_tensor(b, "blk.0.attn_q_norm.weight", DTYPE_F32, 0, 16);
    add_tensor(b, "blk.0.attn_k_norm.weight", DTYPE_F32, 0, 16);
    add_tensor(b, "blk.0.ffn_gate_inp.weight", DTYPE_F32, 4, 32);
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(name, sizeof name, "blk.0.%s.weight", plain[i]);
        add_tensor(b, name, DTYPE_F32, 32, 32);
    }
    if (form == MOE_ABOVE) {
        add_tensor_raw(b, S("blk.0.ffn_gate_up_exps.weight"), 3, 3, both, DTYPE_F32, b->data_bytes);
        b->data_bytes += 32 * 32 * 4 * 4;
        add_tensor(b, "blk.0.ffn_gate_up_exps.bias", DTYPE_F32, 4, 32);
    }
    for (uint32_t i = form == MOE_ABOVE ? 2 : 0; i < 3; i++) {
        const uint64_t *dims = i == 2 ? out : in;
        for (uint32_t e = 0; apart && e < 4; e++) {
            (void)snprintf(name, sizeof name, "blk.0.%s.%u.weight", stems[i], e);
            add_tensor(b, name, DTYPE_F32, dims[1], dims[0]);
        }
        (void)snprintf(name, sizeof name, "blk.0.%s_exps.weight", stems[i]);
        if (apart) continue;
        add_tensor_raw(b, str_of(name), 3, 3, dims, DTYPE_F32, b->data_bytes);
        b->data_bytes += 32 * 16 * 4 * 4;
    }
}

TEST(arch_experts_may_lie_together_or_apart) {
    for (int apart = 0; apart < 2; apart++) {
        build b;
        str bytes;
        build_moe(&b, 4, 2);
        moe_tensors(&b, apart ? MOE_APART : MOE_TOGETHER);
        model *m = arch_open_built(&b, &bytes);
        const model_tensor *parts = m->layers[0].down_exps.parts;
        CHECK((const char *)parts[2].data == (const char *)parts[1].data + 32 * 16 * 4);
        CHECK(parts[3].rows == 32 && parts[3].cols == 16);
        arch_close_built(m, bytes);
    }
}

TEST(arch_gates_of_experts_may_lie_above_their_ups) {
    build b;
    str bytes;
    build_moe(&b, 4, 2);
    moe_tensors(&b, MOE_ABOVE);
    model *m = arch_open_built(&b, &bytes);
    const model_layer *l = &m->layers[0];
    const char *gate = l->gate_exps.parts[3].data, *up = l->up_exps.parts[3].data;
    CHECK(up == gate + 16 * 32 * 4 && gate == (const char *)l->gate_exps.parts[2].data + 4096);
    CHECK(l->gate_exps.rows == 16 && l->up_exps.parts[1].row0 == 32 + 16);
    const float *gates = l->gate_exps_bias.data, *ups = l->up_exps_bias.data;
    CHECK(gates != NULL && ups != NULL && l->gate_exps_bias.rows == 4 &&
          l->up_exps_bias.cols == 16);
    arch_close_built(m, bytes);
}

/* As other readers take files; converters of GLM-4.5 always write the key. */
TEST(arch_weights_of_experts_are_as_they_come_unless_a_key_says_so) {
    build b;
    str bytes;
    for (int told = 0; told < 2; told++) {
        build_as(&b, "glm4moe");
        add_u32(&b, "glm4moe.expert_count", 4);
        add_u32(&b, "glm4moe.expert_used_count", 2);
        add_u32(&b, "glm4moe.leading_dense_block_count", 1);
        if (told) add_bool(&b, "glm4moe.expert_weights_norm", 1);
        good_tensors(&b, "blk.0.ffn_norm.weight");
        good_tensor(&b, NULL, "blk.0.post_attention_norm.weight", 0);
        model *m = arch_open_built(&b, &bytes);
        CHECK_EQ(m->hparams.experts.normalize, told != 0);
        arch_close_built(m, bytes);
    }
}

static const char *moe_refusal(uint32_t count, uint32_t used, const char *key, uint32_t value) {
    build b;
    char whole[80];
    build_moe(&b, count, used);
    (void)snprintf(whole, sizeof whole, "qwen3moe.%s", key);
    add_u32(&b, whole, value);
    moe_tensors(&b, MOE_TOGETHER);
    return model_refusal(&b);
}

TEST(arch_numbers_of_experts_must_fit_each_other) {
    CHECK_HAS(moe_refusal(4, 5, "x", 0), "expert_used_count' is 5, must be 1 to 4");
    CHECK_HAS(moe_refusal(4, 0, "x", 0), "expert_used_count' is 0, must be 1 to 4");
    CHECK_HAS(moe_refusal(UINT32_MAX, 1, "x", 0), "must be 0 to 1024");
    CHECK_HAS(moe_refusal(8, 2, "x", 0), "'blk.0.ffn_gate_inp.weight' has 4 rows, must have 8");
    CHECK_HAS(moe_refusal(4, 2, "expert_gating_func", 9), "expert_gating_func' is 9; known are 1");
    CHECK_HAS(moe_refusal(4, 2, "expert_group_count", 3), "4 experts cannot be cut into 3 groups");
    CHECK_HAS(moe_refusal(4, 2, "expert_group_count", 4), "4 experts cannot be cut into 4 groups");
    CHECK_HAS(moe_refusal(4, 2, "expert_group_count", 2), "0 of 2 expert groups of 2");
    CHECK_HAS(moe_refusal(4, 2, "expert_shared_count", 1), "'blk.0.ffn_gate_shexp.weight' is mis");
    CHECK_HAS(moe_refusal(4, 2, "expert_shared_count", 1u << 20), "must be 0 to 1024");
    CHECK_HAS(moe_refusal(4, 2, "leading_dense_block_count", 1), "'blk.0.ffn_down.weight' is mis");
    CHECK_HAS(moe_refusal(4, 2, "nextn_predict_layers", 1), "must be 0 to 0");
}

TEST(arch_draft_layers_are_left_alone) {
    build b;
    str bytes;
    build_layers(&b, "llama", 2);
    add_u32(&b, "llama.nextn_predict_layers", 1);
    layer_tensors(&b, 2, true);
    add_tensor(&b, "blk.1.nextn.eh_proj.weight", DTYPE_F32, 32, 64);
    model *m = arch_open_built(&b, &bytes);
    CHECK_EQ(m->hparams.layers, 1);
    arch_close_built(m, bytes);
}

/* --- refusals ---------------------------------------------------------------------- */
TEST(arch_names_are_all_there) {
    static const char *const names[] = {
        "llama",      "qwen2",     "qwen3",         "qwen2moe",     "qwen3moe",  "phi2",
        "phi3",       "gemma",     "gemma2",        "gemma3",       "deepseek",  "deepseek2",
        "gpt-oss",    "granite",   "granitemoe",    "glm4",         "glm4moe",   "olmo2",
        "olmoe",      "command-r", "cohere2",       "stablelm",     "starcoder", "falcon",
        "starcoder2", "mpt",       "gpt2",          "gptneox",      "nemotron",  "minicpm",
        "smollm3",    "seed_oss",  "mamba",         "rwkv6",        "bert",      "nomic-bert",
        "olmo",       "internlm2", "baichuan",      "orion",        "xverse",    "exaone",
        "bloom",      "refact",    "qwen",          "chatglm",      "codeshell", "arcee",
        "ernie4_5",   "mistral3",  "hunyuan-dense", "jina-bert-v2", "jais",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_HAS(model_arch_names(), names[i]);
}

/* A built llama with one more key. */
static const char *key_refusal(const char *key, uint32_t value) {
    build b;
    build_good(&b, NULL);
    add_u32(&b, key, value);
    return model_refusal(&b);
}

TEST(arch_keys_that_would_change_the_numbers_are_refused) {
    CHECK_HAS(key_refusal("llama.attention.q_lora_rank", 8), "'llama.attention.q_lora_rank' is 8");
    CHECK_STR(key_refusal("llama.attention.q_lora_rank", 0), "opened");
    CHECK_HAS(key_refusal("llama.pooling_type", 5), "must be 0 to 4");
    CHECK_HAS(key_refusal("llama.attention.sliding_window_pattern", 1000), "must be 0 to 512");
    build b;
    build_good(&b, NULL);
    add_f32(&b, "llama.attention.temperature_scale", 0.1f);
    CHECK_HAS(model_refusal(&b), "'llama.attention.temperature_scale' is 0.1");
    build_good(&b, NULL);
    add_f32(&b, "llama.attn_logit_softcapping", -1.0f);
    CHECK_HAS(model_refusal(&b), "is -1, must be at least 0");
    build_good(&b, NULL);
    add_i32s(&b, "llama.attention.sliding_window_pattern", 1, &(int32_t){1});
    CHECK_HAS(model_refusal(&b), "must be an array of 1 bools");
    build_as(&b, "qwen2");
    add_u32(&b, "qwen2.expert_count", 2);
    CHECK_HAS(model_refusal(&b), "'token_embd.weight' is missing");
    build_as(&b, "qwen2");
    add_u32(&b, "qwen2.expert_count", 2);
    good_tensors(&b, NULL);
    CHECK_HAS(model_refusal(&b), "'qwen2.expert_count' is 2; this architecture is known with 0");
}

TEST(arch_keys_of_experts_mean_nothing_without_experts) {
    static const char *const keys[] = {"expert_count", "expert_used_count", "expert_shared_count",
                                       "expert_group_count", "expert_gating_func"};
    build b;
    char key[64];
    build_good(&b, NULL);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        (void)snprintf(key, sizeof key, "llama.%s", keys[i]);
        add_u32(&b, key, 0);
    }
    add_f32(&b, "llama.expert_weights_scale", 0.0f);
    add_bool(&b, "llama.expert_weights_norm", 1);
    CHECK_STR(model_refusal(&b), "opened");
}

TEST(arch_counts_per_layer_must_be_equal) {
    build b;
    build_good(&b, "llama.attention.head_count");
    add_i32s(&b, "llama.attention.head_count", 2, (int32_t[]){2, 2});
    CHECK_STR(model_refusal(&b), "opened");
    build_good(&b, NULL);
    add_i32s(&b, "llama.attention.head_count_kv", 3, (int32_t[]){2, 2, 1});
    CHECK_HAS(model_refusal(&b), "head_count_kv' is 2 in layer 0 and 1 in layer 2; only equal");
    build_good(&b, "llama.feed_forward_length");
    add_i32s(&b, "llama.feed_forward_length", 1, (int32_t[]){-1});
    CHECK_HAS(model_refusal(&b), "has no count at 0");
    build_good(&b, "llama.feed_forward_length");
    add_i32s(&b, "llama.feed_forward_length", 0, NULL);
    CHECK_HAS(model_refusal(&b), "is an array of 0 i32, must be of integers");
}

TEST(arch_longrope_needs_both_sets) {
    build b;
    build_good(&b, NULL);
    add_tensor(&b, "rope_factors_long.weight", DTYPE_F32, 0, 8);
    CHECK_HAS(model_refusal(&b), "has 0 at 0, must be above 0");
}
