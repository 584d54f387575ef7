/* sim.h - the engine role under a fake clock and a fake engine, driven from a seed.
 *
 * The fake engine is honest about memory: it keeps each token in the KV block that the
 * scheduler's tables name, and computes logits and hidden states from the tokens it finds
 * there.  A block that was shared, given back or overwritten wrongly changes them, and with
 * them the tokens or the vector, which are compared with what the request gets alone.
 * A decoder may have a tier: blocks that were saved are wiped where they were, and come back only
 * if they are loaded.
 * One with states keeps the tokens of a seat in the order they come in, and cannot start with
 * those of another; an encoder wants all rows of a sequence in one step. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/engine_worker.h"

enum { SIM_VOCAB = 48, SIM_EOG = 2, SIM_REQUESTS_MAX = 24, SIM_CHOICES_MAX = 4 };
enum { SIM_DIMS = 3, SIM_LABELS = 2 };

typedef enum sim_family { SIM_DECODER, SIM_STATES, SIM_ENCODER } sim_family;

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

/* What a step made. */
typedef struct sim_made {
    float *logits;               /* [rows_max, SIM_VOCAB], or SIM_LABELS of an encoder */
    float *hidden;               /* [rows_max, SIM_DIMS] */
    int32_t *best;               /* [rows_max] NULL: it gives logits only */
    sample_logprobs *said;       /* [rows_max] */
    const sample_order **orders; /* [rows_max] the worker's; NULL: nothing is to be drawn later */
    uint32_t *counts;            /* [rows_max] tokens that the row sees */
    uint32_t count;              /* of head rows */
    bool draws_later;            /* it waits for sim_draw() */
} sim_made;

typedef struct sim_engine {
    kv_pool *kv;
    kv_tier *tier;   /* NULL: what is preempted is computed again */
    int32_t *copies; /* [host blocks, KV_BLOCK_TOKENS]; NULL without a tier */
    sim_family family;
    uint32_t ctx_max;
    int32_t *tokens;  /* [blocks_max, KV_BLOCK_TOKENS] */
    int32_t *states;  /* [seats, ctx_max] SIM_STATES: the tokens that a seat has seen */
    uint32_t *seen;   /* [seats] SIM_STATES: how many */
    sim_made made[2]; /* by steps in turn: one may be begun before the other has ended */
    uint64_t begun, ended;
    bool wrong_order; /* rows came that no engine could compute */
    uint64_t steps;
    uint64_t best_rows;  /* of which only the best was wanted */
    uint64_t ahead_rows; /* whose token was the one of a step that had not ended */
    uint64_t late_rows;  /* drawn when the step before had ended */
    uint64_t void_rows;  /* that draw nothing, their sequences having ended with that */
    uint64_t saved_blocks, loaded_blocks;
} sim_engine;

/* Logits of a sequence, from its tokens alone. */
void sim_logits(const int32_t *ids, uint32_t count, float *logits);
/* `n` values of the state at `pos`, from the tokens that are seen there. */
void sim_state(const int32_t *ids, uint32_t count, uint32_t pos, uint32_t n, float *out);
const float *sim_step(void *ctx, const engine_row *rows, uint32_t count);
/* The two halves of it. */
void sim_begin(void *ctx, const engine_row *rows, uint32_t count);
void sim_draw(void *ctx);
const float *sim_end(void *ctx);
const float *sim_hidden(void *ctx);
const int32_t *sim_best(void *ctx);
const sample_logprobs *sim_logprobs(void *ctx);
/* What it says of a token that it draws behind so many. */
float sim_said(int32_t id, uint32_t count);
/* A kv_mover. */
void sim_save(void *ctx, const kv_move *moves, uint32_t count);
void sim_load(void *ctx, const kv_move *moves, uint32_t count);

#endif
