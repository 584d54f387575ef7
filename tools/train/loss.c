/* loss.c - cross-entropy of one token after another: -log(softmax(logits)[target]). */
#include <math.h>

#include "train/layers.h"
#include "train/slices.h"

typedef struct loss_job {
    const kernels *kern;
    float *logits;
    const int32_t *targets;
    const float *weights;
    double *losses;
    uint32_t n, vocab;
    float scale;
} loss_job;

/* d loss / d logits = softmax(logits) - one at the target. */
static void loss_row(const loss_job *j, size_t t) {
    float *row = j->logits + t * j->vocab;
    const float weight = j->weights[t] * j->scale;
    const float target = row[j->targets[t]];
    float max = 0, sum = 0;
    j->kern->exp_row(row, j->vocab, 1.0f, &max, &sum);
    j->losses[t] = log((double)sum) + (double)max - (double)target;
    j->kern->scale_row(row, j->vocab, weight / sum);
    row[j->targets[t]] -= weight;
}

static void loss_slice(void *arg, uint32_t index, void *scratch) {
    const loss_job *j = arg;
    const slice s = slice_of(index, SLICE_ROWS, j->n);
    (void)scratch;
    for (size_t t = s.begin; t < s.begin + s.count; t++) loss_row(j, t);
}

void loss_rows(const crew *c, float *logits, const int32_t *targets, const float *weights,
               double *losses, uint32_t n, uint32_t vocab, float scale) {
    loss_job j = {c->kern, logits, targets, weights, losses, n, vocab, scale};
    slices_run(c, n, SLICE_ROWS, loss_slice, &j);
}
