/* sim.h - the engine role under a fake clock and a fake engine, driven from a seed.
 *
 * The fake engine is honest about memory: it keeps each token in the KV block that the
 * scheduler's tables name, and computes logits from the tokens it finds there.  A block
 * that was shared, given back or overwritten wrongly changes the logits, and with them
 * the tokens, which are compared with what the request gets alone. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/engine_worker.h"

enum { SIM_VOCAB = 48, SIM_EOG = 2, SIM_REQUESTS_MAX = 24, SIM_CHOICES_MAX = 4 };

/* xorshift64*: Vigna 2016. */
typedef struct sim_random {
    uint64_t state;
} sim_random;

static inline uint64_t sim_next(sim_random *r) {
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545F4914F6CDD1Dull;
}
/* Uniform in [lo, hi]. */
static inline uint32_t sim_range(sim_random *r, uint32_t lo, uint32_t hi) {
    return lo + (uint32_t)(sim_next(r) >> 33) % (hi - lo + 1);
}
static inline bool sim_chance(sim_random *r, uint32_t percent) {
    return sim_range(r, 0, 99) < percent;
}

typedef struct sim_engine {
    kv_pool *kv;
    int32_t *tokens; /* [blocks_max, KV_BLOCK_TOKENS] */
    float *logits;   /* [rows_max, SIM_VOCAB] */
    uint64_t steps;
} sim_engine;

/* Logits of a sequence, from its tokens alone. */
void sim_logits(const int32_t *ids, uint32_t count, float *logits);
const float *sim_step(void *ctx, const engine_row *rows, uint32_t count);

#endif
