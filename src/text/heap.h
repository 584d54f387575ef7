/* heap.h - a min-heap of u64 in the caller's array.
 *
 * The caller owns the array, sees that it is long enough, and packs what it needs into the
 * number: order in the high half, item in the low half.  Both return how many levels they
 * moved, for tests that count work instead of time.
 * Source: Williams 1964, "Algorithm 232: heapsort"; with more children a node, Johnson 1975. */
#ifndef TEXT_HEAP_H
#define TEXT_HEAP_H

#include <stddef.h>
#include <stdint.h>

enum { HEAP_CHILDREN = 4 }; /* the four lie in one cache line or two: fewer misses than with 2 */

/* Adds `value` to the *count numbers at `heap`. */
static inline uint32_t heap_push(uint64_t *heap, size_t *count, uint64_t value) {
    uint32_t levels = 1;
    size_t i = (*count)++;
    for (; i > 0 && heap[(i - 1) / HEAP_CHILDREN] > value; i = (i - 1) / HEAP_CHILDREN, levels++)
        heap[i] = heap[(i - 1) / HEAP_CHILDREN];
    heap[i] = value;
    return levels;
}

/* The smallest child of `i`, which has one. */
static inline size_t heap_smallest_child(const uint64_t *heap, size_t count, size_t i) {
    size_t first = HEAP_CHILDREN * i + 1, best = first;
    size_t end = first + HEAP_CHILDREN < count ? first + HEAP_CHILDREN : count;
    for (size_t k = first + 1; k < end; k++)
        if (heap[k] < heap[best]) best = k;
    return best;
}

/* Takes the smallest number away, into *out; *count > 0. */
static inline uint32_t heap_pop(uint64_t *heap, size_t *count, uint64_t *out) {
    uint32_t levels = 1;
    *out = heap[0];
    uint64_t value = heap[--*count];
    size_t i = 0;
    for (; HEAP_CHILDREN * i + 1 < *count; levels++) {
        size_t child = heap_smallest_child(heap, *count, i);
        if (heap[child] >= value) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = value;
    return levels;
}

#endif
