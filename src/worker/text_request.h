/* text_request.h - what the text role knows about one request: per choice the text so far.
 *
 * Owner: the text worker; text thread only. */
#ifndef WORKER_TEXT_REQUEST_H
#define WORKER_TEXT_REQUEST_H

#include "base/buf.h"
#include "text/detok.h"
#include "text/stop.h"
#include "text/tokenizer.h"
#include "text/tool_calls.h"
#include "wire/wire.h"
#include "worker/text_prompt.h"

/* A log-probability entry waits until the text of its token is released. */
typedef struct held_logprob {
    uint64_t text_at; /* bytes of text before its token */
    uint32_t bytes;   /* in text_choice.logprobs */
} held_logprob;

enum { HELD_LOGPROBS_MAX = STOP_BYTES_MAX + 8 };

typedef struct text_choice {
    detok detok;
    const tool_marks *marks; /* of the request */
    tool_parser parser;      /* behind the stop strings, where calls may come */
    stop_match match;
    bool trim;          /* only blanks came so far, and they are dropped (plain chats) */
    bool done;          /* finished, by a stop string or by the engine */
    uint32_t tokens;    /* consumed, the one that completed a stop string included */
    uint64_t pushed;    /* bytes of text that came out of detok */
    uint64_t released;  /* of them, given out */
    buf logprobs;       /* encoded entries not yet released */
    held_logprob *held; /* owned; [HELD_LOGPROBS_MAX] when log-probabilities are wanted */
    uint32_t held_count;
} text_choice;

typedef struct text_request {
    uint64_t id;
    stop_set stops;
    tool_family calls; /* in the text; NONE: it is all content */
    tool_marks marks;  /* tokens without text of their own that show where calls are */
    uint32_t choices_count;
    buf echo; /* the prompt's text, sent after ACCEPTED; empty when not wanted */
    text_choice choices[];
} text_request;

/* The prompt decides whether generated text starts the text, whether it has calls, and, where
 * the plain chat template made it, that template's stop string and leading blanks are not the
 * answer's. */
NODISCARD status text_request_create(text_request **out, const tokenizer *tok, const gen_request *r,
                                     const text_prompt *prompt, error *err);
void text_request_destroy(text_request *r);

/* What a push lets out. */
typedef struct text_piece {
    str text;     /* released; in the scratch */
    str logprobs; /* entries of the tokens whose text is released */
    bool stopped; /* a stop string is complete */
    str stop;     /* which */
} text_piece;

/* Memory that pieces point into until the next push. */
typedef struct text_scratch {
    buf made;     /* text of the token */
    buf released; /* text that may go out */
    buf content;  /* of it, what is no call */
} text_scratch;

/* Push the i-th token of a GEN_TOKENS event. */
void text_choice_push(text_choice *c, const gen_event *e, uint32_t i, text_scratch *scratch,
                      text_piece *out);
/* The engine says the choice is complete: what is held comes out. */
void text_choice_finish(text_choice *c, text_scratch *scratch, text_piece *out);
/* Forget the entries that the last piece handed out. */
void text_choice_sent(text_choice *c, const text_piece *piece);

#endif
