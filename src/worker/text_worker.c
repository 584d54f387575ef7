/* text_worker.c - see text_worker.h. */
#include "worker/text_worker.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/idmap.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "worker/text_calls.h"
#include "worker/text_prompt.h"
#include "worker/text_request.h"

enum {
    SCRATCH_BYTES_MAX = 1 << 20,
    FRAME_BYTES_SOFT = 256 << 10,
};

struct text_worker {
    text_worker_options opt;
    idmap requests;     /* text_request by id */
    buf in;             /* the frame being read */
    buf up;             /* frames for the front, not yet in the ring */
    buf down;           /* frames for the engine, not yet in the ring */
    text_prompt prompt; /* of the request being taken */
    text_scratch scratch;
    bool draining;
};

/* --- life cycle -------------------- */

status text_worker_create(text_worker **out, const text_worker_options *opt, error *err) {
    text_worker *w = mem_try_calloc(1, sizeof *w);
    if (w == NULL) return error_set(err, ERR_NOMEM, "text worker: no memory");
    w->opt = *opt;
    buf_init(&w->in, WIRE_FRAME_BYTES_MAX);
    buf_init(&w->up, WIRE_FRAME_BYTES_MAX);
    buf_init(&w->down, WIRE_FRAME_BYTES_MAX);
    text_prompt_init(&w->prompt);
    buf_init(&w->scratch.made, SCRATCH_BYTES_MAX);
    buf_init(&w->scratch.released, SCRATCH_BYTES_MAX);
    buf_init(&w->scratch.content, SCRATCH_BYTES_MAX);
    status st = idmap_init(&w->requests, opt->requests_max, err);
    if (st != OK) {
        mem_free(w);
        return st;
    }
    /* ordinary frames never have to find memory */
    if (buf_reserve(&w->up, SCRATCH_BYTES_MAX) == NULL ||
        buf_reserve(&w->down, SCRATCH_BYTES_MAX) == NULL) {
        text_worker_destroy(w);
        return error_set(err, ERR_NOMEM, "text worker: no memory for its frames");
    }
    wire_put_model(&w->up, &opt->desc);
    *out = w;
    return OK;
}

void text_worker_destroy(text_worker *w) {
    if (w == NULL) return;
    uint32_t at = 0;
    for (text_request *r; (r = idmap_next(&w->requests, &at)) != NULL;) text_request_destroy(r);
    idmap_deinit(&w->requests);
    buf *all[] = {
        &w->in, &w->up, &w->down, &w->scratch.made, &w->scratch.released, &w->scratch.content};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) buf_deinit(all[i]);
    text_prompt_deinit(&w->prompt);
    mem_free(w);
}

uint32_t text_worker_requests(const text_worker *w) { return w->requests.count; }

/* --- down: text to ids -------------------- */

static void send_event(text_worker *w, const gen_event *e) { wire_events_add(&w->up, e); }

static void send_error(text_worker *w, uint64_t id, status code, gen_fault fault, uint64_t have,
                       uint64_t limit, const char *message) {
    gen_event e = {.id = id, .kind = GEN_ERROR};
    e.error.code = code;
    e.error.fault = fault;
    e.error.have = have;
    e.error.limit = limit;
    e.error.message = str_of(message);
    send_event(w, &e);
}

static void forget(text_worker *w, text_request *t) {
    (void)idmap_remove(&w->requests, t->id);
    text_request_destroy(t);
}

/* Pass the request on as ids and remember it. */
static status forward_request(text_worker *w, const gen_request *r, error *err) {
    text_request *t = NULL;
    if (w->requests.count == w->requests.count_max)
        return error_set(err, ERR_BUSY, "%u requests are in flight, at most %u may be",
                         w->requests.count, w->requests.count_max);
    if (idmap_get(&w->requests, r->id) != NULL)
        return error_set(err, ERR_INTERNAL, "request id %" PRIu64 " is in use", r->id);
    TRY(text_request_create(&t, w->opt.tok, r, &w->prompt, err));
    idmap_add(&w->requests, r->id, t);
    gen_request below = *r;
    below.prompt = GEN_PROMPT_IDS;
    below.text = below.pair = (str){0};
    below.chat = (gen_chat){0};
    below.stops_count = 0;
    below.ids = text_prompt_ids(&w->prompt);
    wire_put_request(&w->down, &below);
    status st = buf_status(&w->down, "request", err);
    if (st != OK) forget(w, t);
    w->down.failed = w->down.no_memory = false; /* what was in it before is whole */
    return st;
}

