"""lists.py - days, months, colours, counting, sorting and spelling.

Held out: the wording together with what it asks for (no question of the evaluation stands in
training, dressed in whatever way), and for words and numbers the values themselves.
"""
from corpus.phrase import dress, expand_all
from corpus.sample import ask
from corpus.words import ANIMALS, COLOURS, DAYS, FOODS, MONTHS, SHORT_WORDS, join

HELD_SHARE = 0.06
LENGTHS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)))
COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
MIXES = (("red", "yellow", "orange"), ("yellow", "blue", "green"), ("red", "blue", "purple"),
         ("red", "white", "pink"), ("black", "white", "grey"), ("red", "green", "brown"))


def _after(names, kind):
    """(question, answer) for neighbours and positions of a circle of names."""
    for i, name in enumerate(names):
        after, before = names[(i + 1) % len(names)], names[i - 1]
        for q in expand_all((f"(what|which) {kind} (comes|is) after {name}",
                             f"(what|which) {kind} follows {name}")):
            yield q, f"{after} comes after {name}."
        for q in expand_all((f"(what|which) {kind} (comes|is) before {name}",)):
            yield q, f"{before} comes before {name}."
        for q in expand_all((f"(what|which) {kind} is number {i + 1}",
                             f"name {kind} number {i + 1}")):
            yield q, f"{kind.capitalize()} number {i + 1} is {name}."


def _whole_lists():
    for kind, names in (("days of the week", DAYS), ("months of the year", MONTHS)):
        for q in expand_all((f"(name|list|say|recite|give me|tell me) (all |)the {kind}",
                             f"what are the {kind}", f"what are the names of the {kind}",
                             f"(name|list) (all |)the {kind} in order")):
            yield q, join(names) + "."
        for q in expand_all((f"how many {kind} are there", f"how many are the {kind}")):
            yield q, f"There are {len(names)} {kind}."
    for q in expand_all(("(name|list|what are) the days of the weekend",
    "which days are the weekend")):
        yield q, "Saturday and Sunday."


def _samples_of(kind, names):
    for n, word in COUNT_WORDS.items():
        for q in expand_all((f"(name|list|say|give me|tell me|show me) ({n}|{word}) {kind}",
                             f"(what are|do you know|can you name) ({n}|{word}) {kind}")):
            yield q, join(names[:n]).capitalize() + "."
    for q in expand_all((f"(name|list|say|tell me) some {kind}", f"what {kind} do you know")):
        yield q, join(names[:4]).capitalize() + "."


def _months_and_colours():
    for month, days in LENGTHS.items():
        for q in expand_all((f"how many days (has|does) {month} have", f"how long is {month}",
                             f"how many days are in {month}")):
            q = q.replace(f"has {month} have", f"has {month}")
            more = ", and 29 in leap years" if month == "February" else ""
            yield q, f"{month} has {days} days{more}."
    for a, b, c in MIXES:
        for x, y in ((a, b), (b, a)):
            for q in expand_all((f"(what|which) colour do {x} and {y} make",
                                 f"what do I get when I mix {x} and {y}",
                                 f"what colour (comes from|is) {x} and {y}")):
                yield q, f"{x.capitalize()} and {y} make {c}."


def fixed_questions():
    """Everything that does not depend on drawn values."""
    out = list(_whole_lists()) + list(_after(DAYS, "day")) + list(_after(MONTHS, "month"))
    for kind, names in (("colours", COLOURS), ("animals", ("dog", "cat", "horse", "cow", "bird",
    "fish")),
                        ("foods", ("bread", "rice", "soup", "cheese", "apple", "egg")),
                        ("fruits", ("apple", "pear", "plum", "cherry", "orange", "lemon"))):
        out += _samples_of(kind, names)
    return out + list(_months_and_colours())


# --- questions about drawn values: (key that is held out, question, answer) ---------------

def _count(rng):
    a, step = rng.randrange(0, 60), rng.choice((1, 1, 1, 2, 5, 10))
    n = rng.randrange(4, 9)
    numbers = [a + step * i for i in range(n)]
    b = numbers[-1]
    answer = ", ".join(map(str, numbers))
    if rng.random() < 0.25:
        numbers.reverse()
        form, a, b = "count (down|backwards) from {a} to {b}", numbers[0], numbers[-1]
        answer = ", ".join(map(str, numbers))
    else:
        form = "(count|go|list the numbers) from {a} to {b}"
    steps = "" if step == 1 else " in steps of {s}" if rng.random() < 0.6 else " by {s}"
    return (a, b, step), rng.choice(expand_all((form + steps,))).format(a=a, b=b, s=step), answer


