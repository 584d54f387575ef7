"""tool_tasks.py - calling tools, several at once, telling their results, and leaving them alone.

Held out: every open value (corpus/values.py) of questions and results, and a share of the
put-together tool names.
"""
import re

from corpus import values
from corpus.phrase import capitalize
from corpus.sample import Sample, assistant, calls, tool_result, user
from corpus.tool_catalog import MARKS, NOUNS, SETTINGS, TOOLS, VERBS
from corpus.words import THINGS

NO_TOOL = "None of my tools can do that."
FAILED = "The tool answered with an error: {error}."
ERRORS = ("not found", "no connection", "not allowed", "timeout", "try again later")


# Where a name follows from the wish, a model learns names and not to read its tools: then it calls
# what is not there.  So most names of training cannot be guessed.
STRANGE_SHARE, STRANGE_KEY_SHARE = 0.65, 0.2


def strange_name(rng, name):
    """With something before or behind it, or nothing to do with what it does."""
    way, word, number = rng.randrange(6), rng.choice(MARKS), rng.randrange(1, 100)
    if way == 0:
        return f"{word}_{name}"
    if way == 1:
        return f"{name}_{word}"
    if way == 2:
        return f"{name}_{number}" if rng.random() < 0.5 else f"{word}{number}_{name}"
    if way == 3:
        return f"{rng.choice(THINGS)}_{rng.choice(MARKS)}"
    if way == 4:
        return f"{word}_{rng.choice(THINGS)}_{number}"
    return f"{rng.choice(('f', 'fn', 'tool', 'api', 'x', 'call', 'op'))}_{number}"


class Offer:
    """A tool as one prompt shows it: with a name and parameter names of its own."""

    def __init__(self, rng, tool, held=True):
        self.tool = tool
        self.name = rng.choice(tool.names)
        if not held and rng.random() < STRANGE_SHARE:
            self.name = strange_name(rng, self.name)
        self.keys = self._choose_keys(rng, held)
        self.explains = rng.random() < 0.35     # whether parameters have descriptions

    def _choose_keys(self, rng, held):
        keys = {}
        for p in self.tool.params:
            free = [n for n in p.names if n not in keys.values()]
            key = rng.choice(free) if rng.random() < 0.5 else free[0]
            if not held and rng.random() < STRANGE_KEY_SHARE:
                key = f"{rng.choice(MARKS)}_{key}"
            keys[p.names[0]] = key
        return keys

    def description(self):
        params = {self.keys[p.names[0]]: self._parameter(p) for p in self.tool.params}
        required = [self.keys[p.names[0]] for p in self.tool.params if not p.optional]
        return {"type": "function", "function": {
            "name": self.name, "description": self.tool.says,
            "parameters": {"type": "object", "properties": params, "required": required}}}

    def _parameter(self, p):
        says = {"description": p.says} if self.explains else {}
        return {**values.schema(p.kind), **says}

    def fill(self, rng, split, held):
        """Values for a call; optional ones are there half of the time."""
        return {p.names[0]: values.draw(rng, split, held, p.kind) for p in self.tool.params
                if not p.optional or rng.random() < 0.5}

    def call(self, given):
        return self.name, {self.keys[k]: v for k, v in given.items()}

    def kinds(self):
        return {p.names[0]: p.kind for p in self.tool.params}


def _ask_for(rng, offer, given):
    """The question, with what stands in [...] only where its value is there."""
    text = rng.choice(offer.tool.asks)
    optional = re.search(r"\[(.*?)\]", text)
    if optional:
        key = re.search(r"\{(.*?)\}", optional.group(1)).group(1)
        text = text.replace(optional.group(0), optional.group(1) if key in given else "")
    return text.format(**{k: values.spoken(v) for k, v in given.items()})


def _values_of(offer, given):
    kinds = offer.kinds()
    return [v for k, value in given.items() for v in values.open_values(kinds[k], value)]


