/* hf_keys.c - what config.json says of one family of classes only.
 *
 * Each function copies what the architecture reads, and refuses what it does not compute.
 * Sources: the configuration and modeling files of transformers; the GGUF specification. */
#include "model/hf_keys.h"

#include <math.h>

/* --- shared ------------------------------------------------------------------------ */
/* A window as long as the context hides nothing. */
static status put_window(hf_job *j, uint32_t window, error *err) {
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    if (window > 0 && window < j->ctx) hf_put_u32(j, "attention.sliding_window", window);
    return OK;
}

static status only_u32(hf_job *j, const char *names, uint32_t fallback, uint32_t want, error *err) {
    uint32_t value = fallback;
    TRY(hf_u32(j, names, UINT32_MAX, &value, err));
    if (value == want) return OK;
    return error_set(err, ERR_UNSUPPORTED, "config.json: %s is %u, only %u can be computed for %s",
                     names, value, want, j->class->name);
}

static status only_f32(hf_job *j, const char *names, float fallback, float want, error *err) {
    float value = fallback;
    TRY(hf_f32(j, names, &value, err));
    if (fabsf(value - want) <= 1e-6F * fabsf(want)) return OK;
    return error_set(err, ERR_UNSUPPORTED, "config.json: %s is %g, only %g can be computed for %s",
                     names, (double)value, (double)want, j->class->name);
}

static status only_absent(hf_job *j, const char *name, error *err) {
    json_node n = hf_node(j, name);
    if (!json_node_is_set(&n)) return OK;
    return error_set(err, ERR_UNSUPPORTED, "config.json: %s is not computed for %s", name,
                     j->class->name);
}

static status put_experts(hf_job *j, const char *count, const char *used, error *err) {
    uint32_t n = 0;
    TRY(hf_need_u32(j, count, MODEL_EXPERTS_MAX, &j->experts, err));
    TRY(hf_need_u32(j, used, j->experts, &n, err));
    hf_put_u32(j, "expert_count", j->experts);
    hf_put_u32(j, "expert_used_count", n);
    return OK;
}

/* --- llama and its kin --------------------------------------------------------------- */
status hf_keys_windowed(hf_job *j, error *err) { return put_window(j, 0, err); }

/* GGUF files of this architecture without the key have a window; a configuration without one has
 * none. */
status hf_keys_phi3(hf_job *j, error *err) {
    uint32_t window = 0;
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    hf_put_u32(j, "attention.sliding_window", window < j->ctx ? window : 0);
    return OK;
}

status hf_keys_mixtral(hf_job *j, error *err) {
    TRY(put_experts(j, "num_local_experts", "num_experts_per_tok", err));
    return put_window(j, 0, err);
}

/* Layers from max_window_layers on have the window. */
status hf_keys_qwen(hf_job *j, error *err) {
    bool windowed = false;
    uint32_t window = j->ctx, full_layers = j->layers;
    TRY(hf_bool(j, "use_sliding_window", &windowed, err));
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    TRY(hf_u32(j, "max_window_layers", UINT32_MAX, &full_layers, err));
    if (!windowed || window >= j->ctx || full_layers >= j->layers) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: use_sliding_window with a window of %u in layers %u to %u is "
                     "not computed for %s",
                     window, full_layers, j->layers - 1, j->class->name);
}

static status sparse_everywhere(hf_job *j, error *err) {
    json_node dense = hf_node(j, "mlp_only_layers");
    TRY(only_u32(j, "decoder_sparse_step", 1, 1, err));
    if (json_node_count(&dense) == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: mlp_only_layers names %zu layers; %s is "
                     "computed with experts in every layer",
                     json_node_count(&dense), j->class->name);
}

static status put_qwen_experts(hf_job *j, error *err) {
    TRY(hf_keys_qwen(j, err));
    TRY(sparse_everywhere(j, err));
    TRY(put_experts(j, "num_experts|num_local_experts", "num_experts_per_tok", err));
    return hf_copy_u32(j, "moe_intermediate_size", "expert_feed_forward_length", MODEL_FF_MAX, err);
}

