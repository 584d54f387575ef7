/* metrics_text.c - the Prometheus text of the metrics, and docs/metrics.md. */
#include <inttypes.h>
#include <stdio.h>

#include "obs/metrics.h"
#include "obs/metrics_internal.h"

#ifndef GANTRY_VERSION
#define GANTRY_VERSION "unknown"
#endif

#define PREFIX "gantry_"
enum { NS_DIGITS = 9, MILLI_DIGITS = 3, DECIMAL_BYTES = 32 };

#define METRICS_NAME(id, name)  name,
#define METRICS_CODE_NAME(code) #code,
static const char *const endpoints[] = {METRICS_ENDPOINTS(METRICS_NAME)};
static const char *const codes[] = {METRICS_CODES(METRICS_CODE_NAME) "other"};
static const char *const reasons[] = {METRICS_REASONS(METRICS_NAME)};

/* Digits behind the point of a row's values. */
static int digits_of(const metrics_row *row) {
    if (str_ends(str_of(row->name), S("_seconds"))) return NS_DIGITS;
    return str_ends(str_of(row->name), S("_watts")) ? MILLI_DIGITS : 0;
}

/* --- writing ------------------------------------------------------------------------- */

/* Backslash, quote and line feed are the three that a label value escapes.
 * Source: Prometheus documentation, "Exposition formats", text format details. */
static void put_label_value(buf *out, str value) {
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (c == '\n')
            buf_put_str(out, S("\\n"));
        else if (c == '\\' || c == '"')
            buf_printf(out, "\\%c", c);
        else
            buf_put_char(out, c);
    }
}

typedef struct label {
    const char *name; /* NULL: no label */
    str value;
} label;

/* {a="x",b="y"}, or nothing when no label has a name. */
static void put_labels(buf *out, const label *labels, uint32_t count) {
    char before = '{';
    for (uint32_t i = 0; i < count; i++) {
        if (labels[i].name == NULL) continue;
        buf_printf(out, "%c%s=\"", before, labels[i].name);
        put_label_value(out, labels[i].value);
        buf_put_char(out, '"');
        before = ',';
    }
    if (before == ',') buf_put_char(out, '}');
}

/* value / 10^digits, exact, where a double would round: 1.5, 0.000000001, 12. */
static const char *decimal_text(char out[DECIMAL_BYTES], uint64_t value, int digits) {
    uint64_t unit = 1;
    for (int i = 0; i < digits; i++) unit *= 10;
    uint64_t whole = value / unit, rest = value % unit;
    for (; rest != 0 && rest % 10 == 0; digits--) rest /= 10;
    if (rest == 0)
        (void)snprintf(out, DECIMAL_BYTES, "%" PRIu64, whole);
    else
        (void)snprintf(out, DECIMAL_BYTES, "%" PRIu64 ".%0*" PRIu64, whole, digits, rest);
    return out;
}

static label label_if(const char *name, str value) {
    return (label){.name = value.n != 0 ? name : NULL, .value = value};
}

/* One line but for the value: name, suffix, the source's labels and up to two more. */
static void put_series(buf *out, const metrics_row *row, const char *suffix,
                       const metrics_source *source, label a, label b) {
    label labels[] = {label_if("model", source->model), label_if("gpu", source->gpu),
                      label_if("uuid", source->uuid), a, b};
    buf_printf(out, PREFIX "%s%s", row->name, suffix);
    put_labels(out, labels, sizeof labels / sizeof *labels);
    buf_put_char(out, ' ');
}

static void put_value(buf *out, const metrics_row *row, uint64_t value) {
    char text[DECIMAL_BYTES];
    buf_printf(out, "%s\n", decimal_text(text, value, digits_of(row)));
}

static void put_histogram(buf *out, const metrics_row *row, const uint64_t *cells,
                          const metrics_source *source) {
    const uint64_t *bounds = metrics_bounds(row);
    uint32_t buckets = row->cells - 1;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < buckets; i++) { /* in the text a bucket counts those below, too */
        char bound[DECIMAL_BYTES];
        const char *le = i + 1 < buckets ? decimal_text(bound, bounds[i], NS_DIGITS) : "+Inf";
        seen += cells[i];
        put_series(out, row, "_bucket", source, (label){"le", str_of(le)}, (label){0});
        buf_printf(out, "%" PRIu64 "\n", seen);
    }
    put_series(out, row, "_sum", source, (label){0}, (label){0});
    put_value(out, row, cells[buckets]);
    put_series(out, row, "_count", source, (label){0}, (label){0});
    buf_printf(out, "%" PRIu64 "\n", seen);
}

static void put_requests(buf *out, const metrics_row *row, const uint64_t *cells,
                         const metrics_source *source) {
    for (uint32_t e = 0; e < METRICS_ENDPOINT_COUNT; e++) {
        for (uint32_t c = 0; c < METRICS_CODE_COUNT; c++) {
            uint64_t value = cells[e * METRICS_CODE_COUNT + c];
            if (value == 0) continue;
            put_series(out, row, "", source, (label){"endpoint", str_of(endpoints[e])},
                       (label){"code", str_of(codes[c])});
            put_value(out, row, value);
        }
    }
}

