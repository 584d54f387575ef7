/* chat.c - the plain chat template. */
#include "text/chat.h"

#include <jansson.h>

static const char *type_name(const json_t *value) {
    if (value == NULL) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_NULL:
        return "null";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "a number";
    }
}

static str string_view(const json_t *value) {
    return (str){json_string_value(value), json_string_length(value)};
}

/* --- roles ---------------------------------------------------------------------------------- */

typedef struct chat_role {
    const char *name;
    const char *label; /* what its line begins with; NULL for those that stand in front */
    bool null_content; /* content may be null or missing */
} chat_role;

static const chat_role ROLES[] = {
    {"system", NULL, false},   {"developer", NULL, false},
    {"user", "User: ", false}, {"assistant", "Assistant: ", true},
    {"tool", "Tool: ", false},
};

/* The role of messages[i]; NULL with *err filled. */
static const chat_role *role_of(const json_t *message, size_t i, error *err) {
    const json_t *role = json_object_get(message, "role");
    if (!json_is_string(role)) {
        (void)error_set(err, ERR_INVALID, "messages[%zu].role: expected a string, got %s", i,
                        type_name(role));
        return NULL;
    }
    for (size_t k = 0; k < sizeof ROLES / sizeof *ROLES; k++)
        if (str_eq_c(string_view(role), ROLES[k].name)) return &ROLES[k];
    (void)error_set(
        err, ERR_INVALID,
        "messages[%zu].role: '%.*s', expected system, developer, user, assistant or tool", i,
        STR(string_view(role)));
    return NULL;
}

/* --- content -------------------------------------------------------------------------------- */

static status put_part(const json_t *part, size_t i, size_t k, buf *out, error *err) {
    if (!json_is_object(part))
        return error_set(err, ERR_INVALID, "messages[%zu].content[%zu]: expected an object, got %s",
                         i, k, type_name(part));
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
    if (!json_is_string(type))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].type: expected a string, got %s", i, k,
                         type_name(type));
    if (!str_eq(string_view(type), S("text")))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].type: '%.*s', expected 'text'", i, k,
                         STR(string_view(type)));
    if (!json_is_string(text))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].text: expected a string, got %s", i, k,
                         type_name(text));
    buf_put_str(out, string_view(text));
    return OK;
}

static status put_content(const json_t *message, const chat_role *role, size_t i, buf *out,
                          error *err) {
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) {
        buf_put_str(out, string_view(content));
        return OK;
    }
    if (json_is_array(content)) {
        for (size_t k = 0; k < json_array_size(content); k++)
            TRY(put_part(json_array_get(content, k), i, k, out, err));
        return OK;
    }
    if (role->null_content && (content == NULL || json_is_null(content))) return OK;
    return error_set(err, ERR_INVALID,
                     "messages[%zu].content: expected a string or an array of parts, got %s", i,
                     type_name(content));
}

/* --- the template --------------------------------------------------------------------------- */

/* Puts messages[i] if it belongs to the front part (`front`) or to the dialogue. */
static status put_message(const json_t *message, size_t i, bool front, buf *out, error *err) {
    if (!json_is_object(message))
        return error_set(err, ERR_INVALID, "messages[%zu]: expected an object, got %s", i,
                         type_name(message));
    const chat_role *role = role_of(message, i, err);
    if (role == NULL) return ERR_INVALID;
    if (front != (role->label == NULL)) return OK;
    if (!front) buf_put_str(out, str_of(role->label));
    TRY(put_content(message, role, i, out, err));
    buf_put_str(out, front ? S("\n\n") : S("\n"));
    return OK;
}

static status put_messages(const json_t *messages, buf *out, error *err) {
    if (!json_is_array(messages))
        return error_set(err, ERR_INVALID, "messages: expected an array, got %s",
                         type_name(messages));
    size_t count = json_array_size(messages);
    if (count == 0) return error_set(err, ERR_INVALID, "messages: empty, expected at least 1");
    if (count > CHAT_MESSAGES_MAX)
        return error_set(err, ERR_LIMIT, "messages: %zu messages, at most %d", count,
                         CHAT_MESSAGES_MAX);
    for (size_t i = 0; i < count; i++)
        TRY(put_message(json_array_get(messages, i), i, true, out, err));
    for (size_t i = 0; i < count; i++)
        TRY(put_message(json_array_get(messages, i), i, false, out, err));
    buf_put_str(out, S("Assistant:"));
    return buf_status(out, "chat prompt", err);
}

status chat_render_plain(str messages_json, buf *out, error *err) {
    json_error_t je;
    json_t *messages = json_loadb(messages_json.p, messages_json.n, JSON_ALLOW_NUL, &je);
    if (messages == NULL) {
        status code = json_error_code(&je) == json_error_out_of_memory ? ERR_NOMEM : ERR_INVALID;
        return error_set(err, code, "messages: %s at byte %d of %zu", je.text, je.position,
                         messages_json.n);
    }
    size_t before = out->n;
    status st = put_messages(messages, out, err);
    json_decref(messages);
    if (st != OK) out->n = before;
    return st;
}
