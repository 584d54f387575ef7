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

/* A model by its path or "synth:...", and one of the shared data, its weights of a type; the caller
 * closes it.  NULL after a failed CHECK, which has named it. */
model *rig_open_model(const char *path);
model *rig_open_oracle(const char *name, const char *type);
/* Tokens of a sequence; any will do, other ones for every salt. */
void rig_fill_ids(int32_t *ids, uint32_t count, uint32_t vocab, uint32_t salt);
/* Of backend_progress: checks that the shares, of which ctx is the last one (a double), ascend. */
bool rig_tell_share(void *ctx, uint64_t done, uint64_t total);

/* Options for one of them: 8 seats, RIG_TOKENS_MAX rows, all of which may want logits. */
engine_options rig_options(const rig_engine *e, dtype kv_type, uint32_t ctx_max);

/* A sequence being computed: which ids, how far, and where its logits go. */
typedef struct rig_sequence {
    const int32_t *ids;
    uint32_t count;        /* ids */
    uint32_t prompt_count; /* the first so many were given; no step has rows of both kinds */
    uint32_t seat;
    uint32_t done;
    float *logits; /* [count, vocab], filled as it goes; or NULL */
    float *hidden; /* [count, n_embd], the same */
} rig_sequence;

/* Compute up to `rows` further tokens of each sequence in one step, and keep what they give. */
void rig_advance(engine *e, rig_sequence *list, uint32_t count, uint32_t rows);

/* Logits [count, vocab] of all positions in chunks of `chunk` rows on a fresh engine, all of a
 * prompt in mode `fast`; the caller frees.  NULL, after a failed CHECK, when the engine does not
 * open. */
float *rig_all_logits(const model *m, const engine_options *opt, const int32_t *ids, uint32_t count,
                      uint32_t chunk);
/* The same for hidden states [count, n_embd]. */
float *rig_all_hidden(const model *m, const engine_options *opt, const int32_t *ids, uint32_t count,
                      uint32_t chunk);

/* Does a step whose rows want the best, logits, hidden states or nothing give each what it gets
 * when all want logits? */
void rig_check_best(const model *m, const engine_options *opt);

/* 4-byte numbers of a file below the shared data; 0 when it is not there. */
size_t rig_read_file(const char *relative, void *out, size_t bytes_max);
/* The experts' matrices of a layer, whose pages are mapped from the file: the process lets go of
 * them, and how many of the whole ones it does not have. */
void rig_experts_forget(const model *m, uint32_t layer);
size_t rig_experts_missing(const model *m, uint32_t layer);
/* sum((a - b)^2) / sum(b^2) */
double rig_nmse(const float *a, const float *b, size_t count);

#endif
