/* wire.c - the walks over what goes down and over what a model says of itself, and the frames
 * around all messages; see wire_internal.h. */
#include "wire/wire.h"

#include <math.h>

#include "base/num.h"
#include "wire/wire_internal.h"

/* --- the walks -------------------- */

gen_sampling gen_sampling_default(void) {
    return (gen_sampling){
        .temperature = 1.0f,
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
        .penalty_tokens = UINT32_MAX,
        .tokens_max = UINT32_MAX,
    };
}

static void walk_sampling(codec *c, gen_sampling *s) {
    codec_f32(c, &s->temperature, 0.0f, 100.0f, "temperature");
    codec_f32(c, &s->top_p, 0.0f, 1.0f, "top_p");
    codec_f32(c, &s->min_p, 0.0f, 1.0f, "min_p");
    codec_f32(c, &s->repetition_penalty, 1e-3f, 100.0f, "repetition_penalty");
    codec_f32(c, &s->presence_penalty, -100.0f, 100.0f, "presence_penalty");
    codec_f32(c, &s->frequency_penalty, -100.0f, 100.0f, "frequency_penalty");
    FIELD(c, s->top_k);
    FIELD(c, s->penalty_tokens);
    FIELD(c, s->seed);
    FIELD(c, s->tokens_max);
    FIELD(c, s->tokens_min);
    codec_bool(c, &s->ignore_eos, "ignore_eos");
    codec_bool(c, &s->logprobs, "logprobs");
    FIELD_ENUM(c, s->top_logprobs, WIRE_TOP_LOGPROBS_MAX + 1, "top_logprobs");
    codec_array(c, &s->stop_ids, 4, WIRE_STOP_IDS_MAX, "stop_ids");
    codec_array(c, &s->bias_ids, 4, WIRE_BIASES_MAX, "bias_ids");
    codec_array(c, &s->biases, 4, WIRE_BIASES_MAX, "biases");
    if (s->biases.count != s->bias_ids.count)
        codec_bad(c, "%u biases for %u ids", s->biases.count, s->bias_ids.count);
    for (uint32_t i = 0; codec_is_reading(c) && c->st == OK && i < s->biases.count; i++)
        if (!isfinite(wire_f32_at(s->biases, i))) codec_bad(c, "bias %u is not finite", i);
    codec_array(c, &s->allowed_ids, 4, WIRE_ALLOWED_IDS_MAX, "allowed_ids");
    if (s->tokens_max == 0) codec_bad(c, "tokens_max is 0");
}

static void walk_chat(codec *c, gen_chat *chat) {
    codec_bool(c, &chat->add_generation_prompt, "add_generation_prompt");
    codec_bool(c, &chat->continue_final, "continue_final");
    codec_bool(c, &chat->one_call, "one_call");
    codec_str(c, &chat->tools, WIRE_FRAME_BYTES_MAX, "tools");
    codec_str(c, &chat->documents, WIRE_FRAME_BYTES_MAX, "documents");
    codec_str(c, &chat->variables, WIRE_FRAME_BYTES_MAX, "variables");
    codec_str(c, &chat->chat_template, WIRE_FRAME_BYTES_MAX, "chat_template");
}

static void walk_adapters(codec *c, gen_request *r) {
    codec_array(c, &r->adapters, 4, WIRE_ADAPTERS_MAX, "adapters");
    codec_array(c, &r->adapter_scales, 4, WIRE_ADAPTERS_MAX, "adapter scales");
    if (r->adapters.count != r->adapter_scales.count)
        codec_bad(c, "%u scales for %u adapters", r->adapter_scales.count, r->adapters.count);
    for (uint32_t i = 0; codec_is_reading(c) && c->st == OK && i < r->adapter_scales.count; i++)
        if (!isfinite(wire_f32_at(r->adapter_scales, i)))
            codec_bad(c, "adapter scale %u is not finite", i);
}

