/* detok.c - see detok.h. */
#include "text/detok.h"

#include <string.h>

#include "base/str.h"

/* U+FFFD REPLACEMENT CHARACTER */
static const char REPLACEMENT[3] = {'\xEF', '\xBF', '\xBD'};

/* Bytes of the character that `first` begins; 0 when no character begins with it. */
static uint32_t character_bytes(unsigned char first) {
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* May `next` follow the `held` bytes of an unfinished character?  Source: the Unicode standard,
 * table 3-7, "well-formed UTF-8 byte sequences": only second bytes have ranges of their own. */
static bool may_follow(const unsigned char *hold, uint32_t held, unsigned char next) {
    unsigned char low = 0x80, high = 0xBF;
    if (held == 1) {
        if (hold[0] == 0xE0) low = 0xA0;
        if (hold[0] == 0xED) high = 0x9F;
        if (hold[0] == 0xF0) low = 0x90;
        if (hold[0] == 0xF4) high = 0x8F;
    }
    return next >= low && next <= high;
}

void detok_init(detok *d, const tokenizer *tokens, bool at_text_start) {
    *d = (detok){.tokens = tokens, .strip_space = at_text_start && tok_adds_space_prefix(tokens)};
}

void detok_finish(detok *d, buf *out) {
    if (d->held > 0) buf_put(out, REPLACEMENT, sizeof REPLACEMENT);
    d->held = 0;
}

static void push_byte(detok *d, unsigned char byte, buf *out) {
    if (d->held > 0 && !may_follow(d->hold, d->held, byte)) detok_finish(d, out);
    if (d->held == 0 && character_bytes(byte) == 0) {
        buf_put(out, REPLACEMENT, sizeof REPLACEMENT);
        return;
    }
    d->hold[d->held++] = byte;
    if (d->held < character_bytes(d->hold[0])) return;
    buf_put(out, d->hold, d->held);
    d->held = 0;
}

/* A first text token without the space that encoding put in front of the text. */
static str without_space(str text) { return str_starts(text, S(" ")) ? str_skip(text, 1) : text; }

static void push_text(detok *d, str text, buf *out) {
    for (size_t i = 0; i < text.n; i++) push_byte(d, (unsigned char)text.p[i], out);
}

void detok_push(detok *d, int32_t id, buf *out) {
    char piece[TOK_PIECE_BYTES_MAX];
    str text = {piece, tok_piece_bytes(d->tokens, id, false, piece)};
    if (text.n == 0) return;
    if (d->strip_space) text = without_space(text);
    d->strip_space = false;
    if (d->space_due) push_byte(d, ' ', out);
    d->space_due = text.n > 0 && tok_ends_word(d->tokens, id);
    if (d->space_due) text.n--;
    push_text(d, text, out);
}

/* --- whole texts -------------------------------------------------------------------------- */

static bool is_closing(char c) { return c == '?' || c == '!' || c == '.' || c == ','; }

/* Drops the space in front of . ? ! and , */
static size_t clean_marks(char *p, size_t n) {
    size_t out = n > 0;
    for (size_t i = 1; i < n; i++) {
        if (p[i - 1] == ' ' && is_closing(p[i])) out--;
        p[out++] = p[i];
    }
    return out;
}

/* Takes the spaces around an apostrophe that stands alone. */
static size_t clean_apostrophes(char *p, size_t n) {
    size_t out = n > 0;
    for (size_t i = 1; i < n; i++) {
        bool alone = p[i] == '\'' && i + 1 < n && p[i - 1] == ' ' && p[i + 1] == ' ';
        if (alone) {
            out--;
            p[out++] = p[i];
            i++; /* the space behind is gone for good, also as the one before what follows */
            p[i] = '\0';
            continue;
        }
        p[out++] = p[i];
    }
    return out;
}

/* Does 's, 'm, 're or 've begin at `rest`? */
static bool is_contraction(str rest) {
    return str_starts(rest, S("'s")) || str_starts(rest, S("'m")) || str_starts(rest, S("'re")) ||
           str_starts(rest, S("'ve"));
}

/* Drops the space in front of contractions. */
static size_t clean_contractions(char *p, size_t n) {
    size_t out = n > 0;
    for (size_t i = 1; i < n; i++) {
        if (p[i - 1] == ' ' && is_contraction((str){p + i, n - i})) out--;
        p[out++] = p[i];
    }
    return out;
}

/* Writing never overtakes reading, and each pass sees the text of the one before.  The three
 * passes, their order and what they leave alone are those of llama.cpp's detokenizer. */
static void clean_up(buf *out, size_t from) {
    char *p = out->p + from;
    size_t n = clean_marks(p, out->n - from);
    n = clean_apostrophes(p, n);
    out->n = from + clean_contractions(p, n);
}

status tok_decode(const tokenizer *tokens, const int32_t *ids, uint32_t count, buf *out,
                  error *err) {
    char piece[TOK_PIECE_BYTES_MAX];
    size_t from = out->n;
    for (uint32_t i = 0; i < count; i++) {
        if (!tok_is_valid(tokens, ids[i]))
            return error_set(err, ERR_INVALID, "tokens[%u]: id %d, the vocabulary has %u tokens", i,
                             ids[i], tok_vocab_count(tokens));
        str text = {piece, tok_piece_bytes(tokens, ids[i], true, piece)};
        if (i == 0 && tok_adds_space_prefix(tokens)) text = without_space(text);
        if (i + 1 == count && text.n > 0 && tok_ends_word(tokens, ids[i])) text.n--;
        buf_put_str(out, text);
    }
    if (tok_cleans_up(tokens) && out->n > from) clean_up(out, from);
    return buf_status(out, "decoded text", err);
}
