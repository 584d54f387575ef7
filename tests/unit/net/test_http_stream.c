/* test_http_stream.c - http.h: streams, flow control, and ends that are no clean ends. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/os.h"
#include "net/http.h"
#include "net_fixture.h"
#include "test.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static void write_text(fixture *f, void *arg) {
    CHECK(f->waiting != NULL && http_stream_write(f->waiting, str_of(arg)));
}

static void end_stream(fixture *f, void *arg) {
    (void)arg;
    if (f->waiting != NULL) http_stream_end(f->waiting);
}

static void abort_stream(fixture *f, void *arg) {
    (void)arg;
    if (f->waiting != NULL) http_stream_abort(f->waiting);
}

/* A literal as the argument of fixture_call(). */
static void *text(const char *t) { return (void *)(uintptr_t)t; }

TEST(http_stream_sends_its_head_and_each_piece_without_waiting) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/stream"));
    uint64_t start = clock_ms();
    CHECK(client_read_head(fd, &b)); /* although nothing was written yet */
    CHECK(clock_ms() - start < 1000);
    CHECK_EQ(status_of(&b), 200);
    for (int i = 0; i < 3; i++) {
        buf_clear(&b);
        fixture_call(&f, write_text, text("data: x\n\n"));
        while (b.n < 14) {
            size_t before = b.n;
            client_read_for(fd, &b, 5);
            if (b.n == before && clock_ms() - start > 4000) break;
        }
        CHECK(str_eq(buf_view(&b), S("9\r\ndata: x\n\n\r\n")));
        CHECK(wait_for(&f.drained, i + 1) >= 0);
    }
    fixture_call(&f, end_stream, NULL);
    buf_clear(&b);
    client_text(fd, GET("/echo"));
    CHECK(client_read_head(fd, &b) && client_read_head(fd, &b));
    CHECK(str_starts(buf_view(&b), S("0\r\n\r\nHTTP/1.1 200")));
    client_close(fd);
    CHECK(wait_for(&f.finished, 2) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_drained_handler_may_write_and_end) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/chain"));
    CHECK(client_read_answer(fd, &b));
    buf_put_char(&b, '\0');
    for (int i = 0; i < 5; i++) {
        char piece[] = "piece 0\n";
        piece[6] = (char)('0' + i);
        CHECK_HAS(b.p, piece);
    }
    CHECK(wait_for(&f.finished, 1) >= 0);
    CHECK_EQ(f.drained, 5);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_abort_in_the_drained_handler_cuts_the_stream) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/cutdrained"));
    CHECK(!client_read_answer(fd, &b));
    CHECK(b.n > 0);
    client_close(fd);
    CHECK(wait_for(&f.cut, 1) >= 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fd = client_open(&f);
    client_text(fd, GET("/abort"));
    buf_clear(&b);
    client_read_all(fd, &b, NULL);
    CHECK_EQ(b.n, 0);
    client_close(fd);
    CHECK(wait_for(&f.cut, 2) >= 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_hangup_between_pieces_is_noticed_at_once) {
    fixture f = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, GET("/stream"));
    CHECK(client_read_head(fd, &b));
    fixture_call(&f, write_text, text("x"));
    client_close(fd);
    int ms = wait_for(&f.cut, 1);
    CHECK(ms >= 0 && ms < 1000);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_aborted_streams_leave_nothing_behind) {
    enum { STREAMS = 30 };
    fixture f = {0};
    int fds[STREAMS];
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    for (int i = 0; i < STREAMS; i++) {
        fds[i] = client_open(&f);
        client_text(fds[i], GET("/stream"));
        CHECK(client_read_head(fds[i], &b));
        if (i % 2 == 0) fixture_call(&f, write_text, text("some"));
        if (i % 3 != 0) fixture_call(&f, abort_stream, NULL);
    }
    CHECK(wait_connections(&f, STREAMS / 3) >= 0);
    for (int i = 0; i < STREAMS; i++) {
        buf_clear(&b);
        if (i % 3 != 0) client_read_all(fds[i], &b, NULL);
        CHECK(b.n < 5 || memcmp(b.p + b.n - 5, "0\r\n\r\n", 5) != 0); /* incomplete */
        client_close(fds[i]);
    }
    CHECK(wait_connections(&f, 0) >= 0);
    CHECK_EQ(f.cut, STREAMS);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_1_0_stream_ends_with_the_connection_and_an_abort_with_a_reset) {
    fixture f = {0};
    buf b;
    bool reset = false;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open(&f);
    client_text(fd, "GET /chain HTTP/1.0\r\n\r\n");
    client_read_all(fd, &b, &reset);
    CHECK(!reset);
    CHECK(str_ends(buf_view(&b), S("\r\n\r\npiece 0\npiece 1\npiece 2\npiece 3\npiece 4\n")));
    client_close(fd);
    CHECK(wait_for(&f.finished, 1) >= 0);
    CHECK(wait_connections(&f, 0) >= 0);

    fd = client_open(&f);
    client_text(fd, "GET /stream HTTP/1.0\r\n\r\n");
    CHECK(client_read_head(fd, &b));
    fixture_call(&f, write_text, text("x"));
    fixture_call(&f, abort_stream, NULL);
    client_read_all(fd, &b, &reset);
    CHECK(reset);
    client_close(fd);
    CHECK(wait_for(&f.cut, 1) >= 0);
    CHECK(wait_connections(&f, 0) >= 0);
    fixture_stop(&f);
    buf_deinit(&b);
}

