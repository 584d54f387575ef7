/* corpus.h - a file of conversations, and what each of them looks like to the model.
 *
 * One conversation on a line, as JSON:
 *   {"messages": [{"role": "system|user|assistant|tool", "content": "...", "tool_calls": [...]}],
 *    "tools": [...], "skill": "..."}
 * tools and skill may be missing; skill is for people and is not looked at.  Messages are rendered
 * through the model's chat template by the code that serves requests (text/chat.h), so training
 * sees the very text that serving will make.  A conversation ends with its last assistant message.
 *
 * For each assistant message there are two renders: what stands before it, with the generation
 * prompt, and the same with the message.  What the second has more is its answer.  A template that
 * writes a conversation differently once it goes on has no such answer: ERR_INVALID.
 * Owner: whoever holds the struct; one thread. */
#ifndef TRAIN_CORPUS_H
#define TRAIN_CORPUS_H

#include "text/chat.h"

enum { CORPUS_BYTES_MAX = 1 << 30, CORPUS_LINE_BYTES_MAX = 1 << 20 };

typedef struct corpus {
    buf text;
    size_t at;
    uint32_t line; /* number of the one that corpus_next() gave last, from 1 */
} corpus;

NODISCARD status corpus_open(corpus *c, const char *path, error *err);
void corpus_close(corpus *c);
void corpus_rewind(corpus *c);
/* Empty lines are passed over; false at the end. */
bool corpus_next(corpus *c, str *line);
/* Puts file and line in front of an error; returns its code. */
status corpus_blame(const corpus *c, error *err);

typedef struct span {
    uint32_t begin, end; /* bytes of the text */
} span;

typedef struct conversation {
    chat_prompt whole;  /* up to the end of the last answer */
    buf answers;        /* of span */
    chat_prompt before; /* scratch */
    buf messages, tools, ends;
} conversation;

void conversation_init(conversation *c);
void conversation_deinit(conversation *c);
/* Fills it anew from a line. */
NODISCARD status conversation_read(conversation *c, const chat_template *t, str line, error *err);

#endif
