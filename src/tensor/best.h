/* best.h - the largest of a row of logits: what greedy sampling takes.
 *
 * The one place of the rule, for the sampler and for backends on the host; cuda/argmax.cu has it
 * as an order of integers, and its tests hold it against this. */
#ifndef TENSOR_BEST_H
#define TENSOR_BEST_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* Does logit `a` of token a_id stand before `b` of b_id: is it larger, or the same (zeros of either
 * sign are) with the smaller id?  NaN stands last.  A total order. */
static inline bool best_before(float a, int32_t a_id, float b, int32_t b_id) {
    if (isnan(a) || isnan(b)) return isnan(b) && (!isnan(a) || a_id < b_id);
    return a > b || (a == b && a_id < b_id);
}

/* The token that stands before all others of logits [count], count > 0. */
int32_t best_of(const float *logits, uint32_t count);

#endif
