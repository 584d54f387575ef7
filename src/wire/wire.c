/* wire.c - one walk per message, used for both directions.
 *
 * A walk visits the fields of a message in wire order.  The codec under it either
 * appends each field to a buffer or fills it from a frame, so encoder and decoder cannot
 * drift apart.  When decoding, the first thing that is wrong is kept and everything
 * after it is skipped. */
#include "wire/wire.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/num.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "frames are written as the host has them");

typedef struct codec {
    buf *out; /* encoding: where fields go; NULL when decoding */
    str in;   /* decoding: what is left */
    status st;
    error *err;
} codec;

__attribute__((format(printf, 2, 3))) static void bad(codec *c, const char *fmt, ...) {
    if (c->st != OK) return;
    char msg[160];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    c->st = error_set(c->err, ERR_FORMAT, "wire: %s", msg);
}

static bool decoding(const codec *c) { return c->out == NULL; }

/* n fixed bytes at p, in the direction of the codec. */
static void field(codec *c, void *p, size_t n, const char *name) {
    if (!decoding(c)) {
        buf_put(c->out, p, n);
    } else if (c->in.n < n) {
        bad(c, "%s needs %zu bytes, frame has %zu left", name, n, c->in.n);
    } else if (c->st == OK) {
        memcpy(p, c->in.p, n);
        c->in = str_skip(c->in, n);
    }
}

static void field_bool(codec *c, bool *v, const char *name) {
    uint8_t byte = *v;
    field(c, &byte, 1, name);
    if (byte > 1) bad(c, "%s is %u, neither 0 nor 1", name, byte);
    *v = byte == 1;
}

/* An enum or small number in one byte, below `end`. */
#define FIELD_ENUM(c, v, end, name)                                             \
    do {                                                                        \
        uint8_t byte_ = (uint8_t)(v);                                           \
        field((c), &byte_, 1, (name));                                          \
        if (byte_ >= (end))                                                     \
            bad((c), "%s is %u, want less than %d", (name), byte_, (int)(end)); \
        else                                                                    \
            (v) = byte_;                                                        \
    } while (0)

#define FIELD(c, v) field((c), &(v), sizeof(v), #v)

/* A number that must lie in [lo, hi]; NaN never does. */
static void field_f32(codec *c, float *v, float lo, float hi, const char *name) {
    field(c, v, sizeof *v, name);
    if (!(*v >= lo && *v <= hi)) bad(c, "%s is %g, want %g to %g", name, *v, lo, hi);
}

static void field_str(codec *c, str *s, size_t bytes_max, const char *name) {
    uint32_t n = (uint32_t)s->n;
    if (!decoding(c) && s->n > WIRE_FRAME_BYTES_MAX)
        c->out->failed = true; /* the other side would refuse */
    field(c, &n, sizeof n, name);
    if (!decoding(c)) {
        buf_put_str(c->out, *s);
    } else if (n > bytes_max) {
        bad(c, "%s has %u bytes, at most %zu", name, n, bytes_max);
    } else if (n > c->in.n) {
        bad(c, "%s has %u bytes, frame has %zu left", name, n, c->in.n);
    } else if (c->st == OK) {
        *s = (str){c->in.p, n};
        c->in = str_skip(c->in, n);
    }
}

/* Text in a fixed char array: terminated within it. */
static void field_chars(codec *c, char *text, size_t bytes, const char *name) {
    field(c, text, bytes, name);
    if (c->st == OK && memchr(text, 0, bytes) == NULL) bad(c, "%s is not terminated", name);
    if (decoding(c) && c->st != OK) text[0] = '\0';
}

