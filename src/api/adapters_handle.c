/* adapters_handle.c - adapters over HTTP: load, unload, list, and what requests use by default.
 *
 * Two families of endpoints that clients know already: /v1/load_lora_adapter and
 * /v1/unload_lora_adapter of vLLM, /lora-adapters of llama.cpp's server.  An order is answered when
 * the engine has answered it; see docs/lora.md. */
#include <inttypes.h>
#include <stdio.h>

#include "api/front_internal.h"
#include "base/log.h"
#include "json/read.h"
#include "json/write.h"

enum { SCALE_MAX = 1000000 };

/* --- answers --------------------------------------------------------------------------- */

static void say_success(front *f, http_call *c, const adapter_entry *a, const char *what) {
    buf *out = front_scratch(f);
    buf_put_str(out, S("Success: LoRA adapter '"));
    buf_put_str(out, str_of(a->name));
    buf_put_str(out, S("' "));
    buf_put_str(out, str_of(what));
    buf_put_str(out, S(" successfully."));
    front_reply(f, c, 200, "text/plain; charset=utf-8", out);
}

/* A file that cannot be used is the caller's mistake, whatever is wrong with it. */
static void refuse_state(front *f, http_call *c, const adapter_state *s) {
    api_fault fault;
    api_kind kind = API_INVALID;
    if (s->code == ERR_NOMEM) kind = API_NOMEM;
    if (s->code == ERR_INTERNAL || s->code == ERR_DEVICE) kind = API_INTERNAL;
    (void)api_fault_set(&fault, kind, kind == API_INVALID ? "lora_path" : NULL, "%.*s",
                        STR(s->message));
    front_refuse(f, c, &fault);
}

static void refuse_error(front *f, http_call *c, const char *param, const error *err) {
    api_fault fault;
    bool no_memory = err->code == ERR_NOMEM;
    (void)api_fault_set(&fault, no_memory ? API_NOMEM : API_INVALID, param, "%s", err->msg);
    front_refuse(f, c, &fault);
}

/* --- what comes up ----------------------------------------------------------------------- */

static void learn(adapter_entry *a, const adapter_state *s) {
    a->rank = s->rank;
    a->matrices = s->weights;
    a->bytes = s->bytes;
}

static void end_loading(front *f, adapter_entry *a, const adapter_state *s) {
    http_call *c = a->waiting;
    a->waiting = NULL;
    if (!s->loaded) {
        log_info("lora", "refused name=%s model=%s: %.*s", a->name, a->model->name,
                 STR(s->message));
        if (c != NULL) refuse_state(f, c, s);
        adapters_remove(&f->adapters, a);
        return;
    }
    learn(a, s);
    a->stage = ADAPTER_LOADED;
    log_info("lora", "loaded name=%s model=%s id=%u rank=%u matrices=%u bytes=%" PRIu64, a->name,
             a->model->name, a->number, a->rank, a->matrices, a->bytes);
    if (c != NULL) say_success(f, c, a, "added");
}

static void end_leaving(front *f, adapter_entry *a, const adapter_state *s) {
    http_call *c = a->waiting;
    a->waiting = NULL;
    log_info("lora", "unloaded name=%s model=%s id=%u rank=%u matrices=%u bytes=%" PRIu64, a->name,
             a->model->name, a->number, a->rank, a->matrices, a->bytes);
    if (c != NULL && s->code == OK) say_success(f, c, a, "removed");
    if (c != NULL && s->code != OK) refuse_state(f, c, s);
    adapters_remove(&f->adapters, a);
}

void adapters_take_state(front *f, model_entry *m, str body) {
    adapter_state s;
    error err;
    if (wire_get_adapter_state(body, &s, &err) != OK) {
        gen_note_malformed(f, m, err.msg);
        return;
    }
    adapter_entry *a = adapters_find_number(&f->adapters, s.adapter);
    if (a == NULL || a->model != m)
        gen_note_malformed(f, m, "the state of an adapter that nobody asked for");
    else if (a->stage == ADAPTER_LOADING)
        end_loading(f, a, &s);
    else if (a->stage == ADAPTER_LEAVING)
        end_leaving(f, a, &s);
    else if (s.loaded) /* of the command line: the role tells what it has loaded */
        learn(a, &s);
    else
        gen_note_malformed(f, m, "a loaded adapter is gone");
}

/* --- the callers ---------------------------------------------------------------------------- */

void adapters_forget_call(front *f, const http_call *c) {
    for (uint32_t i = 0; i < f->adapters.count; i++)
        if (f->adapters.items[i]->waiting == c) f->adapters.items[i]->waiting = NULL;
}

/* The order stands: it is carried out when the engine comes to it. */
void adapters_look_at_clock(front *f) {
    uint64_t now = front_now_ms(f);
    for (uint32_t i = 0; i < f->adapters.count; i++) {
        adapter_entry *a = f->adapters.items[i];
        if (a->waiting == NULL || now - a->asked_ms < ADAPTER_WAIT_MS_MAX) continue;
        http_call *c = a->waiting;
        api_fault fault;
        a->waiting = NULL;
        (void)api_fault_set(&fault, API_TIMEOUT, NULL,
                            "model '%s' has not answered within %d ms; the order stands, GET "
                            "/v1/models shows when it is done",
                            a->model->name, ADAPTER_WAIT_MS_MAX);
        front_refuse(f, c, &fault);
    }
}

