/* tok_ends.h - tokens that end a generation, known by their text.
 *
 * Files name one such token by id, chat formats have several: what ends a turn, what calls a
 * tool, what separates files in a code model.  Pure functions, any thread. */
#ifndef TEXT_TOK_ENDS_H
#define TEXT_TOK_ENDS_H

#include <stdbool.h>

#include "base/str.h"

/* Does a token of this text end a generation in a published chat format? */
bool tok_is_end_text(str piece);

/* The texts with a say about others: see tok_ends.c. */
typedef struct tok_end_marks {
    bool returns, calls, flushes, tool_response;
} tok_end_marks;

void tok_end_marks_add(tok_end_marks *m, str piece);

/* In a vocabulary with these marks, does the token of this text end nothing after all? */
bool tok_is_end_revoked(const tok_end_marks *m, str piece);

#endif
