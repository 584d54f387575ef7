/* test_openai_parse.c - bodies to specs: what is taken, what is refused, and by which name. */
#include <math.h>

#include "api/openai.h"
#include "base/alloc.h"
#include "test.h"

typedef bool (*parse_fn)(str body, arena *a, gen_spec *out, api_fault *fault);

typedef struct parsed {
    bool ok;
    arena a;
    gen_spec spec;
    api_fault fault;
} parsed;

static void parse(parsed *p, parse_fn fn, const char *body) {
    memset(p, 0, sizeof *p);
    arena_init(&p->a, 16 * strlen(body) + (64 << 10));
    p->ok = fn(str_of(body), &p->a, &p->spec, &p->fault);
}

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

/* The body with MESSAGES and these members more is refused with that kind and param. */
static void refused(const char *members, api_kind kind, const char *param) {
    char body[4096];
    parsed p;
    (void)snprintf(body, sizeof body, "{" MESSAGES ",%s}", members);
    parse(&p, openai_chat_parse, body);
    if (p.ok || p.fault.kind != kind || strcmp(p.fault.param, param) != 0) {
        test_failures++;
        (void)fprintf(stderr, "%s: ok=%d kind=%d param='%s' want '%s': %s\n", members, p.ok,
                      p.fault.kind, p.fault.param, param, p.fault.message);
    }
    arena_deinit(&p.a);
}

static void refused_completion(const char *body, api_kind kind, const char *param) {
    parsed p;
    parse(&p, openai_completions_parse, body);
    if (p.ok || p.fault.kind != kind || strcmp(p.fault.param, param) != 0) {
        test_failures++;
        (void)fprintf(stderr, "%s: ok=%d kind=%d param='%s' want '%s': %s\n", body, p.ok,
                      p.fault.kind, p.fault.param, param, p.fault.message);
    }
    arena_deinit(&p.a);
}

TEST(openai_chat_body_with_everything_is_taken) {
    parsed p;
    parse(&p, openai_chat_parse,
          "{\"model\":\"m\"," MESSAGES ",\"temperature\":0.5,\"top_p\":0.9,\"n\":2,"
          "\"stop\":[\"a\",\"b\"],\"stream\":true,\"stream_options\":{\"include_usage\":true},"
          "\"seed\":18446744073709551615,\"presence_penalty\":1,\"frequency_penalty\":-1,"
          "\"logit_bias\":{\"5\":-100,\"7\":2.5},\"logprobs\":true,\"top_logprobs\":3,"
          "\"max_tokens\":9,\"max_completion_tokens\":7,\"response_format\":{\"type\":\"text\"},"
          "\"tools\":[],\"tool_choice\":\"none\",\"modalities\":[\"text\"],\"top_k\":40,"
          "\"min_p\":0.05,\"repetition_penalty\":1.1,\"repeat_last_n\":64,\"min_tokens\":1,"
          "\"ignore_eos\":true,\"stop_token_ids\":[3,4],\"allowed_token_ids\":[9,2,9]}");
    const gen_request *r = &p.spec.request;
    const gen_sampling *s = &r->sampling;
    CHECK(p.ok);
    CHECK_STR(p.spec.ignored, "");
    CHECK(str_eq(p.spec.model, S("m")));
    CHECK(p.spec.stream && p.spec.include_usage);
    CHECK_EQ(r->choices, 2);
    CHECK_EQ(r->stops_count, 2);
    CHECK(str_eq(r->stops[1], S("b")));
    CHECK(s->seed == UINT64_MAX);
    CHECK_EQ(s->tokens_max, 7);
    CHECK_EQ(s->top_k, 40);
    CHECK_EQ(s->penalty_tokens, 64);
    CHECK_EQ(s->tokens_min, 1);
    CHECK(s->ignore_eos && s->logprobs);
    CHECK_EQ(s->top_logprobs, 3);
    CHECK_EQ(s->stop_ids.count, 2);
    CHECK_EQ(wire_i32_at(s->stop_ids, 1), 4);
    CHECK_EQ(s->allowed_ids.count, 3);
    CHECK_EQ(wire_i32_at(s->allowed_ids, 1), 2);
    CHECK_EQ(s->bias_ids.count, 2);
    CHECK_EQ(wire_i32_at(s->bias_ids, 0), 5);
    CHECK(wire_f32_at(s->biases, 1) == 2.5f);
    CHECK_EQ(p.spec.inputs_count, 1);
    CHECK_EQ(p.spec.inputs[0].kind, GEN_PROMPT_CHAT);
    CHECK(str_eq(p.spec.inputs[0].text, S("[{\"role\":\"user\",\"content\":\"hi\"}]")));
    arena_deinit(&p.a);
}

