/* test_read.c - strict parsing, large integers, errors with a position. */
#include <inttypes.h>
#include <math.h>

#include "base/alloc.h"
#include "test.h"
#include "json/read.h"

static status parse(const char *text, error *err) {
    json_doc doc = {0};
    status st = json_parse(str_of(text), &doc, err);
    json_doc_deinit(&doc);
    return st;
}

/* Parse and write again; static buffer. */
static const char *rewrite(const char *text) {
    static char again[4096];
    json_doc doc = {0};
    error err = {0};
    if (json_parse(str_of(text), &doc, &err) != OK) {
        str_copy_c(again, sizeof again, str_of(err.msg));
        return again;
    }
    buf out;
    json_writer w;
    json_node root = json_root(&doc);
    buf_init(&out, sizeof again);
    json_writer_init(&w, &out);
    json_node_write(&root, &w);
    str_copy_c(again, sizeof again, buf_view(&out));
    buf_deinit(&out);
    json_doc_deinit(&doc);
    return again;
}

TEST(json_read_says_where_and_why) {
    error err = {0};
    CHECK_EQ(parse("{\"a\":1,\n \"b\" 2}", &err), ERR_INVALID);
    CHECK_HAS(err.msg, "json: line 2 column 6: ':' expected");
    CHECK_EQ(parse("", &err), ERR_INVALID);
    CHECK_EQ(parse("[1] x", &err), ERR_INVALID);
    CHECK_EQ(parse("{\"a\":1,\"a\":2}", &err), ERR_INVALID);
    CHECK_HAS(err.msg, "duplicate object key");
    CHECK_EQ(json_parse((str){NULL, 0}, &(json_doc){0}, &err), ERR_INVALID);
}

TEST(json_read_messages_are_one_line) {
    error err = {0};
    CHECK_EQ(parse("[\"a\nb\"]", &err), ERR_INVALID);
    CHECK(strpbrk(err.msg, "\r\n") == NULL);
}

TEST(json_read_refuses_a_nul_byte_and_what_hides_behind_it) {
    json_doc doc = {0};
    error err = {0};
    CHECK_EQ(json_parse(S("{}\0{\"hidden\":1}"), &doc, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "byte 2 is NUL");
}

TEST(json_read_takes_an_escaped_nul_in_a_string) {
    CHECK_STR(rewrite("[\"a\\u0000b\"]"), "[\"a\\u0000b\"]");
}

static void nested(char *text, int depth) {
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    text[2 * depth] = '\0';
}

TEST(json_read_limits_the_depth) {
    char text[2 * JSON_DEPTH_MAX + 8];
    error err = {0};
    nested(text, JSON_DEPTH_MAX);
    CHECK_EQ(parse(text, &err), OK);
    CHECK_STR(rewrite(text), text);
    nested(text, JSON_DEPTH_MAX + 1);
    CHECK_EQ(parse(text, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "byte 256: nested deeper than 256");
    CHECK_EQ(parse("\"[[[[[\\\"[[[\"", &err), OK); /* brackets in a string are text */
}

TEST(json_read_keeps_the_whole_range_of_u64) {
    CHECK_STR(rewrite("18446744073709551615"), "18446744073709551615");
    CHECK_STR(rewrite("9223372036854775808"), "9223372036854775808");
    CHECK_STR(rewrite("[9223372036854775807,-9223372036854775808]"),
              "[9223372036854775807,-9223372036854775808]");
    CHECK_STR(rewrite("{\"z\":[1,2.5,18446744073709551615],\"s\":\"18446744073709551615\","
                      "\"a\":9223372036854775809,\"b\":-3}"),
              "{\"z\":[1,2.5,18446744073709551615],\"s\":\"18446744073709551615\","
              "\"a\":9223372036854775809,\"b\":-3}");
}

TEST(json_read_makes_larger_integers_doubles) {
    CHECK_STR(rewrite("[18446744073709551616,-9223372036854775809]"),
              "[1.8446744073709552e+19,-9.223372036854776e+18]");
    CHECK_STR(rewrite("100000000000000000000000"), "1e+23");
}

TEST(json_read_finds_large_integers_in_order) {
    char text[8192];
    size_t n = 0;
    for (uint64_t i = 0; i < 200; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%c[%d,{\"k\":%" PRIu64 "}]",
                              i == 0 ? '[' : ',', (int)i, UINT64_MAX - i);
    (void)snprintf(text + n, sizeof text - n, "]");
    json_doc doc = {0};
    error err = {0};
    CHECK_EQ(json_parse(str_of(text), &doc, &err), OK);
    json_node root = json_root(&doc);
    CHECK_EQ(json_node_count(&root), 200);
    for (size_t i = 0; i < json_node_count(&root); i++) {
        json_node pair = json_node_element(&root, i);
        json_node object = json_node_element(&pair, 1);
        json_fields f;
        uint64_t value = 0;
        CHECK_EQ(json_fields_open(&f, &object, &err), OK);
        CHECK_EQ(json_get_u64(&f, "k", 0, UINT64_MAX, &value, &err), OK);
        CHECK(value == UINT64_MAX - i);
    }
    json_doc_deinit(&doc);
}

TEST(json_read_errors_after_a_large_integer_have_their_place) {
    error err = {0}, plain = {0};
    CHECK_EQ(parse("{\"seed\":18446744073709551615,\"a\" 1}", &err), ERR_INVALID);
    CHECK_EQ(parse("{\"seed\":10000000000000000000.,\"a\" 1}", &plain), ERR_INVALID);
    CHECK_EQ(parse("{\"seed\":1,                   \"a\" 1}", &plain), ERR_INVALID);
    CHECK_STR(err.msg, plain.msg);
    CHECK_EQ(parse("[18446744073709551615,\n18446744073709551615,\n x]", &err), ERR_INVALID);
    CHECK_HAS(err.msg, "line 3 column 2");
    CHECK_EQ(parse("1e999", &err), ERR_INVALID);
    CHECK_HAS(err.msg, "overflow");
}

TEST(json_read_keeps_reals_reals) {
    CHECK_STR(rewrite("[1.0,-0.0,1,0.7,1e3,1E-2]"), "[1.0,-0.0,1,0.7,1000.0,0.01]");
}

TEST(json_read_limits_the_memory_of_a_tree) {
    size_t n = 8u << 20; /* 8 MiB of "{},": the densest text there is */
    char *text = mem_alloc(n);
    error err = {0};
    for (size_t i = 0; i < n; i++) text[i] = i == 0 ? '[' : "{},"[i % 3];
    CHECK_EQ(json_parse((str){text, n}, &(json_doc){0}, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "536870912 allowed");
    mem_free(text);
}

TEST(json_read_survives_every_failed_allocation) {
    const char *text = "{\"a\":[1,18446744073709551615,\"text\"],\"b\":{\"c\":null}}";
    status st = ERR_NOMEM;
    for (int64_t n = 0; st == ERR_NOMEM && n < 1000; n++) {
        error err = {0};
        mem_fail_after(n);
        st = parse(text, &err);
        mem_fail_after(-1);
        if (st != OK) CHECK_HAS(err.msg, "json: no memory");
    }
    CHECK_EQ(st, OK);
}
