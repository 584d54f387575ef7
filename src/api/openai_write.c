/* openai_write.c - the members that both OpenAI answers share. */
#include <math.h>

#include "api/front_internal.h"
#include "api/openai.h"
#include "base/assert.h"
#include "net/sse.h"

void openai_begin(json_writer *w, const gen_call *g, const char *object) {
    json_begin_object(w);
    json_kv_str(w, "id", str_of(g->id));
    json_kv_str(w, "object", str_of(object));
    json_kv_uint(w, "created", g->created_s);
    json_kv_str(w, "model", str_of(g->name));
    json_kv_str(w, "system_fingerprint", S("gantry-" GANTRY_VERSION));
}

void openai_usage(json_writer *w, const gen_call *g) {
    const gen_usage *u = &g->usage;
    json_kv_object(w, "usage");
    json_kv_uint(w, "prompt_tokens", u->prompt_tokens);
    json_kv_uint(w, "completion_tokens", u->completion_tokens);
    json_kv_uint(w, "total_tokens", (uint64_t)u->prompt_tokens + u->completion_tokens);
    json_kv_object(w, "prompt_tokens_details");
    json_kv_uint(w, "cached_tokens", u->cached_tokens);
    json_kv_uint(w, "audio_tokens", 0);
    json_end_object(w);
    json_kv_object(w, "completion_tokens_details");
    json_kv_uint(w, "reasoning_tokens", 0);
    json_kv_uint(w, "audio_tokens", 0);
    json_kv_uint(w, "accepted_prediction_tokens", 0);
    json_kv_uint(w, "rejected_prediction_tokens", 0);
    json_end_object(w);
    json_end_object(w);
}

static double per_second(uint32_t count, uint32_t us) {
    return us > 0 ? (double)count * 1e6 / us : 0.0;
}

/* Of several prompts the times are those of the slowest.  decode_us runs from the first
 * token to the last, so each choice's first token is none of its work. */
void openai_timings(json_writer *w, const gen_call *g) {
    const gen_usage *u = &g->usage;
    uint32_t computed = u->prompt_tokens -
                        (u->cached_tokens < u->prompt_tokens ? u->cached_tokens : u->prompt_tokens);
    uint32_t firsts =
        g->choices_count < u->completion_tokens ? g->choices_count : u->completion_tokens;
    json_kv_object(w, "timings");
    json_kv_f64(w, "queue_ms", u->queue_us / 1e3);
    json_kv_uint(w, "cache_n", u->cached_tokens);
    json_kv_uint(w, "prompt_n", computed);
    json_kv_f64(w, "prompt_ms", u->prompt_us / 1e3);
    json_kv_f64(w, "prompt_per_second", per_second(computed, u->prompt_us));
    json_kv_uint(w, "predicted_n", u->completion_tokens);
    json_kv_f64(w, "predicted_ms", u->decode_us / 1e3);
    json_kv_f64(w, "predicted_per_second", per_second(u->completion_tokens - firsts, u->decode_us));
    json_kv_str(w, "backend", str_of(g->model->desc.backend));
    json_kv_str(w, "numerics", str_of(g->model->desc.numerics));
    json_end_object(w);
}

str openai_finish_name(gen_finish reason) {
    return reason == GEN_FINISH_LENGTH || reason == GEN_FINISH_CONTEXT ? S("length") : S("stop");
}

uint64_t openai_chars(str text) {
    uint64_t count = 0;
    for (size_t i = 0; i < text.n; i++) count += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    return count;
}

/* JSON has no infinity; OpenAI writes -9999 for "next to impossible". */
static float finite_logprob(float v) { return isfinite(v) ? v : -9999.0f; }

/* --- log-probabilities, chat form ----------------------------------------------------- */

static void put_token(json_writer *w, const wire_logprob *t) {
    json_kv_str(w, "token", t->bytes); /* what is no whole UTF-8 shows as U+FFFD */
    json_kv_f32(w, "logprob", finite_logprob(t->logprob));
    json_kv_array(w, "bytes");
    for (size_t i = 0; i < t->bytes.n; i++) json_uint(w, (unsigned char)t->bytes.p[i]);
    json_end_array(w);
}

void openai_logprobs_chat(json_writer *w, bool wanted, str blob) {
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    if (!wanted) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    json_kv_array(w, "content");
    while (wire_logprob_next(&blob, &token, top, &count)) {
        json_begin_object(w);
        put_token(w, &token);
        json_kv_array(w, "top_logprobs");
        for (uint8_t i = 0; i < count; i++) {
            json_begin_object(w);
            put_token(w, &top[i]);
            json_end_object(w);
        }
        json_end_array(w);
        json_end_object(w);
    }
    json_end_array(w);
    json_kv_null(w, "refusal");
    json_end_object(w);
}

