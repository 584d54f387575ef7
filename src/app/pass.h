/* pass.h - one sequence computed straight on the engine, for logits, perplexity and bench.
 *
 * No scheduler, no sampling: tokens in, logits out, in chunks. */
#ifndef APP_PASS_H
#define APP_PASS_H

#include "engine/engine.h"

enum { PASS_ROWS_MAX = 256 };

typedef struct pass {
    engine *engine; /* borrowed; its seat 0 is ours */
    engine_row rows[PASS_ROWS_MAX];
} pass;

/* Receives the logits [count, vocab] of positions from.. in order. */
typedef status pass_fn(void *ctx, const float *logits, uint32_t from, uint32_t count, error *err);

/* Compute ids[0..count) from an empty seat; `all` gives logits of every position to fn,
 * else only the last one's.  The engine's taken_rows_max bounds a chunk when `all`. */
NODISCARD status pass_run(pass *p, const int32_t *ids, uint32_t count, bool all,
                          uint32_t chunk_rows_max, pass_fn *fn, void *ctx, error *err);

#endif
