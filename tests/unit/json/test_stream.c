/* test_stream.c - the streaming JSON reader: tokens, texts, refusals, and JSONTestSuite. */
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>

#include "golden_paths.h"
#include "test.h"
#include "json/stream.h"

/* Reads all of it; *tokens counts them. */
static status stream_all(str text, int *tokens, error *err) {
    json_stream s;
    json_token t = JSON_TOKEN_NULL;
    json_stream_init(&s, text, "test");
    for (*tokens = 0; t != JSON_TOKEN_END; ++*tokens) TRY(json_stream_next(&s, &t, err));
    return OK;
}

static const char *stream_refusal(const char *text) {
    static error err;
    int tokens = 0;
    err = (error){0};
    CHECK(stream_all(str_of(text), &tokens, &err) != OK);
    return err.msg;
}

TEST(json_stream_hands_out_tokens_in_order) {
    static const json_token want[] = {
        JSON_TOKEN_OBJECT_BEGIN, JSON_TOKEN_KEY,          JSON_TOKEN_ARRAY_BEGIN, JSON_TOKEN_NUMBER,
        JSON_TOKEN_STRING,       JSON_TOKEN_ARRAY_END,    JSON_TOKEN_KEY,         JSON_TOKEN_TRUE,
        JSON_TOKEN_KEY,          JSON_TOKEN_FALSE,        JSON_TOKEN_KEY,         JSON_TOKEN_NULL,
        JSON_TOKEN_KEY,          JSON_TOKEN_OBJECT_BEGIN, JSON_TOKEN_OBJECT_END,  JSON_TOKEN_KEY,
        JSON_TOKEN_ARRAY_BEGIN,  JSON_TOKEN_ARRAY_END,    JSON_TOKEN_OBJECT_END,  JSON_TOKEN_END,
        JSON_TOKEN_END};
    str text = S(" {\"a\" : [-1.5e+3 ,\"x\"],\t\"b\":true,\r\n\"c\":false,\"d\":null,"
                 "\"e\":{},\"f\":[ ]} ");
    json_stream s;
    json_token t = JSON_TOKEN_END;
    json_stream_init(&s, text, "test");
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        CHECK_EQ(json_stream_next(&s, &t, NULL), OK);
        CHECK_EQ(t, want[i]);
        if (i == 3) CHECK(str_eq_c(s.raw, "-1.5e+3"));
        if (i == 4) CHECK(str_eq_c(s.raw, "x") && !s.escaped);
    }
}

TEST(json_stream_undoes_escapes) {
    str text = S("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83D\\uDE00\\u0000z\"");
    char out[128];
    json_stream s;
    json_stream_init(&s, text, "test");
    CHECK_EQ(json_stream_want(&s, JSON_TOKEN_STRING, NULL), OK);
    CHECK(s.escaped);
    size_t n = json_stream_text(&s, out);
    str want = S("\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\0z");
    CHECK(str_eq((str){out, n}, want));
}

TEST(json_stream_passes_over_values) {
    json_stream s;
    str raw = {0};
    json_stream_init(&s, S("[ {\"a\":[1,{\"b\":2}]} , 7, \"x\" ]"), "test");
    CHECK_EQ(json_stream_want(&s, JSON_TOKEN_ARRAY_BEGIN, NULL), OK);
    CHECK_EQ(json_stream_skip(&s, &raw, NULL), OK);
    CHECK(str_eq_c(raw, "{\"a\":[1,{\"b\":2}]}"));
    CHECK_EQ(json_stream_skip(&s, &raw, NULL), OK);
    CHECK(str_eq_c(raw, "7"));
    CHECK_EQ(json_stream_skip(&s, &raw, NULL), OK);
    CHECK(str_eq_c(raw, "\"x\""));
    CHECK_EQ(json_stream_want(&s, JSON_TOKEN_ARRAY_END, NULL), OK);
    CHECK_EQ(json_stream_want(&s, JSON_TOKEN_END, NULL), OK);
}

