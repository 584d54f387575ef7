/* openai_tools.c - the tools of a chat request, and the calls in its answer. */
#include <string.h>

#include "api/openai.h"

/* --- body ----------------------------------------------------------------------------- */

enum { TOOLS_MAX = 1024 };

/* "none" or "auto"; anything else would promise a call that nobody enforces. */
static status read_choice(openai_body *b, const char *key, bool *none, error *err) {
    json_node n = json_field(&b->f, key);
    *none = false;
    if (!json_node_is_set(&n)) return OK;
    const char *text = json_is_string(n.value) ? json_string_value(n.value) : "";
    *none = strcmp(text, "none") == 0;
    if (*none || strcmp(text, "auto") == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "%s: a call cannot be forced, only 'none' and 'auto' are supported", key);
}

static status check_tool(const json_node *n, error *err) {
    json_fields f, g;
    json_node function = {0}, name = {0};
    str type = S("function"), text = S("");
    TRY(json_fields_open(&f, n, err));
    TRY(json_get_str(&f, "type", 64, &type, err));
    if (!str_eq(type, S("function"))) {
        char path[JSON_PATH_BYTES];
        json_node_path(n, path);
        return error_set(err, ERR_UNSUPPORTED,
                         "%s.type: '%.*s' is not supported, only 'function' is", path, STR(type));
    }
    TRY(json_field_need(&f, "function", &function, err));
    TRY(json_fields_open(&g, &function, err));
    TRY(json_field_need(&g, "name", &name, err));
    return json_node_str(&name, 256, &text, err);
}

/* The tools are shown to the template, unless none may be called. */
status openai_read_tools(openai_body *b, error *err) {
    json_node tools = {0};
    bool none = false, old = false, parallel = true;
    TRY(read_choice(b, "tool_choice", &none, err));
    TRY(read_choice(b, "function_call", &old, err));
    TRY(json_get_array(&b->f, "tools", TOOLS_MAX, &tools, err));
    size_t count = json_node_count(&tools);
    for (size_t i = 0; i < count; i++) {
        json_node n = json_node_element(&tools, i);
        TRY(check_tool(&n, err));
    }
    TRY(json_get_bool(&b->f, "parallel_tool_calls", &parallel, err));
    if (count == 0 || none) return OK;
    b->spec->request.chat.one_call = !parallel;
    return openai_keep_json(b, &tools, &b->spec->request.chat.tools, err);
}

/* --- answer --------------------------------------------------------------------------- */

void openai_calls(json_writer *w, const gen_choice *c) {
    str blob = buf_view(&c->calls);
    gen_tool_call call;
    if (c->calls_count == 0) return;
    json_kv_array(w, "tool_calls");
    while (gen_calls_next(&blob, &call)) {
        json_begin_object(w);
        json_kv_str(w, "id", call.id);
        json_kv_str(w, "type", S("function"));
        json_kv_object(w, "function");
        json_kv_str(w, "name", call.name);
        json_kv_str(w, "arguments", call.arguments);
        json_end_object(w);
        json_end_object(w);
    }
    json_end_array(w);
}

void openai_delta_call(json_writer *w, const void *event) {
    const gen_event *e = event;
    json_kv_array(w, "tool_calls");
    json_begin_object(w);
    json_kv_uint(w, "index", e->call.index);
    json_kv_str(w, "id", e->call.id);
    json_kv_str(w, "type", S("function"));
    json_kv_object(w, "function");
    json_kv_str(w, "name", e->call.name);
    json_kv_str(w, "arguments", S(""));
    json_end_object(w);
    json_end_object(w);
    json_end_array(w);
}

void openai_delta_arguments(json_writer *w, const void *event) {
    const gen_event *e = event;
    json_kv_array(w, "tool_calls");
    json_begin_object(w);
    json_kv_uint(w, "index", e->call.index);
    json_kv_object(w, "function");
    json_kv_str(w, "arguments", e->call.arguments);
    json_end_object(w);
    json_end_object(w);
    json_end_array(w);
}
