/* merge_queue.h - which pair of symbols merges next: smallest order first, then leftmost.
 *
 * A heap, but not of pairs: text that repeats itself queues the same pair over and over, from
 * left to right, so pairs of one order are strung on a chain as long as they come in that order,
 * and the heap holds only the first of each chain.  A million equal letters are then a handful
 * of chains, and taking the next pair moves nothing; in the worst text each pair is a chain of
 * its own, which is a plain heap.
 *
 *   heap    (order 7, left 0)        (order 9, left 4)
 *   chains   0 -> 2 -> 6 -> 8         4
 *
 * Owner: one merge_scratch. */
#ifndef TEXT_MERGE_QUEUE_H
#define TEXT_MERGE_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    MERGE_QUEUE_SLOTS = 256,           /* chains that may grow, found by their order */
    MERGE_QUEUE_SYMBOLS_MAX = 5 << 28, /* so that the number of a node fits into 32 bits */
};

typedef struct merge_node {
    uint32_t left; /* symbol */
    uint32_t next; /* node of the same order, further to the right; UINT32_MAX at the end */
} merge_node;

typedef struct merge_chain {
    uint64_t key;  /* order in the high half, left symbol of the first node in the low one */
    uint32_t node; /* the first */
} merge_chain;

typedef struct merge_slot {
    uint32_t order;
    uint32_t tail; /* the last node of the chain; UINT32_MAX: no chain */
} merge_slot;

typedef struct merge_queue {
    merge_node *nodes;  /* owned; [3 * cap] */
    merge_chain *heap;  /* owned; [2 * cap] */
    size_t cap;         /* symbols */
    size_t nodes_count; /* pushes of this run, which are never given back */
    size_t heap_count;
    merge_slot slots[MERGE_QUEUE_SLOTS];
} merge_queue;

/* An empty queue for a run of `symbols` <= MERGE_QUEUE_SYMBOLS_MAX: one push for each, and two for
 * each pop but those of old entries.  ERR_NOMEM. */
NODISCARD status merge_queue_begin(merge_queue *q, size_t symbols, error *err);
void merge_queue_deinit(merge_queue *q);

/* Both return how many levels of the heap they moved: what the linear-time test measures. */
uint32_t merge_queue_push(merge_queue *q, uint32_t order, uint32_t left);
/* The queue is not empty. */
uint32_t merge_queue_pop(merge_queue *q, uint32_t *order, uint32_t *left);

#endif
