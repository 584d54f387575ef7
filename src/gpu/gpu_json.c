/* gpu_json.c - see gpu_json.h. */
#include "gpu/gpu_json.h"

typedef enum number_kind { NUMBER_COUNT, NUMBER_FLAG, NUMBER_MILLI } number_kind;

void gpu_json_text(json_writer *w, const char *key, const char *text) {
    if (text[0] != '\0')
        json_kv_str(w, key, str_of(text));
    else
        json_kv_null(w, key);
}

static void put_number(json_writer *w, const char *key, number_kind kind, uint64_t value) {
    if (value == GPU_UNKNOWN)
        json_kv_null(w, key);
    else if (kind == NUMBER_FLAG)
        json_kv_bool(w, key, value != 0);
    else if (kind == NUMBER_MILLI)
        json_kv_f64(w, key, (double)value / 1000);
    else
        json_kv_uint(w, key, value);
}

static void put_throttle_reasons(json_writer *w, uint64_t bits) {
    if (bits == GPU_UNKNOWN) {
        json_kv_null(w, "clocks_throttle_reasons");
        return;
    }
    json_kv_array(w, "clocks_throttle_reasons");
    for (const char *name = gpu_throttle_reason_next(&bits); name != NULL;
         name = gpu_throttle_reason_next(&bits))
        json_str(w, str_of(name));
    json_end_array(w);
}

static void put_links(json_writer *w, const gpu_snapshot *s, uint32_t gpu) {
    json_kv_array(w, "links");
    for (uint32_t k = 0; k < s->count; k++) {
        const gpu_link *l = &s->links[gpu][k];
        if (k == gpu) continue;
        json_begin_object(w);
        json_kv_uint(w, "gpu", k);
        gpu_json_text(w, "path", gpu_path_name(l->path));
        json_kv_uint(w, "nvlinks", l->nvlinks);
        if (l->p2p == GPU_ANSWER_UNKNOWN)
            json_kv_null(w, "p2p");
        else
            json_kv_bool(w, "p2p", l->p2p == GPU_ANSWER_YES);
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_processes(json_writer *w, const gpu_info *g) {
    if (g->processes_count == GPU_UNKNOWN) {
        json_kv_null(w, "processes");
        return;
    }
    json_kv_array(w, "processes");
    for (uint32_t i = 0; i < g->processes_listed; i++) {
        json_begin_object(w);
        json_kv_uint(w, "pid", g->processes[i].pid);
        put_number(w, "used_memory_bytes", NUMBER_COUNT, g->processes[i].used_bytes);
        json_end_object(w);
    }
    json_end_array(w);
}

void gpu_json_members(json_writer *w, const gpu_snapshot *s, uint32_t gpu, gpu_json_detail detail) {
    const gpu_info *g = &s->gpus[gpu];
    json_kv_str(w, "state", str_of(gpu_state_name(g->state)));
    gpu_json_text(w, "name", g->name);
    gpu_json_text(w, "uuid", g->uuid);
    gpu_json_text(w, "pci_bus_id", g->pci_bus_id);
    gpu_json_text(w, "compute_capability", g->compute_capability);
#define GPU_JSON_NUMBER(kind, field, name) put_number(w, name, NUMBER_##kind, g->field);
    GPU_NUMBERS(GPU_JSON_NUMBER)
#undef GPU_JSON_NUMBER
    put_throttle_reasons(w, g->throttle_reasons_bits);
    put_links(w, s, gpu);
    if (detail == GPU_JSON_ALL) put_processes(w, g);
}

void gpu_json_source_members(json_writer *w, const gpu_snapshot *s) {
    json_kv_str(w, "status", str_of(gpu_source_name(s->source)));
    gpu_json_text(w, "why", s->why);
    gpu_json_text(w, "fix", s->fix);
    gpu_json_text(w, "driver_version", s->driver_version);
    gpu_json_text(w, "cuda_version", s->cuda_version);
}