TEST(openai_chat_defaults_are_those_of_the_api) {
    parsed p;
    parse(&p, openai_chat_parse, "{" MESSAGES "}");
    const gen_sampling *s = &p.spec.request.sampling;
    CHECK(p.ok);
    CHECK(s->temperature == 1.0f && s->top_p == 1.0f && s->repetition_penalty == 1.0f);
    CHECK(s->tokens_max == UINT32_MAX && s->penalty_tokens == UINT32_MAX);
    CHECK_EQ(p.spec.request.choices, 1);
    CHECK(!p.spec.stream && !s->logprobs);
    CHECK_EQ(p.spec.model.n, 0);
    arena_deinit(&p.a);
}

TEST(openai_chat_carries_everything_a_template_may_see) {
    parsed p;
    parse(&p, openai_chat_parse,
          "{" MESSAGES ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
          "\"tool_choice\":\"auto\",\"documents\":[{\"text\":\"d\"}],"
          "\"chat_template_kwargs\":{\"enable_thinking\":false,\"big\":18446744073709551615},"
          "\"reasoning_effort\":\"low\",\"continue_final_message\":true,"
          "\"add_generation_prompt\":false}");
    const gen_chat *c = &p.spec.request.chat;
    CHECK(p.ok);
    CHECK_STR(p.spec.ignored, "");
    CHECK(!c->add_generation_prompt && c->continue_final);
    CHECK(str_eq(c->tools, S("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]")));
    CHECK(!c->one_call);
    CHECK(str_eq(c->documents, S("[{\"text\":\"d\"}]")));
    CHECK(str_eq(c->variables, S("{\"enable_thinking\":false,\"big\":18446744073709551615,"
                                 "\"reasoning_effort\":\"low\"}")));
    arena_deinit(&p.a);
    parse(&p, openai_chat_parse,
          "{" MESSAGES
          ",\"tools\":[{\"function\":{\"name\":\"f\"}}],\"parallel_tool_calls\":false}");
    CHECK(p.ok && c->one_call && c->tools.n > 0);
    CHECK_STR(p.spec.ignored, "");
    arena_deinit(&p.a);
    parse(&p, openai_chat_parse,
          "{" MESSAGES ",\"tools\":[{\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"none\","
          "\"reasoning_effort\":\"low\",\"chat_template_kwargs\":{\"reasoning_effort\":\"high\"}}");
    CHECK(p.ok && c->add_generation_prompt && c->tools.n == 0); /* none may be called: not shown */
    CHECK(str_eq(c->variables, S("{\"reasoning_effort\":\"high\"}")));
    arena_deinit(&p.a);
}

static uint64_t seed_of(const char *member) {
    char body[256];
    parsed p;
    (void)snprintf(body, sizeof body, "{" MESSAGES "%s}", member);
    parse(&p, openai_chat_parse, body);
    CHECK(p.ok);
    arena_deinit(&p.a);
    return p.spec.request.sampling.seed;
}

TEST(openai_seed_takes_all_of_i64_and_u64_and_chance_without_one) {
    CHECK(seed_of(",\"seed\":9223372036854775808") == (uint64_t)1 << 63);
    CHECK(seed_of(",\"seed\":-1") == UINT64_MAX);
    CHECK(seed_of(",\"seed\":-9223372036854775808") == (uint64_t)1 << 63);
    CHECK_EQ(seed_of(",\"seed\":0"), 0);
    CHECK(seed_of("") != seed_of(""));
    CHECK(seed_of(",\"seed\":null") != seed_of(",\"seed\":null"));
}

