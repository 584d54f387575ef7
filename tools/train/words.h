/* words.h - how often each word stands in the texts, in the order of their first appearance.
 *
 * Words are what Gantry's own splitter makes (text/tok_split.h), so that no merge is learnt that
 * encoding could not use.  That splitter leaves a blank or sign in front of letters with them; with
 * `letters_apart` it is counted as a word of its own, so no token of letters begins with it, and a
 * name has the same tokens wherever it stands: after a blank, a quote, an underscore.  That is a
 * matter of what is learnt: encoding needs to know nothing of it.
 * Owner: whoever created it; one thread. */
#ifndef TRAIN_WORDS_H
#define TRAIN_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "text/tok_split.h"

typedef struct word_count {
    str text; /* in the arena */
    uint64_t count;
} word_count;

typedef struct words {
    tok_splitter *splitter; /* owned */
    arena memory;
    map index;      /* text to place in list */
    uint32_t cap;   /* of the map */
    buf list;       /* of word_count */
    buf cut, spare; /* of the splitter */
    bool letters_apart;
} words;

/* `pre` names a family as in "tokenizer.ggml.pre".  ERR_NOT_FOUND, ERR_NOMEM.  Fills *w also on
 * failure, so that words_deinit() is harmless. */
NODISCARD status words_init(words *w, str pre, error *err);
void words_deinit(words *w);

/* Counts the words of `text`, which holds no special token. */
NODISCARD status words_add(words *w, str text, error *err);

static inline const word_count *words_list(const words *w) {
    return (const word_count *)(const void *)w->list.p;
}
static inline uint32_t words_count(const words *w) {
    return (uint32_t)(w->list.n / sizeof(word_count));
}

#endif
