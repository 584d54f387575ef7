/* gen_start.c - from a complete body to REQUEST frames on their way; see gen.h. */
#include <stdio.h>

#include "api/front_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"

static gen_call *call_create(front *f, model_entry *m, const gen_spec *spec) {
    uint32_t choices = spec->inputs_count * spec->request.choices;
    gen_call *g = mem_try_calloc(1, sizeof *g + choices * sizeof g->choices[0]);
    uint32_t *parts = mem_try_calloc(spec->inputs_count, sizeof *parts);
    if (g == NULL || parts == NULL) {
        mem_free(g);
        mem_free(parts);
        return NULL;
    }
    g->parts = parts;
    g->kind = spec->request.kind;
    g->form = spec->form;
    g->front = f;
    g->model = m;
    g->created_s = os_wall_ms() / 1000;
    g->begun_ns = os_now_ns();
    g->written_ms = front_now_ms(f);
    g->stream = spec->stream;
    g->include_usage = spec->include_usage;
    g->logprobs = spec->request.sampling.logprobs;
    g->tools = spec->request.chat.tools.n > 0;
    g->n = spec->request.choices;
    g->choices_count = choices;
    g->finish = "none";
    buf_init(&g->early, f->o.reply_bytes_max);
    buf_init(&g->pending, SIZE_MAX); /* bounded by the body it comes from */
    for (uint32_t i = 0; i < choices; i++) {
        buf_init(&g->choices[i].text, f->o.reply_bytes_max);
        buf_init(&g->choices[i].logprobs, f->o.reply_bytes_max);
        buf_init(&g->choices[i].document, f->o.reply_bytes_max);
        buf_init(&g->choices[i].calls, f->o.reply_bytes_max);
        if (spec->form.return_documents) buf_put_str(&g->choices[i].document, spec->inputs[i].pair);
    }
    g->next = f->table.calls;
    if (g->next != NULL) g->next->prev = g;
    f->table.calls = g;
    return g;
}

static uint32_t window_tokens(const front *f, uint32_t prompts) {
    return num_max_u32(f->o.credits / prompts, GEN_WINDOW_TOKENS_MIN);
}

/* A place for the next prompt, which begins with so many credits. */
static gen_part *take_part(gen_call *g, uint32_t credits) {
    gen_part *p = gen_part_take(&g->front->table, g);
    p->prompt = g->parts_count;
    p->window_tokens = p->credit_tokens = credits;
    g->parts[g->parts_count++] = gen_part_index(p->id);
    g->parts_open++;
    return p;
}

static void put_request(const gen_spec *spec, uint32_t input, uint64_t id, uint32_t credits,
                        buf *out) {
    gen_request r = spec->request;
    r.id = id;
    r.credits = credits;
    r.prompt = spec->inputs[input].kind;
    r.text = spec->inputs[input].text;
    r.pair = spec->inputs[input].pair;
    r.ids = spec->inputs[input].ids;
    wire_put_request(out, &r);
}

/* One REQUEST frame per prompt, appended to `out`, each for a part of its own. */
static void put_requests(front *f, gen_call *g, const gen_spec *spec, buf *out) {
    uint32_t credits = window_tokens(f, spec->inputs_count);
    for (uint32_t i = 0; i < spec->inputs_count; i++)
        put_request(spec, i, take_part(g, credits)->id, credits, out);
}

/* --- prompts that follow each other --------------------------------------------------
 *
 * Their frames are made while the body is there; a frame gets its id when it is sent. */

/* A vector is one event: it needs no more. */
enum { VECTOR_CREDITS = 1 };

static str first_frame(const buf *frames) {
    uint32_t body = 0;
    memcpy(&body, frames->p, sizeof body);
    return (str){frames->p, (size_t)body + WIRE_HEADER_BYTES};
}

void gen_launch(gen_call *g) {
    gen_table *t = &g->front->table;
    size_t sent = 0;
    buf left = g->pending; /* the same bytes; only looked at */
    while (left.n > 0 && t->free_count > 0 && g->parts_open < GEN_INPUTS_UNDER_WAY) {
        str frame = first_frame(&left);
        gen_part *p = take_part(g, VECTOR_CREDITS);
        memcpy(left.p + WIRE_HEADER_BYTES, &p->id, sizeof p->id);
        if (!model_send_requests(g->model, frame)) {
            g->parts_count--;
            g->parts_open--;
            gen_part_give(t, p);
            break;
        }
        sent += frame.n;
        left.p += frame.n;
        left.n -= frame.n;
    }
    buf_drop_front(&g->pending, sent);
}

