/* test_buf.c - buf.h: grows to its limit, and one failure sticks. */
#include "base/alloc.h"
#include "base/buf.h"
#include "test.h"

#include <stdint.h>

TEST(buf_keeps_what_is_put) {
    buf b;
    buf_init(&b, SIZE_MAX);
    CHECK_EQ(buf_view(&b).n, 0);
    CHECK(buf_view(&b).p != NULL);
    for (unsigned i = 0; i < 5000; i++) buf_put_char(&b, (char)i);
    CHECK_EQ(b.n, 5000);
    for (unsigned i = 0; i < 5000; i++) CHECK(b.p[i] == (char)i);
    buf_put(&b, NULL, 0);
    buf_put_str(&b, S("end"));
    CHECK(str_ends(buf_view(&b), S("end")));
    CHECK_EQ(buf_status(&b, "b", NULL), OK);
    buf_deinit(&b);
    CHECK(b.p == NULL && b.n == 0);
}

TEST(buf_stops_at_its_limit_and_says_so) {
    buf b;
    error err = {0};
    buf_init(&b, 100);
    buf_put(&b, "0123456789", 10);
    for (int i = 0; i < 9; i++) buf_put(&b, "0123456789", 10);
    CHECK_EQ(buf_status(&b, "b", &err), OK);
    CHECK_EQ(b.n, 100);
    buf_put_char(&b, 'x');
    CHECK(b.failed);
    CHECK_EQ(b.n, 100);
    CHECK_EQ(buf_status(&b, "answer", &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "answer");
    CHECK_HAS(err.msg, "100");
    buf_deinit(&b);
}

TEST(buf_failure_sticks_until_it_is_cleared) {
    buf b;
    buf_init(&b, 8);
    buf_put(&b, "12345", 5);
    buf_put(&b, "12345", 5);
    buf_put_char(&b, 'x'); /* would fit, but the bytes before it are missing */
    CHECK(b.failed);
    CHECK_EQ(b.n, 5);
    CHECK(buf_reserve(&b, 1) == NULL);
    buf_clear(&b);
    CHECK(!b.failed);
    buf_put(&b, "12345678", 8);
    CHECK_EQ(b.n, 8);
    CHECK(!b.failed);
    buf_deinit(&b);
}

TEST(buf_without_memory_fails_softly) {
    buf b;
    buf_init(&b, SIZE_MAX);
    buf_put(&b, "abc", 3);
    mem_fail_after(0);
    for (int i = 0; i < 100; i++) buf_put(&b, "0123456789", 10);
    mem_fail_after(-1);
    CHECK(b.failed);
    CHECK(str_starts(buf_view(&b), S("abc")));
    CHECK_EQ(buf_status(&b, "b", NULL), ERR_NOMEM);
    buf_deinit(&b);
}

/* The allocator would refuse; the sanitizer's would end the run, so it is not asked. */
TEST(buf_asked_for_the_impossible_fails_at_once) {
    buf b;
    buf_init(&b, SIZE_MAX);
    mem_fail_after(0);
    CHECK(buf_reserve(&b, SIZE_MAX - 8) == NULL);
    mem_fail_after(-1);
    CHECK(b.failed);
    buf_clear(&b);
    buf_put_char(&b, 'x');
    CHECK(buf_reserve(&b, SIZE_MAX) == NULL);
    buf_deinit(&b);
}

TEST(buf_drops_from_the_front) {
    buf b;
    buf_init(&b, 64);
    buf_put_str(&b, S("header body"));
    buf_drop_front(&b, 7);
    CHECK(str_eq(buf_view(&b), S("body")));
    buf_drop_front(&b, 0);
    buf_drop_front(&b, 4);
    CHECK_EQ(b.n, 0);
    buf_put_str(&b, S("more"));
    CHECK(str_eq(buf_view(&b), S("more")));
    buf_deinit(&b);
}

TEST(buf_printf_appends_whole_texts_or_none) {
    buf b;
    buf_init(&b, 20);
    buf_printf(&b, "%d-%s", 12, "ab");
    CHECK(str_eq(buf_view(&b), S("12-ab")));
    buf_printf(&b, "%s", "");
    CHECK_EQ(b.n, 5);
    buf_printf(&b, "%0100d", 1);
    CHECK(b.failed);
    CHECK_EQ(b.n, 5);
    buf_deinit(&b);
}
