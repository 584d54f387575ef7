/* ask.h - one HTTP request and its whole answer, for commands that talk to a running server.
 *
 * HTTP/1.1 over plain TCP with "Connection: close"; answers have a Content-Length or end with the
 * connection.  Source: RFC 9112. */
#ifndef NET_ASK_H
#define NET_ASK_H

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

enum { ASK_WAIT_S = 90, ASK_ANSWER_BYTES_MAX = 16 << 20 };

typedef struct ask_server {
    char host[64]; /* an address, or "localhost" */
    uint16_t port;
} ask_server;

/* "http://HOST[:PORT][/]", or the same without "http://"; port 80 when none is said. */
NODISCARD status ask_parse_url(str url, ask_server *out, error *err);

typedef struct ask_request {
    const char *method;
    const char *path;
    str api_key; /* empty: none */
    str json;    /* the body, with POST */
} ask_request;

/* Appends the answer's body to `body` and gives its status.  ERR_IO when there is no server or it
 * ends early, ERR_FORMAT when it speaks no HTTP, ERR_LIMIT past ASK_ANSWER_BYTES_MAX. */
NODISCARD status ask(const ask_server *s, const ask_request *r, unsigned *http_status, buf *body,
                     error *err);

#endif