TEST(json_stream_names_the_byte_and_what_is_wrong) {
    CHECK_STR(stream_refusal(""), "test: byte 0: the text ends in the middle");
    CHECK_STR(stream_refusal("  "), "test: byte 2: the text ends in the middle");
    CHECK_STR(stream_refusal("[1,]"), "test: byte 3: no value");
    CHECK_STR(stream_refusal("[1,"), "test: byte 3: the text ends behind a ','");
    CHECK_STR(stream_refusal("[1 2]"), "test: byte 3: want ',' or ']'");
    CHECK_STR(stream_refusal("{\"a\":1 2}"), "test: byte 7: want ',' or '}'");
    CHECK_STR(stream_refusal("{\"a\":1,}"), "test: byte 7: want a key");
    CHECK_STR(stream_refusal("{1:2}"), "test: byte 1: want a key");
    CHECK_STR(stream_refusal("{\"a\" 1}"), "test: byte 5: want ':'");
    CHECK_STR(stream_refusal("{\"a\""), "test: byte 4: want ':'");
    CHECK_STR(stream_refusal("1 2"), "test: byte 2: text behind the document");
    CHECK_STR(stream_refusal("\"a"), "test: byte 0: string does not end");
    CHECK_STR(stream_refusal("\"a\nb\""), "test: byte 2: control character in a string");
    CHECK_STR(stream_refusal("\"\\q\""), "test: byte 1: no valid escape");
    CHECK_STR(stream_refusal("\"\\u12g4\""), "test: byte 1: no valid escape");
    CHECK_STR(stream_refusal("\"\\ud800\""), "test: byte 1: no valid escape");
    CHECK_STR(stream_refusal("\"\\ud800\\u0041\""), "test: byte 1: no valid escape");
    CHECK_STR(stream_refusal("\"\\udc00\""), "test: byte 1: no valid escape");
    CHECK_STR(stream_refusal("\"\\"), "test: byte 1: no valid escape");
    CHECK_STR(stream_refusal("\"\xC3(\""), "test: byte 0: string is not UTF-8");
    CHECK_STR(stream_refusal("[1,\"\xFF\"]"), "test: byte 3: string is not UTF-8");
    CHECK_STR(stream_refusal("tru"), "test: byte 0: no value");
    CHECK_STR(stream_refusal("nullx"), "test: byte 4: text behind the document");
}

TEST(json_stream_knows_numbers) {
    static const char *const good[] = {"0",   "-0",   "10",   "1.5",   "-1.25e10",
                                       "1e5", "1E-5", "0e+0", "12e007"};
    static const char *const bad[] = {"-",    "01", "-01", "1.", ".5",
                                      "1.e5", "1e", "1e+", "+1", "0x1"};
    int tokens = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_EQ(stream_all(str_of(good[i]), &tokens, NULL), OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(stream_all(str_of(bad[i]), &tokens, NULL), ERR_FORMAT);
}

TEST(json_stream_wants_one_token) {
    json_stream s;
    error err = {0};
    json_stream_init(&s, S(" 12"), "test");
    CHECK_EQ(json_stream_want(&s, JSON_TOKEN_STRING, &err), ERR_FORMAT);
    CHECK_STR(err.msg, "test: byte 1: want string, found number");
    json_stream_init(&s, S("\"x"), "test");
    CHECK_EQ(json_stream_want(&s, JSON_TOKEN_STRING, &err), ERR_FORMAT);
    str raw;
    json_stream_init(&s, S("[1"), "test");
    CHECK_EQ(json_stream_skip(&s, &raw, &err), ERR_FORMAT);
    json_stream_init(&s, S("]"), "test");
    CHECK_EQ(json_stream_skip(&s, &raw, &err), ERR_FORMAT);
}

TEST(json_stream_nests_to_its_limit_and_no_deeper) {
    char text[2 * JSON_STREAM_DEPTH_MAX + 2];
    int tokens = 0;
    error err = {0};
    for (size_t i = 0; i < JSON_STREAM_DEPTH_MAX; i++) {
        text[i] = '[';
        text[2 * JSON_STREAM_DEPTH_MAX - 1 - i] = ']';
    }
    CHECK_EQ(stream_all((str){text, 2 * JSON_STREAM_DEPTH_MAX}, &tokens, &err), OK);
    CHECK_EQ(tokens, 2 * JSON_STREAM_DEPTH_MAX + 1);
    memset(text, '[', sizeof text);
    CHECK_EQ(stream_all((str){text, sizeof text}, &tokens, &err), ERR_LIMIT);
    CHECK_STR(err.msg, "test: byte 256: nested deeper than 256");
}

static status stream_file(const char *folder, const char *name) {
    char path[2048];
    int tokens = 0;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *fp = fopen(path, "rb");
    char *bytes = malloc(1 << 20);
    size_t n = fp != NULL && bytes != NULL ? fread(bytes, 1, 1 << 20, fp) : 0;
    if (fp != NULL) (void)fclose(fp);
    status st = stream_all((str){bytes, n}, &tokens, NULL);
    free(bytes);
    return st;
}

/* Duplicate keys are the caller's business, and keys may hold NUL: all of y_ has to pass. */
TEST(json_stream_test_suite_is_accepted_and_refused_as_it_should) {
    SHARED_OR_SKIP(folder, "suites/json-test-suite/test_parsing");
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    if (dir == NULL) return;
    int files = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (!str_ends(str_of(e->d_name), S(".json"))) continue;
        status st = stream_file(folder, e->d_name);
        bool want = e->d_name[0] == 'y';
        if (e->d_name[0] != 'i' && (st == OK) != want) {
            test_failures++;
            (void)fprintf(stderr, "%s: %s\n", e->d_name, status_name(st));
        }
        files++;
    }
    (void)closedir(dir);
    CHECK(files > 300);
}
