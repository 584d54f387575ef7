/* test_read_get.c - getters, the paths in their errors, and fields nobody asked for. */
#include <math.h>

#include "test.h"
#include "json/read.h"

/* One document with its root object opened; an aborted test shows which. */
typedef struct fixture {
    json_doc doc;
    json_node root;
    json_fields fields;
    error err;
} fixture;

static void fixture_init(fixture *t, const char *text) {
    *t = (fixture){0};
    CHECK_EQ(json_parse(str_of(text), &t->doc, &t->err), OK);
    t->root = json_root(&t->doc);
    CHECK_EQ(json_fields_open(&t->fields, &t->root, &t->err), OK);
}

TEST(json_get_leaves_defaults_for_absent_and_null) {
    fixture t;
    fixture_init(&t, "{\"n\":null}");
    uint32_t u = 7;
    int32_t i = -7;
    uint64_t big = UINT64_MAX;
    int64_t wide = INT64_MIN;
    float f = 0.7F;
    double d = 0.1;
    bool b = true;
    str s = S("kept");
    uint32_t choice = 3;
    json_node n;
    for (int round = 0; round < 2; round++) {
        const char *key = round == 0 ? "n" : "absent";
        CHECK_EQ(json_get_u32(&t.fields, key, 0, 1, &u, &t.err), OK);
        CHECK_EQ(json_get_i32(&t.fields, key, 0, 1, &i, &t.err), OK);
        CHECK_EQ(json_get_u64(&t.fields, key, 0, 1, &big, &t.err), OK);
        CHECK_EQ(json_get_i64(&t.fields, key, 0, 1, &wide, &t.err), OK);
        CHECK_EQ(json_get_f32(&t.fields, key, 0, 1, &f, &t.err), OK);
        CHECK_EQ(json_get_f64(&t.fields, key, 0, 1, &d, &t.err), OK);
        CHECK_EQ(json_get_bool(&t.fields, key, &b, &t.err), OK);
        CHECK_EQ(json_get_str(&t.fields, key, 1, &s, &t.err), OK);
        CHECK_EQ(json_get_choice(&t.fields, key, NULL, 0, &choice, &t.err), OK);
        CHECK_EQ(json_get_array(&t.fields, key, 1, &n, &t.err), OK);
        CHECK(n.value == NULL);
        CHECK_EQ(json_get_object(&t.fields, key, &n, &t.err), OK);
        CHECK(n.value == NULL);
        CHECK_EQ(json_field_need(&t.fields, key, &n, &t.err), ERR_INVALID);
        CHECK_HAS(t.err.msg, ": is required");
    }
    CHECK(u == 7 && i == -7 && big == UINT64_MAX && wide == INT64_MIN && choice == 3);
    CHECK(f == 0.7F && d == 0.1 && b && str_eq(s, S("kept")));
    json_doc_deinit(&t.doc);
}

TEST(json_get_reads_each_type) {
    fixture t;
    fixture_init(&t, "{\"u\":4294967295,\"i\":-5,\"seed\":18446744073709551615,\"w\":-9e2,"
                     "\"f\":0.7,\"whole\":2,\"b\":false,\"s\":\"t\\u0000x\",\"c\":\"auto\","
                     "\"a\":[1,2],\"o\":{}}");
    uint32_t u = 0, choice = 0;
    int32_t i = 0;
    uint64_t seed = 0;
    int64_t w = 0;
    float f = 0;
    double d = 0;
    bool b = true;
    str s = {0};
    json_node a, o;
    CHECK_EQ(json_get_u32(&t.fields, "u", 0, UINT32_MAX, &u, &t.err), OK);
    CHECK_EQ(json_get_i32(&t.fields, "i", -10, 10, &i, &t.err), OK);
    CHECK_EQ(json_get_u64(&t.fields, "seed", 0, UINT64_MAX, &seed, &t.err), OK);
    CHECK_EQ(json_get_i64(&t.fields, "w", -1000, 0, &w, &t.err), OK);
    CHECK_EQ(json_get_f32(&t.fields, "f", 0, 1, &f, &t.err), OK);
    CHECK_EQ(json_get_f64(&t.fields, "whole", 0, 2, &d, &t.err), OK);
    CHECK_EQ(json_get_bool(&t.fields, "b", &b, &t.err), OK);
    CHECK_EQ(json_get_str(&t.fields, "s", 3, &s, &t.err), OK);
    const char *const names[] = {"none", "auto"};
    CHECK_EQ(json_get_choice(&t.fields, "c", names, 2, &choice, &t.err), OK);
    CHECK_EQ(json_get_array(&t.fields, "a", 2, &a, &t.err), OK);
    CHECK_EQ(json_get_object(&t.fields, "o", &o, &t.err), OK);
    CHECK(u == UINT32_MAX && i == -5 && seed == UINT64_MAX && w == -900 && f == 0.7F);
    CHECK(d == 2.0 && !b && str_eq(s, S("t\0x")) && choice == 1);
    CHECK_EQ(json_node_count(&a), 2);
    CHECK_STR(json_node_type(&o), "object");
    CHECK_EQ(json_fields_unused(&t.fields, NULL, NULL), 0);
    json_doc_deinit(&t.doc);
}

