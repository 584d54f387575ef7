/* http_request.c - see http.h: the life of one call until its request is complete, and what a
 * handler can ask about it. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "net/http_internal.h"

/* Beside the head, a call's arena holds decoded query values and the answer's fields. */
enum { CALL_SLACK_BYTES = 64 * 1024, ARENA_PER_HEAD = 4 };

/* --- opening and closing ---------------------------------------------------- */
static void split_uri(http_call *c, const char *uri) {
    str all = arena_dup(&c->mem, str_of(uri));
    c->target = all;
    const char *mark = all.n > 0 ? memchr(all.p, '?', all.n) : NULL;
    size_t path_n = mark != NULL ? (size_t)(mark - all.p) : all.n;
    c->path = (str){all.p != NULL ? all.p : "", path_n};
    c->query = mark != NULL ? str_skip(all, path_n + 1) : (str){"", 0};
}

void *http_call_open(void *cls, const char *uri, struct MHD_Connection *connection) {
    http_server *s = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    conn *k = info != NULL ? info->socket_context : NULL;
    http_call *c = k != NULL && !k->cut ? mem_try_calloc(1, sizeof *c) : NULL;
    if (c == NULL) return NULL;
    ASSERT(k->call == NULL);
    *c = (http_call){.server = s, .conn = k, .body_bytes_max = s->options.body_bytes_max};
    c->fields_end = &c->fields;
    arena_init(&c->mem, CALL_SLACK_BYTES + ARENA_PER_HEAD * s->options.header_bytes_max);
    buf_init(&c->out, SIZE_MAX);
    split_uri(c, uri);
    k->call = c;
    k->mid_request = true;
    if (k->limit.queue == &s->limits[HTTP_LIMIT_IDLE]) conn_limit(k, HTTP_LIMIT_HEAD);
    return c;
}

void http_call_body_release(http_call *c) {
    c->server->bodies_bytes -= c->body_counted;
    c->body_counted = 0;
    buf_deinit(&c->body);
}

void http_call_close(http_call *c, bool finished) {
    c->cut = true; /* whatever the handler still writes is dropped */
    if (c->head_ran) c->server->handler.on_closed(c->server->handler.ctx, c, finished);
    c->conn->call = NULL;
    http_call_body_release(c);
    buf_deinit(&c->out);
    arena_deinit(&c->mem);
    mem_free(c);
}

/* --- the steps of a request ---------------------------------------------------- */
static void refuse(http_call *c, unsigned status_code, const char *why) {
    char text[160];
    str_copy_c(text, sizeof text - 1, str_of(why));
    size_t n = strlen(text);
    text[n] = '\n';
    http_respond(c, status_code, "text/plain; charset=utf-8", (str){text, n + 1});
}

static void refuse_too_large(http_call *c) {
    const http_handler *h = &c->server->handler;
    LOG_EVERY(1000, LOG_INFO, "http", "body refused peer=%s path=%.*s body_bytes_max=%zu",
              c->conn->peer, STR(c->path), c->body_bytes_max);
    if (h->on_too_large != NULL) h->on_too_large(h->ctx, c);
    if (c->answer == CALL_ANSWER_NONE && !c->cut)
        refuse(c, MHD_HTTP_CONTENT_TOO_LARGE, "the request body is too large");
}

static enum MHD_Result await_body(http_call *c, call_received how) {
    c->received = how;
    conn_limit(c->conn, HTTP_LIMIT_BODY);
    return MHD_YES;
}

static bool has_body(const http_head *head) { return head->chunked || head->content_bytes > 0; }

/* The answer is there before the body.  A short body that is on its way is read first, and the
 * connection goes on; otherwise the answer leaves now and ends the connection. */
static enum MHD_Result refused_at_head(http_call *c, const http_head *head) {
    if (c->cut) return MHD_NO;
    if (!has_body(head)) return MHD_YES;
    if (!head->chunked && !head->expects_continue && head->content_bytes <= HTTP_DISCARD_BYTES_MAX)
        return await_body(c, CALL_RECEIVED_REFUSED);
    return http_answer_queue(c);
}

static enum MHD_Result take_head(http_call *c, const char *method, const char *version) {
    http_head head = {0};
    const char *why = NULL;
    const http_head_text text = {.method = method,
                                 .version = version,
                                 .target = c->target,
                                 .in_place = c->server->head_in_place};
    c->method = str_of(method);
    c->no_body = str_eq(c->method, S("HEAD"));
    unsigned bad = http_head_check(c->conn->connection, &text, c->server->options.header_bytes_max,
                                   &head, &why);
    c->http_1_0 = head.http_1_0;
    if (bad != 0) {
        LOG_EVERY(1000, LOG_INFO, "http", "head refused peer=%s status=%u: %s", c->conn->peer, bad,
                  why);
        refuse(c, bad, why);
        return http_answer_queue(c);
    }
    c->head_ran = true;
    c->server->handler.on_head(c->server->handler.ctx, c);
    c->received = CALL_RECEIVED_HEAD;
    if (c->cut || c->answer != CALL_ANSWER_NONE) return refused_at_head(c, &head);
    if (head.content_bytes > c->body_bytes_max) {
        refuse_too_large(c);
        return c->cut ? MHD_NO : http_answer_queue(c);
    }
    buf_init(&c->body, c->body_bytes_max);
    return has_body(&head) ? await_body(c, CALL_RECEIVED_HEAD) : MHD_YES;
}

/* Stop keeping the body; what still comes is read and dropped, then the answer leaves. */
static void drop_body(http_call *c) {
    http_call_body_release(c);
    c->received = CALL_RECEIVED_REFUSED;
}

