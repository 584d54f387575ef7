"""values.py - the values that JSON and tool tasks copy from a sentence, by kind.

A kind is a word with parameters: `int:1:99`, `enum:red,green`.  Values of open kinds (names,
numbers, codes ...) belong to one side: those of the evaluation are in no JSON or tool task of
training.  Closed kinds (enum, bool, day, month) are the same on both sides.
"""
from corpus.words import DAYS, FOODS, HOBBIES, ITEMS, MONTHS, PEOPLE, THINGS, TOWNS, join

HELD_SHARE = 0.06
NUMBERS_APART = 13
_LISTS = {"hobbies": HOBBIES, "foods": FOODS, "things": THINGS}
_LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"


def _code(rng):
    return f"{rng.choice(_LETTERS)}{rng.choice(_LETTERS)}-{rng.randrange(100, 10000)}"


def _time(rng):
    return f"{rng.randrange(24):02}:{rng.randrange(0, 60, 5):02}"


def _file(rng):
    ending = rng.choice(("txt", "csv", "md", "pdf", "gguf", "json"))
    return f"{rng.choice(THINGS)}{rng.randrange(1, 100)}.{ending}"


def _draw_open(rng, kind, args):
    if kind == "int":
        return rng.randrange(int(args[0]), int(args[1]) + 1)
    if kind == "decimal":
        # never a whole number: 3.0 and 3 are the same to some readers
        return rng.randrange(int(args[0]), int(args[1])) + rng.randrange(1, 10) / 10
    if kind == "list":
        return rng.sample(_LISTS[args[0]], rng.randrange(2, 4))
    plain = {"person": PEOPLE, "town": TOWNS, "item": ITEMS}
    if kind in plain:
        return rng.choice(plain[kind])
    return {"code": _code, "time": _time, "file": _file}[kind](rng)


def _draw_closed(rng, kind, args):
    if kind == "bool":
        return rng.random() < 0.5
    return rng.choice({"day": DAYS, "month": MONTHS}.get(kind) or args[0].split(","))


OPEN = ("int", "decimal", "list", "person", "town", "item", "code", "time", "file")


def draw(rng, split, held, kind):
    name, *args = kind.split(":")
    if name not in OPEN:
        return _draw_closed(rng, name, args)
    while True:
        value = _draw_open(rng, name, args)
        if is_held_out(split, name, value) == held:
            return value


def is_held_out(split, name, value):
    """Lists are held out as a whole.  Whole numbers go by their remainder, so that every range
    of NUMBERS_APART has one that is held out."""
    if name == "int":
        return value % NUMBERS_APART == split.seed % NUMBERS_APART
    return split.is_held_out(HELD_SHARE, name, value)


def draw_known(rng, split, kind):
    """A name or thing for other skills: never one that the evaluation asks about."""
    return draw(rng, split, False, kind)


def open_values(kind, value):
    """What generate.py looks for on the other side."""
    return [(kind.split(":")[0], str(value))] if kind.split(":")[0] in OPEN else []


def spoken(value):
    return join(value) if isinstance(value, list) else str(value)


def schema(kind):
    name, *args = kind.split(":")
    if name == "int":
        return {"type": "integer"}
    if name == "decimal":
        return {"type": "number"}
    if name == "bool":
        return {"type": "boolean"}
    if name == "list":
        return {"type": "array", "items": {"type": "string"}}
    if name == "enum":
        return {"type": "string", "enum": args[0].split(",")}
    return {"type": "string"}
