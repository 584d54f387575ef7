/* bpe.h - byte pair encoding learnt from counted words.
 *
 * The vocabulary begins with the 256 bytes; then the pair of neighbours that stands most often
 * becomes a token, again and again.  Of equally frequent pairs the one whose bytes come first
 * wins (left part, then right part), so the result depends on the words and their counts only,
 * not on their order.
 * Source: Gage 1994; Sennrich, Haddow and Birch 2016. */
#ifndef TRAIN_BPE_H
#define TRAIN_BPE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

enum { BPE_BYTES = 256, BPE_TOKENS_MAX = 65536, BPE_TOKEN_BYTES_MAX = 64 };

typedef struct bpe_pair {
    uint32_t left, right;
} bpe_pair;

typedef struct bpe {
    arena memory;
    uint32_t tokens_count;
    str *tokens; /* [tokens_count] raw bytes; in the arena */
    uint32_t merges_count;
    bpe_pair *merges; /* [merges_count] in the order they were learnt; in the arena */
} bpe;

struct words;

/* Up to tokens_max tokens; fewer when no pair stands twice any more.  ERR_INVALID outside
 * BPE_BYTES .. BPE_TOKENS_MAX, ERR_NOMEM.  Fills *b also on failure. */
NODISCARD status bpe_train(bpe *b, const struct words *w, uint32_t tokens_max, error *err);
void bpe_deinit(bpe *b);

#endif
