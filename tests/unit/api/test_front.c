/* test_front.c - a front between a real client and a role made by the test: what leaves when,
 * in which form, and what happens when either side misbehaves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "rig.h"
#include "test.h"

#define CHAT "/v1/chat/completions"
#define JSON "Content-Type: application/json\r\n"
#define HI   "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

enum { QUIET_MS = 60 };

/* Answer a whole request of one choice. */
static void serve(rig *r, uint64_t id, const char *text) {
    rig_accept(r, id, 5);
    rig_text(r, id, 0, 3, text);
    rig_finish(r, id, 0, GEN_FINISH_EOS);
    rig_usage(r, id, 5, 3);
}

static void check_error(rig *r, const char *headers, const char *path, const char *body, int want,
                        const char *words) {
    web_answer a = web_ask(r, body != NULL ? "POST" : "GET", path, headers, body);
    CHECK_EQ(a.status, want);
    CHECK_HAS(a.body, "{\"error\":{\"message\":\"");
    CHECK_HAS(a.body, words);
    CHECK_HAS(a.head, "x-request-id: ");
    web_answer_free(&a);
}

/* --- generation --- */

TEST(front_answers_a_plain_chat) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"max_tokens\":4,\"user\":\"me\"}");
    gen_request q = rig_request(&r);
    CHECK_EQ(q.prompt, GEN_PROMPT_CHAT);
    CHECK(str_eq(q.text, S("[{\"role\":\"user\",\"content\":\"hi\"}]")));
    CHECK_EQ(q.sampling.tokens_max, 4);
    CHECK_EQ(q.credits, 256);
    CHECK(!web_has(fd, QUIET_MS));
    serve(&r, q.id, "Hel\xc3\xb6\n\"");
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.head, "X-Ignored-Params: user\r\n");
    CHECK_HAS(a.body, "{\"id\":\"chatcmpl-");
    CHECK_HAS(a.body, "\"object\":\"chat.completion\",\"created\":");
    CHECK_HAS(a.body, "\"model\":\"tiny\",\"system_fingerprint\":\"gantry-");
    CHECK_HAS(a.body, "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                      "\"Hel\xc3\xb6\\n\\\"\",\"refusal\":null},\"logprobs\":null,"
                      "\"finish_reason\":\"stop\"}]");
    CHECK_HAS(a.body, "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3,\"total_tokens\":8,"
                      "\"prompt_tokens_details\":{\"cached_tokens\":2");
    CHECK_HAS(a.body, "\"timings\":{\"queue_ms\":1");
    CHECK_HAS(a.body, "\"backend\":\"ref\",\"numerics\":\"exact\"}");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_streams_a_chat_and_says_nothing_before_it_is_accepted) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    gen_request q = rig_request(&r);
    CHECK(!web_has(fd, QUIET_MS));
    rig_accept(&r, q.id, 5);
    CHECK(web_has(fd, 2000)); /* the head, before any token */
    rig_text(&r, q.id, 0, 1, "a");
    rig_text(&r, q.id, 0, 1, ""); /* held back below: no chunk for nothing */
    rig_text(&r, q.id, 0, 1, "b");
    rig_finish(&r, q.id, 0, GEN_FINISH_LENGTH);
    rig_usage(&r, q.id, 5, 3);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK(a.whole);
    CHECK_HAS(a.head, "text/event-stream");
    const char *role = strstr(a.body, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"");
    const char *one = strstr(a.body, "\"delta\":{\"content\":\"a\"}");
    const char *two = strstr(a.body, "\"delta\":{\"content\":\"b\"}");
    const char *end = strstr(a.body, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"");
    const char *usage = strstr(a.body, "\"choices\":[],\"usage\":{\"prompt_tokens\":5");
    const char *done = strstr(a.body, "data: [DONE]\n\n");
    CHECK(role != NULL && role < one && one < two && two < end && end < usage && usage < done);
    CHECK(strstr(a.body, "\"delta\":{\"content\":\"\"}") == NULL);
    CHECK_HAS(end != NULL ? end : "", "\"timings\":{");
    CHECK_HAS(a.body, "\"usage\":null");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_keeps_choices_apart) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"n\":2}");
    gen_request q = rig_request(&r);
    CHECK_EQ(q.choices, 2);
    rig_accept(&r, q.id, 5);
    rig_text(&r, q.id, 1, 1, "one ");
    rig_text(&r, q.id, 0, 1, "zero");
    rig_finish(&r, q.id, 0, GEN_FINISH_STOP_STRING);
    rig_text(&r, q.id, 1, 1, "more");
    rig_finish(&r, q.id, 1, GEN_FINISH_CONTEXT);
    rig_usage(&r, q.id, 5, 3);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"zero\"");
    CHECK_HAS(a.body, "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"one more\"");
    CHECK_HAS(a.body, "\"finish_reason\":\"length\"");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

