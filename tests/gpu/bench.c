/* bench.c - see bench.h: data, times, and lines of JSON. */
#include "gpu/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/num.h"
#include "gpu/bench_fill.h"
#include "gpu/line.h"

enum { LAUNCHES_MIN = 8, COPIES_MAX = 64, FILL_BLOCKS_MAX = 4096, FILL_THREADS = 256 };

#define ALL(x) \
    { (x), (x), (x), (x) }
const bench_bits bench_any = {ALL(0xffffffffu), ALL(0)};
const bench_bits bench_f32 = {ALL(0x807fffffu), ALL(0x3f000000u)};
const bench_bits bench_f16 = {ALL(0x83ff83ffu), ALL(0x38003800u)};
#undef ALL

/* --- opening -------------------- */

status bench_open(bench *b, error *err) {
    const cu_driver *d = b->card->dev.driver;
    int l2 = 0;
    TRY(cu_check(d, d->device_attribute(&l2, CU_ATTR_L2_BYTES, b->card->dev.handle),
                 "cuDeviceGetAttribute", err));
    b->l2_bytes = l2 > 0 ? (uint64_t)l2 : 0;
    TRY(cu_check(d, d->event_create(&b->from, CU_EVENT_DEFAULT_FLAG), "cuEventCreate", err));
    return cu_check(d, d->event_create(&b->to, CU_EVENT_DEFAULT_FLAG), "cuEventCreate", err);
}

void bench_close(bench *b) {
    const cu_driver *d = b->card->dev.driver;
    cuda_arena_close(&b->arena);
    if (b->from != NULL) (void)d->event_destroy(b->from);
    if (b->to != NULL) (void)d->event_destroy(b->to);
}

/* --- data -------------------- */

void bench_fill(bench *b, uint64_t at, size_t bytes, const bench_bits *bits) {
    k_bench_fill_args a = {.out = at, .words = bytes / 4, .seed = b->fills++};
    memcpy(a.keep, bits->keep, sizeof a.keep);
    memcpy(a.set, bits->set, sizeof a.set);
    const uint64_t blocks = num_min_u64(a.words / FILL_THREADS + 1, FILL_BLOCKS_MAX);
    card_kernel fill;
    if (card_find(b->card, "k_bench_fill", &fill, &b->card->dev.failure) != OK) {
        b->card->dev.fault = CU_NOT_FOUND;
        return;
    }
    card_launch(b->card, &fill, (card_grid){(uint32_t)blocks, 1, FILL_THREADS, 0}, &a, sizeof a);
}

status bench_reserve(bench *b, size_t bytes, uint64_t *out, error *err) {
    cu_ptr at = 0;
    TRY(cuda_arena_take(&b->arena, bytes, &at, err));
    *out = at;
    return OK;
}

status bench_take(bench *b, size_t bytes, const bench_bits *bits, uint64_t *out, error *err) {
    TRY(bench_reserve(b, bytes, out, err));
    bench_fill(b, *out, bytes, bits);
    return OK;
}

status bench_put(bench *b, const void *from, size_t bytes, uint64_t *out, error *err) {
    TRY(bench_reserve(b, bytes, out, err));
    (void)cuda_copy_in(&b->card->dev, b->card->dev.compute, *out, from, bytes);
    return cuda_sync(&b->card->dev, err);
}

status bench_take_out(bench *b, size_t floats, uint64_t *out, error *err) {
    TRY(bench_reserve(b, floats * sizeof(float), out, err));
    return cuda_fill(&b->card->dev, b->card->dev.compute, *out, 0xff, floats * sizeof(float));
}

status bench_check_out(bench *b, const char *name, uint64_t at, size_t floats, error *err) {
    float *got = mem_alloc(floats * sizeof *got);
    (void)cuda_copy_out(&b->card->dev, b->card->dev.compute, got, at, floats * sizeof *got);
    status st = cuda_sync(&b->card->dev, err);
    for (size_t i = 0; i < floats && st == OK; i++)
        if (!isfinite(got[i]))
            st = error_set(err, ERR_INTERNAL, "bench: %s: number %zu of %zu is %g", name, i, floats,
                           (double)got[i]);
    mem_free(got);
    return st;
}

