"""split.py - what training never sees.

Values (operands, names, numbers) and wordings are held out by a hash of what they are, not by
the order in which the generator happens to draw them: adding a template moves nothing from
one side to the other.
"""
import hashlib


class Split:
    def __init__(self, seed):
        self.seed = seed

    def fraction(self, *what):
        """A number in [0, 1) that belongs to `what` for this seed."""
        text = "\x1f".join(str(w) for w in (self.seed,) + what)
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def is_held_out(self, share, *what):
        return self.fraction(*what) < share
