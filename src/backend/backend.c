/* backend.c - see backend.h. */
#include "backend/backend.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

const backend_ops *backend_find(const char *name) {
    static const backend_ops *const all[] = {&backend_cpu, &backend_ref};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

const char *backend_path_name(backend_path path) {
    return path == BACKEND_PATH_NATIVE ? "native" : "rows dequantized to f32";
}

/* Does an op before this one use the same weight (tied embeddings)? */
static bool is_used_before(const program *p, uint32_t op_idx) {
    for (uint32_t i = 0; i < op_idx; i++)
        if (p->ops[i].w.data == p->ops[op_idx].w.data) return true;
    return false;
}

void backend_log_weights(const backend_ops *ops, const program *p) {
    struct {
        uint32_t tensors;
        uint64_t bytes;
    } sums[DTYPE_ID_END] = {0};
    if (!log_is_on(LOG_INFO)) return;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const weight *w = &p->ops[i].w;
        uint64_t row_bytes = 0;
        if (w->data == NULL || is_used_before(p, i)) continue;
        bool whole = dtype_row_bytes(w->type, w->cols, &row_bytes);
        ASSERT(whole);
        sums[w->type].tensors++;
        sums[w->type].bytes += row_bytes * w->rows;
    }
    for (uint32_t t = 0; t < DTYPE_ID_END; t++) {
        if (sums[t].tensors == 0) continue;
        log_info("engine", "weights type=%s tensors=%u bytes=%" PRIu64 " path=\"%s\"",
                 dtype_name((dtype)t), sums[t].tensors, sums[t].bytes,
                 backend_path_name(ops->path((dtype)t)));
    }
}
