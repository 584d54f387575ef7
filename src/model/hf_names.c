/* hf_names.c - what tensors are called in Hugging Face's classes, and what in GGUF.
 *
 * A class has a table of its own, and most share the common one behind it.  Prefixes that say only
 * which part of a class a module is in ("model.", "transformer.") are no part of the patterns:
 * hf_match.c.
 * Sources: the modeling files of transformers for the names at the left, the tables of tensor names
 * in the gguf package for those at the right. */
#include "model/hf_names.h"

#define L "layers.#."
#define B "blk.#."

const hf_name hf_names_common[] = {
    {"embed_tokens", "token_embd", 0},
    {"norm", "output_norm", HF_PLUS_ONE},
    {"lm_head", "output", 0},
    {L "input_layernorm", B "attn_norm", HF_PLUS_ONE},
    {L "self_attn.q_proj", B "attn_q", HF_QUERY_ROWS},
    {L "self_attn.k_proj", B "attn_k", HF_KEY_ROWS},
    {L "self_attn.v_proj", B "attn_v", 0},
    {L "self_attn.o_proj", B "attn_output", 0},
    {L "self_attn.q_norm", B "attn_q_norm", HF_PLUS_ONE | HF_VECTOR},
    {L "self_attn.k_norm", B "attn_k_norm", HF_PLUS_ONE | HF_VECTOR},
    {L "post_attention_layernorm", B "ffn_norm", HF_PLUS_ONE},
    {L "mlp.gate_proj", B "ffn_gate", 0},
    {L "mlp.up_proj", B "ffn_up", 0},
    {L "mlp.down_proj", B "ffn_down", 0},
    {L "mlp.gate", B "ffn_gate_inp", 0},
    {L "mlp.experts.@.gate_proj", B "ffn_gate_exps", 0},
    {L "mlp.experts.@.up_proj", B "ffn_up_exps", 0},
    {L "mlp.experts.@.down_proj", B "ffn_down_exps", 0},
    {L "self_attn.rotary_emb", NULL, HF_SKIPPED},
    {L "self_attn.k_scale", NULL, HF_WHOLE | HF_SKIPPED}, /* of a cache in FP8 */
    {L "self_attn.v_scale", NULL, HF_WHOLE | HF_SKIPPED},
    {"rotary_emb", NULL, HF_SKIPPED},
    {"vision_tower", NULL, HF_SKIPPED},
    {"vision_model", NULL, HF_SKIPPED},
    {"visual", NULL, HF_SKIPPED},
    {"multi_modal_projector", NULL, HF_SKIPPED},
    {NULL, NULL, 0},
};

#define SHARED_EXPERT(name)                                \
    {L "mlp." name ".gate_proj", B "ffn_gate_shexp", 0},   \
        {L "mlp." name ".up_proj", B "ffn_up_shexp", 0}, { \
        L "mlp." name ".down_proj", B "ffn_down_shexp", 0  \
    }