/* One event with a token that is half a character, and two alternatives. */
static void send_logprobs(rig *r, uint64_t id) {
    wire_logprob token = {.bytes = S("\xc3"), .id = 5, .logprob = -0.5f};
    wire_logprob top[2] = {{.bytes = S("\xc3"), .id = 5, .logprob = -0.5f},
                           {.bytes = S("x"), .id = 6, .logprob = -1.0f / 0.0f}};
    buf blob;
    buf_init(&blob, 4096);
    wire_logprob_put(&blob, &token, top, 2);
    gen_event e = {.id = id, .kind = GEN_TEXT};
    e.text.tokens = 1;
    e.text.text = S("\xc3\xb6");
    e.text.logprobs = buf_view(&blob);
    rig_event(r, &e);
    buf_deinit(&blob);
}

TEST(front_shows_log_probabilities_in_both_forms) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    for (int legacy = 0; legacy < 2; legacy++) {
        int fd = web_open(&r);
        web_post(fd, legacy ? "/v1/completions" : CHAT,
                 legacy ? "{\"prompt\":\"p\",\"logprobs\":2}"
                        : "{" HI ",\"logprobs\":true,\"top_logprobs\":2}");
        gen_request q = rig_request(&r);
        CHECK(q.sampling.logprobs);
        CHECK_EQ(q.sampling.top_logprobs, 2);
        rig_accept(&r, q.id, 5);
        send_logprobs(&r, q.id);
        rig_finish(&r, q.id, 0, GEN_FINISH_EOS);
        rig_usage(&r, q.id, 5, 1);
        web_answer a = web_read(fd);
        if (legacy)
            CHECK_HAS(a.body, "\"logprobs\":{\"tokens\":[\"bytes:\\\\xc3\"],"
                              "\"token_logprobs\":[-0.5],\"top_logprobs\":[{\"bytes:\\\\xc3\":-0.5,"
                              "\"x\":-9999");
        else
            CHECK_HAS(a.body, "\"logprobs\":{\"content\":[{\"token\":\"\xef\xbf\xbd\",\"logprob\":"
                              "-0.5,\"bytes\":[195],\"top_logprobs\":[{\"token\":");
        web_answer_free(&a);
        (void)close(fd);
    }
    rig_close(&r);
}

TEST(front_streams_log_probabilities_with_their_place_in_the_text) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, "/v1/completions", "{\"prompt\":\"p\",\"logprobs\":2,\"stream\":true}");
    gen_request q = rig_request(&r);
    rig_accept(&r, q.id, 5);
    send_logprobs(&r, q.id);
    send_logprobs(&r, q.id);
    rig_finish(&r, q.id, 0, GEN_FINISH_STOP_TOKEN);
    rig_usage(&r, q.id, 5, 2);
    web_answer a = web_read(fd);
    const char *first = strstr(a.body, "\"text_offset\":[0]");
    const char *second = strstr(a.body, "\"text_offset\":[1]");
    CHECK(first != NULL && second != NULL && first < second);
    CHECK_HAS(a.body, "\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\"");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_gives_back_the_credits_of_text_that_is_held_back_below) {
    rig r;
    rig_open(&r, (front_options){.credits = 32}, 0);
    int fd = web_open(&r);
    web_post(fd, "/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"stream\":true}");
    uint64_t one = rig_request(&r).id, two = rig_request(&r).id;
    rig_accept(&r, one, 5);
    rig_text(&r, one, 0, 16, ""); /* its whole window, without a byte for the client */
    rig_accept(&r, two, 5);
    CHECK(rig_credit(&r).id == one);
    rig_text(&r, one, 0, 16, "");
    CHECK(rig_credit(&r).id == one);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_sends_one_request_per_prompt_and_waits_for_all) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, "/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"stream\":true}");
    gen_request first = rig_request(&r);
    CHECK(str_eq(first.text, S("a")));
    uint64_t one = first.id, two = rig_request(&r).id;
    CHECK(one != two);
    rig_accept(&r, one, 5);
    rig_text(&r, one, 1, 1, "early");
    rig_finish(&r, one, 1, GEN_FINISH_EOS);
    rig_finish(&r, one, 0, GEN_FINISH_EOS);
    rig_usage(&r, one, 5, 1);
    CHECK(!web_has(fd, QUIET_MS));
    rig_accept(&r, two, 6);
    rig_text(&r, two, 0, 1, "late");
    rig_finish(&r, two, 0, GEN_FINISH_EOS);
    rig_finish(&r, two, 1, GEN_FINISH_EOS);
    rig_usage(&r, two, 6, 1);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "{\"index\":1,\"text\":\"early\"");
    CHECK_HAS(a.body, "{\"index\":2,\"text\":\"late\"");
    CHECK_HAS(a.body, "[DONE]");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_counts_offsets_after_an_echoed_prompt) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, "/v1/completions", "{\"prompt\":[1,2],\"echo\":true}");
    gen_request q = rig_request(&r);
    CHECK_EQ(q.prompt, GEN_PROMPT_IDS);
    CHECK_EQ(q.ids.count, 2);
    CHECK(q.echo);
    rig_accept(&r, q.id, 2);
    rig_text(&r, q.id, 0, 0, "once");
    rig_text(&r, q.id, 0, 1, " more");
    rig_finish(&r, q.id, 0, GEN_FINISH_EOS);
    rig_usage(&r, q.id, 2, 1);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "{\"index\":0,\"text\":\"once more\",\"logprobs\":null");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

