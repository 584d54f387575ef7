/* candidates.h - the candidates of a row in their order (tensor/sample.h), without sorting them.
 *
 * Places are found digit by digit, as cuda/sample.cu finds them. */
#ifndef ENGINE_CANDIDATES_H
#define ENGINE_CANDIDATES_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/sample.h"

typedef struct candidates_bin {
    uint64_t weight;
    uint32_t count;
    uint32_t id; /* sum of ids: of one candidate it is its id */
} candidates_bin;

typedef struct candidates {
    const uint32_t *distances; /* [vocab]; borrowed */
    uint32_t vocab;
    uint32_t count;  /* candidates */
    uint64_t weight; /* of them all */
    candidates_bin first[SAMPLE_FIRST_BINS], more[SAMPLE_MORE_BINS];
} candidates;

/* The candidate at which a sum over the order gets there. */
typedef struct candidates_found {
    uint64_t place;  /* sample_place() */
    uint64_t weight; /* of it and all before */
} candidates_found;

/* Counts and weighs distances [vocab], which are to stay as they are.  At least one is near. */
void candidates_init(candidates *c, const uint32_t *distances, uint32_t vocab);

/* The need-th candidate, 1 .. count; or the one whose weight and all before reach `need`, which is
 * 1 .. weight. */
candidates_found candidates_at_count(candidates *c, uint32_t need);
candidates_found candidates_at_weight(candidates *c, uint64_t need);

/* The weight of those at most that far away, which is not SAMPLE_FAR. */
uint64_t candidates_weight_within(const candidates *c, uint32_t distance);

#endif
