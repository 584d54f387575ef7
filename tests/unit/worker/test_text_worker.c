/* test_text_worker.c - text_worker.h between a front and an engine that the test plays. */
#include "worker/text_worker.h"

#include <stdlib.h>

#include "test.h"
#include "text/detok.h"
#include "text/small_vocab.h"
#include "wire/wire.h"

enum { EVENTS_MAX = 64, TEXT_MAX = 4096 };
enum { HI = SMALL_FIRST, YO, END, E, ND, MARK = ND + 3 };

typedef struct rig {
    small_vocab v;
    tokenizer *tok;
    chat_template *chat;
    wire_link front, engine;
    text_worker *w;
    buf out, in;
    /* what came up last */
    gen_event events[EVENTS_MAX];
    uint32_t events_count;
    char text[TEXT_MAX]; /* all TEXT pieces of choice 0 */
    char kept[TEXT_MAX]; /* what the events point into */
    size_t kept_bytes;
} rig;

/* Its chat template is that text, or the plain one. */
static rig *open_rig(const char *jinja, size_t up_bytes) {
    rig *r = calloc(1, sizeof *r);
    error err = {0};
    small_init(&r->v);
    (void)small_add_piece(&r->v, "\xE2\x96\x81hi", 0); /* HI */
    (void)small_add_piece(&r->v, "\xE2\x96\x81yo", 0); /* YO */
    (void)small_add_piece(&r->v, "END", 0);            /* END */
    (void)small_add_piece(&r->v, "E", 0);              /* E */
    (void)small_add_piece(&r->v, "ND", 0);             /* ND */
    (void)small_add_piece(&r->v, "hi", 0);             /* a word is merged from its parts */
    (void)small_add_piece(&r->v, "yo", 0);
    (void)small_add(&r->v, S("<tool_call>"), 0, TOK_TYPE_CONTROL); /* MARK */
    CHECK_EQ(tok_create(&r->tok, &r->v.vocab, &err), OK);
    chat_source source = {.kind = jinja != NULL ? CHAT_KIND_JINJA : CHAT_KIND_PLAIN,
                          .text = str_of(jinja),
                          .tok = r->tok};
    CHECK_EQ(chat_template_create(&r->chat, &source, &err), OK);
    CHECK_EQ(link_open(&r->front, 1 << 16, up_bytes, &err), OK);
    CHECK_EQ(link_open(&r->engine, 1 << 16, 1 << 16, &err), OK);
    text_worker_options o = {.tok = r->tok,
                             .chat = r->chat,
                             .desc = {.name = "m", .ctx_max = 64, .embed_tokens_max = 48},
                             .requests_max = 4,
                             .front = &r->front,
                             .engine = &r->engine};
    CHECK_EQ(text_worker_create(&r->w, &o, &err), OK);
    buf_init(&r->out, 1 << 20);
    buf_init(&r->in, 1 << 20);
    return r;
}

static void close_rig(rig *r) {
    text_worker_destroy(r->w);
    link_close(&r->front);
    link_close(&r->engine);
    chat_template_destroy(r->chat);
    tok_destroy(r->tok);
    buf_deinit(&r->out);
    buf_deinit(&r->in);
    free(r);
}

static void run(rig *r) {
    while (text_worker_tick(r->w)) {
    }
}

/* A copy of s that lives as long as the rig. */
static str keep(rig *r, str s) {
    char *at = r->kept + r->kept_bytes;
    if (r->kept_bytes + s.n > TEXT_MAX) return S("(too much)");
    if (s.n > 0) memcpy(at, s.p, s.n);
    r->kept_bytes += s.n;
    return (str){at, s.n};
}

static void keep_event(rig *r, gen_event e) {
    if (r->events_count == EVENTS_MAX) return;
    if (e.kind == GEN_TEXT) {
        e.text.text = keep(r, e.text.text);
        e.text.logprobs = keep(r, e.text.logprobs);
        if (e.choice == 0) (void)strncat(r->text, e.text.text.p, e.text.text.n);
    } else if (e.kind == GEN_CALL) {
        e.call.id = keep(r, e.call.id);
        e.call.name = keep(r, e.call.name);
        e.call.arguments = keep(r, e.call.arguments);
    } else if (e.kind == GEN_FINISH) {
        e.finish.stop = keep(r, e.finish.stop);
    } else if (e.kind == GEN_ERROR) {
        e.error.message = keep(r, e.error.message);
    }
    r->events[r->events_count++] = e;
}

