/* deadline.c - see deadline.h. */
#include "net/deadline.h"

#include <stddef.h>

void deadline_clear(deadline *d) {
    deadline_queue *q = d->queue;
    if (q == NULL) return;
    if (d->prev != NULL)
        d->prev->next = d->next;
    else
        q->first = d->next;
    if (d->next != NULL)
        d->next->prev = d->prev;
    else
        q->last = d->prev;
    d->prev = NULL;
    d->next = NULL;
    d->queue = NULL;
}

void deadline_set(deadline *d, deadline_queue *q, uint64_t now_ms) {
    deadline_clear(d);
    d->at_ms = now_ms + q->ms;
    d->queue = q;
    d->prev = q->last;
    if (q->last != NULL)
        q->last->next = d;
    else
        q->first = d;
    q->last = d;
}

deadline *deadline_take_due(deadline_queue *q, uint64_t now_ms) {
    deadline *d = q->first;
    if (d == NULL || d->at_ms > now_ms) return NULL;
    deadline_clear(d);
    return d;
}

uint32_t deadline_wait_ms(const deadline_queue *q, uint64_t now_ms) {
    if (q->first == NULL) return UINT32_MAX;
    uint64_t at_ms = q->first->at_ms;
    if (at_ms <= now_ms) return 0;
    return at_ms - now_ms < UINT32_MAX ? (uint32_t)(at_ms - now_ms) : UINT32_MAX - 1;
}
