/* front.c - the front's life, and what happens to a request at the door. */
#include "api/front.h"

#include <sodium.h>
#include <stdio.h>

#include "api/front_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"

enum {
    SCRATCH_KEEP_BYTES = 1 << 20, /* a buffer that grew beyond is given back */
    PREFLIGHT_SECONDS = 600,
};

uint64_t front_now_ms(const front *f) { return loop_now_ms(f->loop); }

buf *front_scratch(front *f) {
    if (f->scratch.cap > SCRATCH_KEEP_BYTES) {
        size_t bytes_max = f->scratch.bytes_max;
        buf_deinit(&f->scratch);
        buf_init(&f->scratch, bytes_max);
    }
    buf_clear(&f->scratch);
    return &f->scratch;
}

void front_random_hex(char *out, size_t bytes) {
    static const char digits[] = "0123456789abcdef";
    os_random(out, bytes);
    for (size_t i = 0; i + 1 < bytes; i++) out[i] = digits[(unsigned char)out[i] & 15];
    out[bytes - 1] = '\0';
}

/* --- answers ---------------------------------------------------------------------- */

front_call *front_call_of(const http_call *c) { return http_call_user(c); }

void front_reply(front *f, http_call *c, unsigned http_status, const char *content_type,
                 const buf *body) {
    static const str too_large = {
        .p = "{\"error\":{\"message\":\"the answer did not fit its buffer\","
             "\"type\":\"server_error\",\"param\":null,\"code\":\"reply_too_large\"}}",
        .n = sizeof "{\"error\":{\"message\":\"the answer did not fit its buffer\","
                    "\"type\":\"server_error\",\"param\":null,\"code\":\"reply_too_large\"}}" -
             1};
    const front_call *call = front_call_of(c);
    bool known = call != NULL && call->route != NULL;
    unsigned code = body->failed ? 500 : http_status;
    metrics_count_request(&f->metrics, known ? call->route->metrics : METRICS_ENDPOINT_OTHER, code);
    if (body->failed)
        http_respond(c, 500, "application/json", too_large);
    else
        http_respond(c, http_status, content_type, buf_view(body));
}

void front_refuse(front *f, http_call *c, const api_fault *fault) {
    const api_error_row *row = api_error_row_of(fault->kind);
    if (row->retry_after_s > 0) {
        char seconds[16];
        (void)snprintf(seconds, sizeof seconds, "%u", row->retry_after_s);
        http_header_add(c, "Retry-After", seconds);
    }
    if (fault->kind == API_UNAUTHORIZED) http_header_add(c, "WWW-Authenticate", "Bearer");
    LOG_EVERY(1000, LOG_INFO, "api", "refused path=%.*s code=%u param=%s", STR(http_call_path(c)),
              row->http_status, fault->param);
    buf *out = front_scratch(f);
    api_error_write(out, fault);
    front_reply(f, c, row->http_status, "application/json", out);
}

void front_write_list(json_writer *w, const char *key, str list) {
    json_kv_array(w, key);
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma != NULL ? (size_t)(comma - list.p) : list.n;
        json_str(w, (str){list.p, n});
        list = str_skip(list, n);
        while (list.n > 0 && (list.p[0] == ',' || list.p[0] == ' ')) list = str_skip(list, 1);
    }
    json_end_array(w);
}

/* --- the door ----------------------------------------------------------------------- */

