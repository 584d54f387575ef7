/* test_http.c - http.h: requests in, answers out, over real sockets. */
#include "net/http.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/os.h"
#include "net_fixture.h"
#include "test.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static void text_of(buf *b) {
    buf_put_char(b, '\0');
    if (b->n > 0) b->n--;
}

static void respond_now(fixture *f, void *arg) {
    CHECK(f->waiting != NULL);
    if (f->waiting != NULL) http_respond(f->waiting, 200, "text/plain", str_of(arg));
}

TEST(http_answers_and_keeps_the_connection) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    for (int i = 0; i < 3; i++) {
        buf_clear(&b);
        client_text(fd, "POST /echo?a=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        CHECK(client_read_answer(fd, &b));
        text_of(&b);
        CHECK_EQ(status_of(&b), 200);
        CHECK_HAS(b.p, "\r\n\r\nPOST /echo body");
        CHECK_HAS(b.p, "Content-Type: text/plain\r\n");
    }
    client_close(fd);
    CHECK(wait_for(&f.finished, 3) >= 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_pipelined_requests_are_answered_in_order_and_are_no_hangup) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/wait") GET("/echo") GET("/nothing"));
    CHECK(wait_for(&f.requests, 1) >= 0);
    client_read_for(fd, &b, 50);
    CHECK_EQ(b.n, 0); /* nothing overtakes the waiting call */
    CHECK_EQ(f.cut, 0);
    fixture_call(&f, respond_now, (void *)(uintptr_t) "first");
    for (int i = 0; i < 3; i++) CHECK(client_read_answer(fd, &b));
    text_of(&b);
    const char *first = strstr(b.p, "first"), *second = strstr(b.p, "GET /echo"),
               *third = strstr(b.p, "404");
    CHECK(first != NULL && second > first && third > second);
    client_close(fd);
    CHECK(wait_for(&f.finished, 3) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_no_status_line_before_the_handler_answers) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/wait"));
    client_read_for(fd, &b, 100);
    CHECK_EQ(b.n, 0);
    fixture_call(&f, respond_now, (void *)(uintptr_t) "late");
    CHECK(client_read_answer(fd, &b));
    CHECK_EQ(status_of(&b), 200);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_hangup_while_waiting_is_noticed_at_once) {
    fixture f = {0};
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/wait"));
    CHECK(wait_for(&f.requests, 1) >= 0);
    client_close(fd);
    int ms = wait_for(&f.cut, 1);
    CHECK(ms >= 0 && ms < 1000);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
}