status hf_keys_qwen2moe(hf_job *j, error *err) {
    TRY(put_qwen_experts(j, err));
    TRY(hf_only_bool(j, "norm_topk_prob", false, false, err));
    return hf_copy_u32(j, "shared_expert_intermediate_size", "expert_shared_feed_forward_length",
                       MODEL_FF_MAX, err);
}

status hf_keys_qwen3moe(hf_job *j, error *err) {
    TRY(put_qwen_experts(j, err));
    return hf_only_bool(j, "norm_topk_prob", false, true, err);
}

status hf_keys_granite(hf_job *j, error *err) {
    TRY(hf_copy_f32(j, "attention_multiplier", "attention.scale", err));
    TRY(hf_copy_f32(j, "embedding_multiplier", "embedding_scale", err));
    TRY(hf_copy_f32(j, "residual_multiplier", "residual_scale", err));
    return hf_copy_f32(j, "logits_scaling", "logit_scale", err);
}

status hf_keys_granitemoe(hf_job *j, error *err) {
    TRY(hf_keys_granite(j, err));
    return put_experts(j, "num_local_experts", "num_experts_per_tok", err);
}

status hf_keys_minicpm(hf_job *j, error *err) {
    float embd = 1, depth = 1, base = 1;
    TRY(hf_f32(j, "scale_emb", &embd, err));
    TRY(hf_f32(j, "scale_depth", &depth, err));
    TRY(hf_f32(j, "dim_model_base", &base, err));
    if (!(base > 0))
        return error_set(err, ERR_FORMAT, "config.json: dim_model_base is %g", (double)base);
    hf_put_f32(j, "embedding_scale", embd);
    hf_put_f32(j, "residual_scale", depth / sqrtf((float)j->layers));
    hf_put_f32(j, "logit_scale", (float)j->n_embd / base);
    return OK;
}

/* Every fourth layer has no positions. */
status hf_keys_smollm3(hf_job *j, error *err) {
    json_node list = hf_node(j, "no_rope_layers");
    TRY(only_u32(j, "no_rope_layer_interval", 4, 4, err));
    TRY(hf_only_bool(j, "use_sliding_window", false, false, err));
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node n = json_node_element(&list, i);
        uint32_t rotated = 1, want = (i + 1) % 4 != 0;
        TRY(hf_blame(json_node_u32(&n, 0, 1, &rotated, err), err));
        if (rotated != want)
            return error_set(err, ERR_UNSUPPORTED,
                             "config.json: no_rope_layers[%zu] is %u, only %u can be computed", i,
                             rotated, want);
    }
    return OK;
}

status hf_keys_olmo(hf_job *j, error *err) {
    return hf_copy_f32(j, "clip_qkv", "attention.clamp_kqv", err);
}

status hf_keys_olmoe(hf_job *j, error *err) {
    TRY(only_absent(j, "clip_qkv", err));
    TRY(hf_only_bool(j, "norm_topk_prob", false, false, err));
    return put_experts(j, "num_experts", "num_experts_per_tok", err);
}

/* Behind seq_length positions are stretched by the length of the text. */
status hf_keys_qwen1(hf_job *j, error *err) {
    uint32_t trained = j->ctx;
    TRY(hf_u32(j, "seq_length", MODEL_CTX_MAX, &trained, err));
    if (trained > 0 && trained < j->ctx) j->ctx = trained;
    return OK;
}

/* The second generation, told by a number of its training, gives every row of the head length
 * one. */
status hf_keys_baichuan(hf_job *j, error *err) {
    (void)err;
    j->unit_rows = hf_has(j, "z_loss_weight");
    return OK;
}

status hf_keys_chatglm(hf_job *j, error *err) {
    bool shared = false;
    float stretch = 1;
    TRY(hf_bool(j, "multi_query_attention", &shared, err));
    if (shared) TRY(hf_need_u32(j, "multi_query_group_num", j->heads, &j->kv_heads, err));
    TRY(hf_only_bool(j, "rmsnorm", true, true, err));
    TRY(hf_only_bool(j, "apply_residual_connection_post_layernorm", false, false, err));
    TRY(hf_f32(j, "rope_ratio", &stretch, err));
    j->theta = j->class->theta * stretch;
    return OK;
}

