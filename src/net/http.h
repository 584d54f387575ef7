/* http.h - HTTP/1.1 server on an event loop: calls come in, answers and streams go out.
 *
 * Owner: the thread that runs the loop; every function and every callback runs there, so
 * nothing is locked.  A handler may call any http_call function of any live call from any
 * callback; answers and aborts take effect after the callback has returned.
 *
 * What the server promises:
 * - No status line leaves before the handler answers.
 * - A client that hangs up is noticed at once, also while its call waits for an answer or
 *   between two writes of a stream.  Closing only the sending half counts as hanging up: an
 *   answer that is complete by then is still delivered, but nothing is computed any more for
 *   a reader that may not exist (ordinary clients keep both halves open).  Requests pipelined
 *   behind the current one are no hang-up; they are served in order.
 * - Everything has a limit: connections, head, body, the time for each of them, and the bytes
 *   held for a client that does not read.
 * - Malformed and ambiguous heads (two lengths, a length and a transfer coding, a name that is
 *   no token, control bytes) never reach the handler: 400, and the connection ends.
 * - When the server ends a connection whose client is still sending, it reads on for a bounded
 *   while, so that the client gets to see the answer and not a reset. */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "net/loop.h"

typedef struct http_server http_server;
/* One request and its answer.  Owned by the server; dies after on_closed. */
typedef struct http_call http_call;

/* A limit of 0 means the default in brackets, except where noted. */
typedef struct http_options {
    const char *host;                /* an address, "localhost", or NULL for all interfaces */
    uint16_t port;                   /* 0: any free one, see http_server_port() */
    uint32_t connections_max;        /* [1024] further clients wait in the listen queue */
    uint32_t connections_per_ip_max; /* 0: no limit */
    size_t header_bytes_max;         /* [16 KiB] request line and headers; above it 431 or 414 */
    size_t body_bytes_max;           /* [16 MiB] one body; above it 413 */
    size_t bodies_bytes_max;         /* [256 MiB] all bodies held at once; above it 503 */
    uint32_t idle_ms_max;        /* [60 s] between two requests, up to the second's first line */
    uint32_t head_ms_max;        /* [10 s] a head; on a new connection from its acceptance */
    uint32_t body_ms_max;        /* [60 s] from the head to the last byte of the body */
    uint32_t write_stall_ms_max; /* [60 s] answer bytes wait and the client takes none */
    size_t stream_bytes_max;     /* [1 MiB] unsent bytes of one stream */
} http_options;

/* All slots run on the loop's thread. */
typedef struct http_handler {
    void *ctx;
    /* The head is in.  The handler may answer at once (a refusal) or change the body limit
     * with http_call_body_max(); otherwise the body is read. */
    void (*on_head)(void *ctx, http_call *c);
    /* The body is larger than allowed.  The handler may answer in its dialect (status 413);
     * when it does not, the server answers in plain text.  No on_request follows. */
    void (*on_too_large)(void *ctx, http_call *c); /* optional */
    /* The body is complete.  The handler answers now or later. */
    void (*on_request)(void *ctx, http_call *c);
    /* http_stream_pending() has come back to 0; not after http_stream_end(). */
    void (*on_drained)(void *ctx, http_call *c); /* optional */
    /* Exactly once for each call whose on_head ran.  `finished`: the whole answer went to
     * the socket; otherwise the client is gone or was cut off.  Last use of c. */
    void (*on_closed)(void *ctx, http_call *c, bool finished);
} http_handler;

/* --- server ---------------------------------------------------------------- */
/* Listening when it returns OK.  *handler is copied; the loop outlives the server. */
NODISCARD status http_server_open(http_server **out, loop *l, const http_options *options,
                                  const http_handler *handler, error *err);
uint16_t http_server_port(const http_server *s);
/* Drain: closes the listening socket and idle connections; the others end with their current
 * call.  http_server_connections() counts down to 0. */
void http_server_stop_accepting(http_server *s);
uint32_t http_server_connections(const http_server *s);
/* Cuts every connection; on_closed runs for the calls that were open.  Not from a callback.
 * NULL is allowed. */
void http_server_close(http_server *s);

/* --- request: views live as long as the call -------------------------------- */
str http_call_method(const http_call *c); /* as sent: GET, POST, or anything else */
str http_call_path(const http_call *c);   /* as sent, without query, not decoded */
/* First query argument of that name, percent-decoded, '+' is a space.  p == NULL when absent,
 * or when the call's memory is used up.  May hold any byte. */
str http_call_query(http_call *c, const char *name);
/* First header of that name (any case); p == NULL when absent. */
str http_call_header(const http_call *c, const char *name);
/* How many headers of that name: two Authorization headers are for the handler to refuse. */
uint32_t http_call_header_count(const http_call *c, const char *name);
str http_call_body(const http_call *c); /* complete from on_request on */
/* The body is not needed any more: its bytes no longer count against bodies_bytes_max. */
void http_call_body_release(http_call *c);
str http_call_peer(const http_call *c); /* text of the client's address, without port */

/* In on_head: this call's body may have that many bytes (also more than the option says). */
void http_call_body_max(http_call *c, size_t bytes_max);

void http_call_set_user(http_call *c, void *user); /* borrowed */
void *http_call_user(const http_call *c);

/* --- answer: once per call, http_respond() or a stream ------------------------ */
/* Before the answer begins.  A field that could split the answer or contradict its framing (a
 * name that is no token, a control byte in the value, Content-Length, Transfer-Encoding,
 * Connection) is left out and logged. */
void http_header_add(http_call *c, const char *name, const char *value);

/* The whole answer; body is copied.  content_type NULL: none.  status_code 200 to 599.
 * Does nothing when the client is gone. */
void http_respond(http_call *c, unsigned status_code, const char *content_type, str body);

/* Chunked on HTTP/1.1, until close on 1.0.  The head leaves without waiting for a write.
 * The answer to HEAD has no body: what is written is dropped. */
void http_stream_begin(http_call *c, unsigned status_code, const char *content_type);
/* False: the client is gone, or the bytes together with those still unsent would be more than
 * stream_bytes_max; then nothing was added. */
bool http_stream_write(http_call *c, str bytes);
void http_stream_end(http_call *c);
/* Cuts the connection so that the client sees an incomplete body.  Also allowed before an
 * answer has begun.  on_closed(finished = false) follows, never from inside this call. */
void http_stream_abort(http_call *c);
/* Bytes written that the socket has not taken yet. */
size_t http_stream_pending(const http_call *c);

#endif
