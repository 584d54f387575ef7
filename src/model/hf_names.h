/* hf_names.h - the tables of tensor names in hf_names.c, for hf_class.c.  Each ends with a row
 * whose hf is NULL; a class has one of its own or NULL, and the common one comes behind it. */
#ifndef MODEL_HF_NAMES_H
#define MODEL_HF_NAMES_H

#include "model/hf_internal.h"

extern const hf_name hf_names_common[];
extern const hf_name hf_names_baichuan[];
extern const hf_name hf_names_bert[];
extern const hf_name hf_names_bigcode[];
extern const hf_name hf_names_bloom[];
extern const hf_name hf_names_chatglm[];
extern const hf_name hf_names_codeshell[];
extern const hf_name hf_names_deepseek[];
extern const hf_name hf_names_exaone[];
extern const hf_name hf_names_falcon[];
extern const hf_name hf_names_gemma2[];
extern const hf_name hf_names_glm4[];
extern const hf_name hf_names_gpt2[];
extern const hf_name hf_names_granitemoe[];
extern const hf_name hf_names_hunyuan[];
extern const hf_name hf_names_internlm2[];
extern const hf_name hf_names_mamba[];
extern const hf_name hf_names_mixtral[];
extern const hf_name hf_names_mpt[];
extern const hf_name hf_names_neox[];
extern const hf_name hf_names_nomic[];
extern const hf_name hf_names_olmo2[];
extern const hf_name hf_names_phi3[];
extern const hf_name hf_names_phi[];
extern const hf_name hf_names_post_norm[];
extern const hf_name hf_names_qwen2moe[];
extern const hf_name hf_names_qwen[];
extern const hf_name hf_names_stablelm[];
extern const hf_name hf_names_starcoder2[];

#endif
