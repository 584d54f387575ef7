"""hf_random.py - random models of the architectures without reference data, as F32 GGUF files.

Whatever GGUF's names and keys are for an architecture is said here; hf_inverse.py says what its
class in transformers makes of them.  Sizes are small, all different where they can be.
"""
import array
import random

import gguf

EMBD, FF, LAYERS, CTX = 32, 48, 2, 128
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
U32, F32, STRING, BOOL = 4, 6, 8, 7
RMS = "attention.layer_norm_rms_epsilon"
LAYER_NORM = "attention.layer_norm_epsilon"


def key(value):
    kinds = {bool: BOOL, int: U32, float: F32, str: STRING}
    return kinds[type(value)], value.encode() if isinstance(value, str) else value


class Shape:
    """What a table row says; `tensors` is name without "blk.N." to dims innermost first."""

    def __init__(self, arch, keys, base=10000.0, layers=LAYERS, embd=EMBD, ff=FF):
        self.arch, self.layers, self.embd, self.ff, self.tensors = arch, layers, embd, ff, {}
        self.keys = {
            "context_length": CTX,
            "embedding_length": embd,
            "block_count": layers,
            "feed_forward_length": ff,
        } | keys
        if base:
            self.keys["rope.freq_base"] = base

    def linear(self, name, cols, rows, bias=False):
        self.tensors[name + ".weight"] = (cols, rows)
        if bias:
            self.tensors[name + ".bias"] = (rows,)
        return self

    def norm(self, *names, size=EMBD, bias=False):
        for name in names:
            self.tensors[name + ".weight"] = (size,)
            if bias:
                self.tensors[name + ".bias"] = (size,)
        return self

    def attention(self, heads=HEADS, kv=KV_HEADS, dim=HEAD_DIM, bias=False, fused=False, out=False):
        self.keys |= {"attention.head_count": heads, "attention.head_count_kv": kv}
        if fused:
            self.linear("attn_qkv", self.embd, (heads + 2 * kv) * dim, bias)
        else:
            self.linear("attn_q", self.embd, heads * dim, bias)
            self.linear("attn_k", self.embd, kv * dim, bias)
            self.linear("attn_v", self.embd, kv * dim, bias)
        return self.linear("attn_output", heads * dim, self.embd, out)

    def qk_norm(self, q=HEAD_DIM, k=HEAD_DIM):
        return self.norm("attn_q_norm", size=q).norm("attn_k_norm", size=k)

    def ffn(self, gated=True, bias=False, fused=False, ff=None):
        ff = ff or self.ff
        if gated and not fused:
            self.linear("ffn_gate", self.embd, ff, bias)
        self.linear("ffn_up", self.embd, ff * (2 if fused else 1), bias)
        return self.linear("ffn_down", ff, self.embd, bias)

    def experts(self, count, used, ff, shared=0):
        self.keys |= {"expert_count": count, "expert_used_count": used}
        self.linear("ffn_gate_inp", self.embd, count)
        self.tensors["ffn_gate_exps.weight"] = (self.embd, ff, count)
        self.tensors["ffn_up_exps.weight"] = (self.embd, ff, count)
        self.tensors["ffn_down_exps.weight"] = (ff, self.embd, count)
        if shared:
            self.linear("ffn_gate_shexp", self.embd, shared)
            self.linear("ffn_up_shexp", self.embd, shared)
            self.linear("ffn_down_shexp", shared, self.embd)
        return self


def decoder(arch, keys=(), eps=RMS, **more):
    return Shape(arch, {eps: 1e-5} | dict(keys), **more)


def plain(arch, keys=(), bias=False, **more):
    """The blocks of Llama."""
    shape = decoder(arch, keys, **more)
    return shape.norm("attn_norm", "ffn_norm").attention(bias=bias).ffn()


def layer_norm(arch, keys=(), norms=("attn_norm", "ffn_norm"), **more):
    shape = decoder(arch, keys, LAYER_NORM, **more)
    return shape.norm(*norms, bias=True)


def half_rotated():
    return {"rope.dimension_count": HEAD_DIM // 2}


def deepseek_v3():
    keys = {
        "rope.dimension_count": 4,
        "attention.key_length": 12,
        "attention.value_length": 6,
        "attention.kv_lora_rank": 16,
        "attention.q_lora_rank": 24,
        "expert_feed_forward_length": 16,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
        "leading_dense_block_count": 1,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 32,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
    }
    shape = decoder("deepseek2", keys).norm("attn_norm", "ffn_norm")
    shape.linear("attn_q_a", EMBD, 24).norm("attn_q_a_norm", size=24)
    shape.linear("attn_q_b", 24, HEADS * 12).linear("attn_kv_a_mqa", EMBD, 16 + 4)
    shape.norm("attn_kv_a_norm", size=16).linear("attn_kv_b", 16, HEADS * (8 + 6))
    shape.linear("attn_output", HEADS * 6, EMBD).ffn().experts(8, 3, 16, shared=16)
    shape.tensors["exp_probs_b.bias"] = (8,)
    return shape


def glm4moe():
    keys = half_rotated() | {
        "attention.key_length": HEAD_DIM,
        "attention.value_length": HEAD_DIM,
        "expert_feed_forward_length": 16,
        "expert_shared_count": 1,
        "expert_gating_func": 2,
        "expert_weights_norm": True,
        "expert_weights_scale": 1.5,
        "leading_dense_block_count": 1,
    }
    shape = decoder("glm4moe", keys).norm("attn_norm", "post_attention_norm")
    shape.attention(bias=True).qk_norm().ffn().experts(5, 2, 16, shared=16)
    shape.tensors["exp_probs_b.bias"] = (5,)
    return shape


def encoder(arch, keys=(), base=None):
    shape = Shape(arch, {LAYER_NORM: 1e-5, "attention.causal": False} | dict(keys), base=base)
    shape.norm("attn_output_norm", "layer_output_norm", bias=True)
    shape.keys["pooling_type"] = 1
    return shape


SCALES = {"embedding_scale": 3.0, "residual_scale": 0.6, "logit_scale": 2.0}
LATER_SCALES = {"attention.temperature_scale": 0.1, "rope.scaling.original_context_length": 64}
YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}

