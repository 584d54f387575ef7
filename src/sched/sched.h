/* sched.h - who runs next: continuous batching with chunked prompts.
 *
 * Each turn of the engine loop:
 *
 *   sched_plan()    pure: which rows the next step computes, who is admitted, who must
 *                   give its blocks back.  Never reads a token.
 *   sched_commit()  carries the plan out on seats and blocks
 *   (the step, then one sampled token per row that wants logits or the best)
 *   sched_apply()   appends the tokens, finishes what is complete
 *
 * Where tokens are made on a device, the next step may be on its way before this one's are here:
 *
 *   sched_commit(now); (now begins); sched_follow(now, next); (next begins); (now ends);
 *   sched_apply(now); (next draws); messages; sched_follow(next, ...) or not; (next ends);
 *   sched_apply(next)
 *
 * What next draws its tokens by may depend on those of now, as penalties do: sched_history() has
 * them behind sched_apply(now).  All else of next is known when it begins.
 *
 * A sequence that ends meanwhile leaves a row in `next` that nobody wants.  It stands behind all
 * that was begun before it and before all that comes: the seat and the blocks are free at once,
 * for who gets them writes later; a state begins anew at position 0; and full blocks that others
 * share are never written.
 *
 * Order: running sequences decode first, oldest first; then prompts are computed in
 * chunks; then the queue is admitted first come, first served.  When blocks run out the
 * youngest sequence is preempted: it goes back to the head of the queue with all its
 * tokens.  Where there is a tier (engine/kv_tier.h) with room for its blocks they are copied
 * there, and back when it is admitted, and it goes on where it was; else it is computed again.
 * So nothing is lost and, numerics being exact, no token changes.  A sequence without credits is
 * parked: it gets no rows, its blocks are the first to go, and after a while its seat, too, when
 * somebody waits for it.
 *
 * A step's rows that were generated come before those of prompts, and a chunk has rows of one kind
 * only: what was generated is computed again, after a preemption, in a chunk behind the prompt's.
 *
 * Events go into the buffer given at creation as an open wire EVENTS frame.
 * Owner: the engine worker; engine thread only.  The clock is passed in. */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include "engine/engine.h"
#include "engine/lora.h"
#include "engine/sampler.h"
#include "sched/seq.h"
#include "wire/wire.h"

typedef struct sched sched;

enum {
    /* Vectors that one step finishes, so that its events fit a ring; or one vector, if longer. */
    SCHED_STEP_VECTOR_BYTES = 512 << 10,
};

typedef struct sched_options {
    uint32_t seats;          /* sequences that run at the same time */
    uint32_t rows_max;       /* rows of one step, >= seats */
    uint32_t step_ms_target; /* prompt chunks shrink so that a step takes about this; 0: off */
    uint32_t queue_max;      /* requests that wait for their first seat */
    uint32_t park_ms_max;    /* parked longer, a sequence gives its seat to whoever waits */
    uint32_t ctx_max;        /* tokens per sequence */
    uint32_t vocab;
    const int32_t *eog_ids; /* end of sequence or turn; borrowed */
    uint32_t eog_count;
    bool no_generate;          /* the model has no head to sample tokens from */
    bool finds_best;           /* steps find the largest logit themselves: rows may want only it */
    bool no_sharing;           /* a choice cannot start with blocks of another (state models) */
    bool whole_prompts;        /* encoders: all rows of a sequence in one step */
    uint32_t embed_dims;       /* values of an EMBED vector; 0: not offered */
    uint32_t rank_labels;      /* values of a RANK vector; 0: not offered */
    uint32_t embed_tokens_max; /* of one prompt of EMBED or RANK */
    gen_pooling pooling;       /* what GEN_POOLING_MODEL means */
    lora_table *loras;         /* borrowed; NULL: no adapters */
    kv_tier *tier; /* borrowed, and only this scheduler changes it; NULL: there is none */
} sched_options;

typedef struct sched_counters {
    uint64_t prefill_rows;
    uint64_t decode_rows;
    uint64_t preemptions;
    uint64_t preemptions_saved; /* of them, those whose blocks went to the tier */
    uint64_t canceled;
    uint32_t running;
    uint32_t waiting; /* sequences */
    uint32_t parked;
} sched_counters;