/* A class of pictures and text around one of several classes of text. */
status hf_keys_llava(hf_job *j, error *err) {
    str type = S("llama");
    char text[MODEL_TEXT_BYTES];
    json_node n = json_field(&j->text, "model_type");
    if (j->text_node.value != j->root.value) TRY(hf_blame(json_node_str(&n, 64, &type, err), err));
    if (str_eq_c(type, "llama") || str_eq_c(type, "mistral")) return put_window(j, 0, err);
    model_copy_text(text, sizeof text, type);
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: text_config.model_type is '%s', for %s llama and mistral are "
                     "known",
                     text, j->class->name);
}

/* Queries that grow with their position, of its later models. */
status hf_keys_mistral3(hf_job *j, error *err) {
    json_fields f;
    float growth = 0;
    json_node rope = hf_node(j, "rope_parameters");
    if (json_node_is_set(&rope)) {
        TRY(hf_blame(json_fields_open(&f, &rope, err), err));
        TRY(hf_blame(json_get_f32(&f, "llama_4_scaling_beta", 0, 1e6F, &growth, err), err));
    }
    if (growth != 0) hf_put_f32(j, "attention.temperature_scale", growth);
    return put_window(j, 0, err);
}

/* --- gemma ----------------------------------------------------------------------------- */
/* Scores are divided by the root of head_dim, in one size of each generation by that of the
 * embedding's share of a head. */
static status check_query_scale(hf_job *j, float fallback, uint32_t odd_layers, error *err) {
    uint32_t want = j->layers == odd_layers ? j->n_embd / j->heads : j->head_dim;
    return only_f32(j, "query_pre_attn_scalar", fallback > 0 ? fallback : (float)want, (float)want,
                    err);
}

status hf_keys_gemma2(hf_job *j, error *err) {
    float scores = 50, logits = 30;
    TRY(check_query_scale(j, 0, 46, err));
    TRY(hf_f32(j, "attn_logit_softcapping", &scores, err));
    TRY(hf_f32(j, "final_logit_softcapping", &logits, err));
    hf_put_f32(j, "attn_logit_softcapping", scores);
    hf_put_f32(j, "final_logit_softcapping", logits);
    uint32_t window = 4096;
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    hf_put_u32(j, "attention.sliding_window", window);
    return OK;
}

static status check_layer_types(hf_job *j, uint32_t pattern, error *err) {
    json_node list = hf_node(j, "layer_types");
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node n = json_node_element(&list, i);
        const char *want = (i + 1) % pattern == 0 ? "full_attention" : "sliding_attention";
        str type = {0};
        TRY(hf_blame(json_node_str(&n, 64, &type, err), err));
        if (!str_eq_c(type, want))
            return error_set(err, ERR_UNSUPPORTED,
                             "config.json: layer_types[%zu] is not %s, which is what can be "
                             "computed",
                             i, want);
    }
    return OK;
}

/* Three layers of four have the window. */
status hf_keys_olmo3(hf_job *j, error *err) {
    uint32_t window = 4096;
    TRY(check_layer_types(j, 4, err));
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    hf_put_u32(j, "attention.sliding_window", window);
    return OK;
}

status hf_keys_gemma3(hf_job *j, error *err) {
    uint32_t window = 4096;
    TRY(check_query_scale(j, 0, 62, err));
    TRY(only_absent(j, "attn_logit_softcapping", err));
    TRY(only_absent(j, "final_logit_softcapping", err));
    TRY(only_u32(j, "sliding_window_pattern|_sliding_window_pattern", 6, 6, err));
    TRY(check_layer_types(j, 6, err));
    TRY(only_f32(j, "rope_local_base_freq", 10000, 10000, err));
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    hf_put_u32(j, "attention.sliding_window", window);
    return OK;
}

