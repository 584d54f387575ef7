/* test_roofline_api.c - GET /debug/roofline with the test as the model's role, and what an entry's
 * speed comes to. */
#include <unistd.h>

#include "api/roofline.h"
#include "base/os.h"
#include "rig.h"
#include "test.h"

#define ROOF "/debug/roofline"

enum { WAIT_MS = 5000 };

static profile_order next_order(rig *r) {
    profile_order o = {0};
    str body = {0};
    error err = {0};
    CHECK_EQ(rig_next(r, WAIT_MS, &body), WIRE_PROFILE);
    CHECK_EQ(wire_get_profile(body, &o, &err), OK);
    return o;
}

static void send_report(rig *r, const profile_report *report) {
    wire_put_profile_report(&r->out, report);
    rig_raw(r, r->out.p, (uint32_t)r->out.n);
    buf_clear(&r->out);
}

/* A decode step of 1000 ns: 600 of a product with 1000 bytes and 100 operations, 100 of help.
 * Memory gives 10 GB/s. */
static void send_decode(rig *r, uint32_t id) {
    buf entries;
    buf_init(&entries, 4096);
    wire_profile_entry_put(&entries, &(profile_entry){.arith = 1,
                                                      .tasks = 2,
                                                      .ops = 4,
                                                      .ns = 600,
                                                      .weight_bytes = 700,
                                                      .value_bytes = 200,
                                                      .cache_bytes = 100,
                                                      .flops = 100,
                                                      .name = S("k_gemv"),
                                                      .kinds = S("MATMUL+ADD"),
                                                      .what = S("ffn_down Q4_K")});
    wire_profile_entry_put(&entries, &(profile_entry){.arith = 1, .tasks = 1, .ns = 100});
    profile_report report = {.id = id,
                             .decode = {.steps = 3,
                                        .rows = 1,
                                        .ns = 1000,
                                        .places_count = 1,
                                        .places = {{.where = "cuda", .ops = 4}},
                                        .entries = buf_view(&entries)}};
    report.decode.places[0].limits[0] = (profile_limit){10000000000, "bus"};
    send_report(r, &report);
    buf_deinit(&entries);
}

static int ask(const rig *r, const char *path) {
    char text[256];
    int fd = web_open(r);
    (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    web_send(fd, text);
    return fd;
}

static void check_read(int fd, int want, const char *const *words, uint32_t count) {
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, want);
    for (uint32_t i = 0; i < count; i++) CHECK_HAS(a.body, words[i]);
    web_answer_free(&a);
    (void)close(fd);
}

static void check_refused(const rig *r, const char *path, int want, const char *words) {
    web_answer a = web_ask(r, "GET", path, "", NULL);
    CHECK_EQ(a.status, want);
    CHECK_HAS(a.body, words);
    web_answer_free(&a);
}

TEST(roofline_api_waits_for_the_report_and_writes_it) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = ask(&r, "/v1" ROOF "?steps=3&seconds=2");
    profile_order o = next_order(&r);
    CHECK(o.steps == 3 && o.ms_max == 2000);
    CHECK(!web_has(fd, 50));
    check_refused(&r, ROOF, 409, "measured already");
    send_decode(&r, o.id);
    static const char *const words[] = {
        "\"steps\":3",
        "\"prompt\":null",
        "\"rest_us\":0.3",
        "\"ops\":[\"MATMUL\",\"ADD\"]",
        "\"bytes\":1000",
        "\"limit\":\"bus\"",
        "\"limit_fraction\":0.16666", /* 100 ns of 600 */
        "\"what\":\"ffn_down Q4_K\"",
        "\"limit\":null",
    };
    check_read(fd, 200, words, sizeof words / sizeof words[0]);
    fd = ask(&r, ROOF); /* and again, with what is asked for when nothing is said */
    profile_order next = next_order(&r);
    CHECK(next.id != o.id && next.steps == ROOFLINE_STEPS &&
          next.ms_max == ROOFLINE_SECONDS * 1000);
    send_report(&r, &(profile_report){.id = next.id});
    static const char *const idle[] = {"\"steps\":0", "\"prompt\":null", "\"decode\":null"};
    check_read(fd, 200, idle, 3);
    rig_close(&r);
}

TEST(roofline_api_refuses_what_it_does_not_understand) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    check_refused(&r, ROOF "?steps=0", 400, "from 1 to 64");
    check_refused(&r, ROOF "?steps=65", 400, "'65'");
    check_refused(&r, ROOF "?steps=x", 400, "steps");
    check_refused(&r, ROOF "?seconds=31", 400, "from 1 to 30");
    check_refused(&r, ROOF "?model=nobody", 404, "nobody");
    str body;
    CHECK_EQ(rig_next(&r, 50, &body), WIRE_TYPE_END); /* nothing went down */
    rig_close(&r);
    rig_open_silent(&r, (front_options){0}, 0);
    check_refused(&r, ROOF, 503, "loading");
    rig_close(&r);
}

