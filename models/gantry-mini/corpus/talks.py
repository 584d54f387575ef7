"""talks.py - conversations of several questions, and system messages in front.

A later question is answered as if it stood alone; what goes on with an earlier answer is made
by arithmetic.py and docs.py.
"""
from corpus.chat import SYSTEM
from corpus.sample import Sample

SYSTEM_SHARE = 0.2


def join(before, last):
    """`last` behind one or two other samples."""
    messages = [m for s in before for m in s.messages] + last.messages
    return Sample(last.skill, messages, check=last.check, must=last.must, values=last.values)


def can_join(sample):
    return not sample.tools and sample.skill != "json" and sample.messages[0]["role"] == "user"


def make(rng, count, firsts, lasts):
    """`count` conversations, each ending with one of `lasts`."""
    firsts = [s for s in firsts if can_join(s) and s.skill != "stories"]
    lasts = [s for s in lasts if can_join(s)]
    return [join(rng.sample(firsts, rng.randrange(1, 3)), rng.choice(lasts)) for _ in range(count)]


def add_system(rng, sample):
    """A fifth of the conversations begin with somebody's system message; answers stay the same."""
    if sample.messages[0]["role"] == "system" or rng.random() >= SYSTEM_SHARE:
        return
    sample.messages = [{"role": "system", "content": rng.choice(SYSTEM)}] + sample.messages
