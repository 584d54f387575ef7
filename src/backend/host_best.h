/* host_best.h - the best ids of a step whose logits are in the host's memory. */
#ifndef BACKEND_HOST_BEST_H
#define BACKEND_HOST_BEST_H

#include "backend/batch.h"

/* step_result.best: of the rows of in->best, from logits [head_rows, vocab], in out [head_rows];
 * the other places of `out` stay as they are. */
const int32_t *host_best(const batch *in, const float *logits, uint32_t vocab, int32_t *out);

#endif