/* --- errors from below --- */

TEST(front_maps_errors_before_acceptance_to_a_status) {
    static const struct {
        status code;
        gen_fault fault;
        int http;
        const char *words;
    } rows[] = {
        {ERR_LIMIT, GEN_FAULT_CONTEXT_LENGTH, 400, "\"code\":\"context_length_exceeded\""},
        {ERR_BUSY, GEN_FAULT_QUEUE_FULL, 503, "\"code\":\"queue_full\""},
        {ERR_INVALID, GEN_FAULT_PROMPT, 400, "what went wrong"},
        {ERR_UNSUPPORTED, GEN_FAULT_TEMPLATE, 400, "\"code\":\"chat_template_unusable\""},
        {ERR_BUSY, GEN_FAULT_DRAINING, 503, "\"code\":\"draining\""},
        {ERR_INTERNAL, GEN_FAULT_NONE, 500, "\"code\":\"internal_error\""},
        {ERR_NOMEM, GEN_FAULT_NONE, 503, "\"code\":\"out_of_memory\""},
    };
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r); /* one connection for all: errors keep it open */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        web_post(fd, CHAT, i % 2 ? "{" HI ",\"stream\":true}" : "{" HI "}");
        rig_error(&r, rig_request(&r).id, rows[i].code, rows[i].fault, 200, 128);
        web_answer a = web_read(fd);
        CHECK_EQ(a.status, rows[i].http);
        CHECK_HAS(a.body, rows[i].words);
        if (rows[i].fault == GEN_FAULT_CONTEXT_LENGTH) CHECK_HAS(a.body, "200 tokens");
        if (rows[i].http == 503) CHECK_HAS(a.head, "Retry-After: ");
        web_answer_free(&a);
    }
    (void)close(fd);
    rig_close(&r);
}

TEST(front_ends_a_stream_that_fails_with_an_error_event) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    uint64_t id = rig_request(&r).id;
    rig_accept(&r, id, 5);
    rig_text(&r, id, 0, 1, "a");
    rig_error(&r, id, ERR_DEVICE, GEN_FAULT_NONE, 0, 0);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "data: {\"error\":{\"message\":\"what went wrong\",\"type\":\"server_error\","
                      "\"param\":null,\"code\":\"device_error\"}}\n\n");
    CHECK(strstr(a.body, "[DONE]") == NULL);
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_cancels_the_other_prompts_when_one_fails) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, "/completions", "{\"prompt\":[\"a\",\"b\"]}");
    uint64_t one = rig_request(&r).id, two = rig_request(&r).id;
    rig_accept(&r, one, 5);
    rig_error(&r, two, ERR_LIMIT, GEN_FAULT_CONTEXT_LENGTH, 200, 128);
    CHECK(rig_cancel(&r).id == one);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 400);
    web_answer_free(&a);
    rig_finish(&r, one, 0, GEN_FINISH_CANCELED);
    rig_usage(&r, one, 5, 0);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_says_when_the_server_cancelled_a_generation) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    uint64_t id = rig_request(&r).id;
    rig_accept(&r, id, 5);
    rig_finish(&r, id, 0, GEN_FINISH_CANCELED);
    rig_usage(&r, id, 5, 0);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "\"code\":\"canceled\"");
    CHECK(strstr(a.body, "finish_reason\":\"stop") == NULL);
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

/* --- cancel, credits, back-pressure --- */

