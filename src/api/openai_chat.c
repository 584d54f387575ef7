/* openai_chat.c - POST /v1/chat/completions.
 *
 * Messages are checked lightly here (roles, kinds of content) and go down as JSON text: what
 * they become is the text role's business. */
#include <string.h>

#include "api/front_internal.h"
#include "api/openai.h"

/* --- body ----------------------------------------------------------------------------- */

static status check_part(const json_node *n, error *err) {
    json_fields f;
    json_node type, text;
    str name = {0}, words = {0};
    TRY(json_fields_open(&f, n, err));
    TRY(json_field_need(&f, "type", &type, err));
    TRY(json_node_str(&type, 64, &name, err));
    char path[JSON_PATH_BYTES];
    json_node_path(&type, path);
    if (!str_eq(name, S("text")))
        return error_set(err, ERR_UNSUPPORTED, "%s: '%.*s' is not supported, only 'text' is", path,
                         STR(name));
    TRY(json_field_need(&f, "text", &text, err));
    return json_node_str(&text, SIZE_MAX, &words, err);
}

static status check_content(json_fields *f, uint32_t role_idx, uint32_t assistant_idx, error *err) {
    json_node content = json_field(f, "content");
    str words = {0};
    if (!json_node_is_set(&content)) {
        if (role_idx == assistant_idx) return OK; /* it may have called tools instead */
        return json_field_need(f, "content", &content, err);
    }
    if (json_is_string(content.value)) return json_node_str(&content, SIZE_MAX, &words, err);
    if (!json_is_array(content.value))
        return json_node_wrong_type(&content, "string or array", err);
    for (size_t i = 0; i < json_node_count(&content); i++) {
        json_node part = json_node_element(&content, i);
        TRY(check_part(&part, err));
    }
    return OK;
}

static status check_message(const json_node *n, error *err) {
    static const char *const roles[] = {"assistant", "system", "developer",
                                        "user",      "tool",   "function"};
    enum { ASSISTANT = 0, ROLES = sizeof roles / sizeof roles[0] };
    json_fields f;
    json_node role;
    uint32_t role_idx = 0;
    TRY(json_fields_open(&f, n, err));
    TRY(json_field_need(&f, "role", &role, err));
    TRY(json_node_choice(&role, roles, ROLES, &role_idx, err));
    return check_content(&f, role_idx, ASSISTANT, err);
}

static status read_messages(openai_body *b, error *err) {
    json_node messages = {0};
    TRY(openai_inputs(b, 1, err));
    gen_input *in = &b->spec->inputs[0];
    TRY(json_field_need(&b->f, "messages", &messages, err));
    if (!json_is_array(messages.value)) return json_node_wrong_type(&messages, "array", err);
    size_t count = json_node_count(&messages);
    if (count == 0) return error_set(err, ERR_INVALID, "messages: has no message");
    for (size_t i = 0; i < count; i++) {
        json_node n = json_node_element(&messages, i);
        TRY(check_message(&n, err));
    }
    in->kind = GEN_PROMPT_CHAT;
    b->spec->inputs_count = 1;
    return openai_keep_json(b, &messages, &in->text, err);
}

/* Two names of one limit; the newer one wins. */
static status read_limit(openai_body *b, error *err) {
    uint32_t *max = &b->spec->request.sampling.tokens_max;
    TRY(json_get_u32(&b->f, "max_tokens", 1, UINT32_MAX - 1, max, err));
    return json_get_u32(&b->f, "max_completion_tokens", 1, UINT32_MAX - 1, max, err);
}

static status read_logprobs(openai_body *b, error *err) {
    gen_sampling *s = &b->spec->request.sampling;
    uint32_t top = 0;
    TRY(json_get_bool(&b->f, "logprobs", &s->logprobs, err));
    TRY(json_get_u32(&b->f, "top_logprobs", 0, WIRE_TOP_LOGPROBS_MAX, &top, err));
    if (top > 0 && !s->logprobs)
        return error_set(err, ERR_INVALID, "top_logprobs: is %u, but logprobs is not true", top);
    s->top_logprobs = (uint8_t)top;
    return OK;
}

/* --- what goes to the chat template ----------------------------------------------------- */

enum { DOCUMENTS_MAX = 4096 };

typedef struct variables {
    json_writer w;
    bool has_effort; /* the request's kwargs name reasoning_effort themselves */
} variables;

static void put_variable(void *arg, const json_node *member) {
    variables *v = arg;
    v->has_effort = v->has_effort || str_eq(member->key, S("reasoning_effort"));
    json_key(&v->w, member->key);
    json_node_write(member, &v->w);
}

