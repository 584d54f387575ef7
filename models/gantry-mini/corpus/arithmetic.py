"""arithmetic.py - sums with numbers of up to two digits, and the lines of work they need.

A model of a few million parameters does each in steps that it can look up, the highest digit
first, so that no carry has to be known before it is there:

    47 + 38 = 77 + 8 = 85
    63 - 28 = 43 - 8 = 35
    12 - 47 = -(47 - 12) = -(37 - 2) = -35
    47 * 8 = 320 + 56 = 376
    47 * 38: 47 * 30 = 1200 + 210 = 1410, 47 * 8 = 320 + 56 = 376, 1410 + 376 = 1710 + 76 = 1780 + 6 = 1786
    376 / 8: 37 = 8 * 4 + 5, 56 = 8 * 7, so 376 / 8 = 47
    96 / 24: 24 * 1 = 24, 24 * 2 = 48, 24 * 3 = 72, 24 * 4 = 96, so 96 / 24 = 4

The result is always the last number of the answer.  A problem is held out by its operands: no
question of training asks for it, in this order or turned round, though a step of another
problem may pass through it.
"""
from corpus.phrase import capitalize, dress, expand_all
from corpus.sample import Sample, ask, assistant, user
from corpus.values import draw_known
from corpus.words import FOODS

HELD_SHARE = 0.05
WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

FORMS = expand_all((
    "{a} {op} {b}", "{a}{op}{b}", "{a} {op} {b} =",
    "(what is|what's|how much is|calculate|compute) {a} {op} {b}",
    "(what is|how much is|calculate|tell me) {a} {word} {b}", "{a} {word} {b}",
    "(what does|what do) {a} {op} {b} (make|give)", "the result of {a} {op} {b}"))
OWN_FORMS = {
    "+": expand_all(("add {a} and {b}", "(what is|find) the sum of {a} and {b}", "add {b} to {a}")),
    "-": expand_all(("subtract {b} from {a}", "take {b} from {a}",
                     "what is the difference of {a} and {b}")),
    "*": expand_all(("multiply {a} (by|and) {b}", "what is the product of {a} and {b}",
                     "{a} x {b}", "what is {a} x {b}")),
    "/": expand_all(("divide {a} by {b}", "how many times does {b} go into {a}",
                     "share {a} into {b} equal parts")),
}


def leading_part(n):
    """1300 of 1376, 70 of 76: what is added first."""
    unit = 10 ** (len(str(n)) - 1)
    return n // unit * unit


def digit_chain(a, op, b):
    """a + b or a - b with the digits of b one by one, the highest first."""
    sign = 1 if op == "+" else -1
    steps = [f"{a} {op} {b}"]
    while b > 9 and b != leading_part(b):
        part = leading_part(b)
        a, b = a + sign * part, b - part
        steps.append(f"{a} {op} {b}")
    return steps + [str(a + sign * b)]


def difference(a, b):
    """The line of work for a - b; below zero it is turned round."""
    if a >= b:
        return " = ".join(digit_chain(a, "-", b))
    steps = [f"-({step})" for step in digit_chain(b, "-", a)[:-1]]
    return " = ".join([f"{a} - {b}"] + steps + [str(a - b)])


def is_simple(n):
    """One digit, and a zero behind it or none: products of two such numbers are known by heart."""
    return n < 10 or n % 10 == 0


def simple_product(a, b):
    """The line of work for a * b where one of them is simple: tens and ones of the other."""
    n, factor = (a, b) if is_simple(b) else (b, a)
    if is_simple(n) or factor in (0, 1, 10, 100, 1000):
        return f"{a} * {b} = {a * b}"
    return f"{a} * {b} = {n // 10 * 10 * factor} + {n % 10 * factor} = {a * b}"


def product(a, b):
    """The line of work for a * b: tens and ones of b where neither is simple."""
    if is_simple(a) or is_simple(b):
        return simple_product(a, b)
    tens, ones = b // 10 * 10, b % 10
    return f"{a} * {b}: " + ", ".join((simple_product(a, tens), simple_product(a, ones),
                                       " = ".join(digit_chain(a * tens, "+", a * ones))))


def quotient(a, b):
    """The line of work for a / b, which must be exact."""
    q = a // b
    if b >= 10 and q > 1:
        steps = [f"{b} * {k} = {b * k}" for k in range(1, q + 1)]
        return f"{a} / {b}: " + ", ".join(steps) + f", so {a} / {b} = {q}"
    if q < 10 or b == 1:
        return f"{a} / {b} = {q}"
    # long division: the first digits, what is left of them with the last digit behind it
    first, left = a // 10, a // 10 % b
    return (f"{a} / {b}: {first} = {b} * {q // 10} + {left}, {left * 10 + a % 10} = {b} * {q % 10}, "
            f"so {a} / {b} = {q}")