/* Everything the front would see now. */
static void read_front(rig *r) {
    error err = {0};
    bool got = true;
    while (link_recv(r->front.up, &r->in, &got, &err) == OK && got) {
        wire_type type;
        str body;
        CHECK_EQ(wire_open(buf_view(&r->in), &type, &body, &err), OK);
        for (bool more = type == WIRE_EVENTS; more;) {
            gen_event e;
            CHECK_EQ(wire_get_event(&body, &e, &more, &err), OK);
            if (more) keep_event(r, e);
        }
        run(r);
    }
}

static void send(rig *r, const gen_request *q) {
    wire_put_request(&r->out, q);
    CHECK(link_flush(r->front.down, &r->out));
    run(r);
}

/* The next message for the engine; its body stays in r->in. */
static wire_type next_below(rig *r, str *body) {
    error err = {0};
    bool got = false;
    wire_type type = WIRE_TYPE_END;
    CHECK_EQ(link_recv(r->engine.down, &r->in, &got, &err), OK);
    if (got) CHECK_EQ(wire_open(buf_view(&r->in), &type, body, &err), OK);
    return type;
}

static void engine_says(rig *r, const gen_event *e) {
    size_t at = wire_events_begin(&r->out);
    wire_events_add(&r->out, e);
    wire_events_end(&r->out, at);
    CHECK(link_flush(r->engine.up, &r->out));
    run(r);
}

static void engine_token(rig *r, uint64_t id, int32_t token, float logprob) {
    gen_event e = {.id = id, .kind = GEN_TOKENS};
    e.tokens.ids = (wire_array){&token, 1};
    if (logprob != 0) e.tokens.logprobs = (wire_array){&logprob, 1};
    engine_says(r, &e);
}

static void engine_ends(rig *r, uint64_t id, gen_finish reason, uint32_t tokens) {
    gen_event e = {.id = id, .kind = GEN_FINISH};
    e.finish.reason = reason;
    engine_says(r, &e);
    e = (gen_event){.id = id, .kind = GEN_USAGE};
    e.usage.completion_tokens = tokens;
    engine_says(r, &e);
}

static gen_request text_request_of(uint64_t id, const char *text) {
    return (gen_request){.id = id,
                         .prompt = GEN_PROMPT_TEXT,
                         .add_special = true,
                         .choices = 1,
                         .credits = 16,
                         .text = str_of(text),
                         .chat = {.add_generation_prompt = true},
                         .sampling = gen_sampling_default()};
}

static const gen_event *last(const rig *r, gen_event_kind kind) {
    for (uint32_t i = r->events_count; i > 0; i--)
        if (r->events[i - 1].kind == kind) return &r->events[i - 1];
    return NULL;
}

TEST(text_role_sends_prompts_down_as_ids_and_keeps_stop_strings) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi yo");
    q.stops_count = 1;
    q.stops[0] = S("END");
    send(r, &q);
    str body = {0};
    gen_request below;
    error err = {0};
    CHECK_EQ(next_below(r, &body), WIRE_REQUEST);
    CHECK_EQ(wire_get_request(body, &below, &err), OK);
    CHECK_EQ(below.prompt, GEN_PROMPT_IDS);
    CHECK_EQ(below.ids.count, 3);
    CHECK_EQ(wire_i32_at(below.ids, 0), SMALL_BOS);
    CHECK_EQ(wire_i32_at(below.ids, 1), HI);
    CHECK_EQ(wire_i32_at(below.ids, 2), YO);
    CHECK_EQ(below.stops_count, 0);
    CHECK_EQ(below.id, 7);
    close_rig(r);
}