TEST(http_half_closed_client_gets_a_ready_answer_and_no_late_one) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/echo"));
    (void)shutdown(fd, SHUT_WR);
    CHECK(client_read_answer(fd, &b));
    client_close(fd);
    CHECK(wait_for(&f.finished, 1) >= 0);

    fd = client_open(&f);
    client_text(fd, GET("/wait"));
    (void)shutdown(fd, SHUT_WR);
    buf_clear(&b);
    client_read_all(fd, &b, NULL);
    CHECK_EQ(b.n, 0);
    client_close(fd);
    CHECK(wait_for(&f.cut, 1) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_head_has_the_length_and_no_body) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, "HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(client_read_head(fd, &b));
    text_of(&b);
    CHECK_HAS(b.p, "Content-Length: 11\r\n");
    client_text(fd, "HEAD /chain HTTP/1.1\r\nHost: a\r\n\r\n" GET("/nothing"));
    CHECK(client_read_head(fd, &b));
    buf_clear(&b);
    CHECK(client_read_answer(fd, &b)); /* nothing of a body came in between */
    CHECK_EQ(status_of(&b), 404);
    client_close(fd);
    CHECK(wait_for(&f.finished, 3) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_any_method_reaches_the_handler_and_a_get_may_have_a_body) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, "BREW /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(client_read_answer(fd, &b));
    client_text(fd, "OPTIONS /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(client_read_answer(fd, &b));
    client_text(fd, "GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz");
    CHECK(client_read_answer(fd, &b));
    text_of(&b);
    CHECK_HAS(b.p, "BREW /echo ");
    CHECK_HAS(b.p, "OPTIONS /echo ");
    CHECK_HAS(b.p, "GET /echo xyz");
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

static void check_request_views(fixture *f, void *arg) {
    (void)arg;
    http_call *c = f->waiting;
    CHECK(c != NULL);
    if (c == NULL) return;
    CHECK(str_eq(http_call_path(c), S("/wait")));
    CHECK(str_eq(http_call_query(c, "a"), S("1 2&3")));
    CHECK(str_eq(http_call_query(c, "b c"), S("x\0y")));
    CHECK(http_call_query(c, "empty").p != NULL && http_call_query(c, "empty").n == 0);
    CHECK(http_call_query(c, "flag").p != NULL && http_call_query(c, "flag").n == 0);
    CHECK(http_call_query(c, "absent").p == NULL);
    CHECK(str_eq(http_call_query(c, "odd"), S("%zz%4")));
    CHECK(str_eq(http_call_header(c, "x-Thing"), S("one")));
    CHECK_EQ(http_call_header_count(c, "X-THING"), 2);
    CHECK(http_call_header(c, "absent").p == NULL);
    CHECK(str_eq(http_call_peer(c), S("127.0.0.1")));
    CHECK(str_eq(http_call_body(c), S("0123456789")));
    http_call_body_release(c);
    CHECK_EQ(http_call_body(c).n, 0);
    http_respond(c, 204, NULL, S(""));
}

TEST(http_request_views_are_decoded_where_promised) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, "POST /wait?a=1+2%263&b%20c=x%00y&empty=&flag&odd=%zz%4 HTTP/1.1\r\n"
                    "Host: a\r\nX-Thing: one \t\r\nx-thing: two\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5;x=y\r\n56789\r\n0\r\n\r\n");
    CHECK(wait_for(&f.requests, 1) >= 0);
    fixture_call(&f, check_request_views, NULL);
    CHECK(client_read_head(fd, &b));
    CHECK_EQ(status_of(&b), 204);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_answer_fields_cannot_split_the_answer) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/inject"));
    CHECK(client_read_answer(fd, &b));
    text_of(&b);
    CHECK_HAS(b.p, "X-Good: fine\r\n");
    CHECK_HAS(b.p, "Content-Length: 2\r\n");
    CHECK(strstr(b.p, "X-Injected") == NULL);
    CHECK(strstr(b.p, "X-Bad") == NULL);
    CHECK(strstr(b.p, "chunked") == NULL);
    CHECK(strstr(b.p, "close") == NULL);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

/* --- bodies over the limit ------------------------------------------------------ */
/* Send head and body as a client does that looks at the answer only afterwards. */
static void check_too_large(fixture *f, const char *head, str body, const char *answer) {
    buf b;
    buf_init(&b, SIZE_MAX);
    int fd = client_open(f);
    client_text(fd, head);
    client_send(fd, body);
    CHECK(client_read_answer(fd, &b));
    text_of(&b);
    CHECK_EQ(status_of(&b), 413);
    CHECK_HAS(b.p, answer);
    client_close(fd);
    buf_deinit(&b);
}

TEST(http_body_over_the_limit_is_413_and_readable) {
    fixture f = {.options = {.body_bytes_max = 1000}};
    size_t n = (size_t)8 << 20;
    char *big = mem_calloc(n + 64, 1);
    fixture_start(&f);
    check_too_large(&f, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n",
                    (str){big, 1001}, "too large\n");
    check_too_large(&f, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n",
                    (str){big, n}, "too large\n");
    f.late_413 = true;
    check_too_large(&f, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n",
                    (str){big, n}, "{\"error\":\"too large\"}");
    memcpy(big + n, "\r\n0\r\n\r\n", 7);
    check_too_large(&f,
                    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "800000\r\n",
                    (str){big, n + 7}, "{\"error\":\"too large\"}");
    check_too_large(&f,
                    "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                    "Content-Length: 9223372036854775808\r\n\r\n",
                    S(""), "{\"error\":\"too large\"}");
    CHECK_EQ(f.requests, 0);
    CHECK_EQ(f.too_large, 5);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
    mem_free(big);
}

