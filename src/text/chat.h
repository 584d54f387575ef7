/* chat.h - chat messages to the text of a prompt.
 *
 * A chat_template is made once per model: the model's own Jinja template (text/jinja.h) or the
 * plain one below, what the template can do (found by a few probe renders, chat_probe.c), and the
 * verdict of a self-check (chat_check.c).  A template that is broken is no error of creation:
 * rendering then fails with the reason, completions without a template still work.
 *
 * What a Jinja template sees is what transformers' apply_chat_template gives it: messages, tools
 * and documents (none when absent), add_generation_prompt, bos_token, eos_token, and the
 * request's own variables, which may not replace any of those (CVE-2025-62426).  Messages are
 * passed on as they came, but for what the template cannot take (chat_context.c):
 *   content parts    become one string where the template knows strings only, and the reverse
 *   arguments        of tool calls become an object, or the JSON text of one
 *   developer        becomes system where the template does not know the role
 *   system           goes in front of the next user message where there is no such role
 *   content: null    becomes "" where null is an error
 * A few templates in the wild call list.append, which the sandbox of transformers forbids: here
 * it works.  Control tokens written in messages stay text (chat_guard.h), unless the request is
 * trusted.
 *
 * The plain template serves models that bring none.  First the contents of all system and
 * developer messages, as they are, each followed by a blank line; then the other messages in
 * their order, one line each: "User: ...\n", "Assistant: ...\n", "Tool: ...\n"; then
 * "Assistant:" for the model to go on.  CHAT_PLAIN_STOP is the stop string that goes
 * with it.  Blanks and line ends at the start of a reply are the template's, not the reply's.
 * It has no special tokens and no place for tools.
 *
 * Messages are the OpenAI array as JSON text.  Content is a string or an array of
 * {"type": "text", "text": ...} parts, joined by nothing; an assistant message may have null
 * or no content.
 * Owner: whoever created it.  Immutable after creation: any thread may render at once.
 * Source: Hugging Face transformers, "Chat templates" and apply_chat_template. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "text/tokenizer.h"
#include "text/tool_calls_family.h"

typedef enum chat_kind {
    CHAT_KIND_PLAIN, /* the template above */
    CHAT_KIND_JINJA, /* the model's own */
} chat_kind;

enum {
    CHAT_MESSAGES_MAX = 10000,
    CHAT_CHECK_BYTES = 240,
    CHAT_CAPS_BYTES = 192,
};

#define CHAT_PLAIN_STOP "\nUser:"

/* X(field, name): what a template can do.  The names are shown by inspect and /v1/models. */
#define CHAT_CAPS(X)                                                                      \
    X(system, "system")                       /* system messages come out */              \
    X(developer, "developer")                 /* the role of its own */                   \
    X(strings, "strings")                     /* content as a string */                   \
    X(parts, "parts")                         /* content as an array of parts */          \
    X(null_content, "null_content")           /* assistant messages without content */    \
    X(tools, "tools")                         /* the list of tools comes out */           \
    X(tool_calls, "tool_calls")               /* calls in the history come out */         \
    X(parallel_calls, "parallel_tool_calls")  /* more than one in a message */            \
    X(object_arguments, "object_arguments")   /* their arguments as an object */          \
    X(thinking, "thinking")                   /* mentions reasoning or a switch for it */ \
    X(generation_prompt, "generation_prompt") /* add_generation_prompt matters */

typedef struct chat_caps {
#define CHAT_CAP_FIELD(field, name) bool field;
    CHAT_CAPS(CHAT_CAP_FIELD)
#undef CHAT_CAP_FIELD
    tool_family calls; /* how the model writes tool calls: another capability, by its name */
} chat_caps;

typedef struct chat_source {
    chat_kind kind;
    str text;             /* JINJA: the template; copied */
    str tool_text;        /* JINJA: another one for requests with tools, or empty; copied */
    const tokenizer *tok; /* borrowed, outlives us; NULL: none to check against */
} chat_source;

typedef struct chat_template chat_template;

/* ERR_NOMEM, ERR_LIMIT for a vocabulary that cannot be guarded. */
NODISCARD status chat_template_create(chat_template **out, const chat_source *source, error *err);
/* Harmless on NULL. */
void chat_template_destroy(chat_template *t);

/* Does it parse?  OK, or what parsing ended with. */
NODISCARD status chat_template_usable(const chat_template *t, error *err);
/* "ok", "N warnings: ...; ..." or "error: ...", one line. */
const char *chat_template_check(const chat_template *t);
const chat_caps *chat_template_caps(const chat_template *t);
/* The names of what it can do, ", " between. */
void chat_caps_text(const chat_caps *caps, char out[CHAT_CAPS_BYTES]);
chat_kind chat_template_kind(const chat_template *t);

/* Everything borrowed for the call; texts are JSON. */
typedef struct chat_request {
    str messages;  /* array */
    str tools;     /* array, or empty: none */
    str documents; /* array, or empty: none */
    str variables; /* object of further template variables, or empty: none */
    bool add_generation_prompt;
    bool continue_final; /* the prompt ends within the last message; no generation prompt then */
    bool trusted;        /* control tokens written in messages become tokens */
    int64_t now_unix_s;  /* for strftime_now() */
    int32_t utc_offset_s;
} chat_request;

/* A rendered prompt.  Owner: the caller, who clears it for reuse. */
typedef struct chat_prompt {
    buf text;
    buf breaks;       /* uint32 each, ascending: no special token crosses these bytes of the text */
    bool in_template; /* the last chat_render() failed in the template, not in the messages */
} chat_prompt;

void chat_prompt_init(chat_prompt *p, size_t bytes_max);
void chat_prompt_deinit(chat_prompt *p);

/* Fills *out anew.  ERR_INVALID with the path of what is wrong ("messages[2].content[0].type:
 * ...") or what the template raised ("chat template: line 12: ..."), ERR_UNSUPPORTED for tools
 * where the template has no place for them, ERR_LIMIT, ERR_NOMEM. */
NODISCARD status chat_render(const chat_template *t, const chat_request *r, chat_prompt *out,
                             error *err);

/* Appends the prompt's ids.  BOS goes in front when the vocabulary wants it and the text does not
 * begin with it; nothing goes behind.  Errors of tok_encode(). */
NODISCARD status chat_encode(const chat_template *t, const tokenizer *tok, const chat_prompt *p,
                             uint32_t tokens_max, buf *ids, error *err);

/* Is this a name a request may not set in `variables`? */
bool chat_variable_is_reserved(str name);

/* The plain template alone, with "Assistant:" at its end.  Appends to `out`, which is as long as
 * before on failure. */
NODISCARD status chat_render_plain(str messages_json, buf *out, error *err);

#endif