static void put_reasons(buf *out, const metrics_row *row, const uint64_t *cells,
                        const metrics_source *source) {
    for (uint32_t i = 0; i < METRICS_REASON_COUNT; i++) {
        put_series(out, row, "", source, (label){"reason", str_of(reasons[i])}, (label){0});
        put_value(out, row, cells[i]);
    }
}

static void put_row(buf *out, const metrics_row *row, const metrics_source *source) {
    const uint64_t *cells = source->values->cells + row->first;
    label version = {row->shape == METRICS_BUILD ? "version" : NULL, S(GANTRY_VERSION)};
    switch (row->shape) {
    case METRICS_ONE:
    case METRICS_BUILD:
        put_series(out, row, "", source, version, (label){0});
        put_value(out, row, cells[0]);
        return;
    case METRICS_REASON:
        put_reasons(out, row, cells, source);
        return;
    case METRICS_REQUEST:
        put_requests(out, row, cells, source);
        return;
    case METRICS_SHORT:
    case METRICS_LONG:
        put_histogram(out, row, cells, source);
        return;
    }
}

/* What a driver does not tell has no series. */
static bool is_known(const metrics_row *row, const metrics_source *source) {
    return row->scope != METRICS_GPU || source->values->cells[row->first] != METRICS_UNKNOWN;
}

static const char *kind_name(metrics_kind kind) {
    static const char *const names[] = {"counter", "gauge", "histogram"};
    return names[kind];
}

static void put_head(buf *out, const metrics_row *row) {
    buf_printf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", row->name, row->help,
               row->name, kind_name(row->kind));
}

void metrics_write(buf *out, const metrics_source *sources, uint32_t count) {
    for (const metrics_row *row = metrics_rows; row < metrics_rows + METRIC_COUNT; row++) {
        bool begun = false;
        for (uint32_t i = 0; i < count; i++) {
            if (sources[i].scope != row->scope || !is_known(row, &sources[i])) continue;
            if (!begun) put_head(out, row);
            begun = true;
            put_row(out, row, &sources[i]);
        }
    }
}

/* --- docs/metrics.md ------------------------------------------------------------------- */

static const char *labels_of(const metrics_row *row) {
    switch (row->shape) {
    case METRICS_BUILD:
        return "`version`";
    case METRICS_REASON:
        return "`reason`";
    case METRICS_REQUEST:
        return "`endpoint`, `code`";
    case METRICS_SHORT:
    case METRICS_LONG:
        return "`le`";
    case METRICS_ONE:
        break;
    }
    return "";
}

static void doc_table(buf *out, metrics_scope scope) {
    buf_put_str(out, S("| metric | kind | labels | meaning |\n|---|---|---|---|\n"));
    for (const metrics_row *row = metrics_rows; row < metrics_rows + METRIC_COUNT; row++)
        if (row->scope == scope)
            buf_printf(out, "| `" PREFIX "%s` | %s | %s | %s |\n", row->name, kind_name(row->kind),
                       labels_of(row), row->help);
}

static void doc_buckets(buf *out, const char *what, metric example) {
    const metrics_row *row = &metrics_rows[example];
    buf_printf(out, "- %s:", what);
    for (uint32_t i = 0; i < row->cells - 2; i++) {
        char bound[DECIMAL_BYTES];
        buf_printf(out, " %s", decimal_text(bound, metrics_bounds(row)[i], NS_DIGITS));
    }
    buf_put_char(out, '\n');
}

static void doc_values(buf *out, const char *what, const char *const *values, size_t count) {
    buf_printf(out, "- `%s`:", what);
    for (size_t i = 0; i < count; i++) buf_printf(out, " `%s`", values[i]);
    buf_put_char(out, '\n');
}

void metrics_doc(buf *out) {
    buf_put_str(out, S("# Metrics\n\n"
                       "Made from `src/obs/metrics.def` by `make docs`; do not edit.\n\n"
                       "`GET /metrics` answers in the Prometheus text format. Times are in "
                       "seconds.\n\n## The server\n\n"));
    doc_table(out, METRICS_FRONT);
    buf_put_str(out, S("\n## Each engine\n\nThese carry the label `model`, too.\n\n"));
    doc_table(out, METRICS_ENGINE);
    buf_put_str(out, S("\n## Each GPU\n\nThese carry the labels `gpu`, its number as nvidia-smi "
                       "counts, and `uuid`. What the\ndriver does not tell about a GPU has no "
                       "series.\n\n"));
    doc_table(out, METRICS_GPU);
    buf_put_str(out, S("\n## Histogram buckets, upper bounds in seconds\n\n"));
    doc_buckets(out, "steps, and times between tokens", METRIC_STEP_SECONDS);
    doc_buckets(out, "requests, and times to first tokens", METRIC_REQUEST_SECONDS);
    buf_put_str(out, S("\n## Label values\n\n"));
    doc_values(out, "endpoint", endpoints, METRICS_ENDPOINT_COUNT);
    doc_values(out, "code", codes, METRICS_CODE_COUNT);
    doc_values(out, "reason", reasons, METRICS_REASON_COUNT);
    buf_put_str(out, S("\nA pair of `endpoint` and `code` appears with its first request.\n"));
}
