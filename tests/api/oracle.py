"""oracle.py - stories260K and what is known about it: texts, ids, logits, perplexities."""
import array
import functools
import json
import os
import sys

import harness
from harness import gantry, shared_path

BOS, EOS = 1, 2


def path(relative):
    return os.path.join(shared_path("oracle/public/stories260k"), relative)


def model(dtype):
    return path(f"gguf/stories260K-{dtype}.gguf")


@functools.lru_cache
def index():
    with open(path("index.json"), encoding="utf-8") as file:
        return json.load(file)


def prompt(number):
    return next(p for p in index()["prompts"] if p["id"] == number)


def numbers(typecode, file):
    values = array.array(typecode)
    with open(file, "rb") as f:
        values.frombytes(f.read())
    if sys.byteorder == "big":
        values.byteswap()
    return values


def ids_text(ids):
    """What these ids stand for, as `detokenize` says; test_oracle compares that, too."""
    text = " ".join(map(str, ids))
    return gantry("detokenize", model("F32"), stdin=text.encode()).succeeded().out


class Greedy:
    """The recorded likeliest continuation of a prompt, as far as it can be told for sure."""

    def __init__(self, dtype, number, kind="exact", margin=0.0):
        row = next(
            g
            for g in index()["greedy"]
            if (g["model"], g["prompt"], g["kind"]) == (dtype, number, kind)
        )
        ids = numbers("i", path(row["ids"]))
        margins = numbers("f", path(row["margins"]))
        sure = next((i for i, m in enumerate(margins) if m <= margin), len(ids))
        stop = next((i for i, t in enumerate(ids) if t in (BOS, EOS)), len(ids))
        self.ids = ids[: min(sure, stop)]
        self.prompt = prompt(number)

    def text(self):
        """The bytes that `run` has to print for it."""
        before = ids_text(self.prompt["ids"])
        after = ids_text([*self.prompt["ids"], *self.ids])
        harness.check(after.startswith(before), "the prompt is no prefix of the whole")
        return after[len(before) :]


def nmse(got, want):
    harness.equal(len(got), len(want), "numbers")
    error = sum((a - b) ** 2 for a, b in zip(got, want))
    return error / sum(b * b for b in want)
