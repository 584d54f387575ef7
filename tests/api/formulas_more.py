"""formulas_more.py - encoders and RWKV-6 in double precision, for models of random weights.

Sources: the pages of docs/models and the papers they name.  As in formulas.py nothing is shared
with the engine.
"""
import math

import gguf
from formulas import ACTS, CTX, D, E, EPS, F, H, L, U, V
from formulas import Pass, Weights, add, dot, matmul, sigmoid, softmax, standard, times

HEAD = D // H
SLOPES = {4: (2**-2, 2**-4, 2**-6, 2**-8)}  # ALiBi of four heads


class Encoder(Weights):
    """kind: bert, nomic-bert, nomic-bert-moe or jina-bert-v2."""

    def __init__(self, kind, seed, fused=False, extras=False):
        super().__init__(seed)
        self.kind, self.fused, self.extras = kind, fused, extras
        self.matrix("token_embd.weight", V, D, 1.0)
        self.matrix("token_types.weight", 2, D, 0.5)
        if kind == "bert":
            self.matrix("position_embd.weight", CTX, D, 0.5)
        self.layer_norm("token_embd_norm")
        for i in range(L):
            self._layer(f"blk.{i}.", i)

    def has_experts(self, i):
        return self.kind == "nomic-bert-moe" and i % 2 == 1

    def _layer(self, at, i):
        biased = self.kind in ("bert", "jina-bert-v2", "nomic-bert-moe")
        if self.fused:
            self.linear(at + "attn_qkv", 3 * D, D, biased)
        else:
            for name in ("attn_q", "attn_k", "attn_v"):
                self.linear(at + name, D, D, biased)
        if self.extras:
            for name in ("attn_q_norm", "attn_k_norm", "attn_norm_2"):
                self.layer_norm(at + name)
        self.linear(at + "attn_output", D, D, biased)
        self.layer_norm(at + "attn_output_norm")
        self.layer_norm(at + "layer_output_norm")
        if self.has_experts(i):
            self.matrix(at + "ffn_gate_inp.weight", E, D, 0.5)
            self.stack(at + "ffn_up_exps.weight", E, F, D)
            self.stack(at + "ffn_down_exps.weight", E, D, F)
            return
        if self.kind in ("nomic-bert", "jina-bert-v2"):
            self.linear(at + "ffn_gate", F, D, False)
        self.linear(at + "ffn_up", F, D, biased and self.kind != "jina-bert-v2")
        self.linear(at + "ffn_down", D, F, biased)

    def write(self, path):
        keys = [
            ("block_count", gguf.U32, L),
            ("context_length", gguf.U32, CTX),
            ("embedding_length", gguf.U32, D),
            ("feed_forward_length", gguf.U32, F),
            ("attention.head_count", gguf.U32, H),
            ("attention.layer_norm_epsilon", gguf.F32, EPS),
            ("attention.causal", gguf.BOOL, False),
            ("pooling_type", gguf.U32, 1),
        ]
        if self.kind.startswith("nomic"):
            keys.append(("rope.freq_base", gguf.F32, 1000.0))
        if self.kind == "nomic-bert-moe":
            keys += [("expert_count", gguf.U32, E), ("expert_used_count", gguf.U32, U)]
            keys.append(("moe_every_n_layers", gguf.U32, 2))
        return self.write_keys(self.kind, keys, path)


