/* gen.c - see gen.h.
 *
 * Everything that comes from below is looked at twice: wire has checked that the bytes are
 * a message, event_is_sound() checks that the message fits the state of its part.  An event
 * that does not fit condemns the part: its client gets an error, CANCEL goes down, and only
 * the end of the part is waited for. */
#include "api/gen.h"

#include <inttypes.h>
#include <stdio.h>

#include "api/front_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "net/sse.h"

enum { CODE_CLIENT_LEFT = 499 };

/* --- what goes down ------------------------------------------------------------- */

static bool send_cancel(front *f, model_entry *m, uint64_t id) {
    buf_clear(&f->frame);
    wire_put_cancel(&f->frame, &(gen_cancel){.id = id, .choice = GEN_CHOICE_ALL});
    return model_send_now(m, &f->frame);
}

static bool send_credit(front *f, model_entry *m, uint64_t id, uint32_t tokens) {
    buf_clear(&f->frame);
    wire_put_credit(&f->frame, &(gen_credit){.id = id, .tokens = tokens});
    return model_send_now(m, &f->frame);
}

/* Send what the part owes to the role; what finds no room stays owed. */
static void part_push(front *f, gen_part *p) {
    model_entry *m = p->call->model;
    if (p->cancel_due && send_cancel(f, m, p->id)) p->cancel_due = false;
    if (p->state != PART_ACCEPTED || p->due_tokens < (p->window_tokens + 1) / 2) return;
    if (!send_credit(f, m, p->id, p->due_tokens)) return;
    p->credit_tokens += p->due_tokens;
    p->due_tokens = 0;
}

static void part_condemn(front *f, gen_part *p) {
    if (p->state == PART_CONDEMNED) return;
    p->state = PART_CONDEMNED;
    p->cancel_due = true;
    part_push(f, p);
}

static void launch_waiting(front *f, const model_entry *m) {
    for (gen_call *g = f->table.calls; g != NULL; g = g->next)
        if (g->model == m && g->pending.n > 0) gen_launch(g);
}

void gen_resend(front *f, model_entry *m) {
    if (!model_flush(m)) return;
    launch_waiting(f, m);
    if (!m->owed) return;
    m->owed = false;
    for (uint32_t i = 0; i < f->table.parts_max && !m->owed; i++) {
        gen_part *p = &f->table.parts[i];
        if (p->state != PART_FREE && p->call->model == m) part_push(f, p);
    }
}

/* --- end of a call ---------------------------------------------------------------- */

static uint64_t ms_since(uint64_t begun_ns, uint64_t ns) {
    return ns > begun_ns ? (ns - begun_ns) / 1000000 : 0;
}

static void log_call(const gen_call *g) {
    uint32_t prompt = g->usage.prompt_tokens != 0 ? g->usage.prompt_tokens : g->prompt_tokens;
    log_info("api",
             "request id=%s model=%s endpoint=%s prompt_tokens=%u cached_tokens=%u "
             "output_tokens=%u queue_ms=%u ttft_ms=%" PRIu64 " total_ms=%" PRIu64
             " finish=%s code=%u",
             g->request_id, g->name, g->dialect->endpoint, prompt, g->usage.cached_tokens,
             g->tokens_seen, g->usage.queue_us / 1000, ms_since(g->begun_ns, g->first_ns),
             ms_since(g->begun_ns, os_now_ns()), g->finish, g->code);
}

/* A call without client and without parts is over. */
static void call_retire(gen_call *g) {
    if (g->http != NULL || g->parts_open > 0) return;
    front *f = g->front;
    log_call(g);
    metrics_call_ended(f, g);
    if (g->prev != NULL)
        g->prev->next = g->next;
    else
        f->table.calls = g->next;
    if (g->next != NULL) g->next->prev = g->prev;
    gen_call_free(g);
}

static void condemn_parts(gen_call *g) {
    gen_table *t = &g->front->table;
    buf_clear(&g->pending);
    for (uint32_t i = 0; i < g->parts_count; i++) {
        gen_part *p = &t->parts[g->parts[i]];
        if (p->call == g) part_condemn(g->front, p);
    }
}

