/* registry.c - see registry.h. */
#include "api/registry.h"

#include <inttypes.h>
#include <stdio.h>

#include "api/adapters.h"
#include "api/gen.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"

enum {
    FRAMES_PER_TURN = 64,
    /* one API call of any size is taken when nothing waits */
    OUT_BYTES_MAX = 2 * WIRE_FRAME_BYTES_MAX + BACKLOG_BYTES_MAX,
};

/* --- names -------------------------------------------------------------------- */

/* Names are never paths: no leading dot or slash, no "..", nothing that needs quoting. */
bool registry_name_is_good(str name) {
    if (name.n == 0 || name.n > MODEL_NAME_BYTES_MAX || name.p[0] == '.' || name.p[0] == '/')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\') return false;
        if (c == '.' && i + 1 < name.n && name.p[i + 1] == '.') return false;
    }
    return true;
}

static model_entry *entry_create(front *f, str name, wire_link *link) {
    model_entry *m = mem_try_calloc(1, sizeof *m);
    char *copy = m != NULL ? mem_try_alloc(name.n + 1) : NULL;
    if (copy == NULL) {
        mem_free(m);
        return NULL;
    }
    str_copy_c(copy, name.n + 1, name);
    m->front = f;
    m->name = copy;
    m->link = link;
    m->created_s = os_wall_ms() / 1000;
    metrics_init(&m->engine);
    m->frame_bytes_max = num_min_u32(ring_frame_bytes_max(link->down), WIRE_FRAME_BYTES_MAX);
    buf_init(&m->out, OUT_BYTES_MAX);
    buf_init(&m->in, (size_t)WIRE_FRAME_BYTES_MAX + WIRE_HEADER_BYTES);
    return m;
}

status registry_add(registry *r, front *f, const char *name, wire_link *link, error *err) {
    str n = str_of(name);
    if (!registry_name_is_good(n))
        return error_set(err, ERR_INVALID,
                         "api: '%.*s' is no model name: 1 to %d visible characters, not a path",
                         STR(n), MODEL_NAME_BYTES_MAX);
    for (uint32_t i = 0; i < r->count; i++)
        if (str_eq_c(n, r->models[i]->name))
            return error_set(err, ERR_INVALID, "api: two models are called '%.*s'", STR(n));
    if (r->count == MODELS_MAX)
        return error_set(err, ERR_LIMIT, "api: model '%.*s' is number %u, at most %d", STR(n),
                         r->count + 1, MODELS_MAX);
    model_entry *m = entry_create(f, n, link);
    if (m == NULL) return error_set(err, ERR_NOMEM, "api: no memory for model '%.*s'", STR(n));
    r->models[r->count++] = m;
    return OK;
}

void registry_deinit(registry *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        model_entry *m = r->models[i];
        buf_deinit(&m->out);
        buf_deinit(&m->in);
        mem_free(m->name);
        mem_free(m);
    }
    *r = (registry){0};
}

model_entry *registry_find(const registry *r, str name) {
    if (name.n == 0) return r->count > 0 ? r->models[0] : NULL;
    for (uint32_t i = 0; i < r->count; i++)
        if (str_eq_c(name, r->models[i]->name)) return r->models[i];
    return NULL;
}

static void list_names(const registry *r, char *out, size_t bytes) {
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < r->count; i++) {
        const char *name = r->models[i]->name;
        if (at + strlen(name) + sizeof ", ..." > bytes) {
            (void)snprintf(out + at, bytes - at, "...");
            return;
        }
        bool last = i + 1 == r->count;
        at += (size_t)snprintf(out + at, bytes - at, "%s%s", name, last ? "" : ", ");
    }
}

void registry_empty(api_fault *fault) {
    (void)api_fault_set(fault, API_NOT_READY, NULL,
                        "no model is loaded: the server was started without one (-m MODEL)");
}

void registry_no_model(const registry *r, str name, api_fault *fault) {
    char names[256] = "none, the server was started without a model (-m MODEL)";
    if (name.n == 0) {
        registry_empty(fault);
        return;
    }
    if (r->count > 0) list_names(r, names, sizeof names);
    (void)api_fault_set(fault, API_NO_MODEL, "model", "no model '%.*s' here; there is: %s",
                        STR(name), names);
}

/* --- down --------------------------------------------------------------------- */

/* While something waits (`out` or `owed`), the last thing tried on the ring has failed and
 * nothing else is tried, so the ring still owes us a room event: a smaller frame that fitted
 * in between would have cancelled it. */

