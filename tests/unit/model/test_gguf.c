/* test_gguf.c - what a good GGUF file gives, typed access, failing memory. */
#include <math.h>

#include "base/alloc.h"
#include "gguf_build.h"

typedef struct opened {
    str bytes;
    blob *file;
    gguf *g;
} opened;

static opened open_built(build *b) {
    opened o = {.bytes = build_finish(b)};
    error err = {0};
    CHECK_EQ(blob_open_memory(&o.file, o.bytes, "test", &err), OK);
    CHECK_EQ(gguf_open(&o.g, o.file, &err), OK);
    CHECK_STR(err.msg, "");
    return o;
}

static void close_built(opened *o) {
    gguf_close(o->g);
    blob_close(o->file);
    free((void *)(uintptr_t)o->bytes.p);
}

TEST(gguf_shows_tensors_in_file_order_and_by_name) {
    build b;
    build_good(&b, NULL);
    opened o = open_built(&b);
    const gguf_tensor *t = gguf_tensor_find(o.g, S("blk.0.attn_q.weight"));
    CHECK_EQ(gguf_tensor_count(o.g), 11);
    CHECK(t != NULL && t == gguf_tensor_get(o.g, gguf_tensor_index(o.g, t)));
    CHECK_EQ(t->dims_count, 2);
    CHECK_EQ(t->dims[0], BUILD_EMBD);
    CHECK_EQ(t->dims[2], 1);
    CHECK_EQ(t->bytes, BUILD_EMBD * BUILD_EMBD * 4);
    CHECK(t->data == o.bytes.p + t->offset);
    CHECK(gguf_tensor_find(o.g, S("blk.1.attn_q.weight")) == NULL);
    close_built(&o);
}

TEST(gguf_tells_version_alignment_and_size) {
    build b;
    build_good(&b, NULL);
    b.align = 64;
    add_u32(&b, "general.alignment", 64);
    b.tensors.n = 0;
    b.tensors_count = 0;
    opened o = open_built(&b);
    CHECK_EQ(gguf_version(o.g), 3);
    CHECK_EQ(gguf_alignment(o.g), 64);
    CHECK_EQ(gguf_file_bytes(o.g), o.bytes.n);
    CHECK(gguf_has_data(o.g));
    close_built(&o);
}

TEST(gguf_integers_of_every_width_and_sign_read_as_u32) {
    static const struct {
        uint32_t type;
        uint32_t bytes;
    } types[] = {{GGUF_TYPE_U8, 1},  {GGUF_TYPE_I8, 1},  {GGUF_TYPE_U16, 2}, {GGUF_TYPE_I16, 2},
                 {GGUF_TYPE_U32, 4}, {GGUF_TYPE_I32, 4}, {GGUF_TYPE_U64, 8}, {GGUF_TYPE_I64, 8}};
    build b;
    build_init(&b);
    for (size_t i = 0; i < 8; i++) {
        const uint64_t value = 100 + i;
        add_key(&b, (str){&"abcdefgh"[i], 1}, types[i].type);
        buf_put(&b.kv, &value, types[i].bytes);
    }
    opened o = open_built(&b);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t n = 0;
        error err = {0};
        CHECK_EQ(gguf_get_u32(o.g, (str){&"abcdefgh"[i], 1}, &n, &err), OK);
        CHECK_EQ(n, 100 + i);
        CHECK(str_eq(gguf_kv_get(o.g, i)->key, (str){&"abcdefgh"[i], 1}));
    }
    close_built(&o);
}

