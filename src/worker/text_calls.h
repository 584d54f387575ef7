/* text_calls.h - the text of a choice as events: content, and tool calls with ids.
 *
 * Owner: the text worker; text thread only. */
#ifndef WORKER_TEXT_CALLS_H
#define WORKER_TEXT_CALLS_H

#include "worker/text_request.h"

typedef struct text_out {
    buf *up;         /* borrowed; an EVENTS frame has begun */
    buf *content;    /* scratch */
    text_request *t; /* borrowed */
    uint16_t choice;
    /* for text_calls_send() itself */
    uint32_t tokens;
    str logprobs;
} text_out;

/* One piece of released text as events; the tokens' credits and log-probabilities go with the
 * first of its content, or alone.  `last`: nothing follows, what is held comes out.  True when
 * the only call that was wanted is there. */
bool text_calls_send(text_out *out, const text_piece *piece, uint32_t tokens, bool last);

#endif
