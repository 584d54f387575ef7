/* test_jinja_syntax.c - what a template may look like: each form of the language, and each way to
 * get it wrong, cut short at any byte, with a wrong byte anywhere, and without memory. */
#include <stdlib.h>

#include "base/alloc.h"
#include "test.h"
#include "text/jinja.h"

typedef struct syntax_case {
    const char *source;
    const char *want; /* NULL: an error */
} syntax_case;

/* The answers are those of jinja2 3.1.2. */
static const syntax_case CASES[] = {
    {"a {%+ if 1 %}b{% endif +%}", "a b"},
    {"{{- 1 +}}", NULL},
    {"{{ 1 + +1 }}", "2"},
    {"x {#- note -#} y", "xy"},
    {"x {# note", NULL},
    {"{%- raw -%} {{ a }} {%- endraw -%} z", "{{ a }}z"},
    {"{%+ raw %}{{ a }}{% endraw %}", "{{ a }}"},
    {"{% raw +%}x{% endraw %}", NULL},
    {"{% raw %}a{% endraw +%} b", "a b"},
    {"{% raw %}a", NULL},
    {"{% raw", NULL},
    {"{% raw %}a{% endraw", NULL},
    {"{{ 0b101 }}{{ 0B1_0 }}{{ 0o17 }}{{ 0O7 }}{{ 0xfF }}{{ 0X1_a }}", "5215725526"},
    {"{{ 0b }}", NULL},
    {"{{ 0x }}", NULL},
    {"{{ 0xg }}", NULL},
    {"{{ 0b2 }}", NULL},
    {"{{ 0o8 }}", NULL},
    {"{{ 00 }}{{ 0_0 }}", "00"},
    {"{{ 0_ }}", NULL},
    {"{{ 01 }}", NULL},
    {"{{ 1_000 }}{{ 1_0.5_0e1_0 }}", "1000105000000000.0"},
    {"{{ 1__0 }}", NULL},
    {"{{ 1_ }}", NULL},
    {"{{ 1.e }}", ""},
    {"{{ 1. }}", NULL},
    {"{{ 1.5e }}", NULL},
    {"{{ 1e3 }}{{ 1E-3 }}{{ 1e+2 }}", "1000.00.001100.0"},
    {"{{ 1e }}", NULL},
    {"{{ 1e+ }}", NULL},
    {"{{ 1.upper }}", ""},
    {"{{ a.1.2 }}", NULL},
    {"{{ [[1,2]].0.1 }}", "2"},
    {"{{ {0:{1:5}}.0.1 }}", "5"},
    {"{{ 0x1_ }}", NULL},
    {"{{ 1e999999 }}", "inf"},
    {"{{ '\\x41\\u00e9\\U0001F600\\101\\7\\0'|length }}", "6"},
    {"{{ '\\x4' }}", NULL},
    {"{{ '\\x4g' }}", NULL},
    {"{{ '\\u12' }}", NULL},
    {"{{ '\\U0011ffff' }}", NULL},
    {"{{ '\\N{DASH}' }}", NULL},
    {"{{ '\\d\\q' }}", "\\d\\q"},
    {"{{ '\\\\\\'\\\"\\a\\b\\f\\n\\r\\t\\v'|length }}", "10"},
    {"{{ 'a\\\nb' }}", "ab"},
    {"{{ 'open }}", NULL},
    {"{{ \"open }}", NULL},
    {"{{ 'ends with \\' }}", NULL},
    {"{{ \302\262 }}", NULL},
    {"{{ \331\243 }}", NULL},
    {"{{ \303\251 }}", ""},
    {"{{ $ }}", NULL},
    {"{{ \303\251$ }}", NULL},
    {"{{ ) }}", NULL},
    {"{{ (] }}", NULL},
    {"{{ [1 }}", NULL},
    {"{{ {1 }}", NULL},
    {"{{ (1 }}", NULL},
    {"{{ {1:2 }}", NULL},
    {"{{ {1:2,} }}{{ {} }}{{ [] }}{{ () }}{{ [1,] }}{{ (1,) }}{{ 1, }}{{ 1,2 }}",
     "{1: 2}{}[]()[1](1,)(1,)(1, 2)"},
    {"{{ {1} }}", NULL},
    {"{{ {,} }}", NULL},
    {"{{ [,] }}", NULL},
    {"{{ (,) }}", NULL},
    {"{{ }}", NULL},
    {"{% %}", NULL},
    {"{% 5 %}", NULL},
    {"{% 'x' %}", NULL},
    {"{% end %}", NULL},
    {"{% endif %}", NULL},
    {"{% if 1 %}{% endfor %}", NULL},
    {"{% if 1 %}{% for x in [] %}{% endif %}", NULL},
    {"{% if 1 %}", NULL},
    {"{% if %}", NULL},
    {"{% if 1 2 %}x{% endif %}", NULL},
    {"{% if 1 %}a{% elif 2 %}b{% else %}c{% else %}d{% endif %}", NULL},
    {"{% if 0 %}a{% elif %}b{% endif %}", NULL},
    {"{% for %}{% endfor %}", NULL},
    {"{% for x %}{% endfor %}", NULL},
    {"{% for x of y %}{% endfor %}", NULL},
    {"{% for x in %}{% endfor %}", NULL},
    {"{% for 1 in [1] %}{% endfor %}", NULL},
    {"{% for x.y in [1] %}{% endfor %}", NULL},
    {"{% for x in [1,2,3] if x > 1 recursive %}{{ x }}{% else %}n{% endfor %}", "23"},
    {"{% for x, y in [[1,2]] %}{{ x }}{{ y }}{% endfor %}", "12"},
    {"{% for (x, (y, z)) in [[1,[2,3]]] %}{{ x }}{{ y }}{{ z }}{% endfor %}", "123"},
    {"{% for x in [1] recursive if x %}{% endfor %}", NULL},
    {"{% for true in [1] %}{% endfor %}", NULL},
    {"{% for x in 1, 2 %}{{ x }}{% endfor %}", "12"},
    {"{% for x in [1] if %}{% endfor %}", NULL},
    {"{% break %}", NULL},
    {"{% for x in [1,2] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% continue %}no{% endfor %}",
     "1"},
    {"{% set %}", NULL},
    {"{% set x %}", NULL},
    {"{% set x = %}", NULL},
    {"{% set x = 1 2 %}", NULL},
    {"{% set x, y = 1, 2 %}{{ x }}{{ y }}", "12"},
    {"{% set (x, y) = 1, 2 %}{{ x }}{{ y }}", "12"},
    {"{% set x %}a{{ 1 }}{% endset %}{{ x }}", "a1"},
    {"{% set x | upper | replace('A', 'b') %}a{% endset %}{{ x }}", "b"},
    {"{% set x | %}a{% endset %}", NULL},
    {"{% set x.y = 1 %}", NULL},
    {"{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"},
    {"{% set ns.a, x = 1, 2 %}", NULL},
    {"{% set 1 = 2 %}", NULL},
    {"{% set none = 2 %}", NULL},
    {"{% set x = 1 if 0 %}{{ x }}", ""},
    {"{% macro %}{% endmacro %}", NULL},
    {"{% macro 5() %}{% endmacro %}", NULL},
    {"{% macro m %}{% endmacro %}", NULL},
    {"{% macro m( %}{% endmacro %}", NULL},
    {"{% macro m(1) %}{% endmacro %}", NULL},
    {"{% macro m(a, %}{% endmacro %}", NULL},
    {"{% macro m(a,) %}{{ a }}{% endmacro %}{{ m(1) }}", NULL},
    {"{% macro m(a b) %}{% endmacro %}", NULL},
    {"{% macro m(a=1, b) %}{% endmacro %}", NULL},
    {"{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 3, 4, c=5) "
     "}}",
     "13(4,){'c': 5}"},
    {"{% macro m(a=) %}{% endmacro %}", NULL},
    {"{% macro true() %}{% endmacro %}{{ true }}", NULL},
    {"{% macro m(none) %}{% endmacro %}", NULL},
    {"{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}", "x"},
    {"{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(a) m() %}x{{ a }}{% endcall %}", "x1"},
    {"{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(a, b=2) m() %}x{{ a }}{{ b }}{% endcall "
     "%}",
     "x12"},
    {"{% call m %}{% endcall %}", NULL},
    {"{% call %}{% endcall %}", NULL},
    {"{% call 1 %}{% endcall %}", NULL},
    {"{% call(a m() %}{% endcall %}", NULL},
    {"{% call(1) m() %}{% endcall %}", NULL},
    {"{% filter upper %}a{% endfilter %}", "A"},
    {"{% filter upper | replace('A', 'c') %}a{% endfilter %}", "c"},
    {"{% filter %}a{% endfilter %}", NULL},
    {"{% filter nosuch %}a{% endfilter %}", NULL},
    {"{% filter 5 %}a{% endfilter %}", NULL},
    {"{% with %}a{% endwith %}", "a"},
    {"{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}", "12"},
    {"{% with a = 1 b = 2 %}{% endwith %}", NULL},
    {"{% with a %}{% endwith %}", NULL},
    {"{% with a = %}{% endwith %}", NULL},
    {"{% with 1 = 2 %}{% endwith %}", NULL},
    {"{% with a = 1, %}{{ a }}{% endwith %}", NULL},
    {"{% block b %}x{% endblock %}", "x"},
    {"{% block b %}x{% endblock b %}", "x"},
    {"{% block b %}x{% endblock c %}", NULL},
    {"{% block b scoped %}x{% endblock %}", "x"},
    {"{% block b required %}x{% endblock %}", NULL},
    {"{% block b required %}  {% endblock %}", NULL},
    {"{% block b scoped required %}{% endblock %}", NULL},
    {"{% block %}x{% endblock %}", NULL},
    {"{% block 5 %}x{% endblock %}", NULL},
    {"{% block a-b %}x{% endblock %}", NULL},
    {"{% block b %}x{% endblock %}{% block b %}y{% endblock %}", NULL},
    {"{% print 1 %}", "1"},
    {"{% print 1, 2 %}", "12"},
    {"{% print %}", ""},
    {"{% print 1 2 %}", NULL},
    {"{% autoescape false %}<{% endautoescape %}", "<"},
    {"{% autoescape %}<{% endautoescape %}", NULL},
    {"{% generation %}x{% endgeneration %}", "x"},
    {"{% generation x %}x{% endgeneration %}", NULL},
    {"{% do 1 %}", NULL},
    {"{% include 'x' %}", NULL},
    {"{% import 'x' as y %}", NULL},
    {"{% from 'x' import y %}", NULL},
    {"{% extends 'x' %}", NULL},
    {"{% trans %}x{% endtrans %}", NULL},
    {"{{ 1 if }}", NULL},
    {"{{ 1 if 1 else }}", NULL},
    {"{{ 1 if 0 else 2 if 0 else 3 }}", "3"},
    {"{{ not }}", NULL},
    {"{{ not 1 }}{{ not not 1 }}", "FalseTrue"},
    {"{{ 1 and }}", NULL},
    {"{{ 1 or }}", NULL},
    {"{{ 1 < }}", NULL},
    {"{{ 1 < 2 < 3 }}{{ 3 > 2 >= 2 != 1 == 1 <= 4 }}", "TrueTrue"},
    {"{{ 1 in }}", NULL},
    {"{{ 1 not }}", NULL},
    {"{{ 1 not 2 }}", NULL},
    {"{{ 1 not in [2] }}{{ 1 in [1] }}", "TrueTrue"},
    {"{{ 1 + }}{{ 1 }}", NULL},
    {"{{ 1 - }}x", NULL},
    {"{{ 1 * }}", NULL},
    {"{{ 2 ** }}", NULL},
    {"{{ 1 / }}", NULL},
    {"{{ 1 // }}", NULL},
    {"{{ 1 % }}", NULL},
    {"{{ 1 ~ }}", NULL},
    {"{{ ~ 1 }}", NULL},
    {"{{ 1 ~ 2 ~ 'a' }}", "12a"},
    {"{{ - }}", NULL},
    {"{{ -1 }}{{ +1 }}{{ -2 ** 2 }}{{ 2 ** -1 }}{{ 2 ** 3 ** 2 }}", "-1140.564"},
    {"{{ 1 | }}", NULL},
    {"{{ 1 | 5 }}", NULL},
    {"{{ 1 | nosuch }}", NULL},
    {"{{ 1 | string | length }}", "1"},
    {"{{ 1 | default( }}", NULL},
    {"{{ [1,2] | join('-', ) }}", "1-2"},
    {"{{ 1 is }}", NULL},
    {"{{ 1 is 5 }}", NULL},
    {"{{ 1 is nosuch }}", NULL},
    {"{{ 1 is not }}", NULL},
    {"{{ 1 is not none }}{{ 1 is number }}", "TrueTrue"},
    {"{{ 4 is divisibleby 2 }}{{ 4 is divisibleby(2) }}{{ 4 is not divisibleby 3 }}",
     "TrueTrueTrue"},
    {"{{ 4 is sameas none }}{{ 'a' is in ['a'] }}{{ 4 is eq 4.0 }}{{ [] is eq [] }}{{ {} is eq {} "
     "}}{{ 'x' is eq 'x' }}",
     "FalseTrueTrueTrueTrueTrue"},
    {"{{ 4 is divisibleby 2 is true }}", "True"},
    {"{{ 4 is divisibleby 2 and 1 }}{{ 4 is odd or 5 }}{{ 1 if 4 is even else 2 }}{{ 4 is even in "
     "[true] }}",
     NULL},
    {"{{ 4 is eq a.b }}", NULL},
    {"{{ x. }}", NULL},
    {"{{ x.5a }}", NULL},
    {"{{ x.'a' }}", NULL},
    {"{{ x[ }}", NULL},
    {"{{ x[] }}", NULL},
    {"{{ x[1 }}", NULL},
    {"{{ 'abc'[1] }}{{ 'abc'[0:2] }}{{ 'abc'[:] }}{{ 'abc'[::] }}{{ 'abc'[::2] }}{{ 'abc'[1:] }}{{ "
     "'abc'[:1] }}{{ 'abc'[::-1] }}{{ 'abc'[0:3:2] }}",
     "bababcabcacbcacbaac"},
    {"{{ 'abc'[1:2:3:4] }}", NULL},
    {"{{ 'abc'[1,] }}", NULL},
    {"{{ {(1,2): 3}[1,2] }}", "3"},
    {"{{ 'abc'[1:2 }}", NULL},
    {"{{ 'abc'[: }}", NULL},
    {"{{ f( }}", NULL},
    {"{{ f(1 }}", NULL},
    {"{{ f(1 2) }}", NULL},
    {"{{ f(,) }}", NULL},
    {"{{ f(a=1, 2) }}", NULL},
    {"{{ f(a=1, a=2) }}", NULL},
    {"{{ f(*a, *b) }}", NULL},
    {"{{ f(**a, **b) }}", NULL},
    {"{{ f(**a, b) }}", NULL},
    {"{{ f(**a, *b) }}", NULL},
    {"{{ f(*) }}", NULL},
    {"{{ f(**) }}", NULL},
    {"{{ f(a=) }}", NULL},
    {"{{ f(1=2) }}", NULL},
    {"{{ dict(**{'a': 1}) }}{{ dict(*[[['b', 2]]]) }}{{ dict(a=1, **{'b': 2}) }}{{ dict(a=1,) }}",
     "{'a': 1}{'b': 2}{'a': 1, 'b': 2}{'a': 1}"},
    {"{{ range(*[1, 3]) | list }}", "[1, 2]"},
    {"{{ dict(*[], a=1) }}", "{'a': 1}"},
    {"{{ f(*a, 1) }}", NULL},
    {"{{ 'a' 'b' \"c\" }}", "abc"},
    {"{{ true True false False none None }}", NULL},
    {"{{ True }}{{ False }}{{ None }}{{ true }}", "TrueFalseNoneTrue"},
    {"{{ _ }}", ""},
    {"{{ 1 }", NULL},
    {"{{ 1 }}}", "1}"},
    {"{{ {'a': 1}}}", "{'a': 1}"},
    {"{{{'a': 1}}}", "{'a': 1}"},
    {"{{ 1;2 }}", NULL},
    {"{{ a=1 }}", NULL},
    {"{{ 1 != 2 }}{{ 1 ! 2 }}", NULL},
    {"{{ a.b.c.d }}", NULL},
    {"{{ (1)(2) }}", NULL},
    {"{{ 'a'.upper()[0].lower().upper() }}", "A"},
    {"{% if x is defined and y is not defined or not z is none %}1{% endif %}", "1"},
    {"{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"},
    {"{%for x in [1]%}{{x}}{%endfor%}", "1"},
    {"{% if 1 -%}  a  {%- endif %}", "a"},
    {"{%- if 1 %}b{% endif -%}", "b"},
    {"{{ self.b() }}", NULL},
    {"{{ super() }}", NULL},
    {"{{ caller }}", ""},
    {"{{ loop }}", ""},
    {"{{ varargs }}", ""},
    {"{{ [1, 2 }}", NULL},
    {"{{ {'a' 1} }}", NULL},
    {"{{ {'a': } }}", NULL},
    {"{{ {'a': 1 'b': 2} }}", NULL},
    {"{{ (1 2) }}", NULL},
    {"{{ [1 2] }}", NULL},
};

