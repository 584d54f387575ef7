/* rig.c - memory with guard zones, random numbers and comparisons for tests of single kernels. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "cudasim/rig_internal.h"
#include "test.h"

enum { ALIGN = 256, GUARD = 0xA7, FRESH = 0xFF };

static struct {
    rig_memory buffers[RIG_BUFFERS_MAX];
    uint32_t buffers_count, buffers_before; /* those that RIG_EACH found */
    uint32_t round;                         /* the next one of RIG_EACH */
    uint64_t random;
    char why[1024];
    const char *kernel; /* launched last */
} rig = {.random = 1};

static void fail(const char *file, int line, const char *what) {
    test_failures++;
    (void)fprintf(stderr, "%s:%d: %s\n", file, line, what);
}

/* --- memory -------------------- */

rig_memory *rig_memories(uint32_t *count) {
    *count = rig.buffers_count;
    return rig.buffers;
}

void *rig_buffer(size_t bytes) {
    unsigned char *whole = rig.buffers_count == RIG_BUFFERS_MAX
                               ? NULL
                               : mem_try_alloc_aligned(ALIGN, bytes + (size_t)2 * RIG_GUARD_BYTES);
    if (whole == NULL) {
        fail(__FILE__, __LINE__, "rig_buffer: no room for another buffer; is rig_done() missing?");
        __builtin_trap(); /* nothing sensible can follow */
    }
    rig_memory *m = &rig.buffers[rig.buffers_count++];
    *m = (rig_memory){.whole = whole, .bytes = bytes};
    memset(whole, GUARD, bytes + (size_t)2 * RIG_GUARD_BYTES);
    memset(rig_content(m), FRESH, bytes);
    rig_memory_open(m);
    return rig_content(m);
}

void *rig_copy(const void *from, size_t bytes) {
    void *p = rig_buffer(bytes);
    if (bytes > 0) memcpy(p, from, bytes);
    return p;
}

uint64_t rig_at(const void *p) {
    uintptr_t at = (uintptr_t)p;
    for (uint32_t i = 0; i < rig.buffers_count; i++) {
        const rig_memory *m = &rig.buffers[i];
        uintptr_t first = (uintptr_t)rig_content(m);
        if (at >= first && at - first <= m->bytes) return m->at + (at - first);
    }
    return at;
}

uint64_t rig_count(uint32_t n) { return rig_at(rig_copy(&n, sizeof n)); }

static void check_guards(const rig_memory *m) {
    char text[192];
    for (size_t i = 0; i < RIG_GUARD_BYTES; i++) {
        if (m->whole[i] == GUARD && rig_content(m)[m->bytes + i] == GUARD) continue;
        bool before = m->whole[i] != GUARD;
        (void)snprintf(text, sizeof text,
                       "a buffer of %zu bytes was written at byte %s%zu; last kernel: %s", m->bytes,
                       before ? "-" : "", before ? RIG_GUARD_BYTES - i : m->bytes + i,
                       rig.kernel == NULL ? "none" : rig.kernel);
        fail(__FILE__, __LINE__, text);
        return;
    }
}

static void give_back(uint32_t keep) {
    while (rig.buffers_count > keep) {
        rig_memory *m = &rig.buffers[--rig.buffers_count];
        check_guards(m);
        rig_memory_close(m);
        mem_free(m->whole);
    }
}

void rig_done(void) {
    give_back(0);
    rig_round_end();
}

/* --- numbers -------------------- */

void rig_seed(uint64_t seed) { rig.random = seed; }
uint64_t rig_random_state(void) { return rig.random; }

static uint32_t random_bits(void) { /* splitmix64, Steele et al. 2014; its upper half */
    uint64_t z = rig.random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ z >> 31) >> 32);
}

uint32_t rig_random(uint32_t below) { return (uint32_t)((uint64_t)random_bits() * below >> 32); }

void rig_fill(float *out, size_t count, float scale) {
    for (size_t i = 0; i < count; i++)
        out[i] = scale * ((float)(random_bits() >> 8) * 0x1p-23f - 1.0f);
}

void rig_fill_bytes(void *out, size_t bytes) {
    unsigned char *p = out;
    for (size_t i = 0; i < bytes; i++) p[i] = (unsigned char)random_bits();
}

/* --- launches -------------------- */

sim_fault rig_try_at(const rig_launch *l) {
    rig.kernel = l->kernel;
    return rig_start(l, rig.why, sizeof rig.why);
}

bool rig_run_at(const rig_launch *l) {
    char text[128];
    if (rig_try_at(l) != SIM_OK) {
        fail(l->file, l->line, rig.why);
        return false;
    }
    const sim_counters *c = rig_counters();
    if (c->prefetch_unread == 0) return true;
    (void)snprintf(text, sizeof text,
                   "%s does not read %" PRIu64 " of %" PRIu64 " prefetched sectors", l->kernel,
                   c->prefetch_unread, c->prefetch_sectors);
    fail(l->file, l->line, text);
    return false;
}

const char *rig_why(void) { return rig.why; }
/* --- rounds -------------------- */

bool rig_next(int *arch) {
    if (*arch == 0) {
        rig.round = 0;
        rig.buffers_before = rig.buffers_count;
    }
    give_back(rig.buffers_before);
    if (!rig_round(rig.round, arch)) {
        rig_round_end();
        return false;
    }
    rig.round++;
    rig_seed(1);
    return true;
}

/* --- comparing -------------------- */

rig_difference rig_compare(const float *got, const float *want, size_t count) {
    rig_difference d = {0};
    double error = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        double a = (double)got[i], b = (double)want[i];
        if (a == b || (isnan(a) && isnan(b))) { /* infinities, too */
            size += isfinite(b) ? b * b : 0;
            continue;
        }
        double e = fabs(a - b);
        if (!isfinite(e)) return (rig_difference){INFINITY, INFINITY, i};
        error += e * e;
        size += b * b;
        if (e <= d.max_abs) continue;
        d.max_abs = e;
        d.at = i;
    }
    d.nmse = error > 0 ? error / size : 0;
    return d;
}

static bool is_within(double value, double limit) { return value <= limit; } /* false for NaN */

static void fail_difference(const rig_difference *d, const float *got, const float *want,
                            const char *file, int line) {
    char text[192];
    (void)snprintf(text, sizeof text, "NMSE %.3g, worst at [%zu]: %.9g, want %.9g (off by %.3g)",
                   d->nmse, d->at, (double)got[d->at], (double)want[d->at], d->max_abs);
    fail(file, line, text);
}

bool rig_close_at(const float *got, const float *want, size_t count, double nmse_max,
                  const char *file, int line) {
    rig_difference d = rig_compare(got, want, count);
    bool ok = is_within(d.nmse, nmse_max);
    if (!ok) fail_difference(&d, got, want, file, line);
    return ok;
}

bool rig_near_at(const float *got, const float *want, size_t count, double max_abs,
                 const char *file, int line) {
    rig_difference d = rig_compare(got, want, count);
    bool ok = is_within(d.max_abs, max_abs);
    if (!ok) fail_difference(&d, got, want, file, line);
    return ok;
}

bool rig_same_at(const void *got, const void *want, size_t bytes, const char *file, int line) {
    const unsigned char *a = got, *b = want;
    char text[128];
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] == b[i]) continue;
        (void)snprintf(text, sizeof text, "byte %zu of %zu is 0x%02x, want 0x%02x", i, bytes, a[i],
                       b[i]);
        fail(file, line, text);
        return false;
    }
    return true;
}
