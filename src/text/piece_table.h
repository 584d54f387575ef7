/* piece_table.h - which token has this text?
 *
 * Encoding asks three or four times for each character of a prompt, mostly in vain, so this is a
 * table of its own beside base/map: 8 bytes a slot (32,000 tokens stay in a level 2 cache) and
 * a cheap hash.  Its multipliers are drawn at random for each table: a hostile vocabulary cannot
 * be made to collide.  Owner: the tokenizer; read-only once filled. */
#ifndef TEXT_PIECE_TABLE_H
#define TEXT_PIECE_TABLE_H

#include "base/error.h"
#include "text/tok_vocab.h"

typedef struct piece_slot {
    uint32_t tag; /* high half of the hash */
    int32_t id;   /* TOK_ID_NONE: free */
} piece_slot;

typedef struct piece_table {
    const str *pieces; /* borrowed from the vocabulary; [vocabulary] */
    piece_slot *slots; /* owned; [mask + 1], at most half of them used */
    uint32_t mask;
    uint64_t keys[2]; /* random, odd */
} piece_table;

/* Room for all tokens of a vocabulary of `count`. */
NODISCARD status piece_table_init(piece_table *t, const str *pieces, uint32_t count, error *err);
void piece_table_deinit(piece_table *t);

/* Adds token `id` under its piece, unless an earlier one has the same. */
void piece_table_add(piece_table *t, int32_t id);

/* The token with this text, TOK_ID_NONE when there is none. */
int32_t piece_table_find(const piece_table *t, str text);

#endif