TEST(front_cancels_when_the_client_leaves) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    for (int stage = 0; stage < 3; stage++) {
        int fd = web_open(&r);
        web_post(fd, CHAT, stage == 2 ? "{" HI ",\"stream\":true}" : "{" HI "}");
        uint64_t id = rig_request(&r).id;
        if (stage > 0) rig_accept(&r, id, 5);
        if (stage > 0) rig_text(&r, id, 0, 1, "a");
        if (stage == 2) CHECK(web_has(fd, 2000));
        (void)close(fd);
        gen_cancel c = rig_cancel(&r);
        CHECK(c.id == id);
        CHECK_EQ(c.choice, GEN_CHOICE_ALL);
        rig_text(&r, id, 0, 1, "late"); /* crossed the CANCEL on its way */
        rig_finish(&r, id, 0, GEN_FINISH_CANCELED);
        rig_usage(&r, id, 5, 2);
        rig_text(&r, id, 0, 1, "much too late");
    }
    web_answer a = web_ask(&r, "GET", "/v1/metrics", "", NULL);
    CHECK_HAS(a.body, "client_disconnects_total 3\n");
    CHECK_HAS(a.body, "frames_unknown_request_total 3\n");
    CHECK_HAS(a.body, "{model=\"tiny\"} 7\n");
    web_answer_free(&a);
    rig_close(&r);
}

TEST(front_returns_credits_of_a_stream_that_is_read) {
    rig r;
    rig_open(&r, (front_options){.credits = 16}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    gen_request q = rig_request(&r);
    uint64_t id = q.id;
    uint32_t left = q.credits, sent = 0;
    CHECK_EQ(q.credits, 16);
    rig_accept(&r, id, 5);
    while (sent < 200) {
        while (left > 0) {
            rig_text(&r, id, 0, 1, "word ");
            left--;
            sent++;
        }
        gen_credit c = rig_credit(&r);
        CHECK(c.id == id);
        CHECK(c.tokens >= 8 && c.tokens <= 16);
        left += c.tokens;
        if (c.tokens == 0) break;
    }
    (void)close(fd);
    rig_close(&r);
}

TEST(front_gives_a_client_that_does_not_read_no_credits) {
    rig r;
    /* fat tokens: the window is used up while the socket still takes some of it, so the test
     * goes on until the socket is full */
    rig_open(&r, (front_options){.credits = 16, .http = {.stream_bytes_max = 8 << 20}}, 0);
    char *fat = malloc(100001);
    memset(fat, 'x', 100000);
    fat[100000] = '\0';
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    gen_request q = rig_request(&r);
    uint64_t id = q.id;
    uint32_t left = q.credits, total = 0;
    bool parked = false;
    rig_accept(&r, id, 5);
    while (!parked && total < 1000) {
        for (; left > 0; left--, total++) rig_text(&r, id, 0, 1, fat);
        str body;
        gen_credit c = {0};
        error err;
        parked = rig_next(&r, 300, &body) != WIRE_CREDIT;
        if (!parked) CHECK(wire_get_credit(body, &c, &err) == OK);
        left += c.tokens;
        CHECK(left <= 16);
    }
    CHECK(parked);
    web_answer h = web_ask(&r, "GET", "/health", "", NULL); /* nobody else waits */
    CHECK_EQ(h.status, 200);
    web_answer_free(&h);
    (void)close(fd);
    CHECK(rig_cancel(&r).id == id);
    free(fat);
    rig_close(&r);
}

TEST(front_returns_credits_of_a_plain_reply_on_receipt) {
    rig r;
    rig_open(&r, (front_options){.credits = 16}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI "}");
    uint64_t id = rig_request(&r).id;
    rig_accept(&r, id, 5);
    rig_text(&r, id, 0, 7, "a");
    str body;
    CHECK_EQ(rig_next(&r, QUIET_MS, &body), WIRE_TYPE_END); /* less than half a window */
    rig_text(&r, id, 0, 1, "b");
    CHECK_EQ(rig_credit(&r).tokens, 8);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_limits_a_plain_reply) {
    rig r;
    rig_open(&r, (front_options){.reply_bytes_max = 100}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI "}");
    uint64_t id = rig_request(&r).id;
    char text[81];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    rig_accept(&r, id, 5);
    rig_text(&r, id, 0, 1, text);
    rig_text(&r, id, 0, 1, text);
    CHECK(rig_cancel(&r).id == id);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 500);
    CHECK_HAS(a.body, "needs 160 bytes");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_keeps_cancels_when_the_ring_is_full_and_refuses_beyond_a_backlog) {
    rig r;
    enum { CLIENTS = 12 };
    int fds[CLIENTS];
    bool refused[CLIENTS] = {false};
    uint32_t refusals = 0;
    rig_open(&r, (front_options){0}, 100 << 10);
    /* each request is 60 KB: one in the ring, four in the backlog, then 503 */
    char *body = malloc(61000);
    int head = snprintf(body, 100, "{\"prompt\":\"");
    memset(body + head, 'p', 60000);
    (void)snprintf(body + head + 60000, 100, "\"}");
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = web_open(&r);
        web_post(fds[i], "/v1/completions", body);
        refused[i] = web_has(fds[i], 100);
        if (!refused[i]) continue;
        web_answer a = web_read(fds[i]);
        CHECK_EQ(a.status, 503);
        CHECK_HAS(a.head, "Retry-After: ");
        web_answer_free(&a);
        refusals++;
    }
    CHECK(refusals >= 5 && refusals < CLIENTS - 1);
    for (int i = 0; i < CLIENTS; i++) (void)close(fds[i]); /* all leave while the ring is full */
    os_sleep_ms(50);
    uint32_t requests = 0, cancels = 0;
    str frame;
    wire_type type;
    while ((type = rig_next(&r, 500, &frame)) != WIRE_TYPE_END) {
        requests += type == WIRE_REQUEST;
        cancels += type == WIRE_CANCEL;
    }
    CHECK_EQ(requests, CLIENTS - refusals);
    CHECK_EQ(cancels, requests);
    free(body);
    rig_close(&r);
}