static void field_array(codec *c, wire_array *a, size_t elem_bytes, uint32_t count_max,
                        const char *name) {
    field(c, &a->count, sizeof a->count, name);
    size_t bytes = (size_t)a->count * elem_bytes;
    if (!decoding(c)) {
        buf_put(c->out, a->p, bytes);
    } else if (c->st == OK && a->count > count_max) {
        bad(c, "%s has %u elements, at most %u", name, a->count, count_max);
    } else if (c->st == OK && bytes > c->in.n) {
        bad(c, "%s needs %zu bytes, frame has %zu left", name, bytes, c->in.n);
    } else if (c->st == OK) {
        a->p = c->in.p;
        c->in = str_skip(c->in, bytes);
    }
    if (decoding(c) && c->st != OK) *a = (wire_array){0};
}

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
    field_f32(c, &s->temperature, 0.0f, 100.0f, "temperature");
    field_f32(c, &s->top_p, 0.0f, 1.0f, "top_p");
    field_f32(c, &s->min_p, 0.0f, 1.0f, "min_p");
    field_f32(c, &s->repetition_penalty, 1e-3f, 100.0f, "repetition_penalty");
    field_f32(c, &s->presence_penalty, -100.0f, 100.0f, "presence_penalty");
    field_f32(c, &s->frequency_penalty, -100.0f, 100.0f, "frequency_penalty");
    FIELD(c, s->top_k);
    FIELD(c, s->penalty_tokens);
    FIELD(c, s->seed);
    FIELD(c, s->tokens_max);
    FIELD(c, s->tokens_min);
    field_bool(c, &s->ignore_eos, "ignore_eos");
    field_bool(c, &s->logprobs, "logprobs");
    FIELD_ENUM(c, s->top_logprobs, WIRE_TOP_LOGPROBS_MAX + 1, "top_logprobs");
    field_array(c, &s->stop_ids, 4, WIRE_STOP_IDS_MAX, "stop_ids");
    field_array(c, &s->bias_ids, 4, WIRE_BIASES_MAX, "bias_ids");
    field_array(c, &s->biases, 4, WIRE_BIASES_MAX, "biases");
    if (s->biases.count != s->bias_ids.count)
        bad(c, "%u biases for %u ids", s->biases.count, s->bias_ids.count);
    for (uint32_t i = 0; decoding(c) && c->st == OK && i < s->biases.count; i++)
        if (!isfinite(wire_f32_at(s->biases, i))) bad(c, "bias %u is not finite", i);
    if (s->tokens_max == 0) bad(c, "tokens_max is 0");
}

static void walk_chat(codec *c, gen_chat *chat) {
    field_bool(c, &chat->add_generation_prompt, "add_generation_prompt");
    field_bool(c, &chat->continue_final, "continue_final");
    field_str(c, &chat->tools, WIRE_FRAME_BYTES_MAX, "tools");
    field_str(c, &chat->documents, WIRE_FRAME_BYTES_MAX, "documents");
    field_str(c, &chat->variables, WIRE_FRAME_BYTES_MAX, "variables");
    field_str(c, &chat->chat_template, WIRE_FRAME_BYTES_MAX, "chat_template");
}

static void walk_adapters(codec *c, gen_request *r) {
    field_array(c, &r->adapters, 4, WIRE_ADAPTERS_MAX, "adapters");
    field_array(c, &r->adapter_scales, 4, WIRE_ADAPTERS_MAX, "adapter scales");
    if (r->adapters.count != r->adapter_scales.count)
        bad(c, "%u scales for %u adapters", r->adapter_scales.count, r->adapters.count);
    for (uint32_t i = 0; decoding(c) && c->st == OK && i < r->adapter_scales.count; i++)
        if (!isfinite(wire_f32_at(r->adapter_scales, i)))
            bad(c, "adapter scale %u is not finite", i);
}