TEST(openai_names_the_field_that_is_out_of_range_or_of_the_wrong_type) {
    refused("\"temperature\":999999.0", API_INVALID, "temperature");
    refused("\"temperature\":\"hot\"", API_INVALID, "temperature");
    refused("\"temperature\":-0.1", API_INVALID, "temperature");
    refused("\"top_p\":-1.0", API_INVALID, "top_p");
    refused("\"min_p\":2", API_INVALID, "min_p");
    refused("\"repeat_penalty\":0.0", API_INVALID, "repeat_penalty");
    refused("\"max_tokens\":-9223372036854775808", API_INVALID, "max_tokens");
    refused("\"max_tokens\":1000000000000000000", API_INVALID, "max_tokens");
    refused("\"max_tokens\":0", API_INVALID, "max_tokens");
    refused("\"max_completion_tokens\":1.5", API_INVALID, "max_completion_tokens");
    refused("\"n\":1000000", API_INVALID, "n");
    refused("\"n\":0", API_INVALID, "n");
    refused("\"logprobs\":true,\"top_logprobs\":2147483648", API_INVALID, "top_logprobs");
    refused("\"logprobs\":1", API_INVALID, "logprobs");
    refused("\"top_logprobs\":1", API_INVALID, "top_logprobs");
    refused("\"logit_bias\":{\"-1\":100}", API_INVALID, "logit_bias.-1");
    refused("\"logit_bias\":{\"2147483648\":1}", API_INVALID, "logit_bias.2147483648");
    refused("\"logit_bias\":{\"5\":101}", API_INVALID, "logit_bias.5");
    refused("\"logit_bias\":{\"5\":null}", API_INVALID, "logit_bias.5");
    refused("\"logit_bias\":[1]", API_INVALID, "logit_bias");
    refused("\"stop\":[\"\"]", API_INVALID, "stop[0]");
    refused("\"stop\":\"\"", API_INVALID, "stop");
    refused("\"stop\":[\"a\",5]", API_INVALID, "stop[1]");
    refused("\"stop\":{}", API_INVALID, "stop");
    refused("\"repeat_last_n\":-2", API_INVALID, "repeat_last_n");
    refused("\"seed\":18446744073709551616", API_INVALID, "seed");
    refused("\"seed\":1.5", API_INVALID, "seed");
    refused("\"seed\":\"1\"", API_INVALID, "seed");
    refused("\"stream\":\"yes\"", API_INVALID, "stream");
    refused("\"stream_options\":{\"include_usage\":1}", API_INVALID,
            "stream_options.include_usage");
    refused("\"stop_token_ids\":[-1]", API_INVALID, "stop_token_ids[0]");
    refused("\"stop_token_ids\":[null]", API_INVALID, "stop_token_ids[0]");
    refused("\"allowed_token_ids\":[]", API_INVALID, "allowed_token_ids");
    refused("\"allowed_token_ids\":7", API_INVALID, "allowed_token_ids");
    refused("\"allowed_token_ids\":[1,-1]", API_INVALID, "allowed_token_ids[1]");
    refused("\"allowed_token_ids\":[1,null]", API_INVALID, "allowed_token_ids[1]");
    refused("\"allowed_token_ids\":[1.5]", API_INVALID, "allowed_token_ids[0]");
    refused("\"top_k\":-2", API_INVALID, "top_k");
    refused("\"model\":5", API_INVALID, "model");
    refused("\"response_format\":{}", API_INVALID, "response_format.type");
}

TEST(openai_refuses_what_it_does_not_do_by_name) {
    refused("\"response_format\":{\"type\":\"json_object\"}", API_UNSUPPORTED,
            "response_format.type");
    refused("\"tools\":[{\"type\":\"function\"}]", API_INVALID, "tools[0].function");
    refused("\"tools\":[{\"type\":\"web_search\"}]", API_UNSUPPORTED, "tools[0].type");
    refused("\"tools\":[{\"function\":{}}]", API_INVALID, "tools[0].function.name");
    refused("\"tools\":7", API_INVALID, "tools");
    refused("\"chat_template_kwargs\":[]", API_INVALID, "chat_template_kwargs");
    refused("\"documents\":{}", API_INVALID, "documents");
    refused("\"continue_final_message\":true,\"add_generation_prompt\":true", API_INVALID,
            "continue_final_message");
    refused("\"functions\":[{}]", API_UNSUPPORTED, "functions");
    refused("\"tool_choice\":\"required\"", API_UNSUPPORTED, "tool_choice");
    refused("\"tool_choice\":{\"type\":\"function\"}", API_UNSUPPORTED, "tool_choice");
    refused("\"modalities\":[\"text\",\"audio\"]", API_UNSUPPORTED, "modalities[1]");
    refused("\"audio\":{\"voice\":\"x\"}", API_UNSUPPORTED, "audio");
    refused("\"prediction\":{\"type\":\"content\"}", API_UNSUPPORTED, "prediction");
    refused("\"grammar\":\"root ::= x\"", API_UNSUPPORTED, "grammar");
    refused("\"guided_json\":{\"a\":1}", API_UNSUPPORTED, "guided_json");
}

