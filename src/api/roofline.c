/* roofline.c - see roofline.h. */
#include "api/roofline.h"

#include "api/front_internal.h"

/* --- tables -------------------- */

static double per_second(uint64_t amount, uint64_t ns) {
    return ns > 0 ? (double)amount * 1e9 / (double)ns : 0;
}

static uint64_t bytes_of(const profile_entry *e) {
    return e->weight_bytes + e->value_bytes + e->cache_bytes;
}

/* Seconds that so much takes at a limit; 0 where the limit is not known. */
static double seconds_at(uint64_t amount, const profile_limit *limit) {
    return limit->per_s > 0 ? (double)amount / (double)limit->per_s : 0;
}

roofline_rate roofline_rate_of(const profile_table *t, const profile_entry *e) {
    const profile_place *place = &t->places[e->place];
    const profile_limit *memory = &place->limits[0], *arith = &place->limits[e->arith];
    const double read_s = seconds_at(bytes_of(e), memory), compute_s = seconds_at(e->flops, arith);
    roofline_rate r = {.bytes_per_s = per_second(bytes_of(e), e->ns),
                       .ops_per_s = per_second(e->flops, e->ns)};
    if (read_s <= 0 && compute_s <= 0) return r;
    r.limit = read_s >= compute_s ? memory : arith;
    const double least_s = read_s >= compute_s ? read_s : compute_s;
    if (e->ns > 0) r.fraction = least_s * 1e9 / (double)e->ns;
    return r;
}

uint64_t roofline_tasks_ns(const profile_table *t) {
    str entries = t->entries;
    profile_entry e;
    uint64_t ns = 0;
    while (wire_profile_entry_next(&entries, &e)) ns += e.ns;
    return ns;
}

static void write_limit(json_writer *w, const char *key, const profile_limit *limit) {
    json_kv_object(w, key);
    json_kv_str(w, "from", str_of(limit->name));
    if (limit->per_s > 0)
        json_kv_uint(w, "per_s", limit->per_s);
    else
        json_kv_null(w, "per_s");
    json_end_object(w);
}

static void write_place(json_writer *w, const profile_place *p) {
    json_begin_object(w);
    json_kv_str(w, "where", str_of(p->where));
    json_kv_uint(w, "program_ops", p->ops);
    json_kv_object(w, "limits");
    write_limit(w, "bytes", &p->limits[0]);
    write_limit(w, "float", &p->limits[1]);
    write_limit(w, "half", &p->limits[2]);
    write_limit(w, "integer", &p->limits[3]);
    json_end_object(w);
    json_end_object(w);
}

static void write_kinds(json_writer *w, str kinds) {
    json_kv_array(w, "ops");
    while (kinds.n > 0) {
        const char *plus = memchr(kinds.p, '+', kinds.n);
        const size_t n = plus != NULL ? (size_t)(plus - kinds.p) : kinds.n;
        json_str(w, (str){kinds.p, n});
        kinds = str_skip(kinds, n + (plus != NULL));
    }
    json_end_array(w);
}

static void write_entry(json_writer *w, const profile_table *t, const profile_entry *e) {
    const roofline_rate r = roofline_rate_of(t, e);
    json_begin_object(w);
    json_kv_uint(w, "place", e->place);
    json_kv_str(w, "task", e->name);
    json_kv_str(w, "what", e->what);
    write_kinds(w, e->kinds);
    json_kv_uint(w, "tasks", e->tasks);
    json_kv_uint(w, "program_ops", e->ops);
    json_kv_f64(w, "us", (double)e->ns / 1e3);
    json_kv_f64(w, "of_step", t->ns > 0 ? (double)e->ns / (double)t->ns : 0);
    json_kv_uint(w, "bytes", bytes_of(e));
    json_kv_uint(w, "weight_bytes", e->weight_bytes);
    json_kv_uint(w, "value_bytes", e->value_bytes);
    json_kv_uint(w, "cache_bytes", e->cache_bytes);
    json_kv_uint(w, "flops", e->flops);
    json_kv_f64(w, "bytes_per_s", r.bytes_per_s);
    json_kv_f64(w, "flops_per_s", r.ops_per_s);
    if (r.limit != NULL)
        json_kv_str(w, "limit", str_of(r.limit->name));
    else
        json_kv_null(w, "limit");
    if (r.limit != NULL && e->ns > 0)
        json_kv_f64(w, "limit_fraction", r.fraction);
    else
        json_kv_null(w, "limit_fraction");
    json_end_object(w);
}

void roofline_write_table(json_writer *w, const profile_table *t) {
    if (t->steps == 0) {
        json_put_null(w);
        return;
    }
    const uint64_t tasks_ns = roofline_tasks_ns(t);
    json_begin_object(w);
    json_kv_uint(w, "steps", t->steps);
    json_kv_uint(w, "rows", t->rows);
    json_kv_f64(w, "us", (double)t->ns / 1e3);
    json_kv_f64(w, "tasks_us", (double)tasks_ns / 1e3);
    json_kv_f64(w, "rest_us", ((double)t->ns - (double)tasks_ns) / 1e3);
    json_kv_array(w, "places");
    for (uint32_t i = 0; i < t->places_count; i++) write_place(w, &t->places[i]);
    json_end_array(w);
    json_kv_array(w, "kernels");
    str entries = t->entries;
    profile_entry e;
    while (wire_profile_entry_next(&entries, &e)) write_entry(w, t, &e);
    json_end_array(w);
    json_end_object(w);
}

/* --- what comes up -------------------- */

