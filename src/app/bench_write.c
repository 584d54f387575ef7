/* bench_write.c - the results of `gantry bench` as a table and as JSON. */
#include <stdio.h>

#include "app/bench_internal.h"

/* A sweep that moved by more than this is worth a line. */
static const double moved_fraction = 0.05;

static const char *limit_name(const bench_row *r) {
    return r->reads_bind ? r->read_name : r->ops_name;
}

/* --- table -------------------- */

static void write_machine(const bench *b) {
    printf("%-12s %12s  %s\n", "machine", "per second", "measured with");
    printf("%-12s %9.1f GB  %s over %.2f GB\n", machine_figure_name(MACHINE_READ),
           b->figures[MACHINE_READ] / 1e9, machine_loop_name(b->machine, MACHINE_READ),
           (double)machine_read_bytes(b->machine) / 1e9);
    for (machine_figure f = MACHINE_F32; f < MACHINE_FIGURE_COUNT; f++)
        if (b->figures[f] > 0)
            printf("%-12s %8.1f Gop  %s\n", machine_figure_name(f), b->figures[f] / 1e9,
                   machine_loop_name(b->machine, f));
}

/* A GPU that computes all layers says itself what it can do. */
static void write_device(const bench *b) {
    if (b->device_bytes.name[0] == '\0') return;
    printf("\n%-12s %9.1f GB  %s\n", "GPU", (double)b->device_bytes.per_s / 1e9,
           b->device_bytes.name);
    for (int i = 0; i < ROOF_ARITH_COUNT; i++)
        printf("%-12s %8.1f Gop  %s\n", "", (double)b->device_ops[i].per_s / 1e9,
               b->device_ops[i].name);
}

void bench_write_head(const bench *b) {
    printf("%s, %s, numerics %s, %u threads, loaded in %.1f s\n\n", b->path, b->report.what,
           b->report.numerics, b->threads, b->load_s);
    write_machine(b);
    write_device(b);
    printf("\n%-16s %10s %10s %10s %3s %8s %8s %9s\n", "test", "tokens/s", "min", "max", "n",
           "GB/s", "Gop/s", "of limit");
}

void bench_write_row(const bench_row *r) {
    char digits[24] = "";
    if (!r->reads_bind && r->ops_digits > 1)
        (void)snprintf(digits, sizeof digits, " / %u digits", r->ops_digits);
    printf("%-16s %10.2f %10.2f %10.2f %3u %8.2f %8.1f %8.1f%% %s%s\n", r->test.name, r->median,
           r->min, r->max, r->count, r->bytes_per_s / 1e9, r->ops_per_s / 1e9,
           100 * r->limit_fraction, limit_name(r), digits);
}

/* How many times as long prompts take when they are not rounded otherwise than what is generated;
 * 0: not measured, as there is nothing else to hold it against. */
static double exact_takes(const bench *b) {
    return b->exact_rate > 0 ? b->fast_rate / b->exact_rate : 0;
}

void bench_write_tail(const bench *b) {
    printf("\nNo result depends on what else is computed with it, in either mode of numerics.");
    if (exact_takes(b) > 0)
        printf("  Prompts with\nthe numbers that generated tokens have (numerics exact) take %.2f "
               "times as long.",
               exact_takes(b));
    printf("\n");
    if (b->read_max <= b->read_min * (1 + moved_fraction)) return;
    printf("\nThe read sweep moved from %.1f to %.1f GB/s while the tests ran: each test is held "
           "against\nthe larger of the two sweeps around it.\n",
           b->read_min / 1e9, b->read_max / 1e9);
}

/* --- JSON -------------------- */

void bench_json_head(const bench *b, json_writer *w) {
    json_kv_str(w, "model", str_of(b->path));
    json_kv_str(w, "backend", str_of(b->report.what));
    json_kv_str(w, "mode", str_of(b->report.numerics));
    json_kv_uint(w, "threads", b->threads);
    json_kv_f64(w, "load_s", b->load_s);
    json_kv_object(w, "machine");
    json_kv_uint(w, "read_bytes", machine_read_bytes(b->machine));
    for (machine_figure f = 0; f < MACHINE_FIGURE_COUNT; f++) {
        if (machine_loop_name(b->machine, f) == NULL) continue;
        json_kv_object(w, machine_figure_name(f));
        json_kv_f64(w, "per_s", b->figures[f]);
        json_kv_str(w, "loop", str_of(machine_loop_name(b->machine, f)));
        json_end_object(w);
    }
    json_end_object(w);
}

void bench_json_tail(const bench *b, json_writer *w) {
    json_kv_f64(w, "read_min", b->read_min);
    json_kv_f64(w, "read_max", b->read_max);
    json_kv_bool(w, "independent_of_batch", true);
    if (exact_takes(b) > 0)
        json_kv_f64(w, "exact_takes", exact_takes(b));
    else
        json_kv_null(w, "exact_takes");
}

void bench_json_row(const bench_row *r, json_writer *w) {
    json_begin_object(w);
    json_kv_str(w, "test", str_of(r->test.name));
    json_kv_str(w, "mode", str_of(r->mode));
    json_kv_uint(w, "tokens", r->test.tokens);
    json_kv_uint(w, "batch", r->test.batch);
    json_kv_uint(w, "depth", r->test.depth);
    json_kv_f64(w, "tokens_per_s", r->median);
    json_kv_f64(w, "min", r->min);
    json_kv_f64(w, "max", r->max);
    json_kv_uint(w, "n", r->count);
    json_kv_array(w, "runs");
    for (uint32_t i = 0; i < r->count; i++) json_f64(w, r->runs[i]);
    json_end_array(w);
    json_kv_f64(w, "bytes_per_s", r->bytes_per_s);
    json_kv_f64(w, "ops_per_s", r->ops_per_s);
    json_kv_f64(w, "read_before", r->read_before);
    json_kv_f64(w, "read_after", r->read_after);
    json_kv_f64(w, "ops_limit", r->ops_limit);
    json_kv_str(w, "ops_figure", str_of(r->ops_name));
    json_kv_uint(w, "ops_digits", r->ops_digits);
    json_kv_str(w, "limit", str_of(limit_name(r)));
    json_kv_f64(w, "limit_fraction", r->limit_fraction);
    json_end_object(w);
}