TEST(http_body_limit_is_exact_and_can_be_set_per_call) {
    fixture f = {.options = {.body_bytes_max = 10}};
    fixture_start(&f);
    CHECK_EQ(client_status(&f, S("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
                                 "0123456789")),
             200);
    CHECK_EQ(client_status(&f, S("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"
                                 "0123456789a")),
             413);
    CHECK_EQ(client_status(&f, S("POST /limit HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n"
                                 "01234567")),
             200);
    CHECK_EQ(client_status(&f, S("POST /limit HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
                                 "012345678")),
             413);
    CHECK_EQ(
        client_status(&f, S("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "6\r\n012345\r\n5\r\n67890\r\n0\r\n\r\n")),
        413);
    fixture_stop(&f);
}

TEST(http_all_bodies_together_have_a_limit) {
    fixture f = {.options = {.body_bytes_max = 1000, .bodies_bytes_max = 1500}};
    char body[1000];
    memset(body, 'x', sizeof body);
    const char *head = "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int first = client_open(&f), second = client_open(&f);
    client_text(first, head);
    client_send(first, (str){body, sizeof body});
    CHECK(wait_for(&f.requests, 1) >= 0);
    client_text(second, head);
    client_send(second, (str){body, sizeof body});
    CHECK(client_read_answer(second, &b));
    CHECK_EQ(status_of(&b), 503);
    client_close(first);
    CHECK(wait_for(&f.cut, 1) >= 0);
    buf_clear(&b);
    client_text(second, head); /* the same connection, with room now */
    client_send(second, (str){body, sizeof body});
    CHECK(wait_for(&f.requests, 2) >= 0);
    client_close(second);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_expect_continue_is_answered_before_the_body) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                    "Content-Length: 2\r\n\r\n");
    CHECK(client_read_head(fd, &b));
    CHECK_EQ(status_of(&b), 100);
    buf_clear(&b);
    client_text(fd, "hi");
    CHECK(client_read_answer(fd, &b));
    CHECK_EQ(status_of(&b), 200);
    client_close(fd);
    CHECK_EQ(client_status(&f, S("POST /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                                 "Content-Length: 2\r\n\r\n")),
             401);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_refusal_at_the_head_keeps_a_connection_whose_body_is_short) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    CHECK(client_read_answer(fd, &b));
    CHECK_EQ(status_of(&b), 401);
    client_text(fd, GET("/refuse"));
    CHECK(client_read_answer(fd, &b));
    buf_clear(&b);
    client_text(fd, GET("/echo"));
    CHECK(client_read_answer(fd, &b));
    CHECK_EQ(status_of(&b), 200);
    client_close(fd);
    /* a long one ends the connection, and the answer is still readable */
    size_t n = (size_t)4 << 20;
    char *big = mem_calloc(n, 1);
    fd = client_open(&f);
    buf_clear(&b);
    client_text(fd, "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 4194304\r\n\r\n");
    client_send(fd, (str){big, n});
    CHECK(client_read_answer(fd, &b));
    text_of(&b);
    CHECK_EQ(status_of(&b), 401);
    CHECK_HAS(b.p, "Connection: close");
    client_close(fd);
    CHECK_EQ(f.requests, 1);
    fixture_stop(&f);
    mem_free(big);
    buf_deinit(&b);
}

/* --- heads that are wrong ----------------------------------------------------------- */
TEST(http_ambiguous_heads_are_refused) {
    static const struct {
        const char *head;
        int status_code;
    } cases[] = {
        {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400},
        {"Content-Length: 5\r\nContent-Length: 6\r\n", 400},
        {"Content-Length: 0\r\nContent-Length: 0\r\n", 400},
        {"Content-Length: -1\r\n", 400},
        {"Content-Length: +1\r\n", 400},
        {"Content-Length: 0x1\r\n", 400},
        {"Content-Length: 1, 1\r\n", 400},
        {"Content-Length:\r\n", 400},
        {"Content-Length: 99999999999999999999\r\n", 413},
        {"Transfer-Encoding: gzip\r\n", 501},
        {"Transfer-Encoding: gzip, chunked\r\n", 501},
        {"Transfer-Encoding: identity\r\n", 501},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding : chunked\r\n", 400},
        {"Content-Length : 5\r\n", 400},
        {"Host: b\r\n", 400},
        {"X\x01Y: 1\r\n", 400},
        {"X: a\rb\r\n", 400},
        {"X: a\x01\r\n", 400},
        {": empty\r\n", 400},
        {"X: 1\r\n folded\r\n", 400},
        {"X: 1\r\n\tfolded\r\nY: 2\r\n", 400},
        {" folded: 1\r\n", 400},
        {"Content-Length:\r\n 5\r\n", 400},
        {"X: 1\nY: 2\r\n", 400},
        {"X: 1\n", 400},
        {"no colon\r\n", 400},
    };
    fixture f = {0};
    fixture_start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        (void)snprintf(request, sizeof request, "POST /echo HTTP/1.1\r\nHost: a\r\n%s\r\n",
                       cases[i].head);
        int got = client_status(&f, str_of(request));
        if (got != cases[i].status_code)
            (void)fprintf(stderr, "head '%s': status %d, want %d\n", cases[i].head, got,
                          cases[i].status_code);
        CHECK_EQ(got, cases[i].status_code);
    }
    CHECK_EQ(client_status(&f, S("GET /echo HTTP/1.1\r\nHost: a\r\nX: 1\0 2\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("GET /echo HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("GET /echo HTTP/1.1\nHost: a\n\n")), 400);
    CHECK_EQ(f.heads, 0);
    fixture_stop(&f);
}

TEST(http_sound_heads_are_taken) {
    static const char *const heads[] = {
        "GET /echo HTTP/1.1\r\nHost: a\r\nAccept:*/*\r\nX-Empty:\r\nX-Blank: \t\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=\"d\"; e\r\nY:\t z \r\n\r\n",
        "GET /echo?a=%20b&c&=&d=e%zz HTTP/1.1\r\nHost: [::1]:80\r\nA: b:c:d\r\n\r\n",
        "GET /echo?? HTTP/1.1\r\nHost:\r\nAccept: a\r\nAccept: b\r\n\r\n",
        "\r\n\r\nGET /echo? HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.0\r\n\r\n",
        "POST /echo HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTE: trailers\r\n\r\n"
         "0\r\nTrailer: x\r\n\r\n"),
        "POST /echo HTTP/1.1\r\nHost: a\r\ncontent-length: 0003\r\nX: \xc3\xa4\r\n\r\nabc",
    };
    fixture f = {0};
    fixture_start(&f);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        int got = client_status(&f, str_of(heads[i]));
        if (got != 200) (void)fprintf(stderr, "head '%s'\n", heads[i]);
        CHECK_EQ(got, 200);
    }
    fixture_stop(&f);
}

