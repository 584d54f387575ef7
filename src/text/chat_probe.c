/* chat_probe.c - what a template can do, found out by rendering a few small conversations.
 *
 * Templates do not say what they take; their effects do.  Each probe puts words that no
 * template has into one place and looks whether they come out, and in which form.  A probe that
 * ends in an error says no.  At most twelve renders, once per model. */
#include "text/chat_internal.h"

enum { PROBE_BYTES_MAX = 4 << 20 };

#define USER "{\"role\":\"user\",\"content\":\"gantry-user\"}"
#define TOOLS                                                                                \
    "[{\"type\":\"function\",\"function\":{\"name\":\"gantry_tool\",\"description\":"        \
    "\"gantry-purpose\",\"parameters\":{\"type\":\"object\",\"properties\":{\"gantry_arg\":" \
    "{\"type\":\"string\",\"description\":\"gantry-meaning\"}},\"required\":[\"gantry_arg\"]}}}]"
#define ARGS_OBJECT "{\"gantry_arg\":\"gantry-value\"}"
#define ARGS_STRING "\"{\\\"gantry_arg\\\":\\\"gantry-value\\\"}\""
#define CALL(id, name, args)                                                  \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name \
    "\",\"arguments\":" args "}}"
#define CALLING(content, calls) \
    "[" USER ",{\"role\":\"assistant\",\"content\":" content ",\"tool_calls\":[" calls "]}"
#define RESULT(id) \
    ",{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"name\":\"gantry_tool\",\"content\":\"r\"}"

bool chat_has(const buf *text, const char *words) {
    return text->n > 0 && memmem(text->p, text->n, words, strlen(words)) != NULL;
}

static void put_context(const chat_template *t, const char *messages, const char *tools,
                        bool generation_prompt, buf *out) {
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_raw(&w, "messages", str_of(messages));
    json_kv_raw(&w, "tools", tools != NULL ? str_of(tools) : S("null"));
    json_kv_null(&w, "documents");
    json_kv_bool(&w, "add_generation_prompt", generation_prompt);
    if (t->bos[0] != '\0') json_kv_str(&w, "bos_token", str_of(t->bos));
    if (t->eos[0] != '\0') json_kv_str(&w, "eos_token", str_of(t->eos));
    json_end_object(&w);
}

status chat_try(const chat_template *t, const char *messages, const char *tools,
                bool generation_prompt, buf *out, error *err) {
    jinja_env env = {.limits = chat_limits(t), .permissive = true};
    buf context;
    buf_init(&context, PROBE_BYTES_MAX);
    buf_clear(out);
    put_context(t, messages, tools, generation_prompt, &context);
    status st = buf_status(&context, "chat probe", err);
    if (st == OK)
        st = jinja_render(chat_pick(t, tools != NULL), buf_view(&context), &env, out, err);
    buf_deinit(&context);
    return st;
}

/* Do the words come out of these messages? */
static bool shows(const chat_template *t, const char *messages, const char *words, buf *out) {
    return chat_try(t, messages, NULL, true, out, NULL) == OK && chat_has(out, words);
}

/* --- messages ------------------------------------------------------------------------------- */

/* A list printed as Python prints it has the words, too, but with its keys. */
static void probe_content(chat_template *t, buf *out) {
    t->caps.strings = shows(t, "[" USER "]", "gantry-user", out);
    t->caps.parts = shows(t,
                          "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                          "\"gantry-user\"}]}]",
                          "gantry-user", out) &&
                    !chat_has(out, "'type'") && !chat_has(out, "\"type\"");
    if (!t->caps.parts) t->caps.strings = true; /* then the error is the template's to tell */
}

static const char *user_after(const chat_template *t, bool developer) {
    bool strings = t->caps.strings;
    if (developer)
        return strings ? "[{\"role\":\"developer\",\"content\":\"gantry-orders\"}," USER "]"
                       : "[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":"
                         "\"gantry-orders\"}]},{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                         "\"text\":\"gantry-user\"}]}]";
    return strings ? "[{\"role\":\"system\",\"content\":\"gantry-orders\"}," USER "]"
                   : "[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":"
                     "\"gantry-orders\"}]},{\"role\":\"user\",\"content\":[{\"type\":\"text\","
                     "\"text\":\"gantry-user\"}]}]";
}

static bool source_has(str source, const char *words) {
    return source.n > 0 && memmem(source.p, source.n, words, strlen(words)) != NULL;
}

