/* lora.c - `gantry lora list | load NAME FILE | unload NAME`: adapters of a running server. */
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "net/ask.h"
#include "json/read.h"
#include "json/write.h"

enum { REQUEST_BYTES_MAX = 64 << 10 };

/* What the server says is wrong, out of its error object. */
static status refused(str body, unsigned http_status, error *err) {
    json_doc doc;
    if (json_parse(body, &doc, NULL) != OK)
        return error_set(err, ERR_INVALID, "the server answers %u", http_status);
    const char *text =
        json_string_value(json_object_get(json_object_get(doc.root, "error"), "message"));
    status st = error_set(err, ERR_INVALID, "the server answers %u: %s", http_status,
                          text != NULL ? text : "no reason");
    json_doc_deinit(&doc);
    return st;
}

/* Send it; the body of an answer with status 200. */
static status talk(const config *c, const char *path, str json, buf *body, error *err) {
    ask_server server;
    unsigned http_status = 0;
    TRY(ask_parse_url(c->url, &server, err));
    ask_request r = {
        .method = json.n > 0 ? "POST" : "GET", .path = path, .api_key = c->api_key, .json = json};
    TRY(ask(&server, &r, &http_status, body, err));
    return http_status == 200 ? OK : refused(buf_view(body), http_status, err);
}

/* --- list -------------------- */

static status print_list(str body, error *err) {
    json_doc doc;
    size_t i = 0;
    json_t *a = NULL;
    TRY(json_parse(body, &doc, err));
    json_array_foreach(doc.root, i, a) {
        const char *name = json_string_value(json_object_get(a, "name"));
        const char *file = json_string_value(json_object_get(a, "path"));
        printf("%lld %s scale %g %s\n", (long long)json_integer_value(json_object_get(a, "id")),
               name != NULL ? name : "?", json_number_value(json_object_get(a, "scale")),
               file != NULL ? file : "?");
    }
    json_doc_deinit(&doc);
    return OK;
}

static status list(const config *c, buf *body, error *err) {
    TRY(talk(c, "/lora-adapters", (str){0}, body, err));
    if (c->json) buf_put_char(body, '\n');
    return c->json ? command_write_stdout(body->p, body->n, err) : print_list(buf_view(body), err);
}

/* --- load, unload -------------------- */

static status change(const config *c, const char *path, const char *name, const char *file,
                     buf *body, error *err) {
    buf json;
    json_writer w;
    buf_init(&json, REQUEST_BYTES_MAX);
    json_writer_init(&w, &json);
    json_begin_object(&w);
    json_kv_str(&w, "lora_name", str_of(name));
    if (file != NULL) json_kv_str(&w, "lora_path", str_of(file));
    json_end_object(&w);
    status st = buf_status(&json, "request", err);
    if (st == OK) st = talk(c, path, buf_view(&json), body, err);
    buf_deinit(&json);
    if (st == OK) buf_put_char(body, '\n');
    return st == OK ? command_write_stdout(body->p, body->n, err) : st;
}

static status run(const config *c, buf *body, error *err) {
    const char *verb = c->argc_rest > 0 ? c->argv_rest[0] : "";
    char **rest = c->argv_rest + 1;
    if (strcmp(verb, "list") == 0 && c->argc_rest == 1) return list(c, body, err);
    if (strcmp(verb, "load") == 0 && c->argc_rest == 3)
        return change(c, "/v1/load_lora_adapter", rest[0], rest[1], body, err);
    if (strcmp(verb, "unload") == 0 && c->argc_rest == 2)
        return change(c, "/v1/unload_lora_adapter", rest[0], NULL, body, err);
    return error_set(err, ERR_INVALID, "usage: list, load NAME FILE or unload NAME is wanted");
}

status command_lora(const config *c, error *err) {
    buf body;
    buf_init(&body, ASK_ANSWER_BYTES_MAX);
    status st = run(c, &body, err);
    buf_deinit(&body);
    return st;
}
