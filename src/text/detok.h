/* detok.h - token ids to text, whole or as a stream.
 *
 * The stream gives out whole UTF-8 characters only.  The text of generated tokens is
 * decode(prompt + generated) minus decode(prompt): a vocabulary with a space prefix loses
 * one leading space at the start of all text, so only a prompt without any text token yet
 * makes the stream drop it.  The clean-up of English spacing that some vocabularies ask for is
 * for whole texts: a stream gives what the model wrote, which may be code or a poem.
 * Owner: plain values of the caller, one thread at a time. */
#ifndef TEXT_DETOK_H
#define TEXT_DETOK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "text/tokenizer.h"

typedef struct detok {
    const tokenizer *tokens; /* borrowed, outlives us */
    bool strip_space;        /* the next text token is the first of the text */
    bool space_due;          /* the space behind a finished word, given out before the next one */
    uint8_t held;            /* bytes in hold */
    unsigned char hold[4];   /* the start of an unfinished character, at most 3 bytes */
} detok;

/* at_text_start: no text token came before (the prompt is empty, or BOS and control tokens
 * only).  Nothing to release afterwards. */
void detok_init(detok *d, const tokenizer *tokens, bool at_text_start);

/* Appends the characters that `id` completes.  Control and unknown tokens give no text.  Bytes
 * that cannot become valid UTF-8 come out as U+FFFD, one for each maximal subpart (Unicode
 * standard, section 3.9, "U+FFFD substitution of maximal subparts"). */
void detok_push(detok *d, int32_t id, buf *out);

/* The end of the stream: a held unfinished character comes out as one U+FFFD. */
void detok_finish(detok *d, buf *out);

/* Raw decoding: the bytes of all tokens, control tokens by their text, nothing made valid.  With
 * a space prefix, one leading space of the first token is dropped; where words have an end mark,
 * the space behind the last one.  Cleans up where the vocabulary asks for it.  ERR_INVALID for
 * an id outside the vocabulary. */
NODISCARD status tok_decode(const tokenizer *tokens, const int32_t *ids, uint32_t count, buf *out,
                            error *err);

#endif
