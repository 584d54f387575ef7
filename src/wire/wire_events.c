/* wire_events.c - the walks over what comes up: tokens, text, calls, ends, errors. */
#include "base/num.h"
#include "wire/wire_internal.h"

/* --- logprob entries inside GEN_TEXT -------------------- */

static void walk_logprob(codec *c, wire_logprob *t) {
    codec_str(c, &t->bytes, WIRE_FRAME_BYTES_MAX, "token bytes");
    FIELD(c, t->id);
    FIELD(c, t->logprob);
}

void wire_logprob_put(buf *out, const wire_logprob *token, const wire_logprob *top, uint8_t count) {
    codec c = {.out = out};
    wire_logprob copy = *token;
    walk_logprob(&c, &copy);
    codec_bytes(&c, &count, 1, "top count");
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
    codec_bytes(&c, &n, 1, "top count");
    if (n > WIRE_TOP_LOGPROBS_MAX) codec_bad(&c, "%u alternatives", n);
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

/* --- the walks -------------------- */

static void walk_vector(codec *c, wire_array *v) {
    codec_array(c, v, 4, WIRE_EMBEDDING_VALUES_MAX, "vector");
    if (v->count == 0) codec_bad(c, "a vector without values");
}

static void walk_tokens(codec *c, gen_event *e) {
    uint32_t ids_max = WIRE_FRAME_BYTES_MAX / 4;
    codec_array(c, &e->tokens.ids, 4, ids_max, "token ids");
    codec_array(c, &e->tokens.logprobs, 4, ids_max, "logprobs");
    FIELD_ENUM(c, e->tokens.top, WIRE_TOP_LOGPROBS_MAX + 1, "top");
    codec_array(c, &e->tokens.top_ids, 4, ids_max, "top ids");
    codec_array(c, &e->tokens.top_logprobs, 4, ids_max, "top logprobs");
    uint32_t n = e->tokens.ids.count, lp = e->tokens.logprobs.count;
    uint64_t top = (uint64_t)n * e->tokens.top;
    if (lp != 0 && lp != n) codec_bad(c, "%u logprobs for %u tokens", lp, n);
    if (e->tokens.top_ids.count != top || e->tokens.top_logprobs.count != top)
        codec_bad(c, "%u alternatives for %u tokens", e->tokens.top_ids.count, n);
}

static void walk_text(codec *c, gen_event *e) {
    FIELD(c, e->text.tokens);
    codec_str(c, &e->text.text, WIRE_FRAME_BYTES_MAX, "text");
    codec_str(c, &e->text.logprobs, WIRE_FRAME_BYTES_MAX, "text logprobs");
    if (codec_is_reading(c) && c->st == OK && !logprobs_are_whole(e->text.logprobs))
        codec_bad(c, "text logprobs: %zu bytes that are not whole entries", e->text.logprobs.n);
}

static void walk_call(codec *c, gen_event *e) {
    FIELD(c, e->call.index);
    codec_str(c, &e->call.id, WIRE_CALL_ID_BYTES_MAX, "call id");
    codec_str(c, &e->call.name, WIRE_CALL_NAME_BYTES_MAX, "call name");
    codec_str(c, &e->call.arguments, WIRE_FRAME_BYTES_MAX, "call arguments");
    if ((e->call.id.n == 0) != (e->call.name.n == 0))
        codec_bad(c, "a call with an id of %zu and a name of %zu bytes", e->call.id.n,
                  e->call.name.n);
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
    codec_str(c, &e->error.message, 4096, "error message");
    if (e->error.code == OK) codec_bad(c, "an error event with code OK");
}

void codec_event(codec *c, gen_event *e) {
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
    case GEN_CALL:
        walk_call(c, e);
        break;
    case GEN_VECTOR:
        walk_vector(c, &e->vector);
        break;
    case GEN_PAUSED:
        FIELD_ENUM(c, e->paused, GEN_PAUSE_END, "pause");
        break;
    case GEN_FINISH:
        FIELD_ENUM(c, e->finish.reason, GEN_FINISH_END, "finish reason");
        codec_str(c, &e->finish.stop, WIRE_STOP_BYTES_MAX, "finish stop");
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

/* --- names -------------------- */

const char *gen_finish_name(gen_finish reason) {
    static const char *const names[] = {
#define GEN_FINISH_NAME(name) #name,
        GEN_FINISHES(GEN_FINISH_NAME)
#undef GEN_FINISH_NAME
    };
    return (unsigned)reason < GEN_FINISH_END ? names[reason] : "?";
}
