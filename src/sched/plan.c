/* plan.c - sched_plan(): what the next step computes.  Pure over the scheduler's state.
 *
 * The plan spends two budgets that it tracks locally: rows of the step, and free blocks.
 * Blocks that a preemption will give back are counted as free from that point on. */
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "sched/sched_internal.h"

enum {
    ROWS_MIN = 16, /* below this a smaller chunk saves no time */
    AGAIN_FIRST =
        64, /* generated rows that are computed again, before it is known how long it takes */
};

typedef struct planner {
    const sched *s;
    uint64_t now_ns;
    step_plan *plan;
    uint32_t rows_left;
    uint32_t again_left; /* of these for chunks of generated rows */
    uint32_t blocks_free;
    uint64_t vector_bytes; /* of the results that the plan finishes */
} planner;

/* --- plans -------------------- */

status step_plan_create(step_plan **out, const sched_options *opt, error *err) {
    step_plan *p = mem_try_calloc(1, sizeof *p);
    if (p == NULL) return error_set(err, ERR_NOMEM, "plan: no memory");
    p->items = mem_try_calloc(opt->seats, sizeof *p->items);
    p->admits = mem_try_calloc(opt->seats, sizeof *p->admits);
    p->preempts = mem_try_calloc(opt->seats, sizeof *p->preempts);
    if (p->items == NULL || p->admits == NULL || p->preempts == NULL) {
        step_plan_destroy(p);
        return error_set(err, ERR_NOMEM, "plan: no memory for %u seats", opt->seats);
    }
    *out = p;
    return OK;
}

void step_plan_destroy(step_plan *p) {
    if (p == NULL) return;
    mem_free(p->items);
    mem_free(p->admits);
    mem_free(p->preempts);
    mem_free(p);
}

/* --- budgets -------------------- */

/* Rows that fit into a step at such a pace; `unknown` of them as long as there is none. */
static uint32_t row_budget(const sched *s, uint64_t row_ns, uint32_t unknown) {
    if (s->opt.step_ms_target == 0 || s->opt.whole_prompts) return s->opt.rows_max;
    uint64_t rows = row_ns == 0 ? unknown : (uint64_t)s->opt.step_ms_target * 1000000u / row_ns;
    uint32_t floor = s->running_count + ROWS_MIN; /* prompts advance beside the decodes */
    return num_min_u32((uint32_t)num_min_u64(num_max_u64(rows, floor), UINT32_MAX),
                       s->opt.rows_max);
}

static uint64_t vector_bytes(const seq *q) {
    return (uint64_t)q->request->vector_len * sizeof(float);
}

/* May this step finish what it computes of the sequence: sample a token, send a vector? */
static bool may_finish(const planner *p, const seq *q) {
    uint32_t planned = 0;
    if (seq_is_vector(q) && p->vector_bytes > 0 &&
        p->vector_bytes + vector_bytes(q) > SCHED_STEP_VECTOR_BYTES)
        return false;
    if (q->request->choices > 1)
        for (uint32_t i = 0; i < p->plan->items_count; i++)
            planned +=
                p->plan->items[i].wants_logits && p->plan->items[i].seq->request == q->request;
    return q->request->credits > planned;
}

static bool is_preempted(const planner *p, const seq *q) {
    for (uint32_t i = 0; i < p->plan->preempts_count; i++)
        if (p->plan->preempts[i] == q) return true;
    return false;
}

static bool is_planned(const planner *p, const seq *q) {
    for (uint32_t i = 0; i < p->plan->items_count; i++)
        if (p->plan->items[i].seq == q) return true;
    return false;
}

/* The running sequence whose blocks go first: a parked one, else the youngest; only what
 * is younger than q or parked, and has no rows in this plan yet. */
static seq *victim_for(const planner *p, const seq *q) {
    for (int parked = 1; parked >= 0; parked--) {
        for (uint32_t i = p->s->running_count; i > 0; i--) {
            seq *v = p->s->running[i - 1];
            if (v == q || is_preempted(p, v) || is_planned(p, v)) continue;
            if (parked ? v->request->credits == 0 : v->admitted > q->admitted) return v;
        }
    }
    return NULL;
}

