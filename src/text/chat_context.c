/* chat_context.c - a chat request to the variables of its template, as one JSON object.
 *
 * One walk over the messages writes them again, changed only where the template's capabilities
 * ask for it, with every string guarded. */
#include "base/num.h"
#include "text/chat_internal.h"

/* --- JSON ----------------------------------------------------------------------------------- */

const char *chat_type_name(const json_t *value) {
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

str chat_string_view(const json_t *value) {
    return (str){json_string_value(value), json_string_length(value)};
}

status chat_parse(str text, const char *what, json_doc *out, error *err) {
    error why = {0};
    status st = json_parse(text, out, &why);
    if (st == OK) return OK;
    return error_set(err, st == ERR_NOMEM ? ERR_NOMEM : ERR_INVALID, "%s: %.280s", what, why.msg);
}

status chat_check_messages(const json_t *messages, error *err) {
    if (!json_is_array(messages))
        return error_set(err, ERR_INVALID, "messages: expected an array, got %s",
                         chat_type_name(messages));
    size_t count = json_array_size(messages);
    if (count == 0) return error_set(err, ERR_INVALID, "messages: empty, expected at least 1");
    if (count <= CHAT_MESSAGES_MAX) return OK;
    return error_set(err, ERR_LIMIT, "messages: %zu messages, at most %d", count,
                     CHAT_MESSAGES_MAX);
}

bool chat_variable_is_reserved(str name) {
    static const char *const names[] = {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "continue_final_message",
        "bos_token",
        "eos_token",
        "tokenize",
        "chat_template",
        "conversation",
        "raise_exception",
        "strftime_now",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq_c(name, names[i])) return true;
    return false;
}

/* --- values --------------------------------------------------------------------------------- */

typedef struct context {
    const chat_template *t;
    json_writer w;
    const json_doc *doc; /* of the value being written */
    buf text;            /* scratch for one string */
    buf system;          /* texts of system messages that wait for a user message */
    bool guarded;
    bool assistant; /* inside an assistant's message */
    bool final;     /* the next content is that of the message to go on with */
} context;

static void put_str(context *c, str s) {
    if (!c->guarded) {
        json_str(&c->w, s);
        return;
    }
    buf_clear(&c->text);
    chat_guard_put(&c->t->guard, s, c->assistant, &c->text);
    if (c->text.failed) c->w.out->failed = true;
    json_str(&c->w, buf_view(&c->text));
}

static void put_key(context *c, const char *key, size_t n) {
    buf_clear(&c->text);
    if (c->guarded) chat_guard_put(&c->t->guard, (str){key, n}, false, &c->text);
    json_key(&c->w, c->guarded ? buf_view(&c->text) : (str){key, n});
}

/* Depth is bounded by json_parse(). */
static void put_value(context *c, const json_t *v) {
    if (json_is_string(v)) {
        put_str(c, chat_string_view(v));
    } else if (json_is_array(v)) {
        json_begin_array(&c->w);
        for (size_t i = 0; i < json_array_size(v); i++) put_value(c, json_array_get(v, i));
        json_end_array(&c->w);
    } else if (json_is_object(v)) {
        json_begin_object(&c->w);
        for (void *it = json_object_iter((json_t *)(uintptr_t)v); it != NULL;
             it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
            const char *key = json_object_iter_key(it);
            put_key(c, key, strlen(key));
            put_value(c, json_object_iter_value(it));
        }
        json_end_object(&c->w);
    } else {
        json_node n = {.doc = c->doc, .value = v};
        json_node_write(&n, &c->w);
    }
}

/* --- content -------------------------------------------------------------------------------- */

/* Text of a message: behind the system texts that wait for it, before the mark of the message
 * to go on with. */
static void put_words(context *c, str words) {
    buf *b = &c->text;
    buf_clear(b);
    if (!c->guarded) {
        buf_put_str(b, buf_view(&c->system));
        buf_put_str(b, words);
    } else {
        chat_guard_put(&c->t->guard, buf_view(&c->system), c->assistant, b);
        chat_guard_put(&c->t->guard, words, c->assistant, b);
    }
    buf_clear(&c->system);
    if (c->final) { /* the blank tells whether the template trims (chat.c) */
        buf_put_str(b, CHAT_MARK_FINAL);
        buf_put_char(b, ' ');
    }
    c->final = false;
    if (b->failed) c->w.out->failed = true;
    json_str(&c->w, buf_view(b));
}

static void put_text_part(context *c, str words) {
    json_begin_object(&c->w);
    json_kv_str(&c->w, "type", S("text"));
    json_key(&c->w, S("text"));
    put_words(c, words);
    json_end_object(&c->w);
}

static status text_of_part(const json_t *part, size_t i, size_t k, str *out, error *err) {
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
    if (!json_is_object(part))
        return error_set(err, ERR_INVALID, "messages[%zu].content[%zu]: expected an object, got %s",
                         i, k, chat_type_name(part));
    if (!json_is_string(type) || !str_eq(chat_string_view(type), S("text")))
        return error_set(err, ERR_INVALID, "messages[%zu].content[%zu].type: expected 'text'", i,
                         k);
    if (!json_is_string(text))
        return error_set(err, ERR_INVALID,
                         "messages[%zu].content[%zu].text: expected a string, got %s", i, k,
                         chat_type_name(text));
    *out = chat_string_view(text);
    return OK;
}

static status join_parts(const json_t *parts, size_t i, buf *out, error *err) {
    for (size_t k = 0; k < json_array_size(parts); k++) {
        str text = S("");
        TRY(text_of_part(json_array_get(parts, k), i, k, &text, err));
        buf_put_str(out, text);
    }
    return buf_status(out, "content", err);
}

/* System texts that wait, and the mark of a final message, go into the first and last part. */
static status put_parts(context *c, const json_t *parts, size_t i, error *err) {
    size_t count = json_array_size(parts);
    bool final = c->final;
    json_begin_array(&c->w);
    for (size_t k = 0; k < count; k++) {
        str text = S("");
        TRY(text_of_part(json_array_get(parts, k), i, k, &text, err));
        c->final = final && k + 1 == count;
        put_text_part(c, text);
    }
    if (count == 0 && (final || c->system.n > 0)) put_text_part(c, S(""));
    json_end_array(&c->w);
    return OK;
}

static status put_content(context *c, const json_t *content, size_t i, error *err) {
    const chat_caps *caps = &c->t->caps;
    if (json_is_array(content) && caps->parts) return put_parts(c, content, i, err);
    if (content == NULL || json_is_null(content)) {
        bool needs_text = c->final || !caps->null_content || c->system.n > 0;
        if (!needs_text) {
            json_put_null(&c->w);
            return OK;
        }
    }
    buf joined;
    buf_init(&joined, CHAT_CONTEXT_BYTES_MAX);
    status st = OK;
    str words = json_is_string(content) ? chat_string_view(content) : S("");
    if (json_is_array(content)) {
        st = join_parts(content, i, &joined, err);
        words = buf_view(&joined);
    } else if (content != NULL && !json_is_string(content) && !json_is_null(content)) {
        st = error_set(err, ERR_INVALID,
                       "messages[%zu].content: expected a string or an array of parts, got %s", i,
                       chat_type_name(content));
    }
    if (st == OK && !caps->strings && caps->parts) {
        json_begin_array(&c->w);
        put_text_part(c, words);
        json_end_array(&c->w);
    } else if (st == OK) {
        put_words(c, words);
    }
    buf_deinit(&joined);
    return st;
}

/* --- tool calls ----------------------------------------------------------------------------- */

/* JSON text to the object it is; text that is none stays text. */
static void put_parsed(context *c, const json_t *text) {
    json_doc doc;
    bool parsed = json_parse(chat_string_view(text), &doc, NULL) == OK;
    if (!parsed) {
        put_value(c, text);
        return;
    }
    const json_doc *outer = c->doc;
    c->doc = &doc;
    put_value(c, json_is_object(doc.root) ? doc.root : text);
    c->doc = outer;
    json_doc_deinit(&doc);
}

static void put_as_text(context *c, const json_t *object) {
    buf text;
    json_writer w;
    buf_init(&text, CHAT_CONTEXT_BYTES_MAX);
    json_writer_init(&w, &text);
    json_node n = {.doc = c->doc, .value = object};
    json_node_write(&n, &w);
    put_str(c, buf_view(&text));
    buf_deinit(&text);
}

static void put_arguments(context *c, const json_t *v) {
    if (json_is_string(v) && c->t->caps.object_arguments)
        put_parsed(c, v);
    else if (json_is_object(v) && !c->t->caps.object_arguments)
        put_as_text(c, v);
    else
        put_value(c, v);
}

/* The members of an object, one of them written by `special`. */
static void put_members(context *c, const json_t *v, const char *name,
                        void (*special)(context *c, const json_t *v)) {
    if (!json_is_object(v)) {
        put_value(c, v);
        return;
    }
    json_begin_object(&c->w);
    for (void *it = json_object_iter((json_t *)(uintptr_t)v); it != NULL;
         it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
        const char *key = json_object_iter_key(it);
        put_key(c, key, strlen(key));
        if (strcmp(key, name) == 0)
            special(c, json_object_iter_value(it));
        else
            put_value(c, json_object_iter_value(it));
    }
    json_end_object(&c->w);
}

static void put_function(context *c, const json_t *v) {
    put_members(c, v, "arguments", put_arguments);
}

static void put_calls(context *c, const json_t *calls) {
    if (!json_is_array(calls)) {
        put_value(c, calls);
        return;
    }
    json_begin_array(&c->w);
    for (size_t i = 0; i < json_array_size(calls); i++)
        put_members(c, json_array_get(calls, i), "function", put_function);
    json_end_array(&c->w);
}

/* --- messages ------------------------------------------------------------------------------- */

static bool is_system(str role) {
    return str_eq(role, S("system")) || str_eq(role, S("developer"));
}

/* A system message for a template without that role: its text waits for the next user. */
static status keep_system(context *c, const json_t *message, size_t i, error *err) {
    const json_t *content = json_object_get(message, "content");
    if (json_is_array(content))
        TRY(join_parts(content, i, &c->system, err));
    else
        buf_put_str(&c->system, json_is_string(content) ? chat_string_view(content) : S(""));
    buf_put_str(&c->system, S("\n\n"));
    return buf_status(&c->system, "system messages", err);
}

static status put_fields(context *c, const json_t *message, str role, size_t i, error *err) {
    json_begin_object(&c->w);
    bool has_content = false;
    for (void *it = json_object_iter((json_t *)(uintptr_t)message); it != NULL;
         it = json_object_iter_next((json_t *)(uintptr_t)message, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *v = json_object_iter_value(it);
        put_key(c, key, strlen(key));
        if (strcmp(key, "content") == 0) {
            has_content = true;
            TRY(put_content(c, v, i, err));
        } else if (strcmp(key, "role") == 0) {
            put_str(c, role);
        } else if (strcmp(key, "tool_calls") == 0) {
            put_calls(c, v);
        } else {
            put_value(c, v);
        }
    }
    if (!has_content && (c->final || !c->t->caps.null_content)) {
        json_key(&c->w, S("content"));
        TRY(put_content(c, NULL, i, err));
    }
    json_end_object(&c->w);
    return OK;
}

static status put_message(context *c, const json_t *message, size_t i, error *err) {
    const json_t *field = json_object_get(message, "role");
    if (!json_is_object(message))
        return error_set(err, ERR_INVALID, "messages[%zu]: expected an object, got %s", i,
                         chat_type_name(message));
    if (!json_is_string(field))
        return error_set(err, ERR_INVALID, "messages[%zu].role: expected a string, got %s", i,
                         chat_type_name(field));
    str role = chat_string_view(field);
    if (is_system(role) && !c->t->caps.system) return keep_system(c, message, i, err);
    if (str_eq(role, S("developer")) && !c->t->caps.developer) role = S("system");
    c->assistant = str_eq(role, S("assistant"));
    if (c->system.n > 0 && !str_eq(role, S("user"))) { /* they may not wait past an answer */
        json_begin_object(&c->w);
        json_kv_str(&c->w, "role", S("user"));
        json_key(&c->w, S("content"));
        TRY(put_content(c, NULL, i, err));
        json_end_object(&c->w);
    }
    TRY(put_fields(c, message, role, i, err));
    c->assistant = false;
    return OK;
}

static status put_messages(context *c, const chat_request *r, error *err) {
    json_doc doc;
    TRY(chat_parse(r->messages, "messages", &doc, err));
    c->doc = &doc;
    status st = chat_check_messages(doc.root, err);
    size_t count = json_array_size(doc.root);
    json_key(&c->w, S("messages"));
    json_begin_array(&c->w);
    for (size_t i = 0; st == OK && i < count; i++) {
        c->final = r->continue_final && i + 1 == count;
        st = put_message(c, json_array_get(doc.root, i), i, err);
    }
    if (st == OK && c->system.n > 0) { /* nobody came for them */
        json_begin_object(&c->w);
        json_kv_str(&c->w, "role", S("user"));
        json_key(&c->w, S("content"));
        st = put_content(c, NULL, count, err);
        json_end_object(&c->w);
    }
    if (st == OK) json_end_array(&c->w);
    c->doc = NULL;
    json_doc_deinit(&doc);
    return st;
}

/* --- the whole ------------------------------------------------------------------------------ */

static status put_list(context *c, const char *name, str text, error *err) {
    if (text.n == 0) {
        json_kv_null(&c->w, name);
        return OK;
    }
    json_doc doc;
    TRY(chat_parse(text, name, &doc, err));
    status st = OK;
    if (!json_is_array(doc.root))
        st = error_set(err, ERR_INVALID, "%s: expected an array, got %s", name,
                       chat_type_name(doc.root));
    c->doc = &doc;
    if (st == OK) {
        json_key(&c->w, str_of(name));
        put_value(c, doc.root);
    }
    c->doc = NULL;
    json_doc_deinit(&doc);
    return st;
}

static status put_variables(context *c, str text, error *err) {
    if (text.n == 0) return OK;
    json_doc doc;
    TRY(chat_parse(text, "chat_template_kwargs", &doc, err));
    status st = OK;
    if (!json_is_object(doc.root))
        st = error_set(err, ERR_INVALID, "chat_template_kwargs: expected an object, got %s",
                       chat_type_name(doc.root));
    c->doc = &doc;
    for (void *it = json_object_iter(doc.root); st == OK && it != NULL;
         it = json_object_iter_next(doc.root, it)) {
        const char *key = json_object_iter_key(it);
        if (chat_variable_is_reserved(str_of(key))) {
            st = error_set(err, ERR_INVALID,
                           "chat_template_kwargs.%s: is set by the server, a request may not", key);
        } else {
            put_key(c, key, strlen(key));
            put_value(c, json_object_iter_value(it));
        }
    }
    c->doc = NULL;
    json_doc_deinit(&doc);
    return st;
}

static status put_all(context *c, const chat_request *r, error *err) {
    json_begin_object(&c->w);
    TRY(put_messages(c, r, err));
    TRY(put_list(c, "tools", r->tools, err));
    TRY(put_list(c, "documents", r->documents, err));
    json_kv_bool(&c->w, "add_generation_prompt", r->add_generation_prompt && !r->continue_final);
    if (c->t->bos[0] != '\0') json_kv_str(&c->w, "bos_token", str_of(c->t->bos));
    if (c->t->eos[0] != '\0') json_kv_str(&c->w, "eos_token", str_of(c->t->eos));
    TRY(put_variables(c, r->variables, err));
    json_end_object(&c->w);
    return buf_status(c->w.out, "chat request", err);
}

status chat_put_context(const chat_template *t, const chat_request *r, buf *out, error *err) {
    context c = {.t = t, .guarded = !r->trusted};
    json_writer_init(&c.w, out);
    buf_init(&c.text, CHAT_CONTEXT_BYTES_MAX);
    buf_init(&c.system, CHAT_CONTEXT_BYTES_MAX);
    status st = put_all(&c, r, err);
    buf_deinit(&c.text);
    buf_deinit(&c.system);
    return st;
}