static void walk_request(codec *c, gen_request *r) {
    FIELD(c, r->id);
    FIELD_ENUM(c, r->kind, GEN_KIND_END, "kind");
    FIELD_ENUM(c, r->pooling, GEN_POOLING_END, "pooling");
    FIELD_ENUM(c, r->prompt, GEN_PROMPT_END, "prompt kind");
    field_bool(c, &r->add_special, "add_special");
    field_bool(c, &r->parse_special, "parse_special");
    field_bool(c, &r->echo, "echo");
    FIELD(c, r->choices);
    FIELD(c, r->credits);
    field_str(c, &r->text, WIRE_FRAME_BYTES_MAX, "text");
    field_str(c, &r->pair, WIRE_FRAME_BYTES_MAX, "pair");
    walk_chat(c, &r->chat);
    field_array(c, &r->ids, 4, WIRE_FRAME_BYTES_MAX / 4, "ids");
    walk_adapters(c, r);
    FIELD(c, r->stops_count);
    if (r->stops_count > WIRE_STOPS_MAX) {
        bad(c, "%u stop strings, at most %d", r->stops_count, WIRE_STOPS_MAX);
        r->stops_count = 0;
    }
    for (uint32_t i = 0; i < r->stops_count; i++) {
        field_str(c, &r->stops[i], WIRE_STOP_BYTES_MAX, "stop string");
        if (r->stops[i].n == 0) bad(c, "stop string %u is empty", i);
    }
    walk_sampling(c, &r->sampling);
    if (r->choices == 0 || r->choices > WIRE_CHOICES_MAX)
        bad(c, "%u choices, want 1 to %d", r->choices, WIRE_CHOICES_MAX);
    if (r->kind != GEN_KIND_GENERATE && r->choices > 1)
        bad(c, "%u choices of a vector, want 1", r->choices);
    if (r->credits > WIRE_CREDITS_MAX)
        bad(c, "%u credits, at most %d", r->credits, WIRE_CREDITS_MAX);
}

static void walk_cancel(codec *c, gen_cancel *m) {
    FIELD(c, m->id);
    FIELD(c, m->choice);
}

static void walk_credit(codec *c, gen_credit *m) {
    FIELD(c, m->id);
    FIELD(c, m->tokens);
    if (m->tokens > WIRE_CREDITS_MAX) bad(c, "%u credits, at most %d", m->tokens, WIRE_CREDITS_MAX);
}

static void walk_status(codec *c, engine_status *s) {
    FIELD(c, s->steps);
    FIELD(c, s->running);
    FIELD(c, s->waiting);
    field_array(c, &s->values, 8, WIRE_STATUS_VALUES_MAX, "status values");
}

static void walk_model(codec *c, model_desc *d) {
    field_chars(c, d->name, sizeof d->name, "name");
    field_chars(c, d->arch, sizeof d->arch, "arch");
    field_chars(c, d->types, sizeof d->types, "types");
    field_chars(c, d->chat, sizeof d->chat, "chat");
    field_chars(c, d->chat_check, sizeof d->chat_check, "chat_check");
    field_chars(c, d->chat_caps, sizeof d->chat_caps, "chat_caps");
    field_chars(c, d->backend, sizeof d->backend, "backend");
    field_chars(c, d->numerics, sizeof d->numerics, "numerics");
    field_chars(c, d->kv_type, sizeof d->kv_type, "kv_type");
    FIELD(c, d->params);
    FIELD(c, d->file_bytes);
    FIELD(c, d->kv_bytes);
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
    field_bool(c, &d->generates, "generates");
}

static void walk_loading(codec *c, model_loading *l) {
    FIELD_ENUM(c, l->phase, LOAD_PHASE_END, "load phase");
    FIELD(c, l->permille);
    if (l->permille > 1000) bad(c, "%u permille loaded, at most 1000", l->permille);
}

static void walk_adapter(codec *c, adapter_order *o) {
    FIELD(c, o->adapter);
    field_bool(c, &o->load, "load");
    field_str(c, &o->path, WIRE_PATH_BYTES_MAX, "adapter path");
    if (o->load && o->path.n == 0) bad(c, "an adapter to load without a path");
}

static void walk_adapter_state(codec *c, adapter_state *s) {
    FIELD(c, s->adapter);
    field_bool(c, &s->loaded, "loaded");
    FIELD_ENUM(c, s->code, STATUS_COUNT, "adapter code");
    FIELD(c, s->rank);
    FIELD(c, s->weights);
    FIELD(c, s->bytes);
    field_str(c, &s->message, WIRE_PATH_BYTES_MAX, "adapter message");
    if (s->loaded && s->code != OK) bad(c, "a loaded adapter with an error");
}

