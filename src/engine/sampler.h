/* sampler.h - from logits to the next token.
 *
 * A chain of stages: logit bias and penalties, temperature, top-k, top-p, min-p; then one of the
 * tokens that are left is drawn.  tensor/sample.h says what each of them is, to the bit: a device
 * that draws by a sample_order gets the token that sampler_pick() takes from the same logits.
 * Owner: the engine; engine thread only.  Nothing is allocated after creation. */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/sample.h"

enum { SAMPLE_BIASES_MAX = 1024 };

typedef struct sample_bias {
    int32_t id;
    float bias;
} sample_bias;

/* Neutral values switch a stage off: temperature 1, top_k 0, top_p 1, min_p 0,
 * penalties 1 / 0 / 0.  temperature 0 is greedy, top_k 1 too. */
typedef struct sample_params {
    float temperature;
    float top_p;
    float min_p;
    float repetition_penalty; /* Keskar et al. 2019 (CTRL); over the whole window */
    float presence_penalty;   /* these two, after OpenAI: over the output in the window */
    float frequency_penalty;
    uint32_t top_k;
    uint32_t penalty_tokens; /* window: the last so many tokens; UINT32_MAX: all */
    uint64_t seed;
    const sample_bias *biases; /* [biases_count], borrowed */
    uint32_t biases_count;
    const uint32_t *allowed; /* [sample_mask_words(vocab)] tokens that may come out, at least one;
                                borrowed; NULL: all */
    bool logprobs;
    uint8_t top_logprobs; /* <= SAMPLE_TOP_MAX */
} sample_params;

sample_params sample_params_default(void);

typedef enum sample_stage {
    SAMPLE_PENALTIES, /* logit bias too */
    SAMPLE_TEMPERATURE,
    SAMPLE_TOP_K,
    SAMPLE_TOP_P, /* nucleus: Holtzman et al. 2020 */
    SAMPLE_MIN_P, /* Nguyen et al. 2024 */
} sample_stage;

/* Is all that sampler_pick() does of any logits to take the one that stands first (best_of() of
 * tensor/best.h), as long as no id is banned?  Then it need not see them. */
bool sample_is_best(const sample_params *p);

/* Do penalties leave every logit as it is, whatever the history? */
bool sample_is_without_penalties(const sample_params *p);

/* The tokens a choice has seen: prompt, then output. */
typedef struct sample_history {
    const int32_t *ids; /* [count] */
    uint32_t count;
    uint32_t prompt_count;
} sample_history;

typedef struct sample_result {
    int32_t id;
    float logprob;      /* of id under softmax of the untouched logits */
    uint32_t top_count; /* alternatives, best first */
    int32_t top_ids[SAMPLE_TOP_MAX];
    float top_logprobs[SAMPLE_TOP_MAX];
} sample_result;

typedef struct sampler sampler;

/* ERR_LIMIT: more than SAMPLE_VOCAB_MAX tokens. */
NODISCARD status sampler_create(sampler **out, uint32_t vocab, error *err);
void sampler_destroy(sampler *s);

/* Draw one token.  `banned` ids (may be NULL) cannot come out, unless nothing else may.  logits
 * [vocab] stay as they are.  Deterministic in its arguments: position is history.count. */
void sampler_pick(sampler *s, const float *logits, const sample_params *p, sample_history history,
                  uint32_t choice, const int32_t *banned, uint32_t banned_count,
                  sample_result *out);

/* Where changes go. */
typedef struct sample_room {
    sample_change *changes; /* [count] */
    uint32_t count;
} sample_room;

/* What a device needs to draw the same token by itself, and to say as much of it: the rule, and the
 * changes, which are in the room then.  False, and nothing said, when it has to be sampler_pick():
 * there are more changes than room, or than SAMPLE_CHANGES_MAX. */
bool sampler_order(sampler *s, const sample_params *p, sample_history history, uint32_t choice,
                   const int32_t *banned, uint32_t banned_count, sample_room room,
                   sample_order *out);

/* The same result from what a device made of an order; logprobs: NULL where none are wanted. */
sample_result sample_result_of(int32_t id, const sample_logprobs *logprobs);

/* The distribution that a chain of stages leaves, as probability per id [vocab]. */
void sampler_distribution(sampler *s, const float *logits, const sample_params *p,
                          sample_history history, const sample_stage *stages, uint32_t count,
                          float *probs);

#endif