/* --- others with rotary positions --------------------------------------------------------- */
status hf_keys_phi(hf_job *j, error *err) {
    return hf_only_bool(j, "qk_layernorm", false, false, err);
}

status hf_keys_cohere(hf_job *j, error *err) {
    float scale = 0.0625F;
    TRY(hf_f32(j, "logit_scale", &scale, err));
    hf_put_f32(j, "logit_scale", scale);
    return OK;
}

status hf_keys_cohere2(hf_job *j, error *err) {
    uint32_t window = 4096;
    TRY(hf_keys_cohere(j, err));
    TRY(only_u32(j, "sliding_window_pattern|_sliding_window_pattern", 4, 4, err));
    TRY(check_layer_types(j, 4, err));
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    hf_put_u32(j, "attention.sliding_window", window);
    return OK;
}

status hf_keys_stablelm(hf_job *j, error *err) {
    bool parallel = false;
    TRY(hf_bool(j, "use_parallel_residual", &parallel, err));
    hf_put_bool(j, "use_parallel_residual", parallel);
    return OK;
}

status hf_keys_neox(hf_job *j, error *err) {
    bool parallel = true;
    TRY(hf_bool(j, "use_parallel_residual", &parallel, err));
    hf_put_bool(j, "use_parallel_residual", parallel);
    return OK;
}

status hf_keys_falcon(hf_job *j, error *err) {
    bool one_kv = true;
    TRY(hf_only_bool(j, "alibi", false, false, err));
    TRY(hf_only_bool(j, "parallel_attn", true, true, err));
    TRY(hf_bool(j, "new_decoder_architecture", &j->new_decoder, err));
    TRY(hf_bool(j, "multi_query", &one_kv, err));
    if (!j->new_decoder) j->kv_heads = one_kv ? 1 : j->heads;
    return OK;
}

/* --- positions that are learned, or ALiBi ---------------------------------------------------- */
status hf_keys_gpt2(hf_job *j, error *err) {
    TRY(hf_only_bool(j, "scale_attn_weights", true, true, err));
    return hf_only_bool(j, "scale_attn_by_inverse_layer_idx", false, false, err);
}

status hf_keys_bigcode(hf_job *j, error *err) {
    bool one_kv = true;
    TRY(hf_keys_gpt2(j, err));
    TRY(hf_bool(j, "multi_query", &one_kv, err));
    if (one_kv) j->kv_heads = 1;
    return OK;
}

status hf_keys_bloom(hf_job *j, error *err) {
    return hf_only_bool(j, "apply_residual_connection_post_layernorm", false, false, err);
}

status hf_keys_mpt(hf_job *j, error *err) {
    json_node n = hf_node(j, "attn_config");
    json_fields f;
    bool alibi = false;
    float bias_max = 8, clip = 0, ratio = 4;
    uint32_t kv = j->heads;
    TRY(hf_f32(j, "expansion_ratio", &ratio, err));
    if (!(ratio > 0 && ratio <= 64))
        return error_set(err, ERR_FORMAT, "config.json: expansion_ratio is %g", (double)ratio);
    j->n_ff = (uint32_t)(ratio * (float)j->n_embd);
    if (json_node_is_set(&n)) {
        TRY(hf_blame(json_fields_open(&f, &n, err), err));
        TRY(hf_blame(json_get_bool(&f, "alibi", &alibi, err), err));
        TRY(hf_blame(json_get_f32(&f, "alibi_bias_max", 0, 1e6F, &bias_max, err), err));
        TRY(hf_blame(json_get_f32(&f, "clip_qkv", 0, 1e6F, &clip, err), err));
        TRY(hf_blame(json_get_u32(&f, "kv_n_heads", 1, j->heads, &kv, err), err));
    }
    j->kv_heads = kv;
    hf_put_f32(j, "attention.max_alibi_bias", alibi ? bias_max : 0);
    if (clip > 0) hf_put_f32(j, "attention.clamp_kqv", clip);
    return OK;
}

