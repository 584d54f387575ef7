/* hf_class.c - the classes of transformers that are known, and what each leaves unsaid.
 *
 * Defaults are those of the configuration classes; sizes that decide the shape of every tensor have
 * none, but for the families whose published files leave them out.  "HALVES" is about the GGUF
 * files of an architecture: where those have the rows of a rotary pair next to each other, files of
 * transformers have them half a head apart. */
#include <stdio.h>

#include "model/hf_keys.h"
#include "model/hf_names.h"

#define SILU      "silu swish"
#define GELU_TANH "gelu_pytorch_tanh gelu_new gelu_fast gelu"
#define GELU      "gelu gelu_new gelu_pytorch_tanh gelu_python"

/* clang-format off */
static const hf_class classes[] = {
    {.name = "LlamaForCausalLM", .arch = "llama", .bits = HF_HALVES, .acts = SILU,
     .eps = 1e-6F, .theta = 10000, .ctx = 2048},
    {.name = "MistralForCausalLM", .arch = "llama", .bits = HF_HALVES, .acts = SILU,
     .keys = hf_keys_windowed, .eps = 1e-6F, .theta = 10000, .ctx = 131072, .kv_heads = 8},
    {.name = "MixtralForCausalLM", .arch = "llama", .names = hf_names_mixtral, .bits = HF_HALVES,
     .acts = SILU, .keys = hf_keys_mixtral, .eps = 1e-5F, .theta = 1000000, .ctx = 131072,
     .kv_heads = 8},
    {.name = "Qwen2ForCausalLM", .arch = "qwen2", .acts = SILU, .keys = hf_keys_qwen,
     .eps = 1e-6F, .theta = 10000, .ctx = 32768},
    {.name = "Qwen3ForCausalLM", .arch = "qwen3", .acts = SILU, .keys = hf_keys_qwen,
     .eps = 1e-6F, .theta = 10000, .ctx = 32768, .head_dim = 128},
    {.name = "Qwen2MoeForCausalLM", .arch = "qwen2moe", .names = hf_names_qwen2moe, .acts = SILU,
     .keys = hf_keys_qwen2moe, .eps = 1e-6F, .theta = 10000, .ctx = 32768},
    {.name = "Qwen3MoeForCausalLM", .arch = "qwen3moe", .acts = SILU, .keys = hf_keys_qwen3moe,
     .eps = 1e-6F, .theta = 10000, .ctx = 32768, .head_dim = 128},
    {.name = "GemmaForCausalLM", .arch = "gemma", .bits = HF_TIED | HF_NORMS_MINUS,
     .acts = GELU_TANH, .eps = 1e-6F, .theta = 10000, .ctx = 8192, .head_dim = 256},
    {.name = "Gemma2ForCausalLM", .arch = "gemma2", .names = hf_names_gemma2,
     .bits = HF_TIED | HF_NORMS_MINUS, .acts = GELU_TANH, .keys = hf_keys_gemma2, .eps = 1e-6F,
     .theta = 10000, .ctx = 8192, .head_dim = 256},
    {.name = "Gemma3ForCausalLM", .arch = "gemma3", .names = hf_names_gemma2,
     .bits = HF_TIED | HF_NORMS_MINUS, .acts = GELU_TANH, .keys = hf_keys_gemma3, .eps = 1e-6F,
     .theta = 1000000, .ctx = 131072, .heads = 8, .kv_heads = 4, .head_dim = 256},
    {.name = "Gemma3ForConditionalGeneration", .arch = "gemma3", .names = hf_names_gemma2,
     .bits = HF_TIED | HF_NORMS_MINUS | HF_TEXT_PART, .acts = GELU_TANH, .keys = hf_keys_gemma3,
     .eps = 1e-6F, .theta = 1000000, .ctx = 131072, .heads = 8, .kv_heads = 4, .head_dim = 256},
    {.name = "PhiForCausalLM", .arch = "phi2", .names = hf_names_phi, .bits = HF_LAYER_NORM,
     .acts = GELU_TANH, .keys = hf_keys_phi, .eps = 1e-5F, .theta = 10000, .ctx = 2048,
     .rotary = 0.5F},
    {.name = "Phi3ForCausalLM", .arch = "phi3", .names = hf_names_phi3, .acts = SILU,
     .keys = hf_keys_phi3, .eps = 1e-5F, .theta = 10000, .ctx = 4096},
    {.name = "GraniteForCausalLM", .arch = "granite", .bits = HF_HALVES, .acts = SILU,
     .keys = hf_keys_granite, .eps = 1e-6F, .theta = 10000, .ctx = 2048},
    {.name = "GraniteMoeForCausalLM", .arch = "granitemoe", .names = hf_names_granitemoe,
     .bits = HF_HALVES, .acts = SILU, .keys = hf_keys_granitemoe, .eps = 1e-6F, .theta = 10000,
     .ctx = 2048},
    {.name = "OlmoForCausalLM", .arch = "olmo", .bits = HF_HALVES | HF_LAYER_NORM, .acts = SILU,
     .keys = hf_keys_olmo, .eps = 1e-5F, .theta = 10000, .ctx = 2048},
    {.name = "Olmo2ForCausalLM", .arch = "olmo2", .names = hf_names_olmo2, .acts = SILU,
     .eps = 1e-5F, .theta = 10000, .ctx = 2048},
    {.name = "Olmo3ForCausalLM", .arch = "olmo2", .names = hf_names_olmo2, .acts = SILU,
     .keys = hf_keys_olmo3, .eps = 1e-5F, .theta = 500000, .ctx = 65536},
    {.name = "OlmoeForCausalLM", .arch = "olmoe", .acts = SILU, .keys = hf_keys_olmoe,
     .eps = 1e-5F, .theta = 10000, .ctx = 4096},
    {.name = "CohereForCausalLM", .arch = "command-r", .bits = HF_LAYER_NORM | HF_TIED,
     .acts = SILU, .keys = hf_keys_cohere, .eps = 1e-5F, .theta = 10000, .ctx = 8192},
    {.name = "Cohere2ForCausalLM", .arch = "cohere2", .bits = HF_LAYER_NORM | HF_TIED,
     .acts = SILU, .keys = hf_keys_cohere2, .eps = 1e-5F, .theta = 10000, .ctx = 8192},
    {.name = "StableLmForCausalLM", .arch = "stablelm", .names = hf_names_stablelm,
     .bits = HF_LAYER_NORM, .acts = SILU, .keys = hf_keys_stablelm, .eps = 1e-5F, .theta = 10000,
     .ctx = 4096, .rotary = 0.25F},
    {.name = "StableLMEpochForCausalLM", .arch = "stablelm", .names = hf_names_stablelm,
     .bits = HF_LAYER_NORM, .acts = SILU, .keys = hf_keys_stablelm, .eps = 1e-5F, .theta = 10000,
     .ctx = 4096, .rotary = 0.25F},
    {.name = "Starcoder2ForCausalLM", .arch = "starcoder2", .names = hf_names_starcoder2,
     .bits = HF_LAYER_NORM | HF_TIED, .acts = GELU_TANH, .keys = hf_keys_windowed, .eps = 1e-5F,
     .theta = 10000, .ctx = 4096, .kv_heads = 2},
    {.name = "GPTBigCodeForCausalLM", .arch = "starcoder", .names = hf_names_bigcode,
     .bits = HF_LAYER_NORM | HF_TIED | HF_NO_ROPE, .acts = GELU_TANH, .keys = hf_keys_bigcode,
     .eps = 1e-5F, .ctx = 1024, .n_ff = HF_FF_TIMES_4},
    {.name = "GPT2LMHeadModel", .arch = "gpt2", .names = hf_names_gpt2,
     .bits = HF_LAYER_NORM | HF_TIED | HF_NO_ROPE,
     .acts = "gelu_new gelu_pytorch_tanh gelu_fast gelu",
     .keys = hf_keys_gpt2, .eps = 1e-5F, .ctx = 1024, .n_ff = HF_FF_TIMES_4},
    {.name = "GPTNeoXForCausalLM", .arch = "gptneox", .names = hf_names_neox,
     .bits = HF_LAYER_NORM, .acts = GELU, .keys = hf_keys_neox, .eps = 1e-5F, .theta = 10000,
     .ctx = 2048, .rotary = 0.25F},
    {.name = "FalconForCausalLM", .arch = "falcon", .names = hf_names_falcon,
     .bits = HF_LAYER_NORM | HF_TIED, .acts = GELU, .keys = hf_keys_falcon, .eps = 1e-5F,
     .theta = 10000, .ctx = 2048, .n_ff = HF_FF_TIMES_4},
    {.name = "RWForCausalLM", .arch = "falcon", .names = hf_names_falcon,
     .bits = HF_LAYER_NORM | HF_TIED, .acts = GELU, .keys = hf_keys_falcon, .eps = 1e-5F,
     .theta = 10000, .ctx = 2048, .n_ff = HF_FF_TIMES_4},
    {.name = "MPTForCausalLM", .arch = "mpt", .names = hf_names_mpt,
     .bits = HF_LAYER_NORM | HF_TIED | HF_NO_ROPE, .acts = GELU, .keys = hf_keys_mpt,
     .eps = 1e-5F, .ctx = 2048, .n_ff = HF_FF_TIMES_4},
    {.name = "MptForCausalLM", .arch = "mpt", .names = hf_names_mpt,
     .bits = HF_LAYER_NORM | HF_TIED | HF_NO_ROPE, .acts = GELU, .keys = hf_keys_mpt,
     .eps = 1e-5F, .ctx = 2048, .n_ff = HF_FF_TIMES_4},
    {.name = "NemotronForCausalLM", .arch = "nemotron", .bits = HF_LAYER_NORM | HF_NORMS_MINUS,
     .acts = "relu2", .eps = 1e-5F, .theta = 10000, .ctx = 4096, .rotary = 0.5F},
    {.name = "MiniCPMForCausalLM", .arch = "minicpm", .bits = HF_HALVES | HF_TIED, .acts = SILU,
     .keys = hf_keys_minicpm, .eps = 1e-6F, .theta = 10000, .ctx = 2048},
    {.name = "SmolLM3ForCausalLM", .arch = "smollm3", .bits = HF_HALVES | HF_TIED, .acts = SILU,
     .keys = hf_keys_smollm3, .eps = 1e-6F, .theta = 2000000, .ctx = 32768, .kv_heads = 4},
    {.name = "SeedOssForCausalLM", .arch = "seed_oss", .names = hf_names_post_norm, .acts = SILU,
     .eps = 1e-6F, .theta = 10000, .ctx = 524288, .head_dim = 128},
    {.name = "Glm4ForCausalLM", .arch = "glm4", .names = hf_names_glm4, .acts = SILU,
     .eps = 1.5625e-7F, .theta = 10000, .ctx = 131072, .rotary = 0.5F},
    {.name = "Glm4MoeForCausalLM", .arch = "glm4moe", .names = hf_names_post_norm, .acts = SILU,
     .keys = hf_keys_glm4moe, .eps = 1e-5F, .theta = 10000, .ctx = 131072, .kv_heads = 8,
     .rotary = 0.5F},
    {.name = "DeepseekForCausalLM", .arch = "deepseek", .names = hf_names_deepseek,
     .bits = HF_HALVES, .acts = SILU, .keys = hf_keys_deepseek, .eps = 1e-6F, .theta = 10000,
     .ctx = 2048},
    {.name = "DeepseekV2ForCausalLM", .arch = "deepseek2", .names = hf_names_deepseek,
     .acts = SILU, .keys = hf_keys_deepseek2, .eps = 1e-6F, .theta = 10000, .ctx = 2048},
    {.name = "DeepseekV3ForCausalLM", .arch = "deepseek2", .names = hf_names_deepseek,
     .acts = SILU, .keys = hf_keys_deepseek2, .eps = 1e-6F, .theta = 10000, .ctx = 4096},
    {.name = "GptOssForCausalLM", .arch = "gpt-oss", .names = hf_names_post_norm, .acts = SILU,
     .keys = hf_keys_gpt_oss, .eps = 1e-5F, .theta = 150000, .ctx = 131072, .kv_heads = 8,
     .head_dim = 64},
    {.name = "InternLM2ForCausalLM", .arch = "internlm2", .names = hf_names_internlm2,
     .bits = HF_HALVES, .acts = SILU, .eps = 1e-6F, .theta = 10000, .ctx = 2048},
    {.name = "InternLM3ForCausalLM", .arch = "llama", .bits = HF_HALVES, .acts = SILU,
     .eps = 1e-6F, .theta = 10000, .ctx = 32768},
    {.name = "BaichuanForCausalLM", .arch = "baichuan", .names = hf_names_baichuan,
     .bits = HF_HALVES, .acts = SILU, .keys = hf_keys_baichuan, .eps = 1e-6F, .theta = 10000,
     .ctx = 4096},
    {.name = "BaiChuanForCausalLM", .arch = "baichuan", .names = hf_names_baichuan,
     .bits = HF_HALVES, .acts = SILU, .keys = hf_keys_baichuan, .eps = 1e-6F, .theta = 10000,
     .ctx = 4096},
    {.name = "QWenLMHeadModel", .arch = "qwen", .names = hf_names_qwen, .acts = SILU,
     .keys = hf_keys_qwen1, .eps = 1e-6F, .theta = 10000, .ctx = 8192},
    {.name = "ExaoneForCausalLM", .arch = "exaone", .names = hf_names_exaone, .bits = HF_TIED,
     .acts = SILU, .eps = 1e-5F, .theta = 10000, .ctx = 2048},
    {.name = "BloomForCausalLM", .arch = "bloom", .names = hf_names_bloom,
     .bits = HF_LAYER_NORM | HF_TIED | HF_NO_ROPE, .acts = GELU_TANH, .keys = hf_keys_bloom,
     .eps = 1e-5F, .ctx = 2048, .n_ff = HF_FF_TIMES_4},
    {.name = "OrionForCausalLM", .arch = "orion", .bits = HF_LAYER_NORM, .acts = SILU,
     .eps = 1e-5F, .theta = 10000, .ctx = 4096},
    {.name = "XverseForCausalLM", .arch = "xverse", .bits = HF_HALVES, .acts = SILU,
     .eps = 1e-6F, .theta = 10000, .ctx = 2048},
    {.name = "CodeShellForCausalLM", .arch = "codeshell", .names = hf_names_codeshell,
     .bits = HF_LAYER_NORM, .acts = GELU_TANH, .eps = 1e-5F, .theta = 10000, .ctx = 8192,
     .n_ff = HF_FF_TIMES_4},
    {.name = "ChatGLMModel", .arch = "chatglm", .names = hf_names_chatglm, .acts = SILU,
     .keys = hf_keys_chatglm, .eps = 1e-5F, .theta = 10000, .ctx = 2048, .rotary = 0.5F},
    {.name = "ChatGLMForConditionalGeneration", .arch = "chatglm", .names = hf_names_chatglm,
     .acts = SILU, .keys = hf_keys_chatglm, .eps = 1e-5F, .theta = 10000, .ctx = 2048,
     .rotary = 0.5F},
    {.name = "GlmForCausalLM", .arch = "chatglm", .names = hf_names_phi3, .acts = SILU,
     .eps = 1.5625e-7F, .theta = 10000, .ctx = 131072, .kv_heads = 2, .head_dim = 128,
     .rotary = 0.5F},
    {.name = "ArceeForCausalLM", .arch = "arcee", .bits = HF_HALVES, .acts = "relu2",
     .eps = 1e-5F, .theta = 10000, .ctx = 4096},
    {.name = "Ernie4_5ForCausalLM", .arch = "ernie4_5", .bits = HF_TIED, .acts = SILU,
     .eps = 1e-5F, .theta = 500000, .ctx = 131072, .kv_heads = 2, .head_dim = 128},
    {.name = "Ernie4_5_ForCausalLM", .arch = "ernie4_5", .bits = HF_TIED, .acts = SILU,
     .eps = 1e-5F, .theta = 500000, .ctx = 131072, .kv_heads = 2, .head_dim = 128},
    {.name = "HunYuanDenseV1ForCausalLM", .arch = "hunyuan-dense", .names = hf_names_hunyuan,
     .acts = SILU, .eps = 1e-5F, .theta = 10000, .ctx = 2048},
    {.name = "Ministral3ForCausalLM", .arch = "mistral3", .bits = HF_HALVES, .acts = SILU,
     .keys = hf_keys_mistral3, .eps = 1e-5F, .theta = 1000000, .ctx = 262144, .kv_heads = 8,
     .head_dim = 128},
    {.name = "Mistral3ForConditionalGeneration", .arch = "mistral3",
     .bits = HF_HALVES | HF_TEXT_PART, .acts = SILU, .keys = hf_keys_mistral3, .eps = 1e-6F,
     .theta = 10000, .ctx = 131072, .kv_heads = 8},
    {.name = "LlavaForConditionalGeneration", .arch = "llama", .bits = HF_HALVES | HF_TEXT_PART,
     .acts = SILU, .keys = hf_keys_llava, .eps = 1e-6F, .theta = 10000, .ctx = 4096},
    {.name = "Qwen2VLForConditionalGeneration", .arch = "qwen2", .bits = HF_TEXT_PART | HF_SPACE,
     .acts = SILU, .keys = hf_keys_qwen, .eps = 1e-5F, .theta = 1000000, .ctx = 32768},
    {.name = "Qwen2_5_VLForConditionalGeneration", .arch = "qwen2",
     .bits = HF_TEXT_PART | HF_SPACE, .acts = SILU, .keys = hf_keys_qwen, .eps = 1e-5F,
     .theta = 1000000, .ctx = 32768},
    {.name = "Qwen3VLForConditionalGeneration", .arch = "qwen3", .bits = HF_TEXT_PART | HF_SPACE,
     .acts = SILU, .keys = hf_keys_qwen, .eps = 1e-6F, .theta = 5000000, .ctx = 128000,
     .head_dim = 128},
    {.name = "MambaForCausalLM", .arch = "mamba", .names = hf_names_mamba,
     .bits = HF_TIED | HF_NO_ROPE | HF_NO_ATTENTION, .acts = SILU, .keys = hf_keys_mamba,
     .eps = 1e-5F, .ctx = 1048576},
    {.name = "BertModel", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_encoder,
     .eps = 1e-12F, .ctx = 512},
    {.name = "BertForMaskedLM", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_encoder,
     .eps = 1e-12F, .ctx = 512},
    {.name = "RobertaModel", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_roberta,
     .eps = 1e-12F, .ctx = 512},
    {.name = "RobertaForSequenceClassification", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_roberta,
     .eps = 1e-12F, .ctx = 512},
    {.name = "CamembertModel", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_roberta,
     .eps = 1e-12F, .ctx = 512},
    {.name = "XLMRobertaModel", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_roberta,
     .eps = 1e-12F, .ctx = 512},
    {.name = "XLMRobertaForSequenceClassification", .arch = "bert", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_roberta,
     .eps = 1e-12F, .ctx = 512},
    {.name = "NomicBertModel", .arch = "nomic-bert", .names = hf_names_nomic,
     .bits = HF_LAYER_NORM | HF_ENCODER, .acts = "swiglu", .keys = hf_keys_nomic, .eps = 1e-12F,
     .theta = 10000, .ctx = 2048},
    {.name = "JinaBertModel", .arch = "jina-bert-v2", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_encoder,
     .eps = 1e-12F, .ctx = 8192},
    {.name = "JinaBertForMaskedLM", .arch = "jina-bert-v2", .names = hf_names_bert,
     .bits = HF_LAYER_NORM | HF_NO_ROPE | HF_ENCODER, .acts = GELU, .keys = hf_keys_encoder,
     .eps = 1e-12F, .ctx = 8192},
};
/* clang-format on */

