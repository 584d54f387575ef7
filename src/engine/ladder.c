/* ladder.c - what an engine does without when memory is short.
 *
 *   rung          goes down by            as far as
 *   step_tokens   half the rows of a step rows_min, and a row for each seat
 *   ctx           half the context        ctx_min; only where no context was asked for
 *
 * Down: the first rung that can goes down, and the memory is planned again, until it is enough.
 * Rows come first, because fewer of them cost time, while a shorter context takes something away;
 * how far the context has to go is known from what the cache of one sequence may have.  Then up:
 * where the context went down, it may be that fewer rows were no help, and they come back as far as
 * there is room.  So the context is the longest that is possible, and then the rows are the most.
 *
 * Every plan is a whole one of what is free at the time, made before anything is taken.  A KV cache
 * that holds less than all sequences at once is no rung: each plan has as much of it as there is
 * room for.  An encoder reads a text in one step: its rows are its context's, and go with it. */
#include <stdio.h>

#include "base/log.h"
#include "base/num.h"
#include "engine/plan_internal.h"

/* --- the rungs -------------------- */

static uint32_t rows_top(const model *m, const engine_options *opt) {
    (void)m;
    return opt->rows_max;
}

static uint32_t rows_end(const model *m, const engine_options *opt) {
    if (opt->rows_min == 0 || m->hparams.is_encoder) return opt->rows_max;
    return num_min_u32(opt->rows_max, num_max_u32(opt->rows_min, opt->seats));
}

static void set_rows(const model *m, engine_options *opt, uint32_t rows) {
    (void)m;
    opt->rows_max = rows;
    opt->taken_rows_max = num_min_u32(opt->taken_rows_max, rows);
    opt->hidden_rows_max = num_min_u32(opt->hidden_rows_max, rows);
}

static uint32_t ctx_top(const model *m, const engine_options *opt) {
    const uint32_t ctx = opt->ctx_max != 0 ? opt->ctx_max : m->hparams.ctx_train;
    return m->hparams.is_encoder ? num_min_u32(ctx, opt->rows_max) : ctx;
}

static uint32_t ctx_end(const model *m, const engine_options *opt) {
    const uint32_t top = ctx_top(m, opt);
    return opt->ctx_max != 0 || opt->ctx_min == 0 ? top : num_min_u32(top, opt->ctx_min);
}

static void set_ctx(const model *m, engine_options *opt, uint32_t ctx) {
    opt->ctx_max = ctx;
    const uint32_t rows = num_max_u32(ctx, opt->seats);
    if (m->hparams.is_encoder && rows < opt->rows_max) set_rows(m, opt, rows);
}

typedef enum rung_id { RUNG_ROWS, RUNG_CTX, RUNG_COUNT } rung_id;

static const struct {
    const char *name;
    uint32_t (*top)(const model *m, const engine_options *opt);
    uint32_t (*end)(const model *m, const engine_options *opt);
    void (*set)(const model *m, engine_options *opt, uint32_t to);
} rungs[RUNG_COUNT] = {{"step_tokens", rows_top, rows_end, set_rows},
                       {"ctx", ctx_top, ctx_end, set_ctx}};

/* --- where we stand -------------------- */

typedef struct ladder {
    const model *m;
    const engine_options *asked;
    uint32_t top[RUNG_COUNT], end[RUNG_COUNT];
    uint32_t at[RUNG_COUNT];
    mem_shortage why[RUNG_COUNT]; /* of the last plan in which the rung was higher */
} ladder;

static ladder ladder_of(const model *m, const engine_options *asked) {
    ladder l = {.m = m, .asked = asked};
    for (int i = 0; i < RUNG_COUNT; i++) {
        l.top[i] = l.at[i] = rungs[i].top(m, asked);
        l.end[i] = rungs[i].end(m, asked);
    }
    return l;
}

static engine_options options_at(const ladder *l) {
    engine_options opt = *l->asked;
    for (int i = 0; i < RUNG_COUNT; i++)
        if (l->at[i] < l->top[i]) rungs[i].set(l->m, &opt, l->at[i]);
    return opt;
}

static status plan_at(const ladder *l, mem_plan *plan, program **p, plan_shortage *lack,
                      error *err) {
    const engine_options opt = options_at(l);
    return plan_once(l->m, &opt, plan, p, lack, err);
}

