/* test_sse.c - sse.h: exact bytes of events. */
#include "net/sse.h"

#include "test.h"

TEST(sse_events_have_exactly_these_bytes) {
    buf b;
    buf_init(&b, 1024);
    sse_event(&b, S("{\"a\":1}"));
    CHECK(str_eq(buf_view(&b), S("data: {\"a\":1}\n\n")));
    buf_clear(&b);
    sse_event_named(&b, S("message_stop"), S("{}"));
    CHECK(str_eq(buf_view(&b), S("event: message_stop\ndata: {}\n\n")));
    buf_clear(&b);
    sse_done(&b);
    CHECK(str_eq(buf_view(&b), S("data: [DONE]\n\n")));
    buf_clear(&b);
    sse_comment(&b, S("ping"));
    CHECK(str_eq(buf_view(&b), S(": ping\n\n")));
    buf_deinit(&b);
}
