/* metrics.h - counters, gauges and histograms, and their Prometheus text.
 *
 * A `metrics` is plain data owned by one thread: no locks, no atomics.  The front owns one
 * and uses its FRONT part; each engine owns one and uses its ENGINE part, whose cells it
 * sends up as an array of u64 in its status message (metrics_engine_view); the front loads
 * them into a copy and writes both out together.
 * The front owns another one per GPU and uses its GPU part.
 * A metric is one or more cells: a counter has a cell per label value, a histogram one
 * per bucket plus the sum.  Times are nanoseconds in cells and seconds in text. */
#ifndef OBS_METRICS_H
#define OBS_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

/* --- label values: fixed lists ----------------------------------------------------- */
#define METRICS_REASONS(X)    \
    X(STOP, "stop")           \
    X(LENGTH, "length")       \
    X(CANCELLED, "cancelled") \
    X(ERROR, "error")

/* What an endpoint is for; its aliases in other dialects count where they belong. */
#define METRICS_ENDPOINTS(X)      \
    X(CHAT, "chat_completions")   \
    X(COMPLETIONS, "completions") \
    X(RESPONSES, "responses")     \
    X(MESSAGES, "messages")       \
    X(EMBEDDINGS, "embeddings")   \
    X(GENERATE, "generate")       \
    X(MODELS, "models")           \
    X(TOKENIZE, "tokenize")       \
    X(HEALTH, "health")           \
    X(METRICS, "metrics")         \
    X(ADMIN, "admin")             \
    X(OTHER, "other")

/* HTTP statuses counted one by one; any other one counts as "other". */
/* clang-format off */
#define METRICS_CODES(X)                                                  \
    X(200) X(204) X(206) X(304) X(400) X(401) X(403) X(404) X(405) X(408) \
    X(411) X(413) X(415) X(417) X(421) X(422) X(429) X(431) X(499)        \
    X(500) X(501) X(503) X(504) X(505)
/* clang-format on */

typedef enum metrics_reason {
#define METRICS_REASON_ENUM(id, name) METRICS_REASON_##id,
    METRICS_REASONS(METRICS_REASON_ENUM)
#undef METRICS_REASON_ENUM
        METRICS_REASON_COUNT
} metrics_reason;

typedef enum metrics_endpoint {
#define METRICS_ENDPOINT_ENUM(id, name) METRICS_ENDPOINT_##id,
    METRICS_ENDPOINTS(METRICS_ENDPOINT_ENUM)
#undef METRICS_ENDPOINT_ENUM
        METRICS_ENDPOINT_COUNT
} metrics_endpoint;

enum {
#define METRICS_CODE_ENUM(code) METRICS_CODE_##code,
    METRICS_CODES(METRICS_CODE_ENUM)
#undef METRICS_CODE_ENUM
        METRICS_CODE_OTHER,
    METRICS_CODE_COUNT
};

/* --- the table -------------------------------------------------------------------- */
typedef enum metrics_scope { METRICS_FRONT, METRICS_ENGINE, METRICS_GPU } metrics_scope;

typedef enum metric {
#define X(scope, kind, id, name, shape, help) METRIC_##id,
#include "obs/metrics.def"
#undef X
    METRIC_COUNT
} metric;

/* Upper bounds of the buckets, in ns; one more bucket takes the rest. */
/* clang-format off */
#define METRICS_BUCKETS_SHORT(X) /* 1 ms to 10 s */                             \
    X(1000000) X(2500000) X(5000000) X(10000000) X(25000000) X(50000000)        \
    X(100000000) X(250000000) X(500000000) X(1000000000) X(2500000000) X(10000000000)
#define METRICS_BUCKETS_LONG(X) /* 10 ms to 5 min */                            \
    X(10000000) X(25000000) X(50000000) X(100000000) X(250000000) X(500000000)  \
    X(1000000000) X(2500000000) X(5000000000) X(10000000000) X(30000000000)     \
    X(60000000000) X(300000000000)
/* clang-format on */

