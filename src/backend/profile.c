/* profile.c - see profile.h. */
#include "backend/profile.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"

/* What a row came to in one step. */
typedef struct row_sum {
    uint64_t ns;
    roof_work work;
    uint32_t tasks;
    uint32_t ops;
} row_sum;

typedef struct step_sum {
    uint64_t ns;
    uint32_t batch_rows;
    uint32_t rows_count;
    row_sum rows[PROFILE_ROWS_MAX];
} step_sum;

/* The row of a task, as long as it has that name: a kernel may be another one with more rows. */
typedef struct task_row {
    const char *name;
    const profile_row *row;
} task_row;

struct profile {
    profile_row rows[PROFILE_ROWS_MAX];
    uint32_t rows_count;
    task_row *tasks; /* owned; [tasks_max] */
    uint32_t tasks_max;
    step_sum *steps; /* owned; [steps_max] */
    uint32_t steps_count, steps_max;
};

status profile_create(profile **out, uint32_t steps_max, uint32_t tasks_max, error *err) {
    ASSERT(steps_max > 0 && steps_max <= PROFILE_STEPS_MAX);
    profile *f = mem_try_calloc(1, sizeof *f);
    if (f == NULL) return error_set(err, ERR_NOMEM, "profile: no memory");
    f->steps_max = steps_max;
    f->tasks_max = tasks_max;
    f->steps = mem_try_calloc(steps_max, sizeof *f->steps);
    f->tasks = mem_try_calloc((size_t)tasks_max + 1, sizeof *f->tasks);
    if (f->steps == NULL || f->tasks == NULL) {
        profile_destroy(f);
        return error_set(err, ERR_NOMEM, "profile: no memory for %u steps of %u tasks", steps_max,
                         tasks_max);
    }
    *out = f;
    return OK;
}

void profile_destroy(profile *f) {
    if (f == NULL) return;
    mem_free(f->steps);
    mem_free(f->tasks);
    mem_free(f);
}

/* --- rows -------------------- */

static profile_row describe(const backend_profile *part, uint32_t part_idx, const backend_task *t) {
    profile_row row = {.name = t->name,
                       .part = part_idx,
                       .arith =
                           t->halves ? ROOF_HALF : roofline_arith(part->p, t->ops, t->ops_count),
                       .ops_count = t->ops_count};
    for (uint32_t i = 0; i < t->ops_count; i++) row.ops[i] = part->p->ops[t->ops[i]].kind;
    roofline_what(part->p, t->ops, t->ops_count, row.what);
    return row;
}

static bool is_of_kind(const profile_row *a, const profile_row *b) {
    if (a->part != b->part || a->arith != b->arith || a->ops_count != b->ops_count) return false;
    for (uint32_t i = 0; i < a->ops_count; i++)
        if (a->ops[i] != b->ops[i]) return false;
    return strcmp(a->name, b->name) == 0 && strcmp(a->what, b->what) == 0;
}

static profile_row *find_row(profile *f, const profile_row *wanted) {
    for (uint32_t i = 0; i < f->rows_count; i++)
        if (is_of_kind(&f->rows[i], wanted)) return &f->rows[i];
    if (f->rows_count == PROFILE_ROWS_MAX) return &f->rows[PROFILE_ROWS_MAX - 1];
    profile_row *row = &f->rows[f->rows_count++];
    const bool last = f->rows_count == PROFILE_ROWS_MAX;
    *row = last ? (profile_row){.name = "others", .part = wanted->part} : *wanted;
    return row;
}

static const profile_row *row_of(profile *f, uint32_t at, const backend_profile *part,
                                 uint32_t part_idx, const backend_task *t) {
    ASSERT(at < f->tasks_max);
    task_row *known = &f->tasks[at];
    if (known->name == t->name) return known->row;
    const profile_row wanted = describe(part, part_idx, t);
    *known = (task_row){.name = t->name, .row = find_row(f, &wanted)};
    return known->row;
}

/* --- steps -------------------- */

static void add_task(row_sum *to, const backend_task *t) {
    to->ns += t->ns;
    to->work.weight_bytes += t->work.weight_bytes;
    to->work.value_bytes += t->work.value_bytes;
    to->work.cache_bytes += t->work.cache_bytes;
    to->work.flops += t->work.flops;
    to->tasks++;
    to->ops += t->ops_count;
}

void profile_add(profile *f, const backend_profile *parts, uint32_t parts_count,
                 uint32_t batch_rows) {
    if (f->steps_count == f->steps_max) return;
    step_sum *step = &f->steps[f->steps_count++];
    uint32_t at = 0;
    step->batch_rows = batch_rows;
    for (uint32_t p = 0; p < parts_count; p++) {
        step->ns += parts[p].ns;
        for (uint32_t i = 0; i < parts[p].count; i++, at++) {
            const backend_task *t = &parts[p].tasks[i];
            if (t->ran) add_task(&step->rows[row_of(f, at, &parts[p], p, t) - f->rows], t);
        }
    }
    step->rows_count = f->rows_count;
}

/* --- what they came to -------------------- */

uint32_t profile_steps(const profile *f) { return f->steps_count; }

/* As many steps are faster as there are slower ones, or one fewer; of equal ones the first is
 * faster. */
static const step_sum *median_of(const profile *f) {
    for (uint32_t i = 0; i < f->steps_count; i++) {
        uint32_t before = 0;
        for (uint32_t k = 0; k < f->steps_count; k++)
            before +=
                f->steps[k].ns < f->steps[i].ns || (f->steps[k].ns == f->steps[i].ns && k < i);
        if (before == (f->steps_count - 1) / 2) return &f->steps[i];
    }
    return NULL;
}

static int longest_first(const void *a, const void *b) {
    const profile_line *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

void profile_median(const profile *f, profile_view *out) {
    const step_sum *step = median_of(f);
    out->steps = f->steps_count;
    out->lines_count = 0;
    if (step == NULL) return;
    out->batch_rows = step->batch_rows;
    out->ns = step->ns;
    for (uint32_t i = 0; i < step->rows_count; i++) {
        const row_sum *sum = &step->rows[i];
        if (sum->tasks == 0) continue;
        out->lines[out->lines_count++] = (profile_line){.row = &f->rows[i],
                                                        .ns = sum->ns,
                                                        .work = sum->work,
                                                        .tasks = sum->tasks,
                                                        .ops = sum->ops};
    }
    qsort(out->lines, out->lines_count, sizeof out->lines[0], longest_first);
}