enum { CASES_COUNT = sizeof CASES / sizeof *CASES };

TEST(jinja_reads_every_form_of_the_language_as_the_original_does) {
    jinja_options options = jinja_chat_options();
    jinja_env env = {.limits = jinja_default_limits()};
    for (size_t i = 0; i < CASES_COUNT; i++) {
        const syntax_case *c = &CASES[i];
        jinja_template *t = NULL;
        error err = {0};
        buf out;
        buf_init(&out, SIZE_MAX);
        status st = jinja_parse(&t, str_of(c->source), &options, &err);
        if (st == OK) st = jinja_render(t, S("{}"), &env, &out, &err);
        bool same =
            c->want != NULL ? st == OK && str_eq(buf_view(&out), str_of(c->want)) : st != OK;
        CHECK(same);
        CHECK((st == OK) == (err.msg[0] == '\0'));
        if (!same)
            (void)fprintf(stderr, "  %s: %s: \"%.*s\", want \"%s\"\n", c->source, err.msg,
                          STR(buf_view(&out)), c->want != NULL ? c->want : "an error");
        jinja_destroy(t);
        buf_deinit(&out);
    }
}

/* Parses; what fails says why. */
static status parse_only(str source, const jinja_options *options) {
    jinja_template *t = NULL;
    error err = {0};
    status st = jinja_parse(&t, source, options, &err);
    CHECK((st == OK) == (t != NULL) && (st == OK) == (err.msg[0] == '\0'));
    jinja_destroy(t);
    return st;
}

