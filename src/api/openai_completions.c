/* openai_completions.c - POST /v1/completions, the legacy form: prompts as text or ids. */
#include "api/front_internal.h"
#include "api/openai.h"

/* --- body ----------------------------------------------------------------------------- */

/* `logprobs` is how many alternatives; 0 still wants those of the chosen tokens. */
static status read_logprobs(openai_body *b, error *err) {
    gen_sampling *s = &b->spec->request.sampling;
    uint32_t top = UINT32_MAX;
    TRY(json_get_u32(&b->f, "logprobs", 0, WIRE_TOP_LOGPROBS_MAX, &top, err));
    if (top == UINT32_MAX) return OK;
    if (b->spec->request.echo)
        return error_set(err, ERR_UNSUPPORTED,
                         "logprobs: log-probabilities of an echoed prompt are not supported");
    s->logprobs = true;
    s->top_logprobs = (uint8_t)top;
    return OK;
}

static status check_best_of(openai_body *b, error *err) {
    uint32_t n = b->spec->request.choices, best_of = n;
    TRY(json_get_u32(&b->f, "best_of", 1, WIRE_CHOICES_MAX, &best_of, err));
    if (best_of == n) return OK;
    return error_set(err, ERR_UNSUPPORTED, "best_of: is %u, n is %u; only equal ones are supported",
                     best_of, n);
}

enum { TOKENS_MAX_DEFAULT = 16 }; /* the default of the legacy API */

static status read_completion(openai_body *b, error *err) {
    gen_request *r = &b->spec->request;
    r->sampling.tokens_max = TOKENS_MAX_DEFAULT;
    r->add_special = r->parse_special = true;
    TRY(json_get_u32(&b->f, "max_tokens", 1, UINT32_MAX - 1, &r->sampling.tokens_max, err));
    TRY(json_get_bool(&b->f, "add_special_tokens", &r->add_special, err));
    TRY(json_get_bool(&b->f, "echo", &r->echo, err));
    TRY(read_logprobs(b, err));
    TRY(check_best_of(b, err));
    TRY(openai_refuse(b, "chat_template", "completions have none", err));
    TRY(openai_refuse(b, "suffix", "text after the completion is not supported", err));
    return openai_read_inputs(b, "prompt", GEN_PROMPTS_MAX, err);
}

bool openai_completions_parse(str body, arena *a, gen_spec *out, api_fault *fault) {
    return openai_parse(body, a, out, fault, read_completion);
}

/* --- answers ------------------------------------------------------------------------------ */

static void write_choice(json_writer *w, const gen_call *g, uint32_t i, str text, str logprobs) {
    json_begin_object(w);
    json_kv_uint(w, "index", i);
    json_kv_str(w, "text", text);
    json_key(w, S("logprobs"));
    bool wanted = g->logprobs && (logprobs.n > 0 || !g->stream);
    openai_logprobs_legacy(w, wanted, logprobs, g->choices[i].chars);
}

static void reply(gen_call *g) {
    buf *out = front_scratch(g->front);
    json_writer w;
    json_writer_init(&w, out);
    openai_begin(&w, g, "text_completion");
    json_kv_array(&w, "choices");
    for (uint32_t i = 0; i < g->choices_count; i++) {
        const gen_choice *c = &g->choices[i];
        write_choice(&w, g, i, buf_view(&c->text), buf_view(&c->logprobs));
        json_kv_str(&w, "finish_reason", openai_finish_name(c->reason));
        json_end_object(&w);
    }
    json_end_array(&w);
    openai_usage(&w, g);
    openai_timings(&w, g);
    json_end_object(&w);
    gen_respond(g, 200, out);
}

static void send_chunk(gen_call *g, uint32_t choice, str text, str logprobs, str finish) {
    buf *out = front_scratch(g->front);
    json_writer w;
    json_writer_init(&w, out);
    openai_begin(&w, g, "text_completion");
    json_kv_array(&w, "choices");
    write_choice(&w, g, choice, text, logprobs);
    if (finish.n > 0)
        json_kv_str(&w, "finish_reason", finish);
    else
        json_kv_null(&w, "finish_reason");
    json_end_object(&w);
    json_end_array(&w);
    if (g->include_usage) json_kv_null(&w, "usage");
    if (g->over) openai_timings(&w, g);
    json_end_object(&w);
    openai_send(g, out);
}

static void completions_on_accepted(gen_call *g) {
    if (g->stream) openai_stream_begin(g);
}

/* Where the text after these bytes begins; of plain replies only what has no log-probabilities
 * (an echoed prompt) counts, the rest is added while they are written. */
static void move_offset(gen_call *g, uint32_t choice, const gen_event *e) {
    if (g->stream || e->text.logprobs.n == 0)
        g->choices[choice].chars += openai_chars(e->text.text);
}

static void completions_on_text(gen_call *g, uint32_t choice, const gen_event *e) {
    if (!g->stream)
        (void)gen_keep(g, choice, e);
    else if (e->text.text.n > 0 || e->text.logprobs.n > 0)
        send_chunk(g, choice, e->text.text, e->text.logprobs, S(""));
    move_offset(g, choice, e);
}

static void send_finish(gen_call *g, uint32_t choice) {
    send_chunk(g, choice, S(""), S(""), openai_finish_name(g->choices[choice].reason));
}

static void completions_on_finish(gen_call *g, uint32_t choice) {
    if (g->stream && g->finished < g->choices_count)
        send_finish(g, choice);
    else
        g->last_choice = choice; /* goes out in on_done, with the timings */
}

static void completions_on_done(gen_call *g) {
    if (!g->stream) {
        reply(g);
        return;
    }
    send_finish(g, g->last_choice);
    openai_stream_end(g, "text_completion");
}

static const dialect_ops COMPLETIONS = {
    .endpoint = "/v1/completions",
    .metrics = METRICS_ENDPOINT_COMPLETIONS,
    .id_prefix = "cmpl-",
    .parse = openai_completions_parse,
    .on_accepted = completions_on_accepted,
    .on_text = completions_on_text,
    .on_finish = completions_on_finish,
    .on_done = completions_on_done,
    .on_error = openai_on_error,
};

void openai_completions_handle(front *f, http_call *c, str tail) {
    (void)tail;
    gen_start(f, c, &COMPLETIONS);
}