/* Free blocks until `blocks` are there, taking them from others than q; true if so. */
static bool make_room(planner *p, const seq *q, uint32_t blocks) {
    while (p->blocks_free < blocks) {
        seq *v = victim_for(p, q);
        if (v == NULL) return false;
        p->plan->preempts[p->plan->preempts_count++] = v;
        p->blocks_free += kv_seat_blocks_exclusive(p->s->kv, v->seat);
    }
    return true;
}

static void add_item(planner *p, seq *q, uint32_t from, uint32_t rows, uint32_t blocks) {
    p->plan->items[p->plan->items_count++] =
        (plan_item){.seq = q,
                    .from = from,
                    .rows = rows,
                    .wants_logits = from + rows == q->count && !seq_is_vector(q)};
    if (from + rows == q->count) p->vector_bytes += vector_bytes(q);
    p->plan->rows += rows;
    p->rows_left -= rows;
    if (rows > 1 && seq_is_generated(q, from)) p->again_left -= rows;
    p->blocks_free -= blocks;
}

/* --- the three passes -------------------- */

static void plan_decode(planner *p, seq *q) {
    if (p->rows_left == 0 || is_preempted(p, q) || !may_finish(p, q)) return;
    uint32_t blocks = kv_seat_blocks_missing(p->s->kv, q->seat, q->count);
    if (make_room(p, q, blocks)) {
        add_item(p, q, q->computed, 1, blocks);
    } else {
        /* nothing younger is left: q itself waits until older ones are through */
        p->plan->preempts[p->plan->preempts_count++] = q;
        p->blocks_free += kv_seat_blocks_exclusive(p->s->kv, q->seat);
    }
}

/* A chunk has rows of the prompt, or rows that were generated: a step computes these first. */
static uint32_t chunk_rows_max(const planner *p, const seq *q, uint32_t from) {
    const bool again = seq_is_generated(q, from);
    const uint32_t end = again ? q->count : q->request->prompt_count;
    return num_min_u32(end - from, again ? num_min_u32(p->again_left, p->rows_left) : p->rows_left);
}

/* The largest chunk of rows from `from` that budgets allow, given blocks_have already. */
static uint32_t chunk_rows(const planner *p, const seq *q, uint32_t from, uint32_t blocks_have) {
    uint32_t rows = chunk_rows_max(p, q, from);
    if (from + rows == q->count && !may_finish(p, q)) rows--; /* all but the last row */
    uint64_t fits = ((uint64_t)blocks_have + p->blocks_free) * KV_BLOCK_TOKENS - from;
    return (uint32_t)num_min_u64(rows, fits);
}

static void plan_prefill(planner *p, seq *q) {
    if (p->rows_left == 0 || is_preempted(p, q)) return;
    uint32_t have = kv_blocks_for(q->computed);
    uint32_t whole = kv_blocks_for(q->computed + chunk_rows_max(p, q, q->computed));
    (void)make_room(p, q, whole - have);
    uint32_t rows = chunk_rows(p, q, q->computed, have);
    if (rows > 0) add_item(p, q, q->computed, rows, kv_blocks_for(q->computed + rows) - have);
}

/* Full blocks that a later choice can take over from its request's first one.  The last
 * prompt token is always computed, since its logits are wanted.  One that is saved shares what it
 * has of these, and loads the rest. */
static uint32_t shareable_blocks(const planner *p, const seq *q) {
    const seq *leader = &q->request->seqs[0];
    if (p->s->opt.no_sharing) return 0;
    if (q == leader || !seq_is_running(leader)) return 0;
    uint32_t tokens = num_min_u32(q->request->prompt_count - 1, leader->computed);
    if (q->saved != KV_TIER_NONE) tokens = num_min_u32(tokens, q->computed);
    return tokens / KV_BLOCK_TOKENS;
}

/* A later choice comes in once its leader's prompt is computed, to share the blocks. */
static bool waits_for_leader(const seq *q) {
    const seq *leader = &q->request->seqs[0];
    return q != leader &&
           (leader->state == SEQ_STATE_WAITING || leader->state == SEQ_STATE_PREFILL);
}

/* Blocks that sequences which are in already will still take for the tokens they have,
 * and one more for each: admitting into those would only preempt somebody. */
