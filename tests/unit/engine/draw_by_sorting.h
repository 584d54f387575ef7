/* draw_by_sorting.h - the definition of tensor/sample.h word for word: sort all, then walk. */
#ifndef TEST_DRAW_BY_SORTING_H
#define TEST_DRAW_BY_SORTING_H

#include "engine/sampler.h"

enum { DRAW_VOCAB_MAX = 4096 };

/* The token that an order draws from logits [vocab], vocab <= DRAW_VOCAB_MAX. */
int32_t draw_by_sorting(const float *logits, uint32_t vocab, const sample_order *o);

#endif
