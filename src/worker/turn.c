/* turn.c - see turn.h. */
#include "worker/turn.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

status turn_init(turn *t, const sched_options *o, bool draws, error *err) {
    t->rows = mem_try_calloc(o->rows_max, sizeof *t->rows);
    if (t->rows == NULL)
        return error_set(err, ERR_NOMEM, "engine worker: no memory for %u rows", o->rows_max);
    TRY(step_plan_create(&t->plan, o, err));
    if (!draws) return OK;
    t->changes_max =
        (uint32_t)num_min_u64((uint64_t)o->seats * SAMPLE_CHANGES_MAX, SAMPLE_STEP_CHANGES_MAX);
    t->orders = mem_try_calloc(o->seats, sizeof *t->orders);
    t->changes = mem_try_calloc(t->changes_max, sizeof *t->changes);
    if (t->orders != NULL && t->changes != NULL) return OK;
    return error_set(err, ERR_NOMEM, "engine worker: no memory to draw %u rows", o->seats);
}

void turn_deinit(turn *t) {
    step_plan_destroy(t->plan);
    mem_free(t->rows);
    mem_free(t->orders);
    mem_free(t->changes);
    *t = (turn){0};
}

/* --- orders -------------------- */

/* The order of an item's last row, if there is room for its changes behind so many. */
static bool order_item(const turn *t, const turn_drawer *d, const plan_item *it, uint32_t changes,
                       sample_order *out) {
    const uint32_t banned = sched_banned(d->sched, it, d->banned);
    const sample_room room = {t->changes + changes, t->changes_max - changes};
    return sampler_order(d->sampler, &it->seq->request->sampling, sched_history(it),
                         it->seq->choice, d->banned, banned, room, out);
}

void turn_order(turn *t, const turn_drawer *d) {
    uint32_t orders = 0, changes = 0;
    engine_row *row = t->rows;
    for (uint32_t i = 0; i < t->plan->items_count && t->orders != NULL; i++) {
        const plan_item *it = &t->plan->items[i];
        row += it->rows;
        if (!row[-1].wants_logits || it->seq->request->kind == GEN_KIND_RANK) continue;
        sample_order *o = &t->orders[orders];
        if (!order_item(t, d, it, changes, o)) continue;
        row[-1].wants_logits = false;
        row[-1].sample = o;
        orders++;
        changes += o->rule.changes_count;
    }
}

/* --- of a step that is ahead -------------------- */

/* Does what is drawn depend on the tokens before it? */
static bool is_penalized(const plan_item *it) {
    return it->seq != NULL && !sample_is_without_penalties(&it->seq->request->sampling);
}

/* A token more changes one logit more of a sequence with penalties, at most. */
bool turn_next_can_draw(const turn *t) {
    uint32_t changes = 0;
    for (uint32_t i = 0; i < t->plan->items_count; i++) {
        const sample_order *o = t->rows[i].sample;
        const uint32_t most =
            (o != NULL ? o->rule.changes_count : 0) + is_penalized(&t->plan->items[i]);
        if (most > SAMPLE_CHANGES_MAX) return false;
        changes += most;
    }
    return changes <= t->changes_max;
}

/* Each item has one row. */
static void promise(turn *t) {
    for (uint32_t i = 0; i < t->plan->items_count; i++) {
        engine_row *row = &t->rows[i];
        if (!row->wants_logits) continue;
        row->wants_logits = false;
        row->draws_later = true;
        row->sample = &t->orders[i];
    }
    t->draws_later = true;
}

void turn_order_ahead(turn *t, const turn_drawer *d) {
    for (uint32_t i = 0; i < t->plan->items_count && t->orders != NULL; i++) {
        if (!is_penalized(&t->plan->items[i])) continue;
        promise(t);
        return;
    }
    turn_order(t, d);
}

void turn_keep_promise(turn *t, const turn_drawer *d) {
    uint32_t changes = 0;
    for (uint32_t i = 0; i < t->plan->items_count; i++) {
        const plan_item *it = &t->plan->items[i];
        sample_order *o = &t->orders[i];
        *o = (sample_order){.rule = {0}};
        if (it->seq == NULL || !t->rows[i].draws_later) continue;
        const bool fits = order_item(t, d, it, changes, o);
        ASSERT(fits); /* turn_next_can_draw() */
        changes += o->rule.changes_count;
    }
    t->draws_later = false;
}

/* --- what it is like -------------------- */

bool turn_makes_tokens(const turn *t) {
    for (uint32_t i = 0; i < t->plan->rows; i++)
        if (t->rows[i].wants_logits || t->rows[i].wants_hidden) return false;
    return true;
}

bool turn_has_prompt(const turn *t) {
    for (uint32_t i = 0; i < t->plan->rows; i++)
        if (t->rows[i].prompt) return true;
    return false;
}
