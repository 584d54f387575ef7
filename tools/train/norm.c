/* norm.c - RMSNorm.  The gain's gradient is a sum over tokens: cut by columns, in their order. */
#include "train/layers.h"
#include "train/slices.h"

typedef struct norm_job {
    const kernels *kern;
    const float *x, *gain;
    float *y, *inv;
    uint32_t n, cols;
    float eps;
} norm_job;

static void norm_slice(void *arg, uint32_t index, void *scratch) {
    const norm_job *j = arg;
    const slice s = slice_of(index, SLICE_ROWS, j->n);
    (void)scratch;
    for (size_t t = s.begin; t < s.begin + s.count; t++)
        j->kern->rms_row(j->x + t * j->cols, j->gain, j->y + t * j->cols, j->cols, j->eps,
                         &j->inv[t]);
}

void norm_forward(const crew *c, const float *x, const float *gain, float *y, float *inv,
                  uint32_t n, uint32_t cols, float eps) {
    norm_job j = {c->kern, x, gain, y, inv, n, cols, eps};
    slices_run(c, n, SLICE_ROWS, norm_slice, &j);
}

typedef struct norm_back_job {
    const kernels *kern;
    const norm_gradient *g;
} norm_back_job;

static void input_slice(void *arg, uint32_t index, void *scratch) {
    const norm_back_job *j = arg;
    const norm_gradient *g = j->g;
    const slice s = slice_of(index, SLICE_ROWS, g->n);
    (void)scratch;
    for (size_t t = s.begin; t < s.begin + s.count; t++)
        j->kern->rms_grad_row(g->dy + t * g->cols, g->x + t * g->cols, g->gain, g->inv[t],
                              g->dx + t * g->cols, g->cols);
}

static void gain_slice(void *arg, uint32_t index, void *scratch) {
    const norm_back_job *j = arg;
    const norm_gradient *g = j->g;
    const slice s = slice_of(index, SLICE_COLS, g->cols);
    (void)scratch;
    for (size_t t = 0; t < g->n; t++)
        j->kern->rms_grad_gain(g->dy + t * g->cols + s.begin, g->x + t * g->cols + s.begin,
                               g->inv[t], g->dgain + s.begin, s.count);
}

void norm_backward(const crew *c, const norm_gradient *g) {
    norm_back_job j = {c->kern, g};
    slices_run(c, g->n, SLICE_ROWS, input_slice, &j);
    slices_run(c, g->cols, SLICE_COLS, gain_slice, &j);
}