/* The answer ends here with an error; what still runs below is cancelled. */
static void call_fail(gen_call *g, const api_fault *fault) {
    if (!g->over) {
        g->over = true;
        g->code = api_error_row_of(fault->kind)->http_status;
        g->finish = "error";
        if (g->http != NULL) g->dialect->on_error(g, fault);
    }
    condemn_parts(g);
}

static void part_end(gen_part *p) {
    gen_call *g = p->call;
    ASSERT(g->parts_open > 0);
    g->parts_open--;
    gen_part_give(&g->front->table, p);
}

/* --- answers, for dialects ----------------------------------------------------------- */

void gen_stream_begin(gen_call *g, const char *content_type) {
    if (g->begun) return;
    g->begun = true;
    if (g->http == NULL) return;
    metrics_count_request(&g->front->metrics, g->dialect->metrics, 200);
    http_header_add(g->http, "Cache-Control", "no-cache");
    http_stream_begin(g->http, 200, content_type);
}

void gen_cut(gen_call *g, const char *why) {
    if (g->cut || g->http == NULL) return;
    LOG_EVERY(1000, LOG_WARN, "api", "stream cut id=%s pending_bytes=%zu: %s", g->request_id,
              http_stream_pending(g->http), why);
    g->over = g->cut = true;
    g->code = CODE_CLIENT_LEFT;
    g->finish = "cut";
    http_stream_abort(g->http);
    condemn_parts(g);
}

void gen_write(gen_call *g, const buf *bytes) {
    if (g->http == NULL || g->cut) return;
    g->written_ms = front_now_ms(g->front);
    if (bytes->failed)
        gen_cut(g, "an event did not fit its buffer");
    else if (!http_stream_write(g->http, buf_view(bytes)))
        gen_cut(g, "the client is gone or does not read");
}

void gen_respond(gen_call *g, unsigned http_status, const buf *json) {
    if (g->http == NULL) return;
    front_reply(g->front, g->http, http_status, "application/json", json);
}

void gen_end(gen_call *g) {
    if (g->http != NULL && !g->cut) http_stream_end(g->http);
}

static size_t kept_bytes(const gen_event *e) {
    if (e->kind == GEN_CALL) return e->call.id.n + e->call.name.n + e->call.arguments.n;
    return e->text.text.n + e->text.logprobs.n;
}

bool gen_keep(gen_call *g, uint32_t choice, const gen_event *e) {
    gen_choice *c = &g->choices[choice];
    size_t more = kept_bytes(e);
    size_t limit = g->front->o.reply_bytes_max;
    bool fits = more <= limit && g->reply_bytes <= limit - more;
    if (fits) g->reply_bytes += more;
    if (fits && e->kind == GEN_CALL) {
        gen_calls_put(c, e);
    } else if (fits) {
        buf_put_str(&c->text, e->text.text);
        buf_put_str(&c->logprobs, e->text.logprobs);
    }
    if (fits && !c->text.failed && !c->logprobs.failed && !c->calls.failed) return true;
    api_fault fault;
    (void)api_fault_set(&fault, API_REPLY_LIMIT, NULL,
                        "the reply needs %zu bytes, a reply that is not streamed may have %zu",
                        g->reply_bytes + more, limit);
    call_fail(g, &fault);
    return false;
}

/* --- credits --------------------------------------------------------------------------- */

/* The socket has taken everything written so far: give the tokens back. */
static void settle(gen_call *g) {
    gen_table *t = &g->front->table;
    for (uint32_t i = 0; i < g->parts_count; i++) {
        gen_part *p = &t->parts[g->parts[i]];
        if (p->call != g) continue;
        p->due_tokens += p->unread_tokens;
        p->unread_tokens = 0;
        part_push(g->front, p);
    }
}

static void settle_if_drained(gen_call *g) {
    if (g->begun && g->http != NULL && http_stream_pending(g->http) == 0) settle(g);
}