bool model_send_requests(model_entry *m, str frames) {
    if (m->out.n > 0 && m->out.n + frames.n > BACKLOG_BYTES_MAX) return false;
    size_t before = m->out.n;
    buf_put_str(&m->out, frames);
    if (m->out.failed) {
        m->out.n = before;
        m->out.failed = false;
        return false;
    }
    if (!m->owed) (void)model_flush(m);
    return true;
}

bool model_send_now(model_entry *m, const buf *frame) {
    bool may = m->out.n == 0 && !m->owed;
    if (may && ring_send(m->link->down, frame->p, (uint32_t)frame->n)) return true;
    m->owed = true;
    return false;
}

bool model_flush(model_entry *m) {
    if (m->out.n > 0 && !link_flush(m->link->down, &m->out)) return false;
    if (m->out.cap > BACKLOG_BYTES_MAX) { /* one large request is no reason to keep its size */
        buf_deinit(&m->out);
        buf_init(&m->out, OUT_BYTES_MAX);
    }
    return true;
}

/* --- up ----------------------------------------------------------------------- */

static void take_values(model_entry *m, wire_array values) {
    uint64_t cells[WIRE_STATUS_VALUES_MAX];
    error err;
    if (values.count == 0) return; /* a role that counts nothing yet */
    for (uint32_t i = 0; i < values.count; i++) cells[i] = wire_u64_at(values, i);
    if (metrics_engine_load(&m->engine, cells, values.count, &err) != OK)
        gen_note_malformed(m->front, m, err.msg);
}

static void take_status(model_entry *m, str body, uint64_t now_ms) {
    engine_status s;
    error err;
    if (wire_get_status(body, &s, &err) != OK) {
        gen_note_malformed(m->front, m, err.msg);
        return;
    }
    m->alive_at_ms = now_ms;
    m->steps = s.steps;
    m->running = s.running;
    m->waiting = s.waiting;
    take_values(m, s.values);
}

static void take_model(model_entry *m, str body, uint64_t now_ms) {
    error err;
    if (wire_get_model(body, &m->desc, &err) != OK) {
        gen_note_malformed(m->front, m, err.msg);
        return;
    }
    m->described = true;
    m->alive_at_ms = now_ms;
    log_info("api", "model ready name=%s arch=%s ctx=%u parallel=%u backend=%s", m->name,
             m->desc.arch, m->desc.ctx_max, m->desc.parallel, m->desc.backend);
}

static void take_loading(model_entry *m, str body) {
    error err;
    model_loading l = {0};
    if (wire_get_loading(body, &l, &err) != OK) {
        gen_note_malformed(m->front, m, err.msg);
    } else if (!m->described) {
        m->loading = l;
        gen_tell_loading(m->front, m);
    }
}

static void take_frame(model_entry *m, uint64_t now_ms) {
    wire_type type = WIRE_TYPE_END;
    str body;
    error err;
    if (wire_open(buf_view(&m->in), &type, &body, &err) != OK) {
        gen_fail_all(m->front, m, err.msg); /* it may have carried anybody's events */
        return;
    }
    if (type == WIRE_EVENTS)
        gen_take_events(m->front, m, body);
    else if (type == WIRE_STATUS)
        take_status(m, body, now_ms);
    else if (type == WIRE_MODEL)
        take_model(m, body, now_ms);
    else if (type == WIRE_LOADING)
        take_loading(m, body);
    else if (type == WIRE_ADAPTER_STATE)
        adapters_take_state(m->front, m, body);
    else if (type == WIRE_PROFILE_REPORT)
        roofline_take_report(m->front, m, body);
    else
        gen_note_malformed(m->front, m, "a frame that only goes down came up");
}

void model_receive(model_entry *m, uint64_t now_ms) {
    for (uint32_t i = 0; i < FRAMES_PER_TURN; i++) {
        bool got = false;
        error err;
        if (link_recv(m->link->up, &m->in, &got, &err) != OK) {
            gen_fail_all(m->front, m, err.msg); /* a frame was lost */
            continue;
        }
        if (!got) return;
        take_frame(m, now_ms);
    }
    os_event_signal(ring_fd(m->link->up)); /* more may wait: come back next turn */
}

void model_not_ready(const model_entry *m, api_fault *fault) {
    (void)api_fault_set(fault, API_NOT_READY, NULL, "model '%s' is loading: %u %% (%s)", m->name,
                        m->loading.permille / 10, load_phase_name(m->loading.phase));
}

uint64_t model_silence_ms(const model_entry *m, uint64_t now_ms) {
    if (!m->described || now_ms <= m->alive_at_ms) return 0;
    return now_ms - m->alive_at_ms;
}
