"""hf_inverse.py - an F32 GGUF file taken apart into the Hugging Face directory it could come from.

The tables are written from the modeling files of transformers, not from those of the program under
test.  Norms get one subtracted, rows of rotary pairs go half a head apart, Conv1D matrices are
transposed, where the class stores them so.
"""
import array
import json
import math
import os
import re
import struct

LAYER = "model.layers.#."
HEAD = "transformer.h.#."
MPT = "transformer.blocks.#."
MIXER = "backbone.layers.#.mixer."
ATTENTION = LAYER + "self_attn."
MLP = LAYER + "mlp."

COMMON = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": LAYER + "input_layernorm",
    "attn_q": ATTENTION + "q_proj",
    "attn_k": ATTENTION + "k_proj",
    "attn_v": ATTENTION + "v_proj",
    "attn_output": ATTENTION + "o_proj",
    "attn_q_norm": ATTENTION + "q_norm",
    "attn_k_norm": ATTENTION + "k_norm",
    "ffn_norm": LAYER + "post_attention_layernorm",
    "ffn_gate": MLP + "gate_proj",
    "ffn_up": MLP + "up_proj",
    "ffn_down": MLP + "down_proj",
    "ffn_gate_inp": MLP + "gate",
    "ffn_gate_exps": MLP + "experts.@.gate_proj",
    "ffn_up_exps": MLP + "experts.@.up_proj",
    "ffn_down_exps": MLP + "experts.@.down_proj",
}


def shared_expert(name):
    return {f"ffn_{part}_shexp": f"{MLP}{name}.{part}_proj" for part in ("gate", "up", "down")}


GEMMA = {
    "post_attention_norm": LAYER + "post_attention_layernorm",
    "ffn_norm": LAYER + "pre_feedforward_layernorm",
    "post_ffw_norm": LAYER + "post_feedforward_layernorm",
}

