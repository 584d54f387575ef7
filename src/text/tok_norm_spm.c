/* tok_norm_spm.c - SentencePiece's normalizer, whose parts see one another.
 *
 * The text is read in steps: a piece that a user defined, else the longest source string of the
 * map, else a character.  A user's piece comes out as it went in; only its spaces count as spaces,
 * too.  Where spaces are collapsed, those at the start of a step go when the step before ended with
 * one: many within one step stay.  A U+2581 in the text is the same as a space to the model, but
 * is collapsed only at the very end.  Source: SentencePiece, normalizer. */
#include "text/tok_norm_internal.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */

/* What the next step makes of the start of `text`, and how many bytes it takes. */
static size_t read_step(const charsmap *map, const tok_trie *kept, str text, str *out) {
    size_t bytes = 0;
    if (kept != NULL && tok_trie_longest(kept, TOK_TRIE_ROOT, text, &bytes) != TOK_ID_NONE) {
        *out = (str){text.p, bytes};
        return bytes;
    }
    return charsmap_read(map, text, out);
}

static void put_marked(str text, buf *out) {
    while (text.n > 0) {
        const char *space = memchr(text.p, ' ', text.n);
        size_t n = space != NULL ? (size_t)(space - text.p) : text.n;
        buf_put(out, text.p, n);
        if (space != NULL) buf_put_str(out, S(SPACE_MARK));
        text = str_skip(text, n + (space != NULL));
    }
}

/* The text behind the steps in front that are one space each. */
static str skip_spaces(const charsmap *map, const tok_trie *kept, str text) {
    str step = {0};
    while (text.n > 0) {
        size_t bytes = read_step(map, kept, text, &step);
        if (!str_eq_c(step, " ")) break;
        text = str_skip(text, bytes);
    }
    return text;
}

void norm_sentencepiece(const tok_norm *rule, const charsmap *map, const tok_trie *kept, str text,
                        buf *out) {
    bool after_space = rule->collapse;
    size_t from = out->n;
    if (rule->collapse) text = skip_spaces(map, kept, text);
    if (text.n == 0) return;
    if (rule->left) buf_put_str(out, S(SPACE_MARK));
    while (text.n > 0 && !out->failed) {
        str step;
        text = str_skip(text, read_step(map, kept, text, &step));
        while (after_space && str_starts(step, S(" "))) step = str_skip(step, 1);
        put_marked(step, out);
        if (step.n > 0) after_space = rule->collapse && str_ends(step, S(" "));
    }
    while (rule->collapse && str_ends((str){out->p + from, out->n - from}, S(SPACE_MARK)))
        out->n -= sizeof SPACE_MARK - 1;
    if (rule->right) buf_put_str(out, S(SPACE_MARK));
}
