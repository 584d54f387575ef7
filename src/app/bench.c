/* bench.c - `gantry bench`: speed of prompts and of generation on the engine alone.
 *
 * Every test runs once to warm up, then `repeat` times; the median is reported with its
 * extremes.  Decoding reads every weight once per step (of experts those that one row uses; a
 * batch reads more), so its limit is a read sweep of the machine:
 *   limit_fraction = bytes read per step x steps per second / sweep. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/commands.h"
#include "app/machine.h"
#include "app/model_source.h"
#include "app/stack.h"
#include "base/alloc.h"
#include "base/num.h"
#include "base/os.h"
#include "base/outfile.h"
#include "model/synth.h"
#include "json/write.h"

enum { ROWS_MAX = 512, REPEAT_MAX = 64, OUTPUT_BYTES_MAX = 1 << 20 };

typedef struct bench {
    const config *c;
    model *model;
    engine *engine;
    uint32_t threads;
    engine_row rows[ROWS_MAX];
    double sweep;        /* bytes per second */
    uint64_t step_bytes; /* weights read by one step */
    const char *mode;
    char what[32];
} bench;

typedef struct bench_row {
    char test[32];
    double median, min, max; /* tokens per second */
    uint32_t n;
    double limit_fraction; /* < 0: no limit is known */
} bench_row;

/* --- tests -------------------- */

/* Any valid ids: what is computed does not depend on which. */
static int32_t some_token(const bench *b, uint32_t i) {
    return (int32_t)((i * 2654435761u >> 7) % b->model->hparams.vocab);
}

static status prompt_once(bench *b, uint32_t tokens, error *err) {
    kv_pool *kv = engine_kv(b->engine);
    kv_seat_clear(kv, 0);
    for (uint32_t from = 0; from < tokens;) {
        uint32_t n = num_min_u32(tokens - from, ROWS_MAX);
        TRY(kv_seat_grow(kv, 0, from + n, err));
        for (uint32_t i = 0; i < n; i++)
            b->rows[i] = (engine_row){.token = some_token(b, from + i),
                                      .pos = from + i,
                                      .wants_logits = from + i + 1 == tokens};
        (void)engine_step(b->engine, b->rows, n);
        from += n;
    }
    return OK;
}

/* `tokens` steps of one row for each of `batch` sequences. */
static status generate_once(bench *b, uint32_t tokens, uint32_t seqs, error *err) {
    kv_pool *kv = engine_kv(b->engine);
    for (uint32_t s = 0; s < seqs; s++) kv_seat_clear(kv, s);
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t s = 0; s < seqs; s++) {
            TRY(kv_seat_grow(kv, s, t + 1, err));
            b->rows[s] = (engine_row){
                .token = some_token(b, t + s), .pos = t, .seat = s, .wants_logits = true};
        }
        (void)engine_step(b->engine, b->rows, seqs);
    }
    return OK;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* seqs 0: the prompt test. */
static status measure(bench *b, uint32_t tokens, uint32_t seqs, bench_row *out, error *err) {
    double rates[REPEAT_MAX];
    uint32_t repeat = num_min_u32(num_max_u32(b->c->repeat, 1), REPEAT_MAX);
    for (uint32_t i = 0; i <= repeat; i++) {
        uint64_t start_ns = os_now_ns();
        TRY(seqs == 0 ? prompt_once(b, tokens, err) : generate_once(b, tokens, seqs, err));
        double seconds = (double)(os_now_ns() - start_ns) / 1e9;
        double made = (double)tokens * (seqs == 0 ? 1 : seqs);
        if (i > 0) rates[i - 1] = made / seconds; /* the first run warms up */
    }
    for (uint32_t s = 0; s < num_max_u32(seqs, 1); s++) kv_seat_clear(engine_kv(b->engine), s);
    qsort(rates, repeat, sizeof rates[0], compare_doubles);
    out->min = rates[0];
    out->max = rates[repeat - 1];
    out->median = (rates[(repeat - 1) / 2] + rates[repeat / 2]) / 2;
    out->n = repeat;
    out->limit_fraction = seqs == 0 ? -1 : out->median / seqs * (double)b->step_bytes / b->sweep;
    return OK;
}

/* --- output -------------------- */

static void table_head(const bench *b) {
    printf("%s, %s, %u threads, read sweep %.1f GB/s, %.3f GB read per step\n", b->what, b->mode,
           b->threads, b->sweep / 1e9, (double)b->step_bytes / 1e9);
    printf("%-12s %12s %12s %12s %4s %8s %8s\n", "test", "tokens/s", "min", "max", "n", "GB/s",
           "of limit");
}

static void table_row(const bench *b, const bench_row *r, uint32_t seqs) {
    printf("%-12s %12.2f %12.2f %12.2f %4u", r->test, r->median, r->min, r->max, r->n);
    if (r->limit_fraction < 0)
        printf(" %8s %8s\n", "-", "-");
    else
        printf(" %8.2f %7.1f%%\n", r->median / seqs * (double)b->step_bytes / 1e9,
               100 * r->limit_fraction);
}

