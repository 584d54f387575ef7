/* bench_internal.h - what the files of `gantry bench` share.
 *
 *   bench.c        the command: opens model, engine and machine, goes through the tests
 *   bench_run.c    runs one test again and again on the clock
 *   bench_cost.c   what a test must read and multiply
 *   bench_kernels.c  where a step spends its time
 *   bench_write.c  table and JSON
 *
 * Owner: the main thread. */
#ifndef APP_BENCH_INTERNAL_H
#define APP_BENCH_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "app/config.h"
#include "app/machine.h"
#include "engine/engine.h"
#include "wire/wire.h"
#include "json/write.h"

enum { BENCH_ROWS_MAX = 512, BENCH_REPEAT_MAX = 64 };

typedef struct bench {
    const config *c;
    const char *path; /* the MODEL argument */
    model *model;
    engine *engine;
    machine *machine;
    backend_report report;
    uint32_t threads;
    bool fast;                            /* numerics of the CPU */
    bool measures_kernels;                /* now: no step is ahead of another one */
    double load_s;                        /* engine_load() */
    double figures[MACHINE_FIGURE_COUNT]; /* before the first test */
    double read_min, read_max;            /* of all sweeps, those between the tests too */
    engine_row rows[BENCH_ROWS_MAX];
    backend_limit device_bytes;                 /* of the GPU that computes all layers; else ... */
    backend_limit device_ops[ROOF_ARITH_COUNT]; /* ... without names: the host's figures count */
    double fast_rate, exact_rate;               /* of prompts, tokens per second; 0: not measured */
} bench;

/* A prompt of `tokens` (batch 0), or so many steps of `batch` sequences after `depth` tokens.
 * is_exact: the prompt's rows are computed as generated ones are, as in numerics `exact`. */
typedef struct bench_test {
    uint32_t tokens;
    uint32_t batch;
    uint32_t depth;
    bool is_exact;
    char name[48];
} bench_test;

/* Of the whole test, all sequences together. */
typedef struct bench_cost {
    double bytes;    /* weights and context that its steps must read from memory */
    double products; /* multiply-adds */
} bench_cost;

/* What a test came to.  A limit is the time that its cost takes at a figure of the machine; the
 * one that takes longer binds. */
typedef struct bench_row {
    bench_test test;
    const char *mode;               /* numerics: "exact" or "fast" */
    uint32_t count;                 /* runs */
    double runs[BENCH_REPEAT_MAX];  /* tokens per second, in the order they ran */
    double median, min, max;        /* tokens per second */
    double bytes_per_s, ops_per_s;  /* at the median; 2 operations per multiply-add */
    double read_before, read_after; /* sweeps around the test; of a GPU what it says of itself */
    double ops_limit;               /* operations per second */
    const char *read_name;          /* what these are made of, and ops_limit */
    const char *ops_name;
    uint32_t ops_digits; /* products of int8 for one of the model's */
    bool reads_bind;
    double limit_fraction; /* 0: a GPU that does not say */
} bench_row;

/* Prompt or generation: warm up once, then run c->repeat times. */
NODISCARD status bench_measure(bench *b, const bench_test *t, bench_row *out, error *err);

/* Every sequence as it is before the clock runs: empty, or `depth` tokens long. */
NODISCARD status bench_prepare(bench *b, const bench_test *t, error *err);
/* The steps of a test, once. */
NODISCARD status bench_run_test(bench *b, const bench_test *t, error *err);

/* Where a prompt's first step and the last step of a generation spend their time; steps 0 where
 * there is no such test. */
typedef struct bench_kernels {
    profile_table prompt, decode;
    buf entries[2]; /* owned; of both tables */
} bench_kernels;
NODISCARD status bench_kernels_measure(bench *b, bench_kernels *out, error *err);
void bench_kernels_deinit(bench_kernels *k);
void bench_kernels_write(const bench_kernels *k);
void bench_kernels_json(const bench_kernels *k, json_writer *w);

bench_cost bench_cost_of(const model *m, const mem_plan *plan, const bench_test *t);
/* Of most of the model's products. */
roof_arith bench_arith_of(const model *m);
/* The figure that products with the model's weights are held against in this test, and how many
 * digits an activation has in them. */
machine_figure bench_ops_figure(const bench *b, const bench_test *t, uint32_t *digits);

/* The same for any products: how many digits an activation has depends on whether it is of a prompt
 * in mode `fast`, and on whether the weights are quantized. */
machine_figure bench_figure_of(const bench *b, bool fast, bool quantized, uint32_t *digits);

void bench_write_head(const bench *b);
void bench_write_row(const bench_row *r);
void bench_write_tail(const bench *b);
void bench_json_head(const bench *b, json_writer *w);
void bench_json_tail(const bench *b, json_writer *w); /* what is known behind the rows */
void bench_json_row(const bench_row *r, json_writer *w);

#endif