/* The client's x-request-id reduced to harmless characters, or one of ours. */
static void name_request(const http_call *c, char *out, size_t bytes) {
    str own = http_call_header(c, "x-request-id");
    size_t n = 0;
    for (size_t i = 0; i < own.n && n + 1 < bytes && n < 64; i++) {
        char ch = own.p[i];
        bool word =
            (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
        if (word || ch == '-' || ch == '_' || ch == '.') out[n++] = ch;
    }
    out[n] = '\0';
    if (n > 0) return;
    char hex[25];
    front_random_hex(hex, sizeof hex);
    (void)snprintf(out, bytes, "req-%s", hex);
}

/* Headers that decide who comes in must not be there twice: which one counts? */
static bool headers_are_single(const http_call *c, api_fault *fault) {
    static const char *const names[] = {"Host", "Origin", "Authorization", "x-api-key",
                                        "Content-Type"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (http_call_header_count(c, names[i]) > 1)
            return api_fault_set(fault, API_INVALID, NULL, "the header %s is there twice",
                                 names[i]);
    return true;
}

static bool media_type_ok(const http_call *c, api_fault *fault) {
    str type = http_call_header(c, "Content-Type");
    str coding = http_call_header(c, "Content-Encoding");
    if (coding.p != NULL && !str_eq_nocase(coding, S("identity")))
        return api_fault_set(fault, API_MEDIA_TYPE, NULL, "Content-Encoding '%.*s' is not accepted",
                             STR(coding));
    if (type.p == NULL) return true;
    const char *end = memchr(type.p, ';', type.n);
    str name = {type.p, end != NULL ? (size_t)(end - type.p) : type.n};
    while (name.n > 0 && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t')) name.n--;
    if (str_eq_nocase(name, S("application/json"))) return true;
    return api_fault_set(fault, API_MEDIA_TYPE, NULL,
                         "Content-Type is '%.*s', want application/json", STR(type));
}

static bool no_route(const route_match *m, http_call *c, api_fault *fault) {
    if (!m->path_known)
        return api_fault_set(fault, API_NO_ROUTE, NULL, "nothing is served at '%.*s'",
                             STR(http_call_path(c)));
    http_header_add(c, "Allow", m->allow);
    return api_fault_set(fault, API_METHOD, NULL, "'%.*s' takes %s, not %.*s",
                         STR(http_call_path(c)), m->allow, STR(http_call_method(c)));
}

static void allow_origin(const front *f, http_call *c, str origin) {
    if (origin.p == NULL || !door_origin_listed(&f->door, origin)) return;
    char text[256];
    if (origin.n >= sizeof text) return;
    str_copy_c(text, sizeof text, origin);
    http_header_add(c, "Access-Control-Allow-Origin", text);
    http_header_add(c, "Access-Control-Expose-Headers",
                    "x-request-id, X-Ignored-Params, Retry-After");
    http_header_add(c, "Vary", "Origin");
}

/* OPTIONS: what may be sent here, for browsers and for people.  Needs no key: a browser asks
 * without one. */
static void preflight(front *f, http_call *c, const route_match *m) {
    char seconds[16];
    (void)snprintf(seconds, sizeof seconds, "%d", PREFLIGHT_SECONDS);
    http_header_add(c, "Allow", m->allow);
    if (door_origin_listed(&f->door, http_call_header(c, "Origin"))) {
        http_header_add(c, "Access-Control-Allow-Methods", m->allow);
        http_header_add(c, "Access-Control-Allow-Headers",
                        "authorization, content-type, x-api-key, x-request-id");
        http_header_add(c, "Access-Control-Max-Age", seconds);
    }
    front_reply(f, c, 204, NULL, front_scratch(f));
}

static bool may_enter(front *f, http_call *c, const door_visit *v, const route_match *m,
                      api_fault *fault) {
    bool open = m->route != NULL && m->route->scope == ROUTE_OPEN;
    if (!open && !door_key_ok(&f->door, v, fault)) return false;
    if (m->route == NULL) return no_route(m, c, fault);
    bool changes = m->route->scope == ROUTE_ADMIN && strcmp(m->route->method, "POST") == 0;
    if (changes && !door_change_ok(&f->door, http_call_peer(c), fault)) return false;
    return strcmp(m->route->method, "POST") != 0 || media_type_ok(c, fault);
}

static void enter(front *f, http_call *c, front_call *call) {
    api_fault fault;
    door_visit v = {.host = http_call_header(c, "Host"),
                    .origin = http_call_header(c, "Origin"),
                    .authorization = http_call_header(c, "Authorization"),
                    .api_key = http_call_header(c, "x-api-key")};
    if (!headers_are_single(c, &fault) || !door_host_ok(&f->door, &v, &fault) ||
        !door_origin_ok(&f->door, &v, &fault)) {
        front_refuse(f, c, &fault);
        return;
    }
    allow_origin(f, c, v.origin);
    route_match m = route_find(http_call_method(c), http_call_path(c));
    if (m.path_known && str_eq(http_call_method(c), S("OPTIONS"))) {
        preflight(f, c, &m);
        return;
    }
    if (!may_enter(f, c, &v, &m, &fault)) {
        front_refuse(f, c, &fault);
        return;
    }
    call->route = m.route;
    call->tail = m.tail;
    if (m.route->body_bytes_max > 0) http_call_body_max(c, m.route->body_bytes_max);
}

/* --- what the HTTP server tells ------------------------------------------------------- */

static void stop_if_drained(front *f) {
    if (f->draining && f->calls_open == 0) loop_stop(f->loop);
}

static void on_head(void *ctx, http_call *c) {
    front *f = ctx;
    f->calls_open++;
    front_call *call = mem_try_calloc(1, sizeof *call);
    http_call_set_user(c, call);
    if (call == NULL) {
        api_fault fault;
        (void)api_fault_set(&fault, API_NOMEM, NULL, "no memory for one more request");
        front_refuse(f, c, &fault);
        return;
    }
    name_request(c, call->request_id, sizeof call->request_id);
    http_header_add(c, "x-request-id", call->request_id);
    enter(f, c, call);
}

static void on_too_large(void *ctx, http_call *c) {
    front *f = ctx;
    const front_call *call = front_call_of(c);
    size_t limit = call != NULL && call->route != NULL && call->route->body_bytes_max > 0
                       ? call->route->body_bytes_max
                       : f->o.http.body_bytes_max;
    api_fault fault;
    (void)api_fault_set(&fault, API_TOO_LARGE, NULL,
                        "the body of the request is larger than the %zu bytes it may have", limit);
    front_refuse(f, c, &fault);
}

static void on_request(void *ctx, http_call *c) {
    const front_call *call = front_call_of(c);
    if (call != NULL && call->route != NULL) call->route->handle(ctx, c, call->tail);
}

static void on_drained(void *ctx, http_call *c) {
    (void)ctx;
    const front_call *call = front_call_of(c);
    if (call != NULL && call->gen != NULL) gen_drained(call->gen);
}

static void on_closed(void *ctx, http_call *c, bool finished) {
    front *f = ctx;
    front_call *call = front_call_of(c);
    if (call != NULL && call->gen != NULL) gen_closed(call->gen, finished);
    adapters_forget_call(f, c);
    roofline_forget_call(f, c);
    mem_free(call);
    f->calls_open--;
    stop_if_drained(f);
}

/* --- what the links and other threads tell ----------------------------------------------- */

static void tell_when_ready(front *f) {
    for (uint32_t i = 0; i < f->registry.count; i++)
        if (!f->registry.models[i]->described) return;
    f->was_ready = true;
    if (f->o.on_ready != NULL) f->o.on_ready(f->o.on_ready_ctx);
}

static void on_up(void *ctx) {
    model_entry *m = ctx;
    os_event_clear(ring_fd(m->link->up));
    model_receive(m, front_now_ms(m->front));
    if (!m->front->was_ready) tell_when_ready(m->front);
}

static void on_room(void *ctx) {
    model_entry *m = ctx;
    os_event_clear(ring_room_fd(m->link->down));
    gen_resend(m->front, m);
}

static void on_drain(void *ctx) {
    front *f = ctx;
    os_event_clear(f->drain_fd);
    if (!f->draining) {
        f->draining = true;
        log_info("api", "drain calls=%u", f->calls_open);
        http_server_stop_accepting(f->server);
    }
    stop_if_drained(f);
}

static void on_ping(void *ctx) {
    gen_ping_all(ctx);
    adapters_look_at_clock(ctx);
    roofline_look_at_clock(ctx);
}

/* --- life ---------------------------------------------------------------------------------- */

static void fill_defaults(front_options *o) {
    if (o->requests_max == 0) o->requests_max = 1024;
    if (o->credits == 0) o->credits = 256;
    if (o->choices_max == 0) o->choices_max = 16;
    if (o->stall_ms_max == 0) o->stall_ms_max = 10000;
    if (o->ping_ms == 0) o->ping_ms = 15000;
    if (o->reply_bytes_max == 0) o->reply_bytes_max = 16 << 20;
    o->credits = num_min_u32(o->credits, WIRE_CREDITS_MAX);
    if (o->gpu_note == NULL) o->gpu_note = "";
}

/* Room for the longest text we may have to write: a reply escaped byte by byte, or the
 * frames of the largest request. */
static void init_buffers(front *f) {
    size_t bytes_max = 8 * f->o.reply_bytes_max + 2 * (size_t)WIRE_FRAME_BYTES_MAX;
    buf_init(&f->scratch, bytes_max);
    buf_init(&f->event, bytes_max);
    buf_init(&f->frame, 256);
}

static status open_parts(front *f, error *err) {
    const http_handler handler = {.ctx = f,
                                  .on_head = on_head,
                                  .on_too_large = on_too_large,
                                  .on_request = on_request,
                                  .on_drained = on_drained,
                                  .on_closed = on_closed};
    uint32_t ping_tick_ms = num_max_u32(f->o.ping_ms / 4, 10);
    TRY(gen_table_init(&f->table, f->o.requests_max, err));
    TRY(loop_create(&f->loop, err));
    TRY(os_event_open(&f->drain_fd, err));
    TRY(loop_watch(f->loop, f->drain_fd, LOOP_READ, on_drain, f, err));
    TRY(loop_every(f->loop, ping_tick_ms, on_ping, f, err));
    return http_server_open(&f->server, f->loop, &f->o.http, &handler, err);
}

status front_open(front **out, const front_options *options, error *err) {
    if (sodium_init() < 0) return error_set(err, ERR_INTERNAL, "api: libsodium does not start");
    front *f = mem_try_calloc(1, sizeof *f);
    if (f == NULL) return error_set(err, ERR_NOMEM, "api: no memory for the front");
    f->o = *options;
    f->drain_fd = -1;
    f->started_ns = os_now_ns();
    fill_defaults(&f->o);
    init_buffers(f);
    metrics_init(&f->metrics);
    door_init(&f->door, &f->o);
    status st = open_parts(f, err);
    if (st != OK) {
        front_close(f);
        return st;
    }
    *out = f;
    return OK;
}

status front_add_model(front *f, const char *name, wire_link *link, error *err) {
    TRY(registry_add(&f->registry, f, name, link, err));
    model_entry *m = f->registry.models[f->registry.count - 1];
    TRY(loop_watch(f->loop, ring_fd(link->up), LOOP_READ, on_up, m, err));
    return loop_watch(f->loop, ring_room_fd(link->down), LOOP_READ, on_room, m, err);
}

status front_add_adapter(front *f, const char *name, const char *path, float scale, error *err) {
    adapter_entry *a = NULL;
    uint32_t used = scale != 0;
    ASSERT(f->registry.count > 0);
    for (uint32_t i = 0; i < f->adapters.count; i++) used += f->adapters.items[i]->scale != 0;
    if (used > WIRE_ADAPTERS_MAX)
        return error_set(err, ERR_LIMIT, "api: %u adapters for every request, at most %d", used,
                         WIRE_ADAPTERS_MAX);
    TRY(adapters_add(f, &a, f->registry.models[0], str_of(name), str_of(path), err));
    a->stage = ADAPTER_LOADED;
    a->scale = scale;
    return OK;
}

uint16_t front_port(const front *f) { return http_server_port(f->server); }

void front_run(front *f) {
    if (f->registry.count == 0) tell_when_ready(f); /* no link will */
    loop_run(f->loop);
}

void front_drain(front *f) { os_event_signal(f->drain_fd); }

void front_stop(front *f) { loop_stop(f->loop); }

void front_close(front *f) {
    if (f == NULL) return;
    if (f->server != NULL) http_server_close(f->server);
    for (uint32_t i = 0; i < f->registry.count; i++) {
        loop_unwatch(f->loop, ring_fd(f->registry.models[i]->link->up));
        loop_unwatch(f->loop, ring_room_fd(f->registry.models[i]->link->down));
    }
    gen_table_deinit(&f->table);
    adapters_deinit(&f->adapters);
    registry_deinit(&f->registry);
    if (f->loop != NULL) loop_destroy(f->loop);
    if (f->drain_fd >= 0) os_close(f->drain_fd);
    buf_deinit(&f->scratch);
    buf_deinit(&f->event);
    buf_deinit(&f->frame);
    mem_free(f);
}