static enum MHD_Result take_body(http_call *c, const char *bytes, size_t n) {
    http_server *s = c->server;
    if (c->received == CALL_RECEIVED_REFUSED) {
        c->refused_bytes += n;
        return c->refused_bytes <= HTTP_LINGER_BYTES_MAX ? MHD_YES : MHD_NO;
    }
    if (n > c->body_bytes_max - c->body.n) {
        drop_body(c);
        refuse_too_large(c);
        return c->cut ? MHD_NO : MHD_YES;
    }
    bool room = n <= s->options.bodies_bytes_max - s->bodies_bytes;
    if (room) buf_put(&c->body, bytes, n);
    if (!room || c->body.failed) {
        LOG_EVERY(1000, LOG_WARN, "http", "no memory for a body bodies_bytes=%zu max=%zu",
                  s->bodies_bytes, s->options.bodies_bytes_max);
        drop_body(c);
        refuse(c, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for the request body");
        return MHD_YES;
    }
    s->bodies_bytes += n;
    c->body_counted += n;
    return MHD_YES;
}

/* The request is complete.  Comes again after each resume until there is an answer. */
static enum MHD_Result take_end(http_call *c) {
    conn *k = c->conn;
    if (c->received != CALL_RECEIVED_ALL) {
        c->received = CALL_RECEIVED_ALL;
        deadline_clear(&k->limit);
        if (c->answer == CALL_ANSWER_NONE) c->server->handler.on_request(c->server->handler.ctx, c);
    }
    /* whoever closed the sending half is served only what needs no waiting */
    if (c->answer == CALL_ANSWER_NONE && k->hung_up) c->cut = true;
    if (c->cut) return MHD_NO;
    if (c->answer != CALL_ANSWER_NONE) return http_answer_queue(c);
    conn_suspend(k);
    return MHD_YES;
}

enum MHD_Result http_call_step(void *cls, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_bytes, void **call) {
    http_call *c = *call;
    (void)cls, (void)connection, (void)url;
    if (c == NULL || c->cut) return MHD_NO;
    if (c->received == CALL_RECEIVED_NOTHING) return take_head(c, method, version);
    if (*upload_bytes == 0) return take_end(c);
    enum MHD_Result result = take_body(c, upload, *upload_bytes);
    *upload_bytes = 0;
    return result;
}

/* --- what a handler can ask ------------------------------------------------------- */
str http_call_method(const http_call *c) { return c->method; }

str http_call_path(const http_call *c) { return c->path; }

str http_call_body(const http_call *c) { return buf_view(&c->body); }

str http_call_peer(const http_call *c) { return str_of(c->conn->peer); }

void http_call_set_user(http_call *c, void *user) { c->user = user; }

void *http_call_user(const http_call *c) { return c->user; }

void http_call_body_max(http_call *c, size_t bytes_max) {
    ASSERT(c->received == CALL_RECEIVED_NOTHING);
    c->body_bytes_max = bytes_max;
}

/* Optional white space after a value is no part of it: RFC 9110, 5.5. */
static str trim_end(str s) {
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

str http_call_header(const http_call *c, const char *name) {
    const char *value = MHD_lookup_connection_value(c->conn->connection, MHD_HEADER_KIND, name);
    return value != NULL ? trim_end(str_of(value)) : (str){NULL, 0};
}

typedef struct name_count {
    str name;
    uint32_t count;
} name_count;

static enum MHD_Result count_name(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value) {
    name_count *n = cls;
    (void)kind, (void)value;
    if (str_eq_nocase(str_of(name), n->name)) n->count++;
    return MHD_YES;
}

uint32_t http_call_header_count(const http_call *c, const char *name) {
    name_count n = {.name = str_of(name)};
    (void)MHD_get_connection_values(c->conn->connection, MHD_HEADER_KIND, count_name, &n);
    return n.count;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* One byte of application/x-www-form-urlencoded text from the front of *s.  A '%' without two
 * hexadecimal digits stands for itself (WHATWG URL, "percent-decode"). */
static char next_byte(str *s) {
    char c = s->p[0];
    if (c == '%' && s->n >= 3) {
        int high = hex_digit(s->p[1]), low = hex_digit(s->p[2]);
        if (high >= 0 && low >= 0) {
            *s = str_skip(*s, 3);
            return (char)(high * 16 + low);
        }
    }
    *s = str_skip(*s, 1);
    if (c == '+') return ' ';
    return c;
}

static bool decodes_to(str coded, str plain) {
    while (coded.n > 0 && plain.n > 0) {
        if (next_byte(&coded) != plain.p[0]) return false;
        plain = str_skip(plain, 1);
    }
    return coded.n == 0 && plain.n == 0;
}

static str decode(arena *mem, str coded) {
    char *p = arena_take(mem, coded.n + 1);
    if (p == NULL) return (str){NULL, 0};
    size_t n = 0;
    while (coded.n > 0) p[n++] = next_byte(&coded);
    return (str){p, n};
}

/* s up to the first `mark`; *rest what follows the mark. */
static str cut_at(str s, char mark, str *rest) {
    const char *at = s.n > 0 ? memchr(s.p, mark, s.n) : NULL;
    size_t n = at != NULL ? (size_t)(at - s.p) : s.n;
    *rest = at != NULL ? str_skip(s, n + 1) : (str){"", 0};
    return (str){s.p, n};
}

str http_call_query(http_call *c, const char *name) {
    str rest = c->query;
    while (rest.n > 0) {
        str value = {"", 0};
        str pair = cut_at(rest, '&', &rest);
        str key = cut_at(pair, '=', &value);
        if (decodes_to(key, str_of(name))) return decode(&c->mem, value);
    }
    return (str){NULL, 0};
}
