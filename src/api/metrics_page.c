/* metrics_page.c - GET /metrics: the front's numbers, each engine's under its model, and those of
 * the GPUs. */
#include <stdio.h>

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

_Static_assert(METRICS_UNKNOWN == GPU_UNKNOWN, "what is not known stays so");

static void fill_gpu(metrics *m, const gpu_info *g) {
    const struct {
        metric id;
        uint64_t value;
    } rows[] = {
        {METRIC_GPU_UP, g->state == GPU_STATE_OK},
        {METRIC_GPU_MEMORY_TOTAL_BYTES, g->memory_total_bytes},
        {METRIC_GPU_MEMORY_USED_BYTES, g->memory_used_bytes},
        {METRIC_GPU_MEMORY_FREE_BYTES, g->memory_free_bytes},
        {METRIC_GPU_MEMORY_RESERVED_BYTES, g->memory_reserved_bytes},
        {METRIC_GPU_UTILIZATION_PERCENT, g->utilization_gpu_percent},
        {METRIC_GPU_MEMORY_UTILIZATION_PERCENT, g->utilization_memory_percent},
        {METRIC_GPU_TEMPERATURE_CELSIUS, g->temperature_celsius},
        {METRIC_GPU_POWER_DRAW_WATTS, g->power_draw_mw},
        {METRIC_GPU_POWER_LIMIT_WATTS, g->power_limit_mw},
        {METRIC_GPU_CLOCKS_SM_MHZ, g->clocks_sm_mhz},
        {METRIC_GPU_CLOCKS_MEM_MHZ, g->clocks_memory_mhz},
        {METRIC_GPU_CLOCKS_THROTTLE_REASONS_BITS, g->throttle_reasons_bits},
        {METRIC_GPU_ECC_CORRECTED_ERRORS_TOTAL, g->ecc_corrected_errors},
        {METRIC_GPU_ECC_UNCORRECTED_ERRORS_TOTAL, g->ecc_uncorrected_errors},
        {METRIC_GPU_PCIE_LINK_GEN, g->pcie_generation},
        {METRIC_GPU_PCIE_LINK_WIDTH, g->pcie_width},
        {METRIC_GPU_PROCESSES, g->processes_count},
    };
    _Static_assert(sizeof rows / sizeof *rows == METRICS_GPU_CELLS, "a value for every GPU row");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        metrics_set(m, rows[i].id, rows[i].value);
}

/* One source per GPU; numbers[] are the texts of their labels. */
static uint32_t fill_gpus(front *f, const gpu_snapshot *s, metrics_source *sources,
                          char numbers[GPU_COUNT_MAX][12]) {
    for (uint32_t i = 0; i < s->count; i++) {
        fill_gpu(&f->gpu_metrics[i], &s->gpus[i]);
        (void)snprintf(numbers[i], sizeof numbers[i], "%u", i);
        sources[i] = (metrics_source){.values = &f->gpu_metrics[i],
                                      .scope = METRICS_GPU,
                                      .gpu = str_of(numbers[i]),
                                      .uuid = str_of(s->gpus[i].uuid)};
    }
    return s->count;
}

void metrics_page(front *f, http_call *c, str tail) {
    metrics_source sources[1 + MODELS_MAX + GPU_COUNT_MAX] = {
        {.values = &f->metrics, .scope = METRICS_FRONT}};
    char numbers[GPU_COUNT_MAX][12];
    const gpu_snapshot *gpus = f->o.gpus != NULL ? gpu_monitor_take(f->o.gpus) : NULL;
    uint32_t count = 1;
    (void)tail;
    metrics_set(&f->metrics, METRIC_HTTP_CONNECTIONS, http_server_connections(f->server));
    metrics_set(&f->metrics, METRIC_REQUESTS_RUNNING, calls_running(f));
    metrics_set(&f->metrics, METRIC_UPTIME_SECONDS, os_now_ns() - f->started_ns);
    metrics_set(&f->metrics, METRIC_BUILD_INFO, 1);
    metrics_set(&f->metrics, METRIC_GPU_MONITOR_UP, gpus != NULL && gpus->source == GPU_SOURCE_OK);
    for (uint32_t i = 0; i < f->registry.count; i++) {
        const model_entry *m = f->registry.models[i];
        sources[count++] = (metrics_source){
            .values = &m->engine, .scope = METRICS_ENGINE, .model = str_of(m->name)};
    }
    if (gpus != NULL) count += fill_gpus(f, gpus, sources + count, numbers);
    buf *out = front_scratch(f);
    metrics_write(out, sources, count);
    if (gpus != NULL) gpu_monitor_give(f->o.gpus, gpus);
    front_reply(f, c, 200, "text/plain; version=0.0.4", out);
}
