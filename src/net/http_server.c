/* http_server.c - see http.h: the server as a whole and the life of its connections.  The
 * picture is in http_internal.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "net/http_internal.h"

/* The library's heap of one connection holds the head as text, an index of its fields and the
 * answer's head: twice the text is room for all three. */
enum { POOL_PER_HEAD = 2 };

static uint64_t now_ms(const http_server *s) { return loop_now_ms(s->loop); }

void conn_limit(conn *k, http_limit which) {
    deadline_set(&k->limit, &k->server->limits[which], now_ms(k->server));
}

void conn_suspend(conn *k) {
    ASSERT(!k->suspended);
    deadline_clear(&k->limit);
    k->suspended = true;
    MHD_suspend_connection(k->connection);
}

void conn_resume(conn *k) {
    if (!k->suspended) return;
    k->suspended = false;
    k->server->pending = true;
    MHD_resume_connection(k->connection);
}

void conn_cut(conn *k) {
    k->cut = true;
    k->server->pending = true;
    deadline_clear(&k->limit);
    if (k->suspended)
        conn_resume(k);
    else
        sock_cut(k->fd);
}

/* --- connections -------------------------------------------------------------- */
/* Our own watch on the socket: the client has closed, at least its sending half. */
static void on_hangup(void *ctx) {
    conn *k = ctx;
    loop_unwatch(k->server->loop, k->fd); /* level-triggered, and it stays closed */
    k->hung_up = true;
    k->server->leaving = true;
    http_call *c = k->call;
    if (c != NULL && c->received == CALL_RECEIVED_ALL && !http_call_is_complete(c))
        http_call_cut(c);
}

static void conn_open(http_server *s, struct MHD_Connection *connection, void **context) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    int fd = info != NULL ? info->connect_fd : -1;
    conn *k = mem_try_calloc(1, sizeof *k);
    if (k == NULL || fd < 0) {
        mem_free(k);
        sock_cut(fd); /* there is no way to refuse here: the library meets the end at once */
        return;
    }
    *k = (conn){.server = s, .connection = connection, .fd = fd, .next = s->conns};
    k->limit.owner = k;
    k->mid_request = true;
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    sock_peer_text(info != NULL ? info->client_addr : NULL, k->peer);
    if (s->conns != NULL) s->conns->prev = k;
    s->conns = k;
    s->conns_count++;
    *context = k;
    conn_limit(k, HTTP_LIMIT_HEAD);
    error err = {0};
    if (loop_watch(s->loop, fd, LOOP_HANGUP, on_hangup, k, &err) != OK) {
        LOG_EVERY(1000, LOG_WARN, "http", "connection refused peer=%s: %s", k->peer, err.msg);
        conn_cut(k);
    }
}

/* The library closes the socket right after this. */
static void conn_close(conn *k) {
    http_server *s = k->server;
    loop_unwatch(s->loop, k->fd);
    deadline_clear(&k->limit);
    if (k->call != NULL) http_call_close(k->call, false);
    if (!k->cut && !s->closing) http_linger_start(s, k->fd, k->mid_request);
    if (k->prev != NULL)
        k->prev->next = k->next;
    else
        s->conns = k->next;
    if (k->next != NULL) k->next->prev = k->prev;
    s->conns_count--;
    s->pending = true; /* a place is free: the library must look at its listening socket */
    mem_free(k);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        conn_open(cls, connection, context);
    else if (*context != NULL)
        conn_close(*context);
}

/* One request is over; the connection may go on. */
static void on_completed(void *cls, struct MHD_Connection *connection, void **call,
                         enum MHD_RequestTerminationCode why) {
    http_server *s = cls;
    (void)connection;
    http_call *c = *call;
    *call = NULL;
    if (c == NULL) return;
    conn *k = c->conn;
    bool all = c->received == CALL_RECEIVED_ALL;
    bool complete = why == MHD_REQUEST_TERMINATED_COMPLETED_OK && !c->cut;
    /* a stream that ends with its connection ends in a failed send: see end_connection() */
    http_call_close(c, complete || (c->http_1_0 && http_call_is_delivered(c)));
    k->mid_request = !all;
    if (s->draining)
        sock_cut(k->fd);
    else if (!k->cut)
        conn_limit(k, HTTP_LIMIT_IDLE);
}

