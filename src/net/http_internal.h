/* http_internal.h - how the server stands on libmicrohttpd.  Only src/net and its tests.
 *
 * The library runs in external epoll mode: it has no thread of its own, we wait on its epoll
 * descriptor in our loop and call MHD_run() when there is something to do.  It parses requests,
 * frames answers and owns the sockets.  Everything about when is ours: it calls us for each
 * step of a request (take_head, take_body, take_end in http_request.c), we suspend the
 * connection when there is nothing to send and resume it when there is.
 *
 *              on_head          body complete         http_respond / http_stream_*
 *   conn:  HEAD ------> BODY ------------> suspended ------------------------> SEND
 *            ^                               |  ^                               |
 *            |   next request: IDLE          |  '---- stream has nothing -------'
 *            '-------------------------------+--------------- answer complete --'
 *
 * A suspended connection is not polled by the library, so each socket is also in our own epoll
 * set, for hang-up only.  A cut connection is resumed (when suspended) or has its socket shut
 * down (when not): either way the library comes back to us, we refuse, it closes, and
 * everything ends in http_call_close() and conn_close(). */
#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "net/deadline.h"
#include "net/http.h"
#include "net/sock.h"

/* Each limit on time has a queue; a connection is in one of them or, waiting for the handler,
 * in none. */
typedef enum http_limit {
    HTTP_LIMIT_HEAD,
    HTTP_LIMIT_IDLE,
    HTTP_LIMIT_BODY,
    HTTP_LIMIT_SEND,
    HTTP_LIMIT_LINGER, /* members are http_linger */
    HTTP_LIMIT_COUNT
} http_limit;

enum {
    /* A refused body up to this size is read first, so that the connection can go on. */
    HTTP_DISCARD_BYTES_MAX = 64 * 1024,
    HTTP_LINGERS_MAX = 128,
    /* Whole answers up to this size go to the library in one piece. */
    HTTP_WHOLE_BYTES_MAX = 64 * 1024,
    /* What a stream hands to the library at a time when the answer is not chunked. */
    HTTP_BLOCK_BYTES = 16 * 1024,
    /* Turns given to the library before other descriptors get theirs. */
    HTTP_TURNS_MAX = 8,
};
/* Bytes read and dropped for a client that must see its refusal; time is limited as well. */
#define HTTP_LINGER_BYTES_MAX ((uint64_t)256 << 20)

typedef struct conn {
    http_server *server;
    struct conn *prev, *next;          /* all connections of the server */
    struct MHD_Connection *connection; /* owns fd and this */
    int fd;
    http_call *call; /* owned; NULL between requests */
    deadline limit;
    bool suspended;   /* by us; the library does not look at it */
    bool hung_up;     /* the client closed at least its sending half */
    bool cut;         /* by us */
    bool mid_request; /* the client may still be sending its request */
    char peer[SOCK_PEER_BYTES];
} conn;

/* A connection that the library has closed and whose client has not finished sending. */
typedef struct http_linger {
    http_server *server;
    struct http_linger *prev, *next;
    int fd; /* owned */
    uint64_t bytes_left;
    deadline limit;
} http_linger;

struct http_server {
    loop *loop; /* borrowed, outlives us */
    http_options options;
    http_handler handler;
    struct MHD_Daemon *daemon; /* owned */
    int mhd_epoll_fd;
    bool head_in_place; /* http_head_is_in_place() */
    uint16_t port;
    conn *conns; /* newest first */
    uint32_t conns_count;
    http_linger *lingers; /* owned, newest first */
    uint32_t lingers_count;
    size_t bodies_bytes; /* held by all calls */
    deadline_queue limits[HTTP_LIMIT_COUNT];
    bool pending;  /* the library has something to do */
    bool leaving;  /* some connection hung up and is not closed yet */
    bool turning;  /* inside MHD_run */
    bool draining; /* no new connections; each answer is the last of its connection */
    bool closing;
};

typedef enum call_received {
    CALL_RECEIVED_NOTHING, /* the head is being parsed or judged */
    CALL_RECEIVED_HEAD,    /* body, if any, on its way to us */
    CALL_RECEIVED_REFUSED, /* body on its way to nowhere; the answer is there */
    CALL_RECEIVED_ALL,
} call_received;

typedef enum call_answer { CALL_ANSWER_NONE, CALL_ANSWER_WHOLE, CALL_ANSWER_STREAM } call_answer;

typedef struct http_field {
    struct http_field *next;
    const char *name, *value; /* in the call's arena */
} http_field;

struct http_call {
    http_server *server;
    conn *conn;
    arena mem;
    void *user;    /* borrowed */
    bool head_ran; /* on_head was called, so on_closed must be */
    bool cut;      /* no more bytes for this client */

    str method, target, path, query;
    call_received received;
    size_t body_bytes_max;
    uint64_t refused_bytes; /* of a body that is dropped */
    buf body;
    size_t body_counted; /* our share of server->bodies_bytes */

    call_answer answer;
    unsigned status_code;
    http_field *fields, **fields_end;
    bool http_1_0; /* the client's version: no chunks */
    bool no_body;  /* the answer to HEAD */
    bool ended;    /* nothing more will be written */
    buf out;
    size_t out_taken;       /* bytes at the front of out that the library has copied */
    size_t in_flight_bytes; /* copied by the library, not yet taken by the socket */
};

/* Where the library has put the request line. */
typedef struct http_head_text {
    const char *method, *version;
    str target;    /* path, '?' and query as sent, up to a NUL */
    bool in_place; /* see http_head.c */
} http_head_text;

/* What the checks of a head found out. */
typedef struct http_head {
    uint64_t content_bytes; /* 0 when chunked */
    bool http_1_0;
    bool chunked;
    bool expects_continue;
} http_head;

/* --- http_server.c --------------------------------------------------------- */
void conn_limit(conn *k, http_limit which);
void conn_suspend(conn *k);
void conn_resume(conn *k);
/* No more bytes for this client: the library will close the connection in its next turn. */
void conn_cut(conn *k);

/* --- http_head.c ----------------------------------------------------------- */
/* Status code of the refusal, 0 when the head is sound; *why then says what is wrong. */
unsigned http_head_check(struct MHD_Connection *connection, const http_head_text *text,
                         size_t bytes_max, http_head *head, const char **why);
/* Is this a library whose strings lie where it read them? */
bool http_head_is_in_place(void);
/* May this byte be in a field name?  RFC 9110, 5.6.2 (token). */
bool http_is_token_byte(unsigned char c);

/* --- http_request.c -------------------------------------------------------- */
/* The library's callbacks; cls is the server. */
void *http_call_open(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result http_call_step(void *cls, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_bytes, void **call);
/* on_closed, then everything of the call is freed. */
void http_call_close(http_call *c, bool finished);

/* --- http_answer.c ---------------------------------------------------------- */
bool http_call_is_complete(const http_call *c);  /* nothing more will be computed for it */
bool http_call_is_delivered(const http_call *c); /* the socket has all bytes of a stream */
void http_call_cut(http_call *c);
/* Hand the answer to the library, from inside http_call_step(). */
enum MHD_Result http_answer_queue(http_call *c);

/* --- http_linger.c ---------------------------------------------------------- */
/* The library is about to close fd: read on where the client has not finished sending. */
void http_linger_start(http_server *s, int fd, bool mid_request);
void http_linger_end(http_linger *g);

#endif
