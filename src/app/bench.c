/* bench.c - `gantry bench`: speed of prompts and of generation on the engine alone.
 *
 * First what the machine can do, then a row per test: median, extremes, and the fraction of the
 * limit that binds.  docs/bench.md tells how it is measured and what the columns mean. */
#include <stdio.h>
#include <string.h>

#include "app/bench_internal.h"
#include "app/commands.h"
#include "app/model_source.h"
#include "app/stack.h"
#include "base/alloc.h"
#include "base/num.h"
#include "base/os.h"
#include "base/outfile.h"
#include "model/synth.h"

enum { OUTPUT_BYTES_MAX = 1 << 20 };

/* --- opening -------------------- */

static uint32_t batch_max(const config *c) {
    uint32_t most = 1;
    for (uint32_t i = 0; i < c->batch.count; i++) most = num_max_u32(most, c->batch.items[i]);
    return most;
}

/* An encoder has a prompt test only, and reads the prompt in one step. */
static status check_encoder_tests(const config *c, error *err) {
    if (config_is_given(c, "batch") || config_is_given(c, "depth") ||
        (config_is_given(c, "tokens") && c->bench_tokens > 0))
        return error_set(err, ERR_INVALID,
                         "the model is an encoder and generates nothing: -n, --depth and --batch "
                         "have no meaning");
    if (c->bench_prompt_tokens > 0 && c->bench_prompt_tokens <= BENCH_ROWS_MAX) return OK;
    return error_set(err, ERR_INVALID,
                     "a prompt of %u tokens, want 1 to %d: an encoder reads it in one step",
                     c->bench_prompt_tokens, BENCH_ROWS_MAX);
}

static bool keep_loading(void *ctx, uint64_t done, uint64_t total) {
    (void)ctx;
    (void)done;
    (void)total;
    return true;
}

static status load_engine(bench *b, error *err) {
    const backend_progress progress = {keep_loading, NULL};
    const uint64_t start_ns = os_now_ns();
    TRY(engine_load(b->engine, &progress, err));
    b->load_s = (double)(os_now_ns() - start_ns) / 1e9;
    return OK;
}

/* A backend that measures no tasks says so before it is measured. */
static status check_kernels(bench *b, error *err) {
    if (!b->c->bench_kernels) return OK;
    TRY(engine_profile_switch(b->engine, true, err));
    return engine_profile_switch(b->engine, false, err);
}

/* Where GPUs compute all layers: what the fastest says of itself is what they are held against, for
 * each token goes through all of them in turn. */
static status ask_device(bench *b, error *err) {
    backend_profile parts[BACKEND_PARTS_MAX];
    if (!engine_mem_plan(b->engine)->on_device) return OK;
    TRY(engine_profile_switch(b->engine, true, err));
    const uint32_t count = engine_profiled(b->engine, parts);
    uint32_t fastest = 0;
    for (uint32_t i = 0; i < count; i++)
        if (parts[i].bytes.per_s > parts[fastest].bytes.per_s) fastest = i;
    if (count == engine_mem_plan(b->engine)->devices_count) {
        b->device_bytes = parts[fastest].bytes;
        memcpy(b->device_ops, parts[fastest].ops, sizeof b->device_ops);
    }
    return engine_profile_switch(b->engine, false, err);
}

static status open_engine(bench *b, error *err) {
    const config *c = b->c;
    engine_options opt = {0};
    if (batch_max(c) > BENCH_ROWS_MAX)
        return error_set(err, ERR_INVALID, "batch of %u, at most %d", batch_max(c), BENCH_ROWS_MAX);
    if (model_source_open(&b->model, c, b->path, err) != OK) return command_blame(b->path, err);
    TRY(stack_engine_options(c, &opt, err));
    opt.seats = opt.taken_rows_max = batch_max(c);
    opt.rows_max = BENCH_ROWS_MAX;
    opt.ctx_max = num_max_u32(c->bench_prompt_tokens, c->bench_depth_tokens + c->bench_tokens) + 1;
    if (b->model->hparams.is_encoder) {
        TRY(check_encoder_tests(c, err));
        opt.ctx_max = c->bench_prompt_tokens;
    }
    b->threads = opt.threads;
    b->fast = opt.fast;
    /* before the plan, which must see what the sweep holds */
    TRY(machine_open(&b->machine, opt.threads, opt.isa_cap, err));
    TRY(stack_engine_open(c, b->path, b->model, &opt, &b->engine, &(error){0}, err));
    TRY(load_engine(b, err));
    engine_report(b->engine, &b->report);
    TRY(ask_device(b, err));
    return check_kernels(b, err);
}

