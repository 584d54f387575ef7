/* fuzz_json_stream.c - bytes as JSON, streamed: what the stream takes the tree takes too, and the
 * other way round but for what only a tree can know. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "fuzz.h"
#include "json/read.h"
#include "json/stream.h"

/* Reads on to the end; every token lies in the text. */
static status walk(str text, error *err) {
    json_stream s;
    json_token t = JSON_TOKEN_NULL;
    json_stream_init(&s, text, "fuzz");
    while (t != JSON_TOKEN_END) {
        size_t at = s.at;
        TRY(json_stream_next(&s, &t, err));
        ASSERT(s.at >= at && s.at <= text.n && s.raw_at <= s.at);
        if (t != JSON_TOKEN_KEY && t != JSON_TOKEN_STRING) continue;
        char *out = mem_alloc(s.raw.n + 1);
        size_t n = json_stream_text(&s, out);
        ASSERT(n <= s.raw.n && str_is_utf8((str){out, n}));
        ASSERT(s.escaped || str_eq(s.raw, (str){out, n}));
        mem_free(out);
    }
    return OK;
}

/* The first value skipped is the whole text but for blanks. */
static void check_skip(str text) {
    json_stream s;
    str raw = {0};
    json_stream_init(&s, text, "fuzz");
    ASSERT(json_stream_skip(&s, &raw, NULL) == OK);
    ASSERT(json_stream_want(&s, JSON_TOKEN_END, NULL) == OK);
    ASSERT(walk(raw, NULL) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_doc doc = {0};
    error err = {0};
    str text = {(const char *)data, size};
    status streamed = walk(text, &err);
    if (streamed == OK)
        check_skip(text);
    else
        ASSERT(err.msg[0] != '\0');
    if (json_parse(text, &doc, NULL) == OK) {
        ASSERT(streamed == OK);
        json_doc_deinit(&doc);
    }
    return 0;
}
