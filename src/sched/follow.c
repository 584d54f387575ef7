/* follow.c - sched_follow(): the step behind one that is being computed.  See sched.h.
 *
 * Its plan is what sched_plan() makes when every sequence of `now` has its token already: for as
 * long as it takes to plan they have one, ~i, which stands for what row i makes.  So a step that
 * runs ahead has the rows that it would have had anyway, unless a token turns out to end its
 * sequence, or a message comes meanwhile. */
#include "base/assert.h"
#include "sched/sched_internal.h"

/* --- is it foreseeable? -------------------- */

/* Does each row of the step make one token of a sequence that has all others? */
static bool is_decode_only(const step_plan *now) {
    for (uint32_t i = 0; i < now->items_count; i++) {
        const plan_item *it = &now->items[i];
        if (it->rows != 1 || !it->wants_logits) return false;
        if (it->seq != NULL && it->seq->state != SEQ_STATE_DECODE) return false;
    }
    return true;
}

/* With the tokens that it seems to have, it is complete. */
static bool is_full(const sched *s, const seq *q) {
    return seq_output_count(q) >= q->request->tokens_max || q->count >= s->opt.ctx_max;
}

/* --- as if the tokens were there -------------------- */

static void pretend(const step_plan *now) {
    for (uint32_t i = 0; i < now->items_count; i++) {
        seq *q = now->items[i].seq;
        if (q == NULL) continue;
        seq_append(q, ~(int32_t)i);
        q->computed++;
        q->request->credits--;
    }
}

static void stop_pretending(const step_plan *now) {
    for (uint32_t i = 0; i < now->items_count; i++) {
        seq *q = now->items[i].seq;
        if (q == NULL) continue;
        q->count--;
        q->computed--;
        q->request->credits++;
    }
}

/* --- the plan -------------------- */

/* Those that are complete get no further row.  False: somebody waits for what they will leave. */
static bool drop_full(const sched *s, step_plan *next, bool any_full) {
    uint32_t kept = 0;
    if (any_full && s->waiting_count > 0) return false;
    for (uint32_t i = 0; i < next->items_count; i++)
        if (!is_full(s, next->items[i].seq)) next->items[kept++] = next->items[i];
    next->items_count = next->rows = kept;
    return kept > 0;
}

/* Are all of them sequences of `now`?  Both plans have them in the order of admission. */
static bool are_of(const step_plan *now, const step_plan *next) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < next->items_count; i++, at++) {
        while (at < now->items_count && now->items[at].seq != next->items[i].seq) at++;
        if (at == now->items_count) return false;
    }
    return true;
}

static bool any_is_full(const sched *s, const step_plan *now) {
    for (uint32_t i = 0; i < now->items_count; i++)
        if (now->items[i].seq != NULL && is_full(s, now->items[i].seq)) return true;
    return false;
}

static bool plan_next(const sched *s, const step_plan *now, uint64_t now_ns, step_plan *next) {
    sched_plan(s, now_ns, next);
    if (next->preempts_count > 0 || next->admits_count > 0 || !are_of(now, next)) return false;
    if (!drop_full(s, next, any_is_full(s, now))) return false;
    for (uint32_t i = 0; i < next->items_count; i++)
        if (seq_reserve(next->items[i].seq, NULL) != OK) return false; /* the next plan tells */
    return true;
}

static void commit_next(sched *s, step_plan *next, engine_row *rows) {
    for (uint32_t i = 0; i < next->items_count; i++) {
        const plan_item *it = &next->items[i];
        ASSERT(it->rows == 1 && it->wants_logits);
        const status st = kv_seat_grow(s->kv, it->seq->seat, it->from + 1, NULL);
        ASSERT(st == OK); /* the plan counted the blocks */
        rows[i] = sched_row_of(s, it, 0);
        ASSERT(rows[i].token < 0);
    }
    s->ahead = next;
}

bool sched_follow(sched *s, const step_plan *now, uint64_t now_ns, step_plan *next,
                  engine_row *rows) {
    ASSERT(thread_is_owner(&s->owner) && (s->ahead == NULL || s->ahead == now));
    if (s->draining || !is_decode_only(now)) return false;
    pretend(now);
    const bool follows = plan_next(s, now, now_ns, next);
    if (follows) commit_next(s, next, rows);
    stop_pretending(now);
    return follows;
}