/* The source lies in a heap block of its own: a sanitizer sees what reads behind it. */
static void parse_exact(str source, const jinja_options *options) {
    char *block = malloc(source.n + (source.n == 0));
    if (source.n > 0) memcpy(block, source.p, source.n);
    (void)parse_only((str){block, source.n}, options);
    free(block);
}

TEST(jinja_parser_takes_templates_that_end_anywhere) {
    for (int kept = 0; kept < 2; kept++) {
        jinja_options options = {.keep_trailing_newline = kept != 0};
        for (size_t i = 0; i < CASES_COUNT; i++) {
            str s = str_of(CASES[i].source);
            for (size_t n = 0; n <= s.n; n++) parse_exact((str){s.p, n}, &options);
        }
    }
    parse_exact(S("a\r\n"), &(jinja_options){0});
    parse_exact(S("a\rb\r"), &(jinja_options){.keep_trailing_newline = true});
}

TEST(jinja_parser_takes_a_wrong_byte_anywhere) {
    static const char wrong[] = {'`', ')', ',', '5', '\'', '%', '\0', '_', '\n'};
    jinja_options options = jinja_chat_options();
    for (size_t i = 0; i < CASES_COUNT; i++) {
        char text[256];
        size_t n = strlen(CASES[i].source);
        CHECK(n < sizeof text);
        for (size_t at = 0; at < n; at++) {
            memcpy(text, CASES[i].source, n);
            text[at] = wrong[(i + at) % sizeof wrong];
            parse_exact((str){text, n}, &options);
            memcpy(text, CASES[i].source, n);
            text[at] = '`'; /* no token begins with it */
            parse_exact((str){text, n}, &options);
        }
    }
}

