/* fuzz_wire.c - any bytes as a frame: refused, or a message that encodes to itself.
 *
 * What decodes is encoded again: the bytes must be those of the input, since a frame has
 * only one way to say what it says. */
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "fuzz.h"
#include "wire/wire.h"

/* Walk the logprobs of a text event the way its receiver does. */
static void read_logprobs(str blob) {
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    volatile char last = 0;
    while (wire_logprob_next(&blob, &token, top, &count)) {
        ASSERT(count <= WIRE_TOP_LOGPROBS_MAX);
        if (token.bytes.n > 0) last = token.bytes.p[token.bytes.n - 1];
        for (uint8_t i = 0; i < count; i++)
            if (top[i].bytes.n > 0) last = top[i].bytes.p[top[i].bytes.n - 1];
    }
    (void)last;
    ASSERT(blob.n == 0);
}

static status recode_events(str body, buf *out) {
    gen_event e;
    bool more = true;
    size_t begun = wire_events_begin(out);
    for (;;) {
        TRY(wire_get_event(&body, &e, &more, NULL));
        if (!more) break;
        if (e.kind == GEN_TEXT) read_logprobs(e.text.logprobs);
        wire_events_add(out, &e);
    }
    wire_events_end(out, begun);
    return OK;
}

/* Walk the entries the way their reader does. */
static void read_entries(const profile_table *t) {
    str rest = t->entries;
    profile_entry e;
    while (wire_profile_entry_next(&rest, &e))
        ASSERT(e.place < t->places_count && e.arith > 0 && e.arith < WIRE_PROFILE_LIMITS);
    ASSERT(rest.n == 0);
}

static status recode_report(str body, buf *out) {
    profile_report r;
    TRY(wire_get_profile_report(body, &r, NULL));
    read_entries(&r.prompt);
    read_entries(&r.decode);
    wire_put_profile_report(out, &r);
    return OK;
}

#define RECODE(type, get, put)          \
    do {                                \
        type message;                   \
        TRY(get(body, &message, &err)); \
        put(out, &message);             \
        return OK;                      \
    } while (0)

/* Decode the frame and append its message to `out` as a new frame. */
static status recode(str frame, buf *out) {
    error err = {0};
    wire_type type = WIRE_TYPE_END;
    str body = {0};
    TRY(wire_open(frame, &type, &body, &err));
    switch (type) {
    case WIRE_REQUEST:
        RECODE(gen_request, wire_get_request, wire_put_request);
    case WIRE_CANCEL:
        RECODE(gen_cancel, wire_get_cancel, wire_put_cancel);
    case WIRE_CREDIT:
        RECODE(gen_credit, wire_get_credit, wire_put_credit);
    case WIRE_STATUS:
        RECODE(engine_status, wire_get_status, wire_put_status);
    case WIRE_MODEL:
        RECODE(model_desc, wire_get_model, wire_put_model);
    case WIRE_LOADING:
        RECODE(model_loading, wire_get_loading, wire_put_loading);
    case WIRE_ADAPTER:
        RECODE(adapter_order, wire_get_adapter, wire_put_adapter);
    case WIRE_ADAPTER_STATE:
        RECODE(adapter_state, wire_get_adapter_state, wire_put_adapter_state);
    case WIRE_PROFILE:
        RECODE(profile_order, wire_get_profile, wire_put_profile);
    case WIRE_PROFILE_REPORT:
        return recode_report(body, out);
    case WIRE_EVENTS:
        return recode_events(body, out);
    case WIRE_DRAIN:
        wire_put_drain(out);
        return OK;
    default:
        ASSERT(!"wire_open let an unknown type through");
        return ERR_INTERNAL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    str frame = {(const char *)data, size};
    buf once, twice;
    buf_init(&once, SIZE_MAX);
    buf_init(&twice, SIZE_MAX);
    /* DRAIN has no body to compare, and an EVENTS frame without events is not written */
    if (recode(frame, &once) == OK && once.n > WIRE_HEADER_BYTES) {
        ASSERT(recode(buf_view(&once), &twice) == OK);
        ASSERT(str_eq(buf_view(&once), buf_view(&twice)));
        ASSERT(str_eq(buf_view(&once), frame));
    }
    buf_deinit(&once);
    buf_deinit(&twice);
    return 0;
}