/* --- orders ----------------------------------------------------------------------------- */

/* What both bodies may say; views into the document. */
typedef struct order_body {
    json_doc doc;
    json_node root;
    json_fields f;
    str name;
    str path;
    str model;
} order_body;

static status read_names(order_body *b, bool wants_path, error *err) {
    json_node name, path;
    bool in_place = false;
    b->root = json_root(&b->doc);
    TRY(json_fields_open(&b->f, &b->root, err));
    TRY(json_field_need(&b->f, "lora_name", &name, err));
    TRY(json_node_str(&name, MODEL_NAME_BYTES_MAX, &b->name, err));
    TRY(json_get_str(&b->f, "model", MODEL_NAME_BYTES_MAX, &b->model, err));
    if (!wants_path) return OK;
    TRY(json_field_need(&b->f, "lora_path", &path, err));
    TRY(json_node_str(&path, WIRE_PATH_BYTES_MAX - 1, &b->path, err));
    if (b->path.n == 0 || memchr(b->path.p, '\0', b->path.n) != NULL)
        return error_set(err, ERR_INVALID, "lora_path: is no path");
    TRY(json_get_bool(&b->f, "load_inplace", &in_place, err));
    if (in_place)
        return error_set(err, ERR_INVALID,
                         "load_inplace: is not supported: unload the adapter first");
    return OK;
}

/* The document is the caller's to free when it answers true. */
static bool read_order(front *f, http_call *c, bool wants_path, order_body *b) {
    error err;
    *b = (order_body){.name = S(""), .path = S(""), .model = S("")};
    if (json_parse(http_call_body(c), &b->doc, &err) != OK) {
        refuse_error(f, c, NULL, &err);
        return false;
    }
    if (read_names(b, wants_path, &err) == OK) return true;
    json_doc_deinit(&b->doc);
    refuse_error(f, c, NULL, &err);
    return false;
}

/* The model that an adapter is for: the one that is named, or the only one. */
static model_entry *base_model(front *f, str name, api_fault *fault) {
    const registry *r = &f->registry;
    model_entry *m = registry_find(r, name);
    if (f->draining)
        (void)api_fault_set(fault, API_DRAINING, NULL, "the server is stopping");
    else if (name.n == 0 && r->count > 1)
        (void)api_fault_set(fault, API_INVALID, "model",
                            "model: there are %u models here: say which one it is for", r->count);
    else if (m == NULL)
        registry_no_model(r, name, fault);
    else if (!m->described)
        model_not_ready(m, fault);
    else if (m->desc.adapter_rank_max == 0)
        (void)api_fault_set(fault, API_UNSUPPORTED, NULL,
                            "model '%s' was loaded without room for adapters (--lora-rank-max, "
                            "--lora-adapters-max)",
                            m->name);
    else
        return m;
    return NULL;
}

/* The order goes down and `c` waits for the answer; false, answered, when it finds no room. */
static bool give_order(front *f, http_call *c, adapter_entry *a, bool load) {
    adapter_order o = {.adapter = a->number, .load = load};
    if (load) o.path = str_of(a->path);
    buf *out = front_scratch(f);
    wire_put_adapter(out, &o);
    if (!out->failed && model_send_requests(a->model, buf_view(out))) {
        a->waiting = c;
        a->asked_ms = front_now_ms(f);
        return true;
    }
    api_fault fault;
    (void)api_fault_set(&fault, API_QUEUE_FULL, NULL, "the process of model '%s' is behind",
                        a->model->name);
    front_refuse(f, c, &fault);
    return false;
}

static void load(front *f, http_call *c, const order_body *b) {
    error err;
    api_fault fault;
    adapter_entry *a = NULL;
    model_entry *m = base_model(f, b->model, &fault);
    if (m == NULL)
        front_refuse(f, c, &fault);
    else if (adapters_add(f, &a, m, b->name, b->path, &err) != OK)
        refuse_error(f, c, "lora_name", &err);
    else if (!give_order(f, c, a, true))
        adapters_remove(&f->adapters, a);
}

void adapters_load_handle(front *f, http_call *c, str tail) {
    order_body b;
    (void)tail;
    if (!read_order(f, c, true, &b)) return;
    load(f, c, &b);
    json_doc_deinit(&b.doc);
}

static void unload(front *f, http_call *c, str name) {
    api_fault fault;
    adapter_entry *a = adapters_find(&f->adapters, name);
    if (f->draining)
        (void)api_fault_set(&fault, API_DRAINING, NULL, "the server is stopping");
    else if (a == NULL || a->stage == ADAPTER_LEAVING)
        (void)api_fault_set(&fault, API_NO_MODEL, "lora_name", "no adapter '%.*s' here", STR(name));
    else if (a->stage == ADAPTER_LOADING || !a->model->described)
        (void)api_fault_set(&fault, API_NOT_READY, "lora_name", "adapter '%s' is being loaded",
                            a->name);
    else {
        if (give_order(f, c, a, false)) a->stage = ADAPTER_LEAVING;
        return;
    }
    front_refuse(f, c, &fault);
}

