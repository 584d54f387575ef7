/* fuzz_tool_calls.c - any text as an answer with tool calls.
 *
 * Input: a byte that selects the family (last two bits) and whether one call is enough (bit 2), a
 * byte that says how the text is cut, then the text.  Any cut gives the parts that one piece
 * gives; without a call the content is the text; what comes out as arguments is a JSON object. */
#include "fuzz.h"

#include "base/assert.h"
#include "text/tool_calls.h"
#include "json/stream.h"

typedef struct parts {
    buf all; /* content, and each call between 0xFE, 0xFF and 0xFD, which are no UTF-8 */
    size_t content_bytes;
    uint32_t calls;
} parts;

static void on_text(void *arg, str text) {
    parts *p = arg;
    ASSERT(text.n > 0);
    buf_put_str(&p->all, text);
    p->content_bytes += text.n;
}

static void on_call(void *arg, uint32_t index, str name, str arguments) {
    parts *p = arg;
    json_stream s;
    str object = {0};
    ASSERT(index == p->calls++ && name.n > 0 && name.n <= TOOL_NAME_BYTES_MAX);
    json_stream_init(&s, arguments, "arguments");
    ASSERT(json_stream_skip(&s, &object, NULL) == OK && str_eq(object, arguments));
    ASSERT(object.p[0] == '{' && json_stream_want(&s, JSON_TOKEN_END, NULL) == OK);
    buf_printf(&p->all, "\xFE%.*s\xFF%.*s\xFD", STR(name), STR(arguments));
}

static void run(parts *p, uint8_t select, str text, size_t piece) {
    tool_parser parser;
    tool_sink sink = {p, on_text, on_call};
    *p = (parts){0};
    buf_init(&p->all, SIZE_MAX);
    tool_parser_init(&parser, (tool_family)(select & 3), (select & 4) != 0);
    while (text.n > 0) {
        size_t n = piece < text.n ? piece : text.n;
        bool done = tool_parser_push(&parser, (str){text.p, n}, &sink);
        ASSERT(!done || ((select & 4) != 0 && p->calls == 1));
        ASSERT(parser.held.n <= TOOL_CALL_BYTES_MAX);
        text = str_skip(text, n);
    }
    tool_parser_finish(&parser, &sink);
    tool_parser_deinit(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 1 << 20) return 0;
    _Static_assert(TOOL_FAMILY_END == 4, "two bits select the family");
    str text = {(const char *)data + 2, size - 2};
    parts whole, cut;
    run(&whole, data[0], text, text.n);
    run(&cut, data[0], text, data[1] % 16 + 1u);
    ASSERT(str_eq(buf_view(&whole.all), buf_view(&cut.all)) && whole.calls == cut.calls);
    ASSERT(whole.content_bytes <= text.n);
    if (whole.calls == 0) ASSERT(str_eq(buf_view(&whole.all), text));
    buf_deinit(&whole.all);
    buf_deinit(&cut.all);
    return 0;
}