TEST(roofline_api_needs_the_key_when_there_is_one) {
    rig r;
    rig_open(&r, (front_options){.api_key = "secret"}, 0);
    check_refused(&r, ROOF, 401, "invalid_api_key");
    rig_close(&r);
}

TEST(roofline_api_says_why_nothing_was_measured) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = ask(&r, ROOF);
    profile_order o = next_order(&r);
    send_report(&r, &(profile_report){.id = o.id,
                                      .code = ERR_UNSUPPORTED,
                                      .message = S("backend ref does not measure")});
    static const char *const words[] = {"does not measure"};
    check_read(fd, 400, words, 1);
    rig_close(&r);
}

/* Whoever hangs up leaves the order behind: the next call waits until its report is there. */
TEST(roofline_api_outlives_a_client_that_leaves_and_reports_that_make_no_sense) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    (void)close(ask(&r, ROOF));
    profile_order o = next_order(&r);
    send_report(&r, &(profile_report){.id = o.id + 7}); /* nobody asked for that one */
    rig_raw(&r, "\3\0\0\0\10\14\0\0abc", 11);           /* and this is none */
    check_refused(&r, ROOF, 409, "measured already");
    send_report(&r, &(profile_report){.id = o.id});
    for (int i = 0; i < 100; i++) {
        int fd = ask(&r, ROOF);
        str body;
        const wire_type type = rig_next(&r, 50, &body);
        if (type == WIRE_PROFILE) {
            CHECK_EQ(wire_get_profile(body, &o, NULL), OK);
            send_report(&r, &(profile_report){.id = o.id});
            check_read(fd, 200, NULL, 0);
            rig_close(&r);
            return;
        }
        (void)close(fd);
    }
    CHECK(!"the report did not free the model");
    rig_close(&r);
}

/* A report that comes after all is nobody's, and not the next caller's. */
TEST(roofline_api_gives_a_report_up_in_the_end) {
    static _Atomic uint64_t clock_ns;
    rig r;
    clock_ns = os_now_ns();
    os_clock_set(&clock_ns);
    rig_open(&r, (front_options){0}, 0);
    int fd = ask(&r, ROOF "?seconds=1");
    const profile_order late = next_order(&r);
    CHECK(!web_has(fd, 300)); /* the server is done with the request by then, as its limits are */
    clock_ns += (1000 + ROOFLINE_LATE_MS - 10) * 1000000ull;
    CHECK(!web_has(fd, 50));
    clock_ns += 20 * 1000000ull;
    static const char *const words[] = {"not answered in time"};
    check_read(fd, 504, words, 1);
    fd = ask(&r, ROOF);
    const profile_order next = next_order(&r);
    send_report(&r, &(profile_report){.id = late.id});
    CHECK(!web_has(fd, 50));
    send_decode(&r, next.id);
    static const char *const answer[] = {"\"steps\":3"};
    check_read(fd, 200, answer, 1);
    os_clock_set(NULL);
    rig_close(&r);
}

TEST(roofline_rates_are_held_against_the_limit_that_binds) {
    profile_table t = {.steps = 1, .places_count = 1};
    t.places[0].limits[0] = (profile_limit){1000, "memory"};
    t.places[0].limits[1] = (profile_limit){500, "float"};
    profile_entry e = {.arith = 1, .ns = 2000000000, .weight_bytes = 800, .flops = 100};
    roofline_rate rate = roofline_rate_of(&t, &e);
    CHECK(rate.limit == &t.places[0].limits[0]);
    CHECK_EQ(rate.fraction * 1000, 400); /* 0.8 s of 2 s */
    CHECK(rate.bytes_per_s == 400 && rate.ops_per_s == 50);
    e.flops = 900; /* 1.8 s */
    rate = roofline_rate_of(&t, &e);
    CHECK(rate.limit == &t.places[0].limits[1]);
    CHECK_EQ(rate.fraction * 1000, 900);
    e.arith = 2; /* not known */
    CHECK(roofline_rate_of(&t, &e).limit == &t.places[0].limits[0]);
    e.ns = 0;
    rate = roofline_rate_of(&t, &e);
    CHECK(rate.bytes_per_s == 0 && rate.ops_per_s == 0 && rate.fraction == 0);
    e = (profile_entry){.arith = 2, .ns = 1, .flops = 5};
    CHECK(roofline_rate_of(&t, &e).limit == NULL);
}
