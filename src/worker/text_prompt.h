/* text_prompt.h - a request's prompt as token ids: rendered where it is a chat, then encoded.
 *
 * Owner: the text worker; text thread only. */
#ifndef WORKER_TEXT_PROMPT_H
#define WORKER_TEXT_PROMPT_H

#include "worker/text_worker.h"

typedef struct text_prompt {
    chat_prompt rendered;
    buf ids;           /* i32 */
    bool plain_chat;   /* made by the plain chat template */
    tool_family calls; /* how the answer has tool calls; NONE when none may come */
} text_prompt;

void text_prompt_init(text_prompt *p);
void text_prompt_deinit(text_prompt *p);
/* Forget the prompt and give back the memory that only a large one needs. */
void text_prompt_trim(text_prompt *p);

/* Fills *p anew.  *fault says what an error is to be blamed on. */
NODISCARD status text_prompt_make(text_prompt *p, const text_worker_options *o,
                                  const gen_request *r, gen_fault *fault, error *err);
/* View; valid until the next make or trim. */
wire_array text_prompt_ids(const text_prompt *p);
/* What a prompt is to be blamed for that has too many tokens. */
gen_fault text_prompt_too_long(gen_kind kind);

#endif
