/* seats.c - who gets a seat, who gives it away, and where its blocks go then.  See sched.h. */
#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "sched/sched_internal.h"

/* The copies of its blocks are not needed any more. */
void sched_drop_saved(sched *s, seq *q) {
    if (q->saved != KV_TIER_NONE) kv_tier_drop(s->opt.tier, q->saved);
    q->saved = KV_TIER_NONE;
}

static void queue_push_front(sched *s, seq *q) {
    q->next = s->waiting;
    s->waiting = q;
    s->waiting_count++;
}

void sched_queue_remove(sched *s, seq *q) {
    seq **at = &s->waiting;
    while (*at != q) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = q->next;
    q->next = NULL;
    s->waiting_count--;
}

static uint32_t seat_take(sched *s) {
    for (uint32_t i = 0; i < s->opt.seats; i++) {
        if (s->seat_taken[i]) continue;
        s->seat_taken[i] = true;
        return i;
    }
    ASSERT(false); /* the plan counted the seats */
    return SEAT_NONE;
}

/* Leave the running set: seat and blocks are free. */
void sched_seat_leave(sched *s, seq *q) {
    uint32_t i = 0;
    while (s->running[i] != q) i++;
    s->running_count--;
    memmove(&s->running[i], &s->running[i + 1], (s->running_count - i) * sizeof s->running[0]);
    kv_seat_clear(s->kv, q->seat);
    s->seat_taken[q->seat] = false;
    q->seat = SEAT_NONE;
}

/* What is computed of it goes to the tier, or is lost. */
static void save_or_forget(sched *s, seq *q) {
    if (s->opt.tier != NULL && q->computed > 0)
        q->saved = kv_tier_save(s->opt.tier, s->kv, q->seat);
    if (q->saved != KV_TIER_NONE) {
        s->counters.preemptions_saved++;
        return;
    }
    q->computed = 0;
    if (q->vector != NULL) memset(q->vector, 0, q->request->vector_len * sizeof *q->vector);
}

void sched_preempt(sched *s, seq *q) {
    save_or_forget(s, q);
    sched_seat_leave(s, q);
    seq_set_state(q, SEQ_STATE_WAITING);
    queue_push_front(s, q);
    s->counters.preemptions++;
    sched_emit_paused(s, q, GEN_PAUSE_PREEMPTED);
    log_debug("sched", "preempt request=%" PRIu64 " choice=%u tokens=%u saved_tokens=%u",
              q->request->id, q->choice, q->count, q->computed);
}

/* What was saved comes back, but for blocks that it shares. */
static void load_saved(sched *s, seq *q, uint32_t share_blocks) {
    const status st = kv_seat_grow(s->kv, q->seat, q->computed, NULL);
    ASSERT(st == OK); /* the plan counted the blocks */
    kv_tier_load(s->opt.tier, q->saved, s->kv, q->seat, share_blocks);
    q->saved = KV_TIER_NONE;
}

void sched_admit(sched *s, const plan_admit *a, uint64_t now_ns) {
    seq *q = a->seq;
    sched_queue_remove(s, q);
    seq_set_state(q, seq_is_saved_whole(q) ? SEQ_STATE_DECODE : SEQ_STATE_PREFILL);
    q->seat = seat_take(s);
    q->admitted = ++s->admissions;
    s->running[s->running_count++] = q;
    if (a->share_blocks > 0) {
        kv_seat_share(s->kv, q->request->seqs[0].seat, q->seat, a->share_blocks);
        q->computed = num_max_u32(q->computed, a->share_blocks * KV_BLOCK_TOKENS);
    }
    if (q->saved != KV_TIER_NONE) load_saved(s, q, a->share_blocks);
    if (request_never_ran(q->request)) {
        q->request->first_row_ns = now_ns;
        s->waiting_requests--;
    }
}