TEST(front_refuses_a_prompt_that_can_never_pass_the_ring) {
    rig r;
    rig_open(&r, (front_options){0}, 16 << 10);
    char *body = malloc(41000);
    int head = snprintf(body, 100, "{\"prompt\":\"");
    memset(body + head, 'p', 40000);
    (void)snprintf(body + head + 40000, 100, "\"}");
    check_error(&r, JSON, "/v1/completions", body, 413, "request_too_large");
    free(body);
    rig_close(&r);
}

TEST(front_refuses_ids_past_the_vocabulary) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    check_error(&r, JSON, CHAT, "{" HI ",\"logit_bias\":{\"256\":1}}", 400,
                "\"param\":\"logit_bias\"");
    check_error(&r, JSON, CHAT, "{" HI ",\"stop_token_ids\":[2147483647]}", 400,
                "\"param\":\"stop_token_ids\"");
    check_error(&r, JSON, CHAT, "{" HI ",\"allowed_token_ids\":[5,256]}", 400,
                "allowed_token_ids: token id 256, but the vocabulary of 'tiny' has 256");
    check_error(&r, JSON, "/completions", "{\"prompt\":[[1],[255,256]]}", 400,
                "token id 256, but the vocabulary of 'tiny' has 256");
    rig_close(&r);
}

TEST(front_limits_prompts_in_flight_and_choices) {
    rig r;
    rig_open(&r, (front_options){.requests_max = 2, .choices_max = 3}, 0);
    check_error(&r, JSON, CHAT, "{" HI ",\"n\":4}", 400, "at most 3");
    check_error(&r, JSON, "/completions", "{\"prompt\":[\"a\",\"b\",\"c\"]}", 503, "queue_full");
    int fd = web_open(&r);
    web_post(fd, "/completions", "{\"prompt\":[\"a\",\"b\"]}");
    uint64_t one = rig_request(&r).id, two = rig_request(&r).id;
    check_error(&r, JSON, CHAT, "{" HI "}", 503, "queue_full");
    serve(&r, one, "x");
    serve(&r, two, "y");
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    web_answer_free(&a);
    web_post(fd, CHAT, "{" HI "}"); /* the places are free again, under new ids */
    uint64_t three = rig_request(&r).id;
    CHECK(three != one && three != two);
    serve(&r, one, "stale");
    serve(&r, three, "fresh");
    a = web_read(fd);
    CHECK_HAS(a.body, "\"content\":\"fresh\"");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

/* --- a role that misbehaves --- */

static void misbehave(rig *r, uint64_t id, int how) {
    gen_event e = {.id = id, .kind = GEN_TOKENS};
    if (how != 0 && how != 5) rig_accept(r, id, 5);
    if (how == 0) rig_text(r, id, 0, 1, "before it is accepted");
    if (how == 1) rig_text(r, id, 9, 1, "a choice nobody asked for");
    if (how == 2) rig_text(r, id, 0, 1 << 20, "more than its credits");
    if (how == 3) rig_accept(r, id, 5);
    if (how == 4) rig_usage(r, id, 5, 0);
    if (how == 5) rig_raw(r, "\x01\x00\x00\x00\x01\x04\x00\x00\x55", 9); /* half an event */
    if (how == 6) rig_raw(r, "garbage that is no frame", 24);
    if (how == 7) rig_event(r, &e);
    if (how == 8) {
        rig_finish(r, id, 0, GEN_FINISH_EOS);
        rig_text(r, id, 0, 1, "after its end");
    }
}

TEST(front_survives_a_role_that_makes_no_sense) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    for (int how = 0; how < 9; how++) {
        int fd = web_open(&r);
        web_post(fd, CHAT, "{" HI "}");
        uint64_t id = rig_request(&r).id;
        misbehave(&r, id, how);
        CHECK(rig_cancel(&r).id == id);
        web_answer a = web_read(fd);
        CHECK_EQ(a.status, 500);
        CHECK_HAS(a.body, "\"code\":\"internal_error\"");
        web_answer_free(&a);
        rig_error(&r, id, ERR_CANCELED, GEN_FAULT_NONE, 0, 0);
        (void)close(fd);
    }
    os_sleep_ms(50); /* the last end is on its way */
    web_answer a = web_ask(&r, "GET", "/health", "", NULL);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"requests_in_flight\":0,\"protocol_errors\":9");
    web_answer_free(&a);
    rig_close(&r);
}

