/* test_chat.c - the plain chat template: what it renders, what it refuses and where. */
#include "small_vocab.h"
#include "text/chat.h"

static void check_render(const char *messages, const char *want) {
    error err = {0};
    buf out;
    buf_init(&out, 1 << 16);
    CHECK_EQ(chat_render_plain(str_of(messages), &out, &err), OK);
    CHECK_STR(err.msg, "");
    buf_put_char(&out, '\0');
    CHECK_STR(out.p, want);
    buf_deinit(&out);
}

static void check_refused(const char *messages, status code, const char *words) {
    error err = {0};
    buf out;
    buf_init(&out, 1 << 16);
    buf_put(&out, "keep", 4);
    CHECK_EQ(chat_render_plain(str_of(messages), &out, &err), code);
    CHECK_HAS(err.msg, words);
    CHECK_EQ(out.n, 4);
    buf_deinit(&out);
}

TEST(chat_plain_writes_one_line_for_each_message) {
    check_render("[{\"role\":\"user\",\"content\":\"Hi\"}]", "User: Hi\nAssistant:");
    check_render(
        "[{\"role\":\"user\",\"content\":\"2+2?\"},{\"role\":\"assistant\",\"content\":\"4\"},"
        "{\"role\":\"tool\",\"content\":\"ok\"},{\"role\":\"user\",\"content\":\"\"}]",
        "User: 2+2?\nAssistant: 4\nTool: ok\nUser: \nAssistant:");
}

TEST(chat_plain_puts_system_and_developer_messages_in_front) {
    check_render(
        "[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"developer\",\"content\":\"Be short.\"}]",
        "Be kind.\n\nBe short.\n\nUser: Hi\nAssistant:");
}

TEST(chat_plain_joins_text_parts_by_nothing) {
    check_render("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                 "{\"type\":\"text\",\"text\":\"b\"}]},{\"role\":\"user\",\"content\":[]}]",
                 "User: ab\nUser: \nAssistant:");
}

TEST(chat_plain_allows_an_assistant_message_without_content) {
    check_render("[{\"role\":\"assistant\",\"content\":null},{\"role\":\"assistant\"}]",
                 "Assistant: \nAssistant: \nAssistant:");
}

TEST(chat_plain_keeps_all_bytes_of_the_content) {
    error err = {0};
    buf out;
    buf_init(&out, 256);
    str messages = S("[{\"role\":\"user\",\"content\":\"a\\u0000b<s>\\u00e9\"}]");
    CHECK_EQ(chat_render_plain(messages, &out, &err), OK);
    CHECK(str_eq(buf_view(&out), S("User: a\0b<s>\xC3\xA9\nAssistant:")));
    buf_deinit(&out);
}

TEST(chat_plain_refuses_with_the_path_of_what_is_wrong) {
    check_refused("", ERR_INVALID, "messages: ");
    check_refused("[{\"role\":\"user\",}]", ERR_INVALID, "line ");
    check_refused("[{\"role\":\"user\",\"content\":\"\xFF\"}]", ERR_INVALID, "messages: ");
    check_refused("{}", ERR_INVALID, "messages: expected an array, got an object");
    check_refused("[]", ERR_INVALID, "messages: empty, expected at least 1");
    check_refused("[1]", ERR_INVALID, "messages[0]: expected an object, got a number");
    check_refused("[{}]", ERR_INVALID, "messages[0].role: expected a string, got nothing");
    check_refused("[{\"role\":true}]", ERR_INVALID, "got a boolean");
    check_refused("[{\"role\":\"robot\",\"content\":\"\"}]", ERR_INVALID,
                  "messages[0].role: 'robot', expected system,");
    check_refused("[{\"role\":\"user\\u0000\",\"content\":\"\"}]", ERR_INVALID, "messages[0].role");
    check_refused("[{\"role\":\"user\",\"content\":null}]", ERR_INVALID,
                  "messages[0].content: expected a string or an array of parts, got null");
    check_refused("[{\"role\":\"tool\"}]", ERR_INVALID, "messages[0].content");
    check_refused("[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"user\",\"content\":[\"x\"]}]",
                  ERR_INVALID, "messages[1].content[0]: expected an object, got a string");
    check_refused("[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]", ERR_INVALID,
                  "messages[0].content[0].type: expected a string, got nothing");
    check_refused("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", ERR_INVALID,
                  "messages[0].content[0].type: 'image_url', expected 'text'");
    check_refused("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":[]}]}]",
                  ERR_INVALID, "messages[0].content[0].text: expected a string, got an array");
}

static void put_messages(buf *json, int count) {
    for (int i = 0; i < count; i++)
        buf_printf(json, "%s{\"role\":\"user\",\"content\":\"x\"}", i == 0 ? "[" : ",");
    buf_put_char(json, ']');
}

TEST(chat_plain_has_a_limit_on_messages_and_on_the_prompt) {
    error err = {0};
    buf json, out;
    buf_init(&json, 1 << 20);
    buf_init(&out, 1 << 20);
    put_messages(&json, CHAT_MESSAGES_MAX);
    CHECK_EQ(chat_render_plain(buf_view(&json), &out, &err), OK);
    CHECK_EQ(out.n, CHAT_MESSAGES_MAX * strlen("User: x\n") + strlen("Assistant:"));
    buf_clear(&json);
    put_messages(&json, CHAT_MESSAGES_MAX + 1);
    CHECK_EQ(chat_render_plain(buf_view(&json), &out, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "messages: 10001 messages, at most 10000");
    buf_deinit(&out);
    buf_init(&out, 20);
    CHECK_EQ(chat_render_plain(S("[{\"role\":\"user\",\"content\":\"0123456789\"}]"), &out, &err),
             ERR_LIMIT);
    CHECK_HAS(err.msg, "20 bytes");
    CHECK_EQ(out.n, 0);
    buf_deinit(&out);
    buf_deinit(&json);
}

TEST(chat_plain_survives_deep_nesting) {
    buf json, out;
    error err = {0};
    buf_init(&json, 1 << 20);
    buf_init(&out, 1 << 20);
    for (int i = 0; i < 100000; i++) buf_put_char(&json, '[');
    CHECK_EQ(chat_render_plain(buf_view(&json), &out, &err), ERR_INVALID);
    buf_deinit(&out);
    buf_deinit(&json);
}
