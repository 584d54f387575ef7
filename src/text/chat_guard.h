/* chat_guard.h - keeps the text of messages from forging control tokens.
 *
 * A prompt is encoded with its control tokens parsed, since that is how a template writes
 * them; a message that says "<|im_start|>" must not become one.  Before rendering, a mark is
 * put inside every control token's text in every string of a message, and at ends of a string
 * that could complete one together with its neighbour; a template carries marks along like any
 * character.  After rendering they are taken out again and remembered as breaks: the prompt is
 * encoded as a whole in which no special token is seen across a break.  So a forged token is
 * encoded as the letters it is written in, and everything else exactly as without the guard.
 *
 * User-defined tokens (type 4) are not guarded: they are part of a text's normal spelling, and
 * templates look for some of them ("</think>").
 * Owner: whoever holds the struct; read-only after init, any thread. */
#ifndef TEXT_CHAT_GUARD_H
#define TEXT_CHAT_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "text/tokenizer.h"

enum {
    CHAT_GUARD_TOKENS_MAX = 1 << 16,   /* control tokens */
    CHAT_GUARD_SUFFIXES_MAX = 4 << 20, /* their proper ends, two bytes and more */
};

/* Noncharacters of Unicode, which no text has: such bytes in a message become U+FFFD. */
#define CHAT_MARK_BREAK S("\xEF\xB7\x90") /* U+FDD0 */
#define CHAT_MARK_FINAL S("\xEF\xB7\x91") /* U+FDD1: end of a message to go on with */

typedef struct chat_guard {
    str *tokens; /* owned; [tokens_count] texts of control tokens, sorted; borrowed from tok */
    uint32_t tokens_count;
    str *ends; /* owned; [ends_count] their proper suffixes, sorted */
    uint32_t ends_count;
    bool begins[256]; /* some token begins with this byte */
} chat_guard;

/* tok may be NULL: nothing is guarded then.  ERR_LIMIT for a vocabulary with more control tokens
 * than any model has, ERR_NOMEM. */
NODISCARD status chat_guard_init(chat_guard *g, const tokenizer *tok, error *err);
void chat_guard_deinit(chat_guard *g);

/* Appends `text` with marks.  In what an assistant said, tokens with "think" in their text stay
 * whole: templates cut old reasoning out by them.  O(bytes x longest control token). */
void chat_guard_put(const chat_guard *g, str text, bool assistant, buf *out);

/* Takes the marks out of text[from..]; appends the place of each as uint32 to `breaks`, in bytes
 * of the text without marks. */
void chat_guard_unmark(buf *text, size_t from, buf *breaks);

#endif
