/* test_front_tools.c - tool calls that come up from a role, in plain and streamed answers. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "test.h"

#define CHAT  "/v1/chat/completions"
#define HI    "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"

static void rig_call(rig *r, uint64_t id, uint16_t choice, uint32_t index, const char *call_id,
                     const char *name, const char *arguments) {
    gen_event e = {.id = id, .choice = choice, .kind = GEN_CALL};
    e.call.index = index;
    e.call.id = str_of(call_id);
    e.call.name = str_of(name);
    e.call.arguments = str_of(arguments);
    rig_event(r, &e);
}

/* The request that a client on `fd` sends, as the role below sees it. */
static uint64_t ask_with_tools(rig *r, int fd, const char *more) {
    char body[512];
    (void)snprintf(body, sizeof body, "{" HI "," TOOLS "%s}", more);
    web_post(fd, CHAT, body);
    gen_request q = rig_request(r);
    rig_accept(r, q.id, 5);
    return q.id;
}

TEST(front_tools_plain_answers_have_calls_and_null_content) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    uint64_t id = ask_with_tools(&r, fd, ",\"n\":2");
    rig_text(&r, id, 0, 9, "");
    rig_call(&r, id, 0, 0, "call_a", "f", "{\"s\":");
    rig_call(&r, id, 0, 0, "", "", "\"\xc3\xb6\"}");
    rig_call(&r, id, 0, 1, "call_b", "g", "{}");
    rig_text(&r, id, 1, 1, "no");
    rig_finish(&r, id, 0, GEN_FINISH_EOS);
    rig_finish(&r, id, 1, GEN_FINISH_EOS);
    rig_usage(&r, id, 5, 10);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,"
                      "\"refusal\":null,\"tool_calls\":[{\"id\":\"call_a\",\"type\":\"function\","
                      "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"s\\\":\\\"\xc3\xb6\\\"}\"}"
                      "},{\"id\":\"call_b\",\"type\":\"function\",\"function\":{\"name\":\"g\","
                      "\"arguments\":\"{}\"}}]},\"logprobs\":null,"
                      "\"finish_reason\":\"tool_calls\"}");
    CHECK_HAS(a.body, "\"content\":\"no\",\"refusal\":null},\"logprobs\":null,"
                      "\"finish_reason\":\"stop\"}");
    CHECK_HAS(a.body, "\"completion_tokens\":10");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_tools_an_answer_that_was_cut_off_says_length) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    uint64_t id = ask_with_tools(&r, fd, "");
    rig_text(&r, id, 0, 3, "so");
    rig_call(&r, id, 0, 0, "call_a", "f", "{}");
    rig_finish(&r, id, 0, GEN_FINISH_LENGTH);
    rig_usage(&r, id, 5, 3);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "\"content\":\"so\"");
    CHECK_HAS(a.body, "\"tool_calls\":[{\"id\":\"call_a\"");
    CHECK_HAS(a.body, "\"finish_reason\":\"length\"");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_tools_streams_begin_a_call_and_then_give_its_arguments) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    uint64_t id = ask_with_tools(&r, fd, ",\"stream\":true");
    rig_text(&r, id, 0, 1, "so");
    rig_call(&r, id, 0, 0, "call_a", "f", "{\"a\":");
    rig_call(&r, id, 0, 0, "", "", "1}");
    rig_call(&r, id, 0, 1, "call_b", "g", "{}");
    rig_finish(&r, id, 0, GEN_FINISH_CALL);
    rig_usage(&r, id, 5, 3);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "\"delta\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null}");
    CHECK_HAS(a.body, "\"delta\":{\"content\":\"so\"}");
    CHECK_HAS(a.body, "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_a\",\"type\":"
                      "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}");
    CHECK_HAS(a.body, "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                      "\"{\\\"a\\\":\"}}]}");
    CHECK_HAS(a.body,
              "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}");
    CHECK_HAS(a.body, "\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"call_b\"");
    CHECK_HAS(a.body, "\"finish_reason\":\"tool_calls\"");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

/* What a role may not say of calls. */
static void say_nonsense(rig *r, uint64_t id, int how) {
    if (how == 0) rig_call(r, id, 0, 1, "call_a", "f", "{}"); /* the second one first */
    if (how == 1) rig_call(r, id, 0, 0, "", "", "{}");        /* arguments of nothing */
    if (how == 2) rig_call(r, id, 1, 0, "call_a", "f", "{}"); /* a choice too many */
    if (how == 3) {
        rig_call(r, id, 0, 0, "call_a", "f", "{}");
        rig_call(r, id, 0, 0, "call_a", "f", "{}");
    }
    if (how == 4) {
        rig_finish(r, id, 0, GEN_FINISH_EOS);
        rig_call(r, id, 0, 0, "call_a", "f", "{}");
    }
}

TEST(front_tools_refuses_calls_that_make_no_sense) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    for (int how = 0; how < 6; how++) {
        int fd = web_open(&r);
        uint64_t id = 0;
        if (how < 5) {
            id = ask_with_tools(&r, fd, "");
            say_nonsense(&r, id, how);
        } else { /* without tools there are no calls */
            web_post(fd, CHAT, "{" HI "}");
            id = rig_request(&r).id;
            rig_accept(&r, id, 5);
            rig_call(&r, id, 0, 0, "call_a", "f", "{}");
        }
        CHECK(rig_cancel(&r).id == id);
        web_answer a = web_read(fd);
        CHECK_EQ(a.status, 500);
        web_answer_free(&a);
        rig_error(&r, id, ERR_CANCELED, GEN_FAULT_NONE, 0, 0);
        (void)close(fd);
    }
    rig_close(&r);
}

TEST(front_tools_limits_the_calls_of_a_plain_reply) {
    rig r;
    rig_open(&r, (front_options){.reply_bytes_max = 64}, 0);
    int fd = web_open(&r);
    uint64_t id = ask_with_tools(&r, fd, "");
    rig_call(&r, id, 0, 0, "call_a", "f", "{\"a\":\"0123456789012345678901234567890123456789");
    rig_call(&r, id, 0, 0, "", "", "0123456789012345678901234567890123456789\"}");
    CHECK(rig_cancel(&r).id == id);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "a reply that is not streamed may have 64");
    web_answer_free(&a);
    rig_error(&r, id, ERR_CANCELED, GEN_FAULT_NONE, 0, 0);
    (void)close(fd);
    rig_close(&r);
}