def _sort_numbers(rng):
    numbers = rng.sample(range(100), rng.randrange(3, 6))
    down = rng.random() < 0.3
    form = rng.choice(expand_all(("(sort|order) {these}",
    "(sort|put) these numbers{in_order}: {these}")))
    how = rng.choice((" from large to small", ", largest first")) if down else \
        rng.choice(("", " from small to large", ", smallest first"))
    these = ", ".join(map(str, numbers))
    text = form.format(these=these + ("" if "{in_order}" in form else how), in_order=how)
    if text.startswith("put"):
        text = text.replace("numbers:", "numbers in order:")
    return tuple(sorted(numbers)), text, ", ".join(map(str, sorted(numbers, reverse=down)))


def _sort_words(rng):
    words = rng.sample(SHORT_WORDS, rng.randrange(3, 5))
    form = rng.choice(expand_all(("(sort|order|alphabetize|arrange) these words: {w}",
                                  "(sort|put) the words {w} in alphabetical order",
                                  "sort {w} by the alphabet")))
    return tuple(sorted(words)), form.format(w=", ".join(words)), ", ".join(sorted(words))


def _reverse_list(rng):
    words = rng.sample(rng.choice((SHORT_WORDS, COLOURS, DAYS, ANIMALS, FOODS)), rng.randrange(3,
    6))
    form = rng.choice(expand_all(("reverse (the list|the order of|this list:|these words:) {w}",
                                  "say {w} (backwards|in reverse order)",
                                  "put {w} in reverse order")))
    return tuple(words), form.format(w=", ".join(words)), ", ".join(reversed(words))


def _reverse_numbers(rng):
    numbers = rng.sample(range(100), rng.randrange(3, 6))
    form = rng.choice(expand_all(("reverse (the list|this list:|these numbers:) {w}",)))
    text = ", ".join(map(str, numbers))
    return tuple(numbers), form.format(w=text), ", ".join(map(str, reversed(numbers)))


def _ends(rng):
    items = rng.sample(SHORT_WORDS, rng.randrange(3, 6))
    which = rng.choice(("first", "last"))
    form = rng.choice(expand_all(("what is the {k} (word|item) (of|in) (this list:|the list) {w}",
                                  "which is the {k} of {w}")))
    item = items[0] if which == "first" else items[-1]
    return tuple(items), form.format(k=which, w=", ".join(items)), f"The {which} one is {item}."


def _how_many(rng):
    items = rng.sample(SHORT_WORDS, rng.randrange(2, 7))
    form = rng.choice(expand_all(("how many (words|items) are (in this list:|these:) {w}",
                                  "count (these words:|the words) {w}")))
    answer = f"{', '.join(items)}: {len(items)} words."
    return tuple(items), form.format(w=", ".join(items)), answer


DRAWN = (_count, _count, _sort_numbers, _sort_numbers, _sort_words, _sort_words, _reverse_list,
         _reverse_numbers, _ends, _how_many)


# --- letters: the word and the task are held out together ----------------------------------

def letter_questions():
    for w in SHORT_WORDS:
        spelled = "-".join(w)
        for q in expand_all((f"spell (the word |){w}", f"how (do you|do I) spell {w}",
                             f"(what are|give me) the letters of {w}")):
            yield "spell", w, q, f"{w}: {spelled}"
        for q in expand_all((f"reverse (the word |the letters of |){w}",
                             f"(spell|say|write) {w} backwards", f"what is {w} backwards")):
            yield "reverse", w, q, f"{spelled} backwards is {'-'.join(reversed(w))}"
        for which, letter, verb in (("first", w[0], "begin"), ("last", w[-1], "end")):
            for q in expand_all((f"what is the {which} letter (of|in) (the word |){w}",
                                 f"(which|what) letter does {w} {verb} with",
                                 f"(give me|tell me) the {which} letter of {w}")):
                yield which, w, q, f"The {which} letter of {w} is {letter}."
        for q in expand_all((f"how many letters (has|are in) (the word |){w}",
                             f"how (many letters does|long is) {w} have")):
            q = q.replace(f"how long is {w} have", f"how long is the word {w}")
            yield "length", w, q, f"{spelled} has {len(w)} letters."


def _pick(rng, split, held, questions, key_of):
    """The questions of one side; those that depend on no values are held out by wording."""
    return [q for q in questions if split.is_held_out(HELD_SHARE, "list", *key_of(q)) == held]


def make(rng, split, count, held):
    fixed = _pick(rng, split, held, fixed_questions(), lambda q: (q[0],))
    letters = _pick(rng, split, held, letter_questions(), lambda q: q[:2])
    out = [ask("lists", dress(rng, q), a) for q,
    a in (rng.choice(fixed) for _ in range(count // 4))]
    for _ in range(count // 4):
        _, _, q, a = rng.choice(letters)
        out.append(ask("lists", dress(rng, q), a))
    while len(out) < count:
        make_one = rng.choice(DRAWN)
        key, q, a = make_one(rng)
        if split.is_held_out(HELD_SHARE, make_one.__name__, key) == held:
            out.append(ask("lists", dress(rng, q), a))
    return out