/* --- DeepSeek and its kin ---------------------------------------------------------- */
static status put_shared_experts(hf_job *j, error *err) {
    TRY(put_experts(j, "n_routed_experts", "num_experts_per_tok", err));
    TRY(only_u32(j, "moe_layer_freq", 1, 1, err));
    TRY(hf_copy_u32(j, "n_shared_experts", "expert_shared_count", MODEL_EXPERTS_MAX, err));
    TRY(hf_copy_u32(j, "moe_intermediate_size", "expert_feed_forward_length", MODEL_FF_MAX, err));
    return hf_copy_u32(j, "first_k_dense_replace", "leading_dense_block_count", MODEL_LAYERS_MAX,
                       err);
}

status hf_keys_deepseek(hf_job *j, error *err) {
    TRY(put_shared_experts(j, err));
    TRY(hf_only_bool(j, "norm_topk_prob", false, false, err));
    hf_put_f32(j, "expert_weights_scale", 1);
    return OK;
}

/* How experts are chosen: scores by softmax or sigmoid, perhaps only within the best groups. */
static status put_routing(hf_job *j, str scoring, bool normalize, error *err) {
    char text[MODEL_TEXT_BYTES];
    float scale = 1;
    TRY(hf_str(j, "scoring_func", &scoring, err));
    TRY(hf_bool(j, "norm_topk_prob", &normalize, err));
    TRY(hf_f32(j, "routed_scaling_factor", &scale, err));
    bool sigmoid = str_eq_c(scoring, "sigmoid");
    model_copy_text(text, sizeof text, scoring);
    if (!sigmoid && !str_eq_c(scoring, "softmax"))
        return error_set(err, ERR_UNSUPPORTED,
                         "config.json: scoring_func '%s' is not known; known: "
                         "softmax, sigmoid",
                         text);
    hf_put_u32(j, "expert_gating_func", sigmoid ? 2 : 1);
    hf_put_bool(j, "expert_weights_norm", normalize);
    hf_put_f32(j, "expert_weights_scale", scale);
    return OK;
}

static status put_groups(hf_job *j, str method, error *err) {
    uint32_t groups = 1, used = 1;
    TRY(hf_str(j, "topk_method", &method, err));
    TRY(hf_u32(j, "n_group", j->experts, &groups, err));
    TRY(hf_u32(j, "topk_group", j->experts, &used, err));
    if (str_eq_c(method, "greedy") || groups <= 1) return OK;
    hf_put_u32(j, "expert_group_count", groups);
    hf_put_u32(j, "expert_group_used_count", used);
    return OK;
}

status hf_keys_deepseek2(hf_job *j, error *err) {
    uint32_t nope = 0, rope = 0, value = 0, rank = 0, q_rank = 0;
    bool third = str_eq_c(str_of(j->class->name), "DeepseekV3ForCausalLM");
    TRY(hf_need_u32(j, "qk_nope_head_dim", MODEL_HEAD_DIM_MAX, &nope, err));
    TRY(hf_need_u32(j, "qk_rope_head_dim", MODEL_HEAD_DIM_MAX, &rope, err));
    TRY(hf_need_u32(j, "v_head_dim", MODEL_HEAD_DIM_MAX, &value, err));
    TRY(hf_need_u32(j, "kv_lora_rank", MODEL_RANK_MAX, &rank, err));
    TRY(hf_u32(j, "q_lora_rank", MODEL_RANK_MAX, &q_rank, err));
    j->head_dim = nope + rope;
    j->kv_heads = j->heads;
    hf_put_u32(j, "attention.key_length", nope + rope);
    hf_put_u32(j, "attention.value_length", value);
    hf_put_u32(j, "attention.kv_lora_rank", rank);
    if (q_rank > 0) hf_put_u32(j, "attention.q_lora_rank", q_rank);
    TRY(put_shared_experts(j, err));
    TRY(put_routing(j, third ? S("sigmoid") : S("softmax"), third, err));
    return put_groups(j, third ? S("noaux_tc") : S("greedy"), err);
}

