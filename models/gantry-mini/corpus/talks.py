"""talks.py - conversations of several questions, and system messages in front.

A later question is answered as if it stood alone, and so is one for a tool; what goes on with an earlier answer is made
by arithmetic.py and docs.py.
"""
from corpus.chat import SYSTEM
from corpus.sample import Sample, compact

SYSTEM_SHARE = 0.2
# so that both and a system message fit into the context
FIRST_BYTES_MAX, LAST_BYTES_MAX = 300, 1100


def join(before, last):
    """`last` behind other samples; its tools are there from the beginning."""
    messages = [m for s in before for m in s.messages] + last.messages
    return Sample(last.skill, messages, check=last.check, tools=last.tools, must=last.must,
                  values=last.values)


def can_join(sample):
    return not sample.tools and sample.skill != "json" and sample.messages[0]["role"] == "user"


def make(rng, count, firsts, lasts):
    """`count` conversations, each ending with one of `lasts`."""
    firsts = [s for s in firsts if can_join(s) and s.skill != "stories"]
    lasts = [s for s in lasts if can_join(s)]
    return [join(rng.sample(firsts, rng.randrange(1, 3)), rng.choice(lasts)) for _ in range(count)]


def make_with_tools(rng, count, firsts, lasts):
    """`count` conversations about something else until a tool is wanted (or is not)."""
    firsts = [s for s in firsts if can_join(s) and _bytes(s) < FIRST_BYTES_MAX]
    lasts = [s for s in lasts if s.messages[0]["role"] == "user" and _bytes(s) < LAST_BYTES_MAX]
    return [join([rng.choice(firsts)], rng.choice(lasts)) for _ in range(count)]


def _bytes(sample):
    return len(compact([sample.messages, sample.tools]))


def add_system(rng, sample):
    """A fifth of the conversations begin with somebody's system message; answers stay the same."""
    if sample.messages[0]["role"] == "system" or rng.random() >= SYSTEM_SHARE:
        return
    sample.messages = [{"role": "system", "content": rng.choice(SYSTEM)}] + sample.messages
