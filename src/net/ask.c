/* ask.c - see ask.h. */
#include "net/ask.h"

#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "net/sock.h"

/* --- url -------------------- */

/* HOST, HOST:PORT or [IPv6]:PORT. */
static status split_host(str text, ask_server *out, error *err) {
    bool bracket = text.n > 0 && text.p[0] == '[';
    const char *end = bracket ? memchr(text.p, ']', text.n) : memchr(text.p, ':', text.n);
    size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
    str host = bracket ? (str){text.p + 1, n > 0 ? n - 1 : 0} : (str){text.p, n};
    str rest = str_skip(text, bracket && end != NULL ? n + 1 : n);
    uint64_t port = 80;
    bool good = host.n > 0 && host.n < sizeof out->host && (!bracket || end != NULL) &&
                memchr(host.p, '/', host.n) == NULL;
    if (good && rest.n > 0)
        good = rest.p[0] == ':' && str_to_u64(str_skip(rest, 1), &port) && port > 0 &&
               port <= UINT16_MAX;
    if (!good)
        return error_set(err, ERR_INVALID, "'%.*s' is no address: want http://HOST[:PORT]",
                         STR(text));
    str_copy_c(out->host, sizeof out->host, host);
    out->port = (uint16_t)port;
    return OK;
}

status ask_parse_url(str url, ask_server *out, error *err) {
    str text = url;
    if (str_starts(text, S("https://")))
        return error_set(err, ERR_UNSUPPORTED, "'%.*s': only http:// is spoken", STR(url));
    if (str_starts(text, S("http://"))) text = str_skip(text, S("http://").n);
    if (str_ends(text, S("/"))) text.n--;
    return split_host(text, out, err);
}

/* --- request -------------------- */

static void put_request(buf *out, const ask_server *s, const ask_request *r) {
    buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n", r->method, r->path,
               strchr(s->host, ':') != NULL ? "localhost" : s->host, (unsigned)s->port);
    if (r->api_key.n > 0)
        buf_printf(out, "Authorization: Bearer %.*s\r\n", (int)r->api_key.n, r->api_key.p);
    if (r->json.n > 0)
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", r->json.n);
    buf_put_str(out, S("\r\n"));
    buf_put_str(out, r->json);
}

/* --- answer -------------------- */

/* Everything up to the end of the connection. */
static status read_all(int fd, buf *out, error *err) {
    char chunk[4096];
    for (;;) {
        size_t n = 0;
        TRY(sock_receive(fd, chunk, sizeof chunk, &n, err));
        if (n == 0) return OK;
        buf_put(out, chunk, n);
        TRY(buf_status(out, "answer", err));
    }
}

/* The value of a header field, empty when it is not there; `name` in lower case. */
static str header_of(str head, str name) {
    while (head.n > 0) {
        const char *end = memchr(head.p, '\n', head.n);
        size_t n = end != NULL ? (size_t)(end - head.p) : head.n;
        if (n > name.n && head.p[name.n] == ':' && strncasecmp(head.p, name.p, name.n) == 0) {
            str value = {head.p + name.n + 1, n - name.n - 1};
            while (value.n > 0 && value.p[0] == ' ') value = str_skip(value, 1);
            while (value.n > 0 && strchr("\r ", value.p[value.n - 1]) != NULL) value.n--;
            return value;
        }
        head = str_skip(head, end != NULL ? n + 1 : n);
    }
    return (str){0};
}

static status take_answer(str all, unsigned *http_status, buf *body, error *err) {
    const char *end = memmem(all.p, all.n, "\r\n\r\n", 4);
    uint64_t code = 0, bytes = 0;
    bool http = end != NULL && str_starts(all, S("HTTP/1.")) && all.n > 12;
    if (!http || !str_to_u64((str){all.p + 9, 3}, &code))
        return error_set(err, ERR_FORMAT, "http: the answer of %zu bytes is no HTTP", all.n);
    str head = {all.p, (size_t)(end - all.p)}, content = str_skip(all, head.n + 4);
    str length = header_of(head, S("content-length"));
    if (length.n > 0 && (!str_to_u64(length, &bytes) || bytes > content.n))
        return error_set(err, ERR_IO, "http: the answer ends after %zu of %.*s bytes", content.n,
                         STR(length));
    if (length.n > 0) content.n = (size_t)bytes;
    buf_put_str(body, content);
    *http_status = (unsigned)code;
    return buf_status(body, "answer", err);
}

status ask(const ask_server *s, const ask_request *r, unsigned *http_status, buf *body,
           error *err) {
    buf out, in;
    int fd = -1;
    buf_init(&out, ASK_ANSWER_BYTES_MAX);
    buf_init(&in, ASK_ANSWER_BYTES_MAX);
    put_request(&out, s, r);
    status st = buf_status(&out, "request", err);
    if (st == OK) st = sock_connect(&fd, s->host, s->port, ASK_WAIT_S, err);
    if (st == OK) st = os_write_full(fd, out.p, out.n, err);
    if (st == OK) st = read_all(fd, &in, err);
    if (st == OK) st = take_answer(buf_view(&in), http_status, body, err);
    if (fd >= 0) os_close(fd);
    buf_deinit(&out);
    buf_deinit(&in);
    return st;
}
