/* client.c - see client.h. */
#include "app/client.h"

#include "base/os.h"

enum { CREDITS = 256, LOOK_MS = 50 };

void client_init(client *c, wire_link *link) {
    *c = (client){.link = link};
    buf_init(&c->in, WIRE_FRAME_BYTES_MAX);
    buf_init(&c->out, WIRE_FRAME_BYTES_MAX);
}

void client_deinit(client *c) {
    buf_deinit(&c->in);
    buf_deinit(&c->out);
}

typedef struct generation {
    client *c;
    uint64_t id;
    status (*text)(void *ctx, str piece, error *err);
    void *ctx;
    client_result *out;
    status st; /* of the text callback */
    error *err;
    bool canceled;
    bool ended;
} generation;

static void cancel(generation *g) {
    if (g->canceled) return;
    g->canceled = true;
    wire_put_cancel(&g->c->out, &(gen_cancel){.id = g->id, .choice = GEN_CHOICE_ALL});
}

static void take_event(generation *g, const gen_event *e) {
    if (e->id != g->id) return; /* what is left of a request before */
    switch (e->kind) {
    case GEN_TEXT:
        if (e->text.tokens > 0)
            wire_put_credit(&g->c->out, &(gen_credit){.id = g->id, .tokens = e->text.tokens});
        if (g->st == OK && e->text.text.n > 0) g->st = g->text(g->ctx, e->text.text, g->err);
        if (g->st != OK) cancel(g);
        break;
    case GEN_FINISH:
        g->out->finish = e->finish.reason;
        break;
    case GEN_USAGE:
        g->out->usage = e->usage;
        g->ended = true;
        break;
    case GEN_ERROR:
        if (g->st == OK) g->st = error_set(g->err, e->error.code, "%.*s", STR(e->error.message));
        g->ended = true;
        break;
    default:
        break;
    }
}

/* All frames that are there. */
static status take_frames(generation *g, error *err) {
    client *c = g->c;
    for (;;) {
        bool got = false;
        wire_type type;
        str body;
        TRY(link_recv(c->link->up, &c->in, &got, err));
        if (!got) return OK;
        TRY(wire_open(buf_view(&c->in), &type, &body, err));
        if (type != WIRE_EVENTS) continue;
        for (bool more = true; more;) {
            gen_event e;
            TRY(wire_get_event(&body, &e, &more, err));
            if (more) take_event(g, &e);
        }
    }
}

status client_generate(client *c, gen_request *r, status (*text)(void *ctx, str piece, error *err),
                       void *ctx, const volatile bool *stop, client_result *out, error *err) {
    generation g = {.c = c, .id = ++c->last_id, .text = text, .ctx = ctx, .out = out, .err = err};
    r->id = g.id;
    r->credits = CREDITS;
    wire_put_request(&c->out, r);
    TRY(buf_status(&c->out, "request", err));
    while (!g.ended) {
        if (stop != NULL && *stop) cancel(&g);
        (void)link_flush(c->link->down, &c->out);
        TRY(take_frames(&g, err));
        if (g.ended) break;
        int fds[] = {ring_fd(c->link->up), ring_room_fd(c->link->down)};
        os_wait(fds, 2, LOOK_MS);
        os_event_clear(fds[0]);
        os_event_clear(fds[1]);
    }
    return g.st;
}
