/* pair_table.h - which token do two tokens make, and how early is that merge?
 *
 * The merges of a BPE vocabulary by the ids of their two sides: 16 bytes a slot, at most half of
 * the slots used, a multiplier drawn at random for each table so that no vocabulary can be made
 * to collide.  Owner: the tokenizer; read-only once filled. */
#ifndef TEXT_PAIR_TABLE_H
#define TEXT_PAIR_TABLE_H

#include <stdint.h>

#include "base/error.h"

typedef struct pair_slot {
    int32_t left, right; /* left is TOK_ID_NONE: free */
    uint32_t rank;       /* low ranks merge first */
    int32_t merged;
} pair_slot;

typedef struct pair_table {
    pair_slot *slots; /* owned; [mask + 1] */
    uint32_t mask;
    uint64_t key; /* random, odd */
} pair_table;

/* Room for `count` pairs. */
NODISCARD status pair_table_init(pair_table *t, uint32_t count, error *err);
void pair_table_deinit(pair_table *t);

/* Ids are not negative.  Of two merges of the same pair the first stays. */
void pair_table_add(pair_table *t, pair_slot merge);

/* NULL when the two make nothing. */
const pair_slot *pair_table_find(const pair_table *t, int32_t left, int32_t right);

#endif
