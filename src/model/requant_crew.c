/* requant_crew.c - threads that turn a tensor's elements from one type into another.
 *
 *   tensor   |chunk|chunk|chunk|chunk|chunk|chunk|...
 *   wave     |<--------- some per thread -------->|   then all are written, in order
 *
 * A chunk is some whole rows, or a piece of a long row.  The threads of a wave claim chunks by
 * counting; what a chunk becomes depends on nothing but the chunk, so neither do the bytes.
 * Threads last for one wave, which is some ten milliseconds of work: starting one takes less
 * than a thousandth of that, and nobody ever waits for anything but the end of a thread.
 *
 * Atomics: `next` only hands out numbers and orders nothing (relaxed); the wave's fields are
 * written before the threads start and its results read after they are joined. */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "base/thread.h"
#include "model/requant_internal.h"
#include "tensor/convert.h"
#include "tensor/quant.h"

enum {
    CHUNK_ELEMS = 32768, /* a multiple of every block */
    CHUNKS_PER_THREAD = 8,
    THREADS_MAX = 1024,
    CHUNK_BYTES_MAX = CHUNK_ELEMS * (int)sizeof(float), /* no type takes more than F32 */
};

#define ALL_FINITE UINT64_MAX

typedef struct chunk {
    uint64_t from; /* first element */
    uint32_t count;
    uint64_t bad; /* the first element that cannot be stored, or ALL_FINITE */
    float bad_value;
    uint8_t *out; /* borrowed from the crew; [CHUNK_BYTES_MAX] */
} chunk;

typedef struct worker {
    requant_crew *crew;
    thread thread;
    float *elems; /* owned by the crew; [CHUNK_ELEMS] */
} worker;

struct requant_crew {
    uint32_t threads;
    worker *workers; /* owned; [threads]; the first one is the caller's */
    chunk *chunks;   /* owned; [threads * CHUNKS_PER_THREAD] */
    uint8_t *bytes;  /* owned; what the chunks become */
    float *elems;    /* owned; the workers' scratch */

    /* the wave */
    const requant_tensor *tensor;
    uint32_t chunks_count;
    _Atomic uint32_t next;
};

/* --- lifecycle ---------------------------------------------------------------- */
status requant_crew_create(requant_crew **out, uint32_t threads, error *err) {
    if (threads == 0) threads = os_cpu_count();
    threads = num_min_u32(threads, THREADS_MAX);
    const size_t chunks = (size_t)threads * CHUNKS_PER_THREAD;
    requant_crew *c = mem_try_calloc(1, sizeof *c);
    if (c == NULL) return error_set(err, ERR_NOMEM, "quantize: no memory");
    c->threads = threads;
    c->workers = mem_try_calloc(threads, sizeof *c->workers);
    c->chunks = mem_try_calloc(chunks, sizeof *c->chunks);
    c->bytes = mem_try_alloc(chunks * CHUNK_BYTES_MAX);
    c->elems = mem_try_alloc((size_t)threads * CHUNK_BYTES_MAX);
    if (c->workers == NULL || c->chunks == NULL || c->bytes == NULL || c->elems == NULL) {
        requant_crew_destroy(c);
        return error_set(err, ERR_NOMEM, "quantize: no memory for %u threads of %d bytes", threads,
                         (CHUNKS_PER_THREAD + 1) * CHUNK_BYTES_MAX);
    }
    for (uint32_t i = 0; i < threads; i++)
        c->workers[i] = (worker){.crew = c, .elems = c->elems + (size_t)i * CHUNK_ELEMS};
    for (size_t i = 0; i < chunks; i++) c->chunks[i].out = c->bytes + i * CHUNK_BYTES_MAX;
    *out = c;
    return OK;
}

void requant_crew_destroy(requant_crew *c) {
    if (c == NULL) return;
    mem_free(c->workers);
    mem_free(c->chunks);
    mem_free(c->bytes);
    mem_free(c->elems);
    mem_free(c);
}

/* --- one chunk ----------------------------------------------------------------- */
static bool is_copied(const requant_tensor *t) { return t->type == t->from->type; }

static void check_elems(const requant_tensor *t, chunk *k, const float *elems) {
    const float max = quant_largest(is_copied(t) ? DTYPE_F32 : t->type);
    k->bad = ALL_FINITE;
    for (uint32_t i = 0; i < k->count; i++) {
        if (fabsf(elems[i]) <= max) continue; /* false for a NaN */
        k->bad = k->from + i;
        k->bad_value = elems[i];
        return;
    }
}

/* The importance of the columns from element `at` on; NULL without. */
static const float *importance_at(const requant_tensor *t, uint64_t at) {
    if (t->importance == NULL) return NULL;
    const uint64_t cols = t->from->dims[0], row = at / cols;
    return t->importance + row / t->from->dims[1] * t->stride + at % cols;
}