TEST(text_role_finds_a_stop_string_across_tokens_and_tells_the_engine) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    q.stops_count = 1;
    q.stops[0] = S("END");
    send(r, &q);
    str body = {0};
    CHECK_EQ(next_below(r, &body), WIRE_REQUEST);
    engine_token(r, 7, YO, 0);
    engine_token(r, 7, E, 0);  /* E: held */
    engine_token(r, 7, ND, 0); /* ND: complete */
    engine_token(r, 7, HI, 0); /* the engine ran one token further */
    read_front(r);
    CHECK_STR(r->text, " yo");
    const gen_event *f = last(r, GEN_FINISH);
    CHECK(f != NULL && f->finish.reason == GEN_FINISH_STOP_STRING);
    CHECK(f != NULL && str_eq(f->finish.stop, S("END")));
    gen_cancel cancel = {0};
    CHECK_EQ(next_below(r, &body), WIRE_CANCEL);
    CHECK_EQ(wire_get_cancel(body, &cancel, NULL), OK);
    CHECK_EQ(cancel.id, 7);
    CHECK_EQ(cancel.choice, 0);
    engine_ends(r, 7, GEN_FINISH_CANCELED, 4);
    read_front(r);
    const gen_event *u = last(r, GEN_USAGE);
    CHECK(u != NULL && u->usage.completion_tokens == 3); /* the one too many does not count */
    CHECK_EQ(text_worker_requests(r->w), 0);
    close_rig(r);
}

TEST(text_role_returns_a_credit_for_every_token_also_when_its_text_is_held) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    q.stops_count = 1;
    q.stops[0] = S("END");
    send(r, &q);
    engine_token(r, 7, E, 0); /* E */
    read_front(r);
    const gen_event *t = last(r, GEN_TEXT);
    CHECK(t != NULL && t->text.tokens == 1 && t->text.text.n == 0);
    engine_ends(r, 7, GEN_FINISH_LENGTH, 1);
    read_front(r);
    CHECK_STR(r->text, "E"); /* no END came: what was held comes out */
    close_rig(r);
}

TEST(text_role_never_sends_half_a_character) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    send(r, &q);
    engine_token(r, 7, SMALL_BYTE_0 + 0xE2, 0);
    engine_token(r, 7, SMALL_BYTE_0 + 0x82, 0);
    read_front(r);
    CHECK_STR(r->text, "");
    engine_token(r, 7, SMALL_BYTE_0 + 0xAC, 0);
    read_front(r);
    CHECK_STR(r->text, "\xE2\x82\xAC");
    engine_token(r, 7, SMALL_BYTE_0 + 0xE2, 0);
    engine_ends(r, 7, GEN_FINISH_LENGTH, 4);
    read_front(r);
    CHECK_STR(r->text, "\xE2\x82\xAC\xEF\xBF\xBD");
    close_rig(r);
}

TEST(text_role_strips_the_leading_space_only_at_the_start_of_all_text) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "");
    send(r, &q);
    engine_token(r, 7, HI, 0);
    read_front(r);
    CHECK_STR(r->text, "hi");
    close_rig(r);
}

TEST(text_role_gives_logprobs_with_the_text_of_their_tokens) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    q.sampling.logprobs = true;
    q.stops_count = 1;
    q.stops[0] = S("END");
    send(r, &q);
    engine_token(r, 7, E, -0.5f); /* E is held, and its entry with it */
    read_front(r);
    CHECK_EQ(last(r, GEN_TEXT)->text.logprobs.n, 0);
    engine_token(r, 7, YO, -0.25f); /* now both are out */
    read_front(r);
    str blob = last(r, GEN_TEXT)->text.logprobs;
    wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
    uint8_t count = 0;
    CHECK(wire_logprob_next(&blob, &token, top, &count) && str_eq(token.bytes, S("E")));
    CHECK(token.logprob == -0.5f && token.id == E);
    CHECK(wire_logprob_next(&blob, &token, top, &count) && str_eq(token.bytes, S(" yo")));
    CHECK_EQ(blob.n, 0);
    engine_token(r, 7, END, -1.0f); /* END: the entry of a stop string is dropped */
    read_front(r);
    CHECK_EQ(last(r, GEN_TEXT)->text.logprobs.n, 0);
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_STOP_STRING);
    close_rig(r);
}