/* Bytes of the largest frame in a run of frames. */
static size_t largest_frame_bytes(str frames) {
    size_t largest = 0;
    while (frames.n >= WIRE_HEADER_BYTES) {
        uint32_t body = 0;
        memcpy(&body, frames.p, sizeof body);
        size_t bytes = (size_t)body + WIRE_HEADER_BYTES;
        ASSERT(bytes <= frames.n);
        largest = bytes > largest ? bytes : largest;
        frames = str_skip(frames, bytes);
    }
    return largest;
}

/* Forget a call that was never sent. */
static void call_undo(gen_call *g) {
    gen_table *t = &g->front->table;
    for (uint32_t i = 0; i < g->parts_count; i++) gen_part_give(t, &t->parts[g->parts[i]]);
    t->calls = g->next;
    if (g->next != NULL) g->next->prev = NULL;
    gen_call_free(g);
}

static bool frame_too_large(const gen_call *g, size_t bytes, api_fault *fault) {
    return api_fault_set(fault, API_TOO_LARGE, NULL,
                         "a prompt needs %zu bytes on its way to the model, at most %u", bytes,
                         g->model->frame_bytes_max);
}

static bool call_send_in_turn(gen_call *g, const gen_spec *spec, api_fault *fault) {
    for (uint32_t i = 0; i < spec->inputs_count; i++)
        put_request(spec, i, 0, VECTOR_CREDITS, &g->pending);
    if (g->pending.failed)
        return api_fault_set(fault, API_NOMEM, NULL, "no memory for %u inputs", spec->inputs_count);
    size_t largest = largest_frame_bytes(buf_view(&g->pending));
    if (largest > g->model->frame_bytes_max) return frame_too_large(g, largest, fault);
    gen_launch(g);
    if (g->parts_open > 0) return true;
    return api_fault_set(fault, API_QUEUE_FULL, NULL, "the model's process is behind");
}

static bool call_send(front *f, gen_call *g, const gen_spec *spec, api_fault *fault) {
    if (spec->request.kind != GEN_KIND_GENERATE) return call_send_in_turn(g, spec, fault);
    buf *out = front_scratch(f);
    put_requests(f, g, spec, out);
    size_t largest = largest_frame_bytes(buf_view(out));
    if (out->failed || largest > g->model->frame_bytes_max)
        return frame_too_large(g, largest, fault);
    if (!model_send_requests(g->model, buf_view(out)))
        return api_fault_set(fault, API_QUEUE_FULL, NULL,
                             "the model's process is behind: %zu bytes of requests wait for it, "
                             "at most %d",
                             g->model->out.n, BACKLOG_BYTES_MAX);
    return true;
}

/* The model, and whether it can take that many prompts and choices now. */
static model_entry *admit(front *f, gen_spec *spec, const adapter_entry *named, api_fault *fault) {
    model_entry *m = named != NULL ? named->model : registry_find(&f->registry, spec->model);
    uint32_t choices = spec->inputs_count * spec->request.choices;
    bool vectors = spec->request.kind != GEN_KIND_GENERATE;
    uint32_t places = vectors ? 1 : spec->inputs_count;
    if (m == NULL)
        registry_no_model(&f->registry, spec->model, fault);
    else if (!vectors && choices > f->o.choices_max)
        (void)api_fault_set(fault, API_INVALID, "n",
                            "%u prompts x %u choices are %u, at most %u in one request",
                            spec->inputs_count, spec->request.choices, choices, f->o.choices_max);
    else if (spec->request.chat.chat_template.n > 0 && !f->o.request_templates)
        (void)api_fault_set(fault, API_UNSUPPORTED, "chat_template",
                            "chat_template: requests may not bring their own (the operator can "
                            "allow it: --allow-request-template)");
    else if (places > f->table.free_count)
        (void)api_fault_set(fault, API_QUEUE_FULL, NULL,
                            "%u prompts asked for, room for %u of %u in flight", places,
                            f->table.free_count, f->table.parts_max);
    else if (adapters_choose(f, m, named, spec, fault))
        return m;
    return NULL;
}

