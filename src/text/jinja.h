/* jinja.h - chat templates: a Jinja interpreter for the part of the language that templates use.
 *
 * Semantics are those of Python's jinja2 3.1 as Hugging Face transformers sets it up: an immutable
 * sandbox, trim_blocks and lstrip_blocks, loop controls, {% generation %}; `raise_exception`,
 * `strftime_now`, and `tojson` that keeps non-ASCII and key order.  There is no I/O of any kind:
 * no include, import or extends, no attributes of Python objects, no calls but those of the
 * language.  A template is hostile input: steps, nesting, memory, output and time are limited,
 * there is no recursion over its depth that the limits do not bound, and whatever it does ends in
 * text or an error.
 *
 * A parsed template is immutable: any thread may render it at once.
 * Source: the Jinja 3.1 documentation, "Template Designer Documentation"; transformers, "Chat
 * templates". */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

enum {
    JINJA_SOURCE_BYTES_MAX = 1 << 20,
    JINJA_NESTING_MAX = 128, /* blocks and parentheses in the source, calls when it runs */
};

typedef struct jinja_template jinja_template;

typedef struct jinja_options {
    bool trim_blocks;           /* a line end right after a block tag is dropped */
    bool lstrip_blocks;         /* so are blanks before a block tag that begins its line */
    bool keep_trailing_newline; /* of the source; without it one is dropped */
} jinja_options;

/* What Hugging Face sets. */
static inline jinja_options jinja_chat_options(void) {
    return (jinja_options){.trim_blocks = true, .lstrip_blocks = true};
}

typedef struct jinja_limits {
    uint64_t steps_max; /* evaluated nodes, loop turns, elements and bytes that filters touch */
    size_t memory_bytes_max;
    size_t output_bytes_max;
    uint64_t time_ns_max; /* 0: none */
} jinja_limits;

/* 50 million steps, 256 MiB of values, 64 MiB of text, 5 s. */
jinja_limits jinja_default_limits(void);

/* What a template can learn of its surroundings. */
typedef struct jinja_env {
    int64_t now_unix_s;   /* of strftime_now() */
    int32_t utc_offset_s; /* local time minus UTC, then */
    jinja_limits limits;
    bool permissive; /* list.append and the like work although transformers' sandbox forbids them */
} jinja_env;

/* `source` is copied.  ERR_FORMAT "chat template: line 12: REASON", ERR_LIMIT, ERR_NOMEM. */
NODISCARD status jinja_parse(jinja_template **out, str source, const jinja_options *options,
                             error *err);
void jinja_destroy(jinja_template *t);

/* Appends the text to `out`.  `context_json` is an object: its members are the template's
 * variables.  ERR_INVALID "chat template: line 12: REASON" for what the template raises itself
 * and for what goes wrong in it, ERR_LIMIT when a limit is reached, ERR_NOMEM; `out` is then as
 * long as before. */
NODISCARD status jinja_render(const jinja_template *t, str context_json, const jinja_env *env,
                              buf *out, error *err);

/* Does the source mention this name as a variable or attribute anywhere ("tools",
 * "enable_thinking")? */
bool jinja_mentions(const jinja_template *t, str name);

#endif