const hf_name hf_names_mixtral[] = {
    {L "block_sparse_moe.gate", B "ffn_gate_inp", 0},
    {L "block_sparse_moe.experts.@.w1", B "ffn_gate_exps", 0},
    {L "block_sparse_moe.experts.@.w2", B "ffn_down_exps", 0},
    {L "block_sparse_moe.experts.@.w3", B "ffn_up_exps", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_qwen2moe[] = {
    SHARED_EXPERT("shared_expert"),
    {L "mlp.shared_expert_gate", B "ffn_gate_inp_shexp", HF_VECTOR},
    {NULL, NULL, 0},
};

/* Norms before and behind each block. */
const hf_name hf_names_gemma2[] = {
    {L "post_attention_layernorm", B "post_attention_norm", HF_PLUS_ONE},
    {L "pre_feedforward_layernorm", B "ffn_norm", HF_PLUS_ONE},
    {L "post_feedforward_layernorm", B "post_ffw_norm", HF_PLUS_ONE},
    {NULL, NULL, 0},
};

const hf_name hf_names_olmo2[] = {
    {L "post_attention_layernorm", B "post_attention_norm", 0},
    {L "post_feedforward_layernorm", B "post_ffw_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_glm4[] = {
    {L "post_self_attn_layernorm", B "post_attention_norm", 0},
    {L "post_mlp_layernorm", B "post_ffw_norm", 0},
    {L "mlp.gate_up_proj", B "ffn_up", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_deepseek[] = {
    SHARED_EXPERT("shared_experts"),
    {L "mlp.gate.e_score_correction_bias", B "exp_probs_b.bias", HF_WHOLE},
    {L "self_attn.q_a_proj", B "attn_q_a", 0},
    {L "self_attn.q_b_proj", B "attn_q_b", 0},
    {L "self_attn.q_a_layernorm", B "attn_q_a_norm", 0},
    {L "self_attn.kv_a_proj_with_mqa", B "attn_kv_a_mqa", 0},
    {L "self_attn.kv_a_layernorm", B "attn_kv_a_norm", 0},
    {L "self_attn.kv_b_proj", B "attn_kv_b", 0},
    {NULL, NULL, 0},
};

/* The norm in front of the feed-forward block is called after where it stands. */
const hf_name hf_names_post_norm[] = {
    {L "post_attention_layernorm", B "post_attention_norm", 0},
    SHARED_EXPERT("shared_experts"),
    {L "mlp.gate.e_score_correction_bias", B "exp_probs_b.bias", HF_WHOLE},
    {L "self_attn.sinks", B "attn_sinks.weight", HF_WHOLE},
    {L "mlp.router", B "ffn_gate_inp", 0},
    {L "mlp.experts.gate_up_proj", B "ffn_gate_exps", HF_MXFP4 | HF_GATE_UP},
    {L "mlp.experts.down_proj", B "ffn_down_exps", HF_MXFP4},
    {NULL, NULL, 0},
};

const hf_name hf_names_phi3[] = {
    {L "self_attn.qkv_proj", B "attn_qkv", 0},
    {L "mlp.gate_up_proj", B "ffn_up", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_phi[] = {
    {L "self_attn.dense", B "attn_output", 0},
    {L "mlp.fc1", B "ffn_up", 0},
    {L "mlp.fc2", B "ffn_down", 0},
    {"final_layernorm", "output_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_granitemoe[] = {
    {L "block_sparse_moe.router.layer", B "ffn_gate_inp", 0},
    {L "block_sparse_moe.input_linear", B "ffn_gate_exps", HF_STACKED | HF_GATE_UP},
    {L "block_sparse_moe.output_linear", B "ffn_down_exps", HF_STACKED},
    {NULL, NULL, 0},
};

const hf_name hf_names_stablelm[] = {
    {L "self_attn.q_layernorm.norms.@", B "attn_q_norm", HF_PER_HEAD},
    {L "self_attn.k_layernorm.norms.@", B "attn_k_norm", HF_PER_HEAD},
    {NULL, NULL, 0},
};

const hf_name hf_names_starcoder2[] = {
    {L "mlp.c_fc", B "ffn_up", 0},
    {L "mlp.c_proj", B "ffn_down", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_gpt2[] = {
    {"wte", "token_embd", 0},
    {"wpe", "position_embd", 0},
    {"h.#.ln_1", B "attn_norm", 0},
    {"h.#.attn.bias", NULL, HF_WHOLE | HF_SKIPPED},
    {"h.#.attn.masked_bias", NULL, HF_WHOLE | HF_SKIPPED},
    {"h.#.attn.c_attn", B "attn_qkv", HF_TRANSPOSED},
    {"h.#.attn.c_proj", B "attn_output", HF_TRANSPOSED},
    {"h.#.ln_2", B "ffn_norm", 0},
    {"h.#.mlp.c_fc", B "ffn_up", HF_TRANSPOSED},
    {"h.#.mlp.c_proj", B "ffn_down", HF_TRANSPOSED},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

/* GPT-BigCode: the names of GPT-2 with ordinary matrices. */
const hf_name hf_names_bigcode[] = {
    {"wte", "token_embd", 0},
    {"wpe", "position_embd", 0},
    {"h.#.ln_1", B "attn_norm", 0},
    {"h.#.attn.bias", NULL, HF_WHOLE | HF_SKIPPED},
    {"h.#.attn.masked_bias", NULL, HF_WHOLE | HF_SKIPPED},
    {"h.#.attn.c_attn", B "attn_qkv", HF_QKV_BY_HEAD}, /* but for a single key head */
    {"h.#.attn.c_proj", B "attn_output", 0},
    {"h.#.ln_2", B "ffn_norm", 0},
    {"h.#.mlp.c_fc", B "ffn_up", 0},
    {"h.#.mlp.c_proj", B "ffn_down", 0},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_neox[] = {
    {"embed_in", "token_embd", 0},
    {"embed_out", "output", 0},
    {"final_layer_norm", "output_norm", 0},
    {L "attention.query_key_value", B "attn_qkv", HF_QKV_BY_HEAD},
    {L "attention.dense", B "attn_output", 0},
    {L "attention.bias", NULL, HF_WHOLE | HF_SKIPPED},
    {L "attention.masked_bias", NULL, HF_WHOLE | HF_SKIPPED},
    {L "attention.rotary_emb", NULL, HF_SKIPPED},
    {L "mlp.dense_h_to_4h", B "ffn_up", 0},
    {L "mlp.dense_4h_to_h", B "ffn_down", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_falcon[] = {
    {"word_embeddings", "token_embd", 0},
    {"h.#.input_layernorm", B "attn_norm", 0},
    {"h.#.ln_mlp", B "attn_norm", 0},
    {"h.#.ln_attn", B "attn_norm_2", 0},
    {"h.#.self_attention.query_key_value", B "attn_qkv", HF_QKV_BY_HEAD},
    {"h.#.self_attention.dense", B "attn_output", 0},
    {"h.#.self_attention.rotary_emb", NULL, HF_SKIPPED},
    {"h.#.mlp.dense_h_to_4h", B "ffn_up", 0},
    {"h.#.mlp.dense_4h_to_h", B "ffn_down", 0},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_mpt[] = {
    {"wte", "token_embd", 0},
    {"blocks.#.norm_1", B "attn_norm", 0},
    {"blocks.#.attn.Wqkv", B "attn_qkv", 0},
    {"blocks.#.attn.out_proj", B "attn_output", 0},
    {"blocks.#.attn.q_ln", B "attn_q_norm", 0},
    {"blocks.#.attn.k_ln", B "attn_k_norm", 0},
    {"blocks.#.norm_2", B "ffn_norm", 0},
    {"blocks.#.ffn.up_proj", B "ffn_up", 0},
    {"blocks.#.ffn.down_proj", B "ffn_down", 0},
    {"norm_f", "output_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_internlm2[] = {
    {"tok_embeddings", "token_embd", 0},
    {"output", "output", 0},
    {L "attention_norm", B "attn_norm", 0},
    {L "attention.wqkv", B "attn_qkv", HF_QKV_BY_HEAD | HF_QKV_APART},
    {L "attention.wo", B "attn_output", 0},
    {L "ffn_norm", B "ffn_norm", 0},
    {L "feed_forward.w1", B "ffn_gate", 0},
    {L "feed_forward.w2", B "ffn_down", 0},
    {L "feed_forward.w3", B "ffn_up", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_baichuan[] = {
    {L "self_attn.W_pack", B "attn_qkv", HF_QKV_APART},
    {"lm_head", "output", HF_UNIT_ROWS},
    {NULL, NULL, 0},
};

const hf_name hf_names_hunyuan[] = {
    {L "self_attn.query_layernorm", B "attn_q_norm", 0},
    {L "self_attn.key_layernorm", B "attn_k_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_exaone[] = {
    {"wte", "token_embd", 0},
    {"h.#.ln_1", B "attn_norm", 0},
    {"h.#.attn.attention.q_proj", B "attn_q", 0},
    {"h.#.attn.attention.k_proj", B "attn_k", 0},
    {"h.#.attn.attention.v_proj", B "attn_v", 0},
    {"h.#.attn.attention.out_proj", B "attn_output", 0},
    {"h.#.attn.attention.rotary", NULL, HF_SKIPPED},
    {"rotary", NULL, HF_SKIPPED},
    {"h.#.ln_2", B "ffn_norm", 0},
    {"h.#.mlp.c_fc_0", B "ffn_gate", 0},
    {"h.#.mlp.c_fc_1", B "ffn_up", 0},
    {"h.#.mlp.c_proj", B "ffn_down", 0},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_bloom[] = {
    {"word_embeddings", "token_embd", 0},
    {"word_embeddings_layernorm", "token_embd_norm", 0},
    {"h.#.input_layernorm", B "attn_norm", 0},
    {"h.#.self_attention.query_key_value", B "attn_qkv", HF_QKV_BY_HEAD},
    {"h.#.self_attention.dense", B "attn_output", 0},
    {"h.#.post_attention_layernorm", B "ffn_norm", 0},
    {"h.#.mlp.dense_h_to_4h", B "ffn_up", 0},
    {"h.#.mlp.dense_4h_to_h", B "ffn_down", 0},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

/* The first Qwen: w2 goes through the activation. */
const hf_name hf_names_qwen[] = {
    {"wte", "token_embd", 0},
    {"h.#.ln_1", B "attn_norm", 0},
    {"h.#.attn.c_attn", B "attn_qkv", 0},
    {"h.#.attn.c_proj", B "attn_output", 0},
    {"h.#.attn.rotary_emb", NULL, HF_SKIPPED},
    {"rotary_emb", NULL, HF_SKIPPED},
    {"h.#.ln_2", B "ffn_norm", 0},
    {"h.#.mlp.w1", B "ffn_up", 0},
    {"h.#.mlp.w2", B "ffn_gate", 0},
    {"h.#.mlp.c_proj", B "ffn_down", 0},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

const hf_name hf_names_codeshell[] = {
    {"wte", "token_embd", 0},
    {"h.#.ln_1", B "attn_norm", 0},
    {"h.#.attn.c_attn", B "attn_qkv", 0},
    {"h.#.attn.c_proj", B "attn_output", 0},
    {"h.#.attn.rotary_emb", NULL, HF_SKIPPED},
    {"h.#.ln_2", B "ffn_norm", 0},
    {"h.#.mlp.c_fc", B "ffn_up", 0},
    {"h.#.mlp.c_proj", B "ffn_down", 0},
    {"ln_f", "output_norm", 0},
    {NULL, NULL, 0},
};

#define E "encoder.layers.#."
const hf_name hf_names_chatglm[] = {
    {"embedding.word_embeddings", "token_embd", 0},
    {"output_layer", "output", 0},
    {"encoder.final_layernorm", "output_norm", 0},
    {"rotary_pos_emb", NULL, HF_SKIPPED},
    {E "input_layernorm", B "attn_norm", 0},
    {E "self_attention.query_key_value", B "attn_qkv", 0},
    {E "self_attention.dense", B "attn_output", 0},
    {E "post_attention_layernorm", B "ffn_norm", 0},
    {E "mlp.dense_h_to_4h", B "ffn_up", 0},
    {E "mlp.dense_4h_to_h", B "ffn_down", 0},
    {NULL, NULL, 0},
};
#undef E

const hf_name hf_names_mamba[] = {
    {"embeddings", "token_embd", 0},
    {"embedding", "token_embd", 0},
    {"norm_f", "output_norm", 0},
    {L "norm", B "attn_norm", 0},
    {L "mixer.in_proj", B "ssm_in", 0},
    {L "mixer.conv1d", B "ssm_conv1d", HF_VECTOR},
    {L "mixer.x_proj", B "ssm_x", 0},
    {L "mixer.dt_proj", B "ssm_dt", 0},
    {L "mixer.A_log", B "ssm_a", HF_WHOLE | HF_VECTOR | HF_NEG_EXP},
    {L "mixer.D", B "ssm_d", HF_WHOLE},
    {L "mixer.out_proj", B "ssm_out", 0},
    {NULL, NULL, 0},
};

#define E "encoder.layer.#."
const hf_name hf_names_bert[] = {
    {"embeddings.word_embeddings", "token_embd", 0},
    {"embeddings.position_embeddings", "position_embd", HF_FROM_ROW},
    {"embeddings.token_type_embeddings", "token_types", 0},
    {"embeddings.LayerNorm", "token_embd_norm", 0},
    {"embeddings.position_ids", NULL, HF_WHOLE | HF_SKIPPED},
    {E "attention.self.query", B "attn_q", 0},
    {E "attention.self.key", B "attn_k", 0},
    {E "attention.self.value", B "attn_v", 0},
    {E "attention.self.layer_norm_q", B "attn_q_norm", 0},
    {E "attention.self.layer_norm_k", B "attn_k_norm", 0},
    {E "attention.output.dense", B "attn_output", 0},
    {E "attention.output.LayerNorm", B "attn_output_norm", 0},
    {E "layer_norm_1", B "attn_norm_2", 0},
    {E "intermediate.dense", B "ffn_up", 0},
    {E "output.dense", B "ffn_down", 0},
    {E "output.LayerNorm", B "layer_output_norm", 0},
    {E "layer_norm_2", B "layer_output_norm", 0},
    {E "mlp.gated_layers", B "ffn_up", 0},
    {E "mlp.up_gated_layer", B "ffn_up", HF_UP_GATE},
    {E "mlp.down_layer", B "ffn_down", 0},
    {E "mlp.wo", B "ffn_down", 0},
    {E "mlp.layernorm", B "layer_output_norm", 0},
    {"pooler.dense", NULL, HF_SKIPPED},
    {"classifier.dense", "cls", 0},
    {"classifier.out_proj", "cls.output", 0},
    {"cls.predictions", NULL, HF_SKIPPED},
    {"cls.seq_relationship", NULL, HF_SKIPPED},
    {NULL, NULL, 0},
};
#undef E

#define E "encoder.layers.#."
const hf_name hf_names_nomic[] = {
    {"embeddings.word_embeddings", "token_embd", 0},
    {"embeddings.token_type_embeddings", "token_types", 0},
    {"emb_ln", "token_embd_norm", 0},
    {E "attn.Wqkv", B "attn_qkv", 0},
    {E "attn.out_proj", B "attn_output", 0},
    {E "norm1", B "attn_output_norm", 0},
    {E "mlp.fc11", B "ffn_up", 0},
    {E "mlp.fc12", B "ffn_gate", 0},
    {E "mlp.fc2", B "ffn_down", 0},
    {E "norm2", B "layer_output_norm", 0},
    {NULL, NULL, 0},
};
#undef E