static status measure_machine(bench *b, error *err) {
    for (machine_figure f = 0; f < MACHINE_FIGURE_COUNT; f++)
        TRY(machine_measure(b->machine, f, &b->figures[f], err));
    b->read_min = b->read_max = b->figures[MACHINE_READ];
    return OK;
}

/* --- tests -------------------- */

/* "pp512", "pp512@exact", "tg128", "tg128@d4096", "tg128@b8", "tg128@d4096@b8" */
static void name_test(bench_test *t) {
    char depth[16] = "", together[16] = "";
    if (t->depth > 0) (void)snprintf(depth, sizeof depth, "@d%u", t->depth);
    if (t->batch > 1) (void)snprintf(together, sizeof together, "@b%u", t->batch);
    (void)snprintf(t->name, sizeof t->name, "%s%u%s%s%s", t->batch == 0 ? "pp" : "tg", t->tokens,
                   depth, together, t->is_exact ? "@exact" : "");
}

static status report_test(bench *b, json_writer *w, bench_test t, error *err) {
    bench_row row;
    name_test(&t);
    TRY(bench_measure(b, &t, &row, err));
    if (t.batch == 0) *(t.is_exact ? &b->exact_rate : &b->fast_rate) = row.median;
    if (b->c->json)
        bench_json_row(&row, w);
    else
        bench_write_row(&row);
    (void)fflush(stdout);
    return OK;
}

/* Prompts; and, where these are rounded otherwise than generated tokens, what it costs if not. */
static status report_prompts(bench *b, json_writer *w, error *err) {
    bench_test t = {.tokens = b->c->bench_prompt_tokens};
    TRY(report_test(b, w, t, err));
    if (!str_eq(str_of(b->report.numerics), S("fast"))) return OK;
    t.is_exact = true;
    return report_test(b, w, t, err);
}

static status report_tests(bench *b, json_writer *w, error *err) {
    const config *c = b->c;
    const bool generates = c->bench_tokens > 0 && !engine_is_encoder(b->engine);
    if (c->bench_prompt_tokens > 0) TRY(report_prompts(b, w, err));
    for (uint32_t i = 0; i < c->batch.count && generates; i++)
        TRY(report_test(b, w,
                        (bench_test){.tokens = c->bench_tokens,
                                     .batch = num_max_u32(c->batch.items[i], 1),
                                     .depth = c->bench_depth_tokens},
                        err));
    return OK;
}

static status run_as_table(bench *b, error *err) {
    bench_write_head(b);
    (void)fflush(stdout);
    TRY(report_tests(b, NULL, err));
    bench_write_tail(b);
    if (!b->c->bench_kernels) return OK;
    bench_kernels k;
    const status st = bench_kernels_measure(b, &k, err);
    if (st == OK) bench_kernels_write(&k);
    bench_kernels_deinit(&k);
    return st;
}

static status json_kernels(bench *b, json_writer *w, error *err) {
    bench_kernels k;
    const status st = bench_kernels_measure(b, &k, err);
    if (st == OK) bench_kernels_json(&k, w);
    bench_kernels_deinit(&k);
    return st;
}

static status run_as_json(bench *b, error *err) {
    buf out;
    json_writer w;
    buf_init(&out, OUTPUT_BYTES_MAX);
    json_writer_init(&w, &out);
    json_begin_object(&w);
    bench_json_head(b, &w);
    json_kv_array(&w, "rows");
    status st = report_tests(b, &w, err);
    if (st == OK) {
        json_end_array(&w);
        bench_json_tail(b, &w);
        if (b->c->bench_kernels) st = json_kernels(b, &w, err);
    }
    if (st == OK) {
        json_end_object(&w);
        buf_put_char(&out, '\n');
        st = command_write_stdout(out.p, out.n, err);
    }
    buf_deinit(&out);
    return st;
}

/* --- the command -------------------- */

/* Write the synthetic model instead of measuring it. */
static status export_model(const char *path, const config *c, error *err) {
    outfile f;
    if (!synth_is(path))
        return error_set(err, ERR_INVALID, "usage: --export takes a synth: model, not '%s'", path);
    status st = outfile_open(&f, c->export_file.p, err);
    if (st == OK) st = synth_write(synth_spec(path), f.fd, err);
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    return st;
}

status command_bench(const config *c, error *err) {
    const char *path = NULL;
    TRY(command_model_arg(c, &path, err));
    if (c->export_file.n > 0) return export_model(path, c, err);
    bench *b = mem_calloc(1, sizeof *b);
    b->c = c;
    b->path = path;
    status st = open_engine(b, err);
    if (st == OK) st = measure_machine(b, err);
    if (st == OK) st = c->json ? run_as_json(b, err) : run_as_table(b, err);
    machine_close(b->machine);
    engine_close(b->engine);
    model_close(b->model);
    mem_free(b);
    return st;
}
