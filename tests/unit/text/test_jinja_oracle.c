/* test_jinja_oracle.c - templates against what Python's jinja2 made of them, as transformers sets
 * it up: every shared case must give the same text, or an error where the original has one. */
#include <jansson.h>
#include <stdlib.h>

#include "golden_paths.h"
#include "text/jinja.h"

/* 2025-07-04 12:34:56, the clock of the recordings. */
static const int64_t RECORDED_S = 1751632496;

static jinja_env recorded_env(void) {
    return (jinja_env){.now_unix_s = RECORDED_S, .limits = jinja_default_limits()};
}

/* Appends a shared file to `out`. */
static bool read_shared(const char *relative, buf *out) {
    const char *path = shared_path(relative);
    FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
    if (fp == NULL) return false;
    for (char chunk[4096];;) {
        size_t n = fread(chunk, 1, sizeof chunk, fp);
        if (n == 0) break;
        buf_put(out, chunk, n);
    }
    (void)fclose(fp);
    return true;
}

/* A shared file as JSON; NULL when there is none. */
static json_t *load_shared(const char *relative) {
    buf text;
    json_error_t why;
    buf_init(&text, SIZE_MAX);
    json_t *root = NULL;
    bool there = read_shared(relative, &text);
    /* no JSON reader of ours takes NUL in a key: another control character does as well */
    for (char *p = text.p;
         there && (p = memmem(p, text.n - (size_t)(p - text.p), "\\u0000", 6)) != NULL;)
        p[5] = '1';
    if (there) root = json_loadb(text.p, text.n, JSON_ALLOW_NUL, &why);
    buf_deinit(&text);
    if (root == NULL) (void)fprintf(stderr, "  %s: %s\n", relative, why.text);
    return root;
}

static str text_of(const json_t *value) {
    return (str){json_string_value(value), json_string_length(value)};
}

