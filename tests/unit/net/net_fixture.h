/* net_fixture.h - a server on a thread of its own, and a plain socket client.
 *
 * The server's handler answers by path:
 *   /echo         method, path and body as text, at once
 *   /wait         nothing; the test answers later through fixture_call()
 *   /stream       begins a stream at the request, writes nothing by itself
 *   /refuse       401 from on_head
 *   /limit        body limit of 8 bytes, set in on_head
 *   /abort        http_stream_abort() from on_request
 *   /chain        writes a piece in on_request and one more per on_drained, 5 in all, then ends
 *   /cutdrained   writes a piece, aborts in on_drained
 *   /inject       tries to smuggle header fields into the answer
 *   anything else 404
 * Counters are read by the test thread. */
#ifndef NET_FIXTURE_H
#define NET_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/http.h"
#include "net/loop.h"

typedef struct fixture {
    loop *loop;
    http_server *server;
    http_options options; /* filled by the test before fixture_start */
    uint16_t port;
    bool late_413; /* on_too_large answers by itself */
    atomic_int heads, requests, drained, finished, cut, too_large;
    http_call *waiting; /* the newest call of /wait or /stream; loop thread only */
    struct fixture_thread *thread;
} fixture;

void fixture_start(fixture *f);
/* Stops the loop, closes the server, checks that every head met its on_closed. */
void fixture_stop(fixture *f);
/* Run fn(f, arg) on the loop's thread and wait for its end. */
void fixture_call(fixture *f, void (*fn)(fixture *f, void *arg), void *arg);

/* Wait (at most 5 s) until *value == want; milliseconds it took, -1 when it did not. */
int wait_for(atomic_int *value, int want);
/* The same for the server's connections. */
int wait_connections(fixture *f, uint32_t want);

/* --- client: blocking sockets with a 5 s limit on each call ------------------- */
int client_open(const fixture *f);
int client_open_small(const fixture *f); /* with a small receive buffer */
void client_send(int fd, str bytes);
bool client_try_send(int fd, str bytes); /* false when the server has closed */
static inline void client_text(int fd, const char *text) { client_send(fd, str_of(text)); }
/* Everything until the server closes; `reset` says whether it ended in an error. */
void client_read_all(int fd, buf *out, bool *reset);
/* One answer with Content-Length or chunks; false when the connection ended before it did.
 * *out gets head and raw body. */
bool client_read_answer(int fd, buf *out);
/* The same for an answer to HEAD. */
bool client_read_head(int fd, buf *out);
/* Bytes that arrive within ms. */
void client_read_for(int fd, buf *out, int ms);
void client_close(int fd);
/* One request on a connection of its own; the status code, 0 when there is no answer. */
int client_status(const fixture *f, str request);
int status_of(const buf *answer);
/* Open descriptors of this process. */
int open_descriptors(void);
uint64_t clock_ms(void);

#endif