static void walk_vector(codec *c, wire_array *v) {
    field_array(c, v, 4, WIRE_EMBEDDING_VALUES_MAX, "vector");
    if (v->count == 0) bad(c, "a vector without values");
}

static void walk_tokens(codec *c, gen_event *e) {
    uint32_t ids_max = WIRE_FRAME_BYTES_MAX / 4;
    field_array(c, &e->tokens.ids, 4, ids_max, "token ids");
    field_array(c, &e->tokens.logprobs, 4, ids_max, "logprobs");
    FIELD_ENUM(c, e->tokens.top, WIRE_TOP_LOGPROBS_MAX + 1, "top");
    field_array(c, &e->tokens.top_ids, 4, ids_max, "top ids");
    field_array(c, &e->tokens.top_logprobs, 4, ids_max, "top logprobs");
    uint32_t n = e->tokens.ids.count, lp = e->tokens.logprobs.count;
    uint64_t top = (uint64_t)n * e->tokens.top;
    if (lp != 0 && lp != n) bad(c, "%u logprobs for %u tokens", lp, n);
    if (e->tokens.top_ids.count != top || e->tokens.top_logprobs.count != top)
        bad(c, "%u alternatives for %u tokens", e->tokens.top_ids.count, n);
}

static bool logprobs_are_whole(str blob);

static void walk_text(codec *c, gen_event *e) {
    FIELD(c, e->text.tokens);
    field_str(c, &e->text.text, WIRE_FRAME_BYTES_MAX, "text");
    field_str(c, &e->text.logprobs, WIRE_FRAME_BYTES_MAX, "text logprobs");
    if (decoding(c) && c->st == OK && !logprobs_are_whole(e->text.logprobs))
        bad(c, "text logprobs: %zu bytes that are not whole entries", e->text.logprobs.n);
}

static void walk_usage(codec *c, gen_usage *u) {
    FIELD(c, u->prompt_tokens);
    FIELD(c, u->completion_tokens);
    FIELD(c, u->cached_tokens);
    FIELD(c, u->queue_us);
    FIELD(c, u->prompt_us);
    FIELD(c, u->decode_us);
}

static void walk_error(codec *c, gen_event *e) {
    FIELD_ENUM(c, e->error.code, STATUS_COUNT, "error code");
    FIELD_ENUM(c, e->error.fault, GEN_FAULT_END, "fault");
    FIELD(c, e->error.have);
    FIELD(c, e->error.limit);
    field_str(c, &e->error.message, 4096, "error message");
    if (e->error.code == OK) bad(c, "an error event with code OK");
}

