/* test_metrics.c - counting, travelling, and a text that Prometheus can read. */
#include <ctype.h>
#include <stdlib.h>

#include "obs/metrics.h"
#include "test.h"

static metrics front, engine;
static char text[256 * 1024];

static void write_text(const metrics_source *sources, uint32_t count) {
    buf out;
    buf_init(&out, sizeof text);
    metrics_write(&out, sources, count);
    CHECK(!out.failed);
    str_copy_c(text, sizeof text, buf_view(&out));
    buf_deinit(&out);
}

static void write_both(void) {
    metrics_source sources[] = {{.values = &front, .scope = METRICS_FRONT},
                                {.values = &engine, .scope = METRICS_ENGINE, .model = S("tiny")}};
    write_text(sources, 2);
}

/* How often does `line` stand in the text as a whole line? */
static int lines_like(const char *line) {
    int count = 0;
    size_t n = strlen(line);
    for (const char *at = strstr(text, line); at != NULL; at = strstr(at + 1, line))
        count += (at == text || at[-1] == '\n') && at[n] == '\n';
    return count;
}

TEST(metrics_count_and_write) {
    metrics_init(&front);
    metrics_init(&engine);
    metrics_count_request(&front, METRICS_ENDPOINT_CHAT, 200);
    metrics_count_request(&front, METRICS_ENDPOINT_CHAT, 200);
    metrics_count_request(&front, METRICS_ENDPOINT_OTHER, 418);
    metrics_count_finish(&front, METRICS_REASON_LENGTH);
    metrics_add(&front, METRIC_PROMPT_TOKENS_TOTAL, 41);
    metrics_add(&front, METRIC_PROMPT_TOKENS_TOTAL, 1);
    metrics_set(&front, METRIC_UPTIME_SECONDS, 90500000000u);
    metrics_set(&front, METRIC_BUILD_INFO, 1);
    metrics_set(&engine, METRIC_KV_BLOCKS_USED, 7);
    metrics_set(&engine, METRIC_HEARTBEAT_TIMESTAMP_SECONDS, 1700000000000000001u);
    write_both();
    CHECK_EQ(lines_like("# TYPE gantry_requests_total counter"), 1);
    CHECK_EQ(lines_like("gantry_requests_total{endpoint=\"chat_completions\",code=\"200\"} 2"), 1);
    CHECK_EQ(lines_like("gantry_requests_total{endpoint=\"other\",code=\"other\"} 1"), 1);
    CHECK_EQ(lines_like("gantry_requests_finished_total{reason=\"length\"} 1"), 1);
    CHECK_EQ(lines_like("gantry_requests_finished_total{reason=\"stop\"} 0"), 1);
    CHECK_EQ(lines_like("gantry_prompt_tokens_total 42"), 1);
    CHECK_EQ(lines_like("gantry_uptime_seconds 90.5"), 1);
    CHECK_HAS(text, "gantry_build_info{version=\"");
    CHECK_EQ(lines_like("gantry_kv_blocks_used{model=\"tiny\"} 7"), 1);
    CHECK_EQ(lines_like("gantry_heartbeat_timestamp_seconds{model=\"tiny\"} 1700000000.000000001"),
             1);
    CHECK_EQ(metrics_get(&front, METRIC_REQUESTS_TOTAL), 3);
    CHECK_EQ(metrics_get(&front, METRIC_PROMPT_TOKENS_TOTAL), 42);
}

