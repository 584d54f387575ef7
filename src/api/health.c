/* health.c - is it alive, is it ready, and what is it doing?
 *
 * /livez   fails when the step loop of a model has stopped sending its heartbeat: a restart
 *          helps.  A model that still loads is alive.
 * /readyz  fails until every model is there (and says how far it is), without any model, and
 *          while the server drains: no traffic, please.
 * /health  the same answer with the details, in the form llama.cpp's clients know. */
#include <inttypes.h>
#include <stdio.h>

#include "api/front_internal.h"
#include "base/os.h"
#include "json/write.h"

/* The model whose heartbeat is too old; NULL when all are fine. */
static const model_entry *stalled_model(const front *f) {
    for (uint32_t i = 0; i < f->registry.count; i++) {
        const model_entry *m = f->registry.models[i];
        if (model_silence_ms(m, front_now_ms(f)) > f->o.stall_ms_max) return m;
    }
    return NULL;
}

static const model_entry *loading_model(const front *f) {
    for (uint32_t i = 0; i < f->registry.count; i++)
        if (!f->registry.models[i]->described) return f->registry.models[i];
    return NULL;
}

static bool is_live(const front *f, api_fault *fault) {
    const model_entry *m = stalled_model(f);
    if (m == NULL) return true;
    return api_fault_set(fault, API_STALLED, NULL,
                         "model '%s' sent no heartbeat for %" PRIu64 " ms, at most %u", m->name,
                         model_silence_ms(m, front_now_ms(f)), f->o.stall_ms_max);
}

static bool is_ready(const front *f, api_fault *fault) {
    const model_entry *m = loading_model(f);
    if (f->draining) return api_fault_set(fault, API_DRAINING, NULL, "the server is stopping");
    if (m == NULL && f->registry.count > 0) return true;
    if (m != NULL)
        model_not_ready(m, fault);
    else
        registry_empty(fault);
    return false;
}

static void say_ok(front *f, http_call *c) {
    buf *out = front_scratch(f);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "status", S("ok"));
    json_end_object(&w);
    front_reply(f, c, 200, "application/json", out);
}

void health_live(front *f, http_call *c, str tail) {
    api_fault fault;
    (void)tail;
    if (is_live(f, &fault))
        say_ok(f, c);
    else
        front_refuse(f, c, &fault);
}

void health_ready(front *f, http_call *c, str tail) {
    api_fault fault;
    (void)tail;
    if (is_ready(f, &fault))
        say_ok(f, c);
    else
        front_refuse(f, c, &fault);
}

static void write_model(json_writer *w, const front *f, const model_entry *m) {
    json_begin_object(w);
    json_kv_str(w, "name", str_of(m->name));
    json_kv_str(w, "status", m->described ? S("loaded") : S("loading"));
    if (m->described) {
        json_kv_str(w, "backend", str_of(m->desc.backend));
        json_kv_str(w, "numerics", str_of(m->desc.numerics));
        json_kv_str(w, "kv_type", str_of(m->desc.kv_type));
        json_kv_uint(w, "ctx", m->desc.ctx_max);
        json_kv_uint(w, "parallel", m->desc.parallel);
        json_kv_str(w, "chat_template", str_of(m->desc.chat));
        json_kv_str(w, "chat_template_check", str_of(m->desc.chat_check));
        json_kv_uint(w, "running", m->running);
        json_kv_uint(w, "waiting", m->waiting);
        json_kv_uint(w, "steps", m->steps);
        json_kv_uint(w, "heartbeat_age_ms", model_silence_ms(m, front_now_ms(f)));
    }
    json_end_object(w);
}

void health_report(front *f, http_call *c, str tail) {
    api_fault fault;
    (void)tail;
    if (!is_live(f, &fault) || !is_ready(f, &fault)) {
        front_refuse(f, c, &fault);
        return;
    }
    buf *out = front_scratch(f);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "status", S("ok"));
    json_kv_str(&w, "version", S(GANTRY_VERSION));
    json_kv_uint(&w, "uptime_s", (os_now_ns() - f->started_ns) / 1000000000);
    json_kv_str(&w, "gpu", str_of(f->o.gpu_note));
    json_kv_uint(&w, "requests_in_flight", f->table.parts_max - f->table.free_count);
    json_kv_uint(&w, "protocol_errors", f->table.malformed);
    json_kv_array(&w, "models");
    for (uint32_t i = 0; i < f->registry.count; i++) write_model(&w, f, f->registry.models[i]);
    json_end_array(&w);
    json_end_object(&w);
    front_reply(f, c, 200, "application/json", out);
}
