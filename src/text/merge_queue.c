/* merge_queue.c - see merge_queue.h.
 *
 * Source of the heap: Williams 1964, "Algorithm 232: heapsort". */
#include "text/merge_queue.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

#define NODE_NONE UINT32_MAX

static bool grow(void **array, size_t count, size_t each) {
    size_t bytes = 0;
    void *more = num_mul_size(&bytes, count, each) ? mem_try_realloc(*array, bytes) : NULL;
    if (more != NULL) *array = more;
    return more != NULL;
}

status merge_queue_begin(merge_queue *q, size_t symbols, error *err) {
    ASSERT(symbols <= MERGE_QUEUE_SYMBOLS_MAX);
    if (symbols > q->cap) {
        void *nodes = q->nodes, *heap = q->heap;
        bool fits = grow(&nodes, 3 * symbols, sizeof *q->nodes);
        q->nodes = nodes;
        fits = fits && grow(&heap, 2 * symbols, sizeof *q->heap);
        q->heap = heap;
        if (!fits)
            return error_set(err, ERR_NOMEM, "prompt: no memory for pairs of %zu characters",
                             symbols);
        q->cap = symbols;
    }
    q->nodes_count = q->heap_count = 0;
    for (int i = 0; i < MERGE_QUEUE_SLOTS; i++) q->slots[i].tail = NODE_NONE;
    return OK;
}

void merge_queue_deinit(merge_queue *q) {
    mem_free(q->nodes);
    mem_free(q->heap);
    *q = (merge_queue){0};
}

/* --- the heap of chains ---------------------------------------------------------------------- */

static uint32_t sift_up(merge_chain *heap, size_t i, merge_chain chain) {
    uint32_t levels = 1;
    for (; i > 0 && heap[(i - 1) / 2].key > chain.key; i = (i - 1) / 2, levels++)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = chain;
    return levels;
}

/* Puts `chain` in the place of the root, or below it. */
static uint32_t sift_down(merge_chain *heap, size_t count, merge_chain chain) {
    uint32_t levels = 1;
    size_t i = 0;
    for (; 2 * i + 1 < count; levels++) {
        size_t child = 2 * i + 1;
        if (child + 1 < count && heap[child + 1].key < heap[child].key) child++;
        if (heap[child].key >= chain.key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = chain;
    return levels;
}

/* --- chains ---------------------------------------------------------------------------------- */

/* Orders are ranks, or the bits of a score whose low ones may be alike: Knuth volume 3, 6.4. */
static merge_slot *slot_of(merge_queue *q, uint32_t order) {
    return &q->slots[(order * 0x9E3779B9u) >> 24];
}

static uint64_t key_of(uint32_t order, uint32_t left) { return (uint64_t)order << 32 | left; }

uint32_t merge_queue_push(merge_queue *q, uint32_t order, uint32_t left) {
    ASSERT(q->nodes_count < 3 * q->cap);
    uint32_t node = (uint32_t)q->nodes_count++;
    merge_slot *slot = slot_of(q, order);
    q->nodes[node] = (merge_node){.left = left, .next = NODE_NONE};
    uint32_t tail = slot->order == order ? slot->tail : NODE_NONE;
    *slot = (merge_slot){.order = order, .tail = node};
    if (tail != NODE_NONE && q->nodes[tail].left < left) {
        q->nodes[tail].next = node;
        return 1;
    }
    ASSERT(q->heap_count < 2 * q->cap);
    return sift_up(q->heap, q->heap_count++, (merge_chain){key_of(order, left), node});
}

uint32_t merge_queue_pop(merge_queue *q, uint32_t *order, uint32_t *left) {
    ASSERT(q->heap_count > 0);
    merge_chain first = q->heap[0];
    *order = (uint32_t)(first.key >> 32);
    *left = (uint32_t)first.key;
    uint32_t next = q->nodes[first.node].next;
    if (next != NODE_NONE) {
        merge_chain rest = {key_of(*order, q->nodes[next].left), next};
        return sift_down(q->heap, q->heap_count, rest);
    }
    merge_slot *slot = slot_of(q, *order);
    if (slot->tail == first.node) slot->tail = NODE_NONE;
    merge_chain last = q->heap[--q->heap_count];
    return q->heap_count > 0 ? sift_down(q->heap, q->heap_count, last) : 1;
}
