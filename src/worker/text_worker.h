/* text_worker.h - the text role: between the front's text and the engine's ids.
 *
 * Down: renders chat messages, encodes the prompt, passes the request on as ids.
 * Up: turns token ids into whole UTF-8 characters, finds stop strings and tells the
 * engine to stop, gives log-probabilities their token text.  Knows vocabulary and
 * template; sees no weights and no device.
 *
 * The upper side of the engine's link and the lower side of the front's.  The two
 * directions do not wait for each other: a full ring above stops only events, a full
 * ring below stops only requests.
 * Owner: whoever created it; tick and run on one thread, the text thread. */
#ifndef WORKER_TEXT_WORKER_H
#define WORKER_TEXT_WORKER_H

#include "text/chat.h"
#include "text/tokenizer.h"
#include "wire/link.h"
#include "wire/wire.h"

typedef struct text_worker_options {
    const tokenizer *tok;       /* borrowed */
    const chat_template *chat;  /* borrowed */
    bool trust_content;         /* control tokens written in messages become tokens */
    bool request_templates;     /* a request may bring a template of its own */
    model_desc desc;            /* sent up once the role runs */
    uint32_t requests_max;      /* in flight at the same time */
    uint32_t prompt_tokens_max; /* 0: what fits the context */
    wire_link *front;           /* borrowed; this is its lower side */
    wire_link *engine;          /* borrowed; this is its upper side */
} text_worker_options;

typedef struct text_worker text_worker;

NODISCARD status text_worker_create(text_worker **out, const text_worker_options *opt, error *err);
void text_worker_destroy(text_worker *w);

/* One turn; false when there was nothing to do. */
bool text_worker_tick(text_worker *w);

/* Turns until a DRAIN message came and was passed on. */
void text_worker_run(text_worker *w);

/* Requests in flight, for tests. */
uint32_t text_worker_requests(const text_worker *w);

#endif
