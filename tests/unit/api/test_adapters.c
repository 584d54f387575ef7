/* test_adapters.c - adapters over HTTP with the test as the model's role: what goes down, who waits
 * for which answer, and what requests use. */
#include <unistd.h>

#include "api/door.h"
#include "base/os.h"
#include "rig.h"
#include "test.h"

#define JSON "Content-Type: application/json\r\n"
#define LOAD "/v1/load_lora_adapter"

enum { WAIT_MS = 5000, QUIET_MS = 60 };

/* --- below -------------------- */

static adapter_order next_order(rig *r) {
    adapter_order o = {0};
    str body = {0};
    error err = {0};
    CHECK_EQ(rig_next(r, WAIT_MS, &body), WIRE_ADAPTER);
    CHECK_EQ(wire_get_adapter(body, &o, &err), OK);
    return o;
}

static void tell_state(rig *r, uint32_t number, bool loaded, status code, const char *message) {
    adapter_state s = {.adapter = number, .loaded = loaded, .code = code};
    if (loaded) s.rank = 8, s.weights = 14, s.bytes = 1234;
    s.message = str_of(message);
    wire_put_adapter_state(&r->out, &s);
    rig_raw(r, r->out.p, (uint32_t)r->out.n);
    buf_clear(&r->out);
}

/* --- above -------------------- */

static void check_answer(int fd, int want, const char *words) {
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, want);
    CHECK_HAS(a.body, words);
    web_answer_free(&a);
    (void)close(fd);
}

static void check_ask(rig *r, const char *path, const char *body, int want, const char *words) {
    web_answer a = web_ask(r, body != NULL ? "POST" : "GET", path, JSON, body);
    CHECK_EQ(a.status, want);
    CHECK_HAS(a.body, words);
    web_answer_free(&a);
}

static int post(rig *r, const char *path, const char *body) {
    int fd = web_open(r);
    web_post(fd, path, body);
    return fd;
}

/* Load an adapter to the end; its number. */
static uint32_t load(rig *r, const char *name) {
    char body[256];
    (void)snprintf(body, sizeof body, "{\"lora_name\":\"%s\",\"lora_path\":\"/a/b/%s.gguf\"}", name,
                   name);
    int fd = post(r, LOAD, body);
    adapter_order o = next_order(r);
    CHECK(o.load && str_starts(o.path, S("/a/b/")));
    uint32_t number = o.adapter;
    CHECK(!web_has(fd, QUIET_MS));
    tell_state(r, number, true, OK, "");
    check_answer(fd, 200, "Success: LoRA adapter '");
    return number;
}

/* --- orders -------------------- */

TEST(adapters_are_loaded_listed_and_unloaded) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    uint32_t number = load(&r, "poet");
    check_ask(&r, "/v1/models", NULL, 200,
              "\"owned_by\":\"gantry\",\"root\":\"poet.gguf\",\"parent\":\"tiny\"");
    check_ask(&r, "/v1/models/poet", NULL, 200, "{\"id\":\"poet\",\"object\":\"model\"");
    check_ask(&r, "/lora-adapters", NULL, 200,
              "[{\"id\":0,\"path\":\"poet.gguf\",\"scale\":0,\"name\":\"poet\",\"model\":\"tiny\","
              "\"rank\":8,\"matrices\":14,\"bytes\":1234}]");
    int fd = post(&r, "/v1/unload_lora_adapter", "{\"lora_name\":\"poet\"}");
    adapter_order o = next_order(&r);
    CHECK(!o.load && o.adapter == number);
    check_ask(&r, "/lora-adapters", NULL, 200, "[]"); /* nobody finds it any more */
    check_ask(&r, LOAD, "{\"lora_name\":\"poet\",\"lora_path\":\"/x\"}", 400, "is in use");
    tell_state(&r, number, false, OK, "");
    check_answer(fd, 200, "Success: LoRA adapter 'poet' removed successfully.");
    CHECK_EQ(load(&r, "poet"), number + 1); /* a new number */
    rig_close(&r);
}

TEST(adapters_that_do_not_load_say_why) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = post(&r, LOAD, "{\"lora_name\":\"bad\",\"lora_path\":\"/x\"}");
    tell_state(&r, next_order(&r).adapter, false, ERR_FORMAT, "lora: 'blk.0.attn_q.weight' has 3");
    check_answer(fd, 400,
                 "\"message\":\"lora: 'blk.0.attn_q.weight' has 3\",\"type\":"
                 "\"invalid_request_error\",\"param\":\"lora_path\"");
    check_ask(&r, "/lora-adapters", NULL, 200, "[]");
    (void)load(&r, "bad"); /* the name is free */
    rig_close(&r);
}

