/* render.c - `gantry render`: the text that a chat becomes, without running a model.
 *
 * stdin has a JSON object: messages, and whatever else the template is to see (tools,
 * add_generation_prompt, bos_token, enable_thinking, ...); `now` ("2025-07-04 12:34:56") sets
 * the clock of strftime_now().  With --template FILE the members go to the template as they are,
 * tools and documents as none when they are absent (undefined with "tools_omitted": true);
 * with a MODEL they go the way that a request to the server goes. */
#include <stdio.h>
#include <time.h>

#include "app/commands.h"
#include "base/os.h"
#include "model/model.h"
#include "text/chat.h"
#include "text/jinja.h"
#include "json/read.h"

enum { INPUT_BYTES_MAX = 1 << 30, OUTPUT_BYTES_MAX = 256 << 20 };

typedef struct renderer {
    jinja_template *file; /* owned; --template */
    model *model;         /* owned, else */
    tokenizer *tok;       /* owned */
    chat_template *chat;  /* owned */
    chat_prompt prompt;
} renderer;

/* --- time ---------------------------------------------------------------------------------- */

typedef struct clock_at {
    int64_t unix_s; /* local time reads `now` */
    int32_t offset_s;
} clock_at;

static status read_now(json_fields *f, clock_at *out, error *err) {
    str text = S("");
    TRY(json_get_str(f, "now", 64, &text, err));
    time_t t = (time_t)(os_wall_ms() / 1000);
    struct tm tm = {0};
    if (text.n == 0) {
        *out = (clock_at){.unix_s = t};
        if (localtime_r(&t, &tm) != NULL) out->offset_s = (int32_t)tm.tm_gmtoff;
        return OK;
    }
    char terminated[65];
    str_copy_c(terminated, sizeof terminated, text);
    const char *end = strptime(terminated, "%Y-%m-%d %H:%M:%S", &tm);
    if (end == NULL || *end != '\0')
        return error_set(err, ERR_INVALID, "now: '%.*s', want 'YYYY-MM-DD HH:MM:SS'", STR(text));
    *out = (clock_at){.unix_s = (int64_t)timegm(&tm)};
    return OK;
}

/* --- with a file ---------------------------------------------------------------------------- */

static void copy_member(void *arg, const json_node *member) {
    json_writer *w = arg;
    if (str_eq(member->key, S("now")) || str_eq(member->key, S("tools_omitted"))) return;
    json_key(w, member->key);
    json_node_write(member, w);
}

static status render_file(const renderer *r, json_fields *f, buf *out, error *err) {
    static const char *const lists[] = {"tools", "documents"};
    bool omitted = false;
    clock_at now = {0};
    TRY(json_get_bool(f, "tools_omitted", &omitted, err));
    TRY(read_now(f, &now, err));
    buf context;
    json_writer w;
    buf_init(&context, OUTPUT_BYTES_MAX);
    json_writer_init(&w, &context);
    json_begin_object(&w);
    json_node_each(&f->node, copy_member, &w);
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !omitted; i++)
        if (json_field(f, lists[i]).value == NULL) json_kv_null(&w, lists[i]);
    json_end_object(&w);
    jinja_env env = {
        .now_unix_s = now.unix_s, .utc_offset_s = now.offset_s, .limits = jinja_default_limits()};
    status st = buf_status(&context, "request", err);
    if (st == OK) st = jinja_render(r->file, buf_view(&context), &env, out, err);
    buf_deinit(&context);
    return st;
}

/* --- with a model --------------------------------------------------------------------------- */

/* JSON texts of the members of a request, owned by one buffer each. */
typedef struct request_texts {
    buf messages, tools, documents, variables;
    json_writer w; /* of variables */
} request_texts;

static void keep(json_fields *f, const char *key, buf *out) {
    json_node n = json_field(f, key);
    json_writer w;
    if (!json_node_is_set(&n)) return;
    json_writer_init(&w, out);
    json_node_write(&n, &w);
}

/* Everything that is no part of a request is a variable of the template. */
static void keep_variable(void *arg, const json_node *member) {
    static const char *const known[] = {"messages",
                                        "tools",
                                        "documents",
                                        "tools_omitted",
                                        "bos_token",
                                        "eos_token",
                                        "now",
                                        "add_generation_prompt",
                                        "continue_final_message"};
    request_texts *t = arg;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_eq_c(member->key, known[i])) return;
    json_key(&t->w, member->key);
    json_node_write(member, &t->w);
}

static status render_model(renderer *r, json_fields *f, buf *out, error *err) {
    request_texts t;
    chat_request q = {.add_generation_prompt = true};
    clock_at now = {0};
    TRY(json_get_bool(f, "add_generation_prompt", &q.add_generation_prompt, err));
    TRY(json_get_bool(f, "continue_final_message", &q.continue_final, err));
    TRY(read_now(f, &now, err));
    buf *all[] = {&t.messages, &t.tools, &t.documents, &t.variables};
    for (size_t i = 0; i < 4; i++) buf_init(all[i], OUTPUT_BYTES_MAX);
    keep(f, "messages", &t.messages);
    keep(f, "tools", &t.tools);
    keep(f, "documents", &t.documents);
    json_writer_init(&t.w, &t.variables);
    json_begin_object(&t.w);
    json_node_each(&f->node, keep_variable, &t);
    json_end_object(&t.w);
    q.messages = buf_view(&t.messages);
    q.tools = buf_view(&t.tools);
    q.documents = buf_view(&t.documents);
    q.variables = buf_view(&t.variables);
    q.now_unix_s = now.unix_s;
    q.utc_offset_s = now.offset_s;
    status st = chat_render(r->chat, &q, &r->prompt, err);
    if (st == OK) buf_put_str(out, buf_view(&r->prompt.text));
    for (size_t i = 0; i < 4; i++) buf_deinit(all[i]);
    return st;
}