def work(a, op, b):
    if op == "*":
        return product(a, b)
    if op == "/":
        return quotient(a, b)
    return difference(a, b) if op == "-" else " = ".join(digit_chain(a, "+", b))


def is_held_out(split, a, op, b):
    if op in "+*":
        a, b = min(a, b), max(a, b)
    return split.is_held_out(HELD_SHARE, "sum", a, op, b)


def problems(op):
    """All operand pairs of an operation."""
    if op == "/":
        return [(b * q, b) for b in range(1, 100) for q in range(1, 100)
                if b * q < 100 or (2 <= b <= 9 and 10 <= q)]
    return [(a, b) for a in range(100) for b in range(100)]


def draw(rng, op):
    """One pair of operands, with more weight on what is harder."""
    if op == "-":
        a, b = rng.randrange(100), rng.randrange(100)
        return (max(a, b), min(a, b)) if rng.random() < 0.75 else (a, b)
    if op == "*" and rng.random() < 0.25:
        pair = rng.randrange(13), rng.randrange(100)
        return pair if rng.random() < 0.5 else (pair[1], pair[0])
    if op == "/":
        return rng.choice(_DIVISIONS)
    return rng.randrange(100), rng.randrange(100)


_DIVISIONS = problems("/")


def question(rng, a, op, b):
    form = rng.choice(OWN_FORMS[op] if rng.random() < 0.3 else FORMS)
    text = form.format(a=a, b=b, op=op, word=WORDS[op])
    return text if text[0].isdigit() else dress(rng, text)


STORY_SUMS = {
    "+": ("{who} has {a} {what} and gets {b} more. How many {what} does {who} have?",
          "There are {a} {what} in one box and {b} in another. How many {what} are there?"),
    "-": ("{who} has {a} {what} and gives {b} away. How many {what} are left?",
          "There are {a} {what} on the table. {who} takes {b}. How many {what} are left?"),
    "*": ("{who} has {a} boxes with {b} {what} each. How many {what} does {who} have?",
          "One bag holds {b} {what}. How many {what} are in {a} bags?"),
    "/": ("{who} shares {a} {what} among {b} children. How many does each child get?",
          "{a} {what} go into {b} boxes of the same size. How many are in each box?"),
}
_PLURALS = [f + "s" for f in FOODS if f[-1] not in "snyhaeiou" or f in ("apple", "orange")]


def story_sum(rng, split, a, op, b):
    form = rng.choice(STORY_SUMS[op])
    text = form.format(a=a, b=b, who=draw_known(rng, split, "person"), what=rng.choice(_PLURALS))
    return ask("arithmetic", text, work(a, op, b), check="number")


def follow_up(rng, a, op, b, second):
    """A sum, and one that goes on with its result: "and times 3?"."""
    op2, c = second
    result = {"+": a + b, "-": a - b}[op]
    form = rng.choice(("And {word} {c}?", "and {op} {c}?", "Now {word} {c}.", "{word} {c}?",
                       "And that {word} {c}?", "What is that {word} {c}?"))
    text = form.format(word=WORDS[op2], op=op2, c=c)
    return Sample("arithmetic", [
        user(question(rng, a, op, b)), assistant(work(a, op, b)),
        user(capitalize(text) if form[0] == "{" else text), assistant(work(result, op2, c)),
    ], check="number")


def _one(rng, split, held, op):
    while True:
        a, b = draw(rng, op)
        if is_held_out(split, a, op, b) == held:
            return a, b


def _follow_up(rng, split, held):
    while True:
        op = rng.choice("+-")
        a, b = draw(rng, op)
        result = a + b if op == "+" else a - b
        op2 = rng.choice("+-*")
        c = rng.randrange(1, 10 if op2 == "*" else 100)
        if not 0 <= result < 100 or is_held_out(split, a, op, b):
            continue
        if is_held_out(split, result, op2, c) == held:
            return follow_up(rng, a, op, b, (op2, c))


WEIGHTS = (("+", 0.32), ("-", 0.26), ("*", 0.27), ("/", 0.15))


def make(rng, split, count, held):
    """`count` problems, all of them held out or none."""
    out = []
    for op, weight in WEIGHTS:
        for _ in range(int(count * weight * 0.86)):
            a, b = _one(rng, split, held, op)
            # nobody shares nothing, and nothing among none
            tell = rng.random() < 0.12 and min(a, b) > 1 and a >= b
            out.append(story_sum(rng, split, a, op, b) if tell else
                       ask("arithmetic", question(rng, a, op, b), work(a, op, b), check="number"))
    while len(out) < count:
        out.append(_follow_up(rng, split, held))
    return out
