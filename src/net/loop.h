/* loop.h - one thread's event loop: descriptors, ticks and a stop from elsewhere.
 *
 * Everything a net thread does runs inside loop_run(), one callback at a time, so its
 * objects need no lock.  All functions belong to the thread that runs the loop (before
 * loop_run() and after it: to whoever holds the loop), except loop_stop().
 *
 * A watch may be removed, and its descriptor closed and reused, from inside any
 * callback: an event that was fetched before for the old owner is dropped, because each
 * watch carries a generation. */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdint.h>

#include "base/error.h"

typedef struct loop loop;

/* What to watch for; level-triggered. */
enum {
    LOOP_READ = 1,   /* readable */
    LOOP_HANGUP = 2, /* the peer closed (also only its sending half), or the socket failed */
};

NODISCARD status loop_create(loop **out, error *err);
/* Watches that are left are forgotten; their descriptors stay open. */
void loop_destroy(loop *l);

/* Call fn(ctx) whenever `what` holds for fd.  One watch per descriptor. */
NODISCARD status loop_watch(loop *l, int fd, uint32_t what, void (*fn)(void *ctx), void *ctx,
                            error *err);
/* Before the descriptor is closed.  Harmless when fd is not watched. */
void loop_unwatch(loop *l, int fd);

/* Call fn(ctx) every `ms` milliseconds, for the life of the loop unless cancelled. */
NODISCARD status loop_every(loop *l, uint32_t ms, void (*fn)(void *ctx), void *ctx, error *err);
/* Forget all ticks with this fn and ctx. */
void loop_cancel(loop *l, void (*fn)(void *ctx), void *ctx);

/* Before each wait, before(ctx) runs and says in how many milliseconds it wants the next
 * turn at the latest: 0 at once, UINT32_MAX whenever something happens.  One hook per ctx. */
NODISCARD status loop_before_wait(loop *l, uint32_t (*before)(void *ctx), void *ctx, error *err);
void loop_before_wait_cancel(loop *l, void *ctx);

/* Milliseconds of os_now_ns() when the current turn began. */
uint64_t loop_now_ms(const loop *l);

/* Run until loop_stop().  May be run again afterwards. */
void loop_run(loop *l);
/* Any thread, also a signal handler: the current turn is the last one. */
void loop_stop(loop *l);

#endif