# name: what it is, has "output", bias of "output"
SHAPES = {
    "phi2": lambda: layer_norm("phi2", half_rotated(), ("attn_norm",))
    .attention(kv=HEADS, bias=True, out=True)
    .ffn(gated=False, bias=True),
    "gptneox": lambda: layer_norm("gptneox", half_rotated() | {"use_parallel_residual": True})
    .attention(kv=HEADS, bias=True, fused=True, out=True)
    .ffn(gated=False, bias=True),
    "gptneox-serial": lambda: layer_norm("gptneox", {"use_parallel_residual": False})
    .attention(kv=HEADS, bias=True, fused=True, out=True)
    .ffn(gated=False, bias=True),
    "nemotron": lambda: layer_norm("nemotron", half_rotated()).attention().ffn(gated=False),
    "minicpm": lambda: plain("minicpm", SCALES),
    "smollm3": lambda: plain("smollm3", layers=4),
    "seed_oss": lambda: decoder(
        "seed_oss", {"attention.key_length": HEAD_DIM, "attention.value_length": HEAD_DIM}
    )
    .norm("attn_norm", "post_attention_norm")
    .attention(bias=True)
    .ffn(),
    "glm4moe": glm4moe,
    "deepseek-v3": deepseek_v3,
    "olmo": lambda: decoder("olmo", {"attention.clamp_kqv": 2.0}, LAYER_NORM).attention().ffn(),
    "olmoe": lambda: decoder("olmoe")
    .norm("attn_norm", "ffn_norm")
    .attention(kv=HEADS)
    .qk_norm(EMBD, EMBD)
    .experts(5, 2, FF),
    "olmo3": lambda: decoder("olmo2", {"attention.sliding_window": 5} | YARN, layers=4)
    .norm("post_attention_norm", "post_ffw_norm")
    .attention()
    .qk_norm(EMBD, KV_HEADS * HEAD_DIM)
    .ffn(),
    "granitemoe": lambda: decoder("granitemoe", SCALES | {"attention.scale": 0.4})
    .norm("attn_norm", "ffn_norm")
    .attention()
    .experts(5, 2, FF),
    "starcoder": lambda: layer_norm("starcoder", base=None, ff=4 * EMBD)
    .attention(kv=1, bias=True, fused=True, out=True)
    .ffn(gated=False, bias=True),
    "starcoder-mha": lambda: layer_norm("starcoder", base=None, ff=4 * EMBD)
    .attention(kv=HEADS, bias=True, fused=True, out=True)
    .ffn(gated=False, bias=True),
    "cohere2": lambda: decoder(
        "cohere2", {"logit_scale": 0.25, "attention.sliding_window": 5}, LAYER_NORM, layers=4
    )
    .norm("attn_norm")
    .attention()
    .ffn(),
    "internlm2": lambda: plain("internlm2"),
    "internlm3": lambda: plain("llama", bias=True),
    "baichuan": lambda: decoder("baichuan")
    .norm("attn_norm", "ffn_norm")
    .attention(kv=HEADS)
    .ffn(),
    "qwen": lambda: decoder("qwen", ff=2 * FF)
    .norm("attn_norm", "ffn_norm")
    .attention(kv=HEADS, bias=True, fused=True)
    .linear("attn_output", EMBD, EMBD)
    .ffn(ff=FF),
    "exaone": lambda: plain("exaone"),
    "bloom": lambda: layer_norm("bloom", base=None, ff=4 * EMBD)
    .attention(kv=HEADS, bias=True, fused=True, out=True)
    .ffn(gated=False, bias=True),
    "orion": lambda: layer_norm("orion").attention().ffn(),
    "xverse": lambda: plain("xverse"),
    "codeshell": lambda: layer_norm("codeshell", ff=4 * EMBD)
    .attention(bias=True, fused=True, out=True)
    .ffn(gated=False, bias=True),
    "chatglm": lambda: decoder("chatglm", half_rotated(), base=50000.0)
    .norm("attn_norm", "ffn_norm")
    .attention(bias=True, fused=True)
    .ffn(fused=True),
    "glm": lambda: decoder("chatglm", half_rotated())
    .norm("attn_norm", "ffn_norm")
    .attention(bias=True)
    .ffn(fused=True),
    "arcee": lambda: decoder("arcee", YARN)
    .norm("attn_norm", "ffn_norm")
    .attention()
    .ffn(gated=False),
    "ernie4_5": lambda: plain("ernie4_5"),
    "hunyuan-dense": lambda: decoder("hunyuan-dense")
    .norm("attn_norm", "ffn_norm")
    .attention()
    .qk_norm()
    .ffn(),
    "mistral3": lambda: plain("mistral3", YARN),
    "llama-yarn": lambda: plain("llama", YARN | {"rope.scaling.attn_factor": 0.7}),
    "bert-random": lambda: encoder("bert")
    .attention(kv=HEADS, bias=True, out=True)
    .ffn(gated=False, bias=True),
    "roberta": lambda: encoder("bert")
    .attention(kv=HEADS, bias=True, out=True)
    .ffn(gated=False, bias=True),
    "reranker": lambda: encoder("bert")
    .attention(kv=HEADS, bias=True, out=True)
    .ffn(gated=False, bias=True),
    "nomic-bert": lambda: encoder("nomic-bert", base=1000.0)
    .attention(kv=HEADS, fused=True)
    .ffn(),
    "jina-bert-v2": lambda: encoder("jina-bert-v2")
    .attention(kv=HEADS, bias=True, out=True)
    .linear("ffn_up", EMBD, 2 * FF)
    .linear("ffn_down", FF, EMBD, bias=True),
    "jina-bert-code": lambda: encoder("jina-bert-v2")
    .attention(kv=HEADS, bias=True, out=True)
    .qk_norm(EMBD, EMBD)
    .norm("attn_norm_2", bias=True)
    .ffn()
    .linear("ffn_down", FF, EMBD, bias=True),
}
ENCODERS = ("bert-random", "roberta", "reranker", "nomic-bert", "jina-bert-v2", "jina-bert-code")
# The head has a matrix of its own.
UNTIED = ("phi2", "gptneox", "gptneox-serial", "internlm2", "baichuan", "qwen", "chatglm", "arcee")
EXPERT_PARTS = ("exp", "ffn_gate_inp", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp")
DENSE_PARTS = ("ffn_gate.", "ffn_up.", "ffn_down.")


def is_in_layer(shape, name, layer):
    """Leading layers of a mixture are dense."""
    dense = shape.keys.get("leading_dense_block_count")
    if dense is None:
        return True
    if layer < dense:
        return not ("_exps" in name or name.startswith(EXPERT_PARTS))
    return not name.startswith(DENSE_PARTS)


def outside(name, shape, vocab):
    tensors = {"token_embd.weight": (shape.embd, vocab)}
    with_bias = LAYER_NORM in shape.keys
    norm = Shape("", {}).norm
    if shape.arch in ("bloom",) or name in ENCODERS:
        tensors |= norm("token_embd_norm", bias=True).tensors
    if name in ENCODERS:
        tensors["token_types.weight"] = (shape.embd, 1 if name == "roberta" else 2)
    if name == "reranker":
        tensors |= {"cls.weight": (shape.embd, shape.embd), "cls.bias": (shape.embd,)}
        tensors |= {"cls.output.weight": (shape.embd, 1), "cls.output.bias": (1,)}
    if shape.arch in ("starcoder", "bert"):
        tensors["position_embd.weight"] = (shape.embd, CTX)
    if name not in ENCODERS and shape.arch != "olmo":
        bias = with_bias and shape.arch != "cohere2"
        tensors |= norm("output_norm", bias=bias).tensors
    if name in UNTIED:
        tensors["output.weight"] = (shape.embd, vocab)
    if name == "phi2":
        tensors["output.bias"] = (vocab,)
    return tensors


def numbers_of(rng, name, dims):
    count = 1
    for dim in dims:
        count *= dim
    around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    width = 0.2 if around or name.endswith("bias") else 1.0 if "token_embd" in name else 0.4
    return array.array("f", (around + width * (2 * rng.random() - 1) for _ in range(count)))


def write(name, template, path):
    """A GGUF file with the tokenizer of `template`."""
    shape, rng = SHAPES[name](), random.Random(name)
    file = gguf.Gguf(template)
    file.keys = {k: v for k, v in file.keys.items() if k.startswith("tokenizer.")}
    vocab = len(file.keys["tokenizer.ggml.tokens"][1][1])
    head = {"general.architecture": key(shape.arch)}
    file.keys = head | {f"{shape.arch}.{k}": key(v) for k, v in shape.keys.items()} | file.keys
    tensors = outside(name, shape, vocab)
    for layer in range(shape.layers):
        for tensor, dims in shape.tensors.items():
            if is_in_layer(shape, tensor, layer):
                tensors[f"blk.{layer}.{tensor}"] = dims
    file.tensors = {}
    for tensor, dims in tensors.items():
        file.add_f32(tensor, dims, numbers_of(rng, tensor, dims))
    return file.write(path)
