/* tok_longest.c - the kinds that take the longest piece at each place, and whole words.
 *
 * WordPiece (Schuster and Nakajima 2012, as BERT uses it): the longest piece that begins the
 * word, then the longest that goes on with it, and so on; a word that cannot be finished so is
 * unknown as a whole.  Which pieces begin and which go on is told by a mark in front of either,
 * so each has its own start in the trie.  RWKV: the longest piece at each byte, nothing else. */
#include "text/tok_internal.h"

void rwkv_encode(const tokenizer *t, str word, tok_sink *sink) {
    while (word.n > 0 && !tok_sink_is_over(sink)) {
        size_t bytes = 0;
        int32_t id = tok_trie_longest(&t->trie, TOK_TRIE_ROOT, word, &bytes);
        if (id != TOK_ID_NONE) {
            tok_sink_put(sink, id);
        } else {
            bytes = 1;
            tok_sink_put_unknown(sink, t);
        }
        word = str_skip(word, bytes);
    }
}

/* --- WordPiece ---------------------------------------------------------------------------- */

static bool is_too_long(const tokenizer *t, str word) {
    uint32_t max = t->vocab.word_chars_max, chars = 0;
    if (max == 0) return false;
    for (size_t i = 0; i < word.n && chars <= max; i++) chars += (word.p[i] & 0xC0) != 0x80;
    return chars > max;
}

/* The piece that begins a word; TOK_FORM_WORD_MARK has the mark itself as the last resort. */
static int32_t first_piece(const tokenizer *t, str word, size_t *bytes) {
    if (!t->has_begins) return TOK_ID_NONE;
    int32_t id = tok_trie_longest(&t->trie, t->begins_node, word, bytes);
    if (id == TOK_ID_NONE && t->begins_node != TOK_TRIE_ROOT) id = t->trie.ids[t->begins_node];
    return id;
}

/* Puts the pieces of the word; false when it cannot be finished. */
static bool put_pieces(const tokenizer *t, str word, tok_sink *sink) {
    size_t bytes = 0;
    int32_t id = first_piece(t, word, &bytes);
    while (id != TOK_ID_NONE) {
        tok_sink_put(sink, id);
        word = str_skip(word, bytes);
        if (word.n == 0) return true;
        id = TOK_ID_NONE;
        if (t->has_goes_on) id = tok_trie_longest(&t->trie, t->goes_on_node, word, &bytes);
    }
    return false;
}

void wordpiece_encode(const tokenizer *t, str word, tok_sink *sink) {
    tok_sink before = *sink;
    size_t bytes_before = sink->ids->n;
    if (!is_too_long(t, word) && put_pieces(t, word, sink)) return;
    *sink = before;
    if (!sink->ids->failed) sink->ids->n = bytes_before;
    tok_sink_put_unknown(sink, t);
}

/* --- words -------------------------------------------------------------------------------- */

void wordlevel_encode(const tokenizer *t, str word, tok_sink *sink) {
    int32_t id = piece_table_find(&t->pieces, word);
    if (id != TOK_ID_NONE)
        tok_sink_put(sink, id);
    else
        tok_sink_put_unknown(sink, t);
}
