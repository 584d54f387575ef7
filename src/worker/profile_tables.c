/* profile_tables.c - see profile_tables.h. */
#include "worker/profile_tables.h"

#include <stdio.h>

#include "base/assert.h"

_Static_assert((int)WIRE_PROFILE_STEPS_MAX <= (int)PROFILE_STEPS_MAX, "steps fit");
_Static_assert((int)WIRE_PROFILE_PLACES_MAX >= (int)BACKEND_PARTS_MAX, "parts fit");
_Static_assert((int)WIRE_PROFILE_LIMITS == (int)ROOF_ARITH_COUNT + 1, "memory, then arithmetic");
_Static_assert((int)WIRE_PROFILE_ENTRIES_MAX >= (int)PROFILE_ROWS_MAX, "rows fit");
_Static_assert((int)WIRE_PROFILE_TEXT_BYTES_MAX >= (int)ROOF_WHAT_BYTES, "names fit");

uint32_t profile_tasks(const backend_profile *parts, uint32_t parts_count) {
    uint32_t tasks = 0;
    for (uint32_t i = 0; i < parts_count; i++) tasks += parts[i].count;
    return tasks;
}

static void fill_limit(profile_limit *to, const backend_limit *from) {
    to->per_s = from->per_s;
    str_copy_c(to->name, sizeof to->name, str_of(from->name));
}

static void fill_place(profile_place *to, const backend_profile *part) {
    *to = (profile_place){.ops = part->p->ops_count};
    str_copy_c(to->where, sizeof to->where, str_of(part->where));
    fill_limit(&to->limits[0], &part->bytes);
    for (int i = 0; i < ROOF_ARITH_COUNT; i++) fill_limit(&to->limits[1 + i], &part->ops[i]);
}

/* "MATMUL+ADD" */
static str kinds_of(const profile_row *row, char *out, size_t bytes) {
    size_t n = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < row->ops_count && n < bytes; i++)
        n += (size_t)snprintf(out + n, bytes - n, "%s%s", i > 0 ? "+" : "",
                              op_kind_name(row->ops[i]));
    return str_of(out);
}

static void put_line(buf *entries, const profile_line *line) {
    char kinds[WIRE_PROFILE_TEXT_BYTES_MAX];
    wire_profile_entry_put(entries,
                           &(profile_entry){.place = line->row->part,
                                            .arith = 1 + (uint32_t)line->row->arith,
                                            .tasks = line->tasks,
                                            .ops = line->ops,
                                            .ns = line->ns,
                                            .weight_bytes = line->work.weight_bytes,
                                            .value_bytes = line->work.value_bytes,
                                            .cache_bytes = line->work.cache_bytes,
                                            .flops = line->work.flops,
                                            .name = str_of(line->row->name),
                                            .kinds = kinds_of(line->row, kinds, sizeof kinds),
                                            .what = str_of(line->row->what)});
}

void profile_table_fill(profile_table *out, buf *entries, const profile *f,
                        const backend_profile *parts, uint32_t parts_count) {
    profile_view view;
    profile_median(f, &view);
    *out = (profile_table){.steps = view.steps};
    buf_clear(entries);
    if (view.steps == 0) return;
    ASSERT(parts_count <= WIRE_PROFILE_PLACES_MAX);
    out->rows = view.batch_rows;
    out->ns = view.ns;
    out->places_count = parts_count;
    for (uint32_t i = 0; i < parts_count; i++) fill_place(&out->places[i], &parts[i]);
    for (uint32_t i = 0; i < view.lines_count; i++) put_line(entries, &view.lines[i]);
    out->entries = buf_view(entries);
}