TEST(front_ignores_frames_that_concern_nobody) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    rig_text(&r, 0, 0, 1, "id 0");
    rig_text(&r, UINT64_MAX, 0, 1, "an index past the table");
    rig_usage(&r, (uint64_t)1 << 32 | 3, 1, 1);
    wire_put_drain(&r.out); /* only goes down */
    wire_put_cancel(&r.out, &(gen_cancel){.id = 1});
    engine_status s = {.values = {"12345678", 1}}; /* one value where a table is due */
    wire_put_status(&r.out, &s);
    rig_status(&r);
    web_answer a = web_ask(&r, "GET", "/health", "", NULL);
    CHECK_EQ(a.status, 200);
    web_answer_free(&a);
    rig_close(&r);
}

/* --- the door --- */

TEST(front_refuses_at_the_door) {
    const char *origins[] = {"https://app.example"};
    rig r;
    rig_open(&r, (front_options){.cors_origins = origins, .cors_origins_count = 1}, 0);
    check_error(&r, "Host: attacker.example\r\n", "/health", NULL, 403, "forbidden");
    check_error(&r, "Origin: http://attacker.example\r\n", "/health", NULL, 403, "forbidden");
    check_error(&r, "Content-Type: text/plain\r\n", CHAT, "{}", 415, "application/json");
    check_error(&r, JSON "Content-Encoding: gzip\r\n", CHAT, "{}", 415, "gzip");
    check_error(&r, JSON, CHAT, "{}", 400, "\"param\":\"messages\"");
    check_error(&r, "", CHAT, "nonsense", 400, "not JSON");
    check_error(&r, "", "/api/tags", NULL, 404, "unknown_url");
    check_error(&r, "Origin: https://app.example\r\nAuthorization: a\r\nAuthorization: b\r\n",
                "/health", NULL, 400, "twice");
    web_answer a = web_ask(&r, "GET", CHAT, "", NULL);
    CHECK_EQ(a.status, 405);
    CHECK_HAS(a.head, "Allow: POST, OPTIONS\r\n");
    web_answer_free(&a);
    a = web_ask(&r, "GET", "/health", "Origin: https://app.example\r\nx-request-id: ab<c>1\r\n",
                NULL);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.head, "Access-Control-Allow-Origin: https://app.example\r\n");
    CHECK_HAS(a.head, "x-request-id: abc1\r\n");
    web_answer_free(&a);
    a = web_ask(&r, "OPTIONS", CHAT,
                "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n", NULL);
    CHECK_EQ(a.status, 204);
    CHECK_HAS(a.head, "Access-Control-Allow-Methods: POST, OPTIONS\r\n");
    web_answer_free(&a);
    a = web_ask(&r, "HEAD", "/health", "", NULL);
    CHECK_EQ(a.status, 200);
    web_answer_free(&a);
    rig_close(&r);
}

TEST(front_asks_for_the_key_on_every_route_but_health) {
    static const char *const guarded[] = {
        "/metrics",        "/v1/metrics", "/models",  "/v1/models",
        "/v1/models/tiny", CHAT,          "/nothing", "/"};
    static const char *const open[] = {"/livez", "/readyz", "/health", "/v1/health"};
    rig r;
    rig_open(&r, (front_options){.api_key = "k3y"}, 0);
    for (size_t i = 0; i < sizeof guarded / sizeof guarded[0]; i++) {
        check_error(&r, "", guarded[i], NULL, 401, "invalid_api_key");
        check_error(&r, "Authorization: Bearer no\r\n", guarded[i], "{}", 401, "invalid_api_key");
    }
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        web_answer a = web_ask(&r, "GET", open[i], "", NULL);
        CHECK_EQ(a.status, 200);
        web_answer_free(&a);
    }
    web_answer a = web_ask(&r, "GET", "/v1/models", "x-api-key: k3y\r\n", NULL);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "{\"object\":\"list\",\"data\":[{\"id\":\"tiny\",\"object\":\"model\"");
    CHECK_HAS(a.body, "\"chat_template\":\"plain\",\"chat_template_note\":\"chats are");
    web_answer_free(&a);
    rig_close(&r);
}

