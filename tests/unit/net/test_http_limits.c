/* test_http_limits.c - http.h: time limits, connection limits, draining, descriptors, memory. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/os.h"
#include "net/http.h"
#include "net_fixture.h"
#include "test.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

/* The server must end the connection within ms_min..1000 + ms_min. */
static void check_cut(int fd, uint64_t start_ms, int ms_min) {
    buf b;
    buf_init(&b, SIZE_MAX);
    client_read_all(fd, &b, NULL);
    int ms = (int)(clock_ms() - start_ms);
    CHECK(ms >= ms_min - 5 && ms < ms_min + 1000);
    client_close(fd);
    buf_deinit(&b);
}

TEST(http_slow_head_is_cut) {
    fixture f = {.options = {.head_ms_max = 200}};
    fixture_start(&f);
    uint64_t start = clock_ms();
    int silent = client_open(&f), slow = client_open(&f), half = client_open(&f);
    client_text(half, "GET /echo HTTP/1.1\r\nHost: a\r\nX: ");
    for (int i = 0; i < 8; i++) { /* a byte now and then does not help */
        (void)client_try_send(slow, S("G"));
        os_sleep_ms(30);
    }
    check_cut(silent, start, 200);
    check_cut(slow, start, 200);
    check_cut(half, start, 200);
    CHECK_EQ(f.heads, 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
}

TEST(http_slow_body_is_cut) {
    fixture f = {.options = {.body_ms_max = 200}};
    fixture_start(&f);
    uint64_t start = clock_ms();
    int known = client_open(&f), chunked = client_open(&f), refused = client_open(&f);
    client_text(known, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab");
    client_text(chunked, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5");
    client_text(refused, "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nab");
    check_cut(known, start, 200);
    check_cut(chunked, start, 200);
    check_cut(refused, start, 200);
    CHECK_EQ(f.heads, 3);
    CHECK_EQ(f.requests, 0);
    CHECK(wait_for(&f.cut, 3) >= 0);
    fixture_stop(&f);
}

TEST(http_idle_connection_is_cut_and_a_waiting_one_is_not) {
    fixture f = {.options = {.idle_ms_max = 200, .head_ms_max = 200}};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int idle = client_open(&f), waiting = client_open(&f);
    client_text(waiting, GET("/wait"));
    client_text(idle, GET("/echo"));
    CHECK(client_read_answer(idle, &b));
    uint64_t start = clock_ms();
    check_cut(idle, start, 200);
    os_sleep_ms(200);
    CHECK_EQ(f.cut, 0);
    client_close(waiting);
    CHECK(wait_for(&f.cut, 1) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_connection_over_the_limit_waits_for_a_place) {
    fixture f = {.options = {.connections_max = 2}};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int a = client_open(&f), c = client_open(&f), d = client_open(&f);
    client_text(a, GET("/echo"));
    CHECK(client_read_answer(a, &b));
    client_text(c, GET("/echo"));
    CHECK(client_read_answer(c, &b));
    buf_clear(&b);
    client_text(d, GET("/echo"));
    client_read_for(d, &b, 100);
    CHECK_EQ(b.n, 0);
    client_close(a);
    CHECK(client_read_answer(d, &b));
    CHECK_EQ(status_of(&b), 200);
    client_close(c);
    client_close(d);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_connections_of_one_address_have_a_limit) {
    fixture f = {.options = {.connections_per_ip_max = 2}};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int a = client_open(&f), c = client_open(&f);
    CHECK(wait_connections(&f, 2) >= 0);
    int d = client_open(&f);
    (void)client_try_send(d, S(GET("/echo")));
    client_read_all(d, &b, NULL);
    CHECK_EQ(b.n, 0);
    client_close(a);
    client_close(c);
    client_close(d);
    fixture_stop(&f);
    buf_deinit(&b);
}

static void drain(fixture *f, void *arg) {
    (void)arg;
    http_server_stop_accepting(f->server);
    http_server_stop_accepting(f->server); /* once more is harmless */
}

static void finish(fixture *f, void *arg) {
    (void)arg;
    if (f->waiting != NULL) http_respond(f->waiting, 200, NULL, S("done"));
}

static void finish_stream(fixture *f, void *arg) {
    (void)arg;
    if (f->waiting != NULL) http_stream_end(f->waiting);
}

TEST(http_drain_finishes_calls_and_takes_no_new_ones) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int idle = client_open(&f), busy = client_open(&f);
    client_text(idle, GET("/echo"));
    CHECK(client_read_answer(idle, &b));
    client_text(busy, GET("/wait"));
    CHECK(wait_for(&f.requests, 2) >= 0);
    fixture_call(&f, drain, NULL);
    buf_clear(&b);
    client_read_all(idle, &b, NULL);
    CHECK_EQ(b.n, 0);
    CHECK(wait_connections(&f, 1) >= 0);
    fixture_call(&f, finish, NULL);
    client_read_all(busy, &b, NULL);
    buf_put_char(&b, '\0');
    CHECK_EQ(status_of(&b), 200);
    CHECK_HAS(b.p, "Connection: close");
    CHECK(wait_connections(&f, 0) >= 0);
    client_close(idle);
    client_close(busy);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_drain_ends_a_connection_after_its_stream) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/stream"));
    CHECK(client_read_head(fd, &b)); /* this head still promised to keep the connection */
    fixture_call(&f, drain, NULL);
    fixture_call(&f, finish_stream, NULL);
    bool reset = true;
    client_read_all(fd, &b, &reset);
    CHECK(!reset);
    CHECK(str_ends(buf_view(&b), S("0\r\n\r\n")));
    CHECK(wait_connections(&f, 0) >= 0);
    CHECK_EQ(f.finished, 1);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_close_ends_every_open_call) {
    fixture f = {0};
    fixture_start(&f);
    int fds[6];
    const char *const requests[6] = {
        GET("/wait"),
        GET("/stream"),
        "GET /ha",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
        "",
    };
    for (int i = 0; i < 6; i++) {
        fds[i] = client_open(&f);
        client_text(fds[i], requests[i]);
    }
    CHECK(wait_for(&f.heads, 4) >= 0);
    CHECK(wait_for(&f.requests, 2) >= 0);
    fixture_stop(&f); /* checks that each head met its on_closed */
    for (int i = 0; i < 6; i++) client_close(fds[i]);
}

TEST(http_many_requests_leave_the_descriptors_as_they_were) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    int before = open_descriptors();
    fixture_start(&f);
    int with_server = open_descriptors();
    for (int i = 0; i < 500; i++) {
        int fd = client_open(&f);
        for (int k = 0; k < 20; k++) {
            buf_clear(&b);
            client_text(fd, GET("/nothing"));
            CHECK(client_read_head(fd, &b));
        }
        client_close(fd);
    }
    CHECK_EQ(f.heads, 10000);
    CHECK(wait_connections(&f, 0) >= 0);
    CHECK_EQ(open_descriptors(), with_server);
    fixture_stop(&f);
    CHECK_EQ(open_descriptors(), before);
    buf_deinit(&b);
}

static void fail_allocations(fixture *f, void *arg) {
    (void)f;
    mem_fail_after(*(int *)arg);
}

static void fail_watches(fixture *f, void *arg) {
    (void)f;
    os_fail_after(OS_CALL_EVENT, *(int *)arg, 12);
}

/* With the n-th allocation (or registration) failing, a request is answered or its connection
 * ends; the server goes on. */
static void check_survives(fixture *f, void (*fail)(fixture *f, void *arg), int n) {
    int off = -1;
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_call(f, fail, &n);
    int fd = client_open(f);
    (void)client_try_send(fd, S("POST /echo?x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
                                "body"));
    (void)client_read_answer(fd, &b);
    fixture_call(f, fail, &off);
    client_close(fd);
    CHECK_EQ(client_status(f, S(GET("/echo"))), 200);
    buf_deinit(&b);
}

TEST(http_survives_each_failing_allocation) {
    fixture f = {0};
    fixture_start(&f);
    for (int n = 0; n < 12; n++) check_survives(&f, fail_allocations, n);
    check_survives(&f, fail_watches, 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
}

TEST(http_open_says_what_is_wrong) {
    loop *l = NULL;
    http_server *s = NULL, *other = NULL;
    error err = {0};
    http_options o = {.host = "not-an-address"};
    fixture f = {0}; /* no callback runs here */
    http_handler h = {.ctx = &f};
    h.on_head = (void (*)(void *, http_call *))(void (*)(void))abort;
    h.on_request = h.on_head;
    h.on_closed = (void (*)(void *, http_call *, bool))(void (*)(void))abort;
    CHECK_EQ(loop_create(&l, &err), OK);
    CHECK_EQ(http_server_open(&s, l, &o, &h, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "not-an-address");
    o = (http_options){.host = "localhost"};
    CHECK_EQ(http_server_open(&s, l, &o, &h, &err), OK);
    o.port = http_server_port(s);
    CHECK_EQ(http_server_open(&other, l, &o, &h, &err), ERR_IO);
    CHECK_HAS(err.msg, "in use");
    http_server_close(s);
    s = NULL;
    int before = open_descriptors();
    for (int i = 0; i < 30; i++) { /* every call of the way fails once */
        mem_fail_after(i < 10 ? i : -1);
        os_fail_after(OS_CALL_OPEN, i >= 10 && i < 20 ? i - 10 : -1, 24);
        os_fail_after(OS_CALL_EVENT, i >= 20 ? i - 20 : -1, 12);
        o = (http_options){0};
        if (http_server_open(&s, l, &o, &h, &err) == OK) http_server_close(s);
        mem_fail_after(-1);
        os_fail_after(OS_CALL_OPEN, -1, 0);
        os_fail_after(OS_CALL_EVENT, -1, 0);
        CHECK_EQ(open_descriptors(), before);
    }
    loop_destroy(l);
}