TEST(json_get_names_the_type_found) {
    fixture t;
    fixture_init(&t, "{\"temperature\":\"hot\",\"n\":1.5,\"stream\":1,\"model\":7,\"stop\":{},"
                     "\"o\":[]}");
    float f = 0.5F;
    uint32_t n = 1;
    bool stream = false;
    str model = {0};
    json_node stop;
    CHECK_EQ(json_get_f32(&t.fields, "temperature", 0, 2, &f, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "temperature: want number, found string");
    CHECK(f == 0.5F);
    CHECK_EQ(json_get_u32(&t.fields, "n", 0, 2, &n, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "n: want integer, found 1.5");
    CHECK_EQ(json_get_bool(&t.fields, "stream", &stream, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "stream: want true or false, found number");
    CHECK_EQ(json_get_str(&t.fields, "model", 9, &model, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "model: want string, found number");
    CHECK_EQ(json_get_array(&t.fields, "stop", 9, &stop, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "stop: want array, found object");
    CHECK_EQ(json_get_object(&t.fields, "o", &stop, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "o: want object, found array");
    json_doc_deinit(&t.doc);
}

TEST(json_get_names_the_allowed_range) {
    fixture t;
    fixture_init(&t, "{\"temperature\":999999,\"k\":-1,\"seed\":18446744073709551615,"
                     "\"huge\":1e300,\"s\":\"12345\",\"a\":[1,2,3],\"c\":\"sometimes\"}");
    float f = 0;
    uint32_t k = 0;
    uint64_t seed = 0;
    int64_t wide = 0;
    str s = {0};
    json_node a;
    CHECK_EQ(json_get_f32(&t.fields, "temperature", 0, 100, &f, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "temperature: 999999 is outside 0 to 100");
    CHECK_EQ(json_get_u32(&t.fields, "k", 1, 40, &k, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "k: -1 is outside 1 to 40");
    CHECK_EQ(json_get_u64(&t.fields, "k", 0, UINT64_MAX, &seed, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "k: -1 is outside 0 to 18446744073709551615");
    CHECK_EQ(json_get_i64(&t.fields, "seed", INT64_MIN, INT64_MAX, &wide, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "seed: 18446744073709551615 is outside -9223372036854775808 to "
                         "9223372036854775807");
    CHECK_EQ(json_get_u64(&t.fields, "huge", 0, 9, &seed, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "huge: 1e+300 is outside 0 to 9");
    CHECK_EQ(json_get_str(&t.fields, "s", 4, &s, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "s: 5 bytes, at most 4 are allowed");
    CHECK_EQ(json_get_array(&t.fields, "a", 2, &a, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "a: 3 elements, at most 2 are allowed");
    const char *const names[] = {"none", "auto"};
    CHECK_EQ(json_get_choice(&t.fields, "c", names, 2, &k, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "c: 'sometimes' is not one of none, auto");
    json_doc_deinit(&t.doc);
}

TEST(json_get_takes_whole_reals_for_integers) {
    fixture t;
    fixture_init(&t, "{\"a\":1.0,\"b\":1e3,\"c\":-0.0,\"d\":18446744073709551614}");
    uint32_t v = 9;
    uint64_t big = 0;
    CHECK_EQ(json_get_u32(&t.fields, "a", 0, 10, &v, &t.err), OK);
    CHECK_EQ(v, 1);
    CHECK_EQ(json_get_u32(&t.fields, "b", 0, 1000, &v, &t.err), OK);
    CHECK_EQ(v, 1000);
    CHECK_EQ(json_get_u32(&t.fields, "c", 0, 1000, &v, &t.err), OK);
    CHECK_EQ(v, 0);
    CHECK_EQ(json_get_u64(&t.fields, "d", 0, UINT64_MAX, &big, &t.err), OK);
    CHECK(big == UINT64_MAX - 1);
    json_doc_deinit(&t.doc);
}

TEST(json_node_paths_lead_to_the_culprit) {
    fixture t;
    fixture_init(&t, "{\"messages\":[{},{},{\"content\":[{\"text\":5}]}]}");
    json_node messages, third, content, part;
    json_fields message, text;
    str s = {0};
    CHECK_EQ(json_get_array(&t.fields, "messages", 10, &messages, &t.err), OK);
    third = json_node_element(&messages, 2);
    CHECK_EQ(json_fields_open(&message, &third, &t.err), OK);
    CHECK_EQ(json_get_str(&message, "content", 10, &s, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "messages[2].content: want string, found array");
    CHECK_EQ(json_get_array(&message, "content", 10, &content, &t.err), OK);
    part = json_node_element(&content, 0);
    CHECK_EQ(json_fields_open(&text, &part, &t.err), OK);
    CHECK_EQ(json_get_str(&text, "text", 10, &s, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "messages[2].content[0].text: want string, found number");
    json_fields not_object;
    CHECK_EQ(json_fields_open(&not_object, &messages, &t.err), ERR_INVALID);
    CHECK_STR(t.err.msg, "messages: want object, found array");
    json_doc_deinit(&t.doc);
}

TEST(json_node_path_of_the_root_has_words) {
    json_doc doc = {0};
    error err = {0};
    json_fields f;
    CHECK_EQ(json_parse(S("[[1]]"), &doc, &err), OK);
    json_node root = json_root(&doc), inner = json_node_element(&root, 0);
    CHECK_EQ(json_fields_open(&f, &root, &err), ERR_INVALID);
    CHECK_STR(err.msg, "the document: want object, found array");
    CHECK_EQ(json_fields_open(&f, &inner, &err), ERR_INVALID);
    CHECK_STR(err.msg, "[0]: want object, found array");
    json_doc_deinit(&doc);
}

TEST(json_node_path_shows_an_empty_name) {
    fixture t;
    char path[JSON_PATH_BYTES];
    fixture_init(&t, "{\"\":1}");
    json_node n = json_field(&t.fields, "");
    json_node_path(&n, path);
    CHECK_STR(path, "\"\"");
    json_doc_deinit(&t.doc);
}

TEST(json_node_path_that_is_too_long_keeps_its_end) {
    json_doc doc = {0};
    error err = {0};
    char text[2 * 100 + 1];
    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    CHECK_EQ(json_parse((str){text, 200}, &doc, &err), OK);
    json_node chain[100];
    chain[0] = json_root(&doc);
    for (int i = 1; i < 100; i++) chain[i] = json_node_element(&chain[i - 1], 0);
    char path[JSON_PATH_BYTES];
    json_node_path(&chain[99], path);
    CHECK(str_starts(str_of(path), S("...[0][0]")));
    CHECK(strlen(path) < sizeof path);
    json_doc_deinit(&doc);
}

static void append_key(void *arg, str key) {
    char *list = arg;
    size_t n = strlen(list);
    (void)snprintf(list + n, 256 - n, "%.*s ", STR(key));
}

TEST(json_fields_tell_what_nobody_asked_for) {
    fixture t;
    char list[256] = "";
    bool b = false;
    fixture_init(&t, "{\"zeta\":1,\"stream\":true,\"alpha\":{\"x\":1},\"user\":null}");
    CHECK_EQ(json_get_bool(&t.fields, "stream", &b, &t.err), OK);
    CHECK_EQ(json_get_bool(&t.fields, "stream", &b, &t.err), OK);
    CHECK_EQ(json_get_bool(&t.fields, "absent", &b, &t.err), OK);
    CHECK_EQ(json_fields_unused(&t.fields, append_key, list), 3);
    CHECK_STR(list, "zeta alpha user ");
    (void)json_field(&t.fields, "alpha");
    CHECK_EQ(json_fields_unused(&t.fields, NULL, NULL), 2);
    json_doc_deinit(&t.doc);
}

static void append_member(void *arg, const json_node *member) {
    char path[JSON_PATH_BYTES];
    json_node_path(member, path);
    append_key(arg, str_of(path));
}

TEST(json_node_each_member_knows_its_path) {
    fixture t;
    json_node bias;
    char list[256] = "";
    fixture_init(&t, "{\"logit_bias\":{\"50256\":-100,\"7\":1}}");
    CHECK_EQ(json_get_object(&t.fields, "logit_bias", &bias, &t.err), OK);
    json_node_each(&bias, append_member, list);
    CHECK_STR(list, "logit_bias.50256 logit_bias.7 ");
    json_doc_deinit(&t.doc);
}
