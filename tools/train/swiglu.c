/* swiglu.c - the gated unit between the feed-forward matrices, token by token. */
#include "train/layers.h"
#include "train/slices.h"

typedef struct swiglu_job {
    const kernels *kern;
    const float *gate, *up;
    float *y;
    float *dgate, *dup; /* backward */
    const float *dy;
    uint32_t n, cols;
} swiglu_job;

static void forward_slice(void *arg, uint32_t index, void *scratch) {
    const swiglu_job *j = arg;
    const slice s = slice_of(index, SLICE_ROWS, j->n);
    const size_t at = (size_t)s.begin * j->cols;
    (void)scratch;
    j->kern->swiglu_row(j->gate + at, j->up + at, j->y + at, s.count * j->cols);
}

void swiglu_forward(const crew *c, const float *gate, const float *up, float *y, uint32_t n,
                    uint32_t cols) {
    swiglu_job j = {.kern = c->kern, .gate = gate, .up = up, .y = y, .n = n, .cols = cols};
    slices_run(c, n, SLICE_ROWS, forward_slice, &j);
}

static void backward_slice(void *arg, uint32_t index, void *scratch) {
    const swiglu_job *j = arg;
    const slice s = slice_of(index, SLICE_ROWS, j->n);
    const size_t at = (size_t)s.begin * j->cols;
    (void)scratch;
    j->kern->swiglu_grad_row(j->dgate + at, j->dup + at, j->dy + at, s.count * j->cols);
}

void swiglu_backward(const crew *c, float *gate, float *up, const float *dy, uint32_t n,
                     uint32_t cols) {
    swiglu_job j = {.kern = c->kern, .dgate = gate, .dup = up, .dy = dy, .n = n, .cols = cols};
    slices_run(c, n, SLICE_ROWS, backward_slice, &j);
}
