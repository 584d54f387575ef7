"""stories.py - short stories from a grammar.

A story has a hero, a wish, a trouble, a helper and an end; what is said once stays true to the
last sentence.  Hero, thing and title may come from the question.  Held out: the hero's name
(the evaluation's heroes are in no story of training).  There is no one right story, so the
check looks for hero, title and an end (eval.py).
"""
from corpus.phrase import dress, expand_all
from corpus.sample import ask
from corpus.words import ADJECTIVES, PEOPLE, THINGS, article

HELD_SHARE = 0.06

KINDS = "baker boy cat cook dog dragon farmer fox girl gardener giant goat hen king knight mouse " \
        "owl painter queen rabbit robot sailor sheep smith teacher wizard wolf".split()
PLACES = (("forest", "in"), ("village", "in"), ("castle", "in"), ("valley", "in"), ("garden", "in"),
          ("harbour", "at"), ("lake", "at"), ("river", "at"), ("hill", "on"), ("island", "on"),
          ("mountain", "on"), ("farm", "on"))
TROUBLES = (
    ("One day the {thing} was gone.", "found it under {a_place_thing}"),
    ("One morning the {thing} fell into the water.", "pulled it out with a long rope"),
    ("One evening the {thing} broke in two.", "glued it together again"),
    ("One night a storm carried the {thing} away.", "brought it back from the top of a tree"),
    ("One day a crow stole the {thing}.", "got it back for a piece of bread"),
    ("One day a friend forgot the {thing} in the rain.", "dried it by the fire"),
)
FEELINGS = ("sad", "worried", "very quiet", "angry", "afraid")
SEARCHES = ("{hero} looked {where}, but it was no use.",
            "{hero} asked everyone, but nobody could help.",
            "{hero} thought about it all day.", "{hero} did not know what to do.")
LOOKS = ("behind every door", "in every corner", "under every stone", "everywhere")
HELPERS = ("an old owl", "a small mouse", "a kind neighbour", "a clever girl", "a strong bear",
           "a friendly smith", "a quiet boy", "a wise turtle", "a fast hare", "a tall farmer")
MEETINGS = ("Then {helper} came along.", "Then {hero} met {helper}.",
            "At last {helper} heard of it.")
THANKS = ("{hero} was happy again.", "{hero} laughed and said thank you.",
          "{hero} gave a big party.", "{hero} baked a cake for everyone.")
ENDS = ("From that day on they were friends.", "And they never lost it again.",
        "That night everyone slept well.", "And that is the end of the story.")
HIDING_PLACES = ("an old bench", "a pile of leaves", "a big stone", "a blanket", "the stairs")


def _tell(rng, hero, kind, thing):
    place, where = rng.choice(PLACES)
    adjective = rng.choice(("small", "young", "old", "brave", "quiet", "clever", "cheerful"))
    start = rng.choice((
        "Once upon a time there was {a_kind} called {hero}.",
        "{hero} was {a_kind}.", "There was once {a_kind} whose name was {hero}."))
    lives = rng.choice(("{hero} lived {where} {a_place} and had {a_thing}.",
                        "{hero} had {a_thing} and lived {where} {a_place}.",
                        "{hero} lived {where} {a_place} and loved {a_thing} more than anything."))
    trouble, rescue = rng.choice(TROUBLES)
    helper = rng.choice(HELPERS)
    sentences = [start, lives, trouble]
    if rng.random() < 0.6:
        sentences.append("{hero} was {feeling}.")
    if rng.random() < 0.6:
        sentences.append(rng.choice(SEARCHES))
    sentences += [rng.choice(MEETINGS), "{the_helper} {rescue}.",
                  rng.choice(THANKS), rng.choice(ENDS)]
    words = {
        "hero": hero, "a_kind": article(f"{adjective} {kind}"), "where": where,
        "a_place": article(f"{rng.choice(('small', 'green', 'quiet', 'wide'))} {place}"),
        "a_thing": article(thing), "thing": thing.split()[-1], "feeling": rng.choice(FEELINGS),
        "helper": helper, "the_helper": "The " + helper.split(" ", 1)[1],
        "rescue": rescue.format(a_place_thing=rng.choice(HIDING_PLACES)),
    }
    look = rng.choice(LOOKS)
    text = " ".join(s.replace("looked {where}", "looked " + look) for s in sentences)
    return text.format(**words)


def titles(hero, thing):
    return (f"{hero} and the {thing.capitalize()}", f"The {thing.capitalize()}",
            f"{hero}'s {thing.capitalize()}", f"The Lost {thing.capitalize()}")


PLAIN = expand_all((
    "(tell|write) (me |)a (short |)story", "(do you know|can you tell me) a (short |)story",
    "I want (a|to hear a) (short |)story", "a (short |)story", "make up a (short |)story"))
ABOUT = expand_all((
    "(tell|write) (me |)a (short |)story about {who}", "a (short |)story about {who}",
    "(can you|please) (tell|write) a story about {who}", "make up a story about {who}",
    "I want a (short |)story about {who}", "tell me what happened to {who}"))
WITH_TITLE = expand_all((
    "(tell|write) (me |)a (short |)story (with the title|called) \"{title}\"",
    "a (short |)story (with the title|called) \"{title}\"", "a (short |)story, title: \"{title}\""))
WANT_TITLE = expand_all((
    "(tell|write) (me |)a (short |)story with a title about {who}",
    "a story about {who}, with a title",
    "write a story about {who} and give it a title"))


def make_one(rng, hero):
    kind, thing = rng.choice(KINDS), rng.choice(THINGS)
    if rng.random() < 0.5:
        thing = f"{rng.choice(ADJECTIVES)} {thing}"
    story, must, noun = _tell(rng, hero, kind, thing), {"hero": hero}, thing.split()[-1]
    whom = rng.choice((f"{hero}", f"{article(kind)} called {hero}", f"{hero} the {kind}",
                       f"{hero} and {article(thing)}"))
    way = rng.random()
    if way < 0.2:
        text, must = rng.choice(PLAIN), {}
    elif way < 0.65:
        text = rng.choice(ABOUT).format(who=whom)
    else:
        title = rng.choice(titles(hero, noun))
        if way < 0.82:
            text = rng.choice(WITH_TITLE).format(title=title)
            must = {"title": title}
            if hero in title:
                must["hero"] = hero
        else:
            title = f"{hero} and the {noun.capitalize()}"
            text = rng.choice(WANT_TITLE).format(who=f"{hero} and {article(thing)}")
            must["title"] = title
        story = f"{title}\n\n{story}"
    return ask("stories", dress(rng, text), story, check="story", must=must)


def make(rng, split, count, held):
    out = []
    while len(out) < count:
        hero = rng.choice(PEOPLE)
        if split.is_held_out(HELD_SHARE, "person", hero) == held:
            out.append(make_one(rng, hero))
    return out