void gen_drained(gen_call *g) {
    if (g->begun && !g->over) settle(g);
}

/* --- events ------------------------------------------------------------------------------ */

/* Keep an event of a stream whose other prompts are not accepted yet. */
static void keep_early(gen_call *g, const gen_part *p, const gen_event *e) {
    gen_event copy = *e;
    copy.id = p->prompt; /* the part may have ended when the event is delivered */
    wire_events_add(&g->early, &copy);
    error err;
    api_fault fault;
    if (buf_status(&g->early, "events before acceptance", &err) == OK) return;
    (void)api_fault_set(&fault, API_REPLY_LIMIT, NULL, "%s", err.msg);
    call_fail(g, &fault);
}

static void deliver(gen_call *g, uint32_t prompt, const gen_event *e) {
    uint32_t choice = prompt * g->n + e->choice;
    if (e->kind == GEN_TEXT) {
        g->dialect->on_text(g, choice, e);
    } else if (e->kind == GEN_CALL) {
        g->dialect->on_call(g, choice, e);
    } else if (e->finish.reason != GEN_FINISH_CANCELED) { /* that one ends in on_usage() */
        g->finished++;
        g->dialect->on_finish(g, choice);
    }
}

static void deliver_early(gen_call *g) {
    str body = buf_view(&g->early);
    gen_event e;
    bool more = true;
    while (!g->over && wire_get_event(&body, &e, &more, NULL) == OK && more) {
        deliver(g, (uint32_t)e.id, &e);
    }
    buf_deinit(&g->early);
}

static void on_accepted(gen_call *g, gen_part *p, const gen_event *e) {
    p->state = PART_ACCEPTED;
    g->accepted++;
    g->prompt_tokens += e->accepted.prompt_tokens;
    if (g->over || g->accepted < g->parts_count) return;
    g->dialect->on_accepted(g);
    if (!g->stream) return;
    deliver_early(g);
    settle_if_drained(g); /* nothing may have been worth a chunk */
}

/* When tokens came: for the time to the first one and the time between two. */
static void note_tokens(gen_call *g, gen_choice *c) {
    uint64_t now = os_now_ns();
    if (g->first_ns == 0) g->first_ns = now;
    if (c->last_ns != 0)
        metrics_observe_ns(&g->front->metrics, METRIC_INTER_TOKEN_SECONDS, now - c->last_ns);
    c->last_ns = now;
}

static void on_output(gen_call *g, gen_part *p, const gen_event *e) {
    if (e->kind == GEN_TEXT) {
        settle_if_drained(g);
        p->credit_tokens -= e->text.tokens;
        g->tokens_seen += e->text.tokens;
        if (e->text.tokens > 0) note_tokens(g, &g->choices[p->prompt * g->n + e->choice]);
        if (g->stream)
            p->unread_tokens += e->text.tokens;
        else
            p->due_tokens += e->text.tokens;
    } else if (e->kind == GEN_CALL) {
        if (e->call.id.n > 0) g->choices[p->prompt * g->n + e->choice].calls_count++;
    } else {
        gen_choice *c = &g->choices[p->prompt * g->n + e->choice];
        p->finished++;
        c->finished = true;
        c->reason = e->finish.reason;
    }
    if (g->over) return;
    if (g->stream && g->accepted < g->parts_count)
        keep_early(g, p, e);
    else
        deliver(g, p->prompt, e);
    settle_if_drained(g);
    if (!g->stream) part_push(g->front, p);
}

/* The values of one input, kept until all are there. */
static void on_vector(gen_call *g, const gen_part *p, const gen_event *e) {
    gen_event values = {.kind = GEN_TEXT};
    values.text.text = (str){e->vector.p, (size_t)e->vector.count * sizeof(float)};
    if (g->first_ns == 0) g->first_ns = os_now_ns();
    if (!g->over) (void)gen_keep(g, p->prompt, &values);
}

