/* engine_rig.h - whole models run token by token, for the tests of the engine. */
#ifndef ENGINE_RIG_H
#define ENGINE_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

enum { RIG_ENGINES = 5, RIG_TOKENS_MAX = 512 };

typedef struct rig_engine {
    const char *name;
    const backend_ops *backend;
    uint32_t threads;
    cpu_isa isa_cap;
} rig_engine;

/* [0] is the reference; then scalar and the best class, each with 1 and 2 threads. */
extern const rig_engine rig_engines[RIG_ENGINES];

/* Options for one of them: 8 seats, 64 rows, all of which may want logits. */
engine_options rig_options(const rig_engine *e, dtype kv_type, uint32_t ctx_max);

/* A sequence being computed: which ids, how far, and where its logits go. */
typedef struct rig_sequence {
    const int32_t *ids;
    uint32_t count; /* ids */
    uint32_t seat;
    uint32_t done;
    float *logits; /* [count, vocab], filled as it goes */
} rig_sequence;

/* Compute up to `rows` further tokens of each sequence in one step, interleaved, and
 * keep their logits. */
void rig_advance(engine *e, rig_sequence *list, uint32_t count, uint32_t rows);

/* Logits [count, vocab] of all positions in chunks of `chunk` rows on a fresh engine; the
 * caller frees.  NULL, after a failed CHECK, when the engine does not open. */
float *rig_all_logits(const model *m, const engine_options *opt, const int32_t *ids, uint32_t count,
                      uint32_t chunk);

#endif
