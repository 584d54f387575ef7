/* test_error.c - error.h: every code has its name, a message may quote the one before. */
#include "base/error.h"
#include "test.h"

TEST(error_names_every_status) {
    CHECK_STR(status_name(OK), "OK");
    CHECK_STR(status_name(ERR_NOT_FOUND), "ERR_NOT_FOUND");
    CHECK_STR(status_name(ERR_INTERNAL), "ERR_INTERNAL");
    CHECK_STR(status_name(STATUS_COUNT), "?");
    CHECK_STR(status_name((status)-1), "?");
    for (int i = 1; i < STATUS_COUNT; i++) CHECK_HAS(status_name((status)i), "ERR_");
}

TEST(error_set_fills_code_and_text) {
    error err = {0};
    CHECK_EQ(error_set(&err, ERR_LIMIT, "room: %d of %d", 3, 2), ERR_LIMIT);
    CHECK_EQ(err.code, ERR_LIMIT);
    CHECK_STR(err.msg, "room: 3 of 2");
}

TEST(error_set_takes_no_error) { CHECK_EQ(error_set(NULL, ERR_IO, "x"), ERR_IO); }

TEST(error_can_be_put_into_itself) {
    error err = {0};
    (void)error_set(&err, ERR_IO, "inner");
    (void)error_set(&err, ERR_FORMAT, "outer: %s", err.msg);
    CHECK_STR(err.msg, "outer: inner");
    for (int i = 0; i < 200; i++) (void)error_set(&err, ERR_FORMAT, "again: %s", err.msg);
    CHECK_EQ(strlen(err.msg), sizeof err.msg - 1);
    CHECK_HAS(err.msg, "again: again: ");
}

static status forwards(status st, int *reached) {
    TRY(st);
    *reached = 1;
    return OK;
}

TEST(error_try_forwards_only_failures) {
    int reached = 0;
    CHECK_EQ(forwards(ERR_BUSY, &reached), ERR_BUSY);
    CHECK_EQ(reached, 0);
    CHECK_EQ(forwards(OK, &reached), OK);
    CHECK_EQ(reached, 1);
}