/* --- times -------------------- */

bool bench_wants(const bench *b, const char *name) {
    return b->only == NULL || strstr(name, b->only) != NULL;
}

uint32_t bench_copies(const bench *b, uint64_t bytes) {
    const uint64_t most = b->scale > 1 ? 2 : COPIES_MAX;
    return (uint32_t)num_min_u64(4 * b->l2_bytes / bytes + 1, most);
}

uint32_t bench_launches(const bench *b, uint32_t copies) {
    return b->scale > 1 || copies > LAUNCHES_MIN ? copies : LAUNCHES_MIN;
}

/* Microseconds of one launch of a group. */
static status time_group(bench *b, const bench_case *c, bool early, double *us, error *err) {
    cuda_device *dev = &b->card->dev;
    float ms = 0;
    (void)cuda_note(dev, dev->driver->event_record(b->from, dev->compute), "cuEventRecord");
    cuda_chain(dev, early, false);
    for (uint32_t i = 0; i < c->launches; i++) c->launch(b, c->work, i);
    cuda_chain(dev, false, false);
    (void)cuda_note(dev, dev->driver->event_record(b->to, dev->compute), "cuEventRecord");
    TRY(cuda_sync(dev, err));
    cu_result code = dev->driver->event_elapsed(&ms, b->from, b->to);
    TRY(cu_check(dev->driver, code, "cuEventElapsedTime", err));
    *us = (double)ms * 1e3 / c->launches;
    return OK;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* --- lines -------------------- */

static void print_times(const bench_case *c, const double *sorted, uint32_t n) {
    line l;
    line_begin(&l);
    json_kv_str(&l.w, "name", str_of(c->name));
    json_kv_str(&l.w, "kernel", str_of(c->kernel));
    json_kv_f64(&l.w, "us", sorted[n / 2]);
    json_kv_f64(&l.w, "us_min", sorted[0]);
    json_kv_f64(&l.w, "us_max", sorted[n - 1]);
    json_kv_uint(&l.w, "repeats", n);
    json_kv_uint(&l.w, "launches", c->launches);
    json_kv_uint(&l.w, "bytes", c->bytes);
    json_kv_f64(&l.w, "gb_per_s", (double)c->bytes / sorted[n / 2] * 1e-3);
    if (c->ops > 0) json_kv_f64(&l.w, "tops", (double)c->ops / sorted[n / 2] * 1e-6);
    line_end(&l);
}

void bench_say_us(const char *name, double us) {
    line l;
    line_begin(&l);
    json_kv_str(&l.w, "name", str_of(name));
    json_kv_f64(&l.w, "us", us);
    line_end(&l);
}

void bench_say_why(const char *name, const char *why) {
    line l;
    line_begin(&l);
    json_kv_str(&l.w, "name", str_of(name));
    json_kv_str(&l.w, "why", str_of(why));
    line_end(&l);
}

static status run_case(bench *b, const bench_case *c, bool early, error *err) {
    double us[BENCH_REPEATS_MAX];
    TRY(time_group(b, c, early, &us[0], err)); /* caches of code and address tables */
    for (uint32_t i = 0; i < b->repeats; i++) TRY(time_group(b, c, early, &us[i], err));
    qsort(us, b->repeats, sizeof us[0], by_value);
    print_times(c, us, b->repeats);
    return OK;
}

status bench_run(bench *b, const bench_case *c, error *err) {
    TRY(run_case(b, c, false, err));
    if (!c->chain || !b->card->dev.overlaps) return OK;
    bench_case early = *c;
    const size_t n = strlen(c->name);
    (void)snprintf(early.name + n, sizeof early.name - n, ", early");
    return run_case(b, &early, true, err);
}