TEST(metrics_histograms_are_cumulative) {
    metrics_init(&engine);
    metrics_observe_ns(&engine, METRIC_STEP_SECONDS, 1000000);     /* at the first bound */
    metrics_observe_ns(&engine, METRIC_STEP_SECONDS, 1000001);     /* just above it */
    metrics_observe_ns(&engine, METRIC_STEP_SECONDS, 99000000000); /* beyond the last one */
    metrics_source source = {.values = &engine, .scope = METRICS_ENGINE, .model = S("m")};
    write_text(&source, 1);
    CHECK_EQ(lines_like("# TYPE gantry_step_seconds histogram"), 1);
    CHECK_EQ(lines_like("gantry_step_seconds_bucket{model=\"m\",le=\"0.001\"} 1"), 1);
    CHECK_EQ(lines_like("gantry_step_seconds_bucket{model=\"m\",le=\"0.0025\"} 2"), 1);
    CHECK_EQ(lines_like("gantry_step_seconds_bucket{model=\"m\",le=\"10\"} 2"), 1);
    CHECK_EQ(lines_like("gantry_step_seconds_bucket{model=\"m\",le=\"+Inf\"} 3"), 1);
    CHECK_EQ(lines_like("gantry_step_seconds_sum{model=\"m\"} 99.002000001"), 1);
    CHECK_EQ(lines_like("gantry_step_seconds_count{model=\"m\"} 3"), 1);
    CHECK_EQ(metrics_get(&engine, METRIC_STEP_SECONDS), 3);
}

