/* ladder.c - what an engine does without when memory is short.
 *
 *   rung          goes down by             as far as
 *   step_tokens   half the rows of a step  rows_min, and a row for each seat
 *   ctx           half the context         ctx_min; only where no context was asked for
 *   kv_bits       keys and values in 8     Q8_0, where kv_may_be_q8 and the heads allow it
 *   gpus          one device more          all that have room; as few as possible
 *   gpu_experts   the experts of the first 0, of devices and where may_move_experts says so
 *                 layers that have any,
 *                 which the host computes
 *   gpu_layers    the first layers, which  1, of a device and where may_split says so
 *                 the host computes
 *
 * Down: the first rung that can goes down, and the memory is planned again, until it is enough.
 * Rows come first, because fewer of them cost time, while a shorter context takes something away;
 * how far the context has to go is guessed from what the cache of one sequence may have beside the
 * workspace, which becomes smaller with it.  Further devices are taken where the model would not
 * fit otherwise, for they might do something else meanwhile; those that nobody named come in the
 * order of what is free on them, and what one of them fails with is no failure of the plan.  Layers
 * come last, because each of them makes every token slower: devices keep as many as fit beside the
 * lowest of the other rungs, and of all numbers of devices it is the one that keeps most.
 * Experts are moved instead of layers wherever that is enough, for a token uses few of them and all
 * of the rest: as few as possible.  Where it is not, all of them stay, also those that were to go,
 * and layers go.
 * Then up: a rung may have gone down in vain before a later one helped, and the context too far;
 * they come back as far as there is room.  So the layers on devices are the most that are possible,
 * then the context is the longest, and then the rows are the most.
 *
 * Every plan is a whole one of what is free at the time (on several devices: when the first one was
 * made), made before anything is taken.  A KV cache that holds less than all sequences at once is
 * no rung: each plan has as much of it as there is room for.  An encoder reads a text in one step:
 * its rows are its context's, and go with it. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
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

static uint32_t layers_top(const model *m, const engine_options *opt) {
    const uint32_t all = m->hparams.layers;
    return opt->device_layers != 0 ? num_min_u32(opt->device_layers, all) : all;
}

static uint32_t layers_end(const model *m, const engine_options *opt) {
    const bool can = opt->may_split && opt->backend->split != NULL;
    return can ? num_min_u32(layers_top(m, opt), 1) : layers_top(m, opt);
}

/* What the host has of layers is all of them, then. */
static void set_layers(const model *m, engine_options *opt, uint32_t layers) {
    (void)m;
    opt->device_layers = layers;
    opt->host_experts = 0;
}

static bool may_move(const model *m, const engine_options *opt) {
    return opt->may_move_experts && opt->backend->plan_parts != NULL && opt->device_layers == 0 &&
           plan_expert_layers(m) > 0;
}

/* Layers whose experts are on the device. */
static uint32_t experts_top(const model *m, const engine_options *opt) {
    return plan_expert_layers(m) - plan_host_experts(m, opt);
}

static uint32_t experts_end(const model *m, const engine_options *opt) {
    return may_move(m, opt) ? 0 : experts_top(m, opt);
}

static void set_experts(const model *m, engine_options *opt, uint32_t layers) {
    opt->host_experts = plan_expert_layers(m) - layers;
}

/* This rung goes up. */
static uint32_t gpus_top(const model *m, const engine_options *opt) {
    return plan_devices_used(m, opt);
}

static uint32_t gpus_end(const model *m, const engine_options *opt) {
    engine_options all = *opt;
    all.devices_min = num_max_u32(opt->devices_count, opt->devices_min);
    return plan_devices_used(m, &all);
}

static void set_gpus(const model *m, engine_options *opt, uint32_t gpus) {
    (void)m;
    opt->devices_min = gpus;
}

enum { Q8_BITS = 8, Q4_BITS = 4 };

static uint32_t kv_top(const model *m, const engine_options *opt) {
    (void)m;
    if (opt->kv_type == DTYPE_Q4_0) return Q4_BITS;
    return opt->kv_type == DTYPE_Q8_0 ? Q8_BITS : opt->kv_type == DTYPE_F16 ? 16 : 32;
}

static uint32_t kv_end(const model *m, const engine_options *opt) {
    const bool keeps = m->hparams.is_encoder || plan_kv_layout(m, opt->kv_type).layers == 0;
    const bool can = opt->kv_may_be_q8 && !keeps && plan_has_kv_groups(m);
    return can ? num_min_u32(kv_top(m, opt), Q8_BITS) : kv_top(m, opt);
}

