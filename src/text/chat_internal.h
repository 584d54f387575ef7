/* chat_internal.h - what the chat_*.c files share, and what their tests look into. */
#ifndef TEXT_CHAT_INTERNAL_H
#define TEXT_CHAT_INTERNAL_H

#include <jansson.h>

#include "text/chat.h"
#include "text/chat_guard.h"
#include "text/jinja.h"
#include "json/read.h"

enum { CHAT_CONTEXT_BYTES_MAX = 256 << 20, CHAT_CHECK_MS_MAX = 2000 };

struct chat_template {
    chat_kind kind;
    jinja_template *main;  /* owned; NULL when it does not parse */
    jinja_template *tools; /* owned; for requests with tools, NULL: main */
    char *bos, *eos;       /* owned, terminated; texts of the tokens, "" when there is none */
    chat_guard guard;
    chat_caps caps;
    error broken;            /* why it does not parse; code OK when it does */
    uint64_t check_until_ns; /* while it is created: when probes and check end; 0 then */
    char check[CHAT_CHECK_BYTES];
};

/* --- JSON (chat_context.c) --------------------------------------------------------------- */
/* "an object", "a string", ...; "nothing" for NULL. */
const char *chat_type_name(const json_t *value);
str chat_string_view(const json_t *value);
/* ERR_INVALID "WHAT: REASON". */
NODISCARD status chat_parse(str text, const char *what, json_doc *out, error *err);
/* An array of 1 to CHAT_MESSAGES_MAX? */
NODISCARD status chat_check_messages(const json_t *messages, error *err);

/* The template's variables as one JSON object. */
NODISCARD status chat_put_context(const chat_template *t, const chat_request *r, buf *out,
                                  error *err);

/* --- the plain template (chat_plain.c) ------------------------------------------------------- */
typedef struct chat_plain_options {
    bool no_generation_prompt; /* no "Assistant:" at the end */
    bool continue_final;       /* no line end behind the last message, and no "Assistant:" */
} chat_plain_options;
NODISCARD status chat_render_plain_with(str messages_json, const chat_plain_options *options,
                                        buf *out, error *err);

/* --- at creation ----------------------------------------------------------------------------- */
jinja_template *chat_pick(const chat_template *t, bool with_tools);
/* Of the next render: those of a request, or what is left for the check at creation. */
jinja_limits chat_limits(const chat_template *t);
/* Raw render of a context for which no message was changed; the text replaces `out`. */
NODISCARD status chat_try(const chat_template *t, const char *messages, const char *tools,
                          bool generation_prompt, buf *out, error *err);
bool chat_has(const buf *text, const char *words);
/* Fills t->caps (chat_probe.c). */
void chat_probe(chat_template *t, str source);
/* Fills t->check (chat_check.c). */
void chat_self_check(chat_template *t, const tokenizer *tok);

#endif