static void refused_messages(const char *messages, api_kind kind, const char *param) {
    char body[4096];
    parsed p;
    (void)snprintf(body, sizeof body, "{\"messages\":%s}", messages);
    parse(&p, openai_chat_parse, body);
    CHECK(!p.ok);
    CHECK_EQ(p.fault.kind, kind);
    CHECK_STR(p.fault.param, param);
    arena_deinit(&p.a);
}

TEST(openai_checks_messages_lightly) {
    refused_messages("[]", API_INVALID, "messages");
    refused_messages("null", API_INVALID, "messages");
    refused_messages("\"hi\"", API_INVALID, "messages");
    refused_messages("[5]", API_INVALID, "messages[0]");
    refused_messages("[{}]", API_INVALID, "messages[0].role");
    refused_messages("[{\"role\":\"root\",\"content\":\"x\"}]", API_INVALID, "messages[0].role");
    refused_messages("[{\"role\":5}]", API_INVALID, "messages[0].role");
    refused_messages("[{\"role\":\"user\",\"content\":null}]", API_INVALID, "messages[0].content");
    refused_messages("[{\"role\":\"user\",\"content\":5}]", API_INVALID, "messages[0].content");
    refused_messages("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
                     "{\"url\":\"file:///etc/passwd\"}}]}]",
                     API_UNSUPPORTED, "messages[0].content[0].type");
    refused_messages("[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", API_INVALID,
                     "messages[0].content[0].text");
    parsed p;
    parse(&p, openai_chat_parse,
          "{\"messages\":[{\"role\":\"assistant\"},{\"role\":\"user\",\"content\":[{\"type\":"
          "\"text\",\"text\":\"a\\u0000b <|im_end|>\"}]}]}");
    CHECK(p.ok);
    arena_deinit(&p.a);
}

TEST(openai_refuses_bodies_that_are_not_json) {
    static const char *const bodies[] = {"",
                                         "[",
                                         "nul",
                                         "{\"messages\":[]}x",
                                         "{\"model\":\"m\",\"model\":\"n\",\"messages\":[]}",
                                         "[]",
                                         "5",
                                         "{\"messages\":[],\"temperature\":NaN}",
                                         "{\"messages\":[],\"temperature\":1e400}",
                                         "{\"model\":\"\\ud800\",\"messages\":[]}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        parsed p;
        parse(&p, openai_chat_parse, bodies[i]);
        CHECK(!p.ok);
        CHECK_EQ(api_error_row_of(p.fault.kind)->http_status, 400);
        arena_deinit(&p.a);
    }
}

TEST(openai_lists_what_nobody_read) {
    parsed p;
    parse(&p, openai_chat_parse,
          "{" MESSAGES ",\"user\":\"u\",\"id_slot\":-7,\"x y\\r\\nSet-Cookie: a\":1,"
          "\"stream_options\":{\"include_obfuscation\":true}}");
    CHECK(p.ok);
    CHECK_STR(p.spec.ignored,
              "stream_options.include_obfuscation, user, id_slot, x_y__Set-Cookie__a");
    CHECK_EQ(p.spec.ignored_count, 4);
    arena_deinit(&p.a);
}

TEST(openai_keeps_the_list_of_ignored_names_short) {
    buf body;
    parsed p;
    buf_init(&body, 1 << 20);
    buf_printf(&body, "{" MESSAGES);
    for (int i = 0; i < 1000; i++) buf_printf(&body, ",\"unknown_field_%d\":1", i);
    buf_printf(&body, "}");
    buf_put_char(&body, '\0');
    parse(&p, openai_chat_parse, body.p);
    CHECK(p.ok);
    CHECK_EQ(p.spec.ignored_count, 1000);
    CHECK(strlen(p.spec.ignored) < GEN_IGNORED_BYTES_MAX);
    CHECK(str_ends(str_of(p.spec.ignored), S(", ...")));
    arena_deinit(&p.a);
    buf_deinit(&body);
}

