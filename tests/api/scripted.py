"""scripted.py - GGUF models that say what a test wants, word for word.

A model of one layer that does nothing: the embedding of a token is one-hot, attention and
feed-forward add zero, and the output matrix names the token that follows.  So the last token of
the prompt decides: the chat template ends a prompt with the cue of its last message, the cue
begins a script, and no token is in two places of a script.
"""
import array

from gguf import ARRAY, BOOL, F32, STRING, U32, Gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
EOS, HEAD_DIM, CONTEXT = 2, 64, 2048


class Control(str):
    """A piece of a script that is a control token."""


def cut(text, taken, chars):
    """The text in pieces of `chars` characters or more, none of which is in `taken`."""
    pieces, begin = [], 0
    while begin < len(text):
        end = begin + chars
        while end < len(text) and text[begin:end] in taken:
            end += 1
        pieces.append(text[begin:end])
        begin = end
        while pieces[-1] in taken:  # only at the end of the text
            assert len(pieces) > 1, f"no new piece in {text!r}"
            last = pieces.pop()
            taken.discard(pieces[-1])
            pieces[-1] += last
        taken.add(pieces[-1])
    return pieces


def pieces_of(script, taken, chars):
    """The script in pieces, each a (text, type)."""
    for part in script:
        if isinstance(part, Control):
            yield part, CONTROL
        else:
            yield from ((piece, NORMAL) for piece in cut(part, taken, chars))


class Vocabulary:
    def __init__(self):
        self.pieces = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
        self.pieces += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
        self.ids = {}  # of control tokens, which scripts share
        self.next = {}  # token -> token

    def add(self, text, kind):
        if kind == CONTROL and text in self.ids:
            return self.ids[text]
        self.pieces.append((text, kind))
        if kind == CONTROL:
            self.ids[text] = len(self.pieces) - 1
        return len(self.pieces) - 1

    def learn(self, cue, script, taken, chars):
        last = self.add(cue, USER_DEFINED)
        for text, kind in pieces_of(script, taken, chars):
            token = self.add(text, kind)
            assert last not in self.next, f"two tokens follow {self.pieces[last][0]!r}"
            self.next[last] = token
            last = token
        self.next.setdefault(last, EOS)


def cue_of(name):
    return f"<<{name}>>"


def template_of(names, head):
    """Tools and messages as they come, then the cue that the last message names."""
    text = head + (
        "{%- if tools -%}{{- tools | tojson -}}{%- endif -%}"
        "{%- for m in messages -%}"
        "{{- m.role + ': ' + (m.content or '') + '\\n' -}}"
        "{%- for c in m.tool_calls or [] -%}"
        "{{- c.function.name + ' ' + c.function.arguments | tojson + '\\n' -}}"
        "{%- endfor -%}"
        "{%- endfor -%}"
    )
    for name in names:
        text += f"{{%- if messages[-1].content == '{name}' -%}}{cue_of(name)}{{%- endif -%}}"
    return text


def zeros(count):
    return array.array("f", bytes(4 * count))


def ones(size, places):
    """A square matrix with 1 at each (row, column) of `places`, else 0."""
    values = zeros(size * size)
    for row, column in places:
        values[row * size + column] = 1.0
    return values


def write(path, scripts, head="", chars=4, template=None):
    """scripts: name -> text, or a list of texts and Controls, cut into tokens of `chars` characters
    or more.  head: stands in front of the template, unless there is another one."""
    vocabulary, taken = Vocabulary(), set()
    for name, script in scripts.items():
        parts = script if isinstance(script, list) else [script]
        vocabulary.learn(cue_of(name), parts, taken, chars)
    size = -(-len(vocabulary.pieces) // 64) * 64
    for i in range(len(vocabulary.pieces), size):
        vocabulary.add(f"<unused{i}>", USER_DEFINED)
    follows = [(vocabulary.next.get(token, EOS), token) for token in range(size)]

    g = Gguf()
    keys = {
        "general.architecture": (STRING, b"llama"),
        "general.name": (STRING, b"scripted"),
        "llama.vocab_size": (U32, size),
        "llama.context_length": (U32, CONTEXT),
        "llama.embedding_length": (U32, size),
        "llama.block_count": (U32, 1),
        "llama.feed_forward_length": (U32, 32),
        "llama.attention.head_count": (U32, size // HEAD_DIM),
        "llama.attention.head_count_kv": (U32, 1),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-6),
        "llama.rope.dimension_count": (U32, HEAD_DIM),
        "tokenizer.ggml.model": (STRING, b"llama"),
        "tokenizer.ggml.tokens": (
            ARRAY,
            (STRING, [text.replace(" ", "\u2581").encode() for text, _ in vocabulary.pieces]),
        ),
        "tokenizer.ggml.scores": (ARRAY, (F32, [0.0] * size)),
        "tokenizer.ggml.token_type": (ARRAY, (5, [kind for _, kind in vocabulary.pieces])),
        "tokenizer.ggml.unknown_token_id": (U32, 0),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, EOS),
        "tokenizer.ggml.add_bos_token": (BOOL, False),
        "tokenizer.ggml.add_space_prefix": (BOOL, False),
        "tokenizer.chat_template": (STRING, (template or template_of(scripts, head)).encode()),
    }
    g.keys.update(keys)
    g.add_f32("token_embd.weight", [size, size], ones(size, [(i, i) for i in range(size)]))
    for name, rows, columns in (
        ("attn_q", size, size),
        ("attn_k", HEAD_DIM, size),
        ("attn_v", HEAD_DIM, size),
        ("attn_output", size, size),
        ("ffn_gate", 32, size),
        ("ffn_up", 32, size),
        ("ffn_down", size, 32),
    ):
        g.add_f32(f"blk.0.{name}.weight", [columns, rows], zeros(rows * columns))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        g.add_f32(f"{name}.weight", [size], [1.0] * size)
    g.add_f32("output.weight", [size, size], ones(size, follows))
    return g.write(path)
