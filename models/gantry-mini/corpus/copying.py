"""copying.py - saying again what was said: what JSON and tool tasks are made of, on its own.

Held out: every open value (corpus/values.py).
"""
from corpus import values
from corpus.json_domains import DOMAINS
from corpus.sample import ask, compact
from corpus.words import join

KINDS = ("person", "person", "town", "town", "item", "item", "code", "time", "file", "int:2:9999",
         "decimal:1:90", "list:foods", "list:things", "list:hobbies")
REPEATS = ("Repeat: {v}", "Repeat {v}.", "Say {v}.", "Write {v}.", "repeat after me: {v}",
           "Please say {v}.", "Copy {v}.")
QUOTES = ("Put {v} into quotes.", "Write {v} in quotes.", "{v} in quotes, please.")
PAIRS = ("JSON with {k}: {v}", "Write {k} as JSON: {v}.", "{v} is the {k}. As JSON.",
         "The {k} is {v}. Answer as JSON.")
LISTS = ("{v} as a JSON list.", "Make a JSON list of {v}.", "A JSON list: {v}.")
NAMES = sorted({n for fields in DOMAINS.values() for f in fields for n in f.names})


def _repeat(rng, draw):
    said = values.spoken(draw())
    if rng.random() < 0.4:
        said = join([said, values.spoken(draw())])
    return rng.choice(REPEATS).format(v=said), said


def _quote(rng, draw):
    said = values.spoken(draw())
    return rng.choice(QUOTES).format(v=said), f'"{said}"'


def _pair(rng, draw):
    name, value = rng.choice(NAMES), draw()
    return rng.choice(PAIRS).format(k=name, v=values.spoken(value)), compact({name: value})


def _pairs(rng, draw):
    names = rng.sample(NAMES, rng.randrange(2, 4))
    given = {name: draw() for name in names}
    said = join(f"{name} {values.spoken(value)}" for name, value in given.items())
    return f"JSON with {said}.", compact(given)


def _list(rng, draw):
    items = [values.spoken(draw()) for _ in range(rng.randrange(2, 5))]
    return rng.choice(LISTS).format(v=join(items)), compact(items)


WAYS = (_repeat, _repeat, _quote, _pair, _pair, _pairs, _pairs, _list)
PLAIN = ("person", "town", "item", "code", "time", "file")


def make_one(rng, split, held):
    drawn, way = [], rng.choice(WAYS)

    def draw():
        kind = rng.choice(PLAIN if way is _list else KINDS)
        value = values.draw(rng, split, held, kind)
        drawn.extend(values.open_values(kind, value))
        return value

    question, answer = way(rng, draw)
    return ask("copying", question, answer, values=drawn)


def make(rng, split, count, held):
    return [make_one(rng, split, held) for _ in range(count)]
