/* turn.h - a step of the engine worker: what is planned, where it has got to, and what its tokens
 * are drawn by.
 *
 * A step that is begun while the one before it is computed may need tokens of that for its orders:
 * penalties count them.  Then it promises its orders when it begins, and gives them when these
 * tokens are here.  Owner: the engine worker; engine thread only. */
#ifndef WORKER_TURN_H
#define WORKER_TURN_H

#include "sched/sched.h"

typedef struct turn {
    step_plan *plan;        /* owned, like the next three */
    engine_row *rows;       /* [rows_max] */
    sample_order *orders;   /* [seats] by which rows are drawn; NULL: steps draw none */
    sample_change *changes; /* [changes_max] theirs */
    uint32_t changes_max;
    uint64_t begun_ns;
    bool begun;       /* and not ended */
    bool draws_later; /* orders were promised and not given */
} turn;

/* What makes orders. */
typedef struct turn_drawer {
    const sched *sched; /* borrowed, like the next one */
    sampler *sampler;
    int32_t *banned; /* owned by the worker; [eog_count + WIRE_STOP_IDS_MAX] */
} turn_drawer;

/* ERR_NOMEM only. */
NODISCARD status turn_init(turn *t, const sched_options *o, bool draws, error *err);
void turn_deinit(turn *t); /* harmless when zeroed */

/* Rows that are sampled get orders, as far as there is room for what these change. */
void turn_order(turn *t, const turn_drawer *d);

/* Will a next step, a token more of this one's sequences, have room for all of its orders?  Asked
 * of a step that one can follow, which has a row for each item; of others it says anything. */
bool turn_next_can_draw(const turn *t);
/* Of such a next step, before it begins: give its orders, or promise them. */
void turn_order_ahead(turn *t, const turn_drawer *d);
/* Give what was promised.  A sequence that has ended meanwhile draws nothing. */
void turn_keep_promise(turn *t, const turn_drawer *d);

/* Does the step make all tokens of its rows?  Then the next one need not wait for the host. */
bool turn_makes_tokens(const turn *t);
bool turn_has_prompt(const turn *t);

#endif
