/* test_jinja.c - templates that go wrong, limits, and what the recordings do not reach. */
#include <stdlib.h>

#include "base/alloc.h"
#include "golden_paths.h"
#include "text/jinja.h"

static const char CONTEXT[] =
    "{\"a\": [3, 1, 2], \"s\": \"h\\u00e9llo\", \"d\": {\"k\": \"v\", \"items\": 1}, \"n\": null, "
    "\"big\": 18446744073709551615, \"f\": 1e300, \"messages\": [{\"role\": \"user\"}]}";

/* Without the limit of time: how busy the machine is must not decide which limit is met first. */
static jinja_env test_env(void) {
    jinja_env env = {
        .now_unix_s = 951782399, .utc_offset_s = 3600, .limits = jinja_default_limits()};
    env.limits.time_ns_max = 0;
    return env;
}

static status render(str source, const jinja_env *env, buf *out, error *err) {
    jinja_template *t = NULL;
    jinja_options options = jinja_chat_options();
    TRY(jinja_parse(&t, source, &options, err));
    status st = jinja_render(t, str_of(CONTEXT), env, out, err);
    jinja_destroy(t);
    return st;
}

static void check_text(const char *source, const char *want) {
    jinja_env env = test_env();
    error err = {0};
    buf out;
    buf_init(&out, SIZE_MAX);
    CHECK_EQ(render(str_of(source), &env, &out, &err), OK);
    CHECK_STR(err.msg, "");
    buf_put_char(&out, '\0');
    CHECK_STR(out.p, want);
    buf_deinit(&out);
}

static void check_fails(const char *source, status want, const char *words) {
    jinja_env env = test_env();
    error err = {0};
    buf out;
    buf_init(&out, SIZE_MAX);
    buf_put_str(&out, S("before"));
    CHECK_EQ(render(str_of(source), &env, &out, &err), want);
    CHECK_HAS(err.msg, words);
    CHECK(str_eq(buf_view(&out), S("before")));
    buf_deinit(&out);
}

/* --- messages --------------------------------------------------------------------------- */

TEST(jinja_errors_name_the_line) {
    check_fails("a\nb\n{{ 1 / 0 }}", ERR_INVALID, "chat template: line 3: ZeroDivisionError");
    check_fails("a\r\nb\r{{ x.y }}", ERR_INVALID, "line 3: 'x' is undefined");
    check_fails("{{ d.q.z }}", ERR_INVALID, "'dict object' has no attribute 'q'");
    check_fails("\n\n{% if %}", ERR_FORMAT, "line 3: Expected an expression");
    check_fails("{% if a %}", ERR_FORMAT, "Unexpected end of template");
    check_fails("{% frob %}", ERR_FORMAT, "unknown tag 'frob'");
    check_fails("{{ a|frob }}", ERR_FORMAT, "No filter named 'frob'");
    check_fails("{{ a is frob }}", ERR_FORMAT, "No test named 'frob'");
    check_fails("{{ 'x' }", ERR_FORMAT, "line 1: unexpected '}'");
    check_fails("{{ (1] }}", ERR_FORMAT, "unexpected ']', expected ')'");
    check_fails("{{ 1 $ 2 }}", ERR_FORMAT, "unexpected char '$' at 5");
    check_fails("{# x", ERR_FORMAT, "Missing end of comment tag");
    check_fails("{% raw %} x", ERR_FORMAT, "Missing end of raw directive");
    check_fails("{% break %}", ERR_FORMAT, "'break' outside of a loop");
    check_fails("{% include 'x' %}", ERR_FORMAT, "'include' is refused");
    check_fails("{% set true = 1 %}", ERR_FORMAT, "can't assign to 'true'");
    check_fails("{% macro f(a, a) %}{% endmacro %}", ERR_FORMAT, "duplicate argument");
    check_fails("{% block a %}{% endblock %}{% block a %}{% endblock %}", ERR_FORMAT, "twice");
    check_fails("{{ f(a=1, 2) }}", ERR_FORMAT, "invalid syntax for function call");
    check_fails("{{ '\\ud800' }}", ERR_FORMAT, "an escape that is no character");
    check_fails("\xff", ERR_FORMAT, "not UTF-8");
    check_fails("{% autoescape true %}{% endautoescape %}", ERR_INVALID, "autoescape");
}

