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

void detok_push(detok *d, int32_t id, buf *out) {
    char piece[TOK_PIECE_BYTES_MAX];
    str text = {piece, tok_piece_bytes(d->tokens, id, false, piece)};
    if (text.n == 0) return;
    if (d->strip_space) text = without_space(text);
    d->strip_space = false;
    for (size_t i = 0; i < text.n; i++) push_byte(d, (unsigned char)text.p[i], out);
}

status tok_decode(const tokenizer *tokens, const int32_t *ids, uint32_t count, buf *out,
                  error *err) {
    char piece[TOK_PIECE_BYTES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        if (!tok_is_valid(tokens, ids[i]))
            return error_set(err, ERR_INVALID, "tokens[%u]: id %d, the vocabulary has %u tokens", i,
                             ids[i], tok_vocab_count(tokens));
        str text = {piece, tok_piece_bytes(tokens, ids[i], true, piece)};
        if (i == 0 && tok_adds_space_prefix(tokens)) text = without_space(text);
        buf_put_str(out, text);
    }
    return buf_status(out, "decoded text", err);
}