/* --- a client that does not read ---------------------------------------------------- */
enum { PIECE_BYTES = 1000 };

typedef struct filled {
    size_t bytes; /* accepted */
    bool refused;
} filled;

/* Write until the stream takes no more. */
static void fill_stream(fixture *f, void *arg) {
    filled *got = arg;
    char piece[PIECE_BYTES];
    memset(piece, 'p', sizeof piece);
    got->refused = false;
    while (f->waiting != NULL) {
        size_t pending = http_stream_pending(f->waiting);
        CHECK(pending <= f->options.stream_bytes_max);
        if (!http_stream_write(f->waiting, (str){piece, sizeof piece})) {
            CHECK_EQ(http_stream_pending(f->waiting), pending);
            got->refused = true;
            return;
        }
        got->bytes += sizeof piece;
    }
}

static void wait_quiet(fixture *f, filled *got) {
    for (size_t before = SIZE_MAX; before != got->bytes;) { /* until the socket is full too */
        before = got->bytes;
        fixture_call(f, fill_stream, got);
        os_sleep_ms(20);
    }
}

TEST(http_client_that_does_not_read_is_back_pressure) {
    fixture f = {.options = {.stream_bytes_max = 100000}};
    filled got = {0};
    buf b;
    buf_init(&b, SIZE_MAX);
    fixture_start(&f);
    int fd = client_open_small(&f);
    client_text(fd, GET("/stream"));
    CHECK(wait_for(&f.requests, 1) >= 0);
    wait_quiet(&f, &got);
    CHECK(got.refused);
    int drained = f.drained;
    uint64_t until = clock_ms() + 5000;
    while (f.drained == drained && clock_ms() < until) client_read_for(fd, &b, 5);
    CHECK_EQ(f.drained, drained + 1);
    fixture_call(&f, end_stream, NULL);
    CHECK(wait_for(&f.finished, 1) >= 0);
    while (!str_ends(buf_view(&b), S("\r\n0\r\n\r\n")) && clock_ms() < until)
        client_read_for(fd, &b, 5);
    size_t pieces = 0;
    for (size_t i = 0; i < b.n; i++) pieces += b.p[i] == 'p';
    CHECK(pieces >= got.bytes && pieces < got.bytes + 10); /* and a few in the head */
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_client_that_never_reads_is_cut) {
    fixture f = {.options = {.stream_bytes_max = 100000, .write_stall_ms_max = 200}};
    filled got = {0};
    fixture_start(&f);
    int fd = client_open_small(&f);
    client_text(fd, GET("/stream"));
    CHECK(wait_for(&f.requests, 1) >= 0);
    wait_quiet(&f, &got);
    CHECK(wait_for(&f.cut, 1) >= 0);
    CHECK(wait_connections(&f, 0) >= 0);
    client_close(fd);
    /* silence of the server is no stall */
    buf b;
    buf_init(&b, SIZE_MAX);
    fd = client_open(&f);
    client_text(fd, GET("/stream"));
    CHECK(client_read_head(fd, &b));
    os_sleep_ms(400);
    CHECK_EQ(f.cut, 1);
    client_close(fd);
    fixture_stop(&f);
    buf_deinit(&b);
}

TEST(http_hangup_of_a_client_that_does_not_read_is_noticed) {
    fixture f = {.options = {.stream_bytes_max = 100000}};
    filled got = {0};
    fixture_start(&f);
    int fd = client_open_small(&f);
    client_text(fd, GET("/stream"));
    CHECK(wait_for(&f.requests, 1) >= 0);
    wait_quiet(&f, &got);
    client_close(fd);
    int ms = wait_for(&f.cut, 1);
    CHECK(ms >= 0 && ms < 1000);
    fixture_stop(&f);
}
