/* sample_rig.h - anything that can be asked of a sampler, and rows of logits that make it hard. */
#ifndef CUDASIM_SAMPLE_RIG_H
#define CUDASIM_SAMPLE_RIG_H

#include "cudasim/rig.h"
#include "engine/sampler.h"

enum { SAMPLE_HISTORY = 40, SAMPLE_BANS = 3, SAMPLE_BIASES = 4, SAMPLE_FILLS = 5 };

/* What a row is drawn by. */
typedef struct sample_asked {
    bool wanted;
    sample_params p;
    uint32_t choice, banned_count;
    sample_history history;
    int32_t ids[SAMPLE_HISTORY], banned[SAMPLE_BANS];
    sample_bias biases[SAMPLE_BIASES];
} sample_asked;

/* At random, of a vocabulary of `cols`; it points into itself, and to a mask until rig_done().
 * Without log-probabilities. */
void sample_ask(sample_asked *d, uint32_t cols);

/* Tokens that may come out: few, or nearly all; one at least, unless `none`. */
uint32_t *sample_mask(uint32_t cols, bool none);
/* The masks of orders, one behind the other, with the rules as a device has them. */
const void *sample_masks(sample_rule *rules, const uint32_t *const *allowed, uint32_t count,
                         uint32_t cols);

/* x [cols]: even, peaked, of few kinds, nearer to each other than digits tell, and broken. */
typedef void sample_fill(float *x, uint32_t cols);
extern sample_fill *const sample_fills[SAMPLE_FILLS];

#endif