/* What was cut so far, before what the plan has cut of the KV cache. */
static void add_cuts(const ladder *l, mem_cuts *cuts) {
    mem_cuts all = {.count = 0};
    for (int i = 0; i < RUNG_COUNT; i++)
        if (l->at[i] < l->top[i])
            all.list[all.count++] = (mem_cut){
                .name = rungs[i].name, .from = l->top[i], .to = l->at[i], .why = l->why[i]};
    for (uint32_t i = 0; i < cuts->count; i++) all.list[all.count++] = cuts->list[i];
    *cuts = all;
}

/* --- down and up -------------------- */

/* Half as much, again and again until it is no more than `fits`, but never below `end`. */
static uint32_t lower(uint32_t at, uint32_t end, uint32_t fits) {
    do at = num_max_u32(at / 2, end);
    while (at > fits && at > end);
    return at;
}

/* False: this is the end of the ladder. */
static bool go_down(ladder *l, const plan_shortage *lack) {
    int i = 0;
    while (i < RUNG_COUNT && l->at[i] == l->end[i]) i++;
    if (i == RUNG_COUNT) return false;
    l->at[i] = lower(l->at[i], l->end[i], i == RUNG_CTX ? lack->ctx_fits : UINT32_MAX);
    l->why[i] = lack->why;
    return true;
}

/* More rows than those of the plan, which fits: the most with which it still does. */
static void go_up(ladder *l, mem_plan *plan, program **p) {
    const uint32_t fits = l->at[RUNG_ROWS];
    for (uint32_t at = l->top[RUNG_ROWS]; at > fits; at = lower(at, fits, UINT32_MAX)) {
        mem_plan more;
        program *recorded = NULL;
        plan_shortage lack;
        l->at[RUNG_ROWS] = at;
        if (plan_at(l, &more, &recorded, &lack, NULL) == OK) {
            program_destroy(*p);
            *p = recorded;
            *plan = more;
            return;
        }
        if (lack.why.what != NULL) l->why[RUNG_ROWS] = lack.why;
    }
    l->at[RUNG_ROWS] = fits;
}

/* The error of the lowest plan, and how low it was. */
static status refuse(const ladder *l, const error *why, error *err) {
    mem_cuts cuts = {.count = 0};
    char text[MEM_CUTS_TEXT_BYTES];
    add_cuts(l, &cuts);
    mem_cuts_text(&cuts, text);
    if (cuts.count == 0) return error_set(err, why->code, "%s", why->msg);
    return error_set(err, why->code, "%s; that is after %s", why->msg, text);
}

status plan_down(const model *m, const engine_options *asked, engine_options *got, mem_plan *plan,
                 program **p, error *err) {
    ladder l = ladder_of(m, asked);
    plan_shortage lack;
    error why = {0};
    status st = plan_at(&l, plan, p, &lack, &why);
    while (st == ERR_NOMEM && lack.why.what != NULL && go_down(&l, &lack))
        st = plan_at(&l, plan, p, &lack, &why);
    if (st != OK) return refuse(&l, &why, err);
    if (l.at[RUNG_CTX] < l.top[RUNG_CTX]) go_up(&l, plan, p);
    add_cuts(&l, &plan->cuts);
    *got = options_at(&l);
    return OK;
}

/* --- telling -------------------- */

void mem_cuts_text(const mem_cuts *c, char out[MEM_CUTS_TEXT_BYTES]) {
    size_t n = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < c->count; i++) {
        const mem_cut *cut = &c->list[i];
        const int more =
            snprintf(out + n, MEM_CUTS_TEXT_BYTES - n, "%s%s %llu -> %llu", i > 0 ? ", " : "",
                     cut->name, (unsigned long long)cut->from, (unsigned long long)cut->to);
        n += (size_t)more; /* 122 bytes at most, with the largest of numbers */
    }
}

static double mib(uint64_t bytes) { return (double)bytes / (1024.0 * 1024.0); }

void plan_log_cuts(const mem_plan *plan) {
    for (uint32_t i = 0; i < plan->cuts.count; i++) {
        const mem_cut *c = &plan->cuts.list[i];
        log_warn("engine", "%s: %.1f MiB needed, %.1f MiB may be taken of %s: %s %llu -> %llu",
                 c->why.what, mib(c->why.needed_bytes), mib(c->why.available_bytes), c->why.where,
                 c->name, (unsigned long long)c->from, (unsigned long long)c->to);
    }
    if (plan->kv_cut)
        log_warn("engine",
                 "kv cache holds %u tokens, %u sequences of %u would be more: when it is "
                 "full the youngest wait",
                 plan->kv_blocks * KV_BLOCK_TOKENS, plan->seats, plan->ctx_max);
}
