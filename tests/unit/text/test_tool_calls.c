/* test_tool_calls.c - the parser of tool calls: each answer in every cut gives the same parts.
 *
 * A transcript is the content as it stands and "{{NAME ARGUMENTS}}" for each call. */
#include "text/tool_calls.h"

#include "base/alloc.h"
#include "small_vocab.h"
#include "test.h"

enum { TRANSCRIPT_MAX = 1 << 20 };

typedef struct transcript {
    buf text;
    uint32_t calls;
} transcript;

static void tc_text(void *arg, str text) {
    transcript *t = arg;
    CHECK(text.n > 0);
    buf_put_str(&t->text, text);
}

static void tc_call(void *arg, uint32_t index, str name, str arguments) {
    transcript *t = arg;
    CHECK_EQ(index, t->calls);
    t->calls++;
    buf_printf(&t->text, "{{%.*s %.*s}}", STR(name), STR(arguments));
}

static void tc_open(transcript *t) {
    *t = (transcript){0};
    buf_init(&t->text, TRANSCRIPT_MAX);
}

/* The transcript of a text that comes in pieces of `piece` bytes behind a first one of `first`. */
static void tc_run(transcript *t, tool_family family, bool one, str text, size_t first,
                   size_t piece) {
    tool_parser p;
    tool_sink sink = {t, tc_text, tc_call};
    tool_parser_init(&p, family, one);
    tc_open(t);
    for (size_t n = first; text.n > 0; n = piece) {
        if (n > text.n) n = text.n;
        (void)tool_parser_push(&p, (str){text.p, n}, &sink);
        text = str_skip(text, n);
    }
    tool_parser_finish(&p, &sink);
    tool_parser_deinit(&p);
    buf_put_char(&t->text, '\0');
}

static void tc_check(tool_family family, const char *text, const char *want) {
    transcript t;
    size_t n = strlen(text);
    for (size_t first = 0; first <= n; first++) {
        tc_run(&t, family, false, str_of(text), first, n);
        CHECK_STR(t.text.p, want);
        buf_deinit(&t.text);
    }
    for (size_t piece = 1; piece <= 3; piece++) {
        tc_run(&t, family, false, str_of(text), piece, piece);
        CHECK_STR(t.text.p, want);
        buf_deinit(&t.text);
    }
}

static void hermes(const char *text, const char *want) { tc_check(TOOL_FAMILY_HERMES, text, want); }
static void mistral(const char *text, const char *want) {
    tc_check(TOOL_FAMILY_MISTRAL, text, want);
}
static void llama(const char *text, const char *want) { tc_check(TOOL_FAMILY_LLAMA, text, want); }

#define T(json) "<tool_call>\n" json "\n</tool_call>"
#define F       "{\"name\": \"f\", \"arguments\": {\"a\": 1}}"
#define G       "{\"name\": \"g\", \"arguments\": {}}"
#define FP      "{\"name\": \"f\", \"parameters\": {\"a\": 1}}"

TEST(tool_calls_hermes_takes_calls_out_of_the_text) {
    hermes(T(F), "{{f {\"a\": 1}}}");
    hermes("\n\n" T(F) "\n", "{{f {\"a\": 1}}}");
    hermes(T(F) "\n" T(G), "{{f {\"a\": 1}}}{{g {}}}");
    hermes(T(F) T(G) T(F), "{{f {\"a\": 1}}}{{g {}}}{{f {\"a\": 1}}}");
    hermes("Let me look.\n" T(F), "Let me look.{{f {\"a\": 1}}}");
    hermes(T(F) " and on", "{{f {\"a\": 1}}} and on");
    hermes("<tool_call>" F "</tool_call>", "{{f {\"a\": 1}}}");
    hermes(T("{\"arguments\":{},\"id\":[1,{}],\"name\":\"h\\u00e9\\n\"}"), "{{h\xC3\xA9\n {}}}");
    hermes(T("{\"name\":\"f\",\"arguments\":{\"s\":\"</tool_call>\\\"}{\",\"x\":[-1.5e+3,true,null]"
             ",\"t\":[],\"o\":{}}}"),
           "{{f {\"s\":\"</tool_call>\\\"}{\",\"x\":[-1.5e+3,true,null],\"t\":[],\"o\":{}}}}");
}

