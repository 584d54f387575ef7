/* deadline.h - many objects, a few kinds of time limit: a queue per kind.
 *
 * All members of a queue get the same number of milliseconds, so a queue in order of joining
 * is in order of deadlines: joining, leaving and looking for the next one are O(1).
 * Owner: whoever owns the queues, one thread. */
#ifndef NET_DEADLINE_H
#define NET_DEADLINE_H

#include <stdint.h>

typedef struct deadline deadline;

typedef struct deadline_queue {
    deadline *first; /* the next one due */
    deadline *last;
    uint32_t ms;
} deadline_queue;

struct deadline {
    deadline *prev, *next;
    deadline_queue *queue; /* NULL: in none */
    uint64_t at_ms;
    void *owner; /* the object with the limit */
};

/* (Re)start the limit of queue q now; leaves the queue it was in.  now_ms never goes back. */
void deadline_set(deadline *d, deadline_queue *q, uint64_t now_ms);
void deadline_clear(deadline *d);

/* Take out the first one that is due; NULL when none is. */
deadline *deadline_take_due(deadline_queue *q, uint64_t now_ms);

/* Milliseconds until the first one is due; UINT32_MAX when the queue is empty. */
uint32_t deadline_wait_ms(const deadline_queue *q, uint64_t now_ms);

#endif
