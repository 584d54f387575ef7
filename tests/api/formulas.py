"""formulas.py - decoders in double precision, from the papers, for models of random weights.

A Trait says what a family chooses; Model has random weights for it and writes them with keys and
tensors as files have them; Forward computes what they mean.  Nothing is shared with the engine:
rows are lists, all positions of a layer are computed before the next, every choice is written out.
"""
import array
import dataclasses
import math
import random

import gguf

V, D, L, H, F, E, U = 40, 32, 4, 4, 48, 5, 2
EPS = 1e-5
CTX = 64


@dataclasses.dataclass
class Trait:
    """What a family chooses; the defaults are those of llama."""

    norm: str = "rms"  # rms, layer, bare (a layer norm without parameters)
    norm_bias: bool = False
    embd_norm: bool = False
    block: str = "serial"  # serial, shared (one norm for both), both (two norms of the same x)
    ffn_norm: str = "ffn_norm"
    act: str = "silu"  # silu, gelu, relu2
    gated: bool = True
    fused_up: bool = False  # gate above up in ffn_up
    fused_qkv: bool = False
    qkv_bias: bool = False
    bias: bool = False  # of every other matrix of a block
    out_bias: bool = False
    tied: bool = False
    kv_heads: int = 2
    head_dim: int = 8
    rope: str = "adjacent"  # adjacent, halves, none
    turned: int = 8  # elements of a head
    base: float = 10000.0
    freqs: bool = False  # rope_freqs.weight
    stretch: tuple = ()  # a factor on each pair's frequency
    magnitude: float = 1.0  # of turned pairs
    alibi: bool = False
    learned: bool = False
    qk_norm: str = ""  # heads, whole, after (heads, after the rotation)
    clamp: float = 0.0
    window: int = 0
    window_layers: tuple = ()
    plain_layers: tuple = ()  # neither turned
    embd_scale: float = 1.0
    residual_scale: float = 1.0
    attn_scale: float = 0.0
    logit_factor: float = 1.0  # logits are multiplied by it
    moe: str = ""  # softmax, sigmoid (with a bias on the choice); a 1 behind: weights sum to 1
    moe_scale: float = 1.0
    dense_layers: int = 0
    shared: int = 0  # width of the shared expert
    half_ff: bool = False  # the key counts gate and up
    extra_layers: int = 0  # at the end, not used
    keys: tuple = ()  # (name below the architecture, type, value)


class Weights:
    """Named vectors, matrices [rows][columns] and stacks of matrices, of numbers that f32 holds."""

    def __init__(self, seed):
        self.rng, self.values = random.Random(seed), {}

    def row(self, count, mean=0.0, spread=0.2):
        return list(array.array("f", [self.rng.gauss(mean, spread) for _ in range(count)]))

    def vector(self, name, count, mean=0.0, spread=0.2):
        self.values[name] = self.row(count, mean, spread)

    def matrix(self, name, rows, columns, spread=0.25):
        self.values[name] = [self.row(columns, 0, spread) for _ in range(rows)]

    def stack(self, name, count, rows, columns):
        self.values[name] = [
            [self.row(columns, 0, 0.25) for _ in range(rows)] for _ in range(count)
        ]

    def linear(self, name, rows, columns, bias):
        self.matrix(name + ".weight", rows, columns)
        if bias:
            self.vector(name + ".bias", rows)

    def layer_norm(self, name, count=D, bias=True):
        self.vector(name + ".weight", count, 1.0)
        if bias:
            self.vector(name + ".bias", count)

    def write_keys(self, arch, keys, path):
        """keys: (name below the architecture, type, value)"""
        file = gguf.Gguf()
        file.keys["general.architecture"] = (gguf.STRING, arch.encode())
        for name, kind, value in keys:
            file.keys[f"{arch}.{name}"] = (kind, value)
        for name, value in self.values.items():
            file.add_f32(name, *flat(value))
        return file.write(path)


