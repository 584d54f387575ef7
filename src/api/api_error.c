/* api_error.c - see api_error.h. */
#include "api/api_error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "json/write.h"

static const api_error_row ROWS[API_KIND_COUNT] = {
    [API_OK] = {"none", NULL, 200, 0},
    [API_INVALID] = {"invalid_request_error", "invalid_value", 400, 0},
    [API_UNSUPPORTED] = {"invalid_request_error", "unsupported_parameter", 400, 0},
    [API_CONTEXT_LENGTH] = {"invalid_request_error", "context_length_exceeded", 400, 0},
    [API_PROMPT] = {"invalid_request_error", "invalid_prompt", 400, 0},
    [API_TEMPLATE] = {"invalid_request_error", "chat_template_unusable", 400, 0},
    [API_TEMPLATE_ERROR] = {"invalid_request_error", "chat_template_error", 400, 0},
    [API_UNAUTHORIZED] = {"authentication_error", "invalid_api_key", 401, 0},
    [API_FORBIDDEN] = {"permission_error", "forbidden", 403, 0},
    [API_NO_ROUTE] = {"invalid_request_error", "unknown_url", 404, 0},
    [API_NO_MODEL] = {"invalid_request_error", "model_not_found", 404, 0},
    [API_METHOD] = {"invalid_request_error", "method_not_allowed", 405, 0},
    [API_TOO_LARGE] = {"invalid_request_error", "request_too_large", 413, 0},
    [API_MEDIA_TYPE] = {"invalid_request_error", "unsupported_media_type", 415, 0},
    [API_REPLY_LIMIT] = {"server_error", "reply_too_large", 500, 0},
    [API_QUEUE_FULL] = {"unavailable_error", "queue_full", 503, 1},
    [API_BUSY] = {"invalid_request_error", "busy", 409, 1},
    [API_DRAINING] = {"unavailable_error", "draining", 503, 5},
    [API_NOT_READY] = {"unavailable_error", "not_ready", 503, 2},
    [API_STALLED] = {"unavailable_error", "stalled", 503, 0},
    [API_NOMEM] = {"unavailable_error", "out_of_memory", 503, 1},
    [API_TIMEOUT] = {"server_error", "timeout", 504, 0},
    [API_CANCELED] = {"unavailable_error", "canceled", 503, 1},
    [API_DEVICE] = {"server_error", "device_error", 500, 0},
    [API_INTERNAL] = {"server_error", "internal_error", 500, 0},
};

/* A GEN_ERROR without a fault is known by its status code alone. */
static const api_kind BY_STATUS[STATUS_COUNT] = {
    [OK] = API_INTERNAL,
    [ERR_NOMEM] = API_NOMEM,
    [ERR_IO] = API_INTERNAL,
    [ERR_FORMAT] = API_INTERNAL,
    [ERR_UNSUPPORTED] = API_UNSUPPORTED,
    [ERR_INVALID] = API_INVALID,
    [ERR_LIMIT] = API_INVALID,
    [ERR_BUSY] = API_QUEUE_FULL,
    [ERR_NOT_FOUND] = API_NO_MODEL,
    [ERR_TIMEOUT] = API_TIMEOUT,
    [ERR_CANCELED] = API_CANCELED,
    [ERR_DEVICE] = API_DEVICE,
    [ERR_INTERNAL] = API_INTERNAL,
};

static const api_kind BY_FAULT[GEN_FAULT_END] = {
    [GEN_FAULT_NONE] = API_OK,
    [GEN_FAULT_CONTEXT_LENGTH] = API_CONTEXT_LENGTH,
    [GEN_FAULT_QUEUE_FULL] = API_QUEUE_FULL,
    [GEN_FAULT_PROMPT] = API_PROMPT,
    [GEN_FAULT_TEMPLATE] = API_TEMPLATE,
    [GEN_FAULT_DRAINING] = API_DRAINING,
    [GEN_FAULT_KIND] = API_UNSUPPORTED,
    [GEN_FAULT_INPUT_LENGTH] = API_CONTEXT_LENGTH,
    [GEN_FAULT_ADAPTER] = API_NO_MODEL,
};

const api_error_row *api_error_row_of(api_kind kind) {
    ASSERT((unsigned)kind < API_KIND_COUNT);
    return &ROWS[kind];
}

bool api_fault_set(api_fault *f, api_kind kind, const char *param, const char *fmt, ...) {
    va_list ap;
    f->kind = kind;
    str_copy_c(f->param, sizeof f->param, str_of(param));
    va_start(ap, fmt);
    (void)vsnprintf(f->message, sizeof f->message, fmt, ap);
    va_end(ap);
    return false;
}

/* The text role words a wrong message as "messages[2].content: ..."; the path is the param. */
static void take_path(api_fault *f, str message) {
    static const char *const fields[] = {"messages", "tools", "documents", "chat_template"};
    bool known = false;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        known = known || str_starts(message, str_of(fields[i]));
    if (!known) return;
    const char *colon = memmem(message.p, message.n, ": ", 2);
    if (colon == NULL) return;
    str_copy_c(f->param, sizeof f->param, (str){message.p, (size_t)(colon - message.p)});
}

void api_fault_from_event(api_fault *f, const gen_event *e) {
    api_kind kind = BY_FAULT[e->error.fault];
    str message = e->error.message;
    if (kind == API_OK) kind = BY_STATUS[e->error.code];
    if (kind == API_TEMPLATE && (e->error.code == ERR_INVALID || e->error.code == ERR_LIMIT))
        kind = API_TEMPLATE_ERROR;
    if (e->error.fault == GEN_FAULT_CONTEXT_LENGTH)
        (void)api_fault_set(f, kind, NULL,
                            "the prompt has %" PRIu64 " tokens, the context holds %" PRIu64
                            " (prompt and answer together)",
                            e->error.have, e->error.limit);
    else if (kind == API_QUEUE_FULL && e->error.fault == GEN_FAULT_QUEUE_FULL)
        (void)api_fault_set(f, kind, NULL,
                            "%" PRIu64 " requests are waiting, at most %" PRIu64 " may wait",
                            e->error.have, e->error.limit);
    else if (message.n == 0)
        (void)api_fault_set(f, kind, NULL, "the model answered %s", status_name(e->error.code));
    else
        (void)api_fault_set(f, kind, NULL, "%.*s",
                            (int)(message.n < sizeof f->message ? message.n : sizeof f->message),
                            message.p);
    if (kind == API_PROMPT || kind == API_UNSUPPORTED) take_path(f, message);
}

static void put_or_null(json_writer *w, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0')
        json_kv_str(w, key, str_of(text));
    else
        json_kv_null(w, key);
}

void api_error_write(buf *out, const api_fault *f) {
    const api_error_row *row = api_error_row_of(f->kind);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_object(&w, "error");
    json_kv_str(&w, "message", str_of(f->message));
    json_kv_str(&w, "type", str_of(row->type));
    put_or_null(&w, "param", f->param);
    put_or_null(&w, "code", row->code);
    json_end_object(&w);
    json_end_object(&w);
}