/* --- log-probabilities, legacy form ------------------------------------------------------ */

enum { TOKEN_NAME_BYTES_MAX = 1024 };

/* The token's text; bytes that are no whole UTF-8 as "bytes:\xe2\x80", the way the legacy API
 * tells such tokens apart. */
static str token_name(str bytes, buf *room) {
    if (str_is_utf8(bytes)) return bytes;
    buf_clear(room);
    buf_put_str(room, S("bytes:"));
    for (size_t i = 0; i < bytes.n; i++) buf_printf(room, "\\x%02x", (unsigned char)bytes.p[i]);
    return buf_view(room);
}

typedef void (*put_entry)(json_writer *w, const wire_logprob *token, const wire_logprob *top,
                          uint8_t count, buf *room);

static void put_name(json_writer *w, const wire_logprob *token, const wire_logprob *top,
                     uint8_t count, buf *room) {
    (void)top;
    (void)count;
    json_str(w, token_name(token->bytes, room));
}

static void put_value(json_writer *w, const wire_logprob *token, const wire_logprob *top,
                      uint8_t count, buf *room) {
    (void)top;
    (void)count;
    (void)room;
    json_f32(w, finite_logprob(token->logprob));
}

/* Several ids may have the same bytes: the first, which is the likeliest, keeps the name. */
static bool is_repeated(const wire_logprob *top, uint8_t i) {
    for (uint8_t k = 0; k < i; k++)
        if (str_eq(top[k].bytes, top[i].bytes)) return true;
    return false;
}

static void put_top(json_writer *w, const wire_logprob *token, const wire_logprob *top,
                    uint8_t count, buf *room) {
    (void)token;
    json_begin_object(w);
    for (uint8_t i = 0; i < count; i++) {
        if (is_repeated(top, i)) continue;
        json_key(w, token_name(top[i].bytes, room));
        json_f32(w, finite_logprob(top[i].logprob));
    }
    json_end_object(w);
}

static void put_array(json_writer *w, const char *key, str blob, put_entry put) {
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    buf room;
    buf_init(&room, TOKEN_NAME_BYTES_MAX);
    json_kv_array(w, key);
    while (wire_logprob_next(&blob, &token, top, &count)) put(w, &token, top, count, &room);
    json_end_array(w);
    buf_deinit(&room);
}

static bool has_top(str blob) {
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    return wire_logprob_next(&blob, &token, top, &count) && count > 0;
}

static void put_offsets(json_writer *w, str blob, uint64_t offset) {
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    json_kv_array(w, "text_offset");
    while (wire_logprob_next(&blob, &token, top, &count)) {
        json_uint(w, offset);
        offset += openai_chars(token.bytes);
    }
    json_end_array(w);
}

void openai_logprobs_legacy(json_writer *w, bool wanted, str blob, uint64_t offset) {
    if (!wanted) {
        json_put_null(w);
        return;
    }
    json_begin_object(w);
    put_array(w, "tokens", blob, put_name);
    put_array(w, "token_logprobs", blob, put_value);
    if (has_top(blob))
        put_array(w, "top_logprobs", blob, put_top);
    else
        json_kv_null(w, "top_logprobs");
    put_offsets(w, blob, offset);
    json_end_object(w);
}

/* --- streams -------------------------------------------------------------------------------- */

void openai_stream_begin(gen_call *g) { gen_stream_begin(g, "text/event-stream"); }

void openai_send(gen_call *g, const buf *json) {
    if (json->failed) {
        gen_cut(g, "an event did not fit its buffer");
        return;
    }
    buf *out = &g->front->event;
    buf_clear(out);
    sse_event(out, buf_view(json));
    gen_write(g, out);
}

void openai_stream_end(gen_call *g, const char *object) {
    buf *out = front_scratch(g->front);
    if (g->include_usage) {
        json_writer w;
        json_writer_init(&w, out);
        openai_begin(&w, g, object);
        json_kv_array(&w, "choices");
        json_end_array(&w);
        openai_usage(&w, g);
        json_end_object(&w);
        openai_send(g, out);
    }
    buf_clear(out);
    sse_done(out);
    gen_write(g, out);
    gen_end(g);
}

void openai_on_error(gen_call *g, const api_fault *fault) {
    if (!g->begun) {
        front_refuse(g->front, g->http, fault);
        return;
    }
    buf *out = front_scratch(g->front);
    api_error_write(out, fault);
    openai_send(g, out);
    gen_end(g);
}