/* --- one request ---------------------------------------------------------------------------- */

static status render(renderer *r, str text, buf *out, error *err) {
    json_doc doc;
    json_fields f;
    error why = {0};
    status st = json_parse(text, &doc, &why);
    if (st != OK) return error_set(err, st, "the request is no JSON: %.280s", why.msg);
    json_node root = json_root(&doc);
    st = json_fields_open(&f, &root, err);
    if (st == OK)
        st = r->file != NULL ? render_file(r, &f, out, err) : render_model(r, &f, out, err);
    json_doc_deinit(&doc);
    return st;
}

/* A line of --jsonl: the text as a JSON string, or what is wrong. */
static void render_line(renderer *r, str line, buf *out) {
    buf text;
    json_writer w;
    error err = {0};
    buf_init(&text, OUTPUT_BYTES_MAX);
    status st = render(r, line, &text, &err);
    json_writer_init(&w, out);
    if (st == OK) {
        json_str(&w, buf_view(&text));
    } else {
        json_begin_object(&w);
        json_kv_str(&w, "error", str_of(err.msg));
        json_end_object(&w);
    }
    buf_put_char(out, '\n');
    buf_deinit(&text);
}

static status render_lines(renderer *r, str in, error *err) {
    buf out;
    buf_init(&out, OUTPUT_BYTES_MAX);
    status st = OK;
    while (st == OK && in.n > 0) {
        const char *end = memchr(in.p, '\n', in.n);
        str line = {in.p, end != NULL ? (size_t)(end - in.p) : in.n};
        in = str_skip(in, end != NULL ? line.n + 1 : line.n);
        if (line.n == 0) continue;
        buf_clear(&out);
        render_line(r, line, &out);
        st = buf_status(&out, "text", err);
        if (st == OK) st = command_write_stdout(out.p, out.n, err);
    }
    buf_deinit(&out);
    return st;
}

static status render_whole(renderer *r, str in, error *err) {
    buf out;
    buf_init(&out, OUTPUT_BYTES_MAX);
    status st = render(r, in, &out, err);
    if (st == OK) st = buf_status(&out, "text", err);
    if (st == OK && out.n > 0) st = command_write_stdout(out.p, out.n, err);
    buf_deinit(&out);
    return st;
}

/* --- the command ---------------------------------------------------------------------------- */

static status open_file(renderer *r, const char *path, error *err) {
    jinja_options options = jinja_chat_options();
    buf source;
    buf_init(&source, JINJA_SOURCE_BYTES_MAX);
    status st = command_read_file(path, &source, err);
    if (st == OK) st = jinja_parse(&r->file, buf_view(&source), &options, err);
    buf_deinit(&source);
    return st;
}

static status open_model(renderer *r, const char *path, error *err) {
    TRY(model_open_vocab(&r->model, path, err));
    if (r->model->vocab.kind != TOK_KIND_NONE) TRY(tok_create(&r->tok, &r->model->vocab, err));
    chat_source s = {.kind = r->model->chat_template.n > 0 ? CHAT_KIND_JINJA : CHAT_KIND_PLAIN,
                     .text = r->model->chat_template,
                     .tool_text = r->model->chat_template_tools,
                     .tok = r->tok};
    TRY(chat_template_create(&r->chat, &s, err));
    return chat_template_usable(r->chat, err);
}

static status open_renderer(renderer *r, const config *c, error *err) {
    const char *path = NULL;
    if (c->template_file.n > 0) {
        if (c->argc_rest > 0)
            return error_set(err, ERR_INVALID, "usage: a MODEL or --template, not both");
        return open_file(r, c->template_file.p, err);
    }
    TRY(command_model_arg(c, &path, err));
    status st = open_model(r, path, err);
    return st == OK ? OK : command_blame(path, err);
}

status command_render(const config *c, error *err) {
    renderer r = {0};
    buf in;
    buf_init(&in, INPUT_BYTES_MAX);
    chat_prompt_init(&r.prompt, OUTPUT_BYTES_MAX);
    status st = open_renderer(&r, c, err);
    if (st == OK) st = command_read_stdin(&in, err);
    if (st == OK)
        st = c->jsonl ? render_lines(&r, buf_view(&in), err) : render_whole(&r, buf_view(&in), err);
    chat_prompt_deinit(&r.prompt);
    buf_deinit(&in);
    jinja_destroy(r.file);
    chat_template_destroy(r.chat);
    tok_destroy(r.tok);
    model_close(r.model);
    return st;
}
