/* split_cut.c - where a step is cut into micro-batches.
 *
 * With n rows on K parts one after the other, each part rests while the others compute.  In M
 * micro-batches they compute side by side, as in a factory:
 *
 *     part 0 | 0 | 1 | 2 | 3 |                 K + M - 1 times what a part needs for n / M rows,
 *     part 1     | 0 | 1 | 2 | 3 |             instead of K times what it needs for n
 *
 * That pays where a part needs 1/M of the time for 1/M of the rows: as long as products are bound
 * by what they compute.  With few rows they are bound by weights, which every micro-batch reads
 * anew, and with K >= 2 cutting would make the step longer.  So each one has rows enough for its
 * weights to be read while they are used (docs/gpu.md has the numbers).
 *
 * Rows stay in their order, so those of a sequence find what its earlier rows have left, as they
 * do when a prompt is cut into chunks. */
#include "backend/split/split_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

enum {
    TILE_ROWS = 64,             /* of a tile of the kernels for prompts */
    ROWS_MIN = 2 * TILE_ROWS,   /* of a micro-batch */
    EXPERT_ROWS_MIN = TILE_ROWS /* of each expert that its rows use */
};

/* --- life cycle -------------------- */

static uint32_t rows_that_pay(const program *p) {
    uint32_t rows = ROWS_MIN;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_EXPERTS) continue;
        rows = num_max_u32(rows,
                           num_div_up_u32(EXPERT_ROWS_MIN * o->experts.experts, o->experts.used));
    }
    return rows;
}

static bool sees_ahead(const program *p) {
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].kind == OP_ATTENTION && !p->ops[i].attn.causal) return true;
    return false;
}

status split_cut_init(split_cut *c, const program *p, const backend_options *opt, uint32_t places,
                      error *err) {
    const program_limits *max = &p->max;
    *c = (split_cut){.most = opt->no_micro_batches ? 1 : SPLIT_MICRO_PER_PART * places,
                     .rows_min = opt->micro_rows > 0 ? opt->micro_rows : rows_that_pay(p),
                     .whole_runs = sees_ahead(p),
                     .count = 1};
    ASSERT(c->most <= SPLIT_MICRO_MAX);
    c->unit = num_max_u32(num_min_u32(c->rows_min / 2, TILE_ROWS), 1);
    c->runs = mem_try_calloc(max->rows, sizeof *c->runs);
    c->taken = mem_try_calloc(num_max_u32(max->taken, 1), sizeof *c->taken);
    c->head = mem_try_calloc(num_max_u32(max->head, 1), sizeof *c->head);
    if (c->runs != NULL && c->taken != NULL && c->head != NULL) return OK;
    return error_set(err, ERR_NOMEM, "split: no memory for %u rows in micro-batches", max->rows);
}

void split_cut_deinit(split_cut *c) {
    mem_free(c->runs);
    mem_free(c->taken);
    mem_free(c->head);
    *c = (split_cut){0};
}

/* --- where -------------------- */

static uint32_t generated_rows(const batch *in) {
    uint32_t n = 0;
    while (n < in->rows && (in->prompt == NULL || !in->prompt[n])) n++;
    return n;
}

static uint32_t end_of_run(const batch *in, uint32_t row) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < in->runs_count && end < row; i++)
        end = in->runs[i].row0 + in->runs[i].rows;
    return end;
}

/* The row before which it is best to cut, where equal shares would end at `row`. */
static uint32_t cut_near(const split_cut *c, const batch *in, uint32_t row, uint32_t generated) {
    if (c->whole_runs) return end_of_run(in, row);
    return row > generated ? row - (row - generated) % c->unit : row;
}

/* --- what a micro-batch is -------------------- */

/* Runs of rows row0 .. row0 + rows - 1 as views of a batch of their own. */
static void add_runs(split_cut *c, batch *of, const batch *in, uint32_t *runs) {
    const uint32_t row0 = of->before.rows, end = row0 + of->rows;
    of->runs = c->runs + *runs;
    of->runs_count = 0;
    for (uint32_t i = 0; i < in->runs_count; i++) {
        const batch_run *run = &in->runs[i];
        const uint32_t from = num_max_u32(run->row0, row0);
        const uint32_t to = num_min_u32(run->row0 + run->rows, end);
        if (from >= to) continue;
        c->runs[*runs + of->runs_count++] = (batch_run){.row0 = from - row0,
                                                        .rows = to - from,
                                                        .seat = run->seat,
                                                        .pos0 = run->pos0 + (from - run->row0)};
    }
    *runs += of->runs_count;
}

/* Those of `list` [count] from `at` on that are below `end`, counted from `first`. */
static uint32_t add_numbers(uint32_t *out, const uint32_t *list, uint32_t count, uint32_t at,
                            uint32_t first, uint32_t end) {
    const uint32_t from = at;
    for (; at < count && list[at] < end; at++) out[at] = list[at] - first;
    return at - from;
}

static bool any_best(const batch *in, uint32_t first, uint32_t count) {
    for (uint32_t h = first; in->best != NULL && h < first + count; h++)
        if (in->best[h]) return true;
    return false;
}

static void add_results(split_cut *c, batch *of, const batch *in) {
    const batch_before *b = &of->before;
    of->taken = c->taken + b->taken;
    of->taken_rows =
        add_numbers(c->taken, in->taken, in->taken_rows, b->taken, b->rows, b->rows + of->rows);
    of->head = c->head + b->head;
    of->head_rows =
        add_numbers(c->head, in->head, in->head_rows, b->head, b->taken, b->taken + of->taken_rows);
    of->best = any_best(in, b->head, of->head_rows) ? in->best + b->head : NULL;
    of->samples = in->samples != NULL ? in->samples + b->head : NULL;
}

/* The rows from before.rows on. */
static void add_rows(batch *of, const batch *in, uint32_t rows) {
    const uint32_t row0 = of->before.rows;
    of->rows = rows;
    of->tokens = in->tokens + row0;
    of->pos = in->pos + row0;
    of->seats = in->seats + row0;
    of->prompt = in->prompt != NULL ? in->prompt + row0 : NULL;
    of->loras = in->loras != NULL ? in->loras + row0 : NULL;
    of->kv = in->kv;
    of->states = in->states;
}

uint32_t split_cut_step(split_cut *c, const batch *in) {
    const uint32_t count = num_min_u32(c->most, in->rows / c->rows_min);
    const uint32_t generated = generated_rows(in);
    uint32_t runs = 0;
    batch_before before = {0};
    c->count = 0;
    if (count < 2) return c->count = 1;
    for (uint32_t i = 1; i <= count && before.rows < in->rows; i++) {
        const uint32_t share = (uint32_t)((uint64_t)in->rows * i / count);
        const uint32_t end = i == count ? in->rows : cut_near(c, in, share, generated);
        if (end <= before.rows) continue;
        batch *of = &c->of[c->count++];
        *of = (batch){.before = before};
        add_rows(of, in, end - before.rows);
        add_runs(c, of, in, &runs);
        add_results(c, of, in);
        before = (batch_before){.rows = end,
                                .taken = before.taken + of->taken_rows,
                                .head = before.head + of->head_rows};
    }
    ASSERT(before.rows == in->rows && before.taken == in->taken_rows);
    ASSERT(before.head == in->head_rows);
    return c->count;
}
