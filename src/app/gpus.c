/* gpus.c - `gantry gpus`: the GPUs of this machine, which can be used, and why others cannot. */
#include <inttypes.h>
#include <stdio.h>

#include "app/commands.h"
#include "app/gpu_list.h"
#include "base/alloc.h"
#include "gpu/gpu_json.h"

enum { OUTPUT_BYTES_MAX = 1 << 20, CELL_BYTES = 112 };

/* --- cells of the table; "-" is unknown -------------------- */

typedef char cell[CELL_BYTES];

static const char *number_cell(cell out, uint64_t value, const char *unit) {
    if (value == GPU_UNKNOWN)
        (void)snprintf(out, CELL_BYTES, "-");
    else
        (void)snprintf(out, CELL_BYTES, "%" PRIu64 "%s", value, unit);
    return out;
}

static const char *gib_cell(cell out, uint64_t bytes) {
    if (bytes == GPU_UNKNOWN)
        (void)snprintf(out, CELL_BYTES, "-");
    else
        (void)snprintf(out, CELL_BYTES, "%.1f GiB", (double)bytes / 0x1p30);
    return out;
}

static const char *power_cell(cell out, const gpu_info *g) {
    if (g->power_draw_mw == GPU_UNKNOWN && g->power_limit_mw == GPU_UNKNOWN) return "-";
    cell draw, limit;
    uint64_t draw_w = g->power_draw_mw, limit_w = g->power_limit_mw;
    if (draw_w != GPU_UNKNOWN) draw_w = (draw_w + 500) / 1000;
    if (limit_w != GPU_UNKNOWN) limit_w = (limit_w + 500) / 1000;
    (void)snprintf(out, CELL_BYTES, "%.20s/%.20s W", number_cell(draw, draw_w, ""),
                   number_cell(limit, limit_w, ""));
    return out;
}

static const char *text_cell(const char *text) { return text[0] != '\0' ? text : "-"; }

/* --- text -------------------- */

static void put_versions(buf *out, const gpu_list *list) {
    const cuda_probe_report *r = &list->cuda;
    buf_printf(out, "driver %s", text_cell(list->nvml.driver_version));
    if (r->driver_version > 0)
        buf_printf(out, ", CUDA %d.%d", r->driver_version / 1000, r->driver_version % 1000 / 10);
    if (r->driver_found) buf_printf(out, ", %s", r->driver_path);
    buf_put_char(out, '\n');
    if (list->nvml.source != GPU_SOURCE_OK)
        buf_printf(out, "no temperatures and loads: %s. %s\n", list->nvml.why, list->nvml.fix);
}

static void put_verdict(buf *out, const gpu_row *row) {
    const cuda_device_info *d = row->device;
    if (d != NULL && d->usable)
        buf_printf(out, "      usable as --device %d (%s)\n", d->ordinal, d->image);
    else
        buf_printf(out, "      not used: %s. %s\n", row->why, row->fix);
}

static void put_row(buf *out, const gpu_list *list, uint32_t i) {
    const gpu_row *row = &list->rows[i];
    const gpu_info *g = &list->nvml.gpus[i];
    cell index, total, free, load, heat, power;
    buf_printf(out, "%-4s  %-24s %-4s %10s %10s %6s %6s %12s\n",
               number_cell(index, row->index >= 0 ? (uint64_t)row->index : GPU_UNKNOWN, ""),
               text_cell(g->name), text_cell(g->compute_capability),
               gib_cell(total, g->memory_total_bytes), gib_cell(free, g->memory_free_bytes),
               number_cell(load, g->utilization_gpu_percent, " %"),
               number_cell(heat, g->temperature_celsius, " C"), power_cell(power, g));
    buf_printf(out, "      %s, %s\n", text_cell(g->uuid), text_cell(g->pci_bus_id));
    put_verdict(out, row);
}