status hf_keys_glm4moe(hf_job *j, error *err) {
    TRY(put_shared_experts(j, err));
    TRY(only_u32(j, "n_group", 1, 1, err));
    return put_routing(j, S("sigmoid"), true, err);
}

status hf_keys_gpt_oss(hf_job *j, error *err) {
    TRY(put_experts(j, "num_local_experts|num_experts", "num_experts_per_tok|experts_per_token",
                    err));
    TRY(only_f32(j, "swiglu_limit", 7, 7, err));
    hf_put_u32(j, "expert_feed_forward_length", j->n_ff);
    uint32_t window = 128;
    TRY(hf_u32(j, "sliding_window", MODEL_CTX_MAX, &window, err));
    hf_put_u32(j, "attention.sliding_window", window);
    return OK;
}

/* --- no attention ------------------------------------------------------------------ */
status hf_keys_mamba(hf_job *j, error *err) {
    uint32_t taps = 4, inner = 2 * j->n_embd, states = 16, expand = 2;
    uint32_t rank = (j->n_embd + 15) / 16;
    json_node rank_node = hf_node(j, "time_step_rank|dt_rank");
    TRY(hf_u32(j, "conv_kernel|d_conv", MODEL_RANK_MAX, &taps, err));
    TRY(hf_u32(j, "state_size|d_state", MODEL_RANK_MAX, &states, err));
    TRY(hf_u32(j, "expand", 64, &expand, err));
    inner = expand * j->n_embd;
    TRY(hf_u32(j, "intermediate_size|d_inner", MODEL_FF_MAX, &inner, err));
    if (json_node_is_set(&rank_node) && str_of(json_node_type(&rank_node)).p[0] != 's')
        TRY(hf_blame(json_node_u32(&rank_node, 1, MODEL_RANK_MAX, &rank, err), err));
    hf_put_u32(j, "ssm.conv_kernel", taps);
    hf_put_u32(j, "ssm.inner_size", inner);
    hf_put_u32(j, "ssm.state_size", states);
    hf_put_u32(j, "ssm.time_step_rank", rank);
    return OK;
}

/* --- encoders ---------------------------------------------------------------------- */
status hf_keys_encoder(hf_job *j, error *err) {
    str positions = S("");
    TRY(hf_str(j, "position_embedding_type", &positions, err));
    const char *want = strcmp(j->class->arch, "jina-bert-v2") == 0 ? "alibi" : "absolute";
    bool rotary = strcmp(j->class->arch, "nomic-bert") == 0;
    if (!rotary && positions.n > 0 && !str_eq_c(positions, want))
        return error_set(err, ERR_UNSUPPORTED,
                         "config.json: position_embedding_type is not %s, which is what %s is "
                         "computed with",
                         want, j->class->name);
    hf_put_bool(j, "attention.causal", false);
    return OK;
}

/* Positions are counted from behind the padding token's id. */
status hf_keys_roberta(hf_job *j, error *err) {
    uint32_t padding = 1;
    TRY(hf_u32(j, "pad_token_id", MODEL_VOCAB_MAX, &padding, err));
    j->first_row = padding + 1;
    if (j->ctx <= j->first_row)
        return error_set(err, ERR_FORMAT,
                         "config.json: max_position_embeddings is %u, with pad_token_id %u at "
                         "least %u",
                         j->ctx, padding, j->first_row + 1);
    j->ctx -= j->first_row;
    return hf_keys_encoder(j, err);
}

status hf_keys_nomic(hf_job *j, error *err) {
    TRY(hf_only_bool(j, "rotary_emb_interleaved", false, false, err));
    TRY(hf_only_bool(j, "prenorm", false, false, err));
    TRY(hf_only_bool(j, "mlp_fc1_bias", false, false, err));
    TRY(only_absent(j, "rotary_emb_scale_base", err));
    uint32_t trained = 2048; /* beyond, its class stretches positions by the length of the text */
    TRY(hf_u32(j, "max_trained_positions", MODEL_CTX_MAX, &trained, err));
    if (trained > 0 && trained < j->ctx) j->ctx = trained;
    return hf_keys_encoder(j, err);
}
