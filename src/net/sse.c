/* sse.c - see sse.h. */
#include "net/sse.h"

#include <stdbool.h>

#include "base/assert.h"

/* May these bytes stand on one line of an event stream?  A reader ends a line at CR, LF or
 * CRLF; NUL is legal but some readers stop there. */
static bool is_one_line(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0') return false;
    return true;
}

static void put_line(buf *out, str field, str value) {
    ASSERT(is_one_line(value));
    buf_put_str(out, field);
    buf_put_str(out, value);
    buf_put_char(out, '\n');
}

void sse_event(buf *out, str json) {
    put_line(out, S("data: "), json);
    buf_put_char(out, '\n');
}

void sse_event_named(buf *out, str name, str json) {
    put_line(out, S("event: "), name);
    sse_event(out, json);
}

void sse_done(buf *out) { sse_event(out, S("[DONE]")); }

void sse_comment(buf *out, str text) {
    put_line(out, S(": "), text);
    buf_put_char(out, '\n');
}
