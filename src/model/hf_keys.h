/* hf_keys.h - the functions of hf_keys.c, for the table in hf_class.c. */
#ifndef MODEL_HF_KEYS_H
#define MODEL_HF_KEYS_H

#include "model/hf_internal.h"

/* X(family) */
/* clang-format off */
#define HF_KEY_FAMILIES(X) \
    X(windowed) X(mixtral) X(qwen) X(qwen2moe) X(qwen3moe) X(granite) X(granitemoe) \
    X(minicpm) X(phi3) \
    X(smollm3) X(olmo) X(olmoe) X(gemma2) X(gemma3) X(phi) X(cohere) X(cohere2) \
    X(stablelm) X(neox) X(falcon) X(gpt2) X(bigcode) X(mpt) X(deepseek) X(deepseek2) \
    X(glm4moe) X(gpt_oss) X(mamba) X(encoder) X(nomic) X(qwen1) X(baichuan) X(chatglm) \
    X(llava) X(mistral3) X(olmo3) X(bloom) X(roberta)
/* clang-format on */

#define HF_KEY_FAMILY(name) NODISCARD status hf_keys_##name(hf_job *j, error *err);
HF_KEY_FAMILIES(HF_KEY_FAMILY)
#undef HF_KEY_FAMILY

#endif
