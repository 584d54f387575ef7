/* http_answer.c - see http.h: from what the handler says to bytes that the library sends. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "net/http_internal.h"

static size_t waiting_bytes(const http_call *c) { return c->out.n - c->out_taken; }

bool http_call_is_complete(const http_call *c) { return c->ended; }

bool http_call_is_delivered(const http_call *c) {
    return c->answer == CALL_ANSWER_STREAM && c->ended && !c->cut && http_stream_pending(c) == 0;
}

void http_call_cut(http_call *c) {
    c->cut = true;
    conn_cut(c->conn);
}

/* --- header fields ------------------------------------------------------------ */
static bool is_sendable(str name, str value) {
    static const char *const framing[] = {"content-length", "transfer-encoding", "connection"};
    for (size_t i = 0; i < name.n; i++)
        if (!http_is_token_byte((unsigned char)name.p[i])) return false;
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
    }
    for (size_t i = 0; i < sizeof framing / sizeof framing[0]; i++)
        if (str_eq_nocase(name, str_of(framing[i]))) return false;
    return name.n > 0;
}

static http_field *field_make(http_call *c, str name, str value) {
    http_field *f = arena_take(&c->mem, sizeof *f);
    str n = arena_dup(&c->mem, name), v = arena_dup(&c->mem, value);
    if (f == NULL || n.p == NULL || v.p == NULL) return NULL;
    *f = (http_field){.name = n.p, .value = v.p};
    return f;
}

void http_header_add(http_call *c, const char *name, const char *value) {
    ASSERT(c->answer == CALL_ANSWER_NONE);
    http_field *f = NULL;
    if (is_sendable(str_of(name), str_of(value))) f = field_make(c, str_of(name), str_of(value));
    if (f == NULL) {
        LOG_EVERY(1000, LOG_WARN, "http", "answer header left out name=%s value_bytes=%zu", name,
                  strlen(value));
        return;
    }
    *c->fields_end = f;
    c->fields_end = &f->next;
}

