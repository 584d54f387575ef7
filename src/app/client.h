/* client.h - a command as the upper side of a stack: one generation at a time.
 *
 * Speaks the same encoded messages as the front.  Main thread. */
#ifndef APP_CLIENT_H
#define APP_CLIENT_H

#include "wire/link.h"
#include "wire/wire.h"

typedef struct client {
    wire_link *link; /* borrowed */
    buf in;
    buf out;
    uint64_t last_id;
} client;

typedef struct client_result {
    gen_finish finish;
    gen_usage usage;
} client_result;

void client_init(client *c, wire_link *link);
void client_deinit(client *c);

/* Run one request to its end.  r->id and r->credits are filled here.  Each released piece of
 * text goes to `text`; an error there cancels and is returned.  `stop` (may be NULL) is
 * looked at between events: once true the request is canceled, which is no error. */
NODISCARD status client_generate(client *c, gen_request *r,
                                 status (*text)(void *ctx, str piece, error *err), void *ctx,
                                 const volatile bool *stop, client_result *out, error *err);

#endif