/* Row by row: importance starts anew with each. */
static void convert_chunk(const requant_tensor *t, chunk *k, const float *elems) {
    const uint32_t cols = (uint32_t)num_min_u64(t->from->dims[0], k->count);
    for (uint32_t i = 0; i < k->count; i += cols)
        quant_row(t->type, elems + i, importance_at(t, k->from + i),
                  k->out + requant_bytes(t->type, i), cols);
}

static void work(void *arg) {
    worker *w = arg;
    requant_crew *c = w->crew;
    const requant_tensor *t = c->tensor;
    for (;;) {
        uint32_t i = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed);
        if (i >= c->chunks_count) return;
        chunk *k = &c->chunks[i];
        const uint8_t *stored = t->from->data;
        dequant_row(t->from->type, stored + requant_bytes(t->from->type, k->from), w->elems,
                    k->count);
        check_elems(t, k, w->elems);
        if (!is_copied(t) && k->bad == ALL_FINITE) convert_chunk(t, k, w->elems);
    }
}

/* --- waves ---------------------------------------------------------------------- */

/* Whole rows that fit, or what is left of the row at `from`. */
static uint32_t chunk_count_at(const gguf_tensor *t, uint64_t from) {
    const uint64_t cols = t->dims[0];
    if (cols > CHUNK_ELEMS) return (uint32_t)num_min_u64(CHUNK_ELEMS, cols - from % cols);
    return (uint32_t)num_min_u64(CHUNK_ELEMS / cols * cols, t->elems - from);
}

/* Cuts chunks from element `from` on; answers where the next wave begins. */
static uint64_t plan_wave(requant_crew *c, uint64_t from) {
    const gguf_tensor *t = c->tensor->from;
    c->chunks_count = 0;
    while (from < t->elems && c->chunks_count < c->threads * CHUNKS_PER_THREAD) {
        chunk *k = &c->chunks[c->chunks_count++];
        k->from = from;
        k->count = chunk_count_at(t, from);
        from += k->count;
    }
    atomic_store_explicit(&c->next, 0, memory_order_relaxed);
    return from;
}

static status run_wave(requant_crew *c, error *err) {
    status st = OK;
    const uint32_t threads = num_min_u32(c->threads, c->chunks_count);
    for (uint32_t i = 1; st == OK && i < threads; i++)
        st = thread_start(&c->workers[i].thread, "quantize", work, &c->workers[i], err);
    if (st == OK) work(&c->workers[0]);
    for (uint32_t i = 1; i < threads; i++) {
        thread_join(&c->workers[i].thread);
        c->workers[i].thread = (thread){0};
    }
    return st;
}

static status check_wave(const requant_crew *c, error *err) {
    const requant_tensor *t = c->tensor;
    for (uint32_t i = 0; i < c->chunks_count; i++) {
        const chunk *k = &c->chunks[i];
        if (k->bad == ALL_FINITE) continue;
        if (!isfinite(k->bad_value))
            return error_set(err, ERR_FORMAT, "'%.*s': element %" PRIu64 " of %" PRIu64 " is %g",
                             STR(t->from->name), k->bad, t->from->elems, (double)k->bad_value);
        return error_set(err, ERR_FORMAT, "'%.*s': element %" PRIu64 " is %g, %s holds at most %g",
                         STR(t->from->name), k->bad, (double)k->bad_value, dtype_name(t->type),
                         (double)quant_largest(t->type));
    }
    return OK;
}

static status write_wave(const requant_crew *c, gguf_sink *sink, error *err) {
    const requant_tensor *t = c->tensor;
    for (uint32_t i = 0; i < c->chunks_count; i++) {
        const chunk *k = &c->chunks[i];
        const uint8_t *bytes = k->out;
        if (is_copied(t)) bytes = (const uint8_t *)t->from->data + requant_bytes(t->type, k->from);
        TRY(gguf_sink_put(sink, bytes, (size_t)requant_bytes(t->type, k->count), err));
    }
    return OK;
}

status requant_crew_run(requant_crew *c, const requant_tensor *t, gguf_sink *sink,
                        requant_pulse pulse, void *ctx, error *err) {
    ASSERT(is_copied(t) || quant_is_writable(t->type));
    c->tensor = t;
    for (uint64_t from = 0; from < t->from->elems;) {
        const uint64_t next = plan_wave(c, from);
        TRY(run_wave(c, err));
        TRY(check_wave(c, err));
        TRY(write_wave(c, sink, err));
        TRY(pulse(ctx, requant_bytes(t->from->type, next - from), err));
        from = next;
    }
    return OK;
}
