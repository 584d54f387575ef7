"""json_tasks.py - answers as JSON for a schema that stands in the prompt.

The schema names some of what the text says, in any order, under one of several names; what it
does not name must not be in the answer.  Held out: every open value (corpus/values.py).
"""
from corpus import values
from corpus.json_domains import DOMAINS
from corpus.sample import Sample, assistant, compact, user
from corpus.words import join

AS_SYSTEM = ("Answer only with JSON for this schema: {schema}",
             "Answer with one JSON object. Schema: {schema}",
             "You turn text into JSON. The schema is {schema}",
             "Extract JSON with this schema: {schema}")
IN_USER = ("Extract JSON with this schema: {schema}\nText: {text}",
           "{text}\nAnswer as JSON with this schema: {schema}",
           "Schema: {schema}\n{text}",
           "Text: {text}\nGive me JSON for this schema: {schema}",
           "Turn this text into JSON. Schema: {schema}\nText: {text}")
BY_NAMES = ("Give me {keys} as JSON: {text}", "{text} Answer as JSON with the keys {keys}.",
            "JSON with {keys}: {text}", "Extract {keys} as JSON.\nText: {text}")


def _say(rng, field, value):
    if field.kind == "bool":
        return rng.choice(field.clauses if value else field.denials)
    return rng.choice(field.clauses).format(v=values.spoken(value))


def _record(rng, split, held):
    """Fields of one domain with values, in the order in which the text says them."""
    fields = DOMAINS[rng.choice(sorted(DOMAINS))]
    others = rng.sample(fields[1:], rng.randrange(1, min(5, len(fields))))
    return [(f, values.draw(rng, split, held, f.kind)) for f in [fields[0]] + others]


def _asked(rng, record):
    """Which fields the schema names, in its own order, with their names."""
    chosen = list(record)
    if len(chosen) > 2 and rng.random() < 0.4:
        chosen.pop(rng.randrange(len(chosen)))
    if rng.random() < 0.5:
        rng.shuffle(chosen)
    named = {}
    for f, value in chosen:
        name = rng.choice(f.names)
        while name in named:
            name = f.names[(f.names.index(name) + 1) % len(f.names)]
        named[name] = (f, value)
    return named


def _schema(rng, named):
    out = {"type": "object",
           "properties": {name: values.schema(f.kind) for name, (f, _) in named.items()}}
    if rng.random() < 0.5:
        out["required"] = list(named)
    if rng.random() < 0.2:
        out["additionalProperties"] = False
    return out


def make_one(rng, split, held):
    record = _record(rng, split, held)
    named = _asked(rng, record)
    text = " ".join(_say(rng, f, v) for f, v in record)
    answer = assistant(compact({name: value for name, (_, value) in named.items()}))
    way = rng.random()
    if way < 0.3:
        system = rng.choice(AS_SYSTEM).format(schema=compact(_schema(rng, named)))
        messages = [{"role": "system", "content": system}, user(text), answer]
    elif way < 0.85:
        form = rng.choice(IN_USER)
        messages = [user(form.format(schema=compact(_schema(rng, named)), text=text)), answer]
    else:
        messages = [user(rng.choice(BY_NAMES).format(keys=join(named), text=text)), answer]
    found = [v for f, value in record for v in values.open_values(f.kind, value)]
    return Sample("json", messages, check="json", values=found)


def make(rng, split, count, held):
    return [make_one(rng, split, held) for _ in range(count)]