static void set_kv(const model *m, engine_options *opt, uint32_t bits) {
    (void)m;
    opt->kv_type = bits == Q4_BITS ? DTYPE_Q4_0 : bits == Q8_BITS ? DTYPE_Q8_0 : DTYPE_F16;
}

typedef enum rung_id {
    RUNG_ROWS,
    RUNG_CTX,
    RUNG_KV,
    RUNG_GPUS,
    RUNG_EXPERTS,
    RUNG_LAYERS,
    RUNG_COUNT
} rung_id;

static const struct {
    const char *name;
    uint32_t (*top)(const model *m, const engine_options *opt);
    uint32_t (*end)(const model *m, const engine_options *opt);
    void (*set)(const model *m, engine_options *opt, uint32_t to);
} rungs[RUNG_COUNT] = {{"step_tokens", rows_top, rows_end, set_rows},
                       {"ctx", ctx_top, ctx_end, set_ctx},
                       {"kv_bits", kv_top, kv_end, set_kv},
                       {"gpus", gpus_top, gpus_end, set_gpus},
                       {"gpu_experts", experts_top, experts_end, set_experts},
                       {"gpu_layers", layers_top, layers_end, set_layers}};

/* --- where we stand -------------------- */

typedef struct ladder {
    const model *m;
    const engine_options *asked;
    uint32_t top[RUNG_COUNT], end[RUNG_COUNT];
    uint32_t at[RUNG_COUNT];
    mem_shortage why[RUNG_COUNT]; /* of the last plan in which the rung was higher */
    plan_known known;
} ladder;

static ladder ladder_of(const model *m, const engine_options *asked) {
    ladder l = {.m = m, .asked = asked, .known = plan_known_of(asked)};
    for (int i = 0; i < RUNG_COUNT; i++) {
        l.top[i] = l.at[i] = rungs[i].top(m, asked);
        l.end[i] = rungs[i].end(m, asked);
    }
    return l;
}

static engine_options options_at(const ladder *l) {
    engine_options opt = *l->asked;
    for (int i = 0; i < RUNG_COUNT; i++)
        if (l->at[i] != l->top[i]) rungs[i].set(l->m, &opt, l->at[i]);
    return opt;
}

static status plan_at(ladder *l, mem_plan *plan, program **p, plan_shortage *lack, error *err) {
    const engine_options opt = options_at(l);
    return plan_once(l->m, &opt, &l->known, plan, p, lack, err);
}

