/* registry.h - the models of this server by name, and the front's end of their links.
 *
 * Down: REQUEST frames go through `out`, a small bounded backlog for a full ring.  CANCEL
 * and CREDIT are not queued: they go when the backlog is empty and the ring has room, or
 * their part keeps owing them and `owed` makes the next room event look for it (gen.h).
 * Up: frames are taken off the ring in turns, so that no role can keep the loop busy.
 * Owner: the net thread. */
#ifndef API_REGISTRY_H
#define API_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "api/api_error.h"
#include "api/roofline.h"
#include "base/buf.h"
#include "base/str.h"
#include "obs/metrics.h"
#include "wire/link.h"
#include "wire/wire.h"

typedef struct front front;

enum {
    MODELS_MAX = 64,
    MODEL_NAME_BYTES_MAX = 128,
    BACKLOG_BYTES_MAX = 256 << 10, /* REQUEST frames that wait for room in the ring */
};

typedef struct model_entry {
    front *front;             /* borrowed, its owner */
    char *name;               /* owned */
    wire_link *link;          /* borrowed */
    buf out;                  /* REQUEST frames that found the ring full, in order */
    buf in;                   /* the frame being read */
    uint32_t frame_bytes_max; /* the largest frame its ring down can ever hold */
    bool owed;                /* some part's CANCEL or CREDIT found no room */
    bool described;           /* the MODEL frame has come */
    model_desc desc;
    model_loading loading; /* until it is described */
    uint64_t created_s;    /* seconds since 1970, for `created` */
    uint64_t alive_at_ms;  /* last heartbeat (or MODEL), by the loop's clock */
    uint32_t running;
    uint32_t waiting;
    uint64_t steps;
    metrics engine; /* the ENGINE rows of the last STATUS */
    roofline_order roofline;
} model_entry;

typedef struct registry {
    model_entry *models[MODELS_MAX]; /* owned, in the order they were added */
    uint32_t count;
} registry;

/* May something be called that?  Names are never paths. */
bool registry_name_is_good(str name);
/* Adds the entry; ERR_INVALID for a name that looks like a path or is taken. */
NODISCARD status registry_add(registry *r, front *f, const char *name, wire_link *link, error *err);
void registry_deinit(registry *r);

/* The model of that name, the first one for an empty name; NULL when there is none. */
model_entry *registry_find(const registry *r, str name);

/* "no model is loaded ..." as API_NOT_READY: the registry is empty, and stays so. */
void registry_empty(api_fault *fault);
/* What is said when there is no such model: the names there are, cut when there are many.  An
 * empty name, which every model answers to, means that the registry is empty. */
void registry_no_model(const registry *r, str name, api_fault *fault);

/* Queue whole REQUEST, ADAPTER or PROFILE frames of one API call: all of them or, false, none. */
bool model_send_requests(model_entry *m, str frames);
/* Send one small frame now; false (and `owed`) when there is no room or others wait. */
bool model_send_now(model_entry *m, const buf *frame);
/* The ring has room again: move the backlog.  True when it is empty. */
bool model_flush(model_entry *m);

/* Take what the role has sent, at most a turn's worth. */
void model_receive(model_entry *m, uint64_t now_ms);

/* "model 'tiny' is loading: 43 % (reading the weights)" as API_NOT_READY. */
void model_not_ready(const model_entry *m, api_fault *fault);

/* Milliseconds since the last heartbeat; 0 before the model is described. */
uint64_t model_silence_ms(const model_entry *m, uint64_t now_ms);

#endif
