/* test_write.c - what we emit is JSON, whatever went in. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "test.h"
#include "json/read.h"
#include "json/write.h"

/* The text so far, terminated; then the buffer starts anew. */
static const char *take_text(buf *out) {
    static char text[4096];
    str_copy_c(text, sizeof text, buf_view(out));
    buf_clear(out);
    return text;
}

static const char *string_as_json(str s) {
    static char text[4096];
    buf out;
    json_writer w;
    buf_init(&out, 4096);
    json_writer_init(&w, &out);
    json_str(&w, s);
    str_copy_c(text, sizeof text, buf_view(&out));
    buf_deinit(&out);
    return text;
}

TEST(json_write_sets_commas_by_itself) {
    buf out;
    json_writer w;
    buf_init(&out, 4096);
    json_writer_init(&w, &out);
    json_begin_object(&w);
    json_kv_str(&w, "id", S("x"));
    json_kv_array(&w, "list");
    json_int(&w, -1);
    json_uint(&w, UINT64_MAX);
    json_begin_array(&w);
    json_end_array(&w);
    json_begin_object(&w);
    json_end_object(&w);
    json_put_null(&w);
    json_end_array(&w);
    json_kv_object(&w, "o");
    json_kv_bool(&w, "t", true);
    json_kv_bool(&w, "f", false);
    json_end_object(&w);
    json_kv_null(&w, "n");
    json_kv_raw(&w, "r", S("[1,2]"));
    json_kv_int(&w, "i", INT64_MIN);
    json_kv_uint(&w, "u", 7);
    json_kv_f64(&w, "d", 0.5);
    json_kv_f32(&w, "s", 0.1F);
    CHECK(!json_writer_is_done(&w));
    json_end_object(&w);
    CHECK(json_writer_is_done(&w));
    CHECK_STR(take_text(&out), "{\"id\":\"x\",\"list\":[-1,18446744073709551615,[],{},null],"
                               "\"o\":{\"t\":true,\"f\":false},\"n\":null,\"r\":[1,2],"
                               "\"i\":-9223372036854775808,\"u\":7,\"d\":0.5,\"s\":0.1}");
    buf_deinit(&out);
}

TEST(json_write_values_at_the_top_stand_alone) {
    buf out;
    json_writer w;
    buf_init(&out, 4096);
    json_writer_init(&w, &out);
    json_begin_array(&w);
    json_end_array(&w);
    buf_put_char(&out, '\n');
    json_int(&w, 5);
    CHECK_STR(take_text(&out), "[]\n5");
    buf_deinit(&out);
}

TEST(json_write_escapes_what_json_and_sse_need) {
    CHECK_STR(string_as_json(S("a\"b\\c/\b\f\n\r\t")), "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\"");
    CHECK_STR(string_as_json(S("\0\x01\x1f\x7f")), "\"\\u0000\\u0001\\u001f\x7f\"");
    CHECK_STR(string_as_json(S("")), "\"\"");
    CHECK_STR(string_as_json((str){NULL, 0}), "\"\"");
    CHECK_STR(string_as_json(S("na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80")),
              "\"na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80\"");
}

#define FFFD "\xEF\xBF\xBD"

TEST(json_write_replaces_broken_utf8) {
    CHECK_STR(string_as_json(S("\x80")), "\"" FFFD "\"");
    CHECK_STR(string_as_json(S("a\xFFz")), "\"a" FFFD "z\"");
    CHECK_STR(string_as_json(S("\xE2\x82")), "\"" FFFD "\""); /* cut off: one */
    CHECK_STR(string_as_json(S("\xE2\x82\xE2\x82\xAC")), "\"" FFFD "\xE2\x82\xAC\"");
    CHECK_STR(string_as_json(S("\xC0\xAF")), "\"" FFFD FFFD "\"");          /* overlong '/' */
    CHECK_STR(string_as_json(S("\xED\xA0\x80")), "\"" FFFD FFFD FFFD "\""); /* surrogate */
    CHECK_STR(string_as_json(S("\xF4\x90\x80\x80")), "\"" FFFD FFFD FFFD FFFD "\"");
    CHECK_STR(string_as_json(S("\xF0\x9F\x98\n")), "\"" FFFD "\\n\"");
}

