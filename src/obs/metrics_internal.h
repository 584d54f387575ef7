/* metrics_internal.h - the rows of metrics.def as data, for counting and for writing. */
#ifndef OBS_METRICS_INTERNAL_H
#define OBS_METRICS_INTERNAL_H

#include "obs/metrics.h"

typedef enum metrics_kind { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM } metrics_kind;

typedef enum metrics_shape {
    METRICS_ONE,
    METRICS_BUILD,
    METRICS_REASON,
    METRICS_REQUEST,
    METRICS_SHORT,
    METRICS_LONG
} metrics_shape;

typedef struct metrics_row {
    metrics_scope scope;
    metrics_kind kind;
    metrics_shape shape;
    uint32_t first; /* its cells in metrics.cells */
    uint32_t cells;
    const char *name;
    const char *help;
} metrics_row;

extern const metrics_row metrics_rows[METRIC_COUNT];

/* Upper bounds in ns of a histogram's buckets: [cells - 2], since the last bucket has none
 * and the last cell is the sum. */
const uint64_t *metrics_bounds(const metrics_row *row);

#endif