TEST(adapters_refuse_orders_that_make_no_sense) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    check_ask(&r, LOAD, "{\"lora_path\":\"/x\"}", 400, "lora_name");
    check_ask(&r, LOAD, "{\"lora_name\":\"a\"}", 400, "lora_path");
    check_ask(&r, LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"\"}", 400, "lora_path");
    check_ask(&r, LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"x\\u0000y\"}", 400, "lora_path");
    check_ask(&r, LOAD, "{\"lora_name\":\"../a\",\"lora_path\":\"/x\"}", 400, "no name");
    check_ask(&r, LOAD, "{\"lora_name\":\"tiny\",\"lora_path\":\"/x\"}", 400, "is in use");
    check_ask(&r, LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"/x\",\"model\":\"b\"}", 404, "'b'");
    check_ask(&r, LOAD, "{\"lora_name\":\"a\",\"lora_path\":\"/x\",\"load_inplace\":true}", 400,
              "load_inplace");
    check_ask(&r, LOAD, "[]", 400, "object");
    check_ask(&r, LOAD, "{", 400, "error");
    check_ask(&r, "/v1/unload_lora_adapter", "{\"lora_name\":\"a\"}", 404, "no adapter 'a'");
    str body;
    CHECK_EQ(rig_next(&r, 0, &body), WIRE_TYPE_END);
    rig_close(&r);
}

TEST(adapters_outlive_the_client_that_loads_them) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = post(&r, LOAD, "{\"lora_name\":\"poet\",\"lora_path\":\"/x/\"}");
    uint32_t number = next_order(&r).adapter;
    check_ask(&r, "/v1/unload_lora_adapter", "{\"lora_name\":\"poet\"}", 503, "being loaded");
    (void)close(fd);
    os_sleep_ms(QUIET_MS);
    tell_state(&r, number, true, OK, "");
    for (int i = 0; i < 500; i++) {
        web_answer a = web_ask(&r, "GET", "/v1/models/poet", "", NULL);
        bool there = a.status == 200;
        web_answer_free(&a);
        if (there) break;
        os_sleep_ms(5);
    }
    check_ask(&r, "/v1/models/poet", NULL, 200, "\"root\":\"x\"");
    rig_close(&r);
}

TEST(adapters_states_that_make_no_sense_are_counted_and_survived) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    tell_state(&r, 77, true, OK, "");
    uint32_t number = load(&r, "poet");
    tell_state(&r, number, false, ERR_INTERNAL, "gone");
    wire_put_adapter_state(&r.out, &(adapter_state){.adapter = number});
    rig_raw(&r, r.out.p, WIRE_HEADER_BYTES);
    buf_clear(&r.out);
    check_ask(&r, "/v1/models/poet", NULL, 200, "poet");
    rig_close(&r);
}

/* --- requests -------------------- */

/* What a completion with these further fields uses: "7*0.5 9*1", or the answer's error. */
static void check_uses(rig *r, const char *fields, const char *want, const char *model) {
    char body[512], got[256] = "";
    (void)snprintf(body, sizeof body, "{\"prompt\":\"x\"%s}", fields);
    int fd = post(r, "/v1/completions", body);
    gen_request q = rig_request(r);
    for (uint32_t i = 0; i < q.adapters.count; i++)
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%u*%g", i > 0 ? " " : "",
                       (unsigned)wire_i32_at(q.adapters, i),
                       (double)wire_f32_at(q.adapter_scales, i));
    CHECK_STR(got, want);
    rig_accept(r, q.id, 1);
    rig_finish(r, q.id, 0, GEN_FINISH_EOS);
    rig_usage(r, q.id, 1, 0);
    check_answer(fd, 200, model);
}

static void check_refused(rig *r, const char *fields, int want, const char *words) {
    char body[512];
    (void)snprintf(body, sizeof body, "{\"prompt\":\"x\"%s}", fields);
    check_ask(r, "/v1/completions", body, want, words);
}

TEST(adapters_are_chosen_by_model_by_list_or_by_default) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    (void)load(&r, "poet");
    (void)load(&r, "clerk");
    const char *tiny = "\"model\":\"tiny\"", *clerk = "\"model\":\"clerk\"";
    check_uses(&r, "", "", tiny);
    check_uses(&r, ",\"model\":\"clerk\"", "1*1", clerk);
    check_uses(&r, ",\"lora\":[{\"id\":0,\"scale\":0.5}]", "0*0.5", tiny);
    check_uses(&r, ",\"lora\":[{\"name\":\"clerk\"},{\"id\":0,\"scale\":-2}]", "1*1 0*-2", tiny);
    check_uses(&r, ",\"lora\":[{\"id\":0,\"scale\":0}]", "", tiny);
    check_ask(&r, "/lora-adapters", "[{\"id\":1,\"scale\":0.25}]", 200, "{\"success\":true}");
    check_uses(&r, "", "1*0.25", tiny);
    check_uses(&r, ",\"lora\":null", "1*0.25", tiny);
    check_uses(&r, ",\"lora\":[]", "", tiny);
    check_uses(&r, ",\"model\":\"poet\"", "0*1", "\"model\":\"poet\"");
    check_ask(&r, "/lora-adapters", NULL, 200, "\"scale\":0.25,\"name\":\"clerk\"");
    check_ask(&r, "/v1/lora-adapters", "[{\"name\":\"poet\",\"scale\":2}]", 200, "true");
    check_uses(&r, "", "0*2", tiny);
    check_ask(&r, "/lora-adapters", "[]", 200, "true");
    check_uses(&r, "", "", tiny);
    rig_close(&r);
}