static void expire(http_server *s) {
    static const char *const names[HTTP_LIMIT_COUNT] = {
        [HTTP_LIMIT_HEAD] = "head_ms_max", [HTTP_LIMIT_IDLE] = "idle_ms_max",
        [HTTP_LIMIT_BODY] = "body_ms_max", [HTTP_LIMIT_SEND] = "write_stall_ms_max",
        [HTTP_LIMIT_LINGER] = "linger",
    };
    for (uint32_t i = 0; i < HTTP_LIMIT_LINGER; i++) {
        deadline *d = NULL;
        while ((d = deadline_take_due(&s->limits[i], now_ms(s))) != NULL) {
            conn *k = d->owner;
            log_debug("http", "connection cut peer=%s limit=%s ms=%u", k->peer, names[i],
                      s->limits[i].ms);
            if (k->call != NULL)
                http_call_cut(k->call);
            else
                conn_cut(k);
        }
    }
    deadline *d = NULL;
    while ((d = deadline_take_due(&s->limits[HTTP_LIMIT_LINGER], now_ms(s))) != NULL)
        http_linger_end(d->owner);
}

/* --- turns of the library ------------------------------------------------------- */
static void on_mhd_ready(void *ctx) {
    http_server *s = ctx;
    s->pending = true;
}

static bool mhd_wants_turn(http_server *s) {
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    if (s->pending) return true;
    return MHD_get_timeout(s->daemon, &wait_ms) == MHD_YES && wait_ms == 0;
}

/* The library's epoll is edge-triggered: an end that arrives together with bytes is announced
 * once, with the bytes, and it reads no further.  So whoever hung up before its request was
 * complete, or between two, is cut here once the library has taken all there is.  True when
 * that gives the library something to do. */
static bool cut_the_gone(http_server *s) {
    s->leaving = false;
    for (conn *k = s->conns; k != NULL; k = k->next) {
        if (!k->hung_up || k->cut) continue;
        s->leaving = true;
        bool served = k->call != NULL && k->call->received == CALL_RECEIVED_ALL;
        if (!served && !k->suspended && sock_is_at_end(k->fd)) conn_cut(k);
    }
    return s->pending;
}

/* The loop's hook: whatever this turn of the loop has brought leaves before it waits again. */
static uint32_t before_wait(void *ctx) {
    http_server *s = ctx;
    expire(s);
    s->turning = true;
    for (uint32_t i = 0; i < HTTP_TURNS_MAX && mhd_wants_turn(s); i++) {
        s->pending = false;
        (void)MHD_run(s->daemon);
    }
    s->turning = false;
    if (mhd_wants_turn(s) || (s->leaving && cut_the_gone(s))) return 0;
    uint32_t wait_ms = UINT32_MAX;
    for (uint32_t i = 0; i < HTTP_LIMIT_COUNT; i++)
        wait_ms = num_min_u32(wait_ms, deadline_wait_ms(&s->limits[i], now_ms(s)));
    return wait_ms;
}

__attribute__((format(printf, 2, 0))) static void mhd_log(void *cls, const char *fmt, va_list ap) {
    (void)cls;
    if (!log_is_on(LOG_DEBUG)) return;
    char line[512];
    (void)vsnprintf(line, sizeof line, fmt, ap);
    size_t n = strlen(line);
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
    log_debug("http", "mhd: %s", line);
}

static void mhd_panic(void *cls, const char *file, unsigned int line, const char *reason) {
    (void)cls;
    log_error("http", "mhd: broken invariant at %s:%u: %s", file, line,
              reason != NULL ? reason : "?");
    assert_fail("libmicrohttpd is sound", file, (int)line);
}

/* --- opening and closing ---------------------------------------------------------- */
static void fill_defaults(http_options *o) {
    if (o->connections_max == 0) o->connections_max = 1024;
    if (o->header_bytes_max == 0) o->header_bytes_max = (size_t)16 << 10;
    if (o->body_bytes_max == 0) o->body_bytes_max = (size_t)16 << 20;
    if (o->bodies_bytes_max == 0) o->bodies_bytes_max = (size_t)256 << 20;
    if (o->idle_ms_max == 0) o->idle_ms_max = 60000;
    if (o->head_ms_max == 0) o->head_ms_max = 10000;
    if (o->body_ms_max == 0) o->body_ms_max = 60000;
    if (o->write_stall_ms_max == 0) o->write_stall_ms_max = 60000;
    if (o->stream_bytes_max == 0) o->stream_bytes_max = (size_t)1 << 20;
}