static void fields_to(struct MHD_Response *r, const http_call *c) {
    for (const http_field *f = c->fields; f != NULL; f = f->next)
        if (MHD_add_response_header(r, f->name, f->value) != MHD_YES)
            LOG_EVERY(1000, LOG_WARN, "http", "answer header refused name=%s", f->name);
    if (c->server->draining) (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
}

/* --- the library takes bytes ---------------------------------------------------- */
/* The last bytes it took are in the socket: it comes for more only then. */
static void landed(http_call *c) {
    const http_handler *h = &c->server->handler;
    if (c->in_flight_bytes == 0) return;
    c->in_flight_bytes = 0;
    if (waiting_bytes(c) == 0 && !c->ended && h->on_drained != NULL) h->on_drained(h->ctx, c);
}

/* End the connection from inside the library's request for bytes.  Told of an end or an error
 * there, libmicrohttpd 0.9.75 with external epoll marks the connection closed but does not look
 * at it again; after a failed send it cleans up.  So the socket is shut (what was sent before
 * is still delivered) and the library gets a byte that can go nowhere. */
static ssize_t end_connection(http_call *c, char *to) {
    sock_cut(c->conn->fd);
    to[0] = '\n';
    return 1;
}

/* MHD_ContentReaderCallback: copy what is there, or say the end, or go to sleep. */
static ssize_t give_bytes(void *cls, uint64_t position, char *to, size_t bytes_max) {
    http_call *c = cls;
    (void)position;
    if (!c->cut) landed(c);
    if (c->conn->hung_up && !c->ended) c->cut = true;
    if (c->cut) return end_connection(c, to);
    size_t n = num_min_size(waiting_bytes(c), bytes_max);
    if (n == 0 && !c->ended) {
        conn_suspend(c->conn);
        return 0;
    }
    conn_limit(c->conn, HTTP_LIMIT_SEND);
    if (n == 0) return c->http_1_0 ? end_connection(c, to) : MHD_CONTENT_READER_END_OF_STREAM;
    memcpy(to, c->out.p + c->out_taken, n);
    c->out_taken += n;
    c->in_flight_bytes = n;
    return (ssize_t)n;
}

static struct MHD_Response *make_response(http_call *c) {
    bool stream = c->answer == CALL_ANSWER_STREAM && !c->no_body;
    if (!stream && c->out.n <= HTTP_WHOLE_BYTES_MAX)
        return MHD_create_response_from_buffer(c->out.n, c->out.p, MHD_RESPMEM_PERSISTENT);
    /* chunks are built in the connection's own memory; only other answers use a block */
    size_t block_bytes = stream && !c->http_1_0 ? 1 : HTTP_BLOCK_BYTES;
    return MHD_create_response_from_callback(stream ? MHD_SIZE_UNKNOWN : c->out.n, block_bytes,
                                             give_bytes, c, NULL);
}

enum MHD_Result http_answer_queue(http_call *c) {
    struct MHD_Response *r = make_response(c);
    if (r == NULL) {
        c->cut = true;
        return MHD_NO;
    }
    fields_to(r, c);
    enum MHD_Result result = MHD_queue_response(c->conn->connection, c->status_code, r);
    MHD_destroy_response(r);
    if (result == MHD_YES) conn_limit(c->conn, HTTP_LIMIT_SEND);
    return result;
}

/* --- the handler speaks ----------------------------------------------------------- */
static void begin(http_call *c, call_answer how, unsigned status_code, const char *type) {
    ASSERT(c->answer == CALL_ANSWER_NONE);
    ASSERT(status_code >= 200 && status_code <= 599);
    if (type != NULL) http_header_add(c, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    c->answer = how;
    c->status_code = status_code;
}

void http_respond(http_call *c, unsigned status_code, const char *content_type, str body) {
    if (c->cut) return;
    begin(c, CALL_ANSWER_WHOLE, status_code, content_type);
    buf_put_str(&c->out, body);
    c->ended = true;
    if (c->out.failed) {
        log_error("http", "no memory for an answer bytes=%zu", body.n);
        http_call_cut(c);
        return;
    }
    conn_resume(c->conn);
}

void http_stream_begin(http_call *c, unsigned status_code, const char *content_type) {
    if (c->cut) return;
    begin(c, CALL_ANSWER_STREAM, status_code, content_type);
    c->ended = c->no_body;
    conn_resume(c->conn);
}

bool http_stream_write(http_call *c, str bytes) {
    if (c->cut) return false;
    ASSERT(c->answer == CALL_ANSWER_STREAM);
    if (c->no_body) return true;
    ASSERT(!c->ended);
    size_t pending = http_stream_pending(c);
    if (bytes.n > c->server->options.stream_bytes_max - pending) return false;
    /* moving the rest to the front costs no more than sending it did */
    if (c->out_taken >= waiting_bytes(c)) {
        buf_drop_front(&c->out, c->out_taken);
        c->out_taken = 0;
    }
    buf_put_str(&c->out, bytes);
    if (c->out.failed) {
        log_error("http", "no memory for a stream pending_bytes=%zu bytes=%zu", pending, bytes.n);
        http_call_cut(c);
        return false;
    }
    if (bytes.n > 0) conn_resume(c->conn);
    return true;
}

void http_stream_end(http_call *c) {
    if (c->cut) return;
    ASSERT(c->answer == CALL_ANSWER_STREAM);
    c->ended = true;
    conn_resume(c->conn);
}

void http_stream_abort(http_call *c) {
    if (c->cut) return;
    /* without chunks, the end of the connection is the end of the answer: make it an error */
    if (c->answer == CALL_ANSWER_STREAM && c->http_1_0) sock_reset(c->conn->fd);
    http_call_cut(c);
}

size_t http_stream_pending(const http_call *c) { return waiting_bytes(c) + c->in_flight_bytes; }