/* --- models and health --- */

TEST(front_finds_models_by_name_only) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    check_error(&r, JSON, CHAT, "{\"model\":\"../../etc/passwd\"," HI "}", 404, "there is: tiny");
    check_error(&r, "", "/v1/models/other", NULL, 404, "model_not_found");
    check_error(&r, "", "/v1/models/..%2f..%2fetc", NULL, 404, "model_not_found");
    check_error(&r, "", "/v1/models/%", NULL, 404, "model_not_found");
    web_answer a = web_ask(&r, "GET", "/models/%74iny", "", NULL);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"ctx\":128");
    CHECK_HAS(a.body, "\"status\":{\"value\":\"loaded\"}");
    web_answer_free(&a);
    rig_close(&r);
}

TEST(front_refuses_names_that_are_paths) {
    static const char *const bad[] = {"",        "../x", "/etc/passwd", "a/../b", "a b",
                                      ".hidden", "a\nb", "a\"b",        "tiny"};
    error err;
    front *f = NULL;
    wire_link l;
    CHECK(link_open(&l, 4096, 4096, &err) == OK);
    front_options o = {.http = {.host = "127.0.0.1"}};
    CHECK(front_open(&f, &o, &err) == OK);
    CHECK(front_add_model(f, "tiny", &l, &err) == OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(front_add_model(f, bad[i], &l, &err) == ERR_INVALID);
    front_close(f);
    link_close(&l);
}

TEST(front_is_ready_when_its_models_are) {
    rig r;
    rig_open_silent(&r, (front_options){0}, 0);
    check_error(&r, "", "/readyz", NULL, 503, "loading");
    check_error(&r, "", "/health", NULL, 503, "\"type\":\"unavailable_error\"");
    check_error(&r, "", "/readyz", NULL, 503, "0 % (reading the headers)");
    wire_put_loading(&r.out, &(model_loading){.phase = LOAD_PHASE_WEIGHTS, .permille = 437});
    CHECK(link_flush(r.link.up, &r.out));
    os_sleep_ms(20);
    check_error(&r, "", "/readyz", NULL, 503,
                "model 'tiny' is loading: 43 % (reading the weights)");
    web_answer a = web_ask(&r, "GET", "/livez", "", NULL);
    CHECK_EQ(a.status, 200);
    web_answer_free(&a);
    a = web_ask(&r, "GET", "/v1/models", "", NULL);
    CHECK_HAS(a.body, "\"meta\":null,\"status\":{\"value\":\"loading\",\"progress\":0.437,"
                      "\"phase\":\"reading the weights\"}");
    web_answer_free(&a);
    rig_close(&r);
}

static void say_loading(rig *r, uint32_t permille) {
    wire_put_loading(&r->out, &(model_loading){.phase = LOAD_PHASE_WEIGHTS, .permille = permille});
    CHECK(link_flush(r->link.up, &r->out));
    os_sleep_ms(20);
}

static void answer_in_full(rig *r, uint64_t id) {
    rig_accept(r, id, 5);
    rig_text(r, id, 0, 1, "deep");
    rig_finish(r, id, 0, GEN_FINISH_EOS);
    rig_usage(r, id, 5, 1);
}

TEST(front_tells_streams_how_far_a_model_has_loaded_and_then_answers) {
    rig r;
    rig_open_silent(&r, (front_options){0}, 0);
    int stream = web_open(&r), plain = web_open(&r);
    web_post(stream, CHAT, "{" HI ",\"stream\":true}");
    uint64_t first = rig_request(&r).id;
    web_post(plain, CHAT, "{" HI "}");
    uint64_t second = rig_request(&r).id;
    say_loading(&r, 200);
    say_loading(&r, 430);
    CHECK(web_has(stream, 1000));
    CHECK(!web_has(plain, 50)); /* it waits without a word */
    rig_model(&r);
    answer_in_full(&r, first);
    answer_in_full(&r, second);
    web_answer a = web_read(stream);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, ": loading 20 %\n");
    CHECK_HAS(a.body, ": loading 43 %\n");
    CHECK_HAS(a.body, "\"content\":\"deep\"");
    CHECK_HAS(a.body, "[DONE]");
    web_answer_free(&a);
    a = web_read(plain);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"content\":\"deep\"");
    web_answer_free(&a);
    (void)close(stream);
    (void)close(plain);
    rig_close(&r);
}

