/* bench_run.c - runs one test again and again on the clock.
 *
 * The machine's figures are measured again after every test: the speed of a virtual machine moves,
 * and a test is held against the larger of what was found before and after it. */
#include <stdlib.h>

#include "app/bench_internal.h"
#include "base/num.h"
#include "base/os.h"

/* Any valid ids: what is computed does not depend on which. */
static int32_t some_token(const bench *b, uint32_t i) {
    return (int32_t)((i * 2654435761u >> 7) % b->model->hparams.vocab);
}

/* Rows up to position `to` of the seat, in steps as long as they can be. */
static status read_prompt(bench *b, uint32_t seat, uint32_t to, bool is_exact, error *err) {
    kv_pool *kv = engine_kv(b->engine);
    const uint32_t rows_max = engine_mem_plan(b->engine)->rows_max;
    for (uint32_t from = kv_seat_tokens(kv, seat); from < to;) {
        const uint32_t n = num_min_u32(to - from, rows_max);
        TRY(kv_seat_grow(kv, seat, from + n, err));
        for (uint32_t i = 0; i < n; i++)
            b->rows[i] = (engine_row){.token = some_token(b, from + i),
                                      .pos = from + i,
                                      .seat = seat,
                                      .prompt = !is_exact,
                                      .wants_logits = from + i + 1 == to};
        (void)engine_step(b->engine, b->rows, n);
        TRY(engine_check(b->engine, err));
        from += n;
    }
    return OK;
}

/* One token more of each sequence: rows for token i of the test. */
static status fill_rows(bench *b, const bench_test *t, uint32_t i, bool ahead, error *err) {
    for (uint32_t s = 0; s < t->batch; s++) {
        TRY(kv_seat_grow(engine_kv(b->engine), s, t->depth + i + 1, err));
        const bool follows = ahead && i > 0;
        b->rows[s] = (engine_row){.token = follows ? ~(int32_t)s : some_token(b, i + s),
                                  .pos = t->depth + i,
                                  .seat = s,
                                  .wants_logits = !ahead,
                                  .wants_best = ahead};
    }
    return OK;
}

/* As a server generates: greedy, each step given to the GPU before the one before it has ended. */
static status generate_ahead(bench *b, const bench_test *t, error *err) {
    for (uint32_t i = 0; i < t->tokens; i++) {
        TRY(fill_rows(b, t, i, true, err));
        engine_begin(b->engine, b->rows, t->batch);
        if (i > 0) (void)engine_end(b->engine);
        TRY(engine_check(b->engine, err));
    }
    (void)engine_end(b->engine);
    return engine_check(b->engine, err);
}

static status generate(bench *b, const bench_test *t, error *err) {
    if (engine_runs_ahead(b->engine) && !b->measures_kernels) return generate_ahead(b, t, err);
    for (uint32_t i = 0; i < t->tokens; i++) {
        TRY(fill_rows(b, t, i, false, err));
        (void)engine_step(b->engine, b->rows, t->batch);
        TRY(engine_check(b->engine, err));
    }
    return OK;
}

/* Where a sequence cannot go back it is read again. */
status bench_prepare(bench *b, const bench_test *t, error *err) {
    kv_pool *kv = engine_kv(b->engine);
    const bool again = t->depth == 0 || !engine_can_share(b->engine);
    for (uint32_t s = 0; s < num_max_u32(t->batch, 1); s++) {
        if (again)
            kv_seat_clear(kv, s);
        else if (kv_seat_tokens(kv, s) > t->depth)
            kv_seat_truncate(kv, s, t->depth);
        TRY(read_prompt(b, s, t->depth, t->is_exact, err));
    }
    return OK;
}

status bench_run_test(bench *b, const bench_test *t, error *err) {
    return t->batch == 0 ? read_prompt(b, 0, t->tokens, t->is_exact, err) : generate(b, t, err);
}

