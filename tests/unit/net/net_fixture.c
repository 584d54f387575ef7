/* net_fixture.c - see net_fixture.h. */
#include "net_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "base/thread.h"
#include "test.h"

struct fixture_thread {
    thread thread;
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int wake_fd;
    void (*fn)(fixture *f, void *arg); /* NULL: nothing to run */
    void *arg;
};

uint64_t clock_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void pause_ms(int ms) { (void)poll(NULL, 0, ms); }

int wait_for(atomic_int *value, int want) {
    uint64_t start = clock_ms();
    while (atomic_load(value) != want) {
        if (clock_ms() - start > 5000) return -1;
        pause_ms(1);
    }
    return (int)(clock_ms() - start);
}

/* --- handler ------------------------------------------------------------------- */
static void echo(http_call *c) {
    buf b;
    buf_init(&b, SIZE_MAX);
    str m = http_call_method(c), p = http_call_path(c), body = http_call_body(c);
    buf_put_str(&b, m);
    buf_put_char(&b, ' ');
    buf_put_str(&b, p);
    buf_put_char(&b, ' ');
    buf_put_str(&b, body);
    http_respond(c, 200, "text/plain", buf_view(&b));
    buf_deinit(&b);
}

static bool path_is(http_call *c, const char *path) { return str_eq_c(http_call_path(c), path); }

static void on_head(void *ctx, http_call *c) {
    fixture *f = ctx;
    atomic_fetch_add(&f->heads, 1);
    if (path_is(c, "/limit")) http_call_body_max(c, 8);
    if (path_is(c, "/refuse")) {
        http_header_add(c, "WWW-Authenticate", "Bearer");
        http_respond(c, 401, "text/plain", S("who are you"));
    }
}

static void on_too_large(void *ctx, http_call *c) {
    fixture *f = ctx;
    atomic_fetch_add(&f->too_large, 1);
    if (f->late_413) http_respond(c, 413, "application/json", S("{\"error\":\"too large\"}"));
}

static void inject(http_call *c) {
    http_header_add(c, "X-Good", "fine");
    http_header_add(c, "X-Bad", "a\r\nX-Injected: yes");
    http_header_add(c, "X-Bad2", "a\nX-Injected: yes");
    http_header_add(c, "X-Bad3:\r\nX-Injected", "yes");
    http_header_add(c, "Content-Length", "3");
    http_header_add(c, "Transfer-Encoding", "chunked");
    http_header_add(c, "Connection", "close");
    http_header_add(c, "", "empty");
    http_respond(c, 200, "text/plain\r\nX-Injected: yes", S("ok"));
}

static void on_request(void *ctx, http_call *c) {
    fixture *f = ctx;
    atomic_fetch_add(&f->requests, 1);
    if (path_is(c, "/echo") || path_is(c, "/limit")) {
        echo(c);
    } else if (path_is(c, "/wait")) {
        f->waiting = c;
    } else if (path_is(c, "/stream")) {
        f->waiting = c;
        http_stream_begin(c, 200, "text/event-stream");
    } else if (path_is(c, "/abort")) {
        http_stream_abort(c);
    } else if (path_is(c, "/chain") || path_is(c, "/cutdrained")) {
        http_stream_begin(c, 200, "text/plain");
        CHECK(http_stream_write(c, S("piece 0\n")));
    } else if (path_is(c, "/inject")) {
        inject(c);
    } else {
        http_respond(c, 404, NULL, S(""));
    }
}

static void on_drained(void *ctx, http_call *c) {
    fixture *f = ctx;
    atomic_fetch_add(&f->drained, 1);
    CHECK_EQ(http_stream_pending(c), 0);
    if (path_is(c, "/cutdrained")) http_stream_abort(c);
    if (!path_is(c, "/chain")) return;
    uintptr_t pieces = (uintptr_t)http_call_user(c) + 1;
    http_call_set_user(c, (void *)pieces); /* NOLINT: a count */
    if (pieces == 5) {
        http_stream_end(c);
    } else {
        char text[] = "piece 0\n";
        text[6] = (char)('0' + pieces);
        CHECK(http_stream_write(c, str_of(text)));
    }
}

static void on_closed(void *ctx, http_call *c, bool finished) {
    fixture *f = ctx;
    if (f->waiting == c) f->waiting = NULL;
    CHECK(!http_stream_write(c, S("too late")));
    (void)http_call_header(c, "Host");
    atomic_fetch_add(finished ? &f->finished : &f->cut, 1);
}

/* --- thread ---------------------------------------------------------------------- */
static void run_command(void *ctx) {
    fixture *f = ctx;
    struct fixture_thread *t = f->thread;
    os_event_clear(t->wake_fd);
    (void)pthread_mutex_lock(&t->mutex);
    if (t->fn != NULL) t->fn(f, t->arg);
    t->fn = NULL;
    (void)pthread_cond_signal(&t->done);
    (void)pthread_mutex_unlock(&t->mutex);
}

static void run_loop(void *arg) { loop_run(arg); }

void fixture_start(fixture *f) {
    struct fixture_thread *t = mem_calloc(1, sizeof *t);
    error err = {0};
    const http_handler handler = {.ctx = f,
                                  .on_head = on_head,
                                  .on_too_large = on_too_large,
                                  .on_request = on_request,
                                  .on_drained = on_drained,
                                  .on_closed = on_closed};
    log_set_level(LOG_OFF);
    f->thread = t;
    (void)pthread_mutex_init(&t->mutex, NULL);
    (void)pthread_cond_init(&t->done, NULL);
    if (f->options.host == NULL) f->options.host = "127.0.0.1";
    CHECK_EQ(os_event_open(&t->wake_fd, &err), OK);
    CHECK_EQ(loop_create(&f->loop, &err), OK);
    CHECK_EQ(loop_watch(f->loop, t->wake_fd, LOOP_READ, run_command, f, &err), OK);
    CHECK_EQ(http_server_open(&f->server, f->loop, &f->options, &handler, &err), OK);
    f->port = http_server_port(f->server);
    CHECK(f->port != 0);
    CHECK_EQ(thread_start(&t->thread, "net", run_loop, f->loop, &err), OK);
}

