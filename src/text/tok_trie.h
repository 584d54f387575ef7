/* tok_trie.h - all tokens that begin at a place of a text, byte by byte.
 *
 * For the kinds that look for the longest or the likeliest piece.  Nodes are numbered breadth
 * first, so the children of a node follow each other, in the order of their bytes:
 *
 *   first   where its children begin; they end where those of the next node begin
 *   bytes   the byte on the edge to the node
 *   ids     the token that ends here, TOK_ID_NONE when none does
 *
 * Owner: the tokenizer; read-only once built.  Memory is 9 bytes per byte of distinct
 * beginnings, building it takes O(bytes + tokens log tokens). */
#ifndef TEXT_TOK_TRIE_H
#define TEXT_TOK_TRIE_H

#include "base/error.h"
#include "text/tok_vocab.h"

enum { TOK_TRIE_ROOT = 0 };

typedef struct tok_trie {
    uint32_t *first; /* owned; [count + 1] */
    uint8_t *bytes;  /* owned; [count] */
    int32_t *ids;    /* owned; [count] */
    uint32_t count;
    uint32_t root[256]; /* the root's children; 0 is none */
} tok_trie;

/* Of the `count` tokens those with use[id]; of two with the same text the lower id stays. */
NODISCARD status tok_trie_init(tok_trie *t, const str *texts, const bool *use, uint32_t count,
                               error *err);
void tok_trie_deinit(tok_trie *t);

/* tok_trie_child() for any node but the root. */
uint32_t tok_trie_child_of_many(const tok_trie *t, uint32_t node, uint8_t byte);

/* The child of `node` for `byte`; 0 when there is none.  Most nodes have one child or none. */
static inline uint32_t tok_trie_child(const tok_trie *t, uint32_t node, uint8_t byte) {
    if (node == TOK_TRIE_ROOT) return t->root[byte];
    uint32_t begin = t->first[node];
    if (t->first[node + 1] != begin + 1) return tok_trie_child_of_many(t, node, byte);
    return t->bytes[begin] == byte ? begin : 0;
}

/* The longest text behind `node` that `text` begins with; *bytes of `text` are its.  TOK_ID_NONE
 * and 0 when there is none. */
int32_t tok_trie_longest(const tok_trie *t, uint32_t node, str text, size_t *bytes);

/* Where the bytes of `text` lead from the root; false when nowhere. */
bool tok_trie_walk(const tok_trie *t, str text, uint32_t *node);

#endif
