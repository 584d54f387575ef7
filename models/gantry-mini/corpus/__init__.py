"""The parts of the corpus of gantry-mini: a module per skill, and what they share."""