void fixture_call(fixture *f, void (*fn)(fixture *f, void *arg), void *arg) {
    struct fixture_thread *t = f->thread;
    (void)pthread_mutex_lock(&t->mutex);
    t->fn = fn;
    t->arg = arg;
    os_event_signal(t->wake_fd);
    while (t->fn != NULL) (void)pthread_cond_wait(&t->done, &t->mutex);
    (void)pthread_mutex_unlock(&t->mutex);
}

void fixture_stop(fixture *f) {
    struct fixture_thread *t = f->thread;
    loop_stop(f->loop);
    thread_join(&t->thread);
    http_server_close(f->server);
    loop_destroy(f->loop);
    os_close(t->wake_fd);
    (void)pthread_mutex_destroy(&t->mutex);
    (void)pthread_cond_destroy(&t->done);
    mem_free(t);
    log_set_level(LOG_INFO);
    CHECK_EQ(f->heads, f->finished + f->cut);
}

static void count_connections(fixture *f, void *arg) {
    *(uint32_t *)arg = http_server_connections(f->server);
}

int wait_connections(fixture *f, uint32_t want) {
    uint64_t start = clock_ms();
    for (;;) {
        uint32_t got = 0;
        fixture_call(f, count_connections, &got);
        if (got == want) return (int)(clock_ms() - start);
        if (clock_ms() - start > 5000) return -1;
        pause_ms(1);
    }
}

/* --- client ------------------------------------------------------------------------ */
static int open_socket(const fixture *f, int receive_bytes) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval limit = {.tv_sec = 5};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (receive_bytes > 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

int client_open(const fixture *f) { return open_socket(f, 0); }

int client_open_small(const fixture *f) { return open_socket(f, 4096); }

void client_close(int fd) { os_close(fd); }

bool client_try_send(int fd, str bytes) {
    while (bytes.n > 0) {
        ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes = str_skip(bytes, (size_t)n);
    }
    return true;
}

void client_send(int fd, str bytes) { CHECK(client_try_send(fd, bytes)); }

/* False at the end of the connection; *reset when that is an error. */
static bool read_some(int fd, buf *out, size_t n, bool *reset) {
    char bytes[16384];
    ssize_t got = recv(fd, bytes, n < sizeof bytes ? n : sizeof bytes, 0);
    if (got < 0 && reset != NULL) *reset = true;
    if (got > 0) buf_put(out, bytes, (size_t)got);
    return got > 0;
}

void client_read_all(int fd, buf *out, bool *reset) {
    bool ignored = false;
    if (reset == NULL) reset = &ignored;
    *reset = false;
    while (read_some(fd, out, SIZE_MAX, reset)) {
    }
}

void client_read_for(int fd, buf *out, int ms) {
    uint64_t until = clock_ms() + (uint64_t)ms;
    for (;;) {
        uint64_t now = clock_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= until || poll(&p, 1, (int)(until - now)) <= 0) return;
        if (!read_some(fd, out, SIZE_MAX, NULL)) return;
    }
}

static const char *find(const buf *b, size_t from, const char *what) {
    return memmem(b->p + from, b->n - from, what, strlen(what));
}

static bool read_until(int fd, buf *out, size_t from, const char *mark) {
    while (out->p == NULL || find(out, from, mark) == NULL)
        if (!read_some(fd, out, 1, NULL)) return false;
    return true;
}

bool client_read_head(int fd, buf *out) { return read_until(fd, out, out->n, "\r\n\r\n"); }

static bool read_bytes(int fd, buf *out, size_t want) {
    size_t end = out->n + want;
    while (out->n < end)
        if (!read_some(fd, out, end - out->n, NULL)) return false;
    return true;
}

static bool read_chunks(int fd, buf *out) {
    for (;;) {
        size_t at = out->n;
        if (!read_until(fd, out, at, "\r\n")) return false;
        size_t n = (size_t)strtoull(out->p + at, NULL, 16);
        if (!read_bytes(fd, out, n + 2)) return false;
        if (n == 0) return true;
    }
}

bool client_read_answer(int fd, buf *out) {
    size_t from = out->n;
    if (!client_read_head(fd, out)) return false;
    buf_put_char(out, '\0'); /* for strstr and strtoull */
    out->n--;
    const char *length = strstr(out->p + from, "Content-Length: ");
    if (length != NULL) return read_bytes(fd, out, (size_t)strtoull(length + 16, NULL, 10));
    return read_chunks(fd, out);
}

int status_of(const buf *answer) {
    if (answer->n < 12 || memcmp(answer->p, "HTTP/1.1 ", 9) != 0) return 0;
    return (answer->p[9] - '0') * 100 + (answer->p[10] - '0') * 10 + (answer->p[11] - '0');
}

int client_status(const fixture *f, str request) {
    buf b;
    buf_init(&b, SIZE_MAX);
    int fd = client_open(f);
    (void)client_try_send(fd, request);
    (void)client_read_head(fd, &b);
    int code = status_of(&b);
    client_close(fd);
    buf_deinit(&b);
    return code;
}

int open_descriptors(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (d == NULL) return -1;
    while (readdir(d) != NULL) n++;
    (void)closedir(d);
    return n;
}