TEST(tool_calls_hermes_does_without_the_closing_marker) {
    hermes("<tool_call>\n" F, "{{f {\"a\": 1}}}");
    hermes("<tool_call>\n" F "\n</tool", "{{f {\"a\": 1}}}");
    hermes("<tool_call>\n" F "\n<tool_call>\n" G, "{{f {\"a\": 1}}}{{g {}}}");
    hermes("<tool_call>" F "<tool_call>" G, "{{f {\"a\": 1}}}{{g {}}}");
    hermes("<tool_call>\n" F "\n</tools>", "{{f {\"a\": 1}}}\n</tools>");
    hermes("<tool_call>\n" F " so", "{{f {\"a\": 1}}} so");
}

TEST(tool_calls_text_that_is_no_call_comes_back_word_for_word) {
    static const char *const texts[] = {
        "",
        " ",
        "plain\n\ntext \xE2\x82\xAC\n",
        "<tool_call>",
        "a <tool_cal",
        "a < b <tool> <<tool_call",
        "\n \t<tool_call>\n",
        T("[]"),
        T("{}"),
        T("{\"name\": f, \"arguments\": {}}"),
        T("{\"name\": 1, \"arguments\": {}}"),
        T("{\"name\": \"\", \"arguments\": {}}"),
        T("{\"name\": \"f\"}"),
        T("{\"arguments\": {}}"),
        T("{\"name\": \"f\", \"arguments\": []}"),
        T("{\"name\": \"f\", \"arguments\": \"{}\"}"),
        T("{\"name\": \"f\", \"arguments\": null}"),
        T("{\"name\": \"f\", \"parameters\": {}}"),
        T("{\"name\": \"f\", \"name\": \"f\", \"arguments\": {}}"),
        T("{\"name\": \"f\", \"arguments\": {}, \"arguments\": {}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\": tru}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\": 01}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\" 1}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\": 1,}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\": [1}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\": \"\\x\"}}"),
        T("{\"name\": \"f\", \"arguments\": {\"a\": \"two\nlines\"}}"),
        T("{\"name\": \"f\\ud800\", \"arguments\": {}}"),
        T("{'name': 'f', 'arguments': {}}"),
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"cut o",
        "<tool_call>\nf(1)\n</tool_call>",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) hermes(texts[i], texts[i]);
}

TEST(tool_calls_go_on_behind_what_was_no_call) {
    hermes("<tool_call>\n<tool_call>\n" F, "<tool_call>\n{{f {\"a\": 1}}}");
    hermes("<tool_call>{oops}\n" T(F), "<tool_call>{oops}{{f {\"a\": 1}}}");
    hermes(T("{\"name\":3}") "\n" T(F), T("{\"name\":3}") "{{f {\"a\": 1}}}");
    hermes(T(F) "<tool_call>{\"na", "{{f {\"a\": 1}}}<tool_call>{\"na");
    hermes("<<tool_call>" F, "<{{f {\"a\": 1}}}");
}

TEST(tool_calls_mistral_reads_lists_and_bare_names) {
    mistral("[TOOL_CALLS] [" F "]", "{{f {\"a\": 1}}}");
    mistral("[TOOL_CALLS][" F ", " G "]\n", "{{f {\"a\": 1}}}{{g {}}}");
    mistral("Yes. [TOOL_CALLS] [" F "] x", "Yes.{{f {\"a\": 1}}} x");
    mistral("[TOOL_CALLS] [" F, "{{f {\"a\": 1}}}");
    mistral("[TOOL_CALLS]" F, "{{f {\"a\": 1}}}");
    mistral("[TOOL_CALLS]get_it{\"a\": [1, {}]}", "{{get_it {\"a\": [1, {}]}}}");
    mistral("[TOOL_CALLS]f{}[TOOL_CALLS]g.h-1{\"b\":2}", "{{f {}}}{{g.h-1 {\"b\":2}}}");
    mistral("[TOOL_CALLS]f[ARGS]{\"b\":2}", "{{f {\"b\":2}}}");
    mistral("[TOOL_CALLS]f[CALL_ID]9aB[ARGS]{\"b\":2}", "{{f {\"b\":2}}}");
    mistral("[TOOL_CALLS] [" F ", {\"name\":1}]", "{{f {\"a\": 1}}}, {\"name\":1}]");
    mistral("[TOOL_CALLS] [" F "; [TOOL_CALLS]g{}", "{{f {\"a\": 1}}};{{g {}}}");
    static const char *const texts[] = {
        "[TOOL_CALLS]",
        "[TOOL_CALLS] []",
        "[TOOL_CALLS] is a marker",
        "[TOOL_CALLS]f",
        "[TOOL_CALLS]f[ARG]{}",
        "[TOOL_CALLS]f[CALL_ID][ARGS]{}",
        "[TOOL_CALLS]f[CALL_ID]1[2][ARGS]{}",
        "[TOOL_CALLS][ARGS]{}",
        "[TOOL_CALLS]f{\"a\": 1,}",
        "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": \"\"}]",
        "[1, 2] [TOOL_CALL",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) mistral(texts[i], texts[i]);
}