TEST(text_role_renders_chats_with_the_plain_template) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "[{\"role\":\"user\",\"content\":\"hi\"}]");
    q.prompt = GEN_PROMPT_CHAT;
    send(r, &q);
    str body = {0};
    gen_request below;
    CHECK_EQ(next_below(r, &body), WIRE_REQUEST);
    CHECK_EQ(wire_get_request(body, &below, NULL), OK);
    buf text;
    buf_init(&text, 1024);
    int32_t ids[64];
    CHECK(below.ids.count <= 64);
    for (uint32_t i = 0; i < below.ids.count; i++) ids[i] = wire_i32_at(below.ids, i);
    CHECK_EQ(tok_decode(r->tok, ids, below.ids.count, &text, NULL), OK);
    CHECK(str_ends(buf_view(&text), S("User: hi\nAssistant:")));
    buf_deinit(&text);
    for (const char *p = "\nUser:"; *p != '\0'; p++)
        engine_token(r, 7, SMALL_BYTE_0 + (unsigned char)*p, 0);
    read_front(r);
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_STOP_STRING);
    CHECK_STR(r->text, "");
    close_rig(r);
}

TEST(text_role_refuses_what_it_cannot_encode) {
    rig *r = open_rig("{% if %}", 1 << 16);
    gen_request q = text_request_of(7, "[]");
    q.prompt = GEN_PROMPT_CHAT;
    send(r, &q);
    read_front(r);
    CHECK_EQ(last(r, GEN_ERROR)->error.fault, GEN_FAULT_TEMPLATE);
    int32_t bad[] = {3, 100000};
    q = text_request_of(8, "");
    q.prompt = GEN_PROMPT_IDS;
    q.ids = (wire_array){bad, 2};
    send(r, &q);
    read_front(r);
    CHECK_EQ(last(r, GEN_ERROR)->id, 8);
    CHECK_EQ(last(r, GEN_ERROR)->error.fault, GEN_FAULT_PROMPT);
    CHECK_EQ(text_worker_requests(r->w), 0);
    close_rig(r);
}

TEST(text_role_holds_events_while_the_front_does_not_read_and_loses_none) {
    rig *r = open_rig(NULL, 2048); /* a few frames only */
    gen_request q = text_request_of(7, "hi");
    send(r, &q);
    for (int i = 0; i < 40; i++) engine_token(r, 7, E, 0);
    engine_ends(r, 7, GEN_FINISH_LENGTH, 40);
    for (int i = 0; i < 100; i++) {
        run(r);
        read_front(r);
    }
    CHECK_EQ(strlen(r->text), 40);
    CHECK(last(r, GEN_USAGE) != NULL);
    close_rig(r);
}

TEST(text_role_survives_frames_that_make_no_sense) {
    rig *r = open_rig(NULL, 1 << 16);
    uint32_t state = 1;
    for (int i = 0; i < 300; i++) {
        uint8_t junk[40];
        for (size_t k = 0; k < sizeof junk; k++) {
            state = state * 1664525u + 1013904223u;
            junk[k] = (uint8_t)(state >> 24);
        }
        uint32_t body = sizeof junk - WIRE_HEADER_BYTES;
        if (i % 2 == 0) memcpy(junk, &body, sizeof body);
        if (i % 3 == 0) junk[4] = WIRE_VERSION, junk[6] = junk[7] = 0;
        if (i % 3 == 0) junk[5] = (uint8_t)(1 + i % 5);
        (void)ring_send(i % 4 < 2 ? r->front.down : r->engine.up, junk, sizeof junk);
        run(r);
    }
    gen_request q = text_request_of(7, "hi");
    send(r, &q);
    CHECK_EQ(text_worker_requests(r->w), 1); /* still at work */
    close_rig(r);
}

TEST(text_role_drops_the_blank_that_the_plain_template_asks_for) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "[{\"role\":\"user\",\"content\":\"hi\"}]");
    q.prompt = GEN_PROMPT_CHAT;
    send(r, &q);
    engine_token(r, 7, SMALL_BYTE_0 + ' ', 0);
    engine_token(r, 7, YO, 0);
    engine_token(r, 7, YO, 0);
    read_front(r);
    CHECK_STR(r->text, "yo yo"); /* blanks inside stay */
    close_rig(r);
}

