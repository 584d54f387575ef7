/* front_internal.h - what the files of this room share: the front itself and its handlers. */
#ifndef API_FRONT_INTERNAL_H
#define API_FRONT_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "api/adapters.h"
#include "api/door.h"
#include "api/front.h"
#include "api/gen.h"
#include "api/registry.h"
#include "api/routes.h"
#include "base/buf.h"
#include "net/http.h"
#include "net/loop.h"
#include "obs/metrics.h"
#include "json/write.h"

struct front {
    front_options o;     /* defaults filled in */
    loop *loop;          /* owned */
    http_server *server; /* owned */
    door door;
    registry registry;
    adapter_list adapters;
    gen_table table;
    metrics metrics;                    /* FRONT rows */
    metrics gpu_metrics[GPU_COUNT_MAX]; /* GPU rows, filled for each page */
    buf scratch;                        /* one JSON text, or the frames of one request */
    buf event;                          /* one event of a stream */
    buf frame;                          /* one CANCEL or CREDIT */
    uint64_t started_ns;
    uint32_t calls_open; /* http calls whose on_closed is to come */
    bool draining;
    bool was_ready; /* on_ready was called */
    int drain_fd;   /* signalled by front_drain() */
};

/* An empty buffer for one text; what it held before is gone. */
buf *front_scratch(front *f);

/* Answer with an error body in OpenAI form. */
void front_refuse(front *f, http_call *c, const api_fault *fault);
/* Answer with that body, or with status 500 when it did not fit its buffer. */
void front_reply(front *f, http_call *c, unsigned http_status, const char *content_type,
                 const buf *body);
/* What is kept of one HTTP call from its head to on_closed; the call's user pointer. */
typedef struct front_call {
    const route *route;                        /* NULL: refused at the door */
    str tail;                                  /* of the path, see routes.h */
    gen_call *gen;                             /* the generation it waits for; NULL: none */
    char request_id[GEN_REQUEST_ID_BYTES_MAX]; /* the client's own, or one of ours */
} front_call;
front_call *front_call_of(const http_call *c);
/* Random hex digits, terminated. */
void front_random_hex(char *out, size_t bytes);

uint64_t front_now_ms(const front *f);

/* "system, tools" as "key":["system","tools"]. */
void front_write_list(json_writer *w, const char *key, str list);

/* Handlers of routes.c. */
void health_live(front *f, http_call *c, str tail);
void health_ready(front *f, http_call *c, str tail);
void health_report(front *f, http_call *c, str tail);
void metrics_page(front *f, http_call *c, str tail);
void models_list(front *f, http_call *c, str tail);
void models_one(front *f, http_call *c, str tail);
void openai_chat_handle(front *f, http_call *c, str tail);
void openai_completions_handle(front *f, http_call *c, str tail);
void openai_embeddings_handle(front *f, http_call *c, str tail);
void rerank_handle(front *f, http_call *c, str tail);

/* The numbers of a call that is over (metrics_page.c). */
void metrics_call_ended(front *f, const gen_call *g);

#endif