TEST(metrics_of_an_engine_travel_as_numbers) {
    error err = {0};
    metrics sent, received;
    metrics_init(&sent);
    metrics_init(&received);
    metrics_set(&sent, METRIC_STEPS_TOTAL, 11);
    metrics_add(&sent, METRIC_PREEMPTIONS_TOTAL, 2);
    metrics_observe_ns(&sent, METRIC_STEP_SECONDS, 5);
    metrics_set(&sent, METRIC_HEARTBEAT_TIMESTAMP_SECONDS, UINT64_MAX);
    metrics_add(&received, METRIC_PROMPT_TOKENS_TOTAL, 9); /* FRONT cells stay as they are */
    CHECK_EQ(metrics_engine_load(&received, metrics_engine_view(&sent), METRICS_ENGINE_CELLS, &err),
             OK);
    CHECK_EQ(metrics_get(&received, METRIC_STEPS_TOTAL), 11);
    CHECK_EQ(metrics_get(&received, METRIC_PREEMPTIONS_TOTAL), 2);
    CHECK_EQ(metrics_get(&received, METRIC_STEP_SECONDS), 1);
    CHECK_EQ(metrics_get(&received, METRIC_PROMPT_TOKENS_TOTAL), 9);
    CHECK(metrics_get(&received, METRIC_HEARTBEAT_TIMESTAMP_SECONDS) == UINT64_MAX);
    CHECK_EQ(metrics_engine_view(&sent)[0], 11); /* table order */
    CHECK_EQ(metrics_engine_load(&received, metrics_engine_view(&sent), 3, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "3 numbers, want ");
    CHECK(METRICS_ENGINE_CELLS <= 256); /* what one status message holds */
}

TEST(metrics_head_stands_once_per_name) {
    metrics other;
    metrics_init(&engine);
    metrics_init(&other);
    metrics_source sources[] = {{.values = &engine, .scope = METRICS_ENGINE, .model = S("a")},
                                {.values = &other, .scope = METRICS_ENGINE, .model = S("b")}};
    write_text(sources, 2);
    CHECK_EQ(lines_like("# TYPE gantry_steps_total counter"), 1);
    CHECK_EQ(lines_like("gantry_steps_total{model=\"a\"} 0"), 1);
    CHECK_EQ(lines_like("gantry_steps_total{model=\"b\"} 0"), 1);
    CHECK(strstr(text, "gantry_uptime_seconds") == NULL);
}

TEST(metrics_label_values_are_escaped) {
    metrics_init(&engine);
    metrics_source source = {.values = &engine, .scope = METRICS_ENGINE, .model = S("a\"b\\c\nd")};
    write_text(&source, 1);
    CHECK_EQ(lines_like("gantry_steps_total{model=\"a\\\"b\\\\c\\nd\"} 0"), 1);
}

TEST(metrics_of_gpus_are_there_only_when_known) {
    static metrics known, silent;
    for (int i = METRIC_GPU_UP; i < METRIC_COUNT; i++) {
        metrics_set(&known, (metric)i, 7);
        metrics_set(&silent, (metric)i, METRICS_UNKNOWN);
    }
    metrics_set(&known, METRIC_GPU_POWER_DRAW_WATTS, 27450);
    metrics_set(&silent, METRIC_GPU_UP, 0);
    metrics_source sources[] = {
        {.values = &known, .scope = METRICS_GPU, .gpu = S("0"), .uuid = S("GPU-a")},
        {.values = &silent, .scope = METRICS_GPU, .gpu = S("1")}};
    write_text(sources, 2);
    CHECK_EQ(lines_like("gantry_gpu_memory_used_bytes{gpu=\"0\",uuid=\"GPU-a\"} 7"), 1);
    CHECK_EQ(lines_like("gantry_gpu_power_draw_watts{gpu=\"0\",uuid=\"GPU-a\"} 27.45"), 1);
    CHECK_EQ(lines_like("gantry_gpu_up{gpu=\"1\"} 0"), 1);
    CHECK(strstr(text, "gantry_gpu_memory_used_bytes{gpu=\"1\"") == NULL);
    write_text(sources + 1, 1);
    CHECK_EQ(lines_like("# TYPE gantry_gpu_up gauge"), 1);
    CHECK(strstr(text, "gantry_gpu_memory_used_bytes") == NULL); /* no head without a series */
}

/* --- the format, rule by rule ------------------------------------------------------- */
/* Source: Prometheus documentation, "Exposition formats" and "Metric and label naming". */

static const char *skip_name(const char *p) {
    if (!isalpha((unsigned char)*p) && *p != '_') return NULL;
    while (isalnum((unsigned char)*p) || *p == '_') p++;
    return p;
}

/* After '{'; NULL when it is not name="value" pairs and '}'. */
static const char *skip_labels(const char *p) {
    for (;;) {
        p = skip_name(p);
        if (p == NULL || strncmp(p, "=\"", 2) != 0) return NULL;
        p += 2;
        while (*p != '"') {
            if (*p == '\n' || *p == '\0') return NULL;
            if (*p == '\\' && strchr("\\\"n", *++p) == NULL) return NULL;
            p++;
        }
        if (*++p == '}') return p + 1;
        if (*p++ != ',') return NULL;
    }
}

/* "name{labels} number"; the name must be that of the last TYPE line. */
static bool is_sample(const char *line, const char *type_name) {
    const char *p = skip_name(line);
    if (p == NULL || strncmp(line, type_name, strlen(type_name)) != 0) return false;
    if (*p == '{') p = skip_labels(p + 1);
    if (p == NULL || *p++ != ' ') return false;
    char *end = NULL;
    (void)strtod(p, &end);
    return end != p && *end == '\0';
}

static void check_name(const char *name, const char *type) {
    str n = str_of(name);
    CHECK(str_starts(n, S("gantry_")));
    CHECK_EQ(str_ends(n, S("_total")), strcmp(type, "counter") == 0);
    if (strcmp(type, "histogram") == 0) CHECK(str_ends(n, S("_seconds")));
}

TEST(metrics_text_follows_the_rules_of_the_format) {
    char name[128] = "", type[32];
    metrics_init(&front);
    metrics_init(&engine);
    metrics_count_request(&front, METRICS_ENDPOINT_CHAT, 429);
    metrics_observe_ns(&front, METRIC_TTFT_SECONDS, 123456789);
    write_both();
    CHECK(text[strlen(text) - 1] == '\n');
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            CHECK(strchr(line + 7, ' ') != NULL);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            CHECK_EQ(sscanf(line, "# TYPE %127s %31s", name, type), 2);
            check_name(name, type);
        } else if (!is_sample(line, name)) {
            test_failures++;
            (void)fprintf(stderr, "not a sample of %s: %s\n", name, line);
        }
    }
}

TEST(metrics_doc_names_every_metric) {
    buf out;
    buf_init(&out, sizeof text);
    metrics_doc(&out);
    str_copy_c(text, sizeof text, buf_view(&out));
    buf_deinit(&out);
#define X(scope, kind, id, name, shape, help) CHECK_HAS(text, "| `gantry_" name "` | ");
#include "obs/metrics.def"
#undef X
    CHECK_HAS(text, "- requests, and times to first tokens: 0.01 0.025");
}