static uint32_t blocks_spoken_for(const planner *p) {
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < p->s->running_count; i++) {
        const seq *q = p->s->running[i];
        blocks += kv_blocks_for(q->count) - kv_blocks_for(q->computed) + 1;
    }
    for (uint32_t i = 0; i < p->plan->admits_count; i++) {
        const seq *q = p->plan->admits[i].seq;
        blocks += kv_blocks_for(q->count) - kv_blocks_for(q->computed) + 1;
    }
    for (uint32_t i = 0; i < p->plan->items_count; i++) { /* minus what this plan takes */
        const plan_item *it = &p->plan->items[i];
        blocks -= kv_blocks_for(it->from + it->rows) - kv_blocks_for(it->seq->computed);
    }
    return blocks;
}

/* True when the sequence was admitted. */
static bool plan_admission(planner *p, seq *q) {
    uint32_t share = shareable_blocks(p, q);
    uint32_t need = kv_blocks_for(q->count) - share;
    if (p->blocks_free < need + blocks_spoken_for(p)) return false;
    uint32_t from = num_max_u32(q->computed, share * KV_BLOCK_TOKENS);
    uint32_t have = kv_blocks_for(from), loaded = have - share;
    uint32_t rows = chunk_rows(p, q, from, share);
    if (p->s->opt.whole_prompts && rows < q->count) return false;
    p->plan->admits[p->plan->admits_count++] = (plan_admit){.seq = q, .share_blocks = share};
    p->blocks_free -= loaded;
    if (rows > 0) add_item(p, q, from, rows, kv_blocks_for(from + rows) - have);
    return true;
}

/* The next sequence of the queue that could run, had it a seat and blocks; NULL: none. */
static const seq *next_admissible(const planner *p) {
    const seq *q = p->s->waiting;
    for (; q != NULL; q = q->next) {
        bool admitted = false;
        for (uint32_t i = 0; i < p->plan->admits_count; i++)
            admitted = admitted || p->plan->admits[i].seq == q;
        if (!admitted && !waits_for_leader(q) && q->request->credits > 0) break;
    }
    return q;
}

static bool is_parked_long(const planner *p, const seq *q) {
    return q->request->credits == 0 &&
           p->now_ns - q->request->parked_at_ns >= (uint64_t)p->s->opt.park_ms_max * 1000000u;
}

/* Somebody could run, but seats or blocks are with a sequence whose client does not read:
 * the youngest such one gives way, and the next plan admits. */
static void unseat_parked(planner *p) {
    if (next_admissible(p) == NULL) return;
    for (uint32_t i = p->s->running_count; i > 0; i--) {
        seq *v = p->s->running[i - 1];
        if (!is_parked_long(p, v) || is_planned(p, v)) continue;
        p->plan->preempts[p->plan->preempts_count++] = v;
        return;
    }
}

/* Rows that were generated before those of prompts; else the order stays. */
static void put_generated_first(step_plan *plan) {
    uint32_t first = 0;
    for (uint32_t i = 0; i < plan->items_count; i++) {
        const plan_item it = plan->items[i];
        if (!seq_is_generated(it.seq, it.from)) continue;
        memmove(plan->items + first + 1, plan->items + first, (i - first) * sizeof it);
        plan->items[first++] = it;
    }
}

static void plan_passes(planner *p) {
    const sched *s = p->s;
    for (uint32_t i = 0; i < s->running_count; i++)
        if (s->running[i]->state == SEQ_STATE_DECODE) plan_decode(p, s->running[i]);
    for (uint32_t i = 0; i < s->running_count; i++)
        if (s->running[i]->state == SEQ_STATE_PREFILL) plan_prefill(p, s->running[i]);
    if (p->plan->preempts_count > 0) return; /* short of blocks: nobody new now */
    uint32_t seats_left = s->opt.seats - s->running_count;
    for (seq *q = s->waiting; q != NULL && seats_left > 0 && p->rows_left > 0; q = q->next) {
        if (waits_for_leader(q) || q->request->credits == 0) continue;
        if (!plan_admission(p, q)) break; /* first come, first served: no overtaking */
        seats_left--;
    }
    if (p->rows_left > 0) unseat_parked(p);
}

void sched_plan(const sched *s, uint64_t now_ns, step_plan *out) {
    out->items_count = out->admits_count = out->preempts_count = out->rows = 0;
    planner p = {.s = s,
                 .now_ns = now_ns,
                 .plan = out,
                 .rows_left = row_budget(s, s->row_ns, UINT32_MAX),
                 .again_left = row_budget(s, s->again_ns, AGAIN_FIRST),
                 .blocks_free = kv_blocks_free(s->kv)};
    plan_passes(&p);
    put_generated_first(out);
}
