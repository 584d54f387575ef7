/* text_request.c - see text_request.h. */
#include "worker/text_request.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "text/chat.h"

enum {
    LOGPROBS_BYTES_MAX = 1 << 20,
    ECHO_BYTES_MAX = 512 << 10, /* over all choices: it travels in one frame */
};

static bool prompt_has_text(const tokenizer *tok, wire_array prompt) {
    for (uint32_t i = 0; i < prompt.count; i++)
        if (!tok_is_control(tok, wire_i32_at(prompt, i))) return true;
    return false;
}

static status add_stops(text_request *t, const gen_request *r, bool plain_chat, error *err) {
    stop_set_init(&t->stops);
    for (uint32_t i = 0; i < r->stops_count; i++) TRY(stop_set_add(&t->stops, r->stops[i], err));
    /* the plain chat template ends where the next user line would begin */
    if (plain_chat) TRY(stop_set_add(&t->stops, S(CHAT_PLAIN_STOP), err));
    return OK;
}

static status init_choice(text_request *t, text_choice *c, const tokenizer *tok,
                          const gen_request *r, bool at_start, bool plain_chat, error *err) {
    c->trim = plain_chat && !r->chat.continue_final;
    detok_init(&c->detok, tok, at_start);
    stop_match_init(&c->match, &t->stops);
    c->marks = &t->marks;
    tool_parser_init(&c->parser, t->calls, r->chat.one_call);
    buf_init(&c->logprobs, LOGPROBS_BYTES_MAX);
    if (!r->sampling.logprobs) return OK;
    c->held = mem_try_calloc(HELD_LOGPROBS_MAX, sizeof *c->held);
    return c->held != NULL ? OK
                           : error_set(err, ERR_NOMEM, "text: no memory for log-probabilities");
}

static status take_echo(text_request *t, const tokenizer *tok, wire_array prompt, error *err) {
    detok d;
    detok_init(&d, tok, true);
    for (uint32_t i = 0; i < prompt.count; i++) detok_push(&d, wire_i32_at(prompt, i), &t->echo);
    detok_finish(&d, &t->echo);
    if (!t->echo.failed) return OK;
    return error_set(err, ERR_INVALID, "echo: the prompt for %u choices is more than %d bytes",
                     t->choices_count, ECHO_BYTES_MAX);
}

status text_request_create(text_request **out, const tokenizer *tok, const gen_request *r,
                           const text_prompt *prompt, error *err) {
    text_request *t = mem_try_calloc(1, sizeof *t + r->choices * sizeof t->choices[0]);
    if (t == NULL) return error_set(err, ERR_NOMEM, "text: no memory for a request");
    wire_array ids = text_prompt_ids(prompt);
    t->id = r->id;
    t->calls = prompt->calls;
    t->choices_count = r->choices;
    buf_init(&t->echo, ECHO_BYTES_MAX / r->choices);
    bool at_start = !prompt_has_text(tok, ids);
    status st = add_stops(t, r, prompt->plain_chat, err);
    if (st == OK) st = tool_marks_init(&t->marks, t->calls, tok, err);
    for (uint32_t i = 0; i < r->choices && st == OK; i++)
        st = init_choice(t, &t->choices[i], tok, r, at_start, prompt->plain_chat, err);
    if (st == OK && r->echo) st = take_echo(t, tok, ids, err);
    if (st != OK) {
        text_request_destroy(t);
        return st;
    }
    *out = t;
    return OK;
}

void text_request_destroy(text_request *t) {
    if (t == NULL) return;
    for (uint32_t i = 0; i < t->choices_count; i++) {
        buf_deinit(&t->choices[i].logprobs);
        mem_free(t->choices[i].held);
        tool_parser_deinit(&t->choices[i].parser);
    }
    buf_deinit(&t->echo);
    mem_free(t);
}

/* --- log-probabilities -------------------- */

static wire_logprob entry_of(const tokenizer *tok, int32_t id, float logprob,
                             char bytes[TOK_PIECE_BYTES_MAX]) {
    size_t n = tok_piece_bytes(tok, id, true, bytes);
    return (wire_logprob){.bytes = {bytes, n}, .id = id, .logprob = logprob};
}

