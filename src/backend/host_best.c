/* host_best.c - see host_best.h. */
#include "backend/host_best.h"

#include "base/assert.h"
#include "tensor/best.h"

const int32_t *host_best(const batch *in, const float *logits, uint32_t vocab, int32_t *out) {
    ASSERT(in->samples == NULL); /* the sampler has the logits */
    if (in->best == NULL) return NULL;
    for (uint32_t h = 0; h < in->head_rows; h++)
        if (in->best[h]) out[h] = best_of(logits + (size_t)h * vocab, vocab);
    return out;
}
