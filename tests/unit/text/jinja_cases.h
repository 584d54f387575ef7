/* jinja_cases.h - expressions and what Python's jinja2 3.1.2 printed for them. */
#ifndef JINJA_CASES_H
#define JINJA_CASES_H

#include "test.h"
#include "text/jinja.h"

/* The variables of every expression. */
static const char JINJA_CASES_CONTEXT[] =
    "{\"a\": 1, \"l\": [3, 1, 2], \"s\": \"Hello World\", \"w\": [\"x\", \"Y\", \"z\", \"x\"], "
    "\"d\": {\"k\": \"v\", \"B\": null, \"num\": 7}, \"m\": [{\"role\": \"user\", \"n\": 1}, "
    "{\"role\": \"bot\", \"n\": 2}, {\"role\": \"user\", \"n\": 3}], \"h\": \"state-of-the-art "
    "words -- and some_long_wording-here\", \"u\": \"na\\u00efve \\u201cq\\u201d \\u6f22\\u5b57 "
    "\\u00df\"}";

typedef struct jinja_case {
    const char *source;
    const char *want; /* NULL: an error */
} jinja_case;

static void check_jinja_cases(const jinja_case *list, size_t count) {
    jinja_options options = jinja_chat_options();
    jinja_env env = {.limits = jinja_default_limits()};
    for (size_t i = 0; i < count; i++) {
        const jinja_case *c = &list[i];
        jinja_template *t = NULL;
        error err = {0};
        buf out;
        buf_init(&out, SIZE_MAX);
        status st = jinja_parse(&t, str_of(c->source), &options, &err);
        if (st == OK) st = jinja_render(t, str_of(JINJA_CASES_CONTEXT), &env, &out, &err);
        bool same =
            c->want != NULL ? st == OK && str_eq(buf_view(&out), str_of(c->want)) : st != OK;
        CHECK(same);
        if (!same)
            (void)fprintf(stderr, "  %s: %s: \"%.*s\", want \"%s\"\n", c->source, err.msg,
                          STR(buf_view(&out)), c->want != NULL ? c->want : "an error");
        jinja_destroy(t);
        buf_deinit(&out);
    }
}

#endif