TEST(text_role_limits_prompt_tokens_with_both_counts) {
    rig *r = open_rig(NULL, 1 << 16);
    text_worker_destroy(r->w);
    text_worker_options o = {.tok = r->tok,
                             .desc = {.name = "m", .ctx_max = 64},
                             .requests_max = 4,
                             .prompt_tokens_max = 2,
                             .front = &r->front,
                             .engine = &r->engine};
    CHECK_EQ(text_worker_create(&r->w, &o, NULL), OK);
    gen_request q = text_request_of(7, "hi yo");
    send(r, &q);
    read_front(r);
    const gen_event *e = last(r, GEN_ERROR);
    CHECK(e != NULL && e->error.have == 3 && e->error.limit == 2);
    close_rig(r);
}

TEST(text_role_refuses_a_prompt_past_the_context_instead_of_stopping_the_ring) {
    rig *r = open_rig(NULL, 1 << 16);
    enum { COUNT = 40000 }; /* more bytes than the ring to the engine has */
    int32_t *ids = calloc(COUNT, sizeof *ids);
    for (int i = 0; i < COUNT; i++) ids[i] = HI;
    gen_request q = text_request_of(7, "");
    q.prompt = GEN_PROMPT_IDS;
    q.ids = (wire_array){ids, 15000};
    send(r, &q);
    read_front(r);
    const gen_event *e = last(r, GEN_ERROR);
    CHECK(e != NULL && e->error.fault == GEN_FAULT_CONTEXT_LENGTH);
    CHECK(e != NULL && e->error.have == 15000 && e->error.limit == 64);
    q = text_request_of(8, "hi");
    send(r, &q); /* the next one passes */
    CHECK_EQ(text_worker_requests(r->w), 1);
    free(ids);
    close_rig(r);
}

TEST(text_role_refuses_an_input_past_the_limit_of_vectors_too) {
    static int32_t ids[40000]; /* more bytes than the ring to the engine has */
    rig *r = open_rig(NULL, 1 << 16);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) ids[i] = HI;
    for (gen_kind kind = GEN_KIND_EMBED; kind <= GEN_KIND_RANK; kind++) {
        gen_request q = text_request_of(kind, "");
        q.kind = kind;
        q.prompt = GEN_PROMPT_IDS;
        q.ids = (wire_array){ids, 15000};
        send(r, &q);
        read_front(r);
        const gen_event *e = last(r, GEN_ERROR);
        CHECK(e != NULL && e->error.fault == GEN_FAULT_INPUT_LENGTH);
        CHECK(e != NULL && e->error.have == 15000 && e->error.limit == 48);
    }
    CHECK_EQ(text_worker_requests(r->w), 0);
    close_rig(r);
}

TEST(text_role_returns_the_credits_of_tokens_behind_a_stop_string) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    q.choices = 2;
    q.stops_count = 1;
    q.stops[0] = S("END");
    send(r, &q);
    str body = {0};
    CHECK_EQ(next_below(r, &body), WIRE_REQUEST);
    engine_token(r, 7, END, 0);
    CHECK_EQ(next_below(r, &body), WIRE_CANCEL);
    engine_token(r, 7, HI, 0); /* on its way when the cancel was sent */
    gen_credit credit = {0};
    CHECK_EQ(next_below(r, &body), WIRE_CREDIT);
    CHECK_EQ(wire_get_credit(body, &credit, NULL), OK);
    CHECK(credit.id == 7 && credit.tokens == 1);
    close_rig(r);
}

TEST(text_role_answers_a_request_it_cannot_read) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    wire_put_request(&r->out, &q);
    r->out.p[WIRE_HEADER_BYTES + 8] = 99; /* no such kind of prompt */
    CHECK(link_flush(r->front.down, &r->out));
    run(r);
    read_front(r);
    CHECK(last(r, GEN_ERROR) != NULL && last(r, GEN_ERROR)->id == 7);
    close_rig(r);
}

