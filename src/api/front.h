/* front.h - the HTTP face of the server: routes, registry and generations in flight.
 *
 * One thread, one loop.  The thread that calls front_run() owns everything behind this
 * header: the HTTP server, the names of the models, the table of generations and the
 * upper side of every wire_link.  Nothing here is locked; front_drain() and front_stop()
 * are the only functions for other threads.
 *
 * What the front promises:
 * - No status line before every prompt of a request was accepted below (GEN_ACCEPTED), but for
 *   streams that wait for a model to load: they begin with comments that say how far it is.
 * - A client that hangs up cancels its generation within one turn of the loop.
 * - A client that does not read holds at most `credits` tokens per prompt; nobody else waits.
 * - CANCEL and CREDIT are never lost, also when the ring to a role is full.
 * - A frame from below that makes no sense costs the requests it may have carried, with an
 *   error to each of their clients, never the process. */
#ifndef API_FRONT_H
#define API_FRONT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "gpu/gpu_monitor.h"
#include "net/http.h"
#include "wire/link.h"

typedef struct front front;

/* A limit of 0 means the default in brackets. */
typedef struct front_options {
    http_options http;
    uint32_t requests_max;            /* [1024] prompts in flight over all models */
    uint32_t credits;                 /* [256] tokens the engine may be ahead of one client */
    uint32_t choices_max;             /* [16] prompts x n of one request */
    uint32_t stall_ms_max;            /* [10 s] age of a heartbeat at which /livez fails */
    uint32_t ping_ms;                 /* [15 s] a quiet event stream gets a comment */
    bool request_templates;           /* chats may bring a template of their own */
    size_t reply_bytes_max;           /* [16 MiB] text and log-probabilities of one plain reply */
    const char *api_key;              /* NULL: open */
    const char *const *allowed_hosts; /* further Host names when bound to loopback */
    uint32_t allowed_hosts_count;
    const char *const *cors_origins; /* "https://app.example"; "*" is any */
    uint32_t cors_origins_count;
    const char *gpu_note;        /* one line for /health: what was found and what is used */
    gpu_monitor *gpus;           /* figures for /health and /metrics; NULL: none */
    void (*on_ready)(void *ctx); /* once, on the net thread: every model, if any, can be asked */
    void *on_ready_ctx;
} front_options;

/* Listening when it returns OK; nothing is answered before front_run().  The strings of
 * *options and the monitor are borrowed until front_close(). */
NODISCARD status front_open(front **out, const front_options *options, error *err);

/* Before front_run(), and before anything was sent down the link.  The name is what clients
 * say, never a path; the first model is the default.  The link is borrowed until
 * front_close(). */
NODISCARD status front_add_model(front *f, const char *name, wire_link *link, error *err);

/* Before front_run(), when there is a model: an adapter that the role of the first one loads by
 * itself, under the numbers 0, 1, ... in the order of these calls.  Requests that choose none use
 * it with `scale`; at most WIRE_ADAPTERS_MAX may have one that is not 0. */
NODISCARD status front_add_adapter(front *f, const char *name, const char *path, float scale,
                                   error *err);

uint16_t front_port(const front *f);

/* The net thread's life: returns after front_stop(), or when a drain is complete. */
void front_run(front *f);

/* Any thread, also a signal handler: no new connections, 503 for new requests on old ones
 * and for /readyz; front_run() returns when the last answer has left. */
void front_drain(front *f);

/* Any thread, also a signal handler: front_run() returns after its current turn. */
void front_stop(front *f);

/* After front_run() has returned.  Open calls are cut and cancelled below, so the links
 * must still be there.  Sends no WIRE_DRAIN: the roles are the caller's to stop. */
void front_close(front *f);

#endif