/* False, with an ERROR event, when the prompt is too long.  The engine would say so, too, but
 * the ring to it need not hold what it would refuse. */
static bool prompt_fits(text_worker *w, gen_kind kind, uint64_t id, uint32_t count) {
    error err = {0};
    uint32_t ctx = w->opt.desc.ctx_max, limit = w->opt.prompt_tokens_max;
    uint32_t computed = w->opt.desc.embed_tokens_max;
    if (kind != GEN_KIND_GENERATE) {
        if (count <= computed) return true;
        (void)error_set(&err, ERR_LIMIT, "the input has %u tokens, at most %u are computed", count,
                        computed);
        limit = computed;
    } else if (count >= ctx) {
        (void)error_set(
            &err, ERR_LIMIT,
            "the prompt has %u tokens, the context holds %u and needs room for one more", count,
            ctx);
        limit = ctx;
    } else if (limit != 0 && count > limit) {
        (void)error_set(&err, ERR_LIMIT, "the prompt has %u tokens, at most %u are allowed here",
                        count, limit);
    } else {
        return true;
    }
    send_error(w, id, ERR_LIMIT, text_prompt_too_long(kind), count, limit, err.msg);
    return false;
}

/* The front knows the vocabulary's size only once the model is loaded, so it looks again here. */
static status check_ids(const text_worker *w, wire_array ids, const char *what, error *err) {
    for (uint32_t i = 0; i < ids.count; i++) {
        int32_t id = wire_i32_at(ids, i);
        if (!tok_is_valid(w->opt.tok, id))
            return error_set(err, ERR_INVALID, "%s: %u is token %d, the vocabulary has %u", what, i,
                             id, tok_vocab_count(w->opt.tok));
    }
    return OK;
}

static void take_request(text_worker *w, const gen_request *r) {
    error err = {0};
    gen_fault fault = GEN_FAULT_NONE;
    status st = text_prompt_make(&w->prompt, &w->opt, r, &fault, &err);
    uint32_t count = text_prompt_ids(&w->prompt).count;
    if (st != OK) {
        send_error(w, r->id, st, fault, 0, w->opt.desc.ctx_max, err.msg);
        return;
    }
    if (!prompt_fits(w, r->kind, r->id, count)) return;
    st = check_ids(w, text_prompt_ids(&w->prompt), "prompt", &err);
    if (st == OK) st = check_ids(w, r->sampling.bias_ids, "logit_bias", &err);
    if (st == OK) st = check_ids(w, r->sampling.stop_ids, "stop_token_ids", &err);
    if (st == OK) st = check_ids(w, r->sampling.allowed_ids, "allowed_token_ids", &err);
    if (st != OK) {
        send_error(w, r->id, st, GEN_FAULT_PROMPT, 0, count, err.msg);
        return;
    }
    st = forward_request(w, r, &err);
    if (st == OK) return;
    send_error(w, r->id, st, st == ERR_BUSY ? GEN_FAULT_QUEUE_FULL : GEN_FAULT_NONE,
               w->requests.count, w->requests.count_max, err.msg);
}

/* A request that makes no sense is answered, if it has as much as an id. */
static status refuse_unread(text_worker *w, str body, const error *why) {
    uint64_t id = 0;
    if (body.n < sizeof id) return why->code;
    memcpy(&id, body.p, sizeof id);
    send_error(w, id, ERR_INVALID, GEN_FAULT_NONE, 0, 0, why->msg);
    return why->code;
}

static status take_from_front(text_worker *w, wire_type type, str body, error *err) {
    gen_request r;
    gen_cancel cancel;
    gen_credit credit;
    adapter_order order;
    profile_order profile;
    switch (type) {
    case WIRE_REQUEST:
        if (wire_get_request(body, &r, err) != OK) return refuse_unread(w, body, err);
        take_request(w, &r);
        text_prompt_trim(&w->prompt); /* small ones do not need what a large one needed */
        return OK;
    case WIRE_CANCEL:
        TRY(wire_get_cancel(body, &cancel, err));
        wire_put_cancel(&w->down, &cancel);
        return OK;
    case WIRE_CREDIT:
        TRY(wire_get_credit(body, &credit, err));
        wire_put_credit(&w->down, &credit);
        return OK;
    case WIRE_ADAPTER:
        TRY(wire_get_adapter(body, &order, err));
        wire_put_adapter(&w->down, &order);
        return OK;
    case WIRE_PROFILE:
        TRY(wire_get_profile(body, &profile, err));
        wire_put_profile(&w->down, &profile);
        return OK;
    case WIRE_DRAIN:
        w->draining = true;
        wire_put_drain(&w->down);
        return OK;
    default:
        return error_set(err, ERR_FORMAT, "wire: message type %d comes from below", type);
    }
}