/* Where NVML sees GPUs side by side, how each two are connected. */
static void put_links(buf *out, const gpu_list *list) {
    const gpu_snapshot *s = &list->nvml;
    if (list->nvml_count > 1) buf_put_str(out, S("\n"));
    for (uint32_t i = 0; i < list->nvml_count; i++) {
        for (uint32_t k = i + 1; k < list->nvml_count; k++) {
            const gpu_link *l = &s->links[i][k];
            if (l->path == GPU_PATH_UNKNOWN && l->p2p == GPU_ANSWER_UNKNOWN) continue;
            const char *p2p = l->p2p == GPU_ANSWER_YES  ? ", peer access"
                              : l->p2p == GPU_ANSWER_NO ? ", no peer access"
                                                        : "";
            buf_printf(out, "%u - %u: %s", i, k, text_cell(gpu_path_name(l->path)));
            if (l->nvlinks > 0) buf_printf(out, ", %u NVLinks", l->nvlinks);
            buf_printf(out, "%s\n", p2p);
        }
    }
}

static void put_text(buf *out, const gpu_list *list) {
    if (list->nvml.count == 0) {
        buf_printf(out, "no GPU: %s. %s\n", list->cuda.why, list->cuda.fix);
        return;
    }
    put_versions(out, list);
    buf_printf(out, "\n%-4s  %-24s %-4s %10s %10s %6s %6s %12s\n", "gpu", "name", "cc", "memory",
               "free", "load", "temp", "power");
    for (uint32_t i = 0; i < list->nvml.count; i++) put_row(out, list, i);
    put_links(out, list);
}

/* --- JSON -------------------- */

static void put_driver(json_writer *w, const cuda_probe_report *r) {
    char version[16] = "";
    if (r->driver_version > 0)
        (void)snprintf(version, sizeof version, "%d.%d", r->driver_version / 1000,
                       r->driver_version % 1000 / 10);
    json_kv_object(w, "cuda");
    json_kv_bool(w, "found", r->driver_found);
    json_kv_bool(w, "usable", r->driver_usable);
    gpu_json_text(w, "path", r->driver_path);
    gpu_json_text(w, "version", version);
    json_end_object(w);
}

static void put_device(json_writer *w, const gpu_row *row) {
    const cuda_device_info *d = row->device;
    json_kv_bool(w, "usable", d != NULL && d->usable);
    gpu_json_text(w, "why", row->why);
    gpu_json_text(w, "fix", row->fix);
    if (d == NULL) {
        json_kv_null(w, "device");
        return;
    }
    json_kv_object(w, "device");
    json_kv_int(w, "ordinal", d->ordinal);
    json_kv_uint(w, "multiprocessors", d->sm_count);
    json_kv_uint(w, "memory_bytes", d->memory_bytes);
    gpu_json_text(w, "kernels", d->image);
    json_end_object(w);
}

static void put_json(buf *out, const gpu_list *list) {
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_uint(&w, "usable_count", list->cuda.usable_count);
    gpu_json_text(&w, "why", list->cuda.why);
    gpu_json_text(&w, "fix", list->cuda.fix);
    put_driver(&w, &list->cuda);
    json_kv_object(&w, "nvml");
    gpu_json_source_members(&w, &list->nvml);
    json_end_object(&w);
    json_kv_array(&w, "gpus");
    for (uint32_t i = 0; i < list->nvml.count; i++) {
        json_begin_object(&w);
        if (list->rows[i].index >= 0)
            json_kv_int(&w, "index", list->rows[i].index);
        else
            json_kv_null(&w, "index");
        put_device(&w, &list->rows[i]);
        gpu_json_members(&w, &list->nvml, i, GPU_JSON_ALL);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    buf_put_char(out, '\n');
}

status command_gpus(const config *c, error *err) {
    buf out;
    TRY(command_no_args(c, err));
    gpu_list *list = mem_alloc(sizeof *list);
    gpu_list_look(list, config_visible_gpus());
    buf_init(&out, OUTPUT_BYTES_MAX);
    if (c->json)
        put_json(&out, list);
    else
        put_text(&out, list);
    status st = buf_status(&out, "gpus", err);
    if (st == OK) st = command_write_stdout(out.p, out.n, err);
    buf_deinit(&out);
    mem_free(list);
    return st;
}