/* Parses and renders; ERR_* of whichever failed. */
static status render(str source, const jinja_options *options, const json_t *context,
                     const jinja_env *env, buf *out, error *err) {
    jinja_template *t = NULL;
    TRY(jinja_parse(&t, source, options, err));
    char *text = json_dumps(context, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    status st = jinja_render(t, str_of(text), env, out, err);
    free(text);
    jinja_destroy(t);
    return st;
}

typedef struct tally {
    const char *suite;
    int cases, texts, errors;
} tally;

/* `want` is the text, or NULL for an error whose message contains `words` (NULL: anything). */
static void check_case(tally *t, const char *name, status st, const buf *out, const error *err,
                       const json_t *want, const char *words) {
    bool same = want != NULL ? st == OK && str_eq(buf_view(out), text_of(want))
                             : st != OK && (words == NULL || strstr(err->msg, words) != NULL);
    t->cases++;
    if (want != NULL)
        t->texts++;
    else
        t->errors++;
    CHECK(same);
    if (same) return;
    (void)fprintf(stderr, "  %s: %s: %s\n   got  \"%.*s\"\n   want \"%s\"\n", t->suite, name,
                  st != OK ? err->msg : "", (int)out->n, out->n != 0 ? out->p : "",
                  want != NULL    ? json_string_value(want)
                  : words != NULL ? words
                                  : "an error");
}

static void report(const tally *t) {
    printf("%s: %d cases, %d texts and %d errors\n", t->suite, t->cases, t->texts, t->errors);
}

/* --- chat: 25 templates by named conversations ---------------------------------------- */

/* The two variables that one template wants besides. */
static void add_firefunction(json_t *context, const json_t *tools) {
    char *text = json_is_array(tools) ? json_dumps(tools, JSON_INDENT(4)) : NULL;
    (void)json_object_set_new(context, "functions", json_string(text != NULL ? text : ""));
    (void)json_object_set_new(context, "datetime", json_string("2025-07-04 12:34:56"));
    free(text);
}

/* What transformers passes: messages, tools, documents and the conversation's own variables. */
static json_t *chat_context(const json_t *file, const json_t *input, const json_t *c) {
    json_t *context = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    (void)json_object_set(context, "messages", json_object_get(input, "messages"));
    if (!json_is_true(json_object_get(c, "tools_omitted"))) {
        (void)json_object_set(context, "tools", json_object_get(input, "tools"));
        (void)json_object_set_new(context, "documents", json_null());
    }
    (void)json_object_set(context, "add_generation_prompt",
                          json_object_get(c, "add_generation_prompt"));
    (void)json_object_set(context, "bos_token", json_object_get(file, "bos_token"));
    (void)json_object_set(context, "eos_token", json_object_get(file, "eos_token"));
    if (json_object_get(file, "extra_context") != NULL &&
        !json_is_null(json_object_get(file, "extra_context")))
        add_firefunction(context, json_object_get(input, "tools"));
    json_object_foreach(json_object_get(input, "extra"), key, value)(void)
        json_object_set(context, key, value);
    return context;
}

static const char *error_words(const json_t *c) {
    const char *kind = json_string_value(json_object_get(c, "error_kind"));
    bool raised = kind != NULL && strcmp(kind, "raise_exception") == 0;
    return raised ? json_string_value(json_object_get(c, "error")) : NULL;
}

static void run_chat_case(tally *t, const json_t *file, const json_t *inputs, str source,
                          const json_t *c) {
    jinja_options options = jinja_chat_options();
    const json_t *permissive = json_object_get(c, "expected_permissive");
    json_t *input = json_object_get(inputs, json_string_value(json_object_get(c, "input")));
    json_t *context = chat_context(file, input, c);
    for (int pass = 0; pass < (permissive != NULL ? 2 : 1); pass++) {
        jinja_env env = recorded_env();
        error err = {0};
        buf out;
        env.permissive = pass == 1;
        buf_init(&out, SIZE_MAX);
        status st = render(source, &options, context, &env, &out, &err);
        check_case(t, json_string_value(json_object_get(c, "input")), st, &out, &err,
                   pass == 1 ? permissive : json_object_get(c, "expected"), error_words(c));
        buf_deinit(&out);
    }
    json_decref(context);
}

/* One line of index.tsv: name, template, cases ... */
static void run_chat_file(tally *t, str line, const json_t *inputs) {
    char path[256];
    const char *tab = memchr(line.p, '\t', line.n);
    str name = {line.p, (size_t)(tab - line.p)};
    buf source;
    size_t i = 0;
    json_t *c = NULL;
    buf_init(&source, SIZE_MAX);
    (void)snprintf(path, sizeof path, "oracle/public/chat/templates/%.*s.jinja", STR(name));
    CHECK(read_shared(path, &source));
    (void)snprintf(path, sizeof path, "oracle/public/chat/%.*s.cases.json", STR(name));
    json_t *file = load_shared(path);
    CHECK(json_array_size(json_object_get(file, "cases")) > 0);
    json_array_foreach(json_object_get(file, "cases"), i, c)
        run_chat_case(t, file, inputs, buf_view(&source), c);
    json_decref(file);
    buf_deinit(&source);
}

TEST(jinja_renders_chats_as_the_original_does) {
    tally t = {.suite = "chat"};
    SHARED_OR_SKIP(path, "oracle/public/chat/inputs.json");
    buf index;
    (void)path;
    buf_init(&index, SIZE_MAX);
    json_t *inputs = load_shared("oracle/public/chat/inputs.json");
    CHECK(read_shared("oracle/public/chat/index.tsv", &index));
    str rest = buf_view(&index);
    for (bool header = true; rest.n != 0; header = false) {
        const char *end = memchr(rest.p, '\n', rest.n);
        str line = {rest.p, end != NULL ? (size_t)(end - rest.p) : rest.n};
        rest = str_skip(rest, line.n + (end != NULL));
        if (!header && line.n != 0) run_chat_file(&t, line, inputs);
    }
    CHECK_EQ(t.texts >= 1047, 1);
    report(&t);
    json_decref(inputs);
    buf_deinit(&index);
}

/* --- single features ------------------------------------------------------------------ */

static void run_micro(tally *t, const json_t *context, const json_t *c, bool permissive) {
    jinja_options options = jinja_chat_options();
    jinja_env env = recorded_env();
    const json_t *source = json_object_get(c, "template");
    const json_t *want = json_object_get(c, permissive ? "expected_permissive" : "expected");
    error err = {0};
    buf out;
    env.permissive = permissive;
    buf_init(&out, SIZE_MAX);
    status st = render(text_of(source), &options, context, &env, &out, &err);
    check_case(t, json_string_value(source), st, &out, &err, want, error_words(c));
    buf_deinit(&out);
}

TEST(jinja_renders_single_features_as_the_original_does) {
    tally t = {.suite = "micro"};
    size_t i = 0;
    SHARED_OR_SKIP(path, "oracle/public/chat/micro.json");
    json_t *c = NULL, *file = load_shared("oracle/public/chat/micro.json");
    (void)path;
    json_array_foreach(json_object_get(file, "cases"), i, c) {
        run_micro(&t, json_object_get(file, "context"), c, false);
        if (json_object_get(c, "expected_permissive") != NULL)
            run_micro(&t, json_object_get(file, "context"), c, true);
    }
    CHECK_EQ(t.cases >= 70, 1);
    report(&t);
    json_decref(file);
}

/* --- cases of other implementations that agree with the original ---------------------- */

static bool option(const json_t *c, const char *name) {
    return json_is_true(json_object_get(json_object_get(c, "options"), name));
}

TEST(jinja_agrees_with_other_implementations_where_these_agree_with_the_original) {
    tally t = {.suite = "jinja cases"};
    size_t i = 0;
    SHARED_OR_SKIP(path, "suites/jinja-chat-templates/cases.json");
    json_t *c = NULL, *file = load_shared("suites/jinja-chat-templates/cases.json");
    (void)path;
    json_array_foreach(file, i, c) {
        const char *verdict = json_string_value(json_object_get(c, "jinja2"));
        const json_t *source = json_object_get(c, "template");
        jinja_options options = {.trim_blocks = option(c, "trim_blocks"),
                                 .lstrip_blocks = option(c, "lstrip_blocks"),
                                 .keep_trailing_newline = option(c, "keep_trailing_newline")};
        jinja_env env = recorded_env();
        error err = {0};
        buf out;
        if (verdict == NULL || strncmp(verdict, "same", 4) != 0) continue;
        buf_init(&out, SIZE_MAX);
        status st =
            render(text_of(source), &options, json_object_get(c, "context"), &env, &out, &err);
        check_case(&t, json_string_value(source), st, &out, &err, json_object_get(c, "expected"),
                   NULL);
        buf_deinit(&out);
    }
    CHECK_EQ(t.cases, 586);
    report(&t);
    json_decref(file);
}

/* --- one conversation through the templates of llama.cpp's tests ---------------------- */

static json_t *message(const char *role, const char *content) {
    return json_pack("{s:s, s:s}", "role", role, "content", content);
}

static json_t *sample_context(const json_t *c) {
    json_t *messages = json_array();
    (void)json_array_append_new(messages, message("system", "You are a helpful assistant"));
    (void)json_array_append_new(messages, message("user", "Hello"));
    (void)json_array_append_new(messages, message("assistant", "Hi there"));
    (void)json_array_append_new(messages, message("user", "Who are you"));
    (void)json_array_append_new(messages, message("assistant", "   I am an assistant   "));
    (void)json_array_append_new(messages, message("user", "Another question"));
    return json_pack("{s:o, s:b, s:O, s:O}", "messages", messages, "add_generation_prompt", 1,
                     "bos_token", json_object_get(c, "bos_token"), "eos_token",
                     json_object_get(c, "eos_token"));
}

TEST(jinja_renders_the_templates_of_llama_cpp) {
    tally t = {.suite = "llama.cpp templates"};
    jinja_options options = jinja_chat_options();
    buf lines;
    SHARED_OR_SKIP(path, "suites/chat-templates/llamacpp-expected.jsonl");
    (void)path;
    buf_init(&lines, SIZE_MAX);
    CHECK(read_shared("suites/chat-templates/llamacpp-expected.jsonl", &lines));
    str rest = buf_view(&lines);
    while (rest.n != 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end != NULL ? (size_t)(end - rest.p) : rest.n;
        json_t *c = json_loadb(rest.p, n, 0, NULL);
        rest = str_skip(rest, n + (end != NULL));
        if (json_is_true(json_object_get(c, "jinja2_same"))) {
            jinja_env env = recorded_env();
            json_t *context = sample_context(c);
            error err = {0};
            buf out;
            buf_init(&out, SIZE_MAX);
            status st = render(text_of(json_object_get(c, "template")), &options, context, &env,
                               &out, &err);
            check_case(&t, json_string_value(json_object_get(c, "name")), st, &out, &err,
                       json_object_get(c, "expected_jinja"), NULL);
            buf_deinit(&out);
            json_decref(context);
        }
        json_decref(c);
    }
    CHECK_EQ(t.cases, 22);
    report(&t);
    buf_deinit(&lines);
}