TEST(gguf_integers_out_of_range_are_errors_with_the_value) {
    const uint64_t big = (uint64_t)1 << 32;
    build b;
    build_init(&b);
    add_i32(&b, "negative", -5);
    add_key(&b, S("big"), GGUF_TYPE_U64);
    buf_put(&b.kv, &big, 8);
    opened o = open_built(&b);
    uint32_t n = 7;
    error err = {0};
    CHECK_EQ(gguf_get_u32(o.g, S("negative"), &n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'negative' is -5");
    CHECK_EQ(gguf_get_u32(o.g, S("big"), &n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'big' is 4294967296");
    CHECK_EQ(n, 7);
    close_built(&o);
}

TEST(gguf_getters_name_key_and_both_types) {
    build b;
    build_init(&b);
    add_str(&b, "s", "text");
    add_f32s(&b, "a", 1, &(float){2.5f});
    opened o = open_built(&b);
    uint32_t n = 0;
    float f = 0;
    bool yes = false;
    str s;
    gguf_array a;
    error err = {0};
    CHECK_EQ(gguf_get_u32(o.g, S("s"), &n, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'s' is string, must be an integer");
    CHECK_EQ(gguf_get_f32(o.g, S("s"), &f, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'s' is string, must be f32");
    CHECK_EQ(gguf_get_bool(o.g, S("s"), &yes, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "must be bool");
    CHECK_EQ(gguf_get_str(o.g, S("a"), &s, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'a' is array, must be string");
    CHECK_EQ(gguf_get_array(o.g, S("s"), GGUF_TYPE_F32, &a, &err), ERR_FORMAT);
    CHECK_EQ(gguf_get_array(o.g, S("a"), GGUF_TYPE_I32, &a, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "'a' is an array of f32, must be of i32");
    CHECK_EQ(gguf_get_str(o.g, S("s"), &s, &err), OK);
    CHECK(str_eq(s, S("text")));
    close_built(&o);
}

TEST(gguf_absent_keys_are_not_found_or_get_the_fallback) {
    build b;
    build_init(&b);
    opened o = open_built(&b);
    uint32_t n = 0;
    float f = 0;
    bool yes = false;
    str s;
    gguf_array a;
    error err = {0};
    CHECK_EQ(gguf_get_u32(o.g, S("k"), &n, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, "'k' is missing");
    CHECK_EQ(gguf_get_f32(o.g, S("k"), &f, &err), ERR_NOT_FOUND);
    CHECK_EQ(gguf_get_bool(o.g, S("k"), &yes, &err), ERR_NOT_FOUND);
    CHECK_EQ(gguf_get_str(o.g, S("k"), &s, &err), ERR_NOT_FOUND);
    CHECK_EQ(gguf_get_array(o.g, S("k"), GGUF_TYPE_U8, &a, &err), ERR_NOT_FOUND);
    CHECK_EQ(gguf_get_u32_or(o.g, S("k"), 5, &n, &err), OK);
    CHECK_EQ(gguf_get_f32_or(o.g, S("k"), 2.5f, &f, &err), OK);
    CHECK_EQ(gguf_get_bool_or(o.g, S("k"), true, &yes, &err), OK);
    CHECK(n == 5 && f == 2.5f && yes);
    close_built(&o);
}

TEST(gguf_floats_must_be_finite_in_f32) {
    const double values[] = {1e300, INFINITY, NAN, 0.25};
    build b;
    build_init(&b);
    for (size_t i = 0; i < 4; i++) {
        add_key(&b, (str){&"abcd"[i], 1}, GGUF_TYPE_F64);
        buf_put(&b.kv, &values[i], sizeof values[i]);
    }
    opened o = open_built(&b);
    float f = 0;
    error err = {0};
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(gguf_get_f32(o.g, (str){&"abcd"[i], 1}, &f, &err), ERR_FORMAT);
    CHECK_EQ(gguf_get_f32(o.g, S("d"), &f, &err), OK);
    CHECK(f == 0.25f);
    close_built(&o);
}

TEST(gguf_arrays_are_read_element_by_element_wherever_they_lie) {
    static const char *const words[] = {"", "one", "two\0three"};
    static const int32_t ints[] = {-1, 2147483647};
    static const float floats[] = {0.5f, -3.0f};
    build b;
    build_init(&b);
    add_str(&b, "odd", "x"); /* moves what follows to an odd address */
    add_strs(&b, "w", 3, words);
    add_i32s(&b, "i", 2, ints);
    add_f32s(&b, "f", 2, floats);
    add_array(&b, "none", GGUF_TYPE_STRING, 0);
    opened o = open_built(&b);
    gguf_array a;
    error err = {0};
    str s;
    uint32_t seen = 0;
    CHECK_EQ(gguf_get_array(o.g, S("w"), GGUF_TYPE_STRING, &a, &err), OK);
    gguf_strings it = gguf_strings_of(&a);
    while (gguf_strings_next(&it, &s)) CHECK(str_eq(s, str_of(words[seen++])));
    CHECK_EQ(seen, 3);
    CHECK_EQ(gguf_get_array(o.g, S("i"), GGUF_TYPE_I32, &a, &err), OK);
    CHECK(gguf_array_i32(&a, 0) == -1 && gguf_array_i32(&a, 1) == 2147483647);
    CHECK_EQ(gguf_get_array(o.g, S("f"), GGUF_TYPE_F32, &a, &err), OK);
    CHECK(gguf_array_f32(&a, 1) == -3.0f && gguf_array_get(&a, 0).as.f64 == 0.5);
    CHECK_EQ(gguf_get_array(o.g, S("none"), GGUF_TYPE_STRING, &a, &err), OK);
    it = gguf_strings_of(&a);
    CHECK(!gguf_strings_next(&it, &s));
    close_built(&o);
}

TEST(gguf_a_file_that_ends_where_data_begins_opens_as_a_header_only) {
    build b;
    build_good(&b, NULL);
    b.data_bytes = 0;
    str bytes = build_finish(&b);
    blob *file = NULL;
    gguf *g = NULL;
    error err = {0};
    CHECK_EQ(blob_open_memory(&file, bytes, "test", &err), OK);
    CHECK_EQ(gguf_open(&g, file, &err), ERR_FORMAT);
    CHECK_EQ(gguf_open_header(&g, file, &err), OK);
    CHECK(!gguf_has_data(g));
    CHECK(gguf_tensor_get(g, 0)->data == NULL);
    gguf_close(g);
    blob_close(file);
    CHECK_EQ(blob_open_memory(&file, (str){bytes.p, bytes.n - 1}, "test", &err), OK);
    CHECK_EQ(gguf_open_header(&g, file, &err), ERR_FORMAT);
    blob_close(file);
    free((void *)(uintptr_t)bytes.p);
}

TEST(gguf_every_allocation_may_fail) {
    build b;
    build_good(&b, NULL);
    str bytes = build_finish(&b);
    blob *file = NULL;
    gguf *g = NULL;
    error err = {0};
    int64_t n = 0;
    CHECK_EQ(blob_open_memory(&file, bytes, "test", &err), OK);
    for (; n < 100; n++) {
        err = (error){0};
        mem_fail_after(n);
        status st = gguf_open(&g, file, &err);
        mem_fail_after(-1);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(err.msg[0] != '\0');
    }
    CHECK(n > 3 && n < 100);
    gguf_close(g);
    blob_close(file);
    free((void *)(uintptr_t)bytes.p);
}