class Model(Weights):
    """A decoder of a trait."""

    def __init__(self, trait, seed):
        super().__init__(seed)
        self.trait = trait
        self._build()

    def norm(self, name, count=D, bias=None):
        if self.trait.norm == "bare":
            return
        self.layer_norm(name, count, self.trait.norm_bias if bias is None else bias)

    def _build(self):
        t = self.trait
        self.matrix("token_embd.weight", V, D, 1.0)
        if t.learned:
            self.matrix("position_embd.weight", CTX, D, 0.5)
        if t.embd_norm:
            self.norm("token_embd_norm")
        if t.freqs:
            self.values["rope_freqs.weight"] = [1 + 0.5 * i for i in range(t.turned // 2)]
        self.norm("output_norm")
        if not t.tied:
            self.linear("output", V, D, t.out_bias)
        for i in range(L + t.extra_layers):
            self._build_layer(f"blk.{i}.", i)

    def _build_layer(self, at, i):
        t = self.trait
        q, kv = H * t.head_dim, t.kv_heads * t.head_dim
        self.norm(at + "attn_norm")
        if t.block != "shared":
            self.norm(at + t.ffn_norm)
        if t.fused_qkv:
            self.linear(at + "attn_qkv", q + 2 * kv, D, t.qkv_bias)
        else:
            for name, rows in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
                self.linear(at + name, rows, D, t.qkv_bias)
        if t.qk_norm:
            whole = t.qk_norm == "whole"
            self.norm(at + "attn_q_norm", q if whole else t.head_dim, False)
            self.norm(at + "attn_k_norm", kv if whole else t.head_dim, False)
        self.linear(at + "attn_output", D, q, t.bias)
        if t.moe and i >= t.dense_layers:
            self.matrix(at + "ffn_gate_inp.weight", E, D, 0.5)
            for name, rows, columns in (("gate", F, D), ("up", F, D), ("down", D, F)):
                self.stack(f"{at}ffn_{name}_exps.weight", E, rows, columns)
            if t.moe.startswith("sigmoid"):
                self.vector(at + "exp_probs_b.bias", E, 0.0, 0.5)
            if t.shared:
                self.matrix(at + "ffn_gate_shexp.weight", t.shared, D)
                self.matrix(at + "ffn_up_shexp.weight", t.shared, D)
                self.matrix(at + "ffn_down_shexp.weight", D, t.shared)
            return
        if t.gated and not t.fused_up:
            self.linear(at + "ffn_gate", F, D, t.bias)
        self.linear(at + "ffn_up", 2 * F if t.fused_up else F, D, t.bias)
        self.linear(at + "ffn_down", D, F, t.bias)

    # --- the file

    def write(self, arch, path):
        t = self.trait
        counts = {
            "block_count": L + t.extra_layers,
            "context_length": CTX,
            "embedding_length": D,
            "feed_forward_length": 2 * F if t.half_ff else F,
            "attention.head_count": H,
            "attention.head_count_kv": t.kv_heads,
        }
        if t.head_dim != D // H:
            counts["attention.key_length"] = counts["attention.value_length"] = t.head_dim
        if t.rope != "none":
            counts["rope.dimension_count"] = t.turned
        keys = [(name, gguf.U32, value) for name, value in counts.items()]
        rms = "_rms" if t.norm == "rms" else ""
        keys.append((f"attention.layer_norm{rms}_epsilon", gguf.F32, EPS))
        if t.rope != "none":
            keys.append(("rope.freq_base", gguf.F32, t.base))
        return self.write_keys(arch, [*keys, *t.keys], path)


def flat(value):
    """Dims, innermost first, and the numbers of a nest of lists."""
    if not isinstance(value[0], list):
        return [len(value)], value
    parts = [flat(inner) for inner in value]
    return [*parts[0][0], len(value)], [x for _, part in parts for x in part]


# --- the computation ------------------------------------------------------------------------------


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def add(*rows):
    return [sum(values) for values in zip(*rows)]


def times(factor, row):
    return [factor * x for x in row]


def softmax(row):
    top = max(row)
    powers = [math.exp(x - top) for x in row]
    total = sum(powers)
    return [p / total for p in powers]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


ACTS = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu2": lambda x: max(0.0, x) ** 2,
}


def yarn_stretch(pairs, base, factor, trained, fast=32.0, slow=1.0):
    """YaRN's factor on each frequency: 1 for pairs that turn often, 1 / factor for slow ones."""

    def pair_of(turns):
        return pairs * math.log(trained / (turns * 2 * math.pi)) / math.log(base)

    low = max(0, math.floor(pair_of(fast)))
    high = min(2 * pairs - 1, math.ceil(pair_of(slow)))
    keep = [1 - min(1, max(0, (i - low) / max(0.001, high - low))) for i in range(pairs)]
    return tuple(k + (1 - k) / factor for k in keep)


def matmul(rows, x):
    return [dot(row, x) for row in rows]


def standard(x, eps, centred=True):
    """Mean 0, unless not centred, and mean square 1."""
    mean = sum(x) / len(x) if centred else 0.0
    x = [v - mean for v in x]
    return times(1 / math.sqrt(dot(x, x) / len(x) + eps), x)


class Pass:
    """What computations of one text over named weights share."""

    def __init__(self, values, centred):
        self.m, self.centred = values, centred

    def norm(self, x, name):
        gain = self.m.get(name + ".weight", [1.0] * len(x))
        bias = self.m.get(name + ".bias", [0.0] * len(x))
        return [g * v + b for g, v, b in zip(gain, standard(x, EPS, self.centred), bias)]

    def linear(self, name, x):
        rows = matmul(self.m[name + ".weight"], x)
        return add(rows, self.m[name + ".bias"]) if name + ".bias" in self.m else rows


class Forward(Pass):
    """A decoder: all positions of one text, layer by layer."""

    def __init__(self, model):
        super().__init__(model.values, model.trait.norm != "rms")
        self.t = model.trait

    def heads(self, row):
        d = self.t.head_dim
        return [row[i : i + d] for i in range(0, len(row), d)]

    def turn(self, head, pos):
        r, out = self.t.turned, list(head)
        divisors = self.m.get("rope_freqs.weight", [1.0] * (r // 2))
        stretch = self.t.stretch or [1.0] * (r // 2)
        for i in range(r // 2):
            a, b = (2 * i, 2 * i + 1) if self.t.rope == "adjacent" else (i, i + r // 2)
            angle = pos * self.t.base ** (-2 * i / r) / divisors[i] * stretch[i]
            cos, sin = (self.t.magnitude * f(angle) for f in (math.cos, math.sin))
            out[a], out[b] = head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos
        return out

    def queries_keys_values(self, at, i, n, pos):
        t = self.t
        if t.fused_qkv:
            row, cut = self.linear(at + "attn_qkv", n), H * t.head_dim
            wide = t.kv_heads * t.head_dim
            q, k, v = row[:cut], row[cut : cut + wide], row[cut + wide :]
        else:
            q, k, v = (self.linear(at + name, n) for name in ("attn_q", "attn_k", "attn_v"))
        if t.clamp:
            q, k, v = ([max(-t.clamp, min(t.clamp, x)) for x in row] for row in (q, k, v))
        if t.qk_norm == "whole":
            q, k = self.norm(q, at + "attn_q_norm"), self.norm(k, at + "attn_k_norm")
        q, k, v = self.heads(q), self.heads(k), self.heads(v)
        turns = t.rope != "none" and i not in t.plain_layers
        if t.qk_norm == "after" and turns:
            q, k = ([self.turn(h, pos) for h in heads] for heads in (q, k))
        if t.qk_norm in ("heads", "after"):
            q = [self.norm(h, at + "attn_q_norm") for h in q]
            k = [self.norm(h, at + "attn_k_norm") for h in k]
        if t.qk_norm != "after" and turns:
            q, k = ([self.turn(h, pos) for h in heads] for heads in (q, k))
        return q, k, v

    def attention(self, at, i, rows):
        t, past, out = self.t, [], []
        scale = t.attn_scale or 1 / math.sqrt(t.head_dim)
        for pos, n in enumerate(rows):
            q, k, v = self.queries_keys_values(at, i, n, pos)
            past.append((k, v))
            first = max(0, pos - t.window + 1) if i in t.window_layers else 0
            result = []
            for h in range(H):
                g = h * t.kv_heads // H
                slope = 2.0 ** (-8.0 * (h + 1) / H) if t.alibi else 0.0
                seen = past[first : pos + 1]
                scores = [
                    scale * dot(q[h], keys[g]) - slope * (pos - first - j)
                    for j, (keys, _) in enumerate(seen)
                ]
                shares = softmax(scores)
                result += [dot(shares, column) for column in zip(*(v[g] for _, v in seen))]
            out.append(self.linear(at + "attn_output", result))
        return out

    def dense(self, at, n):
        t, act = self.t, ACTS[self.t.act]
        up = self.linear(at + "ffn_up", n)
        if t.fused_up:
            up = [act(a) * b for a, b in zip(up[:F], up[F:])]
        elif t.gated:
            up = [act(a) * b for a, b in zip(self.linear(at + "ffn_gate", n), up)]
        else:
            up = [act(a) for a in up]
        return self.linear(at + "ffn_down", up)

    def expert(self, gate, up, down, n):
        act = ACTS[self.t.act]
        inner = [act(dot(a, n)) * dot(b, n) for a, b in zip(gate, up)]
        return matmul(down, inner)

    def mixture(self, at, n):
        t = self.t
        z = self.linear(at + "ffn_gate_inp", n)
        scores = [sigmoid(x) for x in z] if t.moe.startswith("sigmoid") else softmax(z)
        choice = add(scores, self.m.get(at + "exp_probs_b.bias", [0.0] * E))
        best = sorted(range(E), key=lambda e: -choice[e])[:U]
        total = sum(scores[e] for e in best) if t.moe.endswith("1") else 1.0
        out = [0.0] * D
        stacks = [self.m[f"{at}ffn_{name}_exps.weight"] for name in ("gate", "up", "down")]
        for e in best:
            weight = t.moe_scale * scores[e] / total
            out = add(out, times(weight, self.expert(*(s[e] for s in stacks), n)))
        if t.shared:
            names = [f"{at}ffn_{name}_shexp.weight" for name in ("gate", "up", "down")]
            out = add(out, self.expert(*(self.m[name] for name in names), n))
        return out

    def feed_forward(self, at, i, n):
        return self.mixture(at, n) if self.t.moe and i >= self.t.dense_layers else self.dense(at, n)

    def layer(self, i, rows):
        t, at = self.t, f"blk.{i}."

        def grow(row, *more):
            return add(row, *(times(t.residual_scale, m) for m in more))

        n = [self.norm(x, at + "attn_norm") for x in rows]
        attended = self.attention(at, i, n)
        if t.block == "serial":
            rows = [grow(x, a) for x, a in zip(rows, attended)]
            normed = [self.norm(x, at + t.ffn_norm) for x in rows]
            return [grow(x, self.feed_forward(at, i, m)) for x, m in zip(rows, normed)]
        if t.block == "both":
            n = [self.norm(x, at + t.ffn_norm) for x in rows]
        fed = [self.feed_forward(at, i, m) for m in n]
        return [grow(x, a, f) for x, a, f in zip(rows, attended, fed)]

    def logits(self, ids):
        t = self.t
        rows = [times(t.embd_scale, self.m["token_embd.weight"][i]) for i in ids]
        if t.learned:
            rows = [add(x, p) for x, p in zip(rows, self.m["position_embd.weight"])]
        if t.embd_norm:
            rows = [self.norm(x, "token_embd_norm") for x in rows]
        for i in range(L):
            rows = self.layer(i, rows)
        out = []
        for x in rows:
            x = self.norm(x, "output_norm")
            if t.tied:
                z = matmul(self.m["token_embd.weight"], x)
            else:
                z = self.linear("output", x)
            out += times(t.logit_factor, z)
        return out
