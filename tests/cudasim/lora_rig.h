/* lora_rig.h - a crowd of sequences with adapters on an engine: what the tests of adapters on the
 * software GPU share.
 *
 * Every sequence begins at another step with a prompt, some tokens at a time, and goes on token by
 * token; so steps have rows of both kinds, of sequences with different mixes and with none. */
#ifndef CUDASIM_LORA_RIG_H
#define CUDASIM_LORA_RIG_H

#include "engine/engine_rig.h"
#include "engine/lora.h"
#include "model/adapter_rig.h"

enum { CROWD_LANES = 8, CROWD_TOKENS = 18, CROWD_ADAPTERS = 3, CROWD_RANK_MAX = 16 };

typedef struct crowd_lane {
    int32_t ids[CROWD_TOKENS];
    uint32_t count, prompt_count, begin; /* the step it begins in */
    lora_mix mix;                        /* count 0: none */
    uint32_t pos;
    float *logits; /* owned; [count, vocab] of the last run */
} crowd_lane;

typedef struct crowd {
    model *m;
    engine *e;
    lora_table *t;
    rig_adapter files[CROWD_ADAPTERS];
    crowd_lane lanes[CROWD_LANES];
} crowd;

/* Options of a step of all lanes; `no_adapters`: an engine that plans for none. */
engine_options crowd_options(const rig_engine *on, bool fast, bool no_adapters);
/* With adapters 0 .. CROWD_ADAPTERS - 1, of every weight that can be adapted but one, and lanes of
 * which each fourth has none; NULL after a failed CHECK. */
crowd *crowd_open(const char *spec, const engine_options *opt);
void crowd_close(crowd *c);

/* A random adapter of that rank for the engine's weights; `left_out` is one it leaves alone. */
void crowd_write_adapter(rig_adapter *out, const engine *e, uint32_t rank, uint32_t left_out,
                         uint64_t seed);

/* Run the lanes of that set of bits, from their beginning to their ends. */
void crowd_run(crowd *c, uint32_t lanes);
/* One step of them; false: none has anything left. */
bool crowd_step(crowd *c, uint32_t lanes, uint32_t step);
void crowd_rewind(crowd *c);
/* Their logits of the last run, [sum of counts, vocab]; the caller frees. */
float *crowd_logits(const crowd *c, uint32_t lanes, size_t *floats);

#endif