/* Unicode 15, table 3-8: the example of section 3.9. */
TEST(json_write_counts_replacements_as_unicode_recommends) {
    CHECK_STR(string_as_json(S("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64")),
              "\"a" FFFD FFFD FFFD "b" FFFD "c" FFFD FFFD "d\"");
}

TEST(json_write_any_bytes_read_back_as_text) {
    uint32_t lcg = 1;
    for (int round = 0; round < 2000; round++) {
        char bytes[24];
        size_t n = (size_t)round % sizeof bytes;
        for (size_t i = 0; i < n; i++) {
            lcg = lcg * 1664525u + 1013904223u;
            bytes[i] = (char)(round < 256 ? round : (int)(lcg >> 24));
        }
        str in = {bytes, n}, back = {0};
        const char *text = string_as_json(in);
        CHECK(strpbrk(text, "\r\n") == NULL);
        json_doc doc = {0};
        CHECK_EQ(json_parse(str_of(text), &doc, NULL), OK);
        json_node root = json_root(&doc);
        CHECK_EQ(json_node_str(&root, 4096, &back, NULL), OK);
        CHECK(str_is_utf8(back));
        if (str_is_utf8(in)) CHECK(str_eq(in, back));
        json_doc_deinit(&doc);
    }
}

static const char *f64_as_json(double v) {
    static char text[JSON_NUMBER_BYTES];
    (void)json_format_f64(text, v);
    return text;
}

TEST(json_write_numbers_are_the_shortest_that_round_trip) {
    CHECK_STR(f64_as_json(0.7), "0.7");
    CHECK_STR(f64_as_json(0.1 + 0.2), "0.30000000000000004");
    CHECK_STR(f64_as_json(1.0), "1");
    CHECK_STR(f64_as_json(-0.0), "-0");
    CHECK_STR(f64_as_json(1e300), "1e+300");
    CHECK_STR(f64_as_json(5e-324), "4.94065645841247e-324");
    CHECK_STR(f64_as_json(123456789012345678.0), "1.2345678901234568e+17");
    char text[JSON_NUMBER_BYTES];
    CHECK_EQ(json_format_f32(text, 0.7F), 3);
    CHECK_STR(text, "0.7");
    (void)json_format_f32(text, 16777217.0F);
    CHECK_STR(text, "16777216");
}

TEST(json_write_has_no_word_for_infinity) {
    buf out;
    json_writer w;
    buf_init(&out, 4096);
    json_writer_init(&w, &out);
    json_begin_array(&w);
    json_f64(&w, INFINITY);
    json_f64(&w, -INFINITY);
    json_f64(&w, NAN);
    json_f32(&w, (float)NAN);
    json_end_array(&w);
    CHECK_STR(take_text(&out), "[null,null,null,null]");
    buf_deinit(&out);
}

TEST(json_write_random_numbers_read_back_bit_for_bit) {
    uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
    for (int i = 0; i < 20000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        double d = 0, back = 0;
        float f = 0;
        uint32_t half = (uint32_t)x;
        memcpy(&d, &x, sizeof d);
        memcpy(&f, &half, sizeof f);
        char text[JSON_NUMBER_BYTES];
        if (isfinite(d)) {
            (void)json_format_f64(text, d);
            back = strtod(text, NULL);
            CHECK(memcmp(&back, &d, sizeof d) == 0);
        }
        if (isfinite(f)) {
            (void)json_format_f32(text, f);
            float back_f = strtof(text, NULL);
            CHECK(memcmp(&back_f, &f, sizeof f) == 0);
        }
    }
}

TEST(json_write_into_a_full_buffer_is_reported_once) {
    buf out;
    json_writer w;
    error err = {0};
    buf_init(&out, 10);
    json_writer_init(&w, &out);
    json_begin_object(&w);
    json_kv_str(&w, "a", S("too long for ten bytes"));
    json_end_object(&w);
    CHECK_EQ(buf_status(&out, "reply", &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "10 bytes");
    buf_deinit(&out);
}