/* Many templates print any role; one that does not name `developer` was not made for it. */
static void probe_roles(chat_template *t, str source, buf *out) {
    bool named = source_has(source, "'developer'") || source_has(source, "\"developer\"");
    t->caps.system = shows(t, user_after(t, false), "gantry-orders", out);
    t->caps.developer = named && shows(t, user_after(t, true), "gantry-orders", out);
}

/* --- tools ---------------------------------------------------------------------------------- */

/* An object printed as Python prints it, or text in quotes a second time, is the wrong form. */
static bool calls_well(const chat_template *t, const char *messages, const char *wrong, buf *out) {
    const char *tools = t->caps.tools ? TOOLS : NULL;
    return chat_try(t, messages, tools, true, out, NULL) == OK && chat_has(out, "gantry_tool") &&
           chat_has(out, "gantry_arg") && chat_has(out, "gantry-value") && !chat_has(out, wrong);
}

static void probe_calls(chat_template *t, buf *out) {
    static const struct {
        const char *messages, *wrong;
        bool object, null;
    } tries[] = {
        {CALLING("null", CALL("call00001", "gantry_tool", ARGS_OBJECT)) RESULT("call00001") "]",
         "'gantry_arg'", true, true},
        {CALLING("\"\"", CALL("call00001", "gantry_tool", ARGS_OBJECT)) RESULT("call00001") "]",
         "'gantry_arg'", true, false},
        {CALLING("null", CALL("call00001", "gantry_tool", ARGS_STRING)) RESULT("call00001") "]",
         "\\\"gantry_arg", false, true},
        {CALLING("\"\"", CALL("call00001", "gantry_tool", ARGS_STRING)) RESULT("call00001") "]",
         "\\\"gantry_arg", false, false},
    };
    t->caps.object_arguments = true; /* what transformers says they are */
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        if (!calls_well(t, tries[i].messages, tries[i].wrong, out)) continue;
        t->caps.tool_calls = true;
        t->caps.object_arguments = tries[i].object;
        t->caps.null_content = tries[i].null;
        return;
    }
}

/* Both calls come out; Mistral wants ids of nine characters. */
static void probe_parallel(chat_template *t, buf *out) {
    const char *objects = CALLING("\"\"", CALL("call00001", "gantry_tool", ARGS_OBJECT) "," CALL(
                                              "call00002", "gantry_second", ARGS_OBJECT))
        RESULT("call00001") RESULT("call00002") "]";
    const char *strings = CALLING("\"\"", CALL("call00001", "gantry_tool", ARGS_STRING) "," CALL(
                                              "call00002", "gantry_second", ARGS_STRING))
        RESULT("call00001") RESULT("call00002") "]";
    const char *tools = t->caps.tools ? TOOLS : NULL;
    const char *messages = t->caps.object_arguments ? objects : strings;
    t->caps.parallel_calls = t->caps.tool_calls &&
                             chat_try(t, messages, tools, true, out, NULL) == OK &&
                             chat_has(out, "gantry_tool") && chat_has(out, "gantry_second");
}

/* --- the whole ------------------------------------------------------------------------------ */

static void probe_generation_prompt(chat_template *t, buf *out) {
    buf with;
    buf_init(&with, PROBE_BYTES_MAX);
    t->caps.generation_prompt = chat_try(t, "[" USER "]", NULL, true, &with, NULL) == OK &&
                                chat_try(t, "[" USER "]", NULL, false, out, NULL) == OK &&
                                !str_eq(buf_view(&with), buf_view(out));
    buf_deinit(&with);
}

void chat_probe(chat_template *t, str source) {
    buf out;
    buf_init(&out, PROBE_BYTES_MAX);
    probe_content(t, &out);
    probe_roles(t, source, &out);
    t->caps.tools =
        chat_try(t, "[" USER "]", TOOLS, true, &out, NULL) == OK && chat_has(&out, "gantry_tool");
    probe_calls(t, &out);
    probe_parallel(t, &out);
    probe_generation_prompt(t, &out);
    t->caps.thinking = jinja_mentions(t->main, S("enable_thinking")) ||
                       jinja_mentions(t->main, S("reasoning_content")) ||
                       jinja_mentions(t->main, S("reasoning_effort")) ||
                       source_has(source, "<think>") || source_has(source, "[THINK]");
    buf_deinit(&out);
}
