/* fuzz_sse.c - any bytes as generated text: one text is one event, whatever it holds.
 *
 * The text goes the way of a token: JSON string, SSE event.  A reader that follows the
 * WHATWG rules to the letter must see exactly one event, with exactly that JSON, and JSON
 * must give the text back (when it was UTF-8: other bytes are replaced on the way). */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "fuzz.h"
#include "net/sse.h"
#include "json/read.h"
#include "json/write.h"

/* WHATWG HTML, 9.2.6 "Interpreting an event stream". */
typedef struct reader {
    buf data;      /* data buffer of the event being read */
    bool has_data; /* a data field was there, be it empty */
    bool has_type;
    buf last; /* data of the newest event */
    unsigned events;
} reader;

static void dispatch(reader *r) {
    if (r->has_data) {
        buf_clear(&r->last);
        buf_put(&r->last, r->data.p, r->data.n - 1); /* without the last LF */
        r->events++;
    }
    buf_clear(&r->data);
    r->has_data = false;
    r->has_type = false;
}

static void read_line(reader *r, str line) {
    if (line.n == 0) {
        dispatch(r);
        return;
    }
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == line.p) return; /* a comment */
    str field = {line.p, colon != NULL ? (size_t)(colon - line.p) : line.n};
    str value = colon != NULL ? str_skip(line, field.n + 1) : (str){"", 0};
    if (value.n > 0 && value.p[0] == ' ') value = str_skip(value, 1);
    if (str_eq(field, S("data"))) {
        buf_put_str(&r->data, value);
        buf_put_char(&r->data, '\n');
        r->has_data = true;
    }
    r->has_type |= str_eq(field, S("event"));
}

/* Lines end at CRLF, LF or CR. */
static void read_stream(reader *r, str bytes) {
    size_t begin = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i] != '\r' && bytes.p[i] != '\n') continue;
        read_line(r, (str){bytes.p + begin, i - begin});
        if (bytes.p[i] == '\r' && i + 1 < bytes.n && bytes.p[i + 1] == '\n') i++;
        begin = i + 1;
    }
    ASSERT(begin == bytes.n); /* what we send ends in an empty line */
}

static void check_json(str json, str text) {
    json_doc doc;
    error err = {0};
    str got = {0};
    ASSERT(json_parse(json, &doc, &err) == OK);
    json_node root = json_root(&doc);
    ASSERT(json_node_str(&root, SIZE_MAX, &got, &err) == OK);
    ASSERT(!str_is_utf8(text) || str_eq(got, text));
    json_doc_deinit(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    str text = {(const char *)data, size};
    buf json, stream;
    reader r = {0};
    json_writer w;
    buf_init(&json, SIZE_MAX);
    buf_init(&stream, SIZE_MAX);
    buf_init(&r.data, SIZE_MAX);
    buf_init(&r.last, SIZE_MAX);
    json_writer_init(&w, &json);
    json_str(&w, text);

    sse_comment(&stream, S("ping"));
    sse_event(&stream, buf_view(&json));
    read_stream(&r, buf_view(&stream));
    ASSERT(r.events == 1);
    ASSERT(str_eq(buf_view(&r.last), buf_view(&json)));
    check_json(buf_view(&r.last), text);

    sse_done(&stream);
    r.events = 0;
    read_stream(&r, buf_view(&stream));
    ASSERT(r.events == 2 && str_eq(buf_view(&r.last), S("[DONE]")));
    buf_deinit(&json);
    buf_deinit(&stream);
    buf_deinit(&r.data);
    buf_deinit(&r.last);
    return 0;
}