TEST(tool_calls_llama_reads_an_answer_that_is_one_object) {
    llama(FP, "{{f {\"a\": 1}}}");
    llama("\n\n" FP "\n ", "{{f {\"a\": 1}}}");
    llama("<|python_tag|>" FP, "{{f {\"a\": 1}}}");
    llama("{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", "{{f {}}}");
    static const char *const texts[] = {
        "",
        "\n",
        "Hello",
        "Look: " FP,
        FP " is the call",
        FP FP,
        F,
        "<|python_tag|>",
        "<|python_tag|>print(1)",
        "<|python <|python_tag|>" FP,
        "{\"answer\": 42}",
        "{\"name\": \"f\", \"parameters\": {",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) llama(texts[i], texts[i]);
}

TEST(tool_calls_none_is_left_alone_without_a_family) {
    tc_check(TOOL_FAMILY_NONE, T(F) "[TOOL_CALLS]f{}", T(F) "[TOOL_CALLS]f{}");
}

TEST(tool_calls_the_only_call_ends_the_answer) {
    transcript t;
    tc_run(&t, TOOL_FAMILY_HERMES, true, S("a" T(F) T(G) " z"), 4, 4);
    CHECK_STR(t.text.p, "a{{f {\"a\": 1}}}");
    buf_deinit(&t.text);
    tc_run(&t, TOOL_FAMILY_MISTRAL, true, S("[TOOL_CALLS] [" F "," G "]"), 1, 1);
    CHECK_STR(t.text.p, "{{f {\"a\": 1}}}");
    buf_deinit(&t.text);
    tc_run(&t, TOOL_FAMILY_LLAMA, true, S(FP), 1, 1);
    CHECK_STR(t.text.p, "{{f {\"a\": 1}}}");
    buf_deinit(&t.text);
}

/* How much text of `given` is still held behind it. */
static size_t tc_held(tool_family family, const char *given) {
    transcript t;
    tool_parser p;
    tool_sink sink = {&t, tc_text, tc_call};
    tc_open(&t);
    tool_parser_init(&p, family, false);
    (void)tool_parser_push(&p, str_of(given), &sink);
    size_t held = p.held.n;
    tool_parser_deinit(&p);
    buf_deinit(&t.text);
    return held;
}

TEST(tool_calls_hold_text_only_while_it_may_become_a_call) {
    CHECK_EQ(tc_held(TOOL_FAMILY_HERMES, "a <tool_"), 7);
    CHECK_EQ(tc_held(TOOL_FAMILY_HERMES, "a <tool-"), 0);
    CHECK_EQ(tc_held(TOOL_FAMILY_HERMES, "<tool_call>{\"a\""), 15);
    CHECK_EQ(tc_held(TOOL_FAMILY_HERMES, "<tool_call>{\"a\"1"), 0);
    CHECK_EQ(tc_held(TOOL_FAMILY_HERMES, "<tool_call>{\"a\":]"), 0);
    CHECK_EQ(tc_held(TOOL_FAMILY_MISTRAL, "[TOOL_CALLS]name with"), 0);
    CHECK_EQ(tc_held(TOOL_FAMILY_LLAMA, "H"), 0);
    CHECK_EQ(tc_held(TOOL_FAMILY_LLAMA, "{\"name\""), 7);
}

/* --- hostile ------------------------------------------------------------------------------ */

static void tc_same(tool_family family, str text) {
    transcript t;
    tc_run(&t, family, false, text, 1000, 1000);
    CHECK_EQ(t.calls, 0);
    CHECK(str_eq((str){t.text.p, t.text.n - 1}, text));
    buf_deinit(&t.text);
}

TEST(tool_calls_hostile_text_costs_bounded_memory_and_linear_time) {
    static const char *const begins[] = {"", "<tool_call>", "<tool_call>{\"a\":\"",
                                         "<tool_call>{\"a\":", "<tool_call>{"};
    static const char *const repeats[] = {
        " ", "<", "[", "{\"a\":", "x", "<tool_call>", "\\\"", "\n"};
    size_t bytes = (size_t)TOOL_CALL_BYTES_MAX * 5 / 4;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        for (size_t k = 0; k < sizeof repeats / sizeof *repeats; k++) {
            buf b;
            buf_init(&b, bytes + 64);
            buf_put_str(&b, str_of(begins[i]));
            while (b.n < bytes) buf_put_str(&b, str_of(repeats[k]));
            tc_same(TOOL_FAMILY_HERMES, buf_view(&b));
            buf_deinit(&b);
        }
    }
}