TEST(text_role_ends_every_request_when_events_are_lost) {
    rig *r = open_rig(NULL, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    send(r, &q);
    q.id = 8;
    send(r, &q);
    const uint8_t torn[] = {4, 0, 0, 0, WIRE_VERSION, WIRE_EVENTS, 0, 0, 1, 2, 3, 4};
    CHECK(ring_send(r->engine.up, torn, sizeof torn));
    run(r);
    read_front(r);
    CHECK_EQ(text_worker_requests(r->w), 0);
    uint32_t errors = 0;
    for (uint32_t i = 0; i < r->events_count; i++) errors += r->events[i].kind == GEN_ERROR;
    CHECK_EQ(errors, 2);
    close_rig(r);
}

/* --- a template of the model's own -------------------- */

#define JINJA_CHAT                                                                       \
    "{% for m in messages %}{{ '<s>' + m.role + ' ' + m.content + '</s>' }}{% endfor %}" \
    "{% if tools %}{{ tools | tojson }}{% endif %}{{ x }}"                               \
    "{% if add_generation_prompt %}<s>assistant {% endif %}"

/* The text of the prompt that goes down. */
static const char *prompt_below(rig *r) {
    static char text[1024];
    str body = {0};
    gen_request below = {0};
    buf out;
    buf_init(&out, sizeof text - 1);
    CHECK_EQ(next_below(r, &body), WIRE_REQUEST);
    CHECK_EQ(wire_get_request(body, &below, NULL), OK);
    CHECK_EQ(below.chat.tools.n + below.chat.variables.n, 0); /* done with up here */
    int32_t ids[256] = {0};
    CHECK(below.ids.count <= 256);
    for (uint32_t i = 0; i < below.ids.count && i < 256; i++) ids[i] = wire_i32_at(below.ids, i);
    CHECK_EQ(tok_decode(r->tok, ids, below.ids.count, &out, NULL), OK);
    str_copy_c(text, sizeof text, buf_view(&out));
    buf_deinit(&out);
    return text;
}

TEST(text_role_renders_chats_with_the_models_template) {
    rig *r = open_rig(JINJA_CHAT, 1 << 16);
    gen_request q = text_request_of(7, "[{\"role\":\"user\",\"content\":\"hi</s>\"}]");
    q.prompt = GEN_PROMPT_CHAT;
    q.chat.variables = S("{\"x\":\"!\"}");
    send(r, &q);
    CHECK_HAS(prompt_below(r), "hi");
    for (const char *p = "\nUser:"; *p != '\0'; p++) /* stops plain chats only */
        engine_token(r, 7, SMALL_BYTE_0 + (unsigned char)*p, 0);
    engine_ends(r, 7, GEN_FINISH_EOS, 6);
    read_front(r);
    CHECK_STR(r->text, "\nUser:");
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_EOS);
    close_rig(r);
}

TEST(text_role_says_what_the_template_says) {
    rig *r = open_rig("{{ messages[0].content }}\n{{ raise_exception('not you') }}", 1 << 16);
    gen_request q = text_request_of(7, "[{\"role\":\"user\",\"content\":\"hi\"}]");
    q.prompt = GEN_PROMPT_CHAT;
    send(r, &q);
    read_front(r);
    const gen_event *e = last(r, GEN_ERROR);
    CHECK(e != NULL && e->error.fault == GEN_FAULT_TEMPLATE && e->error.code == ERR_INVALID);
    CHECK(e != NULL &&
          memmem(e->error.message.p, e->error.message.n, "line 2: not you", 15) != NULL);
    q.id = 8;
    q.chat.chat_template = S("x"); /* not allowed here */
    send(r, &q);
    read_front(r);
    e = last(r, GEN_ERROR);
    CHECK(e != NULL && e->error.code == ERR_UNSUPPORTED);
    CHECK_EQ(text_worker_requests(r->w), 0);
    close_rig(r);
}

TEST(text_role_refuses_ids_that_the_vocabulary_lacks_wherever_they_stand) {
    rig *r = open_rig(NULL, 1 << 16);
    int32_t bad = 100000;
    float bias = 1;
    gen_request q = text_request_of(7, "hi");
    q.sampling.bias_ids = (wire_array){&bad, 1};
    q.sampling.biases = (wire_array){&bias, 1};
    send(r, &q);
    q = text_request_of(8, "hi");
    q.sampling.stop_ids = (wire_array){&bad, 1};
    send(r, &q);
    q = text_request_of(9, "hi");
    q.sampling.allowed_ids = (wire_array){&bad, 1};
    send(r, &q);
    read_front(r);
    CHECK_EQ(r->events_count, 3);
    for (uint32_t i = 0; i < 3; i++) CHECK_EQ(r->events[i].kind, GEN_ERROR);
    CHECK_EQ(text_worker_requests(r->w), 0);
    close_rig(r);
}

