/* seq.h - a sequence: one token timeline, and the request it belongs to.
 *
 *   WAITING -> PREFILL   [admitted: it gets a seat]
 *   PREFILL -> DECODE    [all known tokens are computed]
 *   PREFILL, DECODE -> WAITING   [preempted: seat and blocks go, the tokens stay; keys and values,
 *                                 too, where the host's memory has room for them]
 *   WAITING -> DECODE    [admitted with them, and nothing else to compute]
 *   WAITING, PREFILL, DECODE -> DONE
 *
 * Owner: the scheduler; engine thread only. */
#ifndef SCHED_SEQ_H
#define SCHED_SEQ_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/kv_tier.h"
#include "engine/lora.h"
#include "engine/sampler.h"
#include "wire/wire.h"

#define SEQ_STATES(X) X(WAITING) X(PREFILL) X(DECODE) X(DONE)
typedef enum seq_state {
#define SEQ_STATE_ENUM(name) SEQ_STATE_##name,
    SEQ_STATES(SEQ_STATE_ENUM)
#undef SEQ_STATE_ENUM
        SEQ_STATE_COUNT
} seq_state;

enum { SEAT_NONE = UINT32_MAX };

typedef struct sched_request sched_request;
typedef struct seq seq;

struct seq {
    sched_request *request; /* borrowed: owns us */
    uint16_t choice;
    seq_state state;
    uint32_t seat;     /* SEAT_NONE while it has none */
    uint32_t computed; /* tokens whose keys and values are in the cache, or saved */
    uint32_t saved;    /* WAITING: handle of the copies of its blocks; KV_TIER_NONE without */
    int32_t *ids;      /* owned; [count] prompt, then output; NULL before it is admitted */
    uint32_t count;
    uint32_t cap;
    uint64_t admitted; /* order of admission; larger is younger */
    double *vector;    /* owned; [vector_len] EMBED, RANK: what its rows have added up to */
    seq *next;         /* in the waiting queue */
};

struct sched_request {
    uint64_t id;
    gen_kind kind;
    gen_pooling pooling; /* EMBED: never MODEL; RANK: FIRST */
    uint32_t vector_len; /* EMBED, RANK: values of the result; 0: GENERATE */
    lora_mix mix;        /* adapters of all its rows */
    int32_t *prompt;     /* owned; [prompt_count], for choices that have no ids yet */
    uint32_t prompt_count;
    uint32_t ctx_max;
    uint32_t tokens_max;
    uint32_t tokens_min;
    bool ignore_eos;
    uint32_t credits;      /* tokens that may still be sent */
    uint64_t parked_at_ns; /* when credits became 0 */
    sample_params sampling;
    int32_t *stop_ids; /* owned */
    uint32_t stop_ids_count;
    sample_bias *biases; /* owned; sampling.biases */
    uint32_t *allowed;   /* owned; sampling.allowed */
    uint64_t accepted_ns;
    uint64_t first_row_ns;   /* 0: not yet */
    uint64_t first_token_ns; /* 0: not yet */
    uint64_t last_token_ns;
    uint32_t output_tokens; /* over all choices */
    uint32_t cached_tokens;
    uint32_t live; /* choices not DONE */
    uint32_t choices;
    seq seqs[]; /* [choices]; 0 leads: the others take its computed blocks */
};

/* r->ids is the prompt (at least one token); all ids that are allowed are in the vocabulary.
 * vector_len: 0 for GENERATE.  ERR_NOMEM only. */
NODISCARD status request_create(sched_request **out, const gen_request *r, uint32_t ctx_max,
                                uint32_t vocab, uint32_t vector_len, error *err);
void request_destroy(sched_request *r);

/* Asserts that the arrow exists. */
void seq_set_state(seq *s, seq_state to);
const char *seq_state_name(seq_state state);

/* The sequence's own ids, with the prompt in front; harmless when it has them. */
NODISCARD status seq_take_prompt(seq *s, error *err);
/* Does the result depend on this row?  For EMBED and RANK. */
bool seq_pools(const seq *s, uint32_t pos);
/* Add a row's values [request->vector_len] to the result. */
void seq_vector_add(seq *s, const float *values);

/* Room for one more token; ERR_NOMEM leaves the sequence as it is. */
NODISCARD status seq_reserve(seq *s, error *err);
void seq_append(seq *s, int32_t id);

static inline uint32_t seq_output_count(const seq *s) {
    return s->count - s->request->prompt_count;
}

#endif