static void walk_request(codec *c, gen_request *r) {
    FIELD(c, r->id);
    FIELD_ENUM(c, r->kind, GEN_KIND_END, "kind");
    FIELD_ENUM(c, r->pooling, GEN_POOLING_END, "pooling");
    FIELD_ENUM(c, r->prompt, GEN_PROMPT_END, "prompt kind");
    codec_bool(c, &r->add_special, "add_special");
    codec_bool(c, &r->parse_special, "parse_special");
    codec_bool(c, &r->echo, "echo");
    FIELD(c, r->choices);
    FIELD(c, r->credits);
    codec_str(c, &r->text, WIRE_FRAME_BYTES_MAX, "text");
    codec_str(c, &r->pair, WIRE_FRAME_BYTES_MAX, "pair");
    walk_chat(c, &r->chat);
    codec_array(c, &r->ids, 4, WIRE_FRAME_BYTES_MAX / 4, "ids");
    walk_adapters(c, r);
    FIELD(c, r->stops_count);
    if (r->stops_count > WIRE_STOPS_MAX) {
        codec_bad(c, "%u stop strings, at most %d", r->stops_count, WIRE_STOPS_MAX);
        r->stops_count = 0;
    }
    for (uint32_t i = 0; i < r->stops_count; i++) {
        codec_str(c, &r->stops[i], WIRE_STOP_BYTES_MAX, "stop string");
        if (r->stops[i].n == 0) codec_bad(c, "stop string %u is empty", i);
    }
    walk_sampling(c, &r->sampling);
    if (r->choices == 0 || r->choices > WIRE_CHOICES_MAX)
        codec_bad(c, "%u choices, want 1 to %d", r->choices, WIRE_CHOICES_MAX);
    if (r->kind != GEN_KIND_GENERATE && r->choices > 1)
        codec_bad(c, "%u choices of a vector, want 1", r->choices);
    if (r->credits > WIRE_CREDITS_MAX)
        codec_bad(c, "%u credits, at most %d", r->credits, WIRE_CREDITS_MAX);
}

static void walk_cancel(codec *c, gen_cancel *m) {
    FIELD(c, m->id);
    FIELD(c, m->choice);
}

static void walk_credit(codec *c, gen_credit *m) {
    FIELD(c, m->id);
    FIELD(c, m->tokens);
    if (m->tokens > WIRE_CREDITS_MAX)
        codec_bad(c, "%u credits, at most %d", m->tokens, WIRE_CREDITS_MAX);
}

static void walk_status(codec *c, engine_status *s) {
    FIELD(c, s->steps);
    FIELD(c, s->running);
    FIELD(c, s->waiting);
    codec_array(c, &s->values, 8, WIRE_STATUS_VALUES_MAX, "status values");
}

static void walk_model(codec *c, model_desc *d) {
    codec_chars(c, d->name, sizeof d->name, "name");
    codec_chars(c, d->description, sizeof d->description, "description");
    codec_chars(c, d->license, sizeof d->license, "license");
    codec_chars(c, d->arch, sizeof d->arch, "arch");
    codec_chars(c, d->types, sizeof d->types, "types");
    codec_chars(c, d->chat, sizeof d->chat, "chat");
    codec_chars(c, d->chat_check, sizeof d->chat_check, "chat_check");
    codec_chars(c, d->chat_caps, sizeof d->chat_caps, "chat_caps");
    codec_chars(c, d->backend, sizeof d->backend, "backend");
    codec_chars(c, d->device, sizeof d->device, "device");
    codec_chars(c, d->fallback, sizeof d->fallback, "fallback");
    codec_chars(c, d->reduced, sizeof d->reduced, "reduced");
    codec_chars(c, d->numerics, sizeof d->numerics, "numerics");
    codec_chars(c, d->kv_type, sizeof d->kv_type, "kv_type");
    FIELD(c, d->params);
    FIELD(c, d->file_bytes);
    FIELD(c, d->kv_bytes);
    FIELD(c, d->device_bytes);
    FIELD(c, d->device_layers);
    FIELD(c, d->host_experts);
    FIELD(c, d->vocab);
    FIELD(c, d->n_embd);
    FIELD(c, d->layers);
    FIELD(c, d->ctx_train);
    FIELD(c, d->ctx_max);
    FIELD(c, d->embed_tokens_max);
    FIELD(c, d->embed_dims);
    FIELD(c, d->rank_labels);
    FIELD(c, d->adapter_rank_max);
    FIELD(c, d->parallel);
    FIELD(c, d->threads);
    codec_bool(c, &d->generates, "generates");
}