static void set_limits(http_server *s) {
    const http_options *o = &s->options;
    s->limits[HTTP_LIMIT_HEAD].ms = o->head_ms_max;
    s->limits[HTTP_LIMIT_IDLE].ms = o->idle_ms_max;
    s->limits[HTTP_LIMIT_BODY].ms = o->body_ms_max;
    s->limits[HTTP_LIMIT_SEND].ms = o->write_stall_ms_max;
    s->limits[HTTP_LIMIT_LINGER].ms = o->body_ms_max;
}

static status start_daemon(http_server *s, int listen_fd, error *err) {
    const http_options *o = &s->options;
    MHD_set_panic_func(mhd_panic, NULL);
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)(POOL_PER_HEAD * o->header_bytes_max), NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)o->connections_max, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)o->connections_per_ip_max, NULL},
#if MHD_VERSION >= 0x00097701
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 2, NULL},
#else
        /* 0.9.75 at level 1 would check Host and spaces as http_head.c does, but it answers a
         * missing Host with two heads and a space with none */
        {MHD_OPTION_STRICT_FOR_CLIENT, s->head_in_place ? 0 : 1, NULL},
#endif
        {MHD_OPTION_END, 0, NULL},
    };
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, http_call_step,
        s, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
        MHD_OPTION_URI_LOG_CALLBACK, http_call_open, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (s->daemon != NULL) return OK;
    return error_set(err, ERR_NOMEM, "http: libmicrohttpd %s cannot start on port %u",
                     MHD_get_version(), (unsigned)s->port);
}

/* From here on the daemon owns listen_fd, also when this fails. */
static status join_loop(http_server *s, error *err) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || info->epoll_fd < 0)
        return error_set(err, ERR_UNSUPPORTED, "http: libmicrohttpd %s has no epoll",
                         MHD_get_version());
    s->mhd_epoll_fd = info->epoll_fd;
    TRY(loop_watch(s->loop, s->mhd_epoll_fd, LOOP_READ, on_mhd_ready, s, err));
    return loop_before_wait(s->loop, before_wait, s, err);
}

status http_server_open(http_server **out, loop *l, const http_options *options,
                        const http_handler *handler, error *err) {
    ASSERT(handler->on_head != NULL && handler->on_request != NULL && handler->on_closed != NULL);
    http_server *s = mem_try_calloc(1, sizeof *s);
    if (s == NULL) return error_set(err, ERR_NOMEM, "http: no memory for %zu bytes", sizeof *s);
    *s = (http_server){.loop = l, .options = *options, .handler = *handler, .mhd_epoll_fd = -1};
    fill_defaults(&s->options);
    set_limits(s);
    s->head_in_place = http_head_is_in_place();
    s->pending = true; /* the library's first turn watches the listening socket */
    int fd = -1;
    status st = sock_listen(&fd, options->host, options->port, err);
    if (st == OK) {
        s->port = sock_port(fd);
        st = start_daemon(s, fd, err);
        if (st != OK) os_close(fd);
    }
    if (st == OK) st = join_loop(s, err);
    if (st != OK) {
        http_server_close(s);
        return st;
    }
    *out = s;
    return OK;
}

uint16_t http_server_port(const http_server *s) { return s->port; }

uint32_t http_server_connections(const http_server *s) { return s->conns_count; }

void http_server_stop_accepting(http_server *s) {
    if (s->draining) return;
    s->draining = true;
    os_close(MHD_quiesce_daemon(s->daemon));
    for (conn *k = s->conns; k != NULL; k = k->next)
        if (k->limit.queue == &s->limits[HTTP_LIMIT_IDLE]) conn_cut(k);
}

void http_server_close(http_server *s) {
    if (s == NULL) return;
    ASSERT(!s->turning);
    s->closing = true;
    loop_before_wait_cancel(s->loop, s);
    loop_unwatch(s->loop, s->mhd_epoll_fd);
    /* the library wants to be stopped with nothing suspended */
    for (conn *k = s->conns; k != NULL; k = k->next) {
        if (k->call != NULL) k->call->cut = true;
        conn_cut(k);
    }
    if (s->daemon != NULL) MHD_stop_daemon(s->daemon);
    while (s->lingers != NULL) http_linger_end(s->lingers);
    mem_free(s);
}
