/* test_hf_names.c - names of tensors and modules in and out. */
#include "model/hf_internal.h"
#include "model/hf_names.h"
#include "test.h"

static const hf_class *find_class(const char *name) {
    const hf_class *c = hf_class_find(str_of(name));
    CHECK(c != NULL);
    return c;
}

/* "GGUF-NAME SUFFIX" of a tensor, "-" when it has no place. */
static const char *name_of(const char *class_name, const char *tensor) {
    static char out[HF_NAME_BYTES_MAX];
    hf_match m;
    const hf_class *c = find_class(class_name);
    if (c == NULL) return "no class";
    hf_name_match(c, str_of(tensor), &m);
    if (m.row == NULL) return "-";
    if (m.row->gguf == NULL) return "skipped";
    CHECK(hf_name_expand(m.row->gguf, m.layer, m.expert, out, sizeof out));
    size_t n = strlen(out);
    (void)snprintf(out + n, sizeof out - n, " %.*s", STR(m.suffix));
    return out;
}

TEST(hf_names_of_classes_become_those_of_gguf) {
    static const struct {
        const char *class_name, *tensor, *want;
    } cases[] = {
        {"LlamaForCausalLM", "model.embed_tokens.weight", "token_embd weight"},
        {"LlamaForCausalLM", "lm_head.weight", "output weight"},
        {"LlamaForCausalLM", "model.layers.31.self_attn.q_proj.qweight", "blk.31.attn_q qweight"},
        {"LlamaForCausalLM", "model.layers.0.post_attention_layernorm.weight",
         "blk.0.ffn_norm weight"},
        {"LlamaForCausalLM", "model.layers.0.self_attn.rotary_emb.inv_freq", "skipped"},
        {"MixtralForCausalLM", "model.layers.2.block_sparse_moe.experts.7.w2.weight",
         "blk.2.ffn_down_exps weight"},
        {"Qwen2MoeForCausalLM", "model.layers.2.mlp.shared_expert_gate.weight",
         "blk.2.ffn_gate_inp_shexp weight"},
        {"Gemma2ForCausalLM", "model.layers.3.post_attention_layernorm.weight",
         "blk.3.post_attention_norm weight"},
        {"Gemma3ForConditionalGeneration", "language_model.model.layers.3.mlp.up_proj.weight",
         "blk.3.ffn_up weight"},
        {"Gemma3ForConditionalGeneration", "vision_tower.vision_model.post_layernorm.weight",
         "skipped"},
        {"GPT2LMHeadModel", "transformer.h.1.attn.c_attn.bias", "blk.1.attn_qkv bias"},
        {"GPT2LMHeadModel", "h.1.attn.c_attn.bias", "blk.1.attn_qkv bias"},
        {"GPT2LMHeadModel", "h.1.attn.bias", "skipped"},
        {"GPTNeoXForCausalLM", "gpt_neox.layers.5.attention.query_key_value.weight",
         "blk.5.attn_qkv weight"},
        {"GPTNeoXForCausalLM", "embed_out.weight", "output weight"},
        {"FalconForCausalLM", "transformer.h.0.ln_attn.weight", "blk.0.attn_norm_2 weight"},
        {"MambaForCausalLM", "backbone.layers.0.mixer.A_log", "blk.0.ssm_a "},
        {"GptOssForCausalLM", "model.layers.0.mlp.experts.gate_up_proj_blocks",
         "blk.0.ffn_gate_exps blocks"},
        {"GptOssForCausalLM", "model.layers.0.self_attn.sinks", "blk.0.attn_sinks.weight "},
        {"BertModel", "encoder.layer.0.attention.self.query.weight", "blk.0.attn_q weight"},
        {"BertModel", "bert.embeddings.LayerNorm.bias", "token_embd_norm bias"},
        {"NomicBertModel", "encoder.layers.0.mlp.fc12.weight", "blk.0.ffn_gate weight"},
        {"ChatGLMModel", "transformer.encoder.final_layernorm.weight", "output_norm weight"},
        {"QWenLMHeadModel", "transformer.h.3.mlp.w2.weight", "blk.3.ffn_gate weight"},
        {"InternLM2ForCausalLM", "model.layers.1.attention.wqkv.weight", "blk.1.attn_qkv weight"},
        {"Qwen2_5_VLForConditionalGeneration", "visual.blocks.0.attn.qkv.weight", "skipped"},
        {"Qwen3VLForConditionalGeneration", "model.visual.patch_embed.proj.bias", "skipped"},
        {"Qwen3VLForConditionalGeneration", "model.language_model.layers.2.self_attn.q_norm.weight",
         "blk.2.attn_q_norm weight"},
        {"Mistral3ForConditionalGeneration", "language_model.lm_head.weight", "output weight"},
        {"LlavaForConditionalGeneration", "multi_modal_projector.linear_1.bias", "skipped"},
        {"LlamaForCausalLM", "model.layers.0.self_attn.k_scale", "skipped"},
        {"DeepseekV3ForCausalLM", "model.layers.4.mlp.gate.e_score_correction_bias",
         "blk.4.exp_probs_b.bias "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_STR(name_of(cases[i].class_name, cases[i].tensor), cases[i].want);
}

TEST(hf_names_that_are_nearly_right_have_no_place) {
    static const char *const names[] = {
        "model.layers.01.self_attn.q_proj.weight",
        "model.layers..self_attn.q_proj.weight",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj.lora_A.weight",
        "model.layers.123456789.mlp.up_proj.weight",
        "embed_tokens",
        "model.layers.1.self_attn.q_proj.",
        "",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_STR(name_of("LlamaForCausalLM", names[i]), "-");
}

TEST(hf_module_of_a_match_is_what_is_in_front_of_the_suffix) {
    hf_match m;
    str name = S("model.layers.2.block_sparse_moe.experts.7.w2.weight_scale");
    hf_name_match(find_class("MixtralForCausalLM"), name, &m);
    CHECK(str_eq_c(m.module, "model.layers.2.block_sparse_moe.experts.7.w2"));
    CHECK_EQ(m.prefix, strlen("model."));
    CHECK_EQ(m.layer, 2);
    CHECK_EQ(m.expert, 7);
    CHECK(str_eq_c(m.suffix, "weight_scale"));
}

TEST(hf_classes_are_all_named_in_a_message) {
    char names[HF_CLASS_NAMES_BYTES], few[32];
    hf_class_names(names, sizeof names);
    CHECK_HAS(names, "Llama Mistral Mixtral");
    CHECK_HAS(names, "NomicBert JinaBert"); /* the last one */
    CHECK(strlen(names) + MODEL_TEXT_BYTES + strlen("config.json: class '' is not known; known: ") <
          sizeof((error){0}).msg);
    hf_class_names(few, sizeof few);
    CHECK(strlen(few) < sizeof few);
}
