"""words.py - the vocabulary: names put together from syllables, and short lists of words.

Names are made up, so that there are thousands of them and the model has to copy what it reads
instead of remembering it.
"""

_HEADS = "ba be bi bo da de di do fa fe fi ga ge go ha he hi jo ka ke ki ko la le li lo " \
         "ma me mi mo na ne ni no pa pe po ra re ri ro sa se si so ta te ti to va ve vi " \
         "wa wi za ze zo".split()
_PERSON_TAILS = "bel dan fin gar kim la len lin lo lot mar mi mon na nek nia nor ra rek " \
                "ric rin sa sel tan tas tin to tor ven vin".split()
_TOWN_TAILS = "bach berg bridge bury burg dale field ford ham haven hill holm kirk lake " \
              "mouth ness port stad stead stone ton vale vik ville wick wood".split()

ADJECTIVES = "big blue broken clean cold dark dry empty fast flat fresh full green heavy " \
             "hot large light long loud narrow new old orange plain purple quiet red " \
             "round sharp short small smooth soft square strong tall thick thin tiny " \
             "warm wet white wide wooden yellow".split()
THINGS = "bag ball basket bell bench bike blanket boat book bottle bowl box brush bucket " \
         "button cable candle chair clock coat cup desk door drum fan flag fork glass " \
         "glove hammer hat jar kettle key knife ladder lamp map mirror mug pan pen " \
         "pillow pipe plate pot radio ring rope rug saw scarf shelf shirt shoe sofa " \
         "spoon stove table tent torch towel tray umbrella vase wagon wheel whistle".split()
COLOURS = "red yellow blue green orange purple brown pink black white grey".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November " \
         "December".split()
HOBBIES = "chess cooking cycling dancing drawing fishing gardening hiking painting " \
          "reading rowing running sailing singing skating skiing swimming tennis writing " \
          "yoga".split()
FOODS = "apple banana beans bread butter cake carrot cheese cherry corn egg fish honey " \
        "jam lemon mango melon milk noodles nuts olive onion orange peach pear pepper " \
        "pizza plum potato rice salad salt soup sugar tea toast tomato yogurt".split()
ANIMALS = "ant bat bear bee bird cat cow crab crow deer dog dove duck eagle fish fox " \
          "frog goat goose hare hen horse lamb lion mole mouse newt otter owl pig rabbit " \
          "rat seal sheep snail swan tiger toad whale wolf".split()

# three to six letters: for spelling, sorting and reversing
SHORT_WORDS = sorted(set(w for w in ADJECTIVES + THINGS + COLOURS + ANIMALS + FOODS
                         if 3 <= len(w) <= 6))


def _named(tails):
    heads = _HEADS + [a + b for a in _HEADS[::3] for b in _HEADS[::5]]
    return [(h + t).capitalize() for h in heads for t in tails]


PEOPLE = _named(_PERSON_TAILS)
TOWNS = _named(_TOWN_TAILS)
ITEMS = [f"{a} {t}" for a in ADJECTIVES for t in THINGS]


def join(words, last="and"):
    """a, b and c"""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + f" {last} " + words[-1]


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(n, noun):
    """12 cups, 1 cup"""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