/* Padding of each length moves the place in the template where memory runs out. */
TEST(jinja_parser_survives_memory_that_ends_anywhere) {
    enum { PAD_STEP = 48, PAD_MAX = 4096 };
    static char text[PAD_MAX + 1024];
    jinja_options options = jinja_chat_options();
    for (size_t i = 0; i < CASES_COUNT; i++) {
        if (CASES[i].want == NULL) continue;
        for (size_t pad = PAD_STEP * (i % 3); pad < PAD_MAX; pad += 3 * PAD_STEP) {
            int n =
                snprintf(text, sizeof text, "{{ '\\n%0*d' }}%s", (int)pad + 1, 0, CASES[i].source);
            status st = ERR_NOMEM;
            for (int64_t fail = 0; st == ERR_NOMEM && fail < 64; fail++) {
                mem_fail_after(fail);
                st = parse_only((str){text, (size_t)n}, &options);
                mem_fail_after(-1);
            }
            CHECK(st == OK);
        }
    }
}

static void check_limit(const char *head, const char *each, const char *tail, int count,
                        status want) {
    jinja_options options = jinja_chat_options();
    buf source;
    buf_init(&source, SIZE_MAX);
    buf_put_str(&source, str_of(head));
    for (int i = 0; i < count; i++) buf_printf(&source, each, i);
    buf_put_str(&source, str_of(tail));
    CHECK_EQ(parse_only(buf_view(&source), &options), want);
    buf_deinit(&source);
}

TEST(jinja_parser_has_limits_on_counts_and_depth) {
    check_limit("{% macro m(a", ",a%d", ") %}{% endmacro %}", 254, OK);
    check_limit("{% macro m(a", ",a%d", ") %}{% endmacro %}", 255, ERR_FORMAT);
    check_limit("{{ ", "(%d,", "", 129, ERR_LIMIT);
    check_limit("", "{%% if %d %%}", "", 129, ERR_LIMIT);
    check_limit("{{ ", "%d if 1 else ", "2 }}", 400, OK);
    check_limit("{{ 1", " + %d", " }}", 10000, OK);
    check_limit("{{ a", ".a%d", " }}", 10000, OK);
    check_limit("{{ [", "%d,", "] }}", 10000, OK);
    check_limit("", "x%0100d", "", 10400, ERR_LIMIT); /* 1 MiB */
}