def _offers(rng, wanted, count, held):
    """`wanted` and others beside it, in any order, no two of one name."""
    names = set(wanted.tool.names)
    out = [wanted]
    for tool in rng.sample(TOOLS, len(TOOLS)):
        if len(out) >= count:
            break
        if tool is not wanted.tool and not names & set(tool.names):
            out.append(Offer(rng, tool, held))
    rng.shuffle(out)
    return out


def _some_offers(rng, wanted, held):
    return _offers(rng, wanted, rng.randrange(1, 4), held)


def _shown(offers):
    return [o.description() for o in offers]


def one_call(rng, split, held):
    offer = Offer(rng, rng.choice(TOOLS), held)
    given = offer.fill(rng, split, held)
    messages = [user(_question(rng, offer, given)), calls(offer.call(given))]
    return Sample("tools", messages, check="tools", tools=_shown(_some_offers(rng, offer, held)),
                  values=_values_of(offer, given))


def _question(rng, offer, given):
    text = _ask_for(rng, offer, given)
    if rng.random() < 0.75:
        text = capitalize(text)
    first = text.split()[0].lower()
    sign = "?" if first in ("what", "how", "is", "where") else "."
    opener = rng.choice(("Please ", "Hi, ", "Now ", "Hello, ")) if rng.random() < 0.15 else ""
    if opener and not text.startswith("I "):
        text = text[0].lower() + text[1:]
    return opener + text + (sign if rng.random() < 0.8 else "")


def _two_questions(rng, first, second):
    second = second if second.startswith("I ") else second[0].lower() + second[1:]
    link = rng.choice((", and ", " and ", ", then ", ". Then "))
    return capitalize(first) + link + second + rng.choice(("", "."))


def parallel_calls(rng, split, held):
    """The same tool twice, or two tools."""
    offer = Offer(rng, rng.choice(TOOLS), held)
    offers = _some_offers(rng, offer, held)
    other = offer if rng.random() < 0.5 else rng.choice(offers)
    first, second = offer.fill(rng, split, held), other.fill(rng, split, held)
    text = _two_questions(rng, _ask_for(rng, offer, first), _ask_for(rng, other, second))
    messages = [user(text), calls(offer.call(first), other.call(second))]
    return Sample("tools", messages, check="tools", tools=_shown(offers),
                  values=_values_of(offer, first) + _values_of(other, second))


def _result(rng, split, held, offer, given):
    """What the tool answers, and the sentence that tells it."""
    if rng.random() < 0.08:
        error = rng.choice(ERRORS)
        return {"error": error}, FAILED.format(error=error), []
    kinds = offer.tool.result
    result = {k: values.draw(rng, split, held, kind) for k, kind in kinds.items()}
    found = [v for k, value in result.items() for v in values.open_values(kinds[k], value)]
    told = {k: values.spoken(v) for k, v in {**given, **result}.items()}
    return result, offer.tool.reply.format(**told), found


def with_result(rng, split, held):
    """Question, call(s), result(s): the answer tells them."""
    offer = Offer(rng, rng.choice(TOOLS), held)
    count = 2 if rng.random() < 0.3 else 1
    given = [offer.fill(rng, split, held) for _ in range(count)]
    questions = [_ask_for(rng, offer, g) for g in given]
    text = _two_questions(rng, *questions) if count == 2 else _question(rng, offer, given[0])
    results = [_result(rng, split, held, offer, g) for g in given]
    messages = [user(text), calls(*(offer.call(g) for g in given))]
    messages += [tool_result(r) for r, _, _ in results]
    messages.append(assistant(" ".join(told for _, told, _ in results)))
    found = [v for g in given for v in _values_of(offer, g)] + [v for _, _, f in results for v in f]
    return Sample("tools", messages, tools=_shown(_some_offers(rng, offer, held)), values=found)


def none_fits(rng, split, held):
    """A wish that another tool would be for."""
    offer = Offer(rng, rng.choice(TOOLS), held)
    given = offer.fill(rng, split, held)
    others = [o for o in _offers(rng, offer, rng.randrange(2, 4), held) if o is not offer]
    return Sample("tools", [user(_question(rng, offer, given)), assistant(NO_TOOL)],
                  tools=_shown(others), values=_values_of(offer, given))


