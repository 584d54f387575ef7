/* metrics_page.c - GET /metrics: the front's numbers, and each engine's under its model. */
#include "api/front_internal.h"
#include "base/os.h"

static metrics_reason reason_of(const gen_call *g) {
    if (strcmp(g->finish, "stop") == 0) return METRICS_REASON_STOP;
    if (strcmp(g->finish, "length") == 0) return METRICS_REASON_LENGTH;
    if (strcmp(g->finish, "error") == 0) return METRICS_REASON_ERROR;
    return METRICS_REASON_CANCELLED;
}

void metrics_call_ended(front *f, const gen_call *g) {
    metrics *m = &f->metrics;
    metrics_observe_ns(m, METRIC_REQUEST_SECONDS, os_now_ns() - g->begun_ns);
    if (g->first_ns != 0) metrics_observe_ns(m, METRIC_TTFT_SECONDS, g->first_ns - g->begun_ns);
    metrics_add(m, METRIC_PROMPT_TOKENS_TOTAL, g->prompt_tokens);
    metrics_add(m, METRIC_GENERATION_TOKENS_TOTAL, g->tokens_seen);
    metrics_count_finish(m, reason_of(g));
}

static uint64_t calls_running(const front *f) {
    uint64_t count = 0;
    for (const gen_call *g = f->table.calls; g != NULL; g = g->next) count += g->parts_open > 0;
    return count;
}

void metrics_page(front *f, http_call *c, str tail) {
    metrics_source sources[1 + MODELS_MAX] = {{.values = &f->metrics, .scope = METRICS_FRONT}};
    (void)tail;
    metrics_set(&f->metrics, METRIC_HTTP_CONNECTIONS, http_server_connections(f->server));
    metrics_set(&f->metrics, METRIC_REQUESTS_RUNNING, calls_running(f));
    metrics_set(&f->metrics, METRIC_UPTIME_SECONDS, os_now_ns() - f->started_ns);
    metrics_set(&f->metrics, METRIC_BUILD_INFO, 1);
    for (uint32_t i = 0; i < f->registry.count; i++) {
        const model_entry *m = f->registry.models[i];
        sources[1 + i] = (metrics_source){
            .values = &m->engine, .scope = METRICS_ENGINE, .model = str_of(m->name)};
    }
    buf *out = front_scratch(f);
    metrics_write(out, sources, 1 + f->registry.count);
    front_reply(f, c, 200, "text/plain; version=0.0.4", out);
}