/* --- tool calls -------------------- */

#define TEMPLATE_WITH_TOOLS                                                         \
    "{# <tool_call> arguments #}{% for m in messages %}{{ m.content }}{% endfor %}" \
    "{% if tools %}{{ tools | tojson }}{% endif %}"
#define CALL_F "{\"name\": \"f\", \"arguments\": {\"a\": 1}}"

/* A chat with tools has begun; its answer comes as bytes. */
static rig *open_tools_rig(bool one_call, bool logprobs, const char *stop, uint16_t choices) {
    rig *r = open_rig(TEMPLATE_WITH_TOOLS, 1 << 16);
    gen_request q = text_request_of(7, "[{\"role\":\"user\",\"content\":\"hi\"}]");
    q.prompt = GEN_PROMPT_CHAT;
    q.chat.tools = S("[]");
    q.chat.one_call = one_call;
    q.sampling.logprobs = logprobs;
    q.choices = choices;
    q.credits = 1000;
    q.stops_count = stop != NULL;
    q.stops[0] = str_of(stop);
    send(r, &q);
    str body = {0};
    CHECK_EQ(next_below(r, &body), WIRE_REQUEST);
    return r;
}

static void engine_bytes(rig *r, const char *text) {
    for (; *text != '\0'; text++) engine_token(r, 7, SMALL_BYTE_0 + (unsigned char)*text, 0);
}

static uint32_t calls_seen(const rig *r) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->events_count; i++) n += r->events[i].kind == GEN_CALL;
    return n;
}

/* Only the events that say something: there are more tokens than the rig keeps events. */
static void forget_empty(rig *r) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->events_count; i++) {
        const gen_event *e = &r->events[i];
        if (e->kind != GEN_TEXT || e->text.text.n > 0 || e->text.logprobs.n > 0)
            r->events[n++] = *e;
    }
    r->events_count = n;
}

static void say(rig *r, const char *text) {
    for (char one[2] = {0}; *text != '\0'; text++) {
        one[0] = *text;
        engine_bytes(r, one);
        read_front(r);
        forget_empty(r);
    }
}

TEST(text_role_takes_calls_out_of_the_text_of_a_chat_with_tools) {
    rig *r = open_tools_rig(false, false, NULL, 1);
    say(r, "so:\n<tool_call>\n" CALL_F "\n</tool_call>");
    CHECK_STR(r->text, "so:");
    CHECK_EQ(calls_seen(r), 1);
    const gen_event *c = last(r, GEN_CALL);
    CHECK(c != NULL && c->call.index == 0 && str_eq(c->call.name, S("f")));
    CHECK(c != NULL && str_eq(c->call.arguments, S("{\"a\": 1}")));
    CHECK(c != NULL && str_starts(c->call.id, S("call_")) && c->call.id.n == 29);
    say(r, "\n");
    engine_ends(r, 7, GEN_FINISH_EOS, 40);
    read_front(r);
    CHECK_STR(r->text, "so:");
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_EOS);
    close_rig(r);
}

TEST(text_role_sees_markers_that_are_control_tokens_only_where_tools_are) {
    rig *r = open_tools_rig(false, false, NULL, 1);
    engine_token(r, 7, MARK, 0);
    say(r, CALL_F);
    CHECK_EQ(calls_seen(r), 1);
    engine_token(r, 7, MARK, 0);
    say(r, "no");
    engine_ends(r, 7, GEN_FINISH_EOS, 40);
    read_front(r);
    CHECK_STR(r->text, "<tool_call>no"); /* nothing is lost */
    close_rig(r);

    r = open_rig(TEMPLATE_WITH_TOOLS, 1 << 16);
    gen_request q = text_request_of(7, "hi");
    send(r, &q);
    engine_token(r, 7, MARK, 0);
    say(r, CALL_F);
    CHECK_STR(r->text, CALL_F);
    CHECK_EQ(calls_seen(r), 0);
    close_rig(r);
}

