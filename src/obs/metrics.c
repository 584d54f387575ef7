/* metrics.c - the cells: where each metric lives, counting, travelling. */
#include "obs/metrics.h"

#include <string.h>

#include "base/assert.h"
#include "obs/metrics_internal.h"

/* Each row's first cell is the one after the last cell of the row before. */
enum {
#define X(scope, kind, id, name, shape, help) \
    FIRST_##id, LAST_##id = (int)FIRST_##id + (int)METRICS_CELLS_##shape - 1,
#include "obs/metrics.def"
#undef X
};

/* metrics_engine_view() relies on it. */
_Static_assert((int)FIRST_STEPS_TOTAL == (int)METRICS_FRONT_CELLS,
               "ENGINE rows follow the FRONT rows");
_Static_assert((int)FIRST_GPU_UP == (int)METRICS_FRONT_CELLS + (int)METRICS_ENGINE_CELLS,
               "GPU rows follow the ENGINE rows");

const metrics_row metrics_rows[METRIC_COUNT] = {
#define X(scope_, kind_, id, name_, shape_, help_) \
    {.scope = METRICS_##scope_,                    \
     .kind = METRICS_##kind_,                      \
     .shape = METRICS_##shape_,                    \
     .first = FIRST_##id,                          \
     .cells = METRICS_CELLS_##shape_,              \
     .name = name_,                                \
     .help = help_},
#include "obs/metrics.def"
#undef X
};

#define METRICS_VALUE(ns) ns##u,
static const uint64_t bounds_short[] = {METRICS_BUCKETS_SHORT(METRICS_VALUE)};
static const uint64_t bounds_long[] = {METRICS_BUCKETS_LONG(METRICS_VALUE)};

static const metrics_row *row_of(metric id) {
    ASSERT((unsigned)id < METRIC_COUNT);
    return &metrics_rows[id];
}

const uint64_t *metrics_bounds(const metrics_row *row) {
    ASSERT(row->kind == METRICS_HISTOGRAM);
    return row->shape == METRICS_SHORT ? bounds_short : bounds_long;
}

/* --- counting --------------------------------------------------------------------- */

void metrics_init(metrics *m) { *m = (metrics){0}; }

void metrics_add(metrics *m, metric id, uint64_t n) {
    const metrics_row *row = row_of(id);
    ASSERT(row->kind == METRICS_COUNTER && row->cells == 1);
    m->cells[row->first] += n;
}

void metrics_set(metrics *m, metric id, uint64_t value) {
    const metrics_row *row = row_of(id);
    ASSERT(row->kind != METRICS_HISTOGRAM && row->cells == 1);
    m->cells[row->first] = value;
}

void metrics_observe_ns(metrics *m, metric id, uint64_t ns) {
    const metrics_row *row = row_of(id);
    const uint64_t *bounds = metrics_bounds(row);
    uint32_t bucket = 0;
    while (bucket < row->cells - 2 && ns > bounds[bucket]) bucket++;
    m->cells[row->first + bucket]++;
    m->cells[row->first + row->cells - 1] += ns;
}

static uint32_t code_index(uint32_t http_status) {
    switch (http_status) {
#define METRICS_CODE_CASE(code) \
    case code:                  \
        return METRICS_CODE_##code;
        METRICS_CODES(METRICS_CODE_CASE)
#undef METRICS_CODE_CASE
    default:
        return METRICS_CODE_OTHER;
    }
}

void metrics_count_request(metrics *m, metrics_endpoint endpoint, uint32_t http_status) {
    ASSERT((unsigned)endpoint < METRICS_ENDPOINT_COUNT);
    uint32_t series = (uint32_t)endpoint * METRICS_CODE_COUNT + code_index(http_status);
    m->cells[FIRST_REQUESTS_TOTAL + series]++;
}

void metrics_count_finish(metrics *m, metrics_reason reason) {
    ASSERT((unsigned)reason < METRICS_REASON_COUNT);
    m->cells[FIRST_REQUESTS_FINISHED_TOTAL + (uint32_t)reason]++;
}

uint64_t metrics_get(const metrics *m, metric id) {
    const metrics_row *row = row_of(id);
    uint32_t count = row->kind == METRICS_HISTOGRAM ? row->cells - 1 : row->cells;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += m->cells[row->first + i];
    return sum;
}

/* --- travelling --------------------------------------------------------------------- */

const uint64_t *metrics_engine_view(const metrics *m) { return m->cells + METRICS_FRONT_CELLS; }

status metrics_engine_load(metrics *m, const uint64_t *cells, uint32_t count, error *err) {
    if (count != METRICS_ENGINE_CELLS)
        return error_set(err, ERR_FORMAT, "metrics: an engine sent %u numbers, want %d", count,
                         METRICS_ENGINE_CELLS);
    memcpy(m->cells + METRICS_FRONT_CELLS, cells, count * sizeof *cells);
    return OK;
}