/* Ids past the vocabulary would index past tables below: refuse them by name. */
static bool ids_fit(wire_array ids, const model_entry *m, const char *param, api_fault *fault) {
    for (uint32_t i = 0; i < ids.count; i++) {
        int32_t id = wire_i32_at(ids, i);
        if (id < 0 || (uint32_t)id >= m->desc.vocab)
            return api_fault_set(fault, API_INVALID, param,
                                 "%s: token id %d, but the vocabulary of '%s' has %u", param, id,
                                 m->name, m->desc.vocab);
    }
    return true;
}

/* Values that the model's vectors do not have cannot be given. */
static bool form_fits(const gen_spec *spec, const model_entry *m, api_fault *fault) {
    if (!m->described || spec->form.dimensions <= m->desc.embed_dims) return true;
    return api_fault_set(fault, API_INVALID, "dimensions",
                         "dimensions: is %u, the vectors of '%s' have %u", spec->form.dimensions,
                         m->name, m->desc.embed_dims);
}

/* A model that still loads is asked all the same: the roles look at ids, too, and the request
 * waits for them in the ring. */
static bool all_ids_fit(const gen_spec *spec, const model_entry *m, api_fault *fault) {
    const char *field = spec->request.kind == GEN_KIND_EMBED ? "input" : "prompt";
    if (!m->described) return true;
    if (!ids_fit(spec->request.sampling.bias_ids, m, "logit_bias", fault)) return false;
    if (!ids_fit(spec->request.sampling.stop_ids, m, "stop_token_ids", fault)) return false;
    if (!ids_fit(spec->request.sampling.allowed_ids, m, "allowed_token_ids", fault)) return false;
    for (uint32_t i = 0; i < spec->inputs_count; i++)
        if (!ids_fit(spec->inputs[i].ids, m, field, fault)) return false;
    return true;
}

static bool launch(front *f, http_call *c, const dialect_ops *dialect, gen_spec *spec,
                   api_fault *fault) {
    const adapter_entry *named = adapters_find_loaded(&f->adapters, spec->model);
    model_entry *m = admit(f, spec, named, fault);
    if (m == NULL || !all_ids_fit(spec, m, fault) || !form_fits(spec, m, fault)) return false;
    gen_call *g = call_create(f, m, spec);
    if (g == NULL) return api_fault_set(fault, API_NOMEM, NULL, "no memory for one more request");
    g->dialect = dialect;
    str_copy_c(g->name, sizeof g->name, str_of(named != NULL ? named->name : m->name));
    char hex[25];
    front_random_hex(hex, sizeof hex);
    (void)snprintf(g->id, sizeof g->id, "%s%s", dialect->id_prefix, hex);
    front_call *call = front_call_of(c);
    str_copy_c(g->request_id, sizeof g->request_id, str_of(call->request_id));
    if (!call_send(f, g, spec, fault)) {
        call_undo(g);
        return false;
    }
    g->http = c;
    call->gen = g;
    if (!m->described) gen_tell_loading(f, m);
    return true;
}

void gen_start(front *f, http_call *c, const dialect_ops *dialect) {
    api_fault fault = {.kind = API_OK};
    if (f->draining) {
        (void)api_fault_set(&fault, API_DRAINING, NULL, "the server is stopping");
        front_refuse(f, c, &fault);
        return;
    }
    str body = http_call_body(c);
    arena a;
    gen_spec spec;
    arena_init(&a, 16 * body.n + (64 << 10));
    bool ok = dialect->parse(body, &a, &spec, &fault);
    if (ok && spec.ignored_count > 0) {
        http_header_add(c, "X-Ignored-Params", spec.ignored);
        metrics_add(&f->metrics, METRIC_IGNORED_PARAMS_TOTAL, spec.ignored_count);
    }
    ok = ok && launch(f, c, dialect, &spec, &fault);
    arena_deinit(&a);
    http_call_body_release(c); /* what the roles need of it is in their frames */
    if (!ok) front_refuse(f, c, &fault);
}