/* chat_template_kwargs, and reasoning_effort as one of them. */
static status read_variables(openai_body *b, error *err) {
    json_node kwargs = {0};
    str effort = S("");
    buf text;
    TRY(json_get_object(&b->f, "chat_template_kwargs", &kwargs, err));
    TRY(json_get_str(&b->f, "reasoning_effort", 64, &effort, err));
    if (kwargs.value == NULL && effort.n == 0) return OK;
    variables v = {0};
    buf_init(&text, b->a->bytes_max);
    json_writer_init(&v.w, &text);
    json_begin_object(&v.w);
    if (kwargs.value != NULL) json_node_each(&kwargs, put_variable, &v);
    if (effort.n > 0 && !v.has_effort) json_kv_str(&v.w, "reasoning_effort", effort);
    json_end_object(&v.w);
    status st = text.failed
                    ? error_set(err, ERR_NOMEM, "api: no memory for template variables")
                    : openai_keep(b, buf_view(&text), &b->spec->request.chat.variables, err);
    buf_deinit(&text);
    return st;
}

/* Whether a request may bring a template is for gen_start.c to say. */
static status read_template(openai_body *b, error *err) {
    gen_chat *chat = &b->spec->request.chat;
    json_node documents = {0};
    str text = S("");
    chat->add_generation_prompt = true;
    TRY(json_get_bool(&b->f, "add_generation_prompt", &chat->add_generation_prompt, err));
    TRY(json_get_bool(&b->f, "continue_final_message", &chat->continue_final, err));
    json_node given = json_field(&b->f, "add_generation_prompt");
    if (chat->continue_final && json_is_true(given.value))
        return error_set(err, ERR_INVALID,
                         "continue_final_message: contradicts add_generation_prompt");
    TRY(json_get_str(&b->f, "chat_template", SIZE_MAX, &text, err));
    if (text.n > 0) TRY(openai_keep(b, text, &chat->chat_template, err));
    TRY(json_get_array(&b->f, "documents", DOCUMENTS_MAX, &documents, err));
    if (json_node_count(&documents) > 0)
        TRY(openai_keep_json(b, &documents, &chat->documents, err));
    TRY(read_variables(b, err));
    return openai_read_tools(b, err);
}

static status check_modalities(openai_body *b, error *err) {
    json_node list = {0};
    TRY(json_get_array(&b->f, "modalities", 8, &list, err));
    for (size_t i = 0; i < json_node_count(&list); i++) {
        json_node n = json_node_element(&list, i);
        str name = S("");
        TRY(json_node_str(&n, 64, &name, err));
        if (!str_eq(name, S("text")))
            return error_set(err, ERR_UNSUPPORTED,
                             "modalities[%zu]: '%.*s' is not supported, only 'text' is", i,
                             STR(name));
    }
    return OK;
}

static status read_chat(openai_body *b, error *err) {
    TRY(openai_refuse(b, "functions", "is the old form; use tools", err));
    TRY(check_modalities(b, err));
    TRY(openai_refuse(b, "audio", "audio is not supported", err));
    TRY(openai_refuse(b, "prediction", "predicted output is not supported", err));
    TRY(openai_refuse(b, "web_search_options", "web search is not supported", err));
    TRY(read_limit(b, err));
    TRY(read_logprobs(b, err));
    TRY(read_template(b, err));
    return read_messages(b, err);
}

bool openai_chat_parse(str body, arena *a, gen_spec *out, api_fault *fault) {
    return openai_parse(body, a, out, fault, read_chat);
}

/* --- plain answer ------------------------------------------------------------------------- */

/* An answer that was cut off says so, whether or not it had calls before. */
static str finish_name(const gen_choice *c) {
    str name = openai_finish_name(c->reason);
    return c->calls_count > 0 && str_eq(name, S("stop")) ? S("tool_calls") : name;
}

static void write_choice(json_writer *w, const gen_call *g, uint32_t i) {
    const gen_choice *c = &g->choices[i];
    json_begin_object(w);
    json_kv_uint(w, "index", i);
    json_kv_object(w, "message");
    json_kv_str(w, "role", S("assistant"));
    if (c->text.n == 0 && c->calls_count > 0)
        json_kv_null(w, "content");
    else
        json_kv_str(w, "content", buf_view(&c->text));
    json_kv_null(w, "refusal");
    openai_calls(w, c);
    json_end_object(w);
    json_key(w, S("logprobs"));
    openai_logprobs_chat(w, g->logprobs, buf_view(&c->logprobs));
    json_kv_str(w, "finish_reason", finish_name(c));
    json_end_object(w);
}

