/* rig.c - see rig.h. */
#include "rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/ring.h"
#include "obs/metrics.h"
#include "test.h"

enum { WAIT_MS = 5000, ANSWER_BYTES_MAX = 64 << 20 };

static void run_net(void *arg) { front_run(((rig *)arg)->front); }

void rig_open_silent(rig *r, front_options o, size_t link_bytes) {
    error err;
    memset(r, 0, sizeof *r);
    log_set_level(LOG_OFF);
    if (o.http.host == NULL) o.http.host = "127.0.0.1";
    buf_init(&r->frame, 80 << 20);
    buf_init(&r->out, 80 << 20);
    size_t bytes = link_bytes != 0 ? link_bytes : 1 << 20;
    CHECK(link_open(&r->link, bytes, 1 << 22, &err) == OK);
    err.msg[0] = '\0';
    CHECK(front_open(&r->front, &o, &err) == OK);
    CHECK_STR(err.msg, "");
    CHECK(front_add_model(r->front, "tiny", &r->link, &err) == OK);
    CHECK(thread_start(&r->net, "net", run_net, r, &err) == OK);
    r->running = true;
}

void rig_open(rig *r, front_options o, size_t link_bytes) {
    rig_open_silent(r, o, link_bytes);
    rig_model(r);
    rig_status(r);
    for (int i = 0; i < 500; i++) {
        web_answer a = web_ask(r, "GET", "/readyz", "", NULL);
        bool ready = a.status == 200;
        web_answer_free(&a);
        if (ready) return;
        os_sleep_ms(5);
    }
    CHECK(!"the front is not ready");
}

void rig_close(rig *r) {
    front_stop(r->front);
    thread_join(&r->net);
    front_close(r->front);
    link_close(&r->link);
    buf_deinit(&r->frame);
    buf_deinit(&r->out);
    log_set_level(LOG_INFO);
}

/* --- below --- */

static void send_up(rig *r) {
    for (int i = 0; i < WAIT_MS && !link_flush(r->link.up, &r->out); i++) os_sleep_ms(1);
    CHECK_EQ(r->out.n, 0);
}

void rig_model(rig *r) {
    model_desc d = {.name = "tiny",
                    .arch = "llama",
                    .types = "F32 100 %",
                    .chat = "plain",
                    .chat_check = "ok",
                    .chat_caps = "system, strings",
                    .backend = "ref",
                    .reduced = "step_tokens 512 -> 256, ctx 131072 -> 128",
                    .numerics = "exact",
                    .kv_type = "f32",
                    .vocab = 256,
                    .ctx_max = 128,
                    .embed_dims = 3,
                    .embed_tokens_max = 128,
                    .adapter_rank_max = 16,
                    .generates = true,
                    .parallel = 4};
    wire_put_model(&r->out, &d);
    send_up(r);
}

void rig_status(rig *r) {
    uint64_t cells[METRICS_ENGINE_CELLS] = {7};
    engine_status s = {.steps = 7, .running = 1, .waiting = 2};
    s.values = (wire_array){cells, METRICS_ENGINE_CELLS};
    wire_put_status(&r->out, &s);
    send_up(r);
}

wire_type rig_next(rig *r, int wait_ms, str *body) {
    bool got = false;
    error err;
    wire_type type = WIRE_TYPE_END;
    uint64_t end_ns = os_now_ns() + (uint64_t)wait_ms * 1000000;
    for (;;) {
        int fd = ring_fd(r->link.down);
        os_event_clear(fd);
        CHECK(link_recv(r->link.down, &r->frame, &got, &err) == OK);
        if (got) break;
        if (os_now_ns() >= end_ns) return WIRE_TYPE_END;
        os_wait(&fd, 1, 5);
    }
    CHECK(wire_open(buf_view(&r->frame), &type, body, &err) == OK);
    return type;
}

gen_request rig_request(rig *r) {
    gen_request q = {0};
    str body = {0};
    error err = {0};
    CHECK_EQ(rig_next(r, WAIT_MS, &body), WIRE_REQUEST);
    CHECK(wire_get_request(body, &q, &err) == OK);
    CHECK_STR(err.msg, "");
    return q;
}

gen_cancel rig_cancel(rig *r) {
    gen_cancel c = {0};
    str body = {0};
    error err;
    CHECK_EQ(rig_next(r, WAIT_MS, &body), WIRE_CANCEL);
    CHECK(wire_get_cancel(body, &c, &err) == OK);
    return c;
}

gen_credit rig_credit(rig *r) {
    gen_credit c = {0};
    str body = {0};
    error err;
    CHECK_EQ(rig_next(r, WAIT_MS, &body), WIRE_CREDIT);
    CHECK(wire_get_credit(body, &c, &err) == OK);
    return c;
}

void rig_event(rig *r, const gen_event *e) {
    size_t at = wire_events_begin(&r->out);
    wire_events_add(&r->out, e);
    wire_events_end(&r->out, at);
    send_up(r);
}

void rig_accept(rig *r, uint64_t id, uint32_t prompt_tokens) {
    rig_event(r, &(gen_event){
                     .id = id, .kind = GEN_ACCEPTED, .accepted = {.prompt_tokens = prompt_tokens}});
}