TEST(jinja_raise_exception_passes_its_text_on) {
    check_fails("{{ raise_exception('Only \"user\" and \\'x\\' roles!') }}", ERR_INVALID,
                "chat template: line 1: Only \"user\" and 'x' roles!");
}

TEST(jinja_sandbox_gives_nothing_of_python_away) {
    check_text("{{ ''.__class__ }}|{{ a['__len__'] }}", "|");
    check_fails("{{ ''.__class__.__mro__ }}", ERR_INVALID, "'__class__' of 'str'");
    check_fails("{{ a.append(1) }}", ERR_INVALID,
                "access to attribute 'append' of 'list' object is unsafe.");
    check_fails("{{ d.update(x=1) }}", ERR_INVALID, "is unsafe");
    check_fails("{{ '{0.__class__.x}'.format(1) }}", ERR_INVALID, "is unsafe");
}

/* --- values ------------------------------------------------------------------------------- */

TEST(jinja_numbers_are_those_of_python) {
    check_text(
        "{{ big }} {{ big * 1000000000000 }} {{ f }} {{ 1e16 }} {{ 123456789012345.0 }} {{ 1e-5 }}",
        "18446744073709551615 18446744073709551615000000000000 1e+300 1e+16 "
        "123456789012345.0 1e-05");
    check_text(
        "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 // 2 }} {{ -1.5 % 1 }} {{ 2 ** -1 }}",
        "-4 2 -2 -4.0 0.5 0.5");
    check_text("{{ 5e-324 }} {{ 0.1 + 0.2 }} {{ 1e22 }} {{ 100000.0 }} {{ 2 ** 3 ** 2 }}",
               "5e-324 0.30000000000000004 1e+22 100000.0 64");
    check_fails("{{ 2 ** 200 }}", ERR_INVALID, "integer too large");
    check_fails("{{ big * big * big }}", ERR_INVALID, "integer too large");
    check_fails("{{ 999999999999999999999999999999999999999999 }}", ERR_FORMAT,
                "integer too large");
}

TEST(jinja_text_is_counted_in_characters) {
    check_text("{{ s|length }}{{ s[1] }}{{ s[-4:] }}{{ s[::-1] }}{{ s.find('l') }}",
               "5éélloolléh2");
    check_text("{{ 'straße'.upper() }} {{ 'ΑΣ ΑΣΑ'.lower() }} {{ 'ǆ'.title() }}",
               "STRASSE ας ασα ǅ");
    check_text("{{ ['it\\'s', \"\\\"\", '\\x00\\x7f\\u2028é'] }}",
               "[\"it's\", '\"', '\\x00\\x7f\\u2028é']");
}

TEST(jinja_generators_are_walked_once) {
    check_text("{% set g = a|map('string') %}{{ g|join }}|{{ g|join }}", "312|");
    check_fails("{{ (a|map('string'))|length }}", ERR_INVALID, "'generator' has no len()");
}

TEST(jinja_dot_prefers_methods_and_brackets_prefer_items) {
    check_text("{{ d['items'] }}{{ d.items()|length }}{{ d['get']('k') }}", "12v");
}

TEST(jinja_dictionaries_keep_their_order_when_they_grow) {
    check_text(
        "{% set ns = namespace() %}{% set d2 = dict() %}"
        "{% set x = {'k0': 0, 'k1': 1, 'k2': 2, 'k3': 3, 'k4': 4, 'k5': 5, 'k6': 6, 'k7': 7, "
        "'k8': 8, 'k9': 9, 1: 'i', 1.0: 'f', (1, 2): 't'} %}"
        "{{ x|length }} {{ x['k9'] }} {{ x[true] }} {{ x[(1, 2.0)] }} {{ x|first }}",
        "12 9 f t k0");
    check_fails("{{ {[1]: 2} }}", ERR_INVALID, "unhashable type: 'list'");
}

