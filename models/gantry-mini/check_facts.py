#!/usr/bin/env python3
"""check_facts.py - does what facts/ says still hold in this repository?

    python3 check_facts.py [ROOT]

Checked are names: options.tsv against docs/config.md, flags, variables, metrics and paths of
answers against the sources, and that every block of errors.txt has a message which the
sources print.  What a sentence means is for people to check.  Exit 1 names what is gone.
"""
import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from corpus import facts  # noqa: E402


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


def sources(root):
    paths = sorted(glob.glob(os.path.join(root, "src", "**", "*.[ch]"), recursive=True))
    return "\n".join(read(p) for p in paths)


# --- options --------------------------------------------------------------------------------

# name in the file, flags, variable, values, default
ROW = re.compile(r"\| `([a-z_.]+)` \| `(.*?)` \| `(GANTRY_\w+)` \| .*? \| (`[^`]*`|) ?\|")


def documented_options(root):
    """flag -> (name in the file, default), from the rows of docs/config.md."""
    out = {}
    for line in read(root, "docs", "config.md").splitlines():
        cells = ROW.match(line)
        if cells:
            flag = re.search(r"--[a-z-]+", cells.group(2)).group()
            out[flag] = (cells.group(1), cells.group(4).strip("`") or "-", cells.group(3))
    return out


# Options that came after the corpus which the committed model was trained on: a row for each goes into
# options.tsv before the next training, and its name out of here.
LATER = set()


def wrong_options(root):
    known = documented_options(root)
    for flag, key, default, _ in facts.read_options():
        if known.get(flag) != (key, default, facts.variable_of(flag)):
            yield f"options.tsv: {flag} is {known.get(flag, 'no option')} in docs/config.md"
    told = {row[0] for row in facts.read_options()}
    for flag in sorted(LATER & told):
        yield f"check_facts.py: LATER names {flag}, which options.tsv has"
    for flag in sorted(set(known) - told - LATER):
        yield f"options.tsv: {flag} of docs/config.md is missing"


# --- names in answers -----------------------------------------------------------------------

NAMES = re.compile(r"(?<![\w-])--[a-z][a-z-]*|GANTRY_[A-Z_]+[A-Z]|gantry_[a-z_]+|docs/[\w./-]+")
OTHERS = {"--help", "--version", "--config", "--flag"}


def names_of(root):
    flags = set(re.findall(r"--[a-z][a-z-]*", read(root, "docs", "config.md")))
    metrics = set(re.findall(r"gantry_[a-z_]+", read(root, "docs", "metrics.md")))
    variables = set(re.findall(r"GANTRY_[A-Z_]+", read(root, "docs", "config.md")))
    return flags | metrics | variables | OTHERS


def wrong_names(root):
    known = names_of(root)
    for fact in facts.read_all():
        for name in NAMES.findall(fact.answer):
            if name not in known and not os.path.exists(os.path.join(root, name)):
                yield f"facts: {name!r} of {fact.answer!r} is not there"


# --- messages -------------------------------------------------------------------------------

def printed_texts(root):
    """String constants of the sources, neighbours joined, conversions as a NUL."""
    text = re.sub(r'"\s*(?:PRI\w+|STATUS_\w+)\s*"', "", sources(root))
    text = re.sub(r'"\s*\n\s*"', "", text)
    strings = re.findall(r'"((?:[^"\\\n]|\\.)*)"', text)
    return [re.sub(r"%[-+ 0#]*[\d.*]*(?:[hlzjt]*[a-zA-Z]|)", "\0", s) for s in strings]


OF_THE_SYSTEM = {"No such file or directory", "address already in use"}


def is_printed(message, texts):
    """Every fixed piece of the message stands in some text: a message may be put together."""
    pieces = [p.strip(" '") for p in re.split(r"<\w+>|\d+|'[^']*'|: ", message)]
    pieces = [p for p in pieces if len(p) > 3]
    return message in OF_THE_SYSTEM or \
        bool(pieces) and all(any(p in t for t in texts) for p in pieces)


def wrong_messages(root):
    texts = printed_texts(root)
    for block in read(HERE, "facts", "errors.txt").split("\n\n"):
        messages = [line[2:] for line in block.splitlines() if line.startswith("! ")]
        if messages and not any(is_printed(m, texts) for m in messages):
            yield f"errors.txt: no source prints {messages[0]!r}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "..")
    wrong = [*wrong_options(root), *wrong_names(root), *wrong_messages(root)]
    for line in wrong:
        print(line)
    print(f"check_facts: {len(facts.read_all())} facts, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