TEST(adapters_that_are_not_there_are_refused_by_name) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    (void)load(&r, "poet");
    check_refused(&r, ",\"model\":\"clerk\"", 404, "no model 'clerk'");
    check_refused(&r, ",\"lora\":[{\"id\":5}]", 404, "lora[0]: no adapter '5' for model 'tiny'");
    check_refused(&r, ",\"lora\":[{\"name\":\"x\"}]", 404, "no adapter 'x'");
    check_refused(&r, ",\"lora\":[{\"id\":0},{\"name\":\"poet\"}]", 400, "lora[1]: adapter 'poet'");
    check_refused(&r, ",\"lora\":[{}]", 400, "want one of 'id' and 'name'");
    check_refused(&r, ",\"lora\":[{\"id\":0,\"name\":\"poet\"}]", 400, "want one of");
    check_refused(&r, ",\"lora\":[{\"id\":0,\"scale\":1e9}]", 400, "lora[0].scale");
    check_refused(&r, ",\"lora\":{\"id\":0}", 400, "lora");
    check_refused(&r, ",\"lora\":[1]", 400, "lora[0]");
    check_refused(&r, ",\"lora\":[1,1,1,1,1,1,1,1,1]", 400, "lora");
    check_refused(&r, ",\"model\":\"poet\",\"lora\":[{\"id\":0}]", 400, "is an adapter already");
    check_ask(&r, "/lora-adapters", "[{\"id\":3,\"scale\":1}]", 400, "no such adapter");
    check_ask(&r, "/lora-adapters", "[{\"id\":0}]", 400, "scale");
    check_ask(&r, "/lora-adapters", "{}", 400, "array");
    rig_close(&r);
}

TEST(adapters_of_every_request_are_eight_at_most) {
    rig r;
    char body[512] = "[", name[16];
    rig_open(&r, (front_options){0}, 0);
    for (uint32_t i = 0; i < 9; i++) {
        (void)snprintf(name, sizeof name, "a%u", i);
        (void)load(&r, name);
        (void)snprintf(body + strlen(body), sizeof body - strlen(body), "%s{\"id\":%u,\"scale\":1}",
                       i > 0 ? "," : "", i);
    }
    (void)snprintf(body + strlen(body), sizeof body - strlen(body), "]");
    check_ask(&r, "/lora-adapters", body, 400, "9 adapters for every request to 'tiny', at most 8");
    check_uses(&r, "", "", "tiny");
    rig_close(&r);
}

/* --- the command line's -------------------- */

TEST(adapters_of_the_command_line_are_there_at_once) {
    rig r = {0};
    error err = {0};
    front_options o = {.http = {.host = "127.0.0.1"}};
    CHECK_EQ(link_open(&r.link, 1 << 20, 1 << 20, &err), OK);
    CHECK_EQ(front_open(&r.front, &o, &err), OK);
    CHECK_EQ(front_add_model(r.front, "tiny", &r.link, &err), OK);
    CHECK_EQ(front_add_adapter(r.front, "poet", "/x/poet", 0.5f, &err), OK);
    CHECK_EQ(front_add_adapter(r.front, "poet", "/x/poet", 0.5f, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "the name 'poet' is in use");
    CHECK_EQ(front_add_adapter(r.front, "tiny", "/x/poet", 0.5f, &err), ERR_INVALID);
    CHECK_EQ(front_add_adapter(r.front, "", "/x/poet", 0.5f, &err), ERR_INVALID);
    for (char name[] = "a"; name[0] < 'h'; name[0]++)
        CHECK_EQ(front_add_adapter(r.front, name, "/x", 1, &err), OK);
    CHECK_EQ(front_add_adapter(r.front, "h", "/x", 1, &err), ERR_LIMIT);
    CHECK_EQ(front_add_adapter(r.front, "h", "/x", 0, &err), OK);
    front_close(r.front);
    link_close(&r.link);
}

TEST(adapters_change_for_this_machine_or_for_the_key) {
    front_options open_to_all = {.http = {.host = NULL}};
    front_options guarded = {.http = {.host = NULL}, .api_key = "s3cret"};
    door d;
    api_fault f = {0};
    door_init(&d, &open_to_all);
    CHECK(door_change_ok(&d, S("127.0.0.1"), &f));
    CHECK(door_change_ok(&d, S("::1"), &f));
    CHECK(door_change_ok(&d, S("::ffff:127.0.0.1"), &f));
    CHECK(!door_change_ok(&d, S("10.0.0.7"), &f));
    CHECK_EQ(f.kind, API_FORBIDDEN);
    CHECK(!door_change_ok(&d, S("::ffff:10.0.0.7"), &f));
    CHECK(!door_change_ok(&d, S(""), &f));
    CHECK(!door_change_ok(&d, S("localhost"), &f));
    door_init(&d, &guarded);
    CHECK(door_change_ok(&d, S("10.0.0.7"), &f));
}
