"""test_formulas.py - architectures that nobody has recorded, against a computation of our own.

formulas.py and formulas_more.py compute small models of random weights in double precision.  Some
families with recordings are among them: they show that the computation is the right one.
"""
import math
import os
import re

import formulas
import formulas_more
import gguf
import harness
import oracle
from formulas import D, E, F, L, U, Trait
from harness import check, equal, gantry, shared_path, test

NMSE_MAX = 1e-9
IDS = [1, 7, 39, 0, 22, 7, 13, 30, 5, 11, 2, 38]

LAYER = {"norm": "layer", "norm_bias": True}
BIASED = {"qkv_bias": True, "bias": True}
EXPERTS = (("expert_count", gguf.U32, E), ("expert_used_count", gguf.U32, U))
WIDTH = (("expert_feed_forward_length", gguf.U32, F),)


def f32(name, value):
    return (name, gguf.F32, value)


def u32(name, value):
    return (name, gguf.U32, value)


TRAITS = {
    # recorded, too
    "llama": Trait(freqs=True),
    "command-r": Trait(norm="layer", block="shared", tied=True, logit_factor=0.25,
                       keys=(f32("logit_scale", 0.25),)),
    "gpt2": Trait(**LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="none",
                  learned=True, kv_heads=4),
    "starcoder2": Trait(**LAYER, **BIASED, act="gelu", gated=False, rope="halves", tied=True),
    "qwen3moe": Trait(rope="halves", qk_norm="heads", moe="softmax1", keys=EXPERTS + WIDTH),
    "granite": Trait(embd_scale=3.0, residual_scale=0.5, attn_scale=0.2, logit_factor=0.125,
                     keys=(f32("embedding_scale", 3.0), f32("residual_scale", 0.5),
                           f32("attention.scale", 0.2), f32("logit_scale", 8.0))),
    # not recorded
    "arcee": Trait(act="relu2", gated=False),
    "baichuan": Trait(),
    "bloom": Trait(**LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="none",
                   alibi=True, embd_norm=True, tied=True, kv_heads=4),
    "chatglm": Trait(fused_qkv=True, qkv_bias=True, fused_up=True, turned=4),
    "codeshell": Trait(**LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="halves"),
    "cohere2": Trait(norm="layer", block="shared", tied=True, logit_factor=0.25, window=5,
                     window_layers=(0, 1, 2), plain_layers=(3,),
                     keys=(f32("logit_scale", 0.25), u32("attention.sliding_window", 5))),
    "ernie4_5": Trait(),
    "exaone": Trait(rope="halves", freqs=True),
    "glm4moe": Trait(rope="halves", turned=4, qkv_bias=True, qk_norm="heads",
                     ffn_norm="post_attention_norm", moe="sigmoid1", moe_scale=1.5, dense_layers=1,
                     shared=20, extra_layers=1,
                     keys=EXPERTS + WIDTH + (u32("expert_shared_count", 1),
                                             u32("expert_shared_feed_forward_length", 20),
                                             u32("expert_gating_func", 2),
                                             u32("leading_dense_block_count", 1),
                                             u32("nextn_predict_layers", 1),
                                             f32("expert_weights_scale", 1.5),
                                             ("expert_weights_norm", gguf.BOOL, True))),
    "gptneox": Trait(**LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="halves",
                     turned=2, block="both", kv_heads=4,
                     keys=(("use_parallel_residual", gguf.BOOL, True),)),
    "granitemoe": Trait(embd_scale=3.0, residual_scale=0.5, attn_scale=0.2, logit_factor=0.125,
                        moe="softmax1", shared=20,
                        keys=EXPERTS + WIDTH + (f32("embedding_scale", 3.0),
                                                u32("expert_shared_feed_forward_length", 20),
                                                f32("residual_scale", 0.5),
                                                f32("attention.scale", 0.2),
                                                f32("logit_scale", 8.0))),
    "hunyuan-dense": Trait(rope="halves", qk_norm="after"),
    "internlm2": Trait(),
    "jais": Trait(**LAYER, **BIASED, fused_qkv=True, rope="none", alibi=True, attn_scale=1 / 8,
                  kv_heads=4),
    "minicpm": Trait(embd_scale=3.0, residual_scale=0.5, logit_factor=0.125,
                     keys=(f32("embedding_scale", 3.0), f32("residual_scale", 0.5),
                           f32("logit_scale", 8.0))),
    "mistral3": Trait(),
    "nemotron": Trait(**LAYER, act="relu2", gated=False, rope="halves", turned=4),
    "olmo": Trait(norm="bare", clamp=0.5, keys=(f32("attention.clamp_kqv", 0.5),)),
    "olmoe": Trait(rope="halves", qk_norm="whole", moe="softmax", keys=EXPERTS),
    "orion": Trait(**LAYER, rope="halves"),
    "phi2": Trait(**LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="halves",
                  turned=4, block="shared", out_bias=True, kv_heads=4),
    "qwen": Trait(fused_qkv=True, qkv_bias=True, rope="halves", half_ff=True, kv_heads=4),
    "refact": Trait(rope="none", alibi=True, kv_heads=1),
    "seed_oss": Trait(rope="halves", head_dim=12, turned=12, qkv_bias=True,
                      ffn_norm="post_attention_norm"),
    "smollm3": Trait(plain_layers=(3,), tied=True),
    "starcoder": Trait(**LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="none",
                       learned=True, kv_heads=1),
    "xverse": Trait(),
}

