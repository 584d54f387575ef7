/* sse.h - server-sent events: how one JSON text becomes one event on the wire.
 *
 * Source: WHATWG HTML, section 9.2 "Server-sent events".  Only `data` fields and comments
 * are written.  Owner: none, functions on the caller's buffer. */
#ifndef NET_SSE_H
#define NET_SSE_H

#include "base/buf.h"
#include "base/str.h"

/* `data: <json>` and an empty line.  json has no raw CR, LF or NUL (asserted: our JSON writer
 * escapes them), so that no generated text can begin an event of its own. */
void sse_event(buf *out, str json);

/* As sse_event with an `event: <name>` line in front, for dialects that name their events. */
void sse_event_named(buf *out, str name, str json);

/* `data: [DONE]`, the end of an OpenAI stream. */
void sse_done(buf *out);

/* A comment line, which every client skips: keeps proxies from closing a quiet stream. */
void sse_comment(buf *out, str text);

#endif
