/* link.h - a pair of rings between two neighbouring roles, in one process.
 *
 * `down` carries requests (towards the engine), `up` carries events (towards the
 * front).  The upper side sends down and receives up, the lower side the reverse; each
 * side is one thread.  Between processes the same frames go through a socket. */
#ifndef WIRE_LINK_H
#define WIRE_LINK_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/ring.h"

typedef struct wire_link {
    ring *down; /* owned */
    ring *up;   /* owned */
} wire_link;

NODISCARD status link_open(wire_link *l, size_t down_bytes, size_t up_bytes, error *err);
void link_close(wire_link *l);

/* Queue all frames in `out` that fit, in order, and drop them from it.  True when `out`
 * is empty afterwards; else ring_room_fd() tells when to try again. */
bool link_flush(ring *to, buf *out);

/* The next frame into `in` (replacing its content); false when there is none.  A frame
 * that `in` may not hold is dropped and reported as ERR_LIMIT. */
NODISCARD status link_recv(ring *from, buf *in, bool *got, error *err);

#endif
