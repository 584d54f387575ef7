/* sched_internal.h - the state of the scheduler, which its files share. */
#ifndef SCHED_SCHED_INTERNAL_H
#define SCHED_SCHED_INTERNAL_H

#include "base/idmap.h"
#include "base/thread.h"
#include "sched/sched.h"

struct sched {
    sched_options opt;
    kv_pool *kv; /* borrowed */
    buf *events; /* borrowed */
    idmap requests;
    seq **running; /* [running_count], oldest admission first */
    uint32_t running_count;
    bool *seat_taken; /* [opt.seats] */
    seq *waiting;     /* queue, linked by seq.next */
    uint32_t waiting_count;
    uint32_t waiting_requests; /* requests that never had a seat */
    uint64_t admissions;
    float *vector; /* owned; room for the longest result of EMBED or RANK */
    /* Smoothed cost of a row of a prompt, and of one that was generated and is computed again in a
     * chunk, which may go another way (numerics `fast`); 0: not measured yet. */
    uint64_t row_ns, again_ns;
    step_plan *ahead; /* borrowed; of sched_follow(), until it is applied; NULL: none */
    error failure;    /* code OK: none */
    bool draining;
    sched_counters counters;
    thread_owner owner;
};

/* seats.c */
void sched_queue_remove(sched *s, seq *q);
/* Leave the running set: seat and blocks are free. */
void sched_seat_leave(sched *s, seq *q);
/* Back to the head of the queue, with copies of its blocks or with nothing computed. */
void sched_preempt(sched *s, seq *q);
void sched_admit(sched *s, const plan_admit *a, uint64_t now_ns);
/* The copies of its blocks are not needed any more. */
void sched_drop_saved(sched *s, seq *q);

/* sched.c */
void sched_emit(sched *s, const gen_event *e);
void sched_emit_paused(sched *s, const seq *q, gen_pause why);
/* The choice is complete; the request with its last one, and it is gone then. */
void sched_finish(sched *s, seq *q, gen_finish reason, uint64_t now_ns);

engine_row sched_row_of(const sched *s, const plan_item *it, uint32_t k);
/* Has none of its sequences had a seat yet? */
static inline bool request_never_ran(const sched_request *r) { return r->first_row_ns == 0; }

/* Does it make a vector, not tokens? */
static inline bool seq_is_vector(const seq *q) { return q->request->vector_len > 0; }

/* Are the tokens from `from` on such that were generated?  A sequence that was preempted has them
 * behind its prompt when it is computed again. */
static inline bool seq_is_generated(const seq *q, uint32_t from) {
    return from >= q->request->prompt_count;
}

/* Saved with all that it has but its newest token, as one that generates is? */
static inline bool seq_is_saved_whole(const seq *q) {
    return q->saved != KV_TIER_NONE && q->computed + 1 == q->count &&
           seq_is_generated(q, q->computed);
}

static inline bool seq_is_running(const seq *q) {
    return q->state == SEQ_STATE_PREFILL || q->state == SEQ_STATE_DECODE;
}

#endif
