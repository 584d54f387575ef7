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

/* The messages as JSON text again, in the arena. */
static status keep_messages(openai_body *b, const json_node *messages, str *out, error *err) {
    buf text;
    json_writer w;
    buf_init(&text, b->a->bytes_max);
    json_writer_init(&w, &text);
    json_node_write(messages, &w);
    status st = text.failed ? error_set(err, ERR_NOMEM, "api: no memory for the messages")
                            : openai_keep(b, buf_view(&text), out, err);
    buf_deinit(&text);
    return st;
}

static status read_messages(openai_body *b, error *err) {
    json_node messages = {0};
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
    return keep_messages(b, &messages, &in->text, err);
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

static status refuse_call_choice(openai_body *b, const char *key, error *err) {
    json_node n = json_field(&b->f, key);
    if (!json_node_is_set(&n)) return OK;
    const char *text = json_is_string(n.value) ? json_string_value(n.value) : "";
    if (strcmp(text, "none") == 0 || strcmp(text, "auto") == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED, "%s: tools are not supported, only 'none' and 'auto'",
                     key);
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
    TRY(openai_refuse(b, "tools", "tools are not supported", err));
    TRY(openai_refuse(b, "functions", "functions are not supported", err));
    TRY(refuse_call_choice(b, "tool_choice", err));
    TRY(refuse_call_choice(b, "function_call", err));
    TRY(check_modalities(b, err));
    TRY(openai_refuse(b, "audio", "audio is not supported", err));
    TRY(openai_refuse(b, "prediction", "predicted output is not supported", err));
    TRY(openai_refuse(b, "web_search_options", "web search is not supported", err));
    TRY(openai_refuse(b, "continue_final_message", "is not supported", err));
    TRY(read_limit(b, err));
    TRY(read_logprobs(b, err));
    return read_messages(b, err);
}

bool openai_chat_parse(str body, arena *a, gen_spec *out, api_fault *fault) {
    return openai_parse(body, a, out, fault, read_chat);
}

/* --- plain answer ------------------------------------------------------------------------- */

static void write_choice(json_writer *w, const gen_call *g, uint32_t i) {
    const gen_choice *c = &g->choices[i];
    json_begin_object(w);
    json_kv_uint(w, "index", i);
    json_kv_object(w, "message");
    json_kv_str(w, "role", S("assistant"));
    json_kv_str(w, "content", buf_view(&c->text));
    json_kv_null(w, "refusal");
    json_end_object(w);
    json_key(w, S("logprobs"));
    openai_logprobs_chat(w, g->logprobs, buf_view(&c->logprobs));
    json_kv_str(w, "finish_reason", openai_finish_name(c->reason));
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

static void delta_role(json_writer *w, const void *arg) {
    (void)arg;
    json_kv_str(w, "role", S("assistant"));
    json_kv_str(w, "content", S(""));
    json_kv_null(w, "refusal");
}

static void delta_content(json_writer *w, const void *arg) {
    json_kv_str(w, "content", *(const str *)arg);
}

static void chat_on_accepted(gen_call *g) {
    if (!g->stream) return;
    openai_stream_begin(g);
    for (uint32_t i = 0; i < g->choices_count; i++)
        send_chunk(g, i, delta_role, NULL, S(""), S(""));
}

static void chat_on_text(gen_call *g, uint32_t choice, const gen_event *e) {
    if (!g->stream) {
        (void)gen_keep(g, choice, e);
    } else if (e->text.text.n > 0 || e->text.logprobs.n > 0) {
        send_chunk(g, choice, delta_content, &e->text.text, S(""), e->text.logprobs);
    }
}

static void send_finish(gen_call *g, uint32_t choice) {
    send_chunk(g, choice, NULL, NULL, openai_finish_name(g->choices[choice].reason), S(""));
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
    .on_finish = chat_on_finish,
    .on_done = chat_on_done,
    .on_error = openai_on_error,
};

void openai_chat_handle(front *f, http_call *c, str tail) {
    (void)tail;
    gen_start(f, c, &CHAT);
}