# model of the reference data: class, names, how rows are stored, members of config.json
CLASSES = {
    "gemma2": (
        "Gemma2ForCausalLM",
        GEMMA,
        "minus one",
        {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 32}
        | {"attn_logit_softcapping": 6.0, "final_logit_softcapping": 8.0},
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        GEMMA,
        "minus one",
        {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 24},
    ),
    "granite": (
        "GraniteForCausalLM",
        {},
        "halves",
        {"attention_multiplier": 0.4, "embedding_multiplier": 3.0}
        | {"residual_multiplier": 0.6, "logits_scaling": 2.0},
    ),
    "olmo2": (
        "Olmo2ForCausalLM",
        {
            "post_attention_norm": LAYER + "post_attention_layernorm",
            "post_ffw_norm": LAYER + "post_feedforward_layernorm",
        },
        "",
        {},
    ),
    "command-r": ("CohereForCausalLM", {}, "", {"logit_scale": 0.25}),
    "stablelm": ("StableLmForCausalLM", {}, "", {"partial_rotary_factor": 0.5}),
    "starcoder2": (
        "Starcoder2ForCausalLM",
        {"ffn_up": MLP + "c_fc", "ffn_down": MLP + "c_proj"},
        "",
        {"hidden_act": "gelu_pytorch_tanh"},
    ),
    "glm4": (
        "Glm4ForCausalLM",
        {
            "post_attention_norm": LAYER + "post_self_attn_layernorm",
            "post_ffw_norm": LAYER + "post_mlp_layernorm",
            "ffn_up": MLP + "gate_up_proj",
        },
        "",
        {"partial_rotary_factor": 0.5},
    ),
    "qwen2moe": (
        "Qwen2MoeForCausalLM",
        shared_expert("shared_expert") | {"ffn_gate_inp_shexp": MLP + "shared_expert_gate"},
        "",
        {"num_experts": 5, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 48},
    ),
    "qwen3moe": (
        "Qwen3MoeForCausalLM",
        {},
        "",
        {"num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True}
        | {"moe_intermediate_size": 32, "head_dim": 32},
    ),
    "deepseek": (
        "DeepseekForCausalLM",
        shared_expert("shared_experts"),
        "halves",
        {"n_routed_experts": 5, "num_experts_per_tok": 3, "n_shared_experts": 2}
        | {"moe_intermediate_size": 16, "first_k_dense_replace": 1},
    ),
    "deepseek2": (
        "DeepseekV2ForCausalLM",
        shared_expert("shared_experts")
        | {
            "attn_q_a": ATTENTION + "q_a_proj",
            "attn_q_b": ATTENTION + "q_b_proj",
            "attn_q_a_norm": ATTENTION + "q_a_layernorm",
            "attn_kv_a_mqa": ATTENTION + "kv_a_proj_with_mqa",
            "attn_kv_a_norm": ATTENTION + "kv_a_layernorm",
            "attn_kv_b": ATTENTION + "kv_b_proj",
        },
        "",
        {"n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 1}
        | {"moe_intermediate_size": 32, "first_k_dense_replace": 1, "norm_topk_prob": False}
        | {"q_lora_rank": 64, "kv_lora_rank": 32, "v_head_dim": 24}
        | {"qk_nope_head_dim": 32, "qk_rope_head_dim": 16},
    ),
    "phi3-longrope": (
        "Phi3ForCausalLM",
        {"attn_qkv": ATTENTION + "qkv_proj", "ffn_up": MLP + "gate_up_proj"},
        "",
        {"sliding_window": 40, "original_max_position_embeddings": 256},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "attn_norm": HEAD + "ln_1",
            "attn_qkv": HEAD + "attn.c_attn",
            "attn_output": HEAD + "attn.c_proj",
            "ffn_norm": HEAD + "ln_2",
            "ffn_up": HEAD + "mlp.c_fc",
            "ffn_down": HEAD + "mlp.c_proj",
            "output_norm": "transformer.ln_f",
        },
        "transposed",
        {},
    ),
    "falcon": (
        "FalconForCausalLM",
        {
            "token_embd": "transformer.word_embeddings",
            "attn_norm": HEAD + "input_layernorm",
            "attn_qkv": HEAD + "self_attention.query_key_value",
            "attn_output": HEAD + "self_attention.dense",
            "ffn_up": HEAD + "mlp.dense_h_to_4h",
            "ffn_down": HEAD + "mlp.dense_4h_to_h",
            "output_norm": "transformer.ln_f",
        },
        "",
        {"multi_query": True},
    ),
    "mpt": (
        "MPTForCausalLM",
        {
            "token_embd": "transformer.wte",
            "attn_norm": MPT + "norm_1",
            "ffn_norm": MPT + "norm_2",
            "attn_qkv": MPT + "attn.Wqkv",
            "attn_output": MPT + "attn.out_proj",
            "ffn_up": MPT + "ffn.up_proj",
            "ffn_down": MPT + "ffn.down_proj",
            "output_norm": "transformer.norm_f",
        },
        "",
        {"expansion_ratio": 2}
        | {"attn_config": {"alibi": True, "alibi_bias_max": 8, "clip_qkv": 2.0}},
    ),
    "mamba": (
        "MambaForCausalLM",
        {
            "token_embd": "backbone.embeddings",
            "output_norm": "backbone.norm_f",
            "attn_norm": "backbone.layers.#.norm",
            "ssm_in": MIXER + "in_proj",
            "ssm_conv1d": MIXER + "conv1d",
            "ssm_x": MIXER + "x_proj",
            "ssm_dt": MIXER + "dt_proj",
            "ssm_out": MIXER + "out_proj",
            "ssm_a": MIXER + "A_log",
            "ssm_d": MIXER + "D",
        },
        "",
        {"state_size": 16, "conv_kernel": 4, "time_step_rank": 4, "intermediate_size": 64},
    ),
}

# The same of models of hf_random.py, with the modes of FUSED, too.
EXAONE, QWEN, GLM = HEAD, HEAD, "transformer.encoder.layers.#."
BERT = "encoder.layer.#."
NOMIC = "encoder.layers.#."
SHARED_EXPERTS = shared_expert("shared_experts")
NEOX_LAYER = "gpt_neox.layers.#."
INTERN = LAYER + "attention."
FORWARD = LAYER + "feed_forward."
YARN_4 = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
NEOX = {
    "token_embd": "gpt_neox.embed_in",
    "output": "embed_out",
    "output_norm": "gpt_neox.final_layer_norm",
    "attn_norm": NEOX_LAYER + "input_layernorm",
    "ffn_norm": NEOX_LAYER + "post_attention_layernorm",
    "attn_qkv": NEOX_LAYER + "attention.query_key_value",
    "attn_output": NEOX_LAYER + "attention.dense",
    "ffn_up": NEOX_LAYER + "mlp.dense_h_to_4h",
    "ffn_down": NEOX_LAYER + "mlp.dense_4h_to_h",
}
BIGCODE = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "attn_norm": HEAD + "ln_1",
    "ffn_norm": HEAD + "ln_2",
    "attn_qkv": HEAD + "attn.c_attn",
    "attn_output": HEAD + "attn.c_proj",
    "ffn_up": HEAD + "mlp.c_fc",
    "ffn_down": HEAD + "mlp.c_proj",
    "output_norm": "transformer.ln_f",
}
BERT_NAMES = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": BERT + "attention.self.query",
    "attn_k": BERT + "attention.self.key",
    "attn_v": BERT + "attention.self.value",
    "attn_output": BERT + "attention.output.dense",
    "attn_output_norm": BERT + "attention.output.LayerNorm",
    "ffn_up": BERT + "intermediate.dense",
    "ffn_down": BERT + "output.dense",
    "layer_output_norm": BERT + "output.LayerNorm",
}
JINA = {"hidden_act": "gelu", "position_embedding_type": "alibi"}
CLASSES_OF_RANDOM = {
    "phi2": (
        "PhiForCausalLM",
        {
            "attn_output": ATTENTION + "dense",
            "ffn_up": MLP + "fc1",
            "ffn_down": MLP + "fc2",
            "output_norm": "model.final_layernorm",
        },
        "",
        {"hidden_act": "gelu_new", "partial_rotary_factor": 0.5},
    ),
    "gptneox": ("GPTNeoXForCausalLM", NEOX, "by head", {"rotary_pct": 0.5}),
    "gptneox-serial": (
        "GPTNeoXForCausalLM",
        NEOX,
        "by head",
        {"rotary_pct": 1.0, "use_parallel_residual": False},
    ),
    "nemotron": (
        "NemotronForCausalLM",
        {},
        "minus one",
        {"hidden_act": "relu2", "norm_eps": 1e-5, "partial_rotary_factor": 0.5},
    ),
    "minicpm": (
        "MiniCPMForCausalLM",
        {},
        "halves",
        {"scale_emb": 3.0, "scale_depth": 0.6 * math.sqrt(2), "dim_model_base": 16},
    ),
    "smollm3": ("SmolLM3ForCausalLM", {}, "halves", {"no_rope_layers": [1, 1, 1, 0]}),
    "seed_oss": (
        "SeedOssForCausalLM",
        {"post_attention_norm": LAYER + "post_attention_layernorm"},
        "",
        {"head_dim": 8},
    ),
    "glm4moe": (
        "Glm4MoeForCausalLM",
        SHARED_EXPERTS
        | {
            "post_attention_norm": LAYER + "post_attention_layernorm",
            "exp_probs_b": MLP + "gate.e_score_correction",
        },
        "",
        {"head_dim": 8, "partial_rotary_factor": 0.5, "routed_scaling_factor": 1.5}
        | {"n_routed_experts": 5, "num_experts_per_tok": 2, "n_shared_experts": 1}
        | {"moe_intermediate_size": 16, "first_k_dense_replace": 1, "norm_topk_prob": True}
        | {"n_group": 1, "topk_group": 1},
    ),
    "deepseek-v3": (
        "DeepseekV3ForCausalLM",
        CLASSES["deepseek2"][1] | {"exp_probs_b": MLP + "gate.e_score_correction"},
        "",
        {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 1}
        | {"moe_intermediate_size": 16, "first_k_dense_replace": 1, "norm_topk_prob": True}
        | {"q_lora_rank": 24, "kv_lora_rank": 16, "v_head_dim": 6}
        | {"qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "routed_scaling_factor": 2.5}
        | {"n_group": 4, "topk_group": 2, "topk_method": "noaux_tc", "scoring_func": "sigmoid"}
        | {"rope_scaling": YARN_4 | {"original_max_position_embeddings": 32}
           | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    ),
    "olmo": ("OlmoForCausalLM", {}, "halves", {"clip_qkv": 2.0}),
    "olmoe": ("OlmoeForCausalLM", {}, "", {"num_experts": 5, "num_experts_per_tok": 2}),
    "olmo3": (
        "Olmo3ForCausalLM",
        CLASSES["olmo2"][1],
        "",
        {"sliding_window": 5, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
        | {"rope_scaling": YARN_4},
    ),
    "granitemoe": (
        "GraniteMoeForCausalLM",
        {
            "ffn_gate_inp": LAYER + "block_sparse_moe.router.layer",
            "ffn_gate_up": LAYER + "block_sparse_moe.input_linear",
            "ffn_down_exps": LAYER + "block_sparse_moe.output_linear",
        },
        "halves, stacked",
        CLASSES["granite"][3] | {"num_local_experts": 5, "num_experts_per_tok": 2},
    ),
    "starcoder": (
        "GPTBigCodeForCausalLM",
        BIGCODE,
        "",
        {"multi_query": True, "activation_function": "gelu_pytorch_tanh", "n_inner": None},
    ),
    "starcoder-mha": ("GPTBigCodeForCausalLM", BIGCODE, "by head", {"multi_query": False}),
    "cohere2": (
        "Cohere2ForCausalLM",
        {},
        "",
        {"logit_scale": 0.25, "sliding_window": 5, "sliding_window_pattern": 4},
    ),
    "internlm2": (
        "InternLM2ForCausalLM",
        {
            "token_embd": "model.tok_embeddings",
            "output": "output",
            "attn_norm": LAYER + "attention_norm",
            "attn_qkv": INTERN + "wqkv",
            "attn_output": INTERN + "wo",
            "ffn_norm": LAYER + "ffn_norm",
            "ffn_gate": FORWARD + "w1",
            "ffn_down": FORWARD + "w2",
            "ffn_up": FORWARD + "w3",
        },
        "halves, fused, by head",
        {},
    ),
    "internlm3": ("InternLM3ForCausalLM", {}, "halves", {"qkv_bias": True, "head_dim": 8}),
    "baichuan": ("BaichuanForCausalLM", {"attn_qkv": ATTENTION + "W_pack"}, "halves, fused", {}),
    "qwen": (
        "QWenLMHeadModel",
        {
            "token_embd": "transformer.wte",
            "attn_norm": QWEN + "ln_1",
            "ffn_norm": QWEN + "ln_2",
            "attn_qkv": QWEN + "attn.c_attn",
            "attn_output": QWEN + "attn.c_proj",
            "ffn_up": QWEN + "mlp.w1",
            "ffn_gate": QWEN + "mlp.w2",
            "ffn_down": QWEN + "mlp.c_proj",
            "output_norm": "transformer.ln_f",
        },
        "",
        {"seq_length": 100, "no_bias": True},
    ),
    "exaone": (
        "ExaoneForCausalLM",
        {
            "token_embd": "transformer.wte",
            "attn_norm": EXAONE + "ln_1",
            "attn_q": EXAONE + "attn.attention.q_proj",
            "attn_k": EXAONE + "attn.attention.k_proj",
            "attn_v": EXAONE + "attn.attention.v_proj",
            "attn_output": EXAONE + "attn.attention.out_proj",
            "ffn_norm": EXAONE + "ln_2",
            "ffn_gate": EXAONE + "mlp.c_fc_0",
            "ffn_up": EXAONE + "mlp.c_fc_1",
            "ffn_down": EXAONE + "mlp.c_proj",
            "output_norm": "transformer.ln_f",
        },
        "",
        {"activation_function": "silu"},
    ),
    "bloom": (
        "BloomForCausalLM",
        {
            "token_embd": "word_embeddings",
            "token_embd_norm": "word_embeddings_layernorm",
            "attn_norm": "h.#.input_layernorm",
            "attn_qkv": "h.#.self_attention.query_key_value",
            "attn_output": "h.#.self_attention.dense",
            "ffn_norm": "h.#.post_attention_layernorm",
            "ffn_up": "h.#.mlp.dense_h_to_4h",
            "ffn_down": "h.#.mlp.dense_4h_to_h",
            "output_norm": "ln_f",
        },
        "by head",
        {"apply_residual_connection_post_layernorm": False},
    ),
    "orion": ("OrionForCausalLM", {}, "", {"max_sequence_length": 128}),
    "xverse": ("XverseForCausalLM", {}, "halves", {}),
    "codeshell": ("CodeShellForCausalLM", BIGCODE, "", {"group_query_attention": True}),
    "chatglm": (
        "ChatGLMModel",
        {
            "token_embd": "transformer.embedding.word_embeddings",
            "output": "transformer.output_layer",
            "output_norm": "transformer.encoder.final_layernorm",
            "attn_norm": GLM + "input_layernorm",
            "attn_qkv": GLM + "self_attention.query_key_value",
            "attn_output": GLM + "self_attention.dense",
            "ffn_norm": GLM + "post_attention_layernorm",
            "ffn_up": GLM + "mlp.dense_h_to_4h",
            "ffn_down": GLM + "mlp.dense_4h_to_h",
        },
        "",
        {"multi_query_attention": True, "multi_query_group_num": 2, "rope_ratio": 5}
        | {"num_key_value_heads": None, "rope_theta": None, "seq_length": 128},
    ),
    "glm": (
        "GlmForCausalLM",
        {"ffn_up": MLP + "gate_up_proj"},
        "",
        {"head_dim": 8, "partial_rotary_factor": 0.5},
    ),
    "arcee": ("ArceeForCausalLM", {}, "halves", {"hidden_act": "relu2", "rope_scaling": YARN_4}),
    "ernie4_5": ("Ernie4_5ForCausalLM", {}, "", {"head_dim": 8}),
    "hunyuan-dense": (
        "HunYuanDenseV1ForCausalLM",
        {
            "attn_q_norm": ATTENTION + "query_layernorm",
            "attn_k_norm": ATTENTION + "key_layernorm",
        },
        "",
        {"head_dim": 8},
    ),
    "mistral3": (
        "Mistral3ForConditionalGeneration",
        {},
        "halves",
        {"head_dim": 8, "rope_scaling": YARN_4},
    ),
    "llama-yarn": (
        "LlamaForCausalLM",
        {},
        "halves",
        {"rope_scaling": YARN_4 | {"attention_factor": 0.7 * (1 + 0.1 * math.log(4))}},
    ),
    "bert-random": ("BertModel", BERT_NAMES, "", {"hidden_act": "gelu"}),
    "roberta": ("RobertaModel", BERT_NAMES, "positions", {"pad_token_id": 1}),
    "reranker": (
        "XLMRobertaForSequenceClassification",
        {stem: "roberta." + name for stem, name in BERT_NAMES.items()}
        | {"cls": "classifier.dense", "cls.output": "classifier.out_proj"},
        "positions",
        {},
    ),
    "nomic-bert": (
        "NomicBertModel",
        {
            "token_embd": "embeddings.word_embeddings",
            "token_types": "embeddings.token_type_embeddings",
            "token_embd_norm": "emb_ln",
            "attn_qkv": NOMIC + "attn.Wqkv",
            "attn_output": NOMIC + "attn.out_proj",
            "attn_output_norm": NOMIC + "norm1",
            "ffn_up": NOMIC + "mlp.fc11",
            "ffn_gate": NOMIC + "mlp.fc12",
            "ffn_down": NOMIC + "mlp.fc2",
            "layer_output_norm": NOMIC + "norm2",
        },
        "",
        {"activation_function": "swiglu", "rotary_emb_base": 1000, "rope_theta": None}
        | {"rotary_emb_fraction": 1.0, "rotary_emb_scale_base": None, "prenorm": False},
    ),
    "jina-bert-v2": (
        "JinaBertModel",
        BERT_NAMES
        | {
            "ffn_up": BERT + "mlp.gated_layers",
            "ffn_down": BERT + "mlp.wo",
            "layer_output_norm": BERT + "mlp.layernorm",
        },
        "",
        JINA,
    ),
    "jina-bert-code": (
        "JinaBertForMaskedLM",
        BERT_NAMES
        | {
            "attn_q_norm": BERT + "attention.self.layer_norm_q",
            "attn_k_norm": BERT + "attention.self.layer_norm_k",
            "attn_norm_2": BERT + "layer_norm_1",
            "ffn_up": BERT + "mlp.up_gated_layer",
            "ffn_down": BERT + "mlp.down_layer",
            "layer_output_norm": BERT + "layer_norm_2",
        },
        "up and gate",
        JINA,
    ),
}

SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))


class Gguf:
    """Keys and F32 tensors: name to (dims innermost first, numbers)."""

    def __init__(self, path):
        with open(path, "rb") as self.f:
            self.f.read(8)
            tensors, keys = self.read("QQ")
            self.keys = {self.text(): self.value(self.read("I")[0]) for _ in range(keys)}
            infos = [self.info() for _ in range(tensors)]
            base = (self.f.tell() + 31) // 32 * 32
            self.tensors = {name: (dims, self.floats(base + at, dims)) for name, dims, at in infos}

    def read(self, form):
        return struct.unpack("<" + form, self.f.read(struct.calcsize("<" + form)))

    def text(self):
        return self.f.read(self.read("Q")[0]).decode("utf-8", "replace")

    def value(self, kind):
        if kind in SCALARS:
            return self.read(SCALARS[kind])[0]
        if kind == 8:
            return self.text()
        kind, count = self.read("IQ")
        return [self.value(kind) for _ in range(count)]

    def info(self):
        name = self.text()
        dims = self.read(f"{self.read('I')[0]}Q")
        kind, at = self.read("IQ")
        assert kind == 0, f"{name} is no F32"
        return name, dims, at

    def floats(self, at, dims):
        numbers = array.array("f")
        self.f.seek(at)
        numbers.frombytes(self.f.read(4 * math.prod(dims)))
        return numbers

    def key(self, name, default=None):
        return self.keys.get(self.keys["general.architecture"] + "." + name, default)


def rows_in_halves(numbers, heads, cols):
    """Row 2i of a head goes to i, row 2i + 1 to half + i."""
    out, size = array.array("f"), len(numbers) // cols // heads
    for head in range(heads):
        for row in list(range(0, size, 2)) + list(range(1, size, 2)):
            at = (head * size + row) * cols
            out += numbers[at : at + cols]
    return out


def by_head(gguf, dims, numbers):
    """All of q, k and v become those of one key head and its query heads, in turn."""
    heads, kv = gguf.key("attention.head_count"), gguf.key("attention.head_count_kv")
    one = len(numbers) // (heads + 2 * kv)  # numbers of a head
    queries, out = heads // kv, array.array("f")
    for g in range(kv):
        k, v = (heads + g) * one, (heads + kv + g) * one
        out += numbers[g * queries * one : (g + 1) * queries * one]
        out += numbers[k : k + one] + numbers[v : v + one]
    return out


def joined(gguf, stems, into):
    """Tensors of a layer, the rows of the first above those of the others."""
    for layer in range(gguf.key("block_count")):
        for kind in (".weight", ".bias"):
            names = [f"blk.{layer}.{stem}{kind}" for stem in stems]
            if names[0] not in gguf.tensors:
                continue
            parts = [gguf.tensors.pop(name) for name in names]
            dims, rows = list(parts[0][0]), -2 if len(parts[0][0]) > 2 else -1
            dims[rows] = sum(part[0][rows] for part in parts)
            gguf.tensors[f"blk.{layer}.{into}{kind}"] = (dims, interleaved(parts))


def interleaved(parts):
    """Matrix by matrix where there are several."""
    dims, out = parts[0][0], array.array("f")
    count = dims[2] if len(dims) > 2 else 1
    for i in range(count):
        for _, numbers in parts:
            size = len(numbers) // count
            out += numbers[i * size : (i + 1) * size]
    return out


def in_halves(gguf, stem, dims, numbers):
    heads = gguf.key("attention.head_count" + ("_kv" if stem == "attn_k" else ""))
    return rows_in_halves(numbers, heads, dims[0] if len(dims) > 1 else 1)


def fuse(gguf, mode):
    """What a class keeps in one tensor."""
    if "fused" in mode:
        for name, (dims, numbers) in gguf.tensors.items():
            stem = name.split(".")[-2]
            if "halves" in mode and stem in ("attn_q", "attn_k"):
                gguf.tensors[name] = (dims, in_halves(gguf, stem, dims, numbers))
        joined(gguf, ("attn_q", "attn_k", "attn_v"), "attn_qkv")
    if "stacked" in mode:
        joined(gguf, ("ffn_gate_exps", "ffn_up_exps"), "ffn_gate_up")
    if mode == "positions":  # two rows that no position has
        (cols, rows), numbers = gguf.tensors["position_embd.weight"]
        spare = array.array("f", [9.0] * (2 * cols))
        gguf.tensors["position_embd.weight"] = ((cols, rows + 2), spare + numbers)
    if mode == "up and gate":
        joined(gguf, ("ffn_up", "ffn_gate"), "ffn_up")


def stored(gguf, mode, stem, kind, dims, numbers):
    """Shape (outermost first) and numbers as the class has them."""
    shape = list(reversed(dims))
    if mode == "minus one" and "norm" in stem and kind == "weight":
        numbers = array.array("f", (x - 1 for x in numbers))
    if "by head" in mode and stem == "attn_qkv":
        numbers = by_head(gguf, dims, numbers)
    if "halves" in mode and stem in ("attn_q", "attn_k"):
        numbers = in_halves(gguf, stem, dims, numbers)
    matrices = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
    if mode == "transposed" and kind == "weight" and stem in matrices:
        numbers = array.array("f", (x for i in range(dims[0]) for x in numbers[i :: dims[0]]))
        shape = list(dims)
    if stem == "ssm_a":
        numbers = array.array("f", (math.log(-x) for x in numbers))
    if stem == "ssm_conv1d" and kind == "weight":
        shape.insert(1, 1)
    if stem == "ffn_gate_inp_shexp":
        shape.insert(0, 1)
    return shape, numbers


def config_of(gguf, class_name, members):
    heads = gguf.key("attention.head_count") or 1
    config = {
        "architectures": [class_name],
        "hidden_size": gguf.key("embedding_length"),
        "num_hidden_layers": gguf.key("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": gguf.key("attention.head_count_kv", heads),
        "intermediate_size": gguf.key("feed_forward_length"),
        "max_position_embeddings": gguf.key("context_length"),
        "rope_theta": gguf.key("rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
    }
    config["rms_norm_eps"] = gguf.key("attention.layer_norm_rms_epsilon") or gguf.key(
        "attention.layer_norm_epsilon"
    )
    for length in ("long", "short"):
        factors = gguf.tensors.pop(f"rope_factors_{length}.weight", None)
        if factors is not None:
            scaling = config.setdefault("rope_scaling", {"type": "longrope"})
            scaling[length + "_factor"] = list(factors[1])
    return config | members


def write_dir(model, gguf_path, out):
    """config.json and model.safetensors of a row of the tables, from its GGUF file."""
    class_name, names, mode, members = (CLASSES | CLASSES_OF_RANDOM)[model]
    gguf, names = Gguf(gguf_path), COMMON | names
    config = config_of(gguf, class_name, members)
    fuse(gguf, mode)
    if mode == "positions":
        config["max_position_embeddings"] += 2
    parts = {}
    for name, (dims, numbers) in gguf.tensors.items():
        layer, stem, kind = re.match(r"(?:blk\.(\d+)\.)?(.*?)(?:\.(weight|bias))?$", name).groups()
        shape, numbers = stored(gguf, mode, stem, kind, dims, numbers)
        hf = names[stem].replace("#", layer or "") + (f".{kind}" if kind else "")
        hf = hf.replace("e_score_correction.", "e_score_correction_")
        if "@" not in hf:
            parts[hf] = (shape, numbers)
            continue
        size = dims[0] * dims[1]
        for e in range(dims[2]):
            parts[hf.replace("@", str(e))] = (shape[1:], numbers[e * size : (e + 1) * size])
    tensors = {name: ("F32", shape, numbers.tobytes()) for name, (shape, numbers) in parts.items()}
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)


def write_safetensors(path, tensors):
    """tensors: name to (type, shape, bytes)"""
    header, at = {}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            f.write(data)


# --- GPT-OSS --------------------------------------------------------------------------------------
MXFP4_BYTES = 17  # the scale of a block, then element i and i + 16 in byte i
EXPERTS = MLP + "experts."
GPT_OSS = {
    "post_attention_norm": LAYER + "post_attention_layernorm",
    "attn_sinks": ATTENTION + "sinks",
    "ffn_gate_inp": MLP + "router",
}


def mxfp4_pieces(data):
    """Blocks with element 2i and 2i + 1 in byte i, and scales."""
    blocks, scales = bytearray(), bytearray()
    for at in range(0, len(data), MXFP4_BYTES):
        scales.append(data[at])
        packed = data[at + 1 : at + MXFP4_BYTES]
        elements = [b & 15 for b in packed] + [b >> 4 for b in packed]
        blocks += bytes(elements[i] | elements[i + 1] << 4 for i in range(0, 32, 2))
    return bytes(blocks), bytes(scales)


def taking_turns(a, b, row_bytes):
    """Row 0 of a, row 0 of b, row 1 of a ..."""
    rows = range(0, len(a), row_bytes)
    return b"".join(a[at : at + row_bytes] + b[at : at + row_bytes] for at in rows)


def expert_tensors(tensors, layer):
    """The experts of a layer as GPT-OSS has them; `tensors` as gguf.Gguf has them."""
    out, blk, prefix = {}, f"blk.{layer}.", EXPERTS.replace("#", str(layer))
    (cols, rows, count), _, gate = tensors[blk + "ffn_gate_exps.weight"]
    up, down = (tensors[blk + f"ffn_{part}_exps.weight"] for part in ("up", "down"))
    both = taking_turns(gate, up[2], cols // 32 * MXFP4_BYTES)
    (in_down, out_down, _), _, down = down
    for name, data, n, k in (
        ("gate_up_proj", both, 2 * rows, cols),
        ("down_proj", down, out_down, in_down),
    ):
        blocks, scales = mxfp4_pieces(data)
        out[prefix + name + "_blocks"] = ("U8", [count, n, k // 32, 16], blocks)
        out[prefix + name + "_scales"] = ("U8", [count, n, k // 32], scales)
    gate, up, down = (tensors[blk + f"ffn_{p}_exps.bias"][2] for p in ("gate", "up", "down"))
    size = 4 * count * rows  # without the padding between tensors
    both = taking_turns(gate[:size], up[:size], 4)
    out[prefix + "gate_up_proj_bias"] = ("F32", [count, 2 * rows], both)
    out[prefix + "down_proj_bias"] = ("F32", [count, out_down], down[: 4 * count * out_down])
    return out


def write_gpt_oss(file, config, out):
    """The directory of a GGUF file with experts in MXFP4 and everything else in F32."""
    tensors, names = {}, COMMON | GPT_OSS
    for layer in range(config["num_hidden_layers"]):
        tensors |= expert_tensors(file.tensors, layer)
    for name, (dims, _, data) in file.tensors.items():
        if "_exps." in name:
            continue
        layer, stem, kind = re.match(r"(?:blk\.(\d+)\.)?(.*)\.(weight|bias)$", name).groups()
        hf = names[stem].replace("#", layer or "")
        hf += "" if stem == "attn_sinks" else f".{kind}"
        tensors[hf] = ("F32", list(reversed(dims)), data[: 4 * math.prod(dims)])
    write_safetensors(os.path.join(out, "model.safetensors"), tensors)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
