/* test_api_error.c - what goes wrong below reaches clients as the right status and words. */
#include "api/api_error.h"
#include "test.h"

static unsigned http_of(status code, gen_fault fault, const char *want_code) {
    api_fault f;
    gen_event e = {.kind = GEN_ERROR,
                   .error = {.code = code, .fault = fault, .have = 200, .limit = 128}};
    api_fault_from_event(&f, &e);
    const api_error_row *row = api_error_row_of(f.kind);
    CHECK_STR(row->code, want_code);
    return row->http_status;
}

TEST(api_error_maps_every_fault) {
    CHECK_EQ(http_of(ERR_LIMIT, GEN_FAULT_CONTEXT_LENGTH, "context_length_exceeded"), 400);
    CHECK_EQ(http_of(ERR_BUSY, GEN_FAULT_QUEUE_FULL, "queue_full"), 503);
    CHECK_EQ(http_of(ERR_INVALID, GEN_FAULT_PROMPT, "invalid_prompt"), 400);
    CHECK_EQ(http_of(ERR_UNSUPPORTED, GEN_FAULT_TEMPLATE, "chat_template_unusable"), 400);
    CHECK_EQ(http_of(ERR_INVALID, GEN_FAULT_TEMPLATE, "chat_template_error"), 400);
    CHECK_EQ(http_of(ERR_BUSY, GEN_FAULT_DRAINING, "draining"), 503);
    CHECK_EQ(http_of(ERR_NOMEM, GEN_FAULT_NONE, "out_of_memory"), 503);
    CHECK_EQ(http_of(ERR_DEVICE, GEN_FAULT_NONE, "device_error"), 500);
    CHECK_EQ(http_of(ERR_INVALID, GEN_FAULT_NONE, "invalid_value"), 400);
    CHECK_EQ(http_of(ERR_TIMEOUT, GEN_FAULT_NONE, "timeout"), 504);
    CHECK_EQ(http_of(ERR_INTERNAL, GEN_FAULT_NONE, "internal_error"), 500);
}

TEST(api_error_has_a_row_for_every_status_and_kind) {
    for (int code = ERR_NOMEM; code < STATUS_COUNT; code++) {
        for (int fault = 0; fault < GEN_FAULT_END; fault++) {
            api_fault f;
            gen_event e = {.error = {.code = (status)code, .fault = (gen_fault)fault}};
            api_fault_from_event(&f, &e);
            CHECK(f.kind != API_OK && f.message[0] != '\0');
        }
    }
    for (int kind = API_INVALID; kind < API_KIND_COUNT; kind++) {
        const api_error_row *row = api_error_row_of((api_kind)kind);
        CHECK(row->http_status >= 400 && row->http_status <= 599);
        CHECK(row->type != NULL && row->code != NULL);
    }
}

TEST(api_error_says_both_counts_of_a_prompt_that_is_too_long) {
    api_fault f;
    gen_event e = {
        .error = {.code = ERR_LIMIT, .fault = GEN_FAULT_CONTEXT_LENGTH, .have = 200, .limit = 128}};
    api_fault_from_event(&f, &e);
    CHECK_HAS(f.message, "200");
    CHECK_HAS(f.message, "128");
}

TEST(api_error_body_is_json_whatever_the_message) {
    api_fault f;
    buf out;
    buf_init(&out, 4096);
    (void)api_fault_set(&f, API_INVALID, "stop[1]", "a \"quote\", a line\n and \xff");
    api_error_write(&out, &f);
    buf_put_char(&out, '\0');
    CHECK_STR(out.p, "{\"error\":{\"message\":\"a \\\"quote\\\", a line\\n and \xef\xbf\xbd\","
                     "\"type\":\"invalid_request_error\",\"param\":\"stop[1]\","
                     "\"code\":\"invalid_value\"}}");
    buf_deinit(&out);
}

TEST(api_error_keeps_the_path_of_a_message_that_is_wrong) {
    api_fault f;
    gen_event e = {.error = {.code = ERR_INVALID, .fault = GEN_FAULT_PROMPT}};
    e.error.message = S("messages[2].content: want string, found number");
    api_fault_from_event(&f, &e);
    CHECK_STR(f.param, "messages[2].content");
    e.error.message = S("prompt ids: empty");
    api_fault_from_event(&f, &e);
    CHECK_STR(f.param, "");
}
