/* split_step.c - a step: one part after the other, or micro-batches through all of them.
 *
 *     part 0 | 0 | 1 | 2 | 3 |
 *     part 1     | 0 | 1 | 2 | 3 |          turn t: part k begins micro-batch t - k
 *     part 2         | 0 | 1 | 2 | 3 |
 *
 * A part begins a micro-batch when the one before it has ended that: the host waits for that, and
 * no GPU ever waits for another.  So one that fails leaves no other one waiting for ever, and where
 * rows are written again is in the host's hands alone: never within a step, for every micro-batch
 * has places of its own for what goes on and for its results.  The first part, which waits for
 * nobody, has its next micro-batch queued behind the one it computes, and so has every part that
 * falls behind.  A CPU as the first part computes while the GPUs do. */
#include <string.h>

#include "backend/split/split_internal.h"
#include "base/assert.h"

enum { BEGUN_MAX = 2 }; /* and not ended: backend_ops.begin */

static uint32_t last_part(const backend *b) { return b->parts.count - 1; }

/* What a part computes of a batch: all but the last one give on all rows. */
static batch batch_of(const backend *b, uint32_t idx, const batch *in, const float *input) {
    batch of = *in;
    of.kv.blocks = b->of[idx].kv;
    of.states = b->of[idx].states;
    of.input = input;
    if (of.kv.layout.layers > 0) of.kv.layout.layers = b->parts.of[idx].layers;
    if (idx == last_part(b)) return of;
    of.taken = b->all_rows;
    of.taken_rows = in->rows;
    of.head_rows = 0;
    of.best = NULL;
    of.samples = NULL;
    of.before.taken = in->before.rows;
    of.before.head = 0;
    return of;
}

static step_result step_in_turn(backend *b, const batch *in) {
    step_result result = {.hidden = in->input};
    for (uint32_t i = 0; i < b->parts.count && result.fault == NULL; i++) {
        const batch of = batch_of(b, i, in, result.hidden);
        result = b->parts.of[i].ops->step(b->of[i].b, &of);
    }
    return result;
}

/* --- micro-batches -------------------- */

static bool has_failed(const backend *b) { return b->flow.result.fault != NULL; }

/* What a micro-batch of the last part made, to where its rows are in those of the step.  Hidden
 * states and logits stand there already. */
static void gather(backend *b, const batch *in, const step_result *r) {
    step_result *all = &b->flow.result;
    if (in->before.rows == 0) {
        all->hidden = r->hidden;
        all->logits = r->logits;
    }
    if (r->best != NULL) {
        memcpy(b->best + in->before.head, r->best, in->head_rows * sizeof *r->best);
        all->best = b->best;
    }
    if (r->logprobs != NULL) {
        memcpy(b->logprobs + in->before.head, r->logprobs, in->head_rows * sizeof *r->logprobs);
        all->logprobs = b->logprobs;
    }
}

/* Wait for the oldest micro-batch that a part has begun. */
static void end_oldest(backend *b, uint32_t idx) {
    split_flow *f = &b->flow;
    const step_result r = b->parts.of[idx].ops->end(b->of[idx].b);
    if (r.fault != NULL) {
        f->result = (step_result){.fault = r.fault};
        f->failed = idx;
        return;
    }
    f->hidden[idx] = r.hidden;
    if (idx == last_part(b)) gather(b, &b->cut.of[f->ended[idx]], &r);
    f->ended[idx]++;
}

/* Until a part has ended so many, or one has failed. */
static void end_until(backend *b, uint32_t idx, uint32_t count) {
    while (!has_failed(b) && b->flow.ended[idx] < count) end_oldest(b, idx);
}

/* The part before it has ended this micro-batch, and none behind it. */
static const float *input_of(const backend *b, uint32_t idx, uint32_t micro) {
    if (idx == 0) return NULL;
    ASSERT(b->flow.ended[idx - 1] == micro + 1);
    return b->flow.hidden[idx - 1];
}

static void begin_micro(backend *b, uint32_t idx, uint32_t micro) {
    split_flow *f = &b->flow;
    if (idx > 0) end_until(b, idx - 1, micro + 1);
    if (micro >= BEGUN_MAX) end_until(b, idx, micro + 1 - BEGUN_MAX);
    if (has_failed(b)) return;
    const batch of = batch_of(b, idx, &b->cut.of[micro], input_of(b, idx, micro));
    b->parts.of[idx].ops->begin(b->of[idx].b, &of);
    f->begun[idx]++;
}

/* Of a first part that cannot but compute at once, while what the others have begun goes on. */
static void step_micro(backend *b, uint32_t micro) {
    split_flow *f = &b->flow;
    if (has_failed(b)) return;
    const batch of = batch_of(b, 0, &b->cut.of[micro], NULL);
    const step_result r = b->parts.of[0].ops->step(b->of[0].b, &of);
    ASSERT(r.fault == NULL); /* memory of the host does not fail */
    f->hidden[0] = r.hidden;
    f->begun[0]++;
    f->ended[0]++;
}

/* In the order of the parts: the first one has its next micro-batch before the host waits for what
 * it computes now, and so has the second one where it is slower than the first.  Where the first
 * part is the host, the others are set to work before. */
static void take_turn(backend *b, uint32_t turn) {
    const bool on_host = b->parts.of[0].ops->begin == NULL;
    for (uint32_t k = on_host ? 1 : 0; k <= last_part(b); k++)
        if (turn >= k && turn - k < b->cut.count) begin_micro(b, k, turn - k);
    if (on_host && turn < b->cut.count) step_micro(b, turn);
}

/* What the others have begun ends, whatever it gives. */
static void drop_begun(backend *b) {
    const split_flow *f = &b->flow;
    for (uint32_t k = 0; k < b->parts.count; k++) {
        bool fails = k == f->failed;
        for (uint32_t i = f->ended[k]; i < f->begun[k] && !fails; i++)
            fails = b->parts.of[k].ops->end(b->of[k].b).fault != NULL;
    }
}

static step_result step_in_micro_batches(backend *b) {
    const uint32_t count = b->cut.count, turns = count + last_part(b);
    b->flow = (split_flow){.result = {.micro_batches = count}};
    for (uint32_t t = 0; t < turns && !has_failed(b); t++) take_turn(b, t);
    end_until(b, last_part(b), count);
    if (has_failed(b)) drop_begun(b);
    return b->flow.result;
}

step_result split_step(backend *b, const batch *in) {
    if (b->is_measured || split_cut_step(&b->cut, in) == 1) return step_in_turn(b, in);
    return step_in_micro_batches(b);
}
