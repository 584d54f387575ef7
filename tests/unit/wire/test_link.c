/* test_link.c - link.h: frames pass a ring that is too small for all of them at once. */
#include "base/os.h"
#include "test.h"
#include "wire/link.h"
#include "wire/wire.h"

#include <errno.h>

TEST(link_flush_sends_what_fits_and_keeps_the_rest) {
    wire_link l;
    buf out, in;
    CHECK_EQ(link_open(&l, 64, 64, NULL), OK);
    buf_init(&out, SIZE_MAX);
    buf_init(&in, SIZE_MAX);
    for (uint64_t i = 0; i < 50; i++) wire_put_credit(&out, &(gen_credit){.id = i, .tokens = 1});
    uint64_t next = 0;
    for (unsigned turn = 0; turn < 100; turn++) {
        bool empty = link_flush(l.down, &out), got = true;
        CHECK_EQ(empty, out.n == 0);
        while (got) {
            CHECK_EQ(link_recv(l.down, &in, &got, NULL), OK);
            if (!got) break;
            wire_type type = WIRE_TYPE_END;
            str body = {0};
            gen_credit c = {0};
            CHECK_EQ(wire_open(buf_view(&in), &type, &body, NULL), OK);
            CHECK_EQ(wire_get_credit(body, &c, NULL), OK);
            CHECK_EQ(c.id, next++);
        }
        if (empty) break;
        CHECK(turn < 49);
    }
    CHECK_EQ(next, 50);
    CHECK(link_flush(l.down, &out));
    buf_deinit(&out);
    buf_deinit(&in);
    link_close(&l);
}

TEST(link_directions_are_apart) {
    wire_link l;
    buf out, in;
    bool got = true;
    CHECK_EQ(link_open(&l, 256, 256, NULL), OK);
    buf_init(&out, SIZE_MAX);
    buf_init(&in, SIZE_MAX);
    wire_put_drain(&out);
    CHECK(link_flush(l.up, &out));
    CHECK_EQ(link_recv(l.down, &in, &got, NULL), OK);
    CHECK(!got);
    CHECK_EQ(link_recv(l.up, &in, &got, NULL), OK);
    CHECK(got && in.n == WIRE_HEADER_BYTES);
    buf_deinit(&out);
    buf_deinit(&in);
    link_close(&l);
}

TEST(link_drops_a_frame_the_receiver_may_not_hold) {
    wire_link l;
    buf out, in;
    bool got = false;
    error err = {0};
    CHECK_EQ(link_open(&l, 4096, 64, NULL), OK);
    buf_init(&out, SIZE_MAX);
    buf_init(&in, 32);
    wire_put_model(&out, &(model_desc){0});
    wire_put_drain(&out);
    CHECK(link_flush(l.down, &out));
    CHECK_EQ(link_recv(l.down, &in, &got, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "32");
    CHECK_EQ(link_recv(l.down, &in, &got, &err), OK);
    CHECK(got && in.n == WIRE_HEADER_BYTES);
    CHECK_EQ(link_recv(l.down, &in, &got, &err), OK);
    CHECK(!got);
    buf_deinit(&out);
    buf_deinit(&in);
    link_close(&l);
}

TEST(link_open_gives_everything_back_when_it_fails) {
    wire_link l;
    for (int after = 0; after < 4; after++) {
        os_fail_after(OS_CALL_EVENT, after, EMFILE);
        CHECK_EQ(link_open(&l, 64, 64, NULL), ERR_IO);
        CHECK(l.down == NULL && l.up == NULL);
        os_fail_after(OS_CALL_EVENT, -1, 0);
    }
}