TEST(jinja_clock_is_the_one_that_was_given) {
    /* 2000-02-29 00:59:59 local time, a leap day and a Tuesday */
    check_text("{{ strftime_now('%Y-%m-%d %H:%M:%S %a %A %b %j %-d %-H %I%p %y %e %U %W %V %G %u "
               "%w %% %Q') }}",
               "2000-02-29 00:59:59 Tue Tuesday Feb 060 29 0 12AM 00 29 09 09 09 2000 2 2 % %Q");
}

/* --- scopes --------------------------------------------------------------------------------- */

TEST(jinja_loops_and_macros_keep_their_variables_to_themselves) {
    check_text("{% set v = 1 %}{% for i in a %}{% set v = v + 1 %}{{ v }}{% endfor %}{{ v }}",
               "2221");
    check_text("{% if true %}{% set v = 2 %}{% endif %}{{ v }}", "2");
    check_text("{% macro f() %}{{ v }}{% set v = 9 %}{% endmacro %}{% set v = 3 %}{{ f() }}{{ v }}",
               "33");
    check_text("{% with v = 1, w = v %}{{ v }}[{{ w }}]{% endwith %}{{ v }}", "1[]");
    check_text("{% set ns = namespace(v=0) %}{% for i in a %}{% set ns.v = ns.v + i %}{% endfor %}"
               "{{ ns.v }}",
               "6");
}

TEST(jinja_macros_keep_the_scope_they_were_made_in) {
    check_text(
        "{% set ns = namespace(f=none) %}{% for i in a %}{% if loop.first %}"
        "{% macro g() %}{{ i }}{% endmacro %}{% set ns.f = g %}{% endif %}{% endfor %}{{ ns.f() }}",
        "3");
}