static void walk_loading(codec *c, model_loading *l) {
    FIELD_ENUM(c, l->phase, LOAD_PHASE_END, "load phase");
    FIELD(c, l->permille);
    if (l->permille > 1000) codec_bad(c, "%u permille loaded, at most 1000", l->permille);
}

static void walk_adapter(codec *c, adapter_order *o) {
    FIELD(c, o->adapter);
    codec_bool(c, &o->load, "load");
    codec_str(c, &o->path, WIRE_PATH_BYTES_MAX, "adapter path");
    if (o->load && o->path.n == 0) codec_bad(c, "an adapter to load without a path");
}

static void walk_adapter_state(codec *c, adapter_state *s) {
    FIELD(c, s->adapter);
    codec_bool(c, &s->loaded, "loaded");
    FIELD_ENUM(c, s->code, STATUS_COUNT, "adapter code");
    FIELD(c, s->rank);
    FIELD(c, s->weights);
    FIELD(c, s->bytes);
    codec_str(c, &s->message, WIRE_PATH_BYTES_MAX, "adapter message");
    if (s->loaded && s->code != OK) codec_bad(c, "a loaded adapter with an error");
}

/* --- frames -------------------- */

static size_t frame_begin(buf *out, wire_type type) {
    size_t at = out->n;
    uint8_t header[WIRE_HEADER_BYTES] = {0, 0, 0, 0, WIRE_VERSION, (uint8_t)type, 0, 0};
    buf_put(out, header, sizeof header);
    return at;
}

/* A frame that did not fit leaves nothing behind; the buffer stays failed. */
static void frame_end(buf *out, size_t at) {
    if (out->failed) {
        out->n = num_min_size(out->n, at);
        return;
    }
    uint32_t bytes = (uint32_t)(out->n - at - WIRE_HEADER_BYTES);
    memcpy(out->p + at, &bytes, sizeof bytes);
}

/* The struct is copied: a walk takes a mutable message, and encoding only reads it. */
#define DEFINE_PUT(name, type, wire_kind, walk)  \
    void name(buf *out, const type *message) {   \
        type copy = *message;                    \
        size_t at = frame_begin(out, wire_kind); \
        walk(&(codec){.out = out}, &copy);       \
        frame_end(out, at);                      \
    }
DEFINE_PUT(wire_put_request, gen_request, WIRE_REQUEST, walk_request)
DEFINE_PUT(wire_put_cancel, gen_cancel, WIRE_CANCEL, walk_cancel)
DEFINE_PUT(wire_put_credit, gen_credit, WIRE_CREDIT, walk_credit)
DEFINE_PUT(wire_put_status, engine_status, WIRE_STATUS, walk_status)
DEFINE_PUT(wire_put_model, model_desc, WIRE_MODEL, walk_model)
DEFINE_PUT(wire_put_loading, model_loading, WIRE_LOADING, walk_loading)
DEFINE_PUT(wire_put_adapter, adapter_order, WIRE_ADAPTER, walk_adapter)
DEFINE_PUT(wire_put_adapter_state, adapter_state, WIRE_ADAPTER_STATE, walk_adapter_state)
DEFINE_PUT(wire_put_profile, profile_order, WIRE_PROFILE, codec_profile)
DEFINE_PUT(wire_put_profile_report, profile_report, WIRE_PROFILE_REPORT, codec_profile_report)

