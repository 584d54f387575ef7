/* chat_plain.c - the plain chat template. */
#include <jansson.h>

#include "text/chat_internal.h"

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
                        chat_type_name(role));
        return NULL;
    }
    for (size_t k = 0; k < sizeof ROLES / sizeof *ROLES; k++)
        if (str_eq_c(chat_string_view(role), ROLES[k].name)) return &ROLES[k];
    (void)error_set(
        err, ERR_INVALID,
        "messages[%zu].role: '%.*s', expected system, developer, user, assistant or tool", i,
        STR(chat_string_view(role)));
    return NULL;
}

/* --- content -------------------------------------------------------------------------------- */

static status put_part(const json_t *part, size_t i, size_t k, buf *out, error *err) {
    if (!json_is_object(part))
        return error_set(err, ERR_INVALID, "messages[%zu].content[%zu]: expected an object, got %s",
                         i, k, chat_type_name(part));
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
    if (!json_is_string(type))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].type: expected a string, got %s", i, k,
                         chat_type_name(type));
    if (!str_eq(chat_string_view(type), S("text")))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].type: '%.*s', expected 'text'", i, k,
                         STR(chat_string_view(type)));
    if (!json_is_string(text))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].text: expected a string, got %s", i, k,
                         chat_type_name(text));
    buf_put_str(out, chat_string_view(text));
    return OK;
}

static status put_content(const json_t *message, const chat_role *role, size_t i, buf *out,
                          error *err) {
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) {
        buf_put_str(out, chat_string_view(content));
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
                     chat_type_name(content));
}

/* --- the template --------------------------------------------------------------------------- */

/* Puts messages[i] if it belongs to the front part (`front`) or to the dialogue. */
static status put_message(const json_t *message, size_t i, bool front, buf *out, error *err) {
    if (!json_is_object(message))
        return error_set(err, ERR_INVALID, "messages[%zu]: expected an object, got %s", i,
                         chat_type_name(message));
    const chat_role *role = role_of(message, i, err);
    if (role == NULL) return ERR_INVALID;
    if (front != (role->label == NULL)) return OK;
    if (!front) buf_put_str(out, str_of(role->label));
    TRY(put_content(message, role, i, out, err));
    buf_put_str(out, front ? S("\n\n") : S("\n"));
    return OK;
}

static status put_messages(const json_t *messages, const chat_plain_options *o, buf *out,
                           error *err) {
    TRY(chat_check_messages(messages, err));
    size_t count = json_array_size(messages);
    for (size_t i = 0; i < count; i++)
        TRY(put_message(json_array_get(messages, i), i, true, out, err));
    for (size_t i = 0; i < count; i++)
        TRY(put_message(json_array_get(messages, i), i, false, out, err));
    if (o->continue_final)
        out->n -= !out->failed && out->n > 0; /* the line end of the last message */
    else if (!o->no_generation_prompt)
        buf_put_str(out, S("Assistant:"));
    return buf_status(out, "chat prompt", err);
}

status chat_render_plain(str messages_json, buf *out, error *err) {
    return chat_render_plain_with(messages_json, &(chat_plain_options){0}, out, err);
}

status chat_render_plain_with(str messages_json, const chat_plain_options *options, buf *out,
                              error *err) {
    json_doc doc;
    TRY(chat_parse(messages_json, "messages", &doc, err));
    size_t before = out->n;
    status st = put_messages(doc.root, options, out, err);
    json_doc_deinit(&doc);
    if (st != OK) out->n = before;
    return st;
}