TEST(text_role_ends_the_answer_behind_the_only_call_that_is_wanted) {
    rig *r = open_tools_rig(true, false, NULL, 1);
    engine_token(r, 7, MARK, 0);
    say(r, CALL_F "<tool_call>" CALL_F);
    CHECK_EQ(calls_seen(r), 1);
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_CALL);
    str body = {0};
    gen_cancel cancel = {0};
    CHECK_EQ(next_below(r, &body), WIRE_CANCEL);
    CHECK_EQ(wire_get_cancel(body, &cancel, NULL), OK);
    CHECK(cancel.id == 7 && cancel.choice == 0);
    engine_ends(r, 7, GEN_FINISH_CANCELED, 100);
    read_front(r);
    CHECK_EQ(last(r, GEN_USAGE)->usage.completion_tokens, 1 + strlen(CALL_F));
    close_rig(r);
}

TEST(text_role_gives_what_was_held_when_a_stop_string_cuts_a_call) {
    rig *r = open_tools_rig(false, false, "\"a\"", 1);
    say(r, "<tool_call>" CALL_F);
    CHECK_STR(r->text, "<tool_call>{\"name\": \"f\", \"arguments\": {");
    CHECK_EQ(calls_seen(r), 0);
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_STOP_STRING);
    close_rig(r);
    r = open_tools_rig(false, false, "</tool_call>", 1); /* the call is whole without it */
    say(r, "<tool_call>" CALL_F "\n</tool_call>");
    CHECK_STR(r->text, "");
    CHECK_EQ(calls_seen(r), 1);
    CHECK_EQ(last(r, GEN_FINISH)->finish.reason, GEN_FINISH_STOP_STRING);
    close_rig(r);
}

TEST(text_role_gives_the_logprobs_of_every_token_of_a_call) {
    rig *r = open_tools_rig(false, true, NULL, 1);
    uint32_t entries = 0;
    for (const char *p = "<tool_call>" CALL_F "</tool_call>"; *p != '\0'; p++) {
        engine_token(r, 7, SMALL_BYTE_0 + (unsigned char)*p, -0.5f);
        read_front(r);
        str blob = last(r, GEN_TEXT)->text.logprobs;
        wire_logprob token, top[WIRE_TOP_LOGPROBS_MAX];
        uint8_t count = 0;
        while (wire_logprob_next(&blob, &token, top, &count)) entries++;
        r->events_count = 0;
        r->kept_bytes = 0;
    }
    CHECK_EQ(entries, strlen("<tool_call>" CALL_F "</tool_call>"));
    close_rig(r);
}

TEST(text_role_sends_long_arguments_in_pieces_of_whole_characters) {
    rig *r = open_tools_rig(false, false, NULL, 1);
    engine_bytes(r, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"");
    for (int i = 0; i < 2000; i++) {
        engine_bytes(r, "\xE2\x82\xAC");
        read_front(r);
        r->events_count = 0;
    }
    engine_bytes(r, "\"}}");
    r->kept_bytes = 0;
    r->events_count = 0;
    read_front(r);
    forget_empty(r);
    CHECK_EQ(calls_seen(r), 2);
    CHECK(r->events_count == 2 && r->events[0].call.id.n > 0 && r->events[1].call.id.n == 0);
    close_rig(r);
}

TEST(text_role_keeps_the_calls_of_choices_apart) {
    rig *r = open_tools_rig(false, false, NULL, 2);
    for (const char *p = "<tool_call>" CALL_F; *p != '\0'; p++) {
        for (uint16_t choice = 0; choice < 2; choice++) {
            int32_t token = SMALL_BYTE_0 + (unsigned char)(choice == 0 ? *p : 'x');
            gen_event e = {.id = 7, .kind = GEN_TOKENS, .choice = choice};
            e.tokens.ids = (wire_array){&token, 1};
            engine_says(r, &e);
        }
        read_front(r);
        forget_empty(r);
        if (*p != '\0' && p[1] != '\0') r->events_count = 0;
    }
    CHECK_EQ(calls_seen(r), 1);
    CHECK_EQ(last(r, GEN_CALL)->choice, 0);
    CHECK_STR(r->text, "");
    close_rig(r);
}
