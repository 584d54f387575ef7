/* embed.c - rows of the embedding table to tokens, and their gradients back.
 *
 * A token may stand in many places, so the way back is cut by columns: each task goes over all
 * tokens in their order and adds a strip of their gradients. */
#include <string.h>

#include "train/layers.h"
#include "train/slices.h"

typedef struct embed_job {
    const int32_t *ids;
    const float *from;
    float *to;
    uint32_t n, cols;
} embed_job;

static void copy_rows(void *arg, uint32_t index, void *scratch) {
    const embed_job *j = arg;
    const slice s = slice_of(index, SLICE_ROWS, j->n);
    const size_t cols = j->cols;
    (void)scratch;
    for (size_t t = s.begin; t < s.begin + s.count; t++)
        memcpy(j->to + t * cols, j->from + (size_t)j->ids[t] * cols, cols * sizeof(float));
}

void embed_forward(const crew *c, const int32_t *ids, const float *table, float *x, uint32_t n,
                   uint32_t cols) {
    embed_job j = {.ids = ids, .from = table, .to = x, .n = n, .cols = cols};
    slices_run(c, n, SLICE_ROWS, copy_rows, &j);
}

static void add_columns(void *arg, uint32_t index, void *scratch) {
    const embed_job *j = arg;
    const slice s = slice_of(index, SLICE_COLS, j->cols);
    (void)scratch;
    for (size_t t = 0; t < j->n; t++) {
        const float *from = j->from + t * j->cols + s.begin;
        float *to = j->to + (size_t)j->ids[t] * j->cols + s.begin;
        for (uint32_t i = 0; i < s.count; i++) to[i] += from[i];
    }
}

void embed_backward(const crew *c, const int32_t *ids, const float *dx, float *dtable, uint32_t n,
                    uint32_t cols) {
    embed_job j = {.ids = ids, .from = dx, .to = dtable, .n = n, .cols = cols};
    slices_run(c, cols, SLICE_COLS, add_columns, &j);
}