static void reply(gen_call *g) {
    buf *out = front_scratch(g->front);
    json_writer w;
    json_writer_init(&w, out);
    openai_begin(&w, g, "chat.completion");
    json_kv_array(&w, "choices");
    for (uint32_t i = 0; i < g->choices_count; i++) write_choice(&w, g, i);
    json_end_array(&w);
    openai_usage(&w, g);
    openai_timings(&w, g);
    json_end_object(&w);
    gen_respond(g, 200, out);
}

/* --- stream ------------------------------------------------------------------------------- */

/* One chunk with one choice.  `delta` writes the members of its delta, `finish` is "" or the
 * reason; the chunk that completes the last choice has the timings. */
static void send_chunk(gen_call *g, uint32_t choice, void (*delta)(json_writer *, const void *),
                       const void *arg, str finish, str logprobs) {
    buf *out = front_scratch(g->front);
    json_writer w;
    json_writer_init(&w, out);
    openai_begin(&w, g, "chat.completion.chunk");
    json_kv_array(&w, "choices");
    json_begin_object(&w);
    json_kv_uint(&w, "index", choice);
    json_kv_object(&w, "delta");
    if (delta != NULL) delta(&w, arg);
    json_end_object(&w);
    json_key(&w, S("logprobs"));
    openai_logprobs_chat(&w, logprobs.n > 0, logprobs);
    if (finish.n > 0)
        json_kv_str(&w, "finish_reason", finish);
    else
        json_kv_null(&w, "finish_reason");
    json_end_object(&w);
    json_end_array(&w);
    if (g->include_usage) json_kv_null(&w, "usage");
    if (g->over) openai_timings(&w, g);
    json_end_object(&w);
    openai_send(g, out);
}

/* An answer with calls may have no content: null, until some comes. */
static void delta_role(json_writer *w, const void *arg) {
    const gen_call *g = arg;
    json_kv_str(w, "role", S("assistant"));
    if (g->tools)
        json_kv_null(w, "content");
    else
        json_kv_str(w, "content", S(""));
    json_kv_null(w, "refusal");
}

static void delta_content(json_writer *w, const void *arg) {
    json_kv_str(w, "content", *(const str *)arg);
}

static void chat_on_accepted(gen_call *g) {
    if (!g->stream) return;
    openai_stream_begin(g);
    for (uint32_t i = 0; i < g->choices_count; i++) send_chunk(g, i, delta_role, g, S(""), S(""));
}

static void chat_on_text(gen_call *g, uint32_t choice, const gen_event *e) {
    if (!g->stream) {
        (void)gen_keep(g, choice, e);
    } else if (e->text.text.n > 0 || e->text.logprobs.n > 0) {
        bool content = e->text.text.n > 0 || !g->tools; /* the token of a call has none */
        send_chunk(g, choice, content ? delta_content : NULL, &e->text.text, S(""),
                   e->text.logprobs);
    }
}

static void chat_on_call(gen_call *g, uint32_t choice, const gen_event *e) {
    if (!g->stream) {
        (void)gen_keep(g, choice, e);
        return;
    }
    if (e->call.id.n > 0) send_chunk(g, choice, openai_delta_call, e, S(""), S(""));
    if (e->call.arguments.n > 0) send_chunk(g, choice, openai_delta_arguments, e, S(""), S(""));
}

static void send_finish(gen_call *g, uint32_t choice) {
    send_chunk(g, choice, NULL, NULL, finish_name(&g->choices[choice]), S(""));
}

static void chat_on_finish(gen_call *g, uint32_t choice) {
    if (g->stream && g->finished < g->choices_count)
        send_finish(g, choice);
    else
        g->last_choice = choice; /* goes out in on_done, with the timings */
}

static void chat_on_done(gen_call *g) {
    if (!g->stream) {
        reply(g);
        return;
    }
    send_finish(g, g->last_choice);
    openai_stream_end(g, "chat.completion.chunk");
}

static const dialect_ops CHAT = {
    .endpoint = "/v1/chat/completions",
    .metrics = METRICS_ENDPOINT_CHAT,
    .id_prefix = "chatcmpl-",
    .parse = openai_chat_parse,
    .on_accepted = chat_on_accepted,
    .on_text = chat_on_text,
    .on_call = chat_on_call,
    .on_finish = chat_on_finish,
    .on_done = chat_on_done,
    .on_error = openai_on_error,
};

void openai_chat_handle(front *f, http_call *c, str tail) {
    (void)tail;
    gen_start(f, c, &CHAT);
}