static status run_once(bench *b, const bench_test *t, double *tokens_per_s, error *err) {
    TRY(bench_prepare(b, t, err));
    const uint64_t start_ns = os_now_ns();
    TRY(bench_run_test(b, t, err));
    const double seconds = (double)(os_now_ns() - start_ns) / 1e9;
    *tokens_per_s = (double)t->tokens * num_max_u32(t->batch, 1) / seconds;
    return OK;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sum_up(bench_row *r) {
    double sorted[BENCH_REPEAT_MAX];
    for (uint32_t i = 0; i < r->count; i++) sorted[i] = r->runs[i];
    qsort(sorted, r->count, sizeof sorted[0], compare_doubles);
    r->min = sorted[0];
    r->max = sorted[r->count - 1];
    r->median = (sorted[(r->count - 1) / 2] + sorted[r->count / 2]) / 2;
}

/* Measure a figure anew; what a test between the two times could have had is the larger one. */
static status measure_again(bench *b, machine_figure f, double *larger, error *err) {
    const double before = b->figures[f];
    TRY(machine_measure(b->machine, f, &b->figures[f], err));
    *larger = before > b->figures[f] ? before : b->figures[f];
    return OK;
}

static status host_limits(bench *b, bench_row *r, double *read, error *err) {
    const machine_figure f = bench_ops_figure(b, &r->test, &r->ops_digits);
    r->read_before = b->figures[MACHINE_READ];
    TRY(measure_again(b, MACHINE_READ, read, err));
    TRY(measure_again(b, f, &r->ops_limit, err));
    r->read_after = b->figures[MACHINE_READ];
    if (r->read_after < b->read_min) b->read_min = r->read_after;
    if (r->read_after > b->read_max) b->read_max = r->read_after;
    r->ops_limit /= r->ops_digits;
    r->read_name = machine_figure_name(MACHINE_READ);
    r->ops_name = machine_figure_name(f);
    return OK;
}

static void device_limits(const bench *b, bench_row *r, double *read) {
    const backend_limit *ops = &b->device_ops[bench_arith_of(b->model)];
    *read = r->read_before = r->read_after = (double)b->device_bytes.per_s;
    r->ops_limit = (double)ops->per_s;
    r->ops_digits = 1;
    r->read_name = b->device_bytes.name;
    r->ops_name = ops->name;
}

static status hold_against_limits(bench *b, bench_row *r, error *err) {
    const bench_test *t = &r->test;
    const bench_cost cost = bench_cost_of(b->model, engine_mem_plan(b->engine), t);
    const double seconds = (double)t->tokens * num_max_u32(t->batch, 1) / r->median;
    double read = 0;
    if (b->device_bytes.name[0] != '\0')
        device_limits(b, r, &read);
    else
        TRY(host_limits(b, r, &read, err));
    r->bytes_per_s = cost.bytes / seconds;
    r->ops_per_s = 2 * cost.products / seconds;
    const double of_read = read > 0 ? r->bytes_per_s / read : 0;
    const double of_ops = r->ops_limit > 0 ? r->ops_per_s / r->ops_limit : 0;
    r->reads_bind = of_read >= of_ops;
    r->limit_fraction = r->reads_bind ? of_read : of_ops;
    return OK;
}

status bench_measure(bench *b, const bench_test *t, bench_row *out, error *err) {
    double warm_up = 0;
    *out = (bench_row){.test = *t,
                       .mode = t->is_exact ? "exact" : b->report.numerics,
                       .count = num_min_u32(num_max_u32(b->c->repeat, 1), BENCH_REPEAT_MAX)};
    TRY(run_once(b, t, &warm_up, err));
    for (uint32_t i = 0; i < out->count; i++) TRY(run_once(b, t, &out->runs[i], err));
    for (uint32_t s = 0; s < num_max_u32(t->batch, 1); s++) kv_seat_clear(engine_kv(b->engine), s);
    sum_up(out);
    return hold_against_limits(b, out, err);
}
