/* fuzz_json.c - bytes as JSON: every getter on every node, and what is written again is equal. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz.h"
#include "json/read.h"

static void visit(const json_node *n);

static void visit_member(void *arg, const json_node *member) {
    (void)arg;
    visit(member);
}

static void count_key(void *arg, str key) {
    ASSERT(strlen(key.p) == key.n);
    ++*(size_t *)arg;
}

/* Every getter either takes the value or says something. */
static void try_getters(const json_node *n) {
    static const char *const names[] = {"a", "auto"};
    error err = {0};
    bool b = false;
    uint32_t u = 5;
    int32_t i = 5;
    uint64_t u64 = 5;
    int64_t i64 = 5;
    float f = 0;
    double d = 0;
    str s = {0};
    if (json_node_bool(n, &b, &err) != OK) ASSERT(err.msg[0] != '\0');
    if (json_node_u32(n, 1, 100, &u, &err) == OK) ASSERT(u >= 1 && u <= 100);
    if (json_node_i32(n, -9, 100, &i, &err) == OK) ASSERT(i >= -9 && i <= 100);
    if (json_node_u64(n, 0, UINT64_MAX, &u64, &err) != OK) ASSERT(u64 == 5);
    if (json_node_i64(n, INT64_MIN, INT64_MAX, &i64, &err) != OK) ASSERT(i64 == 5);
    if (json_node_f32(n, -1, 1, &f, &err) == OK) ASSERT(f >= -1 && f <= 1);
    if (json_node_f64(n, -INFINITY, INFINITY, &d, &err) == OK) ASSERT(isfinite(d));
    if (json_node_str(n, 100, &s, &err) == OK && s.p != NULL) ASSERT(str_is_utf8(s) && s.n <= 100);
    u = 0;
    if (json_node_choice(n, names, 2, &u, &err) == OK) ASSERT(u < 2);
}

static void visit_fields(const json_node *n) {
    error err = {0};
    json_fields f;
    json_node child;
    size_t unused = 0;
    uint32_t u = 0;
    ASSERT(json_fields_open(&f, n, &err) == OK);
    (void)!json_get_u32(&f, "a", 0, 9, &u, &err);
    (void)!json_get_array(&f, "a", 9, &child, &err);
    (void)!json_get_object(&f, "b", &child, &err);
    (void)!json_field_need(&f, "c", &child, &err);
    size_t count = json_fields_unused(&f, count_key, &unused);
    ASSERT(count == unused);
    json_node_each(n, visit_member, NULL);
}

static void visit(const json_node *n) {
    char path[JSON_PATH_BYTES];
    json_node_path(n, path);
    ASSERT(path[0] != '\0' && strlen(path) < sizeof path);
    try_getters(n);
    if (json_is_object(n->value)) visit_fields(n);
    for (size_t i = 0; i < json_node_count(n); i++) {
        json_node element = json_node_element(n, i);
        visit(&element);
    }
}

static void write_text(const json_doc *doc, buf *out) {
    json_writer w;
    json_node root = json_root(doc);
    buf_init(out, SIZE_MAX);
    json_writer_init(&w, out);
    json_node_write(&root, &w);
    ASSERT(json_writer_is_done(&w) && !out->failed);
}

/* Equal as trees, and as texts, which also compares the integers beyond int64_t. */
static void check_round_trip(const json_doc *doc) {
    buf first, second;
    json_doc again = {0};
    write_text(doc, &first);
    ASSERT(memchr(first.p, '\n', first.n) == NULL && memchr(first.p, '\0', first.n) == NULL);
    ASSERT(json_parse(buf_view(&first), &again, NULL) == OK);
    ASSERT(json_equal(doc->root, again.root));
    write_text(&again, &second);
    ASSERT(str_eq(buf_view(&first), buf_view(&second)));
    json_doc_deinit(&again);
    buf_deinit(&first);
    buf_deinit(&second);
}

/* Any bytes at all can be written as a string. */
static void check_string(str bytes) {
    buf out;
    json_writer w;
    json_doc doc = {0};
    buf_init(&out, SIZE_MAX);
    json_writer_init(&w, &out);
    json_str(&w, bytes);
    ASSERT(json_parse(buf_view(&out), &doc, NULL) == OK);
    if (str_is_utf8(bytes)) {
        str back = {json_string_value(doc.root), json_string_length(doc.root)};
        ASSERT(str_eq(bytes, back));
    }
    json_doc_deinit(&doc);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_doc doc = {0};
    error err = {0};
    str text = {(const char *)data, size};
    if (json_parse(text, &doc, &err) == OK) {
        json_node root = json_root(&doc);
        visit(&root);
        check_round_trip(&doc);
        json_doc_deinit(&doc);
    } else {
        ASSERT(err.msg[0] != '\0' && strpbrk(err.msg, "\r\n") == NULL);
    }
    check_string(text);
    return 0;
}
