"""facts.py - what the model knows about Gantry, read from facts/.

A file of facts has a block per fact, blocks apart by empty lines:

    ? the KV cache             the usual questions about a thing
    + stop the server          ... about how to do something
    = stream answers           ... whether Gantry can do something
    ! unknown flag             ... about a message
    what does (a|the) ...      a pattern of its own (corpus/phrase.py)
    ~ who tells me ...         a pattern that no training file has: asked only in the evaluation
    > One answer for all.      the answer, word for word

<n> and <name> in a pattern become a number and a name when a sample is made.
"""
import os
from dataclasses import dataclass

from corpus.phrase import expand_all

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "facts")
FILES = ("start", "serving", "engine", "files", "errors", "config", "metrics", "status")

MACROS = {
    "?": ("(what is|what's) {x}", "(explain|describe) {x}", "what does {x} mean",
          "tell me about {x}", "what do you know about {x}"),
    "+": ("(how do I|how can I|how to) {x}", "what do I do to {x}", "I want to {x}",
          "how does one {x}", "(show|tell) me how to {x}"),
    "=": ("can (gantry|the server|it) {x}", "is gantry able to {x}", "is it possible to {x}",
          "can I {x} with gantry"),
    "!": ("what does \"{x}\" mean", "(why do I get|what is|explain) \"{x}\"",
          "I get (the error|the message) {x}",
          "(gantry says|the server says|the log says|error:) {x}",
          "what (do I do|can I do) about \"{x}\""),
}
# of a flag one asks more: what does it do?
FLAG = MACROS["?"] + ("what does {x} do", "what is {x} for", "when do I need {x}")
COMMAND = MACROS["?"] + ("what does {x} do", "what is {x} for")


@dataclass
class Fact:
    answer: str
    wordings: list   # for training and evaluation
    reworded: list   # for evaluation only


def _macro(mark, x):
    if mark == "?" and x.startswith("--"):
        return FLAG
    if mark == "?" and x.startswith("gantry "):
        return COMMAND
    return MACROS[mark]


def _expand_line(line):
    mark, rest = line[0], line[2:]
    if mark == "~":
        return expand_all((rest,))
    if line[1:2] == " " and mark in MACROS:
        # a message may hold any sign, so it is put in after expanding
        patterns = expand_all(_macro(mark, rest))
        things = [rest] if mark == "!" else expand_all((rest,))
        return [p.replace("{x}", t) for t in things for p in patterns]
    return expand_all((line,))


def _parse(block, where):
    wordings, reworded, answer = [], [], None
    for line in block:
        if line.startswith("> "):
            answer = line[2:]
        elif line.startswith("~ "):
            reworded += _expand_line(line)
        else:
            wordings += _expand_line(line)
    if answer is None or block[-1] != "> " + answer:
        raise ValueError(f"{where}: the block of {block[0]!r} does not end with one answer")
    return Fact(answer, list(dict.fromkeys(wordings)), reworded)


def _read(path):
    block = []
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines() + [""]:
            if line.startswith("#"):
                continue
            if line:
                block.append(line)
            elif block:
                yield _parse(block, path)
                block = []


def read_options():
    with open(os.path.join(FOLDER, "options.tsv"), encoding="utf-8") as f:
        return [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]


def variable_of(flag):
    return "GANTRY_" + flag[2:].upper().replace("-", "_")


def default_answer(flag, default):
    if default == "-":
        return f"{flag} has no default."
    return f"The default of {flag} is {default}."


def _option_facts():
    for flag, key, default, meaning in read_options():
        about = lambda answer, *patterns: Fact(answer, expand_all(patterns), [])
        yield about(f"The variable of {flag} is {variable_of(flag)}.",
                    f"(which|what) (environment|) variable (sets|is) {flag}",
                    f"what is the (environment|) variable (of|for) {flag}",
                    f"how do I set {flag} (with a variable|in the environment)")
        yield about(f"In the file {flag} is {key}.",
                    f"what is {flag} (called|named) in the (config|) file",
                    f"how do I set {flag} in the (config|) file",
                    f"(which|what) key of the config file is {flag}")
        yield about(default_answer(flag, default),
                    f"what is the default (value|) (of|for) {flag}",
                    f"which default has {flag}", f"what is {flag} when it is not given")
        if meaning != "-":
            yield about(f"{flag}: {meaning}.",
                        *(p.replace("{x}", flag) for p in FLAG), f"which values does {flag} take")


def _check_unique(facts):
    owner = {}
    for fact in facts:
        for w in fact.wordings + fact.reworded:
            if owner.setdefault(w.lower(), fact) is not fact:
                raise ValueError(f"facts: {w!r} has two answers: {owner[w.lower()].answer!r} "
                                 f"and {fact.answer!r}")


def read_all():
    facts = [fact for name in FILES for fact in _read(os.path.join(FOLDER, name + ".txt"))]
    facts += _option_facts()
    _check_unique(facts)
    return facts
