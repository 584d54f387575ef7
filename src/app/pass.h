/* pass.h - one sequence computed straight on the engine, for logits, embeddings, perplexity and
 * bench.
 *
 * No scheduler, no sampling: tokens in, logits or hidden states out, in chunks. */
#ifndef APP_PASS_H
#define APP_PASS_H

#include "engine/engine.h"

typedef struct pass {
    engine *engine;       /* borrowed; its seat 0 is ours */
    const lora_mix *lora; /* borrowed; adapters of every row, or NULL */
    engine_row *rows;     /* borrowed; [rows_max], as the engine was opened for */
    uint32_t rows_max;
} pass;

typedef enum pass_want { PASS_NOTHING, PASS_LOGITS, PASS_HIDDEN } pass_want;

/* The next `count` tokens (<= rows_max) of the sequence, whose first is at position `from`; 0
 * begins a new one.  The rows' logits are the result, or engine_hidden() has their states. */
NODISCARD status pass_chunk(pass *p, const int32_t *ids, uint32_t from, uint32_t count,
                            pass_want want, const float **logits, error *err);

/* Receives the logits [count, vocab] of positions from.. in order. */
typedef status pass_fn(void *ctx, const float *logits, uint32_t from, uint32_t count, error *err);

/* Compute ids[0..count) from an empty seat; `all` gives logits of every position to fn,
 * else only the last one's.  The engine's taken_rows_max bounds a chunk when `all`. */
NODISCARD status pass_run(pass *p, const int32_t *ids, uint32_t count, bool all,
                          uint32_t chunk_rows_max, pass_fn *fn, void *ctx, error *err);

#endif
