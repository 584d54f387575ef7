/* rig.h - a front on its own thread, with the test as its model role and as its client.
 *
 * The test speaks wire frames on the lower side of the link and HTTP on plain sockets, so
 * it sees what a real role and a real client would see, and in which order. */
#ifndef TESTS_API_RIG_H
#define TESTS_API_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "api/front.h"
#include "base/buf.h"
#include "base/thread.h"
#include "wire/wire.h"

typedef struct rig {
    front *front;
    wire_link link;
    thread net;
    bool running;
    buf frame; /* the last frame taken off the link; requests point into it */
    buf out;   /* frames and events on their way up */
    size_t begun;
} rig;

/* One model, "tiny", described and alive.  link_bytes 0: 1 MiB. */
void rig_open(rig *r, front_options o, size_t link_bytes);
/* The same without any frame from below yet. */
void rig_open_silent(rig *r, front_options o, size_t link_bytes);
void rig_close(rig *r);

/* --- the role below --- */
void rig_model(rig *r);
void rig_status(rig *r);
/* The next frame from the front; WIRE_TYPE_END after wait_ms without one. */
wire_type rig_next(rig *r, int wait_ms, str *body);
/* The next frame must be that. */
gen_request rig_request(rig *r);
gen_cancel rig_cancel(rig *r);
gen_credit rig_credit(rig *r);
void rig_event(rig *r, const gen_event *e);
void rig_accept(rig *r, uint64_t id, uint32_t prompt_tokens);
void rig_text(rig *r, uint64_t id, uint16_t choice, uint32_t tokens, const char *text);
void rig_finish(rig *r, uint64_t id, uint16_t choice, gen_finish reason);
void rig_usage(rig *r, uint64_t id, uint32_t prompt_tokens, uint32_t completion_tokens);
void rig_error(rig *r, uint64_t id, status code, gen_fault fault, uint64_t have, uint64_t limit);
void rig_raw(rig *r, const void *bytes, uint32_t n);

/* --- the client above --- */
typedef struct web_answer {
    int status; /* 0: the connection ended before a whole answer */
    bool whole; /* the body has its end */
    char head[4096];
    char *body; /* malloc'd, terminated; chunks joined */
    size_t body_bytes;
} web_answer;

int web_open(const rig *r);
void web_send(int fd, const char *text);
void web_post(int fd, const char *path, const char *json);
/* Is there anything to read within wait_ms? */
bool web_has(int fd, int wait_ms);
/* One whole answer; the caller frees with web_answer_free(). */
web_answer web_read(int fd);
void web_answer_free(web_answer *a);
/* Connect, send one request with these extra header lines, read the answer, hang up. */
web_answer web_ask(const rig *r, const char *method, const char *path, const char *headers,
                   const char *body);

#endif
