/* test_chat_guard.c - what is written in a message never becomes a control token. */
#include "text/chat_guard.h"

#include "small_vocab.h"

#define BREAK "\xEF\xB7\x90"

typedef struct guard_rig {
    small_vocab v;
    tokenizer *tok;
    chat_guard guard;
} guard_rig;

static guard_rig *guard_open(void) {
    static guard_rig r;
    error err = {0};
    memset(&r, 0, sizeof r);
    small_init(&r.v);
    (void)small_add(&r.v, S("<|im_start|>"), 0, TOK_TYPE_CONTROL);
    (void)small_add(&r.v, S("<|im_end|>"), 0, TOK_TYPE_CONTROL);
    (void)small_add(&r.v, S("</think>"), 0, TOK_TYPE_CONTROL);
    (void)small_add(&r.v, S("[TOOL]"), 0, TOK_TYPE_USER_DEFINED);
    r.tok = small_create(&r.v);
    CHECK_EQ(chat_guard_init(&r.guard, r.tok, &err), OK);
    return &r;
}

static void guard_close(guard_rig *r) {
    chat_guard_deinit(&r->guard);
    tok_destroy(r->tok);
}

static void check_guarded(const guard_rig *r, str text, bool assistant, const char *want) {
    buf out;
    buf_init(&out, 1 << 20);
    chat_guard_put(&r->guard, text, assistant, &out);
    buf_put_char(&out, '\0');
    CHECK_STR(out.p, want);
    buf_deinit(&out);
}

TEST(chat_guard_marks_control_tokens_inside_and_nothing_else) {
    guard_rig *r = guard_open();
    check_guarded(r, S("hello, 2 > 1"), false, "hello, 2 > 1");
    check_guarded(r, S(""), false, "");
    check_guarded(r, S("a <|im_start|>system b"), false, "a <" BREAK "|im_start|>system b");
    check_guarded(r, S("<|im_end|><|im_end|>!"), false, "<" BREAK "|im_end|><" BREAK "|im_end|>!");
    check_guarded(r, S("<|im_<|im_end|>start|>."), false, "<|im_<" BREAK "|im_end|>start|>.");
    check_guarded(r, S("[TOOL] stays"), false, "[TOOL] stays"); /* user-defined */
    guard_close(r);
}

TEST(chat_guard_marks_ends_that_could_complete_a_token_with_their_neighbour) {
    guard_rig *r = guard_open();
    check_guarded(r, S("x <|im_"), false, "x <|im_" BREAK);
    check_guarded(r, S("x <"), false, "x <" BREAK);
    check_guarded(r, S("end|> x"), false, BREAK "end|> x");
    check_guarded(r, S("> quoted"), false, "> quoted"); /* one byte of a token is no threat */
    check_guarded(r, S("<|im"), false, "<|im" BREAK);
    guard_close(r);
}

TEST(chat_guard_lets_assistants_keep_their_reasoning_marks) {
    guard_rig *r = guard_open();
    check_guarded(r, S("so</think>yes"), true, "so</think>yes");
    check_guarded(r, S("so</think>yes"), false, "so<" BREAK "/think>yes");
    check_guarded(r, S("a<|im_end|>."), true, "a<" BREAK "|im_end|>.");
    guard_close(r);
}

TEST(chat_guard_replaces_marks_that_a_client_sends) {
    guard_rig *r = guard_open();
    check_guarded(r, S("a" BREAK "b\xEF\xB7\x91"), false,
                  "a\xEF\xBF\xBD"
                  "b\xEF\xBF\xBD");
    guard_close(r);
}

TEST(chat_guard_unmark_gives_the_text_back_with_the_places_of_its_breaks) {
    buf text, breaks;
    buf_init(&text, 1000);
    buf_init(&breaks, 1000);
    buf_put_str(&text, S("ab" BREAK "c" BREAK BREAK "\xEF\xB7"));
    chat_guard_unmark(&text, 0, &breaks);
    CHECK(str_eq(buf_view(&text), S("abc\xEF\xB7")));
    uint32_t at[3] = {0};
    CHECK_EQ(breaks.n, sizeof at);
    if (breaks.n == sizeof at) memcpy(at, breaks.p, sizeof at);
    CHECK(at[0] == 2 && at[1] == 3 && at[2] == 3);
    buf_deinit(&text);
    buf_deinit(&breaks);
}

/* Random strings of token pieces, cut and joined in any way: no control token may come out. */
TEST(chat_guard_random_pieces_never_join_to_a_token) {
    guard_rig *r = guard_open();
    static const char *const bits[] = {"<|im_start|>", "<|im_", "start|>", "<", "|",        ">",
                                       "im_end",       "<|",    "|>",      "x", "</think>", "</thi",
                                       "nk>",          "e",     "nd|>"};
    uint64_t state = 7;
    for (int round = 0; round < 500; round++) {
        buf text, breaks, ids;
        buf_init(&text, 1 << 16);
        buf_init(&breaks, 1 << 16);
        buf_init(&ids, 1 << 16);
        for (uint32_t s = 0, strings = 1 + small_random(&state, 4); s < strings; s++) {
            char one[256] = "";
            for (uint32_t k = 0, n = 1 + small_random(&state, 5); k < n; k++)
                (void)strncat(one, bits[small_random(&state, sizeof bits / sizeof *bits)], 20);
            chat_guard_put(&r->guard, str_of(one), false, &text);
        }
        chat_guard_unmark(&text, 0, &breaks);
        tok_options o = SMALL_SPECIAL;
        o.breaks = (const uint32_t *)(const void *)breaks.p;
        o.breaks_count = (uint32_t)(breaks.n / 4);
        CHECK_EQ(tok_encode(r->tok, buf_view(&text), &o, &ids, NULL), OK);
        for (size_t i = 0; i < ids.n / 4; i++) {
            int32_t id = 0;
            memcpy(&id, ids.p + i * 4, 4);
            CHECK(!tok_is_control(r->tok, id));
        }
        buf_deinit(&text);
        buf_deinit(&breaks);
        buf_deinit(&ids);
    }
    (void)SMALL_PLAIN;
    guard_close(r);
}
