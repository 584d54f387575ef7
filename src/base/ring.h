/* ring.h - frames of bytes from one thread to another, bounded.
 *
 * One producer thread, one consumer thread.  A frame goes in whole or not at all: a
 * full ring is back-pressure, never growth.  The consumer sleeps on ring_fd(), the
 * producer of a full ring on ring_room_fd().  The mutex is held for one memcpy. */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct ring ring;

/* Room for `bytes` of frames, each with 4 bytes of length in front.  Pages are touched
 * only as far as they are used. */
NODISCARD status ring_create(ring **out, size_t bytes, error *err);
void ring_destroy(ring *r);

/* Producer: queue one frame.  False when it does not fit now; ring_room_fd() becomes
 * readable when the consumer has made room.  A frame larger than the ring never fits. */
bool ring_send(ring *r, const void *frame, uint32_t bytes);

/* The largest frame that fits an empty ring. */
uint32_t ring_frame_bytes_max(const ring *r);

/* Would a frame of that size fit now? */
bool ring_has_room(ring *r, uint32_t bytes);

/* Consumer: bytes of the next frame, 0 when there is none. */
uint32_t ring_next_bytes(ring *r);
/* Consumer: copy the next frame out and drop it; `out` holds ring_next_bytes(). */
void ring_recv(ring *r, void *out);
/* Consumer: drop the next frame unread. */
void ring_drop(ring *r);

/* Readable while frames may be waiting; the consumer clears it before it drains. */
int ring_fd(const ring *r);
int ring_room_fd(const ring *r);

#endif