static void answer(front *f, http_call *c, const model_entry *m, const profile_report *r) {
    buf *out = front_scratch(f);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "model", str_of(m->name));
    json_kv_str(&w, "backend", str_of(m->desc.backend));
    json_kv_str(&w, "mode", str_of(m->desc.numerics));
    json_kv_uint(&w, "steps", (uint64_t)r->prompt.steps + r->decode.steps);
    json_key(&w, S("prompt"));
    roofline_write_table(&w, &r->prompt);
    json_key(&w, S("decode"));
    roofline_write_table(&w, &r->decode);
    json_end_object(&w);
    front_reply(f, c, 200, "application/json", out);
}

static void refuse_report(front *f, http_call *c, const profile_report *r) {
    api_fault fault;
    api_kind kind = API_INTERNAL;
    if (r->code == ERR_NOMEM) kind = API_NOMEM;
    if (r->code == ERR_BUSY) kind = API_BUSY;
    if (r->code == ERR_UNSUPPORTED) kind = API_UNSUPPORTED;
    (void)api_fault_set(&fault, kind, NULL, "%.*s", STR(r->message));
    front_refuse(f, c, &fault);
}

void roofline_take_report(front *f, model_entry *m, str body) {
    profile_report r;
    error err;
    roofline_order *o = &m->roofline;
    if (wire_get_profile_report(body, &r, &err) != OK) {
        gen_note_malformed(f, m, err.msg);
        return;
    }
    if (o->late != 0 && r.id == o->late) {
        o->late = 0;
        return;
    }
    if (!o->open || r.id != o->id) {
        gen_note_malformed(f, m, "a profile that nobody asked for");
        return;
    }
    http_call *c = o->waiting;
    o->waiting = NULL;
    o->open = false;
    if (c == NULL) return;
    if (r.code == OK)
        answer(f, c, m, &r);
    else
        refuse_report(f, c, &r);
}

/* --- the callers -------------------- */

void roofline_forget_call(front *f, const http_call *c) {
    for (uint32_t i = 0; i < f->registry.count; i++)
        if (f->registry.models[i]->roofline.waiting == c)
            f->registry.models[i]->roofline.waiting = NULL;
}

void roofline_look_at_clock(front *f) {
    const uint64_t now_ms = front_now_ms(f);
    for (uint32_t i = 0; i < f->registry.count; i++) {
        model_entry *m = f->registry.models[i];
        http_call *c = m->roofline.waiting;
        if (!m->roofline.open || now_ms < m->roofline.until_ms) continue;
        m->roofline.open = false;
        m->roofline.waiting = NULL;
        m->roofline.late = m->roofline.id;
        if (c == NULL) continue;
        api_fault fault;
        (void)api_fault_set(&fault, API_TIMEOUT, NULL, "model '%s' has not answered in time",
                            m->name);
        front_refuse(f, c, &fault);
    }
}

/* --- orders -------------------- */

/* A number of the query, or `*out` as it is. */
static bool read_number(http_call *c, const char *name, uint32_t most, uint32_t *out,
                        api_fault *fault) {
    uint64_t number = 0;
    const str text = http_call_query(c, name);
    if (text.p == NULL) return true;
    if (!str_to_u64(text, &number) || number == 0 || number > most)
        return api_fault_set(fault, API_INVALID, name, "%s: '%.*s' is not a number from 1 to %u",
                             name, STR(text), most);
    *out = (uint32_t)number;
    return true;
}

/* The model that is asked, if it can be. */
static model_entry *find_model(front *f, http_call *c, api_fault *fault) {
    str name = http_call_query(c, "model");
    if (name.p == NULL) name = S("");
    model_entry *m = registry_find(&f->registry, name);
    if (f->draining)
        (void)api_fault_set(fault, API_DRAINING, NULL, "the server is stopping");
    else if (m == NULL)
        registry_no_model(&f->registry, name, fault);
    else if (!m->described)
        model_not_ready(m, fault);
    else if (m->roofline.open)
        (void)api_fault_set(fault, API_BUSY, NULL,
                            "model '%s' is being measured already: one at a time", m->name);
    else
        return m;
    return NULL;
}

static bool give_order(front *f, model_entry *m, const profile_order *order, api_fault *fault) {
    buf *out = front_scratch(f);
    wire_put_profile(out, order);
    if (!out->failed && model_send_requests(m, buf_view(out))) return true;
    return api_fault_set(fault, API_QUEUE_FULL, NULL, "the process of model '%s' is behind",
                         m->name);
}

void roofline_handle(front *f, http_call *c, str tail) {
    api_fault fault;
    uint32_t steps = ROOFLINE_STEPS, seconds = ROOFLINE_SECONDS;
    (void)tail;
    model_entry *m = NULL;
    bool good = read_number(c, "steps", WIRE_PROFILE_STEPS_MAX, &steps, &fault) &&
                read_number(c, "seconds", WIRE_PROFILE_MS_MAX / 1000, &seconds, &fault);
    if (good) m = find_model(f, c, &fault);
    const uint32_t ms_max = seconds * 1000;
    if (m == NULL ||
        !give_order(f, m, &(profile_order){m->roofline.id + 1, steps, ms_max}, &fault)) {
        front_refuse(f, c, &fault);
        return;
    }
    m->roofline = (roofline_order){.open = true,
                                   .id = m->roofline.id + 1,
                                   .until_ms = front_now_ms(f) + ms_max + ROOFLINE_LATE_MS,
                                   .late = m->roofline.late,
                                   .waiting = c};
}