/* "stop", "length" and so on of the whole call, for the log. */
static const char *call_finish(const gen_call *g) {
    for (uint32_t i = 0; i < g->choices_count; i++)
        if (g->choices[i].reason == GEN_FINISH_CANCELED) return "canceled";
    for (uint32_t i = 0; i < g->choices_count; i++)
        if (g->choices[i].reason == GEN_FINISH_LENGTH || g->choices[i].reason == GEN_FINISH_CONTEXT)
            return "length";
    return "stop";
}

static void usage_add(gen_usage *sum, const gen_usage *u) {
    sum->prompt_tokens += u->prompt_tokens;
    sum->completion_tokens += u->completion_tokens;
    sum->cached_tokens += u->cached_tokens;
    sum->queue_us = num_max_u32(sum->queue_us, u->queue_us);
    sum->prompt_us = num_max_u32(sum->prompt_us, u->prompt_us);
    sum->decode_us = num_max_u32(sum->decode_us, u->decode_us);
}

static void on_usage(gen_call *g, gen_part *p, const gen_event *e) {
    usage_add(&g->usage, &e->usage);
    part_end(p);
    if (!g->over) gen_launch(g);
    if (g->parts_open > 0 || g->over) return;
    g->finish = call_finish(g);
    if (strcmp(g->finish, "canceled") == 0) {
        api_fault fault;
        (void)api_fault_set(&fault, API_CANCELED, NULL, "the server cancelled the generation");
        call_fail(g, &fault);
        return;
    }
    g->over = true;
    g->code = 200;
    g->dialect->on_done(g);
}

static void on_error(gen_call *g, gen_part *p, const gen_event *e) {
    api_fault fault;
    api_fault_from_event(&fault, e);
    part_end(p);
    call_fail(g, &fault);
}

/* Does the event fit the state of its part?  *why says what does not. */
static bool event_is_sound(const gen_part *p, const gen_event *e, const char **why) {
    const gen_call *g = p->call;
    bool accepted = p->state == PART_ACCEPTED;
    *why = NULL;
    if (e->kind == GEN_ERROR) return true;
    if (e->kind == GEN_ACCEPTED) {
        if (accepted) *why = "accepted twice";
    } else if (e->kind == GEN_TOKENS) {
        *why = "token ids came up to the front";
    } else if (!accepted) {
        *why = "an event before it was accepted";
    } else if (e->choice >= g->n) {
        *why = "a choice that was not asked for";
    } else if (e->kind == GEN_VECTOR) {
        if (g->kind == GEN_KIND_GENERATE || g->choices[p->prompt].text.n > 0)
            *why = "a vector that was not asked for";
    } else if (e->kind == GEN_TEXT || e->kind == GEN_CALL || e->kind == GEN_FINISH) {
        const gen_choice *c = &g->choices[p->prompt * g->n + e->choice];
        if (c->finished)
            *why = "more from a choice that is finished";
        else if (e->kind == GEN_CALL)
            *why = gen_calls_doubt(g, c, e);
        else if (e->kind == GEN_TEXT && e->text.tokens > p->credit_tokens)
            *why = "more tokens than it had credits for";
    } else if (e->kind == GEN_USAGE && p->finished < g->n) {
        *why = "usage before all choices were finished";
    }
    return *why == NULL;
}

static void on_unsound(gen_part *p, const gen_event *e, const char *why) {
    gen_call *g = p->call;
    g->front->table.malformed++;
    LOG_EVERY(1000, LOG_ERROR, "api", "protocol model=%s id=%s kind=%u: %s", g->model->name,
              g->request_id, (unsigned)e->kind, why);
    api_fault fault;
    (void)api_fault_set(&fault, API_INTERNAL, NULL, "the model's process sent %s", why);
    call_fail(g, &fault);
    if (e->kind == GEN_USAGE) part_end(p);
}

/* A part whose answer nobody waits for: only its end matters. */
static void on_condemned(gen_call *g, gen_part *p, const gen_event *e) {
    if (e->kind == GEN_TEXT) g->tokens_seen += e->text.tokens;
    if (e->kind == GEN_USAGE) usage_add(&g->usage, &e->usage);
    if (e->kind == GEN_USAGE || e->kind == GEN_ERROR) part_end(p);
}