void rig_text(rig *r, uint64_t id, uint16_t choice, uint32_t tokens, const char *text) {
    rig_event(r, &(gen_event){.id = id,
                              .choice = choice,
                              .kind = GEN_TEXT,
                              .text = {.tokens = tokens, .text = str_of(text)}});
}

void rig_finish(rig *r, uint64_t id, uint16_t choice, gen_finish reason) {
    rig_event(r, &(gen_event){
                     .id = id, .choice = choice, .kind = GEN_FINISH, .finish = {.reason = reason}});
}

void rig_usage(rig *r, uint64_t id, uint32_t prompt_tokens, uint32_t completion_tokens) {
    gen_usage u = {.prompt_tokens = prompt_tokens,
                   .completion_tokens = completion_tokens,
                   .cached_tokens = 2,
                   .queue_us = 1000,
                   .prompt_us = 2000,
                   .decode_us = 3000};
    rig_event(r, &(gen_event){.id = id, .kind = GEN_USAGE, .usage = u});
}

void rig_error(rig *r, uint64_t id, status code, gen_fault fault, uint64_t have, uint64_t limit) {
    rig_event(r, &(gen_event){.id = id,
                              .kind = GEN_ERROR,
                              .error = {.code = code,
                                        .fault = fault,
                                        .have = have,
                                        .limit = limit,
                                        .message = S("what went wrong")}});
}

void rig_raw(rig *r, const void *bytes, uint32_t n) { CHECK(ring_send(r->link.up, bytes, n)); }

/* --- above --- */

int web_open(const rig *r) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(front_port(r->front))};
    struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

void web_send(int fd, const char *text) {
    size_t n = strlen(text), at = 0;
    while (at < n) {
        ssize_t got = send(fd, text + at, n - at, MSG_NOSIGNAL);
        if (got <= 0) return;
        at += (size_t)got;
    }
}

void web_post(int fd, const char *path, const char *json) {
    char head[512];
    (void)snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   path, strlen(json));
    web_send(fd, head);
    web_send(fd, json);
}

bool web_has(int fd, int wait_ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, wait_ms) == 1;
}

/* Join the chunks that are there; true at the last one. */
static bool join_chunks(const char *in, size_t n, web_answer *a) {
    a->body_bytes = 0;
    size_t at = 0;
    while (at < n) {
        const char *eol = memmem(in + at, n - at, "\r\n", 2);
        if (eol == NULL) return false;
        size_t bytes = strtoul(in + at, NULL, 16);
        at = (size_t)(eol - in) + 2;
        if (bytes == 0) return true;
        if (at + bytes + 2 > n) return false;
        memcpy(a->body + a->body_bytes, in + at, bytes);
        a->body_bytes += bytes;
        at += bytes + 2;
    }
    return false;
}

/* Is the answer in `in` whole?  Fills *a as far as it goes. */
static bool parse_answer(const char *in, size_t n, web_answer *a, bool no_body) {
    const char *end = memmem(in, n, "\r\n\r\n", 4);
    if (end == NULL) return false;
    size_t head = (size_t)(end - in) + 4;
    (void)snprintf(a->head, sizeof a->head, "%.*s", (int)head, in);
    a->status = (int)strtol(in + 9, NULL, 10);
    a->body = realloc(a->body, n - head + 1);
    a->body_bytes = 0;
    const char *length = strcasestr(a->head, "\r\ncontent-length:");
    if (no_body || a->status == 204) {
        a->whole = true;
    } else if (strcasestr(a->head, "transfer-encoding: chunked") != NULL) {
        a->whole = join_chunks(in + head, n - head, a);
    } else if (length != NULL) {
        size_t want = strtoul(length + 17, NULL, 10);
        a->whole = n - head >= want;
        a->body_bytes = a->whole ? want : n - head;
        memcpy(a->body, in + head, a->body_bytes);
    }
    a->body[a->body_bytes] = '\0';
    return a->whole;
}

static web_answer read_answer(int fd, bool no_body) {
    web_answer a = {0};
    size_t n = 0, cap = 1 << 16;
    char *in = malloc(cap);
    for (;;) {
        if (n == cap) in = realloc(in, cap *= 2);
        ssize_t got = cap <= ANSWER_BYTES_MAX ? recv(fd, in + n, cap - n, 0) : 0;
        if (got <= 0) break;
        n += (size_t)got;
        if (parse_answer(in, n, &a, no_body)) break;
    }
    free(in);
    if (a.body == NULL) a.body = calloc(1, 1);
    return a;
}

web_answer web_read(int fd) { return read_answer(fd, false); }

void web_answer_free(web_answer *a) {
    free(a->body);
    a->body = NULL;
}

web_answer web_ask(const rig *r, const char *method, const char *path, const char *headers,
                   const char *body) {
    char head[2048];
    int fd = web_open(r);
    bool has_host = strstr(headers, "Host:") != NULL;
    (void)snprintf(head, sizeof head, "%s %s HTTP/1.1\r\n%s%s", method, path,
                   has_host ? "" : "Host: localhost\r\n", headers);
    web_send(fd, head);
    if (body != NULL) {
        (void)snprintf(head, sizeof head, "Content-Length: %zu\r\n", strlen(body));
        web_send(fd, head);
    }
    web_send(fd, "\r\n");
    if (body != NULL) web_send(fd, body);
    web_answer a = read_answer(fd, strcmp(method, "HEAD") == 0);
    (void)close(fd);
    return a;
}
