"""docs.py - questions about Gantry (facts/), alone and one after the other.

Held out: of every fact with enough wordings some wordings, which training has in no dress; of
the others, the dressed text.  The patterns marked `~` are the skill docs_reworded: they are in
no training file at all and have no bar.
"""
import re

from corpus import facts
from corpus.phrase import dress
from corpus.sample import Sample, ask, assistant, user
from corpus.words import ANIMALS, THINGS

WORDINGS_ENOUGH = 4     # a fact that has fewer gives none away
HELD_SHARE = 0.1


def fill(rng, text):
    """Numbers and names in the places of a message."""
    text = re.sub("<n>", lambda _: str(rng.randrange(10, 10 ** rng.randrange(2, 6))), text)
    return re.sub("<name>", lambda _: rng.choice(THINGS + ANIMALS), text)


def _sides(split, fact):
    """The wordings for training and those for the evaluation."""
    if len(fact.wordings) < WORDINGS_ENOUGH:
        return fact.wordings, []
    ranked = sorted(fact.wordings, key=lambda w: split.fraction("docs", w))
    n = max(1, int(len(ranked) * HELD_SHARE))
    held = set(ranked[:n])
    return [w for w in fact.wordings if w not in held], ranked[:n]


def _one(rng, fact, wording, skill="docs"):
    return ask(skill, dress(rng, fill(rng, wording)), fact.answer)


# --- follow-ups about the same option ------------------------------------------------------

FOLLOW_UPS = {
    "default": ("And the default?", "and its default?", "What is the default?", "And by default?"),
    "variable": ("And the variable?", "and as a variable?", "Which variable is it?",
                 "And in the environment?"),
    "file": ("And in the file?", "and in the config file?", "What is it in the file?",
             "And its name in the file?"),
}


def _option_answers(flag, key, default):
    return {"default": facts.default_answer(flag, default),
            "variable": f"The variable of {flag} is {facts.variable_of(flag)}.",
            "file": f"In the file {flag} is {key}."}


def follow_up(rng, split, held):
    """Two or three questions about one option, the later ones without its name."""
    flag, key, default, _ = rng.choice(facts.read_options())
    answers = _option_answers(flag, key, default)
    kinds = rng.sample(sorted(answers), rng.randrange(2, 4))
    if split.is_held_out(HELD_SHARE, "option", flag, kinds) != held:
        return None
    first = {"default": f"what is the default of {flag}",
             "file": f"what is {flag} called in the file",
             "variable": f"which variable sets {flag}"}[kinds[0]]
    messages = [user(dress(rng, first)), assistant(answers[kinds[0]])]
    for kind in kinds[1:]:
        messages += [user(rng.choice(FOLLOW_UPS[kind])), assistant(answers[kind])]
    return Sample("docs", messages)


def _follow_ups(rng, split, held, count):
    out = []
    while len(out) < count:
        one = follow_up(rng, split, held)
        out += [one] if one else []
    return out


# --- both sides -----------------------------------------------------------------------------

def make_train(rng, split, per_fact):
    out, all_facts = [], facts.read_all()
    for fact in all_facts:
        wordings, _ = _sides(split, fact)
        out += [_one(rng, fact, wordings[i % len(wordings)]) for i in range(per_fact)]
    return out + _follow_ups(rng, split, False, len(out) // 12)


def make_eval(rng, split):
    out = []
    for fact in facts.read_all():
        wordings, held = _sides(split, fact)
        # few wordings: only the dress can be new, and generate.py drops those that are not
        out += [_one(rng, fact, w) for w in held[:2] or rng.choices(wordings, k=4)]
        out += [_one(rng, fact, w, "docs_reworded") for w in fact.reworded]
    return out + _follow_ups(rng, split, True, 30)
