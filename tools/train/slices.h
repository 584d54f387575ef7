/* slices.h - a range cut into slices of a fixed size, one pool task each. */
#ifndef TRAIN_SLICES_H
#define TRAIN_SLICES_H

#include "base/num.h"
#include "train/layers.h"

enum {
    SLICE_ROWS = 32, /* tokens of one task */
    SLICE_COLS = 64, /* columns of one task, where sums go over all tokens */
};

typedef struct slice {
    uint32_t begin, count;
} slice;

static inline slice slice_of(uint32_t index, uint32_t size, uint32_t total) {
    const uint32_t begin = index * size;
    return (slice){begin, num_min_u32(size, total - begin)};
}

static inline void slices_run(const crew *c, uint32_t total, uint32_t size, pool_task task,
                              void *arg) {
    pool_run(c->pool, num_div_up_u32(total, size), task, arg);
}

#endif