/* kv is borrowed and only this scheduler changes it.  events is borrowed. */
NODISCARD status sched_create(sched **out, const sched_options *opt, kv_pool *kv, buf *events,
                              error *err);
void sched_destroy(sched *s);

/* From here on only the calling thread may use it (asserted). */
void sched_claim(sched *s);

/* --- messages from above; each may append events --------------------------------- */
/* Answers with ACCEPTED, or with ERROR when the request cannot be taken. */
void sched_submit(sched *s, const gen_request *r, uint64_t now_ns);
/* The choice (or all) ends now: its seat and blocks are free before the next plan. */
void sched_cancel(sched *s, uint64_t id, uint16_t choice, uint64_t now_ns);
void sched_credit(sched *s, uint64_t id, uint32_t tokens);
/* Nobody is above any more: everything is canceled, and submissions are refused. */
void sched_drain(sched *s, uint64_t now_ns);

/* --- a step ------------------------------------------------------------------------- */
typedef struct plan_item {
    seq *seq;          /* NULL: it ended while the step was computed */
    uint32_t from;     /* first token to compute */
    uint32_t rows;     /* how many, > 0 */
    bool wants_logits; /* of the last one: the sequence's newest token is followed by a sample */
} plan_item;

typedef struct plan_admit {
    seq *seq;
    uint32_t share_blocks; /* full blocks taken over from the request's first choice */
} plan_admit;

typedef struct step_plan {
    plan_item *items; /* [items_count] */
    uint32_t items_count;
    plan_admit *admits;
    uint32_t admits_count;
    seq **preempts;
    uint32_t preempts_count;
    uint32_t rows;
} step_plan;

/* Room for any plan of this scheduler. */
NODISCARD status step_plan_create(step_plan **out, const sched_options *opt, error *err);
void step_plan_destroy(step_plan *p);

/* Pure.  An empty plan (rows 0) means there is nothing to do until a message comes. */
void sched_plan(const sched *s, uint64_t now_ns, step_plan *out);

/* Take seats and blocks as planned; fills `rows` [plan->rows] for the engine.  A sequence
 * that finds no memory for its tokens ends with an error and drops out of the plan. */
void sched_commit(sched *s, step_plan *plan, uint64_t now_ns, engine_row *rows);

/* The step behind `now`, which is being computed: the one that would be planned if none of its
 * tokens ended anything, already committed; `rows` take ~i for the token that row i of `now` makes.
 * False, and nothing has changed, when that is not simply a token more of sequences of `now`: where
 * another one may be computed, admitted or preempted.  All rows of `now` make their tokens
 * themselves.  *next is borrowed until its sched_apply(); no other plan may be committed before
 * that. */
bool sched_follow(sched *s, const step_plan *now, uint64_t now_ns, step_plan *next,
                  engine_row *rows);

/* Instead of sched_apply(): nothing can be computed any more.  Every request ends with this error,
 * and so do all that come. */
void sched_fail(sched *s, step_plan *plan, const error *why);

/* What to sample for a planned item that wants logits. */
sample_history sched_history(const plan_item *it);
/* Ids that must not come out there (minimum length); returns how many of `out`
 * [eog_count + WIRE_STOP_IDS_MAX] were filled. */
uint32_t sched_banned(const sched *s, const plan_item *it, int32_t *out);

/* Before sched_apply(): the hidden state, or the scores, of a row of a sequence that makes a
 * vector went into it by seq_vector_add().
 * results: one per item that wants logits, in item order.  step_ns: how long the step took. */
void sched_apply(sched *s, const step_plan *plan, const sample_result *results, uint64_t now_ns,
                 uint64_t step_ns);

/* --- introspection -------------------------------------------------------------------- */
bool sched_is_idle(const sched *s); /* no request at all */
sched_counters sched_counters_get(const sched *s);
/* All invariants over queue, seats and blocks. */
bool sched_validate(const sched *s);

#endif
