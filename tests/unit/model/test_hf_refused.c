/* test_hf_refused.c - directories with one thing wrong: the message names it. */
#include "model/hf_dir.h"

#include "model/model.h"
#include "store/safetensors_build.h"

/* A model of one layer, one head of 4 and 2 tokens, as F32. */
#define L0 "model.layers.0."

typedef struct refusal {
    const char *config; /* members of config.json */
    const char *tensors;
    const char *words;
} refusal;

#define SIZES                                                                             \
    "\"hidden_size\":4,\"num_hidden_layers\":1,\"num_attention_heads\":1,"                \
    "\"intermediate_size\":4,\"max_position_embeddings\":8,\"tie_word_embeddings\":true," \
    "\"vocab_size\":2"
#define LLAMA "\"architectures\":[\"LlamaForCausalLM\"]," SIZES
#define EMBEDDING \
    "\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[2,4],\"data_offsets\":[0,32]}"

static void check_refused(const refusal *r) {
    st_folder f;
    buf config, header;
    error err = {0};
    model *m = NULL;
    st_folder_make(&f);
    buf_init(&config, 1 << 16);
    buf_init(&header, 1 << 16);
    buf_printf(&config, "{%s}", r->config);
    buf_printf(&header, "{%s}", r->tensors);
    st_folder_put(&f, "config.json", buf_view(&config));
    st_folder_shard(&f, "model.safetensors", buf_view(&header), 32);
    CHECK(model_open(&m, f.path, &err) != OK);
    CHECK_HAS(err.msg, r->words);
    model_close(m);
    buf_deinit(&config);
    buf_deinit(&header);
    st_folder_drop(&f);
}

TEST(hf_dir_with_one_thing_wrong_is_refused_by_name) {
    static const refusal cases[] = {
        {"\"architectures\":[\"NoSuchModel\"]", EMBEDDING, "class 'NoSuchModel' is not known"},
        {"\"model_type\":\"llama\"", EMBEDDING, "architectures names no class"},
        {"\"architectures\":[\"LlamaForCausalLM\"]", EMBEDDING, "hidden_size is required"},
        {LLAMA ",\"hidden_act\":\"tanh\"", EMBEDDING, "activation 'tanh'"},
        {LLAMA ",\"num_key_value_heads\":3", EMBEDDING, "num_key_value_heads 3"},
        {LLAMA ",\"rms_norm_eps\":\"small\"", EMBEDDING, "rms_norm_eps"},
        {LLAMA ",\"rope_scaling\":{\"type\":\"spiral\"}", EMBEDDING, "type 'spiral'"},
        {LLAMA ",\"rope_scaling\":{\"type\":\"linear\"}", EMBEDDING, "factor"},
        {LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", EMBEDDING, "factor is 0"},
        {LLAMA ",\"rope_scaling\":{\"mrope_section\":[1]}", EMBEDDING, "mrope_section"},
        {LLAMA ",\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}", EMBEDDING,
         "quant_method 'bitsandbytes'"},
        {LLAMA ",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":8}", EMBEDDING,
         "gptq with 8 bits"},
        {LLAMA ",\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"gemv\"}",
         EMBEDDING, "version 'gemv'"},
        {LLAMA ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}",
         EMBEDDING, "weight_block_size has 1 numbers"},
        {LLAMA ",\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":"
               "\"float-quantized\",\"config_groups\":{\"group_0\":{\"weights\":{\"num_bits\":8,"
               "\"type\":\"float\",\"strategy\":\"tensor_group\"}}}}",
         EMBEDDING, "strategy 'tensor_group'"},
        {"\"architectures\":[\"InternLM2ForCausalLM\"]," SIZES,
         "\"" L0 "attention.wqkv.weight\":{\"dtype\":\"F32\",\"shape\":[2,4],"
         "\"data_offsets\":[0,32]}",
         "has 2 rows, want 12"},
        {"\"architectures\":[\"RobertaModel\"],\"pad_token_id\":7," SIZES, EMBEDDING,
         "max_position_embeddings is 8, with pad_token_id 7 at least 9"},
        {"\"architectures\":[\"LlavaForConditionalGeneration\"],\"text_config\":{"
         "\"model_type\":\"qwen2\"," SIZES "}",
         EMBEDDING, "model_type is 'qwen2'"},
        {LLAMA, "\"model.what.weight\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}",
         "'model.what.weight' has no place"},
        {LLAMA, "\"" L0 "what\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}",
         "has no place"},
        {LLAMA,
         "\"model.layers.1.mlp.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[2,4],"
         "\"data_offsets\":[0,32]}",
         "layer 1, config.json has 1"},
        {LLAMA,
         "\"model.embed_tokens.weight\":{\"dtype\":\"I16\",\"shape\":[2,8],\"data_offsets\":[0,32]"
         "}",
         "is I16"},
        {LLAMA,
         "\"" L0 "mlp.up_proj.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,8],"
         "\"data_offsets\":[0,32]}",
         "no scales"},
        {LLAMA,
         "\"" L0
         "mlp.up_proj.qweight\":{\"dtype\":\"I32\",\"shape\":[1,8],\"data_offsets\":[0,32]}",
         "config.json does not say"},
        {"\"architectures\":[\"LlamaForCausalLM\"],\"tie_word_embeddings\":false,"
         "\"hidden_size\":4,\"num_hidden_layers\":1,\"num_attention_heads\":1,"
         "\"intermediate_size\":4",
         EMBEDDING, "no lm_head"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_refused(&cases[i]);
}

TEST(hf_dir_is_for_directories) {
    CHECK(hf_dir_is("/tmp"));
    CHECK(!hf_dir_is("/dev/null"));
    CHECK(!hf_dir_is("/no/such/thing"));
}