#define METRICS_ONE_MORE(ns) +1
/* Cells per shape; a histogram has its buckets, the one for the rest, and the sum. */
enum {
    METRICS_CELLS_ONE = 1,
    METRICS_CELLS_BUILD = 1,
    METRICS_CELLS_REASON = METRICS_REASON_COUNT,
    METRICS_CELLS_REQUEST = (int)METRICS_ENDPOINT_COUNT * (int)METRICS_CODE_COUNT,
    METRICS_CELLS_SHORT = 2 METRICS_BUCKETS_SHORT(METRICS_ONE_MORE),
    METRICS_CELLS_LONG = 2 METRICS_BUCKETS_LONG(METRICS_ONE_MORE)
};

#define METRICS_IS_FRONT_FRONT(n)   (n)
#define METRICS_IS_FRONT_ENGINE(n)  0
#define METRICS_IS_FRONT_GPU(n)     0
#define METRICS_IS_ENGINE_FRONT(n)  0
#define METRICS_IS_ENGINE_ENGINE(n) (n)
#define METRICS_IS_ENGINE_GPU(n)    0
#define METRICS_IS_GPU_FRONT(n)     0
#define METRICS_IS_GPU_ENGINE(n)    0
#define METRICS_IS_GPU_GPU(n)       (n)
enum {
    METRICS_FRONT_CELLS = 0
#define X(scope, kind, id, name, shape, help) +METRICS_IS_FRONT_##scope(METRICS_CELLS_##shape)
#include "obs/metrics.def"
#undef X
};
/* At most 256: they travel in one status message. */
enum {
    METRICS_ENGINE_CELLS = 0
#define X(scope, kind, id, name, shape, help) +METRICS_IS_ENGINE_##scope(METRICS_CELLS_##shape)
#include "obs/metrics.def"
#undef X
};
enum {
    METRICS_GPU_CELLS = 0
#define X(scope, kind, id, name, shape, help) +METRICS_IS_GPU_##scope(METRICS_CELLS_##shape)
#include "obs/metrics.def"
#undef X
};

typedef struct metrics {
    uint64_t cells[METRICS_FRONT_CELLS + METRICS_ENGINE_CELLS + METRICS_GPU_CELLS];
} metrics;

/* In a GPU row: not known, no series. */
#define METRICS_UNKNOWN UINT64_MAX

/* --- counting --------------------------------------------------------------------- */
void metrics_init(metrics *m);
/* A counter of one series. */
void metrics_add(metrics *m, metric id, uint64_t n);
/* A gauge, or a counter that is kept elsewhere; ns where its name ends in seconds, thousandths
 * where it ends in watts. */
void metrics_set(metrics *m, metric id, uint64_t value);
/* A histogram of seconds. */
void metrics_observe_ns(metrics *m, metric id, uint64_t ns);
void metrics_count_request(metrics *m, metrics_endpoint endpoint, uint32_t http_status);
void metrics_count_finish(metrics *m, metrics_reason reason);
/* The value of a counter or gauge (all series together), the observations of a histogram. */
uint64_t metrics_get(const metrics *m, metric id);

/* --- travelling --------------------------------------------------------------------- */
/* METRICS_ENGINE_CELLS numbers, ENGINE rows in table order; borrowed. */
const uint64_t *metrics_engine_view(const metrics *m);
/* Takes over what an engine sent; ERR_FORMAT with both numbers when the count differs. */
NODISCARD status metrics_engine_load(metrics *m, const uint64_t *cells, uint32_t count, error *err);

/* --- writing ------------------------------------------------------------------------- */
typedef struct metrics_source {
    const metrics *values; /* borrowed */
    metrics_scope scope;   /* the part of it that is written */
    str model;             /* labels of every series; empty: none */
    str gpu, uuid;
} metrics_source;

/* Prometheus text exposition, format 0.0.4 ("text/plain; version=0.0.4"): HELP and TYPE once
 * per name, then the series of every source.  Endpoint and status pairs appear from
 * their first request on, figures of GPUs while they are known; all other series are always
 * there. */
void metrics_write(buf *out, const metrics_source *sources, uint32_t count);

/* docs/metrics.md */
void metrics_doc(buf *out);

#endif