FAST = {"base": 10.0, "magnitude": 1 + 0.1 * math.log(4)}
RAMP = formulas.yarn_stretch(4, 10.0, 4.0, 40)
YARN = (
    ("rope.scaling.type", gguf.STRING, b"yarn"),
    f32("rope.scaling.factor", 4.0),
    u32("rope.scaling.original_context_length", 40),
)

VARIANTS = {
    "llama stretched": ("llama", Trait(stretch=(0.25,) * 4, keys=(
        ("rope.scaling.type", gguf.STRING, b"linear"), f32("rope.scaling.factor", 4.0)))),
    "llama with yarn": ("llama", Trait(**FAST, stretch=RAMP, keys=YARN)),
    "seed_oss with yarn": ("seed_oss", Trait(
        **FAST, stretch=RAMP, keys=YARN, rope="halves", qkv_bias=True,
        ffn_norm="post_attention_norm")),
    "mistral3 with yarn": ("mistral3", Trait(base=10.0, stretch=RAMP, keys=(
        *YARN, f32("rope.scaling.yarn_log_multiplier", 1.0)))),
    "gptneox in sequence": ("gptneox", Trait(
        **LAYER, **BIASED, fused_qkv=True, act="gelu", gated=False, rope="halves", turned=2,
        kv_heads=4, keys=(("use_parallel_residual", gguf.BOOL, False),))),
    "minicpm of some age": ("minicpm", Trait(
        embd_scale=12.0, residual_scale=1.4 / L**0.5, logit_factor=256 / D)),
    "granite without positions": ("granite", Trait(
        rope="none", keys=(("rope.scaling.finetuned", gguf.BOOL, False),))),
    "phi2 with three tensors": ("phi2", Trait(
        **LAYER, **BIASED, act="gelu", gated=False, rope="halves", turned=4, block="shared",
        out_bias=True, kv_heads=4)),
    "glm4moe without head norms": ("glm4moe", Trait(
        rope="halves", turned=4, qkv_bias=True, ffn_norm="post_attention_norm", moe="sigmoid",
        keys=EXPERTS + WIDTH)),
}


# What this file computes.
COMPUTED = (*TRAITS, "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "rwkv6")

ENCODERS = {
    "bert": (("bert", {}), ("bert", {"fused": True})),
    "nomic-bert": (("nomic-bert", {"fused": True}), ("nomic-bert", {})),
    "nomic-bert-moe": (("nomic-bert-moe", {"fused": True}),),
    "jina-bert-v2": (("jina-bert-v2", {}), ("jina-bert-v2", {"extras": True})),
}


def seed_of(what):
    return len(what) * 1000 + sum(map(ord, what))


def compare(what, arch, trait):
    model = formulas.Model(trait, seed_of(what))
    path = model.write(arch, os.path.join(harness.TMP, f"formula-{arch}.gguf"))
    require_close(what, "logits", path, formulas.Forward(model).logits(IDS))


def require_close(what, command, path, want, *flags):
    out = os.path.join(harness.TMP, "formula.f32")
    listed = ",".join(map(str, IDS))
    for backend in ("ref", "cpu"):
        args = ("--tokens", listed, "-o", out, "--backend", backend, *flags)
        done = gantry(command, path, *args).succeeded()
        equal(done.text, f"{len(IDS)} {len(want) // len(IDS)}\n", f"{what}: stdout")
        error = oracle.nmse(oracle.numbers("f", out), want)
        check(error < NMSE_MAX, f"{what} on {backend}: NMSE {error:.3g}")


@test
def every_family_is_what_its_page_says():
    for arch, trait in list(TRAITS.items())[:: harness.SCALE]:
        compare(arch, arch, trait)


@test
def variants_within_a_family_are_told_by_their_files():
    for what, (arch, trait) in list(VARIANTS.items())[:: harness.SCALE]:
        compare(what, arch, trait)


@test
def encoders_are_what_their_pages_say():
    for variants in ENCODERS.values():
        for kind, more in variants:
            model = formulas_more.Encoder(kind, seed_of(kind), **more)
            path = model.write(os.path.join(harness.TMP, "formula-encoder.gguf"))
            want = formulas_more.EncoderPass(model).states(IDS)
            require_close(f"{kind} {more}", "embed", path, want, "--pooling", "none")


@test
def rwkv6_is_what_its_page_says():
    for rescale in (0, 2):
        model = formulas_more.Rwkv6(seed_of("rwkv6"), rescale)
        path = model.write(os.path.join(harness.TMP, "formula-rwkv6.gguf"))
        want = formulas_more.Rwkv6Pass(model).logits(IDS)
        require_close(f"rwkv6, halved every {rescale} layers", "logits", path, want)


@test
def no_known_architecture_is_only_believed_in():
    file = gguf.Gguf()
    file.keys["general.architecture"] = (gguf.STRING, b"zebra")
    file.add_f32("token_embd.weight", [4], [0.0] * 4)
    path = file.write(os.path.join(harness.TMP, "zebra.gguf"))
    done = gantry("logits", path, "--tokens", "1", "-o", os.path.join(harness.TMP, "x"))
    known = re.search(r"'zebra' is not known; known: (.*)$", done.err.strip()).group(1).split(", ")
    folder = shared_path("oracle/public/models")
    with open(os.path.join(folder, "index.tsv"), encoding="utf-8") as table:
        recorded = {line.split("\t")[1] for line in table}
    left = sorted(set(known) - recorded - set(COMPUTED))
    equal(left, [], "known architectures that nothing computes")
    check(len(known) >= 53, f"{len(known)} known architectures")
