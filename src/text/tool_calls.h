/* tool_calls.h - takes the tool calls out of an answer while it streams in.
 *
 * Text goes in, in any cut; out come content and calls, in their order and independent of the
 * cut.  A call comes out when its JSON is whole and valid: an object with the name as a string of
 * 1 to TOOL_NAME_BYTES_MAX bytes and the arguments as an object.  Until then its text is held;
 * when it turns out to be no call, all that was held comes out as content, byte for byte.
 * Reading then goes on at the first byte that did not fit, never further back: time is linear.
 * Of an answer with calls only these bytes are dropped: blanks around a call, the markers and
 * commas between calls, and the start of a closing marker at the end of the answer.
 *
 * Memory: at most TOOL_CALL_BYTES_MAX is held; a longer call is content.
 * Owner: plain values of the caller, one thread at a time. */
#ifndef TEXT_TOOL_CALLS_H
#define TEXT_TOOL_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "text/tool_calls_family.h"
#include "text/tool_calls_json.h"

enum {
    TOOL_CALL_BYTES_MAX = 256 << 10, /* markers and blanks in front of it included */
    TOOL_NAME_BYTES_MAX = 256,
};

/* Where the parts of an answer go.  Texts are valid during the call only. */
typedef struct tool_sink {
    void *arg;
    void (*text)(void *arg, str text); /* content; not empty */
    /* Call `index`, counted from 0, is whole; arguments: a JSON object as the model wrote it. */
    void (*call)(void *arg, uint32_t index, str name, str arguments);
} tool_sink;

typedef struct tool_parser {
    const tool_format *format; /* NULL: everything is content */
    uint8_t phase;             /* what may come next: tool_calls.c */
    bool one_call;             /* the first call ends the answer */
    bool done;                 /* it came */
    bool in_list;              /* between '[' and ']' */
    bool bare;                 /* the name stands in front of the object, which is the arguments */
    uint32_t calls;            /* that came out */
    uint32_t matched;          /* bytes of a marker at the end of `held` */
    uint32_t name_bytes;
    size_t name_at;      /* of a bare name, in `held` */
    size_t object_at;    /* in `held` */
    size_t arguments_at; /* in `held`, once the object is whole */
    size_t arguments_bytes;
    tool_json json;
    buf held; /* text that may become a call */
    char name[TOOL_NAME_BYTES_MAX];
} tool_parser;

/* A blank of JSON. */
static inline bool tool_is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

void tool_parser_init(tool_parser *p, tool_family family, bool one_call);
void tool_parser_deinit(tool_parser *p);

/* True when the answer is complete: the one call that was wanted came.  Then: ignored. */
bool tool_parser_push(tool_parser *p, str text, const tool_sink *sink);

/* The end of the answer: what is held comes out. */
void tool_parser_finish(tool_parser *p, const tool_sink *sink);

#endif