TEST(jinja_mentions_variables_and_attributes) {
    jinja_template *t = NULL;
    jinja_options options = jinja_chat_options();
    error err = {0};
    CHECK_EQ(jinja_parse(&t, S("tools {{ x.y['z'] }}{% if enable_thinking %}{% endif %}"), &options,
                         &err),
             OK);
    CHECK(!jinja_mentions(t, S("tools")) && !jinja_mentions(t, S("loop")));
    CHECK(jinja_mentions(t, S("x")) && jinja_mentions(t, S("y")) && jinja_mentions(t, S("z")));
    CHECK(jinja_mentions(t, S("enable_thinking")));
    jinja_destroy(t);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* `open` n times, `middle`, `close` n times. */
static void check_repeated(const char *open, const char *middle, const char *close, size_t n,
                           status want, const char *words) {
    jinja_env env = test_env();
    error err = {0};
    buf source, out;
    buf_init(&source, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    buf_put_str(&source, S("{{ "));
    for (size_t i = 0; i < n; i++) buf_put_str(&source, str_of(open));
    buf_put_str(&source, str_of(middle));
    for (size_t i = 0; i < n; i++) buf_put_str(&source, str_of(close));
    buf_put_str(&source, S(" }}"));
    CHECK_EQ(render(buf_view(&source), &env, &out, &err), want);
    CHECK_HAS(want == OK ? out.p : err.msg, words);
    buf_deinit(&source);
    buf_deinit(&out);
}

TEST(jinja_long_chains_need_no_stack) {
    check_repeated("", "1", " + 1", 100000, OK, "100001");
    check_repeated("", "'x'", "|e", 100000, OK, "x");
    check_repeated("not ", "1", "", 100000, OK, "True");
    check_repeated("-", "1", "", 100001, OK, "-1");
    check_repeated("", "1", " or 0", 100000, OK, "1");
    check_repeated("", "1", " ~ 1", 100000, OK, "1111");
    check_repeated("0 if n else ", "1", "", 60000, OK, "1");
    check_repeated("", "1", " if 1", 100000, ERR_LIMIT, "nested too deep");
    check_repeated("", "x", ".x", 100000, ERR_INVALID, "'x' is undefined");
}

TEST(jinja_nesting_has_an_end) {
    check_repeated("(", "1", ")", 100000, ERR_LIMIT, "nested deeper than 128");
    check_repeated("[", "1", "]", 120, OK, "[[");
    check_repeated("1 + (2 * (", "1", "))", 60, OK, "");
    check_fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ERR_LIMIT,
                "calls nested deeper");
    check_fails("{% set ns = namespace(v=[]) %}{% for i in range(999) %}{% set ns.v = [ns.v] %}"
                "{% endfor %}{{ ns.v }}",
                ERR_LIMIT, "nested too deep");
}

TEST(jinja_steps_memory_output_and_time_are_limited) {
    check_fails("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                ERR_LIMIT, "chat template: line 1: ");
    check_fails("{{ range(1000000000) }}", ERR_INVALID, "Range too big");
    check_fails("{{ 'x' * 10000000000 }}", ERR_LIMIT, "268435456 bytes");
    check_fails("{{ [1] * 10000000000 }}", ERR_LIMIT, "268435456 bytes");
    check_fails("{{ 'x'.ljust(10000000000) }}", ERR_LIMIT, "width");
    check_fails("{{ '%1000000000d' % 1 }}", ERR_INVALID, "format width");
    check_fails(
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}",
        ERR_LIMIT, "bytes it may have");
    jinja_env env = test_env();
    error err = {0};
    buf out;
    buf_init(&out, SIZE_MAX);
    env.limits.steps_max = 1000;
    CHECK_EQ(render(S("{% for i in range(1000) %}{{ i }}{% endfor %}"), &env, &out, &err),
             ERR_LIMIT);
    CHECK_HAS(err.msg, "takes more than 1000 steps");
    env = test_env();
    env.limits.time_ns_max = 1;
    CHECK_EQ(render(S("{% for i in range(30000) %}{{ i }}{% endfor %}"), &env, &out, &err),
             ERR_LIMIT);
    CHECK_HAS(err.msg, "ms");
    env = test_env();
    env.limits.output_bytes_max = 10;
    CHECK_EQ(render(S("12345678901"), &env, &out, &err), ERR_LIMIT);
    CHECK_EQ(out.n, 0);
    buf_deinit(&out);
}

TEST(jinja_survives_every_failed_allocation) {
    str source =
        S("{% macro f(x) %}{{ x|upper }}{% endmacro %}{% for m in messages %}{{ f(m.role) }}"
          "{{ d|tojson }}{{ [s, a]|string }}{% endfor %}");
    jinja_env env = test_env();
    status st = ERR_NOMEM;
    int64_t n = 0;
    for (; st != OK && n < 200; n++) {
        error err = {0};
        buf out;
        buf_init(&out, SIZE_MAX);
        mem_fail_after(n);
        st = render(source, &env, &out, &err);
        mem_fail_after(-1);
        CHECK(st == OK || st == ERR_NOMEM);
        buf_deinit(&out);
    }
    CHECK_EQ(st, OK);
    CHECK(n > 5);
}

/* --- every shared template --------------------------------------------------------------- */

TEST(jinja_parses_every_known_template) {
    static const char *const NAMES[] = {"Apertus-8B-Instruct",
                                        "ByteDance-Seed-OSS",
                                        "GLM-4.6",
                                        "GLM-5.2",
                                        "Kimi-K2-Thinking",
                                        "LFM2-8B-A1B",
                                        "MiMo-VL",
                                        "Qwen3-Coder",
                                        "Qwen3.5-4B",
                                        "StepFun3.5-Flash",
                                        "deepseek-ai-DeepSeek-V3.2",
                                        "deepseek-ai-DeepSeek-V4",
                                        "google-gemma-4-31B-it",
                                        "openai-gpt-oss-120b",
                                        "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
                                        "unsloth-Apriel-1.5"};
    SHARED_OR_SKIP(folder, "suites/chat-templates/README.md");
    (void)folder;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char name[128], text[65536];
        (void)snprintf(name, sizeof name, "suites/chat-templates/%s.jinja", NAMES[i]);
        const char *path = shared_path(name);
        FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
        CHECK(fp != NULL);
        if (fp == NULL) continue;
        str source = {text, fread(text, 1, sizeof text, fp)};
        (void)fclose(fp);
        jinja_template *t = NULL;
        jinja_options options = jinja_chat_options();
        error err = {0};
        CHECK_EQ(jinja_parse(&t, source, &options, &err), OK);
        CHECK_STR(err.msg, "");
        if (t != NULL) CHECK(jinja_mentions(t, S("messages")));
        jinja_destroy(t);
    }
}