/* --- up: ids to text -------------------- */

/* `last`: nothing of this choice comes any more.  True when a call ended its answer. */
static bool send_piece(text_worker *w, text_request *t, uint16_t choice, const text_piece *piece,
                       uint32_t tokens, bool last) {
    text_choice *c = &t->choices[choice];
    bool ended = false;
    if (t->calls != TOOL_FAMILY_NONE) {
        text_out out = {.up = &w->up, .content = &w->scratch.content, .t = t, .choice = choice};
        ended = text_calls_send(&out, piece, tokens, last);
    } else if (tokens > 0 || piece->text.n > 0 || piece->logprobs.n > 0) {
        gen_event e = {.id = t->id, .choice = choice, .kind = GEN_TEXT};
        e.text.tokens = tokens;
        e.text.text = piece->text;
        e.text.logprobs = piece->logprobs;
        send_event(w, &e);
    }
    text_choice_sent(c, piece);
    return ended;
}

static void send_finish(text_worker *w, uint64_t id, uint16_t choice, gen_finish reason, str stop) {
    gen_event e = {.id = id, .choice = choice, .kind = GEN_FINISH};
    e.finish.reason = reason;
    e.finish.stop = stop;
    send_event(w, &e);
}

/* The text role ends a choice that the engine goes on with. */
static void end_choice(text_worker *w, text_request *t, uint16_t choice, gen_finish reason,
                       str stop) {
    t->choices[choice].done = true;
    send_finish(w, t->id, choice, reason, stop);
    wire_put_cancel(&w->down, &(gen_cancel){.id = t->id, .choice = choice});
}

/* Every token is reported, also when its text is held back: its credit has to return.  The
 * credits of tokens behind a stop string return from here, since nobody above sees them. */
static void take_tokens(text_worker *w, text_request *t, const gen_event *e) {
    text_choice *c = &t->choices[e->choice];
    uint32_t i = 0;
    for (; i < e->tokens.ids.count && !c->done; i++) {
        text_piece piece;
        text_choice_push(c, e, i, &w->scratch, &piece);
        if (send_piece(w, t, e->choice, &piece, 1, piece.stopped))
            end_choice(w, t, e->choice, GEN_FINISH_CALL, (str){0});
        else if (piece.stopped)
            end_choice(w, t, e->choice, GEN_FINISH_STOP_STRING, piece.stop);
    }
    uint32_t unseen = e->tokens.ids.count - i;
    if (unseen > 0) wire_put_credit(&w->down, &(gen_credit){.id = t->id, .tokens = unseen});
}

static void take_finish(text_worker *w, text_request *t, const gen_event *e) {
    text_choice *c = &t->choices[e->choice];
    if (c->done) return; /* a stop string was first */
    c->done = true;
    text_piece piece;
    text_choice_finish(c, &w->scratch, &piece);
    (void)send_piece(w, t, e->choice, &piece, 0, true);
    send_finish(w, t->id, e->choice, e->finish.reason, (str){0});
}

static void send_echo(text_worker *w, const text_request *t) {
    for (uint32_t i = 0; i < t->choices_count && t->echo.n > 0; i++) {
        gen_event e = {.id = t->id, .choice = (uint16_t)i, .kind = GEN_TEXT};
        e.text.text = buf_view(&t->echo);
        send_event(w, &e);
    }
}

/* The engine may have run past a stop string: what counts is what the text used. */
static void send_usage(text_worker *w, const text_request *t, gen_event *e) {
    e->usage.completion_tokens = 0;
    for (uint32_t i = 0; i < t->choices_count; i++)
        e->usage.completion_tokens += t->choices[i].tokens;
    send_event(w, e);
}

static void take_event(text_worker *w, gen_event *e) {
    text_request *t = idmap_get(&w->requests, e->id);
    if (t == NULL || e->choice >= t->choices_count) return;
    switch (e->kind) {
    case GEN_TOKENS:
        take_tokens(w, t, e);
        break;
    case GEN_FINISH:
        take_finish(w, t, e);
        break;
    case GEN_ACCEPTED:
        send_event(w, e);
        send_echo(w, t);
        break;
    case GEN_PROGRESS:
    case GEN_PAUSED:
    case GEN_VECTOR:
        send_event(w, e);
        break;
    case GEN_USAGE:
        send_usage(w, t, e);
        forget(w, t);
        break;
    case GEN_ERROR:
        send_event(w, e);
        forget(w, t);
        break;
    case GEN_TEXT:
    case GEN_CALL:
    case GEN_EVENT_END:
        break; /* text and calls come from this role only */
    }
}