void wire_put_drain(buf *out) { frame_end(out, frame_begin(out, WIRE_DRAIN)); }

size_t wire_events_begin(buf *out) { return frame_begin(out, WIRE_EVENTS); }

void wire_events_add(buf *out, const gen_event *e) {
    gen_event copy = *e;
    size_t at = out->n;
    codec_event(&(codec){.out = out}, &copy);
    if (out->failed) out->n = num_min_size(out->n, at);
}

void wire_events_end(buf *out, size_t begun) {
    if (out->n <= begun + WIRE_HEADER_BYTES)
        out->n = num_min_size(out->n, begun);
    else
        frame_end(out, begun);
}

status wire_open(str frame, wire_type *type, str *body, error *err) {
    uint32_t bytes = 0;
    if (frame.n < WIRE_HEADER_BYTES)
        return error_set(err, ERR_FORMAT, "wire: frame of %zu bytes, header has %d", frame.n,
                         WIRE_HEADER_BYTES);
    const uint8_t *h = (const uint8_t *)frame.p;
    memcpy(&bytes, h, sizeof bytes);
    if (bytes != frame.n - WIRE_HEADER_BYTES)
        return error_set(err, ERR_FORMAT, "wire: header says %u bytes, frame has %zu", bytes,
                         frame.n - WIRE_HEADER_BYTES);
    if (h[4] != WIRE_VERSION)
        return error_set(err, ERR_UNSUPPORTED, "wire: version %u, this side speaks %d", h[4],
                         WIRE_VERSION);
    if (h[5] == 0 || h[5] >= WIRE_TYPE_END || h[6] != 0 || h[7] != 0)
        return error_set(err, ERR_FORMAT, "wire: unknown message type %u", h[5]);
    if (h[5] == WIRE_DRAIN && bytes != 0)
        return error_set(err, ERR_FORMAT, "wire: a drain message with a body of %u bytes", bytes);
    *type = h[5];
    *body = str_skip(frame, WIRE_HEADER_BYTES);
    return OK;
}

#define DEFINE_GET(name, type, walk)                                                         \
    status name(str body, type *out, error *err) {                                           \
        codec c = {.in = body, .err = err};                                                  \
        type message = {0};                                                                  \
        walk(&c, &message);                                                                  \
        if (c.st == OK && c.in.n != 0) codec_bad(&c, "%zu bytes after the message", c.in.n); \
        if (c.st == OK) *out = message;                                                      \
        return c.st;                                                                         \
    }
DEFINE_GET(wire_get_request, gen_request, walk_request)
DEFINE_GET(wire_get_cancel, gen_cancel, walk_cancel)
DEFINE_GET(wire_get_credit, gen_credit, walk_credit)
DEFINE_GET(wire_get_status, engine_status, walk_status)
DEFINE_GET(wire_get_model, model_desc, walk_model)
DEFINE_GET(wire_get_loading, model_loading, walk_loading)
DEFINE_GET(wire_get_adapter, adapter_order, walk_adapter)
DEFINE_GET(wire_get_adapter_state, adapter_state, walk_adapter_state)
DEFINE_GET(wire_get_profile, profile_order, codec_profile)
DEFINE_GET(wire_get_profile_report, profile_report, codec_profile_report)

status wire_get_event(str *body, gen_event *out, bool *more, error *err) {
    *more = body->n > 0;
    if (!*more) return OK;
    codec c = {.in = *body, .err = err};
    gen_event e = {0};
    codec_event(&c, &e);
    if (c.st != OK) return c.st;
    *out = e;
    *body = c.in;
    return OK;
}

const char *load_phase_name(load_phase phase) {
    static const char *const names[] = {
#define LOAD_PHASE_NAME(id, text) text,
        LOAD_PHASES(LOAD_PHASE_NAME)
#undef LOAD_PHASE_NAME
    };
    return (unsigned)phase < LOAD_PHASE_END ? names[phase] : "?";
}