TEST(front_streams_an_error_to_who_was_told_of_loading) {
    rig r;
    rig_open_silent(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    uint64_t id = rig_request(&r).id;
    say_loading(&r, 100);
    rig_model(&r);
    rig_error(&r, id, ERR_INVALID, GEN_FAULT_TEMPLATE, 0, 0);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"code\":\"chat_template_error\"");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_cancels_below_when_a_client_leaves_while_a_model_loads) {
    rig r;
    rig_open_silent(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    uint64_t id = rig_request(&r).id;
    say_loading(&r, 100);
    (void)close(fd);
    CHECK_EQ(rig_cancel(&r).id, id);
    rig_close(&r);
}

TEST(front_takes_templates_of_requests_only_where_that_is_allowed) {
    rig r;
    const char *body = "{" HI ",\"chat_template\":\"{{ 1 }}\"}";
    rig_open(&r, (front_options){0}, 0);
    check_error(&r, JSON, CHAT, body, 400, "--allow-request-template");
    rig_close(&r);
    rig_open(&r, (front_options){.request_templates = true}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, body);
    gen_request q = rig_request(&r);
    CHECK(str_eq(q.chat.chat_template, S("{{ 1 }}")));
    answer_in_full(&r, q.id);
    web_answer a = web_read(fd);
    CHECK_EQ(a.status, 200);
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_fails_livez_when_a_heartbeat_stops) {
    rig r;
    rig_open(&r, (front_options){.stall_ms_max = 100}, 0);
    os_sleep_ms(250);
    check_error(&r, "", "/livez", NULL, 503, "model 'tiny' sent no heartbeat for ");
    rig_status(&r);
    os_sleep_ms(20);
    web_answer a = web_ask(&r, "GET", "/health", "", NULL);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "\"status\":\"ok\"");
    CHECK_HAS(a.body, "\"reduced\":[\"step_tokens 512 -> 256\",\"ctx 131072 -> 128\"]");
    CHECK_HAS(a.body, "\"running\":1,\"waiting\":2,\"steps\":7,\"heartbeat_age_ms\":");
    web_answer_free(&a);
    rig_close(&r);
}

/* --- keep-alive and the end --- */

TEST(front_keeps_a_quiet_stream_alive) {
    rig r;
    rig_open(&r, (front_options){.ping_ms = 40}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    uint64_t id = rig_request(&r).id;
    rig_accept(&r, id, 5);
    os_sleep_ms(200);
    rig_text(&r, id, 0, 1, "a");
    rig_finish(&r, id, 0, GEN_FINISH_EOS);
    rig_usage(&r, id, 5, 1);
    web_answer a = web_read(fd);
    CHECK_HAS(a.body, "\n: ping\n");
    CHECK_HAS(a.body, "[DONE]");
    web_answer_free(&a);
    (void)close(fd);
    rig_close(&r);
}

TEST(front_drains_what_runs_and_refuses_what_comes) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int running = web_open(&r), late = web_open(&r);
    web_send(late, "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\n"); /* has begun to speak */
    web_post(running, CHAT, "{" HI "}");
    uint64_t id = rig_request(&r).id;
    front_drain(r.front);
    os_sleep_ms(50);
    web_send(late, "Content-Length: 2\r\n\r\n{}");
    web_answer a = web_read(late);
    CHECK_EQ(a.status, 503);
    CHECK_HAS(a.body, "\"code\":\"draining\"");
    web_answer_free(&a);
    serve(&r, id, "finished");
    a = web_read(running);
    CHECK_EQ(a.status, 200);
    CHECK_HAS(a.body, "finished");
    web_answer_free(&a);
    thread_join(&r.net); /* front_run() has returned by itself */
    (void)close(running);
    (void)close(late);
    rig_close(&r);
}

TEST(front_stops_at_once_and_cancels_below) {
    rig r;
    rig_open(&r, (front_options){0}, 0);
    int fd = web_open(&r);
    web_post(fd, CHAT, "{" HI ",\"stream\":true}");
    uint64_t id = rig_request(&r).id;
    rig_accept(&r, id, 5);
    CHECK(web_has(fd, 2000));
    front_stop(r.front);
    thread_join(&r.net);
    front_close(r.front);
    CHECK(rig_cancel(&r).id == id);
    (void)close(fd);
    link_close(&r.link);
    buf_deinit(&r.frame);
    buf_deinit(&r.out);
}