static void walk_event(codec *c, gen_event *e) {
    FIELD(c, e->id);
    FIELD(c, e->choice);
    FIELD_ENUM(c, e->kind, GEN_EVENT_END, "event kind");
    if (c->st != OK) return;
    switch (e->kind) {
    case GEN_ACCEPTED:
        FIELD(c, e->accepted.prompt_tokens);
        FIELD(c, e->accepted.cached_tokens);
        FIELD(c, e->accepted.queue_position);
        FIELD(c, e->accepted.eta_ms);
        break;
    case GEN_PROGRESS:
        FIELD(c, e->progress.done);
        FIELD(c, e->progress.total);
        break;
    case GEN_TOKENS:
        walk_tokens(c, e);
        break;
    case GEN_TEXT:
        walk_text(c, e);
        break;
    case GEN_VECTOR:
        walk_vector(c, &e->vector);
        break;
    case GEN_PAUSED:
        FIELD_ENUM(c, e->paused, GEN_PAUSE_END, "pause");
        break;
    case GEN_FINISH:
        FIELD_ENUM(c, e->finish.reason, GEN_FINISH_END, "finish reason");
        field_str(c, &e->finish.stop, WIRE_STOP_BYTES_MAX, "finish stop");
        break;
    case GEN_USAGE:
        walk_usage(c, &e->usage);
        break;
    case GEN_ERROR:
        walk_error(c, e);
        break;
    case GEN_EVENT_END:
        break;
    }
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

void wire_put_drain(buf *out) { frame_end(out, frame_begin(out, WIRE_DRAIN)); }

size_t wire_events_begin(buf *out) { return frame_begin(out, WIRE_EVENTS); }

void wire_events_add(buf *out, const gen_event *e) {
    gen_event copy = *e;
    size_t at = out->n;
    walk_event(&(codec){.out = out}, &copy);
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

#define DEFINE_GET(name, type, walk)                                                   \
    status name(str body, type *out, error *err) {                                     \
        codec c = {.in = body, .err = err};                                            \
        type message = {0};                                                            \
        walk(&c, &message);                                                            \
        if (c.st == OK && c.in.n != 0) bad(&c, "%zu bytes after the message", c.in.n); \
        if (c.st == OK) *out = message;                                                \
        return c.st;                                                                   \
    }
DEFINE_GET(wire_get_request, gen_request, walk_request)
DEFINE_GET(wire_get_cancel, gen_cancel, walk_cancel)
DEFINE_GET(wire_get_credit, gen_credit, walk_credit)
DEFINE_GET(wire_get_status, engine_status, walk_status)
DEFINE_GET(wire_get_model, model_desc, walk_model)
DEFINE_GET(wire_get_loading, model_loading, walk_loading)
DEFINE_GET(wire_get_adapter, adapter_order, walk_adapter)
DEFINE_GET(wire_get_adapter_state, adapter_state, walk_adapter_state)

status wire_get_event(str *body, gen_event *out, bool *more, error *err) {
    *more = body->n > 0;
    if (!*more) return OK;
    codec c = {.in = *body, .err = err};
    gen_event e = {0};
    walk_event(&c, &e);
    if (c.st != OK) return c.st;
    *out = e;
    *body = c.in;
    return OK;
}

/* --- logprob entries inside GEN_TEXT ------------------------------------------- */

static void walk_logprob(codec *c, wire_logprob *t) {
    field_str(c, &t->bytes, WIRE_FRAME_BYTES_MAX, "token bytes");
    FIELD(c, t->id);
    FIELD(c, t->logprob);
}

void wire_logprob_put(buf *out, const wire_logprob *token, const wire_logprob *top, uint8_t count) {
    codec c = {.out = out};
    wire_logprob copy = *token;
    walk_logprob(&c, &copy);
    field(&c, &count, 1, "top count");
    for (uint8_t i = 0; i < count; i++) {
        copy = top[i];
        walk_logprob(&c, &copy);
    }
}

bool wire_logprob_next(str *blob, wire_logprob *token, wire_logprob *top, uint8_t *count) {
    if (blob->n == 0) return false;
    codec c = {.in = *blob};
    uint8_t n = 0;
    walk_logprob(&c, token);
    field(&c, &n, 1, "top count");
    if (n > WIRE_TOP_LOGPROBS_MAX) bad(&c, "%u alternatives", n);
    for (uint8_t i = 0; c.st == OK && i < n; i++) walk_logprob(&c, &top[i]);
    if (c.st != OK) return false;
    *count = n;
    *blob = c.in;
    return true;
}

static bool logprobs_are_whole(str blob) {
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    while (wire_logprob_next(&blob, &token, top, &count)) {
    }
    return blob.n == 0;
}

const char *gen_finish_name(gen_finish reason) {
    static const char *const names[] = {
#define GEN_FINISH_NAME(name) #name,
        GEN_FINISHES(GEN_FINISH_NAME)
#undef GEN_FINISH_NAME
    };
    return (unsigned)reason < GEN_FINISH_END ? names[reason] : "?";
}

const char *load_phase_name(load_phase phase) {
    static const char *const names[] = {
#define LOAD_PHASE_NAME(id, text) text,
        LOAD_PHASES(LOAD_PHASE_NAME)
#undef LOAD_PHASE_NAME
    };
    return (unsigned)phase < LOAD_PHASE_END ? names[phase] : "?";
}
