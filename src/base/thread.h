/* thread.h - named threads, and "am I on the right one?" */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct thread {
    pthread_t handle;
    bool started;
    _Atomic bool *ended; /* owned; set by the thread when its function returns */
} thread;

/* Start `run(arg)` on a thread called `name` (at most 15 characters are shown by the
 * system).  All signals stay blocked there: the main thread takes them. */
NODISCARD status thread_start(thread *t, const char *name, void (*run)(void *), void *arg,
                              error *err);
/* Has its function returned?  true as well when it never started. */
bool thread_has_ended(const thread *t);
/* Wait for the end; harmless when it never started. */
void thread_join(thread *t);

/* The thread that owns an object.  The first claim wins; ASSERT(thread_is_owner(&o))
 * then guards every function of the owner. */
typedef struct thread_owner {
    pthread_t self;
    bool claimed;
} thread_owner;

void thread_owner_claim(thread_owner *o);
bool thread_is_owner(const thread_owner *o);

#endif