static void apply(front *f, model_entry *m, const gen_event *e) {
    gen_part *p = gen_part_find(&f->table, m, e->id);
    if (p == NULL) {
        metrics_add(&f->metrics, METRIC_FRAMES_UNKNOWN_REQUEST_TOTAL, 1);
        return;
    }
    gen_call *g = p->call;
    const char *why = NULL;
    if (p->state == PART_CONDEMNED)
        on_condemned(g, p, e);
    else if (!event_is_sound(p, e, &why))
        on_unsound(p, e, why);
    else if (e->kind == GEN_ACCEPTED)
        on_accepted(g, p, e);
    else if (e->kind == GEN_TEXT || e->kind == GEN_CALL || e->kind == GEN_FINISH)
        on_output(g, p, e);
    else if (e->kind == GEN_VECTOR)
        on_vector(g, p, e);
    else if (e->kind == GEN_USAGE)
        on_usage(g, p, e);
    else if (e->kind == GEN_ERROR)
        on_error(g, p, e);
    call_retire(g);
}

void gen_take_events(front *f, model_entry *m, str body) {
    for (;;) {
        gen_event e;
        bool more = false;
        error err;
        if (wire_get_event(&body, &e, &more, &err) != OK) {
            gen_fail_all(f, m, err.msg);
            return;
        }
        if (!more) return;
        apply(f, m, &e);
    }
}

void gen_note_malformed(front *f, model_entry *m, const char *why) {
    f->table.malformed++;
    LOG_EVERY(1000, LOG_ERROR, "api", "protocol model=%s: %s", m->name, why);
}

void gen_fail_all(front *f, model_entry *m, const char *why) {
    gen_note_malformed(f, m, why);
    api_fault fault;
    (void)api_fault_set(&fault, API_INTERNAL, NULL,
                        "a message of the model's process was unreadable, text may be missing");
    for (gen_call *g = f->table.calls, *next = NULL; g != NULL; g = next) {
        next = g->next;
        if (g->model != m || g->parts_open == 0) continue;
        call_fail(g, &fault);
        call_retire(g);
    }
}

/* --- the client ------------------------------------------------------------------------- */

void gen_closed(gen_call *g, bool finished) {
    g->http = NULL;
    if (!finished) metrics_add(&g->front->metrics, METRIC_CLIENT_DISCONNECTS_TOTAL, 1);
    if (!finished && !g->over) {
        g->over = true;
        g->code = CODE_CLIENT_LEFT;
        g->finish = "canceled";
    }
    if (g->parts_open > 0) condemn_parts(g);
    call_retire(g);
}

/* Loading may take minutes, in which proxies and people give up on silence: the stream begins
 * before its prompt is accepted, with comments.  What is wrong with the prompt then comes as an
 * event of the stream. */
void gen_tell_loading(front *f, model_entry *m) {
    for (gen_call *g = f->table.calls, *next = NULL; g != NULL; g = next) {
        next = g->next;
        if (g->model != m || !g->stream || g->over || g->http == NULL) continue;
        char text[32];
        (void)snprintf(text, sizeof text, "loading %u %%", m->loading.permille / 10);
        gen_stream_begin(g, "text/event-stream");
        if (http_stream_pending(g->http) > 0) continue;
        buf *out = front_scratch(f);
        sse_comment(out, str_of(text));
        gen_write(g, out);
    }
}

void gen_ping_all(front *f) {
    uint64_t now = front_now_ms(f);
    for (gen_call *g = f->table.calls, *next = NULL; g != NULL; g = next) {
        next = g->next;
        if (!g->begun || g->over || g->http == NULL || now - g->written_ms < f->o.ping_ms) continue;
        if (http_stream_pending(g->http) > 0) continue; /* it has enough to read */
        buf *out = front_scratch(f);
        sse_comment(out, S("ping"));
        gen_write(g, out);
    }
}
