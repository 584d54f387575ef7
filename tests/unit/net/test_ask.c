/* test_ask.c - net/ask.h: addresses, and servers that answer well, badly or not at all. */
#include "net/ask.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/thread.h"
#include "net/sock.h"
#include "test.h"

TEST(ask_reads_addresses) {
    static const struct {
        const char *url, *host;
        uint16_t port;
    } good[] = {{"http://localhost:8080", "localhost", 8080},
                {"127.0.0.1:99/", "127.0.0.1", 99},
                {"http://10.0.0.1", "10.0.0.1", 80},
                {"http://[::1]:7", "::1", 7},
                {"[::1]", "::1", 80}};
    static const char *const bad[] = {
        "",     "http://", "http://:80", "host:",        "host:0",     "host:65536",  "host:x",
        "[::1", "[]:80",   "[::1]80",    "https://host", "host:80:80", "http://a/b:1"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ask_server s = {0};
        CHECK_EQ(ask_parse_url(str_of(good[i].url), &s, NULL), OK);
        CHECK_STR(s.host, good[i].host);
        CHECK_EQ(s.port, good[i].port);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ask_server s = {0};
        error err = {0};
        CHECK(ask_parse_url(str_of(bad[i]), &s, &err) != OK);
        CHECK_HAS(err.msg, "http");
    }
}

/* A server for one connection that says `answer` whatever it is asked. */
typedef struct scripted {
    int fd;
    const char *answer;
    char asked[1024];
} scripted;

static void serve_one(void *arg) {
    scripted *s = arg;
    struct pollfd wait = {.fd = s->fd, .events = POLLIN};
    if (poll(&wait, 1, 5000) != 1) return;
    int fd = accept(s->fd, NULL, NULL);
    size_t have = 0;
    while (strstr(s->asked, "\r\n\r\n") == NULL) {
        ssize_t n = recv(fd, s->asked + have, sizeof s->asked - 1 - have, 0);
        if (n <= 0) break;
        have += (size_t)n;
    }
    ssize_t sent = send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
    (void)sent;
    (void)close(fd);
}

/* Ask a server that answers so. */
static status ask_scripted(scripted *s, const char *answer, unsigned *code, buf *body, error *err) {
    thread t = {0};
    ask_server server = {.host = "127.0.0.1"};
    *s = (scripted){.fd = -1, .answer = answer};
    CHECK_EQ(sock_listen(&s->fd, "127.0.0.1", 0, NULL), OK);
    server.port = sock_port(s->fd);
    CHECK_EQ(thread_start(&t, "scripted", serve_one, s, NULL), OK);
    status st = ask(&server, &(ask_request){"POST", "/x", S("key"), S("{}")}, code, body, err);
    thread_join(&t);
    (void)close(s->fd);
    return st;
}

TEST(ask_takes_whole_answers) {
    static const struct {
        const char *answer, *body;
        unsigned code;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200},
        {"HTTP/1.1 404 Not Found\r\nX: y\r\ncontent-length:  2 \r\n\r\nno, more", "no", 404},
        {"HTTP/1.0 500 Oh\r\n\r\nuntil the end", "until the end", 500},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scripted s;
        buf body;
        unsigned code = 0;
        buf_init(&body, 1 << 16);
        CHECK_EQ(ask_scripted(&s, cases[i].answer, &code, &body, NULL), OK);
        CHECK_EQ(code, cases[i].code);
        CHECK(str_eq_c(buf_view(&body), cases[i].body));
        CHECK_HAS(s.asked, "POST /x HTTP/1.1\r\nHost: 127.0.0.1:");
        CHECK_HAS(s.asked, "\r\nAuthorization: Bearer key\r\n");
        CHECK_HAS(s.asked, "\r\nContent-Length: 2\r\n\r\n{}");
        buf_deinit(&body);
    }
}

TEST(ask_says_what_is_wrong_with_an_answer) {
    static const struct {
        const char *answer, *words;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "5 of 50 bytes"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello", "of 5x bytes"},
        {"SSH-2.0-server\r\n\r\n", "no HTTP"},
        {"HTTP/1.1 OK\r\n\r\n", "no HTTP"},
        {"HTTP/1.1 200 OK\r\n", "no HTTP"},
        {"", "0 bytes is no HTTP"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scripted s;
        buf body;
        unsigned code = 0;
        error err = {0};
        buf_init(&body, 1 << 16);
        CHECK(ask_scripted(&s, cases[i].answer, &code, &body, &err) != OK);
        CHECK_HAS(err.msg, cases[i].words);
        buf_deinit(&body);
    }
}

TEST(ask_without_a_server_is_an_error) {
    buf body;
    unsigned code = 0;
    error err = {0};
    int fd = -1;
    buf_init(&body, 1 << 10);
    CHECK_EQ(sock_listen(&fd, "127.0.0.1", 0, NULL), OK);
    ask_server s = {.host = "127.0.0.1", .port = sock_port(fd)};
    (void)close(fd); /* nobody listens there now */
    CHECK_EQ(ask(&s, &(ask_request){.method = "GET", .path = "/"}, &code, &body, &err), ERR_IO);
    CHECK_HAS(err.msg, "cannot connect to 127.0.0.1 port");
    s = (ask_server){.host = "not an address", .port = 1};
    CHECK_EQ(ask(&s, &(ask_request){.method = "GET", .path = "/"}, &code, &body, &err),
             ERR_INVALID);
    buf_deinit(&body);
}