TEST(tool_calls_an_object_of_the_largest_size_is_a_call_and_a_larger_one_is_not) {
    const char *head = "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"";
    size_t room = TOOL_CALL_BYTES_MAX - strlen(head) - 3;
    for (size_t more = 0; more < 2; more++) {
        transcript t;
        buf b;
        buf_init(&b, TOOL_CALL_BYTES_MAX + 16);
        buf_put_str(&b, str_of(head));
        for (size_t i = 0; i < room + more; i++) buf_put_char(&b, 'x');
        buf_put_str(&b, S("\"}}"));
        tc_run(&t, TOOL_FAMILY_HERMES, false, buf_view(&b), 777, 777);
        CHECK_EQ(t.calls, 1 - more);
        buf_deinit(&b);
        buf_deinit(&t.text);
    }
}

TEST(tool_calls_without_memory_stay_text) {
    const char *text = "one " T(F) " two " T(G);
    for (int64_t n = 0; n < 12; n++) {
        transcript t;
        tool_parser p;
        tool_sink sink = {&t, tc_text, tc_call};
        tc_open(&t);
        CHECK(buf_reserve(&t.text, 4096) != NULL);
        tool_parser_init(&p, TOOL_FAMILY_HERMES, false);
        mem_fail_after(n);
        (void)tool_parser_push(&p, str_of(text), &sink);
        tool_parser_finish(&p, &sink);
        mem_fail_after(-1);
        CHECK(t.calls <= 2 && t.text.n > 10);
        if (t.calls == 0) CHECK(str_eq(buf_view(&t.text), str_of(text)));
        tool_parser_deinit(&p);
        buf_deinit(&t.text);
    }
}

/* --- families ----------------------------------------------------------------------------- */

TEST(tool_families_are_known_by_their_templates) {
    CHECK_EQ(tool_family_of(S("")), TOOL_FAMILY_NONE);
    CHECK_EQ(tool_family_of(S("{{ messages }} arguments")), TOOL_FAMILY_NONE);
    CHECK_EQ(tool_family_of(S("<tool_call>\n{\"name\": \"x\", \"arguments\": ")),
             TOOL_FAMILY_HERMES);
    CHECK_EQ(tool_family_of(S("<tool_call>\n<function=x> arguments")), TOOL_FAMILY_NONE);
    CHECK_EQ(tool_family_of(S("<tool_call>x\n<arg_key> arguments")), TOOL_FAMILY_NONE);
    CHECK_EQ(tool_family_of(S("'[TOOL_CALLS] ['")), TOOL_FAMILY_MISTRAL);
    CHECK_EQ(tool_family_of(S("<|start_header_id|>ipython {\"name\":, \"parameters\": ")),
             TOOL_FAMILY_LLAMA);
    CHECK_EQ(tool_family_of(S("<|start_header_id|>ipython parameters <function=x>")),
             TOOL_FAMILY_NONE);
    CHECK_STR(tool_format_of(TOOL_FAMILY_LLAMA)->capability, "calls_llama");
    CHECK(tool_format_of(TOOL_FAMILY_NONE) == NULL && tool_format_of(TOOL_FAMILY_END) == NULL);
}

TEST(tool_marks_are_the_control_tokens_among_the_markers) {
    static small_vocab v;
    tokenizer *tok = NULL;
    error err = {0};
    tool_marks m;
    small_init(&v);
    int32_t open = small_add(&v, S("<tool_call>"), 0, TOK_TYPE_CONTROL);
    int32_t close = small_add(&v, S("</tool_call>"), 0, TOK_TYPE_USER_DEFINED);
    CHECK_EQ(tok_create(&tok, &v.vocab, &err), OK);
    CHECK_EQ(tool_marks_init(&m, TOOL_FAMILY_HERMES, tok, &err), OK);
    CHECK_EQ(m.count, 1);
    CHECK(str_eq(tool_marks_text(&m, open), S("<tool_call>")));
    CHECK_EQ(tool_marks_text(&m, close).n, 0);
    CHECK_EQ(tool_marks_init(&m, TOOL_FAMILY_MISTRAL, tok, &err), OK);
    CHECK_EQ(m.count, 0);
    CHECK_EQ(tool_marks_init(&m, TOOL_FAMILY_NONE, tok, &err), OK);
    CHECK_EQ(m.count, 0);
    tok_destroy(tok);
}