TEST(http_request_lines_that_are_wrong_are_refused) {
    fixture f = {0};
    fixture_start(&f);
    CHECK_EQ(client_status(&f, S("GET /echo HTTP/1.1\r\n\r\n")), 400); /* no Host */
    CHECK_EQ(client_status(&f, S("GET /echo HTTP/2.0\r\nHost: a\r\n\r\n")), 505);
    CHECK_EQ(client_status(&f, S("GET /echo HTTP/0.9\r\nHost: a\r\n\r\n")), 505);
    CHECK_EQ(client_status(&f, S("GET /echo\r\nHost: a\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")),
             400);
    CHECK_EQ(client_status(&f, S("GET /echo\0/x HTTP/1.1\r\nHost: a\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("GET /echo  HTTP/1.1\r\nHost: a\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("GET /echo x HTTP/1.1\r\nHost: a\r\n\r\n")), 400);
    CHECK_EQ(client_status(&f, S("GET /echo\t HTTP/1.1\r\nHost: a\r\n\r\n")), 400);
    int garbage = client_status(&f, S("\x16\x03\x01\x02\x01\x00\x01\xfc\r\n\r\n"));
    CHECK(garbage == 400 || garbage == 0);
    CHECK_EQ(f.heads, 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
}

TEST(http_chunks_that_are_wrong_are_refused) {
    static const char *const bodies[] = {"-2\r\naa\r\n0\r\n\r\n",     "10000000000000000\r\n",
                                         "0x5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n",
                                         "5\r\nhelloX\r\n0\r\n\r\n",  " 5\r\nhello\r\n0\r\n\r\n"};
    fixture f = {0};
    fixture_start(&f);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char request[256];
        (void)snprintf(request, sizeof request,
                       "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s",
                       bodies[i]);
        int got = client_status(&f, str_of(request));
        CHECK(got == 400 || got == 413);
    }
    CHECK_EQ(f.requests, 0);
    CHECK(wait_for(&f.cut, (int)(sizeof bodies / sizeof bodies[0])) >= 0);
    fixture_stop(&f);
}

TEST(http_head_over_the_limit_is_431_or_414) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    buf_put_str(&b, S("GET /echo HTTP/1.1\r\nHost: a\r\n"));
    for (int i = 0; i < 100000; i++) buf_printf(&b, "X%d: 1\r\n", i);
    buf_put_str(&b, S("\r\n"));
    CHECK_EQ(client_status(&f, buf_view(&b)), 431);

    buf_clear(&b);
    buf_put_str(&b, S("GET /echo HTTP/1.1\r\nHost: a\r\nX: "));
    for (int i = 0; i < 1 << 20; i++) buf_put_char(&b, 'a');
    buf_put_str(&b, S("\r\n\r\n"));
    CHECK_EQ(client_status(&f, buf_view(&b)), 431);

    buf_clear(&b);
    buf_put_str(&b, S("GET /"));
    for (int i = 0; i < 1 << 20; i++) buf_put_char(&b, 'a');
    buf_put_str(&b, S(" HTTP/1.1\r\nHost: a\r\n\r\n"));
    CHECK_EQ(client_status(&f, buf_view(&b)), 414);

    for (size_t n = 16300; n < 16500; n += 50) { /* around the limit of 16 KiB */
        buf_clear(&b);
        buf_put_str(&b, S("GET /echo HTTP/1.1\r\nHost: a\r\nX: "));
        while (b.n < n - 4) buf_put_char(&b, 'a');
        buf_put_str(&b, S("\r\n\r\n"));
        CHECK_EQ(client_status(&f, buf_view(&b)), n <= 16384 ? 200 : 431);
    }
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_flood_of_one_byte_chunks_is_just_a_body) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    buf_put_str(&b, S("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (int i = 0; i < 100000; i++) buf_put_str(&b, S("1\r\na\r\n"));
    buf_put_str(&b, S("0\r\n\r\n"));
    int fd = client_open(&f);
    client_send(fd, buf_view(&b));
    buf_clear(&b);
    CHECK(client_read_answer(fd, &b));
    CHECK_EQ(status_of(&b), 200);
    CHECK(b.n > 100000);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

static void respond_large(fixture *f, void *arg) {
    if (f->waiting != NULL) http_respond(f->waiting, 200, NULL, *(str *)arg);
}

TEST(http_large_answer_arrives_whole) {
    fixture f = {0};
    size_t n = (size_t)5 << 20;
    char *big = mem_alloc(n);
    for (size_t i = 0; i < n; i++) big[i] = (char)('a' + i % 23);
    str body = {big, n};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/wait") GET("/echo"));
    CHECK(wait_for(&f.requests, 1) >= 0);
    fixture_call(&f, respond_large, &body);
    CHECK(client_read_answer(fd, &b));
    CHECK(b.n > n && memcmp(b.p + b.n - n, big, n) == 0);
    CHECK(client_read_answer(fd, &b)); /* the next answer is in its place */
    client_close(fd);
    CHECK_EQ(f.drained, 0);
    fixture_stop(&f);
    buf_deinit(&b);
    mem_free(big);
}
