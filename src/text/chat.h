/* chat.h - chat messages to the text of a prompt.
 *
 * The plain template serves models that bring none.  First the contents of all system and
 * developer messages, as they are, each followed by a blank line; then the other messages in
 * their order, one line each: "User: ...\n", "Assistant: ...\n", "Tool: ...\n"; then always
 * "Assistant:" for the model to go on.  CHAT_PLAIN_STOP is the stop string that goes
 * with it.  Blanks and line ends at the start of a reply are the template's, not the reply's.
 * The template has no special tokens: encode its output with parse_special = false.
 *
 * Messages are the OpenAI array as JSON text.  Content is a string or an array of
 * {"type": "text", "text": ...} parts, joined by nothing; an assistant message may have null
 * or no content.  Other keys of a message (name, tool_calls, tool_call_id) have no place in this
 * template.  Any thread; no state. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

typedef enum chat_kind {
    CHAT_KIND_PLAIN, /* the template above */
    CHAT_KIND_JINJA, /* the model's own */
} chat_kind;

enum { CHAT_MESSAGES_MAX = 10000 };

#define CHAT_PLAIN_STOP "\nUser:"

/* Appends the prompt to `out`.  ERR_INVALID with the path of what is wrong
 * ("messages[2].content[0].type: ..."), ERR_LIMIT past CHAT_MESSAGES_MAX or the limit of
 * `out`; `out` is then as long as before. */
NODISCARD status chat_render_plain(str messages_json, buf *out, error *err);

#endif