/* Keep the entry of token i until the text before it is out. */
static void hold_logprob(text_choice *c, const gen_event *e, uint32_t i) {
    char bytes[TOK_PIECE_BYTES_MAX], top_bytes[WIRE_TOP_LOGPROBS_MAX][TOK_PIECE_BYTES_MAX];
    wire_logprob top[WIRE_TOP_LOGPROBS_MAX];
    if (c->held == NULL || e->tokens.logprobs.count == 0 || c->held_count == HELD_LOGPROBS_MAX)
        return;
    const tokenizer *tok = c->detok.tokens;
    wire_logprob token =
        entry_of(tok, wire_i32_at(e->tokens.ids, i), wire_f32_at(e->tokens.logprobs, i), bytes);
    for (uint8_t k = 0; k < e->tokens.top; k++) {
        uint32_t at = i * e->tokens.top + k;
        top[k] = entry_of(tok, wire_i32_at(e->tokens.top_ids, at),
                          wire_f32_at(e->tokens.top_logprobs, at), top_bytes[k]);
    }
    size_t before = c->logprobs.n;
    wire_logprob_put(&c->logprobs, &token, top, e->tokens.top);
    if (c->logprobs.failed) return;
    c->held[c->held_count++] =
        (held_logprob){.text_at = c->pushed, .bytes = (uint32_t)(c->logprobs.n - before)};
}

/* Entries whose token's text has begun to come out; all of them when nothing is held. */
static str released_logprobs(const text_choice *c, uint64_t released, bool everything) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < c->held_count; i++) {
        if (!everything && c->held[i].text_at >= released) break;
        bytes += c->held[i].bytes;
    }
    return (str){c->logprobs.p, bytes};
}

void text_choice_sent(text_choice *c, const text_piece *piece) {
    size_t bytes = 0;
    uint32_t n = 0;
    while (bytes < piece->logprobs.n) bytes += c->held[n++].bytes;
    ASSERT(bytes == piece->logprobs.n);
    for (uint32_t i = n; i < c->held_count; i++) c->held[i - n] = c->held[i];
    c->held_count -= n;
    buf_drop_front(&c->logprobs, bytes);
}

/* --- text -------------------- */

/* Run what detok made through the stop strings; true when one is complete. */
static bool release(text_choice *c, text_scratch *scratch, text_piece *out) {
    c->pushed += scratch->made.n;
    out->stopped = stop_push(&c->match, buf_view(&scratch->made), &scratch->released);
    if (!out->stopped) return false;
    const stop_string *s = &c->match.set->strings[c->match.hit];
    out->stop = (str){s->text, s->bytes};
    return true;
}

static void begin_piece(text_scratch *scratch, text_piece *out) {
    *out = (text_piece){0};
    buf_clear(&scratch->made);
    buf_clear(&scratch->released);
}

/* `everything`: no text is held, so no entry has to wait for any. */
static void end_piece(text_choice *c, const text_scratch *scratch, bool everything,
                      text_piece *out) {
    out->text = buf_view(&scratch->released);
    c->released += out->text.n;
    while (c->trim && out->text.n > 0) { /* "Assistant:" is followed by a blank */
        c->trim = out->text.p[0] == ' ' || out->text.p[0] == '\n';
        if (c->trim) out->text = str_skip(out->text, 1);
    }
    out->logprobs = released_logprobs(c, c->released, everything);
}

/* A token's text.  Markers of calls show also where they are control tokens. */
static void push_token(text_choice *c, int32_t id, buf *made) {
    str mark = tool_marks_text(c->marks, id);
    if (mark.n == 0) {
        detok_push(&c->detok, id, made);
        return;
    }
    detok_finish(&c->detok, made);
    buf_put_str(made, mark);
}

void text_choice_push(text_choice *c, const gen_event *e, uint32_t i, text_scratch *scratch,
                      text_piece *out) {
    begin_piece(scratch, out);
    hold_logprob(c, e, i);
    push_token(c, wire_i32_at(e->tokens.ids, i), &scratch->made);
    c->tokens++;
    bool stopped = release(c, scratch, out);
    end_piece(c, scratch, !stopped && c->match.held_bytes == 0 && c->detok.held == 0, out);
}

void text_choice_finish(text_choice *c, text_scratch *scratch, text_piece *out) {
    begin_piece(scratch, out);
    detok_finish(&c->detok, &scratch->made);
    bool stopped = release(c, scratch, out);
    if (!stopped) stop_finish(&c->match, &scratch->released);
    end_piece(c, scratch, !stopped, out);
}
