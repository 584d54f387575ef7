/* bench_kernels.c - `gantry bench --kernels`: where a step spends its time, kind of task by kind.
 *
 * Bytes and operations are those of the program (backend/roofline.h), times those that the backend
 * takes (backend.h, profile), limits the machine's figures, or what a GPU's driver says of it. */
#include <stdio.h>

#include "api/roofline.h"
#include "app/bench_internal.h"
#include "base/num.h"
#include "worker/profile_tables.h"

enum { DECODES_PER_REPEAT = 8 }; /* a step of one row is short */

/* --- limits -------------------- */

static void set_limit(backend_limit *to, const bench *b, machine_figure figure, uint32_t digits) {
    to->per_s = (uint64_t)(b->figures[figure] / num_max_u32(digits, 1));
    if (digits > 1)
        (void)snprintf(to->name, sizeof to->name, "%s / %u digits", machine_figure_name(figure),
                       digits);
    else
        str_copy_c(to->name, sizeof to->name, str_of(machine_figure_name(figure)));
}

/* What a device does not say of itself was measured. */
static void set_limits(const bench *b, backend_profile *part, bool prompt) {
    uint32_t digits = 1;
    if (part->bytes.name[0] != '\0') return;
    const bool fast = prompt && b->fast;
    set_limit(&part->bytes, b, MACHINE_READ, 1);
    set_limit(&part->ops[ROOF_FLOAT], b, MACHINE_F32, 1);
    set_limit(&part->ops[ROOF_HALF], b, bench_figure_of(b, fast, false, &digits), 1);
    const machine_figure integer = bench_figure_of(b, fast, true, &digits);
    set_limit(&part->ops[ROOF_INTEGER], b, integer, digits);
}

/* --- measuring -------------------- */

static status run_steps(bench *b, const bench_test *t, uint32_t steps, profile *to, error *err) {
    backend_profile parts[BACKEND_PARTS_MAX];
    for (uint32_t i = 0; i <= steps; i++) {
        TRY(bench_prepare(b, t, err));
        TRY(bench_run_test(b, t, err));
        const uint32_t count = engine_profiled(b->engine, parts);
        if (i > 0) profile_add(to, parts, count, t->batch == 0 ? t->tokens : t->batch);
    }
    return OK;
}

/* The first step of the test warms up. */
static status measure_test(bench *b, const bench_test *t, uint32_t steps, profile_table *out,
                           buf *entries, error *err) {
    backend_profile parts[BACKEND_PARTS_MAX];
    profile *f = NULL;
    uint32_t count = engine_profiled(b->engine, parts);
    TRY(profile_create(&f, steps, profile_tasks(parts, count), err));
    status st = run_steps(b, t, steps, f, err);
    count = engine_profiled(b->engine, parts);
    for (uint32_t i = 0; i < count; i++) set_limits(b, &parts[i], t->batch == 0);
    if (st == OK) {
        profile_table_fill(out, entries, f, parts, count);
        st = buf_status(entries, "bench: kernels", err);
    }
    profile_destroy(f);
    for (uint32_t s = 0; s < num_max_u32(t->batch, 1); s++) kv_seat_clear(engine_kv(b->engine), s);
    return st;
}

static status measure_tests(bench *b, bench_kernels *out, error *err) {
    const config *c = b->c;
    const uint32_t repeat = num_max_u32(c->repeat, 1),
                   rows = num_min_u32(c->bench_prompt_tokens, engine_mem_plan(b->engine)->rows_max);
    if (rows > 0)
        TRY(measure_test(b, &(bench_test){.tokens = rows}, num_min_u32(repeat, PROFILE_STEPS_MAX),
                         &out->prompt, &out->entries[0], err));
    if (c->bench_tokens == 0 || c->batch.count == 0 || engine_is_encoder(b->engine)) return OK;
    const bench_test last = {.tokens = 1,
                             .batch = num_max_u32(c->batch.items[0], 1),
                             .depth = c->bench_depth_tokens + c->bench_tokens - 1};
    return measure_test(b, &last, num_min_u32(repeat * DECODES_PER_REPEAT, PROFILE_STEPS_MAX),
                        &out->decode, &out->entries[1], err);
}