/* What was cut so far, before what the plan has cut of the KV cache. */
static void add_cuts(const ladder *l, mem_cuts *cuts) {
    mem_cuts all = {.count = 0};
    for (int i = 0; i < RUNG_COUNT; i++)
        if (l->at[i] != l->top[i])
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

static bool is_at_end(const ladder *l, rung_id i) { return l->at[i] == l->end[i]; }

/* Fewer rows, a shorter context, or fewer bits; false: none can go further down. */
static bool go_down(ladder *l, const plan_shortage *lack) {
    int i = RUNG_ROWS;
    while (i < RUNG_GPUS && is_at_end(l, (rung_id)i)) i++;
    if (i == RUNG_GPUS) return false;
    l->at[i] = lower(l->at[i], l->end[i], i == RUNG_CTX ? lack->ctx_fits : UINT32_MAX);
    l->why[i] = lack->why;
    return true;
}

/* Rows, context and bits as low as they go, which the next rungs stand beside. */
static void go_to_ends(ladder *l, const plan_shortage *lack) {
    for (int i = 0; i < RUNG_GPUS; i++) {
        if (!is_at_end(l, i)) l->why[i] = lack->why;
        l->at[i] = l->end[i];
    }
}

static void tell_unused(const ladder *l, const error *why) {
    log_warn("engine", "%u GPUs are used and not %u: %s", l->at[RUNG_GPUS] - 1, l->at[RUNG_GPUS],
             why->msg);
}

/* Which of the devices that were not named are worth a try; false: none. */
static bool find_devices(ladder *l) {
    const engine_options opt = options_at(l);
    error why = {0};
    if (plan_order(l->m, &opt, &l->known, &why) != OK) {
        log_warn("engine", "no further GPU is used: %s", why.msg);
        l->known.usable = l->at[RUNG_GPUS];
    }
    l->end[RUNG_GPUS] = num_min_u32(l->end[RUNG_GPUS], l->known.usable);
    return !is_at_end(l, RUNG_GPUS);
}

/* One device more, and another one, until there is room for all layers.  One that is of no use
 * leaves all as it was before it: what was lacking is lacking still. */
static status take_devices(ladder *l, mem_plan *plan, program **p, plan_shortage *lack,
                           error *err) {
    uint32_t before[RUNG_COUNT];
    status st = ERR_NOMEM;
    memcpy(before, l->at, sizeof before);
    go_to_ends(l, lack);
    l->why[RUNG_GPUS] = lack->why;
    bool more = find_devices(l);
    while (more) {
        plan_shortage further = {0};
        error why = {0};
        l->at[RUNG_GPUS]++;
        st = plan_at(l, plan, p, &further, &why);
        if (st == OK) return OK;
        if (st != ERR_NOMEM || !further.of_device) {
            tell_unused(l, &why);
            l->end[RUNG_GPUS] = --l->at[RUNG_GPUS];
            break;
        }
        *lack = further;
        *err = why;
        memcpy(before, l->at, sizeof before);
        more = !is_at_end(l, RUNG_GPUS);
    }
    memcpy(l->at, before, sizeof before);
    return ERR_NOMEM;
}

/* More layers than *fits that have room on so many devices, the most of them, found by halving what
 * is between too few and too many; then *fits, the plan and the program are those.  ERR_NOMEM:
 * there are none, *lack is what the last plan did. */
static status most_layers(ladder *l, uint32_t high, uint32_t *fits, mem_plan *plan, program **p,
                          plan_shortage *lack, error *err) {
    uint32_t low = num_max_u32(l->end[RUNG_LAYERS], *fits + 1);
    status st = ERR_NOMEM;
    while (low <= high) {
        mem_plan tried;
        program *recorded = NULL;
        const uint32_t at = l->at[RUNG_LAYERS] = low + (high - low) / 2;
        const status ended = plan_at(l, &tried, &recorded, lack, err);
        if (ended == OK) {
            program_destroy(*fits > 0 ? *p : NULL);
            *p = recorded;
            *plan = tried;
            *fits = at;
            st = OK;
        } else if (ended != ERR_NOMEM) {
            return ended;
        }
        if (ended == OK || !lack->of_device)
            low = at + 1;
        else
            high = at - 1;
    }
    return st;
}

/* The most layers with experts on the device that fit beside the lowest of the other rungs, and
 * leave no more copies to the host than it has memory for; what it computes from as it is stored
 * may be read again and again, as a CPU's layers may.  ERR_NOMEM: there are none, and *lack is what
 * it was. */
static status move_experts(ladder *l, mem_plan *plan, program **p, const plan_shortage *lack) {
    int64_t low = l->end[RUNG_EXPERTS], high = (int64_t)l->at[RUNG_EXPERTS] - 1, fits = -1;
    go_to_ends(l, lack);
    l->why[RUNG_EXPERTS] = lack->why;
    while (low <= high) {
        mem_plan tried;
        program *recorded = NULL;
        plan_shortage further = {0};
        const int64_t at = low + (high - low) / 2;
        l->at[RUNG_EXPERTS] = (uint32_t)at;
        const status st = plan_at(l, &tried, &recorded, &further, NULL);
        if (st == OK) {
            program_destroy(fits >= 0 ? *p : NULL);
            *p = recorded;
            *plan = tried;
            fits = at;
        }
        if (st == OK || !further.of_device)
            low = at + 1;
        else
            high = at - 1;
    }
    l->at[RUNG_EXPERTS] = fits >= 0 ? (uint32_t)fits : l->top[RUNG_EXPERTS];
    return fits >= 0 ? OK : ERR_NOMEM;
}

/* The most layers that fit into the devices beside the lowest of the other rungs.  A weak device
 * may cost more layers than it takes, for each has to have one and the last one has the head: so
 * fewer devices are tried as well, down to those that were named, and as few as keep most. *lack is
 * what the plan with all layers lacked. */
static status split(ladder *l, mem_plan *plan, program **p, plan_shortage *lack, error *err) {
    const uint32_t most = l->at[RUNG_LAYERS] - 1, least = l->top[RUNG_GPUS];
    uint32_t layers = 0, devices = 0;
    status st = ERR_NOMEM;
    go_to_ends(l, lack);
    l->why[RUNG_LAYERS] = lack->why;
    for (uint32_t n = l->at[RUNG_GPUS]; n >= least; n--) {
        l->at[RUNG_GPUS] = n;
        st = most_layers(l, most, &layers, plan, p, lack, err);
        if (st == OK) devices = n;
        if (st != OK && st != ERR_NOMEM && n > least) tell_unused(l, err);
    }
    if (layers == 0) return st;
    l->at[RUNG_LAYERS] = layers;
    l->at[RUNG_GPUS] = devices;
    return OK;
}

/* Is a plan possible with so much of this rung?  Then it replaces the one there is. */
static bool replan(ladder *l, rung_id rung, uint32_t at, mem_plan *plan, program **p) {
    mem_plan more;
    program *recorded = NULL;
    plan_shortage lack;
    const uint32_t before = l->at[rung];
    l->at[rung] = at;
    if (plan_at(l, &more, &recorded, &lack, NULL) == OK) {
        program_destroy(*p);
        *p = recorded;
        *plan = more;
        return true;
    }
    l->at[rung] = before;
    if (lack.why.what != NULL) l->why[rung] = lack.why;
    return false;
}

/* More of this rung than the plan has, which fits: the most with which it still does. */
static void go_up(ladder *l, rung_id rung, mem_plan *plan, program **p) {
    const uint32_t fits = l->at[rung];
    for (uint32_t at = l->top[rung]; at > fits; at = lower(at, fits, UINT32_MAX))
        if (replan(l, rung, at, plan, p)) return;
}

/* The same from below, for a rung that is near the most that fits. */
static void climb(ladder *l, rung_id rung, mem_plan *plan, program **p) {
    while (l->at[rung] < l->top[rung]) {
        uint32_t at = l->top[rung], next = at;
        for (; next > l->at[rung]; next = lower(next, l->end[rung], UINT32_MAX)) at = next;
        if (!replan(l, rung, at, plan, p)) return;
    }
}

/* The last rung that went down; 0 also when none did. */
static int lowest(const ladder *l) {
    int i = RUNG_COUNT - 1;
    while (i > 0 && l->at[i] == l->top[i]) i--;
    return i;
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

/* Each that is used has a layer. */
static void count_devices(ladder *l, const mem_plan *plan) {
    if (plan->devices_count == 0) return;
    l->at[RUNG_GPUS] = plan->devices_count;
    if (l->at[RUNG_GPUS] < l->top[RUNG_GPUS]) l->why[RUNG_GPUS] = l->why[RUNG_LAYERS];
}

static status down_and_up(ladder *l, engine_options *got, mem_plan *plan, program **p, error *err) {
    plan_shortage lack;
    error why = {0};
    status st = plan_at(l, plan, p, &lack, &why);
    while (st == ERR_NOMEM && lack.can_shrink && go_down(l, &lack))
        st = plan_at(l, plan, p, &lack, &why);
    if (st == ERR_NOMEM && lack.of_device && !is_at_end(l, RUNG_GPUS))
        st = take_devices(l, plan, p, &lack, &why);
    if (st == ERR_NOMEM && lack.of_device && !is_at_end(l, RUNG_EXPERTS))
        st = move_experts(l, plan, p, &lack);
    if (st == ERR_NOMEM && lack.of_device && !is_at_end(l, RUNG_LAYERS))
        st = split(l, plan, p, &lack, &why);
    if (st != OK) return refuse(l, &why, err);
    count_devices(l, plan);
    const int low = lowest(l); /* in single steps, but for the context */
    if (low == RUNG_CTX) climb(l, RUNG_CTX, plan, p);
    for (int i = low - 1; i >= 0; i--)
        if (i != RUNG_GPUS) go_up(l, (rung_id)i, plan, p);
    add_cuts(l, &plan->cuts);
    *got = options_at(l);
    return OK;
}

status plan_down(const model *m, const engine_options *asked, engine_options *got, mem_plan *plan,
                 program **p, error *err) {
    ASSERT(asked->devices_count <= BACKEND_DEVICES_MAX &&
           asked->devices_min <= num_max_u32(asked->devices_count, 1));
    ladder l = ladder_of(m, asked);
    const status st = down_and_up(&l, got, plan, p, err);
    plan_known_deinit(&l.known);
    return st;
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
        n += (size_t)more; /* 245 bytes at most, with the largest of numbers */
    }
}

void mem_devices_text(const mem_plan *plan, char out[MEM_DEVICES_TEXT_BYTES]) {
    size_t n = 0;
    out[0] = '\0';
    for (uint32_t i = 0, alike = 0; i < plan->devices_count; i += alike) {
        const str name = str_of(plan->devices[i].name);
        for (alike = 1; i + alike < plan->devices_count; alike++)
            if (!str_eq(name, str_of(plan->devices[i + alike].name))) break;
        char times[16] = "";
        if (alike > 1) (void)snprintf(times, sizeof times, " x%u", alike);
        const size_t left = MEM_DEVICES_TEXT_BYTES - n;
        const int more = snprintf(out + n, left, "%s%.*s%s", i > 0 ? ", " : "", STR(name), times);
        if ((size_t)more >= left) return; /* cut: the log has each of them */
        n += (size_t)more;
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
