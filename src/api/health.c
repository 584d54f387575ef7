/* health.c - is it alive, is it ready, and what is it doing?
 *
 * /livez   fails when the step loop of a model has stopped sending its heartbeat: a restart
 *          helps.  A model that still loads is alive.
 * /readyz  fails until every model is there (and says how far it is), without any model, and
 *          while the server drains: no traffic, please.
 * /health  the same answer with the details, in the form llama.cpp's clients know.  Anybody may
 *          read it, so it has no process ids. */
#include <inttypes.h>
#include <stdio.h>

#include "api/front_internal.h"
#include "base/os.h"
#include "gpu/gpu_json.h"
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
        gpu_json_text(w, "device", m->desc.device);
        json_kv_uint(w, "device_bytes", m->desc.device_bytes);
        json_kv_uint(w, "gpu_layers", m->desc.device_layers);
        json_kv_uint(w, "cpu_moe_layers", m->desc.host_experts);
        gpu_json_text(w, "fallback", m->desc.fallback);
        front_write_list(w, "reduced", str_of(m->desc.reduced));
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

static void write_monitor(json_writer *w, const gpu_snapshot *s) {
    json_kv_object(w, "gpu_monitor");
    if (s != NULL) {
        gpu_json_source_members(w, s);
        json_kv_uint(w, "age_ms", (os_now_ns() - s->taken_ns) / 1000000);
    } else {
        json_kv_str(w, "status", S("off"));
    }
    json_end_object(w);
}

/* What computes, what the driver says of the GPUs, and whether it says anything. */
static void write_gpus(json_writer *w, const front *f) {
    const gpu_snapshot *s = f->o.gpus != NULL ? gpu_monitor_take(f->o.gpus) : NULL;
    json_kv_str(w, "gpu", str_of(f->o.gpu_note));
    write_monitor(w, s);
    json_kv_array(w, "gpus");
    for (uint32_t i = 0; s != NULL && i < s->count; i++) {
        json_begin_object(w);
        json_kv_uint(w, "index", i);
        gpu_json_members(w, s, i, GPU_JSON_PUBLIC);
        json_end_object(w);
    }
    json_end_array(w);
    if (s != NULL) gpu_monitor_give(f->o.gpus, s);
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
    write_gpus(&w, f);
    json_kv_uint(&w, "requests_in_flight", f->table.parts_max - f->table.free_count);
    json_kv_uint(&w, "protocol_errors", f->table.malformed);
    json_kv_array(&w, "models");
    for (uint32_t i = 0; i < f->registry.count; i++) write_model(&w, f, f->registry.models[i]);
    json_end_array(&w);
    json_end_object(&w);
    front_reply(f, c, 200, "application/json", out);
}