status bench_kernels_measure(bench *b, bench_kernels *out, error *err) {
    error ignored;
    *out = (bench_kernels){0};
    for (int i = 0; i < 2; i++) buf_init(&out->entries[i], WIRE_PROFILE_ENTRIES_BYTES_MAX);
    TRY(engine_profile_switch(b->engine, true, err));
    b->measures_kernels = true;
    const status st = measure_tests(b, out, err);
    b->measures_kernels = false;
    (void)!engine_profile_switch(b->engine, false, &ignored);
    return st;
}

void bench_kernels_deinit(bench_kernels *k) {
    for (int i = 0; i < 2; i++) buf_deinit(&k->entries[i]);
}

/* --- table -------------------- */

static void write_place(const profile_place *p) {
    printf("%s:", p->where);
    for (int i = 0; i < WIRE_PROFILE_LIMITS; i++)
        if (p->limits[i].per_s > 0 &&
            (i == 0 || strcmp(p->limits[i].name, p->limits[i - 1].name) != 0))
            printf("%s %s %.1f %s/s", i > 0 ? "," : "", p->limits[i].name,
                   (double)p->limits[i].per_s / 1e9, i == 0 ? "GB" : "Gflop");
    printf("\n");
}

static double percent(uint64_t part, uint64_t whole) {
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static void write_entry(const profile_table *t, const profile_entry *e) {
    const roofline_rate r = roofline_rate_of(t, e);
    char limit[48] = "-";
    if (r.limit != NULL)
        (void)snprintf(limit, sizeof limit, "%.1f%% %s", 100 * r.fraction, r.limit->name);
    const double mb = (double)(e->weight_bytes + e->value_bytes + e->cache_bytes) / 1e6;
    printf("%-27.*s %5u %10.1f %5.1f%% %9.2f %9.1f %8.2f %9.1f  %-24s %.*s%s%.*s\n", STR(e->name),
           e->tasks, (double)e->ns / 1e3, percent(e->ns, t->ns), mb, (double)e->flops / 1e6,
           r.bytes_per_s / 1e9, r.ops_per_s / 1e9, limit, STR(e->kinds), e->what.n > 0 ? ": " : "",
           STR(e->what));
}

static void write_sum(const char *what, uint64_t ns, uint64_t whole_ns) {
    printf("%-27s %5s %10.1f %5.1f%%\n", what, "", (double)ns / 1e3, percent(ns, whole_ns));
}

static void write_table(const char *what, const profile_table *t) {
    if (t->steps == 0) return;
    printf("\n%s step of %u row%s: %.3f ms, the median of %u steps\n", what, t->rows,
           t->rows == 1 ? "" : "s", (double)t->ns / 1e6, t->steps);
    for (uint32_t i = 0; i < t->places_count; i++) write_place(&t->places[i]);
    printf("%-27s %5s %10s %6s %9s %9s %8s %9s  %-24s %s\n", "task", "n", "us", "step", "MB",
           "Mflop", "GB/s", "Gflop/s", "of limit", "ops: weights");
    str entries = t->entries;
    profile_entry e;
    while (wire_profile_entry_next(&entries, &e)) write_entry(t, &e);
    const uint64_t tasks_ns = roofline_tasks_ns(t);
    write_sum("all of them", tasks_ns, t->ns);
    write_sum("not in any", t->ns - num_min_u64(tasks_ns, t->ns), t->ns);
}

void bench_kernels_write(const bench_kernels *k) {
    write_table("prompt", &k->prompt);
    write_table("decode", &k->decode);
}

/* --- JSON -------------------- */

void bench_kernels_json(const bench_kernels *k, json_writer *w) {
    json_kv_object(w, "kernels");
    json_key(w, S("prompt"));
    roofline_write_table(w, &k->prompt);
    json_key(w, S("decode"));
    roofline_write_table(w, &k->decode);
    json_end_object(w);
}
