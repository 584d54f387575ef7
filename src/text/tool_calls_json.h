/* tool_calls_json.h - where does a JSON object end that comes byte by byte?
 *
 * Follows objects, arrays, strings and commas with a bit per level, so text that cannot become an
 * object any more is known at its first wrong byte.  Numbers, literals, escapes and UTF-8 are
 * looked at roughly: whoever has the whole object parses it (json/stream.h).
 * Owner: a plain value of the caller. */
#ifndef TEXT_TOOL_CALLS_JSON_H
#define TEXT_TOOL_CALLS_JSON_H

#include <stdbool.h>
#include <stdint.h>

enum { TOOL_JSON_DEPTH_MAX = 128 /* nested objects and arrays */ };

typedef enum tool_json_verdict {
    TOOL_JSON_OPEN,   /* it goes on */
    TOOL_JSON_WHOLE,  /* that byte ended the object */
    TOOL_JSON_BROKEN, /* that byte cannot stand there; the value is of no use any more */
} tool_json_verdict;

typedef struct tool_json {
    uint8_t want; /* what may come next: tool_calls_json.c */
    bool in_string;
    bool escaped;
    bool in_word; /* a number or literal */
    uint32_t depth;
    uint64_t objects[TOOL_JSON_DEPTH_MAX / 64]; /* bit d: level d is an object */
} tool_json;

/* Before the object's '{'. */
void tool_json_init(tool_json *j);
tool_json_verdict tool_json_push(tool_json *j, char c);

#endif