TEST(openai_completions_take_every_form_of_prompt) {
    parsed p;
    parse(&p, openai_completions_parse, "{\"prompt\":\"once\",\"logprobs\":0}");
    CHECK(p.ok && p.spec.inputs_count == 1 && p.spec.inputs[0].kind == GEN_PROMPT_TEXT);
    CHECK(p.spec.request.sampling.logprobs && p.spec.request.sampling.top_logprobs == 0);
    CHECK_EQ(p.spec.request.sampling.tokens_max, 16);
    CHECK(p.spec.request.add_special && p.spec.request.parse_special);
    arena_deinit(&p.a);
    parse(&p, openai_completions_parse, "{\"prompt\":[\"a\",\"\"],\"echo\":true}");
    CHECK(p.ok && p.spec.inputs_count == 2 && p.spec.request.echo);
    arena_deinit(&p.a);
    parse(&p, openai_completions_parse, "{\"prompt\":[1,2,3]}");
    CHECK(p.ok && p.spec.inputs_count == 1 && p.spec.inputs[0].kind == GEN_PROMPT_IDS);
    CHECK_EQ(p.spec.inputs[0].ids.count, 3);
    CHECK_EQ(wire_i32_at(p.spec.inputs[0].ids, 2), 3);
    arena_deinit(&p.a);
    parse(&p, openai_completions_parse, "{\"prompt\":[[1],[2,3]]}");
    CHECK(p.ok && p.spec.inputs_count == 2 && p.spec.inputs[1].ids.count == 2);
    arena_deinit(&p.a);
}

TEST(openai_completions_refuse_by_name) {
    refused_completion("{}", API_INVALID, "prompt");
    refused_completion("{\"prompt\":[]}", API_INVALID, "prompt");
    refused_completion("{\"prompt\":{}}", API_INVALID, "prompt");
    refused_completion("{\"prompt\":[[]]}", API_INVALID, "prompt[0]");
    refused_completion("{\"prompt\":[-1]}", API_INVALID, "prompt[0]");
    refused_completion("{\"prompt\":[1,null]}", API_INVALID, "prompt[1]");
    refused_completion("{\"prompt\":[\"a\",1,null]}", API_INVALID, "prompt[1]");
    refused_completion("{\"prompt\":[null]}", API_INVALID, "prompt[0]");
    refused_completion("{\"prompt\":[2147483648]}", API_INVALID, "prompt[0]");
    refused_completion("{\"prompt\":\"a\",\"echo\":true,\"logprobs\":1}", API_UNSUPPORTED,
                       "logprobs");
    refused_completion("{\"prompt\":\"a\",\"logprobs\":21}", API_INVALID, "logprobs");
    refused_completion("{\"prompt\":\"a\",\"logprobs\":true}", API_INVALID, "logprobs");
    refused_completion("{\"prompt\":\"a\",\"best_of\":2}", API_UNSUPPORTED, "best_of");
    refused_completion("{\"prompt\":\"a\",\"suffix\":\"b\"}", API_UNSUPPORTED, "suffix");
    parsed p;
    parse(&p, openai_completions_parse, "{\"prompt\":\"a\",\"n\":2,\"best_of\":2,\"suffix\":\"\"}");
    CHECK(p.ok);
    arena_deinit(&p.a);
}

TEST(openai_takes_at_most_64_prompts) {
    buf body;
    buf_init(&body, 4096);
    buf_printf(&body, "{\"prompt\":[\"a\"");
    for (int i = 1; i <= GEN_PROMPTS_MAX; i++) buf_printf(&body, ",\"a\"");
    buf_printf(&body, "]}");
    buf_put_char(&body, '\0');
    refused_completion(body.p, API_INVALID, "prompt");
    buf_deinit(&body);
}

TEST(openai_parsing_survives_every_allocation_that_fails) {
    static const char *const bodies[] = {
        "{" MESSAGES ",\"stop\":[\"a\",\"b\"],\"logit_bias\":{\"1\":2},\"stop_token_ids\":[1],"
        "\"seed\":18446744073709551615}",
        "{\"prompt\":[[1,2,3],[4]],\"model\":\"m\",\"stop\":\"x\"}"};
    for (int i = 0; i < 2; i++) {
        parsed p = {.ok = false};
        for (int64_t n = 0; !p.ok && n < 1000; n++) {
            mem_fail_after(n);
            parse(&p, i == 0 ? openai_chat_parse : openai_completions_parse, bodies[i]);
            mem_fail_after(-1);
            CHECK(p.ok || p.fault.kind == API_NOMEM);
            arena_deinit(&p.a);
        }
        CHECK(p.ok);
    }
}