static void json_row(const bench *b, json_writer *w, const bench_row *r) {
    json_begin_object(w);
    json_kv_str(w, "test", str_of(r->test));
    json_kv_f64(w, "tokens_per_s", r->median);
    json_kv_f64(w, "min", r->min);
    json_kv_f64(w, "max", r->max);
    json_kv_uint(w, "n", r->n);
    if (r->limit_fraction < 0)
        json_kv_null(w, "limit_fraction");
    else
        json_kv_f64(w, "limit_fraction", r->limit_fraction);
    json_kv_str(w, "mode", str_of(b->mode));
    json_kv_str(w, "backend", str_of(b->what));
    json_kv_uint(w, "threads", b->threads);
    json_end_object(w);
}

/* --- the command -------------------- */

static uint32_t batch_max(const config *c) {
    uint32_t most = 1;
    for (uint32_t i = 0; i < c->batch.count; i++) most = num_max_u32(most, c->batch.items[i]);
    return most;
}

/* What a step of one row reads of the weights: of a tied table everything, being the output matrix,
 * else only a few rows; of the experts the used ones. */
static uint64_t bytes_per_step(const model *m) {
    const model_hparams *h = &m->hparams;
    uint64_t unread = h->tied_output ? 0 : m->token_embd.bytes;
    uint32_t idle = h->experts.count - h->experts.used;
    for (uint32_t i = 0; i < h->layers; i++) {
        const model_layer *l = &m->layers[i];
        const model_tensor *parts[] = {l->gate_exps.parts, l->up_exps.parts, l->down_exps.parts};
        for (int k = 0; k < 3; k++)
            if (parts[k] != NULL) unread += parts[k][0].bytes * idle;
    }
    return m->weight_bytes - num_min_u64(unread, m->weight_bytes);
}

/* An encoder has a prompt test only, and reads the prompt in one step. */
static status check_encoder_tests(const config *c, error *err) {
    if (config_is_given(c, "batch") || (config_is_given(c, "tokens") && c->bench_tokens > 0))
        return error_set(err, ERR_INVALID,
                         "the model is an encoder and generates nothing: -n and --batch have no "
                         "meaning");
    if (c->bench_prompt_tokens > 0 && c->bench_prompt_tokens <= ROWS_MAX) return OK;
    return error_set(err, ERR_INVALID,
                     "a prompt of %u tokens, want 1 to %d: an encoder reads it in one step",
                     c->bench_prompt_tokens, ROWS_MAX);
}

static status open_bench(bench *b, const char *path, error *err) {
    const config *c = b->c;
    engine_options opt = {0};
    backend_report report;
    if (batch_max(c) > ROWS_MAX)
        return error_set(err, ERR_INVALID, "batch of %u, at most %d", batch_max(c), ROWS_MAX);
    if (model_source_open(&b->model, c, path, err) != OK) return command_blame(path, err);
    TRY(stack_engine_options(c, &opt, err));
    opt.seats = opt.taken_rows_max = batch_max(c);
    opt.rows_max = ROWS_MAX;
    opt.ctx_max = num_max_u32(c->bench_prompt_tokens, c->bench_tokens) + 1;
    if (b->model->hparams.is_encoder) {
        TRY(check_encoder_tests(c, err));
        opt.ctx_max = c->bench_prompt_tokens;
    }
    TRY(engine_open(&b->engine, b->model, &opt, err));
    b->threads = opt.threads;
    engine_report(b->engine, &report);
    b->mode = report.numerics;
    str_copy_c(b->what, sizeof b->what, str_of(report.what));
    b->step_bytes = bytes_per_step(b->model);
    return machine_read_sweep(b->threads, &b->sweep, err);
}

static status report_row(bench *b, json_writer *w, uint32_t tokens, uint32_t seqs, error *err) {
    bench_row r = {0};
    if (seqs == 0)
        (void)snprintf(r.test, sizeof r.test, "pp%u", tokens);
    else if (seqs == 1)
        (void)snprintf(r.test, sizeof r.test, "tg%u", tokens);
    else
        (void)snprintf(r.test, sizeof r.test, "tg%u@b%u", tokens, seqs);
    TRY(measure(b, tokens, seqs, &r, err));
    if (b->c->json)
        json_row(b, w, &r);
    else
        table_row(b, &r, seqs);
    (void)fflush(stdout);
    return OK;
}

static status run_tests(bench *b, error *err) {
    const config *c = b->c;
    buf out;
    json_writer w;
    buf_init(&out, OUTPUT_BYTES_MAX);
    json_writer_init(&w, &out);
    json_begin_array(&w);
    if (!c->json) table_head(b);
    status st = OK;
    if (c->bench_prompt_tokens > 0) st = report_row(b, &w, c->bench_prompt_tokens, 0, err);
    bool generates = c->bench_tokens > 0 && !engine_is_encoder(b->engine);
    for (uint32_t i = 0; i < c->batch.count && st == OK && generates; i++)
        st = report_row(b, &w, c->bench_tokens, num_max_u32(c->batch.items[i], 1), err);
    if (st == OK) {
        json_end_array(&w);
        buf_put_char(&out, '\n');
        if (c->json) st = command_write_stdout(out.p, out.n, err);
    }
    buf_deinit(&out);
    return st;
}

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
    status st = open_bench(b, path, err);
    if (st == OK) st = run_tests(b, err);
    engine_close(b->engine);
    model_close(b->model);
    mem_free(b);
    return st;
}