class EncoderPass(Pass):
    def __init__(self, model):
        super().__init__(model.values, centred=True)
        self.model, self.kind = model, model.kind

    def turned(self, row, pos):
        """Halves of each head, the whole head."""
        out = list(row)
        for h in range(0, D, HEAD):
            for i in range(HEAD // 2):
                a, b, angle = h + i, h + i + HEAD // 2, pos * 1000.0 ** (-2 * i / HEAD)
                out[a] = row[a] * math.cos(angle) - row[b] * math.sin(angle)
                out[b] = row[a] * math.sin(angle) + row[b] * math.cos(angle)
        return out

    def queries_keys_values(self, at, x, pos):
        if self.model.fused:
            row = self.linear(at + "attn_qkv", x)
            q, k, v = row[:D], row[D : 2 * D], row[2 * D :]
        else:
            q, k, v = (self.linear(at + name, x) for name in ("attn_q", "attn_k", "attn_v"))
        if self.model.extras:
            q, k = self.norm(q, at + "attn_q_norm"), self.norm(k, at + "attn_k_norm")
        if self.kind.startswith("nomic"):
            q, k = self.turned(q, pos), self.turned(k, pos)
        return q, k, v

    def attention(self, at, rows):
        parts = [self.queries_keys_values(at, x, pos) for pos, x in enumerate(rows)]
        for i, (q, _, _) in enumerate(parts):
            result = []
            for h in range(H):
                cut = slice(h * HEAD, (h + 1) * HEAD)
                slope = SLOPES[H][h] if self.kind == "jina-bert-v2" else 0.0
                scores = [
                    dot(q[cut], k[cut]) / math.sqrt(HEAD) - slope * abs(i - j)
                    for j, (_, k, _) in enumerate(parts)
                ]
                columns = zip(*(v[cut] for _, _, v in parts))
                shares = softmax(scores)
                result += [dot(shares, column) for column in columns]
            yield self.linear(at + "attn_output", result)

    def experts(self, at, x):
        shares = softmax(self.linear(at + "ffn_gate_inp", x))
        out = [0.0] * D
        for e in sorted(range(E), key=lambda e: -shares[e])[:U]:
            inner = map(ACTS["gelu"], matmul(self.m[at + "ffn_up_exps.weight"][e], x))
            inner = list(inner)
            out = add(out, times(shares[e], matmul(self.m[at + "ffn_down_exps.weight"][e], inner)))
        return out

    def feed_forward(self, at, i, x):
        if self.model.has_experts(i):
            return self.experts(at, x)
        act = ACTS["silu" if self.kind == "nomic-bert" else "gelu"]
        up = self.linear(at + "ffn_up", x)
        if at + "ffn_gate.weight" in self.m:
            inner = [act(a) * b for a, b in zip(self.linear(at + "ffn_gate", x), up)]
        else:
            inner = [act(a) for a in up]
        return self.linear(at + "ffn_down", inner)

    def states(self, ids):
        rows = []
        for pos, token in enumerate(ids):
            x = add(self.m["token_embd.weight"][token], self.m["token_types.weight"][0])
            if self.kind == "bert":
                x = add(x, self.m["position_embd.weight"][pos])
            rows.append(self.norm(x, "token_embd_norm"))
        for i in range(L):
            at, out = f"blk.{i}.", []
            for x, a in zip(rows, list(self.attention(at, rows))):
                y = self.norm(add(x, a), at + "attn_output_norm")
                if self.model.extras:
                    y = self.norm(add(x, y), at + "attn_norm_2")
                y = add(y, self.feed_forward(at, i, y))
                out.append(self.norm(y, at + "layer_output_norm"))
            rows = out
        return [v for x in rows for v in x]


# --- RWKV-6 ---------------------------------------------------------------------------------------

MIX, DECAY = 3, 5  # widths of the two low-rank adapters
HEADS_EPS = 64e-5


class Rwkv6(Weights):
    def __init__(self, seed, rescale=0):
        super().__init__(seed)
        self.rescale = rescale
        self.matrix("token_embd.weight", V, D, 1.0)
        self.matrix("output.weight", V, D)
        self.layer_norm("token_embd_norm")
        self.layer_norm("output_norm")
        for i in range(L):
            self._layer(f"blk.{i}.")

    def _layer(self, at):
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            self.layer_norm(at + name)
        for name in ("time_mix_lerp_x", "channel_mix_lerp_k", "channel_mix_lerp_r"):
            self.vector(at + name + ".weight", D, 0.5)
        self.matrix(at + "time_mix_w1.weight", 5 * MIX, D)
        self.stack(at + "time_mix_w2.weight", 5, D, MIX)
        lerps = [[[self.row(D, 0.5)]] for _ in range(5)]
        self.values[at + "time_mix_lerp_fused.weight"] = lerps
        self.vector(at + "time_mix_decay.weight", D, -0.5)
        self.matrix(at + "time_mix_decay_w1.weight", DECAY, D)
        self.matrix(at + "time_mix_decay_w2.weight", D, DECAY)
        self.matrix(at + "time_mix_first.weight", H, HEAD, 0.5)
        for name in ("receptance", "key", "value", "gate", "output"):
            self.matrix(f"{at}time_mix_{name}.weight", D, D)
        self.matrix(at + "channel_mix_key.weight", F, D)
        self.matrix(at + "channel_mix_value.weight", D, F)
        self.matrix(at + "channel_mix_receptance.weight", D, D)

    def write(self, path):
        keys = [
            ("block_count", gguf.U32, L),
            ("context_length", gguf.U32, CTX),
            ("embedding_length", gguf.U32, D),
            ("feed_forward_length", gguf.U32, F),
            ("attention.head_count", gguf.U32, 0),
            ("attention.layer_norm_epsilon", gguf.F32, EPS),
            ("wkv.head_size", gguf.U32, HEAD),
            ("time_mix_extra_dim", gguf.U32, MIX),
            ("time_decay_extra_dim", gguf.U32, DECAY),
            ("rescale_every_n_layers", gguf.U32, self.rescale),
        ]
        return self.write_keys("rwkv6", keys, path)


class Rwkv6Pass(Pass):
    """Token after token, each with the states that the one before has left."""

    def __init__(self, model):
        super().__init__(model.values, centred=True)
        self.rescale = model.rescale
        zeros = [0.0] * D
        self.before = {(i, part): zeros for i in range(L) for part in "tc"}
        self.state = [[[[0.0] * HEAD for _ in range(HEAD)] for _ in range(H)] for _ in range(L)]

    def shifted(self, key, n):
        step = [a - b for a, b in zip(self.before[key], n)]
        self.before[key] = n
        return step

    def time_mix(self, i, at, n):
        m, step = self.m, self.shifted((i, "t"), n)
        mix = [a + s * c for a, s, c in zip(n, step, m[at + "time_mix_lerp_x.weight"])]
        down = [math.tanh(v) for v in matmul(m[at + "time_mix_w1.weight"], mix)]
        inputs = []
        for c in range(5):
            more = matmul(m[at + "time_mix_w2.weight"][c], down[c * MIX : (c + 1) * MIX])
            lerp = add(m[at + "time_mix_lerp_fused.weight"][c][0][0], more)
            inputs.append([a + s * l for a, s, l in zip(n, step, lerp)])
        w_in, k_in, v_in, r_in, g_in = inputs
        r, k, v, g = (
            self.linear(f"{at}time_mix_{name}", x)
            for name, x in zip(("receptance", "key", "value", "gate"), (r_in, k_in, v_in, g_in))
        )
        low = [math.tanh(x) for x in self.linear(at + "time_mix_decay_w1", w_in)]
        decay = add(m[at + "time_mix_decay.weight"], self.linear(at + "time_mix_decay_w2", low))
        w = [math.exp(-math.exp(x)) for x in decay]
        y = []
        for h in range(H):
            cut = slice(h * HEAD, (h + 1) * HEAD)
            first, state = m[at + "time_mix_first.weight"][h], self.state[i][h]
            y += standard(self.head(state, first, r[cut], k[cut], v[cut], w[cut]), HEADS_EPS)
        gain, bias = m[at + "time_mix_ln.weight"], m[at + "time_mix_ln.bias"]
        y = [(a * b + c) * x * sigmoid(x) for a, b, c, x in zip(y, gain, bias, g)]
        return self.linear(at + "time_mix_output", y)

    @staticmethod
    def head(state, first, r, k, v, w):
        """y = r (S + diag(first) k^T v), then S = diag(w) S + k^T v."""
        y = [0.0] * HEAD
        for a in range(HEAD):
            for b in range(HEAD):
                fresh = k[a] * v[b]
                y[b] += r[a] * (state[a][b] + first[a] * fresh)
                state[a][b] = w[a] * state[a][b] + fresh
        return y

    def channel_mix(self, i, at, n):
        m, step = self.m, self.shifted((i, "c"), n)
        k_in, r_in = (
            [a + s * c for a, s, c in zip(n, step, m[f"{at}channel_mix_lerp_{name}.weight"])]
            for name in "kr"
        )
        k = [max(0.0, x) ** 2 for x in self.linear(at + "channel_mix_key", k_in)]
        r = [sigmoid(x) for x in self.linear(at + "channel_mix_receptance", r_in)]
        return [a * b for a, b in zip(r, self.linear(at + "channel_mix_value", k))]

    def logits(self, ids):
        out = []
        for token in ids:
            x = self.norm(self.m["token_embd.weight"][token], "token_embd_norm")
            for i in range(L):
                at = f"blk.{i}."
                x = add(x, self.time_mix(i, at, self.norm(x, at + "attn_norm")))
                x = add(x, self.channel_mix(i, at, self.norm(x, at + "attn_norm_2")))
                if self.rescale and (i + 1) % self.rescale == 0:
                    x = times(0.5, x)
            out += self.linear("output", self.norm(x, "output_norm"))
        return out