enum { CLASSES = sizeof classes / sizeof *classes };

const hf_class *hf_class_find(str name) {
    for (size_t i = 0; i < CLASSES; i++)
        if (str_eq_c(name, classes[i].name)) return &classes[i];
    return NULL;
}

const hf_class *hf_class_of_arch(str arch) {
    for (size_t i = 0; i < CLASSES; i++)
        if (str_eq_c(arch, classes[i].arch)) return &classes[i];
    return NULL;
}

/* A message has less room than there are classes: the ends that most have are left out. */
static str short_name(const hf_class *c) {
    static const char *const ends[] = {"ForCausalLM", "ForConditionalGeneration",  "LMHeadModel",
                                       "ForMaskedLM", "ForSequenceClassification", "Model"};
    str name = str_of(c->name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (str_ends(name, str_of(ends[i]))) return (str){name.p, name.n - strlen(ends[i])};
    return name;
}

void hf_class_names(char *out, size_t out_bytes) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < CLASSES; i++) {
        str name = short_name(&classes[i]);
        if (i > 0 && str_eq(name, short_name(&classes[i - 1]))) continue;
        int more = snprintf(out + n, out_bytes - n, "%s%.*s", n > 0 ? " " : "", STR(name));
        if (more < 0 || (size_t)more >= out_bytes - n) break;
        n += (size_t)more;
    }
}
