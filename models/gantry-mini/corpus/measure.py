"""measure.py - which of two numbers is larger, and units into smaller units.

Held out by value: a pair of numbers, or a number with its two units.
"""
from corpus.arithmetic import product
from corpus.phrase import dress, expand_all
from corpus.sample import ask
from corpus.words import plural

HELD_SHARE = 0.05

LARGER = expand_all(("(which|what) is (larger|bigger|greater|more), {a} or {b}",
                     "which number is (larger|bigger|greater), {a} or {b}",
                     "compare {a} and {b}", "what is the larger of {a} and {b}"))
SMALLER = expand_all(("(which|what) is (smaller|less), {a} or {b}",
                      "which number is (smaller|less), {a} or {b}",
                      "what is the smaller of {a} and {b}"))
IS_LARGER = expand_all(("is {a} (larger|bigger|greater|more) than {b}", "is {a} > {b}"))
IS_SMALLER = expand_all(("is {a} (smaller|less) than {b}", "is {a} < {b}"))


def compare(rng, a, b):
    if a == b:
        return dress(rng, rng.choice(LARGER + SMALLER).format(a=a, b=b)), f"{a} and {b} are equal."
    more = f"{max(a, b)} is larger than {min(a, b)}."
    less = f"{min(a, b)} is smaller than {max(a, b)}."
    kind = rng.randrange(4)
    forms = (LARGER, SMALLER, IS_LARGER, IS_SMALLER)[kind]
    text = dress(rng, rng.choice(forms).format(a=a, b=b))
    if kind == 0:
        return text, more
    if kind == 1:
        return text, less
    yes = (a > b) == (kind == 2)
    return text, f"{'Yes' if yes else 'No'}, {more if kind == 2 else less}"


# larger unit, smaller unit, how many of it, numbers asked for
UNITS = (("hour", "minute", 60, 60), ("minute", "second", 60, 60), ("day", "hour", 24, 60),
         ("week", "day", 7, 60), ("year", "month", 12, 60), ("dozen", "piece", 12, 30),
         ("metre", "centimetre", 100, 99), ("kilometre", "metre", 1000, 99),
         ("kilogram", "gram", 1000, 99), ("litre", "millilitre", 1000, 99),
         ("centimetre", "millimetre", 10, 99), ("second", "millisecond", 1000, 99),
         ("tonne", "kilogram", 1000, 99))
FORMS = expand_all(("how many {small} (are|are in|make) {n_big}",
                    "convert {n_big} (to|into) {small}",
                    "{n_big} in {small}", "what are {n_big} in {small}",
                    "(tell me|give me) {n_big} in {small}"))


def many(unit):
    return unit if unit == "dozen" else unit + "s"


def convert(rng, n, unit):
    big, small, factor, _ = unit
    n_big = f"{n} {big}" if n == 1 or big == "dozen" else plural(n, big)
    text = dress(rng, rng.choice(FORMS).format(small=many(small), n_big=n_big))
    verb = "is" if n == 1 else "are"
    return text, f"{n_big} {verb} {product(n, factor)} {many(small)}."


def _conversions():
    return [(n, unit) for unit in UNITS for n in range(1, unit[3] + 1)]


def make(rng, split, count, held):
    out, conversions = [], _conversions()
    while len(out) < count:
        if rng.random() < 0.5:
            a = rng.randrange(100)
            b = a if rng.random() < 0.05 else rng.randrange(100)
            if split.is_held_out(HELD_SHARE, "compare", min(a, b), max(a, b)) == held:
                out.append(ask("measure", *compare(rng, a, b)))
        else:
            n, unit = rng.choice(conversions)
            if split.is_held_out(HELD_SHARE, "convert", n, unit[:2]) == held:
                out.append(ask("measure", *convert(rng, n, unit)))
    return out
