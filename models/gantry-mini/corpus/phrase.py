"""phrase.py - many wordings of one question.

A pattern is a sentence with alternatives: `(which|what) port does gantry use( by default|)`
has four wordings.  Alternatives may stand in one another.  Patterns are written as they would
stand within a sentence; dress() makes the forms that people type.
"""

OPENERS = ("Hi, ", "Hello, ", "Please tell me, ", "Quick question: ", "One question: ",
           "I have a question: ", "Can you tell me, ", "Tell me, ", "Help: ", "Sorry, ")
CLOSERS = (" Thanks.", " Thank you.", " Please.", " Please help.")


def _split_alternatives(text):
    """`a|b(c|d)` at its outermost bars."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "|" and depth == 0:
            parts.append(text[begin:i])
            begin = i + 1
    return parts + [text[begin:]]


def _closing(text, at):
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"phrase: '(' at {at} of {text!r} is never closed")


def expand(pattern):
    """All wordings, in the order of their alternatives."""
    at = pattern.find("(")
    if at < 0:
        return [pattern]
    end = _closing(pattern, at)
    middles = [w for part in _split_alternatives(pattern[at + 1:end]) for w in expand(part)]
    tails = expand(pattern[end + 1:])
    return [pattern[:at] + m + t for m in middles for t in tails]


def expand_all(patterns):
    """The wordings of several patterns, each once."""
    return list(dict.fromkeys(" ".join(w.split()) for p in patterns for w in expand(p)))


def capitalize(text):
    """The first letter only: names and flags keep theirs."""
    return text[:1].upper() + text[1:]


def is_order(text):
    """Orders end with a full stop, questions with a mark."""
    first = text.split()[0].rstrip(",").lower()
    return first in ORDERS or text.endswith(".")


ORDERS = frozenset((
    "a add alphabetize answer arrange ask book bring calculate call change check compare "
    "compute convert count create describe divide draw explain extract find gantry get give "
    "go i it let list look make measure multiply my name open order play please put read "
    "recite remind repeat reverse say search send set show sort spell start stop subtract "
    "switch take tell that the this translate turn use what's write").split())


def _end(text):
    if text[-1] in ".?!:":
        return text
    return text + ("." if is_order(text) and not text.startswith("what's") else "?")


def dress(rng, text):
    """One of the ways in which people type it."""
    way = rng.random()
    if way < 0.5:
        return capitalize(_end(text))
    if way < 0.65:
        return text
    if way < 0.75:
        return text.lower() if "-" not in text and "_" not in text else text
    if way < 0.9:
        return rng.choice(OPENERS) + _end(text)
    return capitalize(_end(text)) + rng.choice(CLOSERS)
