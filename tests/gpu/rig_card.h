/* rig_card.h - the rig of cudasim/rig.h on a card that check_main.c opened. */
#ifndef TESTS_GPU_RIG_CARD_H
#define TESTS_GPU_RIG_CARD_H

#include "gpu/card.h"

/* c is borrowed until the end.  exact: memory on the card is what a test asked for and nothing
 * around it, so that a tool that watches allocations sees the first byte beyond; else there are
 * guard zones on both sides, whose bytes are looked at. */
void rig_card_use(card *c, bool exact);

#endif