static status take_from_engine(text_worker *w, wire_type type, str body, error *err) {
    if (type == WIRE_STATUS || type == WIRE_ADAPTER_STATE || type == WIRE_PROFILE_REPORT) {
        buf_put_str(&w->up, buf_view(&w->in));
        return OK;
    }
    if (type != WIRE_EVENTS)
        return error_set(err, ERR_FORMAT, "wire: message type %d comes from above", type);
    size_t frame = wire_events_begin(&w->up);
    status st = OK;
    for (bool more = true; st == OK && more;) {
        gen_event e;
        st = wire_get_event(&body, &e, &more, err);
        if (st == OK && more) take_event(w, &e);
        if (w->up.n - frame > FRAME_BYTES_SOFT) { /* a frame has to fit the ring */
            wire_events_end(&w->up, frame);
            frame = wire_events_begin(&w->up);
        }
    }
    wire_events_end(&w->up, frame);
    return st;
}

/* --- the loop -------------------- */

/* Next frame from a ring, opened; false when there is none or it is bad. */
static bool next_message(text_worker *w, ring *from, wire_type *type, str *body) {
    error err = {0};
    bool got = false;
    status st = link_recv(from, &w->in, &got, &err);
    if (st == OK && got) st = wire_open(buf_view(&w->in), type, body, &err);
    if (st != OK) LOG_EVERY(1000, LOG_ERROR, "text", "bad frame: %s", err.msg);
    return st == OK && got;
}

static bool flush_up(text_worker *w) { return link_flush(w->opt.front->up, &w->up); }
static bool flush_down(text_worker *w) { return link_flush(w->opt.engine->down, &w->down); }

/* Events were lost on the way up: whoever waits for text would wait for ever or miss some. */
static void fail_all(text_worker *w, const char *why) {
    uint32_t at = 0;
    for (text_request *t; (t = idmap_next(&w->requests, &at)) != NULL; at = 0) {
        wire_put_cancel(&w->down, &(gen_cancel){.id = t->id, .choice = GEN_CHOICE_ALL});
        send_error(w, t->id, ERR_INTERNAL, GEN_FAULT_NONE, 0, 0, why);
        forget(w, t);
    }
}

/* One message up; needs room above only. */
static bool tick_up(text_worker *w) {
    wire_type type;
    str body;
    error err = {0};
    if (!flush_up(w) || !next_message(w, w->opt.engine->up, &type, &body)) return false;
    if (take_from_engine(w, type, body, &err) != OK) {
        LOG_EVERY(1000, LOG_ERROR, "text", "bad message from the engine: %s", err.msg);
        size_t frame = wire_events_begin(&w->up);
        fail_all(w, "a message of the engine was unreadable, text may be missing");
        wire_events_end(&w->up, frame);
    }
    (void)flush_up(w);
    (void)flush_down(w);
    return true;
}

/* One message down; needs room on both sides, since it may be answered at once. */
static bool tick_down(text_worker *w) {
    wire_type type;
    str body;
    error err = {0};
    if (!flush_up(w) || !flush_down(w)) return false;
    if (!next_message(w, w->opt.front->down, &type, &body)) return false;
    size_t frame = wire_events_begin(&w->up);
    if (take_from_front(w, type, body, &err) != OK)
        LOG_EVERY(1000, LOG_ERROR, "text", "bad message from the front: %s", err.msg);
    wire_events_end(&w->up, frame);
    (void)flush_up(w);
    if (flush_down(w)) buf_trim(&w->down, SCRATCH_BYTES_MAX);
    buf_clear(&w->in);
    buf_trim(&w->in, SCRATCH_BYTES_MAX);
    return true;
}

bool text_worker_tick(text_worker *w) {
    bool up = tick_up(w);
    return tick_down(w) || up;
}

void text_worker_run(text_worker *w) {
    enum { IDLE_MS = 250 };
    const text_worker_options *o = &w->opt;
    while (!w->draining || w->down.n > 0) {
        if (text_worker_tick(w)) continue;
        int fds[] = {ring_fd(o->front->down), ring_fd(o->engine->up), ring_room_fd(o->front->up),
                     ring_room_fd(o->engine->down)};
        os_wait(fds, 4, IDLE_MS);
        for (int i = 0; i < 4; i++) os_event_clear(fds[i]);
    }
}