void adapters_unload_handle(front *f, http_call *c, str tail) {
    order_body b;
    (void)tail;
    if (!read_order(f, c, false, &b)) return;
    unload(f, c, b.name);
    json_doc_deinit(&b.doc);
}

/* --- /lora-adapters ---------------------------------------------------------------------- */

static void write_adapter(json_writer *w, const adapter_entry *a) {
    json_begin_object(w);
    json_kv_uint(w, "id", a->number);
    json_kv_str(w, "path", adapter_file_name(a));
    json_kv_f64(w, "scale", (double)a->scale);
    json_kv_str(w, "name", str_of(a->name));
    json_kv_str(w, "model", str_of(a->model->name));
    if (a->rank != 0) {
        json_kv_uint(w, "rank", a->rank);
        json_kv_uint(w, "matrices", a->matrices);
        json_kv_uint(w, "bytes", a->bytes);
    }
    json_end_object(w);
}

void adapters_list_handle(front *f, http_call *c, str tail) {
    (void)tail;
    buf *out = front_scratch(f);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_array(&w);
    for (uint32_t i = 0; i < f->adapters.count; i++)
        if (f->adapters.items[i]->stage == ADAPTER_LOADED) write_adapter(&w, f->adapters.items[i]);
    json_end_array(&w);
    front_reply(f, c, 200, "application/json", out);
}

static status read_scale(front *f, const json_node *n, error *err) {
    json_fields g;
    json_node scale;
    str name = S("");
    uint32_t id = UINT32_MAX;
    float value = 0;
    char path[JSON_PATH_BYTES];
    json_node_path(n, path);
    TRY(json_fields_open(&g, n, err));
    TRY(json_get_u32(&g, "id", 0, UINT32_MAX - 1, &id, err));
    TRY(json_get_str(&g, "name", MODEL_NAME_BYTES_MAX, &name, err));
    TRY(json_field_need(&g, "scale", &scale, err));
    TRY(json_node_f32(&scale, -SCALE_MAX, SCALE_MAX, &value, err));
    adapter_entry *a = name.n > 0 ? adapters_find_loaded(&f->adapters, name)
                                  : adapters_find_number(&f->adapters, id);
    if (a == NULL || a->stage != ADAPTER_LOADED)
        return error_set(err, ERR_INVALID, "%s: no such adapter", path);
    a->scale_next = value;
    return OK;
}

static status check_scales(const front *f, error *err) {
    for (uint32_t i = 0; i < f->registry.count; i++) {
        uint32_t used = 0;
        for (uint32_t k = 0; k < f->adapters.count; k++) {
            const adapter_entry *a = f->adapters.items[k];
            used += a->model == f->registry.models[i] && a->scale_next != 0;
        }
        if (used > WIRE_ADAPTERS_MAX)
            return error_set(err, ERR_INVALID, "%u adapters for every request to '%s', at most %d",
                             used, f->registry.models[i]->name, WIRE_ADAPTERS_MAX);
    }
    return OK;
}

/* Adapters that the list leaves out get 0. */
static status read_scales(front *f, const json_node *list, error *err) {
    if (json_node_count(list) > ADAPTERS_MAX)
        return error_set(err, ERR_INVALID, "the list has %zu adapters, at most %d",
                         json_node_count(list), ADAPTERS_MAX);
    for (uint32_t i = 0; i < f->adapters.count; i++) f->adapters.items[i]->scale_next = 0;
    for (size_t i = 0; i < json_node_count(list); i++) {
        json_node n = json_node_element(list, i);
        TRY(read_scale(f, &n, err));
    }
    return check_scales(f, err);
}

static void apply_scales(front *f) {
    for (uint32_t i = 0; i < f->adapters.count; i++) {
        adapter_entry *a = f->adapters.items[i];
        if (a->scale != a->scale_next)
            log_info("lora", "default scale name=%s model=%s scale=%g", a->name, a->model->name,
                     (double)a->scale_next);
        a->scale = a->scale_next;
    }
}

void adapters_scale_handle(front *f, http_call *c, str tail) {
    json_doc doc;
    error err;
    (void)tail;
    if (json_parse(http_call_body(c), &doc, &err) != OK) {
        refuse_error(f, c, NULL, &err);
        return;
    }
    json_node list = json_root(&doc);
    status st = json_is_array(list.value) ? read_scales(f, &list, &err)
                                          : json_node_wrong_type(&list, "array", &err);
    json_doc_deinit(&doc);
    if (st != OK) {
        refuse_error(f, c, NULL, &err);
        return;
    }
    apply_scales(f);
    buf *out = front_scratch(f);
    buf_put_str(out, S("{\"success\":true}"));
    front_reply(f, c, 200, "application/json", out);
}