def twins(rng, split, held):
    """The same wish twice: beside other tools its own one is there, or yet another one is.  Only
    reading the tools tells the two apart, not how the wish is put."""
    offer = Offer(rng, rng.choice(TOOLS), held)
    given = offer.fill(rng, split, held)
    question, found = _question(rng, offer, given), _values_of(offer, given)
    others = [o for o in _offers(rng, offer, rng.randrange(2, 5), held) if o is not offer]
    there = others[1:] + [offer]
    rng.shuffle(there)
    return [Sample("tools", [user(question), calls(offer.call(given))], check="tools",
                   tools=_shown(there), values=found),
            Sample("tools", [user(question), assistant(NO_TOOL)], tools=_shown(others), values=found)]


def beside_tools(rng, plain, held):
    """An ordinary question while tools are there: answered as if they were not."""
    offer = Offer(rng, rng.choice(TOOLS), held)
    return Sample("tools", plain.messages, check=plain.check,
                  tools=_shown(_some_offers(rng, offer, held)))


# --- tools with put-together names -----------------------------------------------------------

def _machine(rng, split, held):
    while True:
        verb, noun = rng.choice(VERBS), rng.choice(NOUNS)
        if split.is_held_out(values.HELD_SHARE, "machine", verb, noun) == held:
            return verb, noun


def _machine_tool(rng, verb, noun, settings, held):
    name = rng.choice(("{v}_{n}", "{n}_{v}", "do_{v}_{n}")).format(v=verb, n=noun)
    if not held and rng.random() < STRANGE_SHARE / 2:
        name = strange_name(rng, name)
    return {"type": "function", "function": {
        "name": name,
        "description": f"{capitalize(verb)} the {noun}",
        "parameters": {"type": "object",
                       "properties": {name: values.schema(kind) for name, kind in settings},
                       "required": [name for name, _ in settings]}}}


def machine_call(rng, split, held):
    """`Reset the pump with speed 12 and mode slow.`, with tools for other machines beside it."""
    machines = []
    while len(machines) < rng.randrange(1, 4) or not machines:
        pair = _machine(rng, split, held)
        if not any(pair[0] == v or pair[1] == n for v, n in machines):
            machines.append(pair)
    settings = [rng.sample(SETTINGS, rng.randrange(1, 4)) for _ in machines]
    shown = [_machine_tool(rng, v, n, s, held) for (v, n), s in zip(machines, settings)]
    i = rng.randrange(len(machines))
    given = {name: values.draw(rng, split, held, kind) for name, kind in settings[i]}
    (verb, noun), said = machines[i], []
    for name, value in given.items():
        said.append(f"{name} {str(value).lower() if isinstance(value, bool) else value}")
    text = rng.choice(("{v} the {n} with {s}", "please {v} the {n} with {s}", "{v} the {n}: {s}",
                       "can you {v} the {n} with {s}"))
    text = text.format(v=verb, n=noun, s=" and ".join(said) if len(said) < 3 else
                       f"{said[0]}, {said[1]} and {said[2]}")
    found = [v for (name, kind), value in zip(settings[i], given.values())
             for v in values.open_values(kind, value)]
    return Sample("tools", [user(capitalize(text) + ("?" if text.startswith("can") else ".")),
                            calls((shown[i]["function"]["name"], given))],
                  check="tools", tools=shown, values=found)


ASKED = ((one_call, 0.34), (machine_call, 0.18), (parallel_calls, 0.18), (with_result, 0.2),
         (none_fits, 0.1))
# of training the wishes without a tool are twins: alone they teach to refuse what is put alike
TRAINED = ((one_call, 0.28), (machine_call, 0.28), (parallel_calls, 0.23), (with_result, 0.21))


def make(rng, split, count, held, plain, twin_count=0):
    """`plain` are samples of other skills, to be asked beside tools."""
    out = [make_one(rng, split, held) for make_one, share in (ASKED if held else TRAINED)
           for _ in range(int(count * share))]
    out += [s for _ in range(twin_count) for s in twins(rng, split, held)]
    return out + [beside_tools(rng, p, held) for p in plain]
